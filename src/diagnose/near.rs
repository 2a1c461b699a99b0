//! Which of the names that exist was probably meant.

/// How many names are listed when none is near.
const LISTED: usize = 8;

/// What there is, as the end of an explanation: the near names, or some of all.
pub(super) fn in_words(wanted: &str, existing: &[String], what: &str) -> String {
    let near = near(wanted, existing);
    if let [best, ..] = near.as_slice() {
        return format!("there is {what} {best}");
    }
    if existing.is_empty() {
        return format!("there is no {what} at all");
    }
    let shown: Vec<_> = existing.iter().take(LISTED).map(String::as_str).collect();
    let more = if existing.len() > LISTED { " …" } else { "" };
    format!("there is only {what} {}{more}", shown.join(", "))
}

/// The names that `wanted` may have been meant to be, the nearest first.
pub(super) fn near<'a>(wanted: &str, existing: &'a [String]) -> Vec<&'a str> {
    let bound = (wanted.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &str)> = existing
        .iter()
        .filter_map(|name| {
            // An overlay's prefix or suffix is the usual mistake.
            let inside =
                wanted.len() >= 3 && (name.contains(wanted) || wanted.contains(name.as_str()));
            let far = distance(&wanted.to_lowercase(), &name.to_lowercase());
            let far = if inside { far.min(bound) } else { far };
            (far <= bound && !name.is_empty()).then_some((far, name.as_str()))
        })
        .collect();
    near.sort();
    near.into_iter().map(|(_, name)| name).collect()
}

/// How many letters have to be changed, added or taken away.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_name_that_was_meant_is_found() {
        for (wanted, existing, meant) in [
            (
                "postgres",
                &["redis", "dev-postgres"][..],
                Some("dev-postgres"),
            ),
            (
                "litelm-config",
                &["litellm-config", "r2r-config"],
                Some("litellm-config"),
            ),
            (
                "openai_api_key",
                &["OPENAI_API_KEY"],
                Some("OPENAI_API_KEY"),
            ),
            ("db", &["kube-root-ca.crt"], None),
            ("x", &[], None),
        ] {
            assert_eq!(
                near(wanted, &names(existing)).first().copied(),
                meant,
                "{wanted}"
            );
        }
    }

    #[test]
    fn without_a_near_name_some_are_listed() {
        assert_eq!(in_words("a", &[], "Secret"), "there is no Secret at all");
        assert_eq!(
            in_words("zzzz", &names(&["one", "two"]), "key"),
            "there is only key one, two"
        );
    }
}
