//! From manifests to the objects that are applied, with the real kustomize, kubectl and helm.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use llmdev::error::{Failure, Kind};
use llmdev::owner::Owner;
use llmdev::render::{Object, Rendered, render, to_yaml};
use llmdev::stack::{self, Stack};
use serde_json::{Value, json};

/// A folder with a stack in it.
struct Sandbox {
    dir: tempfile::TempDir,
    cache: tempfile::TempDir,
}

impl Sandbox {
    fn new(files: &[(&str, &str)]) -> Self {
        let sandbox = Sandbox {
            dir: tempfile::tempdir().unwrap(),
            cache: tempfile::tempdir().unwrap(),
        };
        for (name, text) in files {
            sandbox.write(name, text);
        }
        sandbox
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn root(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    fn stack(&self, rest: &str) -> Stack {
        let services = if rest.contains("services:") {
            ""
        } else {
            "services: {none: {workload: none}}"
        };
        let text = format!("apiVersion: llmdev/v1\nname: test\n{rest}{services}\n");
        stack::parse(&text, &self.root().join("stack.yaml"), None)
            .unwrap_or_else(|mistakes| panic!("{}", mistakes.render(false)))
    }

    async fn render(&self, rest: &str, images: &[(&str, &str)]) -> Result<Rendered, Failure> {
        let stack = self.stack(rest);
        let images = images
            .iter()
            .map(|(name, to)| ((*name).into(), (*to).into()));
        render(
            &stack,
            &Owner::of(&stack),
            &images.collect(),
            self.cache.path(),
        )
        .await
    }
}

fn deployment(name: &str, image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  \
         selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    \
         spec: {{containers: [{{name: c, image: '{image}'}}]}}\n---\n"
    )
}

fn find<'a>(rendered: &'a Rendered, id: &str) -> &'a Object {
    rendered
        .objects
        .iter()
        .find(|object| object.id() == id)
        .unwrap_or_else(|| panic!("no {id}"))
}

fn at<'a>(object: &'a Object, path: &str) -> &'a Value {
    object
        .value
        .pointer(path)
        .unwrap_or_else(|| panic!("no {path} in {}", object.value))
}

/// With what is not the same on another machine taken out.
fn said(sandbox: &Sandbox, failure: &Failure) -> String {
    let mut lines = vec![failure.line()];
    lines.extend(failure.detail.iter().map(|line| format!("  {line}")));
    lines.extend(failure.remedy.iter().map(|line| format!("> {line}")));
    lines
        .join("\n")
        .replace(sandbox.root().to_str().unwrap(), "ROOT")
}

const MANIFESTS: &str = "render: [{manifests: ['k8s/*.yaml']}]\n";

#[tokio::test]
async fn the_llm_stack_is_rendered_whole_and_from_memory_the_second_time() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stack = stack::read(&root.join("stack.yaml"), None).unwrap();
    let owner = Owner::of(&stack);
    let builds = stack
        .services
        .iter()
        .filter_map(|service| service.build.as_ref());
    let images: BTreeMap<String, String> = builds
        .map(|build| (build.image.clone(), format!("{}:llmdev-1", build.image)))
        .collect();
    let cache = tempfile::tempdir().unwrap();
    let first = render(&stack, &owner, &images, cache.path()).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..10 {
        let began = Instant::now();
        let again = render(&stack, &owner, &images, cache.path()).await.unwrap();
        times.push(began.elapsed());
        assert_eq!(again.objects, first.objects);
    }
    times.sort();
    println!("render from memory: median {:?}", times[5]);
    // Far below a run of kustomize even in a debug build on a busy machine.
    assert!(times[0] < Duration::from_millis(200), "{times:?}");

    assert_eq!(first.workloads.len(), stack.services.len());
    for (id, index) in &first.workloads {
        let (service, object) = (stack.service(*id), &first.objects[*index]);
        assert_eq!(object.name, format!("dev-{}", service.name));
        assert_eq!(
            at(object, "/metadata/labels/llmdev.dev~1service"),
            &json!(service.name)
        );
        let pod = at(object, "/spec/template/metadata/labels");
        assert_eq!(pod["llmdev.dev/service"], json!(service.name));
        assert_eq!(pod["llmdev.dev/root"], json!(owner.root));
        if let Some(build) = &service.build {
            let containers = at(object, "/spec/template/spec/containers")
                .as_array()
                .unwrap();
            let set = containers
                .iter()
                .any(|it| it["image"] == json!(images[&build.image]));
            assert!(set, "{} has its image", service.name);
        }
        let of: Vec<_> = first
            .of(Some(*id))
            .iter()
            .map(|object| object.kind.clone())
            .collect();
        assert!(
            of.contains(&"Service".to_owned()),
            "{} has its Service: {of:?}",
            service.name
        );
    }
    for object in &first.objects {
        assert_eq!(
            at(object, "/metadata/labels/llmdev.dev~1stack"),
            &json!("llm-stack")
        );
    }
    assert!(
        first.inputs.contains(
            &root
                .join("examples/llm-stack/k8s/base/kustomization.yaml")
                .canonicalize()
                .unwrap()
        )
    );
}

