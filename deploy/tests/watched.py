"""What the tests of Prometheus' rules and Grafana's dashboard share: a gateway that runs, and the names in an expression."""
import re
import shutil
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

import promql_parser

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/field"))

from installing import apt  # noqa: E402
from rig import ROUTE, Gate, Process, Service, free_ports, once, segment, signed, wait  # noqa: E402

# These have a series only once something has happened, or where there are certificates or a copy of the record; their names are the contract's.
ONLY_ONCE_IT_HAPPENED = {
    "saltgate_certificate_expires_timestamp_seconds",
    "saltgate_connections_evicted_total",
    "saltgate_connections_full_total",
    "saltgate_connections_refused_total",
    "saltgate_record_shipped_lines_total",
    "saltgate_record_unshipped_seconds",
    "saltgate_truncated_total",
}


def promtool():
    """Debian's promtool; installs it where that is possible, and says otherwise what to install."""
    apt({"promtool": ["prometheus"]})
    return shutil.which("promtool")


def selectors(expression):
    """The selectors of an expression, wherever they stand in it."""
    for part in ("lhs", "rhs", "expr", "param", "vector_selector"):
        if inner := getattr(expression, part, None):
            yield from selectors(inner)
    for argument in getattr(expression, "args", ()):
        yield from selectors(argument)
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression


def metric_names(expression):
    """The metrics that an expression reads. A histogram goes by its own name."""
    found = {selector.name for selector in selectors(promql_parser.parse(expression))}
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


class Watched(unittest.TestCase):
    """A gateway that has let a deletion through and refused another: its `/metrics`, and their names."""

    @classmethod
    def setUpClass(cls):
        cls.directory = Path(tempfile.mkdtemp(prefix="saltgate-watched-"))
        cls.service = Service()
        (port,) = free_ports(1)
        cls.gate = Gate(
            cls.directory,
            "gate",
            port,
            '[replay.memory]\nwhen_new = "accept"\n[ownership.upstream]\naccount = "/accountId"\ncreator = "/ownerId"\n'
            f'[upstream]\nservers = ["http://127.0.0.1:{cls.service.port}"]\n',
        )
        for header in (signed(), signed().replace("apiKey=NCS", "apiKey=XXX")):
            once(port, "DELETE", ROUTE + segment(), f"Authorization: {header}")
        serving = wait("it serves", lambda: re.search(r'"admin":"([^"]+)"', cls.gate.process.text()))
        cls.admin = serving.group(1)
        with urllib.request.urlopen(f"http://{cls.admin}/metrics", timeout=10) as answer:
            cls.metrics = answer.read().decode()
        cls.names = set(re.findall(r"(?m)^# TYPE (\S+)", cls.metrics)) | ONLY_ONCE_IT_HAPPENED

    @classmethod
    def tearDownClass(cls):
        cls.gate.stop()
        cls.service.stop()
        shutil.rmtree(cls.directory, ignore_errors=True)
