"""deploy/prometheus by Prometheus' own tool, its runbooks, and its metrics held against a gateway that runs."""
import re
import subprocess
import unittest
from pathlib import Path

import yaml

from watched import ROOT, Watched, metric_names, promtool

RULES = ROOT / "deploy/prometheus/rules.yaml"
TESTS = [ROOT / "deploy/prometheus" / name for name in ("rules.test.yaml", "rules.week.test.yaml")]


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def anchors(page):
    headings = re.findall(r"(?m)^#+ (.*)$", page)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


class TestRules(unittest.TestCase):
    def test_the_rules_are_sound(self):
        said = subprocess.run([promtool(), "check", "rules", RULES], capture_output=True, text=True)
        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)

    def test_every_alert_fires_and_does_not_fire(self):
        said = subprocess.run([promtool(), "test", "rules", *TESTS], capture_output=True, text=True)
        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)
        alerts = {rule["alert"] for rule in rules() if "alert" in rule}
        self.assertGreater(len(alerts), 15)
        tested = {True: set(), False: set()}
        for test in (test for file in TESTS for test in yaml.safe_load(file.read_text())["tests"]):
            for case in test.get("alert_rule_test", []):
                tested[bool(case["exp_alerts"])].add(case["alertname"])
        self.assertEqual(tested, {True: alerts, False: alerts})

    def test_every_alert_says_how_urgent_it_is_and_what_to_do(self):
        for rule in (rule for rule in rules() if "alert" in rule):
            with self.subTest(rule["alert"]):
                self.assertIn(rule["labels"]["severity"], ["page", "ticket"])
                self.assertTrue(rule["annotations"]["summary"] and rule["annotations"]["description"])
                path, _, heading = rule["annotations"]["runbook_url"].partition("#")
                page = (ROOT / path).read_text()
                self.assertIn(heading, anchors(page))
                (section,) = re.findall(rf"(?ms)^## {rule['alert']}\n(.*?)(?=^## |\Z)", page)
                self.assertIn(f"*{rule['labels']['severity'].capitalize()}.*", section)
                if "Look and do the same" not in section:
                    for part in ("**Look at**", "**Do**"):
                        self.assertIn(part, section)

    def test_every_section_of_the_runbooks_has_an_alert(self):
        page = (ROOT / "docs/runbooks.md").read_text()
        self.assertEqual(sorted(re.findall(r"(?m)^## (.*)$", page)), sorted(r["alert"] for r in rules() if "alert" in r))

    def test_the_objective_stands_in_one_place(self):
        text = "\n".join(line for line in RULES.read_text().splitlines() if not line.strip().startswith("#"))
        self.assertEqual(len(re.findall(r"0\.999|0\.001", text)), 1)


class TestMetrics(Watched):
    def test_metrics_are_as_prometheus_wants_them(self):
        said = subprocess.run([promtool(), "check", "metrics"], input=self.metrics, capture_output=True, text=True)
        self.assertEqual((said.returncode, said.stdout + said.stderr), (0, ""))

    def test_every_metric_of_the_rules_is_one_of_the_gateway(self):
        recorded = {rule["record"] for rule in rules() if "record" in rule}
        named = set().union(*(metric_names(rule["expr"]) for rule in rules()))
        self.assertGreater(len(named), 15)
        self.assertEqual(named - recorded - {"up"} - self.names, set())
