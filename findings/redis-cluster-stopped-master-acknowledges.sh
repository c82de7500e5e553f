#!/usr/bin/env bash
# Redis Cluster 7.0.15 (Debian 12): a master that was stopped for longer than cluster-node-timeout, and whose replica was elected
# meanwhile, still runs and acknowledges the commands that are waiting in its sockets when it goes on. Only then does it hear that
# others own its slots, and becomes a replica, which loses these writes. The documentation says that a master without the majority
# stops accepting writes after cluster-node-timeout; a stopped one (SIGSTOP, a virtual machine that was paused) cannot notice. Output:
#
#     the elected one: OK
#     the stopped one, when it goes on: OK
#     afterwards: written at the elected one
#
# Fails if that changes. Needs Debian 12 and python3; the packages are unpacked in a temporary folder, nothing is installed,
# everything is on loopback. What names one winner by a write in Redis must not believe such a master: src/replay/redis/cluster_map.rs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq redis-server=5:7.0.15-1~deb12u10 redis-tools=5:7.0.15-1~deb12u10 libjemalloc2=5.3.0-1 liblzf1=3.6-3 \
    libhiredis0.14=0.14.1-3 liblua5.1-0=5.1.5-9 lua-cjson=2.1.0+dfsg-2.2 lua-bitop=1.0.2-7 2>/dev/null
for package in *.deb; do dpkg -x "$package" .; done
cat >try.py <<'PYTHON'
import glob, os, random, signal, socket, subprocess, sys, time

folder = os.getcwd()
libraries = {**os.environ, "LD_LIBRARY_PATH": os.path.dirname(glob.glob(f"{folder}/usr/lib/*/libjemalloc.so.2")[0])}

def connect(port):
    return socket.create_connection(("127.0.0.1", port), 30)

def ask(port, *words):
    with connect(port) as stream:
        stream.sendall((" ".join(words) + "\r\nQUIT\r\n").encode())
        answer = b""
        while part := stream.recv(65536):
            answer += part
    return answer.decode().removesuffix("+OK\r\n").strip()

def until(what):
    for _ in range(600):
        try:
            if what():
                return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit("this took too long")

ports, servers = random.sample(range(20000, 22000), 4), []
try:
    for port in ports:
        os.mkdir(f"{folder}/{port}")
        options = ["--port", port, "--bind", "127.0.0.1", "--dir", f"{folder}/{port}", "--save", "", "--logfile", "log",
                   "--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
        servers.append(subprocess.Popen([f"{folder}/usr/bin/redis-server", *map(str, options)], env=libraries))
    until(lambda: all("PONG" in ask(port, "PING") for port in ports))
    for port, slots in zip(ports, ["0 5460", "5461 10922", "10923 16383"]):
        ask(port, "CLUSTER ADDSLOTSRANGE", slots)
    for number, port in enumerate(ports):
        ask(port, "CLUSTER SET-CONFIG-EPOCH", str(number + 1))
        ask(port, "CLUSTER MEET 127.0.0.1", str(ports[0]))
    until(lambda: all("cluster_known_nodes:4" in ask(port, "CLUSTER INFO") for port in ports))
    first = ask(ports[0], "CLUSTER MYID").split()[1]
    until(lambda: "OK" in ask(ports[3], "CLUSTER REPLICATE", first))
    until(lambda: "master_link_status:up" in ask(ports[3], "INFO replication"))
    until(lambda: all("cluster_state:ok" in ask(port, "CLUSTER INFO") for port in ports))
    # The key "b" is in slot 3300, of the first one.
    waiting = connect(ports[0])
    servers[0].send_signal(signal.SIGSTOP)
    waiting.sendall(b"SET b stopped\r\n")
    until(lambda: "role:master" in ask(ports[3], "INFO replication"))
    until(lambda: "OK" in ask(ports[3], "SET b elected"))
    print("the elected one: OK", flush=True)
    time.sleep(2)
    servers[0].send_signal(signal.SIGCONT)
    print("the stopped one, when it goes on:", waiting.recv(100).decode().strip().lstrip("+-"), flush=True)
    until(lambda: "role:slave" in ask(ports[0], "INFO replication"))
    print("afterwards: written at the", ask(ports[3], "GET b").split()[-1], "one")
finally:
    for server in servers:
        server.send_signal(signal.SIGCONT)
        server.terminate()
        server.wait()
PYTHON
python3 try.py | tee seen
diff seen - <<'SEEN'
the elected one: OK
the stopped one, when it goes on: OK
afterwards: written at the elected one
SEEN
