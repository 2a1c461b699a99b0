//! The watches behind a [`View`]: one a kind, all feeding one task that owns the picture.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Event as Warning;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Key, Objects, View, Views};
use crate::error::innermost;
use crate::owner::Owner;
use crate::ready::settles_at;

/// Where the objects are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Wherever; in this namespace, where no more may be seen, as on a cluster that others use, too.
    AllNamespaces(String),
    /// In one namespace.
    Namespace(String),
}

/// How many watches there are.
const KINDS: usize = 10;
/// Changes that may wait for the owner of the picture.
const QUEUE: usize = 64;
/// The first wait after a watch failed twice; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Short, since it is a cluster of the developer's own that nobody else asks.
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// Timers may end a little early.
const A_MOMENT: Duration = Duration::from_millis(20);
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A change to the picture.
type Change = Box<dyn FnOnce(&mut View) + Send>;

/// Where in the picture a kind is.
type Place<K> = fn(&mut View) -> &mut Objects<K>;
/// Takes away of an object what nobody reads; says whether anybody reads the rest.
type Strip<K> = fn(&mut K) -> bool;

/// What a watch says. The number is the watch's own.
enum News {
    /// It has listed; nothing that is not in the list exists.
    Listed(usize, Change),
    /// One object changed.
    Changed(Change),
    /// It failed, again.
    Lost(usize, String),
}

/// Watches all objects that `owner` has, until `cancel` or until nobody looks any more.
///
/// Everything that is known at a time becomes one new [`View`]. A watch that fails lists again, so that nothing
/// stale remains; [`View::unreachable`] says why for as long as it does not come back.
pub fn observe(client: Client, owner: &Owner, scope: Scope, cancel: CancellationToken) -> Views {
    let (publish, views) = watch::channel(Arc::new(View::default()));
    let (tell, news) = mpsc::channel(QUEUE);
    let watches = Watches {
        client,
        scope,
        selector: owner.selector(),
        tell,
        end: cancel.child_token(),
    };

    watches.start(0, |view| &mut view.pods, |_| true);
    watches.start(1, |view| &mut view.deployments, |_| true);
    watches.start(2, |view| &mut view.replica_sets, without_template);
    watches.start(3, |view| &mut view.stateful_sets, |_| true);
    watches.start(4, |view| &mut view.daemon_sets, |_| true);
    watches.start(5, |view| &mut view.jobs, |_| true);
    watches.start(6, |view| &mut view.claims, |_| true);
    watches.start(7, |view| &mut view.services, |_| true);
    watches.start(8, |view| &mut view.slices, |_| true);
    watches.start_with(9, of_note(), |view| &mut view.warnings, is_of_note);

    tokio::spawn(keep(publish, news, watches.end.clone()));
    views
}

/// Events have no labels: all warnings are asked for, and few are kept.
fn of_note() -> watcher::Config {
    watcher::Config::default().fields("type=Warning")
}

/// What changes how a pod or a claim is judged.
fn is_of_note(event: &mut Warning) -> bool {
    event.source = None;
    event.first_timestamp = None;
    let kind = event.involved_object.kind.as_deref();
    match event.reason.as_deref() {
        Some("Unhealthy" | "FailedMount") => kind == Some("Pod"),
        Some("ProvisioningFailed") => kind == Some("PersistentVolumeClaim"),
        _ => false,
    }
}

/// Which ReplicaSet is the newest needs no pod template, and there are many old ones.
fn without_template(set: &mut ReplicaSet) -> bool {
    if let Some(spec) = &mut set.spec {
        spec.template = None;
    }
    true
}

/// The task that owns the picture.
async fn keep(
    publish: watch::Sender<Arc<View>>,
    mut news: mpsc::Receiver<News>,
    end: CancellationToken,
) {
    let mut view = View::default();
    let mut listed = BTreeSet::new();
    let mut lost = BTreeMap::new();
    loop {
        let first = tokio::select! {
            () = end.cancelled() => return,
            () = publish.closed() => break,
            first = news.recv() => match first {
                Some(first) => Some(first),
                None => break,
            },
            () = time_tells(&view) => None,
        };
        let more = first
            .into_iter()
            .chain(std::iter::from_fn(|| news.try_recv().ok()));
        for one in more {
            match one {
                News::Changed(change) => change(&mut view),
                News::Listed(kind, change) => {
                    change(&mut view);
                    listed.insert(kind);
                    lost.remove(&kind);
                }
                News::Lost(kind, reason) => drop(lost.insert(kind, reason)),
            }
        }
        view.complete = listed.len() == KINDS;
        view.unreachable = lost.values().next().cloned();
        publish.send_replace(Arc::new(view.clone()));
    }
    end.cancel();
}

