//! Apply, prune and removal on the test cluster.

#[path = "common/cluster.rs"]
mod cluster;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cluster::{Cleanup, client, kubectl, unique};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::wait::await_condition;
use llmdev::apply::{
    Applied, Applier, Conflicts, Outcome, Progress, Removed, unknown_note, unknown_refusal,
};
use llmdev::error::{Failure, Kind};
use llmdev::owner::Owner;
use llmdev::render::{Object, Rendered};
use llmdev::stack::ServiceId;
use serde_json::{Value, json};

/// A stack in a namespace of its own.
struct Bench {
    namespace: String,
    owner: Owner,
    applier: Applier,
    state: tempfile::TempDir,
    _cleanup: Cleanup,
}

impl Bench {
    async fn new() -> Self {
        let name = unique();
        let owner = Owner {
            stack: name.clone(),
            root: "0123456789abcdef".into(),
        };
        let cleanup = Cleanup::namespace(&name);
        Self::of(owner, name, cleanup).await
    }

    async fn of(owner: Owner, namespace: String, cleanup: Cleanup) -> Self {
        let state = tempfile::tempdir().unwrap();
        let applier = Applier::new(client().await, owner.clone(), &namespace, state.path());
        Bench {
            namespace,
            owner,
            applier,
            state,
            _cleanup: cleanup,
        }
    }

    /// The same stack's daemon, started anew, with or without what it wrote down.
    async fn again(&mut self, remembers: bool) {
        if !remembers {
            self.state = tempfile::tempdir().unwrap();
        }
        let (owner, state) = (self.owner.clone(), self.state.path());
        self.applier = Applier::new(client().await, owner, &self.namespace, state);
    }

    fn object(&self, value: Value) -> Object {
        self.object_of(value, None)
    }

    fn object_of(&self, mut value: Value, service: Option<&str>) -> Object {
        let labels = json!(self.owner.labels(service));
        merge(&mut value, &json!({"metadata": {"labels": labels}}));
        if value.pointer("/spec/template").is_some() {
            merge(
                &mut value,
                &json!({"spec": {"template": {"metadata": {"labels": labels}}}}),
            );
        }
        let claims = value
            .pointer_mut("/spec/volumeClaimTemplates")
            .and_then(Value::as_array_mut);
        for claim in claims.into_iter().flatten() {
            merge(claim, &json!({"metadata": {"labels": labels}}));
        }
        let text = |path: &str| {
            value
                .pointer(path)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        Object {
            api_version: text("/apiVersion").unwrap(),
            kind: text("/kind").unwrap(),
            name: text("/metadata/name").unwrap(),
            namespace: text("/metadata/namespace"),
            service: service.map(|_| ServiceId(0)),
            origin: "k8s/a.yaml:1".into(),
            place: Default::default(),
            value,
        }
    }

    async fn up(&self, objects: &[Object]) -> Result<Outcome, Failure> {
        self.up_with(objects, Conflicts::Refuse).await
    }

    async fn up_with(&self, objects: &[Object], conflicts: Conflicts) -> Result<Outcome, Failure> {
        self.applier
            .groundwork(&objects.iter().collect::<Vec<_>>(), conflicts)
            .await
    }

    async fn down(&self, volumes: bool) -> Removed {
        self.applier.remove(volumes, &|_| {}).await.unwrap()
    }

    fn get(&self, words: &str) -> String {
        let mut all = vec![
            "get",
            "-n",
            &self.namespace,
            "--ignore-not-found",
            "-o",
            "name",
        ];
        all.extend(words.split(' '));
        kubectl(&all)
    }

    fn field(&self, object: &str, path: &str) -> String {
        kubectl(&[
            "get",
            "-n",
            &self.namespace,
            object,
            "-o",
            &format!("jsonpath={path}"),
        ])
    }

    fn keep(&self, objects: &[Object]) -> Rendered {
        Rendered {
            objects: objects.to_vec(),
            ..Rendered::default()
        }
    }
}

fn merge(into: &mut Value, from: &Value) {
    match from {
        Value::Object(fields) => {
            if !into.is_object() {
                *into = json!({});
            }
            for (key, value) in fields {
                merge(&mut into[key], value);
            }
        }
        other => *into = other.clone(),
    }
}

fn config_map(name: &str, text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": text}})
}

fn pod_spec() -> Value {
    json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "busybox:1", "imagePullPolicy": "IfNotPresent",
            "command": ["sleep", "3600"]}],
    })
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod_spec()},
    }})
}

