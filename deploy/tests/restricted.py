"""The restricted profile of the Pod Security Standards (v1.33), as far as Linux pods go, and what Saltgate asks of its own pods
besides. One rule is one function of a pod's spec that yields what is wrong; RULES lists them all."""

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
}
SELINUX = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"


def everyone(spec):
    return spec.get("initContainers", []) + spec.get("containers", []) + spec.get("ephemeralContainers", [])


def security(one):
    return one.get("securityContext") or {}


def host_namespaces(spec):
    yield from (key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key))


def privileged(spec):
    yield from (one["name"] for one in everyone(spec) if security(one).get("privileged"))


def capabilities(spec):
    for one in everyone(spec):
        named = security(one).get("capabilities") or {}
        if "ALL" not in named.get("drop", []) or set(named.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield one["name"]


def volume_types(spec):
    for volume in spec.get("volumes", []):
        if not set(volume) - {"name"} <= VOLUMES:
            yield volume["name"]


def host_ports(spec):
    yield from (one["name"] for one in everyone(spec) if any(port.get("hostPort") for port in one.get("ports", [])))


def probes_of_other_hosts(spec):
    for one in everyone(spec):
        handlers = [one.get(key) or {} for key in ("startupProbe", "readinessProbe", "livenessProbe")]
        handlers += (one.get("lifecycle") or {}).values()
        if any((handler.get(kind) or {}).get("host") for handler in handlers for kind in ("httpGet", "tcpSocket")):
            yield one["name"]


def app_armor(spec):
    for one in [spec, *everyone(spec)]:
        if (security(one).get("appArmorProfile") or {}).get("type", "RuntimeDefault") not in ("RuntimeDefault", "Localhost"):
            yield one.get("name", "pod")


def se_linux(spec):
    for one in [spec, *everyone(spec)]:
        options = security(one).get("seLinuxOptions") or {}
        if options.get("type") not in SELINUX or options.get("user") or options.get("role"):
            yield one.get("name", "pod")


def proc_mount(spec):
    yield from (one["name"] for one in everyone(spec) if security(one).get("procMount", "Default") != "Default")


def seccomp(spec):
    default = security(spec).get("seccompProfile")
    for one in everyone(spec):
        if (security(one).get("seccompProfile") or default or {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield one["name"]


def sysctls(spec):
    yield from (one["name"] for one in security(spec).get("sysctls", []) if one["name"] not in SYSCTLS)


def escalation(spec):
    yield from (one["name"] for one in everyone(spec) if security(one).get("allowPrivilegeEscalation") is not False)


def non_root(spec):
    default = security(spec).get("runAsNonRoot")
    yield from (one["name"] for one in everyone(spec) if security(one).get("runAsNonRoot", default) is not True)


def root_user(spec):
    yield from (one.get("name", "pod") for one in [spec, *everyone(spec)] if security(one).get("runAsUser") == 0)


# What follows is not in the profile.


def writable_root(spec):
    yield from (one["name"] for one in everyone(spec) if security(one).get("readOnlyRootFilesystem") is not True)


def token(spec):
    if spec.get("automountServiceAccountToken") is not False:
        yield from (one["name"] for one in everyone(spec) if TOKEN not in [mount["mountPath"] for mount in one.get("volumeMounts", [])])


def memory(spec):
    for one in everyone(spec):
        resources = one.get("resources") or {}
        if "memory" not in resources.get("limits", {}) or "memory" not in resources.get("requests", {}):
            yield one["name"]


def sub_path(spec):
    """What is mounted by subPath stays as it was when its Secret changes."""
    for one in everyone(spec):
        if any(mount.get("subPath") or mount.get("subPathExpr") for mount in one.get("volumeMounts", [])):
            yield one["name"]


RULES = [
    host_namespaces, privileged, capabilities, volume_types, host_ports, probes_of_other_hosts, app_armor, se_linux, proc_mount,
    seccomp, sysctls, escalation, non_root, root_user, writable_root, token, memory, sub_path,
]


def faults(spec):
    """(rule, what) of everything that is wrong with this pod."""
    return [(rule.__name__, what) for rule in RULES for what in rule(spec)]
