"""The LLM service's HTTP interface."""

import json
import logging
import re
import sys

from fastapi import FastAPI, HTTPException, Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest
from pydantic import BaseModel, Field, model_validator

from .config import Config
from .generator import Templates, Unknown, Upstream
from .platform import Executor, ExecutorError, Platform
from .router import route
from .validator import problems

config = Config()
logging.basicConfig(level=config.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stdout)
log = logging.getLogger("llm_service")

app = FastAPI(title="llm-service")
executions = Counter("llm_executions_total", "Executions, by where they ran; `refused` did not.", ["route"])

generator = Upstream(config.llm_base_url, config.llm_model, config.llm_api_key) if config.llm_base_url else Templates()
executor = Executor(config.executor_url, config.execution_timeout + 20)
platform = Platform(generator, executor, config.max_retries)


class Task(BaseModel):
    task: str = Field(min_length=1, max_length=10_000)


class Code(BaseModel):
    code: str = Field(min_length=1, max_length=100_000)


class Work(BaseModel):
    task: str | None = Field(None, min_length=1, max_length=10_000)
    code: str | None = Field(None, min_length=1, max_length=100_000)

    @model_validator(mode="after")
    def one_of_them(self):
        if (self.task is None) == (self.code is None):
            raise ValueError("say `task` or `code`, one of them")
        return self


@app.exception_handler(Unknown)
def unknown(_, error: Unknown):
    return Response(json.dumps({"detail": str(error)}), 422, media_type="application/json")


@app.exception_handler(ExecutorError)
def executor_error(_, error: ExecutorError):
    status = error.status if error.status in (404, 422) else 502
    return Response(json.dumps({"detail": f"executor: {error}"}), status, media_type="application/json")


@app.get("/api/v1/health")
def health():
    return {"status": "healthy", "service": "llm-service"}


@app.get("/api/v1/ready")
def ready():
    executor.awake(within=3)  # the probe allows 5 seconds, and asks again after as many
    return {"status": "ready"}


@app.post("/api/v1/generate")
def generate(asked: Task):
    return {"code": generator.write(asked.task, [])}


@app.post("/api/v1/validate")
def validate(asked: Code):
    found = problems(asked.code)
    return {"valid": not found, "problems": found, "route": None if found else route(asked.code)}


@app.post("/api/v1/execute")
def execute(asked: Work):
    execution = platform.perform(asked.task) if asked.task else platform.execute(asked.code)
    where = execution.route.to if execution.route else "refused"
    executions.labels(where).inc()
    log.info("%s after %d attempts", where, execution.attempts)
    if execution.route is None:
        raise HTTPException(422, {"problems": execution.problems, "code": execution.code})
    return execution


@app.get("/api/v1/executions/{name}")
def find(name: str):
    if not re.fullmatch(r"[a-z0-9-]{1,63}", name):
        raise HTTPException(404, "there is no such execution")
    return executor.call("GET", f"jobs/{name}")


@app.get("/metrics")
def metrics():
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
