"""The chart renders what Kustomize does, each value matters, and values that cannot work are refused with the value's name."""
import copy
import json
import re
import unittest

import kubernetes_validate
import yaml
from helm_python.chart import Chart, lint
from helm_python.errors import HelmError

from rendering import CHART, KUBERNETES, only, pod, renderings

# rendering of Kustomize -> the values that give the same.
SAME = {
    "edge": {},
    "edge-podmonitor": {"podMonitor": True},
    "edge-ingress": {"expose": "ingress"},
    "edge-httproute": {"expose": "httproute"},
    "edge-shipping": {"secrets": {"postgres": "saltgate-postgres"}},
}
# value -> (another one, what must appear in the objects because of it, besides values that it needs).
EFFECTS = {
    "image": ("registry.example.com/saltgate:0.2.0", {}),
    "secrets.keys": ("other-keys", {}),
    "secrets.redis": ("other-redis", {}),
    "secrets.postgres": ("records", {}),
    "upstream": ("http://crm.other:3000", {}),
    "replicas.min": (3, {}),
    "replicas.max": (9, {}),
    "storage.size": ("20Gi", {}),
    "storage.class": ("fast", {}),
    "namespaces.ingress": ("traefik", {}),
    "namespaces.monitoring": ("observability", {}),
    "expose": ("ingress", {}),
    "host": ("other.example.com", {"expose": "ingress"}),
    "gateway": ("edges/public", {"expose": "httproute"}),
    "podMonitor": (True, {}),
    "config": ("# mine\n", {}),
}
BAD = {
    "image": ["", "saltgate", "saltgate:latest", "registry.example.com:5000/saltgate", 1],
    "secrets.keys": ["", "Upper", "a b", None],
    "secrets.redis": ["", "-a"],
    "secrets.postgres": ["Upper", None, "a b"],
    "upstream": ["", "crm:9000", "ftp://crm", "http://crm:9000/path", "http://user@crm:9000", "http://crm:0"],
    "replicas.min": [0, "2", 1.5, 101],
    "replicas.max": [0, None],
    "storage.size": ["", "10", "10GB", "0Gi", 10],
    "storage.class": [1],
    "namespaces.ingress": ["", "Upper"],
    "namespaces.monitoring": [[]],
    "expose": ["", "nodeport", True],
    "host": ["", "https://crm.example.com", "crm example"],
    "gateway": ["", "gateway", "a/b/c"],
    "podMonitor": ["yes", 1, None],
    "config": [1, {}],
}


def values(path, value):
    *folders, last = path.split(".")
    return {folders[0]: {last: value}} if folders else {last: value}


def merged(*parts):
    result = {}
    for part in parts:
        for key, value in part.items():
            result[key] = {**result.get(key, {}), **value} if isinstance(value, dict) else value
    return result


def leaves(properties, before=""):
    for name, one in properties.items():
        if name == "global":  # Helm's own
            continue
        if "properties" in one:
            yield from leaves(one["properties"], f"{before}{name}.")
        else:
            yield before + name


def normal(objects):
    """By kind and name, without what marks a new configuration: Kustomize's hash in a name, the chart's checksum."""
    result = {}
    for one in copy.deepcopy(objects):
        if one["kind"] == "ConfigMap":
            one["metadata"]["name"] = re.sub(r"-[a-z0-9]{10}$", "", one["metadata"]["name"])
        if one["kind"] in ("StatefulSet", "CronJob"):
            template = one["spec"].get("jobTemplate", one)["spec"]["template"]
            template["metadata"].pop("annotations", None)
            for volume in template["spec"]["volumes"]:
                if "configMap" in volume:
                    volume["configMap"]["name"] = re.sub(r"-[a-z0-9]{10}$", "", volume["configMap"]["name"])
        result[one["kind"], one["metadata"]["name"]] = one
    assert len(result) == len(objects), "two objects have one name"
    return result


