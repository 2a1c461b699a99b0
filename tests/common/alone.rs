//! Tests of different programs that would disturb each other take turns.

use std::fs::File;

/// Waits until no other test has this, and keeps it from them until the guard goes.
pub fn alone(what: &str) -> File {
    let lock = File::create(std::env::temp_dir().join(format!("llmdev-test-{what}.lock"))).unwrap();
    lock.lock().unwrap();
    lock
}
