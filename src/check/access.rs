//! What pods and people may ask of the API server.

use serde_json::Value;

use super::Findings;
use super::field::Field;
use super::scene::{Scene, flag, items, text};
use crate::render::Object;

/// Verbs that read.
const READS: [&str; 4] = ["get", "list", "watch", "*"];
/// Verbs by which a right becomes more rights.
const ESCALATES: [&str; 3] = ["escalate", "bind", "impersonate"];
/// What runs commands in pods.
const COMMANDS: [&str; 3] = ["pods/exec", "pods/attach", "pods/ephemeralcontainers"];

/// `default-service-account`.
pub fn default_account<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "serviceAccountName: NAME # its own, or
automountServiceAccountToken: false";
    for pod in &scene.pods {
        let name = text(pod.spec, "/serviceAccountName").unwrap_or("default");
        let account = scene.find("ServiceAccount", pod.namespace, name);
        let account = account.and_then(|it| flag(&it.value, "/automountServiceAccountToken"));
        let token = flag(pod.spec, "/automountServiceAccountToken").or(account);
        if name == "default" && token != Some(false) {
            let field = pod.spec_field().dot("serviceAccountName");
            let message =
                "its pods have the token of the namespace's default ServiceAccount".to_owned();
            found.add(pod.object, field, message, mend);
        }
    }
}

/// `rbac-wildcard`.
pub fn wildcard<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for (role, index, rule) in rules(scene) {
        for list in ["verbs", "resources", "apiGroups", "nonResourceURLs"] {
            if has(rule, list, "*") {
                let mend = match list {
                    "verbs" => "verbs: [get, list, watch]",
                    "apiGroups" => "apiGroups: [\"\"]",
                    "resources" => "resources: [pods, services]",
                    _ => "nonResourceURLs: [/metrics]",
                };
                found.add(
                    role,
                    place(index).dot(list),
                    format!("a rule allows all {list}"),
                    mend,
                );
            }
        }
    }
}

/// `rbac-secrets`.
pub fn secrets<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "resources: [secrets]
resourceNames: [NAME]
verbs: [get]";
    for (role, index, rule) in rules(scene) {
        let named = items(rule, "resourceNames").next().is_some();
        if has(rule, "apiGroups", "")
            && has(rule, "resources", "secrets")
            && !named
            && any(rule, "verbs", &READS)
        {
            found.add(
                role,
                place(index).dot("resources"),
                "a rule lets all Secrets be read".to_owned(),
                mend,
            );
        }
    }
}

/// `rbac-exec`.
pub fn commands<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "resources: [pods, pods/log]
verbs: [get, list, watch]";
    for (role, index, rule) in rules(scene) {
        if any(rule, "resources", &COMMANDS)
            && any(rule, "verbs", &["create", "get", "update", "patch", "*"])
        {
            let message = "a rule lets commands be run in any pod".to_owned();
            found.add(role, place(index).dot("resources"), message, mend);
        }
    }
}

/// `rbac-escalation`.
pub fn escalation<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for (role, index, rule) in rules(scene) {
        let verbs: Vec<_> = ESCALATES
            .into_iter()
            .filter(|verb| has(rule, "verbs", verb))
            .collect();
        if !verbs.is_empty() {
            let message = format!("a rule allows {}", verbs.join(", "));
            found.add(
                role,
                place(index).dot("verbs"),
                message,
                "verbs: [get, list, watch]",
            );
        }
    }
}

/// `rbac-cluster-admin`.
pub fn cluster_admin<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: NAME }";
    for kind in ["ClusterRoleBinding", "RoleBinding"] {
        for binding in scene.kind(GROUP, kind) {
            if text(&binding.value, "/roleRef/name") == Some("cluster-admin") {
                let message = "it gives all rights there are".to_owned();
                found.add(binding, Field::of("roleRef.name"), message, mend);
            }
        }
    }
}

const GROUP: &str = "rbac.authorization.k8s.io";

/// The rules of all roles.
fn rules<'a>(scene: &Scene<'a>) -> Vec<(&'a Object, usize, &'a Value)> {
    let roles = scene
        .kind(GROUP, "Role")
        .chain(scene.kind(GROUP, "ClusterRole"));
    let rules = |role: &'a Object| {
        let rules = items(&role.value, "rules").enumerate();
        rules.map(move |(index, rule)| (role, index, rule))
    };
    roles.flat_map(rules).collect()
}

fn place(index: usize) -> Field {
    Field::of("rules").item(index)
}

fn has(rule: &Value, list: &str, word: &str) -> bool {
    items(rule, list).any(|it| it == word)
}

fn any(rule: &Value, list: &str, words: &[&str]) -> bool {
    words.iter().any(|word| has(rule, list, word))
}
