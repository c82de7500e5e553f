"""The compose file is valid, shuts what it can, and its gate's configuration is one that Saltgate takes."""
import os
import pathlib
import subprocess
import unittest

import yaml

DEPLOY = pathlib.Path(__file__).parents[1]
COMPOSE = DEPLOY / "compose.yaml"


class Compose(unittest.TestCase):
    def setUp(self):
        self.compose = yaml.safe_load(COMPOSE.read_text())
        self.services = self.compose["services"]

    def test_it_is_valid(self):
        checked = subprocess.run(["check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE], capture_output=True,
                                 text=True)
        self.assertEqual(checked.returncode, 0, checked.stdout)

    def test_its_services_are_those_that_it_promises_in_versions_that_are_named(self):
        self.assertEqual(set(self.services), {"gate", "crm", "redis", "prometheus", "grafana"})
        for name, service in self.services.items():
            tag = service["image"].partition(":")[2]
            self.assertNotIn(tag, ["", "latest"], name)

    def test_what_it_mounts_is_here_and_what_it_refers_to_is_defined(self):
        for name, service in self.services.items():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                # Docker makes a folder that is missing; in place of a file that would be a folder, too.
                if source.startswith("./") and "." in pathlib.Path(source).name:
                    self.assertTrue((DEPLOY / source).is_file(), f"{name}: {source}")
                elif not source.startswith("./"):
                    self.assertIn(source, self.compose["volumes"], name)
            for network in service["networks"]:
                self.assertIn(network, self.compose["networks"], name)

    def test_only_the_gate_reaches_the_service_and_the_salts_and_only_this_machine_reaches_any(self):
        internal = {name for name, network in self.compose["networks"].items() if network.get("internal")}
        self.assertEqual(internal, {"service", "store", "watch"})
        for private, owner in [("service", "crm"), ("store", "redis")]:
            self.assertEqual({name for name, service in self.services.items() if private in service["networks"]}, {"gate", owner})
            self.assertEqual(self.services[owner]["networks"], [private])
            self.assertNotIn("ports", self.services[owner])
        ports = [port for service in self.services.values() for port in service.get("ports", [])]
        self.assertEqual(len(ports), 3)
        self.assertTrue(all(port.startswith("127.0.0.1:") for port in ports), ports)

    def test_saltgates_containers_have_no_more_than_they_need(self):
        for name in ["gate", "crm"]:
            service = self.services[name]
            self.assertEqual((service["user"], service["read_only"], service["cap_drop"], service["security_opt"]),
                             ("65532:65532", True, ["ALL"], ["no-new-privileges:true"]), name)

    def test_redis_forgets_no_salt(self):
        command = " ".join(self.services["redis"]["command"])
        for needed in ["--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"]:
            self.assertIn(needed, command)

    def test_the_gate_takes_its_configuration(self):
        environment = self.services["gate"]["environment"]
        secrets = {name: value.partition(":-")[2].rstrip("}") for name, value in environment.items()}
        self.assertEqual(len(secrets), 2)
        checked = subprocess.run([os.environ["SALTGATE"], "check", "--config", DEPLOY / "compose" / "saltgate.toml"],
                                 capture_output=True, text=True, env={**os.environ, **secrets})
        # /run/saltgate is made by Docker.
        faults = [line for line in checked.stderr.splitlines() if not line.startswith("warning: ")]
        self.assertTrue(all("the folder /run/saltgate does not exist" in fault for fault in faults), faults)

    def test_prometheus_scrapes_the_gate(self):
        prometheus = yaml.safe_load((DEPLOY / "compose" / "prometheus.yaml").read_text())
        targets = [target for job in prometheus["scrape_configs"] for static in job["static_configs"] for target in static["targets"]]
        port = (DEPLOY / "compose" / "saltgate.toml").read_text().split('[admin]\naddress = "0.0.0.0:')[1].split('"')[0]
        self.assertEqual(targets, [f"gate:{port}"])
        self.assertIn("watch", set(self.services["gate"]["networks"]) & set(self.services["prometheus"]["networks"]))
        self.assertEqual(prometheus["rule_files"], ["/etc/prometheus/saltgate/rules.yaml"])


if __name__ == "__main__":
    unittest.main()
