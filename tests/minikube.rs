//! minikube profiles: found, made, started and used. The program is a double that answers as it was seen to answer; the
//! API server, the node and the engines are real.

#[path = "common/alone.rs"]
mod alone;
#[path = "common/journey/mod.rs"]
mod journey;
#[path = "common/posing.rs"]
mod posing;
#[path = "common/profile.rs"]
mod profile;
#[path = "common/tls.rs"]
mod tls;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use journey::{PATIENCE, Run, Stack, containers, docker, free_port, sleeper, web};
use llmdev::event::Phase;
use posing::Posing;
use profile::{Profile, node, runs_on};
use serde_json::{Value, json};

/// A stack that needs no image in the nodes, and a profile.
fn idle(state: &str) -> (Stack, Profile) {
    let mut stack = Stack::new();
    let profile = Profile::new(&mut stack, state);
    let mut service = sleeper("idle");
    service.replicas = 0;
    stack.has(service);
    runs_on(
        &stack,
        &json!({
            "provider": "minikube", "name": profile.name, "cpus": 2, "memory": "4Gi", "nodes": 2,
            "driver": "docker", "containerRuntime": "containerd",
        }),
    );
    (stack, profile)
}

const NEW: &str = "start --keep-context --cpus=2 --memory=4096m --nodes=2 --driver=docker --container-runtime=containerd";

#[test]
fn a_profile_is_brought_to_run_by_what_it_lacks() {
    let (stack, profile) = idle("running");
    stack.up().went_well();
    // `start` would have restarted every container of a docker runtime.
    assert_eq!(
        profile.calls(),
        [""; 0],
        "one that answers is asked nothing"
    );
    for (state, calls, says) in [
        (
            "stopped",
            &["status", "start --keep-context", "status"][..],
            "starting the minikube profile",
        ),
        (
            "unlisted",
            &["status", "update-context", "status"],
            "taking it into the kubeconfig",
        ),
        (
            "missing",
            &["status", NEW, "status"],
            "creating the minikube profile",
        ),
    ] {
        stack.kill_daemon();
        profile.is(state);
        let up = stack.up().went_well().saying(&[says]);
        assert_eq!(profile.calls(), calls, "{state}\n{up}");
        assert_eq!(profile.current_context(), "", "{state}");
        assert_eq!(profile.state(), "running");
    }
    stack.down().went_well();
    stack
        .run(&["down", "--cluster"])
        .ends()
        .went_well()
        .saying(&["deleting the minikube profile"]);
    assert_eq!(profile.calls(), ["delete", "status"]);
    assert_eq!(profile.state(), "missing");
}

/// The context is there, and nobody answers.
#[test]
fn a_profile_that_does_not_answer_is_looked_at() {
    let (stack, profile) = idle("running");
    let mut config = profile.known();
    let port = free_port();
    config["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{port}"));
    for (state, call) in [
        ("paused", "unpause --all-namespaces"),
        ("half", "start --keep-context"),
    ] {
        stack.kill_daemon();
        profile.is(state);
        profile.put("known", &config.to_string());
        stack.up().went_well();
        assert_eq!(profile.calls(), ["status", call, "status"], "{state}");
    }
    // Status says that it runs: then there is nothing to start.
    stack.kill_daemon();
    profile.put("known", &config.to_string());
    for (state, cause) in [
        ("running", "does not answer"),
        ("several", "does not answer"),
        ("silent", "did not end within 10 s"),
    ] {
        profile.put("state", state);
        stack
            .up()
            .failed_with(4)
            .saying(&[cause, &format!("minikube status -p {}", profile.name)]);
        assert_eq!(profile.calls(), ["status"], "{state}");
    }
}

