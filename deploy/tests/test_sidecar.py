"""The sidecar component changes what it must of a Deployment and a Service, and nothing else; and the README's recipes work."""
import re
import unittest

import yaml

import grace
from rendering import KUBERNETES, TESTS, compose, configuration, containers, gate, kubectl, only, pod, renderings, tree


def original(name, kind):
    return only(list(yaml.safe_load_all((TESTS / "services" / f"{name}.yaml").read_text())), kind)


class Sidecar(unittest.TestCase):
    def test_what_the_service_had_is_still_there(self):
        before = original("full", "Deployment")
        for name in ("full", "older-full"):
            with self.subTest(name):
                after = only(renderings()[name], "Deployment")
                was, now = pod(before), pod(after)
                for container in containers(was):
                    (same,) = [one for one in containers(now) if one["name"] == container["name"]]
                    lifecycle = {**container.get("lifecycle", {}), **({"preStop": same["lifecycle"]["preStop"]} if "lifecycle" in container else {})}
                    self.assertEqual(same, {**container, **({"lifecycle": lifecycle} if lifecycle else {})})
                self.assertEqual([one for one in now["volumes"] if not one["name"].startswith("saltgate-")], was["volumes"])
                self.assertEqual(now["securityContext"], was["securityContext"])
                self.assertEqual(now["serviceAccountName"], was["serviceAccountName"])
                labels = after["spec"]["template"]["metadata"]["labels"]
                self.assertEqual(labels, {"app": "full", "saltgate": "sidecar"})
                self.assertEqual(after["spec"]["selector"], before["spec"]["selector"])
                self.assertEqual(after["spec"]["replicas"], 3)

    def test_the_service_sleeps_and_keeps_its_post_start(self):
        for name, handler in (("full", {"sleep": {"seconds": 40}}), ("older-full", {"exec": {"command": ["sleep", "40"]}})):
            with self.subTest(name):
                (service,) = [one for one in pod(only(renderings()[name], "Deployment"))["containers"] if one["name"] == "service"]
                self.assertEqual(service["lifecycle"], {"postStart": {"exec": {"command": ["warm-up"]}}, "preStop": handler})

    def test_the_gate_is_a_native_sidecar_but_on_older_clusters(self):
        native, older = (only(renderings()[name], "Deployment") for name in ("plain", "older-plain"))
        self.assertIn(gate(native), pod(native)["initContainers"])
        self.assertEqual(gate(native)["restartPolicy"], "Always")
        self.assertIn(gate(older), pod(older)["containers"])
        self.assertEqual({key: value for key, value in gate(native).items() if key != "restartPolicy"}, gate(older))
        same = {key: value for key, value in pod(native).items() if key not in ("initContainers", "containers")}
        self.assertEqual(same, {key: value for key, value in pod(older).items() if key != "containers"})

    def test_clients_reach_the_gate(self):
        for name in ("plain", "full", "older-plain", "older-full", "example"):
            with self.subTest(name):
                service = only(renderings()[name], "Service")
                self.assertEqual(service["spec"]["ports"][0]["targetPort"], 8080)
                labels = only(renderings()[name], "Deployment")["spec"]["template"]["metadata"]["labels"]
                self.assertLessEqual(service["spec"]["selector"].items(), labels.items())

    def test_the_source_of_the_sleep_is_not_applied(self):
        for name, objects in renderings().items():
            self.assertNotIn("PodTemplate", {one["kind"] for one in objects}, name)


