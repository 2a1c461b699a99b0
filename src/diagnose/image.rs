//! Images that a node cannot get.

use k8s_openapi::api::core::v1::{Container, Node, Pod};

use super::cluster::Cluster;
use super::near;
use crate::error::Failure;

/// Says whether the node has the image, or a like one, and why it asks a registry all the same.
pub(super) async fn explain(
    cluster: &Cluster<'_>,
    pod: Option<&Pod>,
    image: &str,
    failure: Failure,
) -> Failure {
    let names = names(cluster).await;
    let policy = pod.and_then(|pod| policy_of(pod, image));
    let wanted = familiar(image);
    if names.contains(&wanted) {
        return match policy {
            Some("Always") => failure
                .cause("the node has the image, but imagePullPolicy is Always, so it asks the registry")
                .remedy("set imagePullPolicy: IfNotPresent"),
            _ => failure.cause("a node has the image by now"),
        };
    }
    match near::near(&wanted, &names).first() {
        Some(like) => failure.cause(format!("the node has not got it, but has {like}")),
        None => failure.cause("the node has not got it"),
    }
}

/// The names with tags that the nodes have. What they tell Kubernetes is but their fifty largest images.
async fn names(cluster: &Cluster<'_>) -> Vec<String> {
    let all = match cluster.references().await {
        Some(all) => all,
        None => cluster.nodes().await.into_iter().flat_map(listed).collect(),
    };
    all.iter()
        .filter(|name| !name.contains('@') && !name.starts_with("sha256:"))
        .map(|name| familiar(name))
        .collect()
}

fn listed(node: Node) -> Vec<String> {
    let images = node.status.and_then(|status| status.images);
    images
        .into_iter()
        .flatten()
        .flat_map(|image| image.names.unwrap_or_default())
        .collect()
}

/// `docker.io/library/redis:8` as people write it: `redis:8`; without a tag it is `latest`.
fn familiar(image: &str) -> String {
    let short = image.strip_prefix("docker.io/").unwrap_or(image);
    let short = short.strip_prefix("library/").unwrap_or(short);
    let last = short.rsplit('/').next().unwrap_or(short);
    if last.contains([':', '@']) {
        short.to_owned()
    } else {
        format!("{short}:latest")
    }
}

fn policy_of<'a>(pod: &'a Pod, image: &str) -> Option<&'a str> {
    let spec = pod.spec.as_ref()?;
    let mut all: Box<dyn Iterator<Item = &'a Container>> = Box::new(
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten()),
    );
    all.find(|one| one.image.as_deref() == Some(image))?
        .image_pull_policy
        .as_deref()
}

#[cfg(test)]
mod tests {
    use super::familiar;

    #[test]
    fn images_are_named_as_people_do() {
        for (image, expected) in [
            ("docker.io/library/redis:8", "redis:8"),
            ("redis", "redis:latest"),
            ("docker.io/qdrant/qdrant:v1", "qdrant/qdrant:v1"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("ghcr.io/x/y@sha256:aa", "ghcr.io/x/y@sha256:aa"),
        ] {
            assert_eq!(familiar(image), expected);
        }
    }
}
