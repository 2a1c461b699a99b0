//! Plain manifests by globs, in the globs' order, each one's files sorted.

use std::path::{Path, PathBuf};

use globset::GlobBuilder;

use super::{Place, Source, Step, yaml};
use crate::error::{Failure, Result};

/// Reads all files that the globs match; a file that two globs match is read once.
pub fn read(root: &Path, globs: &[String]) -> Result<Step> {
    let mut step = Step::default();
    let mut files: Vec<PathBuf> = Vec::new();
    for glob in globs {
        let fixed = root.join(fixed_part(glob));
        let found = matching(root, &fixed, glob)?;
        if found.is_empty() {
            let what = format!("`render` names {glob}, and no file matches");
            return Err(
                Failure::config(what).remedy(format!("globs are relative to {}", root.display()))
            );
        }
        // The folder is watched for files to come.
        step.inputs.extend(fixed.is_dir().then_some(fixed));
        for file in found {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    for file in files {
        step.sources.extend(read_file(root, &file)?);
        step.inputs.push(file);
    }
    Ok(step)
}

/// The documents of a file, with their places.
pub fn read_file(root: &Path, file: &Path) -> Result<Vec<Source>> {
    let shown = file
        .strip_prefix(root)
        .unwrap_or(file)
        .display()
        .to_string();
    let bytes = std::fs::read(file).map_err(|error| {
        let what = format!("cannot read {shown}");
        Failure::config(what).because(error)
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::config(format!("{shown} is not text in UTF-8")))?;
    let documents = yaml::documents(&text).map_err(|error| mistake(&shown, &text, &error))?;
    let source = |document: yaml::Document| Source {
        origin: format!("{shown}:{}", document.line),
        place: Place::Document {
            file: file.to_owned(),
            line: document.line,
            items: vec![],
        },
        value: document.value,
    };
    Ok(documents.into_iter().map(source).collect())
}

/// A mistake in a manifest, with the line that it is in.
pub fn mistake(shown: &str, text: &str, error: &yaml::Error) -> Failure {
    let what = format!("{shown}:{}:{} is not good YAML", error.line, error.column);
    let failure = Failure::config(what).cause(error.what.clone());
    match text.lines().nth(error.line - 1) {
        Some(line) => failure.detail([format!("{:>4} | {line}", error.line)]),
        None => failure,
    }
}

/// The folders before the first glob character.
fn fixed_part(glob: &str) -> &str {
    let special = glob.find(['*', '?', '[', '{', '\\']).unwrap_or(glob.len());
    glob[..special].rfind('/').map_or("", |end| &glob[..end])
}

fn matching(root: &Path, fixed: &Path, glob: &str) -> Result<Vec<PathBuf>> {
    let glob = glob.trim_start_matches("./");
    let plain = root.join(glob);
    if plain.is_file() {
        return Ok(vec![plain]);
    }
    let matcher = GlobBuilder::new(glob)
        .literal_separator(true)
        .build()
        .map_err(|error| {
            let what = format!("`render` has a glob that is none: {glob}");
            Failure::config(what).because(error)
        })?;
    let matcher = matcher.compile_matcher();
    let mut found = Vec::new();
    walk(
        fixed,
        glob.contains("**"),
        glob.matches('/').count(),
        root,
        &mut |path| {
            let relative = path.strip_prefix(root).unwrap_or(path);
            if matcher.is_match(relative) {
                found.push(path.to_owned());
            }
        },
    );
    found.sort();
    Ok(found)
}

/// All files below a folder, no deeper than the glob can reach.
fn walk(dir: &Path, any_depth: bool, depth: usize, root: &Path, found: &mut dyn FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && entry.file_name() != ".git" {
            let deep = path
                .strip_prefix(root)
                .map_or(0, |it| it.components().count());
            if any_depth || deep <= depth {
                walk(&path, any_depth, depth, root, found);
            }
        } else if path.is_file() {
            found(&path);
        }
    }
}
