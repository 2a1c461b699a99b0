//! Logins for registries, from where `docker login` keeps them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use bollard::grpc::build::moby::filesync::v1::auth_server::Auth;
use bollard::grpc::build::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
    GetTokenAuthorityRequest, GetTokenAuthorityResponse, VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tonic::{Request, Response, Status};

use super::endpoint::Settings;

/// Reads `config.json` in this folder each time it is asked, so that a `docker login` is noticed.
#[derive(Debug)]
pub struct Credentials {
    /// `~/.docker`, or what `DOCKER_CONFIG` says.
    pub config: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    auths: HashMap<String, Login>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Login {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// What a `docker-credential-…` program prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

const HUB: &str = "https://index.docker.io/v1/";

impl Credentials {
    /// The login for a registry's host; none where there is none.
    pub async fn find(&self, host: &str) -> Option<CredentialsResponse> {
        let config: Config =
            serde_json::from_slice(&std::fs::read(self.config.join("config.json")).ok()?).ok()?;
        let key = if host == "registry-1.docker.io" {
            HUB
        } else {
            host
        };
        let helper = config.cred_helpers.get(key).or(config.creds_store.as_ref());
        if let Some(helper) = helper
            && let Some(found) = ask(helper, key).await
        {
            return Some(found);
        }
        let login = config
            .auths
            .iter()
            .find(|(name, _)| *name == key || bare(name) == bare(key))?
            .1;
        login.response()
    }
}

/// The login for a registry's host, as Docker takes it with a push.
pub async fn for_push(host: &str) -> Option<DockerCredentials> {
    let config = Settings::of_process().config;
    let found = Credentials { config }.find(host).await?;
    let mut login = DockerCredentials {
        serveraddress: Some(host.to_owned()),
        ..DockerCredentials::default()
    };
    if found.username.is_empty() {
        login.identitytoken = Some(found.secret);
    } else {
        (login.username, login.password) = (Some(found.username), Some(found.secret));
    }
    Some(login)
}

impl Login {
    fn response(&self) -> Option<CredentialsResponse> {
        if let Some(token) = self.identitytoken.clone().filter(|token| !token.is_empty()) {
            return Some(CredentialsResponse {
                username: String::new(),
                secret: token,
            });
        }
        if let (Some(username), Some(secret)) = (self.username.clone(), self.password.clone()) {
            return Some(CredentialsResponse { username, secret });
        }
        let decoded = String::from_utf8(STANDARD.decode(self.auth.as_deref()?).ok()?).ok()?;
        let (username, secret) = decoded.split_once(':')?;
        Some(CredentialsResponse {
            username: username.to_owned(),
            secret: secret.trim_end_matches('\0').to_owned(),
        })
    }
}

/// A registry's name without scheme and path: `config.json` has them in all forms.
fn bare(name: &str) -> &str {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    name.split('/').next().unwrap_or(name)
}

async fn ask(helper: &str, registry: &str) -> Option<CredentialsResponse> {
    let mut child = tokio::process::Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take()?;
    stdin.write_all(registry.as_bytes()).await.ok()?;
    drop(stdin);
    let output = child
        .wait_with_output()
        .await
        .ok()
        .filter(|output| output.status.success())?;
    let Helped { username, secret } = serde_json::from_slice(&output.stdout).ok()?;
    let username = if username == "<token>" {
        String::new()
    } else {
        username
    };
    Some(CredentialsResponse { username, secret })
}

#[tonic::async_trait]
impl Auth for Credentials {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        Ok(Response::new(
            self.find(&request.get_ref().host).await.unwrap_or_default(),
        ))
    }

    // BuildKit fetches tokens itself when the client does not.

    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("Docker fetches tokens"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("Docker fetches tokens"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("Docker fetches tokens"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn logins_are_found_in_all_forms() {
        let folder = tempfile::tempdir().unwrap();
        let encoded = STANDARD.encode("me:se:cret");
        let config = format!(
            r#"{{"auths": {{"https://index.docker.io/v1/": {{"auth": "{encoded}"}}, "ghcr.io": {{"auth": "{encoded}"}},
                "https://reg.example:5000/v2/": {{"identitytoken": "tok"}}}}, "credHelpers": {{"ghcr.io": "not-there"}}}}"#
        );
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let credentials = Credentials {
            config: folder.path().to_owned(),
        };
        for (host, username, secret) in [
            ("registry-1.docker.io", "me", "se:cret"),
            ("ghcr.io", "me", "se:cret"),
            ("reg.example:5000", "", "tok"),
        ] {
            let found = credentials.find(host).await.unwrap();
            assert_eq!(
                (found.username.as_str(), found.secret.as_str()),
                (username, secret),
                "{host}"
            );
        }
        assert!(credentials.find("quay.io").await.is_none());
    }
}
