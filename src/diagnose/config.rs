//! ConfigMaps, Secrets and keys that are not there.

use super::cluster::Cluster;
use super::near;
use crate::error::Failure;

/// What the node misses.
#[derive(Debug, PartialEq, Eq)]
enum Missing<'a> {
    ConfigMap(&'a str),
    Secret(&'a str),
    ConfigMapKey { name: &'a str, key: &'a str },
    SecretKey { name: &'a str, key: &'a str },
}

/// Says what exists instead of what the node's message misses.
pub(super) async fn explain(
    cluster: &Cluster<'_>,
    namespace: &str,
    message: &str,
    failure: Failure,
) -> Failure {
    let Some(missing) = missing(message) else {
        return failure;
    };
    let there = match missing {
        Missing::ConfigMap(name) => {
            near::in_words(name, &cluster.config_maps(namespace).await, "ConfigMap")
        }
        Missing::Secret(name) => near::in_words(name, &cluster.secrets(namespace).await, "Secret"),
        Missing::ConfigMapKey { name, key } => {
            near::in_words(key, &cluster.config_map_keys(namespace, name).await, "key")
        }
        Missing::SecretKey { name, key } => {
            near::in_words(key, &cluster.secret_keys(namespace, name).await, "key")
        }
    };
    let remedy = match missing {
        Missing::ConfigMap(name) => {
            format!("add ConfigMap {name} to the manifests, or correct the name")
        }
        Missing::Secret(name) => {
            format!(
                "add Secret {name} to the manifests or to `secrets` of stack.yaml, or correct the name"
            )
        }
        Missing::ConfigMapKey { name, key } => {
            format!("add key {key} to ConfigMap {name}, or correct the key")
        }
        Missing::SecretKey { name, key } => {
            format!("add key {key} to Secret {name}, or correct the key")
        }
    };
    failure.cause(there).remedy(remedy)
}

/// Reads the node's message.
fn missing(message: &str) -> Option<Missing<'_>> {
    if let Some((_, rest)) = message.split_once("couldn't find key ") {
        let (key, rest) = rest.split_once(" in ")?;
        let (kind, place) = rest.split_once(' ')?;
        let name = place.split_once('/').map_or(place, |(_, name)| name);
        let name = name.split_whitespace().next()?;
        return match kind {
            "ConfigMap" => Some(Missing::ConfigMapKey { name, key }),
            "Secret" => Some(Missing::SecretKey { name, key }),
            _ => None,
        };
    }
    // A volume with `items` names neither the object nor says much else: `configmap references non-existent
    // config key: app.yaml`.
    let (before, _) = message.split_once("\" not found")?;
    let (before, name) = before.rsplit_once('"')?;
    match before.trim_end().rsplit(' ').next()? {
        "configmap" => Some(Missing::ConfigMap(name)),
        "secret" => Some(Missing::Secret(name)),
        _ => None,
    }
}

/// Whether a message speaks of configuration that is not there.
pub(super) fn is_about(message: &str) -> bool {
    missing(message).is_some() || message.contains("references non-existent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_messages_are_read() {
        let volume = "MountVolume.SetUp failed for volume \"c\" : configmap \"app\" not found";
        for (message, expected) in [
            (
                "configmap \"app\" not found",
                Some(Missing::ConfigMap("app")),
            ),
            ("secret \"keys\" not found", Some(Missing::Secret("keys"))),
            (volume, Some(Missing::ConfigMap("app"))),
            (
                "couldn't find key port in ConfigMap shop/app",
                Some(Missing::ConfigMapKey {
                    name: "app",
                    key: "port",
                }),
            ),
            (
                "couldn't find key token in Secret shop/keys",
                Some(Missing::SecretKey {
                    name: "keys",
                    key: "token",
                }),
            ),
            ("pod \"x\" not found", None),
            ("couldn't find key ", None),
            ("", None),
        ] {
            assert_eq!(missing(message), expected, "{message}");
        }
    }
}
