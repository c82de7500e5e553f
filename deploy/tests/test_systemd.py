"""The unit is valid, shuts everything that it can, and Saltgate serves within what it shuts."""
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

SYSTEMD = pathlib.Path(__file__).parents[1] / "systemd"
PACKAGES = pathlib.Path(__file__).parents[1] / "packages"
SCHEMA = pathlib.Path(__file__).parents[2] / "config" / "saltgate.schema.json"
SALTGATE = os.environ["SALTGATE"]
UNIT = (SYSTEMD / "saltgate.service").read_text()
THRESHOLD = 15  # 1.5 of 10

# Runs a program under the system calls that the unit allows.
FILTERED = """
import ctypes, os, subprocess, sys
import pyseccomp
def calls(*sets):
    found = set()
    for line in subprocess.run(["systemd-analyze", "syscall-filter", *sets], capture_output=True, text=True, check=True).stdout.splitlines():
        name = line.split("#")[0].strip() if line.startswith(" ") else ""
        found |= calls(name) if name.startswith("@") else {name} - {""}
    return found
allowed = calls("@system-service") - calls("@privileged") - calls("@resources")
assert len(allowed) > 200 and "setrlimit" not in allowed and "mount" not in allowed
filter = pyseccomp.SyscallFilter(pyseccomp.ERRNO(1))
for name in allowed | {"execve"}:
    try:
        filter.add_rule(pyseccomp.ALLOW, name)
    except (OSError, ValueError, RuntimeError):
        pass  # not a call of this kernel's library
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
filter.load()
os.execv(sys.argv[1], sys.argv[1:])
"""


def analyze(*arguments):
    return subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True)


def setting(name):
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|m|min)", text).groups()
    return int(number) * {"s": 1, "m": 60, "min": 60}[unit]


def free_port():
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        return any_socket.getsockname()[1]


