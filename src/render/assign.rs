//! Which workload is which service's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::images::repository;
use super::object::{Object, text};
use super::{Rendered, companions, pods};
use crate::error::{Failure, Result};
use crate::stack::diagnostic::nearest;
use crate::stack::{Service, ServiceId, Stack, WorkloadSpec};

/// Finds each service's workload and marks what belongs to it.
///
/// # Errors
/// A service that no workload, or more than one, could be.
pub fn services(stack: &Stack, rendered: &mut Rendered) -> Result<()> {
    let mut found = BTreeMap::new();
    for id in stack.ids() {
        if let WorkloadSpec::Named { kind, name } = &stack.service(id).workload {
            found.insert(id, named(stack, id, kind, name, &rendered.objects)?);
        }
    }
    refuse_shared(stack, &found, &rendered.objects)?;
    let taken: BTreeSet<usize> = found.values().copied().collect();
    let guesses = Guesses::of(stack, &rendered.objects, &taken);
    for id in stack.ids() {
        if stack.service(id).workload == WorkloadSpec::ByName {
            found.insert(id, guesses.best(stack, id, &rendered.objects)?);
        }
    }
    refuse_shared(stack, &found, &rendered.objects)?;
    for (id, index) in &found {
        rendered.objects[*index].service = Some(*id);
    }
    rendered.workloads = found;
    companions::mark(stack, &mut rendered.objects);
    Ok(())
}

fn named(
    stack: &Stack,
    id: ServiceId,
    kind: &str,
    name: &str,
    objects: &[Object],
) -> Result<usize> {
    let of_kind = |object: &Object| pods::is_workload(object) && object.kind.to_lowercase() == kind;
    let ranked = objects
        .iter()
        .enumerate()
        .filter(|(_, object)| of_kind(object));
    let ranked = ranked.map(|(index, object)| (resemblance(&object.name, name), index));
    let ranked: Vec<_> = ranked.filter(|(rank, _)| *rank > 0).collect();
    let best = ranked.iter().map(|(rank, _)| *rank).max();
    let best: Vec<usize> = ranked
        .iter()
        .filter(|(rank, _)| Some(*rank) == best)
        .map(|(_, index)| *index)
        .collect();
    let service = &stack.service(id).name;
    match best[..] {
        [index] => Ok(index),
        [] => {
            let what =
                format!("the service {service} names {kind}/{name}, and no workload is called so");
            Err(none_matches(what, name, objects))
        }
        _ => Err(several_match(stack, id, &best, objects)),
    }
}

/// How much a rendered name is like a name from before an overlay's prefix and suffix. 0: not at all.
fn resemblance(rendered: &str, name: &str) -> u32 {
    if rendered == name {
        8
    } else if rendered
        .strip_suffix(name)
        .is_some_and(|before| before.ends_with('-'))
    {
        5
    } else if rendered
        .strip_prefix(name)
        .is_some_and(|after| after.starts_with('-'))
    {
        4
    } else if rendered.contains(&format!("-{name}-")) {
        3
    } else {
        0
    }
}

/// How well each free workload would do for each service that is found by name.
struct Guesses(BTreeMap<ServiceId, Vec<(Score, usize)>>);

/// Points, and whether it keeps running: a migration's Job is rarely meant.
type Score = (u32, bool);

impl Guesses {
    fn of(stack: &Stack, objects: &[Object], taken: &BTreeSet<usize>) -> Self {
        let mut guesses: BTreeMap<ServiceId, Vec<(Score, usize)>> = BTreeMap::new();
        let by_name = || {
            stack
                .ids()
                .filter(|id| stack.service(*id).workload == WorkloadSpec::ByName)
        };
        for (index, object) in objects.iter().enumerate() {
            if !pods::is_workload(object) || taken.contains(&index) {
                continue;
            }
            let scores: Vec<_> = by_name()
                .map(|id| (score(stack.service(id), object), id))
                .collect();
            // A workload is only thought of for the services that it is most like: `api-gateway` is no `api`
            // where there is a service `api-gateway`.
            let best = scores.iter().map(|(points, _)| *points).max().unwrap_or(0);
            for (points, id) in scores
                .into_iter()
                .filter(|(points, _)| *points == best && best > 0)
            {
                let score = (points, pods::keeps_running(object));
                guesses.entry(id).or_default().push((score, index));
            }
        }
        Guesses(guesses)
    }

