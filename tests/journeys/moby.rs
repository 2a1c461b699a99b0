//! A present-day Docker, with a cluster of its own.

use std::process::Command;

/// Runs the test below once more, within the other engine's network.
#[test]
fn a_stack_comes_up_on_a_present_day_docker() {
    let Ok(with_moby) = std::env::var("LLMDEV_TEST_MOBY") else {
        println!("skipped: LLMDEV_TEST_MOBY names no second engine");
        return;
    };
    let run = Command::new(with_moby)
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "moby::on_the_engine_of_the_environment",
            "--ignored",
            "--nocapture",
        ])
        .env("LLMDEV_TEST_CONTEXT", "kind-moby")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by the test above, within the other engine's network"]
fn on_the_engine_of_the_environment() {
    let mut stack = crate::journey::Stack::new();
    stack.has(crate::journey::web("web").that_says("one"));
    stack.up().went_well();
    assert_eq!(stack.get("web"), "one");
    let first = stack.row("web").image;
    stack.write("web/index.html", "two");
    stack.until_service("web", "is built anew", |row| {
        row.image != first && row.phase == llmdev::event::Phase::Ready
    });
    assert_eq!(stack.get("web"), "two");
    stack.down().went_well();
    assert_eq!(stack.objects(), Vec::<String>::new());
}
