//! Puts a stack's pods on the nodes as the scheduler would, to see which of them have no place.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Facts, Node, Taint};
use crate::render::requests::{self, Amount};
use crate::render::{Object, Rendered, pods};
use crate::stack::{ServiceId, Stack};

/// How it came out.
#[derive(Debug, Default, PartialEq)]
pub struct Placed {
    /// What all pods ask for.
    pub wanted: Amount,
    /// What the nodes have for them.
    pub free: Amount,
    /// What the nodes have for pods at all.
    pub total: Amount,
    /// Who finds no place, and what one pod of it asks for.
    pub waiting: Vec<(String, Amount)>,
    /// Services that wait for one of those.
    pub behind: Vec<String>,
    /// Whether any pod has found its place.
    any: bool,
}

impl Placed {
    /// Whether somebody finds no place.
    pub fn is_short(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether nobody finds a place.
    pub fn nothing_runs(&self) -> bool {
        self.is_short() && !self.any
    }
}

/// Places all pods, those that others depend on first.
pub fn place(stack: &Stack, rendered: &Rendered, facts: &Facts) -> Placed {
    let mut rooms: Vec<_> = facts
        .nodes
        .iter()
        .map(|node| (node, node.allocatable.less(node.taken)))
        .collect();
    let mut placed = Placed {
        free: rooms.iter().map(|(_, room)| *room).sum(),
        total: facts.nodes.iter().map(|node| node.allocatable).sum(),
        ..Placed::default()
    };
    let mut objects: Vec<&Object> = rendered.objects.iter().collect();
    objects.sort_by_key(|object| object.service.map_or(0, |id| depth(stack, id)));
    let mut stuck = BTreeSet::new();
    for object in objects {
        let Some((spec, asks)) = template_spec(object).zip(requests::of(object)) else {
            continue;
        };
        let eligible = |node: &Node| takes(node, spec);
        let nodes = facts.nodes.iter().filter(|node| eligible(node)).count() as u64;
        if nodes == 0 {
            // However much room there is, no node lets it in; the scheduler says why.
            continue;
        }
        let copies = requests::copies(object, nodes);
        placed.wanted = placed.wanted + asks.times(copies);
        let fits = (0..copies)
            .take_while(|_| put(&mut rooms, &eligible, asks))
            .count() as u64;
        placed.any |= fits > 0;
        if fits < copies {
            let name = object.service.map(|id| stack.service(id).name.clone());
            placed
                .waiting
                .push((name.unwrap_or_else(|| object.id()), asks));
            stuck.extend(object.service);
        }
    }
    placed.behind = behind(stack, &stuck);
    placed
}

fn template_spec(object: &Object) -> Option<&Value> {
    pods::template(object)?.get("spec")
}

/// Takes the room on the node that has most left, as the scheduler does; whether there is one.
fn put(rooms: &mut [(&Node, Amount)], eligible: &dyn Fn(&Node) -> bool, asks: Amount) -> bool {
    let best = rooms
        .iter_mut()
        .filter(|(node, room)| eligible(node) && asks.is_within(*room))
        .max_by_key(|(_, room)| room.cpu);
    match best {
        Some((_, room)) => {
            *room = room.less(asks);
            true
        }
        None => false,
    }
}

/// Whether a node's taints and labels let the pod in.
fn takes(node: &Node, spec: &Value) -> bool {
    let tolerations = spec["tolerations"].as_array();
    let tolerated = |taint: &Taint| {
        tolerations
            .into_iter()
            .flatten()
            .any(|one| tolerates(one, taint))
    };
    let labels = spec["nodeSelector"].as_object();
    node.taints.iter().all(tolerated)
        && labels
            .into_iter()
            .flatten()
            .all(|(key, value)| node.labels.get(key).map(String::as_str) == value.as_str())
}

fn tolerates(toleration: &Value, taint: &Taint) -> bool {
    let field = |name: &str| toleration[name].as_str().unwrap_or_default();
    let key = field("key");
    let exists = field("operator") == "Exists";
    (key == taint.key || (key.is_empty() && exists))
        && (exists || field("value") == taint.value)
        && (field("effect").is_empty() || field("effect") == taint.effect)
}

/// How many services must be ready one after the other before this one is applied.
fn depth(stack: &Stack, id: ServiceId) -> usize {
    let before = &stack.service(id).depends_on;
    before
        .iter()
        .map(|&id| depth(stack, id) + 1)
        .max()
        .unwrap_or(0)
}

/// All services that depend on one of these, directly or not.
fn behind(stack: &Stack, stuck: &BTreeSet<ServiceId>) -> Vec<String> {
    let mut all = stuck.clone();
    loop {
        let more: Vec<_> = stack
            .ids()
            .filter(|id| {
                let before = &stack.service(*id).depends_on;
                !all.contains(id) && before.iter().any(|one| all.contains(one))
            })
            .collect();
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    all.difference(stuck)
        .map(|id| stack.service(*id).name.clone())
        .collect()
}
