//! What the services should run: images by the digest of what goes into them, objects with those images set.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::apply::{self, Skipped};
use crate::build::{ImagePlan, Planner};
use crate::cluster::Choice;
use crate::cluster::registry::Registry;
use crate::cluster::room::{self, Facts};
use crate::error::{Failure, Result};
use crate::owner::Owner;
use crate::render::{self, Object, Rendered, fit};
use crate::stack::{ServiceId, Stack};
use crate::state::State;

use super::live::{Bases, Synced};
use super::machine::Target;

/// Objects of these kinds wait for what their service depends on; all others are applied at once.
const GATED: [&str; 7] = [
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "Job",
    "CronJob",
    "Pod",
];

/// One reading of all that the stack is made of.
#[derive(Debug)]
pub struct Prepared {
    /// `stack.yaml` as it was; its registry as the nodes call it.
    pub stack: Arc<Stack>,
    /// The image of each service that has a build.
    pub plans: BTreeMap<ServiceId, Arc<ImagePlan>>,
    /// The services that keep the image they have, and hold newer files beside it. Their plans have that image's name.
    pub synced: BTreeMap<ServiceId, Synced>,
    /// Where the images are pushed to, unless they are put into the nodes.
    pub registry: Option<Registry>,
    /// The objects.
    pub rendered: Rendered,
}

/// Reads the build contexts and renders the manifests. With `bases`, services may keep the image that they have. With a
/// registry, images are named as the nodes call it.
///
/// # Errors
/// When something of it cannot be read, or is wrong.
pub async fn prepare(
    stack: Arc<Stack>,
    planner: Arc<Mutex<Planner>>,
    state: &State,
    bases: Option<Bases>,
    registry: Option<Registry>,
) -> Result<Prepared> {
    let stack = Arc::new(named(Stack::clone(&stack), registry.as_ref()));
    let mut plans = plan(Arc::clone(&stack), planner, state.digests()).await?;
    let synced = bases
        .map(|bases| bases.pin(&stack, &mut plans))
        .unwrap_or_default();
    let images = plans
        .values()
        .map(|plan| (plan.spec.image.clone(), plan.reference.clone()))
        .collect();
    let rendered = render::render(&stack, &Owner::of(&stack), &images, &state.dir).await?;
    Ok(Prepared {
        stack,
        plans,
        synced,
        registry,
        rendered,
    })
}

/// A stack whose images have the name of a registry, or the one that they have where there is none.
pub fn named(mut stack: Stack, registry: Option<&Registry>) -> Stack {
    stack.cluster.registry = registry.map(|registry| registry.pull.clone());
    stack
}

/// Reads the build contexts. `memory` is where digests of files are remembered.
///
/// # Errors
/// When a file cannot be read.
pub async fn plan(
    stack: Arc<Stack>,
    planner: Arc<Mutex<Planner>>,
    memory: PathBuf,
) -> Result<BTreeMap<ServiceId, Arc<ImagePlan>>> {
    let planned = tokio::task::spawn_blocking(move || {
        let mut planner = planner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let plans = planner.plan(&stack)?;
        // The memory only saves time.
        if let Err(error) = planner.save(&memory) {
            tracing::warn!(%error, "cannot keep the digests of files");
        }
        Ok(plans
            .into_iter()
            .map(|plan| (plan.service, Arc::new(plan)))
            .collect())
    });
    planned
        .await
        .map_err(|error| Failure::failed("reading the build contexts failed").because(error))?
}

impl Prepared {
    /// Adapts what the cluster has no room for, if the stack asks for that, and notes what it lacks all the same.
    ///
    /// # Errors
    /// When nothing of the stack would find room.
    pub fn settle_in(&mut self, facts: &Facts, cluster: &Choice) -> Result<()> {
        if let Some(budget) = facts.budget() {
            fit::fit(&self.stack, &mut self.rendered, &budget);
        }
        let lacking = room::check(&self.stack, &self.rendered, facts, cluster)?;
        self.rendered.notes.extend(lacking);
        Ok(())
    }

    /// Whether it can be applied without the objects whose kinds the cluster does not know.
    ///
    /// # Errors
    /// When the stack is strict, or one of them is what a service runs as.
    pub fn admit(&self, unknown: &[Skipped]) -> Result<()> {
        let runs = |it: &&Skipped| {
            let mut workloads = self.rendered.workloads.values();
            workloads.any(|index| {
                let object = &self.rendered.objects[*index];
                object.origin == it.origin && object.name == it.target.name
            })
        };
        let refused: Vec<_> = unknown
            .iter()
            .filter(|it| self.stack.strict || runs(it))
            .collect();
        if refused.is_empty() {
            return Ok(());
        }
        let failure = apply::unknown_refusal(refused.into_iter());
        Err(match self.stack.strict {
            true => failure.cause("stack.yaml says `strict: true`"),
            false => failure.cause("a service cannot run without it"),
        })
    }

    /// What the machine has to know of it.
    pub fn targets(&self) -> Vec<Target> {
        self.stack.ids().map(|id| self.target(id)).collect()
    }

