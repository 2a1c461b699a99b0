//! From the tree to typed values: what is not what it should be is reported, and reading goes on.

use super::diagnostic::{Diagnostic, Report, Span, nearest, shorten};
use super::scalar::{Read, Wrong};
use super::tree::{Entry, Node, Value, looks_like_boolean, looks_like_number};

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct At<T> {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub it: T,
}

/// A mapping whose keys are known.
pub struct Fields<'a> {
    /// Where to point when a key is missing.
    at: Span,
    /// `in service "litellm"`.
    place: String,
    entries: &'a [Entry],
    /// Keys that unknown ones were probably meant for: that they are missing is the same mistake.
    meant: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Takes a node as a mapping, and reports keys that are not known. `at` is where its name stands, if it has one.
    pub fn of(
        node: &'a Node,
        at: Option<&Span>,
        place: &str,
        known: &[&'static str],
        report: &mut Report,
    ) -> Option<Self> {
        let entries = map(node, report)?;
        let mut meant = Vec::new();
        for entry in entries
            .iter()
            .filter(|entry| !known.contains(&entry.key.as_str()))
        {
            report.add(unknown_key(entry, place, known));
            meant.extend(nearest(&entry.key, known.iter().copied()));
        }
        let start = node.span.start..node.span.start;
        let at = at.cloned().unwrap_or(start);
        Some(Fields {
            at,
            place: place.to_owned(),
            entries,
            meant,
        })
    }

    /// The key's value; a key with nothing after it is as good as no key.
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The same with the key's own place.
    pub fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.entries
            .iter()
            .find(|entry| entry.key == key && entry.node.value != Value::Null)
    }

    /// The value of a key that must be there.
    pub fn need(&self, key: &str, report: &mut Report) -> Option<&'a Node> {
        match self.entries.iter().find(|entry| entry.key == key) {
            Some(entry) if entry.node.value == Value::Null => {
                let message = format!("key {key:?} has nothing after it");
                report.add(Diagnostic::new(entry.key_span.clone(), message));
            }
            None if !self.meant.contains(&key) => {
                let message = format!("missing key {key:?} {}", self.place);
                report.add(Diagnostic::new(self.at.clone(), message));
            }
            _ => {}
        }
        self.get(key)
    }
}

fn unknown_key(entry: &Entry, place: &str, known: &[&str]) -> Diagnostic {
    let message = format!("unknown key {:?} {place}", shorten(&entry.key, 60));
    let mistake = Diagnostic::new(entry.key_span.clone(), message);
    if entry.key == "<<" {
        return mistake.help("merge keys are not part of YAML 1.2; use `profiles`, or an alias");
    }
    let mistake = mistake.help(format!("known keys: {}", known.join(", ")));
    mistake.suggest(&entry.key, known.iter().copied())
}

/// `expected a list, found the text "x"`.
pub fn expected(node: &Node, what: &str) -> Diagnostic {
    Diagnostic::new(
        node.span.clone(),
        format!("expected {what}, found {}", node.found()),
    )
}

/// A mapping's entries.
pub fn map<'a>(node: &'a Node, report: &mut Report) -> Option<&'a [Entry]> {
    match &node.value {
        Value::Map(entries) => Some(entries),
        _ => {
            report.add(expected(node, "a mapping"));
            None
        }
    }
}

/// A list's items.
pub fn list<'a>(node: &'a Node, report: &mut Report) -> &'a [Node] {
    match &node.value {
        Value::List(items) => items,
        Value::Plain(text) => {
            report.add(expected(node, "a list").help(format!("write `[{}]`", shorten(text, 60))));
            &[]
        }
        _ => {
            report.add(expected(node, "a list"));
            &[]
        }
    }
}

/// Text. What YAML takes for a number or boolean needs quotes to be text.
pub fn text(node: &Node, report: &mut Report) -> Option<At<String>> {
    let other = |text: &str| looks_like_number(text) || looks_like_boolean(text);
    match &node.value {
        Value::Plain(text) if other(text) => {
            report.add(expected(node, "text").help(format!("write `\"{text}\"`")));
            None
        }
        _ => raw(node, report),
    }
}

