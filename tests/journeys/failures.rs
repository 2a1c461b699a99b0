//! What cannot become ready is said at once, with why and what to do about it.

use std::time::Duration;

use llmdev::event::Phase;
use serde_json::json;

use crate::journey::{Ended, Service, Stack, row, sleeper, web};

/// Far below the time that a service has to become ready: whoever waited for that would take longer.
const AT_ONCE: Duration = Duration::from_secs(170);

/// `up` of a stack of one service, which fails.
fn fails(service: Service) -> (Stack, Ended) {
    fails_with(1, service)
}

fn fails_with(code: i32, service: Service) -> (Stack, Ended) {
    let mut stack = Stack::new();
    stack.has(service.with_key("readyTimeout", json!("10m")));
    let up = stack.up().failed_with(code);
    assert!(up.took < AT_ONCE, "it is said as soon as it is known: {up}");
    (stack, up)
}

/// Without a probe a program that a busy machine lets end late has run long enough to be believed.
fn never_ready(name: &str) -> Service {
    let probe = json!({"exec": {"command": ["false"]}, "periodSeconds": 1});
    sleeper(name).with("readinessProbe", probe)
}

#[test]
fn a_dockerfile_that_fails() {
    let (stack, up) = fails(web("web").with_file(
        "Dockerfile",
        "FROM busybox:1\nRUN echo first words; echo last words >&2; exit 3\n",
    ));
    up.saying(&[
        "web/Dockerfile:2",
        "last words",
        "exited with code 3",
        "try: `llmdev logs --build web`",
    ]);
    let build = stack
        .run(&["logs", "--build", "web"])
        .ends()
        .went_well()
        .out;
    assert!(
        build.contains("first words") && build.contains("last words"),
        "{build}"
    );
    stack.run(&["why", "web"]).ends().saying(&["last words"]);

    // What is mended is taken up without another `up`.
    stack.write("web/Dockerfile", "FROM busybox:1\nCOPY . /www/\nCMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n");
    stack.until_ready("web");
    assert_eq!(stack.get("web"), "web");
}

#[test]
fn an_image_that_exists_nowhere() {
    let (_stack, up) =
        fails(sleeper("app").with("image", json!("registry.invalid/nobody/nothing:1")));
    up.saying(&[
        "image registry.invalid/nobody/nothing:1 cannot be had",
        "check the name",
        "try:",
    ]);
}

#[test]
fn a_program_that_ends() {
    let script = "echo I looked for the file; echo it is not there >&2; exit 7";
    let (mut stack, up) = fails(never_ready("app").that_runs(script));
    up.saying(&["container app", "7", "it is not there"]);
    stack.has(sleeper("app"));
    stack.until_ready("app");

    let (_stack, up) = fails(sleeper("app").with("command", json!(["no-such-program"])));
    up.saying(&["no-such-program"]);
}

#[test]
fn a_probe_that_never_passes() {
    let probe = json!({"httpGet": {"path": "/nowhere", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2});
    let mut stack = Stack::new();
    stack.has(
        web("web")
            .with("readinessProbe", probe)
            .with_key("readyTimeout", json!("20s")),
    );
    stack.up().failed_with(1).saying(&["web", "404", "try:"]);
}

#[test]
fn a_program_that_needs_more_memory() {
    let hungry = "a=x; while true; do a=$a$a; done";
    let (_stack, up) = fails(
        never_ready("app")
            .that_runs(hungry)
            .with("resources", json!({"limits": {"memory": "24Mi"}})),
    );
    // The runtime does not always notice what it was killed for.
    up.saying(&[
        "more memory than its limit of 24Mi",
        "raise resources.limits.memory",
    ]);
}

#[test]
fn configuration_that_is_missing() {
    let from = json!([{"name": "WORDS", "valueFrom": {"configMapKeyRef": {"name": "words", "key": "hullo"}}}]);
    let map = |key: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"}, "data": {key: "x"}});
    let (mut stack, up) = fails(sleeper("app").with("env", from.clone()).and(map("hello")));
    up.saying(&["hullo", "words", "try:"]);
    stack.has(sleeper("app").with("env", from).and(map("hullo")));
    stack.until_ready("app");
}

#[test]
fn a_pod_that_no_node_takes() {
    let (_stack, up) = fails_with(
        4,
        sleeper("app").with("resources", json!({"requests": {"cpu": "1000"}})),
    );
    up.saying(&["no room for app", "nothing was applied", "try:"]);

    let mut elsewhere = sleeper("app");
    elsewhere.pod["nodeSelector"] = json!({"disk": "golden"});
    let (_stack, up) = fails(elsewhere);
    up.saying(&["no node takes pod app", "node affinity/selector", "try:"]);
}

#[test]
fn what_a_failure_holds_up_is_said() {
    let mut stack = Stack::new();
    stack.has(never_ready("base").that_runs("exit 1"));
    stack.has(sleeper("middle").that_needs("base"));
    stack.has(sleeper("top").that_needs("middle"));
    stack.has(web("apart"));
    stack.up().failed_with(1).saying(&["base"]);
    let status = stack.status();
    assert_eq!(row(&status, "base").unwrap().phase, Phase::Failed);
    let why = |name: &str| {
        row(&status, name)
            .unwrap()
            .reason
            .clone()
            .unwrap_or_default()
    };
    assert_eq!(
        (why("middle"), why("top")),
        (
            "waits for base, which failed".into(),
            "waits for middle".into()
        )
    );
    stack.run(&["why", "top"]).ends().saying(&[
        "top is pending: waits for middle",
        "middle is pending: waits for base, which failed",
        "base failed: ",
        "try: llmdev why base",
    ]);
    // Who needs nothing of it is up.
    assert_eq!(row(&status, "apart").unwrap().phase, Phase::Ready);

    stack.has(sleeper("base"));
    stack.until("all are ready", |status| {
        status.services.iter().all(|row| row.phase == Phase::Ready)
    });
}

#[test]
fn a_forward_to_a_port_where_nothing_listens() {
    let mut stack = Stack::new();
    stack.has(web("web").with_key(
        "forward",
        json!([{"local": crate::journey::free_port(), "remote": 9999}]),
    ));
    stack.up().went_well();
    let row = stack.until_service("web", "has a problem in its forward", |row| {
        row.forwards.iter().any(|one| one.problem.is_some())
    });
    let problem = row.forwards[0].problem.clone().unwrap();
    assert!(problem.contains("9999"), "{problem}");
}