fn job(name: &str, word: &str) -> Value {
    let container = json!({"name": "c", "image": "busybox:1", "imagePullPolicy": "IfNotPresent", "command": ["echo", word]});
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}})
}

fn stateful_set(name: &str, size: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": {
        "serviceName": name, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod_spec()},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}}],
    }})
}

/// A ConfigMap with a finalizer, which is taken off in the end, even when the test fails.
struct Held<'a> {
    namespace: &'a str,
    name: &'a str,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let off = r#"{"metadata":{"finalizers":null}}"#;
        kubectl(&[
            "patch",
            "configmap",
            self.name,
            "-n",
            self.namespace,
            "--type=merge",
            "-p",
            off,
        ]);
    }
}

fn changed(outcome: &Outcome) -> BTreeMap<String, bool> {
    outcome
        .applied
        .iter()
        .map(|it: &Applied| (it.target.id(), it.changed))
        .collect()
}

#[tokio::test]
async fn up_again_and_down_twice() {
    let mut bench = Bench::new().await;
    let objects = [
        bench.object(config_map("a", "1")),
        bench.object_of(deployment("web"), Some("web")),
    ];
    let first = bench.up(&objects).await.unwrap();
    let expected = [
        &format!("namespace/{}", bench.namespace),
        "configmap/a",
        "deployment/web",
    ];
    assert_eq!(
        first
            .applied
            .iter()
            .map(|it| it.target.id())
            .collect::<Vec<_>>(),
        expected
    );
    assert!(changed(&first).values().all(|changed| *changed));
    assert!(first.notes.is_empty(), "{:?}", first.notes);

    bench.again(true).await;
    let second = bench.up(&objects).await.unwrap();
    // The deployment's status may have moved on since, which is not a change that was applied.
    assert!(!changed(&second)["configmap/a"], "{:?}", changed(&second));
    assert_eq!(second.applied.len(), 2, "the namespace is left alone");

    // Drift is mended.
    kubectl(&["delete", "configmap", "a", "-n", &bench.namespace]);
    assert!(changed(&bench.up(&objects).await.unwrap())["configmap/a"]);

    // Nothing written down: everything is found all the same.
    bench.again(false).await;
    let told = Mutex::new(Vec::new());
    let tell = |progress: Progress| told.lock().unwrap().push(progress);
    let removed = bench.applier.remove(false, &tell).await.unwrap();
    let mut deleted: Vec<_> = removed
        .deleted
        .iter()
        .map(|it| it.split(' ').next().unwrap().to_owned())
        .collect();
    deleted.sort();
    let mut all = expected.map(str::to_owned).to_vec();
    all.sort();
    assert_eq!(deleted, all);
    assert_eq!(removed.notes, Vec::<String>::new());
    let told = told.into_inner().unwrap();
    assert_eq!(
        told.first(),
        Some(&Progress {
            gone: None,
            left: 3
        })
    );
    assert_eq!(told.last().map(|it| it.left), Some(0));
    assert_eq!(bench.get(&format!("namespace {}", bench.namespace)), "");

    assert_eq!(bench.down(true).await, Removed::default());
}

#[tokio::test]
async fn what_left_the_stack_is_pruned_and_nothing_else() {
    let bench = Bench::new().await;
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}});
    let objects = [
        bench.object(config_map("stays", "1")),
        bench.object(config_map("goes", "1")),
        bench.object_of(deployment("goes"), Some("goes")),
        bench.object(claim),
    ];
    bench.up(&objects).await.unwrap();
    let namespace = bench.namespace.clone();
    kubectl(&["create", "configmap", "by-hand", "-n", &namespace]);
    // Somebody copied one of the two labels.
    kubectl(&[
        "label",
        "configmap",
        "by-hand",
        "-n",
        &namespace,
        &format!("llmdev.dev/stack={}", bench.owner.stack),
    ]);
    let mut pruned = bench
        .applier
        .prune(&bench.keep(&objects[..1]))
        .await
        .unwrap();
    pruned.deleted.sort();
    assert_eq!(
        pruned.deleted,
        [
            format!("configmap/goes in {namespace}"),
            format!("deployment/goes in {namespace}")
        ]
    );
    assert_eq!(pruned.notes.len(), 1);
    assert!(
        pruned.notes[0].contains("persistentvolumeclaim/data"),
        "{:?}",
        pruned.notes
    );
    assert_eq!(
        bench.get("configmap stays by-hand goes"),
        "configmap/stays\nconfigmap/by-hand\n"
    );
    let again = bench
        .applier
        .prune(&bench.keep(&objects[..1]))
        .await
        .unwrap();
    assert!(again.deleted.is_empty(), "{again:?}");

    // The namespace is llmdev's, but there is somebody else's in it.
    let removed = bench.down(true).await;
    assert_eq!(bench.get("configmap by-hand"), "configmap/by-hand\n");
    assert!(
        removed
            .notes
            .iter()
            .any(|note| note.contains("configmap/by-hand is in it")),
        "{:?}",
        removed.notes
    );
}

