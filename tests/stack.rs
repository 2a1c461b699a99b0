//! `stack.yaml` as people write it: what it becomes, and what they are told when it is wrong.

use std::fs;
use std::path::Path;
use std::time::Duration;

use llmdev::error::{Failure, Kind};
use llmdev::stack::{
    self, BuildSpec, Chart, Dev, ForwardSpec, Provider, RenderStep, Resources, SecretSource,
    Selection, Stack, SyncAfter, SyncRule, WorkloadSpec,
};
use proptest::prelude::*;
use tempfile::TempDir;

/// Every key once.
const FULL: &str = r#"apiVersion: llmdev/v1
name: llm-stack
cluster:
  provider: kind
  name: llm-stack
  create: true
  cpus: 8
  memory: 16Gi
  disk: 20Gi
  nodes: 2
  image: kindest/node:v1.35.0
  kubernetesVersion: 1.35
  config: kind.yaml
  registry: localhost:5001
namespace: default
render:
  - kustomize: k8s/overlays/dev
  - helm: { release: router, chart: charts/router, values: [values-dev.yaml], set: { replicas: 2 } }
  - manifests: [k8s/*.yaml]
services:
  postgres:
    workload: statefulset/postgres
    forward: [5432]
  litellm:
    build:
      context: services/litellm
      dockerfile: Dockerfile
      target: dev
      args: { PYTHON: 3.10, DEBUG: true }
      secrets: { token: { env: TOKEN }, netrc: { file: .netrc } }
      requires: { BASE: base }
      image: acme/litellm
    workload: deploy/litellm
    dependsOn: [postgres]
    forward: [4000, "8080:80", { local: 9000, remote: 90, address: 0.0.0.0 }]
    sync:
      - { src: "config/**", dest: /app/config, strip: config/, restart: true, container: proxy }
      - { infer: ["**/*.py"], exec: [kill, -HUP, 1] }
    readyTimeout: 1m30s
    dev: { fastRollout: true }
  base:
    build: services/base
    workload: none
    imageIn:
      - { env: BASE_IMAGE }
      - { kind: ConfigMap, name: images, path: "data['base.image']" }
      - { kind: Workflow, path: "spec.steps[*].image" }
secrets:
  - { name: litellm-secret, envFile: .env.local, keys: { openai-api-key: OPENAI_API_KEY } }
dev: { resources: fit, replicas: 1, storage: shrink, accessModes: single, loadBalancer: clusterIP }
strict: true
check:
  ignore:
    - { rule: cpu-limit, reason: one tenant a node, objects: [Deployment/dev-*] }
hooks:
  beforeBuild: ["make 'all of it'", [echo, hello]]
  afterReady: []
profiles:
  offline:
    activate: { env: LLMDEV_OFFLINE=1 }
    patch:
      services:
        litellm:
          build: { target: offline }
          forward: [4001]
          sync: null
  remote:
    activate: { context: "gke_*" }
    patch: { namespace: remote }
"#;

/// A folder with all that the file names.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in [
        "kind.yaml",
        "k8s/overlays/dev/kustomization.yaml",
        "k8s/extra.yaml",
        "charts/router/Chart.yaml",
        "values-dev.yaml",
        "services/litellm/Dockerfile",
        "services/base/Dockerfile",
    ] {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    folder
}

fn nothing_set(_: &str) -> Option<String> {
    None
}

fn parse_in(folder: &Path, text: &str, name: Option<&str>) -> Result<Stack, stack::Diagnostics> {
    let selection = Selection {
        name,
        context: None,
        env: &nothing_set,
    };
    stack::parse_with(text, &folder.join("stack.yaml"), &selection)
}

/// What people see, less the folder's name.
fn told(text: &str) -> String {
    told_in(&folder(), text, None)
}

fn told_in(folder: &TempDir, text: &str, profile: Option<&str>) -> String {
    let mistakes = parse_in(folder.path(), text, profile).expect_err("a mistake");
    mistakes
        .render(false)
        .replace(&format!("{}/", folder.path().display()), "")
}

/// The first lines only.
fn heads(text: &str) -> Vec<String> {
    heads_of(&told(text))
}

fn heads_of(told: &str) -> Vec<String> {
    let heads = told.lines().filter(|line| line.starts_with("stack.yaml:"));
    heads
        .map(|line| line.replace("stack.yaml:", "").replace(" error:", ""))
        .collect()
}

/// A file with one service, `x`, of which these are the lines.
fn service(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: llmdev/v1\nname: a\nrender: [kustomize: k8s/overlays/dev]\nservices:\n  y: {{}}\n  x:\n{lines}"
    )
}