#[tokio::test]
async fn a_changed_input_is_rendered_anew() {
    let sandbox = Sandbox::new(&[
        (
            "k8s/base/kustomization.yaml",
            "resources: [a.yaml]\nconfigMapGenerator: [{name: c, files: [conf.txt]}]\n",
        ),
        ("k8s/base/a.yaml", &deployment("a", "x")),
        ("k8s/base/conf.txt", "one"),
        (
            "k8s/dev/kustomization.yaml",
            "resources: [../base]\nnameSuffix: -v2\n",
        ),
    ]);
    let stack = "render: [{kustomize: k8s/dev}]\nservices: {a: {}}\n";
    let one = sandbox.render(stack, &[]).await.unwrap();
    sandbox.write("k8s/base/conf.txt", "two");
    let two = sandbox.render(stack, &[]).await.unwrap();
    let data = |rendered: &Rendered| {
        let map = rendered
            .objects
            .iter()
            .find(|object| object.kind == "ConfigMap")
            .unwrap();
        at(map, "/data/conf.txt").clone()
    };
    assert_eq!((data(&one), data(&two)), (json!("one"), json!("two")));
    let kept: Vec<_> = std::fs::read_dir(sandbox.cache.path().join("render"))
        .unwrap()
        .collect();
    assert_eq!(kept.len(), 1, "only the last output is kept");
    use std::os::unix::fs::PermissionsExt;
    let mode = kept[0]
        .as_ref()
        .unwrap()
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "secrets may be in it");
}

#[tokio::test]
async fn what_kustomize_says_is_passed_on() {
    let sandbox = Sandbox::new(&[("k8s/kustomization.yaml", "resources: [gone.yaml]\n")]);
    let failure = sandbox
        .render("render: [{kustomize: k8s}]\n", &[])
        .await
        .unwrap_err();
    assert_eq!(failure.kind, Kind::Config);
    let line = failure.line();
    assert!(
        line.starts_with("kustomize cannot build k8s: ") && line.contains("gone.yaml"),
        "{line}"
    );
}

#[tokio::test]
async fn manifests_come_in_order_and_lists_are_opened() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: l1}}\n\
                - {apiVersion: v1, kind: ConfigMap, metadata: {name: l2}}\n";
    let map = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
    let sandbox = Sandbox::new(&[
        ("k8s/b.yaml", &map("b")),
        (
            "k8s/a.yaml",
            &format!("{}---\n# nothing\n---\n{}", map("a1"), map("a2")),
        ),
        ("k8s/deep/c.yaml", &map("c")),
        ("k8s/no.txt", "not a manifest"),
        ("first/list.yaml", list),
    ]);
    let stack = "render: [{manifests: ['first/*.yaml', 'k8s/*.yaml', 'k8s/**/*.yaml']}]\n";
    let rendered = sandbox.render(stack, &[]).await.unwrap();
    let names: Vec<_> = rendered
        .objects
        .iter()
        .map(|object| object.name.as_str())
        .collect();
    assert_eq!(names, ["l1", "l2", "a1", "a2", "b", "c"]);
    assert_eq!(rendered.objects[3].origin, "k8s/a.yaml:7");
}

#[tokio::test]
async fn mistakes_in_manifests_are_shown_where_they_are() {
    let good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let table = [
        ("twice", "a: 1\nb: 2\na: 3\n".to_owned()),
        ("indent", "kind: A\n  b: 1\n".to_owned()),
        ("tab", "kind: A\nb:\n\tc: 1\n".to_owned()),
        (
            "nameless",
            format!("{good}---\napiVersion: v1\nkind: Pod\n"),
        ),
        ("scalar", "just text\n".to_owned()),
        ("twins", format!("{good}---\n{good}")),
    ];
    let mut all = String::new();
    for (name, text) in table {
        let sandbox = Sandbox::new(&[("k8s/a.yaml", &text)]);
        let failure = sandbox.render(MANIFESTS, &[]).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Config);
        all.push_str(&format!("{name}: {}\n", said(&sandbox, &failure)));
    }
    insta::assert_snapshot!(all);
}