#[tokio::test]
async fn another_folder_with_the_same_stack_name_is_left_alone() {
    let bench = Bench::new().await;
    let objects = [bench.object(config_map("a", "1"))];
    bench.up(&objects).await.unwrap();
    let owner = Owner {
        root: "fedcba9876543210".into(),
        ..bench.owner.clone()
    };
    let other = Bench::of(
        owner,
        bench.namespace.clone(),
        Cleanup::namespace(&bench.namespace),
    )
    .await;
    assert_eq!(other.down(true).await, Removed::default());
    assert!(
        other
            .applier
            .prune(&Rendered::default())
            .await
            .unwrap()
            .deleted
            .is_empty()
    );
    let failure = other
        .up(&[other.object(config_map("a", "2"))])
        .await
        .unwrap_err();
    assert_eq!(failure.kind, Kind::Refused);
    let expected = format!(
        "configmap/a in {} is not this stack's: it belongs to a stack of the same name in another folder: {}: its folder is not known on this machine",
        bench.namespace, bench.owner.stack
    );
    assert_eq!(failure.line(), expected);
    assert_eq!(bench.field("configmap/a", "{.data.k}"), "1");

    let remedy = failure.remedy.unwrap();
    let (_, command) = remedy.rsplit_once("`kubectl ").unwrap();
    let words: Vec<&str> = command.trim_end_matches('`').split(' ').collect();
    kubectl(&words);
    other
        .up(&[other.object(config_map("a", "2"))])
        .await
        .unwrap();
    assert_eq!(bench.field("configmap/a", "{.data.k}"), "2");
}

#[tokio::test]
async fn what_was_there_before_is_adopted_and_stays() {
    let bench = Bench::new().await;
    kubectl(&["create", "namespace", &bench.namespace]);
    kubectl(&[
        "create",
        "configmap",
        "a",
        "-n",
        &bench.namespace,
        "--from-literal=other=x",
    ]);
    kubectl(&["create", "configmap", "b", "-n", &bench.namespace]);
    let objects = [
        bench.object(config_map("a", "1")),
        bench.object(config_map("b", "1")),
    ];
    let outcome = bench.up(&objects).await.unwrap();
    assert_eq!(outcome.notes.len(), 2, "{:?}", outcome.notes);
    assert!(
        outcome.notes[0].contains("was there before"),
        "{:?}",
        outcome.notes
    );
    assert!(
        bench.up(&objects).await.unwrap().notes.is_empty(),
        "it is said once"
    );
    assert_eq!(
        bench.field("configmap/a", "{.data}"),
        r#"{"k":"1","other":"x"}"#
    );
    let pruned = bench
        .applier
        .prune(&bench.keep(&objects[..1]))
        .await
        .unwrap();
    assert_eq!(
        (pruned.deleted.len(), pruned.notes.len()),
        (0, 1),
        "{pruned:?}"
    );
    let removed = bench.down(true).await;
    assert_eq!(removed.deleted, Vec::<String>::new());
    assert_eq!(removed.notes.len(), 1, "{removed:?}");
    assert_eq!(bench.get("configmap a b"), "configmap/a\nconfigmap/b\n");
    assert_eq!(
        bench.field("configmap/a", "{.metadata.labels}{.metadata.annotations}"),
        ""
    );
}

