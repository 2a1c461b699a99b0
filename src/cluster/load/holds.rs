//! What a node holds: which tags point where, and which layers are unpacked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bollard::Docker;
use futures::stream;
use tokio_util::sync::CancellationToken;

use super::image::Image;
use crate::cluster::agent::Agent;
use crate::cluster::node::Node;
use crate::error::{Failure, Result};

/// What a node holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    /// Digest of the manifest by reference. The kubelet's own references `sha256:<config>` are among them.
    pub tags: HashMap<String, String>,
    /// Chain IDs of unpacked layers.
    pub chains: HashSet<String>,
    /// The snapshotter that the kubelet's containers use.
    pub snapshotter: String,
}

/// kind and minikube may be told another snapshotter; containers only find layers that are in that one.
pub(super) const ASK: &str = r#"
s=$(sed -n 's/^ *snapshotter *= *["'"'"']\(.*\)["'"'"'].*/\1/p' /etc/containerd/config.toml 2>/dev/null | head -n 1)
s=${s:-overlayfs}
echo "snapshotter $s"
ctr -n k8s.io images ls 2>/tmp/llmdev-ask.$$ & images=$!
layers=$(ctr -n k8s.io snapshots --snapshotter "$s" ls) || exit 1
wait $images || { cat /tmp/llmdev-ask.$$ >&2; rm -f /tmp/llmdev-ask.$$; exit 1; }
rm -f /tmp/llmdev-ask.$$
echo "layers"
echo "$layers"
"#;

impl Holds {
    /// Asks a node, with one command.
    pub async fn ask(
        docker: &Docker,
        node: &Node,
        agent: Option<Arc<Agent>>,
        cancel: &CancellationToken,
    ) -> Result<Holds> {
        let argv = ["sh", "-c", ASK];
        let by_agent = match agent {
            Some(agent) => agent.run(&argv, &[]).await.ok(),
            None => None,
        };
        let output = match by_agent {
            Some(output) => output,
            None => node.exec(docker, &argv, stream::empty(), cancel).await?,
        };
        if output.code != 0 {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Failure::environment(format!(
                "cannot ask node {} for its images",
                node.name
            ))
            .detail(said.lines().filter(|line| !line.contains("level=warning")))
            .remedy(
                "is containerd running in the node? `docker exec NODE systemctl status containerd`",
            ));
        }
        Ok(Holds::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Reads what [`ASK`] prints.
    pub(super) fn parse(text: &str) -> Holds {
        let mut holds = Holds::default();
        let mut in_layers = false;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match (in_layers, words.as_slice()) {
                (false, ["snapshotter", name]) => holds.snapshotter = (*name).to_owned(),
                (false, ["layers"]) => in_layers = true,
                (false, [reference, _, digest, ..]) if digest.starts_with("sha256:") => {
                    holds
                        .tags
                        .insert((*reference).to_owned(), (*digest).to_owned());
                }
                (true, [key, .., "Committed"]) if key.starts_with("sha256:") => {
                    holds.chains.insert((*key).to_owned());
                }
                _ => {}
            }
        }
        holds
    }

    /// Whether a container could be made of this very image now.
    ///
    /// `manifest` is the digest under which an earlier load of the same image was seen to arrive.
    pub fn has(&self, image: &Image, manifest: Option<&str>) -> bool {
        let Some(tagged) = self.tags.get(&image.name) else {
            return false;
        };
        let same = manifest == Some(tagged) || self.tags.get(&image.id) == Some(tagged);
        same && image.top().is_none_or(|top| self.chains.contains(top))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ctr_prints_is_understood() {
        let holds = Holds::parse(
            "snapshotter overlayfs\n\
             REF                      TYPE         DIGEST      SIZE    PLATFORMS   LABELS\n\
             docker.io/library/app:1  application/vnd.oci.image.manifest.v1+json sha256:m1 1.9 MiB linux/amd64 -\n\
             sha256:c1                application/vnd.oci.image.manifest.v1+json sha256:m1 1.9 MiB linux/amd64 -\n\
             layers\n\
             KEY       PARENT     KIND\n\
             1d9db09   sha256:b   Active\n\
             sha256:a             Committed\n\
             sha256:b  sha256:a   Committed\n",
        );
        assert_eq!(holds.snapshotter, "overlayfs");
        assert_eq!(holds.tags["docker.io/library/app:1"], "sha256:m1");
        assert_eq!(
            holds.chains,
            HashSet::from(["sha256:a".to_owned(), "sha256:b".to_owned()])
        );
        let image = |id: &str, top: &str| Image {
            reference: "app:1".into(),
            name: "docker.io/library/app:1".into(),
            id: id.into(),
            diff_ids: vec![],
            chains: vec![top.into()],
            size: 0,
            steps: vec![],
        };
        assert!(holds.has(&image("sha256:c1", "sha256:b"), None));
        assert!(holds.has(&image("sha256:other", "sha256:b"), Some("sha256:m1")));
        assert!(!holds.has(&image("sha256:other", "sha256:b"), None));
        assert!(!holds.has(&image("sha256:c1", "sha256:c"), None));
    }
}
