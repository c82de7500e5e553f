"""The volumes of the gate's container as kubelet makes them, in a folder that stands for the container's root, so that the program
can be run with the configuration of a ConfigMap."""
import os
import secrets
import socket
import subprocess
from pathlib import Path

from rendering import configuration, gate, pod

KEYS = """[[key]]
api_key = "NCSEXAMPLE000001"
secret = { file = "example-1" }
account = "account-1"
member = "member-owner"
role = "OWNER"
"""


def secret_files():
    """The Secrets that deploy/kubernetes/README.md tells to make: name -> file -> content."""
    return {
        "saltgate-keys": {"keys.toml": KEYS, "example-1": secrets.token_hex(20)},
        "saltgate-redis": {"url": "redis://127.0.0.1:1/0"},
        "saltgate-postgres": {"url": "postgres://gate:secret@127.0.0.1:1/crm"},
    }


def certificate(folder):
    """A self-signed certificate, as cert-manager would write it into saltgate-tls."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=crm.example.com", "-days", "30",
         "-addext", "subjectAltName=DNS:crm.example.com", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
        check=True, capture_output=True,
    )
    return {name: (folder / name).read_text() for name in ("tls.crt", "tls.key")}


def published(folder, files):
    """Writes files as kubelet does: links into ..data, which is a link to a folder that is swapped as a whole."""
    folder.mkdir(parents=True)
    version = folder / "..2026_01_01_00_00_00.1"
    version.mkdir()
    for name, content in files.items():
        (version / name).write_text(content)
        (version / name).chmod(0o444)
        (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data").symlink_to(version.name)
    for one in (folder, version):
        one.chmod(0o755)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Container:
    """The gate of a workload, in `root`. `ports` are free ones in place of those of the listener and the admin listener."""

    def __init__(self, root, objects, workload):
        self.root = Path(root)
        self.root.chmod(0o755)
        self.ports = {8080: free_port(), 9901: free_port()}
        spec, container = pod(workload), gate(workload)
        known = secret_files()
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        for mount in container["volumeMounts"]:
            at, volume = self.inside(mount["mountPath"]), volumes.get(mount["name"], {})
            if "configMap" in volume:
                (data,) = [one["data"] for one in objects if one["kind"] == "ConfigMap" and one["metadata"]["name"] == volume["configMap"]["name"]]
                published(at, data)
            elif "secret" in volume:
                name = volume["secret"]["secretName"]
                if name == "saltgate-tls":
                    known[name] = certificate(self.root)
                published(at, known[name])
            elif "emptyDir" in volume or mount["name"] in claims:
                # The same for a claim: its group is the pod's fsGroup, which every container of the pod has.
                at.mkdir(parents=True)
                at.chmod(0o777)
            else:
                raise AssertionError(f"nothing is mounted at {mount['mountPath']}")
        self.environment = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
        for one in container.get("env", []):
            reference = one.get("valueFrom", {}).get("secretKeyRef")
            self.environment[one["name"]] = known[reference["name"]][reference["key"]] if reference else one["value"]
        # The same configuration with the paths of this folder, on loopback and with free ports.
        text = configuration(objects)
        for mount in container["volumeMounts"]:
            text = text.replace(f'"{mount["mountPath"]}/', f'"{self.inside(mount["mountPath"])}/')
        for port, free in self.ports.items():
            text = text.replace(f'address = "0.0.0.0:{port}"', f'address = "127.0.0.1:{free}"')
        self.config = self.inside(container["command"][3]).with_name("here.toml")
        self.config.write_text(text)
        self.config.chmod(0o444)

    def inside(self, path):
        return self.root / path.lstrip("/")

    def program(self, *arguments):
        """The arguments of subprocess for this program, as a user whom no file names; as ourselves where we are not root."""
        anybody = {"user": 1000660000, "group": 0, "extra_groups": []} if os.getuid() == 0 else {}
        return [os.environ["SALTGATE"], *arguments], {"env": self.environment, "cwd": "/", **anybody}


