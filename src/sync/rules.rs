//! Which files go where without a build.

use std::collections::BTreeSet;

use globset::{GlobBuilder, GlobMatcher};

use super::base::Changed;
use super::copies::Copies;
use super::plan::Item;
use crate::build::ImagePlan;
use crate::stack::{SyncAfter, SyncRule};

/// The rules of one service, with the Dockerfile that some of them refer to.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    copies: Copies,
}

#[derive(Debug)]
struct Rule {
    sources: Vec<GlobMatcher>,
    /// None: as the Dockerfile has it.
    place: Option<Place>,
    after: SyncAfter,
    container: Option<String>,
}

#[derive(Debug)]
struct Place {
    strip: String,
    dest: String,
}

impl Rules {
    /// The rules as they apply to an image.
    pub fn of(rules: &[SyncRule], plan: &ImagePlan) -> Self {
        let infers = rules
            .iter()
            .any(|rule| matches!(rule, SyncRule::Infer { .. }));
        let copies = if infers {
            Copies::of(&plan.dockerfile, plan.spec.target.as_deref(), &plan.args)
        } else {
            Copies::default()
        };
        Rules {
            rules: rules.iter().map(rule).collect(),
            copies,
        }
    }

    /// No rules.
    #[cfg(test)]
    pub fn none() -> Self {
        Rules {
            rules: Vec::new(),
            copies: Copies::default(),
        }
    }

    /// Whether a program is started anew after some of the files.
    pub fn restarts(&self) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.after == SyncAfter::Restart)
    }

    /// What is to be done in containers for these files; or the first file that no rule covers.
    ///
    /// `refused`: paths in containers that could not be written to.
    pub fn items(
        &self,
        changes: &[Changed],
        refused: &BTreeSet<String>,
    ) -> Result<Vec<Item>, String> {
        let mut items = Vec::new();
        for change in changes {
            let found = self.items_of(change);
            if found.is_empty() || found.iter().any(|item| refused.contains(&item.dest)) {
                return Err(change.path.to_string());
            }
            items.extend(found);
        }
        Ok(items)
    }

    /// What is to be done for one file; nothing when no rule covers it.
    pub fn items_of(&self, change: &Changed) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        for rule in self
            .rules
            .iter()
            .filter(|rule| rule.sources.iter().any(|glob| glob.is_match(&*change.path)))
        {
            let places = match &rule.place {
                Some(place) => vec![place.of(&change.path)],
                None => self.copies.places(&change.path),
            };
            for dest in places {
                let item = Item {
                    source: change.path.clone(),
                    dest,
                    container: rule.container.clone(),
                    now: change.now,
                    after: rule.after.clone(),
                };
                if !items.contains(&item) {
                    items.push(item);
                }
            }
        }
        items
    }
}

impl Place {
    fn of(&self, path: &str) -> String {
        let below = path
            .strip_prefix(&*self.strip)
            .map(|rest| rest.trim_start_matches('/'));
        format!(
            "{}/{}",
            self.dest,
            below.filter(|rest| !rest.is_empty()).unwrap_or(path)
        )
    }
}

fn rule(rule: &SyncRule) -> Rule {
    match rule {
        SyncRule::Manual {
            src,
            dest,
            strip,
            after,
            container,
        } => Rule {
            sources: glob(src).into_iter().collect(),
            place: Some(Place {
                strip: folder_of(strip),
                dest: dest.trim_end_matches('/').to_owned(),
            }),
            after: after.clone(),
            container: container.clone(),
        },
        SyncRule::Infer { globs, after } => Rule {
            sources: globs.iter().filter_map(|text| glob(text)).collect(),
            place: None,
            after: after.clone(),
            container: None,
        },
    }
}

/// `src`, `./src` and `src/` are the same; a path is below it when a slash follows.
fn folder_of(strip: &str) -> String {
    match strip.trim_start_matches("./").trim_end_matches('/') {
        "" => String::new(),
        folder => format!("{folder}/"),
    }
}

/// The stack was checked, so that every glob is one.
fn glob(text: &str) -> Option<GlobMatcher> {
    let text = text.trim_start_matches("./");
    let glob = GlobBuilder::new(text)
        .literal_separator(true)
        .build()
        .ok()?;
    Some(glob.compile_matcher())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manual(src: &str, strip: &str, dest: &str) -> SyncRule {
        SyncRule::Manual {
            src: src.into(),
            dest: dest.into(),
            strip: strip.into(),
            after: SyncAfter::Nothing,
            container: None,
        }
    }

    fn rules(all: &[SyncRule], dockerfile: &str) -> Rules {
        let copies = Copies::of(dockerfile, None, &Default::default());
        Rules {
            rules: all.iter().map(rule).collect(),
            copies,
        }
    }

    fn changed(path: &str) -> Changed {
        Changed {
            path: path.into(),
            now: None,
        }
    }

    #[test]
    fn files_go_where_the_rule_says() {
        let table = [
            ("src/**", "src", "/app/src", "src/a/b.ts", "/app/src/a/b.ts"),
            ("src/**", "src/", "/app/", "src/a/b.ts", "/app/a/b.ts"),
            ("src/**", "", "/app", "src/a.ts", "/app/src/a.ts"),
            ("./src/**", "./src", "/app", "src/a.ts", "/app/a.ts"),
            ("**/*.py", "src", "/app", "srcs/a.py", "/app/srcs/a.py"),
            ("*.py", "", "/app", "a.py", "/app/a.py"),
            ("*.py", "", "/app", "src/a.py", ""),
            ("*.{py,yaml}", "", "/", "a.yaml", "/a.yaml"),
            ("src/**", "", "/app", "srcs/a", ""),
        ];
        for (src, strip, dest, path, expected) in table {
            let found = rules(&[manual(src, strip, dest)], "").items_of(&changed(path));
            let found: Vec<_> = found.iter().map(|item| item.dest.as_str()).collect();
            assert_eq!(found.join(" "), expected, "{src} {strip} {path}");
        }
    }

    #[test]
    fn one_file_that_no_rule_covers_is_enough() {
        let rules = rules(&[manual("*.py", "", "/app")], "");
        let none = BTreeSet::new();
        assert_eq!(
            rules.items(&[changed("a.py"), changed("go.mod")], &none),
            Err("go.mod".into())
        );
        assert_eq!(
            rules
                .items(&[changed("a.py"), changed("b.py")], &none)
                .unwrap()
                .len(),
            2
        );
        let refused = BTreeSet::from(["/app/b.py".to_owned()]);
        assert_eq!(
            rules.items(&[changed("a.py"), changed("b.py")], &refused),
            Err("b.py".into())
        );
    }

    #[test]
    fn inferred_files_need_a_copy() {
        let infer = SyncRule::Infer {
            globs: vec!["**/*.py".into()],
            after: SyncAfter::Nothing,
        };
        let rules = rules(&[infer], "FROM x\nWORKDIR /app\nCOPY src ./lib");
        let places = |path| {
            rules
                .items_of(&changed(path))
                .into_iter()
                .map(|item| item.dest)
                .collect::<Vec<_>>()
        };
        assert_eq!(places("src/a.py"), ["/app/lib/a.py"]);
        assert!(places("other/a.py").is_empty());
        assert!(places("src/a.txt").is_empty());
    }
}
