//! The files and folders that `stack.yaml` names: where they are, and that they are there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::decode::At;
use super::diagnostic::{Diagnostic, Report, nearest};

/// A glob that has not matched after so many entries is believed.
const ENOUGH_ENTRIES: usize = 50_000;

/// What a path must be.
#[derive(Clone, Copy, PartialEq)]
enum Want {
    File,
    Folder,
}

/// Absolute, without `.` and `..`; a name that is a link stays that name.
pub fn absolute(folder: &Path, written: &str) -> PathBuf {
    let joined: PathBuf = folder.join(written).components().collect();
    if !written.split('/').any(|part| part == "..") {
        return joined;
    }
    let known = match (joined.parent(), joined.file_name()) {
        (Some(parent), Some(name)) => parent.canonicalize().map(|parent| parent.join(name)),
        _ => joined.canonicalize(),
    };
    known.unwrap_or(joined)
}

/// A file that must be there.
pub fn file(folder: &Path, written: &At<String>, report: &mut Report) -> PathBuf {
    existing(folder, written, Want::File, report).0
}

/// A folder that must be there.
pub fn folder(folder: &Path, written: &At<String>, report: &mut Report) -> PathBuf {
    existing(folder, written, Want::Folder, report).0
}

/// A folder that must be there and have one of these files.
pub fn folder_with(
    folder: &Path,
    written: &At<String>,
    files: &[&str],
    report: &mut Report,
) -> PathBuf {
    let (path, there) = existing(folder, written, Want::Folder, report);
    if there && !files.iter().any(|name| path.join(name).is_file()) {
        let message = format!("the folder {:?} has no {}", written.it, files[0]);
        report.add(Diagnostic::new(written.span.clone(), message));
    }
    path
}

fn existing(base: &Path, written: &At<String>, want: Want, report: &mut Report) -> (PathBuf, bool) {
    let path = absolute(base, &written.it);
    let text = &written.it;
    let kind = if want == Want::File { "file" } else { "folder" };
    let fits = |meta: &fs::Metadata| match want {
        Want::File => meta.is_file(),
        Want::Folder => meta.is_dir(),
    };
    let message = match fs::metadata(&path) {
        Ok(meta) if fits(&meta) => return (path, true),
        Ok(meta) if meta.is_dir() => format!("{text:?} is a folder, not a file"),
        Ok(_) => format!("{text:?} is not a {kind}"),
        Err(error) if is_missing(&error) => format!("there is no {kind} {text:?}"),
        Err(error) => format!("the {kind} {text:?} cannot be read: {error}"),
    };
    let mut mistake = Diagnostic::new(written.span.clone(), message);
    mistake.help = hint(&path, text, want);
    report.add(mistake);
    (path, false)
}

fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    matches!(
        error.kind(),
        NotFound | NotADirectory | InvalidInput | InvalidFilename
    )
}

/// A neighbour of nearly that name.
fn hint(path: &Path, text: &str, want: Want) -> Option<String> {
    if text.starts_with('~') {
        return Some("`~` is not replaced; paths are relative to stack.yaml".to_owned());
    }
    let wrong = path.file_name()?.to_str()?;
    let entries = fs::read_dir(path.parent()?).ok()?.flatten().take(1000);
    let fits = |entry: &fs::DirEntry| entry.path().is_dir() == (want == Want::Folder);
    let mut names: Vec<String> = entries
        .filter(fits)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    let near = nearest(wrong, names.iter().map(String::as_str)).filter(|near| *near != wrong)?;
    let shown = text.trim_end_matches('/').strip_suffix(wrong)?;
    Some(format!("did you mean `{shown}{near}`?"))
}

/// Reports a glob below `root` that matches no file.
pub fn matched(root: &Path, glob: &At<String>, report: &mut Report) {
    if !matches_any(root, &glob.it) {
        let message = format!("no file matches {:?}", glob.it);
        report.add(Diagnostic::new(glob.span.clone(), message));
    }
}

fn matches_any(root: &Path, glob: &str) -> bool {
    let glob = glob.trim_start_matches("./");
    let Ok(matcher) = globset::GlobBuilder::new(glob)
        .literal_separator(true)
        .build()
    else {
        return true;
    };
    let matcher = matcher.compile_matcher();
    let depth = if glob.contains("**") || glob.contains('{') {
        usize::MAX
    } else {
        glob.matches('/').count()
    };
    // The folders that the glob names outright need not be searched for.
    let fixed: PathBuf = match glob.rsplit_once('/') {
        Some((folders, _)) => folders
            .split('/')
            .take_while(|part| !part.contains(['*', '?', '[', '{', '\\']))
            .collect(),
        None => PathBuf::new(),
    };
    let mut open = vec![(fixed.components().count(), fixed)];
    let mut seen = 0;
    while let Some((level, folder)) = open.pop() {
        for entry in fs::read_dir(root.join(&folder))
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = folder.join(entry.file_name());
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() && level < depth && entry.file_name() != ".git" {
                open.push((level + 1, path));
            } else if !kind.is_dir() && matcher.is_match(&path) {
                return true;
            }
            seen += 1;
            if seen > ENOUGH_ENTRIES {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_files_only() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("k8s/base/deep")).unwrap();
        fs::write(root.join("k8s/base/deep/a.yaml"), "").unwrap();
        fs::write(root.join("top.yml"), "").unwrap();
        let table = [
            ("k8s/**/*.yaml", true),
            ("k8s/base/deep/a.yaml", true),
            ("./k8s/*/deep/*.yaml", true),
            ("k8s/*.yaml", false),
            ("k8s/*", false),
            ("*.yml", true),
            ("*.yaml", false),
            ("**/*.{yml,json}", true),
            ("none/*.yaml", false),
            ("k8s/base/{deep/a,b}.yaml", true),
        ];
        for (glob, matches) in table {
            assert_eq!(matches_any(root, glob), matches, "{glob}");
        }
    }

    #[test]
    fn paths_are_cleaned() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        assert_eq!(absolute(&root, "./a/./b/"), root.join("a/b"));
        assert_eq!(absolute(&root, "a/../a/b"), root.join("a/b"));
        assert_eq!(absolute(&root, "a/b/.."), root.join("a"));
        assert_eq!(absolute(&root, "."), root);
        assert_eq!(absolute(&root, "/etc"), Path::new("/etc"));
    }
}