class Helm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.chart = Chart.load(CHART)
        cls.addClassCleanup(cls.chart.close)

    def render(self, given=None, name="saltgate"):
        files = self.chart.render(values=given or {}, name=name, namespace="crm")
        texts = [text for path, text in files.items() if path.endswith(".yaml")]
        return [one for text in texts for one in yaml.safe_load_all(text) if one]

    def test_it_renders_the_objects_of_kustomize(self):
        for name, given in SAME.items():
            with self.subTest(name):
                ours, theirs = normal(self.render(given)), normal(renderings()[name])
                self.assertEqual(set(ours), set(theirs))
                for key in ours:
                    self.assertEqual(ours[key], theirs[key], key)

    def test_the_comparison_sees_a_difference(self):
        self.assertNotEqual(normal(self.render({"replicas": {"min": 3}})), normal(renderings()["edge"]))

    def test_its_configuration_is_that_of_the_edge(self):
        edge = (CHART / "files/saltgate.toml").read_text()
        self.assertEqual(edge, (KUBERNETES / "edge/saltgate.toml").read_text())
        shipping = edge + "\n" + (CHART / "files/ship.toml").read_text()
        self.assertEqual(shipping, (KUBERNETES / "components/shipping/saltgate.toml").read_text())

    def test_a_new_configuration_is_a_rollout(self):
        checksum = lambda given: only(self.render(given), "StatefulSet")["spec"]["template"]["metadata"]["annotations"]["checksum/config"]  # noqa: E731
        self.assertEqual(checksum({}), checksum({"replicas": {"max": 7}}))
        self.assertNotEqual(checksum({}), checksum({"config": "# mine\n"}))

    def test_it_has_few_values_and_each_has_an_effect(self):
        known = sorted(leaves(self.chart.schema["properties"]))
        self.assertEqual(known, sorted(EFFECTS))
        self.assertEqual(known, sorted(BAD))
        self.assertLessEqual(len(known), 16)
        for path, (value, besides) in EFFECTS.items():
            with self.subTest(path):
                before, after = self.render(besides), self.render(merged(besides, values(path, value)))
                self.assertNotEqual(before, after)
                if not isinstance(value, bool):
                    for part in str(value).split("/") if path == "gateway" else [value]:
                        self.assertIn(json.dumps(part), json.dumps(after))

    def test_the_network_policy_follows_the_upstream(self):
        for upstream, port in (("http://crm:3000", 3000), ("http://crm", 80), ("https://crm", 443), ("https://[fd00::1]:8443", 8443), ("http://[fd00::1]", 80)):
            with self.subTest(upstream):
                policy = only(self.render({"upstream": upstream}), "NetworkPolicy", "saltgate-egress")
                self.assertEqual(policy["spec"]["egress"][0]["ports"][-1]["port"], port)

    def test_two_releases_in_one_namespace_share_nothing(self):
        one, other = normal(self.render()), normal(self.render(name="second"))
        self.assertFalse(set(one) & set(other))
        selector = only(list(other.values()), "StatefulSet")["spec"]["selector"]["matchLabels"]
        self.assertEqual(selector, {"app.kubernetes.io/name": "second"})
        for service in [item for item in other.values() if item["kind"] == "Service"]:
            self.assertEqual(service["spec"]["selector"], selector)
        volumes = pod(only(list(other.values()), "StatefulSet"))["volumes"]
        self.assertIn({"name": "saltgate-config", "configMap": {"name": "second"}}, volumes)

    def test_what_it_renders_has_the_schema_of_each_release(self):
        for given in ({"expose": "ingress", "storage": {"class": "fast"}}, {"secrets": {"postgres": "records"}}, {}):
            for one in self.render(given):
                for release in ("1.27", "1.33", "1.37"):
                    kubernetes_validate.validate(one, release, strict=True)

    def test_bad_values_are_refused_by_name(self):
        self.chart.validate_schema({})
        for path, wrong in BAD.items():
            for value in wrong:
                with self.subTest(path=path, value=value), self.assertRaises(HelmError) as refused:
                    self.render(values(path, value))
                self.assertIn(path.split(".")[-1], str(refused.exception))

    def test_misspelt_values_are_refused(self):
        for given in ({"imagee": "a:1"}, {"secrets": {"key": "a"}}, {"replicas": 2}, {"replicas": {"minimum": 1}}):
            with self.subTest(given), self.assertRaises(HelmError):
                self.render(given)

    def test_values_that_do_not_go_together_are_refused(self):
        with self.assertRaisesRegex(HelmError, "replicas.min is 5 and replicas.max 4"):
            self.render({"replicas": {"min": 5, "max": 4}})
        for store in ("[replay.journal]", "  [ replay . memory ]"):
            with self.subTest(store), self.assertRaisesRegex(HelmError, "for one gate"):
                self.render({"config": f"# mine\n{store}\n"})
        self.render({"config": "# [replay.journal]\n"})
        with self.assertRaisesRegex(HelmError, r"config has no \[audit.ship\]"):
            self.render({"config": "# [audit.ship]\n", "secrets": {"postgres": "records"}})
        self.render({"config": "[audit.ship]\n", "secrets": {"postgres": "records"}})

    def test_lint(self):
        report = lint(CHART, strict=True)
        self.assertEqual(report["errors"], [])
        self.assertEqual([one for one in report["messages"] if one["severity"] > 1], [])


if __name__ == "__main__":
    unittest.main()
