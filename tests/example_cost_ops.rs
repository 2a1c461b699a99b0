//! LLM Cost Ops, as its README says: up, the deployment guide's checks, an edit, Prometheus beside it, down.

#[path = "common/example.rs"]
mod example;
#[path = "common/journey/mod.rs"]
mod journey;

use example::Example;

const PORTS: [(&str, u16); 4] = [
    ("API_PORT", 18080),
    ("POSTGRES_PORT", 15432),
    ("EXPORTER_PORT", 19187),
    ("PROMETHEUS_PORT", 19090),
];

#[test]
fn llm_cost_ops_stores_and_sums_what_llms_cost() {
    let example = Example::of("llm-cost-ops");
    example.comes_up();
    example.listens_on(&[18080, 15432, 19187]);
    example.script("verify", &PORTS);

    example.edit(
        "services/llm-cost-ops/main.go",
        r#"const version = "0.1.0""#,
        r#"const version = "edited""#,
    );
    example.until_it_says(18080, "edited");

    let monitored = example.stack.run(&["up", "-p", "monitoring"]).ends();
    println!("{}", monitored.went_well());
    example.listens_on(&[18080, 15432, 19187, 19090]);
    let verified = example.script("verify", &PORTS);
    verified.saying(&["ok Prometheus scrapes pods, database and Kubernetes"]);

    example.goes();
}

#[test]
fn the_overlays_for_staging_and_production_can_be_rendered() {
    let example = Example::of("llm-cost-ops");
    for (profile, replicas, storage) in [("staging", 2, "30Gi"), ("prod", 5, "100Gi")] {
        let rendered = example
            .stack
            .run(&["render", "-p", profile])
            .ends()
            .went_well();
        let text = rendered.out.replace('"', "");
        let has = |part: &str| assert!(text.contains(part), "{profile} has {part}");
        has(&format!("minReplicas: {replicas}"));
        has(&format!("storage: {storage}"));
        has("kind: ExternalSecret");
        has("grafana/grafana");
        assert!(!text.contains("CHANGE_ME"), "{profile} has no placeholder");
    }
}
