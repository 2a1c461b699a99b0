//! Files go into running containers, on the real cluster.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::live::{Live, free_port, get, served, until};
use common::node::run;
use k8s_openapi::api::core::v1::Pod;
use llmdev::cluster::agent::FileChange;
use llmdev::sync::tar::Place;

const DOCKERFILE: &str = "FROM busybox:1\nWORKDIR /www\nCOPY www/ ./\nCOPY kept /kept\n\
                          CMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n";

/// One service that serves files, which are synced as the Dockerfile copies them.
fn web(what: &str) -> (Live, u16) {
    let port = free_port();
    let live = Live::new(
        what,
        &format!(
            "  web:\n    build: web\n    forward: ['{port}:8080']\n    sync: [{{ infer: ['www/**'] }}]\n"
        ),
    );
    live.deployment("web", 8080, "", "");
    live.write("web/Dockerfile", DOCKERFILE);
    live.write("web/www/index.html", "zero");
    live.write("web/www/deep/old.txt", "old");
    live.write("web/kept", "one");
    (live, port)
}

#[test]
fn an_edit_is_served_without_a_build() {
    let (mut live, port) = web("edit");
    live.up();
    served(port, "/", "zero");
    let (image, from) = (live.image("web"), live.seen());

    let mut times: Vec<Duration> = Vec::new();
    for number in 0..20 {
        let content = format!("edit {number}");
        let began = Instant::now();
        live.write("web/www/index.html", &content);
        served(port, "/", &content);
        times.push(began.elapsed());
    }
    times.sort();
    eprintln!(
        "save to served, sync: p50 {:?}, p95 {:?}, worst {:?}",
        times[10], times[18], times[19]
    );
    assert!(times[10] < Duration::from_millis(500), "{times:?}");
    let said = live.wait_for_note(from, "synced www/index.html to 1 pod in ");
    assert!(said.ends_with(" ms"), "{said}");

    // As editors save: beside it, and renamed.
    live.write("web/www/.index.html.swp", "atomic");
    fs::rename(
        live.path("web/www/.index.html.swp"),
        live.path("web/www/index.html"),
    )
    .unwrap();
    served(port, "/", "atomic");

    // New folders, deleted files, renames of which only the case differs.
    live.write("web/www/new/one/page.txt", "new");
    served(port, "/new/one/page.txt", "new");
    live.write("web/www/new/one/page.txt", "newer");
    served(port, "/new/one/page.txt", "newer");
    fs::rename(
        live.path("web/www/new/one/page.txt"),
        live.path("web/www/new/one/PAGE.txt"),
    )
    .unwrap();
    served(port, "/new/one/PAGE.txt", "newer");
    until("no file of the old name", || {
        (get(port, "/new/one/page.txt")?.0 == 404).then_some(())
    });
    fs::remove_file(live.path("web/www/deep/old.txt")).unwrap();
    until("no deleted file", || {
        (get(port, "/deep/old.txt")?.0 == 404).then_some(())
    });

    // Back to what the image has.
    live.write("web/www/deep/old.txt", "old");
    served(port, "/deep/old.txt", "old");
    let back = live.seen();
    live.write("web/www/index.html", "zero");
    served(port, "/", "zero");
    live.wait_for_note(back, "synced www/index.html");

    // A new time is no change.
    let quiet = live.seen();
    run(
        "touch",
        &[
            live.path("web/www/index.html").to_str().unwrap(),
            live.path("web/kept").to_str().unwrap(),
        ],
    );
    live.write("web/www/last.txt", "last");
    served(port, "/last.txt", "last");
    live.wait_for_note(quiet, "synced www/last.txt");
    assert_eq!(live.notes(quiet).len(), 1, "{:?}", live.notes(quiet));

    assert_eq!(live.image("web"), image);
    assert_eq!(live.builds(from, "web"), 0);
}