#[tokio::test]
async fn what_may_not_change_is_made_anew() {
    let bench = Bench::new().await;
    let service = |kind: &str| {
        let mut spec = json!({"selector": {"app": "x"}, "ports": [{"port": 80}]});
        spec["clusterIP"] = json!(kind);
        if kind.is_empty() {
            spec.as_object_mut().unwrap().remove("clusterIP");
        }
        bench.object(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec}),
        )
    };
    let frozen = |text: &str| {
        let mut map = config_map("frozen", text);
        map["immutable"] = json!(true);
        bench.object(map)
    };
    let mut selector = deployment("d");
    bench
        .up(&[
            bench.object(job("j", "one")),
            service(""),
            frozen("1"),
            bench.object(selector.clone()),
            bench.object(stateful_set("set", "1Mi")),
        ])
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(client().await, &bench.namespace);
    let wait = await_condition(pods, "set-0", |pod: Option<&Pod>| pod.is_some());
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .expect("the set makes its pod")
        .unwrap();
    let pod = bench.field("pod/set-0", "{.metadata.uid}");
    merge(
        &mut selector,
        &json!({"spec": {"selector": {"matchLabels": {"tier": "x"}},
        "template": {"metadata": {"labels": {"tier": "x"}}}}}),
    );
    let mut another = job("j", "two");
    another["spec"]["template"]["spec"]["containers"][0]["image"] = json!("busybox:another");
    let outcome = bench
        .up(&[
            bench.object(another),
            service("None"),
            frozen("2"),
            bench.object(selector),
            bench.object(stateful_set("set", "2Mi")),
        ])
        .await
        .unwrap();
    let namespace = &bench.namespace;
    assert_eq!(
        bench.field("job/j", "{.spec.template.spec.containers[0].command}"),
        r#"["echo","two"]"#
    );
    let image = "{.spec.template.spec.containers[0].image}";
    assert_eq!(bench.field("job/j", image), "busybox:another");
    assert_eq!(bench.field("service/s", "{.spec.clusterIP}"), "None");
    assert_eq!(bench.field("configmap/frozen", "{.data.k}"), "2");
    assert_eq!(
        bench.field("deployment/d", "{.spec.selector.matchLabels.tier}"),
        "x"
    );
    let size = "{.spec.volumeClaimTemplates[0].spec.resources.requests.storage}";
    assert_eq!(bench.field("statefulset/set", size), "2Mi");
    assert_eq!(
        bench.field("pod/set-0", "{.metadata.uid}"),
        pod,
        "the pod went on running"
    );
    for (id, end) in [
        ("service/s", "nothing else is lost"),
        ("configmap/frozen", "nothing else is lost"),
        ("job/j", "nothing else is lost"),
        ("deployment/d", "its pods with it"),
        ("statefulset/set", "its pods and volumes stay"),
    ] {
        let begin = format!("{id} in {namespace} is made anew, since ");
        let said = |note: &String| note.starts_with(&begin) && note.ends_with(end);
        assert!(outcome.notes.iter().any(said), "{id}: {:?}", outcome.notes);
    }
}

#[tokio::test]
async fn what_holds_data_is_not_made_anew() {
    let volume = unique();
    let owner = Owner {
        stack: volume.clone(),
        root: "0123456789abcdef".into(),
    };
    let cleanup = Cleanup::namespace(&volume).and(&["pv", &volume]);
    let bench = Bench::of(owner, volume.clone(), cleanup).await;
    let made = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": {
        "accessModes": ["ReadWriteOnce", "ReadWriteMany"], "capacity": {"storage": "3Mi"}, "storageClassName": "",
        "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/tmp/llmdev-test-nothing"}}});
    let claim = |mode: &str, size: &str| {
        bench.object(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {
            "accessModes": [mode], "storageClassName": "", "volumeName": volume,
            "resources": {"requests": {"storage": size}}}}))
    };
    let mut set = stateful_set("set", "1Mi");
    set["spec"]["persistentVolumeClaimRetentionPolicy"] =
        json!({"whenDeleted": "Delete", "whenScaled": "Retain"});
    let mut other = set.clone();
    merge(
        &mut other,
        &json!({"spec": {"selector": {"matchLabels": {"tier": "x"}},
        "template": {"metadata": {"labels": {"tier": "x"}}}}}),
    );
    bench
        .up(&[
            bench.object(made),
            claim("ReadWriteOnce", "3Mi"),
            bench.object(set),
        ])
        .await
        .unwrap();
    kubectl(&[
        "wait",
        "pvc/data",
        "-n",
        &bench.namespace,
        "--for=jsonpath={.status.phase}=Bound",
        "--timeout=60s",
    ]);
    for (object, id) in [
        (claim("ReadWriteMany", "3Mi"), "persistentvolumeclaim/data"),
        (bench.object(other), "statefulset/set"),
    ] {
        let uid = bench.field(id, "{.metadata.uid}");
        let failure = bench.up(&[object]).await.unwrap_err();
        let remedy = format!(
            "undo the change, or delete it yourself, with what is in it: kubectl delete {id} -n {}",
            bench.namespace
        );
        assert_eq!(failure.remedy, Some(remedy), "{failure}");
        assert_eq!(bench.field(id, "{.metadata.uid}"), uid);
    }
    let outcome = bench.up(&[claim("ReadWriteOnce", "1Mi")]).await.unwrap();
    let kept = format!(
        "persistentvolumeclaim/data in {} keeps its 3Mi, since a claim cannot become smaller",
        bench.namespace
    );
    assert_eq!(outcome.notes, [kept]);
}

