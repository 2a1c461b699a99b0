//! The LLM stack of this repository, as its README says: up, every service used for what it is there for, down.
//!
//! A copy of it with a name, a namespace and ports of its own. Docker's layer cache has what the stack itself was built
//! from.

#[path = "common/browser.rs"]
mod browser;
#[path = "common/journey/mod.rs"]
mod journey;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use browser::Page;
use journey::{Run, Stack, free_port};
use llmdev::event::{Phase, Status};
use regex::{Captures, Regex};
use serde_json::json;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The ports of `stack.yaml`, and what `verify` calls them.
const PORTS: [(u16, &str); 8] = [
    (5432, "POSTGRES_PORT"),
    (6379, "REDIS_PORT"),
    (6333, "QDRANT_PORT"),
    (6334, "QDRANT_GRPC_PORT"),
    (4000, "LITELLM_PORT"),
    (7272, "R2R_PORT"),
    (8080, "OPENWEBUI_PORT"),
    (3000, "CLIENT_PORT"),
];

#[test]
fn the_llm_stack_comes_up_and_does_what_it_is_for() {
    let stack = Stack::new();
    let ports: BTreeMap<u16, u16> = PORTS.iter().map(|(port, _)| (*port, free_port())).collect();
    copy(
        &Path::new(ROOT).join("examples/llm-stack"),
        &stack.path("examples/llm-stack"),
    );
    let yaml = std::fs::read_to_string(Path::new(ROOT).join("stack.yaml")).unwrap();
    stack.write("stack.yaml", of_its_own(&yaml, &stack, &ports));

    let up = stack.up().went_well();
    println!("{up}");
    let status = stack.status();
    assert!(status.services.iter().all(is_well), "{status:#?}");
    assert_eq!(listening(&status), ports.values().copied().collect());

    let mut verify = Command::new(stack.path("examples/llm-stack/verify"));
    verify.envs(
        PORTS
            .iter()
            .map(|(port, name)| (name, ports[port].to_string())),
    );
    let verified = Run::start(verify, "verify".into()).ends().went_well();
    println!("{verified}");

    // Nothing changed: nothing to do.
    let pods = stack.pods();
    let again = stack.up().went_well();
    println!("{again}");
    assert_eq!(stack.pods(), pods);

    edits_are_live(&stack, ports[&3000]);
    assert_eq!(stack.pods(), pods);

    stack.down().went_well();
    assert_eq!(stack.objects(), Vec::<String>::new());
}

/// The client's source and LiteLLM's configuration, each by sync. The browser shows both, and loads its page once.
fn edits_are_live(stack: &Stack, client: u16) {
    let mut page = Page::open(&format!("http://localhost:{client}"));
    let title = "document.querySelector('h1')?.textContent";
    page.until(title, &json!("LLM Stack"));
    page.eval("window.loadedOnce = true");
    let began = Instant::now();
    edit(
        stack,
        "react-client/src/App.tsx",
        "<h1>LLM Stack</h1>",
        "<h1>Edited</h1>",
    );
    page.until(title, &json!("Edited"));
    println!("save to the browser's page: {:?}", began.elapsed());
    assert_eq!(
        page.eval("window.loadedOnce"),
        json!(true),
        "it was not loaded anew"
    );

    edit(
        stack,
        "litellm/config.yaml",
        "model_name: chat",
        "model_name: edited-chat",
    );
    let models = "fetch('/api/models').then(answer => answer.text()).then(text => window.models = text); \
                  (window.models ?? '').includes('edited-chat')";
    page.until(models, &json!(true));
    println!("and LiteLLM's new model: {:?}", began.elapsed());
}

/// Saves a file of a service with one thing replaced.
fn edit(stack: &Stack, file: &str, from: &str, to: &str) {
    let file = format!("examples/llm-stack/services/{file}");
    let text = std::fs::read_to_string(stack.path(&file)).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from:?} is in {file} once");
    stack.write(&file, text.replace(from, to));
}

fn is_well(row: &llmdev::event::ServiceStatus) -> bool {
    row.phase == Phase::Ready && row.ready
}

fn listening(status: &Status) -> std::collections::BTreeSet<u16> {
    let forwards = status.services.iter().flat_map(|row| &row.forwards);
    forwards.map(|forward| forward.local).collect()
}

/// The stack's text with another name, place and ports.
fn of_its_own(yaml: &str, stack: &Stack, ports: &BTreeMap<u16, u16>) -> String {
    let replaced = |text: &str, from: &str, to: &str| {
        let from = Regex::new(from).unwrap();
        assert_eq!(
            from.find_iter(text).count(),
            1,
            "{from} is in stack.yaml once"
        );
        from.replace(text, to).into_owned()
    };
    let text = replaced(yaml, "(?m)^name: .*$", &format!("name: {}", stack.name));
    let text = replaced(
        &text,
        "(?m)^cluster: .*$",
        &format!("cluster: {}", journey::cluster()),
    );
    let text = replaced(
        &text,
        "(?m)^namespace: .*$",
        &format!("namespace: {}", stack.space),
    );
    let forwards = Regex::new(r"(?m)^    forward: \[([0-9, ]+)\]").unwrap();
    let text = forwards.replace_all(&text, |line: &Captures| {
        let each = line[1].split(',').map(|port| {
            let remote: u16 = port.trim().parse().unwrap();
            format!("{{local: {}, remote: {remote}}}", ports[&remote])
        });
        format!("    forward: [{}]", each.collect::<Vec<_>>().join(", "))
    });
    text.into_owned()
}

/// What git would copy: no `node_modules`.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() && entry.file_name() == "node_modules" => {}
            kind if kind.is_dir() => copy(&entry.path(), &target),
            _ => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}
