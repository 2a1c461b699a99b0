//! A failure on the screen: the kind of line that stays last.

use super::{BAD, FAINT, STRONG, paint};
use crate::error::Failure;

/// The lines that show a failure, coloured.
pub fn lines(failure: &Failure) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {}",
        paint(BAD, "error:"),
        paint(STRONG, &failure.what)
    )];
    for cause in &failure.causes {
        for (index, line) in cause.trim_end().lines().enumerate() {
            let lead = if index == 0 { "because: " } else { "         " };
            lines.push(format!("  {}{line}", paint(FAINT, lead)));
        }
    }
    lines.extend(
        failure
            .detail
            .iter()
            .map(|line| format!("  {} {line}", paint(FAINT, "|"))),
    );
    if let Some(remedy) = &failure.remedy {
        lines.push(format!("  {} {remedy}", paint(FAINT, "try:")));
    }
    lines
}

/// Prints a failure on standard error. What `stack.yaml`'s reader says comes rendered already.
pub fn print(failure: &Failure) {
    for line in lines(failure) {
        anstream::eprintln!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let failure = Failure::failed("api cannot start")
            .cause("the image has no shell")
            .detail(["exec: sh: not found"])
            .remedy("llmdev logs api");
        let plain: String = lines(&failure)
            .iter()
            .map(|line| anstream::adapter::strip_str(line).to_string() + "\n")
            .collect();
        insta::assert_snapshot!(plain, @r"
        error: api cannot start
          because: the image has no shell
          | exec: sh: not found
          try: llmdev logs api
        ");
    }
}
