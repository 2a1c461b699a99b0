//! Which images are old.

use std::collections::{BTreeMap, BTreeSet};

/// An image somewhere.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    pub reference: &'a str,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Whether a container has it.
    pub used: bool,
}

/// The references that may go: of each repository all but the newest `keep`, and none that is used or needed. An image
/// that is found twice is one image, and used if it is used anywhere.
pub fn old<'a>(
    found: impl IntoIterator<Item = Found<'a>>,
    keep: usize,
    needed: &BTreeSet<String>,
) -> BTreeSet<String> {
    let mut images: BTreeMap<&str, Found> = BTreeMap::new();
    for one in found {
        let known = images.entry(one.reference).or_insert(one);
        known.used |= one.used;
        known.created = known.created.max(one.created);
    }
    let mut repositories: BTreeMap<&str, Vec<Found>> = BTreeMap::new();
    for image in images.into_values() {
        let repository = image
            .reference
            .rsplit_once(':')
            .map_or(image.reference, |(name, _)| name);
        repositories.entry(repository).or_default().push(image);
    }
    let mut old = BTreeSet::new();
    for mut images in repositories.into_values() {
        images.sort_by_key(|image| std::cmp::Reverse(image.created));
        let beyond = images.into_iter().skip(keep);
        let goes = beyond.filter(|image| !image.used && !needed.contains(image.reference));
        old.extend(goes.map(|image| image.reference.to_owned()));
    }
    old
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(reference: &str, created: i64, used: bool) -> Found<'_> {
        Found {
            reference,
            created,
            used,
        }
    }

    #[test]
    fn the_newest_of_each_repository_stay_and_what_is_used_or_needed() {
        let images = [
            found("s/web:1", 1, false),
            found("s/web:2", 2, true),
            found("s/web:3", 3, false),
            found("s/web:4", 4, false),
            found("s/web:5", 5, false),
            found("s/api:1", 1, false),
            found("s/api:2", 2, false),
            // The same images in a node that says less, or more.
            found("s/web:5", 0, false),
            found("s/web:1", 1, false),
        ];
        let old = |keep, needed: &[&str]| {
            let needed = needed.iter().map(|&one| one.to_owned()).collect();
            old(images, keep, &needed).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(old(3, &[]), ["s/web:1"]);
        assert_eq!(old(1, &["s/web:3"]), ["s/api:1", "s/web:1", "s/web:4"]);
        assert_eq!(
            old(0, &["s/api:1"]),
            ["s/api:2", "s/web:1", "s/web:3", "s/web:4", "s/web:5"]
        );
    }

    proptest! {
        #[test]
        fn nothing_goes_that_is_used_needed_or_new(
            images in prop::collection::vec((0..3u8, 0..9u8, 0..20i64, any::<bool>()), 0..40),
            keep in 0..5usize,
            needed in prop::collection::btree_set((0..3u8, 0..9u8), 0..4),
        ) {
            let name = |repository, tag| format!("r{repository}:{tag}");
            let all: Vec<_> = images.iter().map(|(r, t, c, u)| (name(r, t), *c, *u)).collect();
            let needed: BTreeSet<_> = needed.iter().map(|(r, t)| name(r, t)).collect();
            let each = || all.iter().map(|(reference, created, used)| found(reference, *created, *used));
            let old = old(each(), keep, &needed);
            for reference in &old {
                prop_assert!(!needed.contains(reference));
                prop_assert!(each().all(|one| one.reference != reference || !one.used));
                let made = each().filter(|one| one.reference == reference).map(|one| one.created).max().unwrap();
                let repository = &reference[..3];
                let newer: BTreeSet<_> = each()
                    .filter(|one| one.reference.starts_with(repository) && one.created >= made && one.reference != reference)
                    .map(|one| one.reference)
                    .collect();
                prop_assert!(newer.len() >= keep);
            }
        }
    }
}
