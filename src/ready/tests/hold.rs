//! What held a rollout.

use serde_json::{Value, json};

use super::fixtures::*;
use crate::ready::{Target, TargetObject, held};

/// When it was applied.
const APPLIED: &str = "2026-11-21T12:00:00Z";

fn at(seconds: u32) -> String {
    format!("2026-11-21T12:{:02}:{:02}Z", seconds / 60, seconds % 60)
}

/// A ready pod that was made, started and became ready so many seconds after that.
fn rolled(made: u32, started: u32, ready: u32, probes: Value) -> Value {
    let mut pod = ready_pod("web-new");
    pod["metadata"]["creationTimestamp"] = json!(at(made));
    pod["spec"]["terminationGracePeriodSeconds"] = json!(30);
    pod["status"]["conditions"][0]["lastTransitionTime"] = json!(at(ready));
    pod["status"]["containerStatuses"][0]["state"] = json!({"running": {"startedAt": at(started)}});
    let container = &mut pod["spec"]["containers"][0];
    for (name, probe) in probes.as_object().unwrap() {
        container[name] = probe.clone();
    }
    pod
}

fn said(kind: &str, objects: &[Value]) -> String {
    let target = Target {
        service: "web".into(),
        objects: vec![TargetObject {
            kind: kind.into(),
            namespace: "shop".into(),
            name: if kind == "StatefulSet" { "db" } else { "web" }.into(),
            ..TargetObject::default()
        }],
    };
    held(&view(objects), &target, APPLIED.parse().unwrap()).unwrap_or_default()
}

fn of_deployment(changes: &[(&str, Value)], pod: Value) -> String {
    let status = json!({"observedGeneration": 1, "replicas": 1});
    let whole = changes
        .iter()
        .fold(deployment(1, status), |object, (path, value)| {
            with(object, path, value.clone())
        });
    let pod = owned(pod, "ReplicaSet", "new");
    said("Deployment", &[whole, replica_set("new", "2", 1), pod])
}

#[test]
fn what_held_a_rollout_is_named() {
    let probe = |delay: u32, period: u32| json!({"readinessProbe": {"initialDelaySeconds": delay, "periodSeconds": period}});
    let none = json!({});
    for (made, started, ready, probes, expected) in [
        (0, 1, 2, none.clone(), ""),
        (0, 1, 2, probe(0, 1), ""),
        (
            0,
            1,
            21,
            probe(20, 5),
            "the readinessProbe of main, first asked after 20 s",
        ),
        (
            0,
            1,
            24,
            probe(20, 5),
            "the readinessProbe of main, first asked after 20 s",
        ),
        // The program needed longer than that.
        (0, 1, 60, probe(20, 5), ""),
        (
            0,
            1,
            11,
            probe(0, 10),
            "the readinessProbe of main, asked every 10 s",
        ),
        (0, 1, 3, probe(0, 10), ""),
        (0, 1, 59, probe(0, 10), ""),
        (
            0,
            1,
            13,
            json!({"startupProbe": {"initialDelaySeconds": 12, "periodSeconds": 1},
                   "readinessProbe": {"initialDelaySeconds": 10, "periodSeconds": 5}}),
            "the startupProbe of main, first asked after 12 s and the readinessProbe of main, first asked after 10 s",
        ),
        // The image came late: nothing of it is the rollout's.
        (0, 40, 41, probe(0, 1), ""),
    ] {
        let pod = rolled(made, started, ready, probes);
        assert_eq!(of_deployment(&[], pod), expected, "{started} {ready}");
    }
    // Of an older rollout.
    let mut older = rolled(0, 1, 21, probe(20, 5));
    older["metadata"]["creationTimestamp"] = json!("2026-11-21T11:59:00Z");
    assert_eq!(of_deployment(&[], older), "");
    let min_ready = [("/spec/minReadySeconds", json!(5))];
    assert_eq!(
        of_deployment(&min_ready, rolled(0, 1, 2, none)),
        "minReadySeconds of 5"
    );
}

#[test]
fn an_old_pod_that_ends_late_holds_where_it_ends_first() {
    let quick = |made: u32| rolled(made, made + 1, made + 2, json!({}));
    let surge = |surge: Value| {
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge}});
        [("/spec/strategy", rolling)]
    };
    let recreate = [("/spec/strategy", json!({"type": "Recreate"}))];
    for (changes, made, expected) in [
        (&recreate, 0, ""),
        (&recreate, 12, "the old pod, which took 12 s to end"),
        (
            &recreate,
            30,
            "the old pod's terminationGracePeriodSeconds of 30",
        ),
        (&surge(json!(0)), 12, "the old pod, which took 12 s to end"),
        (
            &surge(json!("0%")),
            12,
            "the old pod, which took 12 s to end",
        ),
        (&surge(json!(1)), 12, ""),
        (&surge(json!("25%")), 12, ""),
    ] {
        assert_eq!(of_deployment(changes, quick(made)), expected, "{made}");
    }
    let set = stateful_set(1, json!({"observedGeneration": 1, "replicas": 1}));
    let pod = owned(quick(31), "StatefulSet", "db");
    assert_eq!(
        said("StatefulSet", &[set, pod]),
        "the old pod's terminationGracePeriodSeconds of 30"
    );
}
