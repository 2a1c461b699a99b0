//! Workloads, claims and Services.

use serde_json::{Value, json};

use super::fixtures::*;
use super::said;
use crate::ready::{Readiness, Target, TargetObject, readiness, serving};

fn of_set(pod: Value, set: &str) -> Value {
    owned(pod, "ReplicaSet", set)
}

#[test]
fn a_deployment_is_ready_when_its_newest_pods_are() {
    let status = |updated: i32, all: i32, available: i32| json!({"observedGeneration": 1, "replicas": all, "updatedReplicas": updated, "availableReplicas": available});
    let unseen = json!({"observedGeneration": 0, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
    for (objects, expected) in [
        (
            vec![
                deployment(1, status(1, 1, 1)),
                replica_set("new", "2", 1),
                of_set(ready_pod("web-new"), "new"),
            ],
            "ready",
        ),
        // The Deployment's count is older than the pod.
        (
            vec![
                deployment(1, status(1, 1, 1)),
                replica_set("new", "2", 1),
                of_set(pod("web-new", ended(1, 0)), "new"),
            ],
            "waiting: container main ended with exit code 1, starts again",
        ),
        (vec![deployment(0, status(0, 0, 0))], "ready"),
        (
            vec![deployment(1, unseen)],
            "waiting: waiting for Kubernetes to take up the change",
        ),
        // An old pod that still stops does not matter, one that still serves does not count.
        (
            vec![
                deployment(1, status(1, 2, 2)),
                replica_set("new", "2", 1),
                replica_set("old", "1", 1),
                of_set(ready_pod("web-new"), "new"),
                of_set(ready_pod("web-old"), "old"),
            ],
            "ready",
        ),
        (
            vec![
                deployment(1, status(1, 2, 1)),
                replica_set("new", "2", 0),
                replica_set("old", "1", 1),
                of_set(ready_pod("web-old"), "old"),
                of_set(pod("web-new", json!({"state": {"running": {}}})), "new"),
            ],
            "waiting: container main is starting",
        ),
        (
            vec![
                deployment(3, status(3, 3, 1)),
                replica_set("new", "2", 1),
                of_set(ready_pod("web-1"), "new"),
                of_set(pod("web-2", waiting("ContainerCreating", "")), "new"),
                of_set(pod("web-3", json!({"state": {"running": {}}})), "new"),
            ],
            "waiting: 1 of 3 pods ready, container is being created",
        ),
        (
            vec![deployment(1, status(1, 1, 0)), replica_set("new", "2", 0)],
            "waiting: waiting for Kubernetes to make the pods",
        ),
    ] {
        assert_eq!(said(&objects), expected);
    }
}

#[test]
fn an_old_pod_that_crashes_while_it_is_replaced_does_not_count() {
    let crash = pod("web-old", waiting("CrashLoopBackOff", ""));
    let status = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1});
    let mut objects = vec![
        deployment(1, status),
        replica_set("new", "2", 0),
        replica_set("old", "1", 0),
        of_set(crash, "old"),
        of_set(pod("web-new", json!({"state": {"running": {}}})), "new"),
    ];
    assert_eq!(said(&objects), "waiting: container main is starting");
    objects[4] = of_set(pod("web-new", waiting("CrashLoopBackOff", "")), "new");
    assert!(said(&objects).starts_with("failed: container main"));
}

#[test]
fn an_old_version_that_serves_is_noted() {
    let objects = [of_set(ready_pod("web-old"), "old")];
    assert!(serving(&view(&objects), "web"));
    assert!(!serving(&view(&objects), "db"));
    assert!(!serving(&view(&[pod("web", json!({}))]), "web"));
}

