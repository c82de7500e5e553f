"""The compared programs: their configurations, starting, checking and stopping them."""
import base64
import contextlib
import ctypes
import dataclasses
import datetime
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import random
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

from .machine import BENCH, Fault, family, say

ROUTE = "/crm-core/v1/segments/"
REFUSED = '{"errorCode":"Unauthorized","errorMessage":"권한이 없습니다."}'
HOST = "127.0.0.1"
PRCTL = ctypes.CDLL(None).prctl


@dataclasses.dataclass(frozen=True)
class Series:
    """One row of a table."""
    name: str
    label: str
    product: str                 # saltgate, haproxy, nginx, floor
    checks: bool = True          # else it only forwards
    tls: bool = False
    store: str = "memory"
    record: bool = False
    ownership: str = "delegate"
    workers: int = 1
    keys: int = 1000
    reload: bool = False         # a SIGHUP every second
    quiet: bool = False          # no log line for successful requests
    io: str = "epoll"
    unix: bool = False           # a Unix socket to the service
    closes: bool = False         # a refusal closes the connection; HAProxy and nginx refuse everything


class Peer:
    """A running process and all its descendants."""

    def __init__(self, series, directory, process, port, admin, keys):
        self.series, self.directory, self.process = series, directory, process
        self.port, self.admin, self.keys = port, admin, keys

    def pids(self):
        if self.process.poll() is not None:
            raise Fault(f"{self.series.name} ended with status {self.process.returncode}: {self.log_end()}")
        return family(self.process.pid)

    def log_end(self):
        with contextlib.suppress(OSError):
            return (self.directory / "log").read_bytes()[-1500:].decode(errors="replace")
        return ""

    def admin_get(self, path):
        """Status and body from the admin listener; status 0 if nothing listens yet."""
        connection = http.client.HTTPConnection(HOST, self.admin, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def metric(self, name):
        body = self.admin_get("/metrics")[1]
        return sum(float(line.rsplit(" ", 1)[1]) for line in body.splitlines() if line.split("{")[0].split(" ")[0] == name)


def free_port():
    """A free port below those that the kernel uses for connections, so that none takes it before the peer does."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise Fault("no port is free between 20000 and 32000")


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def spawn(command, cpus, **options):
    """Starts a process on `cpus` only, in its own session (this script handles Ctrl-C). It ends when this script ends,
    however that happens."""
    def bind():
        os.sched_setaffinity(0, cpus)
        PRCTL(1, signal.SIGTERM)    # PR_SET_PDEATHSIG

    return subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, start_new_session=True,
                            preexec_fn=bind, **options)


def spawn_logged(command, cpus, log):
    with open(log, "wb") as file:
        return spawn(command, cpus, stdout=file, stderr=file)


def end(process):
    """Sends TERM; after five seconds KILL to the process and its descendants (they share a session)."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Field:
    """What must exist before a peer starts: keys, a certificate, an upstream, and a folder."""

    def __init__(self, place, saltgate, load, upstream, load_cpus):
        self.saltgate, self.load = saltgate, load
        place.mkdir(parents=True, exist_ok=True)
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=place))
        self.directory.chmod(0o755)
        self.upstream = self._database = None
        self.load_cpus = load_cpus
        try:
            self.keys = {}
            for count in (1000, 100_000):
                keys = [(f"NCS{secrets.token_hex(7)[:13].upper()}", secrets.token_hex(16)) for _ in range(count)]
                self.keys[count] = self._write_keys(count, dict(keys))
            self._certificate()
            self.upstream_port, self.upstream_path = free_port(), self.directory / "upstream.sock"
            command = [upstream, self.upstream_port, self.upstream_path]
            self.upstream = spawn_logged(command, load_cpus, self.directory / "upstream.log")
            wait(lambda: listens(self.upstream_port), self.upstream, "the upstream")
            # nginx's worker has another user.
            self.upstream_path.chmod(0o666)
        except BaseException:
            self.close()
            raise

    def database(self):
        """The PostgreSQL server, started for the first series that asks it."""
        if not self._database:
            from .database import Database    # which needs this module
            self._database = Database(self.load_cpus)
        return self._database

    def close(self):
        if self._database:
            self._database.close()
        if self.upstream:
            end(self.upstream)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _write_keys(self, count, keys):
        place = self.directory / str(count)
        place.mkdir()
        (place / "keys.csv").write_text("".join(f"{key},{secret},OWNER\n" for key, secret in keys.items()))
        (place / "keys.toml").write_text("".join(
            f'[[key]]\napi_key = "{key}"\nsecret = "{secret}"\naccount = "account-1"\nmember = "member-{number}"\n'
            'role = "OWNER"\n' for number, (key, secret) in enumerate(keys.items())))
        (place / "secrets.map").write_text("".join(
            f"{key} {base64.b64encode(secret.encode()).decode()}\n" for key, secret in keys.items()))
        (place / "roles.map").write_text("".join(f"{key} OWNER\n" for key in keys))
        (place / "401.json").write_text(REFUSED)
        return list(keys.items())[0]

    def _certificate(self):
        """One self-signed certificate for all: P-256."""
        settings = self.directory / "openssl.cnf"
        settings.write_text("[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = end\n[name]\nCN = localhost\n"
                            "[end]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = DNS:localhost, IP:127.0.0.1\n")
        self.certificate, self.key = self.directory / "gate.pem", self.directory / "gate.key"
        made = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                               "-days", "2", "-config", settings, "-keyout", self.key, "-out", self.certificate],
                              capture_output=True, text=True)
        if made.returncode != 0:
            raise Fault(f"openssl made no certificate: {made.stderr}")
        (self.directory / "both.pem").write_text(self.certificate.read_text() + self.key.read_text())

    def _configure(self, series, directory, port, admin):
        """Writes the configuration and returns the command that runs it."""
        keys = self.directory / str(series.keys)
        if series.product == "saltgate":
            file = directory / "saltgate.toml"
            file.write_text(self._saltgate(series, directory, port, admin))
            return [self.saltgate, "serve", "--config", file]
        if series.product == "floor":
            return [self.load.with_name("compare-floor"), port, self.upstream_path if series.unix else self.upstream_port]
        name = series.product + ("-refuses" if series.closes else "-checks" if series.checks else "")
        if series.product == "haproxy":
            tls = f" ssl crt {self.directory}/both.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3" if series.tls else ""
            file, words = directory / "haproxy.cfg", {"LISTEN": f"{HOST}:{port}{tls}"}
            template = BENCH / "peers" / f"{name}.cfg"
            command = ["haproxy", "-f", file, "-db"]
        else:
            tls = (f"ssl_certificate {self.certificate}; ssl_certificate_key {self.key}; ssl_protocols TLSv1.3;"
                   if series.tls else "")
            words = {"LISTEN": f"{HOST}:{port}{' ssl http2' if series.tls else ''}", "TLS": tls}
            file, template = directory / "nginx.conf", BENCH / "peers" / f"{name}.conf"
            command = ["nginx", "-e", directory / "log", "-c", file]
        text = template.read_text()
        path = f"unix{'@' if series.product == 'haproxy' else ':'}{self.upstream_path}"
        service = path if series.unix else f"{HOST}:{self.upstream_port}"
        for word, value in {**words, "UPSTREAM": service, "RUN": directory, "KEYS": keys, "PEERS": BENCH / "peers"}.items():
            text = text.replace(f"@{word}@", str(value))
        file.write_text(text)
        return command

    def _saltgate(self, series, directory, port, admin):
        stores = {"memory": "[replay.memory]", "journal": f'[replay.journal]\npath = "{directory}/replay"'}
        ownerships = {"delegate": lambda: "[ownership.delegate]",
                      "upstream": lambda: '[ownership.upstream]\naccount = "/accountId"\ncreator = "/ownerId"',
                      "postgres": lambda: self.database().ownership}
        record = f'path = "{directory}/record"\nsync = "os"' if series.record else "danger_no_record = true"
        log = "[log]\nsuccesses = false" if series.quiet else ""
        tls = (f'[listener.tls]\ncertificates = [{{ chain = "{self.certificate}", key = "{self.key}" }}]\n'
               if series.tls else "")
        return f"""[[listener]]
address = "{HOST}:{port}"
keep_alive = "{"accepted" if series.closes else "always"}"
{tls}[admin]
address = "{HOST}:{admin}"
[runtime]
workers = {series.workers}
io = "{series.io}"
{stores[series.store]}
when_new = "accept"
max_salts = 4_000_000
max_salts_per_key = 250_000
[directory.file]
path = "{self.directory}/{series.keys}/keys.toml"
{ownerships[series.ownership]()}
[upstream]
servers = ["{f"unix:{self.upstream_path}" if series.unix else f"http://{HOST}:{self.upstream_port}"}"]
[audit]
{record}
{log}
[limits]
failed_signatures_per_client = "100000/second"
spent_per_key = "100000/second"
"""

    @contextlib.contextmanager
    def peer(self, series, cpus, ready=True):
        """The peer of a series, started and (unless `ready` is False) ready; always stopped at the end."""
        directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{series.name}-", dir=self.directory))
        directory.chmod(0o755)
        port = admin = free_port()
        while admin == port:
            admin = free_port()
        process = spawn_logged(self._configure(series, directory, port, admin), cpus, directory / "log")
        peer = Peer(series, directory, process, port, admin, self.directory / str(series.keys) / "keys.csv")
        try:
            if ready:
                is_ready = lambda: peer.admin_get("/ready")[0] == 200 if series.product == "saltgate" else listens(port)
                wait(is_ready, process, series.name, peer.log_end)
            yield peer
        finally:
            end(process)
            shutil.rmtree(directory, ignore_errors=True)

    def drive(self, peer, cpus, *arguments):
        """Puts load on a peer and returns the measurement."""
        command = [self.load, "--target", f"{HOST}:{peer.port}", "--keys", peer.keys, "--connections", 32,
                   "--pids", ",".join(map(str, peer.pids()))]
        # A later option replaces an earlier one.
        process = spawn([*command, *arguments], cpus, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            told, fault = process.communicate(timeout=900)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode != 0:
            raise Fault(f"{peer.series.name}: {fault.strip()}\n{peer.log_end()}")
        return json.loads(told)

    def verify(self, series, cpus):
        """Checks that a checking peer passes valid requests and refuses others, and that a plain one passes everything."""
        with self.peer(series, cpus) as peer:
            sign = lambda *words, **wrong: self._header(self.keys[series.keys], *words, **wrong)
            good = sign()
            asked = [("a good request", good, 200)]
            if series.closes and series.product != "saltgate":
                asked = [("any request", good, 401)]
            elif series.checks:
                asked += [("the same header again", good, 401), ("a wrong signature", sign(bad=True), 401),
                          ("an unknown key", sign(unknown=True), 401), ("a date of 20 minutes ago", sign(-1200), 401),
                          ("a date of 20 minutes ahead", sign(1200), 401), ("no header", None, 401)]
            else:
                asked += [("no header", None, 200)]
            for what, header, expected in asked:
                status, body = self._ask(peer, header)
                right = '{"segmentId":"sg-verify"}' if expected == 200 else REFUSED
                if status != expected or body != right:
                    raise Fault(f"{series.name} answered {what} with {status} {body!r}; expected {expected} {right!r}\n{peer.log_end()}")
        say(f"  {series.name}: {len(asked)} answers are as they must be")

    @staticmethod
    def _header(holder, seconds=0, bad=False, unknown=False):
        key, secret = holder
        date = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
        date, salt = date.strftime("%Y-%m-%dT%H:%M:%S.") + f"{date.microsecond // 1000:03d}Z", secrets.token_hex(16)
        signature = hmac.new(secret.encode(), (date + salt).encode(), hashlib.sha256).hexdigest()
        if bad:
            signature = signature[:-1] + ("0" if signature[-1] != "0" else "1")
        return f"HMAC-SHA256 apiKey={'NCX0000000000000' if unknown else key}, date={date}, salt={salt}, signature={signature}"

    def _ask(self, peer, header):
        if peer.series.tls:
            trust = ssl.create_default_context(cafile=self.certificate)
            connection = http.client.HTTPSConnection("localhost", peer.port, timeout=5, context=trust)
        else:
            connection = http.client.HTTPConnection(HOST, peer.port, timeout=5)
        try:
            connection.request("DELETE", ROUTE + "sg-verify", headers={"Authorization": header} if header else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


def wait(condition, process, name, log=lambda: "", pause=0.01):
    """Waits until a condition holds, at most thirty seconds and while the process lives."""
    until = time.monotonic() + 30
    while not condition():
        if process.poll() is not None:
            raise Fault(f"{name} did not start (status {process.returncode}): {log()}")
        if time.monotonic() > until:
            raise Fault(f"{name} is not ready after 30 s: {log()}")
        time.sleep(pause)