#[tokio::test]
async fn images_are_set_wherever_pods_stand() {
    let pod = "{initContainers: [{name: i, image: 'app:dev'}], containers: [{name: c, image: app@sha256:00, \
               imagePullPolicy: Always}, {name: n, image: app, imagePullPolicy: Never}, {name: o, image: other/app}]}";
    let job = format!("{{template: {{spec: {pod}}}}}");
    let objects = [
        ("v1", "Pod", format!("spec: {pod}")),
        ("batch/v1", "Job", format!("spec: {job}")),
        (
            "batch/v1",
            "CronJob",
            format!("spec: {{schedule: '* * * * *', jobTemplate: {{spec: {job}}}}}"),
        ),
        ("apps/v1", "DaemonSet", format!("spec: {job}")),
        ("apps/v1", "StatefulSet", format!("spec: {job}")),
        ("v1", "ReplicationController", format!("spec: {job}")),
    ];
    let text: String = objects
        .iter()
        .map(|(version, kind, spec)| {
            format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n{spec}\n---\n")
        })
        .collect();
    let sandbox = Sandbox::new(&[("k8s/a.yaml", &text), ("app/Dockerfile", "FROM scratch\n")]);
    let stack = format!(
        "{MANIFESTS}services: {{app: {{build: {{context: app}}, workload: statefulset/x}}}}\n"
    );
    let rendered = sandbox
        .render(&stack, &[("app", "app:llmdev-7")])
        .await
        .unwrap();
    for object in &rendered.objects {
        let base = match object.kind.as_str() {
            "Pod" => "/spec",
            "CronJob" => "/spec/jobTemplate/spec/template/spec",
            _ => "/spec/template/spec",
        };
        let container = |path: &str| at(object, &format!("{base}/{path}"));
        assert_eq!(
            container("initContainers/0/image"),
            "app:llmdev-7",
            "{}",
            object.kind
        );
        assert_eq!(container("containers/0/image"), "app:llmdev-7");
        assert_eq!(container("containers/0/imagePullPolicy"), "IfNotPresent");
        assert_eq!(container("containers/1/imagePullPolicy"), "Never");
        assert_eq!(container("containers/2/image"), "other/app");
        assert_eq!(container("containers/2").get("imagePullPolicy"), None);
    }
    assert!(rendered.notes.is_empty(), "{:?}", rendered.notes);

    sandbox.write("k8s/a.yaml", &deployment("app", "other"));
    let stack = format!("{MANIFESTS}services: {{app: {{build: {{context: app}}}}}}\n");
    let rendered = sandbox
        .render(&stack, &[("app", "app:llmdev-7")])
        .await
        .unwrap();
    assert_eq!(
        rendered.notes,
        [
            "no container has the image `app` that the service app builds; \
        name it in the manifests, say with `imageIn` where it is named, or say `workload: none`"
        ]
    );
}

#[tokio::test]
async fn images_are_set_where_the_service_says_that_they_are_named() {
    let executor = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: dev-executor}\nspec:\n  \
        selector: {matchLabels: {app: executor}}\n  template:\n    metadata: {labels: {app: executor}}\n    \
        spec: {containers: [{name: c, image: executor, env: [{name: HEAVY, value: 'heavy:latest'}, \
        {name: OTHER, value: 'heavy:latest'}], envFrom: [{configMapRef: {name: dev-images-2456789bcd}}]}]}\n---\n";
    let rest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: dev-images-2456789bcd}\n\
        data: {job.image: 'heavy:latest', note: heavy}\n---\n\
        apiVersion: example.org/v1\nkind: Workflow\nmetadata: {name: w}\n\
        spec: {steps: [{image: heavy}, {image: other}]}\n";
    let sandbox = Sandbox::new(&[
        ("k8s/a.yaml", &format!("{executor}{rest}")),
        ("heavy/Dockerfile", "FROM scratch\n"),
    ]);
    let stack = |places: &str| {
        format!(
            "{MANIFESTS}services:\n  executor: {{}}\n  heavy: {{build: heavy, workload: none, imageIn: [{places}]}}\n"
        )
    };
    let images = [("heavy", "llmdev/test/heavy:7")];
    let places = "{env: HEAVY}, {kind: ConfigMap, name: images, path: \"data['job.image']\"}, \
        {kind: Workflow, path: 'spec.steps[*].image'}";
    let rendered = sandbox.render(&stack(places), &images).await.unwrap();
    let to = "llmdev/test/heavy:7";
    let deployment = find(&rendered, "deployment/dev-executor");
    let env = "/spec/template/spec/containers/0/env";
    assert_eq!(at(deployment, &format!("{env}/0/value")), to);
    assert_eq!(at(deployment, &format!("{env}/1/value")), "heavy:latest");
    let map = find(&rendered, "configmap/dev-images-2456789bcd");
    assert_eq!(at(map, "/data"), &json!({"job.image": to, "note": "heavy"}));
    let steps = at(find(&rendered, "workflow/w"), "/spec/steps");
    assert_eq!(steps, &json!([{"image": to}, {"image": "other"}]));
    // A new image rolls the pods that read its name.
    let annotation = "/spec/template/metadata/annotations/llmdev.dev~1config";
    let newer = [("heavy", "llmdev/test/heavy:8")];
    let place = stack("{kind: ConfigMap, name: images, path: \"data['job.image']\"}");
    let mut seen = Vec::new();
    for images in [&images, &newer, &images] {
        let rendered = sandbox.render(&place, images).await.unwrap();
        let executor = find(&rendered, "deployment/dev-executor");
        seen.push(at(executor, annotation).clone());
    }
    assert!(seen[0] != seen[1] && seen[0] == seen[2], "{seen:?}");

    let mut told = String::new();
    for places in [
        "{env: HEVY}",
        "{kind: ConfigMap, name: imags, path: data.x}",
        "{kind: ConfigMap, name: images, path: data.x}",
        "{kind: Secret, path: data.x}",
        "{kind: Workflow, path: 'spec.steps[1].image'}",
    ] {
        let failure = sandbox.render(&stack(places), &images).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Config);
        told += &format!("{}\n", said(&sandbox, &failure));
    }
    insta::assert_snapshot!(told, @"
    the image of heavy is not named in the env value HEVY, as `imageIn` says: no container has an env value HEVY
    > a variable that comes from a ConfigMap is named by the ConfigMap's kind, name and path
    the image of heavy is not named in data.x of ConfigMap imags, as `imageIn` says: no ConfigMap of the manifests is called imags
      configmap/dev-images-2456789bcd  (k8s/a.yaml:10)
    > check `imageIn` in stack.yaml against what `llmdev render` shows
    the image of heavy is not named in data.x of ConfigMap images, as `imageIn` says: there is no such field
      configmap/dev-images-2456789bcd  (k8s/a.yaml:10)
    > check `imageIn` in stack.yaml against what `llmdev render` shows
    the image of heavy is not named in data.x of Secret, as `imageIn` says: the manifests have no Secret
    > check `imageIn` in stack.yaml against what `llmdev render` shows
    the image of heavy is not named in spec.steps[1].image of Workflow, as `imageIn` says: there is other
    > the image is called heavy: write that there, or `build: { image: other }` in stack.yaml
    ");
}

