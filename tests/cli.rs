//! The program as people run it: what it prints, and how it ends.

#[path = "common/cli.rs"]
mod cli;
#[path = "common/cluster.rs"]
#[allow(dead_code, reason = "each test uses a part")]
mod cluster;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use cli::{PROGRAM, Project, Ran};
use cluster::{Cleanup, context, kubectl, unique};
use regex::Regex;
use serde_json::Value;

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: busybox:1
          command: [sh, -c, "mkdir /www && echo hello > /www/index.html && exec httpd -f -p 8000 -h /www"]
          ports: [{ containerPort: 8000 }]
          readinessProbe: { httpGet: { path: /, port: 8000 }, periodSeconds: 1 }
"#;

/// A stack of one service; more of `stack.yaml` after it.
fn stack(cluster: &str, more: &str) -> Project {
    let text = format!(
        "apiVersion: llmdev/v1\nname: shop\ncluster: {cluster}\nrender:\n  - manifests: [web.yaml]\nservices:\n  web: {{}}\n{more}"
    );
    Project::new(&[("stack.yaml", &text), ("web.yaml", MANIFEST)])
}

/// On the test cluster, in a namespace of its own.
fn live(service: &str) -> (Project, Cleanup, String) {
    let namespace = unique();
    let text = format!(
        "apiVersion: llmdev/v1\nname: {namespace}\ncluster: {{ provider: context, name: {} }}\nnamespace: {namespace}\nrender:\n  - manifests: [web.yaml]\nservices:\n  web: {service}\n",
        context()
    );
    // A kind cluster is named as such, so that images are loaded into its nodes.
    let text = match context().strip_prefix("kind-") {
        Some(name) => text.replace(
            &format!("{{ provider: context, name: {} }}", context()),
            &format!("{{ provider: kind, name: {name} }}"),
        ),
        None => text,
    };
    let project = Project::new(&[("stack.yaml", &text), ("web.yaml", MANIFEST)]);
    let cleanup = Cleanup::namespace(&namespace);
    (project, cleanup, namespace)
}

