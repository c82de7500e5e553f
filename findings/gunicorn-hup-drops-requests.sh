#!/usr/bin/env bash
# gunicorn 23.0.0 (gthread) that gets a HUP, or reaches --max-requests, drops requests: its old worker closes connections that it
# accepted without reading the requests on them, so the client gets no answer (a reset) although the reload is called
# graceful. A new connection for each request does not help. 27.0.1 loses none. Output (the numbers vary):
#
#     gunicorn 23.0.0: 7 of 29026 requests on new connections had no answer, 10 HUPs
#     gunicorn 27.0.1: 0 of 23335 requests on new connections had no answer, 10 HUPs
#
# Fails if 23.0.0 answers all or 27.0.1 does not. Needs python3 with venv and pip; everything is in a temporary folder and on
# loopback, and takes about a minute.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/app.py" <<'PYTHON'
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
PYTHON
cat > "$folder/try.py" <<'PYTHON'
import http.client, signal, socket, subprocess, sys, threading, time

folder, version, hups = sys.argv[1], sys.argv[2], 10
with socket.create_server(("127.0.0.1", 0)) as held:
    port = held.getsockname()[1]
gunicorn = subprocess.Popen(
    [f"{folder}/venv/bin/gunicorn", "--chdir", folder, "-k", "gthread", "--threads", "4", "-b", f"127.0.0.1:{port}", "app:app"],
    stderr=subprocess.DEVNULL,
)
for _ in range(200):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        break
    except OSError:
        time.sleep(0.1)
time.sleep(2)
over, asked, lost = threading.Event(), [], []

def ask():
    while not over.is_set():
        stream = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        stream.connect()
        asked.append(1)
        try:
            stream.request("GET", "/")
            stream.getresponse().read()
        except OSError as error:
            lost.append(error)
        stream.close()

threads = [threading.Thread(target=ask) for _ in range(8)]
try:
    for one in threads:
        one.start()
    for _ in range(hups):
        time.sleep(1.5)
        gunicorn.send_signal(signal.SIGHUP)
    time.sleep(2)
finally:
    over.set()
    for one in threads:
        one.join()
    gunicorn.terminate()
    gunicorn.wait()
print(f"gunicorn {version}: {len(lost)} of {len(asked)} requests on new connections had no answer, {hups} HUPs", flush=True)
sys.exit(bool(lost) != (version == "23.0.0"))
PYTHON
for version in 23.0.0 27.0.1; do
    "$folder/venv/bin/pip" install -q --disable-pip-version-check "gunicorn==$version"
    "$folder/venv/bin/python" "$folder/try.py" "$folder" "$version"
done
