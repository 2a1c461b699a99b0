//! `helm template` of a chart: a folder of the repository, or one that helm fetches.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::process::Command;

use super::keep::{Keep, Output};
use super::kustomize::{find, identity, output_of, step_of};
use super::object::{child, text};
use super::{Place, Step};
use crate::error::{Failure, Result};
use crate::stack::{Chart, HelmRelease, Stack};

/// Kinds that are in no namespace, as far as charts commonly have them.
const CLUSTER_SCOPED: [&str; 11] = [
    "APIService",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "PersistentVolume",
    "PriorityClass",
    "StorageClass",
    "ValidatingWebhookConfiguration",
];

/// Renders a release. Hooks are left out, with a note that names them.
pub async fn render(stack: &Stack, release: &HelmRelease, cache: &Path) -> Result<Step> {
    let tool = tool(&std::env::var_os("PATH").unwrap_or_default(), release)?;
    for values in &release.values {
        if !values.is_file() {
            let what = format!("the values file {} is not there", values.display());
            return Err(Failure::config(what).remedy("check `helm.values` in stack.yaml"));
        }
    }
    let words = words(stack, release);
    let mut files: BTreeSet<PathBuf> = release.values.iter().cloned().collect();
    if let Chart::Folder(folder) = &release.chart {
        tree(folder, &mut files);
    }
    let step = format!("{} {words:?}", identity(&tool));
    let keep = Keep::new(cache, &step, &files);
    let output = match keep.as_ref().and_then(Keep::get) {
        Some(output) => output,
        None => {
            let mut command = Command::new(&tool);
            command.args(&words);
            let failed = format!("helm cannot render the release {}", release.release);
            let output = output_of(command, &failed).await;
            let mut output = output.map_err(|failure| with_a_way_on(failure, release))?;
            without_hooks(&mut output);
            in_namespace(&mut output, release);
            match keep {
                Some(keep) => keep.put(output),
                None => output,
            }
        }
    };
    let mut inputs: Vec<PathBuf> = release.values.clone();
    if let Chart::Folder(folder) = &release.chart {
        inputs.push(folder.clone());
    }
    let place = |named: &Path| match &release.chart {
        Chart::Folder(folder) => template(folder, named),
        Chart::Fetched { .. } => Place::Unknown,
    };
    Ok(step_of(
        output,
        &format!("helm {}", release.release),
        inputs,
        place,
    ))
}

fn tool(path: &OsStr, release: &HelmRelease) -> Result<PathBuf> {
    find("helm", path).ok_or_else(|| {
        Failure::environment("helm is not installed")
            .cause(format!(
                "`render` of stack.yaml has the chart of {}",
                release.release
            ))
            .remedy("install helm (https://helm.sh/docs/intro/install)")
    })
}

/// A chart that needs others brings them in its folder `charts`.
fn with_a_way_on(failure: Failure, release: &HelmRelease) -> Failure {
    match &release.chart {
        Chart::Folder(chart) if failure.line().contains("missing in charts/ directory") => {
            failure.remedy(format!("helm dependency build {}", chart.display()))
        }
        _ => failure,
    }
}

/// Helm names a template by its chart's name and its path in the chart.
fn template(chart: &Path, named: &Path) -> Place {
    let file = chart.join(named.components().skip(1).collect::<PathBuf>());
    if named.components().count() > 1 && file.is_file() {
        Place::Template(file)
    } else {
        Place::Unknown
    }
}

fn words(stack: &Stack, release: &HelmRelease) -> Vec<String> {
    let namespace = release.namespace.as_ref().unwrap_or(&stack.namespace);
    let mut words = vec![
        "template".to_owned(),
        release.release.clone(),
        "--include-crds".to_owned(),
        format!("--namespace={namespace}"),
    ];
    match &release.chart {
        Chart::Folder(folder) => words.push(folder.display().to_string()),
        Chart::Fetched {
            name,
            repo,
            version,
        } => {
            words.extend([name.clone(), format!("--version={version}")]);
            words.extend(repo.iter().map(|repo| format!("--repo={repo}")));
        }
    }
    words.extend(
        release
            .values
            .iter()
            .map(|file| format!("--values={}", file.display())),
    );
    words.extend(
        release
            .set
            .iter()
            .map(|(key, value)| format!("--set={key}={}", literal(value))),
    );
    words
}

/// Helm takes a comma for the next key, but in a list in braces.
fn literal(value: &str) -> String {
    if value.starts_with('{') {
        value.to_owned()
    } else {
        value.replace(',', "\\,")
    }
}

/// All files of a chart.
fn tree(dir: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            tree(&path, files);
        } else if path.is_file() {
            files.insert(path);
        }
    }
}

/// Hooks belong to an installation's steps, which there are none of here. Tests are run by `helm test`: an
/// installation leaves them out as well, and says nothing of it.
fn without_hooks(output: &mut Output) {
    let mut hooks = Vec::new();
    output.documents.retain(|document| {
        let hook = text(&document.value, "/metadata/annotations/helm.sh~1hook");
        let Some(hook) = hook else {
            return true;
        };
        let is_test = |event: &str| event.trim().starts_with("test");
        if !hook.split(',').all(is_test) {
            let name = text(&document.value, "/metadata/name").unwrap_or_default();
            hooks.push(format!("{name} ({hook})"));
        }
        false
    });
    if !hooks.is_empty() {
        let line = format!("hooks are not run: {}", hooks.join(", "));
        output.warnings.push(line);
    }
}

/// What names no namespace goes to the release's, as with `helm install`. For what is in no namespace it means nothing.
fn in_namespace(output: &mut Output, release: &HelmRelease) {
    let Some(namespace) = &release.namespace else {
        return;
    };
    for document in &mut output.documents {
        let named = text(&document.value, "/metadata/namespace").is_some();
        let kind = text(&document.value, "/kind").unwrap_or_default();
        if named || CLUSTER_SCOPED.contains(&kind.as_str()) {
            continue;
        }
        if let Some(metadata) = child(&mut document.value, "metadata") {
            metadata["namespace"] = json!(namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helm_is_needed_for_a_chart_only() {
        let release = HelmRelease {
            release: "router".into(),
            chart: Chart::Folder("charts/router".into()),
            values: Vec::new(),
            set: std::collections::BTreeMap::new(),
            namespace: None,
        };
        let dir = tempfile::tempdir().unwrap();
        let failure = tool(dir.path().as_os_str(), &release).unwrap_err();
        assert_eq!(failure.kind, crate::error::Kind::Environment);
        assert_eq!(
            failure.line(),
            "helm is not installed: `render` of stack.yaml has the chart of router"
        );
        std::fs::write(dir.path().join("helm"), "").unwrap();
        assert!(tool(dir.path().as_os_str(), &release).is_ok());
    }
}
