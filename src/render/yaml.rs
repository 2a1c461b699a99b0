//! Manifests' YAML as Kubernetes reads it, with duplicate keys refused.
//!
//! kubectl and the API server read YAML 1.1 by the habits of Go's `yaml.v2` (`0644` is octal, `on` a boolean,
//! `<<` merges). No serde reader says whether a scalar was quoted, so this composes from a parser's events.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use k8s_openapi::ByteString;
use serde_json::{Map, Value};

use super::scalar;

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Line that its content begins on, from 1.
    pub line: usize,
    /// What it says.
    pub value: Value,
}

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// Without the place.
    pub what: String,
}

/// More nodes than this come from aliases that multiply, not from manifests.
const MAX_NODES: usize = 1_000_000;

/// All documents of a file; empty ones are left out.
pub fn documents(text: &str) -> Result<Vec<Document>, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let options = granit_parser::options! { emit_comments: false };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader {
        parser,
        anchors: HashMap::new(),
        nodes: 0,
    };
    let mut found = Vec::new();
    while let Some((event, _)) = reader.next()? {
        if !matches!(event, Event::DocumentStart(..)) {
            continue;
        }
        reader.anchors.clear();
        let (event, span) = reader.expect()?;
        let value = reader.node(event, span)?;
        if !value.is_null() {
            found.push(Document {
                line: span.start.line(),
                value,
            });
        }
    }
    Ok(found)
}

struct Reader<'text> {
    parser: Parser<'text, StrInput<'text>>,
    anchors: HashMap<usize, (Value, usize)>,
    nodes: usize,
}

impl<'text> Reader<'text> {
    fn next(&mut self) -> Result<Option<(Event<'text>, Span)>, Error> {
        self.parser.next_event().transpose().map_err(|error| Error {
            line: error.marker().line(),
            column: error.marker().col() + 1,
            what: error.info(),
        })
    }

    fn expect(&mut self) -> Result<(Event<'text>, Span), Error> {
        let end = Error {
            line: 1,
            column: 1,
            what: "the file ends too early".to_owned(),
        };
        self.next()?.ok_or(end)
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Error> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(at(span, "its aliases grow to more than a million values"));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'text>, span: Span) -> Result<Value, Error> {
        let before = self.nodes;
        self.count(1, span)?;
        let (anchor, value) = match event {
            Event::Alias(id) => return self.alias(id, span),
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, scalar_value(&text, style, tag.as_deref(), span)?)
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.sequence()?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping()?),
            other => return Err(at(span, format!("{other:?} is not expected here"))),
        };
        if anchor != 0 {
            self.anchors
                .insert(anchor, (value.clone(), self.nodes - before));
        }
        Ok(value)
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Value, Error> {
        let known = self.anchors.get(&id).cloned();
        let (value, nodes) = known.ok_or_else(|| at(span, "this alias contains itself"))?;
        self.count(nodes, span)?;
        Ok(value)
    }

    fn sequence(&mut self) -> Result<Value, Error> {
        let mut items = Vec::new();
        loop {
            match self.expect()? {
                (Event::SequenceEnd, _) => return Ok(Value::Array(items)),
                (event, span) => items.push(self.node(event, span)?),
            }
        }
    }

    fn mapping(&mut self) -> Result<Value, Error> {
        let mut map = Map::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, span) = self.expect()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Value::Object(map));
            }
            let merges = is_merge(&event);
            let key = self.node(event, span)?;
            let (event, value_span) = self.expect()?;
            let value = self.node(event, value_span)?;
            if merges {
                merge(&mut map, value, value_span)?;
                continue;
            }
            let key = key_text(key, span)?;
            if let Some(line) = lines.insert(key.clone(), span.start.line()) {
                return Err(at(
                    span,
                    format!("the key `{key}` stands twice, first in line {line}"),
                ));
            }
            map.insert(key, value);
        }
    }
}

fn at(span: Span, what: impl Into<String>) -> Error {
    Error {
        line: span.start.line(),
        column: span.start.col() + 1,
        what: what.into(),
    }
}

fn is_merge(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<")
}

/// As `yaml.v2` does it: what is merged wins over what stood before, the first of a list over the later ones.
fn merge(map: &mut Map<String, Value>, value: Value, span: Span) -> Result<(), Error> {
    let wrong = || at(span, "`<<` takes a mapping, or a list of mappings");
    match value {
        Value::Object(merged) => map.extend(merged),
        Value::Array(list) => {
            for item in list.into_iter().rev() {
                let Value::Object(merged) = item else {
                    return Err(wrong());
                };
                map.extend(merged);
            }
        }
        _ => return Err(wrong()),
    }
    Ok(())
}

