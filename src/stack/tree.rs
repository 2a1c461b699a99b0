//! YAML text to a tree in which everything knows its place, so that all mistakes can be found, not only the first.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Tag};

use super::diagnostic::{Diagnostic, Report, Span, shorten};

/// Deeper than anything that `stack.yaml` means; also keeps recursion over the tree short.
const MAX_DEPTH: usize = 32;
/// Values in the file once aliases stand for what they name: `a: [*b, *b]` doubles it, again and again.
const MAX_VALUES: usize = 20_000;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// For a mapping or list: from its first entry to the end of its last.
    pub span: Span,
    /// What it is.
    pub value: Value,
}

/// What YAML has.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Text without quotes: it may be meant as a number or a boolean.
    Plain(String),
    /// Text in quotes, or a block of text: it is text and nothing else.
    Quoted(String),
    /// `- a`, `[a]`.
    List(Vec<Node>),
    /// `a: b`, `{a: b}`, in the order of the text; no key twice.
    Map(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// The key's place.
    pub key_span: Span,
    /// Its value.
    pub node: Node,
}

impl Entry {
    /// Key and value.
    pub fn span(&self) -> Span {
        self.key_span.start..self.node.span.end.max(self.key_span.end)
    }
}

impl Node {
    /// The entry of a mapping.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// What it is, as messages say it.
    pub fn found(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Plain(text) if looks_like_number(text) => format!("the number {text}"),
            Value::Plain(text) if looks_like_boolean(text) => {
                format!("the boolean {text}")
            }
            Value::Plain(text) | Value::Quoted(text) => format!("the text {:?}", shorten(text, 60)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Whether YAML takes the text for a number when it has no quotes.
pub fn looks_like_number(text: &str) -> bool {
    let bare = text.trim_start_matches(['+', '-']);
    let digits = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    match bare.get(..2) {
        Some("0x") => return digits(&bare[2..], 16),
        Some("0o") => return digits(&bare[2..], 8),
        _ => {}
    }
    matches!(bare, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN")
        || bare.starts_with(|c: char| c.is_ascii_digit() || c == '.') && text.parse::<f64>().is_ok()
}

/// Whether YAML takes the text for a boolean when it has no quotes.
pub fn looks_like_boolean(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}

/// Reads one YAML document. `None`: the text has no value at all. Duplicate keys go to `report`.
///
/// # Errors
/// The first place where it is not YAML, or is more than llmdev reads.
pub fn read(text: &str, report: &mut Report) -> Result<Option<Node>, Diagnostic> {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| not_yaml(&error, text))?;
        let at = span.byte_range().unwrap_or(0..0);
        let tag_at = span
            .tag_span()
            .and_then(|tag| tag.byte_range())
            .unwrap_or(at.clone());
        builder.take(event, at, tag_at, report)?;
    }
    Ok(builder.root)
}

/// A mapping or list whose end has not come yet.
struct Open {
    start: usize,
    anchor: usize,
    /// The key that waits for its value; `None` after it: a key that is no text, already reported.
    key: Option<Option<(String, Span)>>,
    value: Value,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    values: usize,
    root: Option<Node>,
}

impl Builder {
    fn take(
        &mut self,
        event: Event<'_>,
        at: Span,
        tag_at: Span,
        report: &mut Report,
    ) -> Result<(), Diagnostic> {
        if let Some(tag) = event.tag() {
            known_tag(tag, tag_at)?;
        }
        let is_text = event
            .tag()
            .is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(Diagnostic::new(at, "a second YAML document begins here")
                    .help("stack.yaml is one document; take the `---` away"))
            }
            Event::Scalar(text, style, anchor, _) => {
                self.count(1, &at)?;
                let value = scalar(text.into_owned(), style, is_text);
                let node = Node { span: at, value };
                self.keep(anchor, &node);
                self.put(node, report)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Value::List(vec![]), anchor, at),
            Event::MappingStart(_, anchor, _) => self.begin(Value::Map(vec![]), anchor, at),
            Event::SequenceEnd | Event::MappingEnd => self.end(at, report),
            Event::Alias(anchor) => {
                let node = self.named(anchor, at)?;
                self.put(node, report)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, value: Value, anchor: usize, at: Span) -> Result<(), Diagnostic> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.count(1, &at)?;
        self.open.push(Open {
            start: at.start,
            anchor,
            key: None,
            value,
        });
        Ok(())
    }

    fn end(&mut self, at: Span, report: &mut Report) -> Result<(), Diagnostic> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        // A block ends where the next thing begins; only `]` and `}` are text of its own.
        let last = match &open.value {
            Value::List(items) => items.last().map(|node| node.span.end),
            Value::Map(entries) => entries
                .last()
                .map(|it| it.node.span.end.max(it.key_span.end)),
            _ => None,
        };
        let end = if at.is_empty() {
            last.unwrap_or(open.start)
        } else {
            at.end
        };
        let node = Node {
            span: open.start..end.max(open.start),
            value: open.value,
        };
        self.keep(open.anchor, &node);
        self.put(node, report)
    }