#[test]
fn steps_and_failures_of_a_start_are_told() {
    let (stack, profile) = idle("missing");
    let event = json!({
        "specversion": "1.0", "type": "io.k8s.sigs.minikube.error",
        "data": {"exitcode": "80", "name": "GUEST_START", "message": "failed to start node: wait 6m0s for node", "advice": "", "issues": "", "url": ""},
    });
    profile.put("fails", &format!("{event}\n"));
    let up = stack.up().failed_with(4).saying(&[
        "minikube: Preparing Kubernetes v1.36.3 ...",
        "minikube cannot start the profile",
        "failed to start node: wait 6m0s for node",
        "80 (GUEST_START)",
        &format!("minikube delete -p {}", profile.name),
    ]);
    assert_eq!(up.said.matches("Preparing Kubernetes").count(), 1, "{up}");
    assert_eq!(profile.calls(), ["status", NEW, "status"]);
    // What is left of it is llmdev's to take away, though no context leads there. That `delete` ends well says nothing.
    stack.kill_daemon();
    profile.put("undeletable", "");
    stack
        .run(&["down", "--cluster"])
        .ends()
        .failed_with(4)
        .saying(&["was not deleted"]);
    assert_eq!(profile.calls(), ["delete", "status"]);
    profile.forget("undeletable");
    stack.run(&["down", "--cluster"]).ends().went_well();
    assert_eq!(profile.state(), "missing");
}

/// A start that is given up half-way would leave a profile that is neither stopped nor runs.
#[test]
fn a_start_goes_on_whatever_changes_meanwhile() {
    let (stack, profile) = idle("stopped");
    profile.put("holds", "");
    let mut up = stack.run(&["up"]);
    up.until_it_says("Preparing Kubernetes");
    // It is looked for changes, as when a file was saved.
    stack.run(&["pause"]).ends().went_well();
    stack.run(&["resume"]).ends().went_well();
    profile.forget("holds");
    up.ends().went_well();
    assert_eq!(
        profile.calls(),
        ["status", "start --keep-context", "status"]
    );
}

#[test]
fn a_profile_is_neither_made_nor_deleted_unasked() {
    let (stack, profile) = idle("missing");
    let cluster = json!({"provider": "minikube", "name": profile.name, "create": false});
    runs_on(&stack, &cluster);
    stack
        .up()
        .failed_with(4)
        .saying(&["minikube has no running profile"]);
    assert_eq!(profile.calls(), ["status"]);
    stack.kill_daemon();
    profile.is("running");
    stack
        .run(&["down", "--cluster"])
        .ends()
        .failed_with(5)
        .saying(&["llmdev did not create"]);
    assert_eq!(profile.calls(), [""; 0]);
}

#[test]
fn images_for_nodes_out_of_reach_are_an_error() {
    let _nobody_announces = alone::alone("registry");
    let (mut stack, profile) = idle("running");
    stack.has(web("web"));
    runs_on(
        &stack,
        &json!({"provider": "minikube", "name": profile.name}),
    );
    stack.up().failed_with(1).saying(&[
        "images cannot be brought into the nodes",
        "no containers of this Docker",
    ]);
}

/// The node of a cluster of kind's, with the labels, the name and the context of a minikube profile.
struct LookAlike {
    cluster: String,
    image: String,
}

impl LookAlike {
    fn new(stack: &Stack) -> (LookAlike, String, Value) {
        let base = std::env::var("LLMDEV_TEST_NODE_IMAGE").unwrap_or_else(|_| {
            docker(&["inspect", "--format", "{{.Config.Image}}", &node()])
                .trim()
                .to_owned()
        });
        let profile = format!("{}-control-plane", stack.space);
        let image = format!("{}:node", stack.space);
        let labels = format!(
            "LABEL created_by.minikube.sigs.k8s.io=true name.minikube.sigs.k8s.io={profile} role.minikube.sigs.k8s.io=\"\""
        );
        let build = format!("printf 'FROM {base}\n{labels}\n' | docker build --tag {image} -");
        run("sh", &["-c", &build]);
        let alike = LookAlike {
            cluster: stack.space.clone(),
            image,
        };
        let config = stack.path("kind-kubeconfig").display().to_string();
        run(
            "kind",
            &[
                "create",
                "cluster",
                "--name",
                &alike.cluster,
                "--image",
                &alike.image,
                "--kubeconfig",
                &config,
                "--wait",
                "120s",
            ],
        );
        let config = run(
            "kubectl",
            &[
                "--kubeconfig",
                &config,
                "config",
                "view",
                "--raw",
                "--output",
                "json",
            ],
        );
        let mut config: Value = serde_json::from_str(&config).unwrap();
        let address = docker(&[
            "inspect",
            "--format",
            "{{.NetworkSettings.Networks.kind.IPAddress}}",
            &profile,
        ]);
        config["clusters"][0]["cluster"]["server"] =
            json!(format!("https://{}:6443", address.trim()));
        (alike, profile, config)
    }
}

