//! Where the pods stand in an object of each kind.

use serde_json::Value;

use super::object::Object;

/// Kinds that run pods, in the API groups that they are in.
const KINDS: [(&str, &str, &str); 8] = [
    ("", "Pod", ""),
    ("", "ReplicationController", "/spec/template"),
    ("apps", "Deployment", "/spec/template"),
    ("apps", "StatefulSet", "/spec/template"),
    ("apps", "DaemonSet", "/spec/template"),
    ("apps", "ReplicaSet", "/spec/template"),
    ("batch", "Job", "/spec/template"),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template"),
];

/// The names of the kinds that run pods.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(_, kind, _)| *kind)
}

/// The fields of a pod's spec that hold containers.
pub const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// JSON pointer to what has a pod's `metadata` and `spec`; none: the kind runs no pods.
pub fn template_path(object: &Object) -> Option<&'static str> {
    let group = object.group();
    KINDS
        .iter()
        .find(|(of, kind, _)| *of == group && *kind == object.kind)
        .map(|found| found.2)
}

/// What has a pod's `metadata` and `spec`.
pub fn template(object: &Object) -> Option<&Value> {
    object.value.pointer(template_path(object)?)
}

/// What has a pod's `metadata` and `spec`.
pub fn template_mut(object: &mut Object) -> Option<&mut Value> {
    let path = template_path(object)?;
    object.value.pointer_mut(path)
}

/// All containers of a pod template.
pub fn containers(template: &Value) -> impl Iterator<Item = &Value> {
    let lists = CONTAINERS
        .iter()
        .filter_map(|field| template.get("spec")?.get(field)?.as_array());
    lists.flatten()
}

/// All containers of a pod template.
pub fn containers_mut(template: &mut Value) -> impl Iterator<Item = &mut Value> {
    let spec = template.get_mut("spec").and_then(Value::as_object_mut);
    let fields = spec.into_iter().flat_map(|spec| spec.iter_mut());
    let lists = fields.filter(|(field, _)| CONTAINERS.contains(&field.as_str()));
    lists.filter_map(|(_, list)| list.as_array_mut()).flatten()
}

/// Whether it is a kind that a service can be.
pub fn is_workload(object: &Object) -> bool {
    template_path(object).is_some()
        && !matches!(object.kind.as_str(), "ReplicaSet" | "ReplicationController")
}

/// Whether it keeps its pods running rather than running them once.
pub fn keeps_running(object: &Object) -> bool {
    is_workload(object) && !matches!(object.kind.as_str(), "Job" | "CronJob" | "Pod")
}
