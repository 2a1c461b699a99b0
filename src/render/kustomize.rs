//! `kustomize build`, or kubectl's own kustomize.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::keep::{Document, Keep, Output};
use super::{Place, Source, Step, aside, inputs, yaml};
use crate::error::{Failure, Result};
use crate::stack::Stack;

/// Renders a folder that has a kustomization.
pub async fn render(stack: &Stack, dir: &Path, cache: &Path) -> Result<Step> {
    let shown = dir
        .strip_prefix(&stack.root)
        .unwrap_or(dir)
        .display()
        .to_string();
    let (tool, words) = tool(&std::env::var_os("PATH").unwrap_or_default())?;
    let step = format!("{} {} {}", identity(&tool), words.join(" "), dir.display());
    let (dir_there, cache) = (dir.to_owned(), cache.to_owned());
    let (files, keep, kept) = aside(move || {
        let inputs = inputs::of(&dir_there);
        let keep = if inputs.complete {
            Keep::new(&cache, &step, &inputs.files)
        } else {
            None
        };
        let kept = keep.as_ref().and_then(Keep::get);
        Ok((inputs.files, keep, kept))
    })
    .await?;
    let output = match kept {
        Some(output) => output,
        None => {
            let output = run(&tool, &words, dir, &shown).await?;
            match keep {
                Some(keep) => keep.put(output),
                None => output,
            }
        }
    };
    let mut watched: Vec<PathBuf> = files.into_iter().collect();
    watched.push(dir.to_owned());
    let place = |_: &Path| Place::Kustomization(dir.to_owned());
    Ok(step_of(
        output,
        &format!("kustomize {shown}"),
        watched,
        place,
    ))
}

/// What a tool said, as a step. `place` says where a document stands of which the tool named this source.
pub fn step_of(
    output: Output,
    origin: &str,
    inputs: Vec<PathBuf>,
    place: impl Fn(&Path) -> Place,
) -> Step {
    let number = |(index, document): (usize, Document)| Source {
        value: document.value,
        place: place(Path::new(document.template.as_deref().unwrap_or_default())),
        origin: match document.template {
            Some(template) => format!("{origin}, {template}"),
            None => format!("{origin}, document {}", index + 1),
        },
    };
    Step {
        sources: output
            .documents
            .into_iter()
            .enumerate()
            .map(number)
            .collect(),
        notes: output
            .warnings
            .iter()
            .map(|line| format!("{origin}: {line}"))
            .collect(),
        inputs,
    }
}

fn tool(path: &OsStr) -> Result<(PathBuf, Vec<&'static str>)> {
    if let Some(tool) = find("kustomize", path) {
        return Ok((tool, vec!["build"]));
    }
    if let Some(tool) = find("kubectl", path) {
        return Ok((tool, vec!["kustomize"]));
    }
    Err(Failure::environment("neither kustomize nor kubectl is installed")
        .cause("`render` of stack.yaml has a kustomization")
        .remedy("install kustomize (https://kubectl.docs.kubernetes.io/installation/kustomize) or kubectl"))
}

/// A program in the folders of a `PATH`.
pub fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Which program it is, so that another version renders anew.
pub fn identity(tool: &Path) -> String {
    let meta = tool.metadata().ok();
    let changed = meta.as_ref().and_then(|meta| meta.modified().ok());
    format!(
        "{} {:?} {changed:?}",
        tool.display(),
        meta.map(|meta| meta.len())
    )
}

async fn run(tool: &Path, words: &[&str], dir: &Path, shown: &str) -> Result<Output> {
    let mut command = Command::new(tool);
    command.args(words).arg(dir);
    output_of(command, &format!("kustomize cannot build {shown}")).await
}

/// Runs a tool that prints manifests. It ends with the future.
pub async fn output_of(mut command: Command, failed: &str) -> Result<Output> {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| {
            let program = command
                .as_std()
                .get_program()
                .to_string_lossy()
                .into_owned();
            let failure = Failure::environment(format!("cannot run {program}"));
            failure.because(error)
        })?;
    let lines: Vec<String> = String::from_utf8_lossy(&output.stderr)
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with("Use --debug flag"))
        .map(str::to_owned)
        .collect();
    if !output.status.success() {
        let first = lines.first().map_or("it said nothing", String::as_str);
        let failure = Failure::config(failed).cause(first.trim_start_matches("Error: "));
        return Err(failure.detail(lines.iter().skip(1)));
    }
    let text = String::from_utf8(output.stdout)
        .map_err(|_| Failure::config(failed).cause("its output is not text in UTF-8"))?;
    let printed: Vec<&str> = text.lines().collect();
    let documents = yaml::documents(&text).map_err(|error| {
        let line = printed.get(error.line - 1).copied().unwrap_or_default();
        let place = match template_of(&printed, error.line) {
            Some(template) => format!("what {template} comes to"),
            None => format!("line {} of its output", error.line),
        };
        Failure::config(failed)
            .cause(format!("{place} is not good YAML: {}", error.what))
            .detail([line])
    })?;
    let documents = documents.into_iter().map(|document| Document {
        template: template_of(&printed, document.line).map(str::to_owned),
        value: document.value,
    });
    let documents = documents.collect();
    Ok(Output {
        documents,
        warnings: lines,
    })
}

/// Helm writes `# Source: chart/templates/a.yaml` above each document.
fn template_of<'a>(lines: &[&'a str], line: usize) -> Option<&'a str> {
    let before = lines.get(..line).unwrap_or(lines);
    let own = before
        .iter()
        .rev()
        .skip_while(|line| line.starts_with("---"));
    let mut own = own.take_while(|line| !line.starts_with("---"));
    own.find_map(|line| line.strip_prefix("# Source: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kustomize_is_taken_before_kubectl() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().as_os_str();
        let failure = tool(path).unwrap_err();
        assert_eq!(failure.kind, crate::error::Kind::Environment);
        assert!(failure.remedy.is_some());
        std::fs::write(dir.path().join("kubectl"), "").unwrap();
        assert_eq!(tool(path).unwrap().1, ["kustomize"]);
        std::fs::write(dir.path().join("kustomize"), "").unwrap();
        assert_eq!(tool(path).unwrap().1, ["build"]);
    }
}