#[test]
fn a_change_of_both_kinds_builds_once_and_new_pods_hold_all() {
    let (mut live, port) = web("both");
    live.up();
    let (image, from) = (live.image("web"), live.seen());
    live.write("web/www/index.html", "synced");
    served(port, "/", "synced");

    // A pod that is replaced serves nothing older, from its first answer on.
    let uid = live.pod("web", "/metadata/uid");
    live.kubectl(&["delete", "pod", "-l", "app=web", "--wait=false"]);
    until("another pod", || {
        (live.pod("web", "/metadata/uid") != uid).then_some(())
    });
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        if let Some((_, body)) = get(port, "/") {
            assert_eq!(body, "synced");
        }
    }
    live.wait_for_note(from, "to a new pod in ");
    assert_eq!(live.image("web"), image);

    live.write("web/www/index.html", "both");
    live.write("web/kept", "two");
    until("another image", || {
        (live.image("web") != image).then_some(())
    });
    served(port, "/", "both");
    live.wait_until_ready("web");
    assert_eq!(live.builds(from, "web"), 1);
    let kept = live.kubectl(&[
        "exec",
        "deploy/web",
        "--",
        "cat",
        "/kept",
        "/www/index.html",
    ]);
    assert_eq!(kept, "twoboth");

    // Back to the first state: the old image is still there.
    let built = live.built_at("web");
    live.write("web/www/index.html", "zero");
    live.write("web/kept", "one");
    until("the first image", || {
        (live.image("web") == image).then_some(())
    });
    served(port, "/", "zero");
    assert_eq!(live.built_at("web"), built);

    // A daemon after this one knows what the containers hold.
    live.write("web/www/index.html", "before");
    served(port, "/", "before");
    run("kill", &["-9", &live.daemon().to_string()]);
    live.write("web/www/index.html", "zero");
    live.up();
    served(port, "/", "zero");
    assert_eq!(live.image("web"), image);
}

#[test]
fn containers_without_a_shell_and_beside_others() {
    let port = free_port();
    let mut live = Live::new(
        "scratch",
        &format!(
            "  tiny:\n    build: tiny\n    forward: ['{port}:8080']\n    sync: [{{ src: '**/*.txt', dest: /www }}]\n"
        ),
    );
    live.deployment(
        "tiny",
        8080,
        "",
        "        - { name: first, image: 'busybox:1', command: [sleep, '3600'] }\n",
    );
    live.write(
        "tiny/Dockerfile",
        "FROM scratch\nCOPY --from=busybox:1 /bin/busybox /busybox\nCOPY a.txt /www/\n\
         ENTRYPOINT [\"/busybox\", \"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n",
    );
    live.write("tiny/a.txt", "zero");
    live.up();
    let from = live.seen();
    live.write("tiny/a.txt", "one");
    served(port, "/a.txt", "one");
    live.write("tiny/b.txt", "two");
    served(port, "/b.txt", "two");
    assert_eq!(live.builds(from, "tiny"), 0);
    let first = live.kubectl(&["exec", "deploy/tiny", "-c", "first", "--", "ls", "/"]);
    assert!(!first.contains("www"), "{first}");
    live.say(&["sync", "tiny"]);
    live.wait_for_note(from, "synced a.txt, b.txt to 1 pod");
}

