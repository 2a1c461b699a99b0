//! What a project that llmdev does not know yet has: manifests, Dockerfiles, and what skaffold.yaml says of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::stack::KUSTOMIZATIONS;

/// Deeper folders are not looked into.
const DEEPEST: usize = 5;

/// Folders that hold other people's files.
const FOREIGN: [&str; 6] = [
    "node_modules",
    "target",
    "vendor",
    "venv",
    "dist",
    "__pycache__",
];

/// What was found; paths are relative to the project.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Folders with a kustomization, the one most likely meant first.
    pub kustomizations: Vec<String>,
    /// Folders with a chart, and what the chart calls itself.
    pub charts: Vec<(String, Option<String>)>,
    /// Manifests that no kustomization and no chart has.
    pub manifests: Vec<String>,
    /// Dockerfiles, and images that skaffold.yaml gives them.
    pub images: Vec<Image>,
    /// What skaffold.yaml forwards: a workload's or Service's name, remote port and local port.
    pub forwards: Vec<(String, u16, u16)>,
}

/// An image that is built here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// Its name in the manifests, if that is known.
    pub name: Option<String>,
    /// The folder that it is made from.
    pub context: String,
    /// In the context, if it is not called `Dockerfile`.
    pub dockerfile: Option<String>,
}

pub(super) fn survey(root: &Path) -> Survey {
    let mut files = Vec::new();
    walk(root, root, 0, &mut files);
    let folder = |file: &str| match file.rsplit_once('/') {
        Some((folder, _)) => folder.to_owned(),
        None => ".".to_owned(),
    };
    let name = |file: &str| file.rsplit('/').next().unwrap_or_default().to_owned();
    let folders = |is: &dyn Fn(&str) -> bool| -> Vec<String> {
        files
            .iter()
            .filter(|file| is(&name(file)))
            .map(|file| folder(file))
            .collect()
    };
    let mut found = Survey {
        kustomizations: folders(&|name| KUSTOMIZATIONS.contains(&name)),
        charts: folders(&|name| name == "Chart.yaml")
            .into_iter()
            .map(|folder| {
                let chart = read_yaml(&root.join(&folder).join("Chart.yaml"));
                let name = chart.get("name").and_then(Value::as_str);
                (folder, name.map(str::to_owned))
            })
            .collect(),
        ..Survey::default()
    };
    found.kustomizations.sort_by_key(|folder| {
        (
            likelihood(folder),
            folder.matches('/').count(),
            folder.clone(),
        )
    });
    found.images = folders(&|name| name == "Dockerfile")
        .into_iter()
        .map(|context| Image {
            name: None,
            context,
            dockerfile: None,
        })
        .collect();
    let taken = |file: &str| {
        let charts = found.charts.iter().map(|(folder, _)| folder);
        let known = found.kustomizations.iter().chain(charts);
        known
            .into_iter()
            .any(|folder| folder == "." || file.starts_with(&format!("{folder}/")))
    };
    found.manifests = files
        .iter()
        .filter(|file| is_yaml(file) && !taken(file) && is_manifest(&root.join(file)))
        .cloned()
        .collect();
    if let Some(skaffold) = files.iter().find(|file| *file == "skaffold.yaml") {
        found.heed(&read_yaml(&root.join(skaffold)));
    }
    found
}

/// Development overlays first, bases and parts last.
fn likelihood(folder: &str) -> usize {
    let has = |word: &str| folder.split('/').any(|part| part == word);
    match () {
        () if has("dev") || has("development") => 0,
        () if has("local") => 1,
        () if has("base") || has("bases") || has("components") => 4,
        () if has("prod") || has("production") || has("staging") => 3,
        () => 2,
    }
}

fn walk(root: &Path, folder: &Path, depth: usize, files: &mut Vec<String>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_folder = path.is_dir() && !path.is_symlink();
        if is_folder && depth < DEEPEST && !name.starts_with('.') && !FOREIGN.contains(&&*name) {
            walk(root, &path, depth + 1, files);
        } else if path.is_file() {
            files.extend(
                path.strip_prefix(root)
                    .ok()
                    .and_then(Path::to_str)
                    .map(str::to_owned),
            );
        }
    }
}

fn is_yaml(file: &str) -> bool {
    file.ends_with(".yaml") || file.ends_with(".yml")
}

/// A Kubernetes object, and none of the files that only look like one.
fn is_manifest(path: &Path) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let key = |key: &str| text.lines().any(|line| line.starts_with(key));
    let other = [
        "skaffold/",
        "kind.x-k8s.io/",
        "kustomize.config.k8s.io/",
        "llmdev/",
    ];
    let tool = |line: &str| {
        let version = line.strip_prefix("apiVersion:").map(str::trim);
        version.is_some_and(|version| other.iter().any(|prefix| version.starts_with(prefix)))
    };
    key("apiVersion:") && key("kind:") && !text.lines().any(tool)
}

fn read_yaml(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_default();
    serde_yaml::from_str(&text).unwrap_or_default()
}

impl Survey {
    /// Takes over what skaffold.yaml says, as far as it is simple.
    fn heed(&mut self, skaffold: &Value) {
        let text = |value: &Value, path: &str| value.pointer(path)?.as_str().map(str::to_owned);
        let list = |path: &str| {
            skaffold
                .pointer(path)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
        };
        let paths = list("/manifests/kustomize/paths").chain(list("/deploy/kustomize/paths"));
        let paths: Vec<_> = paths
            .filter_map(Value::as_str)
            .map(|path| tidy(path.to_owned()))
            .collect();
        self.kustomizations
            .sort_by_key(|folder| !paths.contains(folder));
        let mut images: BTreeMap<String, Image> = BTreeMap::new();
        for artifact in list("/build/artifacts") {
            let Some(name) = text(artifact, "/image") else {
                continue;
            };
            let context = tidy(text(artifact, "/context").unwrap_or_default());
            let dockerfile =
                text(artifact, "/docker/dockerfile").filter(|file| file != "Dockerfile");
            images.insert(
                name.clone(),
                Image {
                    name: Some(name),
                    context,
                    dockerfile,
                },
            );
        }
        self.images
            .retain(|found| !images.values().any(|image| image.context == found.context));
        self.images.extend(images.into_values());
        for forward in list("/portForward") {
            let port = |key: &str| {
                forward
                    .get(key)?
                    .as_u64()
                    .and_then(|port| u16::try_from(port).ok())
            };
            if let (Some(name), Some(remote)) = (text(forward, "/resourceName"), port("port")) {
                self.forwards
                    .push((name, remote, port("localPort").unwrap_or(remote)));
            }
        }
    }
}

fn tidy(path: String) -> String {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    if path.is_empty() {
        ".".to_owned()
    } else {
        path.to_owned()
    }
}