#[tokio::test]
async fn labels_stand_on_what_is_made_and_never_on_selectors() {
    let text = deployment("a", "x")
        + "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: s}\nspec:\n  selector: {matchLabels: {app: s}}\n  \
           template: {metadata: {labels: {app: s}}, spec: {containers: []}}\n  \
           volumeClaimTemplates: [{metadata: {name: data}}]\n---\n\
           apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: j}\n\
           spec: {jobTemplate: {spec: {template: {spec: {containers: []}}}}}\n";
    let sandbox = Sandbox::new(&[("k8s/a.yaml", &text)]);
    let rendered = sandbox
        .render(&format!("{MANIFESTS}services: {{a: {{}}, s: {{}}}}\n"), &[])
        .await
        .unwrap();
    let label = |id: &str, path: &str| {
        at(
            find(&rendered, id),
            &format!("{path}/metadata/labels/llmdev.dev~1stack"),
        )
        .clone()
    };
    for (id, path) in [
        ("deployment/a", ""),
        ("deployment/a", "/spec/template"),
        ("statefulset/s", "/spec/template"),
        ("statefulset/s", "/spec/volumeClaimTemplates/0"),
        ("cronjob/j", "/spec/jobTemplate"),
        ("cronjob/j", "/spec/jobTemplate/spec/template"),
    ] {
        assert_eq!(label(id, path), json!("test"), "{id} {path}");
    }
    assert_eq!(
        at(find(&rendered, "deployment/a"), "/spec/selector"),
        &json!({"matchLabels": {"app": "a"}})
    );
    assert_eq!(
        find(&rendered, "cronjob/j")
            .value
            .pointer("/metadata/labels/llmdev.dev~1service"),
        None
    );
}

#[tokio::test]
async fn workloads_are_found_by_name() {
    let table = [
        (vec!["postgres"], "postgres", Some("postgres")),
        (
            vec!["dev-postgres", "postgres-exporter"],
            "postgres",
            Some("dev-postgres"),
        ),
        (vec!["postgres-v2"], "postgres", Some("postgres-v2")),
        (
            vec!["dev-litellm-blue"],
            "litellm",
            Some("dev-litellm-blue"),
        ),
        (vec!["mypostgres"], "postgres", None),
        (vec!["dev-api", "test-api"], "api", None),
        (vec![], "api", None),
        (vec!["postgress"], "postgres", None),
    ];
    let mut failures = String::new();
    for (names, service, expected) in table {
        let text: String = names.iter().map(|name| deployment(name, "x")).collect();
        let text = text + "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: z}\n";
        let sandbox = Sandbox::new(&[("k8s/a.yaml", &text)]);
        let stack = format!("{MANIFESTS}services: {{{service}: {{}}}}\n");
        match (sandbox.render(&stack, &[]).await, expected) {
            (Ok(rendered), Some(name)) => {
                let index = rendered.workloads.values().next().unwrap();
                assert_eq!(rendered.objects[*index].name, name);
            }
            (Err(failure), None) => {
                failures.push_str(&format!("{names:?}\n{}\n\n", said(&sandbox, &failure)))
            }
            (other, _) => panic!("{names:?}: {other:?}"),
        }
    }
    insta::assert_snapshot!(failures);
}

#[tokio::test]
async fn a_kind_that_is_misspelt_is_told() {
    let text = deployment("web", "x").replace("Deployment", "Deploymnet");
    let sandbox = Sandbox::new(&[("k8s/a.yaml", &text)]);
    let stack = format!("{MANIFESTS}services: {{web: {{}}}}\n");
    let failure = sandbox.render(&stack, &[]).await.unwrap_err();
    insta::assert_snapshot!(said(&sandbox, &failure), @"
    no workload is the service web's: the manifests contain no workload at all
    > k8s/a.yaml:1 has the kind Deploymnet: if Deployment is meant, write that
    ");
}

#[tokio::test]
async fn a_neighbour_that_fits_better_is_not_taken() {
    let text = deployment("dev-api-gateway", "x") + &deployment("dev-api", "x");
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: api-migrate}\nspec: {template: {spec: {containers: []}}}\n";
    let sandbox = Sandbox::new(&[("k8s/a.yaml", &(text + job))]);
    let stack = format!(
        "{MANIFESTS}services: {{api: {{}}, api-gateway: {{}}, cron: {{workload: job/migrate}}}}\n"
    );
    let rendered = sandbox.render(&stack, &[]).await.unwrap();
    let names: Vec<_> = rendered
        .workloads
        .values()
        .map(|index| rendered.objects[*index].name.as_str())
        .collect();
    assert_eq!(names, ["dev-api", "dev-api-gateway", "api-migrate"]);
}

