//! `llmdev sync`.

use super::{Global, check_services};
use crate::daemon::protocol::Request;
use crate::error::Result;

pub(super) const HELP: &str = "Example:
  llmdev sync litellm";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The service
    service: String,
}

pub(super) async fn run(global: &Global, args: Args) -> Result<()> {
    check_services(&global.stack()?, std::slice::from_ref(&args.service))?;
    let request = Request::Sync {
        service: args.service,
    };
    super::restart::ask(global, request).await
}
