//! What `llmdev why` says of services that are really broken, on the test cluster.

#[path = "common/view.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod common;

use common::{TestStack, shell, with, workload};
use llmdev::diagnose::Why;
use serde_json::{Value, json};

fn deployment(pod: Value) -> Value {
    workload("Deployment", "web", pod)
}

/// The first finding in one text: what, causes, remedy, detail.
fn first(why: &Why) -> String {
    let finding = why
        .findings
        .first()
        .unwrap_or_else(|| panic!("no finding: {why:#?}"));
    let remedy = finding.remedy.iter().map(|remedy| format!("-> {remedy}"));
    let lines = std::iter::once(finding.what.clone()).chain(finding.causes.iter().cloned());
    lines
        .chain(remedy)
        .chain(finding.detail.iter().cloned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// That the first finding says all of this.
fn says(why: &Why, parts: &[&str]) {
    let text = first(why);
    for part in parts {
        assert!(
            text.contains(part),
            "{part:?} is not in:\n{text}\nof {why:#?}"
        );
    }
}

#[tokio::test]
async fn a_crash_loop_shows_its_last_words() {
    let stack = TestStack::new().await;
    let script = "echo starting; echo 'connect to db:5432: Connection refused'; exit 3";
    let target = stack.apply("web", deployment(shell(script))).await;
    let why = stack.until_failed(&target).await;
    says(
        &why,
        &[
            "container main ended with exit code 3",
            "-> ",
            "dependsOn",
            "starting\nconnect to db:5432",
        ],
    );
    assert!(why.line.starts_with("web failed: "), "{}", why.line);
}

#[tokio::test]
async fn a_command_that_is_not_there_is_said_at_once() {
    let stack = TestStack::new().await;
    let by_shell = stack
        .apply("web", deployment(shell("uvicornn main:app")))
        .await;
    let direct = with(shell(""), "/containers/0/command", json!(["uvicornn"]));
    let direct = stack
        .apply("api", workload("Deployment", "api", direct))
        .await;
    let why = stack.until_failed(&by_shell).await;
    says(
        &why,
        &[
            "exit code 127 (the command was not found)",
            "check `command`",
            "uvicornn",
        ],
    );
    let why = stack.until_failed(&direct).await;
    says(
        &why,
        &["container main", "uvicornn", "executable file not found"],
    );
}

#[tokio::test]
async fn an_image_that_exists_nowhere_is_said_to_be_so() {
    let stack = TestStack::new().await;
    let image = |image: &str, policy: &str| {
        let pod = with(shell("sleep 3600"), "/containers/0/image", json!(image));
        with(pod, "/containers/0/imagePullPolicy", json!(policy))
    };
    let missing = stack
        .apply("web", deployment(image("busybox:11", "Never")))
        .await;
    let nowhere = image("nowhere.invalid/shop/web:1", "IfNotPresent");
    let nowhere = stack
        .apply("api", workload("Deployment", "api", nowhere))
        .await;
    let always = image("busybox:1", "Always");
    let always = stack
        .apply("job", workload("Deployment", "job", always))
        .await;
    let why = stack.until_failed(&missing).await;
    says(
        &why,
        &[
            "image busybox:11 cannot be had (ErrImageNeverPull)",
            "has busybox:1",
            "docker pull",
        ],
    );
    let why = stack.until_failed(&nowhere).await;
    says(
        &why,
        &[
            "image nowhere.invalid/shop/web:1 cannot be had",
            "the node has not got it",
        ],
    );
    let why = stack.until_failed(&always).await;
    says(
        &why,
        &[
            "image busybox:1 cannot be had",
            "imagePullPolicy is Always",
            "-> set imagePullPolicy: IfNotPresent",
        ],
    );
}

#[tokio::test]
async fn a_pod_too_large_for_the_node_is_compared_with_it() {
    let stack = TestStack::new().await;
    let greedy = with(
        shell("sleep 1"),
        "/containers/0/resources",
        json!({"requests": {"cpu": "1000"}}),
    );
    let target = stack.apply("web", deployment(greedy)).await;
    let why = stack.until_failed(&target).await;
    says(
        &why,
        &[
            "no node takes pod web-",
            "it asks for 1000 cpu, node ",
            " are free",
            "-> lower resources.requests of cpu",
        ],
    );

    let picky = with(shell("sleep 1"), "/nodeSelector", json!({"disk": "golden"}));
    let target = stack
        .apply("api", workload("Deployment", "api", picky))
        .await;
    says(
        &stack.until_failed(&target).await,
        &["no node takes pod api-", "nodeSelector"],
    );
}

#[tokio::test]
async fn missing_configuration_names_what_there_is() {
    let stack = TestStack::new().await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "dev-keys"},
        "stringData": {"openai-api-key": "sk-very-secret"},
    });
    stack.apply("web", secret).await;
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}, "data": {"port": "80"},
    });
    stack.apply("web", map).await;
    let env = |source: Value| {
        with(
            shell("sleep 3600"),
            "/containers/0/env",
            json!([{"name": "X", "valueFrom": source}]),
        )
    };
    let key = env(json!({"configMapKeyRef": {"name": "app", "key": "ports"}}));
    let key = stack.apply("web", deployment(key)).await;
    let name = env(json!({"secretKeyRef": {"name": "keys", "key": "openai-api-key"}}));
    let name = stack
        .apply("api", workload("Deployment", "api", name))
        .await;
    let secret_key = env(json!({"secretKeyRef": {"name": "dev-keys", "key": "OPENAI_API_KEY"}}));
    let secret_key = stack
        .apply("job", workload("Deployment", "job", secret_key))
        .await;

    let why = stack.until_failed(&key).await;
    says(
        &why,
        &[
            "configuration that does not exist",
            "ports",
            "there is key port",
            "-> add key ports to ConfigMap app",
        ],
    );
    let why = stack.until_failed(&name).await;
    says(
        &why,
        &[
            "secret \"keys\" not found",
            "there is Secret dev-keys",
            "-> add Secret keys",
        ],
    );
    let why = stack.until_failed(&secret_key).await;
    says(
        &why,
        &[
            "there is key openai-api-key",
            "-> add key OPENAI_API_KEY to Secret dev-keys",
        ],
    );
    assert!(
        !format!("{why:?}").contains("sk-very"),
        "a Secret's value is told"
    );
}

