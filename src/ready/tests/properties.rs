//! What holds for any objects.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixtures::*;
use crate::ready::{Readiness, Target, readiness};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("CrashLoopBackOff".to_owned()),
        Just("ErrImagePull".to_owned()),
        Just("OOMKilled".to_owned()),
        Just("Unschedulable".to_owned()),
        Just("PodInitializing".to_owned()),
        ".{0,12}",
    ]
}

fn time() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!("2026-11-21T11:59:59Z")),
        Just(json!("-009999-01-02T01:59:59Z")),
        Just(json!("9999-12-30T22:00:00Z")),
    ]
}

fn ended() -> impl Strategy<Value = Value> {
    (any::<i32>(), text(), time(), time()).prop_map(|(code, reason, from, to)| {
        json!({"exitCode": code, "reason": reason, "startedAt": from, "finishedAt": to})
    })
}

fn state() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        (text(), text()).prop_map(
            |(reason, message)| json!({"waiting": {"reason": reason, "message": message}})
        ),
        time().prop_map(|since| json!({"running": {"startedAt": since}})),
        ended().prop_map(|ended| json!({"terminated": ended})),
    ]
}

fn container() -> impl Strategy<Value = Value> {
    (
        state(),
        state(),
        any::<i32>(),
        any::<bool>(),
        any::<bool>(),
        "(main|init|x)",
    )
        .prop_map(|(state, last, restarts, ready, started, name)| {
            json!({
                "name": name, "image": "", "imageID": "", "ready": ready, "started": started,
                "restartCount": restarts, "state": state, "lastState": last,
            })
        })
}

fn any_pod(name: &'static str) -> impl Strategy<Value = Value> {
    let containers = || proptest::collection::vec(container(), 0..3);
    let scheduled = prop_oneof![Just("True"), Just("False")];
    (containers(), containers(), text(), text(), scheduled, any::<bool>()).prop_map(
        move |(init, main, reason, phase, scheduled, placed)| {
            let mut object = pod(name, json!({}));
            object["status"] = json!({
                "phase": phase, "reason": reason,
                "conditions": [
                    {"type": "PodScheduled", "status": scheduled, "reason": reason, "message": phase},
                ],
                "initContainerStatuses": init, "containerStatuses": main,
            });
            if !placed {
                object["spec"] = Value::Null;
            }
            owned(object, "ReplicaSet", "new")
        },
    )
}

/// A Deployment with counts that need not go together, and its ReplicaSet.
fn any_deployment() -> impl Strategy<Value = Vec<Value>> {
    let small = -2..4_i32;
    (small.clone(), small.clone(), small.clone(), small).prop_map(|(wanted, updated, all, available)| {
        let status = json!({
            "observedGeneration": 1, "replicas": all, "updatedReplicas": updated, "availableReplicas": available,
        });
        vec![deployment(wanted, status), replica_set("new", "2", available)]
    })
}

/// A count as a broken API server might say it.
fn count() -> impl Strategy<Value = i32> {
    prop_oneof![-1..4_i32, Just(i32::MAX), Just(i32::MIN)]
}

fn any_other_workload() -> impl Strategy<Value = Value> {
    (count(), count(), count(), count(), 0..3).prop_map(|(wanted, ready, updated, other, kind)| {
        let status = json!({
            "observedGeneration": 1, "replicas": ready, "readyReplicas": ready, "updatedReplicas": updated,
            "currentRevision": "a", "updateRevision": "b", "failed": other,
            "currentNumberScheduled": ready, "numberMisscheduled": 0, "numberReady": ready,
            "desiredNumberScheduled": wanted, "updatedNumberScheduled": updated, "numberAvailable": other,
        });
        let partition = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": other}});
        match kind {
            0 => with(stateful_set(wanted, status), "/spec/updateStrategy", partition),
            1 => daemon_set(status),
            _ => with(job(status), "/spec/backoffLimit", json!(wanted)),
        }
    })
}

fn judge(objects: &[Value]) -> Readiness {
    let view = view(objects);
    readiness(&view, &Target::of(&view, "web"), now())
}

proptest! {
    #[test]
    fn any_objects_are_judged(mut objects in any_deployment(), one in any_pod("web-1"), two in any_pod("web-2")) {
        objects.push(one.clone());
        objects.push(two);
        objects.push(owned(one, "Nobody", "none"));
        judge(&objects);
    }

    #[test]
    fn any_counts_are_judged(workload in any_other_workload(), pod in any_pod("db-0")) {
        let name = workload["metadata"]["name"].as_str().expect("a name").to_owned();
        let kind = workload["kind"].as_str().expect("a kind").to_owned();
        judge(&[workload, owned(pod, &kind, &name)]);
    }

    #[test]
    fn what_is_waited_for_or_failed_has_words(pod in any_pod("web")) {
        let bare = with(pod, "/metadata/ownerReferences", Value::Null);
        match judge(&[bare]) {
            Readiness::Waiting { why } => prop_assert!(!why.trim().is_empty()),
            Readiness::Failed(failure) => prop_assert!(!failure.what.trim().is_empty()),
            Readiness::Ready => (),
        }
    }

    #[test]
    fn a_further_ready_pod_makes_nothing_worse(objects in any_deployment(), pod in any_pod("web-1")) {
        let mut objects = objects;
        objects.push(pod);
        let before = judge(&objects);
        objects.push(owned(ready_pod("web-9"), "ReplicaSet", "new"));
        let after = judge(&objects);
        if before == Readiness::Ready {
            prop_assert_eq!(after, Readiness::Ready);
        } else if !matches!(before, Readiness::Failed(_)) {
            prop_assert!(!matches!(after, Readiness::Failed(_)));
        }
    }

    #[test]
    fn what_is_ready_stays_so_whatever_an_old_pod_does(pod in any_pod("web-old")) {
        let status = json!({
            "observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1,
        });
        let old = owned(pod, "ReplicaSet", "old");
        let new = owned(ready_pod("web-new"), "ReplicaSet", "new");
        let sets = [replica_set("new", "2", 1), replica_set("old", "1", 1)];
        let objects = [vec![deployment(1, status), old, new], sets.to_vec()].concat();
        prop_assert_eq!(judge(&objects), Readiness::Ready);
    }
}
