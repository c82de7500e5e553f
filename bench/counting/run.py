"""A counted run: Saltgate under callgrind with one worker, and requests one after the other on one connection."""
import contextlib
import datetime
import hashlib
import hmac
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib

BENCH = pathlib.Path(__file__).resolve().parent.parent
REPOSITORY = BENCH.parent
HOST = "127.0.0.1"
PROFILE = "guard"
FEATURES = ["--no-default-features"]
FEWER, MORE = 500, 2500
KINDS = {"accepted": 200, "bad signature": 401}
KEYS = [(f"NCS{number:013d}", hashlib.sha256(b"key %d" % number).hexdigest()[:32]) for number in range(16)]
REFUSED = '{"errorCode":"Unauthorized","errorMessage":"권한이 없습니다."}'.encode()


class Fault(Exception):
    """Why counting is impossible, or a count is not valid."""


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def told(*command):
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if run.returncode != 0:
        raise Fault(f"{' '.join(command)}: {run.stderr.strip()}")
    return run.stdout.strip()


def require():
    if not shutil.which("valgrind"):
        raise Fault("valgrind is missing; install it, on Debian with: sudo apt-get install -y --no-install-recommends valgrind libc6-dbg")


def settings():
    """What a figure depends on besides the code: figures that differ in it cannot be compared."""
    profiles = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["profile"]
    profile = profiles.get("release", {}) | profiles[PROFILE]
    return {
        "rustc": told("rustc", "--version"),
        "profile": " ".join(f"{key}={str(profile[key]).lower()}" for key in sorted(profile)) + " " + " ".join(FEATURES),
        "machine": f"{os.uname().machine}-{os.uname().sysname}".lower(),
        "valgrind": told("valgrind", "--version"),
        "libc": " ".join(os.confstr("CS_GNU_LIBC_VERSION").split()),
    }


def build():
    say(f"building saltgate with the profile {PROFILE}")
    # Without the user's own flags, because the description of a figure does not contain them.
    unwanted = ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS")
    environment = {name: value for name, value in os.environ.items()
                   if name not in unwanted and not name.startswith("CARGO_PROFILE_")}
    command = ["cargo", "build", "--locked", "--profile", PROFILE, *FEATURES, "--bin", "saltgate"]
    if subprocess.run(command, cwd=REPOSITORY, stdout=sys.stderr, env=environment).returncode != 0:
        raise Fault(f"{' '.join(command)} failed")
    target = json.loads(told("cargo", "metadata", "--format-version=1", "--no-deps", "--locked"))["target_directory"]
    return pathlib.Path(target) / PROFILE / "saltgate"


class Upstream:
    """Answers a DELETE with the id in its path: one TCP segment sent for each received, so that all exchanges cost the same."""

    def __init__(self):
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        self.received = 0
        self.open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.open.append(connection)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection):
        received = b""
        with contextlib.suppress(OSError):
            while part := connection.recv(65536):
                received += part
                if not received.endswith(b"\r\n\r\n"):
                    continue
                segment = received.split(b" ", 2)[1].rsplit(b"/", 1)[1]
                self.received += 1
                received = b""
                body = b'{"segmentId":"' + segment + b'"}'
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def close(self):
        for one in [self.listener, *self.open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def configuration(place, upstream):
    """The configuration of bench/compare: salts in memory, the role checked, ownership left to the service, metrics, a JSON log."""
    (place / "keys.toml").write_text("".join(
        f'[[key]]\napi_key = "{key}"\nsecret = "{secret}"\naccount = "account-1"\nmember = "member-{number}"\nrole = "OWNER"\n'
        for number, (key, secret) in enumerate(KEYS)))
    (place / "saltgate.toml").write_text(f"""[[listener]]
address = "{HOST}:0"
keep_alive = "always"
[runtime]
workers = 1
[replay.memory]
when_new = "accept"
max_salts = 100_000
max_salts_per_key = 50_000
[directory.file]
path = "{place}/keys.toml"
[ownership.delegate]
[upstream]
servers = ["http://{HOST}:{upstream.port}"]
[audit]
danger_no_record = true
[limits]
failed_signatures_per_client = "100000/second"
spent_per_key = "100000/second"
""")
    return place / "saltgate.toml"


def request(kind, number):
    """Returns the same bytes for the same number in every run, except for the date and the signature."""
    key, secret = KEYS[number % len(KEYS)]
    now = datetime.datetime.now(datetime.timezone.utc)
    date = now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z"
    salt = hashlib.sha256(b"salt %d" % number).hexdigest()[:32]
    signature = hmac.new(secret.encode(), (date + salt).encode(), hashlib.sha256).hexdigest()
    if kind == "bad signature":
        signature = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    segment = f"sg-{number:012x}"
    head = (f"DELETE /crm-core/v1/segments/{segment} HTTP/1.1\r\nHost: {HOST}\r\n"
            f"Authorization: HMAC-SHA256 apiKey={key}, date={date}, salt={salt}, signature={signature}\r\n\r\n")
    expected = f'{{"segmentId":"{segment}"}}'.encode() if KINDS[kind] == 200 else REFUSED
    return head.encode(), expected


def exchange(connection, kind, number):
    head, expected = request(kind, number)
    connection.sendall(head)
    received = b""
    while not (b"\r\n\r\n" in received and len(received.split(b"\r\n\r\n", 1)[1]) >= len(expected)):
        part = connection.recv(65536)
        if not part:
            raise Fault(f"request {number}: the connection was closed behind {received!r}")
        received += part
        if not received.startswith(b"HTTP/1.1 %d " % KINDS[kind]):
            break
    status, body = received[9:12].decode(errors="replace"), received.split(b"\r\n\r\n", 1)[-1]
    if status != str(KINDS[kind]) or body != expected:
        raise Fault(f"request {number} ({kind}) was answered {status} {body[:200]!r}; expected {KINDS[kind]} {expected!r}")


def listening(process, log):
    """The port from the log: a readiness request would be counted, too."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        for line in log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                if listeners := json.loads(line).get("listeners"):
                    return int(listeners.rsplit(":", 1)[1])
        if process.poll() is not None:
            raise Fault(f"saltgate ended with status {process.returncode}: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)
    raise Fault(f"saltgate does not listen after 120 s: {log.read_text(errors='replace')[-2000:]}")


def counted(saltgate, kind, requests, *options):
    """The output of callgrind for a run of this many requests."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="counting-"))
    upstream = Upstream()
    process = None
    try:
        file, log = place / "callgrind", place / "log"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={file}", "--dump-line=no", "--fair-sched=yes",
                   *options, saltgate, "serve", "--config", configuration(place, upstream)]
        with open(log, "wb") as out:
            process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       start_new_session=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C"}, cwd=place)
        with socket.create_connection((HOST, listening(process, log)), timeout=60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number in range(requests):
                exchange(connection, kind, number)
        if upstream.received != (requests if KINDS[kind] == 200 else 0):
            raise Fault(f"{kind}: the upstream received {upstream.received} requests of {requests}")
        # SIGTERM, because Saltgate does not end after SIGINT here.
        process.send_signal(signal.SIGTERM)
        if process.wait(120) != 0:
            raise Fault(f"saltgate ended with status {process.returncode}: {log.read_text(errors='replace')[-2000:]}")
        return file.read_bytes()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Fault(f"{kind}, {requests} requests: {error}") from error
    finally:
        if process and process.poll() is None:
            process.kill()
            process.wait()
        upstream.close()
        shutil.rmtree(place, ignore_errors=True)
