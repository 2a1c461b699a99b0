//! One object to the API server, and the ways around what it refuses.

use std::path::PathBuf;
use std::time::Duration;

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::core::{ObjectMeta, Status};
use serde_json::{Value, json};

use super::answer::{self, Answer, Held};
use super::kinds::KindInfo;
use super::{ADOPTED, Applied, Applier, Conflicts, Target, gone};
use crate::error::{Failure, Result};
use crate::owner;
use crate::render::Object;
use crate::state;

/// What became of one object.
pub enum Sent {
    /// The cluster has it.
    Applied {
        /// It.
        applied: Applied,
        /// What was done beyond plain applying.
        notes: Vec<String>,
    },
    /// Its kind was taken out of the cluster since it was asked for.
    KindGone,
}

/// How an object of that name stood before.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Absent,
    /// Carries this owner's labels, and was made by llmdev.
    Ours,
    /// Carries this owner's labels, but was there before.
    Adopted,
    /// Carries nobody's labels.
    Free,
    /// Another stack's, or the same one's in another folder.
    Strange {
        stack: String,
        /// [`owner::ROOT`] of it.
        root: String,
    },
}

/// Managers whose fields are taken without a word on objects that are ours: the same person's plain `kubectl apply`.
const SAME_PERSON: [&str; 2] = ["kubectl-client-side-apply", "kubectl-create"];

/// One object on its way.
pub(super) struct Parcel<'a> {
    pub(super) target: Target,
    pub(super) object: &'a Object,
    pub(super) api: Api<DynamicObject>,
    pub(super) body: Value,
    params: PatchParams,
    standing: Standing,
    /// The object's metadata before.
    pub(super) before: Option<ObjectMeta>,
    pub(super) notes: Vec<String>,
}

/// What is tried next after a refusal.
enum Next {
    Again,
    KindGone,
}

/// Refusals of one object that are worth another try.
const TRIES: usize = 5;

impl Applier {
    /// An Api for a kind, in a namespace or over the whole cluster.
    pub(super) fn api(&self, kind: &KindInfo, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = kind.resource();
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    pub(super) async fn send(
        &self,
        object: &Object,
        kind: &KindInfo,
        before: Option<ObjectMeta>,
        conflicts: Conflicts,
    ) -> Result<Sent> {
        let mut parcel = self.pack(object, kind, before, conflicts).await?;
        if let Some(before) = parcel.before.clone()
            && self.known.is_current(&parcel.target, &parcel.body, &before)
        {
            return Ok(parcel.delivered(before));
        }
        for _ in 0..TRIES {
            let patch = Patch::Apply(&parcel.body);
            let sent = parcel
                .api
                .patch_metadata(&object.name, &parcel.params, &patch)
                .await;
            let status = match sent {
                Ok(after) => {
                    self.known
                        .record(&parcel.target, &parcel.body, &after.metadata);
                    return Ok(parcel.delivered(after.metadata));
                }
                Err(kube::Error::Api(status)) => status,
                Err(error) => return Err(answer::unreachable(error)),
            };
            match self.way_around(&mut parcel, &status).await? {
                Next::Again => {}
                Next::KindGone => {
                    self.kinds.forget(&object.api_version);
                    return Ok(Sent::KindGone);
                }
            }
        }
        let what = format!(
            "{} cannot be applied: it changes all the time",
            parcel.target
        );
        Err(Failure::failed(what)
            .remedy("see which controller writes to it: kubectl get -o yaml --show-managed-fields"))
    }

    async fn pack<'a>(
        &self,
        object: &'a Object,
        kind: &KindInfo,
        before: Option<ObjectMeta>,
        conflicts: Conflicts,
    ) -> Result<Parcel<'a>> {
        let target = self.target(object, kind);
        let api = self.api(kind, target.namespace.as_deref());
        let before = self.before(&api, &target, before).await?;
        let standing = self.standing(before.as_ref());
        if let Standing::Strange { stack, root } = &standing {
            let folder = state::folder_of(root);
            return Err(strange(&target, stack, &self.owner.stack, folder));
        }
        let mut notes = Vec::new();
        if standing == Standing::Free {
            notes.push(format!(
                "{target} was there before; it is taken over, and stays at `llmdev down`"
            ));
        }
        let adopted = matches!(standing, Standing::Free | Standing::Adopted);
        let params = PatchParams {
            force: conflicts == Conflicts::Take,
            field_manager: Some(owner::MANAGER.to_owned()),
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let body = body(object, &target, adopted);
        Ok(Parcel {
            target,
            object,
            api,
            body,
            params,
            standing,
            before,
            notes,
        })
    }

