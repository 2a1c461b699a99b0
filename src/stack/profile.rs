//! Profiles: which of them hold, and their patches laid over the rest of the file.

use globset::{Glob, GlobMatcher};

use super::decode::{At, Fields, map, read};
use super::diagnostic::{Diagnostic, Report, Span, nearest};
use super::scalar::{self, Read, Wrong};
use super::tree::{Entry, Node, Value};

/// The keys of a profile.
pub const PROFILE: &[&str] = &["activate", "patch"];
/// The keys of `activate`; all that are there must hold.
pub const ACTIVATE: &[&str] = &["env", "context"];

/// What decides which profiles hold.
#[derive(Clone, Copy)]
pub struct Selection<'a> {
    /// `-p NAME`: this one, and no other by itself.
    pub name: Option<&'a str>,
    /// The current kubeconfig context, where it is known.
    pub context: Option<&'a str>,
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

/// An entry of `profiles:`.
pub struct Profile {
    name: At<String>,
    /// Everything that is said in it.
    pub span: Span,
    env: Option<(String, String)>,
    context: Option<GlobMatcher>,
    patch: Option<Node>,
}

/// Takes `profiles` out of the tree and reads them; mistakes go to `report`.
pub fn take(root: &mut Node, report: &mut Report) -> Vec<Profile> {
    let Value::Map(entries) = &mut root.value else {
        return vec![];
    };
    let Some(at) = entries.iter().position(|entry| entry.key == "profiles") else {
        return vec![];
    };
    let profiles = entries.remove(at).node;
    if profiles.value == Value::Null {
        return vec![];
    }
    map(&profiles, report)
        .unwrap_or(&[])
        .iter()
        .map(|it| profile(it, report))
        .collect()
}

fn profile(entry: &Entry, report: &mut Report) -> Profile {
    let name = At {
        span: entry.key_span.clone(),
        it: entry.key.clone(),
    };
    let place = format!("in profile {:?}", name.it);
    let mut profile = Profile {
        span: entry.span(),
        env: None,
        context: None,
        patch: None,
        name,
    };
    let at = Some(&entry.key_span);
    let Some(fields) = Fields::of(&entry.node, at, &place, PROFILE, report) else {
        return profile;
    };
    if let Some(activate) = fields.entry("activate") {
        let place = format!("in activate of profile {:?}", profile.name.it);
        let at = Some(&activate.key_span);
        if let Some(fields) = Fields::of(&activate.node, at, &place, ACTIVATE, report) {
            profile.env = fields
                .get("env")
                .and_then(|it| read(it, report, setting))
                .map(|it| it.it);
            let context = fields
                .get("context")
                .and_then(|it| read(it, report, pattern));
            profile.context = context.map(|it| it.it);
        }
    }
    profile.patch = fields.need("patch", report).cloned();
    if let Some(Node {
        value: Value::Map(entries),
        span,
    }) = &profile.patch
        && entries.is_empty()
    {
        report.add(Diagnostic::new(
            span.clone(),
            "this profile patches nothing",
        ));
    }
    profile
}

fn setting(text: &str) -> Read<(String, String)> {
    let Some((name, value)) = text.split_once('=') else {
        let help = Some(format!("write it like {text}=1"));
        return Err(Wrong {
            why: format!("{text:?} does not say which value"),
            help,
        });
    };
    Ok((scalar::variable(name)?, value.to_owned()))
}

fn pattern(text: &str) -> Read<GlobMatcher> {
    let wrong = |why| Wrong {
        why,
        help: Some("write it like kind-*".to_owned()),
    };
    let glob = Glob::new(text)
        .map_err(|error| wrong(format!("{text:?} is not a pattern: {}", error.kind())))?;
    Ok(glob.compile_matcher())
}

impl Profile {
    fn holds(&self, selection: &Selection<'_>) -> bool {
        if let Some(name) = selection.name {
            return self.name.it == name;
        }
        let env = self.env.as_ref();
        let env = env.map(|(name, value)| (selection.env)(name).as_ref() == Some(value));
        let context = self.context.as_ref();
        let context = context.map(|glob| selection.context.is_some_and(|it| glob.is_match(it)));
        match (env, context) {
            (None, None) => false,
            (env, context) => env.unwrap_or(true) && context.unwrap_or(true),
        }
    }

