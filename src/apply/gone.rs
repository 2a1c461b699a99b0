//! Waiting, by watch, until deleted objects are gone.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::api::DynamicObject;
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher::{self, Event, watcher};

use super::send::PATIENCE;
use super::{Target, answer};
use crate::error::{Failure, Result};

/// Waits for one object.
pub async fn wait(api: &Api<DynamicObject>, target: &Target, metadata: &ObjectMeta) -> Result<()> {
    let uid = metadata.uid.clone().unwrap_or_default();
    let gone = await_condition(api.clone(), &target.name, conditions::is_deleted(&uid));
    match tokio::time::timeout(PATIENCE, gone).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Failure::environment("the cluster does not answer").because(error)),
        Err(_) => {
            let found = api
                .get_metadata_opt(&target.name)
                .await
                .map_err(answer::unreachable)?;
            let finalizers = found.and_then(|found| found.metadata.finalizers);
            Err(stuck(
                [(target, finalizers.unwrap_or_default())].into_iter(),
            ))
        }
    }
}

/// Waits for several objects of one kind, by uid; `went` is told of each. Ends with a failure when nothing has
/// happened for `patience`.
pub async fn wait_all(
    api: Api<PartialObjectMeta>,
    selector: &str,
    mut left: BTreeMap<String, Target>,
    patience: Duration,
    went: &(dyn Fn(&Target) + Send + Sync),
) -> Result<()> {
    let config = watcher::Config::default().labels(selector);
    let mut events = pin!(watcher(api, config).default_backoff());
    let mut listed = Vec::new();
    let mut finalizers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while !left.is_empty() {
        let Ok(event) = tokio::time::timeout(patience, events.next()).await else {
            let held = |uid| finalizers.get(uid).cloned().unwrap_or_default();
            return Err(stuck(left.iter().map(|(uid, target)| (target, held(uid)))));
        };
        match event {
            None => return Ok(()),
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitApply(object))) => {
                let uid = object.metadata.uid.unwrap_or_default();
                finalizers.insert(uid.clone(), object.metadata.finalizers.unwrap_or_default());
                listed.push(uid);
            }
            Some(Ok(Event::InitDone)) => {
                let gone: Vec<String> = left
                    .keys()
                    .filter(|uid| !listed.contains(uid))
                    .cloned()
                    .collect();
                for target in gone.iter().filter_map(|uid| left.remove(uid)) {
                    went(&target);
                }
            }
            Some(Ok(Event::Delete(object))) => {
                let uid = object.metadata.uid.unwrap_or_default();
                if let Some(target) = left.remove(&uid) {
                    went(&target);
                }
            }
            Some(Ok(Event::Apply(object))) => {
                let uid = object.metadata.uid.unwrap_or_default();
                finalizers.insert(uid, object.metadata.finalizers.unwrap_or_default());
            }
            // The kind itself is gone, and its objects with it.
            Some(Err(error)) if is_gone(&error) => return Ok(()),
            Some(Err(error)) => tracing::debug!(%error, "watching what is deleted"),
        }
    }
    Ok(())
}

fn is_gone(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) =
        error
    else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Says what holds objects that do not go.
fn stuck<'a>(left: impl Iterator<Item = (&'a Target, Vec<String>)>) -> Failure {
    let lines = left.map(|(target, finalizers)| match finalizers.is_empty() {
        true => target.to_string(),
        false => format!("{target} waits for {}", finalizers.join(", ")),
    });
    let lines: Vec<String> = lines.collect();
    let what = match &lines[..] {
        [one] => format!("{one} and does not go away"),
        many => format!("{} objects do not go away", many.len()),
    };
    Failure::failed(what).detail(lines).remedy(
        "see `kubectl describe` on it: what has to let go of it may not be running any more",
    )
}