    /// A service's workloads, which wait for what it depends on.
    pub fn gated(&self, service: ServiceId) -> Vec<&Object> {
        self.rendered
            .of(Some(service))
            .into_iter()
            .filter(|object| is_gated(object))
            .collect()
    }

    /// The Services that lead to a service.
    pub fn services(&self, service: ServiceId) -> Vec<&Object> {
        self.rendered
            .of(Some(service))
            .into_iter()
            .filter(|object| object.kind == "Service")
            .collect()
    }

    /// All that waits for nothing, in the order of the manifests.
    pub fn groundwork(&self) -> Vec<&Object> {
        self.rendered
            .objects
            .iter()
            .filter(|object| object.service.is_none() || !is_gated(object))
            .collect()
    }

    /// The images that a service's workloads name and that llmdev does not build.
    pub fn upstream(&self, service: ServiceId) -> Vec<String> {
        let built: Vec<_> = self
            .plans
            .values()
            .map(|plan| plan.reference.as_str())
            .collect();
        let mut images = Vec::new();
        for object in self.gated(service) {
            for image in render::images_of(object) {
                if !built.contains(&image.as_str()) && !images.contains(&image) {
                    images.push(image);
                }
            }
        }
        images
    }

    fn target(&self, id: ServiceId) -> Target {
        let service = self.stack.service(id);
        let mut digest = blake3::Hasher::new();
        for object in self.rendered.of(Some(id)) {
            digest.update(object.value.to_string().as_bytes());
        }
        Target {
            name: service.name.clone(),
            depends_on: service
                .depends_on
                .iter()
                .map(|&other| self.stack.service(other).name.clone())
                .collect(),
            image: self.plans.get(&id).map(|plan| plan.reference.clone()),
            objects: digest.finalize().to_hex()[..16].to_owned(),
            ready_timeout: service.ready_timeout,
        }
    }
}

/// The plans of the services named (all when none is), each after those that it requires.
pub fn in_order(
    stack: &Stack,
    plans: &BTreeMap<ServiceId, Arc<ImagePlan>>,
    named: &[String],
) -> Vec<Arc<ImagePlan>> {
    fn visit(
        id: ServiceId,
        plans: &BTreeMap<ServiceId, Arc<ImagePlan>>,
        order: &mut Vec<ServiceId>,
    ) {
        let Some(plan) = plans.get(&id).filter(|_| !order.contains(&id)) else {
            return;
        };
        plan.spec
            .requires
            .values()
            .for_each(|&required| visit(required, plans, order));
        order.push(id);
    }
    let mut order = Vec::new();
    for id in stack
        .ids()
        .filter(|&id| named.is_empty() || named.contains(&stack.service(id).name))
    {
        visit(id, plans, &mut order);
    }
    order.iter().map(|id| Arc::clone(&plans[id])).collect()
}

fn is_gated(object: &Object) -> bool {
    GATED.contains(&object.kind.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unknown_kind_is_refused_by_the_strict_and_where_a_service_is_one() {
        let object = |kind: &str, line: u32| Object {
            api_version: "apps/v1".into(),
            kind: kind.into(),
            name: "web".into(),
            namespace: None,
            value: json!({}),
            service: None,
            origin: format!("k8s/a.yaml:{line}"),
            place: Default::default(),
        };
        let unknown = |object: &Object| Skipped {
            target: apply::Target {
                api_version: object.api_version.clone(),
                kind: object.kind.clone(),
                namespace: None,
                name: object.name.clone(),
            },
            near: None,
            origin: object.origin.clone(),
        };
        let (workload, other) = (object("Deployment", 1), object("ServiceMonitor", 9));
        let skipped = [unknown(&workload), unknown(&other)];
        let refused = |strict: bool, skipped: &[Skipped]| {
            let strict = if strict { "strict: true\n" } else { "" };
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("a.yaml"), "").unwrap();
            let text = format!(
                "apiVersion: llmdev/v1\nname: x\nrender: [manifests: [a.yaml]]\nservices: {{web: {{}}}}\n{strict}"
            );
            let stack = crate::stack::parse(&text, &folder.path().join("stack.yaml"), None);
            let prepared = Prepared {
                stack: Arc::new(stack.unwrap()),
                plans: BTreeMap::new(),
                synced: BTreeMap::new(),
                registry: None,
                rendered: Rendered {
                    objects: vec![workload.clone(), other.clone()],
                    workloads: BTreeMap::from([(ServiceId(0), 0)]),
                    ..Rendered::default()
                },
            };
            let failure = prepared.admit(skipped).err()?;
            Some(format!("{}\n{}", failure.line(), failure.detail.join("\n")))
        };
        assert_eq!(refused(false, &skipped[1..]), None);
        assert_eq!(refused(true, &[]), None);
        insta::assert_snapshot!(refused(true, &skipped[1..]).unwrap(), @"
        the cluster does not know the kind of an object: stack.yaml says `strict: true`
        ServiceMonitor web (apps/v1)  k8s/a.yaml:9
        ");
        insta::assert_snapshot!(refused(false, &skipped).unwrap(), @"
        the cluster does not know the kind of an object: a service cannot run without it
        Deployment web (apps/v1)  k8s/a.yaml:1
        ");
    }
}
