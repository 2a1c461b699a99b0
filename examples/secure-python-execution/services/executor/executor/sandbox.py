"""Runs code in a process of its own, within limits, and tells what came of it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

JAIL = Path(__file__).with_name("jail.py")


@dataclass(frozen=True)
class Limits:
    seconds: int
    megabytes: int
    output: int = 1024 * 1024  # bytes, of each stream and each file
    required: bool = True  # nothing is run where the kernel has no Landlock


@dataclass(frozen=True)
class Outcome:
    status: Literal["succeeded", "failed", "timed_out"]
    stdout: str
    stderr: str
    exit_code: int | None
    seconds: float


def run(code: str, limits: Limits) -> Outcome:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="run-") as folder, open(f"{folder}/.out", "w+b") as out, open(
        f"{folder}/.err", "w+b"
    ) as err:
        process = subprocess.Popen(
            [sys.executable, "-I", JAIL, json.dumps({"folder": folder, **vars(limits)})],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            cwd=folder,
            # None of the service's own, which has secrets. A thread for each core would be a process too many.
            env={"HOME": folder, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,
        )
        timed_out = False
        try:
            process.communicate(code.encode(), timeout=limits.seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        status = "timed_out" if timed_out else "succeeded" if process.returncode == 0 else "failed"
        return Outcome(
            status=status,
            stdout=written(out, limits.output),
            stderr=written(err, limits.output),
            exit_code=None if timed_out else process.returncode,
            seconds=round(time.monotonic() - began, 3),
        )


def written(file, most: int) -> str:
    file.seek(0)
    return file.read(most).decode(errors="replace")
