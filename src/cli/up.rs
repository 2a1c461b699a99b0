//! `llmdev up`.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Global, check_services};
use crate::daemon::client::Client;
use crate::daemon::protocol::{Answer, Request};
use crate::error::{Failure, Kind, Result};
use crate::event::Status;
use crate::state::State;
use crate::ui::news::News;
use crate::ui::progress::Progress;
use crate::ui::{self, GOOD, STRONG, paint, table};

pub(super) const HELP: &str = "Examples:
  llmdev up
  llmdev up r2r             only r2r and what it depends on
  llmdev up --follow        and follow the output, and what is built anew
  llmdev up --no-watch      as it is now, whatever changes afterwards";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only these services and what they depend on
    services: Vec<String>,
    /// Do not act on file changes
    #[arg(long)]
    no_watch: bool,
    /// Follow the output of the services when they are ready
    #[arg(long)]
    follow: bool,
    /// Take over fields that another program has set
    #[arg(long)]
    force_conflicts: bool,
}

pub(super) async fn run(global: &Global, args: Args) -> Result<()> {
    let began = Instant::now();
    let stack = global.stack()?;
    check_services(&stack, &args.services)?;
    let state = State::of(&stack.root)?;
    let (mut client, started) = Client::connect_or_start(&state, &stack.file).await?;
    let request = Request::Up {
        services: args.services.iter().cloned().collect::<BTreeSet<_>>(),
        watch: !args.no_watch,
        force: args.force_conflicts,
        profile: global.profile.clone(),
    };
    client.ask(&request).await?;
    let mut progress = (!global.json()).then(Progress::new);
    let end = follow(&mut client, progress.as_mut()).await;
    if let Some(progress) = &mut progress {
        progress.finish();
    }
    match end? {
        End::Done(None) => {}
        End::Done(Some(failure)) if failure.kind == Kind::Interrupted => {
            return stopped(client, &state, started).await;
        }
        End::Done(Some(failure)) => return Err(failure),
        End::Gone => {
            return Err(
                Failure::environment("the daemon ended while it brought the stack up")
                    .remedy("llmdev daemon logs; then `llmdev up` goes on from where it was"),
            );
        }
    }
    match progress.as_ref().and_then(Progress::status) {
        Some(status) => report(status, began),
        None => super::status::print_status(global, &state).await?,
    }
    if args.follow {
        return stay(global, &state, &args.services).await;
    }
    Ok(())
}

/// Follows the output of the services, and says what is built anew meanwhile.
async fn stay(global: &Global, state: &State, services: &[String]) -> Result<()> {
    tokio::select! {
        end = super::logs::follow_all(global, services) => end,
        end = news(state), if !global.json() => end,
    }
}

async fn news(state: &State) -> Result<()> {
    let Some(mut client) = Client::connect(state).await? else {
        return Ok(());
    };
    client.ask(&Request::Events).await?;
    let mut news = News::default();
    while let Some(answer) = client.answer().await? {
        if let Answer::Event(event) = answer {
            for line in news.lines(&event) {
                anstream::eprintln!("{line}");
            }
        }
    }
    Ok(())
}

/// How a request that goes on came to its end.
pub(super) enum End {
    /// The daemon said so.
    Done(Option<Failure>),
    /// The daemon has gone.
    Gone,
}

/// Shows events until the request is done. The first Ctrl-C asks the daemon to stop what is under way, the second one
/// ends this process at once.
pub(super) async fn follow(
    client: &mut Client,
    mut progress: Option<&mut Progress>,
) -> Result<End> {
    let mut interrupts = super::interrupts()?;
    let mut interrupted = false;
    loop {
        tokio::select! {
            answer = client.answer() => match answer? {
                None => return Ok(End::Gone),
                Some(Answer::Done(failure)) => return Ok(End::Done(failure)),
                Some(Answer::Event(event)) => {
                    if let Some(progress) = &mut progress {
                        progress.show(&event);
                    }
                }
                Some(_) => {}
            },
            _ = interrupts.recv() => {
                if interrupted {
                    if let Some(progress) = &mut progress {
                        progress.finish();
                    }
                    std::process::exit(i32::from(Kind::Interrupted.exit_code()));
                }
                interrupted = true;
                client.ask(&Request::Cancel).await?;
                if let Some(progress) = &progress {
                    progress.say("stopping (Ctrl-C again: at once)");
                }
            }
        }
    }
}

/// What Ctrl-C left behind, said.
async fn stopped(client: Client, state: &State, started: bool) -> Result<()> {
    drop(client);
    let what = if started {
        if let Some(client) = Client::connect(state).await? {
            client.end(state).await?;
        }
        "stopped; nothing runs in the background, what was applied stays in the cluster"
    } else {
        "stopped; the daemon goes on with what was up before"
    };
    Err(Failure::new(Kind::Interrupted, what)
        .remedy("`llmdev up` goes on from here, `llmdev down` takes it away"))
}

fn report(status: &Status, began: Instant) {
    let cluster = status
        .cluster
        .as_deref()
        .map(|context| format!(" on {context}"))
        .unwrap_or_default();
    anstream::println!(
        "\n{} {} is up{cluster} ({})",
        paint(GOOD, "✓"),
        paint(STRONG, &status.stack),
        ui::duration(began.elapsed())
    );
    table::addresses(status)
        .iter()
        .for_each(|line| anstream::println!("{line}"));
}
