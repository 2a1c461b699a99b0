//! The JSON Schema of `stack.yaml`, for editors: what may be written where, and what it means.

use serde_json::{Map, Value, json};

use crate::check::RULES;

/// A service's and the stack's name.
const LABEL: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_]*$";
const DURATION: &str = "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$";
const MEMORY: &str = "^[0-9]+(\\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$";
const PORTS: &str = "^[1-9][0-9]*(:[1-9][0-9]*)?$";

/// The JSON Schema (draft 2020-12) of `stack.yaml`, with a description of every key.
pub fn schema() -> Value {
    let mut schema = shape(
        "A stack: what `llmdev up` brings up.",
        top(),
        &["apiVersion", "name", "render", "services"],
    );
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("llmdev stack.yaml");
    schema["$defs"] = json!({
        "service": service(),
        "patch": patch(),
    });
    schema
}

fn top() -> Value {
    json!({
        "apiVersion": { "const": "llmdev/v1", "description": "The version of this format." },
        "name": label("The stack's name, a DNS label. Its objects carry it as the label `llmdev.dev/stack`; it is the default of `cluster.name`."),
        "cluster": cluster(),
        "namespace": label("Where namespaced objects go that name no namespace. Default: `default`."),
        "render": list("Where manifests come from, in order.", step(), 1),
        "services": services(),
        "secrets": list("Secrets whose values come from a file that is not in the repository.", secret(), 0),
        "hooks": hooks(),
        "dev": dev(),
        "strict": boolean("Whether an object of a kind that the cluster does not know is an error. Default: it is left out, and `llmdev up` says so."),
        "check": check(),
        "profiles": {
            "type": ["object", "null"],
            "description": "Changes to this file by name. `-p NAME` activates one; otherwise those hold whose `activate` does.",
            "additionalProperties": profile(),
        },
    })
}

fn services() -> Value {
    json!({
        "type": "object",
        "description": "The services by name, each a DNS label. The order is the order in which they are shown.",
        "minProperties": 1,
        "propertyNames": { "pattern": LABEL },
        "additionalProperties": { "$ref": "#/$defs/service" },
    })
}

/// The same shape as the file, where nothing is required and `null` removes.
fn patch() -> Value {
    let mut keys = top();
    if let Some(keys) = keys.as_object_mut() {
        keys.remove("apiVersion");
        keys.remove("profiles");
    }
    let mut patch = shape(
        "Mappings are merged, lists and single values replaced; `null` removes.",
        keys,
        &[],
    );
    patch["properties"]["services"] = json!({
        "type": ["object", "null"],
        "propertyNames": { "pattern": LABEL },
        "additionalProperties": { "$ref": "#/$defs/service" },
    });
    let build = json!({ "anyOf": [text("The build context."), shape("", build_keys(), &[])] });
    let mut service = service();
    service["properties"]["build"] = build;
    patch["properties"]["services"]["additionalProperties"] = service;
    patch
}

fn cluster() -> Value {
    let keys = json!({
        "provider": {
            "enum": ["kind", "minikube", "context", null],
            "description": "What runs the cluster. `context` is any kubeconfig context, named by `name`. Default: the current context if it is local, else kind.",
        },
        "name": text("The kind cluster, minikube profile or kubeconfig context. Default: the stack's name."),
        "create": boolean("Whether `llmdev up` creates the cluster when it is not there. Default: true, but for the provider `context`."),
        "cpus": count("Cores that the stack wants."),
        "memory": { "type": ["string", "integer", "null"], "pattern": MEMORY, "description": "Memory that the stack wants, such as `16Gi`." },
        "disk": { "type": ["string", "integer", "null"], "pattern": MEMORY, "description": "Disk that the stack wants on the nodes, such as `20Gi`." },
        "nodes": count("How many nodes a new cluster gets. Default: 1."),
        "image": text("The node image of a new kind cluster."),
        "kubernetesVersion": { "type": ["string", "number", "null"], "description": "The Kubernetes version of a new cluster, such as `v1.35.0`." },
        "driver": text("What makes the nodes of a new minikube profile, such as `docker`."),
        "containerRuntime": {
            "enum": ["docker", "containerd", "cri-o", null],
            "description": "What a new minikube profile runs containers with. With `docker`, images are built in its own engine.",
        },
        "config": text("A kind configuration file for a new cluster."),
        "registry": text("A registry, `host:port[/path]`, that Docker pushes images to and the nodes pull them from, instead of putting them into the nodes. Default: where the nodes cannot be reached, the one that the cluster announces."),
    });
    shape("Where the stack runs.", keys, &[])
}

