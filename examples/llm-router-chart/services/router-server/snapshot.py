"""Makes a VolumeSnapshot of the models' claim and removes the oldest: what the chart's backup CronJob runs.

Usage: python snapshot.py CLAIM KEEP [CLASS], in a pod whose account may list, create and delete VolumeSnapshots.
"""

import json
import ssl
import sys
import time
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LABEL = "llm-router/backup-of"


def snapshot_of(claim: str, snapshot_class: str | None, now: time.struct_time) -> dict:
    spec: dict = {"source": {"persistentVolumeClaimName": claim}}
    if snapshot_class:
        spec["volumeSnapshotClassName"] = snapshot_class
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
        "metadata": {"name": f"{claim}-{time.strftime('%Y%m%d-%H%M%S', now)}", "labels": {LABEL: claim}},
        "spec": spec,
    }


def too_many(names: list[str], keep: int) -> list[str]:
    """Their names sort by their time."""
    return sorted(names)[: max(0, len(names) - keep)]


def back_up(request, claim: str, keep: int, snapshot_class: str | None):
    """`request(method, path, body)` asks the Kubernetes API for something below the namespace's snapshots."""
    made = request("POST", "", snapshot_of(claim, snapshot_class, time.gmtime()))
    print("made", made["metadata"]["name"])
    listed = request("GET", f"?labelSelector={LABEL}%3D{claim}", None)
    for name in too_many([one["metadata"]["name"] for one in listed["items"]], keep):
        request("DELETE", f"/{name}", None)
        print("removed", name)


def in_cluster(method: str, path: str, body: dict | None) -> dict:
    namespace, token = ((ACCOUNT / name).read_text().strip() for name in ("namespace", "token"))
    url = f"https://kubernetes.default.svc/apis/snapshot.storage.k8s.io/v1/namespaces/{namespace}/volumesnapshots{path}"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers, method=method)
    with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")), timeout=30) as answer:
        return json.load(answer)


if __name__ == "__main__":
    back_up(in_cluster, sys.argv[1], int(sys.argv[2]), next(iter(sys.argv[3:]), None))
