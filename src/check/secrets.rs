//! Secrets that are none: placeholders, and values that stand in the manifests.

use serde_json::Value;

use super::Findings;
use super::field::Field;
use super::scene::{Scene, items, text};
use crate::render::Object;
use k8s_openapi::ByteString;

/// A value that has one of these in it is for people to replace.
const PLACEHOLDERS: [&str; 20] = [
    "changeme",
    "change-me",
    "change_me",
    "change-in-prod",
    "replace_with",
    "replace-with",
    "replaceme",
    "replace-me",
    "replace_me",
    "placeholder",
    "your-",
    "your_",
    "todo",
    "fixme",
    "xxxx",
    "dummy",
    "example",
    "insert-",
    "-dev-",
    "not-a-",
];
/// A value that is one of these is anyone's first guess.
const GUESSES: [&str; 20] = [
    "password",
    "passwd",
    "pass",
    "secret",
    "admin",
    "root",
    "test",
    "postgres",
    "123456",
    "12345678",
    "token",
    "default",
    "guest",
    "changeit",
    "letmein",
    "password123",
    "securepassword",
    "demo",
    "foobar",
    "qwerty",
];
/// Keys of Secrets that say who or where, not what nobody may know.
const OPEN_KEYS: [&str; 9] = [
    "user", "name", "host", "port", "database", "email", "region", "endpoint", "ca.crt",
];
/// A variable or key whose name has one of these holds a secret,
const SECRET_NAMES: [&str; 9] = [
    "PASSWORD",
    "PASSWD",
    "SECRET",
    "TOKEN",
    "API_KEY",
    "APIKEY",
    "PRIVATE_KEY",
    "ACCESS_KEY",
    "MASTER_KEY",
];
/// unless it ends with one of these,
const OPEN_ENDS: [&str; 17] = [
    "_FILE", "_PATH", "_DIR", "_NAME", "_URL", "_URI", "_ID", "_TTL", "_EXPIRY", "_LENGTH",
    "_LIMIT", "_COUNT", "_SECONDS", "_HEADER", "_TYPE", "_ENABLED", "_ISSUER",
];
/// or speaks of the tokens that a model reads.
const MODEL_TOKENS: [&str; 3] = ["TOKENS", "TOKENIZER", "TOKEN_BUDGET"];

const FROM_SECRET: &str = "valueFrom:
  secretKeyRef: { name: NAME, key: KEY }";
const EXTERNAL: &str = "apiVersion: external-secrets.io/v1
kind: ExternalSecret
spec:
  secretStoreRef: { kind: ClusterSecretStore, name: STORE }
  target: { name: NAME }
  dataFrom:
    - extract: { key: PATH/IN/STORE }";

/// `secret-placeholder`.
pub fn placeholder<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for secret in scene.kind("", "Secret") {
        for (field, key, value) in values(secret) {
            if is_placeholder(key, &value) {
                let message = format!("the value of {key} is a placeholder");
                found.add(secret, Field::of(field).key(key), message, EXTERNAL);
            }
        }
    }
}

/// `secret-literal`.
pub fn literal<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for secret in scene.kind("", "Secret") {
        let closed = values(secret).into_iter().filter(|(_, key, value)| {
            !value.is_empty() && !is_open(key) && !is_placeholder(key, value)
        });
        let closed: Vec<_> = closed.collect();
        if let Some((field, ..)) = closed.first() {
            let keys: Vec<_> = closed.iter().map(|(_, key, _)| *key).collect();
            let message = format!("the manifests hold the value of {}", keys.join(", "));
            found.add(secret, Field::of(field), message, EXTERNAL);
        }
    }
}

/// `secret-in-env`.
pub fn in_env<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for (pod, container) in scene.containers() {
        for (index, variable) in items(container.value, "env").enumerate() {
            let (name, value) = (text(variable, "/name"), text(variable, "/value"));
            if let (Some(name), Some(value)) = (name, value)
                && holds_secret(name, value)
            {
                let field = container.field(pod).dot("env").item(index).dot("value");
                let message = format!(
                    "container {} has the value of {name} in plain text",
                    container.name
                );
                found.add(pod.object, field, message, FROM_SECRET);
            }
        }
    }
}

/// `secret-in-configmap`.
pub fn in_config<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for config in scene.kind("", "ConfigMap") {
        for (key, value) in config
            .value
            .get("data")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if value.as_str().is_some_and(|value| holds_secret(key, value)) {
                let message = format!("{key} is a secret in a ConfigMap");
                let mend = "kind: Secret\nstringData: {} # and no value here: from a secret store";
                found.add(config, Field::of("data").key(key), message, mend);
            }
        }
    }
}

