"""deploy/grafana: the rules of grafana/dashboard-linter that apply, every expression parsed, and every metric one of the gateway."""
import json
import re
import unittest

import promql_parser
import yaml

from test_prometheus import rules
from watched import ROOT, Watched, metric_names, selectors

FOLDER = ROOT / "deploy/grafana"
DASHBOARD = json.loads((FOLDER / "saltgate.json").read_text())
PANELS = DASHBOARD["panels"]
TARGETS = [(panel, target) for panel in PANELS for target in panel["targets"]]
SOURCE = {"type": "prometheus", "uid": "$datasource"}
# What Grafana puts there.
VARIABLES = {"$__rate_interval": "5m", "$job": "saltgate", "$instance": ".*"}
COUNTER = re.compile(r"_(total|bucket|count|sum)$")


def filled(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


class TestDashboard(unittest.TestCase):
    def test_the_dashboard_is_one_that_can_be_provisioned(self):
        self.assertEqual((DASHBOARD["uid"], DASHBOARD["title"], DASHBOARD["editable"]), ("saltgate", "Saltgate", False))
        self.assertNotIn("id", DASHBOARD)
        self.assertLessEqual(len(PANELS), 14)
        self.assertEqual(len({panel["id"] for panel in PANELS}), len(PANELS))

    def test_its_variables_are_the_usual_ones(self):
        variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
        self.assertEqual(list(variables), ["datasource", "job", "instance"])
        self.assertEqual((variables["datasource"]["type"], variables["datasource"]["query"]), ("datasource", "prometheus"))
        for name in ("job", "instance"):
            self.assertEqual((variables[name]["datasource"], variables[name]["type"]), (SOURCE, "query"))
            self.assertEqual(variables[name]["refresh"], 2, "read again when the time changes")
        self.assertTrue(variables["instance"]["multi"] and variables["instance"]["includeAll"])

    def test_every_panel_has_a_title_a_description_a_unit_and_the_source(self):
        titles = [panel["title"] for panel in PANELS]
        self.assertEqual(len(set(titles)), len(titles))
        for panel in PANELS:
            with self.subTest(panel["title"]):
                self.assertTrue(panel["title"] and panel["description"].endswith("."))
                self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
                self.assertEqual(panel["datasource"], SOURCE)
                self.assertTrue(panel["targets"])

    def test_no_panel_lies_over_another(self):
        taken = {}
        for panel in PANELS:
            grid = panel["gridPos"]
            self.assertLessEqual(grid["x"] + grid["w"], 24, panel["title"])
            for place in ((x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])):
                self.assertIsNone(taken.get(place), panel["title"])
                taken[place] = panel["title"]

    def test_every_expression_is_sound_and_chooses_job_and_instance(self):
        recorded = {rule["record"] for rule in rules() if "record" in rule}
        for panel, target in TARGETS:
            with self.subTest(panel["title"]):
                self.assertEqual(target["datasource"], SOURCE)
                self.assertTrue(target["legendFormat"])
                promql_parser.parse(filled(target["expr"]))
                self.assertNotRegex(target["expr"], r"\[\d", "a rate is over $__rate_interval")
                for selector in selectors(promql_parser.parse(filled(target["expr"]))):
                    labels = {matcher.name: (matcher.op, matcher.value) for matcher in selector.matchers.matchers}
                    # A recording rule is of a job as a whole, and the objective is of everything.
                    expected = {"job", "instance"} if selector.name not in recorded else {"job"}
                    if selector.name != "saltgate:failed:budget_ratio":
                        self.assertLessEqual(expected, set(labels), selector.name)
                self.assertEqual(target["expr"].count('job="$job"'), target["expr"].count("$job"))
                self.assertEqual(target["expr"].count('instance=~"$instance"'), target["expr"].count("$instance"))

    def test_a_counter_is_read_by_its_rate_and_a_rate_of_a_histogram_by_its_quantile(self):
        for panel, target in TARGETS:
            with self.subTest(panel["title"]):
                rated = {selector.name for call in calls(promql_parser.parse(filled(target["expr"])), ("rate", "increase")) for selector in selectors(call)}
                named = {selector.name for selector in selectors(promql_parser.parse(filled(target["expr"])))}
                self.assertEqual({name for name in named if COUNTER.search(name)}, rated)
                if any(name.endswith("_bucket") for name in named):
                    self.assertIn("histogram_quantile(", target["expr"])

    def test_provisioning_names_what_is_there(self):
        (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/saltgate.yaml").read_text())["providers"]
        self.assertEqual((provider["type"], provider["allowUiUpdates"]), ("file", False))
        (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
        self.assertEqual((source["type"], source["editable"]), ("prometheus", False))


def calls(expression, functions):
    """The calls of these functions in an expression."""
    if isinstance(expression, promql_parser.Call) and expression.func.name in functions:
        yield expression
    for part in ("lhs", "rhs", "expr", "param"):
        if inner := getattr(expression, part, None):
            yield from calls(inner, functions)
    for argument in getattr(expression, "args", ()):
        yield from calls(argument, functions)


class TestMetrics(Watched):
    def test_every_metric_of_the_dashboard_is_one_of_the_gateway_or_of_the_rules(self):
        recorded = {rule["record"] for rule in rules() if "record" in rule}
        named = set().union(*(metric_names(filled(target["expr"])) for _, target in TARGETS))
        self.assertGreater(len(named), 12)
        self.assertEqual(named - recorded - self.names, set())
        for variable in DASHBOARD["templating"]["list"][1:]:
            self.assertIn(re.search(r"label_values\((\w+)", variable["definition"]).group(1), self.names)
