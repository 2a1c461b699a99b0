//! Ctrl-C at each phase of `up`: what is left is said, is so, and the next `up` goes on from there.

use rustix::process::Signal;
use serde_json::json;

use crate::journey::{Stack, sleeper, web};

#[test]
fn ctrl_c_while_it_builds() {
    let mut stack = Stack::new();
    let slow = web("web").with_file("Dockerfile", "FROM busybox:1\nRUN echo begun; sleep 60\n");
    stack.has(slow);
    interrupted_at(&stack, "web: building");
    stack.has(web("web"));
    goes_on(&stack);
}

#[test]
fn ctrl_c_while_it_loads_applies_and_starts() {
    let mut stack = Stack::new();
    stack.has(web("web"));
    for phase in ["loading", "applying", "starting"] {
        interrupted_at(&stack, &format!("web: {phase}"));
    }
    goes_on(&stack);
}

#[test]
fn ctrl_c_leaves_what_was_up_before() {
    let mut stack = Stack::new();
    stack.has(web("web"));
    stack.up().went_well();
    let never = json!({"exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1});
    stack.has(sleeper("late").with("readinessProbe", never));
    let mut up = stack.run(&["up"]);
    up.until_it_says("late: starting");
    up.signal(Signal::INT);
    up.ends()
        .failed_with(130)
        .saying(&["stopped; the daemon goes on with what was up before"]);
    assert_eq!(stack.daemons().len(), 1);
    assert_eq!(stack.get("web"), "web");
    stack.has(sleeper("late"));
    stack.up().went_well();
}

/// The daemon that this `up` started ends with it.
fn interrupted_at(stack: &Stack, line: &str) {
    let mut up = stack.run(&["up"]);
    // A phase that was over before it could be seen has nothing to interrupt; a later one has.
    up.until_it_says_one_of(&[line, "web: ready"]);
    up.signal(Signal::INT);
    let ended = up.ends();
    if ended.code == Some(0) {
        stack.run(&["daemon", "stop"]).ends().went_well();
        return;
    }
    ended.failed_with(130).saying(&[
        "stopped; nothing runs in the background",
        "`llmdev up` goes on from here",
    ]);
    stack.until_no_daemon_runs();
}

fn goes_on(stack: &Stack) {
    stack.up().went_well().saying(&["is up on"]);
    assert_eq!(stack.get("web"), "web");
}
