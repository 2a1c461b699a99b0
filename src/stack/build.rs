//! `build:` of a service as it is written.

use std::collections::BTreeMap;

use super::SecretSource;
use super::decode::{At, Fields, map, path, read, text};
use super::diagnostic::{Diagnostic, Report};
use super::file::texts;
use super::scalar;
use super::tree::{Entry, Node, Value};

/// The keys of `build`.
pub const BUILD: &[&str] = &[
    "context",
    "dockerfile",
    "target",
    "args",
    "secrets",
    "requires",
    "image",
];
/// The keys of a build secret; each has exactly one.
pub const BUILD_SECRET: &[&str] = &["file", "env"];
/// `build`; paths as written.
#[derive(Debug)]
pub struct BuildFile {
    /// `image`, or the service's name at the service's place.
    pub image: At<String>,
    /// `context`.
    pub context: At<String>,
    /// `dockerfile`.
    pub dockerfile: Option<At<String>>,
    /// `target`.
    pub target: Option<String>,
    /// `args`.
    pub args: BTreeMap<String, String>,
    /// `secrets`.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `requires`.
    pub requires: BTreeMap<String, At<String>>,
}

/// Reads `build` of a service; mistakes go to `report`.
pub fn build(entry: &Entry, service: &At<String>, report: &mut Report) -> Option<BuildFile> {
    let own_image = || service.clone();
    if matches!(entry.node.value, Value::Plain(_) | Value::Quoted(_)) {
        return Some(BuildFile {
            image: own_image(),
            context: path(&entry.node, report)?,
            dockerfile: None,
            target: None,
            args: BTreeMap::new(),
            secrets: BTreeMap::new(),
            requires: BTreeMap::new(),
        });
    }
    let place = format!("in build of service {:?}", service.it);
    let fields = Fields::of(&entry.node, Some(&entry.key_span), &place, BUILD, report)?;
    let image = fields
        .get("image")
        .and_then(|node| read(node, report, scalar::image_name));
    let context = fields
        .need("context", report)
        .and_then(|node| path(node, report));
    let build = BuildFile {
        image: image.unwrap_or_else(own_image),
        dockerfile: fields.get("dockerfile").and_then(|node| path(node, report)),
        target: fields
            .get("target")
            .and_then(|node| text(node, report))
            .map(|target| target.it),
        args: fields
            .get("args")
            .map_or_else(BTreeMap::new, |node| texts(node, report)),
        secrets: fields
            .get("secrets")
            .map_or_else(BTreeMap::new, |node| secrets(node, report)),
        requires: fields
            .get("requires")
            .map_or_else(BTreeMap::new, |node| requires(node, report)),
        context: context?,
    };
    for (argument, needed) in &build.requires {
        if build.args.contains_key(argument) {
            let message =
                format!("the build argument {argument:?} is set by `args` and `requires`");
            report.add(Diagnostic::new(needed.span.clone(), message));
        }
    }
    Some(build)
}

fn secrets(node: &Node, report: &mut Report) -> BTreeMap<String, SecretSource> {
    let entries = map(node, report).unwrap_or(&[]).iter();
    entries
        .filter_map(|it| Some((it.key.clone(), secret(it, report)?)))
        .collect()
}

fn secret(entry: &Entry, report: &mut Report) -> Option<SecretSource> {
    let place = format!("in build secret {:?}", entry.key);
    let fields = Fields::of(
        &entry.node,
        Some(&entry.key_span),
        &place,
        BUILD_SECRET,
        report,
    )?;
    match (fields.get("file"), fields.get("env")) {
        (Some(file), None) => Some(SecretSource::File(path(file, report)?.it.into())),
        (None, Some(env)) => Some(SecretSource::Env(read(env, report, scalar::variable)?.it)),
        _ => {
            let message = format!(
                "the build secret {:?} needs `file` or `env`, one of them",
                entry.key
            );
            report.add(Diagnostic::new(entry.key_span.clone(), message));
            None
        }
    }
}

fn requires(node: &Node, report: &mut Report) -> BTreeMap<String, At<String>> {
    let entries = map(node, report).unwrap_or(&[]).iter();
    entries
        .filter_map(|it| Some((it.key.clone(), text(&it.node, report)?)))
        .collect()
}
