//! The way from a file's name to a checked [`Stack`].

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Diagnostics, Report, shorten};
use super::profile::{self, Profile, Selection};
use super::tree::{self, Node, Value};
use super::{Stack, check, file};
use crate::error::Failure;

/// The file's name.
pub const FILE_NAME: &str = "stack.yaml";
/// What this llmdev reads.
pub const API_VERSION: &str = "llmdev/v1";
/// In bytes. No file that a person writes is larger.
const MAX_SIZE: usize = 1 << 20;
/// So many profiles are tried that do not hold.
const MAX_REHEARSED: usize = 100;

/// `stack.yaml` in a folder or the nearest one above it, absolute.
///
/// # Errors
/// There is none.
pub fn find(start: &Path) -> Result<PathBuf, Failure> {
    let start = std::path::absolute(start).unwrap_or_else(|_| start.to_owned());
    if let Some(folder) = start
        .ancestors()
        .find(|folder| folder.join(FILE_NAME).is_file())
    {
        return Ok(folder.join(FILE_NAME));
    }
    let searched = start.ancestors().map(|folder| folder.display().to_string());
    let searched = searched.collect::<Vec<_>>().join(", ");
    Err(
        Failure::config(format!("there is no {FILE_NAME} here or in a folder above"))
            .cause(format!("looked in {searched}"))
            .remedy("go to the stack's folder, or name the file with -f FILE"),
    )
}

/// Reads and checks a file. Profiles are activated by name, else by the process's environment.
///
/// # Errors
/// The file cannot be read, or has mistakes; all of them are in the failure's detail.
pub fn read(file: &Path, profile: Option<&str>) -> Result<Stack, Failure> {
    read_with(file, &by_environment(profile))
}

/// The same, where more is known about which profiles hold.
///
/// # Errors
/// As [`read`].
pub fn read_with(file: &Path, selection: &Selection<'_>) -> Result<Stack, Failure> {
    let bytes = bytes(file).map_err(|error| {
        let failure = Failure::config(format!("cannot read {}", file.display()));
        let failure = failure.cause(error.to_string());
        match error.kind() {
            io::ErrorKind::NotFound => failure.remedy("name the file with -f FILE"),
            _ => failure,
        }
    })?;
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(file, &error))?;
    Ok(parse_with(&text, file, selection)?)
}

/// No more than what shows that the file is too large.
fn bytes(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?
        .take(MAX_SIZE as u64 + 4)
        .read_to_end(&mut bytes)?;
    if bytes.len() > MAX_SIZE {
        // The cut may be inside a character, which is not the mistake.
        bytes = vec![b'#'; MAX_SIZE + 1];
    }
    Ok(bytes)
}

fn not_utf8(file: &Path, error: &std::string::FromUtf8Error) -> Failure {
    let at = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
    let mistake = Diagnostic::new(at..at + 1, "this is not UTF-8 text");
    Diagnostics::new(
        shown(file),
        text,
        vec![mistake.help("save the file as UTF-8")],
    )
    .into()
}

/// Reads and checks a text that stands in `file`. The file itself is not read, but the files that it names are looked
/// for, relative to its folder. Profiles are activated by name, else by the process's environment.
///
/// # Errors
/// Every mistake there is.
pub fn parse(text: &str, file: &Path, profile: Option<&str>) -> Result<Stack, Diagnostics> {
    parse_with(text, file, &by_environment(profile))
}

/// The same, where more is known about which profiles hold.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(
    text: &str,
    file: &Path,
    selection: &Selection<'_>,
) -> Result<Stack, Diagnostics> {
    let mut report = Report::default();
    let stack = match stack(text, file, selection, &mut report) {
        Ok(stack) => Some(stack),
        Err(mistake) => {
            report.add(mistake);
            None
        }
    };
    match (stack, report.into_list()) {
        (Some(stack), list) if list.is_empty() => Ok(stack),
        (_, list) => Err(Diagnostics::new(shown(file), text, list)),
    }
}

