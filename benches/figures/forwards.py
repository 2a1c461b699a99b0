"""A forward while its pod is replaced, and what it carries."""

import asyncio
import json
import subprocess
import threading
from contextlib import contextmanager

from client import download, latency, steadily
from stack import Stack
from table import Row, median, ms, times

RATE = 200


def forward(bench, stack: Stack):
    stack.up()
    port, seconds = stack.port("app"), bench.seconds(60)
    names = set()

    def replace():
        names.update(pod["name"] for pod in stack.row("app")["pods"])
        stack.kubectl("delete", "pod", "--selector", "app=app", "--wait=false")

    deaths = [threading.Timer(seconds * part / 3, replace) for part in (1, 2)]
    for death in deaths:
        death.start()
    ends, taken, late = asyncio.run(steadily(port, RATE, seconds))
    for death in deaths:
        death.join()
    if len(names) != 2:
        raise AssertionError(f"the pod was to be replaced twice, but the pods were {names}")
    middle, worst = (ms(median(taken)), ms(taken[-1])) if taken else ("-", "-")
    yield Row(
        f"{RATE} requests a second through a forward for {seconds:.0f} s, its pod deleted and replaced twice",
        "none refused, none reset before it was answered",
        f"{ends['refused']} refused, {ends['reset']} reset, {ends['failed']} failed, {ends['answered']} answered "
        f"(median {middle}, longest {worst}; the last one began {ms(max(late, 0))} late)",
        ends["answered"] == sum(ends.values()),
    )


def throughput(bench, stack: Stack):
    stack.up()
    stack.settled("app")
    megabytes, mine, peer = 128 if bench.short else 1024, [], []
    count = bench.count(500)
    with kubectl_forward() as other:
        for _ in range(3):
            mine.append(download(stack.port("app"), megabytes))
            peer.append(download(other, megabytes))
        peer_latency = median(latency(other, count))
    ratio = median(peer) / median(mine)
    yield Row(
        f"{megabytes} MiB through a forward: median of {len(mine)}",
        "≥ 2 × `kubectl port-forward`",
        f"{times(ratio)}: {speed(megabytes, mine)} against {speed(megabytes, peer)}",
        ratio >= 2,
    )
    own = median(latency(stack.port("app"), count))
    direct = straight(stack, count)
    if direct is None:
        told, good = "the node's port cannot be reached from here", None
    else:
        told, good = f"{ms(own - direct)} more than the {ms(direct)} by the node's port", own - direct <= 0.001
    yield Row(
        f"a small request through a forward: median of {count}",
        "≤ 1 ms more than without",
        f"{ms(own)}, {told}; `kubectl port-forward` {ms(peer_latency)}",
        good,
    )


def speed(megabytes, taken):
    return f"{megabytes * (1 << 20) / 1e6 / median(taken):.0f} MB/s"


def straight(stack, count):
    """The median of requests straight to the node, if it can be reached."""
    service = json.loads(stack.kubectl("get", "service", "app", "--output", "json"))
    node = json.loads(stack.kubectl("get", "nodes", "--output", "json"))["items"][0]
    address = next(one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP")
    try:
        return median(latency(service["spec"]["ports"][0]["nodePort"], count, address))
    except OSError:
        return None


@contextmanager
def kubectl_forward(namespace="llmdev-bench-app"):
    """`kubectl port-forward` while it lasts; its local port."""
    command = ["kubectl", "--namespace", namespace, "port-forward", "deployment/app", ":18090"]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = program.stdout.readline()  # Forwarding from 127.0.0.1:41234 -> 18090
        threading.Thread(target=program.stdout.read, daemon=True).start()
        yield int(line.split(" -> ")[0].rpartition(":")[2])
    finally:
        program.terminate()
        program.wait()
