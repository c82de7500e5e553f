"""deploy/kubernetes: every kustomization is rendered, and what it renders is valid, locked down, adds up and fits together."""
import json
import os
import re
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

import kubernetes_validate
import yaml

import grace
import restricted
from mounts import Container
from rendering import (
    COMPOSED, KUBERNETES, TESTS, compose, configuration, containers, gate, only, pod, renderings, tree, workloads,
)

# The native sidecar and `preStop: sleep` need 1.30; the variant for older clusters and the edge work with what came before.
RELEASES = {"native": ["1.30", "1.33", "1.37"], "older": ["1.25", "1.29", "1.37"], "edge": ["1.27", "1.33", "1.37"]}
CUSTOM = {"PodMonitor": "podmonitor", "HTTPRoute": "httproute", "Certificate": "certificate"}
SECRETS = {"saltgate-keys", "saltgate-redis", "saltgate-tls"}


def releases(name, objects):
    if not any(one["kind"] == "Deployment" for one in objects):
        return RELEASES["edge"]
    return RELEASES["older" if name.startswith("older") else "native"]


class Valid(unittest.TestCase):
    def test_every_component_is_rendered_somewhere(self):
        components = {path.parent.name for path in (KUBERNETES / "components").glob("*/kustomization.yaml")}
        used = {one for _, names in COMPOSED.values() for one in names} | {"sidecar-common"}
        self.assertEqual(components, used)
        for name in ("base", "edge", "example", "overlays/openshift", "overlays/proxy-protocol", "overlays/journal"):
            self.assertIn(name, renderings())

    def test_every_object_has_the_schema_of_three_releases(self):
        seen = 0
        for name, objects in renderings().items():
            for one in objects:
                if one["kind"] in CUSTOM:
                    continue
                for release in releases(name, objects):
                    with self.subTest(rendering=name, kind=one["kind"], release=release):
                        self.assertEqual(kubernetes_validate.validate(one, release, strict=True), release)
                        seen += 1
        self.assertGreater(seen, 200)

    def test_the_schemas_see_a_misspelt_field_and_what_a_release_does_not_have(self):
        deployment = only(renderings()["plain"], "Deployment")
        bad = json.loads(json.dumps(deployment).replace("terminationGracePeriodSeconds", "terminationGracePeriod"))
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(bad, "1.33", strict=True)
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(deployment, "1.27", strict=True)  # knows no native sidecar

    def check_custom(self, kind, one):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "object.yaml")
            path.write_text(yaml.safe_dump(one))
            schema = TESTS / "schemas" / f"{CUSTOM[kind]}.json"
            return subprocess.run(["check-jsonschema", "--schemafile", schema, path], capture_output=True, text=True)

    def test_custom_resources_have_their_schemas(self):
        found = {one["kind"]: one for objects in renderings().values() for one in objects if one["kind"] in CUSTOM}
        self.assertEqual(set(found), set(CUSTOM))
        for kind, one in found.items():
            with self.subTest(kind):
                done = self.check_custom(kind, one)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                done = self.check_custom(kind, {**one, "spec": {**one["spec"], "misspelt": 1}})
                self.assertEqual(done.returncode, 1)
                self.assertIn("misspelt", done.stdout)

    def test_the_image_is_that_of_this_version_everywhere(self):
        cargo = tomllib.loads((KUBERNETES.parents[1] / "Cargo.toml").read_text())
        for name, _, workload in workloads():
            with self.subTest(name):
                self.assertRegex(gate(workload)["image"], rf"(^|/)saltgate:{re.escape(cargo['package']['version'])}$")


