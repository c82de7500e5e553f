"""How each service is installed and started, with its defaults."""
import os
from pathlib import Path

from installing import apt, pip
from rig import ROOT

HERE = Path(__file__).resolve().parent
TARGET = ROOT / "target" / "field-services"
WHEELS = [f"gunicorn=={os.environ.get('GUNICORN', '27.0.1')}", "gevent==26.9.0", "packaging", "uvicorn==0.54.0"]


def gunicorn(*more):
    return lambda directory, port: [TARGET / "bin" / "gunicorn", "--chdir", HERE, "-b", f"127.0.0.1:{port}", *more, "app:wsgi"]


def uvicorn(directory, port):
    return [TARGET / "bin" / "uvicorn", "--app-dir", HERE, "--host", "127.0.0.1", "--port", port, "--log-level", "warning", "app:asgi"]


def node(directory, port):
    return ["node", HERE / "service.mjs", port]


def puma(directory, port):
    return ["puma", "-q", "-e", "production", "-b", f"tcp://127.0.0.1:{port}", HERE / "config.ru"]


def apache(directory, port):
    # mod_cgid's daemon and the workers run as www-data, so the script must be where they can read it.
    (cgi := directory / "delete.cgi").write_bytes((HERE / "delete.cgi").read_bytes())
    cgi.chmod(0o755)
    modules = ["mpm_event", "authz_core", "alias", "cgid"]
    load = "".join(f"LoadModule {one}_module /usr/lib/apache2/modules/mod_{one}.so\n" for one in modules)
    (conf := directory / "apache.conf").write_text(
        f"ServerRoot {directory}\nServerName crm\nPidFile pid\nDefaultRuntimeDir {directory}\nErrorLog /dev/stderr\nUser www-data\nGroup www-data\n"
        f"{load}Listen 127.0.0.1:{port}\nScriptAlias /crm-core {cgi}\n<Directory {directory}>\nRequire all granted\nOptions +ExecCGI\n</Directory>\n"
    )
    return ["apache2", "-f", conf, "-DFOREGROUND"]


GUNICORN = {
    "gunicorn gthread": gunicorn("-k", "gthread", "--threads", "4"),
    "gunicorn gevent": gunicorn("-k", "gevent"),
}
SERVICES = {**GUNICORN, "uvicorn": uvicorn, "node": node, "puma": puma, "apache": apache}


def install():
    apt({"node": ["nodejs"], "puma": ["puma"], "apache2": ["apache2"]})
    pip(TARGET, *WHEELS)