#[test]
fn every_key_is_read() {
    let folder = folder();
    let root = folder.path().canonicalize().unwrap();
    let stack = parse_in(folder.path(), FULL, None).unwrap();

    assert_eq!(
        (stack.name.as_str(), stack.namespace.as_str()),
        ("llm-stack", "default")
    );
    assert_eq!(
        (&stack.root, &stack.file),
        (&root, &root.join("stack.yaml"))
    );
    let cluster = &stack.cluster;
    assert_eq!(cluster.provider, Some(Provider::Kind));
    assert_eq!(
        (cluster.cpus, cluster.memory, cluster.nodes),
        (Some(8), Some(16 << 30), Some(2))
    );
    assert_eq!(cluster.disk, Some(20 << 30));
    assert_eq!(stack.dev.resources, Some(stack::Resources::Fit));
    assert_eq!(cluster.kubernetes_version.as_deref(), Some("v1.35"));
    assert_eq!(cluster.config, Some(root.join("kind.yaml")));
    assert_eq!(cluster.registry.as_deref(), Some("localhost:5001"));
    assert!(cluster.create);

    assert_eq!(
        stack.render[0],
        RenderStep::Kustomize(root.join("k8s/overlays/dev"))
    );
    let RenderStep::Helm(helm) = &stack.render[1] else {
        panic!("{:?}", stack.render[1])
    };
    assert_eq!(
        (&helm.chart, &helm.set["replicas"]),
        (&Chart::Folder(root.join("charts/router")), &"2".to_owned())
    );
    assert_eq!(
        stack.render[2],
        RenderStep::Manifests(vec!["k8s/*.yaml".to_owned()])
    );

    let names: Vec<&str> = stack
        .services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert_eq!(names, ["postgres", "litellm", "base"]);
    let litellm = stack.service(stack.find("litellm").unwrap());
    let build = litellm.build.as_ref().unwrap();
    assert_eq!(build.image, "acme/litellm");
    assert_eq!(build.context, root.join("services/litellm"));
    assert_eq!(build.dockerfile, root.join("services/litellm/Dockerfile"));
    // As it is written: 3.10 is not 3.1.
    assert_eq!(
        (build.args["PYTHON"].as_str(), build.args["DEBUG"].as_str()),
        ("3.10", "true")
    );
    assert_eq!(
        build.secrets["token"],
        SecretSource::Env("TOKEN".to_owned())
    );
    assert_eq!(
        build.secrets["netrc"],
        SecretSource::File(root.join(".netrc"))
    );
    assert_eq!(build.requires["BASE"], stack.find("base").unwrap());
    let workload = WorkloadSpec::Named {
        kind: "deployment".into(),
        name: "litellm".into(),
    };
    assert_eq!(litellm.workload, workload);
    assert_eq!(litellm.depends_on, [stack.find("postgres").unwrap()]);
    let forward = |local, remote, address: Option<&str>| ForwardSpec {
        local,
        remote,
        address: address.map(|address| address.parse().unwrap()),
    };
    let forwards = [
        forward(4000, 4000, None),
        forward(8080, 80, None),
        forward(9000, 90, Some("0.0.0.0")),
    ];
    assert_eq!(litellm.forwards, forwards);
    let manual = SyncRule::Manual {
        src: "config/**".into(),
        dest: "/app/config".into(),
        strip: "config".into(),
        after: SyncAfter::Restart,
        container: Some("proxy".into()),
    };
    assert_eq!(litellm.sync[0], manual);
    let exec = SyncAfter::Exec(vec!["kill".into(), "-HUP".into(), "1".into()]);
    assert_eq!(
        litellm.sync[1],
        SyncRule::Infer {
            globs: vec!["**/*.py".into()],
            after: exec
        }
    );
    assert_eq!(litellm.ready_timeout, Duration::from_secs(90));
    assert!(litellm.fast_rollout);
    let base = stack.service(stack.find("base").unwrap());
    assert_eq!(
        base.build.as_ref().map(|build| build.image.as_str()),
        Some("base")
    );
    assert_eq!(base.workload, WorkloadSpec::None);
    let places: Vec<_> = base.image_in.iter().map(ToString::to_string).collect();
    assert_eq!(
        places,
        [
            "the env value BASE_IMAGE",
            "data['base.image'] of ConfigMap images",
            "spec.steps[*].image of Workflow"
        ]
    );

    let dev = Dev {
        resources: Some(Resources::Fit),
        replicas: Some(1),
        shrink_storage: true,
        single_access: true,
        cluster_ip: true,
    };
    assert_eq!((stack.dev, stack.strict), (dev, true));
    assert_eq!(stack.secrets[0].env_file, root.join(".env.local"));
    assert_eq!(stack.secrets[0].keys["openai-api-key"], "OPENAI_API_KEY");
    assert_eq!(
        stack.hooks.before_build,
        [vec!["make", "all of it"], vec!["echo", "hello"]]
    );
    let ignore = stack::Ignore {
        rule: "cpu-limit".into(),
        reason: "one tenant a node".into(),
        objects: vec!["deployment/dev-*".into()],
    };
    assert_eq!(stack.ignore, [ignore]);
}

#[test]
fn what_is_left_out_has_defaults() {
    let folder = folder();
    let stack = parse_in(folder.path(), &service("forward:"), None).unwrap();
    assert_eq!(stack.namespace, "default");
    assert_eq!((stack.cluster.provider, stack.cluster.create), (None, true));
    let service = &stack.services[1];
    assert_eq!(service.build, None::<BuildSpec>);
    assert_eq!(service.workload, WorkloadSpec::ByName);
    assert_eq!(service.ready_timeout, Duration::from_secs(180));
    assert!(!service.fast_rollout && service.forwards.is_empty());
}

/// The shape that most files have, comments and all.
#[test]
fn a_plain_stack_has_no_mistake() {
    let text = r#"# Seven services, fewer here.
apiVersion: llmdev/v1
name: llm-stack

cluster: { name: llm-stack, create: true, cpus: 4, memory: 8Gi }
namespace: default

render:
  - kustomize: k8s/overlays/dev

services:
  postgres:
    build: { context: services/base }
    workload: statefulset/dev-postgres # could be left out
    forward: [5432]

  redis:
    forward: [6379]

  litellm:
    build: { context: services/litellm, target: dev }
    dependsOn: [redis, postgres]
    forward: [4000]
    sync: # read when it starts
      - { src: "config.yaml", dest: /app, restart: true }
      - { src: "src/**", dest: /app/src, strip: src }
"#;
    let folder = folder();
    let stack = match parse_in(folder.path(), text, None) {
        Ok(stack) => stack,
        Err(mistakes) => panic!("{}", mistakes.render(false)),
    };
    let litellm = stack.service(stack.find("litellm").unwrap());
    assert_eq!(litellm.depends_on.len(), 2);
    assert_eq!(litellm.sync.len(), 2);
}

