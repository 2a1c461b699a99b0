//! Docker or the API server is away for a while; contexts are large.

use std::fmt::Write as _;
use std::time::Instant;

use llmdev::event::{Phase, PodStatus};

use crate::journey::{Proxy, Stack, context, kubectl, web};

#[test]
fn docker_is_away_for_a_while() {
    let mut stack = Stack::new();
    let docker =
        std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let proxy = Proxy::to(&docker);
    stack.with_env("DOCKER_HOST", format!("tcp://127.0.0.1:{}", proxy.port));
    stack.has(web("web").that_says("one"));
    stack.up().went_well();

    proxy.cut();
    stack.write("web/index.html", "two");
    let row = stack.until_service("web", "waits for Docker", |row| {
        row.reason
            .as_ref()
            .is_some_and(|why| why.contains("Docker") && why.contains("trying again"))
    });
    assert!(row.ready, "the old version serves: {row:?}");
    assert_eq!(stack.get("web"), "one");
    stack
        .run(&["why", "web"])
        .ends()
        .went_well()
        .saying(&["web is pending: cannot ask Docker", "trying again"]);
    let first = row.pods;
    proxy.restore();
    stack.until_service("web", "is built anew", |row| {
        row.phase == Phase::Ready && row.pods != first
    });
    assert_eq!(stack.get("web"), "two");
}

#[test]
fn the_api_server_is_away_for_a_while() {
    let (mut stack, proxy) = behind_a_proxy();
    stack.has(web("web").that_says("one"));
    stack.up().went_well().saying(&[&context()]);

    let mut events = stack.events();
    let first = stack.row("web").pods;
    proxy.cut();
    events.until_note("the cluster does not answer");
    events.until("it is said of the stack", |status| {
        status.unreachable.is_some()
    });
    stack
        .run(&["status"])
        .ends()
        .went_well()
        .saying(&["the cluster does not answer"]);
    stack.write("web/index.html", "two");
    events.until("it tries again", |status| {
        status.services[0]
            .reason
            .as_ref()
            .is_some_and(|why| why.contains("trying again"))
    });
    proxy.restore();
    events.until_note("the cluster answers again");
    events.until("the new version is ready", |status| {
        status.services[0].phase == Phase::Ready && status.services[0].pods != first
    });
    events.until("nothing is said of it", |status| {
        status.unreachable.is_none()
    });
    assert_eq!(stack.get("web"), "two");
}

/// A node that is paused, or connections that were forgotten on the way; minikube on a Mac has a new port after a restart.
#[test]
fn the_api_server_falls_silent_and_comes_back_at_another_address() {
    let (mut stack, proxy) = behind_a_proxy();
    stack.has(web("web").that_says("one"));
    stack.up().went_well();

    let mut events = stack.events();
    let first = stack.row("web").pods;
    proxy.silence();
    let began = Instant::now();
    events.until_note("the cluster does not answer (no answer within 10 s); trying again");
    let told = began.elapsed();
    events.until("it is said of the stack", |status| {
        status.unreachable.is_some()
    });
    println!(
        "a silent API server: told after {:.1} s",
        told.as_secs_f64()
    );
    // Asked every 10 s, which answers within 10 s; the rest is for a busy machine.
    assert!(told.as_secs() < 40, "{told:?}");
    stack.kubectl(&["delete", "pod", "--all", "--grace-period=1", "--wait=false"]);
    let _elsewhere = go_by_a_proxy(&stack);
    events.until_note("the cluster answers again");
    events.until("what happened meanwhile is seen", |status| {
        let web = &status.services[0];
        let is_new = |pod: &PodStatus| pod.ready && pod.name != first[0].name;
        web.phase == Phase::Ready && web.pods.iter().all(is_new)
    });
}

/// A stack that reaches the API server by a way that can be cut.
fn behind_a_proxy() -> (Stack, Proxy) {
    let mut stack = Stack::new();
    stack.with_env("KUBECONFIG", stack.path("kubeconfig").display().to_string());
    let proxy = go_by_a_proxy(&stack);
    (stack, proxy)
}

/// Writes into the stack's kubeconfig that the API server is at a new proxy.
fn go_by_a_proxy(stack: &Stack) -> Proxy {
    let config = kubectl(&["config", "view", "--raw", "--minify", "--flatten"]);
    let server = config
        .lines()
        .find_map(|line| line.trim().strip_prefix("server: "))
        .unwrap();
    let proxy = Proxy::to(server);
    let new = format!("https://127.0.0.1:{}", proxy.port);
    stack.write("kubeconfig", config.replace(server, &new));
    proxy
}

#[test]
fn a_context_of_twenty_thousand_files() {
    let mut stack = Stack::new();
    let dockerfile = "FROM busybox:1\nCOPY files /www/files\nRUN find /www/files -type f | wc -l >/count\nCOPY word /\n\
        RUN cat /count /word >/www/index.html\nCMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n";
    stack.has(
        web("web")
            .with_file("Dockerfile", dockerfile)
            .with_file("word", "once"),
    );
    for folder in 0..200 {
        for file in 0..100 {
            let mut content = String::new();
            write!(content, "{folder} {file}").unwrap();
            stack.write(&format!("web/files/{folder}/{file}"), content);
        }
    }
    let began = Instant::now();
    stack.up().went_well();
    println!("20 000 files: up in {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(stack.get("web"), "20000\nonce");
    let began = Instant::now();
    stack.up().went_well();
    println!(
        "20 000 files: up again in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    stack.write("web/word", "again");
    stack.until_it_says("web", "20000\nagain");
}

#[test]
fn the_disk_is_full_while_it_builds() {
    let mut stack = Stack::new();
    stack.has(web("web").with_file("Dockerfile", "FROM busybox:1\nRUN echo much >/dev/full\n"));
    stack
        .up()
        .failed_with(1)
        .saying(&["No space left on device", "try:"]);
}
