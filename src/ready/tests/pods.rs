//! Single pods.

use serde_json::{Value, json};

use super::fixtures::*;
use super::said;

#[test]
fn a_pod_waits() {
    let with_probe = |probe: &str| {
        let container = json!({"started": probe == "readinessProbe", "state": {"running": {}}});
        with(
            pod("web", container),
            &format!("/spec/containers/0/{probe}"),
            json!({}),
        )
    };
    let sandboxed = |up: &str| {
        let sandbox = json!([{"type": "PodReadyToStartContainers", "status": up}]);
        with(
            pod("web", waiting("ContainerCreating", "")),
            "/status/conditions",
            sandbox,
        )
    };
    for (object, expected) in [
        (ready_pod("web"), "ready"),
        (
            with(pod("web", json!({})), "/status/phase", json!("Succeeded")),
            "ready",
        ),
        (
            with_probe("readinessProbe"),
            "waiting: readiness probe not passed yet",
        ),
        (
            with_probe("startupProbe"),
            "waiting: startup probe not passed yet",
        ),
        (sandboxed("True"), "waiting: pulling image web:1"),
        (
            sandboxed("False"),
            "waiting: volumes and network of the pod are being set up",
        ),
        (
            pod("web", ended(1, 0)),
            "waiting: container main ended with exit code 1, starts again",
        ),
        (
            with(
                ready_pod("web"),
                "/metadata/deletionTimestamp",
                json!("2026-11-21T11:59:00Z"),
            ),
            "waiting: Pod web is being deleted",
        ),
        (
            pod(
                "web",
                waiting(
                    "CreateContainerConfigError",
                    "failed to sync configmap cache: timed out",
                ),
            ),
            "waiting: container main: CreateContainerConfigError",
        ),
    ] {
        assert_eq!(said(&[object]), expected);
    }
}

