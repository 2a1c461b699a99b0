"""The executor's HTTP interface."""

import json
import logging
import sys
import urllib.error
from functools import cache

from fastapi import FastAPI, HTTPException, Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from pydantic import BaseModel, Field

from . import sandbox
from .config import Config
from .jobs import Jobs
from .kubernetes import Kubernetes, Refused

config = Config()
logging.basicConfig(level=config.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stdout)
log = logging.getLogger("executor")

app = FastAPI(title="executor-service")
runs = Counter("executor_runs_total", "Pieces of light code, by what came of them.", ["status"])
duration = Histogram("executor_run_seconds", "How long light code ran.")
jobs_made = Counter("executor_jobs_total", "Jobs made for heavy code.")

light = sandbox.Limits(config.execution_timeout, config.execution_memory, required=config.isolation == "required")


class Code(BaseModel):
    code: str = Field(min_length=1, max_length=100_000)


@cache
def jobs() -> Jobs:
    return Jobs(config, Kubernetes())


@cache
def sandbox_trouble() -> str | None:
    """What keeps this pod from running anything: found out once."""
    outcome = sandbox.run("print(6 * 7)", light)
    return None if outcome.stdout == "42\n" else outcome.stderr or outcome.status


@app.exception_handler(Refused)
def refused(_, error: Refused):
    status = 404 if error.status == 404 else 502
    return Response(json.dumps({"detail": f"Kubernetes: {error}"}), status, media_type="application/json")


@app.exception_handler(urllib.error.URLError)
def unreachable(_, error: urllib.error.URLError):
    detail = f"the Kubernetes API does not answer: {error.reason}"
    return Response(json.dumps({"detail": detail}), 503, media_type="application/json")


@app.get("/api/v1/health")
def health():
    return {"status": "healthy", "service": "executor-service"}


@app.get("/api/v1/ready")
def ready():
    if trouble := sandbox_trouble():
        raise HTTPException(503, f"the sandbox does not work: {trouble}")
    return {"status": "ready"}


@app.post("/api/v1/run")
def run(asked: Code):
    outcome = sandbox.run(asked.code, light)
    runs.labels(outcome.status).inc()
    duration.observe(outcome.seconds)
    log.info("ran %d characters: %s after %s s", len(asked.code), outcome.status, outcome.seconds)
    return outcome


@app.post("/api/v1/jobs", status_code=202)
def start_job(asked: Code):
    job = jobs().start(asked.code)
    jobs_made.inc()
    log.info("made job %s", job["id"])
    return job


@app.get("/api/v1/jobs")
def list_jobs():
    return {"jobs": jobs().list()}


@app.get("/api/v1/jobs/{name}")
def find_job(name: str):
    return jobs().find(name)


@app.delete("/api/v1/jobs/{name}", status_code=204)
def remove_job(name: str):
    jobs().remove(name)


@app.get("/metrics")
def metrics():
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
