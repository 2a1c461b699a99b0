"""How long `llmdev check` takes for a thousand objects that break rules."""

import json
import shutil

from machine import Failed, run, timed
from table import Row, median, ms

OBJECTS = 1000
LIMIT = 0.3

# Four objects of one service, each with something for the rules to find.
SERVICE = """apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web-{n} }}
spec:
  selector: {{ matchLabels: {{ app: web-{n} }} }}
  template:
    metadata: {{ labels: {{ app: web-{n} }} }}
    spec:
      containers:
        - name: web
          image: web
          env:
            - name: MODE
              valueFrom: {{ configMapKeyRef: {{ name: web-{n}, key: mode }} }}
            - name: PASSWORD
              valueFrom: {{ secretKeyRef: {{ name: web-{n}, key: password }} }}
          ports:
            - {{ name: http, containerPort: 8080 }}
          livenessProbe:
            httpGet: {{ path: /health, port: http }}
          readinessProbe:
            httpGet: {{ path: /health, port: http }}
---
apiVersion: v1
kind: Service
metadata: {{ name: web-{n} }}
spec:
  selector: {{ app: web-{n} }}
  ports:
    - {{ port: 80, targetPort: https }}
---
apiVersion: v1
kind: ConfigMap
metadata: {{ name: web-{n} }}
data: {{ other: x }}
---
apiVersion: v1
kind: Secret
metadata: {{ name: web-{n} }}
stringData: {{ password: changeme }}
"""


def check(bench, _):
    folder = bench.work / "check"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number in range(OBJECTS // 4):
        (folder / f"web-{number}.yaml").write_text(SERVICE.format(n=number))
    command = [bench.llmdev, "check", "--from", folder, "--production"]
    report = json.loads(run(*command, "-o", "json", check=False).stdout)
    if report["objects"] != OBJECTS or len(report["findings"]) < OBJECTS:
        raise Failed(f"{report['objects']} objects and {len(report['findings'])} findings are not what was to be checked")
    spent = median([timed(*command, check=False) for _ in range(bench.count(20))])
    what = f"check of {OBJECTS:,} objects in {OBJECTS // 4} files, {len(report['findings']):,} findings"
    yield Row(what, f"≤ {ms(LIMIT)}", ms(spent), spent <= LIMIT)
