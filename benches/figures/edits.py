"""From a save to what it changes: synced, rebuilt, a thousand at once, a hundred in a minute."""

import os
import shutil
import time
from pathlib import Path

from client import Kept, fresh
from machine import ROOT, Failed, run, timed
from stack import Events, Stack
from table import Row, mb, median, ms, p95, times

NAME = "llmdev-bench-app"
FILES = 1_000


def app(bench):
    return Stack(bench, NAME, lambda folder: shutil.copytree(ROOT / "benches/app", folder, dirs_exist_ok=True))


def save(stack, path, text):
    """As editors do: written beside the folder that is watched, then put in the file's place."""
    draft = stack.folder / ".draft"
    draft.write_text(text)
    os.replace(draft, stack.folder / "src" / path)


def version(stack, name):
    save(stack, "version.py", f'VERSION = "{name}"\n')


def served(what, seconds, get, text):
    """Asks without a pause until the answer is this text."""
    deadline = time.perf_counter() + seconds
    while (answer := get()) != text.encode():
        if time.perf_counter() > deadline:
            raise Failed(f"{what}: {answer!r} is served after {seconds} s, not {text!r}")


def sync(bench, stack):
    stack.up()
    kept, taken = Kept(stack.port("app")), []
    for number in range(bench.count(20)):
        time.sleep(0.3)  # edits of their own, not a burst
        text = f"page {number} of {os.getpid()}\n"
        began = time.perf_counter()
        save(stack, "content/page.txt", text)
        served("the synced page", 20, lambda: kept.get("/content"), text)
        taken.append(time.perf_counter() - began)
    pod = stack.row("app")["pods"][0]["name"]
    copied = []
    for _ in range(bench.count(5)):
        copied.append(timed("kubectl", "cp", "--namespace", NAME, stack.folder / "src/server.py", f"{pod}:/tmp/copied"))
    yield Row(
        f"save → byte served, by sync: p50 of {len(taken)}",
        "≤ 30 ms",
        f"{ms(median(taken))}; {times(median(copied) / median(taken))} as fast as `kubectl cp` alone, {ms(median(copied))}",
        median(taken) <= 0.030,
    )
    yield Row("save → byte served, by sync: p95", "≤ 80 ms", ms(p95(taken)), p95(taken) <= 0.080)


def rebuild(bench, stack):
    stack.up()
    stack.learnt("app")
    port, taken, stages = stack.port("app"), [], {}
    for number in range(bench.count(20)):
        image = stack.settled("app")["image"]
        name = f"rebuilt {number} of {os.getpid()}"
        began = time.perf_counter()
        version(stack, name)

        def get():
            time.sleep(0.005)  # what is asked takes from what is measured
            return fresh(port, "/")

        served("the new version", 120, get, name)
        taken.append(time.perf_counter() - began)
        for timing in stack.settled("app", other_than=image)["timings"]:
            stages.setdefault(timing["stage"], []).append(timing["ms"] / 1e3)
    shares = ", ".join(f"{stage} {ms(median(each))}" for stage, each in stages.items())
    built = docker_builds(bench, stack)
    yield Row(
        f"save → new code serving, by rebuild (probe period 1 s): p50 of {len(taken)}",
        "≤ 2 s",
        f"{ms(median(taken))} ({shares}); `docker build` alone {ms(built)}",
        median(taken) <= 2,
    )
    yield Row("save → new code serving, by rebuild: p95", "", ms(p95(taken)), None)


def docker_builds(bench, stack):
    """The median of seconds that Docker's own command needs for the same kind of change."""
    copy = stack.folder / "yardstick"
    shutil.copytree(stack.folder / "src", copy, dirs_exist_ok=True)
    taken = []
    for number in range(bench.count(5)):
        (copy / "version.py").write_text(f'VERSION = "yardstick {number} of {os.getpid()}"\n')
        command = ["docker", "build", "--target", "app", "--tag", f"llmdev.local/{NAME}/yardstick", copy]
        taken.append(timed(*command, env={**os.environ, "DOCKER_BUILDKIT": "1"}))
    shutil.rmtree(copy)
    return median(taken)


