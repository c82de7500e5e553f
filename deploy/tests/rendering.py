"""What kubectl renders from deploy/kubernetes, and what Helm renders from deploy/helm: lists of objects."""
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

TESTS = Path(__file__).resolve().parent
KUBERNETES = TESTS.parent / "kubernetes"
CHART = TESTS.parent / "helm" / "saltgate"

# Each component needs a kustomization to be rendered in: name -> (resources, components). Paths are those of deploy/kubernetes;
# a service is a file of deploy/tests/services.
COMPOSED = {
    "plain": (["services/plain.yaml"], ["sidecar"]),
    "full": (["services/full.yaml"], ["sidecar", "podmonitor"]),
    "older-plain": (["services/plain.yaml"], ["sidecar-older-clusters"]),
    "older-full": (["services/full.yaml"], ["sidecar-older-clusters", "podmonitor"]),
    "openshift-sidecar": (["services/plain.yaml"], ["sidecar", "openshift"]),
    "edge-podmonitor": (["edge"], ["podmonitor"]),
    "edge-ingress": (["edge"], ["ingress"]),
    "edge-httproute": (["edge"], ["httproute"]),
    "edge-certificate": (["edge"], ["certificate"]),
    "edge-shipping": (["edge"], ["shipping"]),
    "edge-all": (["overlays/openshift"], ["certificate", "httproute", "podmonitor"]),
}


def kubectl(folder):
    """The objects of a kustomization. Raises with kubectl's own words."""
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, env={**os.environ, "HOME": "/nonexistent"})
    if done.returncode:
        raise AssertionError(f"kubectl kustomize {folder}: {done.stderr}")
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def compose(tree, name, resources, components, more=None):
    """Writes a kustomization into a copy of the tree, and renders it."""
    folder = tree / "composed" / name
    folder.mkdir(parents=True)
    for resource in resources:
        if resource.startswith("services/"):
            shutil.copy(TESTS / resource, folder)
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [Path(one).name if one.startswith("services/") else f"../../{one}" for one in resources],
        "components": [one if one.startswith(".") else f"../../components/{one}" for one in components],
        **(more or {}),
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return kubectl(folder)


def tree():
    """A copy of deploy/kubernetes, in a folder of its own."""
    copy = Path(tempfile.mkdtemp()) / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    return copy


@functools.cache
def renderings():
    """name -> objects, of every kustomization in deploy/kubernetes and of everything in COMPOSED."""
    found = {}
    for path in sorted(KUBERNETES.rglob("kustomization.yaml")):
        if yaml.safe_load(path.read_text())["kind"] == "Kustomization":
            found[str(path.parent.relative_to(KUBERNETES))] = kubectl(path.parent)
    copy = tree()
    for name, (resources, components) in COMPOSED.items():
        found[name] = compose(copy, name, resources, components)
    return found


def workloads():
    """(name of the rendering, its objects, its Deployment or StatefulSet) of every rendering that has one."""
    for name, objects in renderings().items():
        for one in objects:
            if one["kind"] in ("Deployment", "StatefulSet"):
                yield name, objects, one


def pod(workload):
    return workload["spec"]["template"]["spec"]


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


def gate(workload):
    """The one container that is Saltgate."""
    (found,) = [one for one in containers(pod(workload)) if one["name"] == "saltgate"]
    return found


def only(objects, kind, name=None):
    (found,) = [one for one in objects if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    return found


def configuration(objects):
    """The text of saltgate.toml."""
    return only(objects, "ConfigMap")["data"]["saltgate.toml"]
