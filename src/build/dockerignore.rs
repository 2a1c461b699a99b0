//! `.dockerignore`, read and applied exactly as BuildKit does.

use std::fmt;

use super::pattern::Pattern;

/// A whole `.dockerignore`. The default ignores nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dockerignore {
    patterns: Vec<Pattern>,
    negates: bool,
    /// No `!` pattern has a wildcard before its end, so a look at its text says which folders it can reach into.
    prefixes_only: bool,
}

/// What the patterns said of a folder; its entries' answers follow from it.
#[derive(Debug, Clone, Default)]
pub struct Matched(Vec<bool>);

/// A line that Docker refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// As written.
    pub text: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is no pattern: {}", self.line, self.text)
    }
}

impl std::error::Error for BadLine {}

impl Dockerignore {
    /// Reads the text of a `.dockerignore`.
    pub fn parse(text: &str) -> Result<Self, BadLine> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let bad = || BadLine {
                line: index + 1,
                text: line.to_owned(),
            };
            patterns.push(Pattern::parse(line).ok_or_else(bad)?);
        }
        let mut negated = patterns.iter().filter(|pattern| pattern.negated).peekable();
        let negates = negated.peek().is_some();
        let wild = |pattern: &Pattern| {
            pattern
                .without_trailing_glob()
                .contains(['*', '[', ']', '?', '^', '\\'])
        };
        let prefixes_only = !negated.any(wild);
        Ok(Dockerignore {
            patterns,
            negates,
            prefixes_only,
        })
    }

    /// Whether a file, link or folder is left out. `folder`: what [`Self::enter`] said of the folder it is in.
    pub fn ignores(&self, path: &str, folder: &Matched) -> bool {
        self.decide(path, folder, None)
    }

    /// As [`Self::ignores`] for a folder, with what its entries need to know.
    pub fn enter(&self, path: &str, folder: &Matched) -> (bool, Matched) {
        let mut matched = Vec::with_capacity(self.patterns.len());
        let ignored = self.decide(path, folder, Some(&mut matched));
        (ignored, Matched(matched))
    }

    /// Whether nothing in an ignored folder can be sent after all, so that it need not be walked.
    pub fn skips(&self, folder: &str) -> bool {
        if !self.negates {
            return true;
        }
        let reaches = |pattern: &&Pattern| {
            let target = pattern.without_trailing_glob();
            target == folder
                || target
                    .strip_prefix(folder)
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        self.prefixes_only
            && !self
                .patterns
                .iter()
                .filter(|pattern| pattern.negated)
                .any(|p| reaches(&p))
    }

    /// moby's `MatchesUsingParentResults`: the last pattern that matches the path, or a folder above it, wins.
    fn decide(&self, path: &str, folder: &Matched, mut out: Option<&mut Vec<bool>>) -> bool {
        let mut ignored = false;
        for (index, pattern) in self.patterns.iter().enumerate() {
            let above = folder.0.get(index).copied().unwrap_or(false);
            // A pattern that could not change the answer is not asked.
            let matches = above || (pattern.negated == ignored && pattern.matches(path));
            if matches {
                ignored = !pattern.negated;
            }
            if let Some(out) = &mut out {
                out.push(matches);
            }
        }
        ignored
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Walks down to a path as the context does.
    fn ignored(ignore: &Dockerignore, path: &str) -> bool {
        let mut folder = Matched::default();
        for (end, _) in path.match_indices('/').filter(|(end, _)| *end > 0) {
            folder = ignore.enter(&path[..end], &folder).1;
        }
        ignore.ignores(path, &folder)
    }

    /// What the patterns mean on paper. BuildKit differs where a pattern says of a folder what an earlier one has
    /// said already and a later one takes back for something inside: it has not noted the repetition.
    fn by_definition(ignore: &Dockerignore, path: &str) -> bool {
        let mut ignored = false;
        for pattern in &ignore.patterns {
            let above = path.match_indices('/').map(|(end, _)| &path[..end]);
            if above.chain([path]).any(|part| pattern.matches(part)) {
                ignored = !pattern.negated;
            }
        }
        ignored
    }

    /// moby's own table.
    #[test]
    fn one_pattern() {
        let table = [
            ("**", "file", true),
            ("**/", "file", true),
            ("**", "dir/file", true),
            ("**/", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir3/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**/file", "dir/file", true),
            ("**file", "dir/dir/file", true),
            ("**/file", "dir/dir/file", true),
            ("**/file*", "dir/dir/file", true),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/file*.txt", "dir/dir/file.txt", true),
            ("**/file*.txt*", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("**/*.txt", "file.txt", true),
            ("**/**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/file.txt", true),
            ("a**/*.txt", "a/dir/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt", "a/file.txt", true),
            ("a/*.txt**", "a/file.txt", true),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[b-d]e", "aae", false),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcdef", false),
            ("abc.def", "abc.def", true),
            ("abc.def", "abcZdef", false),
            ("abc?def", "abcZdef", true),
            ("abc?def", "abcdef", false),
            ("a\\\\", "a\\", true),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/foo/bar", true),
            ("**/foo/bar", "dir/dir2/foo/bar", true),
            ("abc/**", "abc", false),
            ("abc/**", "abc/def", true),
            ("abc/**", "abc/def/ghi", true),
            ("**/.foo", ".foo", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a(b)c/def", "a(b)c/xyz", false),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            (
                "dist/*.whl",
                "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
                true,
            ),
            ("a*", "ab/c", true),
            ("/docs/", "docs/a", true),
            ("./docs", "docs/a", true),
            ("docs/../src", "src/a", true),
            ("  docs  ", "docs", true),
            ("# docs", "# docs", false),
            (" # docs", "# docs", true),
        ];
        for (pattern, path, expected) in table {
            let ignore = Dockerignore::parse(pattern).unwrap();
            assert_eq!(ignored(&ignore, path), expected, "{pattern} {path}");
            assert_eq!(by_definition(&ignore, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_match_wins() {
        let table = [
            ("docs\n!docs/README.md", "docs/README.md", false),
            ("docs/\n!docs/README.md", "docs/README.md", false),
            ("docs/*\n!docs/README.md", "docs/README.md", false),
            ("*.go\n!main.go", "main.go", false),
            ("!main.go\n*.go", "main.go", true),
            ("**\n!util/docker/web", "util/docker/web/foo", false),
            (
                "**\n!util/docker/web\nutil/docker/web/foo",
                "util/docker/web/foo",
                true,
            ),
            ("**\n!dist/*.whl", "dist/a+b.whl", false),
            ("*\n!**/*.py", "src/a.py", false),
            ("*\n!**/*.py", "src/a.txt", true),
            ("*\n! src", "src/a.txt", false),
            ("\u{feff}docs\n\n", "docs", true),
        ];
        for (text, path, expected) in table {
            assert_eq!(
                ignored(&Dockerignore::parse(text).unwrap(), path),
                expected,
                "{text} {path}"
            );
        }
    }

    #[test]
    fn folders_that_nothing_reaches_are_skipped() {
        let table = [
            ("node_modules", "node_modules", true),
            ("*\n!src", "src", false),
            ("*\n!src/app/**", "src", false),
            ("*\n!src/app", "srcs", true),
            ("*\n!src", "node_modules", true),
            ("*\n!**/*.py", "node_modules", false),
        ];
        for (text, folder, expected) in table {
            assert_eq!(
                Dockerignore::parse(text).unwrap().skips(folder),
                expected,
                "{text} {folder}"
            );
        }
    }

    #[test]
    fn bad_lines_are_named() {
        let bad = Dockerignore::parse("ok\n\n!\n").unwrap_err();
        assert_eq!(
            bad,
            BadLine {
                line: 3,
                text: "!".into()
            }
        );
        assert_eq!(Dockerignore::parse("a[").unwrap_err().line, 1);
    }

    fn part() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "ab", "a.b", ".a"])
    }

    fn glob() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "a", "b", "*", "**", "a*", "?", "[ab]", "**b", "*.b", ".a",
        ])
    }

    proptest! {
        #[test]
        fn without_negation_the_plain_answer_is_given(
            lines in prop::collection::vec(prop::collection::vec(glob(), 1..4), 0..5),
            path in prop::collection::vec(part(), 1..5),
        ) {
            let text = lines.into_iter().map(|parts| parts.join("/")).collect::<Vec<_>>().join("\n");
            let ignore = Dockerignore::parse(&text).unwrap();
            let path = path.join("/");
            prop_assert_eq!(ignored(&ignore, &path), by_definition(&ignore, &path), "{}", text);
        }

        #[test]
        fn what_is_sent_is_in_no_skipped_folder(
            lines in prop::collection::vec((any::<bool>(), prop::collection::vec(glob(), 1..4)), 0..5),
            path in prop::collection::vec(part(), 1..5),
        ) {
            let line = |(negated, parts): (bool, Vec<&str>)| format!("{}{}", if negated { "!" } else { "" }, parts.join("/"));
            let text = lines.into_iter().map(line).collect::<Vec<_>>().join("\n");
            let ignore = Dockerignore::parse(&text).unwrap();
            let path = path.join("/");
            let sent = !ignored(&ignore, &path);
            let mut folder = Matched::default();
            for (end, _) in path.match_indices('/') {
                let (out, next) = ignore.enter(&path[..end], &folder);
                prop_assert!(!sent || !out || !ignore.skips(&path[..end]), "{} skips {}", text, &path[..end]);
                folder = next;
            }
        }

        #[test]
        fn nothing_makes_it_panic(text in ".{0,40}", path in ".{1,20}") {
            if let Ok(ignore) = Dockerignore::parse(&text) {
                ignored(&ignore, &path);
            }
        }
    }
}
