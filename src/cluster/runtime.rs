//! What the nodes run containers with, as their kubelets say it.

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, ListParams};

use crate::error::{Failure, Result};

/// A container runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runtime {
    /// What images are loaded into.
    Containerd,
    /// A Docker engine, whose images are its own: containerd is there too, and the kubelet does not use it.
    Docker,
    /// CRI-O, which has its images where podman has them.
    CriO,
    /// Anything else, by its name.
    Other(String),
}

impl Runtime {
    /// That of a cluster's nodes. One that has no node yet has what most have.
    ///
    /// # Errors
    /// When the nodes cannot be listed, or do not all have the same.
    pub async fn of(client: &Client) -> Result<Runtime> {
        let nodes = Api::<Node>::all(client.clone());
        let nodes = nodes
            .list(&ListParams::default().match_any())
            .await
            .map_err(|error| {
                Failure::environment("cannot ask the nodes what they run containers with")
                    .because(error)
            })?;
        let mut all: Vec<Runtime> = nodes.items.iter().filter_map(Runtime::of_node).collect();
        all.dedup();
        match all.len() {
            0 => Ok(Runtime::Containerd),
            1 => Ok(all.remove(0)),
            _ => Err(Failure::environment(
                "the nodes do not all run containers with the same runtime",
            )
            .remedy("a cluster whose nodes all do")),
        }
    }

    fn of_node(node: &Node) -> Option<Runtime> {
        let info = node.status.as_ref()?.node_info.as_ref()?;
        Runtime::parse(&info.container_runtime_version)
    }

    /// From such as `containerd://2.3.1`.
    fn parse(version: &str) -> Option<Runtime> {
        let (name, _) = version.split_once("://")?;
        Some(match name {
            "containerd" => Runtime::Containerd,
            "docker" => Runtime::Docker,
            "cri-o" => Runtime::CriO,
            other => Runtime::Other(other.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_names_the_runtime() {
        for (version, runtime) in [
            ("containerd://2.3.1", Some(Runtime::Containerd)),
            ("docker://29.0.1", Some(Runtime::Docker)),
            ("cri-o://1.36.0", Some(Runtime::CriO)),
            ("rkt://1.30.0", Some(Runtime::Other("rkt".into()))),
            ("", None),
        ] {
            assert_eq!(Runtime::parse(version), runtime, "{version}");
        }
    }
}
