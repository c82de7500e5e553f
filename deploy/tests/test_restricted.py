"""Each rule of restricted.py and grace.py can fail: a good pod, and one fault put into it."""
import copy
import unittest

import grace
import restricted

GOOD = {
    "automountServiceAccountToken": False,
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "gate",
            "resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [{"name": "keys", "mountPath": "/etc/saltgate/keys"}],
        }
    ],
    "volumes": [{"name": "keys", "secret": {"secretName": "keys"}}],
}

# rule -> (path, value or None to remove) of each fault that it must see, in the pod or in its container ("gate", …).
BAD = {
    "host_namespaces": [(["hostNetwork"], True), (["hostPID"], True), (["hostIPC"], True)],
    "privileged": [(["gate", "securityContext", "privileged"], True)],
    "capabilities": [
        (["gate", "securityContext", "capabilities"], None),
        (["gate", "securityContext", "capabilities", "drop"], ["NET_RAW"]),
        (["gate", "securityContext", "capabilities", "add"], ["SYS_ADMIN"]),
    ],
    "volume_types": [(["volumes"], [{"name": "keys", "hostPath": {"path": "/etc"}}]), (["volumes"], [{"name": "keys", "nfs": {}}])],
    "host_ports": [(["gate", "ports"], [{"containerPort": 8080, "hostPort": 80}])],
    "probes_of_other_hosts": [(["gate", "livenessProbe"], {"httpGet": {"host": "10.0.0.1", "port": 80}})],
    "app_armor": [(["securityContext", "appArmorProfile"], {"type": "Unconfined"})],
    "se_linux": [(["gate", "securityContext", "seLinuxOptions"], {"type": "spc_t"}), (["securityContext", "seLinuxOptions"], {"user": "u"})],
    "proc_mount": [(["gate", "securityContext", "procMount"], "Unmasked")],
    "seccomp": [(["securityContext", "seccompProfile"], None), (["gate", "securityContext", "seccompProfile"], {"type": "Unconfined"})],
    "sysctls": [(["securityContext", "sysctls"], [{"name": "kernel.msgmax", "value": "1"}])],
    "escalation": [(["gate", "securityContext", "allowPrivilegeEscalation"], None)],
    "non_root": [(["securityContext", "runAsNonRoot"], None), (["gate", "securityContext", "runAsNonRoot"], False)],
    "root_user": [(["securityContext", "runAsUser"], 0), (["gate", "securityContext", "runAsUser"], 0)],
    "writable_root": [(["gate", "securityContext", "readOnlyRootFilesystem"], None)],
    "token": [(["automountServiceAccountToken"], None), (["automountServiceAccountToken"], True)],
    "memory": [(["gate", "resources", "limits"], {"cpu": "1"}), (["gate", "resources", "requests"], {})],
    "sub_path": [(["gate", "volumeMounts"], [{"name": "keys", "mountPath": "/etc/keys.toml", "subPath": "keys.toml"}])],
}


def changed(pod, path, value):
    pod = copy.deepcopy(pod)
    at = pod
    for key in path[:-1]:
        at = next(one for one in pod["containers"] if one["name"] == key) if key == "gate" or key == "service" else at.setdefault(key, {})
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return pod


class Restricted(unittest.TestCase):
    def test_a_good_pod_has_no_fault(self):
        self.assertEqual(restricted.faults(GOOD), [])

    def test_every_rule_sees_a_bad_pod_and_nothing_else_does(self):
        self.assertEqual(list(BAD), [rule.__name__ for rule in restricted.RULES])
        for rule, faults in BAD.items():
            for path, value in faults:
                with self.subTest(rule=rule, path=path):
                    seen = {name for name, _ in restricted.faults(changed(GOOD, path, value))}
                    self.assertEqual(seen, {rule})

    def test_init_containers_are_looked_at(self):
        bad = copy.deepcopy(GOOD)
        bad["initContainers"] = [{"name": "other"}]
        self.assertIn(("escalation", "other"), restricted.faults(bad))


class Grace(unittest.TestCase):
    POD = {
        "terminationGracePeriodSeconds": 75,
        "initContainers": [{"name": "saltgate", "lifecycle": {"preStop": {"exec": {"command": ["/saltgate", "drain", "--wait", "30s"]}}}}],
        "containers": [{"name": "service", "lifecycle": {"preStop": {"sleep": {"seconds": 40}}}}],
    }
    TOML = '[limits]\ndrain_delay = "5s"\ndrain_timeout = "20s"\n[upstream]\nresponse_timeout = "5s"\nanswer_timeout = "15s"\n'

    def faults(self, pod=None, **settings):
        toml = self.TOML
        for name, value in settings.items():
            old = next(line for line in toml.splitlines() if line.startswith(name))
            toml = toml.replace(old, f'{name} = "{value}"')
        return " / ".join(grace.faults(pod or self.POD, toml))

    def test_what_adds_up_has_no_fault(self):
        self.assertEqual(self.faults(), "")

    def test_each_number_that_is_too_small_or_too_large_is_a_fault(self):
        self.assertIn("drain_delay is 0", self.faults(drain_delay="0s"))
        self.assertIn("drain --wait 30.0 < drain_delay 6.0 ", self.faults(drain_delay="6s"))
        self.assertIn("drain --wait 30.0 < ", self.faults(drain_timeout="21s"))
        self.assertIn("drain_timeout 19.0 < ", self.faults(drain_timeout="19s"))
        self.assertIn("drain_timeout 20.0 < response_timeout + answer_timeout 20.001", self.faults(answer_timeout="15s 1ms"))
        self.assertIn("service sleeps 34 < ", self.faults(changed(self.POD, ["service", "lifecycle"], {"preStop": {"sleep": {"seconds": 34}}})))
        self.assertIn("service sleeps 0 < ", self.faults(changed(self.POD, ["service", "lifecycle"], {})))
        older = {"preStop": {"exec": {"command": ["sleep", "34"]}}}
        self.assertIn("service sleeps 34 < ", self.faults(changed(self.POD, ["service", "lifecycle"], older)))
        self.assertIn("grace 69 < sleep 40 + 30", self.faults(changed(self.POD, ["terminationGracePeriodSeconds"], 69)))
        edge = {**self.POD, "initContainers": [], "containers": self.POD["initContainers"], "terminationGracePeriodSeconds": 34}
        self.assertIn("grace 34 < drain --wait 30.0", self.faults(edge))

    def test_durations(self):
        self.assertEqual([grace.seconds(one) for one in ("5s", "1m 30s", "250ms")], [5, 90, 0.25])
        for wrong in ("5", "5 parsecs", "", "s"):
            with self.subTest(wrong), self.assertRaises(ValueError):
                grace.seconds(wrong)


if __name__ == "__main__":
    unittest.main()
