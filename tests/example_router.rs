//! The LLM runner router, as its README says.

#[path = "common/example.rs"]
mod example;
#[path = "common/journey/mod.rs"]
mod journey;

use std::process::Command;

use example::{Example, curl, until};
use journey::Run;

const NAME: &str = "llm-runner-router";
const PORT: u16 = 3006;

#[test]
fn the_router_comes_up_does_what_it_is_for_and_takes_edits() {
    let router = Example::of(NAME);
    router.comes_up();
    router.script("verify", &[("ROUTER_PORT", PORT)]);
    router.is_up_already();

    // Into the running container.
    let pods = router.stack.pods();
    let corpus = "services/router/models/corpus.txt";
    router.edit(
        corpus,
        "The cheapest model",
        "A zebra has stripes.\nThe cheapest model",
    );
    until("zebra", || {
        let said = ask(&router, "And the zebra?");
        said.contains("A zebra has stripes")
            .then_some(())
            .ok_or(said)
    });
    assert_eq!(router.stack.pods(), pods, "no pod was replaced");

    // By a build.
    router.edit(
        "services/router/Dockerfile",
        "ENV NODE_ENV",
        "ENV EDITED=yes NODE_ENV",
    );
    until("new image", || {
        let deployment = format!("deployment/{NAME}");
        let seen = router
            .stack
            .kubectl(&["exec", &deployment, "--", "printenv", "EDITED"]);
        (seen.trim() == "yes").then_some(()).ok_or(seen)
    });
    router.stack.until("the router is ready", example::is_well);
    let said = ask(&router, "And the zebra?");
    assert!(said.contains("A zebra has stripes"), "{said}");

    router.goes();
}

#[test]
fn the_router_comes_up_from_its_chart() {
    let router = Example::of(NAME);
    router.stack.run(&["up", "-p", "helm"]).ends().went_well();
    router.script("verify", &[("ROUTER_PORT", PORT)]);
    router.goes();
}

#[test]
fn the_chart_and_the_overlays_come_to_the_same() {
    let compare = Command::new(example::folder(NAME).join("helm/compare"));
    let compared = Run::start(compare, "helm/compare".into())
        .ends()
        .went_well();
    assert_eq!(compared.out, "");

    let router = Example::of(NAME);
    for (profile, parts) in [
        ("staging", ["minReplicas: 2", "max-memory: \"3072\""]),
        ("production", ["minReplicas: 5", "max-memory: \"12288\""]),
    ] {
        let rendered = router.rendered(profile);
        for part in parts.iter().chain(&["kind: ScaledObject"]) {
            assert!(rendered.contains(part), "{profile} has no {part}");
        }
        assert!(!rendered.contains("kind: Secret\n"), "{profile}");
    }
}

#[test]
fn the_router_passes_its_own_tests() {
    example::run_beside(
        &example::folder(NAME).join("services/router"),
        "node:22-slim",
        "cp -r /source /tmp/router; cd /tmp/router; npm ci --no-audit --no-fund --no-update-notifier; npm test",
    );
}

fn ask(router: &Example, prompt: &str) -> String {
    curl(&[
        &format!("http://localhost:{}/api/inference", router.port(PORT)),
        "--header",
        "Authorization: Bearer dev-api-key",
        "--data",
        &format!(r#"{{"prompt": "{prompt}", "strategy": "quality-first"}}"#),
    ])
}
