//! Where a field stands in the files. What cannot be known is not said.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::Value;

use super::field::{Field, Step};
use crate::render::text::{self, Kind, Node};
use crate::render::{Object, Place, kustomize_inputs};
use crate::stack::KUSTOMIZATIONS;

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// Absolute; empty is standard input.
    pub file: PathBuf,
    /// From 1, where it is known.
    pub line: Option<usize>,
}

/// Looks fields up; each file is read once.
#[derive(Default)]
pub struct Places {
    files: HashMap<PathBuf, Rc<Vec<Node>>>,
    folders: HashMap<PathBuf, Rc<Kustomization>>,
}

/// The documents that a kustomization is made of, with their files.
#[derive(Default)]
struct Kustomization {
    /// `namePrefix` and `nameSuffix` of all that take part.
    prefixes: Vec<String>,
    suffixes: Vec<String>,
    kustomizations: Vec<(PathBuf, Rc<Vec<Node>>)>,
    resources: Vec<(PathBuf, Rc<Vec<Node>>)>,
    patches: Vec<(PathBuf, Rc<Vec<Node>>)>,
}

/// How far a path could be followed.
struct Reached {
    line: usize,
    /// So many steps.
    depth: usize,
    /// To its end, where the rendered value stands.
    whole: bool,
}

impl Places {
    /// Knows what came through standard input.
    pub fn with_input(input: &str) -> Self {
        let mut places = Places::default();
        places
            .files
            .insert(PathBuf::new(), Rc::new(text::documents(input)));
        places
    }

    /// Where a field of an object stands, or the nearest that has it.
    pub fn of(&mut self, object: &Object, field: &Field) -> Option<Spot> {
        match &object.place {
            Place::Unknown => None,
            Place::Document { file, line, items } => {
                self.document(object, field, file, *line, items)
            }
            Place::Kustomization(folder) => {
                let kustomization = self.kustomization(folder);
                let generated = kustomization.generated(object, field);
                generated.or_else(|| kustomization.written(object, field))
            }
            Place::Template(file) => Some(template(file, &object.kind)),
        }
    }

    fn document(
        &mut self,
        object: &Object,
        field: &Field,
        file: &Path,
        line: usize,
        items: &[usize],
    ) -> Option<Spot> {
        let nodes = self.nodes(file);
        let spot = |line| {
            Some(Spot {
                file: file.to_owned(),
                line: Some(line),
            })
        };
        let Ok(at) = nodes.binary_search_by_key(&line, |node| node.line) else {
            return spot(line);
        };
        let mut node = &nodes[at];
        for index in items {
            let Some(item) = node.items("items").get(*index) else {
                return spot(line);
            };
            node = item;
        }
        spot(follow(node, &object.value, field, true).line)
    }

    fn nodes(&mut self, file: &Path) -> Rc<Vec<Node>> {
        if let Some(known) = self.files.get(file) {
            return Rc::clone(known);
        }
        let nodes = Rc::new(text::documents(
            &std::fs::read_to_string(file).unwrap_or_default(),
        ));
        self.files.insert(file.to_owned(), Rc::clone(&nodes));
        nodes
    }

    fn kustomization(&mut self, folder: &Path) -> Rc<Kustomization> {
        if let Some(known) = self.folders.get(folder) {
            return Rc::clone(known);
        }
        let files = kustomize_inputs(folder).files;
        let is_yaml = |file: &Path| {
            file.extension()
                .is_some_and(|it| it == "yaml" || it == "yml")
        };
        let mut all = Kustomization::default();
        let mut named = HashSet::new();
        for file in &files {
            let name = file.file_name().and_then(|it| it.to_str());
            if !name.is_some_and(|name| KUSTOMIZATIONS.contains(&name)) {
                continue;
            }
            let nodes = self.nodes(file);
            for node in nodes.iter() {
                let text = |key: &str| {
                    node.text_at(key)
                        .filter(|it| !it.is_empty())
                        .map(str::to_owned)
                };
                all.prefixes.extend(text("namePrefix"));
                all.suffixes.extend(text("nameSuffix"));
                let resources = node.items("resources").iter().chain(node.items("bases"));
                let dir = file.parent().unwrap_or(file);
                named.extend(resources.filter_map(|it| dir.join(it.text()?).canonicalize().ok()));
            }
            all.kustomizations.push((file.clone(), nodes));
        }
        for file in files.iter().filter(|file| is_yaml(file)) {
            if all.kustomizations.iter().any(|(known, _)| known == file) {
                continue;
            }
            let nodes = self.nodes(file);
            let list = if named.contains(file) {
                &mut all.resources
            } else {
                &mut all.patches
            };
            list.push((file.clone(), nodes));
        }
        let all = Rc::new(all);
        self.folders.insert(folder.to_owned(), Rc::clone(&all));
        all
    }
}

impl Kustomization {
    /// The last patch that has the field as it was rendered, else the one resource that the object was made from. A
    /// patch that comes nearer to the field than the resource, such as one that adds a container, wins as well.
    fn written(&self, object: &Object, field: &Field) -> Option<Spot> {
        let reach = |(file, node): (&Path, &Node)| {
            let reached = follow(node, &object.value, field, false);
            (file.to_owned(), reached)
        };
        let resources = self.documents(&self.resources, object);
        let resource = match resources[..] {
            [one] => Some(reach(one)),
            _ => None,
        };
        let near = resource
            .as_ref()
            .map_or(usize::MAX, |(_, reached)| reached.depth);
        let patches = self.documents(&self.patches, object).into_iter().rev();
        let patch = patches
            .map(reach)
            .find(|(_, reached)| reached.whole || reached.depth > near);
        let (file, reached) = patch.or(resource)?;
        Some(Spot {
            file,
            line: Some(reached.line),
        })
    }

