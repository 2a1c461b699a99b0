//! `llmdev daemon`.

use std::path::PathBuf;

use super::{Global, json, print};
use crate::daemon::client::Client;
use crate::daemon::{lock, server};
use crate::error::{Failure, Result};

pub(super) const HELP: &str = "Example:
  llmdev daemon status
  llmdev daemon stop        ports close, the cluster is left as it is";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Whether it runs
    Status,
    /// End it; the cluster is left as it is
    Stop,
    /// Its own log
    Logs,
    /// Be it, in the foreground
    #[command(hide = true)]
    Run {
        #[arg(long)]
        file: PathBuf,
    },
}

pub(super) async fn run(global: &Global, args: Args) -> Result<()> {
    if let Command::Run { file } = args.command {
        return server::run(&file).await;
    }
    let state = global.state()?;
    match args.command {
        Command::Status => match Client::connect(&state).await? {
            Some(client) if global.json() => print(&json(&client.daemon)),
            Some(client) => print(&format!(
                "runs: process {}, llmdev {}",
                client.daemon.pid, client.daemon.version
            )),
            None => match lock::holder(&state.lock()) {
                Some(pid) => Err(Failure::environment(format!(
                    "process {pid} runs but does not answer"
                ))
                .remedy(format!(
                    "kill {pid}; `llmdev up` finds the cluster's state again"
                ))),
                None => print("does not run; `llmdev up` starts it"),
            },
        },
        Command::Stop => match Client::connect(&state).await? {
            Some(client) => client.end(&state).await,
            None => print("does not run"),
        },
        Command::Logs => {
            let text = std::fs::read_to_string(state.log())
                .map_err(|error| Failure::failed("the daemon has no log yet").because(error))?;
            print(text.trim_end())
        }
        Command::Run { .. } => unreachable!("handled above"),
    }
}
