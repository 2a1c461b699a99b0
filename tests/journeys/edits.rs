//! stack.yaml and the manifests are edited while all is up.

use llmdev::event::{Phase, Status};
use serde_json::{Value, json};

use crate::journey::{Stack, free_port, get, row, sleeper, web};

#[test]
fn stack_yaml_is_edited_while_it_is_up() {
    let mut stack = Stack::new();
    stack.has(web("web"));
    stack.up().went_well();
    let (pods, port) = (stack.pods(), stack.port("web"));
    let mut events = stack.events();

    stack.has(web("second").that_says("me too"));
    events.until("the second is ready", |status| {
        is(status, "second", Phase::Ready)
    });
    assert_eq!(stack.get("second"), "me too");
    assert!(stack.pods().is_superset(&pods), "the first is left alone");

    let other = free_port();
    stack.has(
        web("second")
            .that_says("me too")
            .with_key("forward", json!([{"local": other, "remote": 8080}])),
    );
    events.until("the second has its new port", |status| {
        row(status, "second").is_some_and(|row| row.forwards.iter().any(|one| one.local == other))
    });
    assert_eq!(get(other).unwrap(), "me too");
    assert_eq!(get(port).unwrap(), "web");

    let (yaml, broken) = (stack.yaml(), stack.yaml().replace("services:", "servces:"));
    stack.write("stack.yaml", broken);
    events.until_note("servces");
    let status = events.until("the status says so", |status| status.failure.is_some());
    assert!(is(&status, "web", Phase::Ready));
    stack
        .run(&["status"])
        .ends()
        .went_well()
        .saying(&["servces", "stack.yaml:"]);
    assert_eq!(get(port).unwrap(), "web", "all goes on as it was");
    stack.write("stack.yaml", yaml);
    stack.has_no_more("second");
    events.until("the second is gone", |status| {
        row(status, "second").is_none()
    });
    events.until_note("removed deployment/second");
    assert!(get(other).is_err(), "its port is closed");
    assert_eq!(
        stack.kubectl(&["get", "deployments", "-o", "name"]).trim(),
        "deployment.apps/web"
    );
    assert!(stack.pods().is_superset(&pods), "the first is left alone");
}

#[test]
fn manifests_are_edited_while_they_are_up() {
    let mut stack = Stack::new();
    stack.has(talker("one", "hello"));
    stack.up().went_well();
    assert_eq!(stack.pods().len(), 1);
    let first = stack.pods();

    stack.has(talker("one", "good day"));
    stack.until("the pod has the new words", |status| {
        let rows = &status.services[0];
        rows.phase == Phase::Ready
            && rows
                .pods
                .iter()
                .all(|pod| !first.iter().any(|old| old.starts_with(&pod.name)))
    });
    let said = stack
        .run(&["logs", "talker", "--tail", "1"])
        .ends()
        .went_well()
        .out;
    assert!(
        said.contains("good day"),
        "a changed ConfigMap rolls the pods: {said}"
    );

    let mut two = talker("one", "good day");
    two.replicas = 2;
    stack.has(two);
    let status = stack.until("there are two", |status| {
        is(status, "talker", Phase::Ready) && status.services[0].pods.len() == 2
    });
    assert!(status.services[0].pods.iter().all(|pod| pod.ready));
}

/// Says what its ConfigMap has.
fn talker(version: &str, words: &str) -> crate::journey::Service {
    let from: Value = json!([{"name": "WORDS", "valueFrom": {"configMapKeyRef": {"name": "words", "key": version}}}]);
    sleeper("talker").that_runs("echo $WORDS; exec sleep 100000").with("env", from).and(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"}, "data": {version: words},
    }))
}

fn is(status: &Status, service: &str, phase: Phase) -> bool {
    row(status, service).is_some_and(|row| row.phase == phase)
}

#[test]
fn what_holds_a_rollout_is_said_with_a_way_out() {
    let probe = |delay: u32| json!({"httpGet": {"path": "/", "port": 8080}, "initialDelaySeconds": delay, "periodSeconds": 1});
    let held = "the readinessProbe of web, first asked after 6 s; `dev: {fastRollout: true}` shortens that";
    let mut stack = Stack::new();
    stack.has(web("web").that_says("one").with("readinessProbe", probe(6)));
    stack.up().went_well();
    let mut events = stack.events();
    stack.write("web/index.html", "two");
    events.until("the edit is built", |status| {
        status.services[0].phase != Phase::Ready
    });
    let status = events.until("it is ready again", |status| {
        status.services[0].phase == Phase::Ready
    });
    let start = |status: &Status| {
        let timings = status.services[0].timings.iter();
        timings
            .filter_map(|one| one.held.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(start(&status), [held]);
    let shown = stack.run(&["status", "--timings"]).ends().went_well().out;
    assert!(shown.contains(&format!("(held by {held})")), "{shown}");

    let quick = web("web").with("readinessProbe", probe(6));
    stack.has(
        quick
            .that_says("two")
            .with_key("dev", json!({"fastRollout": true})),
    );
    stack.up().went_well();
    assert_eq!(start(&stack.status()), [""; 0]);
}
