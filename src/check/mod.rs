//! `llmdev check`: what is wrong with the objects before anyone applies them to production.
//!
//! This file is the data: which rules there are, where each comes from, and why. What they look for is in the other
//! files, a group of rules each.

mod access;
mod availability;
pub mod field;
mod host;
mod images;
mod network;
mod place;
mod probes;
mod references;
mod report;
mod resources;
mod run;
pub mod sarif;
mod scaling;
mod scene;
mod secrets;
mod security;
#[cfg(test)]
mod tests;
mod versions;

pub use report::{Finding, Ignored, Report};
pub use run::{Subject, check};

use field::Field;
use scene::Scene;
use serde::Serialize;

use crate::render::Object;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Bad practice, which will cost something some day.
    Warning,
    /// Does not work, or is open to anyone.
    Error,
}

/// A rule.
pub struct Rule {
    /// Its name in stack.yaml and in all output.
    pub id: &'static str,
    /// How bad its findings are.
    pub severity: Severity,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// Why that matters, in a sentence.
    pub why: &'static str,
    /// The documents that ask for it.
    pub source: &'static str,
    /// Whether it looks at production only.
    pub production: bool,
    look: for<'a> fn(&Scene<'a>, &mut Findings<'a>),
}

/// What one rule has found.
#[derive(Default)]
struct Findings<'a>(Vec<Found<'a>>);

struct Found<'a> {
    object: &'a Object,
    field: Field,
    message: String,
    mend: String,
}

impl<'a> Findings<'a> {
    fn add(&mut self, object: &'a Object, field: Field, message: String, mend: &str) {
        self.0.push(Found {
            object,
            field,
            message,
            mend: mend.to_owned(),
        });
    }
}

impl Rule {
    /// The rule of that name.
    pub fn of(id: &str) -> Option<&'static Rule> {
        RULES.iter().find(|rule| rule.id == id)
    }
}

use Severity::{Error, Info, Warning};

const fn rule(
    id: &'static str,
    severity: Severity,
    look: for<'a> fn(&Scene<'a>, &mut Findings<'a>),
    title: &'static str,
    why: &'static str,
    source: &'static str,
) -> Rule {
    Rule {
        id,
        severity,
        title,
        why,
        source,
        production: false,
        look,
    }
}

/// The same for production only.
const fn production(mut rule: Rule) -> Rule {
    rule.production = true;
    rule
}

