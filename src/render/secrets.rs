//! Sets the values of `secrets:` from a file that is not in the repository. A value is never said anywhere.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use serde_json::Value;

use super::object::{Object, child};
use crate::error::{Failure, Result};
use crate::stack::{SecretSpec, Stack};

/// Sets them all and returns the files that were looked for.
pub fn set(stack: &Stack, objects: &mut [Object], notes: &mut Vec<String>) -> Result<Vec<PathBuf>> {
    for secret in &stack.secrets {
        let targets = targets(secret, objects)?;
        let Some(variables) = read(&secret.env_file)? else {
            if !is_optional(&secret.env_file) {
                let file = shown(stack, &secret.env_file);
                notes.push(format!(
                    "{file} is not there: the Secret {} keeps the manifests' values",
                    secret.name
                ));
            }
            continue;
        };
        for (key, variable) in &secret.keys {
            let Some(value) = variables.get(variable) else {
                let file = shown(stack, &secret.env_file);
                notes.push(format!(
                    "{file} does not set {variable}: `{key}` of the Secret {} keeps the manifests' value",
                    secret.name
                ));
                continue;
            };
            for index in &targets {
                set_key(&mut objects[*index].value, key, value);
            }
        }
    }
    Ok(stack
        .secrets
        .iter()
        .map(|secret| secret.env_file.clone())
        .collect())
}

/// By convention each developer may have a file `*.local` of their own, and need not.
fn is_optional(file: &Path) -> bool {
    file.extension().is_some_and(|end| end == "local")
}

fn shown(stack: &Stack, file: &Path) -> String {
    file.strip_prefix(&stack.root)
        .unwrap_or(file)
        .display()
        .to_string()
}

/// The Secrets of that name, be it with an overlay's prefix or suffix or kustomize's hash.
fn targets(secret: &SecretSpec, objects: &[Object]) -> Result<Vec<usize>> {
    let all = || {
        let all = objects.iter().enumerate();
        all.filter(|(_, object)| object.kind == "Secret" && object.group().is_empty())
    };
    let ranked: Vec<_> = all()
        .map(|(index, object)| (rank(&object.name, &secret.name), index))
        .collect();
    let best = ranked.iter().map(|(rank, _)| *rank).max().unwrap_or(0);
    if best == 0 {
        let what = format!(
            "`secrets` names {}, and no Secret of the manifests is called so",
            secret.name
        );
        let names = all().map(|(_, object)| format!("{}  ({})", object.id(), object.origin));
        return Err(Failure::config(what)
            .detail(names)
            .remedy("name a Secret that the manifests contain, or add it to them"));
    }
    Ok(ranked
        .into_iter()
        .filter(|(rank, _)| *rank == best)
        .map(|(_, index)| index)
        .collect())
}

/// How near a rendered name is to one from before an overlay's prefix and suffix and kustomize's hash. 0: not at all.
pub fn rank(rendered: &str, name: &str) -> u32 {
    let unhashed = match rendered.rsplit_once('-') {
        Some((before, hash)) if is_hash(hash) => before,
        _ => rendered,
    };
    let prefixed = |text: &str| {
        text.strip_suffix(name)
            .is_some_and(|before| before.ends_with('-'))
    };
    if rendered == name {
        6
    } else if unhashed == name {
        5
    } else if prefixed(rendered) {
        4
    } else if prefixed(unhashed) {
        3
    } else if rendered.starts_with(&format!("{name}-")) {
        2
    } else if rendered.contains(&format!("-{name}-")) {
        1
    } else {
        0
    }
}

/// Ten characters of kustomize's alphabet.
fn is_hash(text: &str) -> bool {
    text.len() == 10 && text.bytes().all(|byte| b"2456789bcdfghkmt".contains(&byte))
}

fn set_key(secret: &mut Value, key: &str, value: &str) {
    if let Some(plain) = secret.get_mut("stringData").and_then(Value::as_object_mut) {
        plain.remove(key);
    }
    let encoded = serde_json::to_value(ByteString(value.as_bytes().to_vec()));
    if let (Some(Value::Object(data)), Ok(encoded)) = (child(secret, "data"), encoded) {
        data.insert(key.to_owned(), encoded);
    }
}

/// None: the file is not there.
fn read(file: &Path) -> Result<Option<BTreeMap<String, String>>> {
    match std::fs::read_to_string(file) {
        Ok(text) => parse(&text).map(Some).map_err(|line| {
            let what = format!("{}:{line} is not NAME=value", file.display());
            Failure::config(what).remedy("write NAME=value, NAME=\"value\" or a # comment")
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let what = format!("cannot read {}", file.display());
            Err(Failure::config(what).because(error))
        }
    }
}

/// `NAME=value` lines; the number of a line that is none.
fn parse(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut variables = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let (name, value) = line.split_once('=').ok_or(index + 1)?;
        let name = name.trim();
        let in_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if name.is_empty() || !name.chars().all(in_name) {
            return Err(index + 1);
        }
        variables.insert(name.to_owned(), unquote(value.trim()).ok_or(index + 1)?);
    }
    Ok(variables)
}

/// Single quotes take all as it is, double quotes know `\n \t \" \\ \$`, bare values end before ` #`.
fn unquote(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix('\'') {
        let (value, after) = rest.split_once('\'')?;
        return comment(after).then(|| value.to_owned());
    }
    let Some(rest) = text.strip_prefix('"') else {
        if text.starts_with('#') {
            return Some(String::new());
        }
        let end = text
            .find(" #")
            .or_else(|| text.find("\t#"))
            .unwrap_or(text.len());
        return Some(text[..end].trim_end().to_owned());
    };
    let mut value = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return comment(chars.as_str()).then_some(value),
            '\\' => match chars.next()? {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                c @ ('"' | '\\' | '$' | '\'') => value.push(c),
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
}

fn comment(after: &str) -> bool {
    let after = after.trim();
    after.is_empty() || after.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_files_are_read_as_shells_and_docker_read_them() {
        let text = "# comment\nA=1\nexport B = two words # said\nC='it # is'\nD=\"a\\nb \\\"c\\\"\" # x\n\nE=\nF=a=b#c\n";
        let read = parse(text).unwrap();
        let table = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "it # is"),
            ("D", "a\nb \"c\""),
            ("E", ""),
            ("F", "a=b#c"),
        ];
        for (name, value) in table {
            assert_eq!(read[name], value, "{name}");
        }
        assert_eq!(read.len(), table.len());
        for (text, line) in [
            ("A=1\nnonsense\n", 2),
            ("A='x", 1),
            ("=x", 1),
            ("A=\"x\" y", 1),
        ] {
            assert_eq!(parse(text), Err(line), "{text}");
        }
    }

    #[test]
    fn a_file_of_ones_own_may_be_missing() {
        for (file, optional) in [
            ("/r/.env.local", true),
            ("/r/dev.local", true),
            ("/r/.env", false),
            ("/r.local/.env", false),
            ("/r/.env.localhost", false),
        ] {
            assert_eq!(is_optional(Path::new(file)), optional, "{file}");
        }
    }

    #[test]
    fn the_nearest_name_is_meant() {
        let order = [
            "s",
            "s-2bcdfghkmt",
            "dev-s",
            "dev-s-2bcdfghkmt",
            "s-tls",
            "dev-s-tls",
            "sx",
        ];
        let ranks: Vec<_> = order.iter().map(|name| rank(name, "s")).collect();
        assert_eq!(ranks, [6, 5, 4, 3, 2, 1, 0]);
    }
}
