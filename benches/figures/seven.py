"""The LLM stack: `up` with nothing changed, what commands take, and the daemon at rest."""

import shutil
import time

from machine import ROOT, timed
from stack import Events, Stack, own
from table import Row, mb, median, ms, times

NAME = "llmdev-bench-llm"
WATCHED = 20_000


def stack(bench):
    return Stack(bench, NAME, write)


def write(folder):
    """The repository's own stack, with a name, a namespace and ports that disturb no other."""
    shutil.copytree(ROOT / "examples/llm-stack", folder / "examples/llm-stack")
    (folder / "stack.yaml").write_text(own((ROOT / "stack.yaml").read_text(), NAME))


def render(bench, stack):
    """With the tools' output kept from the time before."""
    stack.llmdev("render")
    taken = [timed(bench.llmdev, "render", cwd=stack.folder) for _ in range(bench.count(50))]
    nothing = median([timed(bench.llmdev, "--version") for _ in range(bench.count(50))])
    reading = median([read_all(stack.folder) for _ in range(bench.count(50))])
    over = median(taken) - nothing - reading
    yield Row(
        f"`llmdev render` with nothing changed: median of {len(taken)}",
        "≤ 10 ms over reading the inputs",
        f"{ms(over)} over ({ms(median(taken))} in all, {ms(min(taken))} to {ms(max(taken))}; `llmdev --version`, which does nothing, {ms(nothing)}; "
        f"reading the files {ms(reading)})",
        over <= 0.010,
    )


def read_all(folder):
    """Seconds that it takes to read each file once."""
    began = time.perf_counter()
    for path in folder.rglob("*"):
        if path.is_file():
            path.read_bytes()
    return time.perf_counter() - began


def up(bench, stack):
    began = time.perf_counter()
    stack.up()
    yield Row("`llmdev up`, the seven from nothing, images in Docker", "", ms(time.perf_counter() - began), None)
    again = [timed(bench.llmdev, "up", cwd=stack.folder) for _ in range(bench.count(10))]
    yield Row(
        f"`llmdev up` with nothing changed, all seven ready: median of {len(again)}",
        "≤ 1 s",
        f"{ms(median(again))} ({ms(min(again))} to {ms(max(again))})",
        median(again) <= 1,
    )
    anew = []
    for _ in range(bench.count(5)):
        stack.llmdev("daemon", "stop")
        anew.append(timed(bench.llmdev, "up", cwd=stack.folder))
    yield Row(f"the same, the daemon not running: median of {len(anew)}", "", ms(median(anew)), None)


def status(bench, stack):
    stack.up()
    nothing = median([timed(bench.llmdev, "--version") for _ in range(bench.count(20))])
    for words in (["status"], ["logs", "r2r", "--tail", "100"]):
        taken = [timed(bench.llmdev, *words, cwd=stack.folder) for _ in range(bench.count(20))]
        yield Row(
            f"`llmdev {' '.join(words)}`: median of {len(taken)}",
            "≤ 30 ms",
            f"{ms(median(taken))} ({ms(min(taken))} to {ms(max(taken))}; `llmdev --version`, which does nothing, {ms(nothing)})",
            median(taken) <= 0.030,
        )


def rest(bench, stack):
    stack.up()
    yield from at_rest(bench, stack, "daemon at rest with the seven")
    pages = stack.folder / "examples/llm-stack/services/r2r/watched"
    before = stack.row("r2r")["image"]
    for number in range(WATCHED):
        page = pages / f"{number // 100}" / f"{number}.txt"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"page {number}\n")
    stack.settled("r2r", other_than=before)
    yield from at_rest(bench, stack, f"daemon at rest, seven services, {WATCHED:,} files watched")


def learnt(daemon, most=300):
    """Waits until Docker has been let learn the layers of new images, which is done once, when all else is."""
    end = time.monotonic() + most
    while time.monotonic() < end:
        before = daemon.cpu()
        time.sleep(35)  # longer than the daemon waits with it
        if daemon.cpu() - before <= 0.02:
            return


def resting(bench, daemons):
    """What each daemon takes when nothing is to do: over so many seconds, the bytes and the shares of a core."""
    for daemon in daemons:
        learnt(daemon)
    seconds = bench.seconds(60)
    before = [daemon.cpu() for daemon in daemons]
    time.sleep(seconds)
    shares = [(daemon.cpu() - cpu) / seconds for daemon, cpu in zip(daemons, before)]
    return seconds, [daemon.resident() for daemon in daemons], shares


def at_rest(bench, stack, what):
    with Events(stack, "r2r") as events:
        events.quiet(5, most=300)
    daemon = stack.daemon()
    seconds, [resident], [share] = resting(bench, [daemon])
    yield Row(
        f"{what}: memory",
        "≤ 30 MB",
        f"{mb(resident)} resident, {mb(daemon.anonymous())} of it anonymous; {times(resident / 30e6)} the limit",
        resident <= 30e6,
    )
    yield Row(f"{what}: CPU over {seconds:.0f} s", "≤ 0.2 % of a core", f"{share * 100:.2f} %", share <= 0.002)
