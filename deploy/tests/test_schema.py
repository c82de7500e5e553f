"""The schemas of the configuration accept what Saltgate accepts, in the tools that editors use."""
import json
import os
import pathlib
import subprocess
import tempfile
import tomllib
import unittest

import jsonschema

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = ROOT / "config"
CONFIGURATIONS = [CONFIG / "edge.toml", CONFIG / "sidecar.toml", *sorted(ROOT.glob("examples/*/saltgate.toml"))]
KEYS = [CONFIG / "keys.example.toml", *sorted(ROOT.glob("examples/*/keys.toml"))]

# A sound configuration; each test changes a line of it.
SOUND = """
[[listener]]
address = "127.0.0.1:8080"
[replay.memory]
when_new = "accept"
[directory.file]
path = "keys.toml"
[ownership.delegate]
[upstream]
servers = ["http://127.0.0.1:9000"]
fresh = "1s"
[budget]
per_key = "100/hour"
[limits]
max_in_flight = 1024
max_body_bytes = "64KiB"
[audit]
path = "record"
low_water = "256MiB"
"""
KEY = """
[[key]]
api_key = "NCSEXAMPLE000001"
secret = "0123456789abcdef"
account = "account-1"
member = "member-1"
role = "OWNER"
"""


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


# Those of deploy/ name no schema: it is not beside them where they are used.
DEPLOYED = sorted(path for path in ROOT.glob("deploy/**/*saltgate.toml") if "{{" not in path.read_text())


