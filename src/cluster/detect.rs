//! Which context a stack goes to. Only a local one, unless `stack.yaml` names another outright.

use std::net::IpAddr;

use kube::config::{Kubeconfig, NamedContext};

use super::{Choice, Flavor};
use crate::error::{Failure, Result};
use crate::stack::{ClusterSpec, Provider};

/// Chooses by `stack.yaml` and the kubeconfig alone; nothing is asked over the network.
///
/// # Errors
/// When the context is not local and not named outright, or is named and not there.
pub fn choose(spec: &ClusterSpec, stack: &str, config: &Kubeconfig) -> Result<Choice> {
    let name = spec.name.as_deref().unwrap_or(stack);
    match spec.provider {
        Some(Provider::Kind) => local(
            Choice::kind(name, has(config, &format!("kind-{name}"))),
            config,
        ),
        Some(Provider::Minikube) => local(Choice::minikube(name, has(config, name)), config),
        Some(Provider::Context) => named(name, config),
        None => current_or_kind(name, config),
    }
}

/// Whether the API server of a context is on this machine: on loopback or, for minikube's node containers and
/// machines, at a private address.
pub fn is_local(config: &Kubeconfig, context: &str) -> bool {
    let Some(host) = host(config, context) else {
        return false;
    };
    if host == "localhost" || host.ends_with(".localhost") || host == "host.docker.internal" {
        return true;
    }
    let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() else {
        return false;
    };
    let private = matches!(address, IpAddr::V4(v4) if v4.is_private());
    address.is_loopback() || address.is_unspecified() || (private && is_minikube(config, context))
}

fn current_or_kind(name: &str, config: &Kubeconfig) -> Result<Choice> {
    let current = config
        .current_context
        .as_deref()
        .filter(|context| has(config, context));
    match current {
        Some(context) if is_local(config, context) => Ok(Choice {
            known: true,
            ..flavored(config, context)
        }),
        // A current context that is remote is nobody's wish: it is passed over, never used.
        _ => local(
            Choice::kind(name, has(config, &format!("kind-{name}"))),
            config,
        ),
    }
}

fn named(context: &str, config: &Kubeconfig) -> Result<Choice> {
    if !has(config, context) {
        let known: Vec<_> = config
            .contexts
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        return Err(
            Failure::environment(format!("the kubeconfig has no context {context}"))
                .cause(if known.is_empty() {
                    "it has none at all".to_owned()
                } else {
                    format!("it has {}", known.join(", "))
                })
                .remedy("name one of them in `cluster.name`"),
        );
    }
    Ok(Choice {
        known: true,
        ..flavored(config, context)
    })
}

fn local(choice: Choice, config: &Kubeconfig) -> Result<Choice> {
    if choice.known && !is_local(config, &choice.context) {
        let host = host(config, &choice.context).unwrap_or_else(|| "nowhere".to_owned());
        return Err(Failure::refused(format!(
            "the context {} is not local: it leads to {host}",
            choice.context
        ))
        .cause("llmdev touches a cluster elsewhere only when it is named outright")
        .remedy(format!(
            "`cluster: {{ provider: context, name: {} }}` in stack.yaml, if you mean it",
            choice.context
        )));
    }
    Ok(choice)
}

fn flavored(config: &Kubeconfig, context: &str) -> Choice {
    if let Some(name) = context
        .strip_prefix("kind-")
        .filter(|_| is_local(config, context))
    {
        return Choice::kind(name, true);
    }
    if is_minikube(config, context) {
        return Choice::minikube(context, true);
    }
    Choice {
        context: context.to_owned(),
        flavor: Flavor::Other,
        known: true,
    }
}

fn find<'a>(config: &'a Kubeconfig, context: &str) -> Option<&'a NamedContext> {
    config.contexts.iter().find(|one| one.name == context)
}

fn has(config: &Kubeconfig, context: &str) -> bool {
    find(config, context).is_some()
}

/// minikube marks what it writes by an extension of its name: the cluster and the context, but `update-context` the
/// cluster alone.
fn is_minikube(config: &Kubeconfig, context: &str) -> bool {
    let context = find(config, context).and_then(|named| named.context.as_ref());
    let cluster = context.and_then(|context| cluster(config, &context.cluster));
    let marks = [
        context.and_then(|context| context.extensions.as_ref()),
        cluster.and_then(|cluster| cluster.extensions.as_ref()),
    ];
    marks.into_iter().flatten().flatten().any(|one| {
        one.extension
            .get("provider")
            .and_then(|value| value.as_str())
            == Some("minikube.sigs.k8s.io")
    })
}