/// Until what the pods are changes by the passage of time alone; for ever if it does not.
async fn time_tells(view: &View) {
    let now = Timestamp::now();
    let next = view
        .pods
        .values()
        .filter_map(|pod| settles_at(pod, now))
        .min();
    match next.map(|next| Duration::try_from(next.duration_since(now))) {
        Some(wait) => tokio::time::sleep(wait.unwrap_or_default() + A_MOMENT).await,
        None => std::future::pending().await,
    }
}

/// What all watches have in common.
struct Watches {
    client: Client,
    scope: Scope,
    selector: String,
    tell: mpsc::Sender<News>,
    end: CancellationToken,
}

impl Watches {
    /// Watches the owner's objects of a kind.
    fn start<K>(&self, number: usize, place: Place<K>, strip: Strip<K>)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let config = watcher::Config::default().labels(&self.selector);
        self.start_with(number, config, place, strip);
    }

    fn start_with<K>(
        &self,
        number: usize,
        config: watcher::Config,
        place: Place<K>,
        strip: Strip<K>,
    ) where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let within = |name: &str| Api::namespaced(self.client.clone(), name);
        let (api, narrower) = match &self.scope {
            Scope::AllNamespaces(own) => (Api::all(self.client.clone()), Some(within(own))),
            Scope::Namespace(name) => (within(name), None),
        };
        let one = Watch {
            number,
            api,
            narrower,
            place,
            strip,
            tell: self.tell.clone(),
        };
        let end = self.end.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = end.cancelled() => (),
                () = one.follow(config) => (),
            }
        });
    }
}

/// The watch of one kind.
struct Watch<K> {
    number: usize,
    api: Api<K>,
    /// What to look at where the other is forbidden.
    narrower: Option<Api<K>>,
    place: Place<K>,
    strip: Strip<K>,
    tell: mpsc::Sender<News>,
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Lists and watches for as long as somebody listens.
    async fn follow(&self, config: watcher::Config) {
        let (mut failures, mut api) = (0_u32, &self.api);
        let mut narrower = self.narrower.as_ref();
        while !self.tell.is_closed() {
            let began = Instant::now();
            let mut listed = false;
            let Err(error) = self.once(api, config.clone(), &mut listed).await else {
                return;
            };
            if is_forbidden(&error)
                && let Some(narrower) = narrower.take()
            {
                api = narrower;
                continue;
            }
            // A watch that ran has the benefit of one retry: connections end, histories expire.
            let ran = listed && began.elapsed() > LONGEST_WAIT;
            failures = if ran { 0 } else { failures + 1 };
            if ran {
                continue;
            }
            if self
                .tell
                .send(News::Lost(self.number, innermost(&error)))
                .await
                .is_err()
            {
                return;
            }
            tokio::time::sleep(wait_after(failures)).await;
        }
    }

    /// Until the first error. The watcher is then made anew rather than resumed, since a resumed one does not say
    /// when it works again.
    async fn once(
        &self,
        api: &Api<K>,
        config: watcher::Config,
        listed: &mut bool,
    ) -> Result<(), watcher::Error> {
        let mut events = watcher(api.clone(), config).boxed();
        let mut list = Objects::new();
        while let Some(event) = events.try_next().await? {
            let news = match event {
                Event::Init => continue,
                Event::InitApply(object) => {
                    list.extend(self.stored(object));
                    continue;
                }
                Event::InitDone => {
                    *listed = true;
                    self.replaced(mem::take(&mut list))
                }
                Event::Apply(object) => match self.stored(object) {
                    Some((key, object)) => self.changed(key, object),
                    None => continue,
                },
                Event::Delete(object) => match self.stored(object) {
                    Some((key, _)) => self.deleted(key),
                    None => continue,
                },
            };
            if self.tell.send(news).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn replaced(&self, mut list: Objects<K>) -> News {
        let place = self.place;
        let change = move |view: &mut View| {
            let known = place(view);
            for (key, object) in &mut list {
                let same = known.get(key).filter(|old| {
                    old.meta().resource_version == object.meta().resource_version
                        && old.meta().uid == object.meta().uid
                });
                if let Some(same) = same {
                    *object = same.clone();
                }
            }
            *known = list;
        };
        News::Listed(self.number, Box::new(change))
    }

    fn changed(&self, key: Key, object: Arc<K>) -> News {
        let place = self.place;
        News::Changed(Box::new(move |view| drop(place(view).insert(key, object))))
    }

    fn deleted(&self, key: Key) -> News {
        let place = self.place;
        News::Changed(Box::new(move |view| drop(place(view).remove(&key))))
    }

    /// As it is kept, if it is: without what nobody reads.
    fn stored(&self, mut object: K) -> Option<(Key, Arc<K>)> {
        let meta = object.meta_mut();
        meta.managed_fields = None;
        if let Some(annotations) = &mut meta.annotations {
            annotations.remove(LAST_APPLIED);
        }
        (self.strip)(&mut object).then(|| (key_of(&object), Arc::new(object)))
    }
}

fn key_of<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

fn wait_after(failures: u32) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(LONGEST_WAIT)
}

fn is_forbidden(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403)
}
