//! The LLM stack of this repository, as its README says: up, every service used for what it is there for, down.
//!
//! A copy of it with a name, a namespace and ports of its own. Docker's layer cache has what the stack itself was built
//! from.

#[path = "common/browser.rs"]
mod browser;
#[path = "common/example.rs"]
mod example;
#[path = "common/journey/mod.rs"]
mod journey;

use std::time::Instant;

use browser::Page;
use example::Example;
use serde_json::json;

/// The ports of `stack.yaml`, and what `verify` calls them.
const PORTS: [(&str, u16); 8] = [
    ("POSTGRES_PORT", 5432),
    ("REDIS_PORT", 6379),
    ("QDRANT_PORT", 6333),
    ("QDRANT_GRPC_PORT", 6334),
    ("LITELLM_PORT", 4000),
    ("R2R_PORT", 7272),
    ("OPENWEBUI_PORT", 8080),
    ("CLIENT_PORT", 3000),
];

#[test]
fn the_llm_stack_comes_up_and_does_what_it_is_for() {
    let example = Example::llm_stack();
    example.comes_up();
    example.listens_on(&PORTS.map(|(_, port)| port));
    example.script("examples/llm-stack/verify", &PORTS);
    example.is_up_already();
    let pods = example.stack.pods();
    edits_are_live(&example);
    assert_eq!(example.stack.pods(), pods);
    example.goes();
}

/// The client's source and LiteLLM's configuration, each by sync. The browser shows both, and loads its page once.
fn edits_are_live(example: &Example) {
    let services = "examples/llm-stack/services";
    let mut page = Page::open(&format!("http://localhost:{}", example.port(3000)));
    let title = "document.querySelector('h1')?.textContent";
    page.until(title, &json!("LLM Stack"));
    page.until("window.listens", &json!(true)); // an edit before that is not told to it
    page.eval("window.loadedOnce = true");
    let began = Instant::now();
    example.edit(
        &format!("{services}/react-client/src/App.tsx"),
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

    example.edit(
        &format!("{services}/litellm/config.yaml"),
        "model_name: chat",
        "model_name: edited-chat",
    );
    let models = "fetch('/api/models').then(answer => answer.text()).then(text => window.models = text); \
                  (window.models ?? '').includes('edited-chat')";
    page.until(models, &json!(true));
    println!("and LiteLLM's new model: {:?}", began.elapsed());
}
