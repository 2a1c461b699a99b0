//! What a check has come to.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Rule, Severity};

/// What is wrong with one field of one object.
pub struct Finding {
    /// The rule that it breaks.
    pub rule: &'static Rule,
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// As the manifests say it; none where they do not.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// Such as `spec.template.spec.containers[0].image`.
    pub field: String,
    /// Where the field, or what should have it, stands: absolute, empty for standard input.
    pub file: Option<PathBuf>,
    /// From 1.
    pub line: Option<usize>,
    /// What is wrong, of this object.
    pub message: String,
    /// YAML that mends it.
    pub mend: String,
}

/// A rule that the stack has switched off.
pub struct Ignored {
    /// The rule.
    pub rule: String,
    /// Why, in the stack's words.
    pub reason: String,
    /// For which objects; none: for all.
    pub objects: Vec<String>,
    /// What it would have found.
    pub findings: Vec<Finding>,
}

/// All findings.
#[derive(Default)]
pub struct Report {
    /// How many objects were looked at.
    pub objects: usize,
    /// Whether the rules for production held.
    pub production: bool,
    /// The worst first.
    pub findings: Vec<Finding>,
    /// In the order of stack.yaml.
    pub ignored: Vec<Ignored>,
}

impl Finding {
    /// `kind/name` as kubectl writes it.
    pub fn object(&self) -> String {
        format!("{}/{}", self.kind.to_lowercase(), self.name)
    }

    /// The file as it is shown: from the folder that the check is about.
    pub fn shown_file(&self, root: &Path) -> Option<String> {
        let file = self.file.as_ref()?;
        if file.as_os_str().is_empty() {
            return Some("-".to_owned());
        }
        Some(
            file.strip_prefix(root)
                .unwrap_or(file)
                .display()
                .to_string(),
        )
    }

    /// `file:line`, as far as it is known.
    pub fn place(&self, root: &Path) -> Option<String> {
        let file = self.shown_file(root)?;
        Some(match self.line {
            Some(line) => format!("{file}:{line}"),
            None => file,
        })
    }

    fn json(&self, root: &Path) -> Value {
        json!({
            "rule": self.rule.id,
            "severity": self.rule.severity,
            "message": self.message,
            "object": {
                "apiVersion": self.api_version,
                "kind": self.kind,
                "namespace": self.namespace,
                "name": self.name,
            },
            "field": self.field,
            "file": self.shown_file(root),
            "line": self.line,
            "why": self.rule.why,
            "mend": self.mend,
            "source": self.rule.source,
        })
    }
}

impl Report {
    /// How many findings are that bad.
    pub fn count(&self, severity: Severity) -> usize {
        let is = |finding: &&Finding| finding.rule.severity == severity;
        self.findings.iter().filter(is).count()
    }

    /// The worst of them.
    pub fn worst(&self) -> Option<Severity> {
        self.findings
            .iter()
            .map(|finding| finding.rule.severity)
            .max()
    }

    /// For programs; files are relative to `root` where they are below it.
    pub fn json(&self, root: &Path) -> Value {
        let all =
            |findings: &[Finding]| findings.iter().map(|it| it.json(root)).collect::<Vec<_>>();
        let ignored = |it: &Ignored| {
            json!({
                "rule": it.rule, "reason": it.reason, "objects": it.objects, "findings": all(&it.findings),
            })
        };
        json!({
            "objects": self.objects,
            "production": self.production,
            "summary": {
                "error": self.count(Severity::Error),
                "warning": self.count(Severity::Warning),
                "info": self.count(Severity::Info),
            },
            "findings": all(&self.findings),
            "ignored": self.ignored.iter().map(ignored).collect::<Vec<_>>(),
        })
    }
}

impl Rule {
    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "rule": self.id,
            "severity": self.severity,
            "title": self.title,
            "why": self.why,
            "source": self.source,
            "production": self.production,
        })
    }
}
