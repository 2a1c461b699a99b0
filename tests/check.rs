//! `llmdev check` as people run it: where findings stand, how they are printed, how it ends.

#[path = "common/cli.rs"]
#[allow(dead_code, reason = "each test uses a part")]
mod cli;

use cli::{Project, Ran};
use serde_json::Value;

/// A stack of a plain manifest, with more of `stack.yaml` after it.
fn plain(more: &str) -> Project {
    Project::new(&[
        (
            "stack.yaml",
            &format!(
                "apiVersion: llmdev/v1\nname: shop\nrender: [{{ manifests: [k8s/*.yaml] }}]\nservices: {{ web: {{}} }}\n{more}"
            ),
        ),
        ("k8s/web.yaml", WEB),
    ])
}

const WEB: &str = r#"# Two things are wrong with it, and one is worth a note.
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      automountServiceAccountToken: false
      securityContext: { runAsNonRoot: true, seccompProfile: { type: RuntimeDefault } }
      containers:
        - name: web
          image: web:latest
          env:
            - name: LOG_LEVEL
              value: info
            - name: API_KEY
              value: sk-1234
          livenessProbe: { exec: { command: [check] } }
          resources:
            limits: { cpu: 500m, memory: 512Mi }
          securityContext:
            allowPrivilegeEscalation: false
            capabilities: { drop: [ALL] }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: all }
spec: { podSelector: {}, policyTypes: [Ingress] }
"#;