#[test]
fn what_a_deployment_says_of_itself_counts() {
    let with_condition = |kind: &str, status: &str, reason: &str, message: &str| {
        let status = json!({
            "observedGeneration": 1, "replicas": 0,
            "conditions": [{"type": kind, "status": status, "reason": reason, "message": message}],
        });
        said(&[deployment(1, status)])
    };
    assert_eq!(
        with_condition(
            "ReplicaFailure",
            "True",
            "FailedCreate",
            "exceeded quota: small"
        ),
        "failed: the API server refuses the pods of Deployment web: exceeded quota: small"
    );
    assert_eq!(
        with_condition(
            "Progressing",
            "False",
            "ProgressDeadlineExceeded",
            "timed out"
        ),
        "failed: the rollout of Deployment web made no progress in its deadline: timed out"
    );
    assert_eq!(
        with_condition(
            "ReplicaFailure",
            "True",
            "FailedCreate",
            "serviceaccount \"default\" not found"
        ),
        "waiting: waiting for Kubernetes to make the pods"
    );
}

#[test]
fn a_stateful_set_follows_its_revisions() {
    let status = |ready: i32, updated: i32, update: &str| {
        json!({
            "observedGeneration": 1, "replicas": 2, "readyReplicas": ready, "updatedReplicas": updated,
            "currentRevision": "db-1", "updateRevision": update,
        })
    };
    let of_revision = |pod: Value, revision: &str| {
        owned(
            with(
                pod,
                "/metadata/labels/controller-revision-hash",
                json!(revision),
            ),
            "StatefulSet",
            "db",
        )
    };
    let partition = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}});
    let crash = || waiting("CrashLoopBackOff", "");
    let both = |set: Value, first: &str, second: &str| {
        let one = of_revision(ready_pod("db-0"), first);
        vec![set, one, of_revision(ready_pod("db-1"), second)]
    };
    let halfway = || stateful_set(2, status(2, 1, "db-2"));
    let parted = with(halfway(), "/spec/updateStrategy", partition);
    let old = stateful_set(2, status(2, 0, "db-1"));
    let new = stateful_set(2, status(2, 2, "db-2"));
    for (objects, expected) in [
        (both(old, "db-1", "db-1"), "ready"),
        (both(new, "db-2", "db-2"), "ready"),
        (
            both(halfway(), "db-1", "db-2"),
            "waiting: 1 of 2 pods updated",
        ),
        (both(parted, "db-1", "db-2"), "ready"),
        (vec![stateful_set(0, status(0, 0, "db-1"))], "ready"),
        (
            vec![
                stateful_set(2, status(1, 1, "db-2")),
                of_revision(ready_pod("db-0"), "db-1"),
                of_revision(pod("db-1", json!({"state": {"running": {}}})), "db-2"),
            ],
            "waiting: 0 of 2 pods ready, container main is starting",
        ),
        (
            vec![
                stateful_set(1, status(0, 0, "db-2")),
                of_revision(pod("db-0", crash()), "db-1"),
            ],
            "failed: StatefulSet db waits for its old pod db-0 to be ready, which it never is: container main ended with exit code 0 (it says that it is done)",
        ),
    ] {
        assert_eq!(said(&objects), expected);
    }
}

#[test]
fn a_daemon_set_is_ready_when_every_node_has_the_newest() {
    let status = |wanted: i32, updated: i32, available: i32| {
        json!({
            "observedGeneration": 1, "currentNumberScheduled": wanted, "numberMisscheduled": 0, "numberReady": 0,
            "desiredNumberScheduled": wanted, "updatedNumberScheduled": updated, "numberAvailable": available,
        })
    };
    let generation = |pod: Value, generation: &str| {
        owned(
            with(
                pod,
                "/metadata/labels/pod-template-generation",
                json!(generation),
            ),
            "DaemonSet",
            "agent",
        )
    };
    let crash = || pod("agent-1", waiting("CrashLoopBackOff", ""));
    let ready = |name: &str| generation(ready_pod(name), "1");
    let two = [
        daemon_set(status(2, 2, 2)),
        ready("agent-1"),
        ready("agent-2"),
    ];
    assert_eq!(said(&two), "ready");
    assert!(said(&two[..2]).starts_with("waiting: 1 of 2 pods ready"));
    assert_eq!(said(&[daemon_set(status(0, 0, 0))]), "ready");
    assert_eq!(
        said(&[daemon_set(status(1, 0, 0)), generation(crash(), "0")]),
        "waiting: waiting for Kubernetes to make the pods"
    );
    assert!(said(&[daemon_set(status(1, 1, 0)), generation(crash(), "1")]).starts_with("failed: "));
}