    fn count(&mut self, values: usize, at: &Span) -> Result<(), Diagnostic> {
        self.values += values;
        if self.values <= MAX_VALUES {
            return Ok(());
        }
        let message = format!("the file has more than {MAX_VALUES} values");
        Err(Diagnostic::new(at.clone(), message).help("an alias counts as all that it stands for"))
    }

    fn keep(&mut self, anchor: usize, node: &Node) {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
    }

    /// What an alias stands for. Its place is the alias's; what is in it keeps its own.
    fn named(&mut self, anchor: usize, at: Span) -> Result<Node, Diagnostic> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Diagnostic::new(
                at,
                "this alias stands for something that contains it",
            ));
        };
        let (values, depth) = measure(node);
        let node = Node {
            span: at.clone(),
            value: node.value.clone(),
        };
        self.count(values, &at)?;
        if self.open.len() + depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        Ok(node)
    }

    fn put(&mut self, node: Node, report: &mut Report) -> Result<(), Diagnostic> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match open.key.take() {
                None => open.key = Some(key(node, report)),
                Some(Some((key, key_span))) => insert(
                    entries,
                    Entry {
                        key,
                        key_span,
                        node,
                    },
                    report,
                ),
                Some(None) => {}
            },
            _ => {}
        }
        Ok(())
    }
}

fn scalar(text: String, style: ScalarStyle, is_text: bool) -> Value {
    if style != ScalarStyle::Plain || is_text {
        return Value::Quoted(text);
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        _ => Value::Plain(text),
    }
}

fn key(node: Node, report: &mut Report) -> Option<(String, Span)> {
    match node.value {
        Value::Plain(text) | Value::Quoted(text) => Some((text, node.span)),
        _ => {
            let message = format!("expected a key, found {}", node.found());
            report.add(Diagnostic::new(node.span, message));
            None
        }
    }
}

fn insert(entries: &mut Vec<Entry>, entry: Entry, report: &mut Report) {
    match entries.iter().find(|known| known.key == entry.key) {
        Some(known) => report.add(
            Diagnostic::new(
                entry.key_span,
                format!("key {:?} is here twice", shorten(&entry.key, 60)),
            )
            .also(known.key_span.clone(), "the first"),
        ),
        None => entries.push(entry),
    }
}

/// How many values a node has, itself included, and how deep it is.
fn measure(node: &Node) -> (usize, usize) {
    let add = |(values, depth): (usize, usize), child: &Node| {
        let (more, deep) = measure(child);
        (values + more, depth.max(deep + 1))
    };
    match &node.value {
        Value::List(items) => items.iter().fold((1, 1), add),
        Value::Map(entries) => entries.iter().map(|entry| &entry.node).fold((1, 1), add),
        _ => (1, 0),
    }
}

fn known_tag(tag: &Tag, at: Span) -> Result<(), Diagnostic> {
    // `!` alone says that it is what it looks like.
    if tag.core_suffix().is_some() || tag.original() == "!" {
        return Ok(());
    }
    Err(Diagnostic::new(
        at,
        format!(
            "the tag {} means nothing here",
            shorten(&tag.original(), 60)
        ),
    )
    .help("take it away"))
}

fn too_deep(at: Span) -> Diagnostic {
    Diagnostic::new(at, format!("nested more than {MAX_DEPTH} deep"))
}

/// A syntax error in words that say what to do, where there are such words.
fn not_yaml(error: &ScanError, text: &str) -> Diagnostic {
    let at = error
        .marker()
        .byte_offset()
        .unwrap_or(text.len())
        .min(text.len());
    let span = at..text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
    let tab = || {
        text[..at]
            .rsplit('\n')
            .next()
            .is_some_and(|line| line.contains('\t'))
    };
    match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => {
            Diagnostic::new(span, "a tab cannot be used as indentation").help("use spaces")
        }
        ErrorKind::UnknownAnchor => Diagnostic::new(span, "no anchor has this alias's name")
            .help("`&name` gives a value a name, `*name` uses it after that"),
        ErrorKind::RecursionLimitExceeded => too_deep(span),
        kind => {
            let mistake = Diagnostic::new(span, format!("not valid YAML: {kind}"));
            if tab() {
                mistake.help("there is a tab in this line; use spaces")
            } else if is_unclosed(kind) {
                mistake.help("a bracket, brace or quote is opened here or above, and not closed")
            } else {
                mistake
            }
        }
    }
}

/// What the parser says of text that it took to be inside of something.
fn is_unclosed(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnclosedFlowCollection { .. }
            | ErrorKind::MismatchedFlowCollectionEnd { .. }
            | ErrorKind::UnexpectedEofFlowSequence
            | ErrorKind::UnexpectedEofFlowMapping
            | ErrorKind::ExpectedFlowMappingSeparator
            | ErrorKind::ExpectedFlowSequenceSeparator
            | ErrorKind::InvalidColonPlacement
            | ErrorKind::UnclosedQuotedScalar
            | ErrorKind::InvalidQuotedScalarIndent
            | ErrorKind::DocumentIndicatorInQuotedScalar
    )
}
