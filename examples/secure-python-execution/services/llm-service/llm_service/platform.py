"""A task's way: written, checked, routed, run; and written anew when it was wrong."""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from .generator import Generator
from .router import Route, route
from .validator import problems


class ExecutorError(Exception):
    """What the executor answered instead."""

    def __init__(self, status: int, detail: str):
        super().__init__(detail)
        self.status = status


class Executor:
    def __init__(self, url: str, timeout: float):
        self.url, self.timeout = url, timeout

    def call(self, method: str, path: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/api/v1/{path}", data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise ExecutorError(error.code, detail(error.read())) from None
        except OSError as error:
            raise ExecutorError(503, f"{self.url} does not answer: {error}") from None

    def awake(self, within: float) -> None:
        """Waits for the executor to answer, that many seconds at most: it may be starting, too."""
        end = time.monotonic() + within
        while True:
            try:
                self.call("GET", "health")
                return
            except ExecutorError:
                if time.monotonic() >= end:
                    raise
            time.sleep(0.1)


def detail(body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")


@dataclass
class Execution:
    code: str
    route: Route | None = None
    problems: list[str] = field(default_factory=list)
    attempts: int = 1
    result: dict | None = None  # of light code
    job: dict | None = None  # of heavy code

    @property
    def wrong(self) -> list[str]:
        """What the next attempt should mend."""
        if self.result and self.result["status"] != "succeeded":
            return [self.result["stderr"] or self.result["status"]]
        return self.problems


class Platform:
    def __init__(self, generator: Generator, executor: Executor, max_retries: int):
        self.generator, self.executor, self.max_retries = generator, executor, max_retries

    def perform(self, task: str) -> Execution:
        wrong: list[str] = []
        before = None
        for attempt in range(1, self.max_retries + 2):
            code = self.generator.write(task, wrong)
            if code == before:  # it has nothing better
                break
            execution, before = self.execute(code), code
            execution.attempts = attempt
            if not execution.wrong:
                break
            wrong = execution.wrong
        return execution

    def execute(self, code: str) -> Execution:
        execution = Execution(code, problems=problems(code))
        if execution.problems:
            return execution
        execution.route = route(code)
        if execution.route.to == "light":
            execution.result = self.executor.call("POST", "run", {"code": code})
        else:
            execution.job = self.executor.call("POST", "jobs", {"code": code})
        return execution
