//! What a terminal writes by itself when keys are pressed.

use rustix::termios::{self, LocalModes, OptionalActions};

/// As long as this lives, Ctrl-C leaves no `^C` on the screen, which would move lines that are drawn over.
#[derive(Debug)]
pub struct Quiet(());

impl Quiet {
    /// Of standard input's terminal; `None` when it is none, or shows no such keys anyway.
    pub fn enter() -> Option<Self> {
        let modes = termios::tcgetattr(std::io::stdin()).ok()?;
        let shows = modes.local_modes.contains(LocalModes::ECHOCTL);
        (shows && set(false)).then_some(Quiet(()))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        set(true);
    }
}

/// Only from the foreground: the kernel stops a program that changes the terminal from the background.
fn set(shows: bool) -> bool {
    let stdin = std::io::stdin();
    let foreground =
        termios::tcgetpgrp(&stdin).is_ok_and(|group| group == rustix::process::getpgrp());
    let Ok(mut modes) = termios::tcgetattr(&stdin) else {
        return false;
    };
    modes.local_modes.set(LocalModes::ECHOCTL, shows);
    foreground && termios::tcsetattr(&stdin, OptionalActions::Now, &modes).is_ok()
}
