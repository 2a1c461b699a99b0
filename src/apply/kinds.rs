//! Which kinds the cluster knows, asked for the groups that are needed only; and which ones this stack has used,
//! so that prune need not look through all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;
use kube::api::ApiResource;
use serde::{Deserialize, Serialize};

use super::answer;
use crate::error::{Failure, Result};
use crate::render::Object;
use crate::stack::diagnostic::nearest;

/// A kind that the cluster has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KindInfo {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// Such as `deployments`.
    pub plural: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
}

impl KindInfo {
    /// The API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version
            .rsplit_once('/')
            .map_or("", |(group, _)| group)
    }

    /// As kube wants it.
    pub fn resource(&self) -> ApiResource {
        let (group, version) = self
            .api_version
            .rsplit_once('/')
            .unwrap_or(("", self.api_version.as_str()));
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            plural: self.plural.clone(),
        }
    }
}

/// Whether the cluster knows a kind.
pub enum Found {
    /// It does.
    Known(Arc<KindInfo>),
    /// It does not.
    Unknown {
        /// A kind of the same group and version that is spelt nearly so.
        near: Option<String>,
    },
}

/// The kinds of a group's version that can be listed and patched.
type Group = Arc<Vec<Arc<KindInfo>>>;

pub struct Kinds {
    client: Client,
    file: PathBuf,
    groups: Mutex<HashMap<String, Group>>,
    used: Mutex<Used>,
}

/// What is remembered in the state folder.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Used {
    /// Whether all kinds of the cluster were once looked through, so that none is missing here.
    complete: bool,
    kinds: BTreeSet<KindInfo>,
}

impl Kinds {
    pub fn new(client: Client, state: &Path) -> Self {
        let file = state.join("kinds.json");
        let used = fs::read(&file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let used = Mutex::new(used.unwrap_or_default());
        Kinds {
            client,
            file,
            groups: Mutex::default(),
            used,
        }
    }

    /// What the cluster knows of each object's kind.
    pub async fn find_all(&self, objects: &[&Object]) -> Result<Vec<Found>> {
        let versions: BTreeSet<&str> = objects.iter().map(|it| it.api_version.as_str()).collect();
        let groups = versions.into_iter().map(async |version| {
            let group = self.group(version).await?;
            Ok::<_, Failure>((version, group))
        });
        let groups: BTreeMap<&str, Option<Group>> =
            try_join_all(groups).await?.into_iter().collect();
        // All are asked for once, and only where one may be found in another version.
        let unserved =
            |it: &&&Object| is_kubernetes(it.group()) && groups[it.api_version.as_str()].is_none();
        let all = match objects.iter().find(unserved) {
            Some(_) => self.all().await?,
            None => Vec::new(),
        };
        let found = objects
            .iter()
            .map(|object| match &groups[object.api_version.as_str()] {
                Some(group) => in_group(group, &object.kind),
                None => Found::Unknown {
                    near: elsewhere(&all, object),
                },
            });
        Ok(found.collect())
    }

    /// Waits a moment for the kinds of definitions that were just established: the API server announces them a little
    /// later.
    pub async fn expect(&self, defined: &[(String, String)]) -> Result<()> {
        let mut pause = Duration::from_millis(25);
        for (version, kind) in defined {
            loop {
                self.forget(version);
                let group = self.group(version).await?;
                let known = group.is_some_and(|group| group.iter().any(|it| it.kind == *kind));
                if known || pause > Duration::from_secs(3) {
                    break;
                }
                tokio::time::sleep(pause).await;
                pause = pause.mul_f64(1.5);
            }
        }
        Ok(())
    }

    /// Asks again the next time.
    pub fn forget(&self, api_version: &str) {
        lock(&self.groups).remove(api_version);
    }

    /// None: the cluster does not serve this version. That is not kept, since it may be installed any time.
    async fn group(&self, api_version: &str) -> Result<Option<Group>> {
        if let Some(group) = lock(&self.groups).get(api_version).cloned() {
            return Ok(Some(group));
        }
        let asked = match api_version.contains('/') {
            true => self.client.list_api_group_resources(api_version).await,
            false => self.client.list_core_api_resources(api_version).await,
        };
        let list = match asked {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => return Err(answer::unreachable(error)),
        };
        let group: Group = Arc::new(usable(api_version, &list));
        lock(&self.groups).insert(api_version.to_owned(), group.clone());
        Ok(Some(group))
    }

    /// Writes down kinds before objects of them are made: what is not written down would not be found again.
    pub fn remember<'a>(&self, kinds: impl Iterator<Item = &'a Arc<KindInfo>>) -> Result<()> {
        let mut used = lock(&self.used);
        let before = used.kinds.len();
        used.kinds.extend(kinds.map(|kind| KindInfo::clone(kind)));
        if used.kinds.len() > before {
            self.write(&used)
        } else {
            Ok(())
        }
    }

