//! minikube, through its own program and JSON.

use serde::Deserialize;

use super::create::run;
use super::{Choice, created, not_there};
use crate::error::{Failure, Result};
use crate::stack::ClusterSpec;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Profiles {
    #[serde(rename = "valid", default)]
    valid: Vec<Profile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Profile {
    name: String,
}

/// Starts a profile that the kubeconfig does not have: one that is stopped, or, if that is allowed, a new one.
///
/// A profile whose context is in the kubeconfig runs, since `minikube stop` takes the context away; and `minikube start`
/// on a running profile of the docker runtime would restart every container in it. So nothing is started "to be sure".
///
/// # Errors
/// When minikube is not installed, when there is no such profile and none may be created, or when it does not start.
pub async fn start(
    spec: &ClusterSpec,
    profile: &str,
    choice: &Choice,
    say: &(dyn Fn(String) + Sync),
) -> Result<()> {
    let listed = run(
        "minikube",
        &["profile", "list", "--light", "--output", "json"],
        "",
    )
    .await?;
    let profiles: Profiles = serde_json::from_str(&listed).map_err(|error| {
        Failure::environment("minikube's list of profiles cannot be read").because(error)
    })?;
    let there = profiles.valid.iter().any(|one| one.name == profile);
    if !there && !spec.create {
        return Err(not_there(choice));
    }
    say(if there {
        format!("starting the minikube profile {profile}")
    } else {
        format!("creating the minikube profile {profile} (about a minute)")
    });
    let sizes: Vec<String> = if there { Vec::new() } else { sizes(spec) };
    let mut arguments = vec!["start", "--profile", profile, "--keep-context"];
    arguments.extend(sizes.iter().map(String::as_str));
    run("minikube", &arguments, "").await?;
    if !there {
        created::remember(&choice.context);
    }
    Ok(())
}

/// What only a new profile may be given.
fn sizes(spec: &ClusterSpec) -> Vec<String> {
    let mut all = Vec::new();
    all.extend(spec.cpus.map(|cpus| format!("--cpus={cpus}")));
    all.extend(
        spec.memory
            .map(|bytes| format!("--memory={}m", bytes >> 20)),
    );
    all.extend(
        spec.disk
            .map(|bytes| format!("--disk-size={}m", bytes >> 20)),
    );
    all.extend(spec.nodes.map(|nodes| format!("--nodes={nodes}")));
    all.extend(
        spec.kubernetes_version
            .as_ref()
            .map(|version| format!("--kubernetes-version={version}")),
    );
    all
}
