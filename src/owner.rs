//! Whose an object is: the labels that every object of a stack carries, and that prune and `down` go by.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::stack::Stack;

/// Label: the stack's name.
pub const STACK: &str = "llmdev.dev/stack";
/// Label: the service's name; absent on what belongs to the stack as a whole.
pub const SERVICE: &str = "llmdev.dev/service";
/// Label: [`Owner::root`], so that two checkouts of one stack do not take each other's objects away.
///
/// A label and not an annotation, so that the API server selects by it.
pub const ROOT: &str = "llmdev.dev/root";
/// The field manager of server-side apply.
pub const MANAGER: &str = "llmdev";

/// The owner of a stack's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The stack's name.
    pub stack: String,
    /// Digest of the canonical path of the stack's folder, 16 hex digits.
    pub root: String,
}

impl Owner {
    /// The owner that a stack is.
    pub fn of(stack: &Stack) -> Self {
        Owner {
            stack: stack.name.clone(),
            root: root_digest(&stack.root),
        }
    }

    /// The label selector of all that this owner has.
    pub fn selector(&self) -> String {
        format!("{STACK}={},{ROOT}={}", self.stack, self.root)
    }

    /// The labels of an object of a service, or of the stack as a whole.
    pub fn labels(&self, service: Option<&str>) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            (STACK.to_owned(), self.stack.clone()),
            (ROOT.to_owned(), self.root.clone()),
        ]);
        if let Some(service) = service {
            labels.insert(SERVICE.to_owned(), service.to_owned());
        }
        labels
    }
}

/// The digest that names a stack's folder, in labels and in the state folder.
pub fn root_digest(root: &Path) -> String {
    let digest = Sha256::digest(root.as_os_str().as_encoded_bytes());
    digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