#[test]
fn a_pod_waits_for_its_init_containers() {
    let mut object = pod("web", waiting("PodInitializing", ""));
    object["spec"]["initContainers"] = json!([{"name": "wait-for-postgres", "image": "busybox:1"}]);
    let mut init = json!({
        "name": "wait-for-postgres", "image": "busybox:1", "imageID": "", "ready": false,
        "restartCount": 0, "started": true, "state": {"running": {}},
    });
    object["status"]["initContainerStatuses"] = json!([init]);
    assert_eq!(
        said(&[object.clone()]),
        "waiting: init container wait-for-postgres running"
    );

    init["state"] = json!({"terminated": {"exitCode": 0}});
    object["status"]["initContainerStatuses"] = json!([init]);
    assert_eq!(said(&[object.clone()]), "waiting: pod is being initialized");

    init["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    init["lastState"] = json!({"terminated": {"exitCode": 1}});
    init["restartCount"] = json!(3);
    object["status"]["initContainerStatuses"] = json!([init]);
    assert_eq!(
        said(&[object]),
        "failed: init container wait-for-postgres ended with exit code 1, 3 restarts"
    );
}

#[test]
fn a_pod_that_cannot_become_ready_is_said_to_be_so() {
    let last = |code: i32, reason: &str| {
        json!({
            "restartCount": 2,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": code, "reason": reason}},
        })
    };
    let gone = |reason: &str, message: &str| {
        let failed = with(pod("web", json!({})), "/status/phase", json!("Failed"));
        with(
            with(failed, "/status/reason", json!(reason)),
            "/status/message",
            json!(message),
        )
    };
    for (object, expected) in [
        (
            pod("web", last(1, "Error")),
            "failed: container main ended with exit code 1, 2 restarts",
        ),
        (
            pod("web", last(0, "Completed")),
            "failed: container main ended with exit code 0 (it says that it is done), 2 restarts",
        ),
        (
            pod("web", last(139, "Error")),
            "failed: container main ended with exit code 139 (segmentation fault, SIGSEGV), 2 restarts",
        ),
        (
            pod("web", last(137, "OOMKilled")),
            "failed: container main was killed: it needs more memory than its limit of 64Mi",
        ),
        (
            pod("web", ended(127, 0)),
            "failed: container main ended with exit code 127 (the command was not found)",
        ),
        (
            pod("web", ended(1, 1)),
            "failed: container main ended with exit code 1, once more after a restart",
        ),
        (
            pod("web", waiting("ErrImagePull", "no such host")),
            "failed: container main: image web:1 cannot be had (ErrImagePull): no such host",
        ),
        (
            pod("web", waiting("ImagePullBackOff", "Back-off")),
            "failed: container main: image web:1 cannot be had (ImagePullBackOff): Back-off",
        ),
        (
            pod(
                "web",
                waiting("CreateContainerConfigError", "secret \"keys\" not found"),
            ),
            "failed: container main refers to configuration that does not exist: secret \"keys\" not found",
        ),
        (
            pod("web", waiting("RunContainerError", "exec: \"nope\"")),
            "failed: container main cannot be started: exec: \"nope\"",
        ),
        (
            gone(
                "Evicted",
                "The node was low on resource: ephemeral-storage.",
            ),
            "failed: pod web was evicted by its node: The node was low on resource: ephemeral-storage.",
        ),
        (
            gone("DeadlineExceeded", ""),
            "failed: pod web took longer than its activeDeadlineSeconds",
        ),
    ] {
        assert_eq!(said(&[object]), expected);
    }
}

#[test]
fn a_crash_loop_that_happens_to_run_is_one_until_it_outlives_its_last_run() {
    let running_since = |since: &str| {
        pod(
            "web",
            json!({
                "restartCount": 2,
                "state": {"running": {"startedAt": since}},
                "lastState": {"terminated": {
                    "exitCode": 1,
                    "startedAt": "2026-11-21T11:50:00Z", "finishedAt": "2026-11-21T11:50:20Z",
                }},
            }),
        )
    };
    assert!(said(&[running_since("2026-11-21T11:59:45Z")]).starts_with("failed: container main"));
    assert_eq!(
        said(&[running_since("2026-11-21T11:59:00Z")]),
        "waiting: container main is starting"
    );
}

/// As containerd says it of a container that it does not find any more when it begins anew with its node.
#[test]
fn a_container_that_its_node_lost_did_not_crash() {
    let lost = |reason: &str| {
        json!({"terminated": {
            "exitCode": 255, "reason": reason,
            "startedAt": "2026-11-21T11:50:00Z", "finishedAt": "2026-11-21T11:59:40Z",
        }})
    };
    let again = |reason: &str| {
        let running = json!({"running": {"startedAt": "2026-11-21T11:59:50Z"}});
        pod(
            "web",
            json!({"restartCount": 2, "state": running, "lastState": lost(reason)}),
        )
    };
    let down = |reason: &str| pod("web", json!({"restartCount": 1, "state": lost(reason)}));
    for (object, expected) in [
        (again("Unknown"), "waiting: container main is starting"),
        (
            down("Unknown"),
            "waiting: container main ended with exit code 255, starts again",
        ),
        (
            again("Error"),
            "failed: container main ended with exit code 255, 2 restarts",
        ),
        (
            down("Error"),
            "failed: container main ended with exit code 255, once more after a restart",
        ),
    ] {
        assert_eq!(said(&[object]), expected);
    }
}

#[test]
fn a_program_that_nobody_asks_is_believed_after_a_moment() {
    let running = |since: &str| {
        let pod = with(
            ready_pod("web"),
            "/status/containerStatuses/0/state",
            json!({"running": {"startedAt": since}}),
        );
        owned(pod, "ReplicaSet", "new")
    };
    let probed = |pod: Value| with(pod, "/spec/containers/0/readinessProbe", json!({}));
    let status = json!({
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
    });
    let with_pod = |pod: Value| {
        said(&[
            deployment(1, status.clone()),
            replica_set("new", "2", 1),
            pod,
        ])
    };
    for (pod, expected) in [
        (
            running("2026-11-21T11:59:59Z"),
            "waiting: container main has just started",
        ),
        (
            running("2026-11-21T12:00:01Z"),
            "waiting: container main has just started",
        ),
        (running("2026-11-21T11:59:58Z"), "ready"),
        (running("2026-11-21T12:10:00Z"), "ready"),
        (probed(running("2026-11-21T11:59:59Z")), "ready"),
    ] {
        assert_eq!(with_pod(pod), expected);
    }
}

#[test]
fn the_schedulers_words_decide() {
    let unscheduled = |reason: &str, message: &str| {
        let mut object = pod("web", json!({}));
        object["spec"]["nodeName"] = Value::Null;
        object["spec"]["volumes"] =
            json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
        object["status"] = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": reason, "message": message},
        ]});
        object
    };
    for (reason, message, expected) in [
        (
            "Unschedulable",
            "0/1 nodes are available: 1 Insufficient cpu.",
            "failed: no node takes pod web: 0/1 nodes are available: 1 Insufficient cpu.",
        ),
        (
            "Unschedulable",
            "0/1 nodes: pod has unbound immediate PersistentVolumeClaims.",
            "waiting: waiting for volume claim data to be bound",
        ),
        (
            "Unschedulable",
            "1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.",
            "waiting: the node is not ready yet",
        ),
        (
            "SchedulingGated",
            "",
            "waiting: pod is held by a scheduling gate",
        ),
        (
            "SchedulerError",
            "binding volumes: context deadline exceeded",
            "waiting: pod is being scheduled",
        ),
    ] {
        assert_eq!(said(&[unscheduled(reason, message)]), expected);
    }
    let full = unscheduled(
        "Unschedulable",
        "0/1 nodes are available: 1 Insufficient memory.",
    );
    let stopping = with(
        ready_pod("old"),
        "/metadata/deletionTimestamp",
        json!("2026-11-21T11:59:00Z"),
    );
    let stopping = owned(stopping, "ReplicaSet", "old");
    assert_eq!(
        said(&[full, stopping]),
        "waiting: waiting for stopping pods to make room on the node"
    );
    let mut fresh = unscheduled("", "");
    fresh["status"] = json!({"phase": "Pending"});
    assert_eq!(said(&[fresh]), "waiting: pod is being scheduled");
}