fn step() -> Value {
    let keys = json!({
        "kustomize": text("A folder with a `kustomization.yaml`."),
        "manifests": list("Globs of plain manifests, relative to this file; the files of each glob sorted by name.", text("A glob."), 0),
        "helm": helm(),
    });
    let mut step = shape(
        "One source of manifests: `kustomize`, `manifests` or `helm`.",
        keys,
        &[],
    );
    step["minProperties"] = json!(1);
    step["maxProperties"] = json!(1);
    step
}

fn helm() -> Value {
    let keys = json!({
        "release": label("The release's name."),
        "chart": text("The chart's folder; with `repo`, its name there; or `oci://` and where it is."),
        "repo": text("The address of the repository that has the chart."),
        "version": text("Which version of a chart that is fetched: `1.2.3`, not a range."),
        "values": list("Values files; later ones win.", text("A file."), 0),
        "set": texts("Single values by their path, as `helm --set` takes them."),
        "namespace": label("The release's namespace. Default: the stack's."),
    });
    shape("A Helm chart.", keys, &["release", "chart"])
}

fn service() -> Value {
    let keys = json!({
        "build": {
            "anyOf": [
                text("The build context; all else is default."),
                shape("How the image is built.", build_keys(), &["context"]),
            ],
            "description": "How the service's image is built. Without it the image comes from upstream.",
        },
        "workload": {
            "type": ["string", "null"],
            "pattern": "^(none|[A-Za-z]+/.+)$",
            "description": "What runs the service, such as `deployment/litellm`, or `none` for an image that no workload names. Default: the workload of the service's name, prefix and suffix of an overlay allowed for.",
        },
        "imageIn": list("Where the image that is built is named beside containers: env values, ConfigMap entries, fields of other kinds.", place(), 0),
        "dependsOn": list("Services that must be ready before this one is applied. Builds do not wait.", text("A service."), 0),
        "forward": list("Ports on this machine.", forward(), 0),
        "sync": list("Changed files that go into the running container without a build.", sync(), 0),
        "readyTimeout": {
            "type": ["string", "null"],
            "pattern": DURATION,
            "description": "How long the service may take from being applied to ready, such as `90s`, `3m`, `1h`. Default: `3m`.",
        },
        "dev": shape("Changes to the rendered objects for development.", json!({
            "fastRollout": boolean("Shorten what holds a rollout: probe delays, grace period, surge. Default: false."),
        }), &[]),
    });
    shape("A service.", keys, &[])
}

fn place() -> Value {
    let env = json!({ "env": variable("The environment variable, in any container, whose value is the image.") });
    let field = json!({
        "kind": { "type": "string", "pattern": "^[A-Z][A-Za-z0-9]*$", "description": "The kind of the objects, such as `ConfigMap`." },
        "name": text("The object's name in the manifests, before an overlay's prefix and suffix. Default: all objects of the kind."),
        "path": { "type": "string", "description": "The field, such as `data.IMAGE`, `spec.steps[*].image` or `data['app.image']`." },
    });
    json!({ "anyOf": [
        shape("An environment variable.", env, &["env"]),
        shape("A field.", field, &["kind", "path"]),
    ] })
}

fn build_keys() -> Value {
    let secret = |key: &str, node: Value| shape("", json!({ key: node }), &[key]);
    json!({
        "context": text("The build context, a folder relative to this file; it may lie outside the repository."),
        "dockerfile": text("The Dockerfile, relative to the context. Default: `Dockerfile`."),
        "target": text("The stage to stop at."),
        "args": texts("Build arguments."),
        "secrets": {
            "type": ["object", "null"],
            "description": "Build secrets by id, for `RUN --mount=type=secret`.",
            "additionalProperties": { "anyOf": [
                secret("file", text("The file that has the secret, relative to this file.")),
                secret("env", variable("The environment variable that has the secret.")),
            ] },
        },
        "requires": {
            "type": ["object", "null"],
            "description": "Build arguments that are set to the image of another service, which is built first.",
            "additionalProperties": text("A service with a build."),
        },
        "image": text("The image's name in the manifests, without a tag. Default: the service's name."),
    })
}

fn forward() -> Value {
    let port = |what: &str| json!({ "type": "integer", "minimum": 1, "maximum": 65535, "description": what });
    let keys = json!({
        "local": port("The port on this machine. Default: `remote`."),
        "remote": port("The container's port."),
        "address": text("The IP address to listen on. Default: loopback, both address families."),
    });
    json!({ "anyOf": [
        port("The same port on both sides."),
        { "type": "string", "pattern": PORTS, "description": "LOCAL:REMOTE" },
        shape("A forward in full.", keys, &["remote"]),
    ] })
}

