//! What the scheduler counts for a pod, and how many pods an object makes.

use std::iter::Sum;
use std::ops::Add;

use serde_json::Value;

use super::{Object, pods, quantity};

/// What pods ask for, or nodes have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Thousandths of a core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
    /// Places for pods.
    pub pods: u64,
}

impl Amount {
    /// The larger one of each.
    fn max(self, other: Self) -> Self {
        Amount {
            cpu: self.cpu.max(other.cpu),
            memory: self.memory.max(other.memory),
            pods: self.pods.max(other.pods),
        }
    }

    /// So many of it.
    pub fn times(self, many: u64) -> Self {
        Amount {
            cpu: self.cpu.saturating_mul(many),
            memory: self.memory.saturating_mul(many),
            pods: self.pods.saturating_mul(many),
        }
    }

    /// What is left of it; never less than nothing.
    pub fn less(self, other: Self) -> Self {
        Amount {
            cpu: self.cpu.saturating_sub(other.cpu),
            memory: self.memory.saturating_sub(other.memory),
            pods: self.pods.saturating_sub(other.pods),
        }
    }

    /// Whether there is room for it.
    pub fn is_within(self, room: Self) -> bool {
        self.cpu <= room.cpu && self.memory <= room.memory && self.pods <= room.pods
    }
}

impl Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Amount {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
            pods: self.pods.saturating_add(other.pods),
        }
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Amount::default(), Add::add)
    }
}

/// What `cpu`, `memory` and `pods` of a mapping of quantities come to.
pub fn listed(quantities: &Value) -> Amount {
    let one = |name: &str| quantities.get(name).and_then(quantity::of).unwrap_or(0.0);
    Amount {
        cpu: quantity::whole(one("cpu") * 1000.0),
        memory: quantity::whole(one("memory")),
        pods: quantity::whole(one("pods")),
    }
}

/// What a container asks for. A limit without a request is a request.
pub fn container(container: &Value) -> Amount {
    let resources = &container["resources"];
    let (requests, limits) = (&resources["requests"], &resources["limits"]);
    let (asked, most) = (listed(requests), listed(limits));
    let has = |name: &str| requests.get(name).is_some_and(|value| !value.is_null());
    Amount {
        cpu: if has("cpu") { asked.cpu } else { most.cpu },
        memory: if has("memory") {
            asked.memory
        } else {
            most.memory
        },
        pods: 0,
    }
}

/// What a pod's `spec` asks for: its containers and sidecars together, or its hungriest init container with the sidecars
/// that run already.
pub fn pod(spec: &Value) -> Amount {
    let list = |field: &str| spec[field].as_array().into_iter().flatten();
    let (mut sidecars, mut starting) = (Amount::default(), Amount::default());
    for init in list("initContainers") {
        let own = container(init);
        starting = starting.max(sidecars + own);
        if init["restartPolicy"] == "Always" {
            sidecars = sidecars + own;
        }
    }
    let running = list("containers").map(container).sum::<Amount>() + sidecars;
    let mut all = running.max(starting);
    // Requests of the pod itself stand for those of its containers.
    let own = &spec["resources"]["requests"];
    let whole = listed(own);
    if own.get("cpu").is_some() {
        all.cpu = whole.cpu;
    }
    if own.get("memory").is_some() {
        all.memory = whole.memory;
    }
    all = all + listed(&spec["overhead"]);
    all.pods = 1;
    all
}

/// What each pod of an object asks for; none: it runs no pods.
pub fn of(object: &Object) -> Option<Amount> {
    Some(pod(pods::template(object)?.get("spec")?))
}

/// How many pods an object keeps running, where each of `nodes` gets one of a DaemonSet. A CronJob keeps none.
pub fn copies(object: &Object, nodes: u64) -> u64 {
    let field = |name: &str| object.value["spec"][name].as_u64();
    match object.kind.as_str() {
        "DaemonSet" => nodes,
        "CronJob" => 0,
        "Pod" => 1,
        "Job" => {
            let at_once = field("parallelism").unwrap_or(1);
            field("completions").map_or(at_once, |all| at_once.min(all))
        }
        _ => field("replicas").unwrap_or(1),
    }
}

/// Whether an object at times runs a pod more than it keeps: a Deployment while it is rolled out, a CronJob.
pub fn comes_and_goes(object: &Object) -> bool {
    let spec = &object.value["spec"];
    match object.kind.as_str() {
        "CronJob" => true,
        "Deployment" => {
            let surge = &spec["strategy"]["rollingUpdate"]["maxSurge"];
            let none = *surge == 0 || *surge == "0" || *surge == "0%";
            copies(object, 0) > 0 && spec["strategy"]["type"] != "Recreate" && !none
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asks(cpu: &str, memory: &str) -> Value {
        json!({"resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    fn sidecar(cpu: &str) -> Value {
        json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn a_pod_asks_for_what_the_scheduler_counts() {
        let table = [
            (json!({"containers": [{}]}), (0, 0)),
            (
                json!({"containers": [asks("100m", "1Mi"), asks("0.2", "1Mi")]}),
                (300, 2),
            ),
            // The init container is done before the others start.
            (
                json!({"containers": [asks("100m", "4Mi")], "initContainers": [asks("250m", "1Mi"), asks("10m", "1Mi")]}),
                (250, 4),
            ),
            // A sidecar runs beside those after it, and beside the containers.
            (
                json!({"containers": [asks("100m", "1Mi")], "initContainers": [asks("120m", "0"), sidecar("50m"), asks("80m", "0")]}),
                (150, 1),
            ),
            (
                json!({"containers": [{"resources": {"limits": {"cpu": 1, "memory": "2Mi"}, "requests": {"memory": "1Mi"}}}]}),
                (1000, 1),
            ),
            (
                json!({"containers": [asks("100m", "1Mi")], "resources": {"requests": {"cpu": "300m"}}, "overhead": {"cpu": "5m"}}),
                (305, 1),
            ),
        ];
        for (spec, (cpu, memory)) in table {
            let expected = Amount {
                cpu,
                memory: memory << 20,
                pods: 1,
            };
            assert_eq!(pod(&spec), expected, "{spec}");
        }
    }

    #[test]
    fn objects_make_pods() {
        let object = |kind: &str, spec: Value| Object {
            api_version: "apps/v1".into(),
            kind: kind.into(),
            name: "x".into(),
            namespace: None,
            value: json!({ "spec": spec }),
            service: None,
            origin: String::new(),
            place: Default::default(),
        };
        let surge = |surge: Value| json!({"strategy": {"rollingUpdate": {"maxSurge": surge}}});
        let table = [
            ("Deployment", json!({}), 1, true),
            ("Deployment", json!({"replicas": 0}), 0, false),
            (
                "Deployment",
                json!({"replicas": 2, "strategy": {"type": "Recreate"}}),
                2,
                false,
            ),
            ("Deployment", surge(json!(0)), 1, false),
            ("Deployment", surge(json!("25%")), 1, true),
            ("StatefulSet", json!({"replicas": 3}), 3, false),
            ("DaemonSet", json!({}), 2, false),
            ("Job", json!({"parallelism": 4, "completions": 2}), 2, false),
            ("CronJob", json!({}), 0, true),
            ("Pod", json!({}), 1, false),
        ];
        for (kind, spec, many, more) in table {
            let object = object(kind, spec.clone());
            assert_eq!(
                (copies(&object, 2), comes_and_goes(&object)),
                (many, more),
                "{kind} {spec}"
            );
        }
    }
}
