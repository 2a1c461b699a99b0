//! Images and nodes to test with.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use bollard::Docker;
use llmdev::cluster::node::{self, Node};

/// The kubeconfig context that tests use.
pub fn context() -> String {
    std::env::var("LLMDEV_TEST_CONTEXT").unwrap_or_else(|_| "kind-kind".to_owned())
}

/// A name that no other test has.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    format!(
        "llmdev-test-{what}-{:x}-{count}",
        now ^ u128::from(std::process::id()) << 40
    )
}

/// Docker, and the nodes of the test cluster.
pub async fn cluster() -> (Docker, Vec<Node>) {
    let docker = Docker::connect_with_defaults()
        .unwrap()
        .negotiate_version()
        .await
        .unwrap();
    let context = context();
    let nodes = node::of_kind(&docker, context.strip_prefix("kind-").unwrap())
        .await
        .unwrap();
    assert!(
        !nodes.is_empty(),
        "the cluster of context {context} has no nodes"
    );
    (docker, nodes)
}

/// Runs a program, and panics with what it said if it fails.
pub fn run(program: &str, arguments: &[&str]) -> String {
    run_with(program, arguments, "")
}

/// [`run`] with standard input.
pub fn run_with(program: &str, arguments: &[&str], input: &str) -> String {
    use std::io::Write;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// `kubectl` in the test cluster.
pub fn kubectl(arguments: &[&str]) -> String {
    let context = context();
    run(
        "kubectl",
        &[&["--context", context.as_str()], arguments].concat(),
    )
}

/// `kubectl apply`.
pub fn apply(manifest: &str) {
    run_with(
        "kubectl",
        &["--context", &context(), "apply", "-f", "-"],
        manifest,
    );
}

/// A namespace, removed in the end.
pub struct Namespace(pub String);

impl Namespace {
    /// Makes one.
    pub fn new(what: &str) -> Namespace {
        let name = unique(what);
        kubectl(&["create", "namespace", &name]);
        Namespace(name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let context = context();
        let arguments = [
            "--context",
            &context,
            "delete",
            "namespace",
            &self.0,
            "--wait=false",
        ];
        let _ = Command::new("kubectl")
            .args(arguments)
            .stdout(Stdio::null())
            .status();
    }
}

/// An image repository in Docker and in the nodes, removed in the end.
pub struct Repository {
    /// The name, without a tag.
    pub name: String,
    folder: tempfile::TempDir,
    nodes: Vec<Node>,
}

impl Repository {
    /// A new one; images are built with [`Repository::build`].
    pub fn new(what: &str, nodes: &[Node]) -> Repository {
        let folder = tempfile::tempdir().unwrap();
        Repository {
            name: unique(what),
            folder,
            nodes: nodes.to_vec(),
        }
    }

    /// A file of the build context.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.folder.path().join(name), content).unwrap();
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Builds the context by a Dockerfile, and answers the reference.
    pub fn build(&self, tag: &str, dockerfile: &str) -> String {
        let reference = format!("{}:{tag}", self.name);
        let folder = self.folder.path().to_str().unwrap();
        let arguments = [
            "build", "--quiet", "--tag", &reference, "--file", "-", folder,
        ];
        std::fs::write(self.folder.path().join(".dockerignore"), "state\n").unwrap();
        run_with("docker", &arguments, dockerfile);
        reference
    }

    /// A `FROM busybox` with a layer of that many random bytes under a file `code`.
    pub fn layered(&self, tag: &str, below: usize, code: &str) -> String {
        if !self.folder.path().join("below").exists() {
            let mut bytes = vec![0; below];
            llmdev::cluster::load::memory::random(&mut bytes).unwrap();
            self.file("below", bytes);
        }
        self.file("code", code);
        self.build(
            tag,
            "FROM busybox:1\nCOPY below /below\nCOPY code /code\nCMD [\"sleep\", \"3600\"]\n",
        )
    }

    /// A command in the first node.
    pub fn in_node(&self, command: &str) -> String {
        run(
            "docker",
            &["exec", &self.nodes[0].container, "sh", "-c", command],
        )
    }

    /// Takes all its images away from all nodes, and their layers with them.
    pub fn forget_in_nodes(&self) {
        forget(&self.nodes, &self.name);
    }
}

/// The images in a node whose names have a part, sorted.
pub fn images_in(node: &Node, part: &str) -> Vec<String> {
    let list = ["ctr", "-n", "k8s.io", "images", "ls", "-q"];
    let said = run("docker", &[&["exec", &node.container], &list[..]].concat());
    let named = said.lines().filter(|line| line.contains(part));
    let mut images: Vec<String> = named.map(str::to_owned).collect();
    images.sort();
    images
}

fn forget(nodes: &[Node], name: &str) {
    for node in nodes {
        let script = format!(
            "ctr -n k8s.io images ls -q 'name~={name}' | xargs -r crictl rmi >/dev/null 2>&1; \
             ctr -n k8s.io images ls -q 'name~={name}' | xargs -r ctr -n k8s.io images rm --sync"
        );
        let arguments = ["exec", &node.container, "sh", "-c", &script];
        let _ = Command::new("docker").args(arguments).output();
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        forget(&self.nodes, &self.name);
        let script = format!(
            "docker images -q --filter reference='{}' | sort -u | xargs -r docker rmi -f",
            self.name
        );
        let _ = Command::new("sh").args(["-c", &script]).output();
    }
}

/// Runs a pod of an image until it is ready, and answers the output of a command in it.
pub fn pod_says(namespace: &Namespace, name: &str, image: &str, command: &[&str]) -> String {
    apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {}}}\nspec:\n  \
         terminationGracePeriodSeconds: 0\n  containers: [{{name: main, image: '{image}', imagePullPolicy: Never}}]\n",
        namespace.0
    ));
    let pod = format!("pod/{name}");
    kubectl(&[
        "-n",
        &namespace.0,
        "wait",
        "--for=condition=Ready",
        "--timeout=60s",
        &pod,
    ]);
    kubectl(&[&["-n", &namespace.0, "exec", name, "--"], command].concat())
}