    /// The kinds that objects of this stack can be of.
    pub async fn used(&self) -> Result<Vec<Arc<KindInfo>>> {
        let used = lock(&self.used).clone();
        if used.complete {
            return Ok(used.kinds.into_iter().map(Arc::new).collect());
        }
        self.all().await
    }

    /// Whether a kind that was applied is known to have no namespaces.
    pub fn is_cluster_scoped(&self, api_version: &str, kind: &str) -> bool {
        let is = |it: &KindInfo| it.api_version == api_version && it.kind == kind;
        lock(&self.used)
            .kinds
            .iter()
            .any(|it| is(it) && !it.namespaced)
    }

    /// All kinds were looked through, and these had objects.
    pub fn looked_through(&self, found: impl Iterator<Item = KindInfo>) -> Result<()> {
        let mut used = lock(&self.used);
        if used.complete {
            return Ok(());
        }
        used.complete = true;
        used.kinds.extend(found);
        self.write(&used)
    }

    /// All kinds of the cluster, each in one version.
    pub async fn all(&self) -> Result<Vec<Arc<KindInfo>>> {
        let groups = self
            .client
            .list_api_groups()
            .await
            .map_err(answer::unreachable)?;
        let versions = groups.groups.iter().filter_map(|group| {
            let first = group.versions.first();
            Some(
                group
                    .preferred_version
                    .as_ref()
                    .or(first)?
                    .group_version
                    .clone(),
            )
        });
        let versions: Vec<String> = std::iter::once("v1".to_owned()).chain(versions).collect();
        // A group whose own API server is down is left out: nothing can be done there anyway.
        let groups = join_all(versions.iter().map(|version| self.group(version))).await;
        let kinds = groups.into_iter().filter_map(Result::ok).flatten();
        Ok(kinds
            .flat_map(|group| group.to_vec())
            .filter(|kind| !made_by_others(kind))
            .collect())
    }

    fn write(&self, used: &Used) -> Result<()> {
        let fresh = self.file.with_extension("json.new");
        let write = || {
            fs::create_dir_all(self.file.parent().unwrap_or(Path::new(".")))?;
            fs::write(&fresh, serde_json::to_vec(used)?)?;
            fs::rename(&fresh, &self.file)
        };
        write().map_err(|error: std::io::Error| {
            Failure::environment(format!("cannot write {}", self.file.display())).because(error)
        })
    }
}

/// What only controllers make, from objects whose labels they copy.
fn made_by_others(kind: &KindInfo) -> bool {
    matches!(
        (kind.group(), kind.kind.as_str()),
        ("", "Endpoints" | "Event" | "Node")
            | ("discovery.k8s.io", _)
            | ("events.k8s.io", _)
            | ("apps", "ControllerRevision")
            | ("metrics.k8s.io", _)
    )
}

/// Whether a group is Kubernetes' own, and not one that was added to it.
fn is_kubernetes(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io")
}