/// All rules, in the order in which they are listed.
pub static RULES: &[Rule] = &[
    rule(
        "secret-placeholder",
        Error,
        secrets::placeholder,
        "A Secret holds a placeholder",
        "What the manifests show anyone can log in with, and the real service answers no one.",
        "LLM Runner Router, Production Checklist; Secure Python Execution, 1. Update Secrets; LLM Cost Ops, Secrets Management",
    ),
    rule(
        "secret-literal",
        Warning,
        secrets::literal,
        "A Secret's value stands in the manifests",
        "Base64 is not encryption: whoever reads the repository, or its history, has the value.",
        "LLM Router chart plan, C1; Secure Python Execution, Secrets Management; LLM Cost Ops, Best Practices 2; LLM Stack, Security Notes",
    ),
    rule(
        "secret-in-env",
        Error,
        secrets::in_env,
        "A secret stands in an environment variable",
        "A value in the pod's spec is shown to all who may read pods, and stands in logs and backups.",
        "LLM Router chart plan, C1; LLM Stack, Security Notes",
    ),
    rule(
        "secret-in-configmap",
        Error,
        secrets::in_config,
        "A secret stands in a ConfigMap",
        "ConfigMaps are readable by far more people and programs than Secrets, and are never encrypted at rest.",
        "LLM Router chart plan, C1; LLM Cost Ops, Secrets Management",
    ),
    rule(
        "image-tag",
        Warning,
        images::tag,
        "An image has no version",
        "Which program runs depends on when the node pulled it; a rollback gets the same image again.",
        "LLM Cost Ops, Best Practices 1; Secure Python Execution, Production Considerations 1",
    ),
    production(rule(
        "image-never-pulled",
        Warning,
        images::never_pulled,
        "An image is never pulled",
        "A node that has not got the image cannot start the pod, and nobody loads it by hand in production.",
        "LLM Stack, Production Deployment 4",
    )),
    rule(
        "readiness-probe",
        Warning,
        probes::readiness,
        "A container has no readiness probe",
        "Requests are sent to a pod that cannot answer yet, or no longer.",
        "LLM Router chart plan, C3; LLM Runner Router, Health Checks; LLM Stack, Performance Considerations 4",
    ),
    rule(
        "liveness-probe",
        Warning,
        probes::liveness,
        "A container has no liveness probe",
        "A program that hangs stays as it is until someone notices.",
        "LLM Router chart plan, C3; LLM Runner Router, Health Checks; Secure Python Execution, Health Checks",
    ),
    rule(
        "startup-probe",
        Info,
        probes::startup,
        "A slow start has no startup probe",
        "A fixed delay is too long on a good day and too short on a bad one, when the container is killed while it starts.",
        "LLM Router chart plan, C3; LLM Runner Router, Health Checks",
    ),
    rule(
        "probes-identical",
        Warning,
        probes::identical,
        "Liveness and readiness ask the same",
        "A pod that is merely busy is killed at the moment it should only get no more requests, and the others fail after it.",
        "LLM Router chart plan, C3; LLM Runner Router, Health Checks",
    ),
    rule(
        "memory-limit",
        Warning,
        resources::memory_limit,
        "A container has no memory limit",
        "One that leaks takes the node's memory, and the kernel kills its neighbours.",
        "LLM Router chart plan, H4; LLM Stack, Performance Considerations 3; LLM Cost Ops, Best Practices 5",
    ),
    rule(
        "cpu-limit",
        Info,
        resources::cpu_limit,
        "A container has no CPU limit",
        "A runaway takes all that its neighbours do not request.",
        "LLM Router chart plan, H4; LLM Cost Ops, Best Practices 5",
    ),
    rule(
        "requests",
        Warning,
        resources::requests,
        "A container requests nothing",
        "The scheduler takes it for free, and it is the first to be evicted.",
        "LLM Router chart plan, H4; LLM Stack, Default Resource Requests and Limits",
    ),
    rule(
        "runs-as-root",
        Error,
        security::root,
        "A container runs as root",
        "Whoever breaks out of it is root on the node.",
        "LLM Router chart plan, C2; LLM Runner Router, Pod Security; Secure Python Execution, Pod Security",
    ),
    rule(
        "non-root",
        Warning,
        security::non_root,
        "A container may run as root",
        "The image decides, and most images decide for root.",
        "LLM Router chart plan, C2; LLM Cost Ops, Security Context",
    ),
    rule(
        "privileged",
        Error,
        security::privileged,
        "A container is privileged",
        "It has the node's devices and kernel: it is the node.",
        "LLM Router chart plan, C2; LLM Runner Router, Pod Security",
    ),
    rule(
        "privilege-escalation",
        Warning,
        security::escalation,
        "A container may gain privileges",
        "A setuid program in the image makes root of any user.",
        "LLM Router chart plan, C2; Secure Python Execution, Pod Security",
    ),
    rule(
        "capabilities-kept",
        Warning,
        security::kept,
        "Capabilities are not dropped",
        "The runtime gives root's powers over files, users and the network that hardly a service needs.",
        "LLM Router chart plan, C2; LLM Runner Router, Pod Security; LLM Cost Ops, Security Context",
    ),
    rule(
        "capabilities-added",
        Warning,
        security::added,
        "Capabilities are added",
        "Each is a part of root's power over the node; IPC_LOCK, the plan's own case, lets a pod pin the node's memory.",
        "LLM Router chart plan, C2",
    ),
    rule(
        "read-only-root",
        Info,
        security::read_only,
        "The root file system can be written",
        "Who gets in can replace the program and leave tools behind.",
        "LLM Router chart plan, C2; Secure Python Execution, Pod Security; LLM Stack, Production Deployment 8",
    ),
    rule(
        "seccomp",
        Warning,
        security::seccomp,
        "There is no seccomp profile",
        "All system calls are open, and most ways out of a container are rare ones.",
        "LLM Router chart plan, C2; LLM Cost Ops, Security Context",
    ),
    rule(
        "host-path",
        Error,
        host::path,
        "A volume is a path of the node",
        "The pod reads or writes the node's files, and loses its data on another node.",
        "LLM Router chart plan, C4",
    ),
    rule(
        "host-namespace",
        Error,
        host::namespace,
        "A pod is in the node's namespaces",
        "It sees and can reach what the node's own services do, past every NetworkPolicy.",
        "LLM Router chart plan, C4; Kubernetes, Pod Security Standards",
    ),
    rule(
        "host-port",
        Warning,
        host::port,
        "A port is taken on the node",
        "Only one such pod fits a node, and the port is open past Services and policies.",
        "LLM Runner Router, Network Security; Kubernetes, Pod Security Standards",
    ),
    production(rule(
        "single-replica",
        Warning,
        availability::replicas,
        "There is one pod only",
        "Each rollout, drain and crash is an outage.",
        "LLM Router chart plan, H1; LLM Runner Router, Scaling and Performance",
    )),
    production(rule(
        "anti-affinity",
        Warning,
        availability::spread,
        "Pods may share one node",
        "The replicas fall together when their node does.",
        "LLM Router chart plan, H1; LLM Cost Ops, Pod Anti-Affinity",
    )),
    production(rule(
        "disruption-budget",
        Info,
        availability::budget,
        "No PodDisruptionBudget covers the pods",
        "A drain of nodes may take all pods at once. (The chart's plan leaves this to the platform, H3.)",
        "LLM Cost Ops, Pod Disruption Budget; Secure Python Execution, Production Considerations 6",
    )),
    production(rule(
        "rollout",
        Info,
        availability::rollout,
        "The rollout is not configured",
        "By default a quarter of the pods may be gone while new ones start.",
        "LLM Router chart plan, H5; LLM Runner Router, Rolling Updates",
    )),
    production(rule(
        "data-not-kept",
        Warning,
        availability::data,
        "A StatefulSet keeps no data",
        "A pod that moves starts empty.",
        "LLM Stack, Production Deployment 3; LLM Cost Ops, PostgreSQL StatefulSet",
    )),
    rule(
        "default-service-account",
        Warning,
        access::default_account,
        "Pods use the default ServiceAccount",
        "Every right that anyone gives it, every pod of the namespace has.",
        "LLM Router chart plan, H2; LLM Cost Ops, RBAC",
    ),
    rule(
        "rbac-wildcard",
        Error,
        access::wildcard,
        "A role has a wildcard",
        "It allows what exists today and whatever is installed tomorrow.",
        "LLM Router chart plan, H2; LLM Runner Router, RBAC Permissions; LLM Cost Ops, Best Practices 7",
    ),
    rule(
        "rbac-secrets",
        Warning,
        access::secrets,
        "A role reads all Secrets",
        "Its pods have the password of every other service in reach.",
        "LLM Runner Router, RBAC Permissions; LLM Router chart plan, H2",
    ),
    rule(
        "rbac-exec",
        Error,
        access::commands,
        "A role runs commands in pods",
        "Who may run commands in a pod has its Secrets and its rights.",
        "Secure Python Execution, RBAC; LLM Router chart plan, H2",
    ),
    rule(
        "rbac-escalation",
        Error,
        access::escalation,
        "A role can raise its own rights",
        "With escalate, bind or impersonate all other limits are void.",
        "LLM Router chart plan, H2; Kubernetes, RBAC Good Practices",
    ),
    rule(
        "rbac-cluster-admin",
        Error,
        access::cluster_admin,
        "Something is bound to cluster-admin",
        "Whoever takes the pod over owns the cluster.",
        "Secure Python Execution, RBAC; LLM Router chart plan, H2",
    ),
    rule(
        "network-policy",
        Warning,
        network::policy,
        "No NetworkPolicy selects the pods",
        "Every pod of the cluster reaches them, and they reach everything.",
        "LLM Router chart plan, M1; LLM Runner Router, Production Checklist; Secure Python Execution, Production Considerations 4; LLM Stack, Production Deployment 6",
    ),
    rule(
        "service-without-pods",
        Error,
        network::selects_nothing,
        "A Service selects no pod",
        "Its name resolves, and every connection is refused.",
        "Kubernetes, Debug Services; LLM Stack, Service Communication Issues",
    ),
    rule(
        "service-port",
        Error,
        network::ports,
        "A Service leads to a port that no container has",
        "Connections to it are refused while all pods are ready.",
        "Kubernetes, Debug Services; LLM Stack, Service Communication Issues",
    ),
    rule(
        "ingress-tls",
        Warning,
        network::tls,
        "An Ingress serves without TLS",
        "API keys and prompts cross the network in plain text.",
        "LLM Router chart plan, M5; LLM Runner Router, Production Checklist; Secure Python Execution, Production Considerations 3; LLM Cost Ops, Ingress",
    ),
    rule(
        "missing-key",
        Error,
        references::keys,
        "A key is read that does not exist",
        "The pod does not start: CreateContainerConfigError.",
        "Secure Python Execution, Configuration Issues; Kubernetes, Configure a Pod to Use a ConfigMap",
    ),
    rule(
        "missing-config",
        Warning,
        references::objects,
        "A ConfigMap or Secret is not among the objects",
        "Until someone creates it, the pod does not start.",
        "Secure Python Execution, Configuration Issues; LLM Cost Ops, Secrets Management",
    ),
    rule(
        "hpa-requests",
        Error,
        scaling::requests,
        "An autoscaler measures what is not requested",
        "Utilisation is a share of the request: without one it is unknown, and nothing is scaled.",
        "LLM Runner Router, Horizontal Pod Autoscaler; LLM Cost Ops, Horizontal Pod Autoscaling",
    ),
    rule(
        "removed-api",
        Error,
        versions::removed,
        "An API version is no longer served",
        "The cluster refuses the object.",
        "Kubernetes, Deprecated API Migration Guide",
    ),
];
