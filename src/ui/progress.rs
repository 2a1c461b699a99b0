//! `up` as it goes on: one live line a service on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{BAD, FAINT, STRONG, WARN, duration, paint, sign, word};
use crate::event::{Event, Level, Phase, ServiceStatus, Status, What};

/// How often the times on the screen move.
const TICK: Duration = Duration::from_millis(100);

/// The widest a line may be when the terminal does not say how wide it is.
const WIDTH: usize = 100;

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
    },
    /// A line a change.
    Plain {
        said: BTreeMap<String, (Phase, Option<String>)>,
    },
}

#[derive(Debug)]
struct Line {
    bar: ProgressBar,
    phase: Option<Phase>,
    since: Instant,
}

impl Progress {
    /// Chooses by where standard error goes.
    pub fn new() -> Self {
        let screen = if super::is_live() {
            Screen::Live {
                all: MultiProgress::new(),
                lines: BTreeMap::new(),
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

    /// Shows an event.
    pub fn show(&mut self, event: &Event) {
        match &event.what {
            What::Snapshot(status) => {
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
            } => self.note(*level, service.as_deref(), text),
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
            Screen::Plain { .. } => anstream::eprintln!("{line}"),
        }
    }

    /// Leaves the lines as they are and lets go of the screen.
    pub fn finish(&mut self) {
        if let Screen::Live { lines, .. } = &mut self.screen {
            lines.values().for_each(|line| line.bar.abandon());
            lines.clear();
        }
    }

    fn note(&self, level: Level, service: Option<&str>, text: &str) {
        let lead = match level {
            Level::Info => paint(FAINT, "note:"),
            Level::Warning => paint(WARN, "warning:"),
            Level::Error => paint(BAD, "error:"),
        };
        let whom = service
            .map(|name| format!("{}: ", paint(STRONG, name)))
            .unwrap_or_default();
        self.say(&format!("{lead} {whom}{text}"));
    }

    fn row(&mut self, row: &ServiceStatus) {
        match &mut self.screen {
            Screen::Live { all, lines } => {
                let line = lines
                    .entry(row.name.clone())
                    .or_insert_with(|| Line::new(all));
                line.show(row);
            }
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

impl Line {
    fn new(all: &MultiProgress) -> Self {
        let bar = all.add(ProgressBar::no_length());
        Line {
            bar,
            phase: None,
            since: Instant::now(),
        }
    }

    fn show(&mut self, row: &ServiceStatus) {
        let moving = matches!(
            row.phase,
            Phase::Building | Phase::Loading | Phase::Applying | Phase::Starting
        );
        if self.phase != Some(row.phase) {
            self.bar.set_style(style(row.phase, moving));
            if moving && self.phase.is_none_or(is_still) {
                self.since = Instant::now();
                self.bar.reset_elapsed();
            }
            if moving {
                self.bar.enable_steady_tick(TICK);
            } else {
                self.bar.disable_steady_tick();
            }
            self.phase = Some(row.phase);
        }
        let reason = row.reason.as_deref().unwrap_or_default();
        let took = match row.phase {
            Phase::Ready => paint(FAINT, duration(self.since.elapsed())),
            _ => paint(
                if row.phase == Phase::Failed {
                    BAD
                } else {
                    FAINT
                },
                one_line(reason),
            ),
        };
        self.bar.set_prefix(format!("{:<16}", row.name));
        self.bar.set_message(took);
        self.bar.tick();
    }
}

fn is_still(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Pending | Phase::Ready | Phase::Failed | Phase::Stopped
    )
}

/// What fits beside the name and the phase, so that no line wraps.
fn one_line(text: &str) -> String {
    let width = console_width().saturating_sub(40).max(20);
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= width {
        return line.to_owned();
    }
    line.chars().take(width - 1).chain(['…']).collect()
}

fn console_width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr()).map_or(WIDTH, |size| usize::from(size.ws_col))
}

fn style(phase: Phase, moving: bool) -> ProgressStyle {
    let (mark, colour) = sign(phase);
    let head = format!(
        "{} {{prefix}} {}",
        paint(colour, mark),
        paint(colour, format!("{:<9}", word(phase)))
    );
    let template = match moving {
        true => format!(
            "{} {{prefix}} {} {{elapsed:>4}}  {{msg}}",
            paint(colour, "{spinner}"),
            paint(colour, format!("{:<9}", word(phase)))
        ),
        false => format!("{head}       {{msg}}"),
    };
    ProgressStyle::with_template(&template)
        .expect("the template is well-formed")
        .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}
