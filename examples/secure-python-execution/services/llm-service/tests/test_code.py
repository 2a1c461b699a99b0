"""What is written, what is allowed, and where it goes."""

import unittest

from llm_service.generator import TEMPLATES, Templates, Unknown, bare
from llm_service.router import route
from llm_service.validator import problems


class Validation(unittest.TestCase):
    def test_allows_what_is_harmless(self):
        for code in ["print(1)", "import math, json\nprint(math.pi)", "from collections import Counter", "if __name__ == '__main__': pass"]:
            self.assertEqual(problems(code), [], code)

    def test_names_what_is_not_allowed_and_where(self):
        cases = {
            "import os": "line 1: the module os is not allowed",
            "x = 1\nimport math, subprocess as s": "line 2: the module subprocess is not allowed",
            "from os.path import join": "line 1: the module os is not allowed",
            "from . import x": "line 1: a relative import has nothing to be relative to",
            "open('/etc/passwd')": "line 1: open is not allowed",
            "run = eval": "line 1: eval is not allowed",
            "().__class__.__bases__": "line 1: __bases__ is Python's own, and not allowed",
            "__builtins__": "line 1: __builtins__ is Python's own, and not allowed",
            "def f(:": "line 1: ",
        }
        for code, expected in cases.items():
            self.assertTrue(any(it.startswith(expected) for it in problems(code)), (code, problems(code)))
        self.assertNotEqual(problems("a\0"), [])


class Routing(unittest.TestCase):
    def test_goes_by_what_the_code_would_take(self):
        cases = [
            ("print(1)", "light"),
            ("import numpy", "heavy"),
            ("from numpy.linalg import inv", "heavy"),
            ("for i in range(10**2): pass", "light"),
            ("for i in range(100000000): pass", "heavy"),
            ("for i in range(5000):\n for j in range(5000): pass", "heavy"),
            ("[i for i in range(5000) for j in range(5000)]", "heavy"),
            ("for a in x:\n for b in x:\n  for c in x: pass", "heavy"),
            ("for a in x:\n for b in x: pass\nfor c in x: pass", "light"),
            ("for i in range(50, 0, -1): pass", "light"),
        ]
        for code, expected in cases:
            self.assertEqual(route(code).to, expected, code)


class Generation(unittest.TestCase):
    def test_templates_write_code_that_is_valid(self):
        tasks = {
            "the sum of squares to 10": "range(1, 10 + 1)",
            "Primes below 30": "range(2, 30)",
            "first 10 Fibonacci numbers": "< 10",
            "Median of 3, 1, 2": "statistics.median([3, 1, 2])",
            "multiply 200x200 matrices": "(200, 200)",
        }
        self.assertEqual(len(tasks), len(TEMPLATES))
        for task, part in tasks.items():
            code = Templates().write(task, [])
            self.assertIn(part, code)
            self.assertEqual(problems(code), [])

    def test_what_no_template_knows_is_said(self):
        with self.assertRaisesRegex(Unknown, "primes below 30"):
            Templates().write("paint a picture", [])

    def test_a_fence_is_taken_off(self):
        self.assertEqual(bare("Here:\n```python\nprint(1)\n```\nDone."), "print(1)\n")
        self.assertEqual(bare("print(1)"), "print(1)")


if __name__ == "__main__":
    unittest.main()
