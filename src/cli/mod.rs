//! To be written.
use std::process::ExitCode;
/// Runs it.
pub fn main() -> ExitCode { ExitCode::SUCCESS }
