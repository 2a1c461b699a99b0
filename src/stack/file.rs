//! `stack.yaml` as it is written: typed, in the text's order, names not yet looked up and files not yet looked for.

use std::collections::BTreeMap;

use super::cluster::cluster;
use super::decode::{
    At, Fields, boolean, count, expected, list, map, one_of, path, raw, read, read_raw, text, value,
};
use super::diagnostic::{Diagnostic, Report};
use super::scalar;
use super::service::{ServiceFile, service};
use super::tree::{Entry, Node, Value};
use super::{ClusterSpec, Dev, Hooks, Ignore, Resources};
use crate::check::RULES;

/// The keys at the top.
pub const TOP: &[&str] = &[
    "apiVersion",
    "name",
    "cluster",
    "namespace",
    "render",
    "services",
    "secrets",
    "hooks",
    "dev",
    "strict",
    "check",
    "profiles",
];
/// The keys of a render step; each step has exactly one.
pub const RENDER: &[&str] = &["kustomize", "manifests", "helm"];
/// The keys of `helm`.
pub const HELM: &[&str] = &[
    "release",
    "chart",
    "repo",
    "version",
    "values",
    "set",
    "namespace",
];
/// The keys of an entry of `secrets`.
pub const SECRET: &[&str] = &["name", "envFile", "keys"];
/// The keys of `hooks`.
pub const HOOKS: &[&str] = &["beforeBuild", "afterReady"];
/// The keys of the stack's `dev`.
pub const DEV: &[&str] = &[
    "resources",
    "replicas",
    "storage",
    "accessModes",
    "loadBalancer",
];

/// The keys of `check`.
pub const CHECK: &[&str] = &["ignore"];
/// The keys of an entry of `check.ignore`.
pub const IGNORE: &[&str] = &["rule", "reason", "objects"];

/// The whole file. What could not be read has been reported, and is empty or absent here.
#[derive(Debug, Default)]
pub struct StackFile {
    /// `name`.
    pub name: String,
    /// `cluster`, but for its `config`.
    pub cluster: ClusterSpec,
    /// `cluster.config` as written.
    pub cluster_config: Option<At<String>>,
    /// `namespace`.
    pub namespace: Option<String>,
    /// `render`.
    pub render: Vec<RenderFile>,
    /// `services`.
    pub services: Vec<ServiceFile>,
    /// `secrets`.
    pub secrets: Vec<SecretFile>,
    /// `hooks`.
    pub hooks: Hooks,
    /// `dev`.
    pub dev: Dev,
    /// `strict`.
    pub strict: bool,
    /// `check.ignore`.
    pub ignore: Vec<Ignore>,
}

/// A step of `render`, paths as written.
#[derive(Debug)]
pub enum RenderFile {
    /// `kustomize`.
    Kustomize(At<String>),
    /// `manifests`.
    Manifests(Vec<At<String>>),
    /// `helm`.
    Helm {
        /// `release`.
        release: String,
        /// `chart`.
        chart: At<String>,
        /// `repo`.
        repo: Option<At<String>>,
        /// `version`.
        version: Option<At<String>>,
        /// `values`.
        values: Vec<At<String>>,
        /// `set`.
        set: BTreeMap<String, String>,
        /// `namespace`.
        namespace: Option<String>,
    },
}

/// An entry of `secrets`.
#[derive(Debug)]
pub struct SecretFile {
    /// `name`.
    pub name: At<String>,
    /// `envFile` as written.
    pub env_file: String,
    /// `keys`.
    pub keys: BTreeMap<String, String>,
}

/// Reads the tree; mistakes go to `report`.
pub fn decode(root: &Node, report: &mut Report) -> StackFile {
    let top = root.span.start..root.span.start;
    let Some(fields) = Fields::of(root, Some(&top), "at the top level", TOP, report) else {
        return StackFile::default();
    };
    let name = fields
        .need("name", report)
        .and_then(|node| read(node, report, scalar::label));
    let namespace = fields
        .get("namespace")
        .and_then(|node| read(node, report, scalar::label));
    let (cluster, cluster_config) = fields.entry("cluster").map_or_else(
        || {
            (
                ClusterSpec {
                    create: true,
                    ..ClusterSpec::default()
                },
                None,
            )
        },
        |entry| cluster(entry, report),
    );
    let render = fields
        .need("render", report)
        .map_or(vec![], |node| render(node, report));
    let services = fields
        .need("services", report)
        .map_or(vec![], |node| services(node, report));
    let secrets = fields
        .get("secrets")
        .map_or(vec![], |node| secrets(node, report));
    let hooks = fields
        .entry("hooks")
        .map_or_else(Hooks::default, |entry| hooks(entry, report));
    let dev = fields
        .entry("dev")
        .map_or_else(Dev::default, |entry| dev(entry, report));
    let strict = fields
        .get("strict")
        .and_then(|node| boolean(node, report))
        .unwrap_or(false);
    let ignore = fields
        .entry("check")
        .map_or(vec![], |entry| check(entry, report));
    StackFile {
        name: name.map(|name| name.it).unwrap_or_default(),
        cluster,
        cluster_config,
        namespace: namespace.map(|namespace| namespace.it),
        render,
        services,
        secrets,
        hooks,
        dev,
        strict,
        ignore,
    }
}

