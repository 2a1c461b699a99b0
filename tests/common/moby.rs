//! The second, present-day engine that tests may have besides the one of the environment.

#[path = "alone.rs"]
mod alone;

use std::ffi::OsString;
use std::fs::File;

/// A command that runs another with the second engine, which is the caller's alone until this goes: one of the tests
/// takes the engine away from under all else.
pub struct Moby {
    pub command: OsString,
    _alone: File,
}

impl Moby {
    /// Waits until no other test has it; none when `LLMDEV_TEST_MOBY` names no such command.
    pub fn alone() -> Option<Moby> {
        let command = std::env::var_os("LLMDEV_TEST_MOBY")?;
        Some(Moby {
            command,
            _alone: alone::alone("moby"),
        })
    }
}
