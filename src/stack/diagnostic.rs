//! Mistakes in `stack.yaml`: where, what, and what was probably meant; and how they are shown.

use std::ops::Range;

use annotate_snippets::renderer::{DEFAULT_ERROR_STYLE, Style};
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use crate::error::Failure;

/// A byte range of the text.
pub type Span = Range<usize>;

/// No more than this many mistakes are shown; the rest is counted.
const SHOWN: usize = 50;
/// Nobody reads lines longer than this, in bytes: their text is not shown.
const READABLE: usize = 10_000;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The text that is wrong; it lies in the file's text.
    pub span: Span,
    /// One line without a full stop.
    pub message: String,
    /// What to write instead, or what to do.
    pub help: Option<String>,
    /// Other places that it has to do with, each with a word of why.
    pub also: Vec<(Span, String)>,
}

impl Diagnostic {
    /// A mistake at a place.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Diagnostic {
            span,
            message: shorten(&message.into(), 300),
            help: None,
            also: Vec::new(),
        }
    }

    /// Says what to write instead.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(shorten(&help.into(), 300));
        self
    }

    /// Says what was probably meant, if anything that is known looks like it.
    pub fn suggest<'a>(self, wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(wrong, known) {
            Some(right) => self.help(format!("did you mean `{right}`?")),
            None => self,
        }
    }

    /// Shows another place with it.
    pub fn also(mut self, span: Span, why: impl Into<String>) -> Self {
        self.also.push((span, why.into()));
        self
    }
}

/// Collects mistakes, so that one does not hide the next.
#[derive(Debug, Default)]
pub struct Report {
    list: Vec<Diagnostic>,
}

impl Report {
    /// Adds a mistake.
    pub fn add(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    /// The mistakes so far.
    pub fn into_list(self) -> Vec<Diagnostic> {
        self.list
    }
}

/// All mistakes of one file, in the order of its text. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    /// The file's name as it is shown.
    file: String,
    source: String,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Sorts the mistakes, and drops what is said twice.
    pub fn new(file: impl Into<String>, source: impl Into<String>, list: Vec<Diagnostic>) -> Self {
        let (source, mut list) = (source.into(), list);
        for diagnostic in &mut list {
            diagnostic.span = within(&source, &diagnostic.span);
            for (span, _) in &mut diagnostic.also {
                *span = within(&source, span);
            }
        }
        list.sort_by(|a, b| order(a).cmp(&order(b)));
        list.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        Diagnostics {
            file: file.into(),
            source,
            list,
        }
    }

    /// The mistakes in the order of the text.
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// Line and column of a mistake, both from 1, the column in characters.
    pub fn position(&self, diagnostic: &Diagnostic) -> (usize, usize) {
        position(&self.source, diagnostic.span.start)
    }

    /// All mistakes for people to read. Each starts with `FILE:LINE:COLUMN: error: …`, which problem matchers take.
    pub fn render(&self, color: bool) -> String {
        let mut text = String::new();
        for diagnostic in self.list.iter().take(SHOWN) {
            if !text.is_empty() {
                text.push('\n');
            }
            self.render_one(diagnostic, color, &mut text);
        }
        if self.list.len() > SHOWN {
            text.push_str(&format!("\nand {} more\n", self.list.len() - SHOWN));
        }
        text
    }

