//! From `render:` of `stack.yaml` to the objects that will be applied: owner, images and secrets are set.

mod assign;
mod companions;
mod config;
mod emit;
mod fast;
pub mod fit;
mod helm;
mod images;
mod inputs;
mod keep;
mod kustomize;
mod labels;
pub mod loose;
mod manifests;
mod object;
pub(crate) mod pods;
pub mod quantity;
pub mod requests;
mod scalar;
mod secrets;
mod shrink;
pub(crate) mod text;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use emit::to_yaml;
pub use inputs::of as kustomize_inputs;
pub use object::{Object, Place};

use crate::error::{Failure, Result};
use crate::owner::Owner;
use crate::stack::{RenderStep, ServiceId, Stack};

/// What a stack's manifests come to.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    /// In the order of the manifests.
    pub objects: Vec<Object>,
    /// What the user should know: what was changed, what nothing uses.
    pub notes: Vec<String>,
    /// The workload of each service that has one: an index into `objects`.
    pub workloads: BTreeMap<ServiceId, usize>,
    /// Files and folders that it was made from, absolute and sorted: what is worth watching.
    pub inputs: Vec<PathBuf>,
}

impl Rendered {
    /// The objects of one service, or with none those of the stack as a whole.
    pub fn of(&self, service: Option<ServiceId>) -> Vec<&Object> {
        self.objects
            .iter()
            .filter(|object| object.service == service)
            .collect()
    }
}

/// The images that an object's pods name.
pub fn images_of(object: &Object) -> Vec<String> {
    let containers = pods::template(object)
        .into_iter()
        .flat_map(pods::containers);
    containers
        .filter_map(|container| Some(container.get("image")?.as_str()?.to_owned()))
        .collect()
}

/// What one render step gives before anything is set on it.
#[derive(Debug, Default)]
struct Step {
    sources: Vec<Source>,
    notes: Vec<String>,
    inputs: Vec<PathBuf>,
}

/// An object as its source has it.
#[derive(Debug)]
struct Source {
    value: Value,
    /// Where it stands, for messages: a file and line, or what made it.
    origin: String,
    /// The same for what looks its text up.
    place: Place,
}

/// Renders the stack. `images` maps an image's name in the manifests to the reference to set; `cache` is the
/// stack's state folder, where what kustomize and helm said is kept by digest of what they read.
///
/// # Errors
/// Manifests that are wrong (file and line), a service that no workload matches, a tool that is missing.
pub async fn render(
    stack: &Stack,
    owner: &Owner,
    images: &BTreeMap<String, String>,
    cache: &Path,
) -> Result<Rendered> {
    let mut rendered = read(stack, cache).await?;
    finish(stack, owner, images, &mut rendered)?;
    rendered.inputs.sort();
    rendered.inputs.dedup();
    Ok(rendered)
}

/// The objects as the stack's manifests have them, before anything is set on them.
///
/// # Errors
/// Manifests that are wrong (file and line), a tool that is missing.
pub async fn read(stack: &Stack, cache: &Path) -> Result<Rendered> {
    let mut sources = Vec::new();
    let mut rendered = Rendered::default();
    for step in &stack.render {
        let made = match step {
            RenderStep::Kustomize(dir) => kustomize::render(stack, dir, cache).await?,
            RenderStep::Manifests(globs) => {
                let (root, globs) = (stack.root.clone(), globs.clone());
                aside(move || manifests::read(&root, &globs)).await?
            }
            RenderStep::Helm(release) => helm::render(stack, release, cache).await?,
        };
        sources.extend(made.sources);
        rendered.notes.extend(made.notes);
        rendered.inputs.extend(made.inputs);
    }
    rendered.objects = object::parse(&stack.namespace, sources)?;
    Ok(rendered)
}

/// Runs what reads many files where it holds nobody up.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let crashed = || Failure::failed("reading the manifests was cut off");
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| crashed().because(error))?
}

fn finish(
    stack: &Stack,
    owner: &Owner,
    images: &BTreeMap<String, String>,
    rendered: &mut Rendered,
) -> Result<()> {
    shrink::adapt(
        &stack.dev,
        &stack.namespace,
        &mut rendered.objects,
        &mut rendered.notes,
    );
    assign::services(stack, rendered)?;
    rendered.inputs.extend(secrets::set(
        stack,
        &mut rendered.objects,
        &mut rendered.notes,
    )?);
    images::set(stack, images, rendered)?;
    fast::adapt(stack, rendered);
    fit::halve(stack, rendered);
    config::annotate(&mut rendered.objects, &stack.namespace);
    labels::set(stack, owner, &mut rendered.objects);
    Ok(())
}
