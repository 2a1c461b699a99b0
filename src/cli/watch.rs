//! `llmdev pause` and `llmdev resume`.

use super::Global;
use crate::daemon::protocol::Request;
use crate::error::Result;

pub(super) const HELP: &str = "Example:
  llmdev pause && git rebase main && llmdev resume";

pub(super) async fn run(global: &Global, on: bool) -> Result<()> {
    super::restart::ask(global, Request::Watch { on }).await
}
