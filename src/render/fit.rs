//! `dev.resources`: requests that a developer's machine cannot give are lowered, and it is said what was.
//!
//! CPU requests are shares: lowered by one factor, the services' order among each other stays. Limits stay as they are.

use serde_json::{Value, json};

use super::object::child;
use super::{Object, Rendered, pods, quantity, requests};
use crate::stack::{Resources, Stack};

/// No container asks for less, unless it did.
const LEAST: u64 = 10;
/// The factor is a whole number of these, in percent, so that a small change of the cluster changes nothing.
const STEP: u64 = 5;

/// What the nodes have for the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Thousandths of a core that the system's pods leave.
    pub cpu: u64,
    /// How much of them is not to be given away.
    pub spare: u64,
    /// How many nodes take pods.
    pub nodes: u64,
    /// The node's name, or how many there are.
    pub name: String,
}

/// Halves the requests of all pods, if the stack asks for it.
pub fn halve(stack: &Stack, rendered: &mut Rendered) {
    if stack.dev.resources != Some(Resources::Half) {
        return;
    }
    let changes = change(stack, rendered, &lower_both);
    if !changes.is_empty() {
        rendered
            .notes
            .push(format!("requests halved: {}", changes.join(", ")));
        autoscalers(rendered);
    }
}

/// Lowers the CPU requests of all pods by one factor, if the stack asks for it and they come to more than there is.
pub fn fit(stack: &Stack, rendered: &mut Rendered, budget: &Budget) {
    if stack.dev.resources != Some(Resources::Fit) {
        return;
    }
    let (wanted, beside) = demand(&rendered.objects, budget.nodes, 100);
    let room = budget.cpu.saturating_sub(budget.spare);
    if wanted + beside <= room {
        return;
    }
    let fits = |percent: &u64| {
        let (wanted, beside) = demand(&rendered.objects, budget.nodes, *percent);
        wanted + beside <= room
    };
    let mut steps = (1..100 / STEP).rev().map(|step| step * STEP);
    let percent = steps.find(fits).unwrap_or(STEP);
    let changes = change(stack, rendered, &|spec| lower_cpu(spec, percent));
    if changes.is_empty() {
        return;
    }
    let beside = match beside {
        0 => String::new(),
        more => format!(
            " (and {} while a pod is replaced beside it)",
            quantity::cpu(more)
        ),
    };
    rendered.notes.push(format!(
        "CPU requests lowered to {percent} % to fit {}: {} wanted{beside}, {} free: {}",
        budget.name,
        quantity::cpu(wanted),
        quantity::cpu(budget.cpu),
        changes.join(", ")
    ));
    autoscalers(rendered);
}

/// What all pods ask for at a factor, and the largest pod that runs beside them at times.
fn demand(objects: &[Object], nodes: u64, percent: u64) -> (u64, u64) {
    let (mut wanted, mut beside) = (0u64, 0);
    for object in objects {
        let spec = pods::template(object).and_then(|template| template.get("spec"));
        let Some(mut spec) = spec.cloned() else {
            continue;
        };
        lower_cpu(&mut spec, percent);
        let one = requests::pod(&spec).cpu;
        wanted = wanted.saturating_add(one.saturating_mul(requests::copies(object, nodes)));
        if requests::comes_and_goes(object) {
            beside = beside.max(one);
        }
    }
    (wanted, beside)
}

/// Changes the spec of all pods; what has changed, as people read it.
fn change(stack: &Stack, rendered: &mut Rendered, lower: &dyn Fn(&mut Value)) -> Vec<String> {
    let mut changes = Vec::new();
    for object in &mut rendered.objects {
        let name = object.service.map_or_else(
            || object.id(),
            |id| match rendered.workloads.get(&id) {
                Some(_) => stack.service(id).name.clone(),
                None => object.id(),
            },
        );
        let Some(spec) = pods::template_mut(object).and_then(|it| it.get_mut("spec")) else {
            continue;
        };
        let before = requests::pod(spec);
        lower(spec);
        let after = requests::pod(spec);
        let mut said = Vec::new();
        if after.cpu != before.cpu {
            let (before, after) = (quantity::cpu(before.cpu), quantity::cpu(after.cpu));
            said.push(format!("{before} → {after}"));
        }
        if after.memory != before.memory {
            let (before, after) = (
                quantity::memory(before.memory),
                quantity::memory(after.memory),
            );
            said.push(format!("{before} → {after}"));
        }
        if !said.is_empty() {
            changes.push(format!("{name} {}", said.join(" and ")));
        }
    }
    changes
}

fn lower_cpu(spec: &mut Value, percent: u64) {
    lower(spec, "cpu", &|milli| {
        quantity::cpu(milli.min(LEAST).max(milli * percent / 100))
    });
}

fn lower_both(spec: &mut Value) {
    lower_cpu(spec, 50);
    lower(spec, "memory", &|bytes| quantity::memory(bytes / 2));
}

/// Sets one resource's request on each container that has one, and on the pod if it has its own.
fn lower(spec: &mut Value, resource: &str, lowered: &dyn Fn(u64) -> String) {
    let amount = |all: requests::Amount| match resource {
        "cpu" => all.cpu,
        _ => all.memory,
    };
    let mut together = 0;
    for field in ["initContainers", "containers"] {
        let list = spec.get_mut(field).and_then(Value::as_array_mut);
        for container in list.into_iter().flatten() {
            let before = amount(requests::container(container));
            if before > 0 {
                set(container, resource, lowered(before));
                together += amount(requests::container(container));
            }
        }
    }
    let own = amount(requests::listed(&spec["resources"]["requests"]));
    if own > 0 {
        set(spec, resource, lowered(own));
        // A pod must not ask for less than its containers do.
        if amount(requests::listed(&spec["resources"]["requests"])) < together {
            set(
                spec,
                resource,
                match resource {
                    "cpu" => quantity::cpu(together),
                    _ => quantity::memory(together),
                },
            );
        }
    }
}

/// Writes a request, unless it says the same already in another way.
fn set(holder: &mut Value, resource: &str, value: String) {
    let requests = child(holder, "resources").and_then(|it| child(it, "requests"));
    if let Some(requests) = requests {
        let value = json!(value);
        if requests.get(resource).and_then(quantity::of) != quantity::of(&value) {
            requests[resource] = value;
        }
    }
}

/// Whoever scales by a share of the requests does so sooner now.
fn autoscalers(rendered: &mut Rendered) {
    let all = rendered.objects.iter();
    let scaled: Vec<_> = all
        .filter(|object| object.kind == "HorizontalPodAutoscaler")
        .map(|object| object.name.as_str())
        .collect();
    if !scaled.is_empty() {
        let names = scaled.join(", ");
        rendered.notes.push(format!(
            "autoscalers go by a share of the requests, which are lower now, and scale out sooner: {names}"
        ));
    }
}
