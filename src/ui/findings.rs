//! What `llmdev check` has found, and its rules, for people.

use std::path::Path;

use anstyle::Style;

use super::{BAD, BUSY, FAINT, STRONG, WARN, paint};
use crate::check::{Finding, Ignored, RULES, Report, Rule, Severity};

/// Sentences are no longer than this.
const WIDTH: usize = 100;
/// Under the widest severity.
const INDENT: &str = "         ";

/// All of a report; files are shown from `root`.
pub fn lines(report: &Report, root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for findings in report.findings.chunk_by(|a, b| a.rule.id == b.rule.id) {
        lines.extend(rule(findings, root));
    }
    for ignored in &report.ignored {
        lines.extend(off(ignored));
    }
    if !report.ignored.is_empty() {
        lines.push(String::new());
    }
    lines.push(summary(report));
    lines
}

/// All rules: `llmdev check --list`.
pub fn rules() -> Vec<String> {
    let mut lines = Vec::new();
    for rule in RULES {
        let scope = if rule.production {
            paint(FAINT, "  production only")
        } else {
            String::new()
        };
        lines.push(format!("{}{scope}", head(rule)));
        lines.extend(wrapped(rule.why).map(|line| format!("{INDENT}{line}")));
        lines.push(format!(
            "{INDENT}{}",
            paint(FAINT, format!("source: {}", rule.source))
        ));
        lines.push(String::new());
    }
    lines.push(format!("{} rules", RULES.len()));
    lines
}

/// The findings of one rule: what it is about once, and each mend once.
fn rule(findings: &[Finding], root: &Path) -> Vec<String> {
    let rule = findings[0].rule;
    let mut lines = vec![head(rule)];
    lines.extend(wrapped(rule.why).map(|line| format!("{INDENT}{}", paint(FAINT, line))));
    let mut mends: Vec<&str> = Vec::new();
    for finding in findings {
        if !mends.contains(&finding.mend.as_str()) {
            mends.push(&finding.mend);
        }
    }
    for mend in mends {
        let same = findings.iter().filter(|finding| finding.mend == mend);
        lines.extend(same.flat_map(|finding| one(finding, root)));
        let shown = mend.lines().enumerate();
        lines.extend(shown.map(|(index, line)| {
            let lead = if index == 0 { "mend:" } else { "" };
            format!(
                "    {} {}",
                paint(FAINT, format!("{lead:<5}")),
                paint(BUSY, line)
            )
        }));
    }
    lines.push(String::new());
    lines
}

fn one(finding: &Finding, root: &Path) -> [String; 2] {
    let object = paint(STRONG, finding.object());
    let namespace = finding
        .namespace
        .as_ref()
        .map_or(String::new(), |it| paint(FAINT, format!(" in {it}")));
    let place = finding
        .place(root)
        .map_or(String::new(), |place| format!("{place}  "));
    [
        format!("  {object}{namespace}  {}", finding.message),
        format!("    {}", paint(FAINT, format!("{place}{}", finding.field))),
    ]
}

fn head(rule: &Rule) -> String {
    let (word, style) = severity(rule.severity);
    format!(
        "{}  {}  {}",
        paint(style, format!("{word:<7}")),
        rule.id,
        paint(STRONG, rule.title)
    )
}

/// A rule that is switched off, with the reason.
fn off(ignored: &Ignored) -> Vec<String> {
    let objects = if ignored.objects.is_empty() {
        String::new()
    } else {
        format!(" for {}", ignored.objects.join(", "))
    };
    let hides = match ignored.findings.len() {
        0 => paint(WARN, "hides nothing here"),
        count => format!("hides {}", counted(count, "finding")),
    };
    vec![
        format!(
            "{}  {}{objects}  {hides}",
            paint(FAINT, "off    "),
            ignored.rule
        ),
        format!(
            "{INDENT}{}",
            paint(FAINT, format!("because: {}", ignored.reason))
        ),
    ]
}

fn summary(report: &Report) -> String {
    let counts = [
        (Severity::Error, "error"),
        (Severity::Warning, "warning"),
        (Severity::Info, "info"),
    ];
    let counts = counts.map(|(severity, word)| (report.count(severity), word));
    let said: Vec<_> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| counted(count, word))
        .collect();
    let said = if said.is_empty() {
        "nothing found".to_owned()
    } else {
        said.join(", ")
    };
    let production = if report.production {
        "rules for production included"
    } else {
        "without the rules for production"
    };
    format!(
        "{} in {}, {production}",
        paint(STRONG, said),
        counted(report.objects, "object")
    )
}

fn severity(severity: Severity) -> (&'static str, Style) {
    match severity {
        Severity::Error => ("error", BAD),
        Severity::Warning => ("warning", WARN),
        Severity::Info => ("info", BUSY),
    }
}

fn counted(count: usize, word: &str) -> String {
    if count == 1 {
        format!("1 {word}")
    } else {
        format!("{count} {word}s")
    }
}

/// A sentence in lines.
fn wrapped(text: &str) -> impl Iterator<Item = String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.into_iter()
}
