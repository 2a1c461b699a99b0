//! How a profile is, as `minikube status -o json` says it.

use serde::Deserialize;

use super::events;

/// How a profile is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// There is none of that name.
    Absent,
    /// It runs, and the kubeconfig leads to it.
    Running,
    /// Its containers are frozen.
    Paused,
    /// Its node runs, and the kubeconfig has no context that leads to it.
    Unlisted,
    /// Its node or its cluster does not run.
    Stopped,
}

/// The exit code of most commands when there is no such profile.
const ABSENT: u8 = 85;

#[derive(Deserialize)]
struct Machine {
    #[serde(rename = "Host")]
    host: String,
    #[serde(rename = "Kubelet", default)]
    kubelet: String,
    #[serde(rename = "APIServer", default)]
    api_server: String,
    #[serde(rename = "Kubeconfig", default)]
    kubeconfig: String,
    #[serde(rename = "Worker", default)]
    worker: bool,
}

impl Profile {
    /// Reads what is printed: an object, an array where there are several nodes, or events where there is no profile.
    pub fn read(out: &str) -> Option<Profile> {
        if let Ok(one) = serde_json::from_str(out) {
            return Profile::of(&one);
        }
        if let Ok(all) = serde_json::from_str::<Vec<Machine>>(out) {
            return all.iter().find(|one| !one.worker).and_then(Profile::of);
        }
        let absent = events::errors(out).any(|error| error.code == Some(ABSENT));
        absent.then_some(Profile::Absent)
    }

    /// The control plane's state is the profile's. Without the right address in the kubeconfig, minikube may not find
    /// the API server, so that goes before what it says of that. A node of which it cannot tell (its disk is full, say)
    /// is not taken for one that is stopped.
    fn of(machine: &Machine) -> Option<Profile> {
        let running = |what: &str| what == "Running";
        Some(match machine.host.as_str() {
            "Stopped" | "Nonexistent" => Profile::Stopped,
            "Running" if machine.api_server == "Paused" => Profile::Paused,
            "Running" if machine.kubeconfig == "Misconfigured" => Profile::Unlisted,
            "Running" if running(&machine.kubelet) && running(&machine.api_server) => {
                Profile::Running
            }
            "Running" => Profile::Stopped,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As minikube 1.38 answers.
    #[test]
    fn what_status_says() {
        let machine = |host: &str, kubelet: &str, api_server: &str, kubeconfig: &str| {
            format!(
                r#"{{"Name":"minikube","Host":"{host}","Kubelet":"{kubelet}","APIServer":"{api_server}","Kubeconfig":"{kubeconfig}","Worker":false}}"#
            )
        };
        let running = machine("Running", "Running", "Running", "Configured");
        let stopped = machine("Stopped", "Stopped", "Stopped", "Stopped");
        let worker = r#"{"Name":"minikube-m02","Host":"Running","Kubelet":"Running","APIServer":"Irrelevant","Kubeconfig":"Irrelevant","Worker":true}"#;
        let missing = concat!(
            r#"{"specversion":"1.0","type":"io.k8s.sigs.minikube.info","data":{"message":"Profile \"minikube\" not found. Run \"minikube profile list\" to view all profiles."}}"#,
            "\n",
            r#"{"specversion":"1.0","type":"io.k8s.sigs.minikube.error","data":{"advice":"","exitcode":"85","issues":"","message":"","name":"","url":""}}"#,
            "\n"
        );
        for (out, expected) in [
            (running.clone(), Some(Profile::Running)),
            (stopped.clone(), Some(Profile::Stopped)),
            (format!("[{running},{worker}]"), Some(Profile::Running)),
            (format!("[{worker},{running}]"), Some(Profile::Running)),
            (format!("[{stopped},{worker}]"), Some(Profile::Stopped)),
            (
                machine("Running", "Stopped", "Paused", "Configured"),
                Some(Profile::Paused),
            ),
            (
                machine("Running", "Stopped", "Stopped", "Configured"),
                Some(Profile::Stopped),
            ),
            (
                machine("Running", "Running", "Running", "Misconfigured"),
                Some(Profile::Unlisted),
            ),
            (
                machine("Running", "Running", "Stopped", "Misconfigured"),
                Some(Profile::Unlisted),
            ),
            (
                machine("Nonexistent", "Nonexistent", "Nonexistent", "Nonexistent"),
                Some(Profile::Stopped),
            ),
            (
                machine("InsufficientStorage", "Running", "Running", "Configured"),
                None,
            ),
            (
                machine("Error", "Nonexistent", "Nonexistent", "Nonexistent"),
                None,
            ),
            (missing.to_owned(), Some(Profile::Absent)),
            (missing.replace("85", "14"), None),
            ("[]".to_owned(), None),
            (String::new(), None),
            ("E1121 not JSON".to_owned(), None),
        ] {
            assert_eq!(Profile::read(&out), expected, "{out}");
        }
    }
}
