//! What everything else stands on: namespaces, then definitions of kinds, then the rest of the stack as a whole.

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::runtime::wait::{await_condition, conditions};
use serde_json::{Value, json};

use super::{Applier, Conflicts, Outcome, answer};
use crate::error::{Failure, Result};
use crate::render::Object;

/// How long the API server may take for what it does by itself.
const SOON: Duration = Duration::from_secs(30);

impl Applier {
    /// Applies what every service needs: namespaces (the stack's own too, if it is not there), definitions of kinds,
    /// which are waited for, and the rest of `objects`.
    ///
    /// # Errors
    /// As [`Applier::apply`]; a namespace that is being deleted.
    pub async fn groundwork(&self, objects: &[&Object], conflicts: Conflicts) -> Result<Outcome> {
        let (namespaces, rest): (Vec<&Object>, Vec<&Object>) = objects
            .iter()
            .copied()
            .partition(|object| object.group().is_empty() && object.kind == "Namespace");
        let (definitions, rest): (Vec<&Object>, Vec<&Object>) =
            rest.into_iter().partition(|object| is_definition(object));
        let mut outcome = self.namespaces(&namespaces, conflicts).await?;
        if !definitions.is_empty() {
            outcome.extend(self.wave(&definitions, conflicts).await?);
            self.established(&definitions).await?;
        }
        outcome.extend(self.apply(&rest, conflicts).await?);
        Ok(outcome)
    }

    async fn namespaces(&self, rendered: &[&Object], conflicts: Conflicts) -> Result<Outcome> {
        let own = self.own_namespace(rendered).await?;
        let mut all = rendered.to_vec();
        all.extend(&own);
        let outcome = self.wave(&all, conflicts).await?;
        let made = outcome.applied.iter().filter(|applied| applied.changed);
        try_join_all(made.map(|applied| self.furnished(&applied.target.name))).await?;
        Ok(outcome)
    }

    /// The stack's namespace as an object to apply: only when nobody else brings it.
    async fn own_namespace(&self, rendered: &[&Object]) -> Result<Option<Object>> {
        if rendered.iter().any(|object| object.name == self.namespace) {
            return Ok(None);
        }
        let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        let found = api
            .get_metadata_opt(&self.namespace)
            .await
            .map_err(answer::unreachable)?;
        match found {
            Some(found) if found.metadata.deletion_timestamp.is_some() => {
                Err(answer::terminating(&self.namespace))
            }
            Some(_) => Ok(None),
            None => Ok(Some(Object {
                api_version: "v1".into(),
                kind: "Namespace".into(),
                name: self.namespace.clone(),
                namespace: None,
                value: json!({
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {"name": self.namespace, "labels": self.owner.labels(None)},
                }),
                service: None,
                origin: "stack.yaml".into(),
                place: Default::default(),
            })),
        }
    }

    /// Pods are refused in a new namespace until its service account is there.
    async fn furnished(&self, namespace: &str) -> Result<()> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let there = |account: Option<&ServiceAccount>| account.is_some();
        let waited = tokio::time::timeout(SOON, await_condition(api, "default", there)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                Err(Failure::environment("the cluster does not answer").because(error))
            }
            Err(_) => Err(Failure::failed(format!(
                "the new namespace {namespace} does not get its service account"
            ))
            .remedy("the cluster's controller manager may not be running: `llmdev doctor`")),
        }
    }

    async fn established(&self, definitions: &[&Object]) -> Result<()> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        try_join_all(definitions.iter().map(async |object| {
            let wait = await_condition(api.clone(), &object.name, conditions::is_crd_established());
            match tokio::time::timeout(SOON, wait).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => {
                    Err(Failure::environment("the cluster does not answer").because(error))
                }
                Err(_) => {
                    let what = format!("the definition {} is not taken up", object.name);
                    let see = format!("kubectl describe crd {}", object.name);
                    Err(Failure::failed(what).remedy(format!("its conditions say why: {see}")))
                }
            }
        }))
        .await?;
        let defined: Vec<(String, String)> =
            definitions.iter().flat_map(|it| defines(it)).collect();
        self.kinds.expect(&defined).await
    }
}

/// Whether it is the definition of a kind.
pub fn is_definition(object: &Object) -> bool {
    object.group() == "apiextensions.k8s.io" && object.kind == "CustomResourceDefinition"
}

/// The versions and kinds that a definition brings.
pub fn defines(definition: &Object) -> Vec<(String, String)> {
    let spec = &definition.value["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, kind) = (text(&spec["group"]), text(&spec["names"]["kind"]));
    let versions = spec["versions"].as_array().into_iter().flatten();
    let served = versions.filter(|version| version["served"] != json!(false));
    served
        .map(|version| (format!("{group}/{}", text(&version["name"])), kind.clone()))
        .collect()
}
