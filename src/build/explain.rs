//! Why a build failed, for a tired person and for an editor's problem matcher.

use crate::error::{Failure, Kind};

use super::dockerfile::{self, Instruction};
use super::plan::ImagePlan;
use super::solve::Trouble;

/// The failure of a build. Its first line of detail is `DOCKERFILE:LINE: error: …` wherever the line is known.
pub fn explain(plan: &ImagePlan, trouble: &Trouble) -> Failure {
    let instructions = dockerfile::instructions(&plan.dockerfile);
    let cause = cause(trouble);
    let line = line(plan, trouble, &instructions);
    let place = line.map_or_else(
        || plan.dockerfile_name.clone(),
        |line| format!("{}:{line}", plan.dockerfile_name),
    );
    let mut failure = Failure::failed(format!("building {} failed", plan.name))
        .cause(cause.clone())
        .detail([format!("{place}: error: {cause}")]);
    if let Some(step) = &trouble.step {
        failure = failure.detail(step.output.iter().map(String::as_str));
    }
    if is_passing(trouble) {
        failure.kind = Kind::Environment;
    }
    match remedy(trouble) {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}

/// BuildKit shares steps between builds that run at the same time: when the client of one goes away, others fail with
/// it. They work when they are tried again.
fn is_passing(trouble: &Trouble) -> bool {
    let said = trouble
        .step
        .as_ref()
        .map_or(&trouble.message, |step| &step.error);
    said.contains("code = Unavailable desc = transport is closing")
}

/// In one line, without BuildKit's wrapping.
fn cause(trouble: &Trouble) -> String {
    let Some(step) = &trouble.step else {
        return plain(&trouble.message);
    };
    let instruction = step
        .name
        .split_once("] ")
        .map_or(step.name.as_str(), |(_, rest)| rest);
    if let Some((_, code)) = step.error.rsplit_once(": exit code: ") {
        let code: String = code.chars().take_while(char::is_ascii_digit).collect();
        return format!("{} exited with code {code}", shortened(instruction));
    }
    if let Some(image) = step.name.strip_prefix("[internal] load metadata for ") {
        return format!("FROM {image}: {}", plain(&step.error));
    }
    if step.name.starts_with("[internal]") || !step.name.starts_with('[') {
        return plain(&step.error);
    }
    format!("{}: {}", shortened(instruction), plain(&step.error))
}

fn plain(message: &str) -> String {
    let wrappings = [
        "failed to solve: ",
        "failed to solve with frontend dockerfile.v0: ",
        "failed to create LLB definition: ",
        "failed to compute cache key: ",
        "rpc error: code = Unknown desc = ",
    ];
    let mut rest = message.trim();
    while let Some(inner) = wrappings
        .iter()
        .find_map(|wrapping| rest.strip_prefix(wrapping))
    {
        rest = inner;
    }
    rest.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn shortened(instruction: &str) -> String {
    const LONGEST: usize = 100;
    if instruction.chars().count() <= LONGEST {
        return instruction.to_owned();
    }
    let start: String = instruction.chars().take(LONGEST).collect();
    format!("{start}…")
}

/// From the step, else from what BuildKit says of the Dockerfile.
fn line(plan: &ImagePlan, trouble: &Trouble, instructions: &[Instruction]) -> Option<usize> {
    if let Some(step) = &trouble.step {
        if is_frontend(&step.name) {
            return dockerfile::directive(&plan.dockerfile, "syntax").map(|(line, _)| line);
        }
        if let Some(instruction) = dockerfile::find(instructions, &step.name) {
            return Some(instruction.line);
        }
    }
    let said = trouble.message.split("line ").skip(1).find_map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    let lines = plan.dockerfile.lines().count();
    said.filter(|line| trouble.message.contains("ockerfile") && (1..=lines).contains(line))
}

/// Whether it is the loading of what a `# syntax=` line names.
fn is_frontend(step: &str) -> bool {
    step.starts_with("resolve image config for") || step.starts_with("docker-image://")
}

fn remedy(trouble: &Trouble) -> Option<String> {
    let step = trouble.step.as_ref();
    let name = step.map_or("", |step| step.name.as_str());
    let output = step.map(|step| step.output.join("\n")).unwrap_or_default();
    let all = format!(
        "{} {} {output}",
        trouble.message,
        step.map_or("", |step| step.error.as_str())
    )
    .to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| all.contains(word));
    let image = name.strip_prefix("[internal] load metadata for ");
    if has(&["no space left on device"]) {
        return Some("make room: `llmdev prune`, or `docker system prune`; `docker system df` says what fills the disk".into());
    }
    if is_frontend(name) {
        return Some("the `# syntax=` line makes Docker fetch its Dockerfile reader from a registry: take the line out, or make that image available".into());
    }
    let network = [
        "no such host",
        "i/o timeout",
        "connection refused",
        "network is unreachable",
        "tls handshake timeout",
        "temporary failure in name resolution",
        "temporary failure resolving",
        "server misbehaving",
        "dial tcp",
        "could not resolve host",
    ];
    match image {
        Some(image) if has(&network) => Some(format!(
            "Docker has no {image} and cannot reach its registry: check the network, or load the image (`docker load`)"
        )),
        Some(image)
            if has(&["unauthorized", "authorization failed", "401"])
                && !has(&["does not exist"]) =>
        {
            Some(format!("log in to the registry of {image}: docker login"))
        }
        Some(image) => Some(format!(
            "check the name {image} after FROM; if it is private: docker login"
        )),
        None if has(&network) => Some(
            "the network or a server did not answer: check the connection, then build again".into(),
        ),
        None if has(&[
            "failed to calculate checksum",
            "failed to compute cache key",
        ]) =>
        {
            Some("the path must be in the build context, and not in .dockerignore".into())
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use crate::build::context::Context;
    use crate::build::progress::Step;
    use crate::stack::{BuildSpec, ServiceId};

    use super::*;

    fn plan(dockerfile: &str) -> ImagePlan {
        ImagePlan {
            service: ServiceId(0),
            name: "api".into(),
            stack: "shop".into(),
            reference: "llmdev.local/shop/api:0".into(),
            spec: BuildSpec {
                image: "api".into(),
                context: PathBuf::from("/shop/api"),
                dockerfile: PathBuf::from("/shop/api/Dockerfile"),
                target: None,
                args: Default::default(),
                secrets: Default::default(),
                requires: Default::default(),
            },
            args: Default::default(),
            dockerfile: dockerfile.into(),
            dockerfile_name: "api/Dockerfile".into(),
            context: Arc::new(Context {
                root: PathBuf::from("/shop/api"),
                entries: Default::default(),
            }),
        }
    }

    #[test]
    fn each_reason_has_its_line_and_remedy() {
        let dockerfile = "# syntax=docker/dockerfile:1\nFROM nope\nRUN make\nCOPY x /\n";
        let table = [
            (
                "[2/3] RUN make",
                "process \"/bin/sh -c make\" did not complete successfully: exit code: 2",
                "3: error: RUN make exited with code 2",
                None,
            ),
            (
                "[2/3] RUN make",
                "executor failed running [/bin/sh -c make]: exit code: 2",
                "3: error: RUN make exited with code 2",
                None,
            ),
            (
                "[2/3] RUN make",
                "write /a: no space left on device",
                "3: error: RUN make: write /a: no space left on device",
                Some("llmdev prune"),
            ),
            (
                "[3/3] COPY x /",
                "failed to compute cache key: \"/x\" not found: not found",
                "4: error: COPY x /: \"/x\" not found: not found",
                Some("build context"),
            ),
            (
                "[internal] load metadata for docker.io/library/nope:latest",
                "pull access denied, repository does not exist or may require authorization",
                "2: error: FROM docker.io/library/nope:latest: pull access denied, repository does not exist or may require authorization",
                Some("check the name docker.io/library/nope:latest"),
            ),
            (
                "[internal] load metadata for docker.io/library/nope:latest",
                "dial tcp: lookup registry-1.docker.io: no such host",
                "2: error: FROM docker.io/library/nope:latest: dial tcp: lookup registry-1.docker.io: no such host",
                Some("cannot reach its registry"),
            ),
            (
                "resolve image config for docker.io/docker/dockerfile:1",
                "dial tcp: i/o timeout",
                "1: error: dial tcp: i/o timeout",
                Some("`# syntax=`"),
            ),
        ];
        for (name, error, first, remedy) in table {
            let step = Step {
                name: name.into(),
                error: error.into(),
                output: vec!["last".into()],
            };
            let failure = explain(
                &plan(dockerfile),
                &Trouble {
                    message: error.into(),
                    step: Some(step),
                },
            );
            assert_eq!(
                failure.detail,
                [format!("api/Dockerfile:{first}"), "last".into()]
            );
            let said = failure.remedy.unwrap_or_default();
            assert!(
                remedy.map_or(said.is_empty(), |remedy| said.contains(remedy)),
                "{name}: {said}"
            );
        }
    }

    #[test]
    fn what_passes_is_worth_another_try() {
        let kind = |message: &str| {
            let trouble = Trouble {
                message: message.into(),
                step: None,
            };
            explain(&plan("FROM a\n"), &trouble).kind
        };
        assert_eq!(
            [
                kind("rpc error: code = Unavailable desc = transport is closing"),
                kind("target stage \"x\" could not be found"),
            ],
            [Kind::Environment, Kind::Failed]
        );
    }

    #[test]
    fn mistakes_in_the_dockerfile_have_their_line() {
        for (message, first) in [
            (
                "dockerfile parse error on line 2: unknown instruction: FOO",
                "api/Dockerfile:2: error: ",
            ),
            (
                "failed to solve: dockerfile parse error line 2: unknown instruction: FOO",
                "api/Dockerfile:2: error: ",
            ),
            (
                "target stage \"x\" could not be found",
                "api/Dockerfile: error: target stage",
            ),
            ("Dockerfile line 99", "api/Dockerfile: error: "),
        ] {
            let failure = explain(
                &plan("FROM a\nFOO\n"),
                &Trouble {
                    message: message.into(),
                    step: None,
                },
            );
            assert!(failure.detail[0].starts_with(first), "{failure:?}");
        }
    }
}
