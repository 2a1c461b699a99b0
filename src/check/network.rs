//! Who reaches whom.

use serde_json::Value;

use super::Findings;
use super::field::Field;
use super::scene::{Pod, Scene, items, selects, text};

/// `network-policy`.
pub fn policy<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
spec:
  podSelector: { matchLabels: { KEY: VALUE } }
  policyTypes: [Ingress]
  ingress:
    - from: [{ podSelector: { matchLabels: { KEY: CALLER } } }]";
    // How the policies of other groups choose pods is theirs to say.
    let foreign: Vec<_> = scene
        .objects
        .iter()
        .filter(|object| {
            object.kind.ends_with("NetworkPolicy") && object.group() != "networking.k8s.io"
        })
        .map(|object| {
            (
                object.kind.contains("Clusterwide") || object.kind.contains("Global"),
                scene.namespace(object),
            )
        })
        .collect();
    for pod in &scene.pods {
        let mut policies = scene.kind("networking.k8s.io", "NetworkPolicy");
        let covered = policies.any(|policy| {
            let selector = policy
                .value
                .pointer("/spec/podSelector")
                .unwrap_or(&Value::Null);
            scene.namespace(policy) == pod.namespace && selects(selector, pod.labels())
        });
        let perhaps = foreign
            .iter()
            .any(|(all, namespace)| *all || *namespace == pod.namespace);
        if !covered && !perhaps {
            let message = "no NetworkPolicy selects its pods".to_owned();
            found.add(
                pod.object,
                pod.field().dot("metadata.labels"),
                message,
                mend,
            );
        }
    }
}

/// `service-without-pods`.
pub fn selects_nothing<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for service in scene.kind("", "Service") {
        let Some(selector) = selector(&service.value) else {
            continue;
        };
        if scene
            .labelled(scene.namespace(service), selector)
            .is_empty()
        {
            let message = "its selector matches the labels of no pod".to_owned();
            let mend = "selector: { KEY: VALUE } # as in the pods' template.metadata.labels";
            found.add(service, Field::of("spec.selector"), message, mend);
        }
    }
}

/// `service-port`.
pub fn ports<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for service in scene.kind("", "Service") {
        let Some(selector) = selector(&service.value) else {
            continue;
        };
        let pods = scene.labelled(scene.namespace(service), selector);
        for (index, port) in items(&service.value["spec"], "ports").enumerate() {
            let target = port
                .get("targetPort")
                .filter(|it| !it.is_null() && **it != 0);
            let Some(target) = target.or_else(|| port.get("port")) else {
                continue;
            };
            if !pods.is_empty() && !pods.iter().any(|pod| may_have(pod, target)) {
                let shown = target
                    .as_str()
                    .map_or_else(|| target.to_string(), str::to_owned);
                let field = Field::of("spec.ports").item(index);
                let field = if port.get("targetPort").is_some() {
                    field.dot("targetPort")
                } else {
                    field.dot("port")
                };
                let message = format!("no container behind it has the port {shown}");
                found.add(
                    service,
                    field,
                    message,
                    "targetPort: PORT # a containerPort of its pods, or the name of one",
                );
            }
        }
    }
}

/// `ingress-tls`.
pub fn tls<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for ingress in scene.kind("networking.k8s.io", "Ingress") {
        let spec = &ingress.value["spec"];
        let secured: Vec<&str> = items(spec, "tls")
            .flat_map(|tls| items(tls, "hosts"))
            .filter_map(Value::as_str)
            .collect();
        let all = items(spec, "tls").any(|tls| items(tls, "hosts").next().is_none());
        let hosts: Vec<_> = items(spec, "rules")
            .filter_map(|rule| text(rule, "/host"))
            .collect();
        let open: Vec<_> = hosts
            .iter()
            .filter(|host| !all && !secured.iter().any(|it| covers(it, host)))
            .copied()
            .collect();
        let message = match (hosts.is_empty(), open.is_empty()) {
            (true, _) if items(spec, "tls").next().is_none() => "it serves without TLS".to_owned(),
            (false, false) => format!("it serves {} without TLS", open.join(", ")),
            _ => continue,
        };
        let mend = "tls:
  - hosts: [HOST]
    secretName: SECRET";
        found.add(ingress, Field::of("spec.tls"), message, mend);
    }
}

/// A Service's selector; one without leads where somebody else says.
fn selector(service: &Value) -> Option<&Value> {
    let selector = service.pointer("/spec/selector")?;
    let leads = text(service, "/spec/type") != Some("ExternalName");
    (leads && selector.as_object().is_some_and(|it| !it.is_empty())).then_some(selector)
}

/// Whether a pod has a port. Declaring a number is not needed, so a pod that declares none may have any.
fn may_have(pod: &Pod<'_>, target: &Value) -> bool {
    let declared: Vec<_> = pod
        .containers()
        .flat_map(|container| items(container.value, "ports"))
        .collect();
    match target {
        Value::String(name) => declared
            .iter()
            .any(|port| text(port, "/name") == Some(name)),
        number => {
            declared.is_empty()
                || declared
                    .iter()
                    .any(|port| port.get("containerPort") == Some(number))
        }
    }
}

/// A certificate's host, which may begin with `*.`, and a host.
fn covers(secured: &str, host: &str) -> bool {
    let wild = secured.strip_prefix("*.").zip(host.split_once('.'));
    secured == host || wild.is_some_and(|(domain, (_, rest))| domain == rest)
}
