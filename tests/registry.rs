//! Stacks whose images go through a registry: a real one, which the real nodes pull from.

#[path = "common/alone.rs"]
mod alone;
mod common;
#[path = "common/registry.rs"]
mod registry;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use common::live::{Live, free_port, served, until};
use common::node::{cluster, context, images_in, kubectl};
use registry::{Registry, as_if_elsewhere};

const DOCKERFILE: &str = "FROM busybox:1\nCOPY page /www/index.html\nCMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n";

/// A stack with one service, `web`, that is forwarded to `port`. Nothing in it makes its namespace.
fn stack(what: &str, port: u16) -> Live {
    let live = Live::new(
        what,
        &format!("  web: {{ build: web, forward: ['{port}:8080'] }}\n"),
    );
    std::fs::remove_file(live.path("k8s/namespace.yaml")).unwrap();
    live.deployment("web", 8080, "", "");
    live.write("web/Dockerfile", DOCKERFILE);
    live.write("web/page", "one");
    live
}

/// Rewrites the line of `stack.yaml` that names the cluster.
fn on(live: &Live, cluster: &str) {
    let text = std::fs::read_to_string(live.path("stack.yaml")).unwrap();
    let line = |line: &str| match line.starts_with("cluster:") {
        true => format!("cluster: {{ {cluster} }}\n"),
        false => format!("{line}\n"),
    };
    live.write("stack.yaml", &text.lines().map(line).collect::<String>());
}

/// Lets a stack meet the test cluster as one whose nodes are out of reach; the provider and the name for [`on`].
fn elsewhere(live: &mut Live) -> String {
    elsewhere_as(live, None)
}

fn elsewhere_as(live: &mut Live, token: Option<&str>) -> String {
    let file = live.path("../kubeconfig");
    let name = as_if_elsewhere(&file, token);
    live.env.push(("KUBECONFIG", file));
    format!("provider: context, name: {name}")
}

fn output(live: &Live, words: &[&str]) -> Output {
    live.llmdev(words).stdin(Stdio::null()).output().unwrap()
}

/// What a command says that goes well, all of it.
fn said(live: &Live, words: &[&str]) -> String {
    let output = output(live, words);
    let text = text(&output);
    assert!(output.status.success(), "{words:?}: {text}\n{}", live.log());
    text
}

/// What `doctor` says when all is well. It does not wait long for a cluster, which a busy machine may take.
fn doctor(live: &Live) -> String {
    until("good word of doctor's", || {
        let output = output(live, &["doctor"]);
        output.status.success().then(|| text(&output))
    })
}

/// What a command says that fails with this code.
fn refused(live: &Live, words: &[&str], code: i32) -> String {
    let output = output(live, words);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
    text
}