fn by_environment(name: Option<&str>) -> Selection<'_> {
    Selection {
        name,
        context: None,
        env: &|name| std::env::var(name).ok(),
    }
}

/// As short as it can be while an editor finds the file from the current folder.
fn shown(file: &Path) -> String {
    let name = file.file_name().map(Path::new);
    let here = || std::env::current_dir().ok();
    match name {
        Some(name) if file.parent().map(Path::to_owned) == here() => name.display().to_string(),
        _ => file.display().to_string(),
    }
}

/// `Err` is a mistake that leaves nothing to look at.
fn stack(
    text: &str,
    path: &Path,
    selection: &Selection<'_>,
    report: &mut Report,
) -> Result<Stack, Diagnostic> {
    if text.len() > MAX_SIZE {
        return Err(Diagnostic::new(0..0, "the file is larger than 1 MiB"));
    }
    let mut root = mapping(tree::read(text, report)?)?;
    version(&root, report)?;
    let profiles = profile::take(&mut root, report);
    let active = profile::active(&profiles, selection, report);
    let place = Place::of(path);
    for (i, profile) in profiles.iter().enumerate().take(MAX_REHEARSED) {
        if !active.contains(&i) {
            rehearse(profile, &root, &place, report);
        }
    }
    for &i in &active {
        profiles[i].lay_over(&mut root, report);
    }
    Ok(place.check(&root, report))
}

fn mapping(root: Option<Node>) -> Result<Node, Diagnostic> {
    let help = format!("begin with `apiVersion: {API_VERSION}`");
    match root {
        None
        | Some(Node {
            value: Value::Null, ..
        }) => Err(Diagnostic::new(0..0, "the file is empty").help(help)),
        Some(root) if matches!(root.value, Value::Map(_)) => Ok(root),
        Some(root) => Err(super::decode::expected(&root, "a mapping").help(help)),
    }
}

/// A file for another llmdev is not looked at further: what it says may have another meaning.
fn version(root: &Node, report: &mut Report) -> Result<(), Diagnostic> {
    let write = format!("write `apiVersion: {API_VERSION}`");
    let Some(entry) = root.get("apiVersion") else {
        let start = root.span.start..root.span.start;
        report
            .add(Diagnostic::new(start, "missing key \"apiVersion\" at the top level").help(write));
        return Ok(());
    };
    let (Value::Plain(text) | Value::Quoted(text)) = &entry.node.value else {
        report.add(super::decode::expected(&entry.node, API_VERSION));
        return Ok(());
    };
    if text == API_VERSION {
        return Ok(());
    }
    let number = text.strip_prefix("llmdev/v").and_then(|rest| {
        rest.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse::<u32>()
            .ok()
    });
    if number.is_some_and(|number| number > 1) {
        let text = shorten(text, 60);
        let message = format!("written for {text}; this llmdev reads {API_VERSION}");
        return Err(Diagnostic::new(entry.node.span.clone(), message).help("update llmdev"));
    }
    report.add(super::decode::expected(&entry.node, API_VERSION).help(write));
    Ok(())
}

/// Where the file is.
struct Place {
    root: PathBuf,
    file: PathBuf,
}

impl Place {
    fn of(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let root = path.parent().unwrap_or(&path);
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let file = root.join(path.file_name().unwrap_or(FILE_NAME.as_ref()));
        Place { root, file }
    }

    fn check(&self, root: &Node, report: &mut Report) -> Stack {
        let file = file::decode(root, report);
        check::check(file, &self.root, &self.file, report)
    }
}

/// A profile that does not hold today is tried on a copy, and what is wrong in it is reported all the same.
fn rehearse(profile: &Profile, root: &Node, place: &Place, report: &mut Report) {
    let mut root = root.clone();
    let mut found = Report::default();
    profile.lay_over(&mut root, &mut found);
    place.check(&root, &mut found);
    let own = |span: &std::ops::Range<usize>| profile.span.contains(&span.start);
    for mistake in found.into_list() {
        if own(&mistake.span) || mistake.also.iter().any(|(span, _)| own(span)) {
            report.add(mistake);
        }
    }
}
