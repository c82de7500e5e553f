"""The phases. Each returns {series: [a measurement for each round]}."""
import contextlib
import random
import signal
import statistics
import threading
import time

from .machine import Fault, Others, forget_pages, resident, say
from .peers import Series, wait

NOISE = 0.15       # if other processes use more CPUs than this, a measurement is repeated
ATTEMPTS = 3
PLAIN = ("haproxy", "nginx")

SALTGATE = Series("saltgate", "Saltgate: every check, metrics, a JSON log", "saltgate")
HAPROXY = Series("haproxy", "HAProxy, plain", "haproxy", checks=False)
NGINX = Series("nginx", "nginx, plain", "nginx", checks=False)
HAPROXY_CHECKS = Series("haproxy-checks", "HAProxy with the checks it can do", "haproxy")
NGINX_CHECKS = Series("nginx-checks", "nginx with the checks in Lua", "nginx")
DELETE = [
    SALTGATE,
    Series("saltgate-quiet", "Saltgate, lines of refusals only", "saltgate", quiet=True),
    Series("saltgate-uring", "Saltgate, lines of refusals only, sockets on io_uring", "saltgate", quiet=True, io="uring"),
    Series("saltgate-journal", "Saltgate, salts in a journal", "saltgate", store="journal"),
    Series("saltgate-record", 'Saltgate, a record (`sync = "os"`)', "saltgate", record=True),
    Series("saltgate-ownership", "Saltgate, owner asked upstream: two exchanges", "saltgate", ownership="upstream"),
    HAPROXY, NGINX, HAPROXY_CHECKS, NGINX_CHECKS,
    Series("floor", "a loop that copies bytes (epoll)", "floor", checks=False),
]
UNIX = [
    Series("saltgate-unix", "Saltgate, lines of refusals only", "saltgate", quiet=True, unix=True),
    Series("saltgate-unix-uring", "Saltgate, lines of refusals only, sockets on io_uring", "saltgate", quiet=True, unix=True, io="uring"),
    Series("haproxy-unix", "HAProxy, plain", "haproxy", checks=False, unix=True),
    Series("nginx-unix", "nginx, plain", "nginx", checks=False, unix=True),
    Series("floor-unix", "a loop that copies bytes (epoll)", "floor", checks=False, unix=True),
]
OWNERSHIP = [
    SALTGATE,
    next(one for one in DELETE if one.ownership == "upstream"),
    Series("saltgate-ownership-postgres", "Saltgate, owner asked of PostgreSQL", "saltgate", ownership="postgres"),
]
RELOADING = Series("saltgate-reload", "Saltgate, a SIGHUP every second", "saltgate", reload=True)
LATENCY = [SALTGATE, RELOADING, HAPROXY, NGINX, HAPROXY_CHECKS, NGINX_CHECKS]
TLS = [
    Series("saltgate-tls", "Saltgate: every check", "saltgate", tls=True),
    Series("haproxy-tls", "HAProxy, plain", "haproxy", checks=False, tls=True),
    Series("nginx-tls", "nginx, plain", "nginx", checks=False, tls=True),
]
WORKERS = [SALTGATE, Series("saltgate-2-workers", "Saltgate, 2 workers", "saltgate", workers=2)]
MEMORY = [
    Series("saltgate", "salts in memory", "saltgate"),
    Series("saltgate-journal", "salts in a journal", "saltgate", store="journal"),
]
START = [SALTGATE, Series("saltgate-100000-keys", "Saltgate, 100 000 keys", "saltgate", keys=100_000)]
REFUSALS = {"accepted": "good", "bad signature": "bad-signature", "unknown key": "unknown-key",
            "date of 20 minutes ago": "stale-date", "replayed salt": "replayed"}
CLOSING = [
    Series("saltgate-closes", "Saltgate: unknown key", "saltgate", closes=True),
    Series("nginx-closes", "nginx, refuses everything", "nginx", closes=True),
]
PHASES = ("delete", "unix", "ownership", "refused", "closing", "latency", "tls", "h2", "workers", "memory")