/// What goes wrong, as `up` says it: at once, for none of it mends by itself.
const FAILED: i32 = 1;
const NOT_SAID: i32 = 3;
/// As `doctor` says it.
const UNFIT: i32 = 4;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_pushed_to_the_registry_that_is_named_and_pulled_from_there() {
    let (_, nodes) = cluster().await;
    let registry = Registry::start(&nodes, None, &[]);
    let port = free_port();
    let mut live = stack("registry", port);
    let (host, name) = (registry.host.clone(), live.name.clone());
    let cluster = elsewhere(&mut live);
    on(&live, &format!("{cluster}, registry: '{host}/team'"));

    let first = said(&live, &["up"]);
    assert_says(
        &first,
        &[&format!(
            "images are pushed to {host}/team, as `cluster.registry` says"
        )],
    );
    live.listen();
    served(port, "/", "one");
    let (image, repository) = (live.image("web"), format!("team/{name}/web"));
    let tag = image
        .strip_prefix(&format!("{host}/{repository}:"))
        .unwrap_or_else(|| panic!("{image} is not in {host}/{repository}"));
    assert_eq!(registry.tags(&repository), [tag]);
    assert_eq!(
        Registry::in_docker(&name),
        [image.as_str()],
        "there is no other name of it"
    );
    for node in &nodes {
        let ours = images_in(node, &name);
        assert!(
            !ours.is_empty() && ours.iter().all(|image| image.starts_with(&host)),
            "{ours:?}"
        );
    }
    let pulled = live.kubectl(&[
        "get",
        "events",
        "--field-selector",
        "reason=Pulled",
        "-o",
        "json",
    ]);
    assert!(pulled.contains("Successfully pulled image"), "{pulled}");

    // Another daemon, which knows of no push, asks for the tag and sends nothing.
    let (asked, sent) = (registry.requests().len(), registry.sent());
    assert!(sent > 0, "{:?}", registry.requests());
    said(&live, &["daemon", "stop"]);
    said(&live, &["up"]);
    let since = registry.requests().split_off(asked);
    let head = format!("HEAD /v2/{repository}/manifests/{tag}");
    assert!(since.contains(&head), "{since:?}");
    assert_eq!(registry.sent(), sent, "{since:?}");

    live.write("web/page", "two");
    served(port, "/", "two");
    live.wait_until_ready("web");
    assert_eq!(registry.tags(&repository).len(), 2);

    let doctor = doctor(&live);
    assert_says(
        &doctor,
        &[
            "images",
            &format!("images are pushed to {host}/team, as `cluster.registry` says"),
        ],
    );
    assert_says(&live.say(&["render"]), &[&live.image("web")]);

    // Old images of that name go as well, where nothing uses them.
    until("one image to be left", || {
        live.say(&["prune", "--keep", "1"]);
        (Registry::in_docker(&name).len() == 1).then_some(())
    });

    // Its namespace was made for it, and goes with it.
    said(&live, &["down"]);
    until("namespace that is gone", || {
        kubectl(&[
            "get",
            "namespace",
            &name,
            "--ignore-not-found",
            "-o",
            "name",
        ])
        .is_empty()
        .then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_shared_cluster_a_namespace_of_ones_own_is_enough() {
    let (_, nodes) = cluster().await;
    let registry = Registry::start(&nodes, None, &[]);
    let port = free_port();
    let mut live = stack("own", port);
    let name = live.name.clone();
    kubectl(&["create", "namespace", &name]);
    live.kubectl(&["create", "serviceaccount", "somebody"]);
    let account = format!("{name}:somebody");
    let role = ["--clusterrole", "admin", "--serviceaccount", &account];
    live.kubectl(&[&["create", "rolebinding", "somebody"], &role[..]].concat());
    let token = live.kubectl(&["create", "token", "somebody"]);
    let cluster = elsewhere_as(&mut live, Some(token.trim()));
    on(&live, &format!("{cluster}, registry: '{}'", registry.host));

    said(&live, &["up"]);
    live.listen();
    served(port, "/", "one");
    live.write("web/page", "two");
    served(port, "/", "two");
    assert_says(&said(&live, &["status"]), &["web", "ready"]);
    said(&live, &["down"]);
    assert_eq!(
        live.kubectl(&["get", "deployments", "-o", "name"]),
        "",
        "what is theirs is gone"
    );
    let phase = ["get", "namespace", &name, "-o", "jsonpath={.status.phase}"];
    assert_eq!(
        kubectl(&phase),
        "Active",
        "the namespace was not theirs to take away"
    );
}

/// What the cluster says of its registry, while this lives.
struct Announcement;

impl Announcement {
    const MAP: [&str; 4] = [
        "--namespace",
        "kube-public",
        "configmap",
        "local-registry-hosting",
    ];

    /// Another run of this test may have said something else before.
    fn new(registry: &Registry) -> Announcement {
        let text = format!(
            "localRegistryHosting.v1=host: {}\nhostFromContainerRuntime: {}\nhelp: https://example.org/local-registry\n",
            registry.host, registry.inside
        );
        let [flag, namespace, kind, name] = Announcement::MAP;
        until("cluster that announces no registry", || {
            let mut create = Command::new("kubectl");
            create.args([
                "--context",
                &context(),
                flag,
                namespace,
                "create",
                kind,
                name,
            ]);
            create.args(["--from-literal", &text]);
            create
                .output()
                .unwrap()
                .status
                .success()
                .then_some(Announcement)
        })
    }

    fn there() -> bool {
        let [flag, namespace, kind, name] = Announcement::MAP;
        !kubectl(&[
            flag,
            namespace,
            "get",
            kind,
            name,
            "--ignore-not-found",
            "-o",
            "name",
        ])
        .is_empty()
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let [flag, namespace, kind, name] = Announcement::MAP;
        kubectl(&[flag, namespace, "delete", kind, name]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_name_it_is_the_one_that_the_cluster_announces_or_none() {
    let _nobody_else = alone::alone("registry");
    let (_, nodes) = cluster().await;
    let port = free_port();
    let mut live = stack("announced", port);
    let name = live.name.clone();
    let cluster = elsewhere(&mut live);
    on(&live, &cluster);

    until("cluster that announces no registry", || {
        (!Announcement::there()).then_some(())
    });
    let none = "its nodes are no containers of this Docker, and stack.yaml names no registry: the cluster announces none";
    let remedy = "cluster: { registry: host:port }";
    assert_says(
        &refused(&live, &["up", "--no-watch"], NOT_SAID),
        &[none, remedy],
    );
    assert_says(&refused(&live, &["doctor"], UNFIT), &[none, remedy]);
    assert!(
        Registry::in_docker(&name).is_empty(),
        "nothing is built in vain"
    );

    let registry = Registry::start(&nodes, None, &[]);
    let (host, inside) = (registry.host.clone(), registry.inside.clone());
    let announced = Announcement::new(&registry);
    let line = format!(
        "images are pushed to {host}, which the cluster announces, since its nodes are not reached from Docker; \
         the nodes call it {inside}"
    );
    assert_says(&said(&live, &["up"]), &[&line]);
    live.listen();
    served(port, "/", "one");
    let image = live.image("web");
    let tag = image.strip_prefix(&format!("{inside}/{name}/web:"));
    let tag = tag.unwrap_or_else(|| panic!("{image} is not in {inside}"));
    assert_eq!(registry.tags(&format!("{name}/web")), [tag]);
    until("the name that was pushed by to be gone", || {
        (Registry::in_docker(&name) == [image.as_str()]).then_some(())
    });
    assert_says(&doctor(&live), &[&line]);

    // The nodes of a kind cluster are reached, and no registry is faster than that.
    let kind = stack("reached", free_port());
    let way = "layer by layer, only what is lacking";
    let beside =
        format!("`cluster.registry: {host}` would push to the one that the cluster announces");
    assert_says(&doctor(&kind), &[way, &beside]);

    // Those of another Docker's kind cluster are not, which commands know that need no cluster, too.
    let mut other = stack("another", free_port());
    let cluster = elsewhere(&mut other);
    let called = cluster.rsplit(' ').next().unwrap();
    let file = other.path("../kubeconfig");
    let config = std::fs::read_to_string(&file).unwrap();
    let config = config.replace(called, &format!("kind-{called}"));
    std::fs::write(&file, config).unwrap();
    on(&other, &format!("provider: kind, name: {called}"));
    let image = format!("image: {inside}/{}/web:", other.name);
    assert_says(&said(&other, &["render"]), &[&image]);

    // It goes away: said, while the old version serves; and it comes back.
    registry.docker("stop");
    live.write("web/page", "two");
    let failed = until("a push that failed", || {
        let status = live.say(&["status"]);
        status.contains("cannot push").then_some(status)
    });
    assert_says(&failed, &[&format!("{inside}/{name}/web:")]);
    served(port, "/", "one");
    let away = refused(&live, &["up", "--no-watch"], FAILED);
    let running = format!("is the registry running? curl http://{host}/v2/");
    assert_says(&away, &[&running, "https://example.org/local-registry"]);
    assert_says(&refused(&live, &["doctor"], UNFIT), &[&running]);
    registry.docker("start");
    registry.answers();
    said(&live, &["up"]);
    served(port, "/", "two");
    drop(announced);
}

/// `me` and a password whose bcrypt digest is known to everybody who writes bcrypt.
const PASSWORD: &str = "U*U";
const HTPASSWD: &str = "me:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n";
/// Both, as HTTP has them.
const BASIC: &str = "bWU6VSpV";

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_taken_from_dockers_own_and_said_to_nobody() {
    let (_, nodes) = cluster().await;
    let folder = tempfile::tempdir().unwrap();
    let (users, docker) = (folder.path().join("users"), folder.path().join("docker"));
    std::fs::write(&users, HTPASSWD).unwrap();
    std::fs::create_dir(&docker).unwrap();
    let mount = format!("{}:/users:ro", users.display());
    let realm = [
        "--env",
        "REGISTRY_AUTH=htpasswd",
        "--env",
        "REGISTRY_AUTH_HTPASSWD_REALM=test",
    ];
    let users = [
        "--env",
        "REGISTRY_AUTH_HTPASSWD_PATH=/users",
        "--volume",
        &mount,
    ];
    let registry = Registry::start(
        &nodes,
        Some(&format!("Basic {BASIC}")),
        &[realm, users].concat(),
    );

    let port = free_port();
    let mut live = stack("login", port);
    live.env.push(("DOCKER_CONFIG", PathBuf::from(&docker)));
    // On a kind cluster, too, a registry that is named is used.
    let kind = context();
    let kind = kind.strip_prefix("kind-").unwrap();
    on(
        &live,
        &format!(
            "provider: kind, name: {kind}, registry: '{}'",
            registry.host
        ),
    );
    let remedy = format!("docker login {}", registry.host);
    assert_says(
        &refused(&live, &["up", "--no-watch"], FAILED),
        &["cannot push", &remedy],
    );
    assert_says(&refused(&live, &["doctor"], UNFIT), &[&remedy]);

    let login = |secret: &str| {
        format!(
            r#"{{"auths": {{"{}": {{"auth": "{secret}"}}}}}}"#,
            registry.host
        )
    };
    let wrong = "bWU6d3Jvbmc="; // me:wrong
    std::fs::write(docker.join("config.json"), login(wrong)).unwrap();
    assert_says(&refused(&live, &["up", "--no-watch"], FAILED), &[&remedy]);

    std::fs::write(docker.join("config.json"), login(BASIC)).unwrap();
    let all = said(&live, &["up"]) + &doctor(&live);
    served(port, "/", "one");
    assert!(live.image("web").starts_with(&registry.host));
    let told = live.log() + &all;
    assert!(!told.contains(PASSWORD) && !told.contains(BASIC), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_was_never_there_is_said() {
    let nowhere = format!("localhost:{}", free_port());
    let _images = Images(format!("{nowhere}/"));
    let mut live = stack("nowhere", free_port());
    let cluster = elsewhere(&mut live);
    on(&live, &format!("{cluster}, registry: '{nowhere}'"));
    let said = refused(&live, &["up", "--no-watch"], FAILED);
    let push = format!("cannot push {nowhere}/{}/web:", live.name);
    assert_says(
        &said,
        &[
            &push,
            "connection refused",
            &format!("curl http://{nowhere}/v2/"),
        ],
    );
}

/// Docker's images whose names have a part, removed in the end.
struct Images(String);

impl Drop for Images {
    fn drop(&mut self) {
        for image in Registry::in_docker(&self.0) {
            let _ = Command::new("docker").args(["rmi", &image]).output();
        }
    }
}
