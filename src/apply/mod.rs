//! Sends a stack's objects to the API server by server-side apply, and takes away what the stack no longer has.
//!
//! Whose an object is stands in its labels (see [`crate::owner`]). Nothing without this owner's labels is ever
//! changed or deleted, but for objects that the manifests name and that nobody's labels are on: those are adopted,
//! marked as such, and left in place by [`Applier::remove`].

mod anew;
mod answer;
mod gone;
mod groundwork;
mod kinds;
mod known;
mod owned;
mod prune;
mod remove;
mod restart;
mod send;
mod unknown;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use kube::Client;
use kube::core::ObjectMeta;
use serde_json::Value;

pub use prune::Pruned;
pub use remove::{Progress, Removed};
pub use restart::Restarted;
pub use unknown::{Skipped, note as unknown_note, refusal as unknown_refusal};

use crate::error::{Failure, Result};
use crate::owner::Owner;
use crate::render::Object;
use kinds::{Found, KindInfo, Kinds};
use known::Known;
use send::Sent;

/// Annotation on objects that were there before the stack: they stay when it goes.
pub const ADOPTED: &str = "llmdev.dev/adopted";

/// Failures beside the first that are said in full.
const SAID: usize = 10;

/// From so many objects of a kind on, they are listed rather than asked for one by one.
const MANY: usize = 3;

/// Requests under way at once.
const AT_ONCE: usize = 16;

/// Applies and removes the objects of one owner. Cheap requests only: what is known of the API is kept.
pub struct Applier {
    client: Client,
    owner: Owner,
    namespace: String,
    kinds: Kinds,
    known: Known,
}

/// What to do about a field that another field manager has set otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflicts {
    /// Fail, and say whose the field is.
    Refuse,
    /// Take the field (`up --force-conflicts`).
    Take,
}

/// What names an object in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// None: cluster-scoped.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Target {
    /// `kind/name`, as kubectl takes it.
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind.to_lowercase(), self.name)
    }

    /// `kind/name -n namespace`, as kubectl takes it.
    fn words(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} -n {namespace}", self.id()),
            None => self.id(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} in {namespace}", self.id()),
            None => f.write_str(&self.id()),
        }
    }
}

/// An object that the cluster now has as the manifests say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Which.
    pub target: Target,
    /// The cluster's identity of it: another one when it was made anew.
    pub uid: String,
    /// The generation that the cluster counts for it; 0 if the kind counts none.
    pub generation: i64,
    /// Whether it was not so before.
    pub changed: bool,
}

/// What came of applying several objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// In the order of the objects given.
    pub applied: Vec<Applied>,
    /// Kinds that the cluster does not know, left out.
    pub skipped: Vec<Skipped>,
    /// What was done beyond plain applying: made anew, adopted, taken over.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Adds another outcome.
    pub fn extend(&mut self, other: Outcome) {
        self.applied.extend(other.applied);
        self.skipped.extend(other.skipped);
        self.notes.extend(other.notes);
    }
}

impl Applier {
    /// For the objects of `owner`. `namespace` is where namespaced objects that name none go; `state` is the stack's
    /// state folder, where the kinds that were applied are remembered. Nothing is asked of the cluster yet.
    pub fn new(client: Client, owner: Owner, namespace: &str, state: &Path) -> Self {
        let kinds = Kinds::new(client.clone(), state);
        Applier {
            client,
            owner,
            namespace: namespace.to_owned(),
            kinds,
            known: Known::default(),
        }
    }

    /// Applies objects side by side; workloads after the rest, so that their pods find what they refer to.
    ///
    /// # Errors
    /// [`crate::error::Kind::Refused`] for an object of another stack; conflicts; what the API server says. All
    /// objects are tried, and all that failed are named.
    pub async fn apply(&self, objects: &[&Object], conflicts: Conflicts) -> Result<Outcome> {
        let (workloads, rest): (Vec<&Object>, Vec<&Object>) =
            objects.iter().partition(|object| runs_pods(object));
        let mut outcome = self.wave(&rest, conflicts).await?;
        outcome.extend(self.wave(&workloads, conflicts).await?);
        Ok(outcome)
    }

