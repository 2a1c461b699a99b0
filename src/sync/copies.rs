//! Where a Dockerfile's `COPY` and `ADD` put the files of the build context.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobMatcher};

use crate::build::dockerfile::{Instruction, instructions};

/// The copies that make up a stage, with those of the stages that it stands on.
#[derive(Debug, Default)]
pub struct Copies(Vec<Copy>);

#[derive(Debug)]
struct Copy {
    sources: Vec<Source>,
    /// Absolute, without a slash at its end.
    dest: String,
    /// Whether a file gets its own name below it.
    into_folder: bool,
}

#[derive(Debug)]
struct Source {
    glob: GlobMatcher,
    /// How many names deep it matches.
    depth: usize,
}

impl Copies {
    /// Of the stage `target`, or the last one.
    pub fn of(dockerfile: &str, target: Option<&str>, args: &BTreeMap<String, String>) -> Self {
        let all = instructions(dockerfile);
        let mut copies = Vec::new();
        let mut place = Place::new(args, BTreeMap::new());
        let global = all
            .iter()
            .position(|one| one.keyword == "FROM")
            .unwrap_or(all.len());
        all[..global].iter().for_each(|one| place.learn(one));
        place.global = std::mem::take(&mut place.known);
        for stage in chain(&all, target, &place) {
            for one in &all[stage] {
                place.learn(one);
                copies.extend(place.copy(one));
            }
        }
        Copies(copies)
    }

    /// Where a file of the context is in the image, if `COPY` and `ADD` put it anywhere.
    pub fn places(&self, path: &str) -> Vec<String> {
        let mut places = Vec::new();
        for place in self.0.iter().filter_map(|copy| copy.place(path)) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }
}

impl Copy {
    fn place(&self, path: &str) -> Option<String> {
        self.sources.iter().find_map(|source| {
            let below = source.below(path)?;
            match below {
                "" if !self.into_folder => Some(self.dest.clone()),
                "" => Some(format!("{}/{}", self.dest, path.rsplit('/').next()?)),
                // A folder's contents are copied, not the folder.
                below => Some(format!("{}/{below}", self.dest)),
            }
        })
    }
}

impl Source {
    /// What of a path is below what this matches: nothing, if it is the path itself.
    fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.depth == 0 {
            return Some(path);
        }
        let end = path
            .match_indices('/')
            .map(|(at, _)| at)
            .chain([path.len()])
            .nth(self.depth - 1)?;
        self.glob
            .is_match(&path[..end])
            .then(|| path[end..].trim_start_matches('/'))
    }

    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .collect();
        // `..` is cut off by Docker in its own way, and `**` is unknown to it.
        if parts
            .iter()
            .any(|part| *part == ".." || part.contains("**"))
        {
            return None;
        }
        let glob = GlobBuilder::new(&parts.join("/"))
            .literal_separator(true)
            .build()
            .ok()?;
        Some(Source {
            glob: glob.compile_matcher(),
            depth: parts.len(),
        })
    }
}

/// What is known where an instruction stands.
struct Place<'a> {
    args: &'a BTreeMap<String, String>,
    /// `ARG`s before the first `FROM`.
    global: BTreeMap<String, String>,
    /// `ARG` and `ENV`.
    known: BTreeMap<String, String>,
    /// None: as the image that the stage is made from has it.
    folder: Option<String>,
    /// Folders that are there for sure.
    folders: Vec<String>,
}

impl<'a> Place<'a> {
    fn new(args: &'a BTreeMap<String, String>, known: BTreeMap<String, String>) -> Self {
        Place {
            args,
            global: BTreeMap::new(),
            known,
            folder: None,
            folders: Vec::new(),
        }
    }

    fn learn(&mut self, one: &Instruction) {
        match one.keyword.as_str() {
            "ARG" => one.rest.split(' ').for_each(|word| self.argument(word)),
            "ENV" => self.environment(&one.rest),
            "WORKDIR" => {
                self.folder = self.expand(&one.rest).and_then(|path| self.absolute(&path));
                self.folders.extend(self.folder.clone());
            }
            _ => {}
        }
    }

