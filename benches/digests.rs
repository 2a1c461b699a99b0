//! How long it takes to plan an image whose context has 20 000 files: first, again, in a fresh process, and as a daemon
//! does that watches them.
//!
//! `cargo bench --bench digests`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use llmdev::build::context::Context;
use llmdev::build::digests::Digests;
use llmdev::build::dockerignore::Dockerignore;

const PASSES: usize = 50;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for package in 0..200 {
        let package = folder.path().join(format!("package{package}/src"));
        std::fs::create_dir_all(&package).expect("a folder");
        for module in 0..100 {
            let text = format!("print({module})\n").repeat(60);
            std::fs::write(package.join(format!("module_{module}.py")), text).expect("a file");
        }
    }
    // Digests of files younger than this are not remembered.
    std::thread::sleep(Duration::from_millis(100));
    let cache = folder.path().join("../llmdev-bench-digests");
    let mut digests = Digests::default();
    println!(
        "first         {:>8.1} ms",
        timed(folder.path(), &mut digests)
    );
    let [best, median] = many(|| timed(folder.path(), &mut digests));
    println!("again, best   {best:>8.1} ms");
    println!("again, median {median:>8.1} ms");
    let before = read(folder.path(), &mut digests);
    let edited = BTreeSet::from([folder.path().join("package7/src/module_7.py")]);
    for (what, heard) in [("watched", BTreeSet::new()), ("one edited", edited)] {
        let [_, median] = many(|| watched(&before, &heard, &mut digests));
        println!("{what:<13} {median:>8.1} ms");
    }
    digests.save(&cache).expect("the cache is written");
    let began = Instant::now();
    let mut digests = Digests::load(&cache);
    println!(
        "cache loaded  {:>8.1} ms",
        began.elapsed().as_secs_f64() * 1e3
    );
    println!(
        "fresh process {:>8.1} ms",
        timed(folder.path(), &mut digests)
    );
    std::fs::remove_file(&cache).expect("the cache is removed");
}

/// The best of many times, and the one in the middle.
fn many(mut once: impl FnMut() -> f64) -> [f64; 2] {
    let mut times: Vec<f64> = (0..PASSES).map(|_| once()).collect();
    times.sort_by(f64::total_cmp);
    [times[0], times[PASSES / 2]]
}

/// Milliseconds.
fn timed(root: &Path, digests: &mut Digests) -> f64 {
    let began = Instant::now();
    tag(&read(root, digests));
    began.elapsed().as_secs_f64() * 1e3
}

/// Milliseconds, with what a watcher has told of.
fn watched(before: &Context, heard: &BTreeSet<PathBuf>, digests: &mut Digests) -> f64 {
    let ignore = ignore();
    let began = Instant::now();
    let again = before.read_again(heard, &ignore, digests);
    tag(&again.expect("the context is readable"));
    began.elapsed().as_secs_f64() * 1e3
}

fn read(root: &Path, digests: &mut Digests) -> Context {
    Context::read(root, &ignore(), digests).expect("the context is readable")
}

fn ignore() -> Dockerignore {
    Dockerignore::parse(".git\nnode_modules\n**/*.pyc\n*.md\n!README.md\n").expect("patterns")
}

fn tag(context: &Context) {
    let mut hasher = blake3::Hasher::new();
    context.digest_into(&mut hasher);
    std::hint::black_box(hasher.finalize());
}