fn cluster<'a>(config: &'a Kubeconfig, name: &str) -> Option<&'a kube::config::Cluster> {
    let named = config.clusters.iter().find(|one| one.name == name)?;
    named.cluster.as_ref()
}

fn host(config: &Kubeconfig, context: &str) -> Option<String> {
    let name = &find(config, context)?.context.as_ref()?.cluster;
    let server = cluster(config, name)?.server.as_ref()?;
    let uri: http::Uri = server.parse().ok()?;
    uri.host().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(current: &str, contexts: &[(&str, &str, bool)]) -> Kubeconfig {
        let named = |(name, _, minikube): &(&str, &str, bool)| {
            let extensions = minikube.then(|| {
                serde_json::json!([{"name": "context_info", "extension": {"provider": "minikube.sigs.k8s.io"}}])
            });
            serde_json::json!({"name": name, "context": {"cluster": name, "user": name, "extensions": extensions}})
        };
        let cluster = |(name, server, _): &(&str, &str, bool)| serde_json::json!({"name": name, "cluster": {"server": server}});
        serde_json::from_value(serde_json::json!({
            "current-context": current,
            "contexts": contexts.iter().map(named).collect::<Vec<_>>(),
            "clusters": contexts.iter().map(cluster).collect::<Vec<_>>(),
        }))
        .unwrap()
    }

    fn spec(provider: Option<Provider>, name: &str) -> ClusterSpec {
        ClusterSpec {
            provider,
            name: Some(name.to_owned()),
            ..Default::default()
        }
    }

    const KIND: (&str, &str, bool) = ("kind-dev", "https://127.0.0.1:6443", false);
    const MINIKUBE: (&str, &str, bool) = ("minikube", "https://192.168.49.2:8443", true);
    const REMOTE: (&str, &str, bool) = ("prod", "https://prod.example:6443", false);
    const IMPOSTOR: (&str, &str, bool) = ("kind-prod", "https://10.0.0.1:6443", false);

    #[test]
    fn an_unset_provider_takes_the_current_context_if_it_is_local() {
        let all = [KIND, MINIKUBE, REMOTE];
        let by = |current| choose(&spec(None, "dev2"), "stack", &config(current, &all)).unwrap();
        assert_eq!(by("kind-dev"), Choice::kind("dev", true));
        assert_eq!(by("minikube"), Choice::minikube("minikube", true));
        assert_eq!(
            by("prod"),
            Choice::kind("dev2", false),
            "a remote one is passed over"
        );
        assert_eq!(by("gone"), Choice::kind("dev2", false));
    }

    #[test]
    fn without_a_name_the_cluster_is_called_like_the_stack() {
        let choice = choose(&ClusterSpec::default(), "stack", &Kubeconfig::default()).unwrap();
        assert_eq!(choice, Choice::kind("stack", false));
    }

    #[test]
    fn a_context_elsewhere_is_refused_unless_it_is_named_outright() {
        let all = config("", &[IMPOSTOR, REMOTE]);
        let failure = choose(&spec(Some(Provider::Kind), "prod"), "stack", &all).unwrap_err();
        assert_eq!(failure.kind, crate::error::Kind::Refused);
        let choice = choose(&spec(Some(Provider::Context), "prod"), "stack", &all).unwrap();
        assert_eq!(choice.flavor, Flavor::Other);
        let missing = choose(&spec(Some(Provider::Context), "nowhere"), "stack", &all).unwrap_err();
        assert_eq!(
            missing.line(),
            "the kubeconfig has no context nowhere: it has kind-prod, prod"
        );
    }

    #[test]
    fn a_private_address_is_local_only_for_minikube() {
        let mut all = config("", &[MINIKUBE, IMPOSTOR]);
        assert!(is_local(&all, "minikube"));
        assert!(!is_local(&all, "kind-prod"));
        let context = all.contexts[0].context.as_mut().unwrap();
        let mark = context.extensions.take();
        assert!(!is_local(&all, "minikube"));
        // What `minikube update-context` leaves.
        all.clusters[0].cluster.as_mut().unwrap().extensions = mark;
        assert!(is_local(&all, "minikube"));
    }
}
