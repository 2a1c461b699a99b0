//! Out of Docker into a registry. Docker itself asks and sends: it has the network, the trust and the way to plain HTTP.

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::query_parameters::PushImageOptionsBuilder;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::{By, Registry};
use crate::cluster::load::push::Tag;
use crate::cluster::node::interrupted;
use crate::error::{Failure, Result};

impl Registry {
    /// Pushes an image whose reference begins as the nodes call this registry, unless it is there. Whether it was sent.
    ///
    /// A tag is the digest of all that the image is made from, so one that is there is the image.
    ///
    /// # Errors
    /// When Docker cannot push; the remedy goes by the reason.
    pub async fn push(
        &self,
        docker: &Docker,
        reference: &str,
        login: Option<DockerCredentials>,
        cancel: &CancellationToken,
    ) -> Result<bool> {
        let work = async {
            let name = self.outside(reference);
            if docker
                .inspect_registry_image(&name, login.clone())
                .await
                .is_ok()
            {
                return Ok(false);
            }
            self.send(docker, reference, &name, login)
                .await
                .map(|()| true)
        };
        tokio::select! {
            pushed = work => pushed,
            () = cancel.cancelled() => Err(interrupted()),
        }
    }

    /// Whether the registry answers Docker.
    ///
    /// # Errors
    /// As [`Registry::push`].
    pub async fn answers(&self, docker: &Docker, login: Option<DockerCredentials>) -> Result<()> {
        let nothing = format!("{}/llmdev:none", self.push);
        match docker.inspect_registry_image(&nothing, login).await {
            Ok(_)
            | Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => Ok(()),
            Err(error) => {
                Err(self.failure(format!("the registry {} cannot be used", self.push), error))
            }
        }
    }

    /// A reference as Docker calls it.
    fn outside(&self, reference: &str) -> String {
        let rest = reference.strip_prefix(&self.pull).unwrap_or(reference);
        format!("{}{rest}", self.push)
    }

    async fn send(
        &self,
        docker: &Docker,
        reference: &str,
        name: &str,
        login: Option<DockerCredentials>,
    ) -> Result<()> {
        let failed =
            |error: Error| self.failure(format!("cannot push {reference} to {}", self.push), error);
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        let _temporary = match name == reference {
            true => None,
            false => Some(
                Tag::new(docker, reference, repository, tag)
                    .await
                    .map_err(failed)?,
            ),
        };
        let options = PushImageOptionsBuilder::new().tag(tag).build();
        let mut steps = docker.push_image(repository, Some(options), login).boxed();
        while let Some(step) = steps.next().await {
            step.map_err(failed)?;
        }
        Ok(())
    }

    fn failure(&self, what: String, error: Error) -> Failure {
        let said = match error {
            Error::DockerResponseServerError { message, .. } => message,
            Error::DockerStreamError { error } => error,
            error => {
                return Failure::environment(what)
                    .because(error)
                    .remedy("is Docker running? `docker ps` tells");
            }
        };
        // What Docker says of a registry does not mend by itself: it is no failure that is tried again.
        let remedy = self.remedy(&said);
        Failure::failed(what).cause(said).remedy(remedy)
    }

    fn remedy(&self, said: &str) -> String {
        let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
        let host = self.host();
        if has(&["no basic auth", "unauthorized", "authentication required"]) {
            return format!("docker login {host}");
        }
        if has(&["denied", "forbidden", "Forbidden"]) {
            return format!("docker login {host}, as somebody who may push there");
        }
        if has(&["HTTP response to HTTPS client"]) {
            return format!(
                "add {host} to `insecure-registries` of Docker's daemon.json, and restart Docker"
            );
        }
        if has(&["x509"]) {
            return format!(
                "give Docker the registry's authority: /etc/docker/certs.d/{host}/ca.crt"
            );
        }
        if has(&[
            "dial tcp",
            "no such host",
            "timeout",
            "EOF",
            "connection reset",
        ]) {
            let help = match &self.by {
                By::Cluster(Some(help)) => format!("; the cluster says of it: {help}"),
                _ => String::new(),
            };
            return format!("is the registry running? curl http://{host}/v2/{help}");
        }
        format!("does {} take images? what it logs says why not", self.push)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_goes_by_what_docker_says() {
        let registry = Registry {
            push: "r.example:5000/me".to_owned(),
            pull: "r.example:5000/me".to_owned(),
            by: By::Stack,
        };
        for (said, remedy) in [
            (
                "Get \"http://r.example:5000/v2/\": dial tcp 127.0.0.1:5000: connect: connection refused",
                "is the registry running? curl http://r.example:5000/v2/",
            ),
            ("no basic auth credentials", "docker login r.example:5000"),
            (
                "unauthorized: authentication required",
                "docker login r.example:5000",
            ),
            (
                "denied: requested access to the resource is denied",
                "docker login r.example:5000, as somebody who may push there",
            ),
            (
                "Get \"https://r.example:5000/v2/\": http: server gave HTTP response to HTTPS client",
                "add r.example:5000 to `insecure-registries` of Docker's daemon.json, and restart Docker",
            ),
            (
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
                "give Docker the registry's authority: /etc/docker/certs.d/r.example:5000/ca.crt",
            ),
            (
                "received unexpected HTTP status: 507 Insufficient Storage",
                "does r.example:5000/me take images? what it logs says why not",
            ),
        ] {
            assert_eq!(registry.remedy(said), remedy);
        }
    }

    #[test]
    fn docker_calls_it_by_the_name_that_it_has_outside() {
        let registry = Registry {
            push: "localhost:5001".to_owned(),
            pull: "registry:5000".to_owned(),
            by: By::Cluster(None),
        };
        assert_eq!(
            registry.outside("registry:5000/shop/api:0"),
            "localhost:5001/shop/api:0"
        );
    }
}
