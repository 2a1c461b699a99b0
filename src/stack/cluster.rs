//! `cluster:` as it is written.

use super::decode::{At, Fields, boolean, count, one_of, path, read, read_raw, text, value};
use super::diagnostic::{Diagnostic, Report};
use super::scalar::{self, Read, Wrong};
use super::tree::Entry;
use super::{ClusterSpec, Provider};

/// The keys of `cluster`.
pub const CLUSTER: &[&str] = &[
    "provider",
    "name",
    "create",
    "cpus",
    "memory",
    "disk",
    "nodes",
    "image",
    "kubernetesVersion",
    "driver",
    "containerRuntime",
    "config",
    "registry",
];

/// Reads `cluster`, and the path of its `config` as written; mistakes go to `report`.
pub fn cluster(entry: &Entry, report: &mut Report) -> (ClusterSpec, Option<At<String>>) {
    let node = &entry.node;
    let Some(fields) = Fields::of(node, Some(&entry.key_span), "in cluster", CLUSTER, report)
    else {
        return (ClusterSpec::default(), None);
    };
    let providers = [
        ("kind", Provider::Kind),
        ("minikube", Provider::Minikube),
        ("context", Provider::Context),
    ];
    let provider = fields
        .get("provider")
        .and_then(|node| one_of(node, &providers, report));
    let own_context = provider == Some(Provider::Context);
    let create = fields.get("create").and_then(|node| {
        let create = boolean(node, report)?;
        if create && own_context {
            let why = "a cluster of the provider `context` cannot be created";
            report.add(Diagnostic::new(node.span.clone(), why).help("write `false`"));
        }
        Some(create)
    });
    only(
        Provider::Kind,
        &["config", "image"],
        &fields,
        provider,
        report,
    );
    let of_minikube = ["driver", "containerRuntime"];
    only(Provider::Minikube, &of_minikube, &fields, provider, report);
    let name = fields
        .get("name")
        .and_then(|node| read(node, report, cluster_name(provider)));
    let memory = fields
        .get("memory")
        .and_then(|node| read_raw(node, report, scalar::memory));
    let version = fields.get("kubernetesVersion");
    let version = version.and_then(|node| read_raw(node, report, scalar::version));
    let spec = ClusterSpec {
        provider,
        name: name.map(|name| name.it),
        create: create.unwrap_or(!own_context),
        cpus: fields.get("cpus").and_then(|node| count(node, report)),
        memory: memory.map(|memory| memory.it),
        disk: value(&fields, "disk", scalar::memory, report),
        nodes: fields.get("nodes").and_then(|node| count(node, report)),
        image: fields
            .get("image")
            .and_then(|node| text(node, report))
            .map(|image| image.it),
        kubernetes_version: version.map(|version| version.it),
        driver: value(&fields, "driver", scalar::label, report),
        container_runtime: fields
            .get("containerRuntime")
            .and_then(|node| one_of(node, RUNTIMES, report))
            .map(str::to_owned),
        config: None,
        registry: value(&fields, "registry", scalar::registry, report),
    };
    (
        spec,
        fields.get("config").and_then(|node| path(node, report)),
    )
}

/// kind and minikube say what a cluster may be called; a context may be called anything.
fn cluster_name(provider: Option<Provider>) -> impl Fn(&str) -> Read<String> {
    move |text| match provider {
        Some(Provider::Context) if text.is_empty() => Err(Wrong {
            why: "the name is empty".to_owned(),
            help: None,
        }),
        Some(Provider::Context) => Ok(text.to_owned()),
        _ => scalar::subdomain(text),
    }
}

/// What minikube's nodes can run containers with.
const RUNTIMES: &[(&str, &str)] = &[
    ("docker", "docker"),
    ("containerd", "containerd"),
    ("cri-o", "cri-o"),
];

fn only(
    whose: Provider,
    keys: &[&str],
    fields: &Fields<'_>,
    provider: Option<Provider>,
    report: &mut Report,
) {
    // What is not said is kind, where something is to be created.
    if provider.unwrap_or(Provider::Kind) == whose {
        return;
    }
    for key in keys {
        if let Some(entry) = fields.entry(key) {
            let message = format!("`{key}` is for the provider {whose} only");
            report.add(Diagnostic::new(entry.key_span.clone(), message));
        }
    }
}