/// The names under `Commands:` of a help text.
fn commands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_has_help_with_an_example() {
    let project = Project::new(&[]);
    let top = project.run(&["--help"]);
    assert!(top.code == 0 && top.out.contains("Exit codes:"), "{top:?}");
    let names = commands(&top.out);
    for known in [
        "up", "down", "exec", "shell", "open", "doctor", "init", "editor",
    ] {
        assert!(
            names.iter().any(|name| name == known),
            "{known} in {names:?}"
        );
    }
    for name in names {
        let help = project.run(&[&name, "--help"]);
        assert_eq!(help.code, 0, "{help:?}");
        let example = help.out.split("Example").nth(1).unwrap_or_default();
        assert!(example.contains(&format!("llmdev {name}")), "{}", help.out);
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let project = stack("{}", "");
    for words in [
        &["--nonsense"][..],
        &[],
        &["nonsense"],
        &["exec"],
        &["exec", "web"],
        &["completions", "tcsh"],
        &["status", "-o", "xml"],
        &["editor"],
        &["up", "nowhere"],
        &["logs", "nowhere"],
        &["why", "nowhere"],
        &["restart", "nowhere"],
        &["exec", "nowhere", "ls"],
        &["shell", "nowhere"],
        &["open", "nowhere"],
        &["open", "web"],
        &["logs", "--since", "5"],
    ] {
        let ran = project.run(words);
        assert_eq!(ran.code, 2, "{words:?}: {ran:?}");
        assert!(
            ran.out.is_empty() && !ran.err.is_empty(),
            "{words:?}: {ran:?}"
        );
    }
    let unknown = project.run(&["up", "nowhere"]).err;
    assert!(
        unknown.contains("there is no service nowhere") && unknown.contains("has web"),
        "{unknown}"
    );
}

#[test]
fn what_is_generated_can_be_used() {
    let project = Project::new(&[]);
    let schema: Value = serde_json::from_str(&project.run(&["schema"]).out).expect("JSON");
    assert!(schema["properties"]["services"].is_object(), "{schema}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = project.run(&["completions", shell]);
        assert!(
            script.code == 0 && script.out.contains("llmdev"),
            "{shell}: {script:?}"
        );
    }
    let bash = project.run(&["completions", "bash"]).out;
    project.write("completions.bash", &bash);
    let checked = project
        .command("bash")
        .args(["-n", "completions.bash"])
        .status();
    assert!(checked.expect("bash runs").success());
    let manual = project.run(&["man"]).out;
    assert!(
        manual.contains(".TH llmdev 1") && manual.contains("completions"),
        "{manual}"
    );
}

#[test]
fn a_stack_that_cannot_be_read_ends_with_3() {
    let none = Project::new(&[]).run(&["up"]);
    assert_eq!(none.code, 3, "{none:?}");
    assert!(
        none.err.contains("there is no stack.yaml here"),
        "{}",
        none.err
    );
    for (text, said) in [
        ("", "the file is empty"),
        ("apiVersion: llmdev/v9\nname: x\n", "written for llmdev/v9"),
        ("a: [", "stack.yaml:1:"),
    ] {
        let ran = Project::new(&[("stack.yaml", text)]).run(&["up"]);
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(ran.err.contains(said), "{}", ran.err);
    }
    let broken = stack("{}", "  api: { dependsOn: [wbe], forwrad: [8000] }\n").run(&["up"]);
    assert_eq!(broken.code, 3);
    insta::assert_snapshot!(broken.err, @r#"
    stack.yaml:8:22: error: there is no service "wbe"
      |
    8 |   api: { dependsOn: [wbe], forwrad: [8000] }
      |                      ^^^
      |
      = help: did you mean `web`?

    stack.yaml:8:28: error: unknown key "forwrad" in service "api"
      |
    8 |   api: { dependsOn: [wbe], forwrad: [8000] }
      |                            ^^^^^^^
      |
      = help: did you mean `forward`?

    error: stack.yaml has 2 mistakes
    "#);
}

#[test]
fn without_docker_it_ends_with_4_and_says_what_to_do() {
    let project = stack("{}", "").with("DOCKER_HOST", "unix:///nowhere/docker.sock");
    for words in [&["build"][..], &["up"]] {
        let ran = project.run(words);
        assert_eq!(ran.code, 4, "{ran:?}");
        assert!(
            ran.err
                .contains("nothing listens at unix:///nowhere/docker.sock"),
            "{}",
            ran.err
        );
        assert!(ran.err.contains("try: start it"), "{}", ran.err);
    }
}

#[test]
fn a_docker_socket_that_is_not_ours_ends_with_4() {
    let project = stack("{}", "");
    let socket = project.path("docker.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o000)).expect("its mode");
    let host = format!("unix://{}", socket.display());
    let ran: Ran = if rustix::process::getuid().is_root() {
        // Root may use any socket.
        let program = project.path("llmdev");
        // What this process writes cannot be run as long as a child that another test starts has the file open, too.
        let mut cp = std::process::Command::new("cp");
        let copied = cp.arg(PROGRAM).arg(&program).status().expect("cp runs");
        assert!(copied.success(), "a copy that anybody may run");
        let root = project.path("..");
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o777)).expect("its mode");
        let mut nobody = project.command("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        nobody.arg(program).arg("build").env("DOCKER_HOST", host);
        nobody.output().expect("setpriv runs").into()
    } else {
        let mut own = project.command(PROGRAM);
        own.arg("build").env("DOCKER_HOST", host);
        own.output().expect("the program runs").into()
    };
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.err.contains("you may not use Docker"), "{}", ran.err);
    assert!(ran.err.contains("usermod -aG docker"), "{}", ran.err);
}

#[test]
fn a_cluster_that_may_not_be_created_ends_with_4() {
    let project = stack("{ provider: kind, name: nowhere, create: false }", "")
        .with("KUBECONFIG", "/dev/null");
    for words in [&["up"][..], &["exec", "web", "ls"], &["down"]] {
        let ran = project.run(words);
        assert_eq!(ran.code, 4, "{words:?}: {ran:?}");
        assert!(
            ran.err.contains("there is no kind cluster nowhere"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_context_elsewhere_is_refused_with_5() {
    let remote = r#"
apiVersion: v1
kind: Config
clusters: [{ name: far, cluster: { server: "https://203.0.113.1:6443" } }]
users: [{ name: me, user: {} }]
contexts: [{ name: kind-far, context: { cluster: far, user: me } }]
current-context: kind-far
"#;
    let project = stack("{ provider: kind, name: far }", "");
    project.write("kubeconfig", remote);
    let config = project.path("kubeconfig").display().to_string();
    let project = project.with("KUBECONFIG", &config);
    for words in [&["up"][..], &["down"], &["exec", "web", "ls"]] {
        let ran = project.run(words);
        assert_eq!(ran.code, 5, "{words:?}: {ran:?}");
        assert!(
            ran.err
                .contains("kind-far is not local: it leads to 203.0.113.1"),
            "{}",
            ran.err
        );
    }
    let doctor = project.run(&["doctor"]);
    assert_eq!(doctor.code, 4, "{doctor:?}");
}

#[test]
fn a_daemon_that_does_not_run_is_said_and_stopping_it_is_no_failure() {
    let project = stack("{}", "");
    let status = project.run(&["daemon", "status"]);
    assert!(
        status.code == 0 && status.out.contains("does not run"),
        "{status:?}"
    );
    assert_eq!(project.run(&["daemon", "stop"]).code, 0);
    for words in [
        &["why", "web"][..],
        &["events"],
        &["pause"],
        &["restart", "web"],
    ] {
        let ran = project.run(words);
        assert_eq!(ran.code, 4, "{words:?}: {ran:?}");
        assert!(ran.err.contains("try: llmdev up"), "{}", ran.err);
    }
}

#[test]
fn init_writes_a_stack_that_renders_and_replaces_none() {
    let kustomize = "resources: [../../base]\nnamePrefix: dev-\n";
    let second = MANIFEST
        .replace("name: web", "name: cache")
        .replace("app: web", "app: cache");
    let second = second
        .replace("busybox:1", "registry.example/shop/cache-image:v1")
        .replace("8000", "80");
    let project = Project::new(&[
        (
            "k8s/base/kustomization.yaml",
            "resources: [web.yaml, cache.yaml]\n",
        ),
        (
            "k8s/base/web.yaml",
            &MANIFEST.replace("busybox:1", "shop/web:latest"),
        ),
        ("k8s/base/cache.yaml", &second),
        ("k8s/overlays/dev/kustomization.yaml", kustomize),
        ("k8s/overlays/prod/kustomization.yaml", kustomize),
        ("services/web/Dockerfile", "FROM busybox:1\n"),
        ("images/c/Dockerfile", "FROM busybox:1\n"),
        ("tools/odd/Dockerfile", "FROM busybox:1\n"),
        (
            "skaffold.yaml",
            "apiVersion: skaffold/v4beta11\nkind: Config\nbuild:\n  artifacts:\n    - { image: registry.example/shop/cache-image, context: images/c }\nportForward:\n  - { resourceType: deployment, resourceName: dev-cache, port: 80, localPort: 8123 }\n",
        ),
    ]);
    let ran = project.run(&["init"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.contains("tools/odd/Dockerfile") && !ran.out.contains("images/c"),
        "{}",
        ran.out
    );
    let written = project.read("stack.yaml");
    let name = written
        .lines()
        .find(|line| line.starts_with("name:"))
        .expect("a name")
        .to_owned();
    insta::assert_snapshot!(written.replace(&name, "name: NAME"), @r#"
    apiVersion: llmdev/v1
    name: NAME
    render:
      - kustomize: k8s/overlays/dev
    services:
      cache:
        build: { context: images/c, image: registry.example/shop/cache-image }
        forward: ["8123:80"]
      web:
        build: { context: services/web, image: shop/web }
        forward: [8000]
    "#);
    let rendered = project.run(&["render"]);
    assert_eq!(rendered.code, 0, "{rendered:?}");
    assert!(
        rendered.out.contains("llmdev.dev/service: cache"),
        "{}",
        rendered.out
    );
    project.write("stack.yaml", "mine");
    assert_eq!(project.run(&["init"]).code, 5);
    assert_eq!(project.read("stack.yaml"), "mine");
    assert_eq!(project.run(&["init", "--force"]).code, 0);
    assert_eq!(project.read("stack.yaml"), written);
    let nothing = Project::new(&[("main.py", "")]).run(&["init"]);
    assert_eq!(nothing.code, 1, "{nothing:?}");
}

#[test]
fn init_names_a_release_as_its_chart_calls_itself() {
    let project = Project::new(&[
        (
            "Chart.yaml",
            "apiVersion: v2\nname: model-router\nversion: 0.1.0\n",
        ),
        ("templates/web.yaml", MANIFEST),
    ]);
    let ran = project.run(&["init"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let written = project.read("stack.yaml");
    let line = "  - helm: { release: model-router, chart: . }\n";
    assert!(written.contains(line), "{written}");
    assert_eq!(project.run(&["render"]).code, 0);
}

#[test]
fn doctor_says_what_is_missing_and_is_never_held_up() {
    // Takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = format!("tcp://{}", silent.local_addr().expect("its address"));
    let project = stack("{}", "").with("DOCKER_HOST", &host);
    let began = Instant::now();
    let ran = project.run(&["doctor", "-o", "json"]);
    // Two seconds are for a machine that has nothing else to do.
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(ran.code, 4, "{ran:?}");
    let checks: Vec<Value> = serde_json::from_str(&ran.out).expect("JSON");
    let docker = checks
        .iter()
        .find(|check| check["name"] == "docker")
        .expect("a check");
    assert_eq!(docker["verdict"], "bad", "{docker}");
    let text = project.run(&["doctor"]).out;
    assert!(
        text.contains("✓ stack.yaml") && text.contains("✗ docker"),
        "{text}"
    );
    let nowhere = Project::new(&[]).run(&["doctor"]).out;
    assert!(
        nowhere.contains("! stack.yaml") && nowhere.contains("llmdev init"),
        "{nowhere}"
    );
}

/// What an editor makes of the lines of a task.
struct Matcher {
    pattern: Regex,
    begins: Regex,
    ends: Regex,
}

impl Matcher {
    /// As it stands in the tasks that are written.
    fn of(project: &Project) -> Self {
        let tasks: Value = serde_json::from_str(&project.read(".vscode/tasks.json")).expect("JSON");
        let up = tasks["tasks"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|task| task["label"] == "llmdev: up");
        let matcher = &up.expect("a task")["problemMatcher"][0];
        let regex = |path: &str| {
            Regex::new(
                matcher
                    .pointer(path)
                    .and_then(Value::as_str)
                    .expect("a pattern"),
            )
            .expect("a regex")
        };
        Matcher {
            pattern: regex("/pattern/regexp"),
            begins: regex("/background/beginsPattern"),
            ends: regex("/background/endsPattern"),
        }
    }

    /// File, line and message of each problem.
    fn problems(&self, text: &str) -> Vec<(String, String, String)> {
        let found = text.lines().filter_map(|line| self.pattern.captures(line));
        found
            .map(|groups| {
                (
                    groups[1].to_owned(),
                    groups[2].to_owned(),
                    groups[5].to_owned(),
                )
            })
            .collect()
    }
}

#[test]
fn editor_tasks_mark_what_is_wrong_where_it_is() {
    let (project, _cleanup, _) = live("{ build: { context: app, image: busybox } }");
    project.write(
        "app/Dockerfile",
        "FROM busybox:1\nRUN echo compiling && cat /nowhere\n",
    );
    project.write(".vscode/tasks.json", "{\n    // mine\n    \"tasks\": [{ \"label\": \"mine\", \"command\": \"x\" }, { \"label\": \"llmdev: logs gone\" }]\n}\n");
    let ran = project.run(&["editor", "vscode"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let written = project.read(".vscode/tasks.json");
    assert!(
        written.contains("// mine") && written.contains("\"llmdev: logs web\""),
        "{written}"
    );
    assert!(
        !written.contains("logs gone")
            && written.contains("{ \"label\": \"mine\", \"command\": \"x\" }"),
        "{written}"
    );
    let again = project.run(&["editor", "vscode"]);
    assert!(again.out.contains("as it should be"), "{again:?}");
    project.write(".vscode/tasks.json", "{ \"tasks\": [}");
    let refused = project.run(&["editor", "vscode"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert_eq!(project.read(".vscode/tasks.json"), "{ \"tasks\": [}");
    project.write(".vscode/tasks.json", "");
    assert_eq!(project.run(&["editor", "vscode"]).code, 0);

    let matcher = Matcher::of(&project);
    let failed = project.run(&["up"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    let problems = matcher.problems(&failed.err);
    assert_eq!(problems.len(), 1, "{}", failed.err);
    let (file, line, message) = &problems[0];
    assert!(project.path(file).is_file(), "{file}");
    assert_eq!((file.as_str(), line.as_str()), ("app/Dockerfile", "2"));
    assert!(message.contains("exited with code 1"), "{message}");
    assert!(
        failed.err.lines().any(|line| matcher.begins.is_match(line)),
        "{}",
        failed.err
    );

    let text = project.read("stack.yaml");
    project.write(
        "stack.yaml",
        &format!("{text}    forwrad: [1]\n  other: {{ dependsOn: [wbe] }}\n")
            .replace("web: {", "web:\n    {"),
    );
    let broken = project.run(&["up"]);
    assert_eq!(broken.code, 3, "{broken:?}");
    let problems = matcher.problems(&broken.err);
    assert!(
        !problems.is_empty() && problems.iter().all(|(file, ..)| file == "stack.yaml"),
        "{}",
        broken.err
    );
}

#[test]
fn from_up_to_down() {
    let port = portpicker::pick_unused_port().expect("a port");
    let (project, _cleanup, namespace) = live(&format!("{{ forward: [\"{port}:8000\"] }}"));
    let up = project.run(&["up"]);
    assert_eq!(up.code, 0, "{up:?}");
    assert!(
        up.out
            .contains(&format!("{namespace} is up on {}", context())),
        "{up:?}"
    );
    assert!(up.out.contains(&format!("localhost:{port}")), "{up:?}");
    project.run(&["editor", "vscode"]);
    let matcher = Matcher::of(&project);
    let last = up.out.lines().find(|line| matcher.ends.is_match(line));
    assert!(
        last.is_some() && up.err.lines().any(|line| matcher.begins.is_match(line)),
        "{up:?}"
    );
    assert!(matcher.problems(&up.err).is_empty(), "{up:?}");

    let status: Value =
        serde_json::from_str(&project.run(&["status", "-o", "json"]).out).expect("JSON");
    assert_eq!(status["services"][0]["phase"], "ready", "{status}");
    let url = format!("http://localhost:{port}\n");
    assert_eq!(project.run(&["open", "web", "--print"]).out, url);
    assert_eq!(
        project.run(&["open", "web"]).out,
        url,
        "there is no browser"
    );
    // It waits for no answer longer than two seconds, and the cluster of a busy machine may take that.
    let mut doctor = project.run(&["doctor"]);
    for _ in 0..20 {
        if !doctor.out.contains("no answer within") {
            break;
        }
        doctor = project.run(&["doctor"]);
    }
    assert!(
        doctor.out.contains("1 forwarded by this stack's daemon"),
        "{doctor:?}"
    );
    assert!(doctor.out.contains("coredns"), "{doctor:?}");

    commands_run_in_pods(&project);
    a_terminal_is_passed_on(&project);
    assert!(
        project
            .run(&["daemon", "status"])
            .out
            .starts_with("runs: process ")
    );
    assert_eq!(project.run(&["daemon", "stop"]).code, 0);
    assert_eq!(
        project.run(&["exec", "web", "true"]).code,
        0,
        "no daemon is needed"
    );

    assert_eq!(project.run(&["up"]).code, 0);
    let down = project.run(&["down"]);
    assert_eq!(down.code, 0, "{down:?}");
    assert!(kubectl(&["get", "deployments", "-n", &namespace]).contains("No resources"));
    let again = project.run(&["down"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(
        project
            .run(&["daemon", "status"])
            .out
            .contains("does not run")
    );
    let gone = project.run(&["exec", "web", "true"]);
    assert!(
        gone.code == 1 && gone.err.contains("no pod of web runs"),
        "{gone:?}"
    );
}

fn commands_run_in_pods(project: &Project) {
    let ran = project.run(&[
        "exec",
        "web",
        "--",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ]);
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (7, "out\n", "err\n")
    );
    let counted = project.run_with(&["exec", "web", "wc", "-c"], &"x".repeat(300_000));
    assert_eq!(
        (counted.code, counted.out.trim()),
        (0, "300000"),
        "{counted:?}"
    );
    let much = project.run(&["exec", "web", "--", "head", "-c", "3000000", "/dev/zero"]);
    assert_eq!(much.out.len(), 3_000_000);
    let options = project.run(&["exec", "-c", "web", "web", "echo", "-p", "--help"]);
    assert_eq!(options.out, "-p --help\n", "{options:?}");
    let missing = project.run(&["exec", "web", "nowhere"]);
    assert!(
        missing.code == 127 && missing.err.contains("there is no nowhere"),
        "{missing:?}"
    );
    let container = project.run(&["exec", "web", "-c", "other", "ls"]);
    assert!(
        container.code == 2 && container.err.contains("it has web"),
        "{container:?}"
    );
    let shell = project.run_with(&["shell", "web"], "cat /www/index.html; exit 3\n");
    assert_eq!(
        (shell.code, shell.out.as_str()),
        (3, "hello\n"),
        "{shell:?}"
    );
}

/// Its size there, its modes as before here, and Ctrl-C to the command.
fn a_terminal_is_passed_on(project: &Project) {
    // The size comes when the command has begun; without one, busybox prints nothing and is content.
    let size = "tty; n=0; \
        until size=$(stty size 2>/dev/null); [ -n \"$size\" ] || [ $n = 100 ]; do n=$((n+1)); sleep 0.1; done; \
        echo $size";
    let inside = format!("stty rows 33 cols 91; {PROGRAM} exec web -- sh -c '{size}'; stty -a");
    let output = project
        .command("script")
        .args(["-qec", &inside, "/dev/null"])
        .output();
    let ran: Ran = output.expect("script runs").into();
    assert!(
        ran.out.contains("/dev/pts/") && ran.out.contains("33 91"),
        "{ran:?}"
    );
    assert!(
        ran.out.contains(" icanon") && ran.out.contains(" echo "),
        "{ran:?}"
    );
    let trap = "trap 'echo caught; exit 9' INT; echo waiting; while :; do sleep 0.1; done";
    let inside = format!("{PROGRAM} exec web -- sh -c \"{trap}\"");
    let interrupted = interrupt(project, &inside);
    assert!(
        interrupted.code == 9 && interrupted.out.contains("caught"),
        "{interrupted:?}"
    );
}

/// Presses Ctrl-C when the command says that it waits.
fn interrupt(project: &Project, inside: &str) -> Ran {
    use std::io::{Read, Write};
    use std::process::Stdio;
    let child = project
        .command("script")
        .args(["-qec", inside, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.expect("script runs");
    let mut keys = child.stdin.take().expect("standard input is piped");
    let mut screen = child.stdout.take().expect("standard output is piped");
    let mut out = String::new();
    let mut buffer = [0; 4096];
    let mut pressed = false;
    while let Ok(read @ 1..) = screen.read(&mut buffer) {
        out.push_str(&String::from_utf8_lossy(&buffer[..read]));
        if !pressed && out.contains("waiting") {
            keys.write_all(b"\x03").expect("a key");
            pressed = true;
        }
    }
    let code = child.wait().expect("it ends").code().unwrap_or(-1);
    Ran {
        code,
        out,
        err: String::new(),
    }
}