    /// The object's metadata as it stands; waits for one that is being deleted.
    async fn before(
        &self,
        api: &Api<DynamicObject>,
        target: &Target,
        listed: Option<ObjectMeta>,
    ) -> Result<Option<ObjectMeta>> {
        let metadata = match listed {
            Some(listed) => Some(listed),
            None => {
                let found = api.get_metadata_opt(&target.name).await;
                found
                    .map_err(answer::unreachable)?
                    .map(|found| found.metadata)
            }
        };
        let Some(metadata) = metadata else {
            return Ok(None);
        };
        if metadata.deletion_timestamp.is_none() {
            return Ok(Some(metadata));
        }
        if target.kind == "Namespace" {
            return Err(answer::terminating(&target.name));
        }
        gone::wait(api, target, &metadata).await?;
        Ok(None)
    }

    fn standing(&self, metadata: Option<&ObjectMeta>) -> Standing {
        let Some(metadata) = metadata else {
            return Standing::Absent;
        };
        let label = |name: &str| metadata.labels.as_ref().and_then(|labels| labels.get(name));
        match (label(owner::STACK), label(owner::ROOT)) {
            (None, None) => Standing::Free,
            (Some(stack), Some(root)) if *stack == self.owner.stack && *root == self.owner.root => {
                if is_adopted(metadata) {
                    Standing::Adopted
                } else {
                    Standing::Ours
                }
            }
            (stack, root) => Standing::Strange {
                stack: stack.cloned().unwrap_or_default(),
                root: root.cloned().unwrap_or_default(),
            },
        }
    }

    async fn way_around(&self, parcel: &mut Parcel<'_>, status: &Status) -> Result<Next> {
        match answer::read(status) {
            Answer::Raced => Ok(Next::Again),
            Answer::NoKind => Ok(Next::KindGone),
            Answer::Held(held) => parcel.yield_or_take(&held, status),
            _ if parcel.keep_storage().await? => Ok(Next::Again),
            Answer::Fixed(fields) if parcel.standing == Standing::Ours => {
                parcel.make_anew(&fields, status).await?;
                Ok(Next::Again)
            }
            Answer::Fixed(_) if parcel.standing == Standing::Adopted => {
                let failure = answer::failure(&parcel.target, parcel.object, status);
                Err(failure.remedy(format!(
                    "it was there before the stack, so llmdev does not delete it: kubectl delete {}",
                    parcel.target.words()
                )))
            }
            _ => Err(answer::failure(&parcel.target, parcel.object, status)),
        }
    }
}

/// Whether it was there before the stack.
pub fn is_adopted(metadata: &ObjectMeta) -> bool {
    metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(ADOPTED))
}

/// `folder` is that of the stack which has it, as far as this machine knows.
fn strange(target: &Target, stack: &str, own: &str, folder: Option<PathBuf>) -> Failure {
    let whose = if stack == own {
        format!("it belongs to a stack of the same name in another folder: {stack}")
    } else {
        format!("it belongs to the stack {stack}")
    };
    let failure = Failure::refused(format!("{target} is not this stack's")).cause(whose);
    let words = target.words();
    let freed = format!(
        "`kubectl delete {words}`, or to let this stack have it as it is: `kubectl label {words} {}- {}- {}-`",
        owner::STACK,
        owner::ROOT,
        owner::SERVICE
    );
    let others = match &target.namespace {
        Some(_) => "give this stack another `namespace` or its objects other names",
        None => "give this stack's object another name",
    };
    match folder {
        Some(folder) if folder.is_dir() => failure.remedy(format!(
            "run `llmdev down` in {}, or {others}",
            folder.display()
        )),
        Some(folder) => failure
            .cause(format!("its folder {} is gone", folder.display()))
            .remedy(freed),
        None => failure
            .cause("its folder is not known on this machine")
            .remedy(format!(
                "run `llmdev down` in that folder, or {others}; if nobody has that stack any more: {freed}"
            )),
    }
}

