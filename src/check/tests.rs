//! Every rule on objects that break it, and on good ones that come near.

use std::collections::BTreeSet;

use super::{RULES, Report, Severity, Subject, check};
use crate::render::loose;
use crate::stack::Ignore;

const GOOD: &str = include_str!("good.yaml");

/// The good objects with a change: a text in them by another, and more objects after them.
struct Change(&'static str, &'static str, &'static str);

fn put(old: &'static str, new: &'static str) -> Change {
    Change(old, new, "")
}

fn more(objects: &'static str) -> Change {
    Change("", "", objects)
}

impl Change {
    fn text(&self) -> String {
        assert!(
            GOOD.contains(self.0),
            "{} is not in the good objects",
            self.0
        );
        format!("{}\n---\n{}", GOOD.replacen(self.0, self.1, 1), self.2)
    }
}

fn report(text: &str, ignore: &[Ignore]) -> Report {
    let rendered = loose::text(text).unwrap_or_else(|failure| panic!("{failure}\n{text}"));
    check(&Subject {
        objects: &rendered.objects,
        namespace: "default",
        production: true,
        ignore,
        input: text,
    })
}

/// What a rule finds, as `object field: message`.
fn found(rule: &str, text: &str) -> Vec<String> {
    let report = report(text, &[]);
    let own = report
        .findings
        .iter()
        .filter(|finding| finding.rule.id == rule);
    own.map(|it| format!("{} {}: {}", it.object(), it.field, it.message))
        .collect()
}

/// Rule, change, and the one finding that it leads to.
fn bad() -> Vec<(&'static str, Change, &'static str)> {
    vec![
        (
            "secret-placeholder",
            more(
                "{apiVersion: v1, kind: Secret, metadata: {name: keys}, stringData: {api-key: REPLACE_WITH_ACTUAL_KEY}}",
            ),
            "secret/keys stringData.api-key: the value of api-key is a placeholder",
        ),
        (
            "secret-placeholder",
            more(
                "{apiVersion: v1, kind: Secret, metadata: {name: keys}, data: {password: Y2hhbmdlbWU=}}",
            ),
            "secret/keys data.password: the value of password is a placeholder",
        ),
        (
            "secret-literal",
            more(
                "{apiVersion: v1, kind: Secret, metadata: {name: keys}, stringData: {a: 9fA31bQz77, b: k2, user: x}}",
            ),
            "secret/keys stringData: the manifests hold the value of a, b",
        ),
        (
            "secret-literal",
            more("{apiVersion: v1, kind: Secret, metadata: {name: keys}, data: {key.der: gP8=}}"),
            "secret/keys data: the manifests hold the value of key.der",
        ),
        (
            "secret-in-env",
            put(
                "{ name: LOG_LEVEL, value: info }",
                "{ name: OPENAI_API_KEY, value: sk-1234 }",
            ),
            "deployment/web spec.template.spec.containers[0].env[0].value: container web has the value of OPENAI_API_KEY in plain text",
        ),
        (
            "secret-in-env",
            put("$(PASSWORD)@db", "hunter2@db"),
            "deployment/web spec.template.spec.containers[0].env[3].value: container web has the value of DATABASE_URL in plain text",
        ),
        (
            "secret-in-configmap",
            put("mode: fast,", "mode: fast, api.key: sk-1234,"),
            "configmap/web-config data[\"api.key\"]: api.key is a secret in a ConfigMap",
        ),
        (
            "image-tag",
            put(
                "image: registry.example.org:5000/web:1.4.2",
                "image: registry.example.org:5000/web",
            ),
            "deployment/web spec.template.spec.initContainers[0].image: container migrate: the image registry.example.org:5000/web has no tag",
        ),
        (
            "image-tag",
            put("image: postgres@sha256", "image: postgres:latest #"),
            "statefulset/db spec.template.spec.containers[0].image: container db: the image postgres:latest has the tag latest",
        ),
        (
            "image-never-pulled",
            put("imagePullPolicy: IfNotPresent", "imagePullPolicy: Never"),
            "deployment/web spec.template.spec.containers[0].imagePullPolicy: container web never pulls its image",
        ),
        (
            "readiness-probe",
            put("readinessProbe: { httpGet", "lifecycle: { httpGet"),
            "deployment/web spec.template.spec.containers[0].readinessProbe: container web has no readiness probe",
        ),
        (
            "liveness-probe",
            put("livenessProbe: { tcpSocket", "lifecycle: { tcpSocket"),
            "statefulset/db spec.template.spec.containers[0].livenessProbe: container db has no liveness probe",
        ),
        (
            "startup-probe",
            put(
                "periodSeconds: 10, failureThreshold: 6",
                "initialDelaySeconds: 60",
            ),
            "statefulset/db spec.template.spec.containers[0].livenessProbe.initialDelaySeconds: container db waits 60 s in place of a startup probe",
        ),
        (
            "probes-identical",
            put("periodSeconds: 10, failureThreshold: 6", "periodSeconds: 5"),
            "statefulset/db spec.template.spec.containers[0].livenessProbe: container db: liveness asks what readiness asks, and is no more patient",
        ),
        (
            "memory-limit",
            put(
                "limits: { cpu: 200m, memory: 128Mi }",
                "limits: { cpu: 200m }",
            ),
            "deployment/web spec.template.spec.initContainers[0].resources.limits.memory: container migrate has no memory limit",
        ),
        (
            "cpu-limit",
            put(
                "limits: { cpu: 500m, memory: 512Mi }",
                "limits: { memory: 512Mi }",
            ),
            "deployment/web spec.template.spec.containers[0].resources.limits.cpu: container web has no CPU limit",
        ),
        (
            "requests",
            put(
                "resources: { limits: { cpu: 500m, memory: 512Mi } }",
                "resources: { limits: { memory: 512Mi } }",
            ),
            "statefulset/db spec.template.spec.containers[0].resources.requests: container db has no requests for CPU and memory",
        ),
        (
            "runs-as-root",
            put("{ runAsNonRoot: true,", "{ runAsUser: 0,"),
            "deployment/web spec.template.spec.securityContext.runAsUser: container migrate runs as root",
        ),
        (
            "non-root",
            put(
                "automountServiceAccountToken: false\n      securityContext: { runAsNonRoot: true,",
                "automountServiceAccountToken: false\n      securityContext: {",
            ),
            "statefulset/db spec.template.spec.containers[0].securityContext.runAsNonRoot: container db may run as root",
        ),
        (
            "privileged",
            put(
                "{ allowPrivilegeEscalation: false,",
                "{ privileged: true, allowPrivilegeEscalation: false,",
            ),
            "deployment/web spec.template.spec.initContainers[0].securityContext.privileged: container migrate is privileged",
        ),
        (
            "privilege-escalation",
            put("{ allowPrivilegeEscalation: false,", "{"),
            "deployment/web spec.template.spec.initContainers[0].securityContext.allowPrivilegeEscalation: container migrate may gain privileges",
        ),
        (
            "capabilities-kept",
            put(
                "capabilities: { drop: [ALL] }",
                "capabilities: { drop: [NET_RAW] }",
            ),
            "deployment/web spec.template.spec.initContainers[0].securityContext.capabilities.drop: container migrate keeps the runtime's capabilities",
        ),
        (
            "capabilities-added",
            put(
                "add: [NET_BIND_SERVICE]",
                "add: [NET_BIND_SERVICE, IPC_LOCK]",
            ),
            "deployment/web spec.template.spec.containers[0].securityContext.capabilities.add: container web is given IPC_LOCK",
        ),
        (
            "read-only-root",
            put(
                "readOnlyRootFilesystem: true, capabilities: { drop: [ALL], add",
                "capabilities: { drop: [ALL], add",
            ),
            "deployment/web spec.template.spec.containers[0].securityContext.readOnlyRootFilesystem: container web can write to its image's files",
        ),
        (
            "seccomp",
            put(
                "automountServiceAccountToken: false\n      securityContext: { runAsNonRoot: true, seccompProfile: { type: RuntimeDefault } }",
                "automountServiceAccountToken: false\n      securityContext: { runAsNonRoot: true, seccompProfile: { type: Unconfined } }",
            ),
            "statefulset/db spec.template.spec.securityContext.seccompProfile: container db has no seccomp profile",
        ),
        (
            "host-path",
            put(
                "{ name: tmp, emptyDir: {} }",
                "{ name: tmp, hostPath: { path: /var/models } }",
            ),
            "deployment/web spec.template.spec.volumes[0].hostPath: volume tmp is /var/models of the node",
        ),
        (
            "host-namespace",
            put(
                "serviceAccountName: web",
                "serviceAccountName: web\n      hostPID: true",
            ),
            "deployment/web spec.template.spec.hostPID: its pods share the node's processes",
        ),
        (
            "host-port",
            put(
                "containerPort: 8080 }",
                "containerPort: 8080, hostPort: 80 }",
            ),
            "deployment/web spec.template.spec.containers[0].ports[0].hostPort: container web takes port 80 of its node",
        ),
        (
            "single-replica",
            put("minReplicas: 2", "minReplicas: 1"),
            "deployment/web spec.replicas: it runs one pod",
        ),
        (
            "anti-affinity",
            put("podAntiAffinity:", "podAffinity:"),
            "deployment/web spec.template.spec.affinity.podAntiAffinity: its 2 pods may all be on one node",
        ),
        (
            "disruption-budget",
            put(
                "maxUnavailable: 1, selector: { matchLabels: { app: web } }",
                "maxUnavailable: 1, selector: { matchLabels: { app: other } }",
            ),
            "deployment/web spec.template.metadata.labels: no PodDisruptionBudget covers its pods",
        ),
        (
            "rollout",
            put(
                "rollingUpdate: { maxSurge: 1, maxUnavailable: 0 }",
                "rollingUpdate: {}",
            ),
            "deployment/web spec.strategy: how many pods a rollout may take away is not said",
        ),
        (
            "data-not-kept",
            put("volumeClaimTemplates:", "otherTemplates:"),
            "statefulset/db spec.volumeClaimTemplates: what it stores ends with its pod",
        ),
        (
            "default-service-account",
            put("serviceAccountName: web\n", "serviceAccountName: default\n"),
            "deployment/web spec.template.spec.serviceAccountName: its pods have the token of the namespace's default ServiceAccount",
        ),
        (
            "rbac-wildcard",
            put(
                "verbs: [create, get, list, watch, delete]",
                "verbs: [\"*\"]",
            ),
            "role/web rules[0].verbs: a rule allows all verbs",
        ),
        (
            "rbac-secrets",
            put("resourceNames: [web-secret], ", ""),
            "role/web rules[2].resources: a rule lets all Secrets be read",
        ),
        (
            "rbac-exec",
            put(
                "resources: [pods, pods/log], verbs: [get",
                "resources: [pods, pods/exec], verbs: [create, get",
            ),
            "role/web rules[1].resources: a rule lets commands be run in any pod",
        ),
        (
            "rbac-escalation",
            put(
                "verbs: [create, get, list, watch, delete]",
                "verbs: [get, bind, escalate]",
            ),
            "role/web rules[0].verbs: a rule allows escalate, bind",
        ),
        (
            "rbac-cluster-admin",
            put(
                "kind: Role, name: web",
                "kind: ClusterRole, name: cluster-admin",
            ),
            "rolebinding/web roleRef.name: it gives all rights there are",
        ),
        (
            "network-policy",
            put(
                "key: app, operator: Exists",
                "key: app, operator: In, values: [web]",
            ),
            "statefulset/db spec.template.metadata.labels: no NetworkPolicy selects its pods",
        ),
        (
            "service-without-pods",
            put("selector: { app: web }", "selector: { app: wbe }"),
            "service/web spec.selector: its selector matches the labels of no pod",
        ),
        (
            "service-port",
            put("targetPort: http", "targetPort: grpc"),
            "service/web spec.ports[0].targetPort: no container behind it has the port grpc",
        ),
        (
            "service-port",
            put("ports: [{ port: 5432 }]", "ports: [{ port: 5433 }]"),
            "service/db spec.ports[0].port: no container behind it has the port 5433",
        ),
        (
            "ingress-tls",
            put("*.example.org", "web.example.com"),
            "ingress/web spec.tls: it serves web.example.org without TLS",
        ),
        (
            "missing-key",
            put("items: [{ key: mode,", "items: [{ key: speed,"),
            "deployment/web spec.template.spec.volumes[1].configMap.items[0].key: the ConfigMap web-config has no key speed",
        ),
        (
            "missing-key",
            put(
                "name: web-config, key: mode",
                "name: web-config, key: speed",
            ),
            "deployment/web spec.template.spec.containers[0].env[5].valueFrom.configMapKeyRef.key: the ConfigMap web-config has no key speed",
        ),
        (
            "missing-config",
            put("target: { name: web-secret }", "target: { name: other }"),
            "deployment/web spec.template.spec.containers[0].env[4].valueFrom.secretKeyRef: the Secret web-secret is not among the objects",
        ),
        (
            "hpa-requests",
            put(
                "resources: { requests: { cpu: 250m, memory: 256Mi }, limits: { cpu: 500m, memory: 512Mi } }",
                "resources: { requests: { memory: 256Mi } }",
            ),
            "horizontalpodautoscaler/web spec.metrics[0].resource: container web of deployment/web requests no cpu",
        ),
        (
            "removed-api",
            put("autoscaling/v2\n", "autoscaling/v2beta2\n"),
            "horizontalpodautoscaler/web apiVersion: autoscaling/v2beta2 HorizontalPodAutoscaler is gone since Kubernetes 1.26",
        ),
    ]
}

/// Rule, and a change that it must not mind.
fn near() -> Vec<(&'static str, Change)> {
    const JOB: &str = "{apiVersion: batch/v1, kind: Job, metadata: {name: job}, spec: {template: {metadata: {labels: {app: web}}, \
        spec: {containers: [{name: job, image: 'job:1', ports: [{containerPort: 1}]}]}}}}";
    vec![
        (
            "secret-literal",
            more(
                "{apiVersion: v1, kind: Secret, metadata: {name: empty}, stringData: {password: ''}}",
            ),
        ),
        (
            "secret-placeholder",
            more(
                "{apiVersion: v1, kind: Secret, metadata: {name: keys}, stringData: {api-key: 9fA31bQz77}}",
            ),
        ),
        (
            "secret-placeholder",
            more(
                "{apiVersion: example.org/v1, kind: Secret, metadata: {name: keys}, stringData: {api-key: changeme}}",
            ),
        ),
        ("readiness-probe", more(JOB)),
        ("liveness-probe", more(JOB)),
        // A worker without a port serves nobody.
        (
            "readiness-probe",
            put("ports: [{ containerPort: 5432 }]\n", "lifecycle: {}\n"),
        ),
        (
            "startup-probe",
            put(
                "livenessProbe: { httpGet: { path: /health, port: http }",
                "livenessProbe: { initialDelaySeconds: 90, httpGet: { path: /health, port: http }",
            ),
        ),
        (
            "runs-as-root",
            put("{ runAsNonRoot: true,", "{ runAsUser: 1001,"),
        ),
        (
            "non-root",
            put("{ runAsNonRoot: true,", "{ runAsUser: 1001,"),
        ),
        // Two at once would harm what it keeps.
        (
            "single-replica",
            more(
                "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {strategy: {type: Recreate}, template: {spec: {}}}}",
            ),
        ),
        (
            "single-replica",
            put("kind: HorizontalPodAutoscaler", "kind: Nothing"),
        ),
        (
            "anti-affinity",
            put(
                "affinity:",
                "topologySpreadConstraints: [{ maxSkew: 1 }]\n      other:",
            ),
        ),
        (
            "default-service-account",
            Change(
                "serviceAccountName: web\n",
                "serviceAccountName: default\n",
                "{apiVersion: v1, kind: ServiceAccount, metadata: {name: default}, automountServiceAccountToken: false}",
            ),
        ),
        (
            "network-policy",
            Change(
                "kind: NetworkPolicy",
                "kind: Nothing",
                "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: x}}",
            ),
        ),
        (
            "service-without-pods",
            more(
                "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {ports: [{port: 1}]}}",
            ),
        ),
        // A number need not be declared.
        (
            "service-port",
            put("          ports: [{ containerPort: 5432 }]\n", ""),
        ),
        ("ingress-tls", put("hosts: [\"*.example.org\"], ", "")),
        (
            "missing-config",
            put(
                "kind: ExternalSecret\nmetadata: { name: web }\nspec: { target: { name: web-secret } }",
                "kind: SealedSecret\nmetadata: { name: web-secret }",
            ),
        ),
        (
            "missing-config",
            more(
                "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [], volumes: [{name: ca, configMap: {name: kube-root-ca.crt}}]}}",
            ),
        ),
        (
            "hpa-requests",
            put("averageUtilization: 70 }", "averageValue: 500m }"),
        ),
        (
            "hpa-requests",
            put(
                "resource: { name: cpu, target: { type: Utilization, averageUtilization: 70 } }",
                "resource: { name: memory, target: { type: AverageValue } }",
            ),
        ),
        (
            "removed-api",
            more("{apiVersion: example.org/v1beta1, kind: Ingress, metadata: {name: x}}"),
        ),
    ]
}

#[test]
fn good_objects_are_passed_over_in_silence() {
    let report = report(GOOD, &[]);
    let said: Vec<_> = report
        .findings
        .iter()
        .map(|it| format!("{}: {} {}", it.rule.id, it.object(), it.message))
        .collect();
    assert!(said.is_empty(), "{said:#?}");
}

#[test]
fn each_rule_finds_what_it_is_for() {
    for (rule, change, expected) in bad() {
        let found = found(rule, &change.text());
        assert_eq!(
            found.first().map(String::as_str),
            Some(expected),
            "{rule}: {found:#?}"
        );
    }
}

#[test]
fn each_rule_is_silent_on_what_comes_near() {
    for (rule, change) in near() {
        let found = found(rule, &change.text());
        assert!(
            found.is_empty(),
            "{rule} on {:?}: {found:#?}",
            change.1.to_owned() + change.2
        );
    }
}

#[test]
fn every_rule_is_tried_and_documented() {
    let tried: BTreeSet<_> = bad().iter().map(|(rule, ..)| *rule).collect();
    let all: BTreeSet<_> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(tried, all);
    assert_eq!(all.len(), RULES.len(), "an id stands twice");
    for rule in RULES {
        assert!(
            rule.why.ends_with(['.', ')']) && !rule.title.ends_with('.'),
            "{}",
            rule.id
        );
        assert!(!rule.source.is_empty(), "{}", rule.id);
    }
}

#[test]
fn every_mend_is_yaml() {
    for (rule, change, _) in bad() {
        for finding in report(&change.text(), &[]).findings {
            let read = crate::render::text::documents(&finding.mend);
            assert!(!read.is_empty(), "{rule}: {}", finding.mend);
        }
    }
}

#[test]
fn rules_for_production_hold_there_only() {
    let text = put("podAntiAffinity:", "podAffinity:").text();
    let rendered = loose::text(&text).unwrap();
    let subject = |production| Subject {
        objects: &rendered.objects,
        namespace: "default",
        production,
        ignore: &[],
        input: &text,
    };
    assert_eq!(check(&subject(true)).findings.len(), 1);
    assert!(check(&subject(false)).findings.is_empty());
}

#[test]
fn what_is_switched_off_is_put_aside_with_its_reason() {
    let text = more(
        "{apiVersion: v1, kind: Secret, metadata: {name: keys}, stringData: {a: changeme}}\n---\n\
        {apiVersion: v1, kind: Secret, metadata: {name: other}, stringData: {a: changeme}}",
    )
    .text();
    let ignore = |objects: &[&str]| {
        vec![Ignore {
            rule: "secret-placeholder".into(),
            reason: "made at the first start".into(),
            objects: objects.iter().map(|it| (*it).into()).collect(),
        }]
    };
    let some = report(&text, &ignore(&["secret/k*"]));
    assert_eq!(some.findings.len(), 1);
    assert_eq!(some.findings[0].name, "other");
    assert_eq!(
        (
            some.ignored[0].findings.len(),
            some.ignored[0].reason.as_str()
        ),
        (1, "made at the first start")
    );
    let all = report(&text, &ignore(&[]));
    assert_eq!((all.worst(), all.ignored[0].findings.len()), (None, 2));
    let none = report(&text, &ignore(&["deployment/*"]));
    assert_eq!(
        (none.worst(), none.ignored[0].findings.len()),
        (Some(Severity::Error), 0)
    );
}

#[test]
fn a_secret_is_never_shown() {
    let text = more("{apiVersion: v1, kind: Secret, metadata: {name: keys}, stringData: {a: hunter2changeme, b: hunter2}}").text()
        .replace("value: info", "value: 'postgres://u:hunter2@db'").replace("mode: fast", "mode: fast, password: hunter2");
    let report = report(&text, &[]);
    assert_eq!(report.findings.len(), 4);
    let root = std::path::Path::new("/");
    for said in [
        report.json(root).to_string(),
        super::sarif::log(&report, root).to_string(),
    ] {
        assert!(!said.contains("hunter2"), "{said}");
    }
}
