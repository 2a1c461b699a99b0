//! What minikube prints with `-o json` while it works: CloudEvents, one a line, with other lines between them.

use serde::Deserialize;

use crate::error::Failure;

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: Data,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Data {
    message: String,
    name: String,
    exitcode: String,
}

impl Event {
    fn read(line: &str, kind: &str) -> Option<Data> {
        let event: Event = serde_json::from_str(line).ok()?;
        let is = event.kind.strip_prefix("io.k8s.sigs.minikube.") == Some(kind);
        is.then_some(event.data)
    }
}

/// The steps of a start. They skip numbers and repeat themselves, so only their words are told, once each.
#[derive(Debug, Default)]
pub struct Steps {
    told: Vec<String>,
}

impl Steps {
    /// The step that a line tells of, if it is news.
    pub fn take(&mut self, line: &str) -> Option<String> {
        let message = Event::read(line, "step")?.message;
        let step = message.trim().to_owned();
        if step.is_empty() || self.told.contains(&step) {
            return None;
        }
        self.told.push(step.clone());
        Some(step)
    }
}

/// What went wrong, as minikube tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Its exit code for that; several troubles may have one.
    pub code: Option<u8>,
    /// Its name for that, such as `DRV_AS_ROOT`.
    pub name: String,
    /// For people; may be empty.
    pub message: String,
}

/// The errors among the lines.
pub fn errors(out: &str) -> impl Iterator<Item = Trouble> {
    let data = out.lines().filter_map(|line| Event::read(line, "error"));
    data.map(|data| Trouble {
        code: data.exitcode.parse().ok(),
        name: data.name,
        message: data.message.trim().to_owned(),
    })
}

impl Trouble {
    /// Why a start failed: the first that has a name of its own, since a forced start goes on after some, and ends with
    /// another.
    pub fn of_start(out: &str) -> Option<Trouble> {
        let all: Vec<_> = errors(out).collect();
        let named = |one: &&Trouble| !matches!(one.name.as_str(), "" | "MK_USAGE");
        all.iter().find(named).or(all.first()).cloned()
    }

    /// What failed because of it, with what to do.
    pub fn failure(&self, what: String, profile: &str) -> Failure {
        let code = self.code.map(|code| code.to_string());
        let name = match (code, self.name.as_str()) {
            (Some(code), "") => format!("minikube ended with {code}"),
            (Some(code), name) => format!("minikube ended with {code} ({name})"),
            (None, name) => name.to_owned(),
        };
        let mut failure = Failure::environment(what);
        if !self.message.is_empty() {
            failure = failure.cause(self.message.lines().next().unwrap_or_default());
        }
        failure.cause(name).remedy(self.remedy(profile))
    }

    fn remedy(&self, profile: &str) -> String {
        let anew = format!("`minikube delete -p {profile}`, then `llmdev up`");
        match (self.name.as_str(), self.code) {
            ("DRV_AS_ROOT", _) => "run llmdev as another user than root".to_owned(),
            ("PROVIDER_DOCKER_NOT_FOUND", _) => {
                "install Docker, or name another `cluster.driver` in stack.yaml".to_owned()
            }
            ("PROVIDER_DOCKER_NOT_RUNNING", _) => {
                "is Docker running, and may you use it? `docker ps` tells".to_owned()
            }
            ("RSRC_INSUFFICIENT_REQ_MEMORY", _) => {
                "`cluster: { memory: 2Gi }` in stack.yaml, or more".to_owned()
            }
            // The driver is another than the profile's.
            (_, Some(81)) => format!("the profile's own `cluster.driver` in stack.yaml; or {anew}"),
            ("MK_USAGE", _) | (_, Some(14)) => {
                "less `cpus` or `memory` in `cluster` of stack.yaml, or give Docker more".to_owned()
            }
            // It leaves a profile that no start mends.
            (_, Some(48)) => format!("see to it that its base image can be pulled; then {anew}"),
            ("RUNTIME_ENABLE" | "GUEST_START", _) => {
                format!("`minikube logs -p {profile}` says more; {anew}, makes it anew")
            }
            _ => format!("minikube logs -p {profile}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, name: &str, message: &str) -> String {
        serde_json::json!({
            "specversion": "1.0", "id": "1", "source": "https://minikube.sigs.k8s.io/",
            "type": "io.k8s.sigs.minikube.error", "datacontenttype": "application/json",
            "data": {"advice": "", "exitcode": code, "issues": "", "message": message, "name": name, "url": ""},
        })
        .to_string()
    }

    #[test]
    fn steps_are_told_once() {
        let step = |number: &str, message: &str| {
            serde_json::json!({
                "specversion": "1.0", "type": "io.k8s.sigs.minikube.step",
                "data": {"currentstep": number, "message": message, "name": "", "totalsteps": "19"},
            })
            .to_string()
        };
        let mut steps = Steps::default();
        let told: Vec<_> = [
            step("0", "minikube v1.38.1 on Debian"),
            step("3", "Starting \"minikube\" primary control-plane node\n"),
            step("8", "Creating docker container (CPUs=2, Memory=3072MB) ..."),
            step("8", "Creating docker container (CPUs=2, Memory=3072MB) ..."),
            step("11", ""),
            "! This is no JSON".to_owned(),
            error("80", "GUEST_START", "no step"),
        ]
        .iter()
        .filter_map(|line| steps.take(line))
        .collect();
        assert_eq!(
            told,
            [
                "minikube v1.38.1 on Debian",
                "Starting \"minikube\" primary control-plane node",
                "Creating docker container (CPUs=2, Memory=3072MB) ...",
            ]
        );
    }

    #[test]
    fn each_failure_has_its_remedy() {
        for (code, name, remedy) in [
            ("57", "DRV_AS_ROOT", "another user than root"),
            ("65", "PROVIDER_DOCKER_NOT_FOUND", "install Docker"),
            ("63", "PROVIDER_DOCKER_NOT_RUNNING", "is Docker running"),
            ("81", "GUEST_DRIVER_MISMATCH", "own `cluster.driver`"),
            ("23", "RSRC_INSUFFICIENT_REQ_MEMORY", "memory: 2Gi"),
            ("14", "MK_USAGE", "less `cpus` or `memory`"),
            ("48", "GUEST_PROVISION", "minikube delete -p dev"),
            ("90", "RUNTIME_ENABLE", "minikube delete -p dev"),
            ("80", "GUEST_START", "minikube logs -p dev"),
            ("70", "GUEST_NEW", "minikube logs -p dev"),
        ] {
            let trouble = Trouble::of_start(&error(code, name, "It is so\nand so.")).unwrap();
            let failure = trouble.failure("cannot start".into(), "dev");
            let (causes, said) = (&failure.causes, failure.remedy.as_deref().unwrap());
            assert_eq!(
                causes,
                &[
                    "It is so".to_owned(),
                    format!("minikube ended with {code} ({name})")
                ]
            );
            assert!(said.contains(remedy), "{name}: {said}");
        }
    }

    #[test]
    fn a_forced_start_goes_on_after_its_failure() {
        let out = [
            error("63", "PROVIDER_DOCKER_NOT_RUNNING", "Cannot connect"),
            "* not JSON".to_owned(),
            error("14", "MK_USAGE", "Exiting"),
        ];
        let trouble = Trouble::of_start(&out.join("\n")).unwrap();
        assert_eq!(trouble.name, "PROVIDER_DOCKER_NOT_RUNNING");
        assert_eq!(Trouble::of_start("* not JSON"), None);
    }
}
