"""The figures of llmdev, measured on a real cluster: see scripts/bench, which runs this.

A section is a function that takes what its group offers and yields rows. Reading order: table, machine, process, stack,
then the sections: seven, forwards, edits, images, systems, check, digest.
"""

import argparse
import os
import signal
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path

import check
import digest
import edits
import forwards
import images
import seven
import systems
from machine import Bench
from table import Row, Table

# What is measured with one stack stands together. A group is how its stack is had, and its sections in their order.
GROUPS = [
    (lambda _: nullcontext(), {"binary": images.binary, "check": check.check, "digest": digest.digest}),
    (seven.stack, {"render": seven.render, "up": seven.up, "status": seven.status, "rest": seven.rest}),
    (
        edits.app,
        {
            "forward": forwards.forward,
            "throughput": forwards.throughput,
            "sync": edits.sync,
            "rebuild": edits.rebuild,
            "many": edits.many,
            "edits": edits.edits,
        },
    ),
    (images.stack, {"load": images.load}),
    (systems.stacks, {"systems": systems.systems}),
]
NAMES = [name for _, sections in GROUPS for name in sections]


def arguments():
    parser = argparse.ArgumentParser(prog="bench", description="Measures llmdev's figures.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(NAMES))
    parser.add_argument("--short", action="store_true", help="fewer repetitions and seconds")
    parser.add_argument("--write", action="store_true", help="write docs/figures.md")
    for name in ("llmdev", "context", "work", "origin", "command"):
        parser.add_argument(f"--{name}", required=True, help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = [name for name in given.sections if name not in NAMES]
    if unknown:
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return given


def main():
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench = Bench(given)
    table = Table(bench)
    wanted = given.sections or NAMES
    for offer, sections in GROUPS:
        chosen = [name for name in sections if name in wanted]
        if chosen:
            measure(table, chosen, sections, lambda: offer(bench))
    print(table.text())
    if given.write or (not given.sections and not given.short):
        path = Path(__file__).resolve().parents[2] / "docs/figures.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(table.document())
        print(f"\nwritten to {os.path.relpath(path)}")
    else:
        print("\ndocs/figures.md is as it was: it is written by a run of all sections")
    return 0 if table.passed() else 1


def measure(table, chosen, sections, offer):
    """Runs sections; one that fails is a row of its own, and does not keep the others from running."""
    try:
        with offer() as stack:
            for name in chosen:
                print(f"bench: {name}", file=sys.stderr, flush=True)
                try:
                    for row in sections[name](table.bench, stack):
                        table.add(row)
                except Exception as error:
                    failed(table, name, error)
    except Exception as error:
        failed(table, " ".join(chosen), error)


def failed(table, name, error):
    traceback.print_exception(error)
    reason = " ".join(str(error).split())
    table.add(Row(f"`{name}`", "", f"not measured: {reason[:300]}", False))


sys.exit(main())
