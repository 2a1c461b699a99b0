//! minikube, through its own program and JSON.
//!
//! Its exit codes and its list of profiles say little: `start` ends well on a profile that runs, having restarted every
//! container of its docker runtime; `delete` ends well when there is nothing to delete; the list has what was true some
//! time ago. So `status` is asked before anything is done, and afterwards whether it has helped.

mod engine;
mod events;
mod program;
mod status;

pub use engine::Address;

use self::events::Trouble;
use self::program::{ask, look};
use self::status::Profile;
use super::create::run;
use super::{Choice, created, not_there};
use crate::error::{Failure, Result};
use crate::stack::ClusterSpec;

/// What is said while something takes long.
type Say<'a> = &'a (dyn Fn(String) + Sync);

/// Each way of not running has one mend, and one may show the next: a profile that the kubeconfig lost may turn out not
/// to run either.
const MENDS: usize = 3;

/// Sees to it that a profile runs and that the kubeconfig has its context: one that is stopped is started, one that is
/// paused goes on, and a new one is created where that is allowed.
///
/// # Errors
/// When minikube is not installed, when there is no such profile and none may be created, or when it does not start.
pub async fn ensure(
    spec: &ClusterSpec,
    profile: &str,
    choice: &Choice,
    say: Say<'_>,
) -> Result<()> {
    for _ in 0..MENDS {
        match status(profile).await? {
            Profile::Running => return Ok(()),
            Profile::Absent if !spec.create => return Err(not_there(choice)),
            Profile::Absent => {
                say(format!(
                    "creating the minikube profile {profile} (about a minute)"
                ));
                create(spec, profile, choice, say).await?;
            }
            Profile::Stopped => {
                say(format!("starting the minikube profile {profile}"));
                start(profile, &[], say).await?;
            }
            Profile::Paused => {
                say(format!(
                    "the minikube profile {profile} is paused; it goes on"
                ));
                succeed(profile, &["unpause", "--all-namespaces"]).await?;
            }
            Profile::Unlisted => {
                say(format!(
                    "the minikube profile {profile} runs; taking it into the kubeconfig"
                ));
                list(profile, say).await?;
            }
        }
    }
    match status(profile).await? {
        Profile::Running => Ok(()),
        _ => Err(
            Failure::environment(format!("the minikube profile {profile} does not run"))
                .cause("minikube was asked to start it, and says that it did")
                .remedy(format!("minikube status -p {profile}")),
        ),
    }
}

/// Takes a profile away, running or not.
///
/// # Errors
/// When it is there afterwards.
pub async fn delete(profile: &str) -> Result<()> {
    let said = ask(&["delete", "--profile", profile], &mut |_| {}).await?;
    match status(profile).await? {
        Profile::Absent => Ok(()),
        _ => Err(said
            .failure(format!("the minikube profile {profile} was not deleted"))
            .remedy(format!("minikube delete -p {profile}"))),
    }
}

async fn status(profile: &str) -> Result<Profile> {
    let arguments = ["status", "--profile", profile, "--output", "json"];
    let said = look(&arguments, profile).await?;
    Profile::read(&said).ok_or_else(|| {
        said.failure(format!(
            "minikube does not say how the profile {profile} is"
        ))
        .remedy(format!("minikube status -p {profile}"))
    })
}

async fn create(spec: &ClusterSpec, profile: &str, choice: &Choice, say: Say<'_>) -> Result<()> {
    let started = start(profile, &wishes(spec), say).await;
    // A start that failed half-way leaves a profile that is ours to delete.
    if started.is_ok() || !matches!(status(profile).await, Ok(Profile::Absent)) {
        created::remember(&choice.context);
    }
    started
}

async fn start(profile: &str, wishes: &[String], say: Say<'_>) -> Result<()> {
    let mut arguments = vec![
        "start",
        "--profile",
        profile,
        "--keep-context",
        "--output",
        "json",
    ];
    arguments.extend(wishes.iter().map(String::as_str));
    let before = current_context();
    let mut steps = events::Steps::default();
    let said = ask(&arguments, &mut |line| {
        if let Some(step) = steps.take(line) {
            say(format!("minikube: {step}"));
        }
    })
    .await?;
    // One that was stopped has its context made the current one all the same.
    keep_context(before, profile, say).await;
    if said.code == Some(0) {
        return Ok(());
    }
    let what = format!("minikube cannot start the profile {profile}");
    Err(match Trouble::of_start(&said.out) {
        Some(trouble) => trouble.failure(what, profile),
        None => said
            .failure(what)
            .remedy(format!("minikube logs -p {profile}")),
    })
}

/// Takes a profile into the kubeconfig. minikube makes its context the current one by that, which nobody asked for.
async fn list(profile: &str, say: Say<'_>) -> Result<()> {
    let before = current_context();
    succeed(profile, &["update-context"]).await?;
    keep_context(before, profile, say).await;
    Ok(())
}

fn current_context() -> String {
    super::kubeconfig().current_context.unwrap_or_default()
}

/// Makes the context that was kubectl's current one that again.
async fn keep_context(before: String, profile: &str, say: Say<'_>) {
    if current_context() == before {
        return;
    }
    let back = match before.as_str() {
        "" => run("kubectl", &["config", "unset", "current-context"], "").await,
        before => run("kubectl", &["config", "use-context", before], "").await,
    };
    if back.is_err() {
        say(format!("kubectl's current context is now {profile}"));
    }
}

async fn succeed(profile: &str, command: &[&str]) -> Result<()> {
    let said = ask(&[command, &["--profile", profile]].concat(), &mut |_| {}).await?;
    match said.code {
        Some(0) => Ok(()),
        _ => {
            let command = command.join(" ");
            Err(said.failure(format!("`minikube {command} -p {profile}` failed")))
        }
    }
}

/// What only a new profile can be given.
fn wishes(spec: &ClusterSpec) -> Vec<String> {
    let mut all = Vec::new();
    let mut wish = |flag: &str, value: Option<String>| {
        all.extend(value.map(|value| format!("--{flag}={value}")));
    };
    let mebibytes = |bytes: u64| format!("{}m", bytes >> 20);
    wish("cpus", spec.cpus.map(|cpus| cpus.to_string()));
    wish("memory", spec.memory.map(mebibytes));
    wish("disk-size", spec.disk.map(mebibytes));
    wish("nodes", spec.nodes.map(|nodes| nodes.to_string()));
    wish("driver", spec.driver.clone());
    wish("container-runtime", spec.container_runtime.clone());
    wish("kubernetes-version", spec.kubernetes_version.clone());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_profile_is_given_what_the_stack_wishes() {
        let spec = ClusterSpec {
            cpus: Some(4),
            memory: Some(8 << 30),
            disk: Some(20 << 30),
            nodes: Some(2),
            driver: Some("docker".into()),
            container_runtime: Some("containerd".into()),
            kubernetes_version: Some("v1.36.3".into()),
            ..ClusterSpec::default()
        };
        let words = "--cpus=4 --memory=8192m --disk-size=20480m --nodes=2 --driver=docker \
                     --container-runtime=containerd --kubernetes-version=v1.36.3";
        assert_eq!(wishes(&spec).join(" "), words);
        assert!(wishes(&ClusterSpec::default()).is_empty());
    }
}