    fn render_one(&self, diagnostic: &Diagnostic, color: bool, text: &mut String) {
        let (line, column) = self.position(diagnostic);
        let message = &diagnostic.message;
        let error = if color {
            DEFAULT_ERROR_STYLE
        } else {
            Style::new()
        };
        text.push_str(&format!(
            "{}:{line}:{column}: {error}error{error:#}: {message}\n",
            self.file
        ));
        let excerpt = self.excerpt(diagnostic);
        if excerpt.len() > READABLE {
            return;
        }
        let first = position(&self.source, excerpt.start).0;
        let inside = |span: &Span| span.start - excerpt.start..span.end - excerpt.start;
        let mark = |kind: AnnotationKind, span: &Span| -> Annotation<'_> {
            kind.span(inside(&one_line(&self.source, span)))
        };
        let snippet = Snippet::source(&self.source[excerpt.clone()])
            .line_start(first)
            .annotation(mark(AnnotationKind::Primary, &diagnostic.span))
            .annotations(
                diagnostic
                    .also
                    .iter()
                    .map(|(span, why)| mark(AnnotationKind::Context, span).label(why.as_str())),
            );
        let mut group = Group::with_level(Level::ERROR).element(snippet);
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        text.push_str(&renderer.term_width(100).render(&[group]));
        text.push('\n');
    }

    /// Whole lines around all that the mistake marks: the renderer need not look through the rest.
    fn excerpt(&self, diagnostic: &Diagnostic) -> Span {
        let spans =
            || std::iter::once(&diagnostic.span).chain(diagnostic.also.iter().map(|it| &it.0));
        let start = spans().map(|span| span.start).min().unwrap_or(0);
        let end = spans()
            .map(|span| one_line(&self.source, span).end)
            .max()
            .unwrap_or(start);
        let start = self.source[..start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.source[end..]
            .find('\n')
            .map_or(self.source.len(), |at| end + at);
        start..end.max(start)
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Failure {
        let file = &diagnostics.file;
        let what = match diagnostics.list.len() {
            1 => format!("{file} has a mistake"),
            n => format!("{file} has {n} mistakes"),
        };
        Failure::config(what).detail(diagnostics.render(false).lines())
    }
}

/// Text of no more than so many characters, for messages.
pub fn shorten(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// In the order of the text; what is said twice comes together.
fn order(diagnostic: &Diagnostic) -> (usize, usize, &str) {
    (
        diagnostic.span.start,
        diagnostic.span.end,
        &diagnostic.message,
    )
}

/// Of the names that are known, the one that looks most like the wrong one, if any is near.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(wrong);
    let limit = (folded.chars().count() / 3).clamp(1, 3);
    let far = |name: &&str| name.len().abs_diff(wrong.len()) > 8;
    known
        .into_iter()
        .take(500)
        .filter(|name| !far(name))
        .map(|name| (strsim::osa_distance(&folded, &fold(name)), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `ready_timeout`, `ready-timeout` and `readyTimeout` are the same slip; long nonsense is not compared at length.
fn fold(name: &str) -> String {
    let kept = name.chars().filter(|c| !matches!(c, '-' | '_' | ' '));
    kept.take(64).collect::<String>().to_lowercase()
}

/// Line and column of a byte, both from 1, the column in characters.
fn position(source: &str, at: usize) -> (usize, usize) {
    let before = &source[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before[line_start..]
        .trim_start_matches('\u{feff}')
        .chars()
        .count();
    (before.matches('\n').count() + 1, column + 1)
}

/// The nearest range that lies in the text and cuts no character.
fn within(source: &str, span: &Span) -> Span {
    let floor = |at: usize| {
        let at = at.min(source.len());
        (0..=at)
            .rev()
            .find(|at| source.is_char_boundary(*at))
            .unwrap_or(0)
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

/// The part of a range that is on its first line, so that a whole block is not underlined.
fn one_line(source: &str, span: &Span) -> Span {
    let line = source[span.start..]
        .find(['\n', '\r'])
        .map_or(source.len(), |at| span.start + at);
    span.start..span.end.min(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names() {
        let known = ["forward", "build", "readyTimeout", "env"];
        let table = [
            ("forwrad", Some("forward")),
            ("forwards", Some("forward")),
            ("ready_timeout", Some("readyTimeout")),
            ("Build", Some("build")),
            ("envs", Some("env")),
            ("image", None),
            ("", None),
        ];
        for (wrong, right) in table {
            assert_eq!(nearest(wrong, known), right, "{wrong}");
        }
    }

    #[test]
    fn positions_count_characters_from_one() {
        let source = "a: ü x\nb";
        assert_eq!(position(source, 0), (1, 1));
        assert_eq!(position(source, source.find('x').unwrap()), (1, 6));
        assert_eq!(position(source, source.len()), (2, 2));
        assert_eq!(position("\u{feff}a: b", 3), (1, 1));
    }

    #[test]
    fn a_mistake_looks_like_this() {
        let source = "name: x\nservices:\n  litellm:\n    forwrad: [4000]\n";
        let at = source.find("forwrad").unwrap();
        let first = source.find("litellm").unwrap();
        let mistake = Diagnostic::new(at..at + 7, "unknown key \"forwrad\" in service \"litellm\"")
            .suggest("forwrad", ["forward", "build"])
            .also(first..first + 7, "in this service");
        let text = Diagnostics::new("stack.yaml", source, vec![mistake]).render(false);
        insta::assert_snapshot!(text, @r#"
        stack.yaml:4:5: error: unknown key "forwrad" in service "litellm"
          |
        3 |   litellm:
          |   ------- in this service
        4 |     forwrad: [4000]
          |     ^^^^^^^
          |
          = help: did you mean `forward`?
        "#);
    }
}
