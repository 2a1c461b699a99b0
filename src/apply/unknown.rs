//! Objects of kinds that the cluster does not know: left out with one warning, or refused.

use std::collections::BTreeSet;
use std::fmt;

use super::kinds::Found;
use super::{Applier, Target, groundwork};
use crate::error::{Failure, Result};
use crate::render::Object;

/// An object whose kind the cluster does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Which.
    pub target: Target,
    /// What the cluster knows instead: a kind that is spelt nearly so, or another version of this one.
    pub near: Option<String>,
    /// Where it comes from.
    pub origin: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.target.kind, self.target.name)?;
        match &self.near {
            Some(near) => write!(f, " ({}; is {near} meant?)", self.target.api_version),
            None => write!(f, " ({})", self.target.api_version),
        }
    }
}

/// One sentence that names all that is left out.
pub fn note(skipped: &[Skipped]) -> Option<String> {
    let named: BTreeSet<String> = skipped.iter().map(Skipped::to_string).collect();
    let list: Vec<String> = named.into_iter().collect();
    (!list.is_empty()).then(|| {
        format!(
            "left out, since the cluster does not know their kinds: {}",
            list.join(", ")
        )
    })
}

/// The same as an error, with the places.
pub fn refusal<'a>(skipped: impl Iterator<Item = &'a Skipped>) -> Failure {
    let lines: Vec<String> = skipped.map(|it| format!("{it}  {}", it.origin)).collect();
    let what = match lines.len() {
        1 => "the cluster does not know the kind of an object".to_owned(),
        many => format!("the cluster does not know the kinds of {many} objects"),
    };
    Failure::config(what).detail(lines).remedy(
        "install what defines them, bring their definitions with the manifests, or take them out",
    )
}

impl Applier {
    /// The objects of kinds that the cluster does not know, and that no definition among `objects` brings.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn unknown(&self, objects: &[&Object]) -> Result<Vec<Skipped>> {
        let brought: BTreeSet<(String, String)> = objects
            .iter()
            .filter(|object| groundwork::is_definition(object))
            .flat_map(|object| groundwork::defines(object))
            .collect();
        let all = objects.iter().zip(self.kinds.find_all(objects).await?);
        let unknown = all.filter_map(|(object, found)| match found {
            Found::Known(_) => None,
            Found::Unknown { near } => Some(self.skipped(object, near)),
        });
        Ok(unknown
            .filter(|it| {
                !brought.contains(&(it.target.api_version.clone(), it.target.kind.clone()))
            })
            .collect())
    }

    pub(super) fn skipped(&self, object: &Object, near: Option<String>) -> Skipped {
        Skipped {
            target: self.unresolved(object),
            near,
            origin: object.origin.clone(),
        }
    }
}