class LockedDown(unittest.TestCase):
    def gate_alone(self, workload):
        """The pod without what belongs to the service, which is the service's own affair."""
        spec = dict(pod(workload))
        key = "containers" if gate(workload) in spec["containers"] else "initContainers"
        spec.pop("initContainers", None)
        spec["containers"] = []
        spec[key] = [gate(workload)]
        return spec

    def test_the_gate_is_restricted_everywhere(self):
        seen = 0
        for name, _, workload in workloads():
            with self.subTest(name):
                self.assertEqual(restricted.faults(self.gate_alone(workload)), [])
                seen += 1
        self.assertGreaterEqual(seen, 15)

    def test_a_user_is_set_everywhere_but_on_openshift(self):
        for name, objects, workload in workloads():
            spec = pod(workload)
            outer, inner = spec.get("securityContext", {}), gate(workload)["securityContext"]
            openshift = "openshift" in name or name == "edge-all"
            with self.subTest(name):
                for key in ("runAsUser", "runAsGroup"):
                    self.assertEqual(inner.get(key, outer.get(key)), None if openshift else 65532)
                if workload["kind"] == "StatefulSet":
                    # The claim belongs to root; without OpenShift's own group the gate could not write it.
                    self.assertEqual(outer.get("fsGroup"), None if openshift else 65532)
                    self.assertEqual(outer["fsGroupChangePolicy"], "OnRootMismatch")
                # Files of the two kinds of volume that hold configuration are readable for everybody: modes are left as they are.
                for volume in spec.get("volumes", []):
                    for kind in ("secret", "configMap"):
                        self.assertNotIn("defaultMode", volume.get(kind, {}))

    def test_nobody_goes_round_the_gate(self):
        for name, objects, workload in workloads():
            with self.subTest(name):
                policy = only(objects, "NetworkPolicy", "saltgate")["spec"]
                (selector,) = policy["podSelector"]["matchExpressions"]
                self.assertIn(selector["key"], workload["spec"]["template"]["metadata"]["labels"])
                self.assertIn("Ingress", policy["policyTypes"])
                self.assertEqual([port["port"] for rule in policy["ingress"] for port in rule["ports"]], [8080, 9901])
                self.assertTrue(all(rule["from"] for rule in policy["ingress"]))

    def test_the_edge_reaches_names_redis_and_the_service_only(self):
        for name, objects, workload in workloads():
            if workload["kind"] != "StatefulSet":
                continue
            with self.subTest(name):
                policy = only(objects, "NetworkPolicy", "saltgate-egress")["spec"]
                labels = workload["spec"]["template"]["metadata"]["labels"]
                self.assertLessEqual(policy["podSelector"]["matchLabels"].items(), labels.items())
                ports = sorted({port["port"] for rule in policy["egress"] for port in rule["ports"]})
                service = next(one["value"] for one in gate(workload)["env"] if one["name"] == "UPSTREAM")
                stores = ([] if "journal" in name else [6379]) + ([5432] if "shipping" in name else [])
                self.assertEqual(ports, sorted([53, int(service.rsplit(":", 1)[1])] + stores))


class AddsUp(unittest.TestCase):
    def test_the_end_of_every_pod(self):
        for name, objects, workload in workloads():
            with self.subTest(name):
                self.assertEqual(list(grace.faults(pod(workload), configuration(objects))), [])

    def test_the_line_in_the_readme_has_these_numbers(self):
        workload = only(renderings()["plain"], "Deployment")
        limits = tomllib.loads(configuration(renderings()["plain"]))["limits"]
        whole = f"{grace.wait(gate(workload)):g}"
        line = (
            f"grace {pod(workload)['terminationGracePeriodSeconds']} s ≥ the service's sleep {grace.sleep(pod(workload)['containers'][0])} s"
            f" ≥ drain --wait {whole} s ≥ drain_delay {limits['drain_delay'][:-1]} s + drain_timeout {limits['drain_timeout'][:-1]} s"
        )
        self.assertIn(line, (KUBERNETES / "README.md").read_text())

    def test_whatever_sends_requests_waits_longer_than_the_gate(self):
        for name, objects in renderings().items():
            upstream = tomllib.loads(configuration(objects))["upstream"] if name.startswith(("edge", "overlays")) else None
            for one in objects if upstream else []:
                least = grace.seconds(upstream["response_timeout"]) + grace.seconds(upstream["answer_timeout"])
                with self.subTest(rendering=name, kind=one["kind"]):
                    if one["kind"] == "HTTPRoute":
                        for rule in one["spec"]["rules"]:
                            self.assertTrue(all(grace.seconds(value) > least for value in rule["timeouts"].values()))
                            self.assertNotIn("retry", rule)
                    if one["kind"] == "Ingress":
                        annotations = one["metadata"]["annotations"]
                        self.assertGreater(int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]), least)
                        self.assertEqual(annotations["nginx.ingress.kubernetes.io/proxy-next-upstream"], "off")


