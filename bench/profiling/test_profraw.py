"""Checks that the profile of a real program is parsed: in `bench`, `python3 -B -m unittest profiling.test_profraw`."""
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from profiling import profraw

PROGRAM = """
use std::hint::black_box;

#[inline(never)]
fn seven_times(sum: &mut u64) {
    *sum += black_box(1);
}

#[inline(never)]
fn by_pointer(sum: &mut u64) {
    *sum += black_box(2);
}

#[inline(never)]
fn never(sum: &mut u64) {
    *sum += black_box(3);
}

fn main() {
    let mut sum = 0;
    for _ in 0..7 {
        seven_times(&mut sum);
    }
    for _ in 0..5 {
        black_box(by_pointer as fn(&mut u64))(&mut sum);
    }
    if black_box(sum) == 0 {
        never(&mut sum);
    }
}
"""


class Counts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as folder:
            place = pathlib.Path(folder)
            (place / "counted.rs").write_text(PROGRAM)
            subprocess.run(["rustc", "--edition=2024", "-O", f"-Cprofile-generate={place}", "-o", place / "counted", place / "counted.rs"],
                           check=True)
            subprocess.run([place / "counted"], check=True, env={**os.environ, "LLVM_PROFILE_FILE": str(place / "counted.profraw")})
            cls.raw = (place / "counted.profraw").read_bytes()
        cls.text = profraw.text(cls.raw).decode()

    def function(self, name):
        """The shape, the number of counters, and the rest."""
        found = re.search(rf"^\S*{name}\S*\n(\d+)\n(\d+)\n(.*?)\n\n", self.text, re.M | re.S)
        self.assertTrue(found, f"{name} is not in the text")
        return found[3].split("\n")

    def test_functions_have_their_counts(self):
        self.assertTrue(self.text.startswith(":ir\n"))
        for name, count in (("seven_times", "7"), ("by_pointer", "5"), ("never", "0")):
            self.assertEqual(self.function(name), [count], name)

    def test_a_call_through_a_pointer_names_what_was_called(self):
        self.assertRegex(self.text, r"\n\S*by_pointer\S*:5\n")

    def test_what_is_not_understood_is_refused(self):
        other = bytearray(self.raw)
        other[8] += 1
        for raw, why in ((b"", "no profile"), (bytes(200), "no profile"), (bytes(other), "version"), (self.raw + bytes(8), "understood")):
            with self.assertRaisesRegex(profraw.Fault, why):
                profraw.text(raw)
        # A program that was killed while it wrote its profile.
        for size in range(0, len(self.raw), 7):
            with self.assertRaises(profraw.Fault, msg=f"cut off behind {size} bytes"):
                profraw.text(self.raw[:size])


if __name__ == "__main__":
    unittest.main()
