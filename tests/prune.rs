//! Old images go and needed ones stay, on the real Docker and the real cluster.

mod common;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use bollard::Docker;
use common::live::{Live, PATIENCE, free_port, served, until};
use common::node::{Namespace, cluster, images_in, pod_says, run, unique};
use llmdev::cluster::load::Loader;
use llmdev::cluster::node::Node;
use llmdev::prune::{Pruned, Wish, prune};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Images as llmdev makes them, of a stack of their own; gone in the end.
struct Made {
    stack: String,
    nodes: Vec<Node>,
    folder: tempfile::TempDir,
}

impl Made {
    fn new(nodes: &[Node]) -> Made {
        let folder = tempfile::tempdir().unwrap();
        Made {
            stack: unique("prune"),
            nodes: nodes.to_vec(),
            folder,
        }
    }

    /// Without BuildKit, whose cache would keep the layers, where the engine can do that.
    fn image(&self, service: &str, tag: u32, prefix: &str) -> String {
        let reference = format!("{prefix}{}/{service}:{tag}", self.stack);
        let mut bytes = vec![0; 1 << 20];
        llmdev::cluster::load::memory::random(&mut bytes).unwrap();
        std::fs::write(self.folder.path().join("bytes"), bytes).unwrap();
        let dockerfile = format!(
            "FROM busybox:1\nCOPY bytes /bytes\nLABEL llmdev.dev/stack={} llmdev.dev/service={service}\n\
             CMD [\"sleep\", \"3600\"]\n",
            self.stack
        );
        let folder = self.folder.path().to_str().unwrap();
        std::fs::write(self.folder.path().join("Dockerfile"), dockerfile).unwrap();
        let mut build = Command::new("docker");
        build
            .env("DOCKER_BUILDKIT", "0")
            .args(["build", "--quiet", "--tag", &reference, folder]);
        assert!(build.output().unwrap().status.success());
        // Images are told apart by seconds.
        let made = || {
            run(
                "docker",
                &["image", "inspect", "--format", "{{.Created}}", &reference],
            )
        };
        let second = made()[..19].to_owned();
        until("the next second", || {
            let now = run("date", &["-u", "+%Y-%m-%dT%H:%M:%S"]);
            (now.trim() > second.as_str()).then_some(())
        });
        reference
    }

    fn wish(&self, keep: usize, needed: &[&String]) -> Wish {
        let needed: BTreeSet<String> = needed.iter().map(|one| (*one).clone()).collect();
        Wish {
            stack: self.stack.clone(),
            registry: None,
            keep,
            needed,
            dry_run: false,
        }
    }

    fn in_docker(&self) -> Vec<String> {
        let said = run(
            "docker",
            &["images", "--format", "{{.Repository}}:{{.Tag}}"],
        );
        sorted(said.lines().filter(|line| line.contains(&self.stack)))
    }

    fn in_node(&self) -> Vec<String> {
        images_in(&self.nodes[0], &self.stack)
    }
}

fn sorted<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Takes away from Docker and nodes whatever has a name with this in it.
fn forget(nodes: &[Node], part: &str) {
    let script = format!(
        "docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' | grep -F '{part}' | xargs -r docker rmi -f"
    );
    let _ = Command::new("sh").args(["-c", &script]).output();
    for node in nodes {
        let script = format!(
            "ctr -n k8s.io images ls -q 'name~={part}' | xargs -r crictl rmi; \
             ctr -n k8s.io images ls -q 'name~={part}' | xargs -r ctr -n k8s.io images rm --sync"
        );
        let _ = Command::new("docker")
            .args(["exec", &node.container, "sh", "-c", &script])
            .output();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        forget(&self.nodes, &self.stack);
    }
}

async fn pruned(docker: &llmdev::build::Docker, loader: Option<&Loader>, wish: &Wish) -> Pruned {
    let pruned = prune(docker, loader, wish, &CancellationToken::new())
        .await
        .unwrap();
    eprintln!("{}", pruned.line());
    pruned
}

fn names(pruned: &Pruned) -> Vec<&str> {
    pruned
        .removed
        .iter()
        .map(|gone| gone.image.as_str())
        .collect()
}