fn services(node: &Node, report: &mut Report) -> Vec<ServiceFile> {
    let Some(entries) = map(node, report) else {
        return vec![];
    };
    if entries.is_empty() {
        report.add(Diagnostic::new(
            node.span.clone(),
            "`services` names no service",
        ));
    }
    entries.iter().map(|entry| service(entry, report)).collect()
}

fn render(node: &Node, report: &mut Report) -> Vec<RenderFile> {
    let items = list(node, report);
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        let mistake = Diagnostic::new(node.span.clone(), "`render` has no step: nothing to apply");
        report.add(mistake.help("for example `- kustomize: k8s/overlays/dev`"));
    }
    items.iter().filter_map(|item| step(item, report)).collect()
}

fn step(node: &Node, report: &mut Report) -> Option<RenderFile> {
    let fields = Fields::of(node, None, "in a render step", RENDER, report)?;
    let mut kinds = RENDER.iter().filter_map(|key| fields.entry(key));
    let Some(entry) = kinds.next() else {
        // A key that is not known has been reported already.
        if matches!(&node.value, Value::Map(entries) if entries.iter().all(|it| RENDER.contains(&it.key.as_str())))
        {
            report.add(Diagnostic::new(
                node.span.clone(),
                "this render step says nothing to render",
            ));
        }
        return None;
    };
    if let Some(other) = kinds.next() {
        let message = format!(
            "one step renders one thing, not `{}` and `{}`",
            entry.key, other.key
        );
        report.add(Diagnostic::new(other.key_span.clone(), message).help("make it two steps"));
    }
    match entry.key.as_str() {
        "kustomize" => path(&entry.node, report).map(RenderFile::Kustomize),
        "manifests" => {
            let globs = list(&entry.node, report).iter();
            Some(RenderFile::Manifests(
                globs
                    .filter_map(|glob| read_raw(glob, report, scalar::glob))
                    .collect(),
            ))
        }
        _ => helm(entry, report),
    }
}

fn helm(entry: &Entry, report: &mut Report) -> Option<RenderFile> {
    let fields = Fields::of(&entry.node, Some(&entry.key_span), "in helm", HELM, report)?;
    let release = fields
        .need("release", report)
        .and_then(|node| read(node, report, scalar::label));
    let chart = fields
        .need("chart", report)
        .and_then(|node| path(node, report));
    let values = fields
        .get("values")
        .map_or(&[][..], |node| list(node, report));
    // What is wrong was said, and is there all the same.
    let read_as = |key, meaning: fn(&str) -> scalar::Read<String>, report: &mut Report| {
        let node = fields.get(key)?;
        let wrong = || At {
            it: String::new(),
            span: node.span.clone(),
        };
        Some(read_raw(node, report, meaning).unwrap_or_else(wrong))
    };
    Some(RenderFile::Helm {
        repo: read_as("repo", scalar::chart_repository, report),
        version: read_as("version", scalar::chart_version, report),
        values: values
            .iter()
            .filter_map(|node| path(node, report))
            .collect(),
        set: fields
            .get("set")
            .map_or_else(BTreeMap::new, |node| texts(node, report)),
        namespace: value(&fields, "namespace", scalar::label, report),
        release: release?.it,
        chart: chart?,
    })
}

/// A mapping of any keys to text, numbers or booleans as they are written.
pub fn texts(node: &Node, report: &mut Report) -> BTreeMap<String, String> {
    let entries = map(node, report).unwrap_or(&[]).iter();
    entries
        .filter_map(|it| Some((it.key.clone(), raw(&it.node, report)?.it)))
        .collect()
}

fn secrets(node: &Node, report: &mut Report) -> Vec<SecretFile> {
    list(node, report)
        .iter()
        .filter_map(|item| secret(item, report))
        .collect()
}

fn secret(node: &Node, report: &mut Report) -> Option<SecretFile> {
    let fields = Fields::of(node, None, "in a secret", SECRET, report)?;
    let name = fields
        .need("name", report)
        .and_then(|node| read(node, report, scalar::subdomain));
    let env_file = fields
        .need("envFile", report)
        .and_then(|node| path(node, report));
    let keys = fields.need("keys", report).map(|node| keys(node, report));
    Some(SecretFile {
        name: name?,
        env_file: env_file?.it,
        keys: keys?,
    })
}