#[tokio::test]
async fn companions_go_with_their_service() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  template:\n    \
        metadata: {labels: {app: a}}\n    spec:\n      serviceAccountName: only-a\n      \
        containers: [{name: c, image: x, envFrom: [{configMapRef: {name: both}}, {secretRef: {name: only-a}}]}]\n      \
        volumes: [{name: v, persistentVolumeClaim: {claimName: only-a}}]\n---\n"
        .to_owned()
        + "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: b}\nspec:\n  template:\n    \
        metadata: {labels: {app: b}}\n    spec:\n      containers: [{name: c, image: x, envFrom: [{configMapRef: {name: both}}]}]\n---\n"
        + "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {selector: {app: a}}}\n---\n"
        + "{apiVersion: v1, kind: Secret, metadata: {name: only-a}}\n---\n"
        + "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: only-a}}\n---\n"
        + "{apiVersion: v1, kind: ServiceAccount, metadata: {name: only-a}}\n---\n"
        + "{apiVersion: v1, kind: ConfigMap, metadata: {name: both}}\n---\n"
        + "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: h}, spec: {scaleTargetRef: {kind: Deployment, name: a}}}\n---\n"
        + "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: p}, spec: {selector: {matchLabels: {app: a}}}}\n---\n"
        + "{apiVersion: v1, kind: Secret, metadata: {name: only-a, namespace: elsewhere}}\n";
    let sandbox = Sandbox::new(&[("k8s/a.yaml", &text)]);
    let stack = format!("{MANIFESTS}services: {{a: {{}}, b: {{}}}}\n");
    let rendered = sandbox.render(&stack, &[]).await.unwrap();
    let ids = |service| {
        let of = rendered.of(service);
        of.iter().map(|object| object.id()).collect::<Vec<_>>()
    };
    let a = rendered.objects[0].service;
    assert_eq!(
        ids(a),
        [
            "deployment/a",
            "service/s",
            "secret/only-a",
            "persistentvolumeclaim/only-a",
            "serviceaccount/only-a",
            "horizontalpodautoscaler/h",
            "poddisruptionbudget/p"
        ]
    );
    assert_eq!(ids(None), ["configmap/both", "secret/only-a"]);
}

#[tokio::test]
async fn secrets_come_from_the_file_and_roll_their_readers() {
    let reader = deployment("a", "x").replace(
        "image: 'x'",
        "image: x, env: [{name: K, valueFrom: {secretKeyRef: {name: keys, key: k}}}]",
    );
    let text = reader
        + &deployment("b", "x")
        + "{apiVersion: v1, kind: Secret, metadata: {name: keys}, stringData: {k: placeholder, l: other}}\n";
    let sandbox = Sandbox::new(&[
        ("k8s/a.yaml", &text),
        (
            "k8s/kustomization.yaml",
            "resources: [a.yaml]\nnamePrefix: dev-\n",
        ),
    ]);
    let stack = "render: [{kustomize: k8s}]\nservices: {a: {}, b: {}}\n\
                 secrets: [{name: keys, envFile: .env.local, keys: {k: KEY, gone: NOT_THERE}}]\n";
    let config = |rendered: &Rendered| {
        at(
            find(rendered, "deployment/dev-a"),
            "/spec/template/metadata/annotations/llmdev.dev~1config",
        )
        .clone()
    };
    let without = sandbox.render(stack, &[]).await.unwrap();
    assert_eq!(
        at(find(&without, "secret/dev-keys"), "/stringData/k"),
        "placeholder"
    );
    // A file of one's own need not be there; another one is missed.
    assert!(without.notes.is_empty(), "{:?}", without.notes);
    let shared = stack.replace(".env.local", "keys.env");
    assert_eq!(
        sandbox.render(&shared, &[]).await.unwrap().notes,
        ["keys.env is not there: the Secret keys keeps the manifests' values"]
    );

    sandbox.write(".env.local", "export KEY='s3cret value'\n");
    let with = sandbox.render(stack, &[]).await.unwrap();
    let secret = find(&with, "secret/dev-keys");
    assert_eq!(at(secret, "/data/k"), "czNjcmV0IHZhbHVl");
    assert_eq!(at(secret, "/stringData"), &json!({"l": "other"}));
    assert_eq!(
        with.notes,
        [".env.local does not set NOT_THERE: `gone` of the Secret keys keeps the manifests' value"]
    );
    assert_ne!(config(&without), config(&with));
    let b = find(&with, "deployment/dev-b");
    assert_eq!(b.value.pointer("/spec/template/metadata/annotations"), None);
    assert!(with.inputs.contains(&sandbox.root().join(".env.local")));

    sandbox.write(".env.local", "KEY s3cret\n");
    let failure = sandbox.render(stack, &[]).await.unwrap_err();
    let text = said(&sandbox, &failure);
    assert!(
        text.contains(".env.local:1") && !text.contains("s3cret"),
        "{text}"
    );

    let failure = sandbox
        .render(&stack.replace("name: keys,", "name: kyes,"), &[])
        .await
        .unwrap_err();
    assert_eq!(
        failure.line(),
        "`secrets` names kyes, and no Secret of the manifests is called so"
    );
}

