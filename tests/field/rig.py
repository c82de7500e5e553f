"""Shared code of the field scripts: a service that counts, a real gateway, and a client that sends exact bytes."""
import hashlib
import hmac
import http.client
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

KEY, SECRET = "NCSEXAMPLE000001", "0123456789abcdef0123456789abcdef"
ROUTE = "/crm-core/v1/segments/"
CLIENT = "127.0.0.2"  # The proxy connects from 127.0.0.1, so the two can be distinguished.
PATIENCE = 30
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("SALTGATE") or ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug" / "saltgate"
os.environ["PATH"] += ":/usr/sbin:/sbin"


def wait(what, condition, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.05)
    return found


def free_ports(count):
    """Free ports below those that the system uses for outgoing connections, so that they stay free."""
    held = []
    while len(held) < count:
        try:
            held.append(socket.create_server(("127.0.0.1", random.randrange(10000, 30000))))
        except OSError:
            continue
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def signed():
    date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    salt = secrets.token_hex(16)
    signature = hmac.new(SECRET.encode(), (date + salt).encode(), hashlib.sha256).hexdigest()
    return f"HMAC-SHA256 apiKey={KEY}, date={date}, salt={salt}, signature={signature}"


def salt_of(authorization):
    return authorization.partition("salt=")[2].partition(",")[0]


def segment():
    return "CRMSG1" + secrets.token_hex(12)


class Process:
    """A program that is stopped by its pid, with all processes that it started."""

    def __init__(self, argv, log, **more):
        self.log = Path(log)
        with open(log, "ab") as out:
            self.child = subprocess.Popen(
                [str(word) for word in argv], stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True, **more
            )

    def stop(self, how=signal.SIGTERM):
        for signum in (how, signal.SIGKILL):
            try:
                os.killpg(self.child.pid, signum)
            except ProcessLookupError:
                pass
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                continue
            if signum == signal.SIGKILL:
                return

    def text(self):
        return self.log.read_text(errors="replace")


class Request:
    def __init__(self, method, target, headers):
        self.method, self.target, self.headers = method, target, headers

    @staticmethod
    def read(lines):
        """The next request of a connection, or None if there is none."""
        try:
            head, _, _ = read_message(lines).decode("latin-1").partition("\r\n\r\n")
        except OSError:
            return None
        first, *fields = head.split("\r\n")
        words = first.split(" ")
        if len(words) != 3:
            return None
        return Request(words[0], words[1], [(name, value.strip()) for name, _, value in (one.partition(":") for one in fields)])

    def field(self, name):
        return [value for key, value in self.headers if key.lower() == name]


def read_message(lines):
    """One complete HTTP/1 message with the body that Content-Length announces, or nothing if there is none."""
    head = first = lines.readline()
    length = 0
    while first and (line := lines.readline()):
        head += line
        if line in (b"\r\n", b"\n"):
            break
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return head + lines.read(length)


class Listener:
    """Accepts connections until it is stopped, and serves each in its own thread with `serve`, which a subclass defines."""

    def __init__(self, port=0):
        self.listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def stop(self):
        # Closing alone does not wake the thread that accepts, and the port would stay taken.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Service(Listener):
    """Answers a GET of any path as a segment of the caller's account, and counts."""

    def __init__(self, port=0, play="answer", pause=0):
        self.requests, self.play, self.pause = [], play, pause
        self.released = threading.Event()
        super().__init__(port)

    def serve(self, stream):
        lines = stream.makefile("rb")
        with stream, lines:
            while request := Request.read(lines):
                self.requests.append(request)
                if request.method == "DELETE" and self.play == "close":
                    return
                if request.method == "DELETE" and self.play == "hold":
                    self.released.wait(PATIENCE)
                if request.method == "DELETE":
                    time.sleep(self.pause)
                identity = {"segmentId": request.target[len(ROUTE) :], "accountId": "account-1", "ownerId": "member-1"}
                body = json.dumps({"deleted": True} if request.method == "DELETE" else identity).encode()
                # Fields that invite a cache to store the answer.
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: public, max-age=600\r\nContent-Length: {len(body)}\r\n\r\n"
                try:
                    stream.sendall(head.encode() + body)
                except OSError:
                    return

    def deletes(self, of=""):
        return [one for one in self.requests if one.method == "DELETE" and one.target.endswith(of)]


class Gate:
    """A gateway with the configuration `config` in addition to its listener, its keys and its record."""

    def __init__(self, directory, name, port, config):
        self.directory, self.name, self.port = Path(directory), name, port
        self.config = self.directory / f"{name}.toml"
        (self.directory / "keys.toml").write_text(
            f'[[key]]\napi_key = "{KEY}"\nsecret = "{SECRET}"\naccount = "account-1"\nmember = "member-1"\nrole = "OWNER"\n'
        )
        self.config.write_text(
            f"""[[listener]]
address = "127.0.0.1:{port}"
trusted_proxies = ["127.0.0.1"]
[admin]
address = "127.0.0.1:0"
[directory.file]
path = "keys.toml"
[audit]
path = "record-{name}"
{config}"""
        )
        self.start()

    def start(self):
        self.process = Process([PROGRAM, "serve", "--config", self.config], self.directory / f"{self.name}.log")
        wait(f"{self.name} serves", lambda: accepts(self.port))

    def stop(self):
        self.process.stop()

    def kill(self):
        self.process.stop(signal.SIGKILL)

    def decisions(self, of=""):
        lines = [json.loads(line) for line in self.process.text().splitlines() if line.startswith("{") and line.endswith("}")]
        return [one for one in lines if one.get("message") == "decision" and of in one.get("path", "")]


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self):
        return f"{self.status} {self.body[:120]!r}"


CLOSED = Answer(0, {}, b"")


class Client:
    """A client at CLIENT that keeps its connection to the proxy for as long as the proxy does."""

    def __init__(self, port):
        self.port, self.stream = port, None

    def connect(self):
        self.stream = socket.create_connection(("127.0.0.1", self.port), PATIENCE, source_address=(CLIENT, 0))

    def send(self, method, target, *fields):
        if not self.stream:
            self.connect()
        head = f"{method} {target} HTTP/1.1\r\nHost: crm.example.com\r\n" + "".join(f"{one}\r\n" for one in fields) + "\r\n"
        try:
            self.stream.sendall(head.encode())
            answer = http.client.HTTPResponse(self.stream, method=method)
            answer.begin()
            closes = answer.will_close
            said = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        except (OSError, http.client.HTTPException):
            closes, said = True, CLOSED
        if closes:
            self.close()
        return said

    def close(self):
        if self.stream:
            self.stream.close()
        self.stream = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def once(port, method, target, *fields):
    with Client(port) as client:
        return client.send(method, target, *fields)


def open_towards(ports):
    """How many connections to these ports there are."""
    lines = [line for file in ("tcp", "tcp6") for line in Path("/proc/net", file).read_text().splitlines()[1:]]
    far = [(line.split()[2], line.split()[3]) for line in lines]
    return sum(1 for address, state in far if state == "01" and int(address.split(":")[1], 16) in ports)
