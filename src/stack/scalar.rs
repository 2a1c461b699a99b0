//! What a piece of text in `stack.yaml` can mean: numbers, sizes, times, names, paths, globs.

use std::time::Duration;

/// A value that is not what it should be: why, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// One line without a full stop.
    pub why: String,
    /// What to write.
    pub help: Option<String>,
}

/// The result of reading a piece of text.
pub type Read<T> = Result<T, Wrong>;

fn wrong<T>(why: impl Into<String>) -> Read<T> {
    Err(Wrong {
        why: why.into(),
        help: None,
    })
}

fn instead<T>(why: impl Into<String>, help: impl Into<String>) -> Read<T> {
    Err(Wrong {
        why: why.into(),
        help: Some(help.into()),
    })
}

/// A DNS label (RFC 1123): what Kubernetes takes as a name and as a label's value.
pub fn label(text: &str) -> Read<String> {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() {
        return wrong("the name is empty");
    }
    if text.len() > 63 {
        return wrong(format!(
            "the name is {} characters long; 63 are allowed",
            text.len()
        ));
    }
    if text.chars().all(inside) && !text.starts_with('-') && !text.ends_with('-') {
        return Ok(text.to_owned());
    }
    let why =
        format!("{text:?} is not a name: lower-case letters, digits and `-` inside are allowed");
    let mended: String = text
        .to_lowercase()
        .chars()
        .map(|c| if inside(c) { c } else { '-' })
        .collect();
    match mended.trim_matches('-') {
        "" => wrong(why),
        mended => instead(why, format!("write `{mended}`")),
    }
}

/// Why something is as it is: a sentence, not a sign.
pub fn reason(text: &str) -> Read<String> {
    match text.trim() {
        "" => wrong("the reason is empty"),
        said => Ok(said.to_owned()),
    }
}

/// `kind/name` of objects, in lower case as kubectl writes the kind, `*` for any text.
pub fn object_glob(text: &str) -> Read<String> {
    let Some((kind, name)) = text.split_once('/') else {
        return instead(
            format!("{text:?} does not say which kind"),
            format!("write `deployment/{text}`, or `*/{text}`"),
        );
    };
    let glob = format!("{}/{name}", kind.to_lowercase());
    match globset::Glob::new(&glob) {
        Ok(_) => Ok(glob),
        Err(error) => wrong(format!("{text:?} is not a pattern: {}", error.kind())),
    }
}

/// Labels with dots between: names of Secrets and of most objects.
pub fn subdomain(text: &str) -> Read<String> {
    if text.len() > 253 {
        return wrong(format!(
            "the name is {} characters long; 253 are allowed",
            text.len()
        ));
    }
    text.split('.').try_for_each(|part| label(part).map(drop))?;
    Ok(text.to_owned())
}

/// The name of an environment variable.
pub fn variable(text: &str) -> Read<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !text.is_empty() && text.chars().all(good) && !text.starts_with(|c: char| c.is_ascii_digit())
    {
        return Ok(text.to_owned());
    }
    if text.starts_with('$') {
        return instead(
            format!("{text:?} is not a variable's name"),
            "write it without `$`",
        );
    }
    wrong(format!(
        "{text:?} is not a variable's name: letters, digits and `_` are allowed"
    ))
}

/// A TCP port.
pub fn port(text: &str) -> Read<u16> {
    match text.parse::<u64>() {
        Ok(n) if (1..=65535).contains(&n) && !text.starts_with(['0', '+']) => Ok(n as u16),
        _ if text.parse::<f64>().is_ok() => {
            wrong(format!("the port {text} is not between 1 and 65535"))
        }
        _ => wrong(format!("{text:?} is not a port")),
    }
}

/// `3m`, `90s`, `1h`, `1m30s`.
pub fn duration(text: &str) -> Read<Duration> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        return instead(
            format!("the time {text} has no unit"),
            format!("write `{text}s` for seconds"),
        );
    }
    let Some(seconds) = seconds(text) else {
        return instead(
            format!("{text:?} is not a time"),
            "write it like 90s, 3m, 1h or 1m30s",
        );
    };
    match seconds {
        0 => wrong("the time must be at least 1s"),
        86_401.. => wrong("the time must be at most 24h"),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

fn seconds(text: &str) -> Option<u64> {
    let mut total = 0u64;
    let mut rest = text;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        if unit >= last {
            return None;
        }
        last = unit;
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (last != u64::MAX).then_some(total)
}

/// A Kubernetes quantity of memory, in bytes: `16Gi`, `512Mi`, `1.5G`, `1073741824`.
pub fn memory(text: &str) -> Read<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return not_memory(text, number, unit),
    };
    match number.parse::<f64>() {
        Ok(n) if n > 0.0 && n * (factor as f64) < (1u64 << 53) as f64 => {
            Ok((n * factor as f64).round() as u64)
        }
        Ok(_) => wrong(format!("the memory {text} is out of range")),
        Err(_) => not_memory(text, number, unit),
    }
}

