//! `llmdev exec` and `llmdev shell`: a command in a service's newest pod, through the API server.

use std::io::IsTerminal;
use std::process::ExitCode;

use futures::SinkExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams, AttachedProcess, ListParams, TerminalSize};
use rustix::fs::{Stat, fstat, stat};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use super::Global;
use super::terminal::{self, Raw};
use crate::cluster;
use crate::error::{Failure, Result};
use crate::owner::{self, Owner};
use crate::view;

pub(super) const HELP: &str =
    "The command runs in the newest ready pod, and its exit code is this one's.

Examples:
  llmdev exec postgres -- psql -U postgres
  llmdev exec r2r -c r2r -- env
  echo 'select 1' | llmdev exec postgres -- psql -U postgres";

pub(super) const SHELL_HELP: &str = "bash if the image has it, else sh.

Example:
  llmdev shell litellm";

/// Chosen in the container: one request, not one for each shell.
const SHELL: &str = "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi";

/// What a shell says of a command that is not there.
const NOT_FOUND: u8 = 127;

/// In bytes, for each of the streams.
const BUFFER: usize = 64 * 1024;

/// The container that `kubectl exec` takes, too.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The service
    service: String,
    /// The container; without it the pod's default one
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ShellArgs {
    /// The service
    service: String,
    /// The container; without it the pod's default one
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
}

pub(super) async fn run(global: &Global, args: Args) -> Result<ExitCode> {
    let place = Place::find(global, &args.service, args.container).await?;
    match place.run(&args.command).await? {
        Ended::With(code) => Ok(ExitCode::from(code)),
        Ended::NotFound => {
            let what = format!(
                "there is no {} in the container {} of {}",
                args.command[0], place.container, args.service
            );
            super::print_failure(&Failure::failed(what));
            Ok(ExitCode::from(NOT_FOUND))
        }
    }
}

pub(super) async fn shell(global: &Global, args: ShellArgs) -> Result<ExitCode> {
    let place = Place::find(global, &args.service, args.container).await?;
    let command = ["sh", "-c", SHELL].map(str::to_owned);
    match place.run(&command).await? {
        Ended::With(code) => Ok(ExitCode::from(code)),
        Ended::NotFound => Err(Failure::failed(format!(
            "the container {} of {} has no shell",
            place.container, args.service
        ))
        .remedy(format!(
            "`llmdev exec {} -- PROGRAM` runs what it has",
            args.service
        ))),
    }
}

/// How the command ended.
enum Ended {
    With(u8),
    /// It was never begun.
    NotFound,
}

/// A container that runs.
struct Place {
    pods: Api<Pod>,
    pod: String,
    container: String,
}

impl Place {
    async fn find(global: &Global, service: &String, container: Option<String>) -> Result<Self> {
        let stack = global.stack()?;
        super::check_services(&stack, [service])?;
        let cluster = cluster::connect_existing(&stack.cluster, &stack.name).await?;
        let selector = format!(
            "{},{}={service}",
            Owner::of(&stack).selector(),
            owner::SERVICE
        );
        let all: Api<Pod> = Api::all(cluster.client.clone());
        let found = all
            .list(&ListParams::default().labels(&selector))
            .await
            .map_err(|error| Failure::environment("cannot list the pods").because(error))?;
        let pod = newest(found.items).ok_or_else(|| {
            Failure::failed(format!("no pod of {service} runs"))
                .remedy(format!("llmdev up; llmdev why {service}"))
        })?;
        let container = choose(&pod, container)?;
        let namespace = pod.metadata.namespace.unwrap_or_default();
        Ok(Place {
            pods: Api::namespaced(cluster.client, &namespace),
            pod: pod.metadata.name.unwrap_or_default(),
            container,
        })
    }