    async fn wave(&self, objects: &[&Object], conflicts: Conflicts) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut known = Vec::new();
        for (object, found) in objects.iter().zip(self.kinds.find_all(objects).await?) {
            match found {
                Found::Known(kind) => known.push((*object, kind)),
                Found::Unknown { near } => {
                    outcome.skipped.push(self.skipped(object, near));
                }
            }
        }
        self.kinds.remember(known.iter().map(|(_, kind)| kind))?;
        let mut before = self.before_many(&known).await?;
        let sends = known.iter().map(|(object, kind)| {
            let before = before.remove(&self.target(object, kind));
            self.send(object, kind, before, conflicts).boxed()
        });
        let sent: Vec<Result<Sent>> = at_once(sends).await;
        let mut failures = Vec::new();
        for (result, (object, _)) in sent.into_iter().zip(&known) {
            match result {
                Ok(Sent::Applied { applied, notes }) => {
                    outcome.applied.push(applied);
                    outcome.notes.extend(notes);
                }
                Ok(Sent::KindGone) => outcome.skipped.push(self.skipped(object, None)),
                Err(failure) => failures.push(failure),
            }
        }
        if failures.is_empty() {
            Ok(outcome)
        } else {
            Err(all_of(failures))
        }
    }

    /// The metadata of this owner's objects, for the kinds that many of `objects` are of: one list is faster than many
    /// requests.
    async fn before_many(
        &self,
        objects: &[(&Object, Arc<KindInfo>)],
    ) -> Result<HashMap<Target, ObjectMeta>> {
        let mut count: BTreeMap<&Arc<KindInfo>, usize> = BTreeMap::new();
        for (_, kind) in objects {
            *count.entry(kind).or_default() += 1;
        }
        let many = count.into_iter().filter(|(_, count)| *count >= MANY);
        let kinds: Vec<Arc<KindInfo>> = many.map(|(kind, _)| kind.clone()).collect();
        let owned = self.owned(&kinds).await?;
        Ok(owned
            .into_iter()
            .map(|it| (it.target, it.metadata))
            .collect())
    }

    fn unresolved(&self, object: &Object) -> Target {
        Target {
            api_version: object.api_version.clone(),
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
        }
    }

    fn target(&self, object: &Object, kind: &KindInfo) -> Target {
        let namespace = || {
            object
                .namespace
                .clone()
                .unwrap_or_else(|| self.namespace.clone())
        };
        Target {
            namespace: kind.namespaced.then(namespace),
            ..self.unresolved(object)
        }
    }
}

fn runs_pods(object: &Object) -> bool {
    let path = match object.kind.as_str() {
        "Pod" => return object.group().is_empty(),
        "CronJob" => "/spec/jobTemplate/spec/template",
        _ => "/spec/template",
    };
    object.value.pointer(path).is_some_and(Value::is_object)
}

/// One failure that names all of them.
fn all_of(mut failures: Vec<Failure>) -> Failure {
    let first = failures.remove(0);
    if failures.is_empty() {
        return first;
    }
    let count = failures.len();
    let others = failures
        .iter()
        .take(SAID)
        .map(|failure| match &failure.remedy {
            Some(remedy) => format!("{} ({remedy})", failure.line()),
            None => failure.line(),
        });
    let others: Vec<String> = others.collect();
    first.detail([format!("and {count} more:")]).detail(others)
}

/// Sends requests side by side, within a bound; the answers in the order of the requests.
///
/// Boxed, since the compiler cannot tell otherwise that a closure's future may move between threads.
async fn at_once<'a, T>(requests: impl Iterator<Item = BoxFuture<'a, T>>) -> Vec<T> {
    let requests: Vec<_> = requests.collect();
    stream::iter(requests).buffered(AT_ONCE).collect().await
}