fn sync() -> Value {
    let restart = boolean("Start the container's process anew after the files are there.");
    let exec = list(
        "A command that runs in the container after the files are there.",
        word(),
        1,
    );
    let manual = json!({
        "src": text("Glob of files, relative to the build context."),
        "dest": { "type": "string", "pattern": "^/", "description": "The folder in the container, absolute." },
        "strip": text("Leading folders to take off a file's path before it is put under `dest`."),
        "restart": restart,
        "exec": exec,
        "container": label("The container. Default: the one that runs the service's image."),
    });
    let infer = json!({
        "infer": list("Globs of files whose place in the container follows from the Dockerfile's `COPY` and `ADD`.", text("A glob."), 0),
        "restart": restart,
        "exec": exec,
    });
    json!({ "anyOf": [
        shape("Files and the folder in the container that they go to.", manual, &["src", "dest"]),
        shape("Files whose place the Dockerfile tells.", infer, &["infer"]),
    ] })
}

fn secret() -> Value {
    let keys = json!({
        "name": text("The Secret's name in the manifests, before an overlay's prefix and suffix."),
        "envFile": text("A file of `NAME=value` lines, relative to this file. Where it is missing, the manifests' own values stay."),
        "keys": {
            "type": "object",
            "description": "Keys of the Secret, each with the variable in the file that it gets its value from.",
            "propertyNames": { "pattern": "^[-._A-Za-z0-9]+$" },
            "additionalProperties": variable("A variable in the file."),
        },
    });
    shape(
        "A Secret and where its values come from.",
        keys,
        &["name", "envFile", "keys"],
    )
}

fn hooks() -> Value {
    let command = json!({ "anyOf": [
        { "type": "string", "minLength": 1, "description": "A command, split into words as a shell does; no shell runs it." },
        list("A command and its arguments.", word(), 1),
    ] });
    let keys = json!({
        "beforeBuild": list("Before the first build of an `up`.", command.clone(), 0),
        "afterReady": list("When all services of an `up` are ready.", command, 0),
    });
    shape(
        "Commands that run on this machine, in the stack's folder.",
        keys,
        &[],
    )
}

fn dev() -> Value {
    let keys = json!({
        "resources": {
            "enum": ["fit", "half", null],
            "description": "`fit`: when the nodes have less CPU than the services request, all CPU requests are lowered by one factor; limits and memory stay. `half`: CPU and memory requests are halved. Default: requests stay as they are.",
        },
        "replicas": count("No workload has more replicas; autoscalers that would raise them, and disruption budgets that cannot be kept then, are left out. Default: as in the manifests."),
        "storage": word_or_null("shrink", "Claims ask for 1Gi at most. Default: as in the manifests."),
        "accessModes": word_or_null("single", "Claims for many nodes (ReadWriteMany, ReadOnlyMany) become ReadWriteOnce. Default: as in the manifests."),
        "loadBalancer": word_or_null("clusterIP", "Services of the type LoadBalancer become ClusterIP. Default: as in the manifests."),
    });
    shape(
        "What a developer's machine cannot give is adapted, and `llmdev up` says what.",
        keys,
        &[],
    )
}

fn check() -> Value {
    let rules: Vec<_> = RULES.iter().map(|rule| rule.id).collect();
    let keys = json!({
        "rule": { "enum": rules, "description": "The rule; `llmdev check --list` shows all." },
        "reason": { "type": "string", "pattern": "\\S", "description": "Why it does not hold here. `llmdev check` shows it." },
        "objects": list("The objects, as `kind/name`; `*` stands for any text. Default: all.", json!({ "type": "string", "pattern": "/" }), 0),
    });
    let ignore = shape("A rule that is switched off.", keys, &["rule", "reason"]);
    let keys =
        json!({ "ignore": list("Rules that are switched off, each with a reason.", ignore, 0) });
    shape("What `llmdev check` looks at.", keys, &[])
}

fn profile() -> Value {
    let activate = json!({
        "env": { "type": ["string", "null"], "pattern": "^[A-Za-z_][A-Za-z0-9_]*=", "description": "`NAME=value`: holds when the environment variable has this value." },
        "context": text("A glob such as `kind-*`: holds when the current kubeconfig context matches."),
    });
    let keys = json!({
        "activate": shape("When the profile holds by itself; all that is said must be so.", activate, &[]),
        "patch": { "$ref": "#/$defs/patch" },
    });
    shape("A profile.", keys, &["patch"])
}

