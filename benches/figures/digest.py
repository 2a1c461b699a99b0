"""How long the digest of a build context takes of which nothing has changed."""

from machine import ROOT, output
from table import Row, ms

LIMIT = 0.020


def digest(bench, _):
    """By `cargo bench --bench digests`, which says what a context of 20 000 files takes, a line each."""
    told = {}
    for line in output("cargo", "bench", "--quiet", "--bench", "digests", cwd=ROOT).splitlines():
        what, taken, unit = line.rsplit(maxsplit=2)
        assert unit == "ms", line
        told[what] = float(taken) / 1000
    watched, edited, asked = told["watched"], told["one edited"], told["again, median"]
    yield Row(
        "digest of an unchanged context of 20,000 files, as the daemon takes it that watches them: median of 50",
        f"≤ {ms(LIMIT)}",
        f"{ms(watched)}; with one of them edited {ms(edited)}; all asked about, as `llmdev up` does, {ms(asked)} (at best "
        f"{ms(told['again, best'])}); a fresh process {ms(told['fresh process'])} after {ms(told['cache loaded'])} to load "
        f"what it knows; the first time, reading all, {ms(told['first'])}",
        max(watched, edited) <= LIMIT,
    )
