//! A stack: what `stack.yaml` describes, checked and resolved, so that no later stage has to look a name up.

mod build;
mod check;
mod cluster;
mod decode;
pub mod diagnostic;
mod file;
pub mod graph;
mod paths;
mod place;
mod profile;
mod read;
mod scalar;
mod schema;
mod service;
mod tree;

pub use check::KUSTOMIZATIONS;
pub use diagnostic::{Diagnostic, Diagnostics};
pub use place::{FieldPath, ImagePlace};
pub use profile::Selection;
pub use read::{API_VERSION, FILE_NAME, find, parse, parse_with, read, read_with};
pub use scalar::duration;
pub use schema::schema;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A checked stack. Paths are absolute, services are referred to by index.
#[derive(Debug, Clone, PartialEq)]
pub struct Stack {
    /// A DNS label; also the value of the `llmdev.dev/stack` label.
    pub name: String,
    /// The canonical folder that `stack.yaml` is in.
    pub root: PathBuf,
    /// `stack.yaml` itself.
    pub file: PathBuf,
    /// Where it runs.
    pub cluster: ClusterSpec,
    /// Where namespaced objects that name no namespace go.
    pub namespace: String,
    /// Where manifests come from, in order.
    pub render: Vec<RenderStep>,
    /// In the order of `stack.yaml`.
    pub services: Vec<Service>,
    /// Secrets whose values come from a file that is not in the repository.
    pub secrets: Vec<SecretSpec>,
    /// Commands run on the host, in the stack's folder.
    pub hooks: Hooks,
    /// What a developer's machine cannot give is adapted.
    pub dev: Dev,
    /// A kind that the cluster does not know is an error, and not left out.
    pub strict: bool,
    /// What `llmdev check` passes over.
    pub ignore: Vec<Ignore>,
}

/// A service's place in [`Stack::services`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub usize);

impl Stack {
    /// The service at an index.
    pub fn service(&self, id: ServiceId) -> &Service {
        &self.services[id.0]
    }

    /// All services with their indices.
    pub fn ids(&self) -> impl Iterator<Item = ServiceId> + use<> {
        (0..self.services.len()).map(ServiceId)
    }

    /// The service of that name.
    pub fn find(&self, name: &str) -> Option<ServiceId> {
        self.services
            .iter()
            .position(|service| service.name == name)
            .map(ServiceId)
    }
}

/// `cluster:`. What is not said is `None`; [`crate::cluster`] decides then.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterSpec {
    /// Unset: the current context if it is local, else kind.
    pub provider: Option<Provider>,
    /// kind cluster, minikube profile, or kubeconfig context. Default: the stack's name.
    pub name: Option<String>,
    /// Whether `up` creates it when it is not there.
    pub create: bool,
    /// Cores that the stack wants.
    pub cpus: Option<u32>,
    /// Memory that the stack wants, in bytes.
    pub memory: Option<u64>,
    /// Disk that the stack wants on the nodes, in bytes.
    pub disk: Option<u64>,
    /// Number of nodes when it is created.
    pub nodes: Option<u32>,
    /// The node image when it is created (kind).
    pub image: Option<String>,
    /// The Kubernetes version when it is created, such as `v1.35.0`.
    pub kubernetes_version: Option<String>,
    /// What the nodes are made with when it is created (minikube), such as `docker`.
    pub driver: Option<String>,
    /// What the nodes run containers with when it is created (minikube): `docker`, `containerd` or `cri-o`.
    pub container_runtime: Option<String>,
    /// A kind configuration file of the user's own, absolute.
    pub config: Option<PathBuf>,
    /// A registry, `host:port[/path]`, that Docker pushes images to and the nodes pull them from.
    pub registry: Option<String>,
}

/// `cluster.provider`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// A kind cluster.
    Kind,
    /// A minikube profile.
    Minikube,
    /// Any kubeconfig context, named outright.
    Context,
}

/// One entry of `render:`.
#[derive(Debug, Clone, PartialEq)]
pub enum RenderStep {
    /// A folder with a `kustomization.yaml`, absolute.
    Kustomize(PathBuf),
    /// Globs relative to the stack's folder; files in each glob's order sorted by name.
    Manifests(Vec<String>),
    /// A chart.
    Helm(HelmRelease),
}

/// `helm:` of a render step.
#[derive(Debug, Clone, PartialEq)]
pub struct HelmRelease {
    /// The release's name.
    pub release: String,
    /// What is installed.
    pub chart: Chart,
    /// Values files, absolute, later ones win.
    pub values: Vec<PathBuf>,
    /// `key.path` to value, as `--set`.
    pub set: BTreeMap<String, String>,
    /// Default: the stack's.
    pub namespace: Option<String>,
}

