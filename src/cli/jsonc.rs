//! JSON with comments, as editors' settings have it, changed without touching what is not to be changed.

use std::ops::Range;

use serde_json::Value;

/// A text that is not JSON with comments: where it stops being so, and what was expected there.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Byte offset.
    pub at: usize,
    /// What was expected.
    pub expected: &'static str,
}

/// How deep values may be in each other.
const DEEPEST: usize = 100;

/// What was found in a text.
#[derive(Debug, Default)]
struct Found {
    /// Just behind the `{` of the whole, and whether anything follows in it.
    top: Option<(usize, bool)>,
    /// Just behind the `[` of the list.
    list: Option<usize>,
    /// The list's entries.
    entries: Vec<Range<usize>>,
}

/// Puts `entries` into the list under the key `list` of the object that `text` is: in the place of the entry that `same`
/// says is the same one, else at the end. Entries that `stale` is true of are taken out. All else stays as it is.
///
/// # Errors
/// When the text is not an object with such a list.
pub fn merge(
    text: &str,
    list: &str,
    entries: &[Value],
    same: impl Fn(&Value, &Value) -> bool,
    stale: impl Fn(&Value) -> bool,
) -> Result<String, Wrong> {
    let found = scan(text, list)?;
    let (top, filled) = found.top.expect("the scan found the object");
    let unit = indent_of(text);
    let Some(start) = found.list else {
        let all = Value::from(entries.to_vec());
        let comma = if filled { "," } else { "\n" };
        let inserted = format!("\n{unit}\"{list}\": {}{comma}", shown(&all, &unit, 1));
        return Ok(format!("{}{inserted}{}", &text[..top], &text[top..]));
    };
    let old: Vec<_> = found
        .entries
        .iter()
        .map(|span| value(&text[span.clone()]))
        .collect();
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let mut new = Vec::new();
    for entry in entries {
        let text = shown(entry, &unit, 2);
        match old.iter().position(|one| same(one, entry)) {
            // Whatever its layout.
            Some(index) if old[index] == *entry => {}
            Some(index) => edits.push((found.entries[index].clone(), text)),
            None => new.push(format!("\n{unit}{unit}{text}")),
        }
    }
    let kept = |index: usize| !stale(&old[index]);
    for index in (0..old.len()).filter(|&index| !kept(index)) {
        // With the comma before it; the first one with the comma behind it.
        let span = &found.entries[index];
        let gone = match (index.checked_sub(1), found.entries.get(index + 1)) {
            (Some(before), _) if (0..index).any(kept) => found.entries[before].end..span.end,
            (_, Some(next)) => span.start..next.start,
            (_, None) => span.clone(),
        };
        edits.push((gone, String::new()));
    }
    let end = found.entries.last().map_or(start, |last| last.end);
    if !new.is_empty() {
        let lead = if (0..old.len()).any(kept) { "," } else { "" };
        let close = if old.is_empty() {
            format!("\n{unit}")
        } else {
            String::new()
        };
        edits.push((end..end, format!("{lead}{}{close}", new.join(","))));
    }
    edits.sort_by_key(|(span, _)| (span.start, span.end));
    let mut merged = text.to_owned();
    for (span, with) in edits.into_iter().rev() {
        merged.replace_range(span, &with);
    }
    Ok(merged)
}

/// A value of JSON with comments; null if it is none.
pub fn value(text: &str) -> Value {
    let mut plain = String::new();
    let mut scanner = Scanner::new(text, "");
    while scanner.at < text.len() {
        let gap = scanner.at;
        scanner.skip();
        if scanner.at > gap {
            plain.push(' ');
            continue;
        }
        let start = scanner.at;
        if scanner.peek() == Some('"') {
            if scanner.string().is_err() {
                return Value::Null;
            }
        } else {
            scanner.at += scanner.peek().map_or(1, char::len_utf8);
        }
        plain.push_str(&text[start..scanner.at]);
    }
    serde_json::from_str(&without_last_commas(&plain)).unwrap_or_default()
}

