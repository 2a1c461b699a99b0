//! A service that is only an image, named in a ConfigMap, and kinds that the cluster does not know: on the real cluster.

mod common;

use std::process::Output;

use common::live::{Live, until};

const SERVICES: &str = "  executor: { dependsOn: [heavy] }\n  heavy:\n    build: heavy\n    workload: none\n    \
    imageIn: [{ kind: ConfigMap, name: executor-config, path: data.HEAVY_IMAGE }]\n";

const MANIFESTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: executor-config }
data: { HEAVY_IMAGE: "heavy:latest" }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: executor }
spec:
  replicas: 2
  selector: { matchLabels: { app: executor } }
  template:
    metadata: { labels: { app: executor } }
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - { name: main, image: "busybox:1", command: [sleep, "100000"], envFrom: [{ configMapRef: { name: executor-config } }] }
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: { name: executor }
---
apiVersion: keda.sh/v1alpha1
kind: ScaledJob
metadata: { name: executor }
"#;

fn up(live: &Live) -> (Output, String) {
    let output = live.llmdev(&["up"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

/// What a pod says that is made from the image that the executor is told of.
fn heavy_says(live: &Live, pod: &str) -> String {
    let echo = [
        "exec",
        "deployment/executor",
        "--",
        "sh",
        "-c",
        "echo $HEAVY_IMAGE",
    ];
    let image = live.kubectl(&echo);
    let image = format!("--image={}", image.trim());
    live.kubectl(&[
        "run",
        pod,
        &image,
        "--restart=Never",
        "--image-pull-policy=Never",
    ]);
    let ended = "--for=jsonpath={.status.phase}=Succeeded";
    live.kubectl(&["wait", &format!("pod/{pod}"), ended, "--timeout=60s"]);
    live.kubectl(&["logs", pod])
}

#[test]
fn an_image_that_only_a_config_map_names_is_built_loaded_and_set() {
    let live = Live::new("image-in", SERVICES);
    live.write("k8s/all.yaml", MANIFESTS);
    live.write(
        "heavy/Dockerfile",
        "FROM busybox:1\nCOPY note /note\nCMD [\"cat\", \"/note\"]\n",
    );
    live.write("heavy/note", "one");
    let (output, said) = up(&live);
    assert!(output.status.success(), "{said}\n{}", live.log());
    let left_out = "left out, since the cluster does not know their kinds: \
                    ScaledJob executor (keda.sh/v1alpha1), ServiceMonitor executor (monitoring.coreos.com/v1)";
    assert_eq!(said.matches("left out").count(), 1, "{said}");
    assert!(said.contains(left_out), "{said}");
    assert_eq!(heavy_says(&live, "first"), "one");

    // An edit gets there as it would into a container, and rolls who is told of it.
    let told = || {
        let path = "-o=jsonpath={.spec.template.metadata.annotations}";
        live.kubectl(&["get", "deployment", "executor", path])
    };
    let before = told();
    live.write("heavy/note", "two");
    until("a rollout", || (told() != before).then_some(()));
    live.kubectl(&["rollout", "status", "deployment/executor", "--timeout=60s"]);
    assert_eq!(heavy_says(&live, "second"), "two");

    // What the stack asks to adapt is said; what it does not want left out is refused.
    let stack = std::fs::read_to_string(live.path("stack.yaml")).unwrap();
    live.write("stack.yaml", &format!("{stack}dev: {{ replicas: 1 }}\n"));
    let (_, said) = up(&live);
    assert!(
        said.contains("replicas lowered: deployment/executor 2 → 1"),
        "{said}"
    );
    assert_eq!(
        live.kubectl(&[
            "get",
            "deployment",
            "executor",
            "-o",
            "jsonpath={.spec.replicas}"
        ]),
        "1"
    );
    live.write("stack.yaml", &format!("{stack}strict: true\n"));
    let (output, said) = up(&live);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("k8s/all.yaml:20") && said.contains("strict: true"),
        "{said}"
    );
}
