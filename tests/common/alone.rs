//! Tests of different programs that would disturb each other take turns.

#![allow(dead_code, reason = "each test file uses a part")]

use std::fs::File;

/// Waits until no other test has this, and keeps it from them until the guard goes.
pub fn alone(what: &str) -> File {
    let lock = file(what);
    lock.lock().unwrap();
    lock
}

/// Waits until no other test has this alone, and keeps it from being had alone until the guard goes.
pub fn together(what: &str) -> File {
    let lock = file(what);
    lock.lock_shared().unwrap();
    lock
}

fn file(what: &str) -> File {
    File::create(std::env::temp_dir().join(format!("llmdev-test-{what}.lock"))).unwrap()
}

/// Those of the network that nodes are in: a node that is stopped and started has another one if somebody came or went.
pub const ADDRESSES: &str = "addresses";
