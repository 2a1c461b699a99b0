//! `llmdev init`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::survey::{Image, Survey, survey};
use super::{Global, print};
use crate::error::{Failure, Result};
use crate::owner::Owner;
use crate::render::{self, Object};
use crate::stack::{self, Chart, ClusterSpec, HelmRelease, Hooks, RenderStep, Stack};
use crate::state::State;

pub(super) const HELP: &str =
    "It looks for kustomizations, manifests, charts, Dockerfiles and a skaffold.yaml.

Examples:
  llmdev init
  llmdev init --force       in the place of the stack.yaml that is there";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Replace the stack.yaml that is there
    #[arg(long)]
    force: bool,
}

/// What is proposed for one service.
struct Proposal {
    name: String,
    build: Option<Image>,
    /// Wanted port and the container's.
    forwards: Vec<(u16, u16)>,
}

pub(super) async fn run(global: &Global, args: Args) -> Result<()> {
    let file = match &global.file {
        Some(file) => std::path::absolute(file).unwrap_or_else(|_| file.clone()),
        None => std::env::current_dir()
            .map_err(|error| Failure::environment("this folder is gone").because(error))?
            .join(stack::FILE_NAME),
    };
    if file.exists() && !args.force {
        let what = format!("{} is there already", file.display());
        return Err(Failure::refused(what).remedy("`llmdev init --force` replaces it"));
    }
    let root = file.parent().unwrap_or(&file).canonicalize();
    let root = root.map_err(|error| Failure::config("the folder cannot be read").because(error))?;
    let found = survey(&root);
    let steps = steps(&found);
    if steps.is_empty() {
        return Err(
            Failure::failed(format!("nothing in {} goes to Kubernetes", root.display()))
                .cause("there is no kustomization, no manifest and no chart")
                .remedy("write manifests first: llmdev takes them as they are"),
        );
    }
    let objects = objects(&root, &steps).await?;
    let services = propose(&objects, &found);
    let text = text(&name_of(&root), &steps, &services);
    // What is wrong with the proposal is said before anything is written.
    stack::parse(&text, &file, None)?;
    fs::write(&file, &text).map_err(|error| {
        Failure::failed(format!("cannot write {}", file.display())).because(error)
    })?;
    let names: Vec<_> = services.iter().map(|one| one.name.as_str()).collect();
    print(&format!("wrote {}: {}", file.display(), names.join(", ")))?;
    for image in found.images.iter().filter(|image| {
        let used = |one: &Proposal| {
            let build = one.build.as_ref();
            build.is_some_and(|build| build.context == image.context)
        };
        !services.iter().any(used)
    }) {
        print(&format!(
            "no workload's image is called like {}/Dockerfile: say whose `build:` it is",
            image.context
        ))?;
    }
    print("look it through, then: llmdev doctor, llmdev up")
}

/// The lines of `render:`, and what they mean.
fn steps(found: &Survey) -> Vec<(String, RenderStep)> {
    if let Some(folder) = found.kustomizations.first() {
        return vec![(
            format!("kustomize: {}", scalar(folder)),
            RenderStep::Kustomize(folder.into()),
        )];
    }
    let mut steps = Vec::new();
    if !found.manifests.is_empty() {
        let listed: Vec<_> = found.manifests.iter().map(|file| scalar(file)).collect();
        let line = format!("manifests: [{}]", listed.join(", "));
        steps.push((line, RenderStep::Manifests(found.manifests.clone())));
    }
    for (chart, name) in &found.charts {
        let folder = chart.rsplit('/').next().unwrap_or_default();
        let release = label(name.as_deref().unwrap_or(folder));
        let line = format!("helm: {{ release: {release}, chart: {} }}", scalar(chart));
        steps.push((
            line,
            RenderStep::Helm(HelmRelease {
                release,
                chart: Chart::Folder(chart.into()),
                values: Vec::new(),
                set: BTreeMap::new(),
                namespace: None,
            }),
        ));
    }
    steps
}

/// What the manifests come to, rendered as `up` would.
async fn objects(root: &Path, steps: &[(String, RenderStep)]) -> Result<Vec<Object>> {
    let absolute = |step: &RenderStep| match step {
        RenderStep::Kustomize(folder) => RenderStep::Kustomize(root.join(folder)),
        RenderStep::Helm(release) => RenderStep::Helm(HelmRelease {
            chart: match &release.chart {
                Chart::Folder(folder) => Chart::Folder(root.join(folder)),
                fetched => fetched.clone(),
            },
            ..release.clone()
        }),
        RenderStep::Manifests(globs) => RenderStep::Manifests(globs.clone()),
    };
    let stack = Stack {
        dev: Default::default(),
        strict: false,
        ignore: vec![],
        name: name_of(root),
        root: root.to_owned(),
        file: root.join(stack::FILE_NAME),
        cluster: ClusterSpec::default(),
        namespace: "default".to_owned(),
        render: steps.iter().map(|(_, step)| absolute(step)).collect(),
        services: Vec::new(),
        secrets: Vec::new(),
        hooks: Hooks::default(),
    };
    let cache = State::of(root)?.dir;
    Ok(
        render::render(&stack, &Owner::of(&stack), &BTreeMap::new(), &cache)
            .await?
            .objects,
    )
}

