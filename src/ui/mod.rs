//! What people see: words and colours for phases, failures, tables, and progress.

mod echo;
pub mod failure;
pub mod findings;
pub mod news;
pub mod progress;
pub mod table;

use std::io::IsTerminal;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use crate::event::Phase;

/// Bold.
pub const STRONG: Style = Style::new().bold();
/// For what may be passed over.
pub const FAINT: Style = Style::new().dimmed();
/// For what went well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// For what is under way.
pub const BUSY: Style = AnsiColor::Cyan.on_default();
/// For warnings.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// For errors.
pub const BAD: Style = AnsiColor::Red.on_default().bold();

/// Text in a style. Where colours are not wanted, `anstream` takes them away.
pub fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Whether lines may be drawn over: a terminal that can, and neither CI nor `NO_COLOR` asks for plain lines.
pub fn is_live() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal()
        && !set("NO_COLOR")
        && !set("CI")
        && std::env::var("TERM").as_deref() != Ok("dumb")
}

/// A phase's word.
pub fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "pending",
        Phase::Building => "building",
        Phase::Loading => "loading",
        Phase::Applying => "applying",
        Phase::Starting => "starting",
        Phase::Ready => "ready",
        Phase::Failed => "failed",
        Phase::Stopped => "stopped",
    }
}

/// A phase's sign and colour.
pub fn sign(phase: Phase) -> (&'static str, Style) {
    match phase {
        Phase::Pending | Phase::Stopped => ("·", FAINT),
        Phase::Building | Phase::Loading | Phase::Applying | Phase::Starting => ("•", BUSY),
        Phase::Ready => ("✓", GOOD),
        Phase::Failed => ("✗", BAD),
    }
}

/// `85 ms`, `1.2 s`, `2 m 05 s`.
pub fn duration(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        ms @ 1000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        ms => format!("{} m {:02} s", ms / 60_000, ms / 1000 % 60),
    }
}

/// `512 B`, `35 MiB`, `1.2 GiB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_as_people_say_them() {
        let said = |ms| duration(Duration::from_millis(ms));
        assert_eq!(
            [said(7), said(1240), said(125_000)],
            ["7 ms", "1.2 s", "2 m 05 s"]
        );
    }
}
