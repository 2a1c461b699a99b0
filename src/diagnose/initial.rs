//! What does not end or does not lead anywhere: init containers that wait, Services without pods.

use k8s_openapi::api::core::v1::{Container, Pod, Service};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::cluster::Run;
use super::{Case, Ranked, ago, clue, near};
use crate::error::Failure;
use crate::ready::{self, Readiness, Target, TargetObject};
use crate::view::{View, service_of};

/// Init containers that run, and Services that select nothing.
pub(super) async fn findings(case: &Case<'_>) -> Vec<Ranked> {
    let mut found = Vec::new();
    for object in &case.target.objects {
        for pod in ready::current_pods(case.view, object) {
            found.extend(init(case, pod).await.map(|failure| (4, failure)));
        }
        found.extend(leads_nowhere(case, object).map(|failure| (5, failure)));
    }
    found
}

/// The init container of a pod that still runs.
async fn init(case: &Case<'_>, pod: &Pod) -> Option<Failure> {
    let spec = pod.spec.as_ref()?;
    let statuses = pod.status.as_ref()?.init_container_statuses.as_deref()?;
    let (own, since) = statuses.iter().find_map(|status| {
        let own = spec
            .init_containers
            .iter()
            .flatten()
            .find(|one| one.name == status.name)?;
        let running = status.state.as_ref()?.running.as_ref()?;
        let sidecar = own.restart_policy.as_deref() == Some("Always");
        (!sidecar).then_some((own, running.started_at.as_ref().map(|time| time.0)))
    })?;
    let key = (pod.namespace().unwrap_or_default(), pod.name_any());
    let lines = case.cluster.log(&key, &own.name, Run::Current).await;
    let for_how_long = since.map_or(String::new(), |since| {
        format!(" for {}", ago(case.now, since))
    });
    let mut failure = Failure::failed(format!("init container {} runs{for_how_long}", own.name));
    failure.causes = waits_on(case.view, &key.0, own, case.now);
    failure.remedy = clue::remedy(&lines).map(str::to_owned);
    Some(failure.detail(lines))
}

/// The stack's Services that a container's command names and that lead nowhere yet.
fn waits_on(view: &View, namespace: &str, container: &Container, now: Timestamp) -> Vec<String> {
    let words = container
        .command
        .iter()
        .flatten()
        .chain(container.args.iter().flatten());
    let values = container
        .env
        .iter()
        .flatten()
        .filter_map(|one| one.value.as_ref());
    let texts: Vec<&String> = words.chain(values).collect();
    let named = view.services.values().filter(|service| {
        service.metadata.namespace.as_deref() == Some(namespace)
            && texts.iter().any(|text| names(text, &service.name_any()))
    });
    named
        .filter_map(|service| not_there(view, service, now))
        .collect()
}

fn not_there(view: &View, service: &Service, now: Timestamp) -> Option<String> {
    let name = service.name_any();
    let Readiness::Waiting { why } = ready::readiness(view, &only(service), now) else {
        return None;
    };
    let owner = service_of(&service.metadata)?;
    let reason = match ready::readiness(view, &Target::of(view, owner), now) {
        Readiness::Failed(failure) => format!("{owner} failed: {}", failure.line()),
        _ => why,
    };
    Some(format!("it waits for {name}: {reason}"))
}

/// A Service alone.
fn only(service: &Service) -> Target {
    let object = TargetObject {
        kind: "Service".to_owned(),
        namespace: service.namespace().unwrap_or_default(),
        name: service.name_any(),
        uid: None,
        generation: 0,
    };
    Target {
        service: String::new(),
        objects: vec![object],
    }
}

/// Whether a text has a host name as a word of its own.
fn names(text: &str, host: &str) -> bool {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.match_indices(host).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + host.len()..].chars().next();
        !before.is_some_and(part_of_name) && !after.is_some_and(part_of_name)
    })
}

/// A Service whose selector no pod of the stack fulfils.
fn leads_nowhere(case: &Case<'_>, object: &TargetObject) -> Option<Failure> {
    if object.kind != "Service" {
        return None;
    }
    let service = case
        .view
        .services
        .get(&(object.namespace.clone(), object.name.clone()))?;
    let readiness = ready::readiness(case.view, &only(service), case.now);
    let Readiness::Waiting { why } = readiness else {
        return None;
    };
    if !why.contains("selects no pod") {
        return None;
    }
    let pods = case
        .view
        .pods
        .values()
        .filter(|pod| pod.metadata.namespace == service.metadata.namespace);
    let labels: Vec<String> = pods
        .flat_map(|pod| {
            pod.labels()
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
        })
        .collect();
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref())?;
    let wrong = selector.iter().map(|(key, value)| format!("{key}={value}"));
    let wrong = wrong.into_iter().find(|pair| !labels.contains(pair));
    let failure = Failure::failed(why)
        .remedy("let the Service's selector and the labels of the pods' template be the same");
    Some(match wrong {
        Some(pair) => failure.cause(near::in_words(&pair, &labels, "label")),
        None => failure,
    })
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_host_is_a_word_of_its_own() {
        assert!(names(
            "until nc -z postgres 5432; do sleep 1; done",
            "postgres"
        ));
        assert!(names("postgresql://u@dev-postgres:5432/db", "dev-postgres"));
        assert!(!names("nc -z dev-postgres 5432", "postgres"));
        assert!(!names("postgresql", "postgres"));
    }
}
