//! What is asked for beside what there is, as lines for people.

use super::Facts;
use super::place::Placed;
use crate::render::quantity::{about, cpu};
use crate::render::requests::Amount;
use crate::stack::Stack;

/// A machine of 8 GB has a little less for the cluster, and that is meant to be enough.
const NEARLY: f64 = 0.9;

/// Lines about processors, memory, pods and disk; none when there is enough of all.
pub fn amounts(stack: &Stack, placed: &Placed, facts: &Facts) -> Vec<String> {
    let mut lines = wishes(stack, facts);
    if !placed.is_short() {
        return lines;
    }
    let (wanted, free, total) = (placed.wanted, placed.free, placed.total);
    let row = |what: &str, wanted: String, free: String, total: String, short: bool| {
        let mark = if short { "  ✗" } else { "" };
        format!("{what:<8}{wanted:>8} requested {free:>8} free of {total}{mark}")
    };
    let short = |of: fn(Amount) -> u64| of(wanted) > of(free);
    lines.push(row(
        "cpu",
        cpu(wanted.cpu),
        cpu(free.cpu),
        cpu(total.cpu),
        short(|it| it.cpu),
    ));
    let memory = |it: Amount| about(it.memory);
    lines.push(row(
        "memory",
        memory(wanted),
        memory(free),
        memory(total),
        short(|it| it.memory),
    ));
    let pods = |it: Amount| it.pods.to_string();
    lines.push(row(
        "pods",
        pods(wanted),
        pods(free),
        pods(total),
        short(|it| it.pods),
    ));
    let waiting = placed
        .waiting
        .iter()
        .map(|(name, asks)| format!("{name} ({} cpu, {} memory)", cpu(asks.cpu), memory(*asks)));
    lines.push(format!(
        "no room for {}",
        waiting.collect::<Vec<_>>().join(", ")
    ));
    if !placed.behind.is_empty() {
        lines.push(format!("waiting for those: {}", placed.behind.join(", ")));
    }
    lines
}

/// What `cluster:` wishes for and the nodes have not got.
fn wishes(stack: &Stack, facts: &Facts) -> Vec<String> {
    let capacity: Amount = facts.nodes.iter().map(|node| node.capacity).sum();
    let disk = facts.nodes.iter().map(|node| node.disk).sum();
    let mut lines = Vec::new();
    let cpus = stack.cluster.cpus.map(u64::from);
    if let Some(cpus) = cpus.filter(|cpus| cpus * 1000 > capacity.cpu) {
        let has = capacity.cpu as f64 / 1000.0;
        lines.push(format!("cluster.cpus is {cpus}, the nodes have {has}"));
    }
    let bytes = [
        ("memory", stack.cluster.memory, capacity.memory),
        ("disk", stack.cluster.disk, disk),
    ];
    for (what, wish, has) in bytes {
        if let Some(wish) = wish.filter(|wish| (*wish as f64) * NEARLY > has as f64) {
            lines.push(format!(
                "cluster.{what} is {}, the nodes have {}",
                about(wish),
                about(has)
            ));
        }
    }
    lines
}