/// Without an agent: with the container's own programs, if it has them.
#[tokio::test]
async fn through_the_api_server() {
    let (live, _) = tokio::task::spawn_blocking(|| {
        let (mut live, port) = web("api");
        live.up();
        (live, port)
    })
    .await
    .unwrap();
    let options = kube::config::KubeConfigOptions {
        context: Some(common::node::context()),
        ..Default::default()
    };
    let config = kube::Config::from_kubeconfig(&options).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let pods: kube::Api<Pod> = kube::Api::namespaced(client.clone(), &live.name);
    let pod = pods.get(&live.pod("web", "/metadata/name")).await.unwrap();
    let place = Place {
        client: &client,
        pod: &pod,
        container: "main",
    };
    let put = |path: &str, content: &'static [u8]| FileChange {
        path: path.to_owned(),
        content: Some(bytes::Bytes::from_static(content)),
        mode: 0o644,
    };
    let gone = FileChange {
        path: "/www/index.html".to_owned(),
        content: None,
        mode: 0,
    };
    place
        .put(&[put("/www/by/tar", b"content"), gone])
        .await
        .unwrap();
    let command = |words: &[&str]| {
        words
            .iter()
            .map(|&word| word.to_owned())
            .collect::<Vec<_>>()
    };
    let ran = place
        .exec(
            &command(&["sh", "-c", "cat /www/by/tar; ls /www; exit 3"]),
            &[],
        )
        .await
        .unwrap();
    assert!(!ran.well);
    assert!(ran.output.starts_with("contentby"), "{}", ran.output);
    assert!(!ran.output.contains("index.html"), "{}", ran.output);
    let ran = place.exec(&command(&["true"]), &[]).await.unwrap();
    assert!(ran.well, "{}", ran.output);
    // As in an image without `tar`.
    place
        .exec(&command(&["rm", "/bin/tar"]), &[])
        .await
        .unwrap();
    let failure = place.put(&[put("/www/x", b"x")]).await.unwrap_err();
    assert!(failure.line().contains("`tar`"), "{failure}");
    tokio::task::spawn_blocking(move || drop(live))
        .await
        .unwrap();
}

#[test]
fn what_cannot_be_written_is_built() {
    let ports = [free_port(), free_port()];
    let service = |name: &str, port: u16| {
        format!(
            "  {name}:\n    build: {name}\n    forward: ['{port}:8080']\n    sync: [{{ infer: ['www/**'] }}]\n"
        )
    };
    let mut live = Live::new(
        "refused",
        &format!(
            "{}{}",
            service("fixed", ports[0]),
            service("links", ports[1])
        ),
    );
    live.deployment(
        "fixed",
        8080,
        "          securityContext: { readOnlyRootFilesystem: true }\n",
        "",
    );
    live.deployment("links", 8080, "", "");
    let escaped = live.name.clone();
    let links = format!(
        "RUN ln -s ../../../../../../../../tmp /www/out && ln -s /proc/1/root/tmp /www/magic && mkdir -p /tmp/{escaped}\n"
    );
    for (name, more) in [("fixed", ""), ("links", links.as_str())] {
        live.write(
            &format!("{name}/Dockerfile"),
            &DOCKERFILE
                .replace("COPY www", &format!("{more}COPY www"))
                .replace("COPY kept /kept\n", ""),
        );
        live.write(&format!("{name}/www/index.html"), "zero");
    }
    live.up();
    let (image, from) = (live.image("fixed"), live.seen());
    live.write("fixed/www/index.html", "one");
    let said = live.wait_for_note(from, "so that its image is built");
    assert!(said.contains("read-only"), "{said}");
    served(ports[0], "/", "one");
    assert_ne!(live.image("fixed"), image);

    // A link is followed as a process in the container would, and no further.
    live.write(&format!("links/www/out/{escaped}/x"), "inside");
    served(ports[1], &format!("/out/{escaped}/x"), "inside");
    let (_, nodes) = tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(common::node::cluster());
    let node = ["exec", &nodes[0].container, "sh", "-c"];
    let found = run(
        "docker",
        &[&node[..], &[&format!("ls -d /tmp/{escaped} 2>&1 || true")]].concat(),
    );
    assert!(found.contains("No such file"), "{found}");

    // One that leads out of the container by its process is not followed at all.
    let from = live.seen();
    live.write(&format!("links/www/magic/{escaped}/x"), "outside");
    let said = live.wait_for_note(from, "so that its image is built");
    assert!(said.contains("link"), "{said}");
    let found = run(
        "docker",
        &[&node[..], &[&format!("ls /tmp/{escaped}/x 2>&1 || true")]].concat(),
    );
    assert!(found.contains("No such file"), "{found}");
}

