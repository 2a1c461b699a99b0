"""The five systems of this repository, each by itself and then all at once."""

import re
import shutil
import time
from contextlib import ExitStack, contextmanager

import seven
from machine import ROOT
from stack import Stack, own
from table import Row, mb, ms, times

EXAMPLES = ("llm-runner-router", "secure-python-execution", "llm-cost-ops", "llm-router-chart")


@contextmanager
def stacks(bench):
    with ExitStack() as within:
        yield [within.enter_context(stack) for stack in [seven.stack(bench), *(copy(bench, name) for name in EXAMPLES)]]


def copy(bench, example):
    name = f"llmdev-bench-{example}"
    return Stack(bench, name, lambda folder: write(example, name, folder))


def write(example, name, folder):
    """An example, with a name, a namespace and ports that disturb no other."""
    shutil.copytree(ROOT / "examples" / example, folder, dirs_exist_ok=True)
    text = (folder / "stack.yaml").read_text()
    namespace = re.search(r"^namespace: (\S+)$", text, flags=re.M)[1]
    for path in folder.rglob("*.yaml"):
        path.write_text(re.sub(rf"(?<![-\w]){namespace}(?![-\w])", name, path.read_text()))
    (folder / "stack.yaml").write_text(own((folder / "stack.yaml").read_text(), name))


def systems(bench, all_of_them):
    for stack in all_of_them[1:]:
        yield up(bench, stack)
    all_of_them[0].up()
    daemons = [stack.daemon() for stack in all_of_them]
    seconds, resident, shares = seven.resting(bench, daemons)
    yield Row(
        "all five systems up, each one's daemon at rest: memory",
        "≤ 30 MB each",
        ", ".join(map(mb, resident)),
        max(resident) <= 30e6,
    )
    yield Row(
        f"the same: CPU over {seconds:.0f} s",
        "≤ 0.2 % of a core each",
        ", ".join(f"{share * 100:.2f} %" for share in shares),
        max(shares) <= 0.002,
    )


def up(bench, stack):
    """`up` with the images built and nothing running, beside the service that took longest from its objects to ready."""
    stack.up()
    ratios, told = zip(*sorted(once(stack) for _ in range(bench.count(5))))
    middle = len(ratios) // 2
    return Row(
        f"`llmdev up` of {stack.name.removeprefix('llmdev-bench-')}, images built, nothing running; p50 of {len(ratios)}",
        "≤ 1.3 × the slowest service's own start",
        f"{times(ratios[middle])} (to {times(ratios[-1])}); then {told[middle]}",
        ratios[middle] <= 1.3,
    )


def once(stack):
    """The ratio, and what it was made of."""
    stack.down()
    began = time.perf_counter()
    stack.up()
    took = time.perf_counter() - began
    starts = {row["name"]: stage(row, "start") for row in stack.status()["services"]}
    slowest = max(starts.values())
    stages = ", ".join(f"{name} {ms(seconds)}" for name, seconds in starts.items())
    return took / slowest, f"{ms(took)} in all; each one's start: {stages}"


def stage(row, name):
    """Seconds that a service's stage took the last time."""
    return sum(timing["ms"] for timing in row["timings"] if timing["stage"] == name) / 1000
