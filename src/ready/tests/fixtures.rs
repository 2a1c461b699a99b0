//! Objects as the API server would have them, of one service `web`.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::view::{Objects, View};

/// The time at which all tables are read.
pub fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().expect("a time")
}

/// A complete view of the objects.
pub fn view(objects: &[Value]) -> View {
    let mut view = View {
        complete: true,
        ..View::default()
    };
    for object in objects {
        match object["kind"].as_str().expect("a kind") {
            "Pod" => put(&mut view.pods, object),
            "Deployment" => put(&mut view.deployments, object),
            "ReplicaSet" => put(&mut view.replica_sets, object),
            "StatefulSet" => put(&mut view.stateful_sets, object),
            "DaemonSet" => put(&mut view.daemon_sets, object),
            "Job" => put(&mut view.jobs, object),
            "PersistentVolumeClaim" => put(&mut view.claims, object),
            "Service" => put(&mut view.services, object),
            "Event" => put(&mut view.warnings, object),
            "EndpointSlice" => put(&mut view.slices, object),
            other => panic!("{other} is in no view"),
        }
    }
    view
}

fn put<K: Resource + DeserializeOwned>(objects: &mut Objects<K>, object: &Value) {
    let object: K = serde_json::from_value(object.clone()).expect("an object of its kind");
    let key = (object.namespace().expect("a namespace"), object.name_any());
    objects.insert(key, Arc::new(object));
}

/// An object of the service `web` of that kind, with spec and status; its uid is its name.
pub fn object(kind: &str, name: &str, spec: Value, status: Value) -> Value {
    json!({
        "kind": kind,
        "metadata": {
            "name": name, "namespace": "shop", "uid": name, "generation": 1,
            "labels": {"llmdev.dev/service": "web", "app": "web"},
            "annotations": {},
        },
        "spec": spec,
        "status": status,
    })
}

/// `object`, made by a controller.
pub fn owned(mut object: Value, kind: &str, name: &str) -> Value {
    object["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": name, "controller": true}
    ]);
    object
}

/// With one value at a path such as `/spec/replicas` replaced or added.
pub fn with(mut object: Value, path: &str, value: Value) -> Value {
    let (parent, key) = path.rsplit_once('/').expect("a path");
    object.pointer_mut(parent).expect("a parent")[key] = value;
    object
}

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": "web:1"}]},
    })
}

/// A Deployment at revision 2 with what its status says.
pub fn deployment(replicas: i32, status: Value) -> Value {
    let spec = json!({"replicas": replicas, "selector": {}, "template": template()});
    let mut object = object("Deployment", "web", spec, status);
    object["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "2"});
    object
}

/// A ReplicaSet of that Deployment.
pub fn replica_set(name: &str, revision: &str, available: i32) -> Value {
    let status = json!({"replicas": 1, "availableReplicas": available});
    let mut set = owned(
        object("ReplicaSet", name, json!({"selector": {}}), status),
        "Deployment",
        "web",
    );
    set["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": revision});
    set
}

/// A StatefulSet.
pub fn stateful_set(replicas: i32, status: Value) -> Value {
    let spec = json!({
        "replicas": replicas, "serviceName": "web", "selector": {}, "template": template(),
        "updateStrategy": {"type": "RollingUpdate"},
    });
    object("StatefulSet", "db", spec, status)
}

/// A DaemonSet.
pub fn daemon_set(status: Value) -> Value {
    let mut set = object(
        "DaemonSet",
        "agent",
        json!({"selector": {}, "template": template()}),
        status,
    );
    set["metadata"]["annotations"] = json!({"deprecated.daemonset.template.generation": "1"});
    set
}

/// A Job.
pub fn job(status: Value) -> Value {
    object(
        "Job",
        "migrate",
        json!({"template": template(), "backoffLimit": 2}),
        status,
    )
}

/// A pod with one container `main` in that state, on a node.
pub fn pod(name: &str, container: Value) -> Value {
    let spec = json!({
        "nodeName": "node-1", "restartPolicy": "Always",
        "containers": [{
            "name": "main", "image": "web:1",
            "resources": {"limits": {"memory": "64Mi"}},
        }],
    });
    let mut main = json!({
        "name": "main", "image": "web:1", "imageID": "", "ready": false, "restartCount": 0,
    });
    main.as_object_mut()
        .expect("an object")
        .extend(container.as_object().expect("one").clone());
    let status = json!({
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [main],
    });
    object("Pod", name, spec, status)
}

/// A pod that takes connections.
pub fn ready_pod(name: &str) -> Value {
    let running = json!({"ready": true, "started": true, "state": {"running": {}}});
    with(
        pod(name, running),
        "/status/conditions/0/status",
        json!("True"),
    )
}

/// A container that waits for that reason.
pub fn waiting(reason: &str, message: &str) -> Value {
    json!({"state": {"waiting": {"reason": reason, "message": message}}})
}

/// A container that ended with that code.
pub fn ended(code: i32, restarts: i32) -> Value {
    json!({"restartCount": restarts, "state": {"terminated": {"exitCode": code, "reason": "Error"}}})
}

/// A Service in front of `app=web`, with or without a ready endpoint.
pub fn service(selector: Value) -> Value {
    object("Service", "web", json!({"selector": selector}), json!({}))
}

/// The slice of that Service.
pub fn slice(ready: bool) -> Value {
    json!({
        "kind": "EndpointSlice",
        "metadata": {
            "name": "web-x1", "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web", "llmdev.dev/service": "web"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}],
    })
}

/// A warning about a pod.
pub fn warning(pod: &str, reason: &str, message: &str, time: &str) -> Value {
    json!({
        "kind": "Event",
        "metadata": {"name": format!("{pod}.{reason}.{time}"), "namespace": "shop"},
        "involvedObject": {"kind": "Pod", "namespace": "shop", "name": pod, "uid": pod},
        "reason": reason, "message": message, "lastTimestamp": time,
    })
}