fn usable(api_version: &str, list: &APIResourceList) -> Vec<Arc<KindInfo>> {
    let can = |verbs: &[String], verb: &str| verbs.iter().any(|it| it == verb);
    let usable = list.resources.iter().filter(|resource| {
        !resource.name.contains('/')
            && can(&resource.verbs, "patch")
            && can(&resource.verbs, "list")
            && can(&resource.verbs, "delete")
    });
    usable
        .map(|resource| {
            Arc::new(KindInfo {
                api_version: api_version.to_owned(),
                kind: resource.kind.clone(),
                plural: resource.name.clone(),
                namespaced: resource.namespaced,
            })
        })
        .collect()
}

/// The version that Kubernetes itself has the kind in, for an object of a version that it does not serve (any more).
fn elsewhere(all: &[Arc<KindInfo>], object: &Object) -> Option<String> {
    if !is_kubernetes(object.group()) {
        return None;
    }
    let mut same = all
        .iter()
        .filter(|it| it.kind == object.kind && is_kubernetes(it.group()));
    same.next().map(|it| it.api_version.clone())
}

fn in_group(group: &Group, kind: &str) -> Found {
    if let Some(known) = group.iter().find(|it| it.kind == kind) {
        return Found::Known(known.clone());
    }
    let kinds = group.iter().map(|it| it.kind.as_str());
    let near = nearest(kind, kinds).map(str::to_owned);
    Found::Unknown { near }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use serde_json::{Value, json};

    use super::*;

    fn answer(path: &str) -> Option<Value> {
        let verbs = ["patch", "list", "delete"];
        let version = json!({"groupVersion": "policy/v1", "version": "v1"});
        Some(match path {
            "/apis" => json!({"groups": [
                {"name": "policy", "versions": [version], "preferredVersion": version},
            ]}),
            "/api/v1" => json!({"groupVersion": "v1", "resources": []}),
            "/apis/policy/v1" => json!({"groupVersion": "policy/v1", "resources": [{
                "name": "poddisruptionbudgets", "singularName": "", "namespaced": true,
                "kind": "PodDisruptionBudget", "verbs": verbs,
            }]}),
            _ => return None,
        })
    }

    /// A cluster with one group, and the paths that it was asked for.
    async fn cluster() -> (Client, Arc<Mutex<Vec<String>>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = asked.clone();
        let serve = move |request: http::Request<hyper::body::Incoming>| {
            let path = request.uri().path().to_owned();
            let found = answer(&path);
            lock(&noted).push(path);
            let status = if found.is_some() { 200 } else { 404 };
            let none = json!({"kind": "Status", "status": "Failure", "code": 404, "message": "", "reason": "NotFound"});
            let body = found.unwrap_or(none).to_string();
            let response = http::Response::builder().status(status).body(body);
            async move { Ok::<_, Infallible>(response.unwrap()) }
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(serve.clone());
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        (Client::try_from(config).unwrap(), asked)
    }

    fn object(api_version: &str, kind: &str) -> Object {
        Object {
            api_version: api_version.into(),
            kind: kind.into(),
            name: "x".into(),
            namespace: None,
            value: json!({}),
            service: None,
            origin: String::new(),
            place: Default::default(),
        }
    }

    #[tokio::test]
    async fn all_kinds_are_asked_for_once_and_only_where_it_helps() {
        let old = object("policy/v1beta1", "PodDisruptionBudget");
        let others = object("example.com/v1", "Thing");
        for (objects, near, times) in [
            (vec![&old, &others, &old, &old], 3, 1),
            (vec![&others, &others], 0, 0),
        ] {
            let (client, asked) = cluster().await;
            let folder = tempfile::tempdir().unwrap();
            let kinds = Kinds::new(client, folder.path());
            let found = kinds.find_all(&objects).await.unwrap();
            let is_near = |one: &&Found| matches!(one, Found::Unknown { near: Some(near) } if near == "policy/v1");
            assert_eq!(found.iter().filter(is_near).count(), near);
            let all = lock(&asked);
            assert_eq!(
                all.iter().filter(|path| *path == "/apis").count(),
                times,
                "{all:?}"
            );
        }
    }
}