#[test]
fn a_pod_is_killed_in_the_middle_of_a_sync() {
    let (mut live, port) = web("killed");
    live.up();
    let (image, from) = (live.image("web"), live.seen());
    let content = |round: usize| round.to_string().repeat(8 << 20);
    for round in 0..3 {
        live.write("web/www/large.txt", &content(round));
        let kill = "delete pod -l app=web --force --grace-period=0 --wait=false";
        live.kubectl(&kill.split(' ').collect::<Vec<_>>());
    }
    served(port, "/large.txt", &content(2));
    live.wait_until_ready("web");
    served(port, "/large.txt", &content(2));
    assert_eq!(live.image("web"), image);
    assert_eq!(live.builds(from, "web"), 0, "{:?}", live.notes(from));
}

#[test]
fn a_program_is_started_anew_where_it_runs() {
    let port = free_port();
    let mut live = Live::new(
        "restart",
        &format!(
            "  app:\n    build: app\n    forward: ['{port}:8080']\n    sync:\n      \
             - {{ src: config, dest: /app, restart: true }}\n      \
             - {{ src: '*.txt', dest: /www, exec: [sh, -c, 'echo seen; cat /www/a.txt > /www/b'] }}\n"
        ),
    );
    live.deployment("app", 8080, "", "");
    live.write(
        "app/Dockerfile",
        "FROM busybox:1\nCOPY config /app/\nCOPY a.txt /www/\nENV FROM_IMAGE=yes\nWORKDIR /www\n\
         CMD [\"sh\", \"-c\", \"sleep 1000 & cat /app/config > index.html; echo $FROM_IMAGE >> index.html; exec httpd -f -p 8080\"]\n",
    );
    live.write("app/config", "zero\n");
    live.write("app/a.txt", "a");
    live.up();
    served(port, "/index.html", "zero\nyes\n");
    let container = live.pod("app", "/status/containerStatuses/0/containerID");
    let (image, from) = (live.image("app"), live.seen());
    let mut times = Vec::new();
    for number in 0..5 {
        let began = Instant::now();
        live.write("app/config", &format!("{number}\n"));
        served(port, "/index.html", &format!("{number}\nyes\n"));
        times.push(began.elapsed());
    }
    eprintln!("save to a restarted program serving: {times:?}");
    assert_eq!(
        live.pod("app", "/status/containerStatuses/0/containerID"),
        container
    );
    assert_eq!(
        live.pod("app", "/status/containerStatuses/0/restartCount"),
        "0"
    );
    assert_eq!(live.image("app"), image);
    let processes = live.kubectl(&["exec", "deploy/app", "--", "ps"]);
    assert_eq!(processes.matches("sleep 1000").count(), 1, "{processes}");

    live.write("app/a.txt", "b");
    served(port, "/b", "b");
    live.wait_for_note(from, "sh: seen");

    // A container that is made anew gets all of it, and its program has read it.
    live.kubectl(&["delete", "pod", "-l", "app=app"]);
    served(port, "/index.html", "4\nyes\n");
    served(port, "/b", "b");
}

#[test]
fn a_program_that_closes_its_output_for_others_is_heard_when_it_starts_anew() {
    let port = free_port();
    let mut live = Live::new(
        "heard",
        &format!(
            "  app:\n    build: app\n    forward: ['{port}:8080']\n    sync: [{{ src: words, dest: /app, restart: true }}]\n"
        ),
    );
    live.deployment("app", 8080, "", "");
    live.write(
        "app/Dockerfile",
        "FROM node:22-slim\nWORKDIR /app\nCOPY main.js words ./\nCMD [\"node\", \"main.js\"]\n",
    );
    live.write(
        "app/main.js",
        "const words = require('fs').readFileSync('words', 'utf8'); console.log('starts with ' + words); \
         require('http').createServer((_, answer) => answer.end(words)).listen(8080);\n",
    );
    live.write("app/words", "one");
    live.up();
    served(port, "/", "one");
    for words in ["two", "three"] {
        live.write("app/words", words);
        served(port, "/", words);
        until("what it says when it starts", || {
            let said = live.say(&["logs", "app"]);
            said.contains(&format!("starts with {words}")).then_some(())
        });
    }
    assert_eq!(
        live.pod("app", "/status/containerStatuses/0/restartCount"),
        "0"
    );
}