/// A service for each workload.
fn propose(objects: &[Object], found: &Survey) -> Vec<Proposal> {
    let workloads: Vec<_> = objects
        .iter()
        .filter(|object| ["Deployment", "StatefulSet", "DaemonSet"].contains(&object.kind.as_str()))
        .collect();
    let names: Vec<_> = workloads
        .iter()
        .map(|object| object.name.as_str())
        .collect();
    let prefix = common_prefix(&names);
    let mut taken = BTreeSet::new();
    let mut services = Vec::new();
    for workload in workloads {
        let name = workload.name[prefix..].to_owned();
        let images = render::images_of(workload);
        let build = found
            .images
            .iter()
            .find(|image| images.iter().any(|used| builds(image, used, &name)));
        let build = build.map(|image| {
            let used = images.iter().find(|used| builds(image, used, &name));
            let used = used
                .map(|used| bare(used).to_owned())
                .filter(|used| *used != name);
            Image {
                name: used,
                ..image.clone()
            }
        });
        let known = found
            .forwards
            .iter()
            .filter(|(of, ..)| *of == name || *of == workload.name);
        let mut wanted: Vec<_> = known.map(|&(_, remote, local)| (local, remote)).collect();
        if wanted.is_empty() {
            wanted = ports(&workload.value)
                .into_iter()
                .map(|port| (port, port))
                .collect();
        }
        let forwards = wanted
            .into_iter()
            .map(|(local, remote)| (free(local, &mut taken), remote))
            .collect();
        services.push(Proposal {
            name,
            build,
            forwards,
        });
    }
    services
}

/// As long as it ends with a `-` and leaves something of every name: what an overlay put before them.
fn common_prefix(names: &[&str]) -> usize {
    let Some((first, rest)) = names.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return 0;
    };
    let ends = first.match_indices('-').map(|(at, _)| at + 1);
    let common = |end: &usize| {
        rest.iter()
            .all(|name| name.len() > *end && name.starts_with(&first[..*end]))
    };
    ends.filter(common).max().unwrap_or(0)
}

/// Whether an image that is built here is the one that a container names.
fn builds(image: &Image, used: &str, service: &str) -> bool {
    let used = bare(used);
    match &image.name {
        Some(name) => name == used,
        None => {
            let folder = image.context.rsplit('/').next().unwrap_or_default();
            let last = used.rsplit('/').next().unwrap_or_default();
            folder == last || (folder == service && used.contains(service))
        }
    }
}

/// Without tag and digest.
fn bare(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

/// The ports that a workload's containers name.
fn ports(workload: &Value) -> Vec<u16> {
    let containers = workload
        .pointer("/spec/template/spec/containers")
        .and_then(Value::as_array);
    let ports = containers
        .into_iter()
        .flatten()
        .filter_map(|one| one.get("ports")?.as_array());
    let tcp = ports.flatten().filter(|port| {
        port.get("protocol")
            .is_none_or(|protocol| protocol == "TCP")
    });
    tcp.filter_map(|port| u16::try_from(port.get("containerPort")?.as_u64()?).ok())
        .collect()
}

/// A local port that no other service has, and that needs no root.
fn free(wanted: u16, taken: &mut BTreeSet<u16>) -> u16 {
    let start = if wanted < 1024 { wanted + 8000 } else { wanted };
    let port = (start..=u16::MAX)
        .find(|port| !taken.contains(port))
        .unwrap_or(start);
    taken.insert(port);
    port
}

fn text(name: &str, steps: &[(String, RenderStep)], services: &[Proposal]) -> String {
    let mut text = format!(
        "apiVersion: {}\nname: {name}\nrender:\n",
        stack::API_VERSION
    );
    steps
        .iter()
        .for_each(|(line, _)| text.push_str(&format!("  - {line}\n")));
    text.push_str("services:\n");
    for service in services {
        let mut keys = Vec::new();
        if let Some(image) = &service.build {
            let mut build = vec![format!("context: {}", scalar(&image.context))];
            build.extend(
                image
                    .dockerfile
                    .iter()
                    .map(|file| format!("dockerfile: {}", scalar(file))),
            );
            build.extend(
                image
                    .name
                    .iter()
                    .map(|name| format!("image: {}", scalar(name))),
            );
            keys.push(format!("build: {{ {} }}", build.join(", ")));
        }
        if !service.forwards.is_empty() {
            let port = |&(local, remote): &(u16, u16)| match local == remote {
                true => local.to_string(),
                false => format!("\"{local}:{remote}\""),
            };
            let all: Vec<_> = service.forwards.iter().map(port).collect();
            keys.push(format!("forward: [{}]", all.join(", ")));
        }
        match keys.is_empty() {
            true => text.push_str(&format!("  {}: {{}}\n", service.name)),
            false => text.push_str(&format!(
                "  {}:\n    {}\n",
                service.name,
                keys.join("\n    ")
            )),
        }
    }
    text
}

fn name_of(root: &Path) -> String {
    label(&root.file_name().unwrap_or_default().to_string_lossy())
}

/// The nearest DNS label.
fn label(text: &str) -> String {
    let kept = text
        .to_lowercase()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let label: String = kept.trim_matches('-').chars().take(40).collect();
    let label = label.trim_matches('-');
    if label.starts_with(|c: char| c.is_ascii_alphabetic()) {
        label.to_owned()
    } else {
        format!("stack-{label}").trim_end_matches('-').to_owned()
    }
}

/// As YAML has it, in quotes where it would mean something else.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off"]
            .contains(&text.to_lowercase().as_str());
    if plain {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}
