//! `llmdev why`.

use super::{Global, json, print};
use crate::daemon::client::Client;
use crate::daemon::protocol::{Answer, Request};
use crate::error::{Failure, Result};
use crate::ui::failure;

pub(super) const HELP: &str = "Example:
  llmdev why r2r";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The service
    service: String,
}

pub(super) async fn run(global: &Global, args: Args) -> Result<()> {
    let stack = global.stack()?;
    super::check_services(&stack, [&args.service])?;
    let Some(mut client) = Client::connect(&global.state()?).await? else {
        return Err(Failure::environment("nothing of this stack is up").remedy("llmdev up"));
    };
    client
        .ask(&Request::Why {
            service: args.service.clone(),
        })
        .await?;
    let findings = loop {
        match client.answer().await? {
            Some(Answer::Findings(findings)) => break findings,
            Some(Answer::Done(Some(failure))) => return Err(failure),
            Some(_) => {}
            None => return Err(Failure::environment("the daemon ended")),
        }
    };
    if global.json() {
        return print(&json(&findings));
    }
    if findings.is_empty() {
        return print(&format!(
            "{} is ready, and nothing is wrong with it",
            args.service
        ));
    }
    let lines: Vec<_> = findings.iter().flat_map(failure::lines).collect();
    print(&lines.join("\n"))
}