    /// Lays the patch over a tree. Mappings merge, `null` removes, all else replaces; what comes from the patch
    /// keeps its place in the patch.
    pub fn lay_over(&self, root: &mut Node, report: &mut Report) {
        let Some(patch) = &self.patch else { return };
        let Value::Map(patches) = &patch.value else {
            map(patch, report);
            return;
        };
        widen_builds(root);
        for key in ["apiVersion", "profiles"] {
            if let Some(entry) = patch.get(key) {
                let message = format!("a profile cannot patch `{key}`");
                report.add(Diagnostic::new(entry.key_span.clone(), message));
            }
        }
        if let Some(services) = patch.get("services") {
            self.known_services(root, &services.node, report);
        }
        if let Value::Map(entries) = &mut root.value {
            merge(entries, patches, report);
        }
    }

    /// A service that the file has not got is a new one if it says what it is; otherwise its name is a slip.
    fn known_services(&self, root: &Node, patched: &Node, report: &mut Report) {
        let services = root.get("services").map(|entry| &entry.node);
        let (Some(Value::Map(known)), Value::Map(patched)) =
            (services.map(|node| &node.value), &patched.value)
        else {
            return;
        };
        let names = || known.iter().map(|entry| entry.key.as_str());
        for entry in patched {
            let own = entry.node.get("build").is_some() || entry.node.get("workload").is_some();
            let removes = entry.node.value == Value::Null;
            if own || removes || names().any(|name| name == entry.key) {
                continue;
            }
            let message = format!(
                "profile {:?} patches no service {:?}",
                self.name.it, entry.key
            );
            let mistake = Diagnostic::new(entry.key_span.clone(), message);
            report.add(match nearest(&entry.key, names()) {
                Some(near) => mistake.help(format!("did you mean `{near}`?")),
                None => mistake.help("a new service says its `build` or its `workload`"),
            });
        }
    }
}

fn merge(base: &mut Vec<Entry>, patches: &[Entry], report: &mut Report) {
    for patch in patches {
        let at = base.iter().position(|entry| entry.key == patch.key);
        match (at, &patch.node.value) {
            (Some(at), Value::Null) => drop(base.remove(at)),
            (None, Value::Null) => {
                let message = format!("nothing to remove: there is no {:?}", patch.key);
                let known = base.iter().map(|entry| entry.key.as_str());
                let mistake = Diagnostic::new(patch.key_span.clone(), message);
                report.add(mistake.suggest(&patch.key, known));
            }
            (Some(at), value) => match (&mut base[at].node.value, value) {
                (Value::Map(inner), Value::Map(patches)) => merge(inner, patches, report),
                _ => base[at] = patch.clone(),
            },
            (None, _) => base.push(without_nulls(patch, report)),
        }
    }
}

/// A mapping that only the patch has: what it removes is not there.
fn without_nulls(patch: &Entry, report: &mut Report) -> Entry {
    let mut entry = patch.clone();
    if let (Value::Map(kept), Value::Map(patches)) = (&mut entry.node.value, &patch.node.value) {
        kept.clear();
        merge(kept, patches, report);
    }
    entry
}

/// `build: path` is short for `build: {context: path}`, and a patch of one key must not lose the path.
fn widen_builds(root: &mut Node) {
    let Some(services) = entries_of(root, "services") else {
        return;
    };
    for service in services {
        let Value::Map(keys) = &mut service.node.value else {
            continue;
        };
        for build in keys.iter_mut().filter(|entry| entry.key == "build") {
            if matches!(build.node.value, Value::Plain(_) | Value::Quoted(_)) {
                let node = build.node.clone();
                let key_span = build.key_span.clone();
                build.node.value = Value::Map(vec![Entry {
                    key: "context".into(),
                    key_span,
                    node,
                }]);
            }
        }
    }
}

fn entries_of<'a>(root: &'a mut Node, key: &str) -> Option<&'a mut Vec<Entry>> {
    let Value::Map(entries) = &mut root.value else {
        return None;
    };
    match &mut entries
        .iter_mut()
        .find(|entry| entry.key == key)?
        .node
        .value
    {
        Value::Map(entries) => Some(entries),
        _ => None,
    }
}

/// The profiles that hold, in the order of the file. A name that no profile has goes to `report`.
pub fn active(profiles: &[Profile], selection: &Selection<'_>, report: &mut Report) -> Vec<usize> {
    let active: Vec<usize> = (0..profiles.len())
        .filter(|&it| profiles[it].holds(selection))
        .collect();
    if let (Some(name), true) = (selection.name, active.is_empty()) {
        let names = || profiles.iter().map(|profile| profile.name.it.as_str());
        let at = profiles
            .first()
            .map_or(0..0, |profile| profile.name.span.clone());
        let mistake = Diagnostic::new(at, format!("there is no profile {name:?}"));
        let mistake = match names().collect::<Vec<_>>() {
            names if names.is_empty() => mistake.help("this file has no profiles"),
            names => mistake.help(format!("profiles: {}", names.join(", "))),
        };
        report.add(mistake.suggest(name, names()));
    }
    active
}
