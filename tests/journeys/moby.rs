//! A present-day Docker, with a cluster of its own, which may be restarted without harm to others.

#[path = "../common/moby.rs"]
mod engine;

use std::process::Command;

use llmdev::event::Phase;

use crate::journey::{PATIENCE, Stack, docker, web};
use engine::Moby;

/// Runs the one below within the other engine's network.
#[test]
fn a_stack_lives_on_a_present_day_docker_and_outlives_restarts() {
    let Some(moby) = Moby::alone() else {
        println!("skipped: LLMDEV_TEST_MOBY names no second engine");
        return;
    };
    let run = Command::new(&moby.command)
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "moby::containerd_and_docker_are_restarted",
            "--ignored",
            "--nocapture",
        ])
        .env("LLMDEV_TEST_CONTEXT", "kind-moby")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

/// An edit comes to run, whatever happened before.
fn takes_an_edit(stack: &Stack, page: &str) {
    let first = stack.row("web").image;
    stack.write("web/index.html", page);
    stack.until_service("web", "is built anew", |row| {
        row.image != first && row.phase == Phase::Ready
    });
    assert_eq!(stack.get("web"), page);
}

#[test]
#[ignore = "run by the test above, within the other engine's network"]
fn containerd_and_docker_are_restarted() {
    let mut stack = Stack::new();
    stack.has(web("web").that_says("one"));
    stack.up().went_well();
    assert_eq!(stack.get("web"), "one");
    let daemon = stack.daemon();

    let restart = [
        "exec",
        "moby-control-plane",
        "systemctl",
        "restart",
        "containerd",
    ];
    docker(&restart);
    takes_an_edit(&stack, "after containerd");

    // The cluster's node goes down with the engine, and comes back with it.
    let pid = std::fs::read_to_string("/run/llmdev-moby/docker.pid").unwrap();
    let kill = Command::new("kill").arg(pid.trim()).status().unwrap();
    assert!(kill.success());
    let gone = std::path::Path::new("/proc").join(pid.trim());
    let deadline = std::time::Instant::now() + PATIENCE;
    while gone.exists() {
        assert!(
            std::time::Instant::now() < deadline,
            "the engine does not end"
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let started = Command::new(std::env::var("LLMDEV_TEST_MOBY").unwrap())
        .arg("true")
        .status()
        .unwrap();
    assert!(started.success());
    stack.until_it_says("web", "after containerd");
    takes_an_edit(&stack, "after Docker");
    assert_eq!(stack.daemon(), daemon, "the daemon lived through it all");
    stack.down().went_well();
    assert_eq!(stack.objects(), Vec::<String>::new());
}