/// Without the commas before `]` and `}` that JSON does not know.
fn without_last_commas(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut quoted = false;
    let mut escaped = false;
    for c in text.chars() {
        if !quoted && matches!(c, ']' | '}') {
            let end = kept.trim_end().len();
            if kept[..end].ends_with(',') {
                kept.truncate(end - 1);
            }
        }
        quoted = quoted != (c == '"' && !escaped);
        escaped = quoted && c == '\\' && !escaped;
        kept.push(c);
    }
    kept
}

/// A value as it stands `depth` levels deep in a file.
fn shown(value: &Value, unit: &str, depth: usize) -> String {
    let mut bytes = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(unit.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, format);
    serde::Serialize::serialize(value, &mut serializer).expect("JSON is written to memory");
    let text = String::from_utf8(bytes).expect("JSON is UTF-8");
    text.replace('\n', &format!("\n{}", unit.repeat(depth)))
}

/// What the least indented of the indented lines is indented by.
fn indent_of(text: &str) -> String {
    let indents = text.lines().filter_map(|line| {
        let rest = line.trim_start();
        let counts = rest.starts_with(['"', '{', '}', '[', ']', '/']);
        (counts && rest.len() < line.len()).then(|| &line[..line.len() - rest.len()])
    });
    let least = indents.min_by_key(|indent| indent.len());
    least.unwrap_or("  ").to_owned()
}

fn scan(text: &str, list: &str) -> Result<Found, Wrong> {
    let mut scanner = Scanner::new(text, list);
    scanner.skip();
    scanner.value(0)?;
    if scanner.found.top.is_none() {
        return Err(Wrong {
            at: 0,
            expected: "{",
        });
    }
    scanner.skip();
    if scanner.at < text.len() {
        return Err(scanner.wrong("the end"));
    }
    Ok(scanner.found)
}

