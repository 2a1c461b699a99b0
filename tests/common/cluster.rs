//! The test cluster, and namespaces on it that go away with the test.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use kube::config::KubeConfigOptions;
use kube::{Client, Config};

/// The kubeconfig context of the test cluster.
pub fn context() -> String {
    std::env::var("LLMDEV_TEST_CONTEXT").unwrap_or_else(|_| "kind-kind".to_owned())
}

/// A client for it.
pub async fn client() -> Client {
    let options = KubeConfigOptions {
        context: Some(context()),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_kubeconfig(&options)
        .await
        .expect("the kubeconfig has the test context");
    Client::try_from(config).expect("the kubeconfig makes a client")
}

/// kubectl on the test cluster; its output, whatever came of it.
pub fn kubectl(words: &[&str]) -> String {
    let output = Command::new("kubectl")
        .arg("--context")
        .arg(context())
        .args(words)
        .output();
    let output = output.expect("kubectl runs");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A name that no other test has: `llmdev-test-…`.
pub fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("the clock is right").as_micros() as u64 & 0xff_ffff_ffff;
    format!(
        "llmdev-test-{now:x}-{}",
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Deletes what a test made, even when it fails.
pub struct Cleanup {
    words: Vec<Vec<String>>,
}

impl Cleanup {
    /// Of a namespace, which need not be there.
    pub fn namespace(name: &str) -> Self {
        Cleanup { words: Vec::new() }.and(&["namespace", name])
    }

    /// And of something else: the words after `kubectl delete`.
    pub fn and(mut self, words: &[&str]) -> Self {
        self.words
            .push(words.iter().map(|word| (*word).to_owned()).collect());
        self
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        for words in &self.words {
            let mut all = vec!["delete", "--ignore-not-found", "--wait=false"];
            all.extend(words.iter().map(String::as_str));
            kubectl(&all);
        }
    }
}