def many(bench, stack):
    stack.up()
    folder = stack.folder / "src/many"
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.py" for number in range(FILES)]
    image = stack.settled("app")["image"]
    rewrite(paths, "first")
    image = stack.settled("app", other_than=image)["image"]
    daemon = stack.daemon()
    with Events(stack, "app") as events:
        events.quiet(2, most=60)
        daemon.forget_peak()
        cpu, images = daemon.cpu(), set(bench.docker_images(NAME))
        began = time.perf_counter()
        rewrite(paths, "second")
        written = time.perf_counter() - began
        stack.settled("app", other_than=image)
        took = time.perf_counter() - began
        events.quiet(2, most=60)
        builds, made = events.builds(), len(set(bench.docker_images(NAME)) - images)
    yield Row(
        f"{FILES:,} files changed at once (written in {ms(written)})",
        "one build; CPU and memory bounded",
        f"{builds} build begun, {made} image made, the new pod alone after {ms(took)}; the daemon took "
        f"{daemon.cpu() - cpu:.2f} s of CPU and {mb(daemon.peak())} at its peak",
        builds == made == 1,
    )


def rewrite(paths: list[Path], text):
    for path in paths:
        path.write_text(f"{text} of {os.getpid()}\n")


def edits(bench, stack):
    stack.up()
    yield hundred(bench, stack, "rebuilt", "/", lambda name: version(stack, name))
    yield hundred(bench, stack, "synced", "/content", lambda name: save(stack, "content/page.txt", name))


def hundred(bench, stack, how, path, edit):
    """Edits at an even pace; what then runs, and what is left behind."""
    count, seconds = bench.count(100), bench.seconds(60)
    with Events(stack, "app") as events:
        events.quiet(2, most=120)
        before = Held(bench, stack)
        began = time.monotonic()
        for number in range(count):
            time.sleep(max(0, began + number * seconds / count - time.monotonic()))
            name = f"{how} {number} of {os.getpid()}"
            edit(name)
        saved = time.perf_counter()
        port = stack.port("app")
        served("the last edit", 120, lambda: fresh(port, path), name)
        took = time.perf_counter() - saved
        stack.settled("app")
        events.quiet(5, most=120)
    last = fresh(port, path) == name.encode()
    pruned = run(stack.bench.llmdev, "prune", cwd=stack.folder, check=False, timeout=120).returncode == 0
    after = Held(bench, stack)
    return Row(
        f"{count} edits in {seconds:.0f} s, {how}",
        "the last one is what runs; nothing leaks",
        f"{'the last one runs' if last else 'NOT the last one'}, {ms(took)} after its save; "
        f"{before.beside(after)}{'' if pruned else ', not pruned'}",
        last and before.no_less_than(after),
    )


class Held:
    """What a stack holds at a moment."""

    KEPT = 3  # `prune` keeps so many images of a service

    def __init__(self, bench, stack):
        daemon = stack.daemon()
        self.processes, self.files, self.resident = daemon.family(), daemon.files(), daemon.resident()
        self.docker, self.node = len(bench.docker_images(NAME)), len(bench.node_images(NAME))

    def beside(self, after):
        pairs = {
            "processes": (self.processes, after.processes),
            "open files": (self.files, after.files),
            "images in Docker": (self.docker, after.docker),
            "in the node": (self.node, after.node),
            "resident": (mb(self.resident), mb(after.resident)),
        }
        return ", ".join(f"{what} {before} → {now}" for what, (before, now) in pairs.items())

    def no_less_than(self, after):
        """Whether nothing leaked: a few files' connections and a quarter of memory are how things lie, not a leak."""
        return (
            after.processes <= self.processes
            and after.files <= self.files + 4
            and after.docker <= max(self.docker, self.KEPT)
            and after.node <= max(self.node, self.KEPT)
            and after.resident <= max(self.resident * 1.25, 30e6)
        )
