//! The programs in nodes that take images from a stream, and what is told of each.

use super::holds::Holds;
use super::image::normalized;
use super::import::Attempt;
use crate::cluster::containerd::SNAPSHOTTER;
use crate::cluster::runtime::Runtime;

/// A program in a node that has the images of its kubelet. A closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// containerd's own: it takes the OCI layout, and misses no layer that it has unpacked.
    Ctr,
    /// Has one store with CRI-O. It takes Docker's archives, as a whole.
    Podman,
    /// That of the engine which the kubelet uses. It takes its own archives, as a whole.
    Docker,
}

/// By itself it gives up after 2 s, which a busy node may take.
pub(super) const CRICTL: &str = "crictl --timeout 60s";

const CTR_LIST: &str = r#"
ctr -n k8s.io images ls 2>/tmp/llmdev-ask.$$ & images=$!
layers=$(ctr -n k8s.io snapshots --snapshotter "$s" ls) || exit 1
wait $images || { cat /tmp/llmdev-ask.$$ >&2; rm -f /tmp/llmdev-ask.$$; exit 1; }
rm -f /tmp/llmdev-ask.$$
echo "layers"
echo "$layers"
"#;

impl Program {
    /// That of nodes with this runtime; none: images cannot be loaded there.
    pub fn of(runtime: &Runtime) -> Option<Program> {
        match runtime {
            Runtime::Containerd => Some(Program::Ctr),
            Runtime::CriO => Some(Program::Podman),
            Runtime::Docker => Some(Program::Docker),
            Runtime::Other(_) => None,
        }
    }

    /// How it is called.
    pub fn name(self) -> &'static str {
        match self {
            Program::Ctr => "ctr",
            Program::Podman => "podman",
            Program::Docker => "docker",
        }
    }

    /// Why it is never sent less than whole images; none: it takes single layers.
    pub fn only_whole(self) -> Option<String> {
        match self {
            Program::Ctr => None,
            Program::Podman | Program::Docker => Some(format!(
                "`{} load` in the nodes takes whole images only",
                self.name()
            )),
        }
    }

    /// The folder of its images in a node.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Program::Ctr => "/var/lib/containerd",
            Program::Podman => "/var/lib/containers",
            Program::Docker => "/var/lib/docker",
        }
    }

    /// Prints as JSON what is known of images, whose ids follow. One may go meanwhile: what is said of the others is good
    /// all the same.
    pub(super) fn inspect(self) -> String {
        match self {
            Program::Ctr => format!("{CRICTL} inspecti -o json"),
            Program::Podman | Program::Docker => format!("{} image inspect", self.name()),
        }
    }

    /// Takes a name away from an image that has others.
    pub(super) fn untag(self) -> &'static str {
        match self {
            Program::Ctr => "ctr -n k8s.io images rm",
            Program::Podman => "podman rmi",
            Program::Docker => "docker rmi",
        }
    }

    /// A script that prints what the node holds.
    pub(super) fn list(self) -> String {
        self.script("")
    }

    /// A script that takes images from its standard input, and then prints what the node holds.
    pub(super) fn load(self, attempt: Attempt) -> String {
        let load = match (self, attempt) {
            (Program::Ctr, Attempt::First) => {
                "ctr -n k8s.io images import --snapshotter \"$s\" -".to_owned()
            }
            (Program::Ctr, Attempt::Second) => {
                "ctr -n k8s.io images import $(ctr -n k8s.io images import --help | grep -q -e '--local' && echo --local) \
                 --all-platforms --snapshotter \"$s\" -"
                    .to_owned()
            }
            _ => format!("{} load -q", self.name()),
        };
        self.script(&format!("{load} >&2 || exit 2"))
    }

    fn script(self, first: &str) -> String {
        match self {
            Program::Ctr => format!("s=$({SNAPSHOTTER})\n{first}\n{CTR_LIST}"),
            _ => format!(
                "{first}\n{} images --no-trunc --format '{{{{.Repository}}}}:{{{{.Tag}}}} {{{{.ID}}}}'",
                self.name()
            ),
        }
    }

    /// Reads what [`list`](Self::list) and [`load`](Self::load) print.
    pub(super) fn parse(self, text: &str) -> Holds {
        match self {
            Program::Ctr => Holds::parse(text),
            _ => whole(text),
        }
    }

    /// What to do when it does not answer.
    pub(super) fn remedy(self) -> String {
        let service = match self {
            Program::Ctr => "containerd",
            Program::Podman => "crio",
            Program::Docker => "docker",
        };
        format!("is {service} running in the node? `docker exec NODE systemctl status {service}`")
    }
}

/// A name and the digest of its image's config a line. Docker leaves `docker.io` out.
fn whole(text: &str) -> Holds {
    let mut holds = Holds {
        whole: true,
        ..Holds::default()
    };
    for line in text.lines() {
        if let Some((name, id)) = line.split_once(" sha256:")
            && !name.contains('<')
        {
            let id = format!("sha256:{}", id.trim());
            holds.tags.insert(normalized(name), id.clone());
            holds.tags.insert(id.clone(), id);
        }
    }
    holds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::load::image::Image;

    /// As podman 4.3 and Docker 20.10 print it.
    #[test]
    fn what_podman_and_docker_print_is_understood() {
        let podman = "docker.io/library/redis:8 sha256:c1\n\
                      localhost/redis:9 sha256:c1\n\
                      llmdev.local/s/web:1 sha256:c2\n\
                      <none>:<none> sha256:c3\n";
        let docker = "redis:8 sha256:c1\n\
                      localhost/redis:9 sha256:c1\n\
                      llmdev.local/s/web:1 sha256:c2\n\
                      me/app:<none> sha256:c3\n";
        for (program, text) in [(Program::Podman, podman), (Program::Docker, docker)] {
            let holds = program.parse(text);
            let has = |reference: &str, id: &str, arrived| {
                let image = Image {
                    reference: reference.to_owned(),
                    name: normalized(reference),
                    id: id.to_owned(),
                    diff_ids: vec!["sha256:l".into()],
                    chains: vec!["sha256:l".into()],
                    size: 0,
                };
                holds.has(&image, arrived)
            };
            assert!(has("redis:8", "sha256:c1", None));
            assert!(has("llmdev.local/s/web:1", "sha256:c2", None));
            // Docker's id may be the manifest's; then it goes by what was seen to arrive.
            assert!(has("redis:8", "sha256:m1", Some("sha256:c1")));
            assert!(!has("redis:8", "sha256:m1", Some("sha256:c2")));
            assert!(!has("redis:8", "sha256:c2", None), "another version");
            assert!(!has("redis:9", "sha256:c1", None), "only localhost/redis:9");
            assert_eq!(holds.tags.len(), 3 + 2, "{holds:?}");
        }
    }
}
