//! `llmdev restart`.

use super::up::{End, follow};
use super::{Global, check_services};
use crate::daemon::client::Client;
use crate::daemon::protocol::Request;
use crate::error::{Failure, Result};
use crate::ui::progress::Progress;

pub(super) const HELP: &str = "Example:
  llmdev restart litellm openwebui";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The services
    #[arg(required = true)]
    services: Vec<String>,
}

pub(super) async fn run(global: &Global, args: Args) -> Result<()> {
    check_services(&global.stack()?, &args.services)?;
    ask(
        global,
        Request::Restart {
            services: args.services.into_iter().collect(),
        },
    )
    .await
}

/// Asks a running daemon for something that goes on for a while, and shows what happens.
pub(super) async fn ask(global: &Global, request: Request) -> Result<()> {
    let Some(mut client) = Client::connect(&global.state()?).await? else {
        return Err(Failure::environment("nothing of this stack is up").remedy("llmdev up"));
    };
    client.ask(&request).await?;
    let mut progress = Progress::new();
    let end = follow(&mut client, Some(&mut progress)).await;
    progress.finish();
    match end? {
        End::Done(Some(failure)) => Err(failure),
        End::Done(None) | End::Gone => Ok(()),
    }
}