#[tokio::test]
async fn a_volume_of_a_missing_config_map_is_found_by_its_event() {
    let stack = TestStack::new().await;
    let volume = json!([{"name": "c", "configMap": {"name": "litelm-config"}}]);
    let mounts = json!([{"name": "c", "mountPath": "/c"}]);
    let pod = with(shell("sleep 1"), "/containers/0/volumeMounts", mounts);
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "litellm-config"}});
    stack.apply("web", map).await;
    let target = stack
        .apply("web", deployment(with(pod, "/volumes", volume)))
        .await;
    let why = stack.until_failed(&target).await;
    says(
        &why,
        &["litelm-config", "there is ConfigMap litellm-config"],
    );
}

#[tokio::test]
async fn out_of_memory_names_the_limit() {
    let stack = TestStack::new().await;
    let hungry = shell("echo loading the model; tail /dev/zero");
    let hungry = with(
        hungry,
        "/containers/0/resources",
        json!({"limits": {"memory": "16Mi"}}),
    );
    let target = stack.apply("web", deployment(hungry)).await;
    let why = stack.until_failed(&target).await;
    says(
        &why,
        &[
            // The runtime does not always notice what it was killed for.
            "more memory than its limit of 16Mi",
            "raise resources.limits.memory",
            "loading the model",
        ],
    );
}

#[tokio::test]
async fn a_failing_probe_is_told_with_its_answer() {
    let stack = TestStack::new().await;
    let server = "mkdir -p /w/cgi-bin; cd /w/cgi-bin; echo '#!/bin/sh' > health; \
        echo 'printf \"HTTP/1.1 401 Unauthorized\\r\\n\\r\\n\"' >> health; chmod +x health; \
        echo serving; httpd -f -p 8080 -h /w";
    let probe = |port: u16| json!({"httpGet": {"path": "/cgi-bin/health", "port": port}, "periodSeconds": 1});
    let locked = with(shell(server), "/containers/0/readinessProbe", probe(8080));
    stack.apply("web", deployment(locked)).await;
    let wrong_port = with(shell(server), "/containers/0/readinessProbe", probe(9090));
    stack
        .apply("api", workload("Deployment", "api", wrong_port))
        .await;
    let dead = with(
        shell("trap 'exit 143' TERM; while true; do sleep 0.2; done"),
        "/containers/0/livenessProbe",
        json!({"tcpSocket": {"port": 9090}, "periodSeconds": 1, "failureThreshold": 1}),
    );
    let dead = with(dead, "/terminationGracePeriodSeconds", json!(1));
    let dead = stack
        .apply("job", workload("Deployment", "job", dead))
        .await;

    let probed = |why: &Why| {
        why.findings
            .iter()
            .any(|one| one.what.contains("does not pass"))
    };
    // It may have been asked before it listened.
    let listens = |why: &Why| probed(why) && !first(why).contains("connection refused");
    let why = stack.until_why("web", listens).await;
    says(
        &why,
        &[
            "container main does not pass its readiness probe",
            "statuscode: 401",
            "wants credentials",
            "serving",
        ],
    );
    assert_eq!(
        why.line,
        "web waits: readiness probe not passed yet: HTTP probe failed with statuscode: 401"
    );
    let why = stack.until_why("api", probed).await;
    says(
        &why,
        &["connection refused", "nothing listens on the probe's port"],
    );
    stack.until_failed(&dead).await;
    let why = stack
        .until_why("job", |why| first(why).contains("liveness"))
        .await;
    says(
        &why,
        &[
            "it failed its liveness probe",
            "connection refused",
            "-> correct livenessProbe",
        ],
    );
}

