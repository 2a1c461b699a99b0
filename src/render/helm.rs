//! `helm template` of a chart in the repository.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use super::keep::{Keep, Output};
use super::kustomize::{find, identity, output_of, step_of};
use super::{Place, Step};
use crate::error::{Failure, Result};
use crate::stack::{HelmRelease, Stack};

/// Renders a release. Hooks and tests are left out, with a note that names them.
pub async fn render(stack: &Stack, release: &HelmRelease, cache: &Path) -> Result<Step> {
    let tool = find("helm", &std::env::var_os("PATH").unwrap_or_default()).ok_or_else(|| {
        Failure::environment("helm is not installed")
            .cause(format!(
                "`render` of stack.yaml has the chart of {}",
                release.release
            ))
            .remedy("install helm (https://helm.sh/docs/intro/install)")
    })?;
    for values in &release.values {
        if !values.is_file() {
            let what = format!("the values file {} is not there", values.display());
            return Err(Failure::config(what).remedy("check `helm.values` in stack.yaml"));
        }
    }
    let words = words(stack, release);
    let mut files: BTreeSet<PathBuf> = release.values.iter().cloned().collect();
    tree(&release.chart, &mut files);
    let step = format!("{} {words:?}", identity(&tool));
    let keep = Keep::new(cache, &step, &files);
    let output = match keep.as_ref().and_then(Keep::get) {
        Some(output) => output,
        None => {
            let mut command = Command::new(&tool);
            command.args(&words);
            let failed = format!("helm cannot render the release {}", release.release);
            let output = without_hooks(output_of(command, &failed).await?);
            match keep {
                Some(keep) => keep.put(output),
                None => output,
            }
        }
    };
    let mut inputs: Vec<PathBuf> = release.values.clone();
    inputs.push(release.chart.clone());
    let place = |named: &Path| template(&release.chart, named);
    Ok(step_of(
        output,
        &format!("helm {}", release.release),
        inputs,
        place,
    ))
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
        release.chart.display().to_string(),
        "--include-crds".to_owned(),
        format!("--namespace={namespace}"),
    ];
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

fn without_hooks(mut output: Output) -> Output {
    let mut left_out = Vec::new();
    let (documents, sources) = (output.documents, output.sources);
    let kept = documents.into_iter().zip(sources).filter(|(document, _)| {
        let hook = document.pointer("/metadata/annotations/helm.sh~1hook");
        let Some(hook) = hook.and_then(Value::as_str) else {
            return true;
        };
        let name = document
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or("?");
        left_out.push(format!("{name} ({hook})"));
        false
    });
    (output.documents, output.sources) = kept.unzip();
    if !left_out.is_empty() {
        output
            .warnings
            .push(format!("hooks are not run: {}", left_out.join(", ")));
    }
    output
}
