"""A task's way, with a generator and an executor that say what they are told to."""

import threading
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer

from llm_service import platform
from llm_service.platform import ExecutorError, Platform


class Generator:
    def __init__(self, *codes):
        self.codes, self.told = list(codes), []

    def write(self, task, problems):
        self.told.append(problems)
        return self.codes.pop(0) if len(self.codes) > 1 else self.codes[0]


class Executor:
    def __init__(self, *results):
        self.results, self.asked = list(results), []

    def call(self, method, path, body=None):
        self.asked.append((path, body["code"]))
        return self.results.pop(0)


FINE = {"status": "succeeded", "stdout": "1\n", "stderr": ""}
BAD = {"status": "failed", "stdout": "", "stderr": "ZeroDivisionError"}


class Health(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


class Waiting(unittest.TestCase):
    def test_an_executor_that_starts_meanwhile_is_waited_for(self):
        with HTTPServer(("127.0.0.1", 0), Health, bind_and_activate=False) as server:
            server.server_bind()  # refuses, until it listens
            executor = platform.Executor(f"http://127.0.0.1:{server.server_address[1]}", timeout=5)
            with self.assertRaises(ExecutorError):
                executor.awake(within=0)
            waiting = threading.Thread(target=executor.awake, args=[30])
            waiting.start()
            server.server_activate()
            server.handle_request()
            waiting.join()


class Performing(unittest.TestCase):
    def perform(self, generator, executor, max_retries=3):
        return Platform(generator, executor, max_retries).perform("task")

    def test_light_code_is_run(self):
        executor = Executor(FINE)
        execution = self.perform(Generator("print(1)"), executor)
        self.assertEqual((execution.result, execution.attempts), (FINE, 1))
        self.assertEqual(executor.asked, [("run", "print(1)")])

    def test_heavy_code_becomes_a_job(self):
        executor = Executor({"id": "j", "state": "pending"})
        execution = self.perform(Generator("import numpy"), executor)
        self.assertEqual((execution.job["id"], execution.result), ("j", None))
        self.assertEqual(executor.asked, [("jobs", "import numpy")])

    def test_what_is_not_allowed_is_written_anew_and_never_sent(self):
        generator, executor = Generator("import os", "print(1)"), Executor(FINE)
        execution = self.perform(generator, executor)
        self.assertEqual(execution.attempts, 2)
        self.assertEqual(generator.told[1], ["line 1: the module os is not allowed"])
        self.assertEqual(executor.asked, [("run", "print(1)")])

    def test_what_fails_is_written_anew(self):
        generator = Generator("1/0", "print(1)")
        self.assertEqual(self.perform(generator, Executor(BAD, FINE)).result, FINE)
        self.assertEqual(generator.told[1], ["ZeroDivisionError"])

    def test_there_is_an_end_to_it(self):
        codes = [f"{n}/0" for n in range(9)]
        execution = self.perform(Generator(*codes), Executor(*[BAD] * 9), max_retries=2)
        self.assertEqual((execution.attempts, execution.result), (3, BAD))

    def test_who_has_nothing_better_is_not_asked_for_ever(self):
        generator = Generator("1/0")
        execution = self.perform(generator, Executor(BAD))
        self.assertEqual((execution.result, len(generator.told)), (BAD, 2))


if __name__ == "__main__":
    unittest.main()