    async fn run(&self, command: &[String]) -> Result<Ended> {
        let tty = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let how = AttachParams::default()
            .container(&self.container)
            .stdin(has_input())
            .stdout(true)
            .stderr(!tty)
            .tty(tty)
            .max_stdin_buf_size(BUFFER)
            .max_stdout_buf_size(BUFFER)
            .max_stderr_buf_size(BUFFER);
        let cannot = |error| {
            Failure::failed(format!("cannot run a command in the pod {}", self.pod)).because(error)
        };
        let process = self
            .pods
            .exec(&self.pod, command, &how)
            .await
            .map_err(cannot)?;
        let raw = if tty { Raw::enter() } else { None };
        let status = attend(process).await;
        // Before anything is said.
        drop(raw);
        self.ended(status?)
    }

    fn ended(&self, status: Status) -> Result<Ended> {
        if status.status.as_deref() == Some("Success") {
            return Ok(Ended::With(0));
        }
        let causes = status
            .details
            .iter()
            .flat_map(|details| details.causes.iter().flatten());
        let code = causes
            .filter(|cause| cause.reason.as_deref() == Some("ExitCode"))
            .find_map(|cause| cause.message.as_deref()?.parse::<u8>().ok());
        if let Some(code) = code {
            return Ok(Ended::With(code));
        }
        let message = status.message.unwrap_or_default();
        if ["executable file not found", "no such file or directory"]
            .iter()
            .any(|said| message.contains(said))
        {
            return Ok(Ended::NotFound);
        }
        Err(
            Failure::failed(format!("the command in the pod {} was cut off", self.pod))
                .cause(message),
        )
    }
}

/// The newest ready pod, else the newest one that runs.
fn newest(mut pods: Vec<Pod>) -> Option<Pod> {
    pods.retain(|pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
    });
    pods.into_iter()
        .max_by_key(|pod| (view::is_ready(pod), pod.metadata.creation_timestamp.clone()))
}

fn choose(pod: &Pod, wanted: Option<String>) -> Result<String> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let names: Vec<_> = containers.map(|one| one.name.as_str()).collect();
    let annotated = || {
        let annotations = pod.metadata.annotations.as_ref()?;
        let name = annotations.get(DEFAULT_CONTAINER)?;
        names.contains(&name.as_str()).then(|| name.clone())
    };
    match wanted {
        Some(name) if !names.contains(&name.as_str()) => {
            Err(Failure::usage(format!("the pod has no container {name}"))
                .remedy(format!("it has {}", names.join(", "))))
        }
        Some(name) => Ok(name),
        None => {
            Ok(annotated().unwrap_or_else(|| names.first().copied().unwrap_or_default().into()))
        }
    }
}

/// Whether there is anything to pass on. If it ends right away, that may reach an API server which has sent all and has
/// hung up; it then throws away what is still under way to us.
fn has_input() -> bool {
    let device = |stat: Stat| (stat.st_dev, stat.st_ino);
    let input = fstat(std::io::stdin()).map(device);
    input.is_ok_and(|input| stat("/dev/null").map(device) != Ok(input))
}