/// `chart:` of a release.
#[derive(Debug, Clone, PartialEq)]
pub enum Chart {
    /// A folder, absolute.
    Folder(PathBuf),
    /// One of a repository, which helm fetches.
    Fetched {
        /// Its name, or `oci://` and where it is.
        name: String,
        /// The repository's address, unless it is an OCI registry.
        repo: Option<String>,
        /// Exact, so that the same is rendered tomorrow.
        version: String,
    },
}

/// One entry of `services:`.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// A DNS label; also the value of the `llmdev.dev/service` label.
    pub name: String,
    /// No build: the image comes from upstream.
    pub build: Option<BuildSpec>,
    /// What runs it.
    pub workload: WorkloadSpec,
    /// Where its image is named beside containers.
    pub image_in: Vec<ImagePlace>,
    /// Gates applying, never building.
    pub depends_on: Vec<ServiceId>,
    /// Local ports.
    pub forwards: Vec<ForwardSpec>,
    /// The short way for changed files.
    pub sync: Vec<SyncRule>,
    /// How long it may take from being applied to ready. Default 3 minutes.
    pub ready_timeout: Duration,
    /// Shorten what holds a rollout in development (probe delays, grace period, surge).
    pub fast_rollout: bool,
}

/// `build:` of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildSpec {
    /// The image's name in the manifests, without a tag.
    pub image: String,
    /// The build context, absolute.
    pub context: PathBuf,
    /// Absolute; need not be in the context.
    pub dockerfile: PathBuf,
    /// A stage to stop at.
    pub target: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Build secrets by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Build argument to the service whose image it is set to; that image is built first.
    pub requires: BTreeMap<String, ServiceId>,
}

/// Where a build secret comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum SecretSource {
    /// A file, absolute.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// `workload:` of a service.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkloadSpec {
    /// The workload whose name is the service's, prefix and suffix of an overlay allowed for.
    ByName,
    /// `kind/name`, the kind in lower case.
    Named {
        /// `deployment`, `statefulset`, `daemonset`, `job`, `cronjob` or `pod`.
        kind: String,
        /// As rendered, or as before the overlay's prefix.
        name: String,
    },
    /// `none`: an image that no workload names, such as one that a Job made at run time uses.
    None,
}

/// One entry of `forward:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardSpec {
    /// The port that is wanted on this machine.
    pub local: u16,
    /// The container's port.
    pub remote: u16,
    /// What to listen on. Unset: loopback, both address families.
    pub address: Option<IpAddr>,
}

/// One entry of `sync:`.
#[derive(Debug, Clone, PartialEq)]
pub enum SyncRule {
    /// `src` glob, relative to the build context, to a folder in the container.
    Manual {
        /// Glob relative to the build context.
        src: String,
        /// Absolute folder in the container.
        dest: String,
        /// Leading folders to take off the file's path before it is put under `dest`.
        strip: String,
        /// What happens after the files are there.
        after: SyncAfter,
        /// Which container; unset: the one whose image is the service's.
        container: Option<String>,
    },
    /// Globs of files whose destination follows from the Dockerfile's `COPY` and `ADD`.
    Infer {
        /// Globs relative to the build context.
        globs: Vec<String>,
        /// What happens after the files are there.
        after: SyncAfter,
    },
}

/// What happens in the container after files were synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncAfter {
    /// The program notices by itself.
    Nothing,
    /// The container's process is started anew.
    Restart,
    /// A command in the container.
    Exec(Vec<String>),
}

/// One entry of `secrets:`.
#[derive(Debug, Clone, PartialEq)]
pub struct SecretSpec {
    /// The Secret's name in the manifests, before prefix and suffix.
    pub name: String,
    /// `NAME=value` lines, absolute. Need not exist: then the manifests' own values stay.
    pub env_file: PathBuf,
    /// Key of the Secret to the variable in the file.
    pub keys: BTreeMap<String, String>,
}

/// `hooks:`; each command is a list of words, run on the host in the stack's folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hooks {
    /// Before the first build of an `up`.
    pub before_build: Vec<Vec<String>>,
    /// After all services of an `up` are ready.
    pub after_ready: Vec<Vec<String>>,
}

/// `dev:` of the stack. All of it is off unless the stack asks for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dev {
    /// What becomes of the containers' requests.
    pub resources: Option<Resources>,
    /// No workload has more replicas.
    pub replicas: Option<u32>,
    /// `storage: shrink`: claims ask for 1Gi at most.
    pub shrink_storage: bool,
    /// `accessModes: single`: claims ask for what one node can give.
    pub single_access: bool,
    /// `loadBalancer: clusterIP`: no Service asks for an address from outside.
    pub cluster_ip: bool,
}

/// `dev.resources`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resources {
    /// CPU requests are lowered by one factor when the nodes have less than they come to.
    Fit,
    /// CPU and memory requests are halved.
    Half,
}

/// One entry of `check.ignore:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignore {
    /// A rule of [`crate::check`].
    pub rule: String,
    /// Why; it is shown.
    pub reason: String,
    /// `kind/name` globs of objects as rendered; none: all.
    pub objects: Vec<String>,
}
