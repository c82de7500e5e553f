"""The measurements as Markdown for a README."""
from statistics import median

from . import phases

LABELS = {one.name: one.label for one in
          phases.DELETE + phases.UNIX + phases.OWNERSHIP + phases.CLOSING + [phases.RELOADING] + phases.TLS + phases.WORKERS + phases.START}


def markdown(about, found):
    parts = [head(about)]
    for phase, write in SECTIONS.items():
        if phase in found:
            parts.append(write(found[phase]))
    dropped = sum(run.get("log_lines_dropped", 0) for run in runs_in(found))
    if dropped:
        parts.append(f"Saltgate's log dropped {dropped:.0f} lines in all: at these rates nobody writes all of them.")
    return "\n\n".join(parts) + "\n"


def head(about):
    text = (f"Measured {about['date']} on {about['cpu']}, {about['cores']} cores, {about['system']}, Linux {about['kernel']}: "
            f"HAProxy {about['haproxy']}, nginx {about['nginx']}, Saltgate {about['saltgate']}. "
            f"{about['rounds']} round{'s' * (about['rounds'] > 1)} of {about['burst']:g} s ({about['seconds']:g} s for latency and workers), in turns; median (least–most). "
            "Gateway on one core with one worker, load and upstream on another.")
    if about["noisy"]:
        text += (f" In {about['noisy']} of {about['runs']} runs others took more than {phases.NOISE} of a CPU, "
                 "so take them with care.")
    return text


def number(value, digits=0):
    return f"{value:,.{digits}f}".replace(",", " ")


def spread(values, digits=1):
    shown = [number(value, digits) for value in (median(values), min(values), max(values))]
    return shown[0] if len(values) == 1 else f"{shown[0]} ({shown[1]}–{shown[2]})"


def table(columns, rows):
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def of(runs, key):
    return [run[key] for run in runs]


def plain_in(found):
    return [name for name in found if name.removesuffix("-tls").removesuffix("-unix").removesuffix("-closes") in phases.PLAIN]


def plain_heading(found):
    names = {"haproxy": "HAProxy", "nginx": "nginx"}
    shown = [names[name.split("-")[0]] for name in plain_in(found)] or list(names.values())
    return f"× {'the better of ' * (len(shown) > 1)}{' and '.join(shown)}"


def ratio_to_plain(found, runs, key):
    """The cost as a multiple of that of the better plain proxy, by round."""
    plain = [of(found[name], key) for name in plain_in(found)]
    if not plain:
        return "–"
    better = [min(values) for values in zip(*plain)]
    return spread([mine / best for mine, best in zip(of(runs, key), better)], 2)


def costs(title, note):
    def write(found):
        rows = []
        for name, runs in found.items():
            rows.append([LABELS[name], spread(of(runs, "cpu_us")), ratio_to_plain(found, runs, "cpu_us"), spread(of(runs, "rate"), 0), spread(of(runs, "cpu_share"), 2)])
        columns = ["", "CPU µs a request", plain_heading(found), "requests/s", "CPUs used"]
        return f"### {title}\n\n{note}\n\n" + table(columns, rows)
    return write


def ownership(found):
    rows = [[LABELS[name], spread(of(runs, "cpu_us")), spread(of(runs, "rate"), 0)] for name, runs in found.items()]
    text = ("### Whose segment it is\n\nAs above; the owner is learned not at all (`delegate`), by a GET of the service, or by a query of "
            "PostgreSQL, whose own work is not counted.\n\n" + table(["", "CPU µs a request", "requests/s"], rows))
    names = [one.name for one in phases.OWNERSHIP]
    if not all(name in found for name in names):
        return text
    rounds = list(zip(*(of(found[name], "cpu_us") for name in names)))
    ratio = [(postgres - plain) / (service - plain) for plain, service, postgres in rounds]
    text += (f"\n\nThe look-up adds {spread([service - plain for plain, service, _ in rounds])} µs asked of the service, "
             f"{spread([postgres - plain for plain, _, postgres in rounds])} µs asked of PostgreSQL: × {spread(ratio, 2)} by round. ")
    medians = [median(of(found[name], "cpu_us")) for name in names]
    return text + f"By the medians × {(medians[2] - medians[0]) / (medians[1] - medians[0]):.2f}."


def refused(found):
    accepted = of(found["accepted"], "cpu_us")
    rows = [[what, spread(of(runs, "cpu_us")), spread([mine / one for mine, one in zip(of(runs, "cpu_us"), accepted)], 2),
             spread(of(runs, "rate"), 0)] for what, runs in found.items()]
    note = ("Saltgate, salts in memory; every refusal is a 401. `failed_signatures_per_client` is raised to 100000/second "
            "here; with its default a client gets 429 beyond 1000 a minute.")
    return f"### Refused requests\n\n{note}\n\n" + table(
        ["", "CPU µs a request", "× an accepted one", "requests/s"], rows)