/// Field, key and plain value of all that a Secret holds as text.
fn values(secret: &Object) -> Vec<(&'static str, &str, String)> {
    if text(&secret.value, "/type").is_some_and(|kind| kind.starts_with("bootstrap.kubernetes.io/"))
    {
        return vec![];
    }
    let mut values = Vec::new();
    for field in ["stringData", "data"] {
        let entries = secret.value.get(field).and_then(Value::as_object);
        for (key, value) in entries.into_iter().flatten() {
            let plain = match field {
                "data" => decoded(value),
                _ => value.as_str().map(str::to_owned),
            };
            // What is not text is a value all the same.
            values.push((
                field,
                key.as_str(),
                plain.unwrap_or_else(|| "\u{fffd}".to_owned()),
            ));
        }
    }
    values
}

fn decoded(value: &Value) -> Option<String> {
    let ByteString(bytes) = serde_json::from_value(value.clone()).ok()?;
    String::from_utf8(bytes).ok()
}

fn is_placeholder(key: &str, value: &str) -> bool {
    let value = value.trim().to_lowercase();
    let value = value
        .rsplit_once("://")
        .map_or(value.as_str(), |(_, rest)| rest);
    if value.contains('\n') || is_open(key) {
        return false;
    }
    let framed = (value.starts_with('<') && value.ends_with('>')) || value.starts_with("${");
    let part = |parts: &str| {
        // `user:pass@host`: the password is what counts.
        let (credentials, _) = parts.split_once('@')?;
        Some(credentials.split_once(':')?.1.to_owned())
    };
    let guess = part(value).unwrap_or_else(|| value.to_owned());
    framed
        || PLACEHOLDERS.iter().any(|part| guess.contains(part))
        || GUESSES.contains(&guess.as_str())
}

fn is_open(key: &str) -> bool {
    let key = key.to_lowercase();
    let url = key.contains("url") || key.contains("uri");
    !url && !key.contains("pass")
        && !key.contains("secret")
        && OPEN_KEYS.iter().any(|open| key.contains(open))
}

fn holds_secret(name: &str, value: &str) -> bool {
    let name = name.to_uppercase().replace(['-', '.'], "_");
    let value = value.trim();
    if value.contains('\n') {
        return false;
    }
    if has_password(value) {
        return true;
    }
    let named = SECRET_NAMES.iter().any(|part| name.contains(part))
        && !OPEN_ENDS.iter().any(|end| name.ends_with(end))
        && !MODEL_TOKENS.iter().any(|part| name.contains(part));
    // Numbers, switches, paths, addresses and other variables are settings.
    let setting = value.is_empty()
        || value.parse::<f64>().is_ok()
        || matches!(value, "true" | "false")
        || value.starts_with('/')
        || value.contains("://")
        || value.contains("$(");
    named && !setting
}

/// `postgresql://user:password@host/db`.
fn has_password(value: &str) -> bool {
    let authority = value
        .split_once("://")
        .and_then(|(_, rest)| rest.split('/').next());
    let credentials = authority.and_then(|authority| Some(authority.rsplit_once('@')?.0));
    let password = credentials.and_then(|it| Some(it.split_once(':')?.1));
    password.is_some_and(|it| !it.is_empty() && !it.starts_with("$(") && !it.starts_with("${"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_told_from_values() {
        for bad in [
            "changeme",
            "REPLACE_WITH_ACTUAL_AWS_SECRET_KEY",
            "your-api-key",
            "<token>",
            "password",
            "postgresql://user:securepassword@postgres:5432/db",
            "sk-proj-dev-key-test",
            "admin\n",
        ] {
            assert!(is_placeholder("key", bad), "{bad}");
        }
        for good in [
            "",
            "sk-9fA31bQz77",
            "postgresql://user:Zk81hw2@passwords.example.org/db",
            "a\nexample",
        ] {
            assert!(!is_placeholder("key", good), "{good}");
        }
        assert!(!is_placeholder("grafana-admin-user", "admin"));
        assert!(is_placeholder("grafana-admin-password", "admin"));
    }

    #[test]
    fn secrets_are_told_from_settings() {
        for (name, value) in [
            ("DB_PASSWORD", "hunter2"),
            ("api-key", "abc"),
            ("DATABASE_URL", "postgres://u:p@h/d"),
        ] {
            assert!(holds_secret(name, value), "{name}");
        }
        for (name, value) in [
            ("MAX_TOKENS", "4096k"),
            ("TOKEN_TTL", "1h"),
            ("SECRET_FILE", "/run/x"),
            ("PASSWORD", ""),
            ("PASSWORD", "$(PW)"),
            ("PASSWORD_LENGTH", "12"),
            ("TOKEN_URL", "https://x/y"),
            ("DATABASE_URL", "postgres://u:$(PW)@h/d"),
            ("LOG", "x"),
        ] {
            assert!(!holds_secret(name, value), "{name}={value}");
        }
    }
}
