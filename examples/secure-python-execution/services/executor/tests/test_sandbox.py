"""What code may do, and what it may not. Run as somebody who is not root: rlimits do not bind root."""

import os
import unittest
from pathlib import Path

from executor.sandbox import Limits, run

LIMITS = Limits(seconds=3, megabytes=256)


class Sandbox(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        assert os.getuid() != 0, "run this as another user than root"

    def fails(self, code, expected):
        outcome = run(code, LIMITS)
        self.assertEqual(outcome.status, "failed", outcome)
        self.assertIn(expected, outcome.stderr)

    def test_says_what_the_code_says(self):
        outcome = run("import math, sys\nprint(math.factorial(5))\nprint('oh', file=sys.stderr)", LIMITS)
        self.assertEqual((outcome.status, outcome.stdout, outcome.stderr), ("succeeded", "120\n", "oh\n"))

    def test_tells_where_code_fails(self):
        self.fails("x = 1\nx / 0", "ZeroDivisionError")
        self.fails("x = 1\nx / 0", 'File "<code>", line 2')

    def test_passes_an_exit_code_on(self):
        self.assertEqual(run("raise SystemExit(7)", LIMITS).exit_code, 7)

    def test_ends_what_takes_too_long(self):
        outcome = run("print('begun', flush=True)\nwhile True: pass", Limits(seconds=1, megabytes=256))
        self.assertEqual((outcome.status, outcome.stdout), ("timed_out", "begun\n"))
        self.assertLess(outcome.seconds, 5)

    def test_bounds_memory(self):
        self.fails("x = bytearray(2 * 10**9)", "MemoryError")

    def test_bounds_output(self):
        outcome = run("for _ in range(10**6): print('x' * 100)", Limits(seconds=10, megabytes=256, output=10_000))
        self.assertEqual(outcome.status, "failed")
        self.assertLessEqual(len(outcome.stdout), 10_000)

    def test_starts_no_process(self):
        self.fails("import os; os.fork()", "Resource temporarily unavailable")

    def test_executes_no_program(self):
        self.fails("import os; os.execv('/bin/sh', ['sh'])", "Permission denied")

    def test_reads_no_file_of_others(self):
        for path in ["/etc/passwd", "/proc/1/environ", __file__, "/var/run"]:
            self.fails(f"import os; os.listdir({path!r}) if os.path.isdir({path!r}) else open({path!r})", "Permission denied")

    def test_writes_in_its_own_folder_only(self):
        self.assertEqual(run("open('x', 'w').write('y'); print(open('x').read())", LIMITS).stdout, "y\n")
        self.fails("open('/tmp/x', 'w')", "Permission denied")
        self.assertFalse(Path("/tmp/x").exists())

    def test_has_no_network(self):
        self.fails("import socket; socket.create_connection(('127.0.0.1', 1))", "Permission denied")

    def test_sends_no_signal(self):
        self.fails(f"import os; os.kill({os.getpid()}, 0)", "Operation not permitted")

    def test_sees_nothing_of_the_environment(self):
        os.environ["SECRET"] = "s3cret"
        self.assertNotIn("s3cret", run("import os; print(os.environ)", LIMITS).stdout)

    def test_leaves_nothing(self):
        before = set(Path("/tmp").iterdir())
        run("open('x', 'w')", LIMITS)
        self.assertEqual(set(Path("/tmp").iterdir()), before)


if __name__ == "__main__":
    unittest.main()
