//! What kustomize will read, found by following the kustomizations as it does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::yaml;
use crate::stack::KUSTOMIZATIONS;

/// Fields that name no files.
const HARMLESS: [&str; 17] = [
    "apiVersion",
    "kind",
    "metadata",
    "namePrefix",
    "nameSuffix",
    "namespace",
    "commonLabels",
    "commonAnnotations",
    "labels",
    "images",
    "replicas",
    "vars",
    "generatorOptions",
    "buildMetadata",
    "sortOptions",
    "inventory",
    "validate",
];

/// The inputs of a kustomization.
#[derive(Debug, Default)]
pub struct Inputs {
    /// All files found.
    pub files: BTreeSet<PathBuf>,
    /// Whether these are all: false when something is remote, or made by a plugin.
    pub complete: bool,
}

/// Follows a kustomization.
pub fn of(dir: &Path) -> Inputs {
    let mut inputs = Inputs {
        files: BTreeSet::new(),
        complete: true,
    };
    folder(dir, &mut inputs, &mut BTreeSet::new());
    inputs
}

fn folder(dir: &Path, inputs: &mut Inputs, seen: &mut BTreeSet<PathBuf>) {
    if !seen.insert(dir.to_owned()) {
        return;
    }
    let Some(file) = KUSTOMIZATIONS
        .iter()
        .map(|name| dir.join(name))
        .find(|file| file.is_file())
    else {
        inputs.complete = false;
        return;
    };
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    inputs.files.insert(file);
    let documents = yaml::documents(&text).unwrap_or_default();
    let [
        yaml::Document {
            value: Value::Object(fields),
            ..
        },
    ] = &documents[..]
    else {
        inputs.complete = false;
        return;
    };
    for (field, value) in fields {
        one_field(dir, field, value, inputs, seen);
    }
}

fn one_field(
    dir: &Path,
    field: &str,
    value: &Value,
    inputs: &mut Inputs,
    seen: &mut BTreeSet<PathBuf>,
) {
    let items = || value.as_array().into_iter().flatten();
    match field {
        "resources" | "bases" | "components" | "crds" | "configurations" => {
            items().for_each(|item| path(dir, item.as_str(), inputs, seen));
        }
        "patchesStrategicMerge" => {
            let files = items()
                .filter_map(Value::as_str)
                .filter(|text| !text.contains('\n'));
            files.for_each(|file| path(dir, Some(file), inputs, seen));
        }
        "patches" | "patchesJson6902" | "replacements" => {
            let paths = items().filter_map(|item| item.get("path"));
            paths.for_each(|file| path(dir, file.as_str(), inputs, seen));
        }
        "openapi" => {
            let files = value.get("path").into_iter();
            files.for_each(|file| path(dir, file.as_str(), inputs, seen));
        }
        "configMapGenerator" | "secretGenerator" => {
            items().for_each(|item| generator(dir, item, inputs, seen));
        }
        harmless if HARMLESS.contains(&harmless) => {}
        // Helm charts, plugins, and what a later kustomize may know.
        _ => inputs.complete = false,
    }
}

fn generator(dir: &Path, item: &Value, inputs: &mut Inputs, seen: &mut BTreeSet<PathBuf>) {
    let list = |field: &str| {
        item.get(field)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    for file in list("files").filter_map(Value::as_str) {
        let file = file.split_once('=').map_or(file, |(_, file)| file);
        path(dir, Some(file), inputs, seen);
    }
    for file in list("envs").chain(item.get("env")) {
        path(dir, file.as_str(), inputs, seen);
    }
}

fn path(dir: &Path, text: Option<&str>, inputs: &mut Inputs, seen: &mut BTreeSet<PathBuf>) {
    let local = text.and_then(|text| dir.join(text).canonicalize().ok());
    match local {
        Some(path) if path.is_dir() => folder(&path, inputs, seen),
        Some(path) => {
            inputs.files.insert(path);
        }
        None => inputs.complete = false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn everything_that_is_named_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        write(
            &root,
            &[
                (
                    "dev/kustomization.yaml",
                    "namePrefix: dev-\nresources: [../base]\ncomponents: [../part]\n\
              patches: [{path: p.yaml}, {patch: '- op: x'}]\n\
              configMapGenerator: [{name: a, files: [k=conf/a.toml, b.txt], envs: [c.env]}]\n",
                ),
                ("dev/p.yaml", ""),
                ("dev/conf/a.toml", ""),
                ("dev/b.txt", ""),
                ("dev/c.env", ""),
                ("dev/unused.yaml", ""),
                ("base/Kustomization", "resources: [a.yaml]\n"),
                ("base/a.yaml", ""),
                ("part/kustomization.yml", "kind: Component\n"),
            ],
        );
        let inputs = of(&root.join("dev"));
        let names: Vec<_> = inputs
            .files
            .iter()
            .map(|it| it.strip_prefix(&root).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "base/Kustomization",
                "base/a.yaml",
                "dev/b.txt",
                "dev/c.env",
                "dev/conf/a.toml",
                "dev/kustomization.yaml",
                "dev/p.yaml",
                "part/kustomization.yml"
            ]
        );
        assert!(inputs.complete);
    }

    #[test]
    fn what_cannot_be_followed_is_not_complete() {
        for text in [
            "resources: ['https://example.org/x.yaml']",
            "helmCharts: [{name: x}]",
            "resources: [gone.yaml]",
            "generators: [g.yaml]",
            "a: 1\na: 2",
        ] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &[("kustomization.yaml", text)]);
            assert!(!of(dir.path()).complete, "{text}");
        }
    }
}
