//! A new version that does not work: the old one serves on, and an edit mends it.

use llmdev::event::Phase;

use crate::journey::{Stack, web};

const DOCKERFILE: &str =
    "FROM busybox:1\nCOPY . /www/\nCMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n";

#[test]
fn the_old_version_serves_while_the_new_one_fails() {
    let mut stack = Stack::new();
    stack.has(web("web").that_says("one"));
    stack.up().went_well();

    stack.write("web/Dockerfile", format!("{DOCKERFILE}RUN exit 4\n"));
    let row = stack.until_service("web", "fails to build", |row| row.phase == Phase::Failed);
    assert!(row.ready, "the old version serves: {row:?}");
    assert_eq!(stack.get("web"), "one");
    stack
        .run(&["status"])
        .ends()
        .saying(&["failed", "the older version serves"]);

    stack.write("web/Dockerfile", "FROM busybox:1\nCMD [\"false\"]\n");
    let row = stack.until_service("web", "crashes", |row| {
        row.phase == Phase::Failed
            && row
                .reason
                .as_ref()
                .is_some_and(|why| why.contains("container web"))
    });
    assert!(row.ready, "the old version serves: {row:?}");
    assert_eq!(row.pods.len(), 2);
    assert_eq!(stack.get("web"), "one");

    stack.write("web/Dockerfile", DOCKERFILE);
    stack.write("web/index.html", "three");
    stack.until_ready("web");
    assert_eq!(stack.get("web"), "three");
}

#[test]
fn a_stateful_set_is_mended_though_its_old_pod_never_gets_ready() {
    let mut stack = Stack::new();
    stack.has(web("web").that_says("one").stateful());
    stack.up().went_well();
    stack.write("web/Dockerfile", "FROM busybox:1\nCMD [\"false\"]\n");
    stack.until_service("web", "crashes", |row| row.phase == Phase::Failed);
    let mut events = stack.events();
    stack.write("web/Dockerfile", DOCKERFILE);
    stack.write("web/index.html", "two");
    // Kubernetes by itself would wait for the broken pod for ever.
    let note = events.until_note("pod web-0");
    assert!(note.contains("older version never gets ready"), "{note}");
    events.until("it is mended", |status| {
        status.services[0].phase == Phase::Ready
    });
    assert_eq!(stack.get("web"), "two");
}
