//! `up` as it goes on: one live line a service on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use chrono::Utc;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::echo::Quiet;
use super::{BAD, FAINT, STRONG, WARN, duration, paint, sign, word};
use crate::event::{Event, Level, Phase, ServiceStatus, Status, What};

/// How often the times on the screen move.
const TICK: Duration = Duration::from_millis(100);

/// The widest a line may be when the terminal does not say how wide it is.
const WIDTH: usize = 100;

/// Longer names are cut.
const WIDEST_NAME: usize = 28;

/// The column of times.
const CLOCK: usize = 10;

/// What a line takes beside the name and the reason: the sign, the phase, the time, and what is between them.
const AROUND: usize = 2 + 2 + 8 + CLOCK + 2;

/// Shows events as they come.
#[derive(Debug)]
pub struct Progress {
    screen: Screen,
    status: Option<Status>,
}

#[derive(Debug)]
enum Screen {
    /// A line a service that is drawn over.
    Live {
        all: MultiProgress,
        lines: BTreeMap<String, Line>,
        /// Of the column of names.
        width: usize,
        quiet: Option<Quiet>,
    },
    /// No lines of services.
    Notes,
    /// A line a change.
    Plain {
        said: BTreeMap<String, (Phase, Option<String>)>,
    },
}

#[derive(Debug)]
struct Line {
    bar: ProgressBar,
    /// And whether there is nothing to say of it.
    phase: Option<(Phase, bool)>,
    /// When it last began to move.
    began: Option<Instant>,
}

impl Progress {
    /// Chooses by where standard error goes.
    pub fn new() -> Self {
        let screen = if super::is_live() {
            Screen::Live {
                all: MultiProgress::new(),
                lines: BTreeMap::new(),
                width: 0,
                quiet: Quiet::enter(),
            }
        } else {
            Screen::Plain {
                said: BTreeMap::new(),
            }
        };
        Progress {
            screen,
            status: None,
        }
    }

    /// Shows notes only: for what is not about how services come up.
    pub fn notes() -> Self {
        Progress {
            screen: Screen::Notes,
            status: None,
        }
    }

    /// Shows an event.
    pub fn show(&mut self, event: &Event) {
        match &event.what {
            What::Snapshot(status) => {
                self.only(status);
                status.services.iter().for_each(|row| self.row(row));
                self.status = Some(status.clone());
            }
            What::Service(row) => {
                self.row(row);
                let rows = self
                    .status
                    .iter_mut()
                    .flat_map(|status| &mut status.services);
                rows.filter(|one| one.name == row.name)
                    .for_each(|one| *one = (**row).clone());
            }
            What::Note {
                level,
                service,
                text,
            } => self.say(&note(*level, service.as_deref(), text)),
        }
    }

    /// The stack as the events have told it.
    pub fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    /// A line of our own, above what is live.
    pub fn say(&self, line: &str) {
        match &self.screen {
            Screen::Live { all, .. } => all.suspend(|| anstream::eprintln!("{line}")),
            Screen::Plain { .. } | Screen::Notes => anstream::eprintln!("{line}"),
        }
    }

    /// Leaves the lines as they are and lets go of the screen.
    pub fn finish(&mut self) {
        if let Screen::Live { lines, quiet, .. } = &mut self.screen {
            quiet.take();
            lines.values().for_each(Line::leave);
            lines.clear();
        }
    }

    /// Takes away the lines of services that are no longer in the stack, and makes room for the longest name.
    fn only(&mut self, status: &Status) {
        if let Screen::Live {
            all, lines, width, ..
        } = &mut self.screen
        {
            let longest = status.services.iter().map(|row| row.name.chars().count());
            *width = longest.max().unwrap_or(0).min(WIDEST_NAME);
            lines.retain(|name, line| {
                let stays = status.services.iter().any(|row| &row.name == name);
                if !stays {
                    all.remove(&line.bar);
                }
                stays
            });
        }
    }