/// Carries all streams until the command ends.
async fn attend(mut process: AttachedProcess) -> Result<Status> {
    let lost = || Failure::environment("the connection to the cluster was lost");
    let status = process.take_status().ok_or_else(lost)?;
    let sizes = process.terminal_size();
    if let Some(input) = process.stdin() {
        // Not waited for: standard input may stay open when the command has ended.
        tokio::spawn(copy_in(input));
    }
    let mut hangup = signal(SignalKind::hangup()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let streams = (process.stdout(), process.stderr());
    let output = async {
        tokio::join!(
            copy_out(streams.0, tokio::io::stdout()),
            copy_out(streams.1, tokio::io::stderr())
        );
        Ok::<(), Failure>(())
    };
    // Here until the streams have ended, for it takes them along.
    let mut process = Some(process);
    let status = async {
        let status = status.await;
        // Where the connection broke, the streams stay open.
        if let Some(process) = process.take_if(|_| status.is_none()) {
            process
                .join()
                .await
                .map_err(|error| lost().because(error))?;
        }
        Ok(status)
    };
    let resize = async {
        match sizes {
            Some(sizes) => follow_size(sizes).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        all = async { tokio::try_join!(output, status) } => all?.1.ok_or_else(lost),
        () = resize => Err(lost()),
        _ = hangup.recv() => Err(stopped()),
        _ = terminate.recv() => Err(stopped()),
    }
}

fn stopped() -> Failure {
    Failure::new(crate::error::Kind::Interrupted, "stopped by a signal")
}

fn no_signals(error: std::io::Error) -> Failure {
    Failure::environment("cannot wait for signals").because(error)
}

async fn copy_in(mut input: impl AsyncWrite + Unpin) {
    // The command may end, or close its input, at any time.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut input).await;
    let _ = input.shutdown().await;
}

async fn copy_out(from: Option<impl AsyncRead + Unpin>, mut to: impl AsyncWrite + Unpin) {
    let Some(mut from) = from else { return };
    // A reader of ours that has gone away must not hold the command up: the rest is read and dropped.
    if tokio::io::copy(&mut from, &mut to).await.is_err() {
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
    let _ = to.flush().await;
}

async fn follow_size(mut sizes: futures::channel::mpsc::Sender<TerminalSize>) {
    let Ok(mut changed) = signal(SignalKind::window_change()) else {
        return std::future::pending().await;
    };
    loop {
        if let Some((width, height)) = terminal::size() {
            // The command has ended; whoever waits for that will know soon.
            if sizes.send(TerminalSize { width, height }).await.is_err() {
                return std::future::pending().await;
            }
        }
        changed.recv().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::TcpListener;
    use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

    use super::*;

    fn pod(name: &str, created: &str, ready: bool, phase: &str) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "creationTimestamp": created},
            "spec": {"containers": [{"name": "first"}, {"name": "second"}]},
            "status": {
                "phase": phase,
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            },
        }))
        .unwrap()
    }

    /// A server that answers the request for a command, says something, and is gone.
    async fn breaks_off(server: TcpListener) -> std::io::Result<()> {
        let (mut client, _) = server.accept().await?;
        let mut request = BufReader::new(&mut client).lines();
        let mut key = String::new();
        while let Some(line) = request.next_line().await?.filter(|line| !line.is_empty()) {
            if let Some(value) = line.strip_prefix("sec-websocket-key: ") {
                key = derive_accept_key(value.as_bytes());
            }
        }
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {key}\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
        );
        client.write_all(answer.as_bytes()).await?;
        // A binary message of two bytes, on the channel of standard error.
        client.write_all(&[0x82, 2, 2, b'\n']).await
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_told() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        let pods: Api<Pod> = Api::namespaced(client, "default");
        let how = AttachParams::default().stdin(false);
        let (process, gone) = tokio::join!(pods.exec("a", ["b"], &how), breaks_off(server));
        gone.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(20), attend(process.unwrap())).await;
        let failure = ended.expect("it ends").expect_err("there was no status");
        assert_eq!(failure.what, "the connection to the cluster was lost");
        assert!(!failure.causes.is_empty(), "{failure:?}");
    }

    #[test]
    fn the_newest_ready_pod_is_taken_else_the_newest() {
        let old = pod("old", "2026-01-01T00:00:00Z", true, "Running");
        let new = pod("new", "2026-01-02T00:00:00Z", false, "Running");
        let gone = pod("gone", "2026-01-03T00:00:00Z", false, "Succeeded");
        let named = |pods| newest(pods).and_then(|pod: Pod| pod.metadata.name);
        assert_eq!(
            named(vec![old, new.clone(), gone.clone()]).as_deref(),
            Some("old")
        );
        assert_eq!(named(vec![new, gone.clone()]).as_deref(), Some("new"));
        assert_eq!(named(vec![gone]), None);
    }

    #[test]
    fn the_container_is_the_wanted_one_the_annotated_one_or_the_first() {
        let mut pod = pod("a", "2026-01-01T00:00:00Z", true, "Running");
        assert_eq!(choose(&pod, None).unwrap(), "first");
        let annotations = [(DEFAULT_CONTAINER.to_owned(), "second".to_owned())];
        pod.metadata.annotations = Some(annotations.into());
        assert_eq!(choose(&pod, None).unwrap(), "second");
        assert_eq!(choose(&pod, Some("first".into())).unwrap(), "first");
        let failure = choose(&pod, Some("third".into())).unwrap_err();
        assert_eq!(failure.remedy.as_deref(), Some("it has first, second"));
    }
}
