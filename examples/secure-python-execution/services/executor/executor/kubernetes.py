"""The few words of the Kubernetes API that are needed, with the pod's own token."""

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Refused(Exception):
    """The API server said no, and why."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Kubernetes:
    def __init__(self, address: str = "https://kubernetes.default.svc", account: Path = ACCOUNT):
        self.address, self.account = address, account
        self.namespace = (account / "namespace").read_text()
        self.context = ssl.create_default_context(cafile=account / "ca.crt") if address.startswith("https") else None

    def call(self, method: str, path: str, body: dict | None = None) -> str:
        request = urllib.request.Request(
            f"{self.address}{path}", method=method, data=None if body is None else json.dumps(body).encode()
        )
        # Read anew each time: Kubernetes renews it.
        request.add_header("Authorization", f"Bearer {(self.account / 'token').read_text()}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10, context=self.context) as response:
                return response.read().decode()
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            try:
                raise Refused(error.code, json.loads(text)["message"]) from None
            except (ValueError, KeyError):
                raise Refused(error.code, text) from None

    def jobs(self, name: str = "") -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs{'/' if name else ''}{name}"

    def pods(self, rest: str = "") -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods{rest}"
