//! Runs the rules, looks up where their findings stand, and puts aside what the stack has switched off.

use globset::{Glob, GlobMatcher};

use super::place::Places;
use super::report::{Finding, Ignored, Report};
use super::scene::Scene;
use super::{Findings, Found, RULES, Rule};
use crate::render::Object;
use crate::stack::Ignore;

/// What is checked.
pub struct Subject<'a> {
    /// The objects as their manifests have them.
    pub objects: &'a [Object],
    /// Where those are that name no namespace.
    pub namespace: &'a str,
    /// Whether the rules for production hold.
    pub production: bool,
    /// What the stack has switched off.
    pub ignore: &'a [Ignore],
    /// What came through standard input, if the objects did.
    pub input: &'a str,
}

/// Checks objects by all rules.
pub fn check(subject: &Subject<'_>) -> Report {
    let scene = Scene::new(subject.objects, subject.namespace);
    let mut places = Places::with_input(subject.input);
    let mut off: Vec<_> = subject.ignore.iter().map(Off::new).collect();
    let mut report = Report {
        objects: subject.objects.len(),
        production: subject.production,
        ..Report::default()
    };
    for rule in RULES
        .iter()
        .filter(|rule| subject.production || !rule.production)
    {
        let mut found = Findings::default();
        (rule.look)(&scene, &mut found);
        for found in found.0 {
            let off = off.iter_mut().find(|off| off.covers(rule, found.object));
            let list = off.map_or(&mut report.findings, |off| &mut off.findings);
            list.push(finding(rule, found, &mut places));
        }
    }
    // The worst first; otherwise as the rules and the objects are ordered.
    report
        .findings
        .sort_by_key(|finding| std::cmp::Reverse(finding.rule.severity));
    report.ignored = off.into_iter().map(Off::into_ignored).collect();
    report
}

fn finding(rule: &'static Rule, found: Found<'_>, places: &mut Places) -> Finding {
    let Found {
        object,
        field,
        message,
        mend,
    } = found;
    let spot = places.of(object, &field);
    Finding {
        rule,
        api_version: object.api_version.clone(),
        kind: object.kind.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        field: field.to_string(),
        file: spot.as_ref().map(|spot| spot.file.clone()),
        line: spot.and_then(|spot| spot.line),
        message,
        mend,
    }
}

/// A rule that is switched off, for some objects or for all.
struct Off<'a> {
    ignore: &'a Ignore,
    objects: Vec<GlobMatcher>,
    findings: Vec<Finding>,
}

impl<'a> Off<'a> {
    fn new(ignore: &'a Ignore) -> Self {
        let globs = ignore
            .objects
            .iter()
            .filter_map(|glob| Glob::new(glob).ok());
        Off {
            ignore,
            objects: globs.map(|glob| glob.compile_matcher()).collect(),
            findings: vec![],
        }
    }

    fn covers(&self, rule: &Rule, object: &Object) -> bool {
        let named = || self.objects.iter().any(|glob| glob.is_match(object.id()));
        self.ignore.rule == rule.id && (self.ignore.objects.is_empty() || named())
    }

    fn into_ignored(self) -> Ignored {
        Ignored {
            rule: self.ignore.rule.clone(),
            reason: self.ignore.reason.clone(),
            objects: self.ignore.objects.clone(),
            findings: self.findings,
        }
    }
}