/// Text, number or boolean, as it is written.
pub fn raw(node: &Node, report: &mut Report) -> Option<At<String>> {
    match &node.value {
        Value::Plain(text) | Value::Quoted(text) => Some(At {
            span: node.span.clone(),
            it: text.clone(),
        }),
        _ => {
            report.add(expected(node, "text"));
            None
        }
    }
}

/// Text that means something.
pub fn read<T>(
    node: &Node,
    report: &mut Report,
    meaning: impl FnOnce(&str) -> Read<T>,
) -> Option<At<T>> {
    let text = text(node, report)?;
    understood(&text.span, meaning(&text.it), report)
}

/// The same, for what may look like a number.
pub fn read_raw<T>(
    node: &Node,
    report: &mut Report,
    meaning: impl FnOnce(&str) -> Read<T>,
) -> Option<At<T>> {
    let text = raw(node, report)?;
    understood(&text.span, meaning(&text.it), report)
}

/// Reports what could not be understood.
pub fn understood<T>(span: &Span, read: Read<T>, report: &mut Report) -> Option<At<T>> {
    match read {
        Ok(it) => Some(At {
            span: span.clone(),
            it,
        }),
        Err(Wrong { why, help }) => {
            let mut mistake = Diagnostic::new(span.clone(), why);
            mistake.help = help;
            report.add(mistake);
            None
        }
    }
}

/// `true` or `false`, and nothing else that YAML 1.1 took for one.
pub fn boolean(node: &Node, report: &mut Report) -> Option<bool> {
    let Value::Plain(text) = &node.value else {
        report.add(expected(node, "true or false"));
        return None;
    };
    let meant = match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => "true",
        "false" | "no" | "off" | "n" => "false",
        _ => {
            report.add(expected(node, "true or false"));
            return None;
        }
    };
    if text != meant {
        report.add(expected(node, "true or false").help(format!("write `{meant}`")));
        return None;
    }
    Some(meant == "true")
}

/// A whole number from 1.
pub fn count(node: &Node, report: &mut Report) -> Option<u32> {
    let number = match &node.value {
        Value::Plain(text) if !text.starts_with(['+', '0']) => text.parse().ok(),
        _ => None,
    };
    if number.is_none() {
        let digits = |text: &String| text.parse::<u32>().is_ok_and(|number| number > 0);
        let mistake = match &node.value {
            Value::Quoted(text) if digits(text) => {
                expected(node, "a number").help("take the quotes away")
            }
            Value::Plain(text) if looks_like_number(text) => {
                expected(node, "a whole number from 1")
            }
            _ => expected(node, "a number"),
        };
        report.add(mistake);
    }
    number
}

/// One of a closed set of words.
pub fn one_of<T: Copy>(node: &Node, words: &[(&str, T)], report: &mut Report) -> Option<T> {
    let text = text(node, report)?;
    if let Some((_, it)) = words.iter().find(|(word, _)| *word == text.it) {
        return Some(*it);
    }
    let known = || words.iter().map(|(word, _)| *word);
    let list = known().collect::<Vec<_>>().join(", ");
    report.add(expected(node, &format!("one of {list}")).suggest(&text.it, known()));
    None
}

/// A path that is written in the file.
pub fn path(node: &Node, report: &mut Report) -> Option<At<String>> {
    read(node, report, |text| match text {
        "" => Err(Wrong {
            why: "the path is empty".to_owned(),
            help: None,
        }),
        _ => Ok(text.to_owned()),
    })
}

/// A key's value that means something, without its place.
pub fn value<T>(
    fields: &Fields<'_>,
    key: &str,
    meaning: fn(&str) -> Read<T>,
    report: &mut Report,
) -> Option<T> {
    fields
        .get(key)
        .and_then(|node| read(node, report, meaning))
        .map(|at| at.it)
}
