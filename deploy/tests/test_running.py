"""Prometheus itself scrapes a gateway, evaluates the rules, and answers every question of the dashboard."""
import json
import shutil
import urllib.parse
import urllib.request

from test_grafana import TARGETS, filled
from test_prometheus import RULES, rules
from watched import Process, Watched, free_ports, promtool, wait

# These have no series while all is well.
QUIET = {"Certificates", "Failed, of the budget"}


class TestRunning(Watched):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        promtool()
        folder = cls.directory / "prometheus"
        folder.mkdir()
        (cls.port,) = free_ports(1)
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "saltgate", "static_configs": [{"targets": [cls.admin]}]}],
        }
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(config))
        words = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{cls.port}"]
        cls.prometheus = Process([shutil.which("prometheus"), *words], folder / "log")

    @classmethod
    def tearDownClass(cls):
        cls.prometheus.stop()
        super().tearDownClass()

    def ask(self, path, **query):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def evaluated(self):
        groups = (self.ask("rules") or {"groups": []})["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        return found if len(found) == len(rules()) and all(rule["health"] != "unknown" for rule in found) else None

    def test_every_rule_is_evaluated_and_nothing_is_wrong_with_a_gateway_that_is_well(self):
        wait("it is scraped", lambda: (self.ask("query", query="up == 1") or {}).get("result"))
        for rule in wait("every rule is evaluated", self.evaluated, 90):
            with self.subTest(rule["name"]):
                self.assertEqual((rule["health"], rule.get("lastError")), ("ok", None))
                self.assertEqual(rule.get("alerts", []), [])
        budget = wait("the objective is recorded", lambda: self.ask("query", query="saltgate:failed:budget_ratio")["result"])
        self.assertAlmostEqual(float(budget[0]["value"][1]), 0.001)

    def test_every_question_of_the_dashboard_has_an_answer(self):
        # A rate needs two scrapes.
        scraped = "count_over_time(saltgate_build_info[1m]) > 2"
        wait("it is scraped thrice", lambda: (self.ask("query", query=scraped) or {}).get("result"))
        for panel, target in TARGETS:
            with self.subTest(panel["title"]):
                answer = self.ask("query", query=filled(target["expr"]))
                self.assertIsNotNone(answer, target["expr"])
                if panel["title"] not in QUIET:
                    self.assertTrue(answer["result"], target["expr"])
