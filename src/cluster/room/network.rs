//! Services and Ingresses that nobody in the cluster will serve.

use super::Facts;
use crate::cluster::{Choice, Flavor};
use crate::render::Rendered;
use crate::stack::Stack;

/// One line for load balancers, one an ingress class.
pub fn lacking(stack: &Stack, rendered: &Rendered, facts: &Facts, choice: &Choice) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(balancers(stack, rendered, facts, choice));
    lines.extend(ingresses(rendered, facts));
    lines
}

fn balancers(stack: &Stack, rendered: &Rendered, facts: &Facts, choice: &Choice) -> Option<String> {
    let remedy = match (&choice.flavor, facts.balancer) {
        (Flavor::Kind(_), false) => "cloud-provider-kind or MetalLB would give one",
        (Flavor::Minikube(_), false) => "`minikube tunnel` gives one",
        _ => return None,
    };
    let waiting = rendered.objects.iter().filter(|object| {
        object.kind == "Service" && object.value["spec"]["type"] == "LoadBalancer"
    });
    let names: Vec<_> = waiting.map(|object| object.name.as_str()).collect();
    let forwarded = stack.services.iter().any(|one| !one.forwards.is_empty());
    let so = if forwarded {
        "; `forward` needs none"
    } else {
        ""
    };
    (!names.is_empty()).then(|| {
        format!(
            "Service {} of type LoadBalancer gets no address: {remedy}{so}",
            names.join(", ")
        )
    })
}

fn ingresses(rendered: &Rendered, facts: &Facts) -> Vec<String> {
    let own = rendered.objects.iter();
    let own = own.filter(|object| object.kind == "IngressClass");
    let own: Vec<_> = own.map(|object| object.name.as_str()).collect();
    let is_known =
        |name: &str| own.contains(&name) || facts.ingress.iter().any(|class| class.name == name);
    let all = rendered
        .objects
        .iter()
        .filter(|object| object.kind == "Ingress");
    let mut lines = Vec::new();
    for object in all {
        let annotation = &object.value["metadata"]["annotations"]["kubernetes.io/ingress.class"];
        let class = object.value["spec"]["ingressClassName"].as_str();
        let name = &object.name;
        lines.extend(match class.or(annotation.as_str()) {
            Some(class) if !is_known(class) => Some(format!(
                "Ingress {name}: the cluster has no ingress class {class}, so nobody serves it"
            )),
            None if own.is_empty() && !facts.ingress.iter().any(|class| class.default) => {
                Some(format!(
                    "Ingress {name} names no class, and the cluster has no default one: nobody serves it"
                ))
            }
            _ => None,
        });
    }
    lines
}
