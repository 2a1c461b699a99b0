//! What the API server's refusals mean, said so that the reader knows the way out.

use kube::core::Status;
use kube::core::response::StatusCause;
use serde_json::Value;

use super::Target;
use crate::error::Failure;
use crate::render::Object;

/// What a ConfigMap or Secret may hold, in bytes.
const LARGEST: usize = 1 << 20;

/// A field that another manager has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Such as `.spec.replicas`.
    pub field: String,
    /// Such as `kubectl-edit`.
    pub manager: String,
}

/// What a refusal is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Fields that other managers have set to other values.
    Held(Vec<Held>),
    /// Fields that may not change.
    Fixed(Vec<String>),
    /// Someone else changed it in between.
    Raced,
    /// The namespace is being deleted.
    Terminating,
    /// The namespace is not there.
    NoNamespace,
    /// The kind is not served any more.
    NoKind,
    /// Anything else.
    Other,
}

/// Reads a refusal.
pub fn read(status: &Status) -> Answer {
    let causes = status
        .details
        .as_ref()
        .map_or(&[][..], |details| details.causes.as_slice());
    match status.code {
        409 => {
            let held: Vec<Held> = causes.iter().filter_map(held).collect();
            if held.is_empty() {
                Answer::Raced
            } else {
                Answer::Held(held)
            }
        }
        422 => fixed(status, causes),
        403 if causes
            .iter()
            .any(|cause| cause.reason == "NamespaceTerminating") =>
        {
            Answer::Terminating
        }
        404 => match &status.details {
            Some(details) if details.kind == "namespaces" => Answer::NoNamespace,
            _ => Answer::NoKind,
        },
        _ => Answer::Other,
    }
}

/// `conflict with "kubectl-edit" using apps/v1`
fn held(cause: &StatusCause) -> Option<Held> {
    if cause.reason != "FieldManagerConflict" {
        return None;
    }
    let manager = cause.message.split('"').nth(1)?.to_owned();
    Some(Held {
        field: cause.field.clone(),
        manager,
    })
}

fn fixed(status: &Status, causes: &[StatusCause]) -> Answer {
    let says_so = |text: &str| {
        [
            "immutable",
            "may not change",
            "cannot change roleRef",
            "updates to statefulset spec for fields other than",
            "pod updates may not change fields other than",
        ]
        .iter()
        .any(|sign| text.contains(sign))
    };
    if causes.is_empty() && says_so(&status.message) {
        return Answer::Fixed(Vec::new());
    }
    // One mistake among them would be refused of a new object just the same.
    if causes.is_empty() || !causes.iter().all(|cause| says_so(&cause.message)) {
        return Answer::Other;
    }
    let mut fields: Vec<String> = causes.iter().map(|cause| cause.field.clone()).collect();
    fields.dedup();
    Answer::Fixed(fields)
}

/// The failure for a refusal that llmdev has no way around.
pub fn failure(target: &Target, object: &Object, status: &Status) -> Failure {
    if let Some(failure) = too_large(target, object) {
        return failure;
    }
    let message = plain(&scrubbed(&status.message, object));
    let failure = Failure::failed(format!("the cluster refuses {target}")).cause(message);
    match (read(status), status.code) {
        (Answer::Held(held), _) => conflict(target, &held),
        (Answer::Terminating, _) => terminating(target.namespace.as_deref().unwrap_or_default()),
        (Answer::NoNamespace, _) => {
            let namespace = target.namespace.as_deref().unwrap_or_default();
            Failure::failed(format!("{target} cannot be applied"))
                .cause(format!("there is no namespace {namespace}"))
                .remedy("add the Namespace to the manifests, or take `namespace` off the object")
        }
        (_, 429 | 503 | 504) => unreachable(kube::Error::Api(Box::new(status.clone()))),
        (_, 401 | 403) => Failure {
            kind: crate::error::Kind::Environment,
            ..failure
        }
        .remedy("the kubeconfig's user needs more rights, or the cluster forbids such objects"),
        _ => failure.detail([format!("it comes from {}", object.origin)]),
    }
}

