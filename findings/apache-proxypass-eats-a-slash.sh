#!/usr/bin/env bash
# Apache httpd 2.4.71 (Debian 12) with `ProxyPass / http://server/ nocanon` and `MergeSlashes Off`: "//a" arrives at the
# server as "/a", although the documentation of both says that the path is unchanged. ProxyPass matches a run of slashes
# as the single one in its argument. Slashes within the path stay. A balancer does the same. Output:
#
#     Apache/2.4.71
#     balancer: //a arrives as /a
#     balancer: /a//b arrives as /a//b
#     no balancer: //a arrives as /a
#     no balancer: /a//b arrives as /a//b
#
# Fails if that changes. Needs Debian 12 and python3; the packages are unpacked in a temporary folder, nothing is installed,
# everything is on loopback.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq apache2-bin=2.4.71-1~deb12u1 libapr1=1.7.2-3+deb12u1 libaprutil1=1.6.3-1 2>/dev/null
for package in *.deb; do dpkg -x "$package" .; done
cat > try.py <<'PYTHON'
import glob, http.server, os, re, socket, subprocess, sys, threading, time

folder, came = os.getcwd(), []

class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        came.append(self.requestline.split()[1])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
to = f"http://127.0.0.1:{server.server_port}"
libraries = {**os.environ, "LD_LIBRARY_PATH": os.path.dirname(glob.glob(f"{folder}/usr/lib/*/libapr-1.so.0")[0])}
apache = f"{folder}/usr/sbin/apache2"

def arrive(what, *paths):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    names = ["mpm_event", "authz_core", "proxy", "proxy_http", "proxy_balancer", "lbmethod_byrequests", "slotmem_shm"]
    lines = [f"LoadModule {one}_module {folder}/usr/lib/apache2/modules/mod_{one}.so" for one in names]
    lines += [f"ServerRoot {folder}", "ServerName here", "PidFile pid", f"DefaultRuntimeDir {folder}", "ErrorLog error.log"]
    lines += [f"Listen 127.0.0.1:{port}", "MergeSlashes Off", f"<Proxy balancer://all>\nBalancerMember {to}\n</Proxy>"]
    lines += [f"ProxyPass / {'balancer://all' if what == 'balancer' else to}/ nocanon"]
    with open(f"{folder}/apache.conf", "w") as file:
        file.write("\n".join([*lines, "User www-data", "Group www-data", ""]))
    child = subprocess.Popen([apache, "-f", f"{folder}/apache.conf", "-DFOREGROUND"], env=libraries)
    try:
        for path in paths:
            ask(port, path)
            yield f"{what}: {path} arrives as {came[-1] if came else 'nothing'}"
    finally:
        child.terminate()
        child.wait()

def ask(port, path):
    """Uses a socket, because higher-level clients normalize paths themselves."""
    for _ in range(300):
        try:
            with socket.create_connection(("127.0.0.1", port), 30) as stream:
                stream.sendall(f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
                while stream.recv(4096):
                    pass
                return
        except ConnectionRefusedError:
            time.sleep(0.1)
    sys.exit("apache does not start")

version = subprocess.run([apache, "-v"], env=libraries, capture_output=True, text=True).stdout
print(re.search(r"Apache/[\d.]+", version).group())
said = [line for what in ("balancer", "no balancer") for line in arrive(what, "//a", "/a//b")]
print("\n".join(said))
ends = ["//a arrives as /a", "/a//b arrives as /a//b"] * 2
sys.exit([line.split(": ")[1] for line in said] != ends)
PYTHON
chmod 755 "$folder"
python3 try.py
