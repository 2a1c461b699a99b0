//! `llmdev doctor`.

use std::process::ExitCode;

use super::{Global, json, print};
use crate::doctor::{self, Check, Verdict};
use crate::error::{Kind, Result};
use crate::ui::{BAD, FAINT, GOOD, WARN, paint};

pub(super) const HELP: &str = "Ends with 0 if nothing is marked ✗, else with 4.

Examples:
  llmdev doctor
  llmdev doctor -o json | jq '.[] | select(.verdict != \"good\")'";

pub(super) async fn run(global: &Global) -> Result<ExitCode> {
    let checks = doctor::examine(global.stack()).await;
    if global.json() {
        print(&json(&checks))?;
    } else {
        let width = checks
            .iter()
            .map(|check| check.name.len())
            .max()
            .unwrap_or(0);
        let lines: Vec<_> = checks
            .iter()
            .flat_map(|check| lines(check, width))
            .collect();
        print(&lines.join("\n"))?;
    }
    let bad = checks.iter().any(|check| check.verdict == Verdict::Bad);
    Ok(if bad {
        ExitCode::from(Kind::Environment.exit_code())
    } else {
        ExitCode::SUCCESS
    })
}

fn lines(check: &Check, width: usize) -> Vec<String> {
    let mark = match check.verdict {
        Verdict::Good => paint(GOOD, "✓"),
        Verdict::Warning => paint(WARN, "!"),
        Verdict::Bad => paint(BAD, "✗"),
    };
    let mut lines = vec![format!("{mark} {:<width$}  {}", check.name, check.found)];
    if let Some(remedy) = &check.remedy {
        lines.push(format!(
            "  {:width$}  {} {remedy}",
            "",
            paint(FAINT, "try:")
        ));
    }
    lines
}
