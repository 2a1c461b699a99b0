//! The part of llmdev that runs inside a cluster's node, as root, as long as the daemon holds its standard input.
//!
//! It is the same program, started as `llmdev agent`. From there it can do what no API offers: connect inside a pod's
//! network, and write below a container's root whatever the image has or lacks. [`wire`] is how the daemon talks to it.

pub mod wire;

#[cfg(target_os = "linux")]
mod dial;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod relay;
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod rerun;
#[cfg(target_os = "linux")]
mod serve;

use std::process::ExitCode;

/// The program's `main` when its first argument is `agent`.
#[cfg(target_os = "linux")]
pub fn main() -> ExitCode {
    match serve::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("llmdev agent: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The program's `main` when its first argument is `agent`. Nodes run Linux.
#[cfg(not(target_os = "linux"))]
pub fn main() -> ExitCode {
    eprintln!("llmdev agent runs in a cluster's node only");
    ExitCode::FAILURE
}