#[test]
fn profiles_by_name_environment_and_context() {
    let folder = folder();
    let file = folder.path().join("stack.yaml");
    let offline = |name: &str| (name == "LLMDEV_OFFLINE").then(|| "1".to_owned());
    let other = |name: &str| (name == "LLMDEV_OFFLINE").then(|| "0".to_owned());
    let parse = |name, context, env: &dyn Fn(&str) -> Option<String>| {
        stack::parse_with(FULL, &file, &Selection { name, context, env }).unwrap()
    };
    let is_offline = |stack: &Stack| {
        let litellm = stack.service(stack.find("litellm").unwrap());
        let build = litellm.build.as_ref().unwrap();
        let patched = build.target.as_deref() == Some("offline");
        assert_eq!(patched, litellm.sync.is_empty());
        assert_eq!(patched, litellm.forwards.len() == 1);
        // Mappings merge: what the patch does not name stays.
        assert_eq!(build.image, "acme/litellm");
        patched
    };
    assert!(!is_offline(&parse(None, None, &nothing_set)));
    assert!(!is_offline(&parse(None, None, &other)));
    assert!(is_offline(&parse(None, None, &offline)));
    assert!(is_offline(&parse(Some("offline"), None, &nothing_set)));
    // A name is asked for: nothing else activates itself.
    assert!(!is_offline(&parse(Some("remote"), None, &offline)));
    assert_eq!(
        parse(None, Some("gke_eu"), &nothing_set).namespace,
        "remote"
    );
    assert_eq!(
        parse(None, Some("kind-a"), &nothing_set).namespace,
        "default"
    );
    let both = parse(None, Some("gke_eu"), &offline);
    assert!(is_offline(&both) && both.namespace == "remote");
}

#[test]
fn a_patch_of_a_short_build_keeps_its_context() {
    let folder = folder();
    let patch = "profiles: { p: { patch: { services: { x: { build: { target: dev } } } } } }\n";
    let text = service("build: services/base") + patch;
    let stack = parse_in(folder.path(), &text, Some("p")).unwrap();
    let build = stack.services[1].build.as_ref().unwrap();
    assert_eq!(build.target.as_deref(), Some("dev"));
    assert!(build.context.ends_with("services/base"));
}

