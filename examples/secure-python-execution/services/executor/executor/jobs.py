"""Heavy code in Kubernetes Jobs. Kubernetes keeps all that is known of them, so any replica can answer for any Job."""

import json
import os
import uuid

from .config import Config
from .kubernetes import Kubernetes, Refused

APP = "heavy-executor"


def manifest(name: str, code: str, config: Config, owner: dict | None) -> dict:
    environment = {
        "CODE": code,
        "SECONDS_LIMIT": str(config.heavy_job_timeout),
        "MEGABYTES_LIMIT": str(config.heavy_job_code_memory),
        "ISOLATION": config.isolation,
    }
    container = {
        "name": APP,
        "image": config.heavy_job_image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "resources": {
            "requests": {"cpu": config.heavy_job_cpu_request, "memory": config.heavy_job_memory_request},
            "limits": {"cpu": config.heavy_job_cpu_limit, "memory": config.heavy_job_memory_limit},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"app": APP}, "ownerReferences": [owner] if owner else []},
        "spec": {
            "backoffLimit": config.max_retries,
            # More than the code's own limit, so that what it said by then is told.
            "activeDeadlineSeconds": config.heavy_job_timeout + 60,
            "ttlSecondsAfterFinished": config.heavy_job_ttl,
            "template": {"metadata": {"labels": {"app": APP}}, "spec": pod},
        },
    }


class Jobs:
    def __init__(self, config: Config, kubernetes: Kubernetes):
        self.config, self.kubernetes = config, kubernetes

    def start(self, code: str) -> dict:
        name = f"{APP}-{uuid.uuid4().hex[:10]}"
        self.kubernetes.call("POST", self.kubernetes.jobs(), manifest(name, code, self.config, self.owner()))
        return {"id": name, "state": "pending", "reason": None, "result": None}

    def owner(self) -> dict | None:
        """The ReplicaSet of this pod: a rollout leaves it there, and when the Deployment goes, the Jobs go with it."""
        pod = json.loads(self.kubernetes.call("GET", self.kubernetes.pods(f"/{os.environ['HOSTNAME']}")))
        owners = pod["metadata"].get("ownerReferences", [])
        return {key: owners[0][key] for key in ("apiVersion", "kind", "name", "uid")} if owners else None

    def find(self, name: str) -> dict:
        job = json.loads(self.kubernetes.call("GET", self.kubernetes.jobs(name)))
        if job["metadata"].get("labels", {}).get("app") != APP:
            raise Refused(404, f"{name} is no job of the executor's")
        selector = f"?labelSelector=batch.kubernetes.io/job-name={name}"
        pods = json.loads(self.kubernetes.call("GET", self.kubernetes.pods(selector)))["items"]
        state, reason = progress(job, pods)
        return {"id": name, "state": state, "reason": reason, "result": self.result(pods) if state == "succeeded" else None}

    def result(self, pods: list[dict]) -> dict:
        done = next(pod for pod in pods if pod["status"].get("phase") == "Succeeded")
        log = self.kubernetes.call("GET", self.kubernetes.pods(f"/{done['metadata']['name']}/log"))
        return json.loads(log.splitlines()[-1])

    def list(self) -> list[str]:
        listed = json.loads(self.kubernetes.call("GET", self.kubernetes.jobs() + f"?labelSelector=app={APP}"))
        return [job["metadata"]["name"] for job in listed["items"]]

    def remove(self, name: str) -> None:
        self.find(name)  # not just any Job of the namespace
        self.kubernetes.call("DELETE", self.kubernetes.jobs(name) + "?propagationPolicy=Background")


def progress(job: dict, pods: list[dict]) -> tuple[str, str | None]:
    """How far a Job is, and what it waits for or why it failed."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["status"] == "True" and condition["type"] == "Complete":
            return "succeeded", None
        if condition["status"] == "True" and condition["type"] == "Failed":
            return "failed", condition.get("message") or condition.get("reason")
    if any(pod["status"].get("phase") == "Running" for pod in pods):
        return "running", None
    return "pending", next((it for pod in pods if (it := obstacle(pod))), None)


def obstacle(pod: dict) -> str | None:
    for container in pod["status"].get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting["reason"] != "ContainerCreating":
            return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    for condition in pod["status"].get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("message")
    return None