#[test]
fn a_job_is_ready_when_it_is_done() {
    let condition = |kind: &str, reason: &str| {
        json!({"failed": 3, "conditions": [
            {"type": kind, "status": "True", "reason": reason, "message": "it gave up"},
        ]})
    };
    let of_job = |container: Value| owned(pod("migrate-x", container), "Job", "migrate");
    for (objects, expected) in [
        (
            vec![job(condition("Complete", "CompletionsReached"))],
            "ready",
        ),
        (
            vec![job(condition("Failed", "BackoffLimitExceeded"))],
            "failed: Job migrate failed: it gave up",
        ),
        (
            vec![job(condition("Failed", "DeadlineExceeded"))],
            "failed: Job migrate took longer than its activeDeadlineSeconds",
        ),
        (
            vec![job(json!({"failed": 1}))],
            "waiting: Job running, 1 of at most 3 tries failed",
        ),
        // A try that failed is tried again; an image that does not exist stays away.
        (
            vec![job(json!({})), of_job(waiting("CrashLoopBackOff", ""))],
            "waiting: Job running",
        ),
        (
            vec![job(json!({})), of_job(waiting("ErrImagePull", "not found"))],
            "failed: container main: image web:1 cannot be had (ErrImagePull): not found",
        ),
        (
            vec![with(job(json!({})), "/spec/suspend", json!(true))],
            "ready",
        ),
    ] {
        assert_eq!(said(&objects), expected);
    }
}

