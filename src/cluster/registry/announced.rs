//! What a cluster says of its registry, by KEP-1755: kind's, k3d's, microk8s's and ctlptl's local registries do.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde::Deserialize;

use super::{By, Registry, host};
use crate::error::{Failure, Result};

const NAMESPACE: &str = "kube-public";
const NAME: &str = "local-registry-hosting";
const KEY: &str = "localRegistryHosting.v1";

/// An announcement. `hostFromClusterNetwork` is for programs that push from inside a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announced {
    /// From the developer's machine; none where only the cluster reaches it.
    pub host: Option<String>,
    /// From the nodes; the same as `host` when it is not said.
    pub host_from_container_runtime: Option<String>,
    /// A page for people.
    pub help: Option<String>,
}

impl Announced {
    /// Asks a cluster.
    ///
    /// # Errors
    /// When it does not tell, or what it announces cannot be read.
    pub async fn ask(client: &Client) -> Result<Option<Announced>> {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let map = maps.get_opt(NAME).await.map_err(|error| {
            Failure::environment("the cluster does not tell whether it has a registry")
                .because(error)
        })?;
        parse(map.and_then(|map| map.data).unwrap_or_default())
    }

    /// The registry, if it can be pushed to from here.
    pub fn registry(&self) -> Option<Registry> {
        let push = self.host.clone()?;
        let pull = self.host_from_container_runtime.clone();
        Some(Registry {
            pull: pull.unwrap_or_else(|| push.clone()),
            push,
            by: By::Cluster(self.help.clone()),
        })
    }

    /// The registry that is called so, on either side, with the path that is named.
    pub(super) fn called(&self, named: &str) -> Option<Registry> {
        let known = self.registry()?;
        let path = named.strip_prefix(host(named))?;
        let is = |name: &str| name == host(named);
        (is(&known.push) || is(&known.pull)).then(|| Registry {
            push: format!("{}{path}", known.push),
            pull: format!("{}{path}", known.pull),
            by: By::Stack,
        })
    }
}

fn parse(data: BTreeMap<String, String>) -> Result<Option<Announced>> {
    let Some(text) = data.get(KEY) else {
        return Ok(None);
    };
    let mut announced: Announced = serde_yaml::from_str(text).map_err(|error| {
        Failure::environment("what the cluster says of its registry cannot be read")
            .because(error)
            .remedy(format!(
                "kubectl --namespace {NAMESPACE} get configmap {NAME} --output yaml"
            ))
    })?;
    for field in [
        &mut announced.host,
        &mut announced.host_from_container_runtime,
        &mut announced.help,
    ] {
        field.take_if(|text| text.is_empty());
    }
    Ok(Some(announced))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Registry>> {
        let announced = parse(BTreeMap::from([(KEY.to_owned(), text.to_owned())]))?;
        Ok(announced.and_then(|announced| announced.registry()))
    }

    /// To push to, and to pull from.
    fn names(text: &str) -> [String; 2] {
        let registry = read(text).unwrap().unwrap();
        [registry.push, registry.pull]
    }

    #[test]
    fn kinds_own_recipe_names_one_host_for_both_sides() {
        let text = "host: \"localhost:5001\"\nhelp: \"https://kind.sigs.k8s.io/docs/user/local-registry/\"\n";
        assert_eq!(names(text), ["localhost:5001", "localhost:5001"]);
    }

    #[test]
    fn the_nodes_have_a_name_of_their_own_for_it() {
        let text = "host: localhost:5001\nhostFromContainerRuntime: registry:5000\nhostFromClusterNetwork: pod:1\n";
        assert_eq!(names(text), ["localhost:5001", "registry:5000"]);
    }

    #[test]
    fn where_nobody_pushes_from_here_there_is_none() {
        assert_eq!(
            read("hostFromClusterNetwork: registry:5000\n").unwrap(),
            None
        );
        assert_eq!(read("host: ''\n").unwrap(), None);
        assert_eq!(parse(BTreeMap::new()).unwrap(), None);
        assert!(read("- not a mapping\n").unwrap_err().remedy.is_some());
    }
}