fn key_text(key: Value, span: Span) -> Result<String, Error> {
    match key {
        Value::String(text) => Ok(text),
        Value::Bool(_) | Value::Number(_) => Ok(key.to_string()),
        Value::Null => Err(at(span, "a key is empty")),
        _ => Err(at(span, "a key is a list or a mapping")),
    }
}

fn scalar_value(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    span: Span,
) -> Result<Value, Error> {
    let plain = || {
        let no_json = || {
            at(
                span,
                format!("`{text}` has no value that Kubernetes can store"),
            )
        };
        scalar::resolve(text).ok_or_else(no_json)
    };
    let Some(tag) = tag else {
        return if style == ScalarStyle::Plain {
            plain()
        } else {
            Ok(Value::from(text))
        };
    };
    let Some(kind) = tag.core_suffix() else {
        return binary(text, tag, span);
    };
    let value = plain()?;
    let fits = match kind {
        "int" => value.is_i64() || value.is_u64(),
        "float" => value.is_number(),
        "bool" => value.is_boolean(),
        "null" => value.is_null(),
        _ => return Ok(Value::from(text)),
    };
    if fits {
        Ok(value)
    } else {
        Err(at(span, format!("`{text}` is not a !!{kind}")))
    }
}

fn binary(text: &str, tag: &Tag, span: Span) -> Result<Value, Error> {
    if tag.suffix_in_namespace("tag:yaml.org,2002:").as_deref() != Some("binary") {
        return Ok(Value::from(text));
    }
    let packed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let ByteString(bytes) = serde_json::from_value(Value::String(packed))
        .map_err(|_| at(span, "this is not base64"))?;
    String::from_utf8(bytes).map(Value::String).map_err(|_| {
        at(
            span,
            "a !!binary that is not text has no value that Kubernetes can store",
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn one(text: &str) -> Value {
        let mut found = documents(text).unwrap();
        assert_eq!(found.len(), 1);
        found.remove(0).value
    }

    fn error(text: &str) -> String {
        let error = documents(text).unwrap_err();
        format!("{}:{} {}", error.line, error.column, error.what)
    }

    #[test]
    fn tags_and_quotes_decide_before_the_look() {
        assert_eq!(
            one("[!!str 5, !!int \"5\", \"on\", on, ! 1, !foo 5, !!str yes, !!bool \"yes\"]"),
            json!(["5", 5, "on", true, "1", "5", "yes", true])
        );
        assert_eq!(one("!!binary aGVsbG8="), json!("hello"));
        assert_eq!(one("!!timestamp 2001-01-01"), json!("2001-01-01"));
    }

    #[test]
    fn keys_are_text_whatever_they_look_like() {
        assert_eq!(
            one("{1: a, 0x10: e, on: b, 1.5: c}"),
            json!({"1": "a", "16": "e", "true": "b", "1.5": "c"})
        );
    }

    #[test]
    fn merges_go_as_in_go() {
        assert_eq!(
            one("- &a {k: 1, l: 2}\n- {<<: *a, k: 3}"),
            json!([{"k": 1, "l": 2}, {"k": 3, "l": 2}])
        );
        assert_eq!(one("{a: 1, <<: {a: 2}}"), json!({"a": 2}));
        assert_eq!(one("{<<: [{a: 1}, {a: 2}], c: 3}"), json!({"a": 1, "c": 3}));
        assert_eq!(one("{\"<<\": {a: 1}}"), json!({"<<": {"a": 1}}));
    }

    #[test]
    fn documents_have_lines_and_empty_ones_are_none() {
        let found = documents("# nothing\n---\n---\na: 1\n---\n# end\n...\n---\nb: 2\n").unwrap();
        let lines: Vec<_> = found.iter().map(|document| document.line).collect();
        assert_eq!(lines, [4, 9]);
    }

    #[test]
    fn mistakes_have_a_place() {
        assert_eq!(
            error("a: 1\nb: 2\na: 3\n"),
            "3:1 the key `a` stands twice, first in line 1"
        );
        assert_eq!(
            error("a: .inf"),
            "1:4 `.inf` has no value that Kubernetes can store"
        );
        assert_eq!(error("a: !!int x"), "1:10 `x` is not a !!int");
        assert!(
            error("a:\n\tb: 1\n").starts_with("2:"),
            "{}",
            error("a:\n\tb: 1\n")
        );
        assert!(error("a: &x [*x]\n").contains("contains itself"));
    }

    #[test]
    fn multiplying_aliases_end() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let list = vec![format!("*a{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{list}]\n"));
        }
        assert!(error(&text).contains("million"));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[\\PC\\n\\t]{0,200}") {
            let _ = documents(&text);
        }

        #[test]
        fn nothing_like_yaml_makes_it_panic(text in "([-:?&*!|>'\"%@\\[\\]{},#a1 \n]|<<: ){0,60}") {
            let _ = documents(&text);
        }
    }
}