#[test]
fn a_claim_is_waited_for_when_it_is_used() {
    let claim = |phase: &str| {
        object(
            "PersistentVolumeClaim",
            "data",
            json!({}),
            json!({"phase": phase}),
        )
    };
    let mut user = ready_pod("web");
    user["spec"]["volumes"] =
        json!([{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]);
    assert_eq!(said(&[claim("Bound")]), "ready");
    assert_eq!(said(&[claim("Pending")]), "ready");
    assert_eq!(
        said(&[claim("Pending"), user]),
        "waiting: waiting for volume claim data to be bound"
    );
    assert_eq!(
        said(&[claim("Lost")]),
        "failed: volume claim data has lost its volume"
    );
}

#[test]
fn a_service_leads_somewhere() {
    let web = || service(json!({"app": "web"}));
    let scaled_down = || deployment(0, json!({"observedGeneration": 1}));
    for (objects, expected) in [
        (vec![web(), slice(true), ready_pod("web")], "ready"),
        (
            vec![web(), slice(false), ready_pod("web")],
            "waiting: Service web has no ready endpoint yet",
        ),
        (
            vec![web(), ready_pod("web")],
            "waiting: Service web has no ready endpoint yet",
        ),
        (vec![web(), scaled_down()], "ready"),
        (
            vec![service(json!({"app": "wep"})), ready_pod("web")],
            "waiting: Service web selects no pod: app=wep",
        ),
        (vec![service(json!({}))], "ready"),
        (vec![service(Value::Null)], "ready"),
    ] {
        assert_eq!(said(&objects), expected);
    }
}

#[test]
fn an_outdated_view_is_not_believed() {
    let status = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
    let pod = of_set(ready_pod("web-new"), "new");
    let view = view(&[deployment(1, status), replica_set("new", "2", 1), pod]);
    let wanted = |uid: Option<&str>, generation: i64, name: &str| TargetObject {
        kind: "Deployment".to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        uid: uid.map(str::to_owned),
        generation,
    };
    for (object, ready) in [
        (wanted(None, 1, "web"), true),
        (wanted(Some("web"), 0, "web"), true),
        (wanted(Some("another"), 1, "web"), false),
        (wanted(None, 2, "web"), false),
        (wanted(None, 0, "wep"), false),
    ] {
        let target = Target {
            service: "web".to_owned(),
            objects: vec![object],
        };
        assert_eq!(
            readiness(&view, &target, now()) == Readiness::Ready,
            ready,
            "{target:?}"
        );
    }
}

#[test]
fn an_incomplete_view_says_nothing() {
    let mut view = view(&[]);
    view.complete = false;
    let waiting = |why: &str| Readiness::Waiting {
        why: why.to_owned(),
    };
    assert_eq!(
        readiness(&view, &Target::default(), now()),
        waiting("asking the cluster")
    );
    view.unreachable = Some("Connection refused".to_owned());
    let why = "the cluster does not answer: Connection refused";
    assert_eq!(readiness(&view, &Target::default(), now()), waiting(why));
}

#[test]
fn a_storage_class_that_is_not_there_fails_at_once() {
    let claim = |phase: &str, uid: &str| {
        let spec = json!({"storageClassName": "fast"});
        with(
            object(
                "PersistentVolumeClaim",
                "data",
                spec,
                json!({"phase": phase}),
            ),
            "/metadata/uid",
            json!(uid),
        )
    };
    let event = |uid: &str, message: &str| {
        json!({
            "kind": "Event",
            "metadata": {"name": "data.1", "namespace": "shop"},
            "involvedObject": {"kind": "PersistentVolumeClaim", "namespace": "shop", "name": "data", "uid": uid},
            "reason": "ProvisioningFailed", "message": message,
        })
    };
    let mut unscheduled = pod("web-new", json!({}));
    unscheduled["spec"]
        .as_object_mut()
        .unwrap()
        .remove("nodeName");
    unscheduled["spec"]["volumes"] =
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    unscheduled["status"] = json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
    }]});
    let missing = "storageclass.storage.k8s.io \"fast\" not found";
    let failed = "failed: volume claim data: the cluster has no storage class fast";
    let waits = "waiting: waiting for volume claim data to be bound";
    for (phase, uid, message, expected) in [
        ("Pending", "a", missing, failed),
        // Of an older claim of the same name.
        ("Pending", "b", missing, waits),
        ("Pending", "a", "the disk array is busy", waits),
        // It was made after all.
        ("Bound", "a", missing, waits),
    ] {
        let objects = [
            deployment(
                1,
                json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}),
            ),
            replica_set("new", "2", 0),
            of_set(unscheduled.clone(), "new"),
            claim(phase, "a"),
            event(uid, message),
        ];
        let said = said(&objects);
        assert!(said.starts_with(expected), "{phase} {uid}: {said}");
    }
}

#[test]
fn an_older_version_serves_only_where_there_is_one() {
    let status = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1});
    let sets = || {
        vec![
            deployment(2, status.clone()),
            replica_set("new", "2", 1),
            replica_set("old", "1", 1),
        ]
    };
    let of_revision = |name: &str, revision: &str| {
        let mut pod = owned(ready_pod(name), "StatefulSet", "db");
        pod["metadata"]["labels"]["controller-revision-hash"] = json!(revision);
        pod
    };
    let set = || {
        stateful_set(
            2,
            json!({"observedGeneration": 1, "replicas": 2, "updateRevision": "b"}),
        )
    };
    for (mut objects, pod, older) in [
        (sets(), of_set(ready_pod("web-1"), "new"), false),
        (sets(), of_set(ready_pod("web-1"), "old"), true),
        (sets(), of_set(pod("web-1", ended(1, 0)), "old"), false),
        (vec![set()], of_revision("db-0", "b"), false),
        (vec![set()], of_revision("db-0", "a"), true),
    ] {
        objects.push(pod);
        let view = view(&objects);
        let found = crate::ready::older_serves(&view, &Target::of(&view, "web"));
        assert_eq!(found, older, "{objects:#?}");
    }
}
