"""The way of images into the node, beside kind's own; and the program's size."""

import os
import shutil

from machine import ROOT
from stack import Stack
from table import Row, mb, median, ms, times

NAME = "llmdev-bench-load"


def binary(bench, _):
    size = os.path.getsize(bench.llmdev)
    yield Row("the binary, stripped", "≤ 25 MB", mb(size), size <= 25e6)


def stack(bench):
    def write(folder):
        shutil.copytree(ROOT / "benches/app", folder, dirs_exist_ok=True)
        shutil.rmtree(bench.work / "state", ignore_errors=True)  # Docker, too, shall meet the stack for the first time

    return Stack(bench, NAME, write)


def describe(stack, target, seed):
    """Has the stack build one of the Dockerfile's targets."""
    text = (ROOT / "benches/app/stack.yaml").read_text().replace("llmdev-bench-app", NAME).replace("18090]", '"18091:18090"]')
    text = text.replace("target: app", f'target: {target}, args: {{ SEED: "{seed}" }}')
    (stack.folder / "stack.yaml").write_text(text)


def load(bench, stack):
    yield first(bench, stack)
    yield from again(bench, stack)


def first(bench, stack):
    """Each with an image whose only layer nothing else has."""
    describe(stack, "whole", f"llmdev's {os.getpid()}")
    stack.llmdev("build", timeout=600)
    stack.up()
    mine = loading(stack)
    stack.down()
    bench.remove_images(NAME)
    describe(stack, "whole", f"kind's {os.getpid()}")
    peer = bench.kind_load(built(bench, stack))
    bench.remove_images(NAME)
    return Row(
        "first load of the image",
        "not slower than `kind load docker-image`",
        f"{ms(mine)} against {ms(peer)}: {times(peer / mine)} as fast",
        mine <= peer,
    )


def again(bench, stack):
    """A change in the top layer."""
    describe(stack, "app", "none")
    stack.up()
    rushed = edited(stack, "before Docker knows the layers")
    stack.learnt("app")
    mine = [edited(stack, f"llmdev's {number}") for number in range(bench.count(20))]
    stack.llmdev("pause")
    peer = []
    for number in range(3):
        edit(stack, f"kind's {number}")
        peer.append(bench.kind_load(built(bench, stack)))
    ratio = median(peer) / median(mine)
    what = f"load after a change in the top layer: median of {len(mine)}"
    yield Row(what, "≤ 150 ms", f"{ms(median(mine))} ({ms(min(mine))} to {ms(max(mine))})", median(mine) <= 0.150)
    told = f"{times(ratio)} as fast, {ms(median(mine))} against {ms(median(peer))}"
    yield Row("the same beside `kind load docker-image`", "≥ 30 ×", told, ratio >= 30)
    yield Row("the same right after the first `llmdev up`, Docker not having compressed the layers yet", "", ms(rushed), None)


def edited(stack, name):
    """Seconds of the load that an edit leads to."""
    image = stack.settled("app")["image"]
    edit(stack, name)
    stack.settled("app", other_than=image)
    return loading(stack)


def edit(stack, name):
    (stack.folder / "src/version.py").write_text(f'VERSION = "{name} of {os.getpid()}"\n')


def built(bench, stack):
    """Builds an image that the node has not got; its name."""
    before = set(bench.docker_images(NAME))
    stack.llmdev("build", timeout=600)
    (made,) = set(bench.docker_images(NAME)) - before
    return made


def loading(stack):
    """Seconds of the last load."""
    return next(timing["ms"] for timing in stack.row("app")["timings"] if timing["stage"] == "load") / 1e3
