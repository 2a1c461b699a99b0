//! One line of a `.dockerignore`, as moby's `patternmatcher` reads it.

use regex::Regex;

/// A compiled pattern, without its `!`.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// As cleaned, without a leading `/`.
    pub text: String,
    /// Whether it began with `!`: what it matches is sent after all.
    pub negated: bool,
    how: How,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.negated) == (&other.text, other.negated)
    }
}

/// moby matches most patterns without a regular expression.
#[derive(Debug, Clone)]
enum How {
    Exact,
    Prefix,
    Suffix,
    /// `**/*.pyc` or `*.pyc`, the commonest ones: the literal at the end, and whether it may be in any folder.
    Ends(String, bool),
    Regex(Regex),
}

impl Pattern {
    /// Compiles a line that is neither blank nor a comment. None: Docker takes it for malformed.
    pub fn parse(line: &str) -> Option<Pattern> {
        let line = line.trim();
        let (negated, rest) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, line),
        };
        if rest.is_empty() {
            return None;
        }
        let cleaned = clean(rest);
        let text = match cleaned.strip_prefix('/') {
            Some(relative) if !relative.is_empty() => relative.to_owned(),
            _ => cleaned,
        };
        well_formed(&text)?;
        let how = match ends(&text) {
            Some(how) => how,
            None => compile(&text)?,
        };
        Some(Pattern { text, negated, how })
    }

    /// Whether it matches a path of the context, with `/` between its parts.
    pub fn matches(&self, path: &str) -> bool {
        match &self.how {
            How::Exact => path == self.text,
            How::Prefix => path.starts_with(&self.text[..self.text.len() - 2]),
            How::Suffix => {
                let suffix = &self.text[2..];
                path.ends_with(suffix) || suffix.strip_prefix('/') == Some(path)
            }
            How::Ends(literal, anywhere) => match path.strip_suffix(literal.as_str()) {
                // A dot of moby's expression does not match a line feed.
                Some(start) => start
                    .rsplit_once('/')
                    .is_none_or(|(folder, _)| *anywhere && !folder.contains('\n')),
                None => false,
            },
            How::Regex(regex) => regex.is_match(path),
        }
    }

    /// The text up to a `/*` or `/**` at its end.
    pub fn without_trailing_glob(&self) -> &str {
        let text = self.text.strip_suffix("/**").unwrap_or(&self.text);
        text.strip_suffix("/*").unwrap_or(text)
    }
}

/// Go's `path.Clean`: the shortest path that means the same, lexically.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if matches!(parts.last(), Some(&last) if last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// Go's `filepath.Match` has an opinion on brackets and backslashes, and moby asks for it.
fn well_formed(pattern: &str) -> Option<()> {
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next()?;
            }
            '[' => {
                chars.next_if_eq(&'^');
                let mut ranges = 0;
                while ranges == 0 || chars.next_if_eq(&']').is_none() {
                    class_char(&mut chars)?;
                    if chars.next_if_eq(&'-').is_some() {
                        class_char(&mut chars)?;
                    }
                    chars.peek()?;
                    ranges += 1;
                }
            }
            _ => {}
        }
    }
    Some(())
}

fn class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<()> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next().map(drop),
        _ => Some(()),
    }
}

/// What needs no regular expression though moby takes one.
fn ends(pattern: &str) -> Option<How> {
    let (literal, anywhere) = match pattern.strip_prefix("**/*") {
        Some(rest) => (rest, true),
        None => (pattern.strip_prefix('*')?, false),
    };
    let plain = !literal.contains(['*', '?', '[', ']', '\\', '^', '/']);
    (plain && !literal.is_empty()).then(|| How::Ends(literal.to_owned(), anywhere))
}

