//! The programs that a stack needs, and their versions.

use std::process::Stdio;

use tokio::process::Command;

use super::Check;
use crate::stack::{Provider, RenderStep, Stack};

struct Program {
    name: &'static str,
    /// What makes it say its version.
    words: &'static [&'static str],
    needed: Need,
    get: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    No,
    /// Another program would do.
    Either,
    Yes,
}

pub(super) async fn check(stack: Option<&Stack>) -> Vec<Check> {
    let found = futures::future::join_all(programs(stack).into_iter().map(look)).await;
    let kustomize = found
        .iter()
        .any(|(program, version)| program.needed == Need::Either && version.is_some());
    found
        .into_iter()
        .map(|(program, version)| verdict(&program, version, kustomize))
        .collect()
}

fn programs(stack: Option<&Stack>) -> Vec<Program> {
    let renders =
        |kind: fn(&RenderStep) -> bool| stack.is_some_and(|stack| stack.render.iter().any(kind));
    let provider = stack.and_then(|stack| stack.cluster.provider);
    let either = if renders(|step| matches!(step, RenderStep::Kustomize(_))) {
        Need::Either
    } else {
        Need::No
    };
    let need = |needed| if needed { Need::Yes } else { Need::No };
    let creates = stack.is_some_and(|stack| stack.cluster.create);
    let program = |name, words, needed, get| Program {
        name,
        words,
        needed,
        get,
    };
    vec![
        program(
            "kind",
            &["version"],
            need(creates && provider == Some(Provider::Kind)),
            "https://kind.sigs.k8s.io",
        ),
        program(
            "minikube",
            &["version", "--short"],
            need(provider == Some(Provider::Minikube)),
            "https://minikube.sigs.k8s.io",
        ),
        program(
            "kubectl",
            &["version", "--client"],
            either,
            "https://kubernetes.io/docs/tasks/tools",
        ),
        program(
            "kustomize",
            &["version"],
            either,
            "https://kubectl.docs.kubernetes.io/installation/kustomize",
        ),
        program(
            "helm",
            &["version", "--short"],
            need(renders(|step| matches!(step, RenderStep::Helm(_)))),
            "https://helm.sh/docs/intro/install",
        ),
    ]
}

/// The first line that a program says of its version; `None` when it is not there.
async fn look(program: Program) -> (Program, Option<String>) {
    let output = Command::new(program.name)
        .args(program.words)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let version = output.ok().map(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = text.lines().next().unwrap_or_default().split_whitespace();
        let version = words.clone().find(|word| {
            word.trim_start_matches('v')
                .starts_with(|c: char| c.is_ascii_digit())
        });
        version.unwrap_or("of an unknown version").to_owned()
    });
    (program, version)
}

fn verdict(program: &Program, version: Option<String>, kustomize: bool) -> Check {
    let get = format!("install it: {}", program.get);
    match (version, program.needed) {
        (Some(version), _) => Check::good(program.name, version),
        (None, Need::No) => Check::good(program.name, "not installed, and not needed here"),
        (None, Need::Either) if kustomize => {
            Check::good(program.name, "not installed; the other one renders")
        }
        (None, _) => Check::bad(program.name, "not installed, and this stack needs it").remedy(get),
    }
}
