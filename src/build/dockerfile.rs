//! As much of a Dockerfile as is needed to find the line of a step.

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Counted from 1: where it begins.
    pub line: usize,
    /// In capitals, such as `RUN`.
    pub keyword: String,
    /// The rest, its lines joined, spaces made single.
    pub rest: String,
}

/// The instructions of a Dockerfile, in order.
pub fn instructions(text: &str) -> Vec<Instruction> {
    let escape = if directive(text, "escape").is_some_and(|(_, value)| value == "`") {
        '`'
    } else {
        '\\'
    };
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        if is_blank(first) {
            continue;
        }
        let mut joined = String::new();
        let mut part = first;
        while let Some(open) = part.trim_end().strip_suffix(escape) {
            joined.push_str(open);
            joined.push(' ');
            // Comments and blank lines inside do not end it.
            match lines
                .by_ref()
                .map(|(_, line)| line)
                .find(|line| !is_blank(line))
            {
                Some(next) => part = next,
                None => {
                    part = "";
                    break;
                }
            }
        }
        joined.push_str(part);
        let words: Vec<_> = joined.split_whitespace().collect();
        let Some((keyword, rest)) = words.split_first() else {
            continue;
        };
        let keyword = keyword.to_ascii_uppercase();
        if matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") {
            for end in rest.iter().filter_map(|word| heredoc(word)) {
                lines
                    .by_ref()
                    .find(|(_, line)| line.trim_start_matches('\t') == end);
            }
        }
        found.push(Instruction {
            line: index + 1,
            keyword,
            rest: rest.join(" "),
        });
    }
    found
}

/// A `# name=value` line at the top: its line and value.
pub fn directive<'a>(text: &'a str, name: &str) -> Option<(usize, &'a str)> {
    for (index, line) in text.lines().enumerate() {
        let (key, value) = line.trim().strip_prefix('#')?.split_once('=')?;
        if key.trim().eq_ignore_ascii_case(name) {
            return Some((index + 1, value.trim()));
        }
    }
    None
}

/// The instruction that a step of BuildKit's is, from a name such as `[build 2/5] RUN make`.
pub fn find<'a>(instructions: &'a [Instruction], step: &str) -> Option<&'a Instruction> {
    if let Some(image) = step.strip_prefix("[internal] load metadata for ") {
        return instructions
            .iter()
            .find(|one| one.keyword == "FROM" && names(one, image));
    }
    let (place, instruction) = step.strip_prefix('[')?.split_once("] ")?;
    let (stage, number) = place.rsplit_once(' ').unwrap_or(("", place));
    let number: usize = number.split('/').next()?.parse().ok()?;
    let (keyword, rest) = instruction.split_once(' ').unwrap_or((instruction, ""));
    let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
    let stage = stage_of(instructions, stage)?;
    let same = |one: &&Instruction| {
        one.keyword == keyword && (one.rest == rest || rest.starts_with(&format!("{} (", one.rest)))
    };
    let mut same = stage.iter().filter(same);
    match (same.next(), same.next()) {
        (Some(only), None) => Some(only),
        // The same text twice, or variables in it that BuildKit has replaced: its place in the stage tells.
        _ => stage
            .iter()
            .filter(|one| makes_a_step(one))
            .nth(number.checked_sub(1)?),
    }
}

fn makes_a_step(one: &Instruction) -> bool {
    matches!(
        one.keyword.as_str(),
        "FROM" | "RUN" | "COPY" | "ADD" | "WORKDIR"
    )
}

/// The instructions of the stage that BuildKit calls so: its name, or `stage-N`, or nothing if there is but one.
fn stage_of<'a>(instructions: &'a [Instruction], name: &str) -> Option<&'a [Instruction]> {
    let starts: Vec<usize> = instructions
        .iter()
        .enumerate()
        .filter(|(_, one)| one.keyword == "FROM")
        .map(|(at, _)| at)
        .collect();
    let alias = |at: usize| {
        let words: Vec<_> = instructions[at].rest.split(' ').collect();
        let named = words
            .iter()
            .position(|word| word.eq_ignore_ascii_case("as"))?;
        words.get(named + 1).copied()
    };
    let number = match name
        .strip_prefix("stage-")
        .and_then(|number| number.parse::<usize>().ok())
    {
        Some(number) => number,
        None if name.is_empty() => 0,
        // With a platform before it, as in `linux/amd64 build`.
        None => {
            let name = name.rsplit(' ').next()?;
            starts
                .iter()
                .position(|&at| alias(at).is_some_and(|alias| alias.eq_ignore_ascii_case(name)))?
        }
    };
    let end = starts
        .get(number + 1)
        .copied()
        .unwrap_or(instructions.len());
    instructions.get(*starts.get(number)?..end)
}

/// Whether a FROM means the image that BuildKit calls by its full name.
fn names(from: &Instruction, image: &str) -> bool {
    let Some(written) = from.rest.split(' ').find(|word| !word.starts_with("--")) else {
        return false;
    };
    let tagged = |name: &str| {
        if name
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains([':', '@']))
        {
            name.to_owned()
        } else {
            format!("{name}:latest")
        }
    };
    let written = tagged(written);
    ["", "docker.io/", "docker.io/library/"]
        .iter()
        .any(|prefix| format!("{prefix}{written}") == image)
}

fn is_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// `EOF` of `<<EOF`, `<<-EOF`, `<<"EOF"`.
fn heredoc(word: &str) -> Option<&str> {
    let name = word.split_once("<<")?.1;
    let name = name.trim_start_matches('-').trim_matches(['"', '\'']);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# syntax=docker/dockerfile:1
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# a comment
RUN apt-get update \\
    # inside
    && apt-get   install -y \\

    gcc
COPY a b
COPY a b
RUN <<EOF
FROM nothing
EOF
run true

FROM busybox
WORKDIR /app
COPY --from=build /x ${DIR}
";

    #[test]
    fn steps_are_found() {
        let all = instructions(TEXT);
        let table = [
            (
                "[build 1/6] FROM docker.io/library/python:3.13-slim",
                Some(4),
            ),
            (
                "[build 2/6] RUN apt-get update     && apt-get   install -y     gcc",
                Some(6),
            ),
            ("[build 3/6] COPY a b", Some(11)),
            ("[build 4/6] COPY a b", Some(12)),
            ("[build 5/6] RUN <<EOF (FROM nothing)", Some(13)),
            ("[build 6/6] RUN true", Some(16)),
            ("[stage-1 3/3] COPY --from=build /x /app", Some(20)),
            (
                "[internal] load metadata for docker.io/library/busybox:latest",
                Some(18),
            ),
            ("[nowhere 1/2] RUN x", None),
            ("exporting to image", None),
        ];
        for (step, line) in table {
            assert_eq!(find(&all, step).map(|one| one.line), line, "{step}");
        }
        assert_eq!(directive(TEXT, "syntax"), Some((1, "docker/dockerfile:1")));
    }

    #[test]
    fn odd_files_do_no_harm() {
        for text in [
            "",
            "\\",
            "RUN \\",
            "FROM",
            "# syntax",
            "RUN <<EOF\nx",
            "\u{0}\\\n\\\n",
        ] {
            find(&instructions(text), "[1/2] RUN x");
        }
    }
}