impl Drop for LookAlike {
    fn drop(&mut self) {
        for words in [
            &[
                "kind",
                "delete",
                "cluster",
                "--kubeconfig",
                "/dev/null",
                "--name",
                &self.cluster,
            ][..],
            &["docker", "rmi", "--force", &self.image],
        ] {
            let _ = Command::new(words[0]).args(&words[1..]).output();
        }
    }
}

#[test]
fn a_profile_is_used_stopped_and_started_again() {
    let _same_address = alone::alone(alone::ADDRESSES);
    let mut stack = Stack::new();
    let (_alike, name, config) = LookAlike::new(&stack);
    let profile = Profile::with(&mut stack, &name, "missing", config);
    profile.put("node", &name);
    stack.has(
        web("web")
            .that_says("one")
            .with_key("sync", json!([{"src": "*.txt", "dest": "/www"}])),
    );
    runs_on(&stack, &json!({"provider": "minikube", "name": name}));
    println!("{}", stack.up().went_well());
    assert_eq!(stack.get("web"), "one");
    assert_eq!(
        profile.calls(),
        ["status", "start --keep-context", "status"]
    );
    // Through the node, which is found by minikube's labels.
    let images = docker(&["exec", &name, "crictl", "images"]);
    assert!(
        images.contains(&format!("llmdev.local/{}/web", stack.name)),
        "{images}"
    );
    let mut events = stack.events();
    stack.write("web/more.txt", "synced");
    events.until_note("synced more.txt");

    // The daemon lives on. What it started is not started anew by those who only look.
    let daemon = stack.daemon();
    profile.minikube("stop");
    println!(
        "{}",
        stack
            .up()
            .went_well()
            .saying(&["starting the minikube profile"])
    );
    assert_eq!(
        profile.calls(),
        ["status", "start --keep-context", "status"]
    );
    assert_eq!(stack.daemon(), daemon);
    stack.until_it_says("web", "one");
    let image = stack.row("web").image;
    stack.write("web/index.html", "two");
    stack.until_service("web", "is built anew", |row| {
        row.image != image && row.phase == Phase::Ready
    });
    assert_eq!(stack.get("web"), "two");

    // And without a daemon, and without a context. Its node goes on, for starting it takes its time.
    stack.kill_daemon();
    profile.is("stopped");
    profile.calls();
    stack
        .run(&["status"])
        .ends()
        .failed_with(4)
        .saying(&["has no running profile"]);
    stack.up().went_well();
    let calls = profile.calls();
    assert!(
        calls.iter().any(|call| call == "start --keep-context"),
        "{calls:?}"
    );
    stack.until_it_says("web", "two");
    takes_whole_images(&mut stack, &profile);
    // It is deleted as a whole.
    stack.kill_daemon();
    profile.is("stopped");
    stack.run(&["down", "--cluster"]).ends().went_well();
    assert_eq!(containers(&name), "");
}