    fn argument(&mut self, word: &str) {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, self.expand(unquoted(default))),
            None => (word, self.global.get(word).cloned()),
        };
        match self.args.get(name).cloned().or(default) {
            Some(value) => self.known.insert(name.to_owned(), value),
            None => self.known.remove(name),
        };
    }

    fn environment(&mut self, rest: &str) {
        let first = rest.split(' ').next().unwrap_or_default();
        let pairs: Vec<(String, String)> = if first.contains('=') {
            let words = shlex::split(rest).unwrap_or_default();
            words
                .iter()
                .filter_map(|word| word.split_once('='))
                .map(|(a, b)| (a.into(), b.into()))
                .collect()
        } else {
            rest.split_once(' ')
                .map(|(a, b)| (a.into(), b.into()))
                .into_iter()
                .collect()
        };
        for (name, value) in pairs {
            match self.expand(&value) {
                Some(value) => self.known.insert(name, value),
                None => self.known.remove(&name),
            };
        }
    }

    /// With variables replaced; none if one is not known here.
    fn expand(&self, text: &str) -> Option<String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let (name, left) = match after.strip_prefix('{') {
                Some(inside) => inside.split_once('}')?,
                None => {
                    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
                    after.split_at(after.find(word).unwrap_or(after.len()))
                }
            };
            let (name, default) = name
                .split_once(":-")
                .map_or((name, None), |(name, or)| (name, Some(or)));
            let value = self
                .known
                .get(name)
                .map(String::as_str)
                .filter(|value| !value.is_empty());
            out.push_str(value.or(default)?);
            rest = left;
        }
        (!rest.contains('\\')).then(|| out + rest)
    }

    fn absolute(&self, path: &str) -> Option<String> {
        let whole = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{}/{path}", self.folder.as_ref()?),
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in whole.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        Some(parts.iter().map(|part| format!("/{part}")).collect())
    }

    fn copy(&mut self, one: &Instruction) -> Option<Copy> {
        let adds = one.keyword == "ADD";
        if !(adds || one.keyword == "COPY") || one.rest.contains("<<") {
            return None;
        }
        let flags = one
            .rest
            .split(' ')
            .take_while(|word| word.starts_with("--"));
        // These change what goes where, or take it from somewhere else.
        let other = [
            "--from",
            "--parents",
            "--exclude",
            "--unpack",
            "--keep-git-dir",
        ];
        if flags
            .clone()
            .any(|flag| other.iter().any(|name| flag.starts_with(name)))
        {
            return None;
        }
        let rest: Vec<&str> = one.rest.split(' ').skip(flags.count()).collect();
        let words: Vec<String> = match serde_json::from_str(&rest.join(" ")) {
            Ok(words) => words,
            Err(_) => rest.into_iter().map(str::to_owned).collect(),
        };
        let words: Vec<String> = words
            .iter()
            .map(|word| self.expand(word))
            .collect::<Option<_>>()?;
        let (dest, sources) = words.split_last()?;
        if sources.is_empty() || adds && sources.iter().any(|source| is_unpacked(source)) {
            return None;
        }
        let slash = dest.ends_with('/') || dest.ends_with("/.") || dest == ".";
        let dest = self.absolute(dest)?;
        let inside = format!("{dest}/");
        let known = dest.is_empty()
            || self
                .folders
                .iter()
                .any(|one| *one == dest || one.starts_with(&inside));
        let into_folder = slash || known || sources.len() > 1;
        if into_folder {
            self.folders.push(dest.clone());
        }
        let sources = sources
            .iter()
            .map(|source| Source::parse(source))
            .collect::<Option<_>>()?;
        Some(Copy {
            sources,
            dest,
            into_folder,
        })
    }
}

/// What `ADD` fetches or unpacks.
fn is_unpacked(source: &str) -> bool {
    let archives = [".tar", ".tgz", ".tbz", ".txz", ".gz", ".bz2", ".xz", ".zst"];
    source.contains("://")
        || source.starts_with("git@")
        || archives.iter().any(|end| source.ends_with(end))
}

fn unquoted(text: &str) -> &str {
    text.trim_matches(['"', '\''])
}