class Recipes(unittest.TestCase):
    def setUp(self):
        self.tree = tree()

    def test_the_five_lines_of_the_readme(self):
        (block,) = re.findall(r"\n    (resources: \[deployment.*?)\n\n", (KUBERNETES / "README.md").read_text(), re.S)
        lines = [line.removeprefix("    ") for line in block.splitlines()]
        self.assertEqual(len(lines), 5)
        mine = self.tree / "mine"
        mine.mkdir()
        deployment, service = (original("plain", kind) for kind in ("Deployment", "Service"))
        (mine / "deployment.yaml").write_text(yaml.safe_dump(deployment))
        (mine / "service.yaml").write_text(yaml.safe_dump(service))
        (mine / "kustomization.yaml").write_text("\n".join(lines).replace("deploy/kubernetes/", "../"))
        objects = kubectl(mine)
        self.assertEqual(gate(only(objects, "Deployment"))["image"], "registry.example.com/saltgate:0.1.0")
        self.assertEqual({one["kind"] for one in objects}, {"ConfigMap", "Deployment", "NetworkPolicy", "PodMonitor", "Service"})

    def test_the_edge_of_the_readme(self):
        (block,) = re.findall(r"\n(    namespace: crm\n.*?)\n\n", (KUBERNETES / "README.md").read_text(), re.S)
        mine = self.tree / "mine"
        mine.mkdir()
        text = "\n".join(line.removeprefix("    ") for line in block.splitlines())
        (mine / "kustomization.yaml").write_text(text.replace("deploy/kubernetes/", "../").replace("http://crm:9000", "http://crm.other:9000"))
        objects = kubectl(mine)
        one = gate(only(objects, "StatefulSet"))
        self.assertEqual((one["image"], one["env"][0]["value"]), ("registry.example.com/saltgate:0.1.0", "http://crm.other:9000"))
        self.assertEqual({item["metadata"]["namespace"] for item in objects}, {"crm"})
        self.assertEqual(only(objects, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"], "saltgate")

    def test_a_configuration_of_ones_own(self):
        (block,) = re.findall(r"# gate/kustomization.yaml.*?\n((?:    .*\n)+)", (KUBERNETES / "README.md").read_text())
        folder = self.tree / "composed" / "own" / "gate"
        folder.mkdir(parents=True)
        (folder / "kustomization.yaml").write_text("\n".join(line.removeprefix("    ") for line in block.splitlines()))
        (folder / "saltgate.toml").write_text("# mine\n")
        kustomization = folder.parent / "kustomization.yaml"
        (folder.parent / "plain.yaml").write_text((TESTS / "services/plain.yaml").read_text())
        kustomization.write_text("resources: [plain.yaml]\ncomponents: [../../components/sidecar, gate]\n")
        objects = kubectl(folder.parent)
        self.assertEqual(configuration(objects), "# mine\n")
        volumes = {volume["name"]: volume for volume in pod(only(objects, "Deployment"))["volumes"]}
        self.assertEqual(volumes["saltgate-config"]["configMap"]["name"], only(objects, "ConfigMap")["metadata"]["name"])

    def test_patches_for_the_upstream_and_the_namespaces(self):
        patches = [
            {"patch": yaml.safe_dump({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "plain"},
                "spec": {"template": {"spec": {"initContainers": [{"name": "saltgate", "env": [{"name": "UPSTREAM", "value": "http://127.0.0.1:3000"}]}]}}},
            })},
            {"target": {"kind": "NetworkPolicy"}, "patch": yaml.safe_dump([{
                "op": "replace", "path": "/spec/ingress/0/from/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name", "value": "traefik",
            }])},
        ]
        objects = compose(self.tree, "patched", ["services/plain.yaml"], ["sidecar"], {"patches": patches})
        environment = {one["name"]: one.get("value") for one in gate(only(objects, "Deployment"))["env"]}
        self.assertEqual(environment, {"UPSTREAM": "http://127.0.0.1:3000", "REDIS_URL": None})
        labels = only(objects, "NetworkPolicy")["spec"]["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"]
        self.assertEqual(labels, {"kubernetes.io/metadata.name": "traefik"})

    def test_a_deployment_without_the_component_is_told_apart(self):
        objects = compose(self.tree, "ungated", ["services/plain.yaml"], [])
        with self.assertRaises(ValueError):
            gate(only(objects, "Deployment"))
        self.assertEqual(grace.sleep(pod(only(objects, "Deployment"))["containers"][0]), 0)


if __name__ == "__main__":
    unittest.main()
