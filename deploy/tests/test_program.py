"""The real program takes the configuration of every rendering, on volumes as kubelet makes them, as a user whom no file names and
without a place to write besides its volumes. SALTGATE is its path."""
import contextlib
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import time
import tomllib
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import grace
from mounts import Container
from rendering import configuration, gate, workloads

PROGRAM = os.environ.get("SALTGATE")
CONNECTIONS = 800  # soon opened, and enough to see what one takes


def answer(url):
    """The status, or None where nobody answers yet."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def until(what, process, log):
    """Waits for `what` to be true, as long as the process runs."""
    limit = time.monotonic() + 30
    while not what():
        if process.poll() is not None or time.monotonic() > limit:
            raise AssertionError(f"exit status {process.poll()}: {log.read_text()}")
        time.sleep(0.02)


def memory(process):
    """The most that it had so far, in MiB."""
    (line,) = [line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def connections_that_were_read(port):
    """How many established connections to this port have nothing left that the gate has not read."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[1] == f"0100007F:{port:04X}" and line[3] == "01" and line[4].endswith(":00000000") for line in lines)


class Program(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not PROGRAM or not os.access(PROGRAM, os.X_OK):
            raise AssertionError(f"SALTGATE must be the path of a built program, and is {PROGRAM}: deploy/tests/run sets it")
        # Where any user may run it, wherever it was built.
        cls.folder = Path(tempfile.mkdtemp())
        cls.folder.chmod(0o755)
        shutil.copy(PROGRAM, cls.folder / "saltgate")
        os.environ["SALTGATE"] = str(cls.folder / "saltgate")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.addClassCleanup(os.environ.__setitem__, "SALTGATE", PROGRAM)

    def container(self, objects, workload):
        return Container(tempfile.mkdtemp(dir=self.folder), objects, workload)

    def check(self, container):
        command, options = container.program("check", "--config", str(container.config))
        return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)

    def named(self, wanted):
        return next((objects, workload) for name, objects, workload in workloads() if name == wanted)

    def test_it_accepts_every_configuration(self):
        seen = {}
        for name, objects, workload in workloads():
            with self.subTest(name):
                done = self.check(self.container(objects, workload))
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("the configuration is sound", done.stdout)
                seen[name] = done.stderr
        self.assertGreaterEqual(len(seen), 15)
        # The only warning that is meant: a journal in a pod is for one gate.
        self.assertEqual({name for name, text in seen.items() if text}, {"overlays/journal"}, seen)
        self.assertIn("replay.journal: protects one process", seen["overlays/journal"])

    def test_it_refuses_a_secret_without_keys_and_a_variable_that_is_not_set(self):
        container = self.container(*self.named("plain"))
        del container.environment["REDIS_URL"]
        done = self.check(container)
        self.assertEqual(done.returncode, 78)
        self.assertIn("REDIS_URL", done.stderr)

        container = self.container(*self.named("plain"))
        (container.inside("/etc/saltgate/keys") / "..data").unlink()
        done = self.check(container)
        self.assertEqual(done.returncode, 78)
        self.assertIn("keys.toml", done.stderr)

    def start(self, container):
        log = container.root / "log"
        command, options = container.program("serve", "--config", str(container.config))
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, **options)
        self.addCleanup(lambda: (process.kill(), process.wait()))
        return process, log

    def served(self, name):
        """Starts the gate of a rendering, and sees it alive and not ready."""
        container = self.container(*self.named(name))
        process, log = self.start(container)
        admin = f"http://127.0.0.1:{container.ports[9901]}"
        until(lambda: answer(f"{admin}/live") == 200, process, log)
        self.assertEqual(answer(f"{admin}/ready"), 503, log.read_text())
        return container, process, log

    def test_a_gate_whose_redis_is_away_is_alive_and_not_ready(self):
        # So the startup probe is on /live: on /ready it would keep the service from starting.
        for name in ("plain", "openshift-sidecar", "overlays/openshift"):
            with self.subTest(name):
                container, process, log = self.served(name)
                until(lambda: container.inside("/run/saltgate/control.sock").is_socket(), process, log)
                self.written(container)

    def test_a_gate_with_a_new_journal_is_alive_and_behind_the_fence(self):
        container, process, log = self.served("overlays/journal")
        self.assertTrue(container.inside("/var/lib/saltgate/replay/state.json").is_file())
        self.written(container)
        # The claim comes back, to a pod with another user of OpenShift's or the same one: here the same.
        process.kill()
        process.wait()
        process, log = self.start(container)
        until(lambda: answer(f"http://127.0.0.1:{container.ports[9901]}/live") == 200, process, log)

    def test_the_pre_stop_command_drains_a_gate_and_sigterm_then_ends_it_at_once(self):
        container, process, log = self.served("plain")
        control = container.inside("/run/saltgate/control.sock")
        until(control.is_socket, process, log)
        workload = self.named("plain")[1]
        program, *arguments = gate(workload)["lifecycle"]["preStop"]["exec"]["command"]
        self.assertEqual(program, gate(workload)["command"][0])
        # In the container the socket is where the command looks by default.
        command, options = container.program(*arguments, "--socket", str(control))
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
        took = time.monotonic() - began
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + log.read_text())
        self.assertLess(took, grace.wait(gate(workload)))
        self.assertGreaterEqual(took, 5, "drain_delay")
        self.assertIsNone(process.poll(), "it stays until SIGTERM")
        process.terminate()
        self.assertEqual(process.wait(timeout=grace.SLACK), 0, log.read_text())

    def test_strangers_who_fill_every_connection_stay_within_the_memory_of_the_container(self):
        openings = {"heads": b"GET / HTTP/1.1\r\nX: " + b"a" * 15_000, "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"}
        for kind, opening in openings.items():
            container, process, log = self.served("plain")
            before = memory(process)
            each = (self.filled(container.ports[8080], process, log, opening) - before) / CONNECTIONS
            for name in ("plain", "edge"):
                objects, workload = self.named(name)
                most = tomllib.loads(configuration(objects))["limits"].get("max_connections", 10_000)
                allowed = gate(workload)["resources"]["limits"]["memory"]
                self.assertTrue(allowed.endswith("Mi"))
                with self.subTest(name=name, opening=kind):
                    # The other half is for callers, their bodies, and log lines that nobody reads.
                    self.assertLess(before + most * each, int(allowed[:-2]) / 2)

    def filled(self, port, process, log, opening):
        """Opens connections, sends this on each, and tells how much memory the gate had once it had read all of it."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * CONNECTIONS), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with contextlib.ExitStack() as opened:
            for _ in range(CONNECTIONS):
                opened.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(opening)
            until(lambda: connections_that_were_read(port) >= CONNECTIONS, process, log)
            return memory(process)

    def written(self, container):
        """Everything that the gate made lies on the volumes that may be written."""
        volumes = [container.inside(path) for path in ("/var/lib/saltgate", "/run/saltgate")]
        made = [path for volume in volumes for path in volume.rglob("*")]
        self.assertTrue(made)
        for path in container.root.rglob("*"):
            if path.lstat().st_uid != os.getuid():
                self.assertTrue(any(volume in path.parents for volume in volumes), path)


if __name__ == "__main__":
    unittest.main()
