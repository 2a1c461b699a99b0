//! Where Docker listens, found as the `docker` command finds it, and raw connections to there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::error::{Failure, Result};

/// An engine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket on this machine.
    Unix(PathBuf),
    /// `host:port`, plain.
    Tcp(String),
    /// `host:port` with TLS, and the folder of `ca.pem`, `cert.pem` and `key.pem`.
    Tls(String, PathBuf),
}

/// The settings that decide, apart from the process so that they can be tested.
#[derive(Debug, Default)]
pub struct Settings {
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub context: Option<String>,
    /// `DOCKER_TLS_VERIFY` is set and not empty.
    pub tls_verify: bool,
    /// `DOCKER_CERT_PATH`, else the configuration's folder.
    pub cert_path: PathBuf,
    /// `DOCKER_CONFIG`, else `~/.docker`.
    pub config: PathBuf,
    /// Sockets to try, best first, when nothing else is said.
    pub sockets: Vec<PathBuf>,
}

/// A connection to an engine.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Settings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = PathBuf::from(var("HOME").unwrap_or_default());
        let config = var("DOCKER_CONFIG").map_or_else(|| home.join(".docker"), PathBuf::from);
        let mut sockets = vec![
            PathBuf::from("/var/run/docker.sock"),
            home.join(".docker/run/docker.sock"),
        ];
        sockets
            .extend(var("XDG_RUNTIME_DIR").map(|runtime| Path::new(&runtime).join("docker.sock")));
        Settings {
            host: var("DOCKER_HOST"),
            context: var("DOCKER_CONTEXT"),
            tls_verify: var("DOCKER_TLS_VERIFY").is_some(),
            cert_path: var("DOCKER_CERT_PATH").map_or_else(|| config.clone(), PathBuf::from),
            config,
            sockets,
        }
    }

    /// `DOCKER_HOST`, else the context that is chosen, else the socket that is there.
    pub fn endpoint(&self) -> Result<Endpoint> {
        if let Some(host) = &self.host {
            let certs = self.tls_verify.then(|| self.cert_path.clone());
            return parse(host, certs).map_err(|failure| failure.cause("DOCKER_HOST says so"));
        }
        match self
            .context
            .clone()
            .or_else(|| current_context(&self.config))
            .as_deref()
        {
            None | Some("" | "default") => {
                let there = self
                    .sockets
                    .iter()
                    .find(|socket| socket.exists())
                    .or(self.sockets.first());
                Ok(Endpoint::Unix(there.cloned().unwrap_or_default()))
            }
            Some(name) => self.of_context(name),
        }
    }

    fn of_context(&self, name: &str) -> Result<Endpoint> {
        let hash: String = Sha256::digest(name)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let contexts = self.config.join("contexts");
        let meta: Option<Meta> = read_json(&contexts.join("meta").join(&hash).join("meta.json"));
        let host = meta
            .and_then(|meta| meta.endpoints.docker)
            .and_then(|docker| docker.host)
            .ok_or_else(|| {
                Failure::environment(format!("there is no Docker context {name}"))
                    .remedy("`docker context ls` lists them; `docker context use` chooses one")
            })?;
        let certs = contexts.join("tls").join(&hash).join("docker");
        parse(&host, certs.join("ca.pem").exists().then_some(certs))
            .map_err(|failure| failure.cause(format!("the Docker context {name} says so")))
    }
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Endpoints")]
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Option<Host>,
}

#[derive(Deserialize)]
struct Host {
    #[serde(rename = "Host")]
    host: Option<String>,
}

fn current_context(config: &Path) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Config {
        current_context: Option<String>,
    }
    read_json::<Config>(&config.join("config.json"))?.current_context
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn parse(host: &str, certs: Option<PathBuf>) -> Result<Endpoint> {
    let default = if certs.is_some() { 2376 } else { 2375 };
    let address = |rest: &str| {
        let address = rest.trim_end_matches('/');
        let ported = address
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if ported {
            address.to_owned()
        } else {
            format!("{address}:{default}")
        }
    };
    match host.split_once("://") {
        Some(("unix", path)) => Ok(Endpoint::Unix(path.into())),
        Some(("tcp" | "http" | "https", rest)) => Ok(match certs {
            Some(certs) => Endpoint::Tls(address(rest), certs),
            None => Endpoint::Tcp(address(rest)),
        }),
        _ => Err(Failure::environment(format!("llmdev cannot reach Docker at {host}")).remedy(
            "llmdev takes unix:// and tcp://; for ssh, forward the socket and set DOCKER_HOST=unix://… to it",
        )),
    }
}