    /// The generator of a ConfigMap or Secret.
    fn generated(&self, object: &Object, field: &Field) -> Option<Spot> {
        let generator = match object.kind.as_str() {
            "ConfigMap" => "configMapGenerator",
            "Secret" => "secretGenerator",
            _ => return None,
        };
        let mut found = Vec::new();
        for (file, nodes) in &self.kustomizations {
            for entry in nodes.iter().flat_map(|node| node.items(generator)) {
                let name = entry.text_at("name").unwrap_or_default();
                if self.made(&object.name, name) || self.made(without_hash(&object.name), name) {
                    found.push((file, entry));
                }
            }
        }
        // One that merges into another has its own values only.
        let key = match field.0.get(1) {
            Some(Step::Key(key)) => Some(key),
            _ => None,
        };
        let literal = |(file, entry): &(&PathBuf, &Node)| {
            let key = key?;
            let literals = entry.items("literals").iter();
            let mut literals = literals.filter(|it| {
                it.text()
                    .and_then(|it| it.split_once('='))
                    .is_some_and(|it| it.0 == key)
            });
            Some(Spot {
                file: file.to_path_buf(),
                line: Some(literals.next()?.line),
            })
        };
        let whole = match found[..] {
            [(file, entry)] => Some(Spot {
                file: file.clone(),
                line: Some(entry.line),
            }),
            _ => None,
        };
        found.iter().rev().find_map(literal).or(whole)
    }

    fn documents<'a>(
        &self,
        among: &'a [(PathBuf, Rc<Vec<Node>>)],
        object: &Object,
    ) -> Vec<(&'a Path, &'a Node)> {
        let group = |version: &str| {
            version
                .rsplit_once('/')
                .map_or(String::new(), |it| it.0.to_owned())
        };
        let is = |node: &&Node| {
            node.text_at("kind") == Some(&object.kind)
                && node.text_at("apiVersion").map(group).as_deref() == Some(object.group())
                && node
                    .get("metadata")
                    .and_then(|it| it.1.text_at("name"))
                    .is_some_and(|name| self.made(&object.name, name))
        };
        let all = among
            .iter()
            .flat_map(|(file, nodes)| nodes.iter().map(move |node| (file.as_path(), node)));
        let all: Vec<_> = all.filter(|(_, node)| is(node)).collect();
        let exact = |node: &Node| {
            node.get("metadata").and_then(|it| it.1.text_at("name")) == Some(&object.name)
        };
        match all.iter().any(|(_, node)| exact(node)) {
            true => all.into_iter().filter(|(_, node)| exact(node)).collect(),
            false => all,
        }
    }

    /// Whether a rendered name is this one with prefixes and suffixes that the kustomizations declare.
    fn made(&self, rendered: &str, name: &str) -> bool {
        let matches = rendered.match_indices(name);
        !name.is_empty()
            && matches.into_iter().any(|(at, _)| {
                is_made_of(&rendered[..at], &self.prefixes)
                    && is_made_of(&rendered[at + name.len()..], &self.suffixes)
            })
    }
}

/// Whether a text is nothing but these parts.
fn is_made_of(text: &str, parts: &[String]) -> bool {
    text.is_empty()
        || parts.iter().any(|part| {
            text.strip_prefix(part.as_str())
                .is_some_and(|rest| is_made_of(rest, parts))
        })
}

/// Without the ten characters that kustomize adds to a generated name.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((before, hash))
            if hash.len() == 10 && hash.bytes().all(|it| b"2456789bcdfghkmt".contains(&it)) =>
        {
            before
        }
        _ => name,
    }
}

/// Follows a path as far as the text has it. What the rendered object has in a list is found in the text by its name;
/// by its number only where the text is the object (`exact`).
fn follow(root: &Node, rendered: &Value, field: &Field, exact: bool) -> Reached {
    let (mut node, mut line, mut value) = (root, root.line, Some(rendered));
    for (depth, step) in field.0.iter().enumerate() {
        let further = match step {
            Step::Key(key) => {
                value = value.and_then(|it| it.get(key));
                node.get(key)
            }
            Step::Item(index) => {
                value = value.and_then(|it| it.get(index));
                let name = value.and_then(|it| it.get("name")).and_then(Value::as_str);
                let item = match (&node.kind, name, exact) {
                    (Kind::List(items), _, true) => items.get(*index),
                    (Kind::List(items), Some(name), false) => {
                        items.iter().find(|it| it.text_at("name") == Some(name))
                    }
                    _ => None,
                };
                item.map(|item| (item.line, item))
            }
        };
        let Some(further) = further else {
            return Reached {
                line,
                depth,
                whole: false,
            };
        };
        let differs = match (&further.1.kind, value) {
            (Kind::Scalar(text), Some(Value::String(is))) => text != is,
            (Kind::Scalar(text), Some(is @ (Value::Number(_) | Value::Bool(_)))) => {
                is.to_string().ne(text)
            }
            _ => false,
        };
        // Something else was put in its place.
        if differs && !exact {
            return Reached {
                line,
                depth,
                whole: false,
            };
        }
        (line, node) = further;
    }
    Reached {
        line,
        depth: field.0.len(),
        whole: value.is_some(),
    }
}

/// A template has no lines of the object; that of its kind is known where it stands there once.
fn template(file: &Path, kind: &str) -> Spot {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let is = |(index, line): (usize, &str)| {
        (line.trim_end() == format!("kind: {kind}")).then_some(index + 1)
    };
    let lines: Vec<_> = text.lines().enumerate().filter_map(is).collect();
    Spot {
        file: file.to_owned(),
        line: if let [line] = lines[..] {
            Some(line)
        } else {
            None
        },
    }
}