/// The stages that `target` is made of, as ranges of instructions: those it stands on first.
fn chain(all: &[Instruction], target: Option<&str>, place: &Place) -> Vec<std::ops::Range<usize>> {
    let starts: Vec<usize> = (0..all.len())
        .filter(|&at| all[at].keyword == "FROM")
        .collect();
    let words = |stage: usize| -> Vec<&str> {
        all[starts[stage]]
            .rest
            .split(' ')
            .filter(|word| !word.starts_with("--"))
            .collect()
    };
    let alias = |stage: usize| match words(stage)[..] {
        [_, keyword, name, ..] if keyword.eq_ignore_ascii_case("as") => Some(name.to_owned()),
        _ => None,
    };
    let named = |name: &str, before: usize| {
        (0..before)
            .rev()
            .find(|&one| alias(one).is_some_and(|alias| alias.eq_ignore_ascii_case(name)))
    };
    let number = |name: &str| {
        name.parse()
            .ok()
            .filter(|&stage: &usize| stage < starts.len())
    };
    let mut next = match target {
        Some(name) => named(name, starts.len()).or_else(|| number(name)),
        None => starts.len().checked_sub(1),
    };
    let known = Place::new(place.args, place.global.clone());
    let mut chain = Vec::new();
    while let Some(stage) = next {
        let end = starts.get(stage + 1).copied().unwrap_or(all.len());
        chain.push(starts[stage]..end);
        let from = words(stage).first().and_then(|image| known.expand(image));
        next = from.and_then(|image| named(&image, stage));
    }
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(dockerfile: &str, target: Option<&str>, path: &str) -> String {
        let args = BTreeMap::from([("SET".to_owned(), "/set".to_owned())]);
        Copies::of(dockerfile, target, &args).places(path).join(" ")
    }

    #[test]
    fn one_copy() {
        let table = [
            ("COPY a.py /app/", "a.py", "/app/a.py"),
            ("COPY a.py /app/b.py", "a.py", "/app/b.py"),
            ("COPY a.py /", "a.py", "/a.py"),
            ("COPY a.py b.py /app", "b.py", "/app/b.py"),
            ("COPY src /app", "src/x/y.py", "/app/x/y.py"),
            ("COPY src/ /app/", "src/x/y.py", "/app/x/y.py"),
            ("COPY ./src /app/src", "src/x", "/app/src/x"),
            ("COPY . /app", "src/x", "/app/src/x"),
            ("COPY . .", "src/x", ""),
            ("WORKDIR /app\nCOPY . .", "src/x", "/app/src/x"),
            ("WORKDIR /app\nWORKDIR sub\nCOPY x ./", "x", "/app/sub/x"),
            ("WORKDIR /app\nCOPY x /app", "x", "/app/x"),
            ("WORKDIR /app/sub\nCOPY x /app", "x", "/app/x"),
            ("WORKDIR /app\nCOPY x y", "x", "/app/y"),
            ("WORKDIR /app\nCOPY x ../y", "x", "/y"),
            ("COPY *.py /app/", "a.py", "/app/a.py"),
            ("COPY *.py /app/", "src/a.py", ""),
            ("COPY packages/* /app/", "packages/one/a.js", "/app/a.js"),
            (
                "COPY packages/*/package.json /app/",
                "packages/one/package.json",
                "/app/package.json",
            ),
            ("COPY [\"a b\", \"/app/\"]", "a b", "/app/a b"),
            ("COPY --chown=1:1 --link x /app/", "x", "/app/x"),
            ("COPY --from=build x /app/", "x", ""),
            ("COPY --parents x/y /app/", "x/y", ""),
            ("ADD x.tar.gz /app/", "x.tar.gz", ""),
            ("ADD https://example.com/x /app/", "x", ""),
            ("ADD x /app/", "x", "/app/x"),
            (
                "ENV HOME=/home/app OTHER=\"a b\"\nCOPY x $HOME/",
                "x",
                "/home/app/x",
            ),
            (
                "ENV HOME /home/app\nCOPY x ${HOME}/y/",
                "x",
                "/home/app/y/x",
            ),
            ("COPY x $HOME/", "x", ""),
            ("COPY x ${HOME:-/root}/", "x", "/root/x"),
            ("ARG SET=/default\nCOPY x $SET/", "x", "/set/x"),
            ("ARG OTHER=/default\nCOPY x $OTHER/", "x", "/default/x"),
            ("COPY x /a/\nCOPY x /b/", "x", "/a/x /b/x"),
            ("COPY <<EOF /app/x\nx\nEOF", "x", ""),
            ("COPY y /app/", "x", ""),
            ("COPY ../x /app/", "x", ""),
        ];
        for (lines, path, expected) in table {
            assert_eq!(
                places(&format!("FROM busybox\n{lines}"), None, path),
                expected,
                "{lines} {path}"
            );
        }
    }

    #[test]
    fn stages_stand_on_each_other() {
        let text = "ARG BASE=dev\nARG DEST=/dest\nFROM node AS deps\nWORKDIR /deps\nCOPY lock ./\n\
                    FROM deps AS dev\nARG DEST\nCOPY src src/\nCOPY x $DEST/\n\
                    FROM ${BASE} AS test\nCOPY tests ./\nFROM nginx\nCOPY --from=dev /app /app\nCOPY conf /etc/";
        let table = [
            (Some("dev"), "lock", "/deps/lock"),
            (Some("DEV"), "src/a", "/deps/src/a"),
            (Some("dev"), "x", "/dest/x"),
            (Some("dev"), "tests/a", ""),
            (Some("test"), "src/a", "/deps/src/a"),
            (Some("test"), "tests/a", "/deps/a"),
            (Some("0"), "lock", "/deps/lock"),
            (None, "conf", "/etc/conf"),
            (None, "src/a", ""),
            (Some("unknown"), "src/a", ""),
        ];
        for (target, path, expected) in table {
            assert_eq!(places(text, target, path), expected, "{target:?} {path}");
        }
    }

    #[test]
    fn odd_files_do_no_harm() {
        for text in [
            "",
            "COPY",
            "FROM",
            "FROM x\nCOPY",
            "FROM x\nCOPY a",
            "FROM x\nENV",
            "FROM x\nCOPY ${ a/ b/",
        ] {
            assert_eq!(places(text, None, "a"), "", "{text}");
        }
        places("FROM x AS x\nFROM x AS x\nCOPY a b/", None, "a");
    }
}
