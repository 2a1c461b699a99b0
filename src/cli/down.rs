//! `llmdev down`.

use super::Global;
use super::up::{End, follow};
use crate::cluster;
use crate::daemon::client::Client;
use crate::daemon::protocol::Request;
use crate::engine::remove;
use crate::error::Result;
use crate::state::State;
use crate::ui::progress::Progress;
use crate::ui::{GOOD, STRONG, paint};

pub(super) const HELP: &str =
    "Only what carries this stack's labels, made from this folder, is taken away.

Examples:
  llmdev down
  llmdev down --volumes     the data, too";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Claims and their data, too
    #[arg(long)]
    volumes: bool,
    /// The cluster, too, if llmdev created it
    #[arg(long)]
    cluster: bool,
}

pub(super) async fn run(global: &Global, args: Args) -> Result<()> {
    let stack = global.stack()?;
    let state = State::of(&stack.root)?;
    let mut progress = Progress::notes();
    let as_a_whole =
        args.cluster && cluster::create::only_to_be_deleted(&stack.cluster, &stack.name)?;
    match Client::connect(&state).await? {
        Some(client) if as_a_whole => client.end(&state).await?,
        None if as_a_whole => {}
        Some(mut client) => {
            client
                .ask(&Request::Down {
                    volumes: args.volumes,
                })
                .await?;
            let end = follow(&mut client, Some(&mut progress)).await;
            progress.finish();
            if let End::Done(Some(failure)) = end? {
                return Err(failure);
            }
        }
        None => {
            let said = remove::without_daemon(&stack, &state, args.volumes).await?;
            said.iter().for_each(|line| progress.say(line));
        }
    }
    if args.cluster {
        cluster::create::delete(&stack.cluster, &stack.name, &|line| progress.say(&line)).await?;
    }
    anstream::println!(
        "{} {} is down",
        paint(GOOD, "✓"),
        paint(STRONG, &stack.name)
    );
    Ok(())
}
