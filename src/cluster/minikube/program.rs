//! Runs of the program.

use std::process::Stdio;

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