/// The API server's words for it depend on how much too large it is.
fn too_large(target: &Target, object: &Object) -> Option<Failure> {
    if !matches!(
        (object.group(), object.kind.as_str()),
        ("", "ConfigMap" | "Secret")
    ) {
        return None;
    }
    let encoded =
        |field: &str| field == "binaryData" || (field == "data" && object.kind == "Secret");
    let fields = ["data", "binaryData", "stringData"].into_iter();
    let maps = fields.filter_map(|field| Some((field, object.value.get(field)?.as_object()?)));
    let entries = maps.flat_map(|(field, map)| {
        map.iter().map(move |(key, value)| {
            let length = value.as_str().map_or(0, str::len);
            // Of base64, what it stands for counts.
            (
                key,
                if encoded(field) {
                    length / 4 * 3
                } else {
                    length
                },
            )
        })
    });
    let entries: Vec<(&String, usize)> = entries.collect();
    let bytes: usize = entries.iter().map(|(_, bytes)| bytes).sum();
    let (largest, _) = entries.iter().max_by_key(|(_, bytes)| bytes)?;
    (bytes > LARGEST).then(|| {
        Failure::config(format!("{target} is too large"))
            .cause(format!(
                "it has {} KiB, and a {} takes {} KiB",
                bytes.div_ceil(1024),
                object.kind,
                LARGEST / 1024
            ))
            .detail([format!(
                "most of it is in `{largest}`; it comes from {}",
                object.origin
            )])
            .remedy("put what is no configuration into an image or onto a volume")
    })
}

/// Fields that other managers hold.
pub fn conflict(target: &Target, held: &[Held]) -> Failure {
    let lines = held
        .iter()
        .map(|it| format!("{} was set by {}", it.field, it.manager));
    Failure::failed(format!("{target} was changed by someone else"))
        .detail(lines)
        .cause(match held {
            [one] => format!("{} was set by {}", one.field, one.manager),
            many => format!("{} fields were set by others", many.len()),
        })
        .remedy(
            "`llmdev up --force-conflicts` takes the fields; or leave them out of the manifests",
        )
}

/// A namespace that does not go away.
pub fn terminating(namespace: &str) -> Failure {
    Failure::failed(format!("the namespace {namespace} is being deleted"))
        .cause("nothing can be made in it until it is gone")
        .remedy(format!(
            "wait, or see what holds it: kubectl get namespace {namespace} -o jsonpath='{{.status.conditions}}'"
        ))
}

/// The cluster does not answer as an API server does.
pub fn unreachable(error: kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if status.code == 401 || status.code == 403 => {
            Failure::environment("the cluster does not let llmdev in")
                .cause(status.message)
                .remedy("check the kubeconfig's user and its rights")
        }
        error => Failure::environment("the cluster does not answer")
            .because(error)
            .remedy("`llmdev doctor` looks into it"),
    }
}

/// Without the API server's words about its own doings.
fn plain(message: &str) -> String {
    let wordy = message.starts_with("failed to create typed patch object");
    match message.split_once("): ") {
        Some((_, rest)) if wordy => rest.to_owned(),
        _ => message.to_owned(),
    }
}

/// The API server may say a Secret's value back.
fn scrubbed(message: &str, object: &Object) -> String {
    let mut message = message.to_owned();
    if object.kind != "Secret" {
        return message;
    }
    for field in ["data", "stringData"] {
        let values = object.value.get(field).and_then(Value::as_object);
        for value in values.into_iter().flat_map(|values| values.values()) {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            if !text.is_empty() {
                message = message.replace(&text, "***");
            }
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(code: u16, causes: &[(&str, &str, &str)]) -> Status {
        let cause = |(reason, message, field): &(&str, &str, &str)| json!({"reason": reason, "message": message, "field": field});
        let causes: Vec<Value> = causes.iter().map(cause).collect();
        serde_json::from_value(json!({"code": code, "details": {"causes": causes}})).unwrap()
    }

    #[test]
    fn refusals_are_understood() {
        let held = status(
            409,
            &[(
                "FieldManagerConflict",
                "conflict with \"kubectl-edit\" using apps/v1",
                ".spec.replicas",
            )],
        );
        let expected = Held {
            field: ".spec.replicas".into(),
            manager: "kubectl-edit".into(),
        };
        assert_eq!(read(&held), Answer::Held(vec![expected]));
        assert_eq!(read(&status(409, &[])), Answer::Raced);
        let selector = (
            "FieldValueInvalid",
            "Invalid value: {}: field is immutable",
            "spec.selector",
        );
        assert_eq!(
            read(&status(422, &[selector])),
            Answer::Fixed(vec!["spec.selector".into()])
        );
        let mistake = (
            "FieldValueInvalid",
            "Invalid value: -1: must be greater",
            "spec.replicas",
        );
        assert_eq!(read(&status(422, &[selector, mistake])), Answer::Other);
        assert_eq!(
            read(&status(403, &[("NamespaceTerminating", "", "")])),
            Answer::Terminating
        );
    }

    #[test]
    fn a_secrets_values_are_not_said() {
        let object = Object {
            api_version: "v1".into(),
            kind: "Secret".into(),
            name: "s".into(),
            namespace: None,
            value: json!({"data": {"a": "c2VjcmV0"}, "stringData": {"b": 12345}}),
            service: None,
            origin: "x.yaml:1".into(),
            place: Default::default(),
        };
        let said = scrubbed("got c2VjcmV0 and 12345", &object);
        assert_eq!(said, "got *** and ***");
    }
}
