//! Builds on a real Docker: the one of the environment, and the one of `LLMDEV_TEST_MOBY` if that is set.

#[path = "common/build.rs"]
mod common;
#[path = "common/moby.rs"]
mod moby;
#[path = "common/tls.rs"]
mod tls;

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Bench, build, built, docker_cli, run, runs};
use llmdev::build::{Docker, Outcome, ensure};
use llmdev::error::Kind;
use llmdev::stack::{SecretSource, ServiceId};
use moby::Moby;
use tls::make_certificates;
use tokio_util::sync::CancellationToken;

async fn docker() -> Docker {
    Docker::connect().await.unwrap()
}

#[tokio::test]
async fn an_image_is_built_once() {
    let docker = docker().await;
    let mut bench = Bench::with(
        "FROM busybox:1\nRUN --mount=type=cache,target=/cache echo built > /built\nCOPY . /app\n",
        &[("main.txt", "hello"), ("empty/.keep", "")],
    );
    std::fs::create_dir(bench.path("app/hollow")).unwrap();
    let plan = bench.plan();
    assert_eq!(docker.image_id(&plan.reference).await.unwrap(), None);
    let (id, lines) = built(&docker, &plan).await;
    assert_eq!(docker.image_id(&plan.reference).await.unwrap(), Some(id));
    assert_eq!(
        run(&plan.reference, &["cat", "/app/main.txt", "/built"]),
        "hellobuilt\n"
    );
    assert_eq!(
        run(&plan.reference, &["ls", "/app"]),
        "Dockerfile\nempty\nhollow\nmain.txt\n"
    );
    assert!(
        lines.iter().any(|line| line.contains("[2/3] RUN")),
        "{lines:#?}"
    );
    let labels = docker_cli(&[
        "inspect",
        "--format",
        "{{json .Config.Labels}}",
        &plan.reference,
    ]);
    assert!(labels.contains(r#""llmdev.dev/service":"app""#), "{labels}");
    assert!(
        labels.contains(&format!(r#""llmdev.dev/stack":"{}""#, bench.stack.name)),
        "{labels}"
    );
    // The same inputs give the same name, in another process too.
    let cache = bench.path("digests");
    bench.planner.save(&cache).unwrap();
    assert_eq!(bench.reference(), plan.reference);
    bench.planner = llmdev::build::Planner::load(&cache);
    assert_eq!(bench.reference(), plan.reference);
    // Built again, all steps are there already.
    let (_, lines) = built(&docker, &plan).await;
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("CACHED [3/3] COPY")),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn all_that_goes_in_makes_the_name() {
    let mut bench = Bench::with(
        "FROM busybox:1\n",
        &[("a", "1"), (".dockerignore", "ignored\n")],
    );
    let mut seen = vec![bench.reference()];
    let mut different = |bench: &mut Bench, what: &str| {
        let reference = bench.reference();
        assert!(!seen.contains(&reference), "{what}");
        seen.push(reference);
    };
    bench.write("app/a", "2");
    different(&mut bench, "content");
    std::fs::set_permissions(bench.path("app/a"), PermissionsExt::from_mode(0o755)).unwrap();
    different(&mut bench, "mode");
    symlink("a", bench.path("app/link")).unwrap();
    different(&mut bench, "link");
    std::fs::remove_file(bench.path("app/link")).unwrap();
    symlink("b", bench.path("app/link")).unwrap();
    different(&mut bench, "link's target");
    std::fs::rename(bench.path("app/a"), bench.path("app/b")).unwrap();
    different(&mut bench, "name");
    bench.write("app/Dockerfile", "FROM busybox:1\nRUN true\n");
    different(&mut bench, "Dockerfile");
    bench.spec().args.insert("A".into(), "1".into());
    different(&mut bench, "argument");
    bench.spec().target = Some("x".into());
    different(&mut bench, "target");
    bench.secret("token", SecretSource::Env("HOME".into()));
    different(&mut bench, "secret's id");
    // What does not go in does not count.
    let before = bench.reference();
    bench.write("app/ignored", "x");
    assert_eq!(bench.reference(), before);
    let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    std::fs::File::open(bench.path("app/b"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    assert_eq!(bench.reference(), before);
    bench.secret("token", SecretSource::Env("PATH".into()));
    assert_eq!(bench.reference(), before);
}

#[tokio::test]
async fn target_arguments_and_requires() {
    let docker = docker().await;
    let mut bench = Bench::new();
    let base =
        "FROM busybox:1 AS one\nARG WHO=nobody\nRUN echo $WHO > /who\nFROM one AS two\nRUN false\n";
    // The one that requires comes first in `stack.yaml`.
    let app = bench.service("app", "ARG BASE\nFROM $BASE\nRUN echo on >> /who\n", &[]);
    let base = bench.service("base", base, &[]);
    bench.stack.services[app.0]
        .build
        .as_mut()
        .unwrap()
        .requires
        .insert("BASE".into(), base);
    let spec = bench.stack.services[base.0].build.as_mut().unwrap();
    spec.target = Some("one".into());
    spec.args.insert("WHO".into(), "a & b \"c\"".into());
    let plans = bench.plans().unwrap();
    assert_eq!(
        plans
            .iter()
            .map(|plan| plan.name.as_str())
            .collect::<Vec<_>>(),
        ["base", "app"]
    );
    for plan in &plans {
        built(&docker, plan).await;
    }
    assert_eq!(
        run(&plans[1].reference, &["cat", "/who"]),
        "a & b \"c\"\non\n"
    );
    // A change of the base changes what requires it.
    bench.write("base/new", "");
    assert_ne!(bench.plans().unwrap()[1].reference, plans[1].reference);
}

#[tokio::test]
async fn secrets_reach_the_build_and_nobody_else() {
    let docker = docker().await;
    let dockerfile = "FROM busybox:1
ARG API_TOKEN
RUN --mount=type=secret,id=file cat /run/secrets/file; echo $API_TOKEN; sha1sum /run/secrets/file | cut -c1-40 > /sum
RUN --mount=type=secret,id=path test -n \"$(cat /run/secrets/path)\"
";
    let mut bench = Bench::with(dockerfile, &[]);
    bench.write("secret", "s3cret-value");
    bench.secret("file", SecretSource::File(bench.path("secret")));
    bench.secret("path", SecretSource::Env("PATH".into()));
    bench
        .spec()
        .args
        .insert("API_TOKEN".into(), "t0ken-value".into());
    let plan = bench.plan();
    let (_, lines) = built(&docker, &plan).await;
    assert_eq!(
        run(&plan.reference, &["cat", "/sum"]).trim(),
        sha1("s3cret-value")
    );
    let output = lines.join("\n");
    assert!(
        output.contains("***") && !output.contains("s3cret") && !output.contains("t0ken"),
        "{output}"
    );
    // A secret that is not there is said before anything is built.
    std::fs::remove_file(bench.path("secret")).unwrap();
    let failure = build(&docker, &plan).await.0.unwrap_err();
    assert_eq!(
        (failure.kind, failure.what.as_str()),
        (Kind::Config, "the build secret file of app is missing")
    );
}

fn sha1(text: &str) -> String {
    let script = format!("printf %s '{text}' | sha1sum | cut -c1-40");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_failure_shows_the_line_and_the_output() {
    let docker = docker().await;
    let dockerfile = "FROM busybox:1\n\nRUN echo one && \\\n    exit 3\nRUN true\n";
    let mut bench = Bench::with(dockerfile, &[]);
    let plan = bench.plan();
    let (outcome, lines) = build(&docker, &plan).await;
    let failure = outcome.unwrap_err();
    assert_eq!(failure.kind, Kind::Failed);
    insta::assert_snapshot!(failure.line(), @"building app failed: RUN echo one && exit 3 exited with code 3");
    insta::assert_snapshot!(failure.detail.join("\n"), @r"
    app/Dockerfile:3: error: RUN echo one && exit 3 exited with code 3
    one
    ");
    assert!(
        lines
            .last()
            .unwrap()
            .starts_with("ERROR [2/3] RUN echo one"),
        "{lines:#?}"
    );
    assert_eq!(docker.image_id(&plan.reference).await.unwrap(), None);
}

#[tokio::test]
async fn failures_before_any_step_show_the_line_too() {
    let docker = docker().await;
    let table = [
        (
            "FROM busybox:1\nFOO bar\n",
            "app/Dockerfile:2: error: ",
            None,
        ),
        (
            "FROM busybox:1\nCOPY nothing /x\n",
            "app/Dockerfile:2: error: COPY nothing /x: ",
            Some("must be in the build context"),
        ),
        (
            "FROM busybox:1 AS a\nRUN true\nFROM llmdev.invalid/nothing:1\n",
            "app/Dockerfile:3: error: FROM llmdev.invalid/nothing:1: ",
            Some("llmdev.invalid/nothing:1"),
        ),
        (
            "# syntax=llmdev.invalid/frontend:1\nFROM busybox:1\n",
            "app/Dockerfile:1: error: ",
            Some("`# syntax=`"),
        ),
    ];
    for (dockerfile, first, remedy) in table {
        let mut bench = Bench::with(dockerfile, &[]);
        let plan = bench.plan();
        let failure = build(&docker, &plan).await.0.unwrap_err();
        assert_eq!(failure.what, "building app failed");
        assert!(
            failure.detail[0].starts_with(first),
            "{dockerfile}{failure:#?}"
        );
        if let Some(remedy) = remedy {
            assert!(
                failure
                    .remedy
                    .as_ref()
                    .is_some_and(|said| said.contains(remedy)),
                "{failure:#?}"
            );
        }
    }
}

#[tokio::test]
async fn links_and_modes_arrive() {
    let docker = docker().await;
    let mut bench = Bench::with(
        "FROM busybox:1\nCOPY . /app\n",
        &[("run.sh", "echo ran"), ("dir/data", "x")],
    );
    let deep = format!("{}/{}/file", "d".repeat(120), "e".repeat(120));
    std::fs::create_dir_all(bench.path("app").join(&deep).parent().unwrap()).unwrap();
    bench.write(&format!("app/{deep}"), "long");
    for (path, mode) in [
        ("app/run.sh", 0o755),
        ("app/dir", 0o700),
        ("app/dir/data", 0o640),
    ] {
        std::fs::set_permissions(bench.path(path), PermissionsExt::from_mode(mode)).unwrap();
    }
    symlink("dir/data", bench.path("app/link")).unwrap();
    symlink("/nowhere", bench.path("app/broken")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(bench.path("app/socket")).unwrap();
    let plan = bench.plan();
    built(&docker, &plan).await;
    let script = "cd /app && ./run.sh; cat link; readlink broken; stat -c '%a %u %g %n' run.sh dir dir/data; ls socket; cat d*/e*/file";
    insta::assert_snapshot!(run(&plan.reference, &["sh", "-c", script]), @r"
    ran
    x/nowhere
    755 0 0 run.sh
    700 0 0 dir
    640 0 0 dir/data
    long
    ");
}

#[tokio::test]
async fn a_dockerfile_need_not_be_in_the_context() {
    let docker = docker().await;
    let mut bench = Bench::with(
        "FROM busybox:1\nRUN false\n",
        &[
            ("data", "x"),
            (".dockerignore", "Dockerfile\n.dockerignore\n"),
        ],
    );
    std::fs::create_dir(bench.path("docker")).unwrap();
    bench.write("docker/app.Dockerfile", "FROM busybox:1\nCOPY . /app\n");
    bench.spec().dockerfile = bench.path("docker/app.Dockerfile");
    let plan = bench.plan();
    built(&docker, &plan).await;
    assert_eq!(run(&plan.reference, &["ls", "-A", "/app"]), "data\n");
    // Its own ignore file goes before that of the context.
    bench.write("docker/app.Dockerfile.dockerignore", "data\n");
    let plan = bench.plan();
    built(&docker, &plan).await;
    assert_eq!(
        run(&plan.reference, &["ls", "-A", "/app"]),
        ".dockerignore\nDockerfile\n"
    );
}

/// Docker's own command and llmdev put the same files into the image.
#[tokio::test]
async fn dockerignore_is_read_as_docker_reads_it() {
    let docker = docker().await;
    let files = [
        ("README.md", ""),
        ("docs/README.md", ""),
        ("docs/a/b.md", ""),
        ("src/main.py", ""),
        ("src/lib/x.py", ""),
        ("src/lib/x.txt", ""),
        ("node_modules/m/index.js", ""),
        (".env", ""),
        ("a+b.whl", ""),
        ("dist/[x].js", ""),
    ];
    let table = [
        "*\n!src\n",
        "*\n!src/**/*.py\n",
        "docs\n!docs/README.md\ndocs\n",
        "**/*.md\n!README.md\n",
        "/docs/\n./src/lib\n.env\n",
        "*\n!**/*.py\nsrc/lib\n",
        "docs/**\n!docs/a\n",
        "Dockerfile\n.dockerignore\n**/[a-m]*\n",
        "*.whl\ndist/\\[x\\].js\n# node_modules\n",
        "src\n!src/lib\nsrc/lib/*.txt\n",
        "**\n!dist/*\n",
    ];
    for ignore in table {
        let mut bench = Bench::with("FROM busybox:1\nCOPY . /app\n", &files);
        bench.write("app/.dockerignore", ignore);
        let plan = bench.plan();
        built(&docker, &plan).await;
        let theirs = format!("llmdev.local/{}/theirs:1", bench.stack.name);
        let output = Command::new("docker")
            .args(["build", "-q", "-t", &theirs, "."])
            .current_dir(bench.path("app"))
            .env("DOCKER_BUILDKIT", "1")
            .output()
            .unwrap();
        // The builder that it has without buildx reads some patterns in another way. The present-day Docker's has it.
        if String::from_utf8_lossy(&output.stderr).contains("buildx component is missing") {
            return println!("skipped: this Docker's command has no BuildKit");
        }
        assert!(output.status.success(), "{output:?}");
        let list = ["sh", "-c", "cd /app && find . | sort"];
        assert_eq!(run(&plan.reference, &list), run(&theirs, &list), "{ignore}");
    }
}

#[tokio::test]
async fn content_counts_even_when_size_and_time_stay() {
    let docker = docker().await;
    let mut bench = Bench::with("FROM busybox:1\nCOPY data /data\n", &[]);
    for content in ["one", "two"] {
        bench.write("app/data", content);
        let file = std::fs::File::open(bench.path("app/data")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(499_162_500))
            .unwrap();
        let plan = bench.plan();
        built(&docker, &plan).await;
        assert_eq!(run(&plan.reference, &["cat", "/data"]), content);
    }
}

#[tokio::test]
async fn a_file_that_changes_or_vanishes_is_noticed() {
    let docker = docker().await;
    let mut bench = Bench::with(
        "FROM busybox:1\nCOPY . /app\n",
        &[("stays", "x"), ("data", "planned")],
    );
    let path = bench.path("app/data");
    let changes: [&dyn Fn(&Bench); 4] = [
        &|bench| bench.write("app/data", "other!!"),
        &|bench| bench.write("app/data", "short"),
        &|bench| bench.write("app/data", "much longer than it was"),
        &|bench| std::fs::remove_file(bench.path("app/data")).unwrap(),
    ];
    for change in changes {
        // Unlike any that BuildKit has a copy of.
        bench.write(
            "app/data",
            &format!("planned {:?}", std::time::SystemTime::now()),
        );
        let plan = bench.plan();
        change(&bench);
        let (outcome, lines) = build(&docker, &plan).await;
        assert_eq!(outcome, Ok(Outcome::Changed(path.clone())), "{lines:#?}");
        assert_eq!(docker.image_id(&plan.reference).await.unwrap(), None);
    }
    // Planned anew, it builds.
    built(&docker, &bench.plan()).await;
}

#[tokio::test]
async fn an_unreadable_file_is_named() {
    if std::env::var_os("LLMDEV_TEST_UNREADABLE").is_none() {
        // Root reads everything, unless it gives up the right to.
        let caps = "-dac_override,-dac_read_search";
        let output = Command::new("setpriv")
            .args([
                &format!("--bounding-set={caps}"),
                &format!("--inh-caps={caps}"),
                "--",
            ])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "an_unreadable_file_is_named", "--nocapture"])
            .env("LLMDEV_TEST_UNREADABLE", "1")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        return;
    }
    let mut bench = Bench::with(
        "FROM busybox:1\n",
        &[
            ("secret.key", "x"),
            ("ignored/x", ""),
            (".dockerignore", "ignored\n"),
        ],
    );
    let hide = |path: &str| {
        std::fs::set_permissions(bench.path(path), PermissionsExt::from_mode(0o000)).unwrap()
    };
    hide("app/secret.key");
    hide("app/ignored");
    let failure = bench.plans().unwrap_err();
    insta::assert_snapshot!(failure.line(), @"cannot read app/secret.key, which goes into the image of app: Permission denied (os error 13)");
    insta::assert_snapshot!(failure.remedy.unwrap(), @"make it readable for you: chmod u+r; or list it in app/.dockerignore if the image needs no such file");
    std::fs::set_permissions(bench.path("app/ignored"), PermissionsExt::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_cancelled_build_ends_in_docker() {
    let docker = docker().await;
    let marker = format!("{}", 300_000_000 + u64::from(std::process::id()));
    let mut bench = Bench::with(
        &format!("FROM busybox:1\nRUN echo begun; sleep {marker}\n"),
        &[],
    );
    let plan = bench.plan();
    let cancel = CancellationToken::new();
    let mut stop = |line: &str| {
        if line.trim() == "begun" {
            assert!(runs(&marker));
            cancel.cancel();
        }
    };
    let outcome = tokio::time::timeout(
        Duration::from_secs(60),
        docker.build(&plan, &mut stop, &cancel),
    )
    .await
    .unwrap();
    assert_eq!(outcome.unwrap_err().kind, Kind::Interrupted);
    let ended = async {
        while runs(&marker) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .expect("the step's process is gone");
    assert_eq!(docker.image_id(&plan.reference).await.unwrap(), None);
}

#[tokio::test]
async fn builds_run_side_by_side_and_leave_no_connection() {
    let docker = docker().await;
    let sockets = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut bench = Bench::new();
    for name in ["a", "b", "c"] {
        bench.service(
            name,
            &format!("FROM busybox:1\nCOPY . /x\nRUN echo {name}\n"),
            &[(name, name)],
        );
    }
    let plans = bench.plans().unwrap();
    built(&docker, &plans[0]).await;
    let before = sockets();
    let all = plans.iter().map(|plan| built(&docker, plan));
    futures::future::join_all(all).await;
    let closed = async {
        while sockets() > before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Other tests of this process open and close some meanwhile.
    tokio::time::timeout(Duration::from_secs(30), closed)
        .await
        .expect("connections are closed");
}

#[tokio::test]
async fn twenty_thousand_files_are_built() {
    let docker = docker().await;
    let mut bench = Bench::with(
        "FROM busybox:1\nCOPY . /app\nRUN find /app -type f | wc -l > /count\n",
        &[],
    );
    for folder in 0..200 {
        std::fs::create_dir(bench.path(&format!("app/{folder}"))).unwrap();
        for file in 0..100 {
            bench.write(&format!("app/{folder}/{file}"), &format!("{folder} {file}"));
        }
    }
    let plan = bench.plan();
    built(&docker, &plan).await;
    assert_eq!(run(&plan.reference, &["cat", "/count"]), "20001\n");
    // The second time BuildKit is sent what changed.
    bench.write("app/7/7", "changed");
    let plan = bench.plan();
    built(&docker, &plan).await;
    assert_eq!(run(&plan.reference, &["cat", "/app/7/7"]), "changed");
}

#[tokio::test]
async fn an_image_is_found_or_built() {
    let docker = docker().await;
    let mut bench = Bench::with("FROM busybox:1\nCOPY . /app\n", &[("data", "x")]);
    let app = ServiceId(0);
    let planner = Arc::new(Mutex::new(std::mem::take(&mut bench.planner)));
    let stack = Arc::new(bench.stack.clone());
    let none = BTreeMap::new();
    let cancel = CancellationToken::new();
    let first = ensure(
        &docker,
        &planner,
        &stack,
        app,
        &none,
        &mut |_: &str| {},
        &cancel,
    )
    .await
    .unwrap();
    assert!(!first.found);
    let second = ensure(
        &docker,
        &planner,
        &stack,
        app,
        &none,
        &mut |_: &str| {},
        &cancel,
    )
    .await
    .unwrap();
    assert!(second.found);
    assert_eq!(
        (second.plan.reference, second.id),
        (first.plan.reference, first.id)
    );
    // A file that never rests.
    let path = bench.path("app/data");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let writer = std::thread::spawn(move || {
        for number in 0.. {
            std::fs::write(&path, format!("{number}")).unwrap();
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let restless = ensure(
        &docker,
        &planner,
        &stack,
        app,
        &none,
        &mut |_: &str| {},
        &cancel,
    )
    .await;
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    // Either one moment's content was caught whole, or it is said that the file does not rest.
    if let Err(failure) = restless {
        assert!(failure.what.contains("chang"), "{failure}");
    }
}

/// minikube's own engine listens with TLS; here a proxy does, before the engine of the environment.
#[tokio::test]
async fn builds_go_over_tls() {
    let Some(socket) = docker_socket() else {
        return;
    };
    let certs = tempfile::tempdir().unwrap();
    make_certificates(certs.path());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = tls_acceptor(certs.path());
    let proxy = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, socket) = (acceptor.clone(), socket.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(stream).await else {
                    return;
                };
                let mut engine = tokio::net::UnixStream::connect(socket).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut engine).await;
            });
        }
    });
    let docker = Docker::connect_tls(&format!("tcp://{address}"), certs.path())
        .await
        .unwrap();
    let mut bench = Bench::with("FROM busybox:1\nCOPY data /data\n", &[("data", "over tls")]);
    let plan = bench.plan();
    built(&docker, &plan).await;
    assert_eq!(run(&plan.reference, &["cat", "/data"]), "over tls");
    proxy.abort();
    // Without the engine's certificate authority there is no connection.
    std::fs::remove_file(certs.path().join("ca.pem")).unwrap();
    let failure = Docker::connect_tls(&address, certs.path())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, Kind::Environment);
}

fn docker_socket() -> Option<PathBuf> {
    match std::env::var("DOCKER_HOST") {
        Ok(host) => host.strip_prefix("unix://").map(PathBuf::from),
        Err(_) => Some("/var/run/docker.sock".into()),
    }
}

fn tls_acceptor(certs: &Path) -> tokio_rustls::TlsAcceptor {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let one = |name: &str| CertificateDer::from_pem_file(certs.join(name)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(one("ca.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        provider.clone(),
    )
    .build()
    .unwrap();
    let key = PrivateKeyDer::from_pem_file(certs.join("server-key.pem")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![one("server.pem")], key)
        .unwrap();
    Arc::new(config).into()
}

/// All of the above on a second engine: `LLMDEV_TEST_MOBY` names a command that runs another with its `DOCKER_HOST`.
#[test]
fn all_of_it_on_a_newer_docker() {
    let Some(moby) = Moby::alone() else {
        return;
    };
    // That engine has no network to fetch the base image from.
    let script = "docker save busybox:1 | \"$0\" docker load";
    let loaded = Command::new("sh")
        .args(["-c", script])
        .arg(&moby.command)
        .output()
        .unwrap();
    assert!(loaded.status.success(), "{loaded:?}");
    let output = Command::new(&moby.command)
        .arg(std::env::current_exe().unwrap())
        .env_remove("LLMDEV_TEST_MOBY")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
