//! Old images in nodes: which there are, which are used, and taking them away.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::future::try_join_all;
use futures::stream;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::Loader;
use super::layers::{self, Layer, Layers};
use super::program::{CRICTL, Program};
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
    /// When it was made, in seconds since 1970; 0 when the node does not say.
    pub created: i64,
    /// Chain ID of its topmost layer; empty when the node does not say.
    pub chain: String,
}

/// What was taken away from nodes, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// The references that are gone.
    pub images: Vec<NodeImage>,
    /// Bytes of the layers that are gone with them, in all nodes; none when the nodes do not tell.
    pub bytes: Option<u64>,
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

#[derive(Deserialize)]
struct Inspected {
    #[serde(default)]
    info: Info,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Info {
    #[serde(rename = "chainID")]
    chain_id: String,
    image_spec: ImageSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ImageSpec {
    created: String,
}

#[derive(Deserialize)]
struct Status {
    id: String,
}

/// What podman and Docker say of an image.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedWhole {
    id: String,
    #[serde(default)]
    created: String,
}

/// Images, containers and what is known of images, with [`APART`] in between. `below`: only what is known of those whose
/// names begin with one of these, since a node may have hundreds; none: of all.
fn list(program: Program, below: Option<&[String]>) -> String {
    let apart = "printf '\\036'";
    let ids = match below {
        None => format!("{CRICTL} images -q | sort -u"),
        Some([]) => "true".to_owned(),
        Some(prefixes) => {
            let ours = prefixes
                .iter()
                .map(|it| format!("index($1, \"{it}\") == 1"));
            let ours = ours.collect::<Vec<_>>().join(" || ");
            format!("{CRICTL} images --no-trunc | awk '{ours} {{ print $3 }}' | sort -u")
        }
    };
    let inspect = program.inspect();
    format!(
        "{CRICTL} images -o json && {apart} && {CRICTL} ps -a -o json && {apart} && \
         {{ ids=$({ids}); [ -z \"$ids\" ] || {inspect} $ids || true; }}"
    )
}

/// As words of a shell.
fn quoted(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    words.join(" ")
}

/// No JSON has it.
const APART: char = '\u{1e}';

/// What is below what, of those with containers on them too; then the bytes of those that have none. A layer that goes
/// between the two ends the second question, so both are asked anew.
const LAYERS: &str = r#"
s=$(sed -n 's/^ *snapshotter *= *["'"'"']\(.*\)["'"'"'].*/\1/p' /etc/containerd/config.toml 2>/dev/null | head -n 1)
s=${s:-overlayfs}
layers() {
  all=$(ctr -n k8s.io snapshots --snapshotter "$s" ls) || return
  echo "$all"
  echo "$all" | awk '$NF == "Committed" { print $1 }' | xargs -r ctr -n k8s.io snapshots --snapshotter "$s" usage -b
}
found=$(layers) || found=$(layers) || found=$(layers) || exit 1
echo "$found"
"#;

/// What nobody uses is collected by containerd, on a busy node a moment after its image has gone.
const COLLECTED_WITHIN: Duration = Duration::from_secs(3);

/// Tries to remove images that others remove as well.
const REMOVALS: u32 = 3;

/// Layers of a node, and the chain IDs that containers stand on.
#[derive(Debug, Default, PartialEq)]
struct Held {
    layers: Layers,
    used: HashSet<String>,
}

impl Loader {
    /// The images of these repositories, each without a tag and spelt in full, in all nodes.
    pub async fn list(
        &self,
        repositories: &[String],
        cancel: &CancellationToken,
    ) -> Result<Vec<NodeImage>> {
        self.find(repositories, cancel, |repository| {
            repositories.iter().any(|wanted| wanted == repository)
        })
        .await
    }

    /// The images whose repository begins with one of these, spelt in full, in all nodes.
    pub async fn list_below(
        &self,
        prefixes: &[String],
        cancel: &CancellationToken,
    ) -> Result<Vec<NodeImage>> {
        let ours = |repository: &str| prefixes.iter().any(|it| repository.starts_with(it));
        self.find(prefixes, cancel, ours).await
    }

