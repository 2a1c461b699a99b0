//! What is done about changed files, on the real cluster.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::live::{Live, free_port, git, served, until};

/// One service that has to be built for each change.
fn built(what: &str, more: &str) -> (Live, u16) {
    let port = free_port();
    let live = Live::new(
        what,
        &format!("  web:\n    build: web\n    forward: ['{port}:8080']\n{more}"),
    );
    live.deployment("web", 8080, "", "");
    live.write("web/Dockerfile", "FROM busybox:1\nCOPY . /www\nCMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n");
    live.write("web/.dockerignore", "ignored\n");
    live.write("web/index.html", "zero");
    (live, port)
}

#[test]
fn a_checkout_of_a_thousand_files_is_one_build() {
    let (mut live, port) = built("checkout", "");
    let root = live.path("");
    git(&root, &["init", "--quiet", "--initial-branch=main"]);
    for number in 0..1000 {
        live.write(&format!("web/many/{}/{number}", number % 10), "main");
    }
    git(&root, &["add", "--all"]);
    git(&root, &["commit", "--quiet", "--message=main"]);
    git(&root, &["checkout", "--quiet", "-b", "other"]);
    for number in 0..1000 {
        live.write(
            &format!("web/many/{}/{number}", number % 10),
            &format!("other {number}"),
        );
    }
    live.write("web/index.html", "other");
    git(&root, &["commit", "--quiet", "--all", "--message=other"]);
    git(&root, &["checkout", "--quiet", "main"]);
    live.up();
    served(port, "/", "zero");
    let from = live.seen();
    let began = Instant::now();
    git(&root, &["checkout", "--quiet", "other"]);
    served(port, "/", "other");
    eprintln!(
        "a thousand files, from git to serving: {:?}",
        began.elapsed()
    );
    served(port, "/many/9/999", "other 999");
    live.wait_until_ready("web");
    assert_eq!(live.builds(from, "web"), 1, "{:?}", live.notes(from));
}

#[test]
fn the_last_of_many_edits_runs_and_a_broken_one_serves_on() {
    let (mut live, port) = built("edits", "");
    live.up();
    let from = live.seen();
    for number in 0..30 {
        live.write("web/index.html", &format!("edit {number}"));
        std::thread::sleep(Duration::from_millis(100));
    }
    served(port, "/", "edit 29");
    live.wait_until_ready("web");

    let good = fs::read_to_string(live.path("web/Dockerfile")).unwrap();
    let image = live.image("web");
    live.write(
        "web/Dockerfile",
        &format!("{good}RUN echo it broke; false\n"),
    );
    let failed = until("a failure", || {
        let status: serde_json::Value =
            serde_json::from_str(&live.say(&["status", "-o", "json"])).unwrap();
        let row = status["services"][0].clone();
        (row["phase"] == "failed").then_some(row)
    });
    assert_eq!(failed["ready"], true, "{failed}");
    served(port, "/", "edit 29");
    live.write("web/Dockerfile", &good);
    live.wait_until_ready("web");
    assert_eq!(live.image("web"), image);

    // What Docker is not sent is no change.
    let quiet = live.seen();
    live.write("web/ignored/x", "x");
    live.write("web/index.html", "after");
    served(port, "/", "after");
    assert_ne!(live.image("web"), image);
    assert!(live.builds(from, "web") > live.builds(quiet, "web"));
}

#[test]
fn no_service_waits_for_the_build_of_another() {
    let ports = [free_port(), free_port()];
    let service = |name: &str, port: u16| {
        format!("  {name}:\n    build: {name}\n    forward: ['{port}:8080']\n")
    };
    let both = service("slow", ports[0]) + &service("quick", ports[1]);
    let mut live = Live::new("two", &both);
    let dockerfile = "FROM busybox:1\nCOPY wait /\nRUN sleep $(cat /wait)\nCOPY index.html /www/\nCMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n";
    for name in ["slow", "quick"] {
        live.deployment(name, 8080, "", "");
        live.write(&format!("{name}/Dockerfile"), dockerfile);
        live.write(&format!("{name}/wait"), "0");
        live.write(&format!("{name}/index.html"), "zero");
    }
    live.up();
    let from = live.seen();
    live.write("slow/wait", "3600");
    until("the slow build", || {
        (live.builds(from, "slow") > 0).then_some(())
    });
    live.write("quick/index.html", "one");
    served(ports[1], "/", "one");
    live.wait_until_ready("quick");
    served(ports[0], "/", "zero");

    // A newer change does not wait for the build that it makes useless.
    live.write("slow/index.html", "one");
    live.write("slow/wait", "0");
    served(ports[0], "/", "one");
    live.wait_until_ready("slow");
    assert_eq!(live.builds(from, "quick"), 1);
}

#[test]
fn at_rest_it_costs_next_to_nothing() {
    let (mut live, port) = built("rest", "    sync: [{ src: '**', dest: /www }]\n");
    let dockerfile = fs::read_to_string(live.path("web/Dockerfile")).unwrap();
    // The many are watched, but need not be in the image.
    let dockerfile = dockerfile.replace("COPY . /www", "COPY index.html /www/");
    live.write("web/Dockerfile", &dockerfile);
    for number in 0..20_000 {
        let path = live.path(&format!("web/many/{}/{number}", number % 500));
        if number < 500 {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        fs::write(path, number.to_string()).unwrap();
    }
    live.up();
    served(port, "/", "zero");
    let pid = live.daemon();
    let mut times = Vec::new();
    for number in 0..10 {
        let began = Instant::now();
        live.write("web/index.html", &format!("edit {number}"));
        served(port, "/", &format!("edit {number}"));
        times.push(began.elapsed());
    }
    times.sort();
    eprintln!(
        "save to served, sync, one file of 20 000: p50 {:?}, worst {:?}",
        times[5], times[9]
    );
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<u64> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        fields[10] + fields[11]
    };
    std::thread::sleep(Duration::from_secs(2));
    let before = ticks();
    std::thread::sleep(Duration::from_secs(10));
    let share = (ticks() - before) as f64 / 10.0;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = |field: &str| -> u64 {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    // The program's own pages count in a release build only: here they are ten times as many.
    eprintln!(
        "at rest with 20 000 files: {} KiB resident, {} of them its own, {share} % of a core",
        memory("VmRSS:"),
        memory("RssAnon:")
    );
    assert!(share <= 1.0, "{share} % of a core");
    assert!(memory("RssAnon:") < 40 << 10, "{status}");
}
