//! YAML with the lines that its fields stand on, for what points at them.

use granit_parser::{Event, Parser, Span, StrInput};

/// A value and its line.
#[derive(Debug)]
pub struct Node {
    /// From 1.
    pub line: usize,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug)]
pub enum Kind {
    /// Keys, the line of each, values.
    Map(Vec<(String, usize, Node)>),
    /// Items.
    List(Vec<Node>),
    /// Text as it is written.
    Scalar(String),
    /// What stands elsewhere.
    Alias,
}

impl Node {
    /// The value of a key and the key's line.
    pub fn get(&self, key: &str) -> Option<(usize, &Node)> {
        let Kind::Map(entries) = &self.kind else {
            return None;
        };
        let entry = entries.iter().find(|(name, ..)| name == key)?;
        Some((entry.1, &entry.2))
    }

    /// The items of a list at a key.
    pub fn items(&self, key: &str) -> &[Node] {
        match self.get(key).map(|(_, node)| &node.kind) {
            Some(Kind::List(items)) => items,
            _ => &[],
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The text at a key.
    pub fn text_at(&self, key: &str) -> Option<&str> {
        self.get(key)?.1.text()
    }
}

/// The documents of a file; of one that is wrong, those before the mistake.
pub fn documents(text: &str) -> Vec<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let options = granit_parser::options! { emit_comments: false };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut found = Vec::new();
    while let Some(Ok((event, _))) = parser.next_event() {
        if matches!(event, Event::DocumentStart(..)) {
            let Some(node) =
                next(&mut parser).and_then(|(event, span)| node(&mut parser, event, span))
            else {
                break;
            };
            found.push(node);
        }
    }
    found
}

type Events<'text> = Parser<'text, StrInput<'text>>;

fn next<'text>(parser: &mut Events<'text>) -> Option<(Event<'text>, Span)> {
    parser.next_event()?.ok()
}

fn node<'text>(parser: &mut Events<'text>, event: Event<'text>, span: Span) -> Option<Node> {
    let kind = match event {
        Event::Scalar(text, ..) => Kind::Scalar(text.into_owned()),
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            loop {
                match next(parser)? {
                    (Event::SequenceEnd, _) => break Kind::List(items),
                    (event, span) => items.push(node(parser, event, span)?),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut entries = Vec::new();
            loop {
                let (event, span) = next(parser)?;
                if matches!(event, Event::MappingEnd) {
                    break Kind::Map(entries);
                }
                let key = node(parser, event, span)?;
                let (event, value_span) = next(parser)?;
                let value = node(parser, event, value_span)?;
                let name = key.text().unwrap_or_default().to_owned();
                entries.push((name, span.start.line(), value));
            }
        }
        _ => Kind::Alias,
    };
    Some(Node {
        line: span.start.line(),
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_lines() {
        let all = documents("# first\na: 1\nb:\n  - c: x\n    d: y\n---\ne: *nothing\n");
        assert_eq!(all.len(), 1, "the second document is wrong");
        let (line, _) = all[0].get("b").unwrap();
        assert_eq!(line, 3);
        let item = &all[0].items("b")[0];
        assert_eq!((item.line, item.get("d").unwrap().0), (4, 5));
        assert_eq!(item.text_at("d"), Some("y"));
    }
}
