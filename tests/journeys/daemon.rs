//! The daemon is killed, left alone, and asked for by two at once; the pods notice nothing of it.

use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::json;

use crate::journey::{Stack, get, sleeper, web};

#[test]
fn a_killed_daemon_is_taken_over_from() {
    let mut stack = Stack::new();
    stack.has(web("web").that_says("still here"));
    stack.up().went_well();
    let (pods, port) = (stack.pods(), stack.port("web"));
    stack.kill_daemon();
    assert!(get(port).is_err(), "nobody forwards");

    // What the daemon left behind does not keep people from looking.
    let row = stack.row("web");
    assert!(row.ready, "the pod serves: {row:?}");

    let other = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let up = stack.up().went_well();
    let taken = format!(
        "web: port {port} cannot be had, port {} is used",
        stack.port("web")
    );
    assert_eq!(up.said.matches(&taken).count(), 1, "{up}");
    assert_eq!(stack.get("web"), "still here");

    stack.kill_daemon();
    drop(other);
    stack.up().went_well();
    assert_eq!(stack.pods(), pods, "no pod was replaced or restarted");
    assert_eq!(stack.port("web"), port);
    assert_eq!(stack.get("web"), "still here");

    // Killed again, and what it left is taken away without it.
    stack.kill_daemon();
    stack.down().went_well();
    assert_eq!(stack.objects(), Vec::<String>::new());
}

#[test]
fn two_ups_at_once_share_a_daemon() {
    let mut stack = Stack::new();
    stack.has(web("web"));
    let both = [stack.run(&["up"]), stack.run(&["up"])];
    for up in both {
        up.ends().went_well().saying(&["is up on"]);
    }
    assert_eq!(stack.daemons().len(), 1);
    assert_eq!(stack.pods().len(), 1);
    assert_eq!(stack.get("web"), "web");
}

#[test]
fn the_daemon_outlives_the_terminal() {
    let mut stack = Stack::new();
    stack.has(web("web"));
    let mut up = stack.run(&["up"]);
    up.until_it_says("web: building");
    up.signal(Signal::HUP);
    up.ends();
    assert_eq!(stack.daemons().len(), 1);
    stack.until_ready("web");
    assert_eq!(stack.get("web"), "web");
}

#[test]
fn down_ends_an_up_that_is_under_way() {
    let mut stack = Stack::new();
    stack.has(sleeper("never").with(
        "readinessProbe",
        json!({"exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1}),
    ));
    let mut up = stack.run(&["up"]);
    up.until_it_says("never: starting");
    stack.down().went_well();
    up.ends().failed_with(130).saying(&["down"]);
    assert_eq!(stack.objects(), Vec::<String>::new());
    stack.until_no_daemon_runs();
}