#[test]
fn a_probes_answer_is_told() {
    let container = json!({"started": true, "state": {"running": {}}});
    let web = with(
        pod("web", container),
        "/spec/containers/0/readinessProbe",
        json!({}),
    );
    let said_at = |answer: &str, time: &str| {
        warning(
            "web",
            "Unhealthy",
            &format!("Readiness probe failed: {answer}"),
            time,
        )
    };
    let objects = [
        web,
        said_at("statuscode: 503", "2026-11-21T11:59:00Z"),
        said_at("statuscode: 401", "2026-11-21T11:59:30Z"),
        said_at("statuscode: 404", "2026-11-21T11:58:00Z"),
        warning(
            "other",
            "Unhealthy",
            "Readiness probe failed: no",
            "2026-11-21T11:59:59Z",
        ),
    ];
    assert_eq!(
        said(&objects),
        "waiting: readiness probe not passed yet: statuscode: 401"
    );
}

#[test]
fn a_volume_that_cannot_be_mounted_for_want_of_configuration_is_a_failure() {
    let sandboxed = |up: &str| {
        let sandbox = json!([{"type": "PodReadyToStartContainers", "status": up}]);
        with(
            pod("web", waiting("ContainerCreating", "")),
            "/status/conditions",
            sandbox,
        )
    };
    let at = "2026-11-21T11:59:00Z";
    let missing = warning(
        "web",
        "FailedMount",
        "MountVolume.SetUp failed: configmap \"app\" not found",
        at,
    );
    let slow = warning(
        "web",
        "FailedMount",
        "failed to sync secret cache: timed out",
        at,
    );
    assert!(said(&[sandboxed("False"), missing.clone()]).starts_with(
        "failed: pod web refers to configuration that does not exist: MountVolume.SetUp"
    ));
    assert!(said(&[sandboxed("True"), missing]).starts_with("waiting: pulling image"));
    assert!(said(&[sandboxed("False"), slow]).starts_with("waiting: volumes and network"));
}