/// The same node as one of CRI-O, and as one of several with an engine each: the API server says so, and doubles of the
/// programs are there.
fn takes_whole_images(stack: &mut Stack, profile: &Profile) {
    let name = profile.name.clone();
    let in_node = |script: &str| docker(&["exec", &name, "sh", "-c", script]);
    let double = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/whole.sh");
    for program in ["podman", "docker"] {
        let path = format!("/usr/local/bin/{program}");
        docker(&["cp", double, &format!("{name}:{path}")]);
        in_node(&format!("chmod +x {path}"));
    }
    let mut old = stack.row("web").image.unwrap();
    // Else it would load by containerd what is new in the stack.
    stack.kill_daemon();
    // Only this machine's Docker has it.
    let upstream = format!("{}:upstream", stack.space);
    docker(&["tag", "busybox:1", &upstream]);
    let mut plain = sleeper("plain");
    plain.container["image"] = json!(upstream);
    stack.has(plain);
    runs_on(stack, &json!({"provider": "minikube", "name": name}));

    let config = stack.path("kind-kubeconfig").display().to_string();
    for (runtime, program, state, calls, others) in [
        (
            posing::CRI_O,
            "podman",
            "running",
            &[][..],
            &[&*upstream][..],
        ),
        (
            posing::DOCKER,
            "docker",
            "several",
            &["docker-env --shell none"],
            &[],
        ),
    ] {
        stack.kill_daemon();
        profile.calls();
        let cluster = Posing::of(&["--kubeconfig", &config], runtime);
        profile.leads_to(cluster.config());
        profile.is(state);
        stack.write("web/index.html", program);
        let why = format!("`{program} load` in the nodes takes whole images only");
        println!("{}", stack.up().went_well().saying(&[&why]));
        assert_eq!(profile.calls(), calls);
        assert_eq!(stack.get("web"), program);
        let new = stack.row("web").image.unwrap();
        // Only what the node has not got, each once.
        let loaded = in_node("sort /run/loaded && rm /run/loaded");
        let mut expected: Vec<String> = others
            .iter()
            .map(|other| format!("{program} docker.io/library/{other}"))
            .collect();
        expected.push(format!("{program} {new}"));
        assert_eq!(loaded.lines().collect::<Vec<_>>(), expected);
        // A busy Docker may not answer it in time.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let doctor = stack.run(&["doctor"]).ends();
            if doctor.out.contains(&why) {
                break;
            }
            assert!(Instant::now() < deadline, "it never said {why:?}\n{doctor}");
        }
        // Until then its last container has it.
        let gone = format!("{old}  Docker, {name}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pruned = stack.run(&["prune", "--keep", "1"]).ends().went_well();
            if pruned.out.contains(&gone) {
                break;
            }
            assert!(Instant::now() < deadline, "{pruned}");
        }
        let tag = |image: &str| image.rsplit_once(':').unwrap().1.to_owned();
        let held = in_node("crictl images");
        assert!(
            held.contains(&tag(&new)) && !held.contains(&tag(&old)),
            "{held}"
        );
        old = new;
    }
    stack.kill_daemon();
    docker(&["rmi", &upstream]);
}

/// A Docker engine of its own, which listens with TLS as that of a profile of the docker runtime does.
struct Engine {
    process: Child,
    bridge: String,
    folder: tempfile::TempDir,
    address: String,
}

impl Engine {
    fn start() -> Option<Engine> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: a second engine needs root");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        tls::make_certificates(folder.path());
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("daemon.json"), "{}").unwrap();
        let address = format!("tcp://127.0.0.1:{}", free_port());
        let socket = format!("unix://{}", path("docker.sock"));
        // Its own bridge, and no rules: without a bridge ("none") it would take the other engine's away.
        let bridge = format!("llmdev{}", std::process::id());
        let _ = Command::new("ip")
            .args(["link", "delete", &bridge])
            .output();
        run("ip", &["link", "add", &bridge, "type", "bridge"]);
        run("ip", &["address", "add", "198.18.77.1/24", "dev", &bridge]);
        let process = Command::new("dockerd")
            .args([
                "--config-file",
                &path("daemon.json"),
                "--bridge",
                &bridge,
                "--iptables=false",
                "--ip6tables=false",
            ])
            .args([
                "--containerd-namespace",
                "llmdev-test",
                "--containerd-plugins-namespace",
                "llmdev-test-plugins",
            ])
            .args([
                "--data-root",
                &path("data"),
                "--exec-root",
                &path("exec"),
                "--pidfile",
                &path("pid"),
            ])
            .args(["--host", &socket, "--host", &address, "--tlsverify"])
            .args([
                "--tlscacert",
                &path("ca.pem"),
                "--tlscert",
                &path("server.pem"),
                "--tlskey",
                &path("server-key.pem"),
            ])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .expect("dockerd is there");
        let engine = Engine {
            process,
            bridge,
            folder,
            address,
        };
        let deadline = Instant::now() + PATIENCE;
        while !engine.try_docker(&["version"]).status.success() {
            let log = || std::fs::read_to_string(engine.folder.path().join("log")).unwrap();
            assert!(Instant::now() < deadline, "{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        run(
            "sh",
            &[
                "-c",
                &format!("docker save busybox:1 | docker --host {socket} load"),
            ],
        );
        Some(engine)
    }

    /// The docker command, with TLS.
    fn try_docker(&self, words: &[&str]) -> std::process::Output {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        Command::new("docker")
            .args([
                "--host",
                &self.address,
                "--tlsverify",
                "--tlscacert",
                &path("ca.pem"),
            ])
            .args(["--tlscert", &path("cert.pem"), "--tlskey", &path("key.pem")])
            .args(words)
            .output()
            .unwrap()
    }

    fn docker(&self, words: &[&str]) -> String {
        let output = self.try_docker(words);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The page in an image of a web service.
    fn page(&self, image: &str) -> String {
        let container = self.docker(&["create", image]);
        let copied = format!("{}:/www/index.html", container.trim());
        let tar = self.docker(&["cp", &copied, "-"]);
        self.docker(&["rm", container.trim()]);
        // A header of 512 bytes, then the file, filled up with zeros.
        tar[512..].split('\0').next().unwrap().to_owned()
    }

    /// As `docker-env` answers.
    fn env(&self) -> String {
        json!({
            "DOCKER_CERT_PATH": self.folder.path(), "DOCKER_HOST": self.address, "DOCKER_TLS_VERIFY": "1",
            "MINIKUBE_ACTIVE_DOCKERD": "dev", "SSH_AGENT_PID": "", "SSH_AUTH_SOCK": "",
        })
        .to_string()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
        run("ip", &["link", "delete", &self.bridge]);
    }
}