/// A mapping with these keys and no others. A key that is not required may have nothing after it.
fn shape(what: &str, keys: Value, required: &[&str]) -> Value {
    let mut shape = Map::new();
    shape.insert(
        "type".into(),
        if required.is_empty() {
            json!(["object", "null"])
        } else {
            json!("object")
        },
    );
    if !what.is_empty() {
        shape.insert("description".into(), json!(what));
    }
    shape.insert("properties".into(), keys);
    if !required.is_empty() {
        shape.insert("required".into(), json!(required));
    }
    shape.insert("additionalProperties".into(), json!(false));
    Value::Object(shape)
}

fn text(what: &str) -> Value {
    json!({ "type": ["string", "null"], "description": what })
}

fn label(what: &str) -> Value {
    json!({ "type": ["string", "null"], "pattern": LABEL, "description": what })
}

fn variable(what: &str) -> Value {
    json!({ "type": "string", "pattern": VARIABLE, "description": what })
}

fn boolean(what: &str) -> Value {
    json!({ "type": ["boolean", "null"], "description": what })
}

fn count(what: &str) -> Value {
    json!({ "type": ["integer", "null"], "minimum": 1, "description": what })
}

fn word_or_null(only: &str, what: &str) -> Value {
    json!({ "enum": [only, null], "description": what })
}

fn word() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

fn list(what: &str, item: Value, least: u32) -> Value {
    let mut list = json!({ "type": ["array", "null"], "description": what, "items": item });
    if least > 0 {
        list["type"] = json!("array");
        list["minItems"] = json!(least);
    }
    list
}

fn texts(what: &str) -> Value {
    json!({ "type": ["object", "null"], "description": what, "additionalProperties": word() })
}

#[cfg(test)]
mod tests {
    use super::super::{build, cluster, file, place, profile, service};
    use super::*;

    fn keys(node: &Value) -> Vec<&str> {
        node["properties"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect()
    }

    /// The decoder and the schema know the same keys.
    #[test]
    fn keys_are_those_that_are_read() {
        let schema = schema();
        let at = |pointer: &str| {
            schema
                .pointer(pointer)
                .unwrap_or_else(|| panic!("{pointer}"))
        };
        let service = "/$defs/service/properties";
        let table: &[(&str, &[&str])] = &[
            ("", file::TOP),
            ("/properties/cluster", cluster::CLUSTER),
            ("/properties/render/items", file::RENDER),
            ("/properties/render/items/properties/helm", file::HELM),
            ("/properties/secrets/items", file::SECRET),
            ("/properties/hooks", file::HOOKS),
            ("/properties/dev", file::DEV),
            ("/properties/check", file::CHECK),
            ("/properties/check/properties/ignore/items", file::IGNORE),
            (
                "/properties/profiles/additionalProperties",
                profile::PROFILE,
            ),
            (
                "/properties/profiles/additionalProperties/properties/activate",
                profile::ACTIVATE,
            ),
            ("/$defs/service", service::SERVICE),
            (&format!("{service}/build/anyOf/1"), build::BUILD),
            (
                &format!("{service}/forward/items/anyOf/2"),
                service::FORWARD,
            ),
            (&format!("{service}/sync/items/anyOf/0"), service::SYNC),
            (&format!("{service}/sync/items/anyOf/1"), service::INFER),
            (&format!("{service}/imageIn/items/anyOf/0"), place::ENV),
            (&format!("{service}/imageIn/items/anyOf/1"), place::FIELD),
            (&format!("{service}/dev"), service::DEV),
        ];
        for (pointer, known) in table {
            assert_eq!(keys(at(pointer)), *known, "{pointer}");
        }
    }

    #[test]
    fn every_key_is_described() {
        fn walk(node: &Value, path: &str) {
            if let Some(keys) = node.get("properties").and_then(Value::as_object) {
                for (key, node) in keys {
                    let described = node.get("description").is_some() || node.get("$ref").is_some();
                    assert!(described || path.contains("patch"), "{path}.{key}");
                }
            }
            match node {
                Value::Object(map) => map
                    .iter()
                    .for_each(|(key, it)| walk(it, &format!("{path}.{key}"))),
                Value::Array(items) => items.iter().for_each(|it| walk(it, path)),
                _ => {}
            }
        }
        walk(&schema(), "");
    }
}