    fn row(&mut self, row: &ServiceStatus) {
        match &mut self.screen {
            Screen::Live {
                all, lines, width, ..
            } => {
                let line = lines
                    .entry(row.name.clone())
                    .or_insert_with(|| Line::new(all));
                line.show(row, *width);
            }
            Screen::Notes => {}
            Screen::Plain { said } => {
                let now = (row.phase, row.reason.clone());
                let before = said.insert(row.name.clone(), now.clone());
                let worth = match &before {
                    // The first picture, and a build's steps, say nothing that plain lines need.
                    None => row.phase != Phase::Pending,
                    Some((phase, reason)) => {
                        *phase != row.phase
                            || (row.phase == Phase::Pending && *reason != row.reason)
                    }
                };
                if worth {
                    let reason = row
                        .reason
                        .as_deref()
                        .map(|why| format!(" ({why})"))
                        .unwrap_or_default();
                    anstream::eprintln!("{}: {}{reason}", row.name, word(row.phase));
                }
            }
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// A note's line.
pub(super) fn note(level: Level, service: Option<&str>, text: &str) -> String {
    let lead = match level {
        Level::Info => paint(FAINT, "note:"),
        Level::Warning => paint(WARN, "warning:"),
        Level::Error => paint(BAD, "error:"),
    };
    let whom = service
        .map(|name| format!("{}: ", paint(STRONG, name)))
        .unwrap_or_default();
    format!("{lead} {whom}{text}")
}

impl Line {
    fn new(all: &MultiProgress) -> Self {
        let bar = all.add(ProgressBar::no_length());
        Line {
            bar,
            phase: None,
            began: None,
        }
    }

    fn show(&mut self, row: &ServiceStatus, width: usize) {
        let reason = match row.phase {
            Phase::Ready => "",
            _ => row.reason.as_deref().unwrap_or_default(),
        };
        let now = (row.phase, reason.is_empty());
        if self.phase != Some(now) {
            self.enter(row, now);
        }
        let left = console_width().saturating_sub(width + AROUND);
        self.bar
            .set_prefix(format!("{:<width$}", fit(&row.name, width)));
        self.bar.set_message(paint(
            if row.phase == Phase::Failed {
                BAD
            } else {
                FAINT
            },
            fit(reason, left),
        ));
        self.bar.tick();
    }

    fn enter(&mut self, row: &ServiceStatus, now: (Phase, bool)) {
        let moving = is_moving(row.phase);
        let same = self.phase.is_some_and(|(phase, _)| phase == row.phase);
        if moving && !self.phase.is_some_and(|(phase, _)| is_moving(phase)) {
            self.began = Some(Instant::now());
        }
        let time = match row.phase {
            Phase::Ready => match self.began.take() {
                Some(began) => Time::Took(began.elapsed()),
                None => Time::None,
            },
            Phase::Failed | Phase::Stopped => Time::None,
            // It waits for nothing that could be named.
            Phase::Pending if now.1 => Time::None,
            _ => Time::Runs,
        };
        if !same {
            // What went on before this client came counts as well.
            let before = match self.phase {
                None => (Utc::now() - row.since).to_std().unwrap_or_default(),
                Some(_) => Duration::ZERO,
            };
            drop(self.bar.clone().with_elapsed(before));
        }
        self.bar.set_style(style(row.phase, &time));
        if let Time::Runs = time {
            self.bar.enable_steady_tick(TICK);
        } else {
            self.bar.disable_steady_tick();
        }
        self.phase = Some(now);
    }

    /// As it is, but nothing that seems to go on.
    fn leave(&self) {
        self.bar.disable_steady_tick();
        if let Some((phase, _)) = self.phase.filter(|(phase, _)| *phase != Phase::Ready) {
            self.bar.set_style(style(phase, &Time::None));
        }
        self.bar.abandon();
    }
}

/// What stands in the column of times.
enum Time {
    /// Nothing.
    None,
    /// How long it took.
    Took(Duration),
    /// How long the phase goes on.
    Runs,
}

fn is_moving(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Building | Phase::Loading | Phase::Applying | Phase::Starting
    )
}

/// The first line of a text, cut to so many characters, so that no line wraps.
fn fit(text: &str, width: usize) -> String {
    let line = text.trim_start().lines().next().unwrap_or_default();
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let kept = line.chars().take(width.saturating_sub(1));
    kept.chain(['…']).collect()
}

fn console_width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.map(|size| usize::from(size.ws_col))
        .ok()
        .filter(|width| *width > 0)
        .unwrap_or(WIDTH)
}

/// Tenths of seconds, so that the column keeps its shape while it runs.
fn clock(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_millis() as f64 / 1000.0),
        _ => duration(time),
    }
}

fn style(phase: Phase, time: &Time) -> ProgressStyle {
    let (mark, colour) = sign(phase);
    let mark = if is_moving(phase) && matches!(time, Time::Runs) {
        "{spinner}"
    } else {
        mark
    };
    let took = match time {
        Time::None => format!("{:>CLOCK$}", ""),
        Time::Took(took) => format!("{:>CLOCK$}", clock(*took)),
        Time::Runs => "{clock}".to_owned(),
    };
    let template = format!(
        "{} {{prefix}}  {}{}  {{msg}}",
        paint(colour, mark),
        paint(colour, format!("{:<8}", word(phase))),
        paint(FAINT, took),
    );
    ProgressStyle::with_template(&template)
        .expect("the template is well-formed")
        .with_key(
            "clock",
            |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = write!(out, "{:>CLOCK$}", clock(state.elapsed()));
            },
        )
        .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_to_their_width() {
        let cut = |text| fit(text, 10);
        assert_eq!(cut("short"), "short");
        assert_eq!(cut("  waits for a database"), "waits for…");
        assert_eq!(cut("first\nsecond"), "first");
        assert_eq!(fit("x", 0), "…");
    }

    #[test]
    fn times_keep_their_column() {
        let told = |ms| clock(Duration::from_millis(ms));
        let all = [told(40), told(5_000), told(59_940), told(600_000)];
        assert_eq!(all, ["0.0 s", "5.0 s", "59.9 s", "10 m 00 s"]);
        assert!(all.iter().all(|text| text.len() < CLOCK));
    }
}