#[test]
fn a_profile_of_the_docker_runtime_builds_in_its_own_engine() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let mut stack = Stack::new();
    let cluster = Posing::of(&["--context", &journey::context()], posing::DOCKER);
    let name = stack.space.clone();
    let profile = Profile::with(&mut stack, &name, "running", cluster.config());
    profile.put("engine", &engine.env());
    // No kubelet here has that engine, so there are no pods.
    let mut service = web("web").that_says("one");
    service.replicas = 0;
    stack.has(service);
    runs_on(&stack, &json!({"provider": "minikube", "name": name}));
    println!("{}", stack.up().went_well());
    assert_eq!(profile.calls(), ["docker-env --shell none"]);

    let container = |field: &str| {
        let path = format!("jsonpath={{.spec.template.spec.containers[0].{field}}}");
        stack.kubectl(&["get", "deployment", "web", "-o", &path])
    };
    let first = container("image");
    assert!(
        first.starts_with(&format!("llmdev.local/{}/web:", stack.name)),
        "{first}"
    );
    // It is there under that name, so nobody pulls it.
    assert_eq!(container("imagePullPolicy"), "IfNotPresent");
    assert_eq!(engine.page(&first), "one");
    is_only_there(&first);

    stack.write("web/index.html", "two");
    stack.until_service("web", "is built anew", |row| {
        row.image.as_ref().is_some_and(|image| *image != first) && row.phase == Phase::Ready
    });
    let second = container("image");
    assert_eq!(engine.page(&second), "two");
    is_only_there(&second);

    // What goes without the daemon goes to that engine as well.
    stack
        .run(&["build"])
        .ends()
        .went_well()
        .saying(&[&second, "there already"]);
    stack
        .run(&["prune", "--keep", "1"])
        .ends()
        .went_well()
        .saying(&[&first]);
    let listed = engine.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(
        listed.contains(&second) && !listed.contains(&first),
        "{listed}"
    );
    stack.down().went_well();
    assert_eq!(stack.objects(), Vec::<String>::new());
}

/// Neither in the engine of the environment nor in the node.
#[track_caller]
fn is_only_there(image: &str) {
    assert_eq!(docker(&["images", "--quiet", image]), "");
    let (repository, _) = image.rsplit_once(':').unwrap();
    let held = docker(&["exec", &node(), "crictl", "images"]);
    assert!(
        held.contains("IMAGE") && !held.contains(repository),
        "{held}"
    );
}

fn run(program: &str, words: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(words);
    Run::start(command, format!("{program} {}", words.join(" ")))
        .ends()
        .went_well()
        .out
}
