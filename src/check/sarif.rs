//! A report as SARIF 2.1.0, for code scanning.

use std::path::Path;

use serde_json::{Value, json};

use super::{Finding, RULES, Report, Rule, Severity};

/// The name by which results refer to the folder that paths are relative to.
const BASE: &str = "ROOT";

/// The log; files are relative to `root` where they are below it.
pub fn log(report: &Report, root: &Path) -> Value {
    let open = report
        .findings
        .iter()
        .map(|finding| result(finding, root, None));
    let off = report.ignored.iter().flat_map(|ignored| {
        let reason = Some(ignored.reason.as_str());
        ignored
            .findings
            .iter()
            .map(move |finding| result(finding, root, reason))
    });
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "llmdev",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": RULES.iter().map(descriptor).collect::<Vec<_>>(),
            } },
            "originalUriBaseIds": { BASE: { "uri": format!("{}/", file_uri(root)) } },
            "columnKind": "unicodeCodePoints",
            "results": open.chain(off).collect::<Vec<_>>(),
        }],
    })
}

fn descriptor(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "shortDescription": { "text": format!("{}.", rule.title) },
        "fullDescription": { "text": rule.why },
        "help": { "text": format!("{}\n\nSource: {}.", rule.why, rule.source) },
        "defaultConfiguration": { "level": level(rule.severity) },
        "properties": { "source": rule.source, "production": rule.production },
    })
}

fn result(finding: &Finding, root: &Path, off: Option<&str>) -> Value {
    let rule = finding.rule;
    let index = RULES.iter().position(|it| it.id == rule.id);
    let (object, field) = (finding.object(), &finding.field);
    let mut location = json!({
        "logicalLocations": [{ "fullyQualifiedName": format!("{object} {field}"), "name": object, "kind": "object" }],
    });
    if let Some(place) = physical(finding, root) {
        location["physicalLocation"] = place;
    }
    let message = format!(
        "{object}: {}. {}\n\n{field}:\n\n{}",
        finding.message,
        rule.why,
        indented(&finding.mend)
    );
    let mut result = json!({
        "ruleId": rule.id,
        "ruleIndex": index,
        "level": level(rule.severity),
        "message": { "text": message },
        "locations": [location],
        // Lines move; the object and its field do not.
        "partialFingerprints": { "objectField/v1": format!("{} {object} {field}", rule.id) },
    });
    if let Some(reason) = off {
        result["suppressions"] = json!([{ "kind": "external", "justification": reason }]);
    }
    result
}

/// Nothing for standard input, which is no file.
fn physical(finding: &Finding, root: &Path) -> Option<Value> {
    let file = finding
        .file
        .as_ref()
        .filter(|file| !file.as_os_str().is_empty())?;
    let artifact = match file.strip_prefix(root) {
        Ok(relative) => json!({ "uri": escaped(relative), "uriBaseId": BASE }),
        Err(_) => json!({ "uri": file_uri(file) }),
    };
    let mut place = json!({ "artifactLocation": artifact });
    if let Some(line) = finding.line {
        place["region"] = json!({ "startLine": line });
    }
    Some(place)
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

fn file_uri(path: &Path) -> String {
    format!("file://{}", escaped(path).trim_end_matches('/'))
}

/// A path in a URI: what RFC 3986 does not let stand is written as `%20`.
fn escaped(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/!$&'()*+,;=@".contains(&byte);
    let byte = |byte: &u8| match byte {
        it if plain(*it) => char::from(*it).to_string(),
        it => format!("%{it:02X}"),
    };
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .map(byte)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_uris() {
        assert_eq!(escaped(Path::new("a b/ü.yaml")), "a%20b/%C3%BC.yaml");
        assert_eq!(file_uri(Path::new("/srv/x")), "file:///srv/x");
    }
}
