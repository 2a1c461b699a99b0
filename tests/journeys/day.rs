//! A day's work: up, look, edit, look again, down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use llmdev::event::{Phase, Status};
use regex::Regex;

use crate::journey::{Stack, get, kubectl, sleeper, web};

#[test]
fn up_edit_look_and_down() {
    let mut stack = Stack::new();
    stack.has(web("web").that_says("one"));
    let up = stack.up().went_well();
    let address = format!("localhost:{}", stack.port("web"));
    let up = up.saying(&["web: building", "web: ready", "is up on", &address]);
    let order = ["building", "loading", "applying", "starting", "ready"];
    let places: Vec<_> = order
        .iter()
        .filter_map(|phase| up.said.find(&format!("web: {phase}")))
        .collect();
    assert!(places.is_sorted(), "{up}");
    assert_eq!(stack.get("web"), "one");

    the_status_is_stable(&stack);

    let clients = Clients::of(stack.port("web"));
    let mut events = stack.events();
    let first = stack.row("web").image;
    stack.write("web/index.html", "two");
    events.until("the new version is ready", |status| {
        status.services[0].image != first && is(status, Phase::Ready)
    });
    assert_eq!(stack.get("web"), "two");
    clients.were_all_answered(&["one", "two"]);

    the_logs_are_of_the_services(&mut stack);

    let down = stack.down().went_well().saying(&["is down"]);
    assert_eq!(stack.objects(), Vec::<String>::new(), "{down}");
    assert_eq!(stack.sockets(), Vec::<std::path::PathBuf>::new());
    stack.until_no_daemon_runs();
    assert!(get(clients.port).is_err(), "the port is closed");
    stack.down().went_well().saying(&["is down"]);
    // The namespace was there before the stack was.
    assert!(kubectl(&["get", "namespace", &stack.space]).contains("Active"));
}

fn is(status: &Status, phase: Phase) -> bool {
    status.services.iter().all(|row| row.phase == phase)
}

fn the_status_is_stable(stack: &Stack) {
    let printed = stack.run(&["status", "-o", "json"]).ends().went_well().out;
    let hidden = [
        (stack.name.as_str(), "STACK"),
        (r"llmdev\.local/STACK/web:[0-9a-f]{16}", "IMAGE"),
        (r"web-[a-z0-9]+-[a-z0-9]+", "POD"),
        (r#""local": \d+"#, r#""local": PORT"#),
        (r#""ms": \d+"#, r#""ms": MS"#),
        (r#""since": "[^"]+""#, r#""since": "TIME""#),
        (r#""cluster": "[^"]+""#, r#""cluster": "CONTEXT""#),
        (r#""node": "[^"]+""#, r#""node": "NODE""#),
    ];
    let shown = hidden.iter().fold(printed, |text, (from, to)| {
        Regex::new(from)
            .unwrap()
            .replace_all(&text, *to)
            .into_owned()
    });
    insta::assert_snapshot!(shown, @r#"
    {
      "stack": "STACK",
      "cluster": "CONTEXT",
      "services": [
        {
          "name": "web",
          "phase": "ready",
          "ready": true,
          "reason": null,
          "image": "IMAGE",
          "pods": [
            {
              "name": "POD",
              "status": "Running",
              "ready": true,
              "restarts": 0,
              "node": "NODE"
            }
          ],
          "forwards": [
            {
              "address": "localhost",
              "local": PORT,
              "remote": 8080
            }
          ],
          "since": "TIME",
          "timings": [
            {
              "stage": "build",
              "ms": MS
            },
            {
              "stage": "load",
              "ms": MS
            },
            {
              "stage": "apply",
              "ms": MS
            },
            {
              "stage": "start",
              "ms": MS
            }
          ]
        }
      ],
      "watching": true
    }
    "#);
}

fn the_logs_are_of_the_services(stack: &mut Stack) {
    let mut events = stack.events();
    stack.has(sleeper("talker").that_runs("echo hello there; echo and again; exec sleep 100000"));
    events.until("both are ready", |status| {
        status.services.len() == 2 && is(status, Phase::Ready)
    });
    let logs = |words: &[&str]| {
        stack
            .run(&[&["logs"], words].concat())
            .ends()
            .went_well()
            .out
    };
    let all = logs(&["talker"]);
    assert!(
        all.contains("hello there") && all.contains("and again"),
        "{all}"
    );
    let some = logs(&["talker", "--grep", "again"]);
    assert!(
        some.contains("and again") && !some.contains("hello"),
        "{some}"
    );
    let last = logs(&["talker", "--tail", "1"]);
    assert!(
        last.contains("and again") && !last.contains("hello"),
        "{last}"
    );
    let build = logs(&["--build", "web"]);
    assert!(build.contains("COPY"), "{build}");
}

/// What a client was answered, one entry a request.
type Answers = Vec<Result<String, String>>;

/// People who look at the page all the time.
struct Clients {
    port: u16,
    done: Arc<AtomicBool>,
    threads: std::cell::RefCell<Vec<thread::JoinHandle<Answers>>>,
}

impl Clients {
    fn of(port: u16) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let ask = |_| {
            let done = Arc::clone(&done);
            thread::spawn(move || {
                let mut answers = Vec::new();
                loop {
                    // Each looks once more after all was seen by others.
                    let last = done.load(Ordering::Relaxed);
                    answers.push(get(port));
                    if last {
                        return answers;
                    }
                }
            })
        };
        let threads = (0..2).map(ask).collect();
        Clients {
            port,
            done,
            threads: std::cell::RefCell::new(threads),
        }
    }

    fn were_all_answered(&self, pages: &[&str]) {
        self.done.store(true, Ordering::Relaxed);
        for client in self.threads.take() {
            let mut seen: Vec<String> = Vec::new();
            for answer in client.join().unwrap() {
                let page = answer.expect("no request is refused or cut off");
                if seen.last() != Some(&page) {
                    seen.push(page);
                }
            }
            assert_eq!(
                seen, pages,
                "each answer is one of the two, and never the older one again"
            );
        }
    }
}
