"""Who writes the code: a model behind an OpenAI-compatible interface, or, without one, templates for a few kinds of task."""

import json
import re
import urllib.request
from typing import Protocol

from .validator import HEAVY, LIGHT


class Unknown(Exception):
    """Nobody here can write code for that."""


class Generator(Protocol):
    def write(self, task: str, problems: list[str]) -> str:
        """Code for the task; `problems` are those of the last attempt."""


TEMPLATES = {
    r"sum of (?:the )?squares (?:up )?to (\d+)": """\
total = sum(number * number for number in range(1, {0} + 1))
print(total)
""",
    r"primes (?:below|under|up to) (\d+)": """\
primes = [n for n in range(2, {0}) if all(n % d for d in range(2, int(n**0.5) + 1))]
print(*primes)
""",
    r"(?:first )?(\d+) fibonacci(?: numbers)?": """\
numbers = [0, 1]
while len(numbers) < {0}:
    numbers.append(numbers[-1] + numbers[-2])
print(*numbers[:{0}])
""",
    r"(mean|median|mode|stdev) of ([-\d., ]*\d)": """\
import statistics

print(statistics.{0}([{1}]))
""",
    r"multiply (?:two )?(\d+)\s*[x×]\s*\1 matrices": """\
import numpy

random = numpy.random.default_rng(1)
one, other = random.random(({0}, {0})), random.random(({0}, {0}))
product = one @ other
print(product.shape, round(float(product.trace()), 6))
""",
}


class Templates:
    def write(self, task: str, problems: list[str]) -> str:
        for pattern, code in TEMPLATES.items():
            if found := re.search(pattern, task, re.IGNORECASE):
                return code.format(*(word.lower() for word in found.groups()))
        examples = "sum of squares to 10, primes below 30, first 10 fibonacci numbers, median of 3, 1, 2, multiply 200x200 matrices"
        raise Unknown(f"the templates know tasks like: {examples}; set `llm_base_url` for others")


class Upstream:
    def __init__(self, url: str, model: str, key: str):
        self.url, self.model, self.key = url.rstrip("/"), model, key

    def write(self, task: str, problems: list[str]) -> str:
        rules = (
            "Write a Python program that prints the answer. Say nothing but the program. It may import "
            f"{', '.join(sorted(LIGHT | HEAVY))}; no files, no network."
        )
        mend = "\nThe last attempt was wrong:\n" + "\n".join(problems) if problems else ""
        messages = [{"role": "system", "content": rules}, {"role": "user", "content": task + mend}]
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions",
            data=json.dumps({"model": self.model, "messages": messages}).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return bare(json.load(response)["choices"][0]["message"]["content"])


def bare(answer: str) -> str:
    """The code without the fence that models put around it."""
    fenced = re.search(r"```(?:python)?\n(.*?)```", answer, re.DOTALL)
    return fenced.group(1) if fenced else answer
