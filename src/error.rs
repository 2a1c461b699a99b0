//! What went wrong: a kind (which decides the exit code), a cause, and a remedy.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The result of anything that a user can see fail.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// What sort of failure it is. The exit code follows from it; the README has the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Something of the stack's did not work: a build, an apply, a service that cannot become ready.
    Failed,
    /// The command line asks for something that does not exist or does not go together.
    Usage,
    /// `stack.yaml`, or a file that it names, has mistakes.
    Config,
    /// Docker, the cluster or a program that is needed is not there or does not answer.
    Environment,
    /// llmdev will not do it: the context is not local, or the objects belong to another stack.
    Refused,
    /// The user stopped it.
    Interrupted,
}

impl Kind {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Config => 3,
            Kind::Environment => 4,
            Kind::Refused => 5,
            Kind::Interrupted => 130,
        }
    }
}

/// A failure as a tired person can read it: what, why, and what to do.
///
/// It crosses the daemon's socket, so it is plain data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// One sentence without a full stop: what did not work.
    pub what: String,
    /// Why, from the nearest cause to the farthest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Lines of output or source to show with it, already scrubbed of secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detail: Vec<String>,
    /// What the user can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Failure {
    /// A failure of the given kind.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Failure {
            kind,
            what: what.into(),
            causes: Vec::new(),
            detail: Vec::new(),
            remedy: None,
        }
    }

    /// [`Kind::Failed`].
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Kind::Failed, what)
    }

    /// [`Kind::Usage`].
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }

    /// [`Kind::Config`].
    pub fn config(what: impl Into<String>) -> Self {
        Self::new(Kind::Config, what)
    }

    /// [`Kind::Environment`].
    pub fn environment(what: impl Into<String>) -> Self {
        Self::new(Kind::Environment, what)
    }

    /// [`Kind::Refused`].
    pub fn refused(what: impl Into<String>) -> Self {
        Self::new(Kind::Refused, what)
    }

    /// Adds an error, and what caused that, as causes.
    pub fn because(mut self, error: impl std::error::Error + 'static) -> Self {
        let mut next: Option<&dyn std::error::Error> = Some(&error);
        while let Some(cause) = next {
            let text = cause.to_string();
            // Many libraries repeat the inner error in the outer one's text.
            if !self.causes.iter().any(|said| said.contains(&text)) {
                self.causes.push(text);
            }
            next = cause.source();
        }
        self
    }

    /// Adds a cause in words.
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds lines to show.
    pub fn detail(mut self, lines: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.detail.extend(lines.into_iter().map(Into::into));
        self
    }

    /// Says what to do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// What and why in one line.
    pub fn line(&self) -> String {
        let mut line = self.what.clone();
        for cause in &self.causes {
            line.push_str(": ");
            line.push_str(cause.trim_end());
        }
        line.replace('\n', " ")
    }
}

/// The innermost reason is the one that a person understands, such as `Connection refused (os error 111)`.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_not_said_twice() {
        let inner = std::io::Error::other("no route");
        let outer = std::io::Error::other(format!("dial: {inner}"));
        let failure = Failure::failed("cannot reach the cluster").because(outer);
        assert_eq!(failure.line(), "cannot reach the cluster: dial: no route");
    }
}