#[tokio::test]
async fn helm_charts_are_rendered_without_their_hooks() {
    let hook = "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: migrate\n  annotations: {helm.sh/hook: pre-install}\n\
                spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: x}]}}}\n";
    let sandbox = Sandbox::new(&[
        (
            "chart/Chart.yaml",
            "apiVersion: v2\nname: c\nversion: 0.1.0\n",
        ),
        ("chart/values.yaml", "image: x\nreplicas: 1\n"),
        ("chart/templates/hook.yaml", hook),
        (
            "chart/templates/tests/web.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web-test, annotations: {helm.sh/hook: test}}\n",
        ),
        (
            "chart/templates/d.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: '{{ .Release.Name }}-web', annotations: {note: '{{ .Values.note }}'}}\n\
          spec: {replicas: {{ .Values.replicas }}, template: {spec: {containers: [{name: c, image: '{{ .Values.image }}'}]}}}\n",
        ),
        ("dev.yaml", "replicas: 2\n"),
    ]);
    let stack = "render: [{helm: {release: r, chart: chart, values: [dev.yaml], set: {image: web, note: 'a,b'}}}]\nservices: {web: {}}\n";
    let rendered = sandbox.render(stack, &[("web", "web:7")]).await.unwrap();
    assert_eq!(rendered.objects.len(), 1);
    let web = find(&rendered, "deployment/r-web");
    assert_eq!(at(web, "/spec/replicas"), 2);
    assert_eq!(at(web, "/metadata/annotations/note"), "a,b");
    assert_eq!(at(web, "/spec/template/spec/containers/0/image"), "web:7");
    assert_eq!(
        rendered.notes,
        ["helm r: hooks are not run: migrate (pre-install)",]
    );
    assert_eq!(web.origin, "helm r, c/templates/d.yaml");
    assert_eq!(web.namespace, None);
    let elsewhere = stack.replace("release: r,", "release: r, namespace: other,");
    let rendered = sandbox.render(&elsewhere, &[]).await.unwrap();
    let web = find(&rendered, "deployment/r-web");
    assert_eq!(web.namespace.as_deref(), Some("other"));
}

#[tokio::test]
async fn charts_with_mistakes_are_told() {
    let chart = "apiVersion: v2\nname: c\nversion: 0.1.0\n";
    let needs = format!(
        "{chart}dependencies: [{{name: redis, version: 1.x, repository: 'https://charts.example.org'}}]\n"
    );
    let table = [
        (chart, "a: {{ .Values.image | nothing }}\n"),
        (chart, "a: {{ .Values.some.thing }}\n"),
        (chart, "a: {{ fail \"image is needed\" }}\n"),
        (chart, "a: 1\n b: 2\n"),
        (chart, "kind: ConfigMap\n"),
        (chart, "kind: ConfigMap\nkind: Secret\n"),
        ("name: c\n", ""),
        (&needs, ""),
    ];
    let stack = "render: [{helm: {release: r, chart: chart}}]\n";
    let mut told = String::new();
    for (chart, template) in table {
        let sandbox = Sandbox::new(&[
            ("chart/Chart.yaml", chart),
            ("chart/templates/a.yaml", template),
        ]);
        let failure = sandbox.render(stack, &[]).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Config);
        told += &format!("{}\n", said(&sandbox, &failure));
    }
    insta::assert_snapshot!(told, @r#"
    helm cannot render the release r: parse error at (c/templates/a.yaml:1): function "nothing" not defined
    helm cannot render the release r: template: c/templates/a.yaml:1:13: executing "c/templates/a.yaml" at <.Values.some.thing>: nil pointer evaluating interface {}.thing
    helm cannot render the release r: execution error at (c/templates/a.yaml:1:6): image is needed
    helm cannot render the release r: YAML parse error on c/templates/a.yaml: error converting YAML to JSON: yaml: line 2: mapping values are not allowed in this context
    the object in helm r, c/templates/a.yaml has no apiVersion
    > every object needs apiVersion, kind and metadata.name
    helm cannot render the release r: what c/templates/a.yaml comes to is not good YAML: the key `kind` stands twice, first in line 3
      kind: Secret
    helm cannot render the release r: validation: chart.metadata.version is required
    helm cannot render the release r: An error occurred while checking for chart dependencies. You may need to run `helm dependency build` to fetch missing dependencies: found in Chart.yaml, but missing in charts/ directory: redis
    > helm dependency build ROOT/chart
    "#);
}