fn body(object: &Object, target: &Target, adopted: bool) -> Value {
    let mut body = object.value.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("status");
    }
    let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) else {
        return body;
    };
    // What belongs to another cluster's object, as in a dump of one.
    for field in [
        "managedFields",
        "resourceVersion",
        "uid",
        "creationTimestamp",
        "generation",
    ] {
        metadata.remove(field);
    }
    match &target.namespace {
        Some(namespace) => metadata.insert("namespace".into(), json!(namespace)),
        None => metadata.remove("namespace"),
    };
    if adopted {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(ADOPTED.into(), json!("true"));
        }
    }
    body
}

impl Parcel<'_> {
    fn delivered(self, after: ObjectMeta) -> Sent {
        let version = self
            .before
            .as_ref()
            .and_then(|before| before.resource_version.as_ref());
        let changed = version != after.resource_version.as_ref();
        let uid = after.uid.unwrap_or_default();
        let generation = after.generation.unwrap_or(0);
        Sent::Applied {
            applied: Applied {
                target: self.target,
                uid,
                generation,
                changed,
            },
            notes: self.notes,
        }
    }

    fn yield_or_take(&mut self, held: &[Held], status: &Status) -> Result<Next> {
        let known = matches!(self.standing, Standing::Ours | Standing::Adopted);
        if known
            && held
                .iter()
                .all(|it| SAME_PERSON.contains(&it.manager.as_str()))
        {
            self.params.force = true;
            return Ok(Next::Again);
        }
        let scaled =
            |it: &Held| it.field == ".spec.replicas" && it.manager == "kube-controller-manager";
        let spec = self.body.get_mut("spec").and_then(Value::as_object_mut);
        // An autoscaler's number is truer than the manifests'.
        if held.iter().all(scaled) && spec.is_some_and(|spec| spec.remove("replicas").is_some()) {
            self.notes.push(format!(
                "{} keeps the replicas that its autoscaler set",
                self.target
            ));
            return Ok(Next::Again);
        }
        Err(answer::failure(&self.target, self.object, status))
    }
}

/// How long an object may take to go before that is a failure.
pub const PATIENCE: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_anothers_is_said_with_a_remedy_that_works() {
        let target = Target {
            api_version: "rbac.authorization.k8s.io/v1".to_owned(),
            kind: "ClusterRole".to_owned(),
            namespace: None,
            name: "reader".to_owned(),
        };
        let said = |folder| {
            let failure = strange(&target, "shop", "shop", folder);
            format!("{}\n{}", failure.line(), failure.remedy.unwrap_or_default())
        };
        insta::assert_snapshot!(said(Some(PathBuf::from("/"))), @"
        clusterrole/reader is not this stack's: it belongs to a stack of the same name in another folder: shop
        run `llmdev down` in /, or give this stack's object another name
        ");
        insta::assert_snapshot!(said(Some(PathBuf::from("/nowhere/shop"))), @"
        clusterrole/reader is not this stack's: it belongs to a stack of the same name in another folder: shop: its folder /nowhere/shop is gone
        `kubectl delete clusterrole/reader`, or to let this stack have it as it is: `kubectl label clusterrole/reader llmdev.dev/stack- llmdev.dev/root- llmdev.dev/service-`
        ");
        insta::assert_snapshot!(said(None), @"
        clusterrole/reader is not this stack's: it belongs to a stack of the same name in another folder: shop: its folder is not known on this machine
        run `llmdev down` in that folder, or give this stack's object another name; if nobody has that stack any more: `kubectl delete clusterrole/reader`, or to let this stack have it as it is: `kubectl label clusterrole/reader llmdev.dev/stack- llmdev.dev/root- llmdev.dev/service-`
        ");
    }
}
