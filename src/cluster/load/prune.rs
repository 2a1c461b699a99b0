//! Old images in nodes: which there are, which are used, and taking them away.

use std::collections::HashSet;

use futures::future::try_join_all;
use futures::stream;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::Loader;
use crate::cluster::node::Node;
use crate::error::{Failure, Result};

/// An image in a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeImage {
    /// The node's name.
    pub node: String,
    /// The reference, spelt in full, such as `docker.io/library/app:1`.
    pub reference: String,
    /// The id that containers name it by; several references may have one.
    pub id: String,
    /// Bytes, layers shared with other images counted in.
    pub size: u64,
    /// Whether a container has it, be it one that has ended and can be started again.
    pub used: bool,
}

/// The room in a node for images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The node's name.
    pub node: String,
    /// Bytes of the file system.
    pub size: u64,
    /// Bytes of it that are free.
    pub free: u64,
}

#[derive(Deserialize)]
struct Images {
    #[serde(default)]
    images: Vec<ListedImage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedImage {
    id: String,
    #[serde(default)]
    repo_tags: Vec<String>,
    #[serde(default)]
    size: String,
}

#[derive(Deserialize)]
struct Containers {
    #[serde(default)]
    containers: Vec<ListedContainer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedContainer {
    #[serde(default)]
    image_ref: String,
    #[serde(default)]
    image: ListedReference,
}

#[derive(Deserialize, Default)]
struct ListedReference {
    #[serde(default)]
    image: String,
}

const LIST: &str = "crictl images -o json && crictl ps -a -o json";

impl Loader {
    /// The images of these repositories, each without a tag and spelt in full, in all nodes.
    pub async fn list(
        &self,
        repositories: &[String],
        cancel: &CancellationToken,
    ) -> Result<Vec<NodeImage>> {
        let lists = self.nodes.iter().map(|node| async move {
            let text = self.ask_node(node, LIST, cancel).await?;
            parse(&node.name, &text).ok_or_else(|| {
                Failure::failed(format!(
                    "what crictl says in node {} is not understood",
                    node.name
                ))
            })
        });
        let mut found: Vec<NodeImage> = try_join_all(lists).await?.into_iter().flatten().collect();
        found.retain(|image| {
            let repository = image
                .reference
                .rsplit_once(':')
                .map_or("", |(name, _)| name);
            repositories.iter().any(|wanted| wanted == repository)
        });
        Ok(found)
    }

    /// Takes images away from their nodes, unless a container uses them by now. Answers what is gone.
    pub async fn remove(
        &self,
        images: &[NodeImage],
        cancel: &CancellationToken,
    ) -> Result<Vec<NodeImage>> {
        let mut gone = Vec::new();
        for node in &self.nodes {
            let here: Vec<&NodeImage> = images
                .iter()
                .filter(|image| image.node == node.name)
                .collect();
            if here.is_empty() {
                continue;
            }
            let text = self.ask_node(node, LIST, cancel).await?;
            let now = parse(&node.name, &text).unwrap_or_default();
            let (whole, tags, removed) = plan(&here, &now);
            let quoted = |words: &[String]| {
                words
                    .iter()
                    .map(|word| format!("'{word}'"))
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            let mut script = "true".to_owned();
            if !tags.is_empty() {
                script += &format!(" && ctr -n k8s.io images rm {}", quoted(&tags));
            }
            if !whole.is_empty() {
                script += &format!(" && crictl rmi {}", quoted(&whole));
            }
            self.ask_node(node, &script, cancel).await?;
            gone.extend(removed);
        }
        // What was seen may have lost its layers.
        *super::lock(&self.seen) = None;
        Ok(gone)
    }

    /// The room for images in each node.
    pub async fn disks(&self, cancel: &CancellationToken) -> Result<Vec<Disk>> {
        let script = "df -B1 --output=size,avail /var/lib/containerd | tail -n 1";
        let disks = self.nodes.iter().map(|node| async move {
            let text = self.ask_node(node, script, cancel).await?;
            let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
            let (size, free) = numbers.next().zip(numbers.next()).unwrap_or_default();
            Ok(Disk {
                node: node.name.clone(),
                size,
                free,
            })
        });
        try_join_all(disks).await
    }

    async fn ask_node(
        &self,
        node: &Node,
        script: &str,
        cancel: &CancellationToken,
    ) -> Result<String> {
        let output = node
            .exec(&self.docker, &["sh", "-c", script], stream::empty(), cancel)
            .await?;
        if output.code == 0 {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Failure::failed(format!("a command failed in node {}", node.name)).detail(said.lines()))
    }
}

/// Ids that go as a whole, since all of their references go, and single references of others; and what that is.
fn plan(wanted: &[&NodeImage], now: &[NodeImage]) -> (Vec<String>, Vec<String>, Vec<NodeImage>) {
    let (mut whole, mut tags, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    let goes = |image: &NodeImage| {
        wanted
            .iter()
            .any(|other| other.reference == image.reference)
    };
    for image in now.iter().filter(|image| goes(image) && !image.used) {
        let all_go = now.iter().filter(|other| other.id == image.id).all(goes);
        if !all_go {
            tags.push(image.reference.clone());
        } else if !whole.contains(&image.id) {
            whole.push(image.id.clone());
        }
        removed.push(image.clone());
    }
    (whole, tags, removed)
}

fn parse(node: &str, text: &str) -> Option<Vec<NodeImage>> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
    let images: Images = serde_json::from_value(values.next()?.ok()?).ok()?;
    let containers: Containers = serde_json::from_value(values.next()?.ok()?).ok()?;
    let used: HashSet<&str> = containers
        .containers
        .iter()
        .flat_map(|container| [container.image_ref.as_str(), container.image.image.as_str()])
        .collect();
    let mut found = Vec::new();
    for image in &images.images {
        for reference in &image.repo_tags {
            found.push(NodeImage {
                node: node.to_owned(),
                reference: reference.clone(),
                id: image.id.clone(),
                size: image.size.parse().unwrap_or_default(),
                used: used.contains(image.id.as_str()) || used.contains(reference.as_str()),
            });
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        {"images": [
            {"id": "sha256:a", "repoTags": ["docker.io/library/app:1", "docker.io/library/app:2"], "size": "10"},
            {"id": "sha256:b", "repoTags": ["docker.io/library/app:3"], "size": "20"},
            {"id": "sha256:c", "repoTags": ["docker.io/library/app:4"], "size": "30"}]}
        {"containers": [{"imageRef": "sha256:b", "image": {"image": "sha256:b"}}]}"#;

    #[test]
    fn what_is_used_stays_and_a_shared_id_goes_with_its_last_reference() {
        let now = parse("n", TEXT).unwrap();
        let used: Vec<bool> = now.iter().map(|image| image.used).collect();
        assert_eq!(used, [false, false, true, false]);
        let all: Vec<&NodeImage> = now.iter().collect();
        let (whole, tags, removed) = plan(&all, &now);
        assert_eq!(
            (whole, tags),
            (vec!["sha256:a".to_owned(), "sha256:c".to_owned()], vec![])
        );
        assert_eq!(removed.len(), 3);
        let (whole, tags, _) = plan(&all[..1], &now);
        assert_eq!(
            (whole, tags),
            (vec![], vec!["docker.io/library/app:1".to_owned()])
        );
    }
}
