//! The secure Python execution platform, as its README says.

#[path = "common/example.rs"]
mod example;
#[path = "common/journey/mod.rs"]
mod journey;

use example::{Example, curl, until};
use serde_json::Value;

const NAME: &str = "secure-python-execution";
const LLM: u16 = 8000;
const EXECUTOR: u16 = 8001;

#[test]
fn the_platform_comes_up_does_what_it_is_for_and_takes_edits() {
    let platform = Example::of(NAME);
    platform.comes_up();
    platform.script("verify", &[("LLM_PORT", LLM), ("EXECUTOR_PORT", EXECUTOR)]);
    platform.is_up_already();

    // Into the running container.
    let pods = platform.stack.pods();
    platform.edit(
        "services/llm-service/llm_service/generator.py",
        "print(total)",
        "print('in all', total)",
    );
    until("edit of the LLM service", || {
        let said = post(
            &platform,
            LLM,
            "execute",
            r#"{"task": "sum of squares to 3"}"#,
        );
        said.contains("in all 14").then_some(()).ok_or(said)
    });
    assert_eq!(platform.stack.pods(), pods, "no pod was replaced");

    // Built, and named in the ConfigMap: the next Job has it.
    platform.edit(
        "services/executor/executor/heavy.py",
        "print(json.dumps(vars(",
        "print(json.dumps({'edited': True} | vars(",
    );
    until("edit of the Job's image", || {
        let result = heavy(&platform);
        (result["edited"] == true).then_some(()).ok_or(result)
    });
    platform
        .stack
        .until("the platform is ready", example::is_well);

    // A Job that no manifest has goes with the rest.
    let left = post(
        &platform,
        EXECUTOR,
        "jobs",
        r#"{"code": "import time; time.sleep(100)"}"#,
    );
    assert!(left.contains("heavy-executor-"), "{left}");
    assert!(
        platform
            .stack
            .kubectl(&["get", "jobs", "-o", "name"])
            .contains("heavy-executor-")
    );
    platform.goes();
}

#[test]
fn production_has_all_that_the_manifests_say() {
    let rendered = Example::of(NAME).rendered("production");
    for part in [
        "replicas: 3\n",
        "replicas: 5\n",
        "maxReplicas: 20\n",
        "kind: NetworkPolicy\n",
        "heavy_job_memory_limit: \"8Gi\"\n",
    ] {
        assert!(rendered.contains(part), "there is no {part}");
    }
    for part in ["heavy_job_memory_limit: \"2Gi\"", "kind: Secret\n"] {
        assert!(!rendered.contains(part), "there is {part}");
    }
}

#[test]
fn the_services_pass_their_own_tests() {
    for service in ["executor", "llm-service"] {
        example::run_beside(
            &example::folder(NAME).join("services").join(service),
            "python:3.13-slim",
            "cd /source; python -B -m unittest discover tests",
        );
    }
}

/// What a Job of now comes to; nothing where the executor is being replaced.
fn heavy(platform: &Example) -> Value {
    let parsed = |text: String| serde_json::from_str::<Value>(&text).unwrap_or_default();
    let made = parsed(post(platform, EXECUTOR, "jobs", r#"{"code": "print(1)"}"#));
    let Some(id) = made["id"].as_str() else {
        return made;
    };
    until("end of a job", || {
        let job = parsed(curl(&[&format!(
            "{}/{id}",
            url(platform, EXECUTOR, "jobs")
        )]));
        let ended = job["state"] == "succeeded" || job["state"] == "failed";
        ended.then(|| job["result"].clone()).ok_or(job)
    })
}

fn url(platform: &Example, port: u16, path: &str) -> String {
    format!("http://localhost:{}/api/v1/{path}", platform.port(port))
}

fn post(platform: &Example, port: u16, path: &str, body: &str) -> String {
    let url = url(platform, port, path);
    curl(&[
        &url,
        "--header",
        "Content-Type: application/json",
        "--data",
        body,
    ])
}