/// A base, an overlay that patches and generates, and nothing else.
fn kustomized() -> Project {
    let deployment = WEB.replace("LOG_LEVEL", "NAME").replace("API_KEY", "OTHER");
    Project::new(&[
        (
            "stack.yaml",
            "apiVersion: llmdev/v1\nname: shop\nrender: [{ kustomize: k8s/prod }]\nservices: { web: {} }\n",
        ),
        ("k8s/base/kustomization.yaml", "resources: [web.yaml]\n"),
        ("k8s/base/web.yaml", &deployment),
        (
            "k8s/prod/kustomization.yaml",
            r#"namePrefix: prod-
resources: [../base]
patches:
  - path: limits.yaml
  - target: { kind: Deployment }
    patch: '[{"op": "add", "path": "/spec/template/spec/hostNetwork", "value": true}]'
secretGenerator:
  - name: keys
    literals:
      - user=web
      - api-key=changeme
images:
  - { name: web, newTag: latest }
"#,
        ),
        (
            "k8s/prod/limits.yaml",
            "apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  template:
    spec:
      containers:
        - name: other
          image: other:1
        - name: web
          securityContext:
            privileged: true
",
        ),
    ])
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// Rule, object and place of each finding.
fn places(ran: &Ran) -> String {
    let report = json(ran);
    let findings = report["findings"].as_array().expect("a list").iter();
    let line = |it: &Value| {
        let (object, line) = (&it["object"], it["line"].to_string());
        let file = it["file"].as_str().unwrap_or("nowhere");
        let words = [&it["rule"], &object["kind"], &object["name"]]
            .map(|it| it.as_str().unwrap_or_default());
        format!("{} {file}:{line}\n", words.join(" "))
    };
    findings.map(line).collect()
}

#[test]
fn findings_are_read_by_people() {
    let ran = plain("check: { ignore: [{ rule: image-tag, reason: the registry moves it, objects: [deployment/web] }, { rule: host-path, reason: none yet }] }\n").run(&["check"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    insta::assert_snapshot!(ran.out);
}

#[test]
fn findings_are_read_by_programs() {
    let ran = plain("check: { ignore: [{ rule: image-tag, reason: the registry moves it }] }\n")
        .run(&["check", "-o", "json"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    insta::assert_snapshot!(ran.out);
}

#[test]
fn findings_are_read_by_code_scanning() {
    let project =
        plain("check: { ignore: [{ rule: image-tag, reason: the registry moves it }] }\n");
    let ran = project.run(&["check", "-o", "sarif"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let mut log = json(&ran);
    let run = &mut log["runs"][0];
    let rules = run["tool"]["driver"]["rules"]
        .as_array_mut()
        .expect("rules");
    let ids: Vec<_> = rules.iter().map(|rule| rule["id"].clone()).collect();
    // One says how they look.
    rules.truncate(1);
    for result in run["results"].as_array().expect("results") {
        let index = result["ruleIndex"].as_u64().expect("an index");
        assert_eq!(ids[usize::try_from(index).unwrap()], result["ruleId"]);
    }
    let root = project.path("").display().to_string();
    let text = serde_json::to_string_pretty(&log).unwrap();
    let text = text.replace(root.trim_end_matches('/'), "/PROJECT");
    insta::assert_snapshot!(text.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}

#[test]
fn plain_manifests_are_known_to_the_line() {
    let project = plain("");
    insta::assert_snapshot!(places(&project.run(&["check", "-o", "json"])), @r"
    secret-in-env Deployment web k8s/web.yaml:19
    image-tag Deployment web k8s/web.yaml:14
    read-only-root Deployment web k8s/web.yaml:23
    ");
    // The same through a pipe, and in a list.
    let piped = project.run_with(&["check", "--from", "-", "-o", "json"], WEB);
    assert!(
        places(&piped).contains("secret-in-env Deployment web -:19"),
        "{}",
        places(&piped)
    );
    let list = "apiVersion: v1\nkind: List\nitems:\n  - { apiVersion: v1, kind: ConfigMap, metadata: { name: x } }\n  \
        - apiVersion: v1\n    kind: Secret\n    metadata: { name: keys }\n    stringData:\n      key: changeme\n";
    let piped = project.run_with(&["check", "--from", "-", "-o", "json"], list);
    assert_eq!(places(&piped), "secret-placeholder Secret keys -:9\n");
}

#[test]
fn what_kustomize_made_is_found_where_it_came_from() {
    let ran = kustomized().run(&["check", "-o", "json"]);
    assert!(ran.err.is_empty(), "{}", ran.err);
    insta::assert_snapshot!(places(&ran), @r"
    secret-placeholder Secret prod-keys-648kdfkhbk k8s/prod/kustomization.yaml:11
    privileged Deployment prod-web k8s/prod/limits.yaml:12
    host-namespace Deployment prod-web k8s/base/web.yaml:9
    image-tag Deployment prod-web k8s/base/web.yaml:14
    liveness-probe Deployment prod-web k8s/prod/limits.yaml:8
    memory-limit Deployment prod-web k8s/prod/limits.yaml:8
    requests Deployment prod-web k8s/prod/limits.yaml:8
    privilege-escalation Deployment prod-web k8s/prod/limits.yaml:8
    capabilities-kept Deployment prod-web k8s/prod/limits.yaml:8
    single-replica Deployment prod-web k8s/base/web.yaml:5
    cpu-limit Deployment prod-web k8s/prod/limits.yaml:8
    read-only-root Deployment prod-web k8s/prod/limits.yaml:8
    read-only-root Deployment prod-web k8s/base/web.yaml:23
    rollout Deployment prod-web k8s/base/web.yaml:5
    ");
}

#[test]
fn what_helm_made_is_found_in_its_template() {
    let project = Project::new(&[
        (
            "chart/Chart.yaml",
            "apiVersion: v2\nname: shop\nversion: 1.0.0\n",
        ),
        ("chart/values.yaml", "key: changeme\n"),
        (
            "chart/templates/secret.yaml",
            "{{- if .Values.key }}\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {{ .Release.Name }}-keys\nstringData:\n  key: {{ .Values.key }}\n{{- end }}\n",
        ),
        (
            "chart/templates/many.yaml",
            "{{- range list \"a\" \"b\" }}\n---\napiVersion: v1\n\"kind\": Service\nmetadata: { name: {{ . }} }\nspec: { selector: { app: {{ . }} }, ports: [{ port: 1 }] }\n{{- end }}\n",
        ),
        (
            "chart/templates/hook.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: { name: hook, annotations: { helm.sh/hook: test } }\nspec: { containers: [] }\n",
        ),
    ]);
    let ran = project.run(&["check", "--from", "chart", "-o", "json"]);
    insta::assert_snapshot!(places(&ran), @r"
    secret-placeholder Secret release-keys chart/templates/secret.yaml:3
    service-without-pods Service a chart/templates/many.yaml:null
    service-without-pods Service b chart/templates/many.yaml:null
    ");
    // What was kept of the first time says the same.
    assert_eq!(
        places(&project.run(&["check", "--from", "chart", "-o", "json"])),
        places(&ran)
    );
}

#[test]
fn it_fails_by_the_severity_that_is_asked_for() {
    let fine =
        "apiVersion: v1\nkind: Secret\nmetadata: { name: x }\nstringData: { key: 9fA31bQz77 }\n";
    let project = Project::new(&[("secret.yaml", fine)]);
    for (level, code) in [("error", 0), ("warning", 1), ("info", 1)] {
        let ran = project.run(&["check", "--from", "secret.yaml", "--fail-on", level]);
        assert_eq!(ran.code, code, "{level}: {ran:?}");
        assert!(ran.out.contains("1 warning in 1 object,"), "{}", ran.out);
    }
    project.write(
        "secret.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: x }\n",
    );
    let ran = project.run(&["check", "--from", "secret.yaml", "--fail-on", "info"]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (
            0,
            "nothing found in 1 object, without the rules for production\n"
        )
    );
}

#[test]
fn production_is_known_by_its_name() {
    let production = |ran: &Ran| json(ran)["production"] == true;
    let profile = "profiles: { prod: { patch: { namespace: shop } }, staging: { patch: { namespace: product } } }\n";
    let project = plain(profile);
    for (words, expected) in [
        (&["check", "-o", "json"][..], false),
        (&["check", "-o", "json", "-p", "prod"], true),
        (&["check", "-o", "json", "-p", "staging"], false),
        (&["check", "-o", "json", "--production"], true),
        (&["check", "-o", "json", "--from", "k8s"], false),
    ] {
        assert_eq!(production(&project.run(words)), expected, "{words:?}");
    }
    assert!(production(
        &plain("namespace: shop-production\n").run(&["check", "-o", "json"])
    ));
    assert!(production(
        &kustomized().run(&["check", "-o", "json", "--from", "k8s/prod"])
    ));
    assert!(!production(
        &kustomized().run(&["check", "-o", "json", "--from", "k8s/base"])
    ));
}

#[test]
fn the_rules_are_listed_with_their_sources() {
    let project = Project::new(&[]);
    let text = project.run(&["check", "--list"]);
    let rules = json(&project.run(&["check", "--list", "-o", "json"]));
    let rules = rules.as_array().expect("a list");
    assert_eq!((text.code, rules.len()), (0, llmdev::check::RULES.len()));
    for rule in rules {
        for key in ["rule", "title", "source"] {
            let said = rule[key].as_str().expect("text");
            assert!(!said.is_empty() && text.out.contains(said), "{rule}");
        }
    }
}

#[test]
fn what_does_not_go_together_ends_with_2() {
    let project = plain("");
    for (words, said) in [
        (&["check", "--from", "nowhere"][..], "cannot read nowhere"),
        (
            &["check", "--from", "k8s", "-p", "prod"],
            "--from reads no stack.yaml",
        ),
        (
            &["check", "--list", "-o", "sarif"],
            "a list of rules is not SARIF",
        ),
        (
            &["check", "--fail-on", "nonsense"],
            "possible values: info, warning, error",
        ),
        (
            &["status", "-o", "sarif"],
            "only `llmdev check` prints SARIF",
        ),
    ] {
        let ran = project.run(words);
        assert_eq!(ran.code, 2, "{words:?}: {ran:?}");
        assert!(
            ran.out.is_empty() && ran.err.contains(said),
            "{words:?}: {ran:?}"
        );
    }
}

#[test]
fn what_cannot_be_read_ends_with_3() {
    let project = Project::new(&[
        ("k8s/values.yaml", "a: 1\n"),
        ("broken.yaml", "a: [\n"),
        ("stack.yaml", ""),
    ]);
    for (words, said) in [
        (&["check"][..], "the file is empty"),
        (
            &["check", "--from", "k8s"],
            "there are no Kubernetes objects in",
        ),
        (
            &["check", "--from", "broken.yaml"],
            "broken.yaml:1:4 is not good YAML",
        ),
        (
            &["check", "--from", "-"],
            "there are no Kubernetes objects in standard input",
        ),
    ] {
        let ran = project.run(words);
        assert_eq!(ran.code, 3, "{words:?}: {ran:?}");
        assert!(ran.err.contains(said), "{words:?}: {ran:?}");
    }
    project.write("twice/a/web.yaml", WEB);
    project.write("twice/b/web.yaml", WEB);
    let twice = project.run(&["check", "--from", "twice"]);
    assert_eq!(twice.code, 3, "{twice:?}");
    assert!(
        twice.err.contains("is rendered twice") && twice.err.contains("one environment's folder"),
        "{}",
        twice.err
    );
    project.write("k8s/web.yaml", WEB);
    let ran = project.run(&["check", "--from", "k8s"]);
    assert_eq!(
        ran.err,
        "note: values.yaml:1 is no Kubernetes object: left out\n"
    );
}