fn not_memory<T>(text: &str, number: &str, unit: &str) -> Read<T> {
    let why = format!("{text:?} is not an amount of memory");
    let unit = match unit.to_ascii_lowercase().trim_end_matches(['b', 'i']) {
        "g" => "Gi",
        "m" => "Mi",
        "k" => "Ki",
        "t" => "Ti",
        _ => "",
    };
    if number.parse::<f64>().is_ok() && !unit.is_empty() {
        return instead(why, format!("write `{number}{unit}`"));
    }
    instead(why, "write it like 16Gi or 512Mi")
}

/// `v1.35.0`, with or without `v` and patch.
pub fn version(text: &str) -> Read<String> {
    let bare = text.strip_prefix('v').unwrap_or(text);
    let parts: Vec<&str> = bare.split('.').collect();
    let number = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    if (2..=3).contains(&parts.len()) && parts.iter().all(number) {
        return Ok(format!("v{bare}"));
    }
    instead(
        format!("{text:?} is not a Kubernetes version"),
        "write it like v1.35.0",
    )
}

/// The address of a repository of charts.
pub fn chart_repository(text: &str) -> Read<String> {
    if text.starts_with("https://") || text.starts_with("http://") {
        return Ok(text.to_owned());
    }
    instead(
        format!("{text:?} is not the address of a repository of charts"),
        "write it like https://charts.example.com; a chart of an OCI registry is `chart: oci://…`, without `repo`",
    )
}

/// `1.2.3`, and not a range: what is rendered today is to be rendered tomorrow.
pub fn chart_version(text: &str) -> Read<String> {
    let bare = text.strip_prefix('v').unwrap_or(text);
    let core = bare.split(['-', '+']).next().unwrap_or_default();
    let number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    let rest = |c: char| c.is_ascii_alphanumeric() || "-+.".contains(c);
    if core.split('.').count() == 3 && core.split('.').all(number) && bare.chars().all(rest) {
        return Ok(text.to_owned());
    }
    instead(
        format!("{text:?} is not one version of a chart"),
        "write it like 1.2.3",
    )
}

/// A glob below a folder: `*` stays in a folder, `**` does not.
pub fn glob(text: &str) -> Read<String> {
    if text.is_empty() {
        return wrong("the pattern is empty");
    }
    if text.starts_with('/') {
        return instead("the pattern is absolute", "write it relative to the folder");
    }
    if text.split('/').any(|part| part == "..") {
        return wrong("the pattern leaves its folder with `..`");
    }
    match globset::GlobBuilder::new(text)
        .literal_separator(true)
        .build()
    {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => wrong(format!("{text:?} is not a pattern: {}", error.kind())),
    }
}

/// An absolute folder in a container.
pub fn container_path(text: &str) -> Read<String> {
    if !text.starts_with('/') {
        return instead(
            format!("{text:?} is not absolute"),
            format!("write `/{text}`"),
        );
    }
    if text.split('/').any(|part| part == "..") {
        return wrong(format!("{text:?} has `..` in it"));
    }
    Ok(text.to_owned())
}

/// Folders to take off a relative path.
pub fn strip(text: &str) -> Read<String> {
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return wrong(format!("{text:?} is not a folder below the build context"));
    }
    Ok(text
        .trim_start_matches("./")
        .trim_end_matches('/')
        .to_owned())
}

/// An image's name without a tag.
pub fn image_name(text: &str) -> Read<String> {
    if let Some((name, _)) = text.split_once('@') {
        return instead("the image's name has a digest", format!("write `{name}`"));
    }
    let last = text.rfind('/').map_or(0, |at| at + 1);
    if let Some(colon) = text[last..].find(':') {
        let name = &text[..last + colon];
        return instead(
            "the image's name has a tag; llmdev sets it",
            format!("write `{name}`"),
        );
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let part = |part: &str| {
        !part.is_empty() && part.chars().all(good) && !part.starts_with(['.', '_', '-'])
    };
    let (host, path) = match text.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        _ => ("", text),
    };
    let host_good = host.chars().all(|c| good(c) || c == ':');
    if host_good && path.split('/').all(part) && !path.contains(|c: char| c.is_ascii_uppercase()) {
        return Ok(text.to_owned());
    }
    wrong(format!("{text:?} is not an image's name"))
}