    async fn find(
        &self,
        below: &[String],
        cancel: &CancellationToken,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<NodeImage>> {
        let nodes = self.nodes.iter();
        let lists = nodes.map(|node| self.images(node, Some(below), cancel));
        let mut found: Vec<NodeImage> = try_join_all(lists).await?.into_iter().flatten().collect();
        found.retain(|image| {
            let parts = image.reference.rsplit_once(':');
            wanted(parts.map_or("", |(repository, _)| repository))
        });
        Ok(found)
    }

    /// All images that a node has names for. When they were made, and their layers, are told of those `below` only.
    async fn images(
        &self,
        node: &Node,
        below: Option<&[String]>,
        cancel: &CancellationToken,
    ) -> Result<Vec<NodeImage>> {
        let list = list(self.program, below);
        let text = self.ask_node(node, &list, cancel).await?;
        parse(&node.name, &text).ok_or_else(|| {
            Failure::failed(format!(
                "what crictl says in node {} is not understood",
                node.name
            ))
        })
    }

    async fn held(&self, node: &Node, cancel: &CancellationToken) -> Result<Held> {
        Ok(parse_layers(&self.ask_node(node, LAYERS, cancel).await?))
    }

    /// Takes images away as [`remove`](Self::remove) does, and says how much room that made. A dry run takes nothing
    /// away.
    pub async fn prune(
        &self,
        images: &[NodeImage],
        dry_run: bool,
        cancel: &CancellationToken,
    ) -> Result<Removed> {
        let unused = || images.iter().filter(|image| !image.used).cloned().collect();
        if self.program.only_whole().is_some() {
            let images = match dry_run {
                true => unused(),
                false => self.remove(images, cancel).await?,
            };
            return Ok(Removed {
                images,
                bytes: None,
            });
        }
        let nodes = self
            .nodes
            .iter()
            .filter(|node| images.iter().any(|i| i.node == node.name));
        let nodes: Vec<&Node> = nodes.collect();
        let mut before = Vec::new();
        for node in &nodes {
            let (held, now) =
                futures::try_join!(self.held(node, cancel), self.images(node, None, cancel))?;
            let goes = |image: &&NodeImage| {
                !image.used && images.iter().any(|i| i.reference == image.reference)
            };
            let (going, staying): (Vec<_>, Vec<_>) = now.iter().partition(goes);
            let tops = going.iter().map(|image| image.chain.as_str());
            let kept = staying.iter().map(|image| image.chain.as_str());
            let free = layers::only(
                &held.layers,
                tops,
                kept.chain(held.used.iter().map(String::as_str)),
            );
            before.push((held, free));
        }
        let images = if dry_run {
            unused()
        } else {
            self.remove(images, cancel).await?
        };
        let mut bytes = 0;
        for (node, (before, mut free)) in nodes.into_iter().zip(before) {
            if !dry_run {
                let left = self.left(node, &free, cancel).await?;
                free.retain(|chain| !left.contains_key(chain));
            }
            bytes += layers::bytes(&before.layers, free.iter());
        }
        Ok(Removed {
            images,
            bytes: Some(bytes),
        })
    }

    /// The layers of a node once these are gone; with those that stay, since somebody else has come to use them.
    async fn left(
        &self,
        node: &Node,
        going: &HashSet<String>,
        cancel: &CancellationToken,
    ) -> Result<Layers> {
        let patience = Instant::now() + COLLECTED_WITHIN;
        loop {
            let left = self.held(node, cancel).await?.layers;
            let here = going.iter().any(|chain| left.contains_key(chain));
            if !here || Instant::now() > patience {
                return Ok(left);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
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
            gone.extend(self.remove_from(node, &here, cancel).await?);
        }
        // What was seen may have lost its layers.
        *super::lock(&self.seen) = None;
        Ok(gone)
    }

    /// The kubelet of a node whose disk is full may take one away meanwhile; the others are then planned anew.
    async fn remove_from(
        &self,
        node: &Node,
        images: &[&NodeImage],
        cancel: &CancellationToken,
    ) -> Result<Vec<NodeImage>> {
        let mut gone: Vec<NodeImage> = Vec::new();
        let mut tries = 1;
        loop {
            let now = self.images(node, Some(&[]), cancel).await?;
            // Of what was to go before, the rest is planned again.
            gone.retain(|image| now.iter().all(|other| other.reference != image.reference));
            let (whole, tags, goes) = plan(images, &now);
            gone.extend(goes);
            let mut script = "true".to_owned();
            if !tags.is_empty() {
                script += &format!(" && {} {}", self.program.untag(), quoted(&tags));
            }
            if !whole.is_empty() {
                script += &format!(" && {CRICTL} rmi {}", quoted(&whole));
            }
            match self.ask_node(node, &script, cancel).await {
                Ok(_) => return Ok(gone),
                Err(failure) if tries == REMOVALS => return Err(failure),
                Err(failure) => tracing::debug!(%failure, "images are removed anew"),
            }
            tries += 1;
        }
    }

    /// The room for images in each node.
    pub async fn disks(&self, cancel: &CancellationToken) -> Result<Vec<Disk>> {
        let folder = self.program.folder();
        let script = &format!("df -B1 --output=size,avail {folder} | tail -n 1");
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
    // Of what nodes with many images say, only what is needed is kept.
    let mut parts = text.split(APART);
    let images: Images = serde_json::from_str(parts.next()?).ok()?;
    let containers: Containers = serde_json::from_str(parts.next()?).ok()?;
    let details = parts.next().unwrap_or_default().trim();
    let used: HashSet<&str> = containers
        .containers
        .iter()
        .flat_map(|container| [container.image_ref.as_str(), container.image.image.as_str()])
        .map(bare)
        .collect();
    let inspected = inspected(details);
    let mut found = Vec::new();
    for image in &images.images {
        let info = inspected.get(bare(&image.id));
        for reference in &image.repo_tags {
            found.push(NodeImage {
                node: node.to_owned(),
                reference: reference.clone(),
                id: image.id.clone(),
                size: image.size.parse().unwrap_or_default(),
                used: used.contains(bare(&image.id)) || used.contains(reference.as_str()),
                created: info
                    .and_then(|info| info.image_spec.created.parse::<DateTime<Utc>>().ok())
                    .map_or(0, |created| created.timestamp()),
                chain: info.map(|info| info.chain_id.clone()).unwrap_or_default(),
            });
        }
    }
    Some(found)
}

/// An id without what names its algorithm, which CRI-O and podman leave out.
fn bare(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

/// By id. crictl prints one image by itself, and several as a list.
fn inspected(details: &str) -> HashMap<String, Info> {
    let by_crictl = |image: Inspected| (bare(&image.status.id).to_owned(), image.info);
    if !details.starts_with('[') {
        let one = serde_json::from_str(details).map(by_crictl);
        return one.into_iter().collect();
    }
    if let Ok(images) = serde_json::from_str::<Vec<Inspected>>(details) {
        return images.into_iter().map(by_crictl).collect();
    }
    let by_program = |image: InspectedWhole| {
        let created = image.created;
        let info = Info {
            image_spec: ImageSpec { created },
            ..Info::default()
        };
        (bare(&image.id).to_owned(), info)
    };
    let images: Vec<InspectedWhole> = serde_json::from_str(details).unwrap_or_default();
    images.into_iter().map(by_program).collect()
}

fn parse_layers(text: &str) -> Held {
    let mut held = Held::default();
    for line in text.lines() {
        match *line.split_whitespace().collect::<Vec<_>>() {
            [chain, "Committed"] => {
                held.layers.insert(chain.to_owned(), Layer::default());
            }
            [chain, below, "Committed"] => {
                let layer = Layer {
                    below: Some(below.to_owned()),
                    size: 0,
                };
                held.layers.insert(chain.to_owned(), layer);
            }
            [_, below, "Active" | "View"] => {
                held.used.insert(below.to_owned());
            }
            [chain, size, _] => {
                if let (Some(layer), Ok(size)) = (held.layers.get_mut(chain), size.parse()) {
                    layer.size = size;
                }
            }
            _ => {}
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        {"images": [
            {"id": "sha256:a", "repoTags": ["docker.io/library/app:1", "docker.io/library/app:2"], "size": "10"},
            {"id": "sha256:b", "repoTags": ["docker.io/library/app:3"], "size": "20"},
            {"id": "sha256:c", "repoTags": ["docker.io/library/app:4"], "size": "30"}]}
        ~{"containers": [{"imageRef": "sha256:b", "image": {"image": "sha256:b"}}]}
        ~[{"info": {"chainID": "sha256:top", "imageSpec": {"created": "1970-01-01T00:01:00.5Z"}}, "status": {"id": "sha256:a"}},
         {"status": {"id": "sha256:b"}}]"#;

    #[test]
    fn what_is_used_stays_and_a_shared_id_goes_with_its_last_reference() {
        let now = parse("n", &TEXT.replace('~', "\u{1e}")).unwrap();
        let used: Vec<bool> = now.iter().map(|image| image.used).collect();
        assert_eq!(used, [false, false, true, false]);
        let made: Vec<_> = now
            .iter()
            .map(|image| (image.created, image.chain.as_str()))
            .collect();
        assert_eq!(
            made,
            [(60, "sha256:top"), (60, "sha256:top"), (0, ""), (0, "")]
        );
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

    #[test]
    fn a_layer_that_goes_while_layers_are_asked_about_is_no_failure() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        // The first `usage` finds that `b` has gone.
        let double = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\ncase $*:$([ -e gone ] && echo gone) in\n\
            *' ls:') printf 'KEY PARENT KIND\\na Committed\\nb a Committed\\n' ;;\n\
            *' ls:gone') printf 'KEY PARENT KIND\\na Committed\\n' ;;\n\
            *' usage -b a b:') touch gone; echo 'ctr: snapshot b does not exist: not found' >&2; exit 1 ;;\n\
            *' usage -b a:gone') printf 'KEY SIZE INODES\\na 7 1\\n' ;;\n\
            *) exit 2 ;;\nesac\n";
        let ctr = folder.path().join("ctr");
        std::fs::write(&ctr, double).unwrap();
        std::fs::set_permissions(&ctr, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", folder.path().display());
        let said = std::process::Command::new("sh")
            .args(["-c", LAYERS])
            .env("PATH", path)
            .output()
            .unwrap();
        assert!(said.status.success(), "{said:?}");
        let held = parse_layers(&String::from_utf8(said.stdout).unwrap());
        let layers: Vec<_> = held.layers.iter().map(|(k, l)| (&k[..], l.size)).collect();
        assert_eq!(layers, [("a", 7)]);
    }

    #[test]
    fn what_podman_says_beside_crictl_is_understood() {
        let text = r#"
            {"images": [
                {"id": "aa", "repoTags": ["llmdev.local/s/web:1"], "size": "10"},
                {"id": "bb", "repoTags": ["llmdev.local/s/web:2"], "size": "20"}]}
            ~{"containers": [{"imageRef": "sha256:bb", "image": {"image": "llmdev.local/s/web:3"}}]}
            ~[{"Id": "aa", "Created": "1970-01-01T00:01:00.5Z", "RootFS": {}}, {"Id": "sha256:bb"}]"#;
        let now = parse("n", &text.replace('~', "\u{1e}")).unwrap();
        let said: Vec<_> = now.iter().map(|i| (i.created, i.used)).collect();
        assert_eq!(said, [(60, false), (0, true)]);
    }

    #[test]
    fn what_ctr_says_of_layers_is_understood() {
        let held = parse_layers(
            "KEY       PARENT     KIND\n\
             1d9db09   sha256:b   Active\n\
             sha256:a             Committed\n\
             sha256:b  sha256:a   Committed\n\
             KEY       SIZE   INODES\n\
             sha256:a  4096   1\n\
             sha256:b  12     3\n",
        );
        let layer = |below: Option<&str>, size| Layer {
            below: below.map(str::to_owned),
            size,
        };
        assert_eq!(held.layers["sha256:a"], layer(None, 4096));
        assert_eq!(held.layers["sha256:b"], layer(Some("sha256:a"), 12));
        assert_eq!(held.used, HashSet::from(["sha256:b".to_owned()]));
    }
}
