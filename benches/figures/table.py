"""What was measured, beside what it must be."""

import os
import statistics
import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone

VERDICTS = {True: "ok", False: "MISSED", None: ""}

BY_HAND = """
`./scripts/test` and `./scripts/start` are measured as a whole: `time ./scripts/test` on a machine with nothing (must be
40 min at most) and again (12 min), `time ./scripts/start` on one with nothing (25 min) and again (5 s more than
`time llmdev up`).
"""


@dataclass
class Row:
    what: str
    must: str
    measured: str
    good: bool | None  # none: only told
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    def cells(self):
        return [self.what, self.must, self.measured, VERDICTS[self.good], f"{self.load:.1f}"]


class Table:
    HEAD = ["what", "must", "measured", "verdict", "load"]

    def __init__(self, bench):
        self.bench = bench
        self.began = datetime.now(timezone.utc)
        self.load = os.getloadavg()
        self.rows = []

    def add(self, row):
        self.rows.append(row)
        print(f"bench:   {row.what}: {row.measured} {VERDICTS[row.good]}", file=sys.stderr, flush=True)

    def passed(self):
        return all(row.good is not False for row in self.rows)

    def text(self):
        lines = [self.HEAD] + [row.cells() for row in self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.HEAD))]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def document(self):
        lines = [self.HEAD, ["---"] * len(self.HEAD)] + [row.cells() for row in self.rows]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        return "\n".join(["# Figures", "", self.about(), "", table, BY_HAND])

    def about(self):
        load = " ".join(f"{one:.1f}" for one in self.load)
        after = " ".join(f"{one:.1f}" for one in os.getloadavg())
        facts = {
            "Measured": f"{self.began:%Y-%m-%d %H:%M} UTC by `{self.bench.command}`, which wrote this file",
            "Machine": f"{self.bench.cores()} cores, {self.bench.memory()} of memory",
            "Load average": f"{load} before, {after} after; the last column is that of the minute before the row. "
            "What others do on the machine meanwhile is in every figure",
            "Versions": self.bench.versions(),
        }
        return "\n".join(f"- {name}: {fact}." for name, fact in facts.items())


def ms(seconds):
    """As a person reads it: 12 ms, 340 ms, 1.62 s."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.0995 else f"{seconds * 1e3:.0f} ms"


def times(number):
    """A ratio."""
    return f"{number:.0f} ×" if number >= 10 else f"{number:.2f} ×"


def mb(count):
    """Bytes in units of a million, as the limits mean them."""
    return f"{count / 1e6:.1f} MB"


def median(values):
    return statistics.median(values)


def p95(values):
    """The smallest value that at least 95 of 100 are not above."""
    ordered = sorted(values)
    return ordered[-(-len(ordered) * 95 // 100) - 1]
