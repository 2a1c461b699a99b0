//! The loader, on the real Docker and the real cluster.

mod common;

use common::node::{Namespace, Repository, cluster, pod_says};
use llmdev::cluster::load::{LoadReport, Loader};
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