fn keys(node: &Node, report: &mut Report) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    for entry in map(node, report).unwrap_or(&[]) {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if entry.key.is_empty() || !entry.key.chars().all(good) {
            let message = format!("{:?} cannot be a key of a Secret", entry.key);
            let help = "letters, digits, `-`, `_` and `.` are allowed";
            report.add(Diagnostic::new(entry.key_span.clone(), message).help(help));
        }
        if let Some(variable) = read(&entry.node, report, scalar::variable) {
            keys.insert(entry.key.clone(), variable.it);
        }
    }
    keys
}

fn hooks(entry: &Entry, report: &mut Report) -> Hooks {
    let Some(fields) = Fields::of(
        &entry.node,
        Some(&entry.key_span),
        "in hooks",
        HOOKS,
        report,
    ) else {
        return Hooks::default();
    };
    let mut commands = |key| {
        let items = fields.get(key).map_or(&[][..], |node| list(node, report));
        items
            .iter()
            .filter_map(|node| command(node, report))
            .collect()
    };
    Hooks {
        before_build: commands("beforeBuild"),
        after_ready: commands("afterReady"),
    }
}

fn dev(entry: &Entry, report: &mut Report) -> Dev {
    let at = Some(&entry.key_span);
    let Some(fields) = Fields::of(&entry.node, at, "in dev", DEV, report) else {
        return Dev::default();
    };
    let words = [("fit", Resources::Fit), ("half", Resources::Half)];
    let mut asked = |key, word| {
        let node = fields.get(key);
        node.and_then(|node| one_of(node, &[(word, true)], report))
            .unwrap_or(false)
    };
    Dev {
        shrink_storage: asked("storage", "shrink"),
        single_access: asked("accessModes", "single"),
        cluster_ip: asked("loadBalancer", "clusterIP"),
        resources: fields
            .get("resources")
            .and_then(|node| one_of(node, &words, report)),
        replicas: fields.get("replicas").and_then(|node| count(node, report)),
    }
}

fn check(entry: &Entry, report: &mut Report) -> Vec<Ignore> {
    let at = Some(&entry.key_span);
    let fields = Fields::of(&entry.node, at, "in check", CHECK, report);
    let entries = fields.and_then(|fields| fields.get("ignore"));
    let entries = entries.map_or(&[][..], |node| list(node, report));
    entries
        .iter()
        .filter_map(|node| ignore(node, report))
        .collect()
}

fn ignore(node: &Node, report: &mut Report) -> Option<Ignore> {
    let fields = Fields::of(node, None, "in an entry of ignore", IGNORE, report)?;
    let rule = fields
        .need("rule", report)
        .and_then(|node| rule(node, report));
    let reason = fields
        .need("reason", report)
        .and_then(|node| read(node, report, scalar::reason));
    let objects = fields
        .get("objects")
        .map_or(&[][..], |node| list(node, report));
    Some(Ignore {
        objects: objects
            .iter()
            .filter_map(|node| read(node, report, scalar::object_glob))
            .map(|glob| glob.it)
            .collect(),
        rule: rule?,
        reason: reason?.it,
    })
}

fn rule(node: &Node, report: &mut Report) -> Option<String> {
    let name = text(node, report)?;
    let known = || RULES.iter().map(|rule| rule.id);
    if known().any(|rule| rule == name.it) {
        return Some(name.it);
    }
    let mistake = Diagnostic::new(name.span, format!("there is no rule {:?}", name.it));
    let mistake = mistake.help("`llmdev check --list` shows all rules");
    report.add(mistake.suggest(&name.it, known()));
    None
}

/// A list of words, or one text that is split into words.
fn command(node: &Node, report: &mut Report) -> Option<Vec<String>> {
    match &node.value {
        Value::List(_) => arguments(node, report),
        Value::Plain(_) | Value::Quoted(_) => {
            read(node, report, scalar::words).map(|words| words.it)
        }
        _ => {
            report.add(expected(node, "a command, as text or as a list of words"));
            None
        }
    }
}

/// A command as a list of words.
pub fn arguments(node: &Node, report: &mut Report) -> Option<Vec<String>> {
    let items = list(node, report);
    let words: Vec<String> = items
        .iter()
        .filter_map(|item| raw(item, report))
        .map(|word| word.it)
        .collect();
    if words.first().is_none_or(String::is_empty) && words.len() == items.len() {
        report.add(Diagnostic::new(node.span.clone(), "the command is empty"));
    }
    Some(words)
}
