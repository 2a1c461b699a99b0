//! What the last lines of a run say to somebody who has seen them before.

/// What a line contains (in lower case), and the remedy. The first that fits counts, read from the last line up.
const CLUES: &[(&str, &str)] = &[
    (
        "password authentication failed",
        "the password differs from the one that the database was set up with: correct the Secret, or `llmdev down --volumes` sets it up anew",
    ),
    (
        "noauth authentication required",
        "the client sends no password and the server wants one: give it the Secret's",
    ),
    (
        "wrongpass",
        "the password differs from the server's: correct the Secret",
    ),
    (
        "could not translate host name",
        "a host name does not resolve: names follow the overlay's prefix, such as `dev-`",
    ),
    (
        "name or service not known",
        "a host name does not resolve: names follow the overlay's prefix, such as `dev-`",
    ),
    (
        "temporary failure in name resolution",
        "a host name does not resolve: see that the Service exists and that coredns runs in kube-system",
    ),
    (
        "getaddrinfo enotfound",
        "a host name does not resolve: names follow the overlay's prefix, such as `dev-`",
    ),
    (
        "getaddrinfo eai_again",
        "a host name does not resolve: see that the Service exists and that coredns runs in kube-system",
    ),
    (
        "bad address",
        "a host name does not resolve: names follow the overlay's prefix, such as `dev-`",
    ),
    (
        "no such host",
        "a host name does not resolve: names follow the overlay's prefix, such as `dev-`",
    ),
    (
        "econnrefused",
        "what it connects to does not listen yet: name it in `dependsOn`, or wait for it in an init container",
    ),
    (
        "connection refused",
        "what it connects to does not listen yet: name it in `dependsOn`, or wait for it in an init container",
    ),
    (
        "address already in use",
        "two programs of the pod want one port: give one of them another",
    ),
    (
        "no module named",
        "a Python package is not in the image: add it to what the Dockerfile installs",
    ),
    (
        "cannot find module",
        "a Node package is not in the image: add it to package.json, or see that .dockerignore does not leave it out",
    ),
    (
        "exec format error",
        "the program is for another processor: build the image for the node's architecture",
    ),
    (
        "no space left on device",
        "the disk is full: `llmdev prune` removes old images",
    ),
    (
        "read-only file system",
        "the path is read-only: mount an emptyDir there",
    ),
    (
        "permission denied",
        "the container's user may not: see securityContext.runAsUser, and the modes of files in the image",
    ),
];

/// The remedy that a run's last lines suggest.
pub(super) fn remedy(lines: &[String]) -> Option<&'static str> {
    lines.iter().rev().find_map(|line| {
        let line = line.to_lowercase();
        CLUES
            .iter()
            .find(|(said, _)| line.contains(said))
            .map(|(_, remedy)| *remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_says_something_counts() {
        let lines = [
            "ConnectionError: Connection refused",
            "  File \"a.py\"",
            "done",
        ]
        .map(str::to_owned);
        assert!(remedy(&lines).is_some_and(|said| said.contains("dependsOn")));
        let lines = [
            "connection refused",
            "FATAL: password authentication failed for user \"r2r\"",
        ];
        assert!(remedy(&lines.map(str::to_owned)).is_some_and(|said| said.contains("Secret")));
        assert_eq!(remedy(&["all is well".to_owned()]), None);
    }

    #[test]
    fn clues_are_written_in_lower_case() {
        for (said, _) in CLUES {
            assert_eq!(*said, said.to_lowercase());
        }
    }
}
