//! One build in Docker: the session, the request, and what comes back.

use std::path::PathBuf;

use bollard::ClientVersion;
use bollard::models::BuildInfoAux;
use bytes::BytesMut;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::Deserialize;

use crate::error::{Failure, Result};
use crate::owner;

use super::endpoint::Endpoint;
use super::filesync::{Changed, DOCKERFILE, FileSync};
use super::plan::ImagePlan;
use super::progress::{Progress, Step};
use super::secrets::Secrets;
use super::session::{Session, connect, random_id};

/// How it ended.
pub enum Solved {
    /// Docker says that the image is there.
    Done,
    /// A file was not what the plan says.
    Changed(PathBuf),
    /// The build failed.
    Failed(Trouble),
}

/// Why a build failed, without secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trouble {
    /// BuildKit's own words.
    pub message: String,
    /// The step that failed, if it was one.
    pub step: Option<Step>,
}

/// One line of the answer.
#[derive(Deserialize)]
struct Line {
    id: Option<String>,
    aux: Option<serde_json::Value>,
    error: Option<String>,
}

/// Builds; `lines` gets the output. Dropping the future closes both connections, which ends the build.
pub async fn solve(
    endpoint: &Endpoint,
    version: &ClientVersion,
    plan: &ImagePlan,
    secrets: Secrets,
    lines: &mut (dyn FnMut(&str) + Send),
) -> Result<Solved> {
    let scrub = secrets.scrub.clone();
    let changed = Changed::default();
    let files = FileSync::new(plan, changed.clone());
    let session = Session::open(endpoint, version, &shared_key(plan), files, secrets).await?;
    let request = Request::post(format!("/v{version}/build?{}", query(plan, &session.id)))
        .header("Host", "docker")
        .header("Content-Type", "application/x-tar")
        .body(Empty::new())
        .map_err(|error| {
            Failure::failed(format!("cannot ask Docker to build {}", plan.name)).because(error)
        })?;
    let (mut sender, _connection) = connect(endpoint).await?;
    let lost = |error: hyper::Error| {
        Failure::environment(format!("Docker went away while it built {}", plan.name))
            .because(error)
            .remedy("see whether it runs: docker info")
    };
    let response = sender.send_request(request).await.map_err(lost)?;
    let mut progress = Progress::new(scrub);
    let error = if response.status() == StatusCode::OK {
        follow(response, &mut progress, lines).await.map_err(lost)?
    } else {
        Some(refusal(response).await.map_err(lost)?)
    };
    Ok(match (error, changed.get()) {
        (None, _) => Solved::Done,
        (Some(_), Some(path)) => Solved::Changed(path.clone()),
        (Some(message), None) => Solved::Failed(progress.trouble(&message)),
    })
}

/// Hands the output on until the answer ends. Returns the error that it ends with.
async fn follow(
    response: Response<Incoming>,
    progress: &mut Progress,
    lines: &mut (dyn FnMut(&str) + Send),
) -> hyper::Result<Option<String>> {
    let mut body = response.into_body();
    let mut buffer = BytesMut::new();
    let mut failed = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let mut searched = buffer.len();
        buffer.extend_from_slice(&data);
        while let Some(end) = buffer[searched..].iter().position(|byte| *byte == b'\n') {
            let line = buffer.split_to(searched + end + 1);
            searched = 0;
            let Ok(line) = serde_json::from_slice::<Line>(&line) else {
                continue;
            };
            failed = failed.or(line.error);
            if line.id.as_deref() == Some("moby.buildkit.trace")
                && let Some(Ok(BuildInfoAux::BuildKit(status))) =
                    line.aux.map(serde_json::from_value)
            {
                progress.update(status, lines);
            }
        }
    }
    progress.finish(lines);
    Ok(failed)
}

/// Docker's reason for not even beginning.
async fn refusal(response: Response<Incoming>) -> hyper::Result<String> {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(match serde_json::from_slice::<Refusal>(&body) {
        Ok(refusal) => refusal.message,
        Err(_) => format!("Docker answers {status}"),
    })
}

/// BuildKit keeps a copy of the files for each.
fn shared_key(plan: &ImagePlan) -> String {
    let named = format!(
        "{}\0{}\0{}",
        plan.stack,
        plan.name,
        plan.context.root.display()
    );
    blake3::hash(named.as_bytes()).to_hex()[..32].to_owned()
}

fn query(plan: &ImagePlan, session: &str) -> String {
    let labels =
        serde_json::json!({ owner::STACK: plan.stack, owner::SERVICE: plan.name }).to_string();
    let args = serde_json::to_string(&plan.args).expect("strings are JSON");
    let pairs = [
        ("version", "2"),
        ("remote", "client-session"),
        ("session", session),
        ("buildid", &random_id()),
        ("dockerfile", DOCKERFILE),
        ("t", &plan.reference),
        ("target", plan.spec.target.as_deref().unwrap_or_default()),
        ("buildargs", &args),
        ("labels", &labels),
        ("rm", "1"),
    ]
    .map(|(name, value)| format!("{name}={}", percent(value)));
    pairs.join("&")
}

fn percent(text: &str) -> String {
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    out.push(byte as char)
                }
                byte => out.push_str(&format!("%{byte:02X}")),
            }
            out
        })
}
