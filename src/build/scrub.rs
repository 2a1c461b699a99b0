//! Takes secrets out of what a build says.

/// What must not be seen.
#[derive(Clone, Default)]
pub struct Scrub {
    /// Longest first, so that a value that holds another is taken out whole.
    values: Vec<String>,
}

/// Shorter ones guard nothing, and would be cut out of every other word.
const SHORTEST: usize = 4;

impl Scrub {
    /// Hides values; of one with several lines, each line.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let lines = values.into_iter().flat_map(str::lines).map(str::trim);
        let mut values: Vec<String> = lines
            .filter(|line| line.len() >= SHORTEST)
            .map(str::to_owned)
            .collect();
        values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        values.dedup();
        Scrub { values }
    }

    /// The text with `***` for each secret.
    pub fn text(&self, text: &str) -> String {
        self.values.iter().fold(text.to_owned(), |text, value| {
            if text.contains(value.as_str()) {
                text.replace(value.as_str(), "***")
            } else {
                text
            }
        })
    }
}

/// Whether a build argument of this name is likely to hold a secret.
pub fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["KEY", "TOKEN", "PASSWORD", "PASSWD", "SECRET", "CREDENTIAL"]
        .iter()
        .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced() {
        let scrub = Scrub::new(["hunter2", "hunter2-long", "-----BEGIN\nabcdefgh\n", "abc"]);
        for (text, clean) in [
            ("login hunter2 ok", "login *** ok"),
            ("hunter2-long", "***"),
            ("x abcdefgh", "x ***"),
            ("abc stays", "abc stays"),
        ] {
            assert_eq!(scrub.text(text), clean);
        }
        assert!(sounds_secret("pip_index_token") && !sounds_secret("VERSION"));
    }
}
