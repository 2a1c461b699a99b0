"""Run with `python -m unittest discover tests` in the folder above; S3 is tried when moto is installed."""

import json
import os
import sys
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).parent.parent
sys.path.insert(0, str(HERE))

import repository
import server
import snapshot
from classifier import Classifier


def asked(texts):
    return json.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]}).encode()


class TestClassifier(unittest.TestCase):
    def test_it_learns_from_examples(self):
        classifier = Classifier({"fruit": ["apple pear", "apple plum"], "tool": ["hammer saw"]})
        scores = dict(zip(classifier.labels, classifier.scores("An APPLE!")))
        self.assertGreater(scores["fruit"], 0.7)
        self.assertAlmostEqual(sum(scores.values()), 1)

    def test_words_that_it_does_not_know_leave_what_is_usual(self):
        self.assertAlmostEqual(Classifier({"a": ["x", "y", "z"], "b": ["u"]}).scores("never seen")[0], 0.75)

    def test_one_label_is_no_choice(self):
        with self.assertRaises(ValueError):
            Classifier({"a": ["x"]})


class TestServer(unittest.TestCase):
    def setUp(self):
        self.state = server.State()

    def ask(self, method, path, body=b""):
        return server.answer(self.state, method, path, body)

    def refused(self, status, method, path, body=b""):
        with self.assertRaises(server.Refused) as refused:
            self.ask(method, path, body)
        self.assertEqual(refused.exception.status, status)

    def test_it_is_alive_before_it_is_ready(self):
        self.assertIsNone(self.ask("GET", "/v2/health/live"))
        self.refused(400, "GET", "/v2/health/ready")
        self.state.load(str(HERE / "models"))
        self.assertIsNone(self.ask("GET", "/v2/health/ready"))

    def test_the_models_that_come_with_it_route(self):
        self.state.load(str(HERE / "models"))
        for model, text, label in [
            ("task_router", "write a python function that reverses a list", "code"),
            ("task_router", "please summarize the following article", "summary"),
            ("task_router", "hello, tell me a joke", "chat"),
            ("complexity_router", "what is the capital of Spain", "simple"),
            ("complexity_router", "prove this theorem and explain each step", "hard"),
        ]:
            result = self.ask("POST", f"/v2/models/{model}/infer", asked([text]))
            self.assertEqual(result["outputs"][0]["data"], [label], text)

    def test_inferences_are_counted(self):
        self.state.load(str(HERE / "models"))
        self.ask("POST", "/v2/models/task_router/infer", asked(["hello", "hello"]))
        self.refused(400, "POST", "/v2/models/task_router/infer", b'{"inputs": []}')
        self.refused(400, "POST", "/v2/models/task_router/infer", b"[]")
        self.assertIn('nv_inference_request_success{model="task_router",version="1"} 1', self.state.metrics())
        self.assertIn('nv_inference_request_failure{model="task_router",version="1"} 2', self.state.metrics())

    def test_models_are_listed(self):
        self.state.load(str(HERE / "models"))
        self.assertEqual([one["name"] for one in self.ask("GET", "/v2/models")["models"]], ["complexity_router", "task_router"])
        self.assertEqual(self.ask("GET", "/v2/models/task_router")["labels"], ["chat", "code", "summary"])
        self.refused(404, "GET", "/v2/models/none")
        self.refused(404, "GET", "/v2/models/task_router/versions/2")
        self.refused(404, "GET", "/v3")


class TestRepository(unittest.TestCase):
    def test_the_newest_version_counts(self):
        with tempfile.TemporaryDirectory() as folder:
            for version in ["2", "10", "9"]:
                path = Path(folder, "m", version, "examples.json")
                path.parent.mkdir(parents=True)
                path.write_text('{"a": ["x"], "b": ["y"]}')
            self.assertEqual(repository.load(folder)["m"].version, "10")

    def test_an_empty_one_is_refused(self):
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(FileNotFoundError, "no model"):
            repository.load(folder)

    def test_it_may_be_a_bucket(self):
        try:
            from moto.server import ThreadedMotoServer
        except ImportError:
            self.skipTest("moto is not installed")
        import boto3

        s3 = ThreadedMotoServer(port=0)
        s3.start()
        self.addCleanup(s3.stop)
        host, port = s3.get_host_and_port()
        os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
                       "AWS_DEFAULT_REGION": "us-east-1"}
        client = boto3.client("s3")
        client.create_bucket(Bucket="models")
        client.put_object(Bucket="models", Key="prod/m/1/examples.json", Body=b'{"a": ["x"], "b": ["y"]}')
        self.assertEqual(list(repository.load("s3://models/prod")), ["m"])


class TestSnapshot(unittest.TestCase):
    def test_one_is_made_and_the_oldest_go(self):
        kept = ["models-20260102-000000", "models-20260101-000000"]
        asked = []

        def request(method, path, body):
            asked.append((method, path))
            if method == "POST":
                self.assertEqual(body["spec"], {"source": {"persistentVolumeClaimName": "models"}, "volumeSnapshotClassName": "fast"})
                kept.append(body["metadata"]["name"])
                return body
            return {"items": [{"metadata": {"name": name}} for name in kept]}

        snapshot.back_up(request, "models", 2, "fast")
        self.assertEqual(asked[2:], [("DELETE", "/models-20260101-000000")])

    def test_its_name_sorts_by_time(self):
        first, second = (snapshot.snapshot_of("c", None, time.gmtime(at)) for at in (999999999, 1000000000))
        self.assertLess(first["metadata"]["name"], second["metadata"]["name"])


if __name__ == "__main__":
    unittest.main()