/// moby's `Pattern.compile`, step by step.
fn compile(pattern: &str) -> Option<How> {
    #[derive(PartialEq)]
    enum Kind {
        Exact,
        Prefix,
        Suffix,
        Regex,
    }
    let mut kind = Kind::Exact;
    let mut regex = String::from("^");
    let mut chars = pattern.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_some() {
                    regex.push_str("(.*/)?");
                    kind = Kind::Regex;
                } else if kind == Kind::Exact {
                    kind = Kind::Prefix;
                } else {
                    regex.push_str(".*");
                    kind = Kind::Regex;
                }
                if first {
                    kind = Kind::Suffix;
                }
            }
            '*' => {
                regex.push_str("[^/]*");
                kind = Kind::Regex;
            }
            '?' => {
                regex.push_str("[^/]");
                kind = Kind::Regex;
            }
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => regex.extend(['\\', c]),
            '\\' => {
                regex.push('\\');
                if let Some(escaped) = chars.next() {
                    regex.push(escaped);
                    kind = Kind::Regex;
                }
            }
            '[' | ']' => {
                regex.push(c);
                kind = Kind::Regex;
            }
            c => regex.push(c),
        }
        first = false;
    }
    Some(match kind {
        Kind::Exact => How::Exact,
        Kind::Prefix => How::Prefix,
        Kind::Suffix => How::Suffix,
        Kind::Regex => {
            regex.push('$');
            How::Regex(Regex::new(&from_go(&regex)).ok()?)
        }
    })
}

/// Go's regular expressions have no set operations in classes and no `\<`; the `regex` crate's have.
fn from_go(go: &str) -> String {
    let mut rust = String::with_capacity(go.len());
    let mut chars = go.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('<' | '>')) => rust.push(c),
                Some(c) => rust.extend(['\\', c]),
                None => rust.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                rust.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    rust.push('^');
                }
                if chars.next_if_eq(&']').is_some() {
                    rust.push_str("\\]");
                }
            }
            '[' if chars.peek() == Some(&':') => rust.push('['),
            '[' | '&' | '~' if in_class => rust.extend(['\\', c]),
            ']' if in_class => {
                in_class = false;
                rust.push(']');
            }
            // A closing bracket that nothing opened stands for itself in Go.
            ']' => rust.push_str("\\]"),
            c => rust.push(c),
        }
    }
    rust
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_go_does() {
        for (path, cleaned) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/a", "/a"),
            ("a/../b", "b"),
            ("../a", "../a"),
            ("/../a", "/a"),
            ("a/..", "."),
            ("**/", "**"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }

    /// moby's own table for `filepath.Match` patterns, where an error is `None`.
    #[test]
    fn matches_as_go_does() {
        let table: &[(&str, &str, Option<bool>)] = &[
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "a", Some(true)),
            ("a*/b", "abc/b", Some(true)),
            ("a*/b", "a/c/b", Some(false)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", Some(true)),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", Some(false)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[e-g]", "abc", Some(false)),
            ("ab[^c]", "abc", Some(false)),
            ("ab[^b-d]", "abc", Some(false)),
            ("ab[^e-g]", "abc", Some(true)),
            ("a\\*b", "a*b", Some(true)),
            ("a\\*b", "ab", Some(false)),
            ("a?b", "a☺b", Some(true)),
            ("a[^a]b", "a☺b", Some(true)),
            ("a???b", "a☺b", Some(false)),
            ("[a-ζ]*", "α", Some(true)),
            ("*[a-ζ]", "A", Some(false)),
            ("a?b", "a/b", Some(false)),
            ("[\\]a]", "]", Some(true)),
            ("[\\-]", "-", Some(true)),
            ("[x\\-]", "x", Some(true)),
            ("[x\\-]", "-", Some(true)),
            ("[x\\-]", "z", Some(false)),
            ("[\\-x]", "-", Some(true)),
            ("[]a]", "]", None),
            ("[-]", "-", None),
            ("[x-]", "x", None),
            ("[-x]", "x", None),
            ("\\", "a", None),
            ("[a-b-c]", "a", None),
            ("[", "a", None),
            ("[^", "a", None),
            ("[^bc", "a", None),
            ("a[", "ab", None),
            ("*x", "xxx", Some(true)),
            ("[&&]", "&", Some(true)),
            ("\\<a", "<a", Some(true)),
        ];
        for (pattern, path, expected) in table {
            let found = Pattern::parse(pattern).map(|pattern| pattern.matches(path));
            assert_eq!(found, *expected, "{pattern} {path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_short_way_says_what_the_long_one_does(
            literal in "[a.+^/*]{0,3}",
            path in "[a.+/\n]{1,6}",
            anywhere in proptest::bool::ANY,
        ) {
            let text = format!("{}{literal}", if anywhere { "**/*" } else { "*" });
            if let Some(How::Ends(..)) = ends(&text) {
                let how = compile(&text).unwrap();
                let long = Pattern { text: text.clone(), negated: false, how };
                let short = Pattern { how: ends(&text).unwrap(), ..long.clone() };
                proptest::prop_assert_eq!(short.matches(&path), long.matches(&path), "{} {}", text, path);
            }
        }
    }
}
