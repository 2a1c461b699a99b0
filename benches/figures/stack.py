"""A stack of the bench's own: a copy of its files, brought up, watched and taken away."""

import json
import queue
import re
import shutil
import subprocess
import threading
import time

from machine import Failed, output, run, until
from process import Process


def own(text, name):
    """A stack.yaml's text with a name, a namespace and ports that disturb no other."""
    text = re.sub(r"^name: .*", f"name: {name}", text, flags=re.M)
    text = re.sub(r"^namespace: .*", f"namespace: {name}", text, flags=re.M)
    text = re.sub(r"^cluster: .*", "cluster: { create: false }", text, flags=re.M)
    beside = lambda port: str(int(port) + 20_000)
    short = lambda ports: ", ".join(f'"{beside(port)}:{port}"' for port in re.findall(r"\d+", ports))
    text = re.sub(r"forward: \[([\d, ]+)\]", lambda ports: f"forward: [{short(ports[1])}]", text)
    return re.sub(r"local: (\d+)", lambda port: f"local: {beside(port[1])}", text)


class Stack:
    """To be used by `with`: the files are there within, and nothing of it afterwards. `write` puts them into a folder."""

    def __init__(self, bench, name, write):
        self.bench, self.name, self.write = bench, name, write
        self.folder = bench.work / name

    def __enter__(self):
        self._remove()  # what a run that was killed has left
        self.folder.mkdir(parents=True)
        self.write(self.folder)
        return self

    def __exit__(self, *_):
        self._remove()

    def llmdev(self, *words, **options):
        return output(self.bench.llmdev, *words, cwd=self.folder, **options)

    def up(self):
        self.llmdev("up", timeout=900)

    def status(self):
        return json.loads(self.llmdev("status", "-o", "json"))

    def row(self, service):
        return next(row for row in self.status()["services"] if row["name"] == service)

    def daemon(self):
        return Process(json.loads(self.llmdev("daemon", "status", "-o", "json"))["pid"])

    def port(self, service):
        """The local port of a service's first forward."""
        return self.row(service)["forwards"][0]["local"]

    def settled(self, service, other_than=None):
        """Waits until a service runs in one pod, with another image than the given one; its row."""

        def condition():
            row = self.row(service)
            if row["phase"] == "failed":
                raise Failed(f"{service} failed: {row['reason']}")
            return row if row["phase"] == "ready" and len(row["pods"]) == 1 and row["image"] != other_than else None

        return until(f"{service} to be ready in one pod", 120, condition)

    def learnt(self, service):
        """Waits until Docker has pushed, and so compressed, every layer of a service's image: llmdev has it do that when
        nothing else is to do, and remembers the layers."""
        image = self.row(service)["image"]
        layers = json.loads(output("docker", "image", "inspect", image, "--format", "{{json .RootFS.Layers}}"))
        homes = (self.bench.work / "state/llmdev").glob("*/root")
        memory = next(home for home in homes if home.read_text() == str(self.folder)).with_name("loader.json")

        def condition():
            text = memory.read_text() if memory.exists() else ""
            return all(layer in text for layer in layers)

        until(f"Docker to learn the layers of {image}", 300, condition)

    def kubectl(self, *words, **options):
        return output("kubectl", "--namespace", self.name, *words, **options)

    def down(self):
        self.llmdev("down", "--volumes", timeout=300)

    def _remove(self):
        if (self.folder / "stack.yaml").exists():
            run(self.bench.llmdev, "down", "--volumes", cwd=self.folder, check=False, timeout=300)
            run(self.bench.llmdev, "daemon", "stop", cwd=self.folder, check=False, quiet=True, timeout=60)
        run("kubectl", "delete", "namespace", self.name, "--ignore-not-found", "--timeout", "180s", quiet=True)
        self.bench.remove_images(self.name)
        shutil.rmtree(self.folder, ignore_errors=True)


class Events:
    """A service's rows as they change, from `llmdev events`; to be used by `with`."""

    def __init__(self, stack, service):
        self.stack, self.service = stack, service
        self.rows = []  # (monotonic seconds, row)
        self.news = queue.SimpleQueue()

    def __enter__(self):
        self.program = subprocess.Popen(
            [self.stack.bench.llmdev, "events"], cwd=self.stack.folder, stdout=subprocess.PIPE, text=True
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self._next(10)  # the snapshot
        return self

    def __exit__(self, *_):
        self.program.terminate()
        self.program.wait()
        self.reader.join()

    def quiet(self, seconds, most):
        """Waits until nothing changed for that long; `most` is the longest to wait for."""
        deadline = time.monotonic() + most
        while self._next(seconds):
            if time.monotonic() > deadline:
                raise Failed(f"{self.service} still changed after {most} s")

    def builds(self):
        """How many builds began."""
        phases = [row["phase"] for _, row in self.rows]
        return sum(now == "building" != before for before, now in zip(phases, phases[1:]))

    def _next(self, seconds):
        try:
            self.news.get(timeout=seconds)
            return True
        except queue.Empty:
            return False

    def _read(self):
        for line in self.program.stdout:
            what = json.loads(line)["what"]
            changed = what["snapshot"]["services"] if "snapshot" in what else [what.get("service")]
            for row in changed:
                if row and row["name"] == self.service:
                    self.rows.append((time.monotonic(), row))
            self.news.put(True)
