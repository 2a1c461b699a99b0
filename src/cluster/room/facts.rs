//! What a cluster has: nodes and what is taken on them, storage classes, ingress classes.

use std::collections::BTreeMap;

use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::{Client, Resource, ResourceExt};
use serde_json::Value;

use crate::owner::{Owner, ROOT, STACK};
use crate::render::fit::Budget;
use crate::render::quantity;
use crate::render::requests::{self, Amount};

/// Namespaces of what every local cluster runs for itself. What else runs comes and goes, and must not change what a
/// stack is adapted to.
const SYSTEM: [&str; 2] = ["kube-system", "local-path-storage"];
/// Thousandths of a core that are kept back on each node, so that a small change of the system's pods changes nothing.
const SPARE: u64 = 50;

/// What a cluster has, as it was when it was asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Nodes that are not cordoned.
    pub nodes: Vec<Node>,
    /// Storage classes.
    pub storage: Vec<Class>,
    /// Ingress classes.
    pub ingress: Vec<Class>,
    /// Whether something in the cluster gives Services of the type LoadBalancer their address.
    pub balancer: bool,
    /// Why the nodes could not be looked at.
    pub unseen: Option<String>,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What selectors go by.
    pub labels: BTreeMap<String, String>,
    /// What keeps pods off it.
    pub taints: Vec<Taint>,
    /// What the machine has.
    pub capacity: Amount,
    /// What it has for pods.
    pub allocatable: Amount,
    /// The disk that it has for pods, in bytes.
    pub disk: u64,
    /// What the system's pods ask for.
    pub system: Amount,
    /// What all pods but the stack's own ask for.
    pub taken: Amount,
}

/// A taint that keeps pods off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value; often empty.
    pub value: String,
    /// `NoSchedule` or `NoExecute`.
    pub effect: String,
}

/// A storage class or an ingress class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// What serves it.
    pub by: String,
    /// Whether it is meant where none is named.
    pub default: bool,
}

impl Facts {
    /// Asks the cluster. What it does not tell is left out: the check that goes by it then says nothing.
    pub async fn ask(client: &Client, owner: &Owner) -> Self {
        use k8s_openapi::api::core::v1::{Node, Pod};
        use k8s_openapi::api::networking::v1::IngressClass;
        use k8s_openapi::api::storage::v1::StorageClass;
        let live = "status.phase!=Succeeded,status.phase!=Failed";
        let (nodes, pods, storage, ingress) = tokio::join!(
            list::<Node>(client, ""),
            list::<Pod>(client, live),
            list::<StorageClass>(client, ""),
            list::<IngressClass>(client, ""),
        );
        let class = |all: Result<Vec<DynamicObject>, _>| -> Vec<Class> {
            all.iter().flatten().map(Class::of).collect()
        };
        let (storage, ingress) = (class(storage), class(ingress));
        match (nodes, pods) {
            (Ok(nodes), Ok(pods)) => Facts {
                nodes: count(&nodes, &pods, owner),
                storage,
                ingress,
                balancer: pods.iter().any(balances),
                unseen: None,
            },
            (Err(error), _) | (_, Err(error)) => Facts {
                unseen: Some(error.to_string()),
                ..Facts::default()
            },
        }
    }

    /// The nodes that take pods which tolerate nothing.
    pub(super) fn open(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.taints.is_empty())
    }

    /// What a stack may ask for, whatever else runs. None: no node takes pods, or none could be looked at.
    pub fn budget(&self) -> Option<Budget> {
        let nodes: Vec<_> = self.open().collect();
        let name = match nodes[..] {
            [] => return None,
            [node] => node.name.clone(),
            _ => format!("{} nodes", nodes.len()),
        };
        let each = |node: &&Node| node.allocatable.less(node.system).cpu;
        Some(Budget {
            cpu: nodes.iter().map(each).sum(),
            spare: SPARE * nodes.len() as u64,
            nodes: nodes.len() as u64,
            name,
        })
    }

    /// What neither the system nor the stack itself has.
    pub(super) fn others(&self) -> Amount {
        let each = |node: &Node| node.taken.less(node.system);
        self.open().map(each).sum()
    }
}

async fn list<K>(client: &Client, fields: &str) -> kube::Result<Vec<DynamicObject>>
where
    K: Resource<DynamicType = ()>,
{
    let api = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::erase::<K>(&()));
    // Whatever the API server has at hand is new enough.
    let params = ListParams::default().fields(fields).match_any();
    Ok(api.list(&params).await?.items)
}

fn count(nodes: &[DynamicObject], pods: &[DynamicObject], owner: &Owner) -> Vec<Node> {
    let mut all: Vec<_> = nodes.iter().filter_map(Node::of).collect();
    for pod in pods {
        let spec = &pod.data["spec"];
        let system = SYSTEM.contains(&pod.namespace().unwrap_or_default().as_str());
        let place = match spec["nodeName"].as_str() {
            Some(name) => all.iter_mut().find(|node| node.name == name),
            // One that has just been made; of the system's own it is known that it will have its place.
            None if system => all.iter_mut().find(|node| node.taints.is_empty()),
            None => None,
        };
        let Some(node) = place else { continue };
        let asks = requests::pod(spec);
        if system {
            node.system = node.system + asks;
        }
        let label = |name: &str| pod.labels().get(name).map(String::as_str);
        if label(STACK) != Some(&owner.stack) || label(ROOT) != Some(&owner.root) {
            node.taken = node.taken + asks;
        }
    }
    all
}

impl Node {
    /// None: it is cordoned.
    fn of(object: &DynamicObject) -> Option<Self> {
        let (spec, status) = (&object.data["spec"], &object.data["status"]);
        if spec["unschedulable"] == true {
            return None;
        }
        let disk = quantity::of(&status["allocatable"]["ephemeral-storage"]);
        let taints = spec["taints"].as_array();
        Some(Node {
            name: object.name_any(),
            labels: object.labels().clone(),
            taints: taints.into_iter().flatten().filter_map(Taint::of).collect(),
            capacity: requests::listed(&status["capacity"]),
            allocatable: requests::listed(&status["allocatable"]),
            disk: quantity::whole(disk.unwrap_or(0.0)),
            ..Node::default()
        })
    }
}

impl Taint {
    /// None: it keeps no pod off, or says only how the node is just now.
    fn of(value: &Value) -> Option<Self> {
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let taint = Taint {
            key: text("key"),
            value: text("value"),
            effect: text("effect"),
        };
        let lasting = !taint.key.starts_with("node.kubernetes.io/");
        (lasting && taint.effect.starts_with("No")).then_some(taint)
    }
}

impl Class {
    fn of(object: &DynamicObject) -> Self {
        let by = ["/provisioner", "/spec/controller"]
            .iter()
            .find_map(|path| object.data.pointer(path)?.as_str());
        let is_default = |(key, value): (&String, &String)| {
            key.ends_with(".kubernetes.io/is-default-class") && value == "true"
        };
        Class {
            name: object.name_any(),
            by: by.unwrap_or_default().to_owned(),
            default: object.annotations().iter().any(is_default),
        }
    }
}

/// MetalLB, k3s' own, kube-vip.
fn balances(pod: &DynamicObject) -> bool {
    let name = pod.name_any();
    pod.namespace().as_deref() == Some("metallb-system")
        || name.starts_with("svclb-")
        || name.starts_with("kube-vip")
}
