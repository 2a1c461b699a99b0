//! Objects as YAML that any reader, 1.1 or 1.2, takes for what they are.

use serde_json::Value;

use super::{Rendered, scalar};

/// All objects as YAML documents, as `llmdev render` prints them.
pub fn to_yaml(rendered: &Rendered) -> String {
    let mut out = String::new();
    for object in &rendered.objects {
        if !out.is_empty() {
            out.push_str("---\n");
        }
        block(&mut out, &object.value, 0);
    }
    out
}

/// A value that begins on a line of its own.
fn block(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                pad(out, indent);
                out.push_str(&plain_or_quoted(key));
                out.push(':');
                after_colon(out, value, indent);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for item in list {
                pad(out, indent);
                out.push('-');
                after_dash(out, item, indent);
            }
        }
        other => {
            pad(out, indent);
            out.push_str(&inline(other));
            out.push('\n');
        }
    }
}

fn after_colon(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(out, value, indent + 2);
        }
        // As kubectl writes it: the dashes of a list stand under the key.
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            block(out, value, indent);
        }
        Value::String(text) if is_block(text) => literal(out, text, indent + 2),
        other => {
            out.push(' ');
            out.push_str(&inline(other));
            out.push('\n');
        }
    }
}

fn after_dash(out: &mut String, item: &Value, indent: usize) {
    if let Value::String(text) = item
        && is_block(text)
    {
        return literal(out, text, indent + 2);
    }
    // The first line of what is nested stands behind the dash, in place of its own padding.
    let mut nested = String::new();
    block(&mut nested, item, indent + 2);
    out.push(' ');
    out.push_str(nested.trim_start_matches(' '));
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => plain_or_quoted(text),
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

fn plain_or_quoted(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// Whether text can stand bare and is still taken for text by every reader.
fn is_plain(text: &str) -> bool {
    let safe =
        |c: char| c.is_ascii_alphanumeric() || "-_./ +$()*%@,;<>=\\^~|!?&[]{}'\"`".contains(c);
    let starts_well =
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_' || c == '(');
    let ends_well = !text.ends_with(' ');
    let in_flow = text.contains([',', '[', ']', '{', '}']) && text.starts_with(['[', '{']);
    let colons_ok = !text.contains(": ") && !text.ends_with(':');
    starts_well
        && ends_well
        && !in_flow
        && colons_ok
        && text.chars().all(|c| safe(c) || c == ':')
        && scalar::resolve(text) == Some(Value::from(text))
}

/// JSON's quoting is YAML's double-quoting, but for what YAML 1.1 takes for line breaks.
fn quoted(text: &str) -> String {
    let json = Value::from(text).to_string();
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out
}

/// Whether a literal block shows it better, and exactly.
fn is_block(text: &str) -> bool {
    let printable = |c: char| {
        c == '\n'
            || c == ' '
            || (!c.is_control() && !"\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}".contains(c))
    };
    let first = text.trim_start_matches('\n');
    text.contains('\n')
        && !first.is_empty()
        && first.len() == text.len()
        && !first.starts_with(' ')
        && text.chars().all(printable)
        && !text.lines().any(|line| line.ends_with(' '))
}

fn literal(out: &mut String, text: &str, indent: usize) {
    let body = text.trim_end_matches('\n');
    out.push_str(match text.len() - body.len() {
        0 => " |-\n",
        1 => " |\n",
        _ => " |+\n",
    });
    let lines = text.strip_suffix('\n').unwrap_or(text);
    for line in lines.split('\n') {
        if !line.is_empty() {
            pad(out, indent);
            out.push_str(line);
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::super::yaml;
    use super::*;

    fn text_of(value: &Value) -> String {
        let mut out = String::new();
        block(&mut out, value, 0);
        out
    }

    #[test]
    fn it_looks_as_people_write_it() {
        let value = json!({
            "kind": "ConfigMap", "data": {"a": "0644", "on": "yes", "conf": "x: 1\n\n  y\n", "last": "a\nb"},
            "list": [{"name": "x", "args": ["-c", "a: b"]}, [1, [2]], {}, [], "http://x:80/", null],
        });
        insta::assert_snapshot!(text_of(&value), @r#"
        kind: ConfigMap
        data:
          a: "0644"
          "on": "yes"
          conf: |
            x: 1

              y
          last: |-
            a
            b
        list:
        - name: x
          args:
          - "-c"
          - "a: b"
        - - 1
          - - 2
        - {}
        - []
        - http://x:80/
        - null
        "#);
    }

    fn values() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "[a-z0-9_.:#\\-+ \\n\\t'\"|>{}\\[\\]&*!%@`,?~=<]{0,12}",
            "\\PC{0,8}",
            "[0-9_+\\-.eExXoObB:]{1,6}",
            "(yes|no|on|off|y|n|null|~|true|<<|=|---|\\.\\.\\.|- a|# a|a #b|a: b)",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((text.clone(), inner), 0..4)
                    .prop_map(|pairs| Value::Object(Map::from_iter(pairs))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in values()) {
            prop_assume!(!value.is_null());
            let text = text_of(&value);
            let read = yaml::documents(&text).map_err(|error| TestCaseError::fail(format!("{error:?}\n{text}")))?;
            prop_assert_eq!(&read[0].value, &value, "{}", text);
        }
    }
}
