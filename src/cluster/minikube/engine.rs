//! The engine of a profile of the docker runtime: what is built there is in the node.

use std::path::PathBuf;

use serde::Deserialize;

use super::program::{Said, look};
use crate::build::Docker;
use crate::error::{Failure, Result};

/// What minikube ends with when it is asked for the engine of several nodes.
const SEVERAL: i32 = 81;

/// Where a profile's engine listens, with TLS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Address {
    /// `tcp://ADDRESS:PORT`.
    #[serde(rename = "DOCKER_HOST")]
    pub host: String,
    /// The folder of `ca.pem`, `cert.pem` and `key.pem`: below `MINIKUBE_HOME`, the same for all profiles.
    #[serde(rename = "DOCKER_CERT_PATH")]
    pub certificates: PathBuf,
}

impl Address {
    /// Asks minikube. None: the profile has several nodes, each with an engine of its own.
    ///
    /// # Errors
    /// When it does not tell: the profile is stopped, say.
    pub async fn of(profile: &str) -> Result<Option<Address>> {
        // Only the shell `none` is answered in JSON.
        let arguments = [
            "docker-env",
            "--profile",
            profile,
            "--shell",
            "none",
            "--output",
            "json",
        ];
        Address::read(&look(&arguments, profile).await?, profile)
    }

    /// Connects to the engine.
    ///
    /// # Errors
    /// When it does not answer, or not with these certificates.
    pub async fn connect(&self) -> Result<Docker> {
        Docker::connect_tls(&self.host, &self.certificates).await
    }

    fn read(said: &Said, profile: &str) -> Result<Option<Address>> {
        if let Ok(address) = serde_json::from_str(&said.out) {
            return Ok(Some(address));
        }
        // For a shell to evaluate: `false exit code 83`.
        let code = said.out.trim().strip_prefix("false exit code ");
        let code = code.and_then(|code| code.parse().ok()).or(said.code);
        let what = format!("minikube does not say where the engine of the profile {profile} is");
        Err(match code {
            Some(SEVERAL) => return Ok(None),
            Some(83) => Failure::environment(what)
                .cause("the profile is stopped")
                .remedy("llmdev up"),
            Some(85) => Failure::environment(what).cause("there is no such profile"),
            _ => said.failure(what).remedy(format!(
                "minikube docker-env -p {profile} --shell none -o json"
            )),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As minikube 1.38 answers.
    #[test]
    fn where_the_engine_is() {
        let said = |code, out: &str| Said {
            code: Some(code),
            out: out.to_owned(),
            error: "X Exiting".to_owned(),
        };
        let out = r#"{"DOCKER_CERT_PATH":"/home/me/.minikube/certs","DOCKER_HOST":"tcp://192.168.58.2:2376","DOCKER_TLS_VERIFY":"1","MINIKUBE_ACTIVE_DOCKERD":"mkdocker","SSH_AGENT_PID":"","SSH_AUTH_SOCK":""}"#;
        let address = Address {
            host: "tcp://192.168.58.2:2376".into(),
            certificates: "/home/me/.minikube/certs".into(),
        };
        assert_eq!(Address::read(&said(0, out), "dev").unwrap(), Some(address));
        let several = said(81, "false exit code 81\n");
        assert_eq!(Address::read(&several, "dev").unwrap(), None);
        for (code, out, cause) in [
            (83, "false exit code 83\n", "the profile is stopped"),
            (85, "false exit code 85\n", "there is no such profile"),
            // Whoever pipes it sees no other code than 0.
            (0, "false exit code 83\n", "the profile is stopped"),
            (14, "", "minikube ended with 14"),
        ] {
            let failure = Address::read(&said(code, out), "dev").unwrap_err();
            assert_eq!(failure.causes, [cause], "{out}");
        }
    }
}
