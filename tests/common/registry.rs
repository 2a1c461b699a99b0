//! A registry as kind's page on local registries sets one up: a container that Docker publishes on this machine, and the
//! nodes' containerd told where it is.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use llmdev::cluster::node::Node;
use serde_json::{Value, json};

use crate::alone;
use crate::common::live::{free_port, get, until};
use crate::common::node::{context, run, run_with, unique};

/// Where containerd looks for what it is told of registries.
const CERTS: &str = "/etc/containerd/certs.d";

/// A registry. It goes in the end, with all images of its name.
pub struct Registry {
    /// As Docker calls it.
    pub host: String,
    /// As the nodes may call it besides.
    pub inside: String,
    name: String,
    port: u16,
    nodes: Vec<Node>,
    _addresses: File,
}

impl Registry {
    /// Starts one. `login` is what the nodes say to it with each request, `options` are Docker's.
    pub fn start(nodes: &[Node], login: Option<&str>, options: &[&str]) -> Registry {
        let (name, port) = (unique("registry"), free_port());
        let publish = format!("127.0.0.1:{port}:5000");
        let start = ["run", "--detach", "--name", &name, "--publish", &publish];
        let registry = Registry {
            host: format!("localhost:{port}"),
            inside: format!("{name}:5000"),
            name: name.clone(),
            port,
            nodes: nodes.to_vec(),
            _addresses: alone::together(alone::ADDRESSES),
        };
        run("docker", &[&start[..], options, &["registry:3"]].concat());
        let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
        let networks = run(
            "docker",
            &["inspect", "--format", networks, &nodes[0].container],
        );
        let network = networks.split_whitespace().next().unwrap();
        run("docker", &["network", "connect", network, &registry.name]);
        let header = login.map_or_else(String::new, |login| {
            format!(
                "[host.\"http://{}\".header]\n  authorization = \"{login}\"\n",
                registry.inside
            )
        });
        let hosts = format!("[host.\"http://{}\"]\n{header}", registry.inside);
        for (node, host) in registry.told() {
            let script = format!("mkdir -p {CERTS}/{host} && cat > {CERTS}/{host}/hosts.toml");
            run_with(
                "docker",
                &["exec", "-i", &node.container, "sh", "-c", &script],
                &hosts,
            );
        }
        registry.answers();
        registry
    }

    /// Each node, with each name that it is told of.
    fn told(&self) -> impl Iterator<Item = (&Node, &String)> {
        let both = |node| [&self.host, &self.inside].map(|host| (node, host));
        self.nodes.iter().flat_map(both)
    }

    /// Waits until it takes requests.
    pub fn answers(&self) {
        until("registry that answers", || {
            get(self.port, "/v2/").filter(|(status, _)| matches!(status, 200 | 401))
        });
    }

    /// Stops it, or starts it anew.
    pub fn docker(&self, word: &str) {
        run("docker", &[word, &self.name]);
    }

    /// The requests that it was sent since it was started, `METHOD path`.
    pub fn requests(&self) -> Vec<String> {
        let log = run("sh", &["-c", &format!("docker logs {} 2>&1", self.name)]);
        let request = |line: &str| {
            let (method, rest) = line.split_once('"')?.1.split_once(' ')?;
            Some(format!("{method} {}", rest.split_once(" HTTP/")?.0))
        };
        // Lines of the access log alone begin with an address.
        let access = log.lines().filter(|line| line.contains("] \""));
        access.filter_map(request).collect()
    }

    /// Those of them that send something, but for asking whether it is there.
    pub fn sent(&self) -> usize {
        let all = self.requests();
        let sends = |it: &&String| {
            ["POST ", "PUT ", "PATCH "]
                .iter()
                .any(|method| it.starts_with(method))
        };
        all.iter().filter(sends).count()
    }

    /// The tags of a repository.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let (_, body) = get(self.port, &format!("/v2/{repository}/tags/list")).unwrap();
        let said: Value = serde_json::from_str(&body).unwrap_or_default();
        let tags = said["tags"].as_array().cloned().unwrap_or_default();
        tags.iter()
            .map(|tag| tag.as_str().unwrap().to_owned())
            .collect()
    }

    /// Docker's images whose names have a part.
    pub fn in_docker(part: &str) -> Vec<String> {
        let all = run(
            "docker",
            &["images", "--format", "{{.Repository}}:{{.Tag}}"],
        );
        all.lines()
            .filter(|name| name.contains(part))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = Command::new("docker")
            .args(["rm", "--force", "--volumes", &self.name])
            .output();
        for (node, host) in self.told() {
            // Pods that are going still hold their images.
            let script = format!(
                "rm -rf {CERTS}/{host}; rmdir {CERTS} 2>/dev/null; \
                 ctr -n k8s.io images ls -q | grep -F '{host}/' | xargs -r crictl rmi >/dev/null 2>&1; \
                 ctr -n k8s.io images ls -q | grep -F '{host}/' | xargs -r ctr -n k8s.io images rm --sync"
            );
            let arguments = ["exec", &node.container, "sh", "-c", &script];
            let _ = Command::new("docker").args(arguments).output();
            for image in Registry::in_docker(&format!("{host}/")) {
                let _ = Command::new("docker")
                    .args(["rmi", "--force", &image])
                    .output();
            }
        }
    }
}

/// Writes a kubeconfig that calls the test cluster by a name which is no kind cluster's; the name. `token` is a user's
/// who has less rights.
pub fn as_if_elsewhere(file: &Path, token: Option<&str>) -> String {
    let view = [
        "config",
        "view",
        "--minify",
        "--flatten",
        "--output",
        "json",
    ];
    let text = run("kubectl", &[&["--context", &context()], &view[..]].concat());
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let name = unique("elsewhere");
    config["contexts"][0]["name"] = json!(name);
    config["current-context"] = json!("");
    if let Some(token) = token {
        config["users"][0]["user"] = json!({ "token": token });
    }
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, config.to_string()).unwrap();
    name
}
