//! Services: whether a connection to one leads anywhere.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodTemplateSpec, Service};
use kube::ResourceExt;

use super::State;
use crate::view::View;

/// The label by which an EndpointSlice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

type Labels = BTreeMap<String, String>;

/// Ready with one ready endpoint, or when nothing is meant to stand behind it.
pub(super) fn service(view: &View, service: &Service) -> State {
    let name = service.name_any();
    let spec = service.spec.as_ref();
    let selector = spec
        .and_then(|spec| spec.selector.as_ref())
        .filter(|all| !all.is_empty());
    let external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    let Some(selector) = selector.filter(|_| !external) else {
        return State::Ready;
    };
    if has_endpoint(view, service, &name) {
        return State::Ready;
    }
    match behind(view, service, selector) {
        Behind::Running => State::Waiting(format!("Service {name} has no ready endpoint yet")),
        Behind::ScaledDown => State::Ready,
        Behind::Nothing => State::Waiting(format!(
            "Service {name} selects no pod: {}",
            in_words(selector)
        )),
    }
}

/// A selector as `kubectl` writes it.
pub(crate) fn in_words(selector: &Labels) -> String {
    let pairs: Vec<_> = selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

/// Whether labels fulfil a selector.
pub(crate) fn selects(selector: &Labels, labels: Option<&Labels>) -> bool {
    labels.is_some_and(|labels| {
        selector
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    })
}

fn has_endpoint(view: &View, service: &Service, name: &str) -> bool {
    let slices = view.slices.values().filter(|slice| {
        slice.metadata.namespace == service.metadata.namespace
            && slice
                .labels()
                .get(SERVICE_NAME)
                .is_some_and(|of| of == name)
    });
    // An absent `ready` means ready.
    slices.flat_map(|slice| &slice.endpoints).any(|one| {
        one.conditions
            .as_ref()
            .and_then(|all| all.ready)
            .unwrap_or(true)
    })
}

/// What is behind a Service without ready endpoints.
enum Behind {
    /// Pods, or a workload that makes them.
    Running,
    /// Workloads with no replicas.
    ScaledDown,
    /// Nothing that the stack has.
    Nothing,
}

fn behind(view: &View, service: &Service, selector: &Labels) -> Behind {
    let namespace = &service.metadata.namespace;
    let here = view
        .pods
        .values()
        .filter(|pod| &pod.metadata.namespace == namespace);
    let mut pods = here.filter(|pod| pod.metadata.deletion_timestamp.is_none());
    if pods.any(|pod| selects(selector, Some(pod.labels()))) {
        return Behind::Running;
    }
    let replicas = workloads(view).filter(|(where_, template, _)| {
        *where_ == namespace && selects(selector, template_labels(template))
    });
    match replicas.map(|(.., replicas)| replicas).max() {
        Some(0) => Behind::ScaledDown,
        Some(_) => Behind::Running,
        None => Behind::Nothing,
    }
}

/// Namespace, template and replicas of all workloads that keep pods running.
fn workloads(view: &View) -> impl Iterator<Item = (&Option<String>, &PodTemplateSpec, i32)> {
    let deployments = view.deployments.values().filter_map(|one| {
        let spec = one.spec.as_ref()?;
        Some((
            &one.metadata.namespace,
            &spec.template,
            spec.replicas.unwrap_or(1),
        ))
    });
    let stateful_sets = view.stateful_sets.values().filter_map(|one| {
        let spec = one.spec.as_ref()?;
        Some((
            &one.metadata.namespace,
            &spec.template,
            spec.replicas.unwrap_or(1),
        ))
    });
    let daemon_sets = view.daemon_sets.values().filter_map(|one| {
        let wanted = one
            .status
            .as_ref()
            .map_or(1, |status| status.desired_number_scheduled);
        Some((
            &one.metadata.namespace,
            &one.spec.as_ref()?.template,
            wanted,
        ))
    });
    deployments.chain(stateful_sets).chain(daemon_sets)
}

fn template_labels(template: &PodTemplateSpec) -> Option<&Labels> {
    template.metadata.as_ref()?.labels.as_ref()
}
