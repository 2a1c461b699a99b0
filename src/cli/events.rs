//! `llmdev events`.

use super::{Global, print};
use crate::daemon::client::Client;
use crate::daemon::protocol::{Answer, Request};
use crate::error::{Failure, Result};

pub(super) const HELP: &str = "The first event is a snapshot of the whole stack.

Example:
  llmdev events | jq -c 'select(.what.service)'";

pub(super) async fn run(global: &Global) -> Result<()> {
    let Some(mut client) = Client::connect(&global.state()?).await? else {
        return Err(Failure::environment("nothing of this stack is up").remedy("llmdev up"));
    };
    client.ask(&Request::Events).await?;
    while let Some(answer) = client.answer().await? {
        if let Answer::Event(event) = answer {
            print(&serde_json::to_string(&event).expect("events are plain data"))?;
        }
    }
    Ok(())
}
