"""Jobs, against an API server that answers as Kubernetes does."""

import json
import os
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from executor.config import Config
from executor.jobs import Jobs, manifest, progress
from executor.kubernetes import Kubernetes, Refused


def pod(**status):
    return {"metadata": {"name": "job-pod"}, "status": status}


def condition(kind, **more):
    return {"status": {"conditions": [{"type": kind, "status": "True", **more}]}}


class Progress(unittest.TestCase):
    def test_says_how_far_a_job_is(self):
        waiting = {"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}}
        unschedulable = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient cpu"}
        cases = [
            ({}, [], ("pending", None)),
            ({}, [pod(phase="Pending", conditions=[unschedulable])], ("pending", "0/1 nodes: Insufficient cpu")),
            ({}, [pod(phase="Pending", containerStatuses=[{"state": waiting}])], ("pending", "ErrImageNeverPull: not present")),
            ({}, [pod(phase="Pending", containerStatuses=[{"state": {"waiting": {"reason": "ContainerCreating"}}}])], ("pending", None)),
            ({}, [pod(phase="Running")], ("running", None)),
            (condition("Complete"), [pod(phase="Succeeded")], ("succeeded", None)),
            (condition("Failed", reason="DeadlineExceeded", message="too long"), [], ("failed", "too long")),
        ]
        for job, pods, expected in cases:
            self.assertEqual(progress(job, pods), expected)


class Manifest(unittest.TestCase):
    def test_is_bound_and_confined(self):
        job = manifest("heavy-1", "print(1)", Config(), None)
        spec = job["spec"]["template"]["spec"]
        self.assertEqual(job["spec"]["ttlSecondsAfterFinished"], 3600)
        self.assertEqual(job["spec"]["backoffLimit"], 3)
        self.assertFalse(spec["automountServiceAccountToken"])
        self.assertEqual(spec["securityContext"]["runAsUser"], 1000)
        [container] = spec["containers"]
        self.assertEqual(container["resources"]["requests"], {"cpu": "2", "memory": "4Gi"})
        self.assertEqual(container["resources"]["limits"], {"cpu": "4", "memory": "8Gi"})
        self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"])


class Server(BaseHTTPRequestHandler):
    """One namespace with the executor's pod, and the Jobs that are made; each is done at once."""

    jobs: dict = {}

    def do_GET(self):
        name = self.path.partition("?")[0].rpartition("/")[2]
        if self.path.endswith("/pods/me"):
            owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u", "controller": True}
            return self.answer(200, {"metadata": {"ownerReferences": [owner]}})
        if self.path.endswith("/log"):
            return self.answer(200, {"status": "succeeded", "stdout": "1\n"})
        if "/pods?" in self.path:
            return self.answer(200, {"items": [pod(phase="Succeeded")]})
        if name == "jobs":
            return self.answer(200, {"items": list(self.jobs.values())})
        if name in self.jobs:
            return self.answer(200, {**self.jobs[name], **condition("Complete")})
        self.answer(404, {"message": f'jobs.batch "{name}" not found'})

    def do_POST(self):
        assert self.headers["Authorization"] == "Bearer t0ken"
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.jobs[job["metadata"]["name"]] = job
        self.answer(201, job)

    def do_DELETE(self):
        del self.jobs[self.path.partition("?")[0].rpartition("/")[2]]
        self.answer(200, {})

    def answer(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


class Life(unittest.TestCase):
    def setUp(self):
        server = HTTPServer(("127.0.0.1", 0), Server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        account = tempfile.TemporaryDirectory()
        self.addCleanup(account.cleanup)
        Path(account.name, "namespace").write_text("space")
        Path(account.name, "token").write_text("t0ken")
        os.environ["HOSTNAME"] = "me"
        self.jobs = Jobs(Config(), Kubernetes(f"http://127.0.0.1:{server.server_port}", Path(account.name)))

    def test_of_a_job(self):
        name = self.jobs.start("print(1)")["id"]
        made = Server.jobs[name]
        self.assertEqual(made["metadata"]["ownerReferences"], [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u"}])
        self.assertEqual(self.jobs.list(), [name])
        found = self.jobs.find(name)
        self.assertEqual((found["state"], found["result"]["stdout"]), ("succeeded", "1\n"))
        self.jobs.remove(name)
        with self.assertRaisesRegex(Refused, "not found"):
            self.jobs.find(name)

    def test_answers_for_its_own_jobs_only(self):
        Server.jobs["other"] = {"metadata": {"name": "other", "labels": {"app": "backup"}}}
        self.addCleanup(Server.jobs.clear)
        for act in [self.jobs.find, self.jobs.remove]:
            with self.assertRaisesRegex(Refused, "no job of the executor"):
                act("other")
        self.assertIn("other", Server.jobs)


if __name__ == "__main__":
    unittest.main()