#[tokio::test]
async fn a_claim_that_holds_nothing_yet_is_made_anew() {
    let bench = Bench::new().await;
    let claim = |mode: &str, size: &str| {
        bench.object(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {
            "accessModes": [mode], "resources": {"requests": {"storage": size}}}}))
    };
    bench.up(&[claim("ReadWriteMany", "3Mi")]).await.unwrap();
    let outcome = bench.up(&[claim("ReadWriteOnce", "1Mi")]).await.unwrap();
    assert!(
        outcome.notes[0].ends_with("it held nothing yet"),
        "{:?}",
        outcome.notes
    );
    let path = "{.spec.accessModes[0]} {.spec.resources.requests.storage}";
    assert_eq!(bench.field("pvc/data", path), "ReadWriteOnce 1Mi");
}

#[tokio::test]
async fn a_kind_and_its_object_in_one_render() {
    let group = format!("{}.example.org", unique());
    let plural = format!("things.{group}");
    let name = unique();
    let owner = Owner {
        stack: name.clone(),
        root: "0123456789abcdef".into(),
    };
    let cleanup = Cleanup::namespace(&name).and(&["crd", &plural]);
    let bench = Bench::of(owner, name, cleanup).await;
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
        "properties": {"size": {"type": "integer"}}}}});
    let definition = bench.object(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": plural},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"kind": "Thing", "plural": "things", "singular": "thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    }));
    let version = format!("{group}/v1");
    let thing = bench.object(json!({"apiVersion": version, "kind": "Thing", "metadata": {"name": "one"}, "spec": {"size": 1}}));
    let objects = [thing, definition];
    let all: Vec<&Object> = objects.iter().collect();
    let unknown = bench.applier.unknown(&all[..1]).await.unwrap();
    assert_eq!(unknown.len(), 1, "it is not defined yet");
    let unknown = bench.applier.unknown(&all).await.unwrap();
    assert_eq!(unknown, [], "its definition comes with it");
    let outcome = bench.up(&objects).await.unwrap();
    assert!(outcome.skipped.is_empty(), "{:?}", outcome.skipped);
    let misspelt =
        bench.object(json!({"apiVersion": version, "kind": "Thnig", "metadata": {"name": "two"}}));
    let nowhere = bench.object(
        json!({"apiVersion": "gone.example.org/v1", "kind": "Thing", "metadata": {"name": "x"}}),
    );
    let outcome = bench
        .up(&[misspelt, nowhere, bench.object(config_map("a", "1"))])
        .await
        .unwrap();
    assert_eq!(outcome.applied.len(), 1, "the rest is applied");
    let expected = format!(
        "left out, since the cluster does not know their kinds: \
         Thing x (gone.example.org/v1), Thnig two ({version}; is Thing meant?)"
    );
    assert_eq!(unknown_note(&outcome.skipped), Some(expected));
    let removed = bench.down(false).await;
    assert!(
        removed
            .deleted
            .contains(&format!("customresourcedefinition/{plural}")),
        "{removed:?}"
    );
    assert_eq!(
        kubectl(&["get", "crd", &plural, "--ignore-not-found", "-o", "name"]),
        ""
    );
}

