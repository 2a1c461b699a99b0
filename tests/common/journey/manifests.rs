//! Services of a journey's stack: small, quick to start, and as a person would write them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The port that web services listen on in their container.
const PORT: u16 = 8080;

/// A service with its workload. `pod` is the pod's spec, `container` its first container: change what a journey is about.
#[derive(Debug, Clone)]
pub struct Service {
    pub name: String,
    /// Its line in `stack.yaml`.
    pub keys: Value,
    pub kind: &'static str,
    pub container: Value,
    pub pod: Value,
    pub replicas: u32,
    /// More objects.
    pub others: Vec<Value>,
    files: BTreeMap<String, String>,
}

/// A service that is built, forwarded, and answers with a page over HTTP.
pub fn web(name: &str) -> Service {
    let mut web = sleeper(name);
    web.keys = json!({"build": {"context": name}, "forward": [{"local": super::free_port(), "remote": PORT}]});
    web.container["image"] = json!(name);
    web.container.as_object_mut().unwrap().remove("command");
    web.container["ports"] = json!([{"containerPort": PORT}]);
    web.container["readinessProbe"] =
        json!({"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1});
    web.others.push(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": PORT}]},
    }));
    let dockerfile = format!(
        "FROM busybox:1\nCOPY . /www/\nCMD [\"httpd\", \"-f\", \"-p\", \"{PORT}\", \"-h\", \"/www\"]\n"
    );
    web.with_file("Dockerfile", dockerfile).that_says(name)
}

/// A service that runs an upstream image and does nothing.
pub fn sleeper(name: &str) -> Service {
    Service {
        name: name.to_owned(),
        keys: json!({}),
        kind: "Deployment",
        container: json!({"name": name, "image": "busybox:1", "command": ["sleep", "100000"], "imagePullPolicy": "IfNotPresent"}),
        pod: json!({"terminationGracePeriodSeconds": 0}),
        replicas: 1,
        others: Vec::new(),
        files: BTreeMap::new(),
    }
}

impl Service {
    /// The page.
    pub fn that_says(self, page: &str) -> Self {
        self.with_file("index.html", page)
    }

    /// A file of its build context.
    pub fn with_file(mut self, path: &str, content: impl Into<String>) -> Self {
        self.files.insert(path.to_owned(), content.into());
        self
    }

    pub fn that_runs(mut self, script: &str) -> Self {
        self.container["command"] = json!(["sh", "-c", script]);
        self
    }

    /// With a field of its container set.
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.container[field] = value;
        self
    }

    /// With a key of `stack.yaml` set.
    pub fn with_key(mut self, key: &str, value: Value) -> Self {
        self.keys[key] = value;
        self
    }

    /// With another object beside its workload.
    pub fn and(mut self, object: Value) -> Self {
        self.others.push(object);
        self
    }

    pub fn that_needs(self, other: &str) -> Self {
        self.with_key("dependsOn", json!([other]))
    }

    pub fn stateful(mut self) -> Self {
        self.kind = "StatefulSet";
        self
    }

    pub(super) fn line(&self) -> String {
        format!("  {}: {}\n", self.name, self.keys)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (String, &String)> {
        self.files
            .iter()
            .map(|(path, content)| (format!("{}/{path}", self.name), content))
    }

    pub(super) fn manifests(&self) -> String {
        let labels = json!({"app": self.name});
        let mut pod = self.pod.clone();
        pod["containers"] = json!([self.container]);
        let mut workload = json!({
            "apiVersion": "apps/v1", "kind": self.kind, "metadata": {"name": self.name},
            "spec": {"replicas": self.replicas, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        });
        if self.kind == "StatefulSet" {
            workload["spec"]["serviceName"] = json!(self.name);
        }
        let objects = std::iter::once(&workload).chain(&self.others);
        objects.map(|object| format!("---\n{object:#}\n")).collect()
    }
}
