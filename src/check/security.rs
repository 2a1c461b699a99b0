//! Security contexts: what a program that was broken into can do.

use serde_json::Value;

use super::Findings;
use super::scene::{Container, Pod, Scene, flag, items, text};

/// The one capability that the restricted Pod Security Standard lets a container have.
const ALLOWED: &str = "NET_BIND_SERVICE";

/// `runs-as-root`.
pub fn root<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "securityContext:
  runAsNonRoot: true
  runAsUser: 10001";
    each(scene, found, mend, |pod, container| {
        let user = effective(pod, container, "runAsUser")?.as_i64()?;
        (user == 0).then(|| ("runAsUser", "runs as root".to_owned()))
    });
}

/// `non-root`.
pub fn non_root<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "securityContext:
  runAsNonRoot: true";
    each(scene, found, mend, |pod, container| {
        let asked = effective(pod, container, "runAsNonRoot").and_then(Value::as_bool);
        // A user that is named is root, which has a rule of its own, or is not.
        let named = effective(pod, container, "runAsUser").is_some();
        let free = asked != Some(true) && !named;
        free.then(|| ("runAsNonRoot", "may run as root".to_owned()))
    });
}

/// `privileged`.
pub fn privileged<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "securityContext:
  privileged: false";
    each(scene, found, mend, |_, container| {
        let is = flag(container.value, "/securityContext/privileged") == Some(true);
        is.then(|| ("privileged", "is privileged".to_owned()))
    });
}

/// `privilege-escalation`.
pub fn escalation<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "securityContext:
  allowPrivilegeEscalation: false";
    each(scene, found, mend, |_, container| {
        let may = flag(container.value, "/securityContext/allowPrivilegeEscalation") != Some(false);
        may.then(|| ("allowPrivilegeEscalation", "may gain privileges".to_owned()))
    });
}

/// `capabilities-kept`.
pub fn kept<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "securityContext:
  capabilities: { drop: [ALL] }";
    each(scene, found, mend, |_, container| {
        let dropped = capabilities(container, "drop").any(|it| it.eq_ignore_ascii_case("ALL"));
        (!dropped).then(|| {
            (
                "capabilities.drop",
                "keeps the runtime's capabilities".to_owned(),
            )
        })
    });
}

/// `capabilities-added`.
pub fn added<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "securityContext:
  capabilities: { drop: [ALL], add: [] } # NET_BIND_SERVICE at most";
    each(scene, found, mend, |_, container| {
        let more: Vec<_> = capabilities(container, "add")
            .filter(|it| *it != ALLOWED)
            .collect();
        (!more.is_empty()).then(|| ("capabilities.add", format!("is given {}", more.join(", "))))
    });
}

/// `read-only-root`.
pub fn read_only<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "securityContext:
  readOnlyRootFilesystem: true # and an emptyDir where it must write, such as /tmp";
    each(scene, found, mend, |_, container| {
        let writable =
            flag(container.value, "/securityContext/readOnlyRootFilesystem") != Some(true);
        writable.then(|| {
            (
                "readOnlyRootFilesystem",
                "can write to its image's files".to_owned(),
            )
        })
    });
}

/// `seccomp`.
pub fn seccomp<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "securityContext:
  seccompProfile: { type: RuntimeDefault }";
    each(scene, found, mend, |pod, container| {
        let profile = effective(pod, container, "seccompProfile").and_then(|it| text(it, "/type"));
        let confined = matches!(profile, Some("RuntimeDefault" | "Localhost"));
        (!confined).then(|| ("seccompProfile", "has no seccomp profile".to_owned()))
    });
}

/// Adds what is said of a container, at a field of its security context.
fn each<'a>(
    scene: &Scene<'a>,
    found: &mut Findings<'a>,
    mend: &str,
    look: impl Fn(&Pod<'a>, &Container<'a>) -> Option<(&'static str, String)>,
) {
    for (pod, container) in scene.containers() {
        if let Some((field, what)) = look(pod, &container) {
            let own = container
                .value
                .pointer(&format!("/securityContext/{}", field.replace('.', "/")));
            let of_pod = pod.spec.pointer(&format!("/securityContext/{field}"));
            let base = match (own, of_pod) {
                (None, Some(_)) => pod.spec_field(),
                _ => container.field(pod),
            };
            let message = format!("container {} {what}", container.name);
            found.add(
                pod.object,
                base.dot("securityContext").dot(field),
                message,
                mend,
            );
        }
    }
}

/// A field of the container's security context, else of its pod's.
fn effective<'a>(pod: &Pod<'a>, container: &Container<'a>, field: &str) -> Option<&'a Value> {
    let of = |value: &'a Value| {
        value
            .get("securityContext")?
            .get(field)
            .filter(|it| !it.is_null())
    };
    of(container.value).or_else(|| of(pod.spec))
}

fn capabilities<'a>(
    container: &Container<'a>,
    list: &str,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let all = container
        .value
        .pointer("/securityContext/capabilities")
        .unwrap_or(&Value::Null);
    items(all, list).filter_map(Value::as_str)
}
