//! The LLM Router's chart, as its README says: checked, up, every program used, edits, `helm test`, down.

#[path = "common/example.rs"]
mod example;
#[path = "common/journey/mod.rs"]
mod journey;

use example::Example;

const PORTS: [(&str, u16); 4] = [
    ("SERVER_PORT", 18000),
    ("METRICS_PORT", 18002),
    ("CONTROLLER_PORT", 18084),
    ("APP_PORT", 18008),
];

#[test]
fn the_router_chart_comes_up_and_routes() {
    let example = Example::of("llm-router-chart");
    example.comes_up();
    example.listens_on(&[18000, 18002, 18084, 18008]);
    example.script("verify", &PORTS);

    // Synced: the page changes in the pod that is there.
    let pods = example.stack.pods();
    example.edit(
        "services/app/public/index.html",
        "<h1>LLM Router</h1>",
        "<h1>Edited</h1>",
    );
    example.until_it_says(18008, "<h1>Edited</h1>");
    assert_eq!(example.stack.pods(), pods);

    example.script("helm-test", &[]);
    example.goes();
}

#[test]
fn its_values_bring_what_they_say_and_bad_ones_are_refused() {
    let example = Example::of("llm-router-chart");
    example.script("chart/check", &[]);
}