#[test]
fn all_mistakes_at_once() {
    let text = r#"apiVersion: llmdev/v1
name: LLM_Stack
cluster: { provider: knid, create: yes, memory: 16GB }
render:
  - kustomize: k8s/overlays/def
servces: {}
services:
  litellm:
    build: { contxt: services/litellm }
    forwrad: [4000]
    dependsOn: [postgress]
    readyTimeout: 90
  postgres:
    forward: [5432, 70000]
    forward: [5433]
"#;
    insta::assert_snapshot!(told(text), @r#"
    stack.yaml:2:7: error: "LLM_Stack" is not a name: lower-case letters, digits and `-` inside are allowed
      |
    2 | name: LLM_Stack
      |       ^^^^^^^^^
      |
      = help: write `llm-stack`

    stack.yaml:3:22: error: expected one of kind, minikube, context, found the text "knid"
      |
    3 | cluster: { provider: knid, create: yes, memory: 16GB }
      |                      ^^^^
      |
      = help: did you mean `kind`?

    stack.yaml:3:36: error: expected true or false, found the text "yes"
      |
    3 | cluster: { provider: knid, create: yes, memory: 16GB }
      |                                    ^^^
      |
      = help: write `true`

    stack.yaml:3:49: error: "16GB" is not an amount of memory
      |
    3 | cluster: { provider: knid, create: yes, memory: 16GB }
      |                                                 ^^^^
      |
      = help: write `16Gi`

    stack.yaml:5:16: error: there is no folder "k8s/overlays/def"
      |
    5 |   - kustomize: k8s/overlays/def
      |                ^^^^^^^^^^^^^^^^
      |
      = help: did you mean `k8s/overlays/dev`?

    stack.yaml:6:1: error: unknown key "servces" at the top level
      |
    6 | servces: {}
      | ^^^^^^^
      |
      = help: did you mean `services`?

    stack.yaml:9:14: error: unknown key "contxt" in build of service "litellm"
      |
    9 |     build: { contxt: services/litellm }
      |              ^^^^^^
      |
      = help: did you mean `context`?

    stack.yaml:10:5: error: unknown key "forwrad" in service "litellm"
       |
    10 |     forwrad: [4000]
       |     ^^^^^^^
       |
       = help: did you mean `forward`?

    stack.yaml:11:17: error: there is no service "postgress"
       |
    11 |     dependsOn: [postgress]
       |                 ^^^^^^^^^
       |
       = help: did you mean `postgres`?

    stack.yaml:12:19: error: the time 90 has no unit
       |
    12 |     readyTimeout: 90
       |                   ^^
       |
       = help: write `90s` for seconds

    stack.yaml:14:21: error: the port 70000 is not between 1 and 65535
       |
    14 |     forward: [5432, 70000]
       |                     ^^^^^

    stack.yaml:15:5: error: key "forward" is here twice
       |
    14 |     forward: [5432, 70000]
       |     ------- the first
    15 |     forward: [5433]
       |     ^^^^^^^
    "#);
}

#[test]
fn circles_show_their_path() {
    let text = r#"apiVersion: llmdev/v1
name: a
render: [kustomize: k8s/overlays/dev]
services:
  a:
    dependsOn: [b]
  b:
    dependsOn: [c]
  c:
    dependsOn:
      - a
  d:
    dependsOn: [d]
"#;
    insta::assert_snapshot!(told(text), @"
    stack.yaml:6:17: error: `dependsOn` goes round in a circle: a → b → c → a
       |
     6 |     dependsOn: [b]
       |                 ^
     7 |   b:
     8 |     dependsOn: [c]
       |                 - b → c
    ...
    11 |       - a
       |         - c → a

    stack.yaml:13:17: error: `dependsOn` goes round in a circle: d → d
       |
    13 |     dependsOn: [d]
       |                 ^
    ");
}

#[test]
fn ports_used_twice() {
    let text = service("forward: [4000, { local: 4001, remote: 80, address: 127.0.0.2 }]")
        + "  z:\n    forward: ['4000:80', 4001, { remote: 4001, address: 0.0.0.0 }]\n";
    insta::assert_snapshot!(told(&text), @r#"
    stack.yaml:9:15: error: the local port 4000 is used twice
      |
    7 |     forward: [4000, { local: 4001, remote: 80, address: 127.0.0.2 }]
      |               ---- service "x" has it
    8 |   z:
    9 |     forward: ['4000:80', 4001, { remote: 4001, address: 0.0.0.0 }]
      |               ^^^^^^^^^
      |
      = help: give one of them another local port, for example "14000:80"

    stack.yaml:9:32: error: the local port 4001 is used twice
      |
    7 |     forward: [4000, { local: 4001, remote: 80, address: 127.0.0.2 }]
      |                     ----------------------------------------------- service "x" has it
    8 |   z:
    9 |     forward: ['4000:80', 4001, { remote: 4001, address: 0.0.0.0 }]
      |                                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: give one of them another local port, for example "14001:4001"
    "#);
}

#[test]
fn files_that_are_not_there() {
    let text = service("build: { context: services/litelm }")
        .replace(
            "y: {}",
            "y: { build: { context: services/base, dockerfile: Dockerfil } }",
        )
        .replace(
            "kustomize: k8s/overlays/dev",
            "kustomize: k8s, manifests: [no/*.yaml]",
        )
        + "cluster: { config: kind.yml }\n";
    insta::assert_snapshot!(told(&text), @r#"
    stack.yaml:3:21: error: the folder "k8s" has no kustomization.yaml
      |
    3 | render: [kustomize: k8s, manifests: [no/*.yaml]]
      |                     ^^^

    stack.yaml:3:38: error: no file matches "no/*.yaml"
      |
    3 | render: [kustomize: k8s, manifests: [no/*.yaml]]
      |                                      ^^^^^^^^^

    stack.yaml:5:53: error: there is no file "Dockerfil"
      |
    5 |   y: { build: { context: services/base, dockerfile: Dockerfil } }
      |                                                     ^^^^^^^^^
      |
      = help: did you mean `Dockerfile`?

    stack.yaml:7:23: error: there is no folder "services/litelm"
      |
    7 |     build: { context: services/litelm }
      |                       ^^^^^^^^^^^^^^^
      |
      = help: did you mean `services/litellm`?

    stack.yaml:8:20: error: there is no file "kind.yml"
      |
    8 | cluster: { config: kind.yml }
      |                    ^^^^^^^^
      |
      = help: did you mean `kind.yaml`?
    "#);
}

#[test]
fn a_charts_values_that_are_not_there() {
    let text = service("forward:").replace(
        "kustomize: k8s/overlays/dev",
        "helm: {release: r, chart: charts/router, values: [values-dev.yaml, values-def.yaml]}",
    );
    insta::assert_snapshot!(told(&text), @r#"
    stack.yaml:3:77: error: there is no file "values-def.yaml"
      |
    3 | render: [helm: {release: r, chart: charts/router, values: [values-dev.yaml, values-def.yaml]}]
      |                                                                             ^^^^^^^^^^^^^^^
      |
      = help: did you mean `values-dev.yaml`?
    "#);
}

#[test]
fn a_chart_that_is_fetched() {
    let with = |helm: &str| service("forward:").replace("kustomize: k8s/overlays/dev", helm);
    let mistakes = [
        "helm: {release: r, chart: redis, repo: charts.example.com, version: ^20}",
        "helm: {release: r, chart: redis, repo: https://charts.example.com}",
        "helm: {release: r, chart: oci://example.com/redis, repo: https://example.com, version: 20.1.0}",
        "helm: {release: r, chart: charts/router, version: 20.1.0}",
    ];
    let said: String = mistakes.map(|helm| told(&with(helm))).join("\n");
    insta::assert_snapshot!(said, @r#"
    stack.yaml:3:49: error: "charts.example.com" is not the address of a repository of charts
      |
    3 | render: [helm: {release: r, chart: redis, repo: charts.example.com, version: ^20}]
      |                                                 ^^^^^^^^^^^^^^^^^^
      |
      = help: write it like https://charts.example.com; a chart of an OCI registry is `chart: oci://…`, without `repo`

    stack.yaml:3:78: error: "^20" is not one version of a chart
      |
    3 | render: [helm: {release: r, chart: redis, repo: charts.example.com, version: ^20}]
      |                                                                              ^^^
      |
      = help: write it like 1.2.3

    stack.yaml:3:36: error: a chart that is fetched needs its `version`
      |
    3 | render: [helm: {release: r, chart: redis, repo: https://charts.example.com}]
      |                                    ^^^^^
      |
      = help: so that what comes up tomorrow is what comes up today

    stack.yaml:3:67: error: an oci:// chart says where it is itself
      |
    3 | render: [helm: {release: r, chart: oci://example.com/redis, repo: https://example.com, versio...
      |                                                                   ^^^^^^^^^^^^^^^^^^^
      |
      = help: take `repo` away

    stack.yaml:3:60: error: a chart in a folder has the version that its Chart.yaml says
      |
    3 | render: [helm: {release: r, chart: charts/router, version: 20.1.0}]
      |                                                            ^^^^^^
      |
      = help: take it away, or say the chart's `repo`
    "#);
}

#[test]
fn another_version() {
    let text = "apiVersion: llmdev/v2\nname: a\nnew: thing\n";
    insta::assert_snapshot!(told(text), @"
    stack.yaml:1:13: error: written for llmdev/v2; this llmdev reads llmdev/v1
      |
    1 | apiVersion: llmdev/v2
      |             ^^^^^^^^^
      |
      = help: update llmdev
    ");
}

#[test]
fn yaml_that_is_none() {
    insta::assert_snapshot!(told("name: a\nservices:\n\tlitellm: {}\n"), @"
    stack.yaml:3:2: error: a tab cannot be used as indentation
      |
    3 |     litellm: {}
      |     ^
      |
      = help: use spaces
    ");
    insta::assert_snapshot!(told("name: [a, b\nservices: {}\n"), @"
    stack.yaml:2:9: error: not valid YAML: illegal placement of ':' indicator
      |
    2 | services: {}
      |         ^
      |
      = help: a bracket, brace or quote is opened here or above, and not closed
    ");
    insta::assert_snapshot!(told("name: \"a\nservices: {}\n"), @"
    stack.yaml:2:1: error: not valid YAML: invalid indentation in multiline quoted scalar
      |
    2 | services: {}
      | ^
      |
      = help: a bracket, brace or quote is opened here or above, and not closed
    ");
    insta::assert_snapshot!(told(""), @"
    stack.yaml:1:1: error: the file is empty
      |
    1 |
      | ^
      |
      = help: begin with `apiVersion: llmdev/v1`
    ");
    insta::assert_snapshot!(told("- a\n- b\n"), @"
    stack.yaml:1:1: error: expected a mapping, found a list
      |
    1 | - a
      | ^^^
      |
      = help: begin with `apiVersion: llmdev/v1`
    ");
}

#[test]
fn profiles_that_do_not_fit() {
    let text = service("forward: [4000]")
        + r#"profiles:
  one:
    activate: { env: OFFLINE }
    patch: { services: { xx: { forward: [1] }, x: { forward: [yes], dependsOn: null } } }
  two: { patch: {} }
"#;
    insta::assert_snapshot!(told(&text), @r#"
    stack.yaml:10:22: error: "OFFLINE" does not say which value
       |
    10 |     activate: { env: OFFLINE }
       |                      ^^^^^^^
       |
       = help: write it like OFFLINE=1

    stack.yaml:11:26: error: profile "one" patches no service "xx"
       |
    11 |     patch: { services: { xx: { forward: [1] }, x: { forward: [yes], dependsOn: null } } }
       |                          ^^
       |
       = help: did you mean `x`?

    stack.yaml:11:63: error: "yes" is not a port
       |
    11 |     patch: { services: { xx: { forward: [1] }, x: { forward: [yes], dependsOn: null } } }
       |                                                               ^^^

    stack.yaml:11:69: error: nothing to remove: there is no "dependsOn"
       |
    11 |     patch: { services: { xx: { forward: [1] }, x: { forward: [yes], dependsOn: null } } }
       |                                                                     ^^^^^^^^^

    stack.yaml:12:17: error: this profile patches nothing
       |
    12 |   two: { patch: {} }
       |                 ^^
    "#);
    let folder = folder();
    insta::assert_snapshot!(told_in(&folder, FULL, Some("offlin")), @r#"
    stack.yaml:59:3: error: there is no profile "offlin"
       |
    59 |   offline:
       |   ^^^^^^^
       |
       = help: did you mean `offline`?
    "#);
}

#[test]
fn a_mistake_in_a_patch_is_the_same_whether_it_holds_or_not() {
    let text = service("forward: [4000]")
        + "profiles:\n  p:\n    patch:\n      services: { x: { forward: [0] }, y: { dependsOn: [x, z] } }\n";
    let folder = folder();
    let holds = told_in(&folder, &text, Some("p"));
    assert_eq!(holds, told_in(&folder, &text, None));
    assert_eq!(heads_of(&holds).len(), 2, "{holds}");
    // A circle that only the patch closes.
    let text = service("dependsOn: [y]")
        + "profiles: { p: { patch: { services: { y: { dependsOn: [x] } } } } }\n";
    assert_eq!(heads(&text).len(), 1);
}

/// A line of a service, and what is said of it, as LINE:COLUMN: MESSAGE.
#[test]
fn what_a_service_may_not_say() {
    let table = [
        "forward: 4000",
        "forward: [0]",
        "forward: [http]",
        "forward: ['80:80:80']",
        "forward: [{ local: 80 }]",
        "forward: [{ remote: 80, address: localhost }]",
        "forward: [[80]]",
        "dependsOn: y",
        "dependsOn: [y, y]",
        "workload: litellm",
        "workload: deploymnt/litellm",
        "workload: 5",
        "readyTimeout: soon",
        "dev: { fastRollout: on }",
        "dev: { fastRollout: 'true' }",
        "dev: { fastRollout: 1 }",
        "build: {}",
        "build: { context: services/base, image: 'base:dev' }",
        "build: { context: services/base, requires: { BASE: y } }",
        "build: { context: services/base, requires: { BASE: x } }",
        "build: { context: services/base, secrets: { t: { file: a, env: B } } }",
        "build: services/base/Dockerfile",
        "build: ~/services",
        "sync: [{ src: a, dest: /a }]",
        "build: services/base\nsync: [{ src: /a, dest: a }]",
        "build: services/base\nsync: [{ src: '[a', dest: /a/../b }]",
        "build: services/base\nsync: [{ src: a, dest: /a, restart: true, exec: [b] }]",
        "build: services/base\nsync: [{ infer: ['*.py'], dest: /a, exec: [] }]",
        "build: services/base\nsync: [{ strip: 2 }]",
        "forward: &a [*a]",
        "forward: !port [80]",
        "<<: { forward: [80] }",
        "[a]: b",
        "env: {}",
        "build: services/base\nworkload: none\nforward: [80]\nsync: [{ src: a, dest: /a }]",
        "build: { context: }",
    ];
    let told: Vec<String> = table
        .iter()
        .map(|lines| format!("{lines}\n    {}\n", heads(&service(lines)).join("\n    ")))
        .collect();
    insta::assert_snapshot!(told.concat(), @r#"
    forward: 4000
        7:14: expected a list, found the number 4000
    forward: [0]
        7:15: the port 0 is not between 1 and 65535
    forward: [http]
        7:15: "http" is not a port
    forward: ['80:80:80']
        7:15: "80:80:80" is not a forward
    forward: [{ local: 80 }]
        7:15: missing key "remote" in a forward of service "x"
    forward: [{ remote: 80, address: localhost }]
        7:38: "localhost" is not an IP address
    forward: [[80]]
        7:15: expected a port, LOCAL:REMOTE, or a mapping, found a list
    dependsOn: y
        7:16: expected a list, found the text "y"
    dependsOn: [y, y]
        7:20: "y" is in `dependsOn` twice
    workload: litellm
        7:15: "litellm" is not a workload
    workload: deploymnt/litellm
        7:15: "deploymnt" is not a kind that llmdev follows
    workload: 5
        7:15: expected text, found the number 5
    readyTimeout: soon
        7:19: "soon" is not a time
    dev: { fastRollout: on }
        7:25: expected true or false, found the text "on"
    dev: { fastRollout: 'true' }
        7:25: expected true or false, found the text "true"
    dev: { fastRollout: 1 }
        7:25: expected true or false, found the number 1
    build: {}
        7:5: missing key "context" in build of service "x"
    build: { context: services/base, image: 'base:dev' }
        7:45: the image's name has a tag; llmdev sets it
    build: { context: services/base, requires: { BASE: y } }
        7:56: service "y" has no build, so no image of its own
    build: { context: services/base, requires: { BASE: x } }
        7:56: `requires` goes round in a circle: x → x
    build: { context: services/base, secrets: { t: { file: a, env: B } } }
        7:49: the build secret "t" needs `file` or `env`, one of them
    build: services/base/Dockerfile
        7:12: "services/base/Dockerfile" is not a folder
    build: ~/services
        7:12: there is no folder "~/services"
    sync: [{ src: a, dest: /a }]
        7:5: `sync` needs `build`
    build: services/base
    sync: [{ src: /a, dest: a }]
        8:19: the pattern is absolute
        8:29: "a" is not absolute
    build: services/base
    sync: [{ src: '[a', dest: /a/../b }]
        8:19: "[a" is not a pattern: unclosed character class; missing ']'
        8:31: "/a/../b" has `..` in it
    build: services/base
    sync: [{ src: a, dest: /a, restart: true, exec: [b] }]
        8:47: a sync rule has `restart` or `exec`, not both
    build: services/base
    sync: [{ infer: ['*.py'], dest: /a, exec: [] }]
        8:31: unknown key "dest" in a sync rule of service "x"
        8:47: the command is empty
    build: services/base
    sync: [{ strip: 2 }]
        8:12: missing key "dest" in a sync rule of service "x"
        8:12: missing key "src" in a sync rule of service "x"
        8:21: expected text, found the number 2
    forward: &a [*a]
        7:18: this alias stands for something that contains it
    forward: !port [80]
        7:14: the tag !port means nothing here
    <<: { forward: [80] }
        7:5: unknown key "<<" in service "x"
    [a]: b
        7:5: expected a key, found a list
    env: {}
        7:5: unknown key "env" in service "x"
    build: services/base
    workload: none
    forward: [80]
    sync: [{ src: a, dest: /a }]
        9:5: `forward` needs a workload, and this service has none
        10:5: `sync` needs a workload, and this service has none
    build: { context: }
        7:14: key "context" has nothing after it
    "#);
}

#[test]
fn a_rule_is_switched_off_by_its_name_and_with_a_reason() {
    let mistakes = told(
        "apiVersion: llmdev/v1
name: x
render: [{ manifests: [k8s/*.yaml] }]
services: { x: {} }
check:
  ignore:
    - { rule: cpu-limits, reason: one tenant a node }
    - { rule: nonsense, reason: why not }
    - { rule: cpu-limit }
    - { rule: cpu-limit, reason: ' ' }
    - { rule: cpu-limit, reason: one tenant, objects: [web, 'job/[a'] }
    - { rule: cpu-limit, raeson: one tenant }
  ingore: []
",
    );
    insta::assert_snapshot!(mistakes, @r#"
    stack.yaml:7:15: error: there is no rule "cpu-limits"
      |
    7 |     - { rule: cpu-limits, reason: one tenant a node }
      |               ^^^^^^^^^^
      |
      = help: did you mean `cpu-limit`?

    stack.yaml:8:15: error: there is no rule "nonsense"
      |
    8 |     - { rule: nonsense, reason: why not }
      |               ^^^^^^^^
      |
      = help: `llmdev check --list` shows all rules

    stack.yaml:9:7: error: missing key "reason" in an entry of ignore
      |
    9 |     - { rule: cpu-limit }
      |       ^

    stack.yaml:10:34: error: the reason is empty
       |
    10 |     - { rule: cpu-limit, reason: ' ' }
       |                                  ^^^

    stack.yaml:11:56: error: "web" does not say which kind
       |
    11 |     - { rule: cpu-limit, reason: one tenant, objects: [web, 'job/[a'] }
       |                                                        ^^^
       |
       = help: write `deployment/web`, or `*/web`

    stack.yaml:11:61: error: "job/[a" is not a pattern: unclosed character class; missing ']'
       |
    11 |     - { rule: cpu-limit, reason: one tenant, objects: [web, 'job/[a'] }
       |                                                             ^^^^^^^^

    stack.yaml:12:26: error: unknown key "raeson" in an entry of ignore
       |
    12 |     - { rule: cpu-limit, raeson: one tenant }
       |                          ^^^^^^
       |
       = help: did you mean `reason`?

    stack.yaml:13:3: error: unknown key "ingore" in check
       |
    13 |   ingore: []
       |   ^^^^^^
       |
       = help: did you mean `ignore`?
    "#);
}

#[test]
fn a_minikube_profile_is_described() {
    let folder = folder();
    let cluster = "cluster: { provider: minikube, name: dev, cpus: 4, driver: docker, containerRuntime: cri-o }\n";
    let text = service("forward: [4000]") + cluster;
    let cluster = parse_in(folder.path(), &text, None).unwrap().cluster;
    assert_eq!(cluster.provider, Some(Provider::Minikube));
    assert_eq!(cluster.driver.as_deref(), Some("docker"));
    assert_eq!(cluster.container_runtime.as_deref(), Some("cri-o"));
    assert_eq!((cluster.cpus, cluster.create), (Some(4), true));
}

#[test]
fn what_the_rest_may_not_say() {
    let base = service("forward: [4000]");
    let table = [
        "cluster: { provider: context, create: true }",
        "cluster: { provider: minikube, config: kind.yaml }",
        "cluster: { driver: docker, containerRuntime: crio }",
        "cluster: { cpus: 0.5, nodes: '2', memory: lots, registry: 'http://a' }",
        "cluster: [kind]",
        "namespace: 5",
        "secrets: [{ name: a, envFile: .env, keys: { k: $KEY } }, { name: a, envFile: b, keys: {} }]",
        "secrets: [{ name: a }]",
        "hooks: { beforeBuild: make, afterReady: [\"'a\", [], {}] }",
        "profiles: [a]",
        "name: b",
        "---\nname: b",
    ];
    let told: Vec<String> = table
        .iter()
        .map(|line| {
            format!(
                "{line}\n    {}\n",
                heads(&format!("{base}{line}\n")).join("\n    ")
            )
        })
        .collect();
    insta::assert_snapshot!(told.concat(), @r#"
    cluster: { provider: context, create: true }
        8:39: a cluster of the provider `context` cannot be created
    cluster: { provider: minikube, config: kind.yaml }
        8:32: `config` is for the provider kind only
    cluster: { driver: docker, containerRuntime: crio }
        8:12: `driver` is for the provider minikube only
        8:28: `containerRuntime` is for the provider minikube only
        8:46: expected one of docker, containerd, cri-o, found the text "crio"
    cluster: { cpus: 0.5, nodes: '2', memory: lots, registry: 'http://a' }
        8:18: expected a whole number from 1, found the number 0.5
        8:30: expected a number, found the text "2"
        8:43: "lots" is not an amount of memory
        8:59: a registry is named without a scheme
    cluster: [kind]
        8:10: expected a mapping, found a list
    namespace: 5
        8:12: expected text, found the number 5
    secrets: [{ name: a, envFile: .env, keys: { k: $KEY } }, { name: a, envFile: b, keys: {} }]
        8:48: "$KEY" is not a variable's name
        8:66: the secret "a" is here twice
    secrets: [{ name: a }]
        8:11: missing key "envFile" in a secret
        8:11: missing key "keys" in a secret
    hooks: { beforeBuild: make, afterReady: ["'a", [], {}] }
        8:23: expected a list, found the text "make"
        8:42: a quote in the command is not closed
        8:48: the command is empty
        8:52: expected a command, as text or as a list of words, found a mapping
    profiles: [a]
        8:11: expected a mapping, found a list
    name: b
        8:1: key "name" is here twice
    ---
    name: b
        8:1: a second YAML document begins here
    "#);
}

#[test]
fn aliases_are_read_within_bounds() {
    let folder = folder();
    let text = service("forward: &ports [4000]\nreadyTimeout: &time 5m")
        + "  z:\n    readyTimeout: *time\n";
    assert_eq!(
        parse_in(folder.path(), &text, None).unwrap().services[2]
            .ready_timeout
            .as_secs(),
        300
    );

    let mut laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (last, next) in ('a'..='i').zip('b'..='j') {
        let many = vec![format!("*{last}"); 9].join(", ");
        laughs += &format!("{next}: &{next} [{many}]\n");
    }
    let told = heads(&laughs);
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("more than 20000 values"), "{told:?}");
    let deep = "[".repeat(200_000);
    assert!(
        heads(&deep)[0].contains("nested more than"),
        "{:?}",
        heads(&deep)
    );
    let chain: String = (1..200)
        .map(|i| format!("a{i}: &a{i} [*a{}]\n", i - 1))
        .collect();
    assert!(heads(&format!("a0: &a0 x\n{chain}"))[0].contains("nested more than"));
}

#[test]
fn nobody_is_shown_a_megabyte() {
    let long = "ü".repeat(400_000);
    let text = format!(
        "apiVersion: llmdev/v1\nname: {long}\nservices: {{ x: {{ forward: [{long}] }} }}\n"
    );
    let told = told(&text);
    assert!(told.len() < 4000, "{} bytes", told.len());
    let many: String = (0..200).map(|i| format!("key{i}: x\n")).collect();
    let folder = folder();
    let mistakes = parse_in(folder.path(), &many, None).unwrap_err();
    // Those, and the four keys that are needed.
    assert_eq!(mistakes.list().len(), 204);
    assert!(mistakes.render(false).ends_with("\nand 154 more\n"));
}

#[test]
fn colour_when_asked_for() {
    let folder = folder();
    let mistakes = parse_in(folder.path(), "name: A\n", None).unwrap_err();
    assert!(mistakes.render(true).contains("\u{1b}["));
    assert!(!mistakes.render(false).contains('\u{1b}'));
}

#[test]
fn files_that_cannot_be_read() {
    let folder = folder();
    let file = folder.path().join("stack.yaml");
    let failure = |bytes: &[u8]| -> Failure {
        fs::write(&file, bytes).unwrap();
        stack::read(&file, None).unwrap_err()
    };
    let missing = stack::read(&file, None).unwrap_err();
    assert_eq!(missing.kind, Kind::Config);
    assert!(missing.line().contains("No such file"), "{missing}");

    let binary = failure(b"apiVersion: llmdev/v1\nname: \xff\xfe\n");
    assert!(binary.detail[0].ends_with("stack.yaml:2:7: error: this is not UTF-8 text"));
    let large = failure("# ü\n".repeat(1 << 19).as_bytes());
    assert!(large.detail[0].ends_with(":1:1: error: the file is larger than 1 MiB"));
    let two = failure(b"apiVersion: llmdev/v1\nname: a\n");
    assert!(two.what.ends_with("stack.yaml has 2 mistakes"), "{two}");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(stack::read(&file, None).unwrap_err().kind, Kind::Config);
}

#[test]
fn a_byte_order_mark_and_windows_lines_do_not_matter() {
    let folder = folder();
    let windows = format!("\u{feff}{}", FULL.replace('\n', "\r\n"));
    let unix = parse_in(folder.path(), FULL, None).unwrap();
    assert_eq!(parse_in(folder.path(), &windows, None).unwrap(), unix);
    let told = heads(&windows.replace("\r\nnamespace:", "\r\nnamespce:"));
    assert_eq!(told, ["15:1: unknown key \"namespce\" at the top level"]);
}

#[test]
fn the_nearest_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("a/b");
    fs::create_dir_all(&inner).unwrap();
    let failure = stack::find(&inner).unwrap_err();
    assert_eq!(failure.kind, Kind::Config);
    assert!(failure.line().contains(&inner.display().to_string()));
    assert!(failure.remedy.unwrap().contains("-f FILE"));
    fs::write(folder.path().join("stack.yaml"), "").unwrap();
    assert_eq!(
        stack::find(&inner).unwrap(),
        folder.path().join("stack.yaml")
    );
}

/// The part of JSON Schema that ours uses.
fn fits(schema: &serde_json::Value, at: &serde_json::Value, value: &serde_json::Value) -> bool {
    use serde_json::Value;
    if let Some(name) = at.get("$ref").and_then(Value::as_str) {
        return fits(schema, schema.pointer(&name[1..]).unwrap(), value);
    }
    let is = |name: &Value| match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    };
    let types = at.get("type").is_none_or(|it| match it {
        Value::Array(any) => any.iter().any(is),
        one => is(one),
    });
    let one = at.get("const").is_none_or(|it| it == value);
    let word = at
        .get("enum")
        .is_none_or(|it| it.as_array().unwrap().contains(value));
    let any = at.get("anyOf").and_then(Value::as_array);
    let any = any.is_none_or(|any| any.iter().any(|it| fits(schema, it, value)));
    let items = value.as_array().is_none_or(|items| {
        at.get("items")
            .is_none_or(|it| items.iter().all(|item| fits(schema, it, item)))
    });
    let keys = value.as_object().is_none_or(|map| {
        let required = at.get("required").and_then(Value::as_array);
        required.is_none_or(|keys| {
            keys.iter()
                .all(|key| map.contains_key(key.as_str().unwrap()))
        }) && map.iter().all(|(key, value)| {
            match (&at["properties"][key], &at["additionalProperties"]) {
                (Value::Null, Value::Bool(false)) => false,
                (Value::Null, Value::Null) => true,
                (Value::Null, other) => fits(schema, other, value),
                (own, _) => fits(schema, own, value),
            }
        })
    });
    types && one && word && any && items && keys
}

#[test]
fn the_schema_takes_what_is_read_and_nothing_misspelt() {
    let schema = stack::schema();
    let fits = |text: &str| {
        let value: serde_json::Value = serde_yaml::from_str(text).unwrap();
        fits(&schema, &schema, &value)
    };
    assert!(fits(FULL));
    assert!(fits(&service("build: services/base\nforward:")));
    for (right, wrong) in [
        ("namespace: default", "namespce: default"),
        ("fastRollout: true", "fastRollout: maybe"),
        ("forward: [5432]", "forward: 5432"),
        ("restart: true", "restrat: true"),
        ("provider: kind", "provider: knid"),
        (
            "      services:\n        litellm:\n",
            "      services:\n        litellm:\n          buld: 1\n",
        ),
        ("env: LLMDEV", "environment: LLMDEV"),
        ("rule: cpu-limit", "rule: cpu-limits"),
        ("reason: one tenant a node, ", ""),
    ] {
        let text = FULL.replace(right, wrong);
        assert!(text != FULL && !fits(&text), "{wrong}");
    }
}

fn check_no_panic(folder: &Path, text: &str) {
    if let Err(mistakes) = parse_in(folder, text, None) {
        assert!(!mistakes.list().is_empty());
        for mistake in mistakes.list() {
            let spans = mistake
                .also
                .iter()
                .map(|(span, _)| span)
                .chain([&mistake.span]);
            for span in spans {
                assert!(
                    text.get(span.clone()).is_some(),
                    "{span:?} is not in {text:?}"
                );
            }
            let (line, column) = mistakes.position(mistake);
            assert!(line <= text.split('\n').count() && column >= 1);
            assert!(!mistake.message.is_empty() && !mistake.message.contains('\n'));
        }
        mistakes.render(true);
    }
}

/// A cut, an insertion or a doubling somewhere in the text.
fn mutated() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "",
        " ",
        "\n",
        "\t",
        ":",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "!x ",
        "\"",
        "'",
        "|",
        ">",
        "#",
        "null",
        "yes",
        "-1",
        "0",
        "99999999999999999999",
        "ü",
        "\u{feff}",
        "\0",
        "---\n",
        "...",
        "%YAML 1.1\n",
        "? ",
        "<<: ",
        "profiles:",
        "services:",
        "  x: {}",
        "..",
        "/",
        "**",
        "1e400",
        ".inf",
    ]);
    let change = (any::<prop::sample::Index>(), 0..12usize, piece);
    prop::collection::vec(change, 1..6).prop_map(|changes| {
        let mut text: Vec<char> = FULL.chars().collect();
        for (at, cut, piece) in changes {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, piece.chars());
        }
        text.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}|[-a-z0-9:{}\\[\\]&*!|>'\"%#?,. \n\t]{0,200}") {
        check_no_panic(Path::new("/nonexistent"), &text);
    }

    #[test]
    fn no_change_makes_it_panic(text in mutated()) {
        check_no_panic(Path::new("/nonexistent"), &text);
    }

    /// The schema is no stricter than the reader. (A YAML reader of another kind may not read what ours does.)
    #[test]
    fn what_is_read_fits_the_schema(text in mutated()) {
        let folder = folder();
        // JSON has no such number.
        let finite = !text.contains(".inf") && !text.contains("1e400");
        if finite
            && parse_in(folder.path(), &text, None).is_ok()
            && let Ok(value) = serde_yaml::from_str::<serde_json::Value>(&text)
        {
            let schema = stack::schema();
            prop_assert!(fits(&schema, &schema, &value), "{}", text);
        }
    }

    #[test]
    fn mistakes_are_in_order(text in mutated()) {
        if let Err(mistakes) = parse_in(Path::new("/nonexistent"), &text, None) {
            let starts: Vec<usize> = mistakes.list().iter().map(|it| it.span.start).collect();
            prop_assert!(starts.is_sorted());
        }
    }
}

#[test]
fn dev_of_the_stack_is_a_closed_set() {
    let mistake = |dev: &str| told(&format!("{}dev: {dev}\n", service("forward:")));
    insta::assert_snapshot!(mistake("{ resources: fti }"), @r#"
    stack.yaml:8:19: error: expected one of fit, half, found the text "fti"
      |
    8 | dev: { resources: fti }
      |                   ^^^
      |
      = help: did you mean `fit`?
    "#);
    insta::assert_snapshot!(mistake("{ resource: fit }"), @r#"
    stack.yaml:8:8: error: unknown key "resource" in dev
      |
    8 | dev: { resource: fit }
      |        ^^^^^^^^
      |
      = help: did you mean `resources`?
    "#);
    let folder = folder();
    let text = |dev: &str| format!("{}{dev}\n", service("forward:"));
    for (dev, expected) in [
        ("", None),
        ("dev:", None),
        ("dev: { resources: half }", Some(stack::Resources::Half)),
        (
            "profiles: { p: { patch: { dev: { resources: fit } } } }",
            Some(stack::Resources::Fit),
        ),
    ] {
        let profile = dev.starts_with("profiles").then_some("p");
        let stack = parse_in(folder.path(), &text(dev), profile).unwrap();
        assert_eq!(stack.dev.resources, expected, "{dev}");
    }
}