class Systemd(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def unit(self, change=lambda text: text):
        """The unit, for the program that is tested."""
        path = self.folder / "saltgate.service"
        path.write_text(change(UNIT).replace("/usr/bin/saltgate", SALTGATE))
        return path

    def test_the_units_are_valid(self):
        (self.folder / "saltgate.socket").write_text((SYSTEMD / "saltgate.socket").read_text())
        for path in [self.unit(), self.folder / "saltgate.socket"]:
            verified = analyze("verify", "--man=no", path)
            self.assertEqual((verified.returncode, verified.stderr), (0, ""))
        wrong = analyze("verify", "--man=no", self.unit(lambda text: text.replace("Type=notify", "Type=notfy")))
        self.assertIn("Failed to parse service type", wrong.stderr)

    def test_everything_is_shut_that_can_be(self):
        security = ["security", "--offline=yes", f"--threshold={THRESHOLD}"]
        judged = analyze(*security, self.unit())
        self.assertEqual(judged.returncode, 0, judged.stdout)
        for lines in ["CapabilityBoundingSet=\n", "SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n"]:
            self.assertIn(lines, UNIT)
            judged = analyze(*security, self.unit(lambda text: text.replace(lines, "")))
            self.assertNotEqual(judged.returncode, 0, f"without {lines}")

    def test_users_and_folders_are_valid(self):
        root = self.folder / "root"
        for folder in ["etc", "usr/lib/sysusers.d", "usr/lib/tmpfiles.d"]:
            (root / folder).mkdir(parents=True)
        made = subprocess.run(["systemd-sysusers", f"--root={root}", SYSTEMD / "saltgate.sysusers.conf"], capture_output=True, text=True)
        self.assertEqual(made.returncode, 0, made.stderr)
        user = next(line for line in (root / "etc/passwd").read_text().splitlines() if line.startswith("saltgate:"))
        self.assertTrue(user.endswith(":/var/lib/saltgate:/usr/sbin/nologin"), user)
        if os.geteuid() == 0:
            made = subprocess.run(["systemd-tmpfiles", "--create", f"--root={root}", SYSTEMD / "saltgate.tmpfiles.conf"],
                                  capture_output=True, text=True)
            self.assertEqual(made.returncode, 0, made.stderr)
            self.assertEqual((root / "etc/saltgate").stat().st_mode & 0o777, 0o750)
            self.assertEqual((root / "etc/saltgate/secrets").stat().st_mode & 0o777, 0o700)

    def test_every_command_of_the_unit_is_one(self):
        commands = setting("ExecStartPre") + setting("ExecStart") + setting("ExecReload")
        self.assertEqual(len(commands), 3)
        for command in commands:
            program, name, *more = command.split()
            self.assertEqual((program, more), ("/usr/bin/saltgate", ["--config", "/etc/saltgate/saltgate.toml"]))
            helped = subprocess.run([SALTGATE, name, "--help"], capture_output=True, text=True)
            self.assertEqual(helped.returncode, 0, helped.stderr)
            self.assertIn("--config", helped.stdout)

    def test_what_a_restart_cannot_mend_is_not_restarted(self):
        statuses = set(setting("RestartPreventExitStatus")[0].split())
        usage = subprocess.run([SALTGATE, "serve", "--confg", "x"], capture_output=True)
        fault = subprocess.run([SALTGATE, "serve", "--config", self.folder / "none.toml"], capture_output=True)
        self.assertEqual(statuses, {str(usage.returncode), str(fault.returncode)})

    def test_it_has_the_time_and_the_descriptors_that_its_limits_need(self):
        limits = json.loads(SCHEMA.read_text())["properties"]["limits"]["properties"]
        default = {name: limit["default"] for name, limit in limits.items()}
        drain = seconds(default["drain_delay"]) + seconds(default["drain_timeout"])
        self.assertGreater(seconds(setting("TimeoutStopSec")[0]), drain + 10)
        needed = default["max_connections"] + 2 * (default["max_in_flight"] + default["max_passing"]) + 256
        self.assertGreaterEqual(int(setting("LimitNOFILE")[0]), needed)

    def configure(self):
        """What the package installs, for this folder, with one key whose secret is a credential."""
        port, self.admin = free_port(), free_port()
        config = (PACKAGES / "saltgate.toml").read_text()
        config = config.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace("127.0.0.1:9901", f"127.0.0.1:{self.admin}")
        config = config.replace("/var/lib/saltgate", str(self.folder / "state")).replace("/run/saltgate", str(self.folder))
        (self.folder / "saltgate.toml").write_text(config)
        keys = (PACKAGES / "keys.toml").read_text()
        key = keys[keys.index("# [[key]]"):]
        (self.folder / "keys.toml").write_text(keys.replace(key, key.replace("# ", "")))
        (self.folder / "credentials").mkdir()
        (self.folder / "credentials" / "crm_key_1").write_text("0123456789abcdef\n")
        return {**os.environ, "CREDENTIALS_DIRECTORY": str(self.folder / "credentials")}

    def test_a_credential_is_a_secret(self):
        environment = self.configure()
        check = [SALTGATE, "check", "--config", self.folder / "saltgate.toml"]
        checked = subprocess.run(check, env=environment, capture_output=True, text=True)
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))
        del environment["CREDENTIALS_DIRECTORY"]
        checked = subprocess.run(check, env=environment, capture_output=True, text=True)
        self.assertEqual(checked.returncode, 78)
        self.assertIn("names ${CREDENTIALS_DIRECTORY}, which is not set in the environment", checked.stderr)

    def test_a_credential_that_is_missing_or_empty_is_told_of(self):
        environment = self.configure()
        check = [SALTGATE, "check", "--config", self.folder / "saltgate.toml"]
        secret = self.folder / "credentials" / "crm_key_1"
        for change, told in [(lambda: secret.write_text(""), "crm_key_1"), (secret.unlink, "No such file or directory")]:
            change()
            checked = subprocess.run(check, env=environment, capture_output=True, text=True)
            self.assertEqual(checked.returncode, 78, checked.stdout)
            self.assertIn(told, checked.stderr)

    def test_it_serves_with_the_system_calls_that_are_left(self):
        environment = self.configure()
        command = [sys.executable, "-c", FILTERED, SALTGATE, "serve", "--config", str(self.folder / "saltgate.toml")]
        with open(self.folder / "log", "w+") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            self.addCleanup(process.kill)
            end = time.monotonic() + 60
            while not self.is_ready():
                said = (self.folder / "log").read_text()
                self.assertIsNone(process.poll(), said)
                self.assertLess(time.monotonic(), end, said)
                time.sleep(0.05)
            reloaded = subprocess.run([SALTGATE, "reload", "--config", self.folder / "saltgate.toml"], env=environment,
                                      capture_output=True, text=True)
            self.assertEqual(reloaded.returncode, 0, reloaded.stderr)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(timeout=60), 0, (self.folder / "log").read_text())

    def is_ready(self):
        probe = [SALTGATE, "probe", "ready", "--config", self.folder / "saltgate.toml"]
        return subprocess.run(probe, capture_output=True).returncode == 0


if __name__ == "__main__":
    unittest.main()