#[tokio::test]
async fn versions_that_the_cluster_does_not_serve_are_told_with_those_that_it_does() {
    let bench = Bench::new().await;
    let objects = [
        ("policy/v1beta1", "PodDisruptionBudget"),
        ("extensions/v1beta1", "Ingress"),
        ("apps/v1", "Deploymnet"),
        ("v1", "ConfigMap"),
        ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ];
    let object = |(version, kind): (&str, &str)| {
        bench.object(json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}}))
    };
    let objects: Vec<Object> = objects.into_iter().map(object).collect();
    let all: Vec<&Object> = objects.iter().collect();
    let unknown = bench.applier.unknown(&all).await.unwrap();
    let failure = unknown_refusal(unknown.iter());
    assert_eq!(failure.kind, Kind::Config);
    insta::assert_snapshot!(format!("{}\n{}", failure.what, failure.detail.join("\n")), @"
    the cluster does not know the kinds of 4 objects
    PodDisruptionBudget x (policy/v1beta1; is policy/v1 meant?)  k8s/a.yaml:1
    Ingress x (extensions/v1beta1; is networking.k8s.io/v1 meant?)  k8s/a.yaml:1
    Deploymnet x (apps/v1; is Deployment meant?)  k8s/a.yaml:1
    ServiceMonitor x (monitoring.coreos.com/v1)  k8s/a.yaml:1
    ");
}

#[tokio::test]
async fn somebody_elses_fields_are_not_taken_unasked() {
    let bench = Bench::new().await;
    let object = |replicas: u32| {
        let mut value = deployment("web");
        value["spec"]["replicas"] = json!(replicas);
        bench.object(value)
    };
    bench.up(&[object(1)]).await.unwrap();
    let namespace = bench.namespace.clone();
    let patch = r#"{"spec":{"replicas":2}}"#;
    kubectl(&[
        "patch",
        "deployment",
        "web",
        "-n",
        &namespace,
        "-p",
        patch,
        "--field-manager=somebody",
    ]);
    let failure = bench.up(&[object(1)]).await.unwrap_err();
    let expected = format!(
        "deployment/web in {namespace} was changed by someone else: .spec.replicas was set by somebody"
    );
    assert_eq!(failure.line(), expected);
    assert!(failure.remedy.unwrap().contains("--force-conflicts"));
    assert_eq!(bench.field("deployment/web", "{.spec.replicas}"), "2");
    bench.up_with(&[object(1)], Conflicts::Take).await.unwrap();
    assert_eq!(bench.field("deployment/web", "{.spec.replicas}"), "1");
    // The user's own plain `kubectl apply` is not somebody else.
    kubectl(&[
        "patch",
        "deployment",
        "web",
        "-n",
        &namespace,
        "-p",
        patch,
        "--field-manager=kubectl-client-side-apply",
    ]);
    bench.up(&[object(1)]).await.unwrap();
    assert_eq!(bench.field("deployment/web", "{.spec.replicas}"), "1");
}

#[tokio::test]
async fn an_autoscalers_replicas_are_kept() {
    let bench = Bench::new().await;
    let mut value = deployment("web");
    value["spec"]["replicas"] = json!(0);
    let objects = [bench.object(value)];
    bench.up(&objects).await.unwrap();
    let namespace = bench.namespace.clone();
    kubectl(&[
        "patch",
        "deployment",
        "web",
        "-n",
        &namespace,
        "--subresource=scale",
        "--type=merge",
        "--field-manager=kube-controller-manager",
        "-p",
        r#"{"spec":{"replicas":2}}"#,
    ]);
    let outcome = bench.up(&objects).await.unwrap();
    assert_eq!(
        outcome.notes,
        [format!(
            "deployment/web in {namespace} keeps the replicas that its autoscaler set"
        )]
    );
    assert_eq!(bench.field("deployment/web", "{.spec.replicas}"), "2");
}