impl Endpoint {
    /// Opens a connection.
    pub async fn dial(&self) -> io::Result<Box<dyn Wire>> {
        Ok(match self {
            Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Endpoint::Tcp(address) => Box::new(TcpStream::connect(address).await?),
            Endpoint::Tls(address, certs) => {
                let connector = tokio_rustls::TlsConnector::from(Arc::new(tls_config(certs)?));
                let host = address
                    .rsplit_once(':')
                    .map_or(address.as_str(), |(host, _)| host);
                let host = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
                    .map_err(io::Error::other)?;
                Box::new(
                    connector
                        .connect(host, TcpStream::connect(address).await?)
                        .await?,
                )
            }
        })
    }

    /// Why a connection could not be opened.
    pub fn unreachable(&self, error: &io::Error) -> Failure {
        let failure = match (self, error.kind()) {
            (_, io::ErrorKind::PermissionDenied) => {
                Failure::environment(format!("you may not use Docker at {self}"))
                    .remedy("sudo usermod -aG docker $USER, then log in anew")
            }
            (Endpoint::Unix(_), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Failure::environment(format!("Docker is not running: nothing listens at {self}"))
                    .remedy(START)
            }
            _ => Failure::environment(format!("Docker does not answer at {self}"))
                .remedy("check DOCKER_HOST and `docker context ls`"),
        };
        failure.cause(error.to_string())
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp(address) | Endpoint::Tls(address, _) => write!(f, "tcp://{address}"),
        }
    }
}

const START: &str = if cfg!(target_os = "macos") {
    "start Docker Desktop (`open -a Docker`), colima or OrbStack; or install one"
} else {
    "start it (`sudo systemctl start docker`), or install it: https://docs.docker.com/engine/install"
};

fn tls_config(certs: &Path) -> io::Result<rustls::ClientConfig> {
    let bad = |name: &str, error: &dyn std::fmt::Display| {
        io::Error::other(format!("{}: {error}", certs.join(name).display()))
    };
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(certs.join("ca.pem"))
        .map_err(|error| bad("ca.pem", &error))?
    {
        let cert = cert.map_err(|error| bad("ca.pem", &error))?;
        roots.add(cert).map_err(|error| bad("ca.pem", &error))?;
    }
    let chain = CertificateDer::pem_file_iter(certs.join("cert.pem"))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad("cert.pem", &error))?;
    let key = PrivateKeyDer::from_pem_file(certs.join("key.pem"))
        .map_err(|error| bad("key.pem", &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(config: &Path) -> Settings {
        Settings {
            config: config.to_owned(),
            cert_path: "/certs".into(),
            ..Settings::default()
        }
    }

    fn context(config: &Path, name: &str, host: &str) {
        let hash: String = Sha256::digest(name)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let folder = config.join("contexts/meta").join(hash);
        std::fs::create_dir_all(&folder).unwrap();
        let meta = format!(
            r#"{{"Name":"{name}","Endpoints":{{"docker":{{"Host":"{host}","SkipTLSVerify":false}}}}}}"#
        );
        std::fs::write(folder.join("meta.json"), meta).unwrap();
    }

    #[test]
    fn the_host_goes_before_the_context() {
        let config = tempfile::tempdir().unwrap();
        context(config.path(), "mine", "unix:///run/mine.sock");
        std::fs::write(
            config.path().join("config.json"),
            r#"{"currentContext":"mine"}"#,
        )
        .unwrap();
        let mut settings = settings(config.path());
        assert_eq!(
            settings.endpoint().unwrap(),
            Endpoint::Unix("/run/mine.sock".into())
        );
        settings.context = Some("other".into());
        assert_eq!(
            settings.endpoint().unwrap_err().what,
            "there is no Docker context other"
        );
        settings.host = Some("tcp://10.0.0.1".into());
        assert_eq!(
            settings.endpoint().unwrap(),
            Endpoint::Tcp("10.0.0.1:2375".into())
        );
        settings.tls_verify = true;
        assert_eq!(
            settings.endpoint().unwrap(),
            Endpoint::Tls("10.0.0.1:2376".into(), "/certs".into())
        );
        settings.host = Some("ssh://me@box".into());
        assert!(
            settings
                .endpoint()
                .unwrap_err()
                .remedy
                .unwrap()
                .contains("ssh")
        );
    }

    #[test]
    fn without_settings_it_is_the_socket_that_is_there() {
        let config = tempfile::tempdir().unwrap();
        let there = config.path().join("docker.sock");
        std::fs::write(&there, "").unwrap();
        let mut settings = settings(config.path());
        settings.sockets = vec![config.path().join("none"), there.clone()];
        assert_eq!(settings.endpoint().unwrap(), Endpoint::Unix(there));
    }

    #[tokio::test]
    async fn failures_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::Unix(folder.path().join("none.sock"));
        let error = endpoint.dial().await.err().unwrap();
        let failure = endpoint.unreachable(&error);
        assert_eq!(failure.kind, crate::error::Kind::Environment);
        assert!(
            failure.what.starts_with("Docker is not running"),
            "{failure}"
        );
        let denied = endpoint.unreachable(&io::ErrorKind::PermissionDenied.into());
        assert!(denied.remedy.unwrap().contains("usermod -aG docker"));
    }
}