class Bench:
    """One run: its options, where it runs, and its results."""

    def __init__(self, field, options, cpus):
        self.field, self.options = field, options
        self.gate_cpus, self.load_cpus = {cpus[0]}, {cpus[1]}
        # The workers phase uses the first two CPUs for the gateway, and the last for its load.
        self.cpus = cpus
        self.noisy = self.runs = 0
        self.patience = options.patience
        self.found = {}

    def chosen(self, series):
        only = self.options.only
        return [one for one in series if not only or one.product in only or one.name in only]

    def verify(self):
        wanted = {"delete": DELETE, "unix": UNIX, "ownership": OWNERSHIP, "refused": [SALTGATE], "closing": CLOSING, "latency": LATENCY, "tls": TLS, "h2": TLS, "workers": WORKERS,
                  "memory": MEMORY + START}
        series = {one.name: one for phase in self.options.phases for one in self.chosen(wanted[phase])}
        say("verifying")
        for one in series.values():
            self.field.verify(one, self.gate_cpus)

    def run(self):
        for phase in self.options.phases:
            say(f"{phase}:")
            found = getattr(self, phase)()
            if found:
                self.found[phase] = found

    def delete(self):
        return self.bursts(DELETE)

    def unix(self):
        return self.bursts(UNIX)

    def closing(self):
        """A refusal that closes its connection: each request opens one."""
        return self.bursts(CLOSING, "--kind", "unknown-key", "--expect", 401)

    def ownership(self):
        """What a look-up adds to a deletion, asked of the service and asked of PostgreSQL."""
        return self.bursts(OWNERSHIP)

    def refused(self):
        if not self.chosen([SALTGATE]):
            return None
        found = {what: [] for what in REFUSALS}
        with self.field.peer(SALTGATE, self.gate_cpus) as peer:
            for _ in range(self.options.rounds):
                for what in self.shuffled(REFUSALS):
                    expect = 200 if what == "accepted" else 401
                    found[what].append(self.burst(peer, "--kind", REFUSALS[what], "--expect", expect, note=what))
        return found

    def latency(self):
        series = self.chosen(LATENCY)
        most = self.found.get("delete") or {}
        rates = {}
        for one in series:
            if not one.reload:
                known = most.get(one.name) or [self.measure(one, note="saturation")]
                rates[one.name] = 1e6 / statistics.median(found["cpu_us"] for found in known)
        if not rates:
            return None
        slowest = min(rates, key=rates.get)
        rate = self.options.rate or round(rates[slowest] / 2, -2)
        say(f"  {rate:.0f} requests a second, half of what a core can with {slowest}")
        found = self.rounds(series, "--rate", rate, seconds=2 * self.options.secs)
        return {"rate": rate, "slowest": slowest, "series": found}

    def tls(self):
        return self.bursts(TLS, "--transport", "tls", "--ca", self.field.certificate)

    def h2(self):
        return self.bursts(TLS, "--transport", "h2", "--ca", self.field.certificate, "--connections", 4, "--streams", 8)

    def workers(self):
        load = {self.cpus[-1]}
        found = {}
        for number in range(self.options.rounds):
            for one in self.order(self.chosen(WORKERS), number):
                gate = set(self.cpus[:one.workers])
                found.setdefault(one.name, []).append(self.measure(one, gate=gate, load=load))
        return found

    def memory(self):
        """Resident memory before and after a million salts, the time of a start, and the size of the program."""
        if not self.chosen([SALTGATE]):
            return None
        forget_pages(self.field.saltgate)
        stores = {}
        for series in MEMORY:
            with self.field.peer(series, self.gate_cpus) as peer:
                idle = resident(peer.process.pid)
                self.field.drive(peer, self.load_cpus, "--requests", self.options.salts)
                salts = peer.metric("saltgate_replay_salts")
                if salts < self.options.salts:
                    raise Fault(f"{series.name} holds {salts:.0f} salts, of {self.options.salts} that were spent")
                full = resident(peer.process.pid)
                stores[series.name] = {"idle_mib": idle, "full_mib": full, "salts": salts}
                say(f"  {series.name}: {idle:.1f} MiB idle, {full:.1f} MiB with {salts:.0f} salts")
        starts = {}
        for number in range(self.options.rounds):
            for series in self.order(START, number):
                begin = time.perf_counter()
                with self.field.peer(series, self.gate_cpus, ready=False) as peer:
                    ready = lambda: peer.admin_get("/ready")[0] == 200
                    wait(ready, peer.process, series.name, peer.log_end, pause=0.0005)
                    took = time.perf_counter() - begin
                    starts.setdefault(series.name, []).append({"seconds": took, "idle_mib": resident(peer.process.pid)})
                    say(f"  {series.name}: ready after {took * 1e3:.0f} ms")
        return {"stores": stores, "starts": starts, "program_bytes": self.field.saltgate.stat().st_size,
                "built_here": not self.options.saltgate}

    def bursts(self, series, *arguments):
        """All series are up at once. Each gets a burst of load once a round, in random order, so that what happens on the machine
        within seconds meets all of them alike."""
        found = {}
        with contextlib.ExitStack() as up:
            peers = [up.enter_context(self.field.peer(one, self.gate_cpus)) for one in self.chosen(series)]
            for _ in range(self.options.rounds):
                for peer in self.shuffled(peers):
                    found.setdefault(peer.series.name, []).append(self.burst(peer, *arguments))
        return {one.name: found[one.name] for one in self.chosen(series)} if found else {}

    @staticmethod
    def shuffled(these):
        return random.sample(list(these), len(these))

    def burst(self, peer, *arguments, note=""):
        others = Others(peer.pids() + [self.field.upstream.pid])
        found = self.field.drive(peer, self.load_cpus, "--warmup", 0.2, "--seconds", self.options.burst, *arguments)
        found["others"] = round(others.cpus(), 3)
        if peer.series.product == "saltgate":
            found["log_lines_dropped"] = peer.metric("saltgate_log_dropped_total")
        say(f"  {peer.series.name} {note}: {found['cpu_us']:.2f} µs, {found['rate']:.0f}/s, CPU {found['cpu_share']:.2f}, others {found['others']:.2f}")
        self.runs += 1
        self.noisy += found["others"] > NOISE
        return found

    def rounds(self, series, *arguments, seconds=None):
        """Every series once a round, in reverse order every other round."""
        found = {}
        for number in range(self.options.rounds):
            for one in self.order(self.chosen(series), number):
                found.setdefault(one.name, []).append(self.measure(one, *arguments, seconds=seconds))
        return found

    @staticmethod
    def order(these, number):
        return these if number % 2 == 0 else these[::-1]

    def measure(self, series, *arguments, seconds=None, gate=None, load=None, note=""):
        """Starts a peer and puts load on it. Repeats this at most twice if others use the CPUs; the quietest attempt counts."""
        quietest = None
        for _ in range(ATTEMPTS):
            with self.field.peer(series, gate or self.gate_cpus) as peer:
                others = Others(peer.pids() + [self.field.upstream.pid])
                seconds = seconds or self.options.secs
                with Reloads(peer, series.reload):
                    found = self.field.drive(peer, load or self.load_cpus, "--seconds", seconds, *arguments)
                found["others"] = round(others.cpus(), 3)
                if series.product == "saltgate":
                    found["log_lines_dropped"] = peer.metric("saltgate_log_dropped_total")
            say(f"  {series.name} {note}: {found['cpu_us']:.2f} µs, {found['rate']:.0f}/s, CPU {found['cpu_share']:.2f}, "
                f"p50 {found['p50_us']:.0f} µs, p99 {found['p99_us']:.0f} µs, others {found['others']:.2f}")
            if quietest is None or found["others"] < quietest["others"]:
                quietest = found
            if quietest["others"] <= NOISE:
                break
            self.await_quiet()
        self.runs += 1
        self.noisy += quietest["others"] > NOISE
        return quietest

    def await_quiet(self):
        """Waits until others leave the CPUs, for at most the rest of --patience."""
        while self.patience > 0:
            others, begin = Others([self.field.upstream.pid]), time.monotonic()
            time.sleep(0.5)
            if others.cpus() <= NOISE / 2:
                return
            self.patience -= time.monotonic() - begin


class Reloads:
    """Sends a SIGHUP every second, each of which must be applied."""

    def __init__(self, peer, wanted):
        self.peer, self.sent, self.over = peer, 0, threading.Event()
        self.thread = threading.Thread(target=self._send, daemon=True) if wanted else None

    def _send(self):
        while not self.over.wait(1):
            self.peer.process.send_signal(signal.SIGHUP)
            self.sent += 1

    def _taken(self):
        return (self.peer.directory / "log").read_bytes().count(b'"reloaded"')

    def __enter__(self):
        if self.thread:
            self.thread.start()

    def __exit__(self, fault, *_):
        self.over.set()
        if not self.thread:
            return
        self.thread.join()
        if fault:
            return
        if self.sent == 0:
            raise Fault("the run was too short for a reload: --secs 2 or more")
        wait(lambda: self._taken() >= self.sent, self.peer.process, f"{self.sent} reloads")
