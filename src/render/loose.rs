//! Objects that no stack names: of a folder, a file or a text.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Place, Rendered, Source, manifests, object, yaml};
use crate::error::{Failure, Result};

/// What manifests' names end with.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// All manifests below a folder, or those of one file. Documents that are no objects are left out, with a note.
///
/// # Errors
/// Files that are wrong (file and line), or nothing in them.
pub fn files(path: &Path) -> Result<Rendered> {
    let mut files = Vec::new();
    if path.is_dir() {
        walk(path, &mut files);
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    let root = if path.is_dir() {
        path
    } else {
        path.parent().unwrap_or(path)
    };
    let mut sources = Vec::new();
    for file in &files {
        sources.extend(manifests::read_file(root, file)?);
    }
    let mut rendered = objects(sources, &path.display().to_string())?;
    rendered.inputs = files;
    Ok(rendered)
}

/// The objects of a text that came through a pipe.
///
/// # Errors
/// The text is wrong (line), or nothing is in it.
pub fn text(text: &str) -> Result<Rendered> {
    let shown = "standard input";
    let documents =
        yaml::documents(text).map_err(|error| manifests::mistake(shown, text, &error))?;
    let source = |document: yaml::Document| Source {
        origin: format!("{shown}:{}", document.line),
        place: Place::Document {
            file: PathBuf::new(),
            line: document.line,
            items: vec![],
        },
        value: document.value,
    };
    objects(documents.into_iter().map(source).collect(), shown)
}

fn objects(sources: Vec<Source>, shown: &str) -> Result<Rendered> {
    let (sources, others): (Vec<_>, Vec<_>) = sources
        .into_iter()
        .partition(|source| is_object(&source.value));
    if sources.is_empty() {
        let failure = Failure::config(format!("there are no Kubernetes objects in {shown}"));
        return Err(failure.remedy("name a folder, a file or `-` with manifests in it"));
    }
    // A folder of several environments has each object several times.
    let twice = |failure: Failure| {
        failure.remedy("name what is applied as a whole, such as one environment's folder")
    };
    let note = |source: &Source| format!("{} is no Kubernetes object: left out", source.origin);
    Ok(Rendered {
        notes: others.iter().map(note).collect(),
        objects: object::parse("default", sources).map_err(twice)?,
        ..Rendered::default()
    })
}

/// Values, kustomizations and the like have no kind, or no name.
fn is_object(value: &Value) -> bool {
    let has = |pointer: &str| value.pointer(pointer).is_some();
    let list = has("/items");
    has("/apiVersion") && has("/kind") && (list || has("/metadata/name"))
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        // A link to a folder may lead in a circle.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !hidden {
            walk(&path, files);
        } else if path.is_file()
            && path
                .extension()
                .is_some_and(|it| ENDINGS.iter().any(|end| it == *end))
        {
            files.push(path);
        }
    }
}
