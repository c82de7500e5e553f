"""The machine: required packages, builds, a description of it, and the load of other processes."""
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys

BENCH = pathlib.Path(__file__).resolve().parent.parent
REPOSITORY = BENCH.parent
PACKAGES = {"haproxy": "haproxy", "nginx": "nginx-light", "jq": "jq", "openssl": "openssl"}
LUA = {"/usr/lib/nginx/modules/ngx_http_lua_module.so": "libnginx-mod-http-lua",
       "/usr/share/lua/5.1/resty/core.lua": "lua-resty-core"}
TICK = os.sysconf("SC_CLK_TCK")


class Fault(Exception):
    """Why measuring is impossible, or a measurement is not valid."""


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def require(programs=PACKAGES, files=LUA):
    """Installs missing packages if possible; otherwise names the command."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [package for program, package in programs.items() if not shutil.which(program)]
    missing += [package for file, package in files.items() if not os.path.exists(file)]
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Fault(f"missing: {' '.join(missing)}; install them, on Debian with: sudo {' '.join(command)}")
    say("installing", *missing)
    # A policy that denies, so that installing does not start the system's haproxy or nginx.
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=environment, stdout=sys.stderr, check=True, timeout=600)
        subprocess.run(command, env=environment, stdout=sys.stderr, check=True, timeout=900)
    except subprocess.SubprocessError as error:
        raise Fault(f"could not install them: {error}") from error
    finally:
        if ours:
            policy.unlink()


def cargo(directory, *arguments, **environment):
    """Builds a release and returns the folder of its programs."""
    say("building in", directory)
    command = ["cargo", "build", "--release", "--locked", *arguments]
    environment = {**os.environ, **environment}
    if subprocess.run(command, cwd=directory, stdout=sys.stderr, env=environment).returncode != 0:
        raise Fault(f"{' '.join(command)} failed in {directory}")
    return target(directory, environment) / "release"


def target(directory, environment=None):
    """Cargo's target folder."""
    told = subprocess.run(["cargo", "metadata", "--format-version=1", "--no-deps", "--locked"], cwd=directory,
                          capture_output=True, text=True, check=True, env=environment).stdout
    return pathlib.Path(json.loads(told)["target_directory"])


def tools():
    """The load generator and the upstream."""
    built = cargo(BENCH)
    return built / "compare-load", built / "compare-upstream"


def told(*command):
    """The output of a command, or that it is not known."""
    try:
        run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "of an unknown commit" if command[0] == "git" else "unknown"
    return (run.stdout + run.stderr).strip()


def describe(saltgate, given):
    """The description of the machine that a README needs with a figure."""
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
                 os.uname().machine)
    version = told(saltgate, "--version").removeprefix("saltgate ")
    if given:
        version += " (a binary given by --saltgate)"
    else:
        changed = told("git", "status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock")
        version += f" ({told('git', 'rev-parse', '--short', 'HEAD')}{' and changes' if changed else ''})"
    system = dict(line.strip().split("=", 1) for line in open("/etc/os-release") if "=" in line)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": model,
        "cores": os.cpu_count(),
        "system": system.get("PRETTY_NAME", "").strip('"'),
        "kernel": os.uname().release,
        "haproxy": told("haproxy", "-v").removeprefix("HAProxy version ").split()[0],
        "nginx": told("nginx", "-v").rsplit("/", 1)[-1],
        "saltgate": version,
    }


def stat(pid):
    """The fields of /proc/PID/stat after the name."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()


def family(pid):
    """A process and all its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                children.setdefault(int(stat(entry)[1]), []).append(int(entry))
            except OSError:
                pass
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def cpu_seconds(pids):
    return sum(int(field) for pid in pids for field in stat(pid)[11:13]) / TICK


def resident(pid):
    """Resident memory, MiB."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) / 1024


def forget_pages(file):
    """Makes the kernel read a file from the disk at its next use. A file that was just written is in memory in larger
    pieces, and a process that touches one byte of a piece counts all of it as resident."""
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Others:
    """How many CPUs other processes use, from its creation on; without `pids`, this script's children, and stolen time."""

    def __init__(self, pids):
        self.pids = pids
        self.begin, self.busy, self.own = self._now()

    def _now(self):
        with open("/proc/stat") as file:
            user, nice, system, _, _, irq, soft, *_ = (int(field) for field in file.readline().split()[1:])
        times = os.times()
        own = cpu_seconds(self.pids) + times.user + times.system + times.children_user + times.children_system
        return times.elapsed, (user + nice + system + irq + soft) / TICK, own

    def cpus(self):
        now, busy, own = self._now()
        return max(0.0, (busy - self.busy - own + self.own) / (now - self.begin))