#[tokio::test]
async fn drift_is_mended_though_nothing_was_edited_here() {
    let bench = Bench::new().await;
    let objects = [
        bench.object(config_map("a", "1")),
        bench.object(config_map("b", "1")),
        bench.object(config_map("c", "1")),
        bench.object(deployment("web")),
    ];
    bench.up(&objects).await.unwrap();
    let namespace = bench.namespace.clone();
    let patch = |object: &str, patch: &str| {
        let manager = "--field-manager=kubectl-client-side-apply";
        kubectl(&[
            "patch",
            object,
            "-n",
            &namespace,
            manager,
            "--type=merge",
            "-p",
            patch,
        ]);
    };
    patch("configmap/a", r#"{"data":{"k":"2"}}"#);
    patch(
        "deployment/web",
        r#"{"metadata":{"labels":{"llmdev.dev/service":null}},"spec":{"template":{"spec":{"terminationGracePeriodSeconds":9}}}}"#,
    );
    kubectl(&["delete", "configmap", "b", "-n", &namespace]);
    let outcome = bench.up(&objects).await.unwrap();
    assert_eq!(bench.field("configmap/a", "{.data.k}"), "1");
    assert_eq!(bench.field("configmap/b", "{.data.k}"), "1");
    let path = "{.spec.template.spec.terminationGracePeriodSeconds}";
    assert_eq!(bench.field("deployment/web", path), "0");
    let changed = changed(&outcome);
    assert_eq!(
        (
            changed["configmap/a"],
            changed["configmap/b"],
            changed["configmap/c"]
        ),
        (true, true, false)
    );
}

#[tokio::test]
async fn what_is_just_going_is_waited_for() {
    let bench = Bench::new().await;
    let mut value = config_map("a", "1");
    value["metadata"]["finalizers"] = json!(["example.org/held"]);
    bench.up(&[bench.object(value)]).await.unwrap();
    let namespace = bench.namespace.clone();
    let _held = Held {
        namespace: &bench.namespace,
        name: "a",
    };
    let before = bench.field("configmap/a", "{.metadata.uid}");
    kubectl(&["delete", "configmap", "a", "-n", &namespace, "--wait=false"]);
    let release = tokio::task::spawn_blocking(move || {
        let off = r#"{"metadata":{"finalizers":null}}"#;
        kubectl(&[
            "patch",
            "configmap",
            "a",
            "-n",
            &namespace,
            "--type=merge",
            "-p",
            off,
        ])
    });
    let objects = [bench.object(config_map("a", "1"))];
    let (outcome, _) = tokio::join!(bench.up(&objects), release);
    outcome.unwrap();
    let after = bench.field("configmap/a", "{.metadata.uid}");
    assert!(!after.is_empty() && after != before, "{before} {after}");
}

#[tokio::test]
async fn refusals_name_the_object_and_all_of_them() {
    let bench = Bench::new().await;
    let big = "x".repeat(2_000_000);
    let mut unknown = config_map("unknown", "1");
    unknown["dta"] = json!({});
    let mut elsewhere = config_map("elsewhere", "1");
    elsewhere["metadata"]["namespace"] = json!("llmdev-test-not-there");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "s3cret!"}});
    let objects = [
        config_map("big", &big),
        unknown,
        elsewhere,
        secret,
        config_map("good", "1"),
    ];
    let objects = objects.map(|value| bench.object(value));
    let failure = bench.up(&objects).await.unwrap_err();
    let mut text = failure.line() + "\n" + &failure.detail.join("\n");
    text = text.replace(&bench.namespace, "NAMESPACE");
    assert!(!text.contains("s3cret"), "{text}");
    assert_eq!(
        bench.get("configmap good"),
        "configmap/good\n",
        "the rest is applied"
    );
    for said in [
        "configmap/big in NAMESPACE is too large: it has 1954 KiB, and a ConfigMap takes 1024 KiB",
        "the cluster refuses configmap/unknown in NAMESPACE: .dta: field not declared in schema",
        "configmap/elsewhere in llmdev-test-not-there cannot be applied: there is no namespace llmdev-test-not-there",
        "the cluster refuses secret/s in NAMESPACE: ",
        "and 3 more:",
        "it comes from k8s/a.yaml:1",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_said_with_its_size() {
    let bench = Bench::new().await;
    for (bytes, size) in [(5_000_000, 4883), (1_200_000, 1172)] {
        let large = bench.object(config_map("large", &"x".repeat(bytes)));
        let failure = bench.up(&[large]).await.unwrap_err();
        assert_eq!(
            failure.line(),
            format!(
                "configmap/large in {} is too large: it has {size} KiB, and a ConfigMap takes 1024 KiB",
                bench.namespace
            )
        );
        assert!(failure.remedy.is_some());
    }
}

#[tokio::test]
async fn a_namespace_that_is_going_is_said_at_once() {
    let bench = Bench::new().await;
    let namespace = bench.namespace.clone();
    kubectl(&["create", "namespace", &namespace]);
    let finalizer = r#"{"metadata":{"name":"held","finalizers":["example.org/held"]}}"#;
    kubectl(&["create", "configmap", "held", "-n", &namespace]);
    let _held = Held {
        namespace: &namespace,
        name: "held",
    };
    kubectl(&[
        "patch",
        "configmap",
        "held",
        "-n",
        &namespace,
        "-p",
        finalizer,
    ]);
    kubectl(&["delete", "namespace", &namespace, "--wait=false"]);
    let began = Instant::now();
    let failure = bench
        .up(&[bench.object(config_map("a", "1"))])
        .await
        .unwrap_err();
    assert_eq!(
        failure.what,
        format!("the namespace {namespace} is being deleted")
    );
    let objects = [bench.object(config_map("b", "1"))];
    let one: Vec<&Object> = objects.iter().collect();
    let failure = bench
        .applier
        .apply(&one, Conflicts::Refuse)
        .await
        .unwrap_err();
    assert_eq!(
        failure.what,
        format!("the namespace {namespace} is being deleted")
    );
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn volumes_stay_unless_asked_for() {
    let bench = Bench::new().await;
    let objects = [bench.object_of(stateful_set("set", "1Mi"), Some("set"))];
    bench.up(&objects).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client().await, &bench.namespace);
    let wait = await_condition(pods, "set-0", |pod: Option<&Pod>| pod.is_some());
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .expect("the set makes its pod")
        .unwrap();
    assert!(bench.applier.prune(&bench.keep(&objects)).await.unwrap() == Default::default());
    let removed = bench.down(false).await;
    assert_eq!(
        removed.deleted,
        [format!("statefulset/set in {}", bench.namespace)]
    );
    assert!(
        removed.notes[0].starts_with("1 volume stays"),
        "{:?}",
        removed.notes
    );
    assert_eq!(bench.get("pvc"), "persistentvolumeclaim/data-set-0\n");
    let removed = bench.down(true).await;
    assert_eq!(removed.deleted.len(), 2, "{removed:?}");
    assert_eq!(bench.get(&format!("namespace {}", bench.namespace)), "");
}

#[tokio::test]
async fn restart_replaces_pods_and_up_leaves_it_at_that() {
    let bench = Bench::new().await;
    let objects = [
        bench.object_of(deployment("web"), Some("web")),
        bench.object_of(deployment("other"), Some("other")),
        bench.object_of(job("once", "x"), Some("once")),
    ];
    bench.up(&objects).await.unwrap();
    let namespace = &bench.namespace;
    let restarted = bench.applier.restart("web").await.unwrap();
    assert_eq!(
        restarted.rolling,
        [format!("deployment/web in {namespace}")]
    );
    let path = "{.metadata.generation}";
    assert_eq!(
        (
            bench.field("deployment/web", path),
            bench.field("deployment/other", path)
        ),
        ("2".into(), "1".into())
    );
    bench.up(&objects).await.unwrap();
    assert_eq!(bench.field("deployment/web", path), "2");
    assert_eq!(
        bench.applier.restart("once").await.unwrap().deleted,
        [format!("job/once in {namespace}")]
    );
    assert_eq!(bench.get("job"), "");
    let failure = bench.applier.restart("nobody").await.unwrap_err();
    assert_eq!(
        failure.what,
        "nothing of the service nobody runs in the cluster"
    );
}

#[tokio::test]
async fn forty_unchanged_objects_take_no_time() {
    let mut bench = Bench::new().await;
    let mut objects: Vec<Object> = (0..32)
        .map(|index| bench.object(config_map(&format!("c{index}"), "1")))
        .collect();
    for index in 0..8 {
        let mut value = deployment(&format!("d{index}"));
        value["spec"]["replicas"] = json!(0);
        objects.push(bench.object(value));
    }
    bench.up(&objects).await.unwrap();
    bench.applier.prune(&bench.keep(&objects)).await.unwrap();
    let mut times = Vec::new();
    bench.again(true).await;
    for _ in 0..6 {
        let began = Instant::now();
        bench.up(&objects).await.unwrap();
        let applied = began.elapsed();
        bench.applier.prune(&bench.keep(&objects)).await.unwrap();
        times.push((applied, began.elapsed()));
    }
    println!("apply, and with prune: at first {:?}", times[0]);
    times.sort();
    println!("apply, and with prune: at best {:?}", times[0]);
    // Half of what `up` with nothing changed may take, and that in a debug build; the others have in them what else the
    // machine does.
    assert!(times[0].1 < Duration::from_millis(500), "{times:?}");
}