/// Serves files, one GET after the other, until the listener's thread ends with the test.
fn serve(folder: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            let _ = lines.read_line(&mut request);
            while lines
                .read_line(&mut String::new())
                .is_ok_and(|read| read > 2)
            {}
            let path = request
                .split(' ')
                .nth(1)
                .unwrap_or_default()
                .trim_start_matches('/');
            let (status, body) = match std::fs::read(folder.join(path)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chart_of_a_repository_is_fetched_in_its_version() {
    let sandbox = Sandbox::new(&[
        ("c/Chart.yaml", "apiVersion: v2\nname: c\nversion: 0.1.0\n"),
        (
            "c/templates/d.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Chart.Version }}'}\n",
        ),
        ("charts/.keep", ""),
    ]);
    let helm = |words: &[&str]| {
        let root = sandbox.root();
        let mut command = Command::new("helm");
        let output = command.current_dir(root).args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    for version in ["1.2.3", "2.0.0"] {
        helm(&[
            "package",
            "c",
            "--version",
            version,
            "--destination",
            "charts",
        ]);
    }
    helm(&["repo", "index", "charts"]);
    let port = serve(sandbox.root().join("charts"));
    let stack = format!(
        "render: [{{helm: {{release: r, chart: c, repo: 'http://127.0.0.1:{port}', version: 1.2.3}}}}]\n"
    );
    let rendered = sandbox.render(&stack, &[]).await.unwrap();
    let map = find(&rendered, "configmap/1.2.3");
    assert_eq!(map.origin, "helm r, c/templates/d.yaml");
    let failure = sandbox
        .render(&stack.replace("1.2.3", "7.0.0"), &[])
        .await
        .unwrap_err();
    assert!(failure.line().contains("7.0.0"), "{}", failure.line());

    // Rendered once, a version is what it is.
    std::fs::remove_dir_all(sandbox.root().join("charts")).unwrap();
    let rendered = sandbox.render(&stack, &[]).await.unwrap();
    find(&rendered, "configmap/1.2.3");
}

#[tokio::test]
async fn a_change_renders_only_the_step_that_it_belongs_to() {
    use std::os::unix::fs::MetadataExt;
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\n";
    let map = |name: &str| map.replace("NAME", name);
    let sandbox = Sandbox::new(&[
        ("one/kustomization.yaml", "resources: [a.yaml]\n"),
        ("one/a.yaml", &map("a")),
        ("two/kustomization.yaml", "resources: [b.yaml]\n"),
        ("two/b.yaml", &map("b")),
        (
            "chart/Chart.yaml",
            "apiVersion: v2\nname: c\nversion: 0.1.0\n",
        ),
        ("chart/templates/c.yaml", &map("c")),
        ("dev.yaml", "x: 1\n"),
        ("plain/d.yaml", &map("d")),
    ]);
    let stack = "render: [{kustomize: one}, {helm: {release: r, chart: chart, values: [dev.yaml]}}, \
                 {manifests: [plain/*.yaml]}, {kustomize: two}]\n";
    // What is kept is written as a new file, so that its number changes.
    let made = || {
        let files = std::fs::read_dir(sandbox.cache.path().join("render")).unwrap();
        let file = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.unwrap();
            let kept = std::fs::read_to_string(entry.path()).unwrap();
            let name = ["\"a", "\"b", "\"c"]
                .into_iter()
                .find(|name| kept.contains(&format!("\"name\":{name}")));
            (
                name.unwrap()[1..].chars().next().unwrap(),
                entry.metadata().unwrap().ino(),
            )
        };
        files.map(file).collect::<BTreeMap<char, u64>>()
    };
    let rendered = sandbox.render(stack, &[]).await.unwrap();
    let names: Vec<_> = rendered.objects.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["a", "c", "d", "b"], "in the order of the steps");
    let mut before = made();
    assert_eq!(before.len(), 3);
    for (file, text, again) in [
        ("one/a.yaml", map("a2"), "a"),
        ("chart/templates/c.yaml", map("c2"), "c"),
        ("dev.yaml", "x: 2\n".to_owned(), "c"),
        ("plain/d.yaml", map("d2"), ""),
        ("two/b.yaml", map("b2"), "b"),
    ] {
        sandbox.write(file, &text);
        sandbox.render(stack, &[]).await.unwrap();
        let after = made();
        let changed: String = after
            .iter()
            .filter(|it| before.get(it.0) != Some(it.1))
            .map(|it| it.0)
            .collect();
        assert_eq!(changed, again, "{file}");
        before = after;
    }
}

#[tokio::test]
async fn a_fast_rollout_is_asked_for_and_said() {
    let sandbox = Sandbox::new(&[(
        "k8s/a.yaml",
        &(deployment("a", "x") + &deployment("b", "x")),
    )]);
    let stack = format!("{MANIFESTS}services: {{a: {{dev: {{fastRollout: true}}}}, b: {{}}}}\n");
    let rendered = sandbox.render(&stack, &[]).await.unwrap();
    assert_eq!(
        rendered.notes,
        ["fast rollout of a: maxSurge 1, maxUnavailable 0, terminationGracePeriodSeconds 30 → 2"]
    );
    let grace = |id: &str| {
        find(&rendered, id)
            .value
            .pointer("/spec/template/spec/terminationGracePeriodSeconds")
    };
    assert_eq!(
        (grace("deployment/a"), grace("deployment/b")),
        (Some(&json!(2)), None)
    );
}

/// What is printed means the same to kubectl as to llmdev, whatever the text looks like.
#[tokio::test]
async fn what_a_laptop_cannot_give_is_adapted_and_said() {
    let mut text =
        deployment("web", "x").replace("spec:\n  selector", "spec:\n  replicas: 3\n  selector");
    text += &deployment("scaled", "x");
    text += &deployment("alone", "x");
    text += "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  replicas: 2\n  \
        template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: x}]}}\n  \
        volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], \
        resources: {requests: {storage: 100Gi}}}}]\n---\n\
        apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: shared}\n\
        spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}\n---\n\
        apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: LoadBalancer, loadBalancerIP: 10.0.0.1, \
        externalTrafficPolicy: Local, ports: [{port: 80, nodePort: 30080}], selector: {app: web}}\n---\n";
    for (name, least) in [("web", 2), ("scaled", 1), ("alone", 1)] {
        text += &format!(
            "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: {name}}}\n\
             spec: {{minAvailable: {least}, selector: {{matchLabels: {{app: {name}}}}}}}\n---\n"
        );
        if name != "alone" {
            text += &format!(
                "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: {name}}}\n\
                 spec: {{minReplicas: 2, maxReplicas: 5, scaleTargetRef: {{kind: Deployment, name: {name}}}}}\n---\n"
            );
        }
    }
    let sandbox = Sandbox::new(&[("k8s/a.yaml", &text)]);
    let services = "services: {web: {}, scaled: {}, alone: {}, db: {}}\n";
    let plain = sandbox
        .render(&format!("{MANIFESTS}{services}"), &[])
        .await
        .unwrap();
    assert_eq!((plain.objects.len(), plain.notes.len()), (11, 0));
    let dev = "dev: {replicas: 1, storage: shrink, accessModes: single, loadBalancer: clusterIP}\n";
    let rendered = sandbox
        .render(&format!("{MANIFESTS}{dev}{services}"), &[])
        .await
        .unwrap();
    insta::assert_snapshot!(rendered.notes.join("\n"), @"
    replicas lowered: deployment/web 3 → 1, statefulset/db 2 → 1
    autoscalers left out, which would raise the replicas again: horizontalpodautoscaler/web, horizontalpodautoscaler/scaled
    disruption budgets left out, which fewer replicas cannot keep: poddisruptionbudget/web, poddisruptionbudget/scaled
    storage shrunk: data of statefulset/db 100Gi → 1Gi
    access modes: persistentvolumeclaim/shared ReadWriteMany → ReadWriteOnce
    Services of the type LoadBalancer made ClusterIP: web
    ");
    let service = find(&rendered, "service/web");
    assert_eq!(
        at(service, "/spec"),
        &json!({"type": "ClusterIP", "ports": [{"port": 80}], "selector": {"app": "web"}})
    );
    assert_eq!(at(find(&rendered, "deployment/web"), "/spec/replicas"), 1);
    let left: Vec<_> = rendered.objects.iter().map(Object::id).collect();
    let kept = "poddisruptionbudget/alone".to_owned();
    assert!(
        left.contains(&kept),
        "one replica was the author's own wish: {left:?}"
    );
    assert_eq!(left.len(), 7, "{left:?}");
    assert_eq!(
        rendered.of(rendered.objects[0].service)[0].id(),
        "deployment/web"
    );
}

#[tokio::test]
async fn kubectl_reads_what_is_printed() {
    let texts = [
        "0644",
        "1_000",
        "0b11",
        "0o17",
        "1e3",
        "yes",
        "n",
        "~",
        "null",
        "",
        " x",
        "x ",
        "a: b",
        "a #b",
        "#",
        "- a",
        "1:30",
        "2001-01-01",
        "<<",
        "=",
        "a\nb",
        "a\nb\n",
        "a\n\n",
        "\n",
        "tab\there",
        "é\u{85}\u{2028}",
        "'q'",
        "\"q\"",
        "{a}",
        "[a]",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "|",
        ">",
        "?",
        ":",
        "a:",
        "-",
        "---",
        "...",
        "  a\n b",
        "a \nb",
        "\u{feff}",
        ".5",
        "+1",
        ".inf",
        "0x1F",
        "true",
        "TRUE",
        "No",
        "\\",
        "a\\n",
        "a\r\nb",
    ];
    let data: BTreeMap<String, &str> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| (format!("k{index}"), *text))
        .collect();
    let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "y"}, "data": data});
    let sandbox = Sandbox::new(&[("k8s/a.yaml", &value.to_string())]);
    let rendered = sandbox.render(MANIFESTS, &[]).await.unwrap();
    assert_eq!(rendered.objects[0].value["data"], value["data"]);
    let printed = to_yaml(&rendered);
    let mut kubectl = Command::new("kubectl")
        .args([
            "create",
            "--dry-run=client",
            "--validate=false",
            "-o",
            "json",
            "-f",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    kubectl
        .stdin
        .take()
        .unwrap()
        .write_all(printed.as_bytes())
        .unwrap();
    let output = kubectl.wait_with_output().unwrap();
    let read: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{printed}"));
    assert_eq!(read["data"], value["data"], "{printed}");
}