def latency(found):
    series = found["series"]
    rows = [[LABELS[name], *(spread(of(runs, key), 0) for key in ("p50_us", "p99_us", "p999_us")),
             ratio_to_plain(series, runs, "p99_us")] for name, runs in series.items()]
    note = (f"Open loop: {number(found['rate'])} requests a second for all, half of what a core can do with {found['slowest']}; Poisson "
            "arrivals, counted from when a request was due. Microseconds.")
    text = f"### Latency\n\n{note}\n\n" + table(
        ["", "p50", "p99", "p99.9", "p99 " + plain_heading(series)], rows)
    if {"saltgate", "saltgate-reload"} <= series.keys():
        ratio = [a / b for a, b in zip(of(series["saltgate-reload"], "p99_us"), of(series["saltgate"], "p99_us"))]
        text += f"\n\nA SIGHUP every second, each of them taken: p99 × {spread(ratio, 2)} of that without."
    return text


def workers(found):
    per_second = {name: [1e6 / cost for cost in of(runs, "cpu_us")] for name, runs in found.items()}
    labels = {one.name: f"Saltgate, {one.workers} worker{'s' * (one.workers > 1)}" for one in phases.WORKERS}
    rows = [[labels[name], spread(per_second[name], 0), spread(of(runs, "rate"), 0), spread(of(runs, "cpu_share"), 2)]
            for name, runs in found.items()]
    text = "### Workers\n\n" + table(["", "requests for a CPU-second of the gateway", "requests/s", "CPUs used"], rows)
    if len(per_second) == 2:
        one, two = per_second.values()
        scaling = [2 * b / a for a, b in zip(one, two)]
        text += (f"\n\nTwo workers do {spread(scaling, 2)} times the work of one: 2 × (requests for a CPU-second of the gateway "
                 "with two workers) ÷ (the same with one). Load and upstream share the second core with the second worker, so "
                 "requests a second cannot tell; what sharing a core costs in caches is in the figure.")
    return text


def memory(found):
    labels = {one.name: one.label for one in phases.MEMORY}
    rows = [[labels[name], f"{one['idle_mib']:.1f}", f"{one['full_mib']:.1f}",
             f"{(one['full_mib'] - one['idle_mib']) * 2**20 / one['salts']:.0f}", number(one["salts"])]
            for name, one in found["stores"].items()]
    text = "### Memory, start, size\n\n" + table(
        ["Saltgate, 1000 keys", "resident, idle: MiB", "with the salts: MiB", "bytes a salt", "salts"], rows)
    rows = [[LABELS[name] if name != "saltgate" else "Saltgate, 1000 keys",
             spread([run["seconds"] * 1e3 for run in runs], 0), spread(of(runs, "idle_mib"))]
            for name, runs in found["starts"].items()]
    text += "\n\n" + table(["", "from exec to 200 on /ready: ms", "resident then: MiB"], rows)
    return text + f"\n\nThe program is {found['program_bytes'] / 2**20:.1f} MiB" + (
        ", stripped, without the demo." if found["built_here"] else ".")


def runs_in(found):
    """Every measurement of every phase."""
    if isinstance(found, dict):
        if "cpu_us" in found:
            yield found
            return
        found = list(found.values())
    if isinstance(found, list):
        for part in found:
            yield from runs_in(part)


SECTIONS = {
    "delete": costs("An authorized DELETE", "HTTP/1.1, 32 keep-alive connections, 1000 keys, every request with a salt of its own. "
                    "HAProxy and nginx write no log."),
    "unix": costs("… over a Unix socket to the service", "As above."),
    "ownership": ownership,
    "refused": refused,
    "closing": costs("A refusal that closes its connection", "A 401 to every request, each on a connection of its own, with Saltgate's default "
                     "`keep_alive`; nginx has `return 401` and `keepalive_timeout 0`, and checks nothing."),
    "latency": latency,
    "tls": costs("TLS in front", "HTTP/1.1 over TLS 1.3 (TLS_AES_128_GCM_SHA256, one P-256 certificate), 32 keep-alive connections; "
                 "plaintext to the upstream."),
    "h2": costs("HTTP/2 in front", "Over the same TLS, by ALPN: 4 connections of 8 streams under way at once; HTTP/1.1 in plaintext "
                "to the upstream."),
    "workers": workers,
    "memory": memory,
}