/// `host:port[/path]`.
pub fn registry(text: &str) -> Read<String> {
    if let Some((_, rest)) = text.split_once("://") {
        return instead(
            "a registry is named without a scheme",
            format!("write `{rest}`"),
        );
    }
    let host = text.split('/').next().unwrap_or("");
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if host.is_empty() || !host.chars().all(good) || text.ends_with('/') {
        return instead(
            format!("{text:?} is not a registry"),
            "write it like localhost:5001",
        );
    }
    Ok(text.to_owned())
}

/// A command line to words, as a shell splits it. No shell runs it.
pub fn words(text: &str) -> Read<Vec<String>> {
    match shlex::split(text) {
        Some(words) if !words.is_empty() => Ok(words),
        Some(_) => wrong("the command is empty"),
        None => wrong("a quote in the command is not closed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let table = [
            ("90s", Some(90)),
            ("3m", Some(180)),
            ("1h", Some(3600)),
            ("1m30s", Some(90)),
            ("90", None),
            ("", None),
            ("s", None),
            ("3 m", None),
            ("1s1m", None),
            ("0s", None),
            ("25h", None),
            ("99999999999999999999h", None),
            ("9999999999999999999h", None),
            ("3mü", None),
            ("3ü", None),
        ];
        for (text, seconds) in table {
            assert_eq!(
                duration(text).ok(),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
    }

    #[test]
    fn sizes() {
        let table = [
            ("16Gi", Some(16 << 30)),
            ("512Mi", Some(512 << 20)),
            ("1.5Gi", Some(3 << 29)),
            ("1G", Some(1_000_000_000)),
            ("1024", Some(1024)),
            ("16GB", None),
            ("16gi", None),
            ("Gi", None),
            ("0", None),
            ("-1Gi", None),
            ("9999999999Ti", None),
        ];
        for (text, bytes) in table {
            assert_eq!(memory(text).ok(), bytes, "{text}");
        }
        assert_eq!(
            memory("16GB").unwrap_err().help.as_deref(),
            Some("write `16Gi`")
        );
    }

    #[test]
    fn names() {
        for good in ["a", "llm-stack", "r2r", "0"] {
            assert_eq!(label(good).as_deref(), Ok(good));
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ü", &"a".repeat(64)] {
            assert!(label(bad).is_err(), "{bad}");
        }
        assert_eq!(
            label("React_Client").unwrap_err().help.as_deref(),
            Some("write `react-client`")
        );
        for good in ["litellm", "ghcr.io/org/app", "localhost:5000/a_b/c", "a/b"] {
            assert_eq!(image_name(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "a:1",
            "localhost:5000/a:1",
            "a@sha256:0",
            "A",
            "a//b",
            "a b",
        ] {
            assert!(image_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports() {
        for (text, number) in [("4000", Some(4000)), ("65535", Some(65535)), ("1", Some(1))] {
            assert_eq!(port(text).ok(), number);
        }
        for bad in ["0", "65536", "-1", "1.5", "080", "http", "", "+80"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_and_patterns() {
        for good in ["config/**", "*.py", "src/{a,b}/*.ts", "[ab].py"] {
            assert_eq!(glob(good).as_deref(), Ok(good));
        }
        for bad in ["", "/abs/*", "../x", "a/../b", "[ab", "{a,b"] {
            assert!(glob(bad).is_err(), "{bad}");
        }
        assert!(container_path("app").is_err());
        assert!(container_path("/app/../etc").is_err());
        assert_eq!(strip("./config/").as_deref(), Ok("config"));
        assert_eq!(version("1.30").as_deref(), Ok("v1.30"));
        assert!(version("latest").is_err());
        for one in ["1.2.3", "v1.2.3", "0.1.0-rc.1", "1.0.0+build"] {
            assert_eq!(chart_version(one).as_deref(), Ok(one));
        }
        for many in [
            "1.2",
            "^1.2.3",
            ">1.2.3",
            "1.x.0",
            "1.2.3 - 2.0.0",
            "",
            "latest",
        ] {
            assert!(chart_version(many).is_err(), "{many}");
        }
        assert!(registry("http://localhost:5001").is_err());
        assert!(registry("localhost:5001").is_ok());
        assert_eq!(words("make 'a b'").unwrap(), ["make", "a b"]);
        assert!(words("make 'a").is_err());
    }
}