#[tokio::test]
async fn an_init_container_that_waits_for_ever_is_named_with_what_it_waits_for() {
    let stack = TestStack::new().await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "postgres"},
        "spec": {"selector": {"app": "postgres"}, "ports": [{"port": 5432}]},
    });
    stack.apply("postgres", service).await;
    stack
        .apply(
            "postgres",
            workload("Deployment", "postgres", shell("echo no disk; exit 1")),
        )
        .await;
    let mut pod = shell("sleep 3600");
    let script = "until nc -z postgres 5432 && false; do echo waiting for postgres; sleep 1; done";
    pod["initContainers"] = json!([{"name": "wait-for-postgres", "image": "busybox:1", "command": ["sh", "-c", script]}]);
    stack.apply("web", deployment(pod)).await;
    let why = stack
        .until_why("web", |why| {
            why.findings.iter().any(|one| {
                one.causes
                    .iter()
                    .any(|cause| cause.contains("postgres failed"))
            }) && why.findings.iter().any(|one| !one.detail.is_empty())
        })
        .await;
    says(
        &why,
        &[
            "init container wait-for-postgres runs for ",
            "it waits for postgres: postgres failed: container main ended",
            "waiting for postgres",
        ],
    );
    assert_eq!(
        why.line,
        "web waits: init container wait-for-postgres running"
    );
}

#[tokio::test]
async fn a_claim_of_a_class_that_does_not_exist_is_explained() {
    let stack = TestStack::new().await;
    let pod = with(
        shell("sleep 1"),
        "/containers/0/volumeMounts",
        json!([{"name": "data", "mountPath": "/data"}]),
    );
    let claims = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "standart",
        "resources": {"requests": {"storage": "1Mi"}},
    }}]);
    stack
        .apply(
            "db",
            with(
                workload("StatefulSet", "db", pod),
                "/spec/volumeClaimTemplates",
                claims,
            ),
        )
        .await;
    let why = stack
        .until_why("db", |why| {
            why.findings
                .iter()
                .any(|one| one.what.contains("no storage class"))
        })
        .await;
    says(
        &why,
        &[
            "volume claim data-db-0: the cluster has no storage class standart",
            "there is storage class standard",
            "-> leave storageClassName out",
        ],
    );
}

#[tokio::test]
async fn pods_that_a_quota_forbids_are_said_to_be_refused() {
    let stack = TestStack::new().await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "0"}},
    });
    stack.apply("web", quota).await;
    let target = stack.apply("web", deployment(shell("sleep 3600"))).await;
    stack
        .apply("db", workload("StatefulSet", "db", shell("sleep 3600")))
        .await;
    let why = stack.until_failed(&target).await;
    says(
        &why,
        &[
            "refuses the pods of",
            "exceeded quota",
            "-> raise the quota",
        ],
    );
    let why = stack
        .until_why("db", |why| {
            why.findings.iter().any(|one| one.what.contains("refuses"))
        })
        .await;
    says(
        &why,
        &["refuses the pods of StatefulSet db", "exceeded quota"],
    );
}

#[tokio::test]
async fn a_service_that_was_never_applied_is_said_to_be_so() {
    let stack = TestStack::new().await;
    stack.until("the lists", |view| view.complete).await;
    let why = stack.why("web").await;
    assert_eq!(why.line, "nothing of web is in the cluster");
    says(&why, &["-> llmdev up web"]);
}

#[tokio::test]
async fn a_stateful_set_that_waits_for_its_broken_old_pod_says_so() {
    let stack = TestStack::new().await;
    let broken = stack
        .apply(
            "db",
            workload("StatefulSet", "db", shell("echo no disk; exit 1")),
        )
        .await;
    stack.until_failed(&broken).await;
    let mended = stack
        .apply("db", workload("StatefulSet", "db", shell("sleep 3600")))
        .await;
    let why = stack.until_failed(&mended).await;
    says(
        &why,
        &[
            "StatefulSet db waits for its old pod db-0 to be ready",
            "-> kubectl delete pod db-0",
            "no disk",
        ],
    );
    stack.delete("Pod", "db-0").await;
    stack.until_ready(&mended).await;
}