class Schema(unittest.TestCase):
    def setUp(self):
        self.schema = json.loads((CONFIG / "saltgate.schema.json").read_text())

    def test_the_files_are_what_the_program_prints(self):
        for name, more in [("saltgate", []), ("keys", ["--keys"])]:
            printed = run(os.environ["SALTGATE"], "config", "schema", *more)
            self.assertEqual(printed.returncode, 0, printed.stderr)
            self.assertEqual(printed.stdout, (CONFIG / f"{name}.schema.json").read_text())

    def test_check_jsonschema_accepts_them_and_every_example(self):
        self.assertGreater(len(DEPLOYED), 2)
        for schema, files in [("saltgate", CONFIGURATIONS + DEPLOYED), ("keys", KEYS)]:
            schema = CONFIG / f"{schema}.schema.json"
            for arguments in [["--check-metaschema", schema], ["--schemafile", schema, *files]]:
                checked = run("check-jsonschema", *map(str, arguments))
                self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    def test_taplo_finds_the_schema_by_the_first_line_of_every_example(self):
        for file in [*CONFIGURATIONS, *KEYS]:
            self.assertRegex(file.read_text().splitlines()[0], r"^#:schema \S+\.schema\.json$")
            checked = run("taplo", "lint", "--no-auto-config", str(file))
            self.assertEqual(checked.returncode, 0, f"{file}: {checked.stderr}")
            # The same file with a misspelt key, beside it: the schema was read.
            with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".toml", prefix=".test") as wrong:
                key = "api_key = " if file in KEYS else "servers = "
                wrong.write(file.read_text().replace(key, "x" + key, 1))
                wrong.flush()
                checked = run("taplo", "lint", "--no-auto-config", wrong.name)
                self.assertNotEqual(checked.returncode, 0, file)
                self.assertIn("Additional properties are not allowed", checked.stderr)

    def test_what_the_schema_accepts_is_what_the_program_accepts(self):
        validator = jsonschema.Draft7Validator(self.schema)
        cases = [("", "", True)]
        fresh = 'fresh = "1s"'
        for text in ["250ms", "1m 30s", "1m30s", "1.5s", "7µs", "0s", "24h"]:
            cases.append((fresh, f'fresh = "{text}"', True))
        for text in ["", "1", "s", "1 s", "-1s", "1s,", " 1s", "1s "]:
            cases.append((fresh, f'fresh = "{text}"', False))
        size = 'max_body_bytes = "64KiB"'
        for text in ['"1B"', '"1"', "65536", '"1MiB"']:
            cases.append((size, f"max_body_bytes = {text}", True))
        for text in ['"64kb"', '"64 KiB"', "0", "-1", "true", '""']:
            cases.append((size, f"max_body_bytes = {text}", False))
        for text in ["1/second", "100/minute", "1/day", "007/week"]:
            cases.append(("100/hour", text, True))
        for text in ["100", "0/hour", "100/h", "/hour", "1.5/day", " 1/day"]:
            cases.append(("100/hour", text, False))
        for text in ["1", "10_000_000"]:
            cases.append(("max_in_flight = 1024", f"max_in_flight = {text}", True))
        for text in ["0", "-1", '"1024"', "1.5", "10_000_001"]:
            cases.append(("max_in_flight = 1024", f"max_in_flight = {text}", False))
        cases += [
            ('when_new = "accept"', "", True),
            ('when_new = "accept"', 'when_new = "always"', False),
            ("[ownership.delegate]", "", False),
            ("[ownership.delegate]", "[ownership.delegate]\n[ownership.upstream]\naccount = '/a'\ncreator = '/b'", False),
            ('servers = ["http://127.0.0.1:9000"]', "servers = []", False),
            ('servers = ["http://127.0.0.1:9000"]', "", False),
            ('[audit]\npath = "record"', "[audit]", False),
            ("[[listener]]", "[listener]", False),
            ("[[listener]]", "mode = 'observe'\n[[listener]]", True),
            ("[[listener]]", "mode = 'watch'\n[[listener]]", False),
            ("[[listener]]", "[runtime]\nworkers = 2\n[[listener]]", True),
            ("[[listener]]", "[runtime]\nworkers = 'some'\n[[listener]]", False),
            ("[[listener]]", "[[listener]]\nhttp3 = true", False),
            ("[limits]", "[limit]", False),
        ]
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "keys.toml").write_text(KEY)
            for old, new, sound in cases:
                self.assertIn(old, SOUND)
                text = SOUND.replace(old, new, 1)
                (folder / "saltgate.toml").write_text(text)
                with self.subTest(new or f"without {old}"):
                    by_schema = list(validator.iter_errors(tomllib.loads(text)))
                    self.assertEqual(by_schema == [], sound, by_schema)
                    checked = run(os.environ["SALTGATE"], "check", "--config", str(folder / "saltgate.toml"))
                    self.assertEqual(checked.returncode, 0 if sound else 78, checked.stderr)

    def test_a_record_may_be_missing_only_if_that_is_written_out(self):
        validator = jsonschema.Draft7Validator(self.schema)
        without = SOUND.replace('path = "record"', "danger_no_record = true")
        self.assertTrue(validator.is_valid(tomllib.loads(without)))
        without = SOUND.replace('path = "record"', "danger_no_record = false")
        self.assertFalse(validator.is_valid(tomllib.loads(without)))

    def test_every_form_of_a_secret_is_accepted_and_a_misspelt_one_is_not(self):
        validator = jsonschema.Draft7Validator(json.loads((CONFIG / "keys.schema.json").read_text()))
        secret = 'secret = "0123456789abcdef"'
        for text, sound in [
            ("secret = { env = 'NAME' }", True),
            ("secret = { file = 'path' }", True),
            ("secrets = ['0123456789abcdef', { env = 'NAME' }]", True),
            ("secret = { environment = 'NAME' }", False),
            ("secret = { env = 'NAME', file = 'path' }", False),
            ("secrets = []", False),
            ("secrets = ['a', 'b', 'c']", False),
            ("secret = 'a'\nsecrets = ['b']", False),
            ("", False),
        ]:
            with self.subTest(text):
                self.assertEqual(validator.is_valid(tomllib.loads(KEY.replace(secret, text))), sound)


if __name__ == "__main__":
    unittest.main()