#[tokio::test]
async fn the_newest_the_used_and_the_needed_stay() {
    let (api, nodes) = cluster().await;
    let docker = llmdev::build::Docker::connect().await.unwrap();
    let made = Made::new(&nodes);
    let namespace = Namespace::new("prune");
    let web: Vec<String> = (1..=6)
        .map(|tag| made.image("web", tag, "llmdev.local/"))
        .collect();
    let api_image = made.image("api", 1, "llmdev.local/");
    // Of another prefix, made from one of ours or not: never touched.
    let foreign = made.image("web", 1, "foreign.local/");
    let all: Vec<String> = web.iter().chain([&api_image]).cloned().collect();
    let loader = Loader::new(&api, &nodes, &made.folder.path().join("state"));
    loader.load(&all, &CancellationToken::new()).await.unwrap();
    pod_says(&namespace, "uses", &web[0], &["true"]);
    let container = Container::of(&web[1]);

    // Stays: 6 and 5 (new), 1 (a pod), 2 (a container), 3 (needed). Goes: 4.
    let mut wish = made.wish(2, &[&web[2]]);
    wish.dry_run = true;
    let would = pruned(&docker, Some(&loader), &wish).await;
    assert_eq!(names(&would), [&web[3]]);
    assert!(
        would.docker.bytes >= Some(1 << 20) && would.docker.bytes < Some(2 << 20),
        "{would:?}"
    );
    assert!(
        would.nodes.bytes >= Some(1 << 20) && would.nodes.bytes < Some(2 << 20),
        "{would:?}"
    );
    assert_eq!(
        (made.in_docker().len(), made.in_node().len()),
        (8, 7),
        "nothing went"
    );

    wish.dry_run = false;
    let did = pruned(&docker, Some(&loader), &wish).await;
    assert_eq!(names(&did), [&web[3]]);
    assert_eq!(did.removed[0].places, ["Docker", nodes[0].name.as_str()]);
    assert_eq!(
        (did.nodes, did.docker, did.cached),
        (would.nodes, would.docker, 0)
    );
    let stay = sorted(all.iter().filter(|one| **one != web[3]).map(String::as_str));
    assert_eq!(made.in_node(), stay);
    let with_foreign = sorted(stay.iter().chain([&foreign]).map(String::as_str));
    assert_eq!(made.in_docker(), with_foreign);

    assert!(
        pruned(&docker, Some(&loader), &wish)
            .await
            .removed
            .is_empty(),
        "there is no more"
    );

    // What used them has gone; of what is needed nothing is known; the service is gone from the stack.
    drop(container);
    let delete = [
        "delete",
        "pod",
        "uses",
        "--namespace",
        &namespace.0,
        "--grace-period=0",
        "--force",
    ];
    common::node::kubectl(&delete);
    until_no_container_names(&nodes[0], &namespace.0);
    let did = pruned(&docker, Some(&loader), &made.wish(0, &[])).await;
    assert_eq!((did.docker.images, did.nodes.images), (6, 6), "{did:?}");
    assert!(did.nodes.bytes >= Some(6 << 20), "{did:?}");
    assert_eq!((made.in_docker(), made.in_node()), (vec![foreign], vec![]));
}

#[tokio::test]
async fn docker_alone_and_only_this_stack() {
    let (_, nodes) = cluster().await;
    let docker = llmdev::build::Docker::connect().await.unwrap();
    let (made, other) = (Made::new(&nodes), Made::new(&nodes));
    let (one, two) = (
        made.image("web", 1, "llmdev.local/"),
        made.image("web", 2, "llmdev.local/"),
    );
    let others = other.image("web", 1, "llmdev.local/");
    // Another name of the same image keeps its layers.
    let alias = format!("foreign.local/{}/mine:1", made.stack);
    run("docker", &["tag", &one, &alias]);
    let did = pruned(&docker, None, &made.wish(0, &[&two])).await;
    assert_eq!(
        (names(&did), did.docker.bytes),
        (vec![one.as_str()], Some(0))
    );
    assert_eq!(made.in_docker(), [alias, two]);
    assert_eq!(other.in_docker(), [others]);

    // Ended before it began.
    let cancel = CancellationToken::new();
    cancel.cancel();
    let did = prune(&docker, None, &made.wish(0, &[]), &cancel)
        .await
        .unwrap();
    assert!(
        did.removed.is_empty() && made.in_docker().len() == 2,
        "{did:?}"
    );
}

