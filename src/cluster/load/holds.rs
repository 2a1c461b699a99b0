//! What a node holds: which tags point where, and which layers are unpacked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bollard::Docker;
use futures::stream;
use tokio_util::sync::CancellationToken;

use super::image::Image;
use super::program::Program;
use crate::cluster::agent::Agent;
use crate::cluster::containerd::{Containerd, Refused};
use crate::cluster::node::Node;
use crate::error::{Failure, Result};

/// What a node holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    /// Digest of the manifest by reference, or of the config where images are kept whole. The kubelet's own references
    /// `sha256:<config>` are among them.
    pub tags: HashMap<String, String>,
    /// Chain IDs of unpacked layers.
    pub chains: HashSet<String>,
    /// Whether what has a name is there with all its layers; then they are not listed.
    pub whole: bool,
}

impl Holds {
    /// Asks a node: its containerd where an agent leads to it, else by a command.
    pub async fn ask(
        docker: &Docker,
        node: &Node,
        agent: Option<Arc<Agent>>,
        program: Program,
        cancel: &CancellationToken,
    ) -> Result<Holds> {
        let containerd = match agent {
            Some(agent) => agent.containerd().await,
            None => None,
        };
        match containerd {
            Some(containerd) => Holds::of(&containerd)
                .await
                .map_err(|refused| unanswered(node, program, [refused.message()].into_iter())),
            None => Holds::by_command(docker, node, program, cancel).await,
        }
    }

    /// What containerd says.
    pub(super) async fn of(containerd: &Containerd) -> Result<Holds, Refused> {
        let (tags, chains) = futures::try_join!(containerd.references(), containerd.chains())?;
        Ok(Holds {
            tags,
            chains,
            whole: false,
        })
    }

    async fn by_command(
        docker: &Docker,
        node: &Node,
        program: Program,
        cancel: &CancellationToken,
    ) -> Result<Holds> {
        let argv = ["sh", "-c", &program.list()];
        let output = node.exec(docker, &argv, stream::empty(), cancel).await?;
        if output.code != 0 {
            let said = String::from_utf8_lossy(&output.stderr);
            let lines = said.lines().filter(|line| !line.contains("level=warning"));
            return Err(unanswered(node, program, lines));
        }
        Ok(program.parse(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Reads what `ctr` prints.
    pub(super) fn parse(text: &str) -> Holds {
        let mut holds = Holds::default();
        let mut in_layers = false;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match (in_layers, words.as_slice()) {
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
    /// `arrived` is the digest under which an earlier load of the same image was seen to arrive.
    pub fn has(&self, image: &Image, arrived: Option<&str>) -> bool {
        let Some(tagged) = self.tags.get(&image.name) else {
            return false;
        };
        let same = arrived == Some(tagged) || self.tags.get(&image.id) == Some(tagged);
        same && self.has_layers(image)
    }

    /// Whether all layers of an image are there that has a name.
    pub fn has_layers(&self, image: &Image) -> bool {
        self.whole || image.top().is_none_or(|top| self.chains.contains(top))
    }
}

fn unanswered<'a>(node: &Node, program: Program, said: impl Iterator<Item = &'a str>) -> Failure {
    Failure::environment(format!("cannot ask node {} for its images", node.name))
        .detail(said)
        .remedy(program.remedy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ctr_prints_is_understood() {
        let holds = Holds::parse(
            "REF                      TYPE         DIGEST      SIZE    PLATFORMS   LABELS\n\
             docker.io/library/app:1  application/vnd.oci.image.manifest.v1+json sha256:m1 1.9 MiB linux/amd64 -\n\
             sha256:c1                application/vnd.oci.image.manifest.v1+json sha256:m1 1.9 MiB linux/amd64 -\n\
             layers\n\
             KEY       PARENT     KIND\n\
             1d9db09   sha256:b   Active\n\
             sha256:a             Committed\n\
             sha256:b  sha256:a   Committed\n",
        );
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
        };
        assert!(holds.has(&image("sha256:c1", "sha256:b"), None));
        assert!(holds.has(&image("sha256:other", "sha256:b"), Some("sha256:m1")));
        assert!(!holds.has(&image("sha256:other", "sha256:b"), None));
        assert!(!holds.has(&image("sha256:c1", "sha256:c"), None));
    }
}
