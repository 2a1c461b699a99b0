//! `llmdev status`.

use super::{Global, json, print};
use crate::daemon::client::Client;
use crate::daemon::protocol::{Answer, Request};
use crate::engine::remove;
use crate::error::{Failure, Result};
use crate::event::Status;
use crate::state::State;
use crate::ui::{self, table};

pub(super) const HELP: &str = "Examples:
  llmdev status
  llmdev status -o json | jq '.services[] | select(.ready | not)'
  llmdev status --timings   how long each stage took the last time";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How long each stage took the last time
    #[arg(long)]
    timings: bool,
}

pub(super) async fn run(global: &Global, args: Args) -> Result<()> {
    let state = global.state()?;
    let status = status(global, &state).await?;
    match (global.json(), args.timings) {
        (true, _) => print(&json(&status)),
        (false, true) => print(&table::timings(&status).join("\n")),
        (false, false) => print(&text(&status)),
    }
}

/// Prints the status; for commands that end with it.
pub(super) async fn print_status(global: &Global, state: &State) -> Result<()> {
    let status = status(global, state).await?;
    print(&if global.json() {
        json(&status)
    } else {
        text(&status)
    })
}

async fn status(global: &Global, state: &State) -> Result<Status> {
    let Some(mut client) = Client::connect(state).await? else {
        return remove::status_without_daemon(&global.stack()?).await;
    };
    client.ask(&Request::Status).await?;
    match client.answer().await? {
        Some(Answer::Status(status)) => Ok(*status),
        _ => Err(Failure::environment("the daemon ended")),
    }
}

fn text(status: &Status) -> String {
    let cluster = status.cluster.as_deref().unwrap_or("no cluster yet");
    let watching = if status.watching {
        "watching"
    } else {
        "not watching"
    };
    let mut text = format!(
        "{} on {cluster}, {watching}\n{}",
        status.stack,
        table::services(status).join("\n")
    );
    if let Some(why) = &status.unreachable {
        text += &format!("\nthe cluster does not answer ({why}); this is what it said last");
    }
    for line in status.failure.iter().flat_map(ui::failure::lines) {
        text.push('\n');
        text.push_str(&line);
    }
    text
}