class FitsTogether(unittest.TestCase):
    def test_ports(self):
        for name, objects, workload in workloads():
            with self.subTest(name):
                settings = tomllib.loads(configuration(objects))
                (listener,) = settings["listener"]
                self.assertEqual((listener["address"], settings["admin"]["address"]), ("0.0.0.0:8080", "0.0.0.0:9901"))
                ports = {port["name"]: port["containerPort"] for port in gate(workload)["ports"]}
                self.assertEqual(ports, {"saltgate": 8080, "saltgate-admin": 9901})
                # By number: not every release finds the named ports of a native sidecar.
                for service in [one for one in objects if one["kind"] == "Service"]:
                    self.assertEqual(service["spec"]["ports"][0]["targetPort"], 8080)
                for monitor in [one for one in objects if one["kind"] == "PodMonitor"]:
                    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
                    self.assertEqual(ports[endpoint["port"]], 9901)
                for container in containers(pod(workload)):
                    own = {port.get("name") for port in container.get("ports", [])}
                    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                        port = container.get(probe, {}).get("httpGet", {}).get("port", 0)
                        self.assertTrue(isinstance(port, int) or port in own, f"{container['name']} has no port {port}")

    def test_probes(self):
        for name, _, workload in workloads():
            with self.subTest(name):
                one = gate(workload)
                asked = {probe: (one[probe]["httpGet"]["path"], one[probe]["httpGet"]["port"]) for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
                admin = "saltgate-admin"
                self.assertEqual(asked, {"startupProbe": ("/live", admin), "readinessProbe": ("/ready", admin), "livenessProbe": ("/live", admin)})

    def test_commands_are_of_one_program(self):
        for name, _, workload in workloads():
            with self.subTest(name):
                one = gate(workload)
                self.assertEqual(one["command"], ["/saltgate", "serve", "--config", "/etc/saltgate/config/saltgate.toml"])
                self.assertEqual(one["lifecycle"]["preStop"]["exec"]["command"][:2], ["/saltgate", "drain"])

    def test_everything_that_is_referred_to_is_there(self):
        for name, objects, workload in workloads():
            with self.subTest(name):
                made = {one["metadata"]["name"] for one in objects if one["kind"] == "ConfigMap"}
                spec = pod(workload)
                volumes = {volume["name"] for volume in spec.get("volumes", [])}
                volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
                self.assertLessEqual({mount["name"] for one in containers(spec) for mount in one.get("volumeMounts", [])}, volumes)
                for volume in spec.get("volumes", []):
                    if "configMap" in volume:
                        self.assertIn(volume["configMap"]["name"], made)
                        self.assertRegex(volume["configMap"]["name"], r"^saltgate-[a-z0-9]{10}$")  # changes with its content
                    if "secret" in volume:
                        self.assertIn(volume["secret"]["secretName"], SECRETS)
                wanted = set(re.findall(r"\$\{(\w+)\}", configuration(objects)))
                self.assertEqual({one["name"] for one in gate(workload)["env"]}, wanted)

    def test_what_is_written_lies_on_a_volume_and_what_is_read_on_a_read_only_one(self):
        for name, objects, workload in workloads():
            with self.subTest(name):
                settings = tomllib.loads(configuration(objects))
                mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in gate(workload)["volumeMounts"]}
                at = lambda path: next(read for mount, read in mounts.items() if path.startswith(mount + "/"))  # noqa: E731
                self.assertTrue(at(settings["directory"]["file"]["path"]))
                written = [settings["audit"]["path"], settings["control"]["socket"]]
                written += [one["path"] for one in [settings["replay"].get("journal")] if one]
                self.assertEqual([at(path) for path in written], [False] * len(written))
                # The command without --config and --socket looks here.
                self.assertEqual(settings["control"]["socket"], "/run/saltgate/control.sock")

    def test_salts_are_shared_unless_there_can_be_only_one(self):
        for name, objects, workload in workloads():
            with self.subTest(name):
                replay = tomllib.loads(configuration(objects))["replay"]
                scaled = [one for one in objects if one["kind"] == "HorizontalPodAutoscaler"]
                if "journal" in name:
                    self.assertEqual((list(replay), workload["kind"], workload["spec"]["replicas"], scaled), (["journal"], "StatefulSet", 1, []))
                    (claim,) = workload["spec"]["volumeClaimTemplates"]
                    self.assertEqual(claim["spec"]["accessModes"], ["ReadWriteOncePod"])
                else:
                    self.assertEqual(list(replay), ["redis"])
                    self.assertNotIn("when_new", replay["redis"])  # a lost Redis must not be taken for a first start

    def test_every_variant_of_the_edge_changes_what_it_is_for_and_nothing_else(self):
        listener = tomllib.loads(configuration(renderings()["edge"]))["listener"][0]
        audit = tomllib.loads(configuration(renderings()["edge"]))["audit"]
        changes = {
            "edge": {},
            "overlays/openshift": {},
            "overlays/journal": {"replay": {"journal": {"path": "/var/lib/saltgate/replay"}}},
            "overlays/proxy-protocol": {"listener": [{
                **listener, "proxy_protocol": "required", "trusted_proxies": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
            }]},
            "edge-shipping": {"audit": {**audit, "ship": {"postgres": "${POSTGRES_URL}"}}},
            "edge-certificate": {"listener": [{
                **listener, "tls": {"certificates": [{"chain": "/etc/saltgate/tls/tls.crt", "key": "/etc/saltgate/tls/tls.key"}]},
            }]},
        }
        edge = tomllib.loads(configuration(renderings()["edge"]))
        for name, change in changes.items():
            with self.subTest(name):
                self.assertEqual(tomllib.loads(configuration(renderings()[name])), {**edge, **change})
        # Who may connect to the balancer's port is who may send the PROXY header.
        policy = only(renderings()["overlays/proxy-protocol"], "NetworkPolicy", "saltgate")["spec"]
        blocks = [one["ipBlock"]["cidr"] for one in policy["ingress"][0]["from"]]
        self.assertEqual(blocks, changes["overlays/proxy-protocol"]["listener"][0]["trusted_proxies"])
        self.assertEqual(only(renderings()["overlays/proxy-protocol"], "Service", "saltgate")["spec"]["externalTrafficPolicy"], "Local")

    def test_the_job_that_reconciles_is_no_gate_and_has_what_its_configuration_names(self):
        objects = renderings()["edge-shipping"]
        job = only(objects, "CronJob")["spec"]
        template = job["jobTemplate"]["spec"]["template"]
        spec, labels = template["spec"], template["metadata"]["labels"]
        (container,) = spec["containers"]
        self.assertEqual(restricted.faults(spec), [])
        self.assertEqual(container["image"], gate(only(objects, "StatefulSet"))["image"])
        self.assertEqual(container["command"][1:3], ["audit", "reconcile"])
        self.assertEqual({one["name"] for one in container["env"]}, set(re.findall(r"\$\{(\w+)\}", configuration(objects))))
        (config,) = [volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume]
        self.assertEqual(config, only(objects, "ConfigMap")["metadata"]["name"])
        # Two runs at once would ask the same questions.
        self.assertEqual((job["concurrencyPolicy"], job["jobTemplate"]["spec"]["backoffLimit"]), ("Forbid", 0))
        for one in [one for one in objects if one["kind"] == "Service"]:
            self.assertFalse(one["spec"]["selector"].items() <= labels.items(), "a Service would send requests to it")
        policy = only(objects, "NetworkPolicy", "saltgate-reconcile")["spec"]
        self.assertLessEqual(policy["podSelector"]["matchLabels"].items(), labels.items())
        self.assertNotIn("ingress", policy)

    def test_the_edge_is_a_stateful_set_whose_volumes_stay(self):
        for name, objects, workload in workloads():
            if workload["kind"] != "StatefulSet":
                continue
            with self.subTest(name):
                spec = workload["spec"]
                self.assertEqual(spec["persistentVolumeClaimRetentionPolicy"], {"whenDeleted": "Retain", "whenScaled": "Retain"})
                self.assertEqual(only(objects, "Service", spec["serviceName"])["spec"]["clusterIP"], "None")
                self.assertEqual(only(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"], 1)
                self.assertEqual({one["whenUnsatisfiable"] for one in pod(workload)["topologySpreadConstraints"]}, {"ScheduleAnyway"})
                for one in [one for one in objects if one["kind"] == "HorizontalPodAutoscaler"]:
                    self.assertEqual(one["spec"]["scaleTargetRef"]["name"], workload["metadata"]["name"])
                    self.assertGreaterEqual(one["spec"]["minReplicas"], 2)
                    self.assertNotIn("replicas", spec)  # each apply would undo the autoscaler


if __name__ == "__main__":
    unittest.main()