struct Scanner<'a> {
    text: &'a str,
    list: &'a str,
    at: usize,
    found: Found,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, list: &'a str) -> Self {
        let at = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Scanner {
            text,
            list,
            at,
            found: Found::default(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn wrong(&self, expected: &'static str) -> Wrong {
        Wrong {
            at: self.at,
            expected,
        }
    }

    fn take(&mut self, sign: char) -> bool {
        let there = self.peek() == Some(sign);
        if there {
            self.at += sign.len_utf8();
        }
        there
    }

    /// White space and comments.
    fn skip(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let blank = rest.len() - rest.trim_start().len();
            let comment = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                rest.find("*/").map_or(rest.len(), |end| end + 2)
            } else {
                0
            };
            if blank + comment == 0 {
                return;
            }
            self.at += if blank > 0 { blank } else { comment };
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), Wrong> {
        match self.peek() {
            _ if depth > DEEPEST => Err(self.wrong("fewer levels")),
            Some('{') => self.object(depth),
            Some('[') => self.array(depth, false),
            Some('"') => self.string().map(drop),
            _ => {
                let rest = &self.text[self.at..];
                let length = rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)))
                    .unwrap_or(rest.len());
                self.at += length;
                if length == 0 {
                    return Err(self.wrong("a value"));
                }
                Ok(())
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), Wrong> {
        self.at += 1;
        if depth == 0 {
            self.found.top = Some((self.at, false));
        }
        loop {
            self.skip();
            if self.take('}') {
                return Ok(());
            }
            let key = self.string()?;
            if depth == 0 {
                self.found.top = self.found.top.map(|(at, _)| (at, true));
            }
            self.skip();
            if !self.take(':') {
                return Err(self.wrong(":"));
            }
            self.skip();
            let ours = depth == 0 && key == self.list;
            match self.peek() {
                Some('[') if ours => self.array(1, true)?,
                _ if ours => return Err(self.wrong("[")),
                _ => self.value(depth + 1)?,
            }
            self.skip();
            if !self.take(',') && self.peek() != Some('}') {
                return Err(self.wrong(", or }"));
            }
        }
    }

    fn array(&mut self, depth: usize, ours: bool) -> Result<(), Wrong> {
        self.at += 1;
        if ours {
            self.found.list = Some(self.at);
        }
        loop {
            self.skip();
            if self.take(']') {
                return Ok(());
            }
            let start = self.at;
            self.value(depth + 1)?;
            if ours {
                self.found.entries.push(start..self.at);
            }
            self.skip();
            if !self.take(',') && self.peek() != Some(']') {
                return Err(self.wrong(", or ]"));
            }
        }
    }

    /// A string, without its quotes and with its escapes.
    fn string(&mut self) -> Result<&'a str, Wrong> {
        if !self.take('"') {
            return Err(self.wrong("\""));
        }
        let start = self.at;
        let mut escaped = false;
        for (offset, c) in self.text[start..].char_indices() {
            match c {
                '"' if !escaped => {
                    self.at = start + offset + 1;
                    return Ok(&self.text[start..start + offset]);
                }
                '\n' => break,
                _ => escaped = c == '\\' && !escaped,
            }
        }
        Err(self.wrong("the end of this string"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn put(text: &str) -> Result<String, Wrong> {
        let label = |one: &Value| one["label"].as_str().unwrap_or_default().to_owned();
        let entries = [json!({"label": "our a"}), json!({"label": "our b"})];
        merge(
            text,
            "tasks",
            &entries,
            |old, new| label(old) == label(new),
            |old| label(old) == "our old",
        )
    }

    #[test]
    fn what_is_not_ours_stays_as_it_is() {
        let text = r#"{
    // mine
    "version": "2.0.0",
    "tasks": [
        { "label": "mine", /* why */ "command": "a // b" },
        { "label": "our old" },
        { "label": "our b", "command": "x" }, // last
    ],
}
"#;
        insta::assert_snapshot!(put(text).unwrap(), @r#"
        {
            // mine
            "version": "2.0.0",
            "tasks": [
                { "label": "mine", /* why */ "command": "a // b" },
                {
                    "label": "our b"
                },
                {
                    "label": "our a"
                }, // last
            ],
        }
        "#);
    }

    #[test]
    fn lists_that_are_empty_or_not_there_are_made() {
        let labels = |text: &str| {
            let merged = value(&put(text).unwrap());
            let tasks = merged["tasks"].as_array().cloned().unwrap_or_default();
            let labels = tasks
                .iter()
                .map(|one| one["label"].as_str().unwrap().to_owned());
            labels.collect::<Vec<_>>().join(", ")
        };
        let table = [
            ("{}", "our a, our b"),
            ("{ // nothing\n}", "our a, our b"),
            (r#"{"version": 1}"#, "our a, our b"),
            (r#"{"tasks": []}"#, "our a, our b"),
            (r#"{"tasks": [{"label": "our old"}]}"#, "our a, our b"),
            (r#"{"tasks": [{"label": "our old"},]}"#, "our a, our b"),
            (
                r#"{"tasks": [{"label": "our old"}, {"label": "x"}]}"#,
                "x, our a, our b",
            ),
            (
                r#"{"tasks": [{"label": "our b"}, {"label": "our old"}]}"#,
                "our b, our a",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(labels(text), expected, "{text}: {}", put(text).unwrap());
        }
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        for (text, at) in [
            ("", 0),
            ("[]", 0),
            ("{\"tasks\": {}}", 10),
            ("{\"a\" 1}", 5),
            ("{\"a\": 1} x", 9),
            ("{\"a", 2),
        ] {
            assert_eq!(put(text).unwrap_err().at, at, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}\",:/* \\\\\\na-cé]{0,60}") {
            let _ = put(&text);
            let _ = value(&text);
        }

        #[test]
        fn merging_again_changes_nothing(
            labels in proptest::collection::vec("our (a|b|old)|mine", 0..6), comma in any::<bool>()
        ) {
            let mut tasks: Vec<_> = Vec::new();
            for label in labels {
                let task = format!("{{\"label\": \"{label}\"}}");
                if !tasks.contains(&task) {
                    tasks.push(task);
                }
            }
            let last = if comma && !tasks.is_empty() { "," } else { "" };
            let text = format!("{{\"tasks\": [{}{last}]}}", tasks.join(", // x\n"));
            let once = put(&text).unwrap();
            let merged = value(&once);
            let found: Vec<_> = merged["tasks"].as_array().unwrap().iter().map(|one| one["label"].as_str().unwrap().to_owned()).collect();
            prop_assert!(found.contains(&"our a".to_owned()) && found.contains(&"our b".to_owned()), "{once}");
            prop_assert!(!found.contains(&"our old".to_owned()), "{once}");
            prop_assert_eq!(put(&once).unwrap(), once);
        }
    }
}
