//! How a profile is, as `minikube status -o json` says it.

use serde::Deserialize;

use super::program::Said;

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
const ABSENT: i32 = 85;

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
    /// Reads what is printed: an object, or an array where there are several nodes. Where there is no profile it is for
    /// people, and the exit code says so.
    pub fn read(said: &Said) -> Option<Profile> {
        if said.code == Some(ABSENT) {
            return Some(Profile::Absent);
        }
        let out = &said.out;
        if let Ok(one) = serde_json::from_str(out) {
            return Profile::of(&one);
        }
        let all = serde_json::from_str::<Vec<Machine>>(out).ok()?;
        all.iter().find(|one| !one.worker).and_then(Profile::of)
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
        let said = |code, out: &str| Said {
            code: Some(code),
            out: out.to_owned(),
            error: String::new(),
        };
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
            r#"{"specversion":"1.0","type":"io.k8s.sigs.minikube.info","data":{"message":"To start a cluster, run: \"minikube start -p minikube\""}}"#,
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
            ("[]".to_owned(), None),
            (String::new(), None),
            ("E1121 not JSON".to_owned(), None),
        ] {
            // Whatever the code: its bits only sum up what is printed.
            for code in [0, 2, 6, 7] {
                assert_eq!(Profile::read(&said(code, &out)), expected, "{out}");
            }
        }
        assert_eq!(Profile::read(&said(85, missing)), Some(Profile::Absent));
        assert_eq!(Profile::read(&said(14, missing)), None);
    }
}
