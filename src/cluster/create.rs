//! A cluster that is not there is created, when `stack.yaml` allows it.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{Choice, Flavor, created, minikube, not_there};
use crate::error::{Failure, Result};
use crate::stack::ClusterSpec;

/// Sees to it that the kubeconfig has the choice's context.
///
/// # Errors
/// When it is not there and may not, or cannot, be created.
pub async fn ensure(
    spec: &ClusterSpec,
    choice: Choice,
    say: &(dyn Fn(String) + Sync),
) -> Result<Choice> {
    if choice.known {
        return Ok(choice);
    }
    match &choice.flavor {
        Flavor::Kind(name) => kind(spec, name, &choice, say).await?,
        Flavor::Minikube(profile) => minikube::ensure(spec, profile, &choice, say).await?,
        Flavor::Other => return Err(not_there(&choice)),
    }
    Ok(Choice {
        known: true,
        ..choice
    })
}

async fn kind(
    spec: &ClusterSpec,
    name: &str,
    choice: &Choice,
    say: &(dyn Fn(String) + Sync),
) -> Result<()> {
    let clusters = run("kind", &["get", "clusters"], "").await?;
    if clusters.lines().any(|line| line == name) {
        say(format!(
            "the kind cluster {name} is there; taking it into the kubeconfig"
        ));
        run("kind", &["export", "kubeconfig", "--name", name], "").await?;
        return Ok(());
    }
    if !spec.create {
        return Err(not_there(choice));
    }
    say(format!(
        "creating the kind cluster {name} (about half a minute)"
    ));
    let own = spec
        .config
        .as_ref()
        .map(|path| path.to_string_lossy().into_owned());
    let config = own.as_deref().unwrap_or("-");
    let mut arguments = vec![
        "create", "cluster", "--name", name, "--wait", "120s", "--config", config,
    ];
    let image = spec
        .image
        .clone()
        .or_else(|| spec.kubernetes_version.as_deref().map(node_image));
    if let Some(image) = &image {
        arguments.extend(["--image", image]);
    }
    run("kind", &arguments, &kind_config(spec.nodes.unwrap_or(1))).await?;
    created::remember(&choice.context);
    Ok(())
}

/// Whether the stack's cluster is llmdev's own and cannot be asked for anything: it can only be deleted as a whole.
///
/// # Errors
/// As [`super::detect::choose`].
pub fn only_to_be_deleted(spec: &ClusterSpec, stack: &str) -> Result<bool> {
    let choice = super::detect::choose(spec, stack, &super::kubeconfig())?;
    Ok(!choice.known && created::by_us(&choice.context))
}

/// Takes a cluster away that llmdev created.
///
/// # Errors
/// [`crate::error::Kind::Refused`] for a cluster that llmdev did not create.
pub async fn delete(spec: &ClusterSpec, stack: &str, say: &(dyn Fn(String) + Sync)) -> Result<()> {
    let choice = super::detect::choose(spec, stack, &super::kubeconfig())?;
    // A minikube profile that is stopped is there, and has no context.
    if !choice.known && !created::by_us(&choice.context) {
        return Ok(());
    }
    let refused = || {
        Failure::refused(format!(
            "llmdev did not create the cluster {}, so it does not delete it",
            choice.context
        ))
    };
    match &choice.flavor {
        Flavor::Kind(name) if created::by_us(&choice.context) => {
            say(format!("deleting the kind cluster {name}"));
            run("kind", &["delete", "cluster", "--name", name], "").await?;
        }
        Flavor::Minikube(profile) if created::by_us(&choice.context) => {
            say(format!("deleting the minikube profile {profile}"));
            minikube::delete(profile).await?;
        }
        Flavor::Kind(name) => {
            return Err(refused().remedy(format!("kind delete cluster --name {name}")));
        }
        Flavor::Minikube(profile) => {
            return Err(refused().remedy(format!("minikube delete --profile {profile}")));
        }
        Flavor::Other => return Err(refused()),
    }
    created::forget(&choice.context);
    Ok(())
}

fn node_image(version: &str) -> String {
    format!("kindest/node:v{}", version.trim_start_matches('v'))
}

/// One control plane, and workers up to the number of nodes.
fn kind_config(nodes: u32) -> String {
    let workers = "- role: worker\n".repeat(nodes.saturating_sub(1) as usize);
    format!(
        "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n{workers}"
    )
}

/// Runs a program to its end; its standard output.
///
/// # Errors
/// When it is not installed ([`crate::error::Kind::Environment`]) or fails, with the last lines that it printed.
pub(super) async fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Failure::environment(format!("cannot run {program}"))
                .because(error)
                .remedy(format!("install {program}, or put it on the PATH"))
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input may have ended already.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child
        .wait_with_output()
        .await
        .map_err(|error| Failure::environment(program).because(error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<_> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    Err(
        Failure::environment(format!("`{program} {}` failed", arguments.join(" ")))
            .detail(lines[lines.len().saturating_sub(12)..].to_vec()),
    )
}