    fn best(&self, stack: &Stack, id: ServiceId, objects: &[Object]) -> Result<usize> {
        let candidates = self.0.get(&id).map_or(&[][..], Vec::as_slice);
        let best = candidates.iter().map(|(score, _)| *score).max();
        let best: Vec<usize> = candidates
            .iter()
            .filter(|(score, _)| Some(*score) == best)
            .map(|it| it.1)
            .collect();
        match best[..] {
            [index] => Ok(index),
            [] => {
                let name = &stack.service(id).name;
                let what = format!("no workload is the service {name}'s");
                Err(none_matches(what, name, objects))
            }
            _ => Err(several_match(stack, id, &best, objects)),
        }
    }
}

fn score(service: &Service, object: &Object) -> u32 {
    let mut points = resemblance(&object.name, &service.name);
    let template = pods::template(object);
    let labelled = |value: &Value| {
        ["app", "app.kubernetes.io~1name"].iter().any(|label| {
            text(value, &format!("/metadata/labels/{label}")).as_ref() == Some(&service.name)
        })
    };
    if labelled(&object.value) || template.is_some_and(labelled) {
        points += 4;
    }
    let built = service.build.as_ref().map(|build| build.image.as_str());
    let mut images = template.into_iter().flat_map(pods::containers);
    if images.any(|container| {
        let image = container.get("image").and_then(Value::as_str);
        built.is_some() && image.map(repository) == built
    }) {
        points += 2;
    }
    points
}

fn none_matches(what: String, name: &str, objects: &[Object]) -> Failure {
    let workloads: Vec<&Object> = objects
        .iter()
        .filter(|object| pods::is_workload(object))
        .collect();
    let near = nearest(name, workloads.iter().map(|object| object.name.as_str()));
    let near = near.and_then(|near| workloads.iter().find(|object| object.name == near));
    let remedy = match (misspelt(name, objects), near) {
        (Some((object, kind)), _) => format!(
            "{0} has the kind {1}: if {kind} is meant, write that",
            object.origin, object.kind
        ),
        (None, Some(object)) => format!("if {0} is meant, say `workload: {0}`", object.id()),
        (None, None) => "name it with `workload: kind/name`, or say `workload: none`".to_owned(),
    };
    let failure = Failure::config(what).remedy(remedy);
    if workloads.is_empty() {
        return failure.cause("the manifests contain no workload at all");
    }
    failure.detail(
        workloads
            .iter()
            .map(|object| format!("{}  ({})", object.id(), object.origin)),
    )
}

/// An object of that name whose kind is nearly one that runs pods, and that kind.
fn misspelt<'a>(name: &str, objects: &'a [Object]) -> Option<(&'a Object, &'static str)> {
    let mut strangers = objects.iter().filter(|object| {
        pods::template_path(object).is_none() && resemblance(&object.name, name) > 0
    });
    strangers.find_map(|object| Some((object, nearest(&object.kind, pods::kinds())?)))
}

fn several_match(stack: &Stack, id: ServiceId, indices: &[usize], objects: &[Object]) -> Failure {
    let name = &stack.service(id).name;
    let list = indices.iter().map(|index| &objects[*index]);
    Failure::config(format!(
        "more than one workload could be the service {name}"
    ))
    .detail(list.map(|object| format!("{}  ({})", object.id(), object.origin)))
    .remedy(format!(
        "say which with `workload: {}`",
        objects[indices[0]].id()
    ))
}

fn refuse_shared(
    stack: &Stack,
    found: &BTreeMap<ServiceId, usize>,
    objects: &[Object],
) -> Result<()> {
    let mut owners = BTreeMap::new();
    for (id, index) in found {
        if let Some(other) = owners.insert(index, id) {
            let (one, two) = (&stack.service(*other).name, &stack.service(*id).name);
            let what = format!(
                "{} is the workload of both {one} and {two}",
                objects[*index].id()
            );
            return Err(Failure::config(what)
                .remedy("give one of them another `workload:`, or `workload: none`"));
        }
    }
    Ok(())
}
