//! How long it takes to plan an image whose context has 20 000 files: first, again, and in a fresh process.
//!
//! `cargo bench --bench digest`

use std::path::Path;
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
    let mut again: Vec<f64> = (0..PASSES)
        .map(|_| timed(folder.path(), &mut digests))
        .collect();
    again.sort_by(f64::total_cmp);
    println!("again, best   {:>8.1} ms", again[0]);
    println!("again, median {:>8.1} ms", again[PASSES / 2]);
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

/// Milliseconds.
fn timed(root: &Path, digests: &mut Digests) -> f64 {
    let ignore =
        Dockerignore::parse(".git\nnode_modules\n**/*.pyc\n*.md\n!README.md\n").expect("patterns");
    let began = Instant::now();
    let context = Context::read(root, &ignore, digests).expect("the context is readable");
    let mut hasher = blake3::Hasher::new();
    context.digest_into(&mut hasher);
    std::hint::black_box(hasher.finalize());
    began.elapsed().as_secs_f64() * 1e3
}
