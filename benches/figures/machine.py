"""The machine, the cluster and the programs that the figures are measured with."""

import json
import os
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Bench:
    def __init__(self, given):
        self.llmdev = os.path.abspath(given.llmdev)
        self.short = given.short
        self.command = given.command.strip()
        self.origin = given.origin
        self.work = Path(given.work)
        self.work.mkdir(parents=True, exist_ok=True)
        # A kubeconfig of its own: stacks go to its current context, and nobody else's changes.
        config = self.work / "kubeconfig"
        config.write_text(output("kubectl", "config", "view", "--minify", "--flatten", "--context", given.context))
        config.chmod(0o600)
        run("kubectl", "--kubeconfig", config, "config", "use-context", given.context)
        os.environ.update(KUBECONFIG=str(config), XDG_STATE_HOME=str(self.work / "state"))
        self.kind = given.context.removeprefix("kind-")
        self.node = output("kind", "get", "nodes", "--name", self.kind).split()[0]

    def count(self, number):
        """How often something is done; less in a short run."""
        return max(2, number // 5) if self.short else number

    def seconds(self, number):
        """How long something is watched."""
        return number / 6 if self.short else number

    def kind_load(self, image):
        """Seconds that kind needs to bring an image into the node."""
        return timed("kind", "load", "docker-image", image, "--name", self.kind)

    def docker_images(self, stack):
        return output(
            "docker", "image", "ls", "--filter", f"reference=llmdev.local/{stack}/*", "--format", "{{.Repository}}:{{.Tag}}"
        ).split()

    def node_images(self, stack):
        names = output("docker", "exec", self.node, "ctr", "--namespace", "k8s.io", "images", "ls", "--quiet")
        return [name for name in names.split() if name.startswith(f"llmdev.local/{stack}/")]

    def remove_images(self, stack):
        """From Docker and from the node, with the node's layers that nothing else has."""
        node = self.node_images(stack)
        if node:
            run("docker", "exec", self.node, "crictl", "rmi", *node, quiet=True, check=False)
        docker = self.docker_images(stack)
        if docker:
            run("docker", "image", "rm", *docker, quiet=True, check=False)

    def cores(self):
        return len(os.sched_getaffinity(0))

    def memory(self):
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.0f} GiB"

    def versions(self):
        docker = output("docker", "version", "--format", "{{.Server.Version}}").strip()
        kubernetes = json.loads(output("kubectl", "version", "--output", "json"))["serverVersion"]["gitVersion"]
        kind = output("kind", "version").split()[1]
        version = output(self.llmdev, "--version").strip()
        return f"{version} {self.origin}, Docker {docker}, Kubernetes {kubernetes} by kind {kind}"


class Failed(Exception):
    """A program did not do what it was asked to."""


def run(*command, quiet=False, check=True, **options):
    """Runs a program to its end; its output is shown when it fails."""
    result = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else subprocess.PIPE,
        text=True,
        **options,
    )
    if check and result.returncode != 0:
        said = f"{result.stdout[-1000:]}\n{(result.stderr or '')[-2000:]}"
        raise Failed(f"{Path(command[0]).name} {' '.join(map(str, command[1:]))} ended with {result.returncode}: {said}")
    return result


def output(*command, **options):
    return run(*command, **options).stdout


def timed(*command, **options):
    """Seconds that a program took."""
    began = time.perf_counter()
    run(*command, **options)
    return time.perf_counter() - began


def until(what, seconds, condition, pause=0.05):
    """Waits for a condition of which nobody tells; what it returned."""
    deadline = time.monotonic() + seconds
    while not (held := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"{what} did not happen within {seconds} s")
        time.sleep(pause)
    return held