/// A container that was made and never started.
struct Container(String);

impl Container {
    fn of(image: &str) -> Container {
        let name = unique("container");
        run(
            "docker",
            &["create", "--name", &name, "--network", "none", image],
        );
        Container(name)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", &self.0]).output();
    }
}

const DOCKERFILE: &str = "FROM busybox:1\nCOPY page /www/index.html\nCMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n";

/// A stack that was edited a few times. On a full disk its daemon prunes by itself, else `llmdev prune` does.
#[tokio::test]
async fn a_stack_that_was_edited_keeps_three_images() {
    let (api, nodes): (Docker, Vec<Node>) = cluster().await;
    let port = free_port();
    let mut live = Live::new(
        "prune-live",
        &format!("  web: {{ build: web, forward: ['{port}:8080'] }}\n"),
    );
    let name = live.name.clone();
    let _images = Forget(name.clone(), nodes.clone());
    live.deployment("web", 8080, "", "");
    live.write("web/Dockerfile", DOCKERFILE);
    live.write("web/page", "edit 0");
    live.up();
    for edit in 1..5 {
        let page = format!("edit {edit}");
        live.write("web/page", &page);
        served(port, "/", &page);
        live.wait_until_ready("web");
    }
    assert!(images_in(&nodes[0], &name).len() >= 3);
    // What a container uses that is yet to go is kept, and the kubelet takes it away after its pod.
    until("one container", || {
        (containers(&nodes[0], &name) == 1).then_some(())
    });
    let loader = Loader::new(&api, &nodes, &live.path("state"));
    // Other tests take and give back room meanwhile, so a disk may be full at one moment and not at the next.
    let began = Instant::now();
    live.say(&["up"]);
    loop {
        // It may have been after an edit already.
        let notes = live.notes(0);
        if let Some(said) = notes.iter().find(|it| it.contains("removed old images")) {
            assert!(said.starts_with("the disk of node "), "{said}");
            break;
        }
        let disks = loader.disks(&CancellationToken::new()).await.unwrap();
        if llmdev::prune::fullest(&disks).is_none() {
            eprintln!("no node's disk is full: not seen that `up` makes room by itself");
            let would = live.say(&["prune", "--dry-run", "-o", "json"]);
            let would: Value = serde_json::from_str(&would).unwrap();
            assert_eq!(
                (&would["dryRun"], &would["docker"]["images"]),
                (&true.into(), &2.into())
            );
            break;
        }
        assert!(began.elapsed() < PATIENCE, "no room was made: {notes:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let said = live.say(&["prune"]);
    eprintln!("{said}");
    assert_eq!(images_in(&nodes[0], &name).len(), 3);
    let in_docker = run(
        "docker",
        &[
            "images",
            "-q",
            "--filter",
            &format!("reference=llmdev.local/{name}/*"),
        ],
    );
    assert_eq!(in_docker.lines().count(), 3);
    assert_eq!(live.say(&["prune"]).trim(), "no old images to remove");
    // What runs is still there, and starts anew.
    live.say(&["restart", "web"]);
    served(port, "/", "edit 4");

    // Without a daemon as well; the image that the files lead to stays although nothing runs.
    let image = live.image("web");
    live.say(&["down"]);
    until_no_container_names(&nodes[0], &name);
    live.say(&["prune", "--keep", "0"]);
    assert_eq!(images_in(&nodes[0], &name), [image]);
}

fn until_no_container_names(node: &Node, part: &str) {
    until("end of the containers", || {
        (containers(node, part) == 0).then_some(())
    });
}

/// How many containers of a node's have a name in what is said of them, those that have ended among them.
fn containers(node: &Node, part: &str) -> usize {
    let list = ["exec", &node.container, "crictl", "ps", "-a", "-o", "json"];
    let said: Value = serde_json::from_str(&run("docker", &list)).unwrap();
    let all = said["containers"].as_array().into_iter().flatten();
    all.filter(|container| container.to_string().contains(part))
        .count()
}

struct Forget(String, Vec<Node>);

impl Drop for Forget {
    fn drop(&mut self) {
        forget(&self.1, &self.0);
    }
}
