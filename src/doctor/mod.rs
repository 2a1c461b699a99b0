//! Whether this machine has what a stack needs: checks that run beside each other and cannot hang.

mod cluster;
mod docker;
mod images;
mod limits;
mod ports;
mod programs;

use std::future::Future;
use std::time::Duration;

use serde::Serialize;

use crate::daemon::client::Client;
use crate::daemon::protocol::{Answer, Hello, Request};
use crate::error::{Failure, Result};
use crate::event::Status;
use crate::stack::Stack;
use crate::state::State;

/// How long any check may take; all run at once.
const LONGEST: Duration = Duration::from_millis(1800);

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, but not as well as it could.
    Warning,
    /// `llmdev up` will not work.
    Bad,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was looked at, in a word or two.
    pub name: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    fn new(name: &str, verdict: Verdict, found: impl Into<String>) -> Self {
        Check {
            name: name.to_owned(),
            verdict,
            found: found.into(),
            remedy: None,
        }
    }

    fn good(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, Verdict::Good, found)
    }

    fn warning(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, Verdict::Warning, found)
    }

    fn bad(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, Verdict::Bad, found)
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    fn failed(name: &str, failure: &Failure) -> Self {
        Check {
            remedy: failure.remedy.clone(),
            ..Self::bad(name, failure.line())
        }
    }
}

/// Looks at everything, for a stack or, where none can be read, for any. In the order in which a person would look.
pub async fn examine(stack: Result<Stack>) -> Vec<Check> {
    let about = about(&stack);
    let stack = stack.ok();
    let stack = stack.as_ref();
    let state = stack.map(|stack| State::of(&stack.root));
    let daemon = async {
        match &state {
            Some(Ok(state)) => in_time("daemon", daemon(state)).await,
            Some(Err(failure)) => (vec![Check::failed("state", failure)], None),
            None => (Vec::new(), None),
        }
    };
    let daemon_and_ports = async {
        let (mut checks, answer) = daemon.await;
        if let Some(stack) = stack {
            checks.extend(ports::check(stack, answer.as_ref()).await);
        }
        checks
    };
    let (docker, programs, cluster, images, limits, rest) = tokio::join!(
        in_time("docker", docker::check()),
        in_time("programs", programs::check(stack)),
        in_time("cluster", cluster::check(stack)),
        in_time("images", images::check(stack)),
        in_time("limits", limits::check(stack)),
        daemon_and_ports,
    );
    [vec![about], docker, programs, cluster, images, limits, rest].concat()
}

/// What a check gives that did not come to its end.
trait Late {
    fn late(check: Check) -> Self;
}

impl Late for Vec<Check> {
    fn late(check: Check) -> Self {
        vec![check]
    }
}

impl Late for (Vec<Check>, Option<(u32, Status)>) {
    fn late(check: Check) -> Self {
        (vec![check], None)
    }
}

async fn in_time<T: Late>(name: &str, check: impl Future<Output = T>) -> T {
    let late = |_| {
        let found = format!("no answer within {:.1} s", LONGEST.as_secs_f32());
        T::late(Check::bad(name, found))
    };
    tokio::time::timeout(LONGEST, check)
        .await
        .unwrap_or_else(late)
}

fn about(stack: &Result<Stack>) -> Check {
    match stack {
        Ok(stack) => Check::good(
            "stack.yaml",
            format!(
                "{}: {} services",
                stack.file.display(),
                stack.services.len()
            ),
        ),
        Err(failure) if failure.detail.is_empty() => Check {
            remedy: Some("go to a stack's folder, or write one: llmdev init".into()),
            ..Check::warning("stack.yaml", &failure.what)
        },
        Err(failure) => {
            Check::bad("stack.yaml", &failure.what).remedy("`llmdev render` shows where")
        }
    }
}

async fn daemon(state: &State) -> (Vec<Check>, Option<(u32, Status)>) {
    let mut checks = vec![writable(state)];
    let mut client = match Client::connect(state).await {
        Ok(Some(client)) => client,
        Ok(None) => {
            checks.push(Check::good("daemon", "does not run; `llmdev up` starts it"));
            return (checks, None);
        }
        Err(failure) => {
            checks.push(Check::failed("daemon", &failure));
            return (checks, None);
        }
    };
    let says = format!(
        "process {}, llmdev {}",
        client.daemon.pid, client.daemon.version
    );
    checks.push(if client.daemon.build == Hello::ours().build {
        Check::good("daemon", says)
    } else {
        Check::warning(
            "daemon",
            format!("{says}: another build, or another Docker or kubeconfig"),
        )
        .remedy("`llmdev up` replaces it")
    });
    let asked = client.ask(&Request::Status).await;
    match (asked, client.answer().await) {
        (Ok(()), Ok(Some(Answer::Status(status)))) => (checks, Some((client.daemon.pid, *status))),
        _ => (checks, None),
    }
}

fn writable(state: &State) -> Check {
    let probe = state.dir.join("doctor");
    let tried = std::fs::write(&probe, "").and_then(|()| std::fs::remove_file(&probe));
    match tried {
        Ok(()) => Check::good("state", state.dir.display().to_string()),
        Err(error) => Check::bad("state", format!("{}: {error}", state.dir.display()))
            .remedy("make it writable, or name another place in XDG_STATE_HOME"),
    }
}

/// `12.3 GiB`.
fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
