//! The loader, on the real Docker and the real cluster.

mod common;

use common::node::{Namespace, Repository, cluster, pod_says};
use llmdev::cluster::load::{LoadReport, Loader, Way};
use tokio_util::sync::CancellationToken;

async fn load(loader: &Loader, references: &[&String]) -> LoadReport {
    let references: Vec<String> = references
        .iter()
        .map(|reference| (*reference).clone())
        .collect();
    let report = loader
        .load(&references, &CancellationToken::new())
        .await
        .unwrap();
    eprintln!("{report:?}");
    report
}

#[tokio::test]
async fn only_what_is_missing_is_sent_and_the_pod_starts() {
    let (docker, nodes) = cluster().await;
    let repository = Repository::new("load", &nodes);
    let namespace = Namespace::new("load");
    let loader = Loader::new(&docker, &nodes, &repository.state());

    let first = repository.layered("1", 3 << 20, "first");
    let report = load(&loader, &[&first]).await;
    assert_eq!(report.loaded, [first.as_str()]);
    assert!(report.retried.is_none() && report.sent >= 2, "{report:?}");

    let report = load(&loader, &[&first]).await;
    assert_eq!(
        (report.present.as_slice(), report.bytes),
        ([first.clone()].as_slice(), 0)
    );

    let second = repository.layered("2", 3 << 20, "second");
    let report = load(&loader, &[&second]).await;
    assert!(report.retried.is_none(), "{report:?}");
    assert!(
        report.bytes < 100_000,
        "only the code layer goes: {report:?}"
    );
    assert_eq!(
        pod_says(&namespace, "second", &second, &["cat", "/code"]),
        "second"
    );
    assert_eq!(
        pod_says(&namespace, "first", &first, &["cat", "/code"]),
        "first"
    );
}

#[tokio::test]
async fn what_docker_has_pushed_once_comes_by_push() {
    let (docker, nodes) = cluster().await;
    let repository = Repository::new("push", &nodes);
    let namespace = Namespace::new("push");
    let cancel = CancellationToken::new();
    let loader = Loader::new(&docker, &nodes, &repository.state());

    let first = repository.layered("1", 24 << 20, "first");
    let report = load(&loader, &[&first]).await;
    assert!(
        matches!(&report.way, Some(Way::Save { why }) if why.contains("compress")),
        "{report:?}"
    );
    loader.warm(&cancel).await.unwrap();

    for code in ["2", "3", "4"] {
        let next = repository.layered(code, 24 << 20, code);
        let report = load(&loader, &[&next]).await;
        assert_eq!(report.way, Some(Way::Push));
        assert!(
            report.retried.is_none() && report.sent == 1 && report.bytes < 100_000,
            "{report:?}"
        );
    }
    // The next daemon knows as much.
    drop(loader);
    let loader = Loader::new(&docker, &nodes, &repository.state());
    let last = repository.layered("5", 24 << 20, "last");
    let report = load(&loader, &[&last]).await;
    assert_eq!((report.way, report.sent), (Some(Way::Push), 1));
    assert_eq!(
        pod_says(&namespace, "last", &last, &["cat", "/code"]),
        "last"
    );

    // What a garbage collection took is sent again, though the loader thinks that it is there.
    let node = &nodes[0];
    repository.forget_in_nodes();
    let gone = format!(
        "ctr -n k8s.io images ls -q | grep -c {} || true",
        repository.name
    );
    let left = loader.missing(&[last.clone()], &cancel).await.unwrap();
    assert_eq!(
        left,
        [(node.name.clone(), vec![last.clone()])],
        "{}",
        repository.in_node(&gone)
    );
}

/// Compares with `kind load docker-image`; takes a minute, and means something on a quiet machine only.
#[tokio::test]
#[ignore = "figures, not behaviour"]
async fn figures() {
    let (docker, nodes) = cluster().await;
    let repository = Repository::new("figures", &nodes);
    let loader = Loader::new(&docker, &nodes, &repository.state());
    let mut bytes = vec![0; 150 << 20];
    llmdev::cluster::load::memory::random(&mut bytes).unwrap();
    repository.file("below", bytes);
    let build = |tag: &str| {
        repository.file("code", tag);
        let dockerfile = "FROM python:3.13-slim\nCOPY below /below\nCOPY code /code\n";
        repository.build(tag, dockerfile)
    };
    let first = build("first");
    let report = load(&loader, &[&first]).await;
    eprintln!("first load      {:?}", report.took);
    let began = std::time::Instant::now();
    loader.warm(&CancellationToken::new()).await.unwrap();
    eprintln!("warming         {:?}", began.elapsed());
    let mut times = Vec::new();
    for round in 0..9 {
        let next = build(&format!("round-{round}"));
        let report = load(&loader, &[&next]).await;
        assert_eq!(report.way, Some(Way::Push));
        times.push(report.took);
    }
    times.sort();
    eprintln!("changed, median {:?} of {times:?}", times[4]);
    let cluster = common::node::context();
    let cluster = cluster.strip_prefix("kind-").unwrap();
    let kind = |reference: &String| {
        let began = std::time::Instant::now();
        common::node::run(
            "kind",
            &["load", "docker-image", reference, "--name", cluster],
        );
        began.elapsed()
    };
    let other = kind(&build("kind"));
    eprintln!("kind, changed   {other:?}");
    repository.forget_in_nodes();
    eprintln!("kind, first     {:?}", kind(&first));
    assert!(times[4] * 30 <= other);
}
