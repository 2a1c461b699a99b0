//! Runs of the program.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::error::{Failure, Result};

/// What a run came to. Its code alone says little.
#[derive(Debug, Default)]
pub struct Said {
    /// None after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error, where not all lines are JSON.
    pub error: String,
}

/// Lines of a failed run that are shown.
const SHOWN: usize = 12;

/// What it only looks up it tells within a second, on a machine with nothing to spare within three.
const AT_ONCE: Duration = Duration::from_secs(10);

/// [`ask`] for what changes nothing.
///
/// # Errors
/// When it is not installed, or does not answer within 10 s: it waits for Docker or for a node, and for minutes.
pub async fn look(arguments: &[&str], profile: &str) -> Result<Said> {
    let mut nothing = |_: &str| {};
    let asked = tokio::time::timeout(AT_ONCE, ask(arguments, &mut nothing)).await;
    asked.unwrap_or_else(|_| {
        let command = arguments[0];
        Err(Failure::environment(format!(
            "minikube does not answer for the profile {profile}"
        ))
        .cause(format!(
            "`minikube {command} -p {profile}` did not end within {} s",
            AT_ONCE.as_secs()
        ))
        .remedy(format!(
            "`minikube {command} -p {profile} --alsologtostderr` shows what it waits for; \
                     `minikube stop -p {profile}` and `llmdev up` start a node anew that hangs"
        )))
    })
}

/// Runs minikube to its end; `each` gets the lines of its standard output as they come.
///
/// # Errors
/// When it is not installed. What it fails with is in the answer.
pub async fn ask(arguments: &[&str], each: &mut (dyn FnMut(&str) + Send)) -> Result<Said> {
    let failed = |error| Failure::environment("cannot run minikube").because(error);
    let mut command = Command::new("minikube");
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if rustix::process::geteuid().is_root() {
        // Else it refuses to work for root.
        command.env("MINIKUBE_FORCE", "true");
    }
    let mut child = command.spawn().map_err(|error: std::io::Error| {
        failed(error).remedy("install it (https://minikube.sigs.k8s.io), or put it on the PATH")
    })?;
    let stdout = child.stdout.take().expect("standard output is piped");
    let mut stderr = child.stderr.take().expect("standard error is piped");
    let mut said = Said::default();
    let (out, error) = (&mut said.out, &mut said.error);
    let read = async {
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await? {
            each(&line);
            out.push_str(&line);
            out.push('\n');
        }
        Ok(())
    };
    let listen = async { stderr.read_to_string(error).await.map(|_| ()) };
    tokio::try_join!(read, listen).map_err(failed)?;
    said.code = child.wait().await.map_err(failed)?.code();
    Ok(said)
}

impl Said {
    /// A failure with the last that was said.
    pub fn failure(&self, what: String) -> Failure {
        let said = [&self.error, &self.out];
        let said = said.into_iter().find(|text| !text.trim().is_empty());
        let lines = said.map_or("", |text| text.as_str()).lines();
        let lines: Vec<_> = lines.filter(|line| !line.trim().is_empty()).collect();
        let failure =
            Failure::environment(what).detail(lines[lines.len().saturating_sub(SHOWN)..].to_vec());
        match self.code {
            Some(0) => failure,
            Some(code) => failure.cause(format!("minikube ended with {code}")),
            None => failure.cause("minikube was killed"),
        }
    }
}
