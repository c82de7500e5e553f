"""How the end of a pod adds up, in seconds. One line holds it together, and each >= in it leaves a margin:

    grace >= sleep of the service >= wait of `saltgate drain` >= drain_delay + drain_timeout >= … + response_timeout + answer_timeout
"""
import re
import tomllib

SLACK = 5       # seconds: for starting a command, for a busy node
SHUTDOWN = 30   # seconds that the service has after its sleep: as many as Kubernetes gives by default


def seconds(text):
    """Of a duration of saltgate.toml or of the command line: "5s", "1m 30s", "500ms"."""
    milliseconds = {"ms": 1, "s": 1000, "m": 60_000}
    parts = re.findall(r"(\d+)(ms|s|m)", text)
    if "".join(number + unit for number, unit in parts) != text.replace(" ", "") or not parts:
        raise ValueError(f"not a duration: {text}")
    return sum(int(number) * milliseconds[unit] for number, unit in parts) / 1000


def wait(container):
    """How long `saltgate drain` in the preStop of this container waits."""
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    if command[1] != "drain" or "--wait" not in command:
        raise ValueError(f"no drain with --wait: {command}")
    return seconds(command[command.index("--wait") + 1])


def sleep(container):
    """How long the preStop of a service sleeps; 0 without one."""
    handler = container.get("lifecycle", {}).get("preStop", {})
    if "sleep" in handler:
        return handler["sleep"]["seconds"]
    command = handler.get("exec", {}).get("command", [])
    return int(command[1]) if command[:1] == ["sleep"] else 0


def faults(spec, toml):
    """What does not add up in this pod with this configuration."""
    settings = tomllib.loads(toml)
    limits, upstream = settings["limits"], settings["upstream"]
    everyone = spec.get("initContainers", []) + spec["containers"]
    (gate,) = [one for one in everyone if one["name"] == "saltgate"]
    services = [one for one in spec["containers"] if one["name"] != "saltgate"]
    grace, waits = spec["terminationGracePeriodSeconds"], wait(gate)
    delay, timeout = seconds(limits["drain_delay"]), seconds(limits["drain_timeout"])
    running = round(seconds(upstream["response_timeout"]) + seconds(upstream["answer_timeout"]), 3)

    if delay <= 0:
        yield "drain_delay is 0: an ingress that does not know yet finds the listener closed"
    if timeout < running:
        yield f"drain_timeout {timeout} < response_timeout + answer_timeout {running}: a deletion may be cut off"
    if waits < delay + timeout + SLACK:
        yield f"drain --wait {waits} < drain_delay {delay} + drain_timeout {timeout} + {SLACK}: SIGTERM cuts the drain off"
    if grace < waits + SLACK:
        yield f"grace {grace} < drain --wait {waits} + {SLACK}: SIGKILL cuts the drain off"
    if services:
        first = services[0]
        if sleep(first) < waits + SLACK:
            yield f"{first['name']} sleeps {sleep(first)} < drain --wait {waits} + {SLACK}: it ends while deletions are under way"
        if grace < sleep(first) + SHUTDOWN:
            yield f"grace {grace} < sleep {sleep(first)} + {SHUTDOWN}: {first['name']} is killed before it has ended"
