//! A failure on the screen: the kind of line that stays last.

use super::{BAD, FAINT, STRONG, paint};
use crate::error::{Failure, Kind};

/// The lines that show a failure, coloured.
pub fn lines(failure: &Failure) -> Vec<String> {
    if failure.detail.first().is_some_and(|line| is_place(line)) && failure.kind == Kind::Config {
        return mistakes(failure);
    }
    let mut lines = head(failure);
    lines.extend(
        failure
            .detail
            .iter()
            .map(|line| format!("  {} {line}", paint(FAINT, "|"))),
    );
    lines.extend(remedy(failure));
    lines
}

/// The mistakes of a file: each as it was rendered, for people and for editors, and how many there are at the end.
fn mistakes(failure: &Failure) -> Vec<String> {
    let mut lines: Vec<_> = failure.detail.iter().map(|line| mistake(line)).collect();
    if lines.last().is_some_and(|line| !line.is_empty()) {
        lines.push(String::new());
    }
    lines.extend(head(failure));
    lines.extend(remedy(failure));
    lines
}

/// A line of a rendered mistake, coloured.
fn mistake(line: &str) -> String {
    if let Some((place, message)) = line.split_once(PLACE).filter(|_| is_place(line)) {
        let (bad, error) = (STRONG, paint(BAD, "error:"));
        return format!("{}: {error} {}", paint(bad, place), paint(bad, message));
    }
    match line.find('|') {
        Some(at) if line[..at].chars().all(|c| c == ' ' || c.is_ascii_digit()) => {
            let (gutter, code) = line.split_at(at + 1);
            let marks = !code.trim().is_empty() && code.trim_start().starts_with('^');
            let code = if marks {
                paint(BAD, code)
            } else {
                code.to_owned()
            };
            format!("{}{code}", paint(FAINT, gutter))
        }
        _ => line.to_owned(),
    }
}

/// Stands between the place of a mistake and what it is.
const PLACE: &str = ": error: ";

/// Whether a line begins with `FILE:LINE:COLUMN: error: `.
fn is_place(line: &str) -> bool {
    let Some((place, _)) = line.split_once(PLACE) else {
        return false;
    };
    let mut numbers = place.rsplitn(3, ':');
    let number = |text: Option<&str>| text.is_some_and(|text| text.parse::<usize>().is_ok());
    number(numbers.next()) && number(numbers.next()) && numbers.next().is_some()
}

fn head(failure: &Failure) -> Vec<String> {
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
    lines
}

fn remedy(failure: &Failure) -> Option<String> {
    let remedy = failure.remedy.as_ref()?;
    Some(format!("  {} {remedy}", paint(FAINT, "try:")))
}

/// Prints a failure on standard error.
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

    #[test]
    fn mistakes_of_a_file_begin_their_lines_as_editors_want_it() {
        let failure = Failure::config("stack.yaml has a mistake").detail([
            "stack.yaml:16:17: error: there is no service \"cash\"",
            "   |",
            "16 |     dependsOn: [cash]",
            "   |                 ^^^^",
        ]);
        let plain: String = lines(&failure)
            .iter()
            .map(|line| anstream::adapter::strip_str(line).to_string() + "\n")
            .collect();
        insta::assert_snapshot!(plain, @r#"
        stack.yaml:16:17: error: there is no service "cash"
           |
        16 |     dependsOn: [cash]
           |                 ^^^^

        error: stack.yaml has a mistake
        "#);
    }
}
