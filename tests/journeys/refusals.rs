//! What cannot even begin: said in a moment, with the exit code of its kind.

use serde_json::json;

use crate::journey::{Stack, sleeper};

#[test]
fn files_that_cannot_be_read() {
    let mut stack = Stack::new();
    stack.up().failed_with(3).saying(&["stack.yaml", "try:"]);

    stack.has(sleeper("app"));
    let good = stack.yaml();
    let as_text = |text: &str, said: &[&str]| {
        stack.write("stack.yaml", text);
        let up = stack.up().failed_with(3).saying(said);
        assert!(
            stack.daemons().is_empty(),
            "no daemon is started for it: {up}"
        );
    };
    as_text("", &["stack.yaml"]);
    as_text(
        &good.replace("llmdev/v1", "llmdev/v9"),
        &["llmdev/v9", "stack.yaml:1:"],
    );
    as_text(
        &good.replace("services:", "services: ]["),
        &["stack.yaml:7:"],
    );
    // All mistakes at once.
    let two = good
        .replace("namespace:", "namespce:")
        .replace("services:", "servces:");
    as_text(
        &two,
        &[
            "namespce",
            "servces",
            "did you mean `namespace`?",
            "did you mean `services`?",
        ],
    );

    stack.write("stack.yaml", good);
    stack
        .run(&["up", "nobody"])
        .ends()
        .failed_with(2)
        .saying(&["there is no service nobody", "app"]);
    stack.run(&["upp"]).ends().failed_with(2);
}

#[test]
fn docker_or_a_cluster_that_is_not_there() {
    let mut stack = Stack::new();
    stack.has(sleeper("app"));
    let good = stack.yaml();
    let on = |stack: &Stack, line: &str| {
        let lines = good.lines().map(|old| match old.starts_with("cluster:") {
            true => format!("cluster: {line}\n"),
            false => format!("{old}\n"),
        });
        stack.write("stack.yaml", lines.collect::<String>());
    };
    on(
        &stack,
        r#"{"provider": "kind", "name": "llmdev-test-nowhere", "create": false}"#,
    );
    stack
        .up()
        .failed_with(4)
        .saying(&["llmdev-test-nowhere", "try:"]);

    let elsewhere = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "kind-prod",
        "clusters": [{"name": "prod", "cluster": {"server": "https://prod.invalid:6443"}}],
        "users": [{"name": "prod", "user": {"token": "secret-of-prod"}}],
        "contexts": [{"name": "kind-prod", "context": {"cluster": "prod", "user": "prod"}}],
    });
    stack.write("kubeconfig", elsewhere.to_string());
    stack.with_env("KUBECONFIG", stack.path("kubeconfig").display().to_string());
    on(
        &stack,
        r#"{"provider": "kind", "name": "prod", "create": false}"#,
    );
    let up = stack
        .up()
        .failed_with(5)
        .saying(&["kind-prod is not local", "prod.invalid", "try:"]);
    assert!(!up.said.contains("secret-of-prod"), "{up}");

    stack.write("stack.yaml", &good);
    stack.with_env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    stack
        .up()
        .failed_with(4)
        .saying(&["Docker", "/nonexistent/docker.sock", "try:"]);
}
