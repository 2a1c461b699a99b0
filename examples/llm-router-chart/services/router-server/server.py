"""Serves the models by Triton's HTTP protocol (KServe v2), and its figures on a second port.

Usage: python server.py [--model-repository URI] [--http-port 8000] [--metrics-port 8002]
"""

import argparse
import json
import logging
import os
import re
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import repository

VERSION = "0.1.0"
log = logging.getLogger("router-server")


class State:
    """The models, when they are loaded, and what was asked of them."""

    def __init__(self):
        self.models: dict[str, repository.Model] | None = None
        self.lock = threading.Lock()
        self.inferences: dict[tuple[str, str], list[float]] = {}  # count, failures, seconds

    def load(self, uri: str):
        self.models = repository.load(uri)
        log.info("serving %s from %s", ", ".join(sorted(self.models)), uri)

    def count(self, model: repository.Model, seconds: float, failed: bool):
        with self.lock:
            figures = self.inferences.setdefault((model.name, model.version), [0, 0, 0.0])
            figures[1 if failed else 0] += 1
            figures[2] += seconds

    def metrics(self) -> str:
        """Under Triton's names."""
        lines = []
        kinds = [("nv_inference_request_success", 0, 1), ("nv_inference_request_failure", 1, 1),
                 ("nv_inference_request_duration_us", 2, 1e6)]
        for name, place, unit in kinds:
            lines.append(f"# TYPE {name} counter")
            with self.lock:
                for (model, version), figures in self.inferences.items():
                    lines.append(f'{name}{{model="{model}",version="{version}"}} {figures[place] * unit:.0f}')
        lines += ["# TYPE router_models gauge", f"router_models {len(self.models or {})}"]
        return "\n".join(lines) + "\n"


class Refused(Exception):
    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


def infer(model: repository.Model, request: dict) -> dict:
    texts = next((one.get("data") for one in request.get("inputs", []) if one.get("name") == "text"), None)
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Refused(400, "the input `text` (BYTES) is needed, with one string or more in `data`")
    scores = [model.classifier.scores(text) for text in texts]
    labels = [model.classifier.labels[one.index(max(one))] for one in scores]
    return {
        "model_name": model.name,
        "model_version": model.version,
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [len(texts)], "data": labels},
            {"name": "scores", "datatype": "FP32", "shape": [len(texts), len(model.classifier.labels)],
             "data": [round(score, 6) for one in scores for score in one]},
        ],
    }


def metadata(model: repository.Model) -> dict:
    return {
        "name": model.name, "versions": [model.version], "platform": "naive-bayes", "labels": model.classifier.labels,
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]},
                    {"name": "scores", "datatype": "FP32", "shape": [-1, len(model.classifier.labels)]}],
    }


def answer(state: State, method: str, path: str, body: bytes) -> dict | None:
    """What a request brings; none is an empty 200."""
    match method, path:
        case "GET", "/v2":
            return {"name": "router-server", "version": VERSION, "extensions": ["model_repository"]}
        case "GET", "/v2/health/live":
            return None
        case "GET", "/v2/health/ready":
            if state.models is None:
                raise Refused(400, "the models are being loaded")  # as Triton has it
            return None
        case ("GET", "/v2/models") | ("POST", "/v2/repository/index"):
            models = sorted((state.models or {}).values(), key=lambda model: model.name)
            return {"models": [{"name": one.name, "version": one.version, "state": "READY"} for one in models]}
    parts = re.fullmatch(r"/v2/models/([^/]+)(?:/versions/(\d+))?(/ready|/infer)?", path)
    if not parts:
        raise Refused(404, f"there is no {method} {path}")
    name, version, action = parts.groups()
    model = (state.models or {}).get(name)
    if model is None or version not in (None, model.version):
        raise Refused(404, f"the model {name} is not in the repository")
    match method, action:
        case "GET", "/ready":
            return None
        case "GET", None:
            return metadata(model)
        case "POST", "/infer":
            started, failed = time.perf_counter(), True
            try:
                result = infer(model, json.loads(body or b"{}"))
                failed = False
                return result
            except (ValueError, AttributeError) as error:
                raise Refused(400, f"the body is not as it should be: {error}") from None
            finally:
                state.count(model, time.perf_counter() - started, failed)
    raise Refused(405, f"there is no {method} {path}")


def handler(respond):
    """A handler of HTTP that says what `respond(method, path, body)` returns: (status, content type, text)."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 1 << 20))
            status, content_type, text = respond(self.command, self.path.partition("?")[0].rstrip("/") or "/", body)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, format, *args):
            log.debug(format, *args)

    return Handler


def api(state: State):
    def respond(method, path, body):
        try:
            found = answer(state, method, path, body)
            return 200, "application/json", b"" if found is None else json.dumps(found).encode()
        except Refused as error:
            return error.status, "application/json", json.dumps({"error": str(error)}).encode()

    return handler(respond)


def figures(state: State):
    def respond(method, path, _body):
        if path != "/metrics":
            return 404, "text/plain", b"there is only /metrics\n"
        return 200, "text/plain; version=0.0.4", state.metrics().encode()

    return handler(respond)


class JsonLines(logging.Formatter):
    def format(self, record):
        return json.dumps({"time": self.formatTime(record), "level": record.levelname.lower(),
                           "component": record.name, "message": record.getMessage()})


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--model-repository", default=os.environ.get("MODEL_REPOSITORY", "models"))
    options.add_argument("--http-port", type=int, default=8000)
    options.add_argument("--metrics-port", type=int, default=8002)
    options = options.parse_args()

    output = logging.StreamHandler(sys.stdout)
    if os.environ.get("LOG_FORMAT", "json") == "json":
        output.setFormatter(JsonLines())
    log.addHandler(output)
    log.setLevel(os.environ.get("LOG_LEVEL", "info").upper())

    state = State()
    server = ThreadingHTTPServer(("", options.http_port), api(state))
    metrics = ThreadingHTTPServer(("", options.metrics_port), figures(state))
    for one in (server, metrics):
        threading.Thread(target=one.serve_forever, daemon=True).start()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        state.load(options.model_repository)
    except Exception as error:
        log.error("the model repository %s cannot be read: %s", options.model_repository, error)
        sys.exit(1)
    ended.wait()
    server.shutdown()


if __name__ == "__main__":
    main()
