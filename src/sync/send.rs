//! Bringing files into one container, and what happens there afterwards.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;

use super::plan::{Had, Item};
use super::tar::Place;
use crate::agent::wire::Done;
use crate::build::digests;
use crate::cluster::agent::{Agent, Agents, FileChange};
use crate::error::{Failure, Result};
use crate::stack::SyncAfter;

/// Contents that are sent at once, in bytes.
const BATCH: usize = 16 << 20;
/// How long a program that was started anew is waited for.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks whether it listens.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A container that has just been created may not be there for the node yet.
const AGAIN_AFTER: Duration = Duration::from_millis(150);

/// The ways into containers.
#[derive(Clone)]
pub struct Means {
    /// For the API server.
    pub client: kube::Client,
    /// In the nodes; none where nodes cannot be reached.
    pub agents: Option<Arc<Agents>>,
}

/// One container and what it is to be sent.
pub struct Job {
    /// The ways into it.
    pub means: Means,
    /// The container's pod.
    pub pod: Arc<Pod>,
    /// The container's name.
    pub container: String,
    /// The container's id.
    pub id: String,
    /// The build context's folder.
    pub root: PathBuf,
    /// What it lacks.
    pub items: Vec<Item>,
}

/// How a job ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the container holds now.
    pub files: Vec<(String, Had)>,
    /// What stood in the way of the rest.
    pub trouble: Option<Trouble>,
    /// What commands printed, in lines.
    pub output: Vec<String>,
    /// Whether its program was started anew.
    pub restarted: bool,
}

/// Why a container does not hold all that it should.
#[derive(Debug)]
pub enum Trouble {
    /// A file is gone again; whoever took it away will be heard of.
    Vanished,
    /// The container is gone.
    Gone,
    /// A path in it cannot be written to, and why.
    Refused(String, String),
    /// There is no way.
    Failed(Failure),
}

impl Job {
    /// Does it.
    pub async fn run(&self) -> Outcome {
        let mut outcome = Outcome::default();
        let done = async {
            let mut items = &self.items[..];
            while !items.is_empty() {
                let (files, rest) = self.read(items).await?;
                self.send(&files, &mut outcome.files).await?;
                items = rest;
            }
            Ok(())
        };
        let done: Result<(), Trouble> = done.await;
        let done = match done {
            Ok(()) => self.after(&mut outcome).await,
            trouble => trouble,
        };
        outcome.trouble = done.err();
        outcome
    }

    /// As many files as go in one batch, and what is left.
    async fn read<'a>(
        &self,
        items: &'a [Item],
    ) -> Result<(Vec<(Had, FileChange)>, &'a [Item]), Trouble> {
        let (root, wanted) = (self.root.clone(), items.to_vec());
        let read = tokio::task::spawn_blocking(move || {
            let mut files = Vec::new();
            let mut size = 0;
            for item in wanted {
                if size >= BATCH {
                    break;
                }
                let file = read_one(&root, &item)?;
                size += file.1.content.as_ref().map_or(0, Bytes::len);
                files.push(file);
            }
            Ok(files)
        });
        let files: Vec<_> = read
            .await
            .map_err(|error| Trouble::Failed(Failure::failed("cannot read").because(error)))??;
        let rest = &items[files.len()..];
        Ok((files, rest))
    }

    async fn send(
        &self,
        files: &[(Had, FileChange)],
        held: &mut Vec<(String, Had)>,
    ) -> Result<(), Trouble> {
        let changes: Vec<FileChange> = files.iter().map(|(_, change)| change.clone()).collect();
        let keep = |held: &mut Vec<_>, (had, change): &(Had, FileChange)| {
            held.push((change.path.clone(), had.clone()))
        };
        let Some(agent) = self.agent().await else {
            let place = Place {
                client: &self.means.client,
                pod: &self.pod,
                container: &self.container,
            };
            place.put(&changes).await.map_err(Trouble::Failed)?;
            files.iter().for_each(|file| keep(held, file));
            return Ok(());
        };
        let answers = match agent.sync(&self.id, &changes).await {
            Ok(answers) => answers,
            Err(_) => {
                tokio::time::sleep(AGAIN_AFTER).await;
                let agent = self.agent().await.ok_or(Trouble::Gone)?;
                agent
                    .sync(&self.id, &changes)
                    .await
                    .map_err(|_| Trouble::Gone)?
            }
        };
        for (file, answer) in files.iter().zip(answers) {
            match answer {
                Done::Failed { why, .. } => return Err(Trouble::Refused(file.1.path.clone(), why)),
                _ => keep(held, file),
            }
        }
        Ok(())
    }

    async fn agent(&self) -> Option<Arc<Agent>> {
        self.means.agent(&self.pod).await
    }

    async fn after(&self, outcome: &mut Outcome) -> Result<(), Trouble> {
        let mut done: Vec<&SyncAfter> = Vec::new();
        for item in &self.items {
            if done.contains(&&item.after) {
                continue;
            }
            done.push(&item.after);
            match &item.after {
                SyncAfter::Nothing => {}
                SyncAfter::Exec(command) => self.exec(command, &mut outcome.output).await?,
                SyncAfter::Restart => {
                    self.restart().await?;
                    outcome.restarted = true;
                }
            }
        }
        Ok(())
    }

    async fn exec(&self, command: &[String], output: &mut Vec<String>) -> Result<(), Trouble> {
        let place = Place {
            client: &self.means.client,
            pod: &self.pod,
            container: &self.container,
        };
        let ran = place.exec(command, &[]).await.map_err(Trouble::Failed)?;
        output.extend(
            ran.output
                .lines()
                .map(|line| format!("{}: {line}", command[0])),
        );
        if !ran.well {
            output.push(format!("`{}` failed", command.join(" ")));
        }
        Ok(())
    }

    async fn restart(&self) -> Result<(), Trouble> {
        let by_hand = || Failure::failed("its program cannot be started anew where it runs");
        let agent = self
            .agent()
            .await
            .ok_or_else(|| Trouble::Failed(by_hand().cause("there is no agent in its node")))?;
        agent
            .rerun(&self.id)
            .await
            .map_err(|failure| Trouble::Failed(by_hand().cause(failure.line())))
    }
}

impl Means {
    async fn agent(&self, pod: &Pod) -> Option<Arc<Agent>> {
        let node = pod.spec.as_ref()?.node_name.as_deref()?;
        self.agents.as_ref()?.on(node).await.ok()
    }

    /// Waits until a program that was started anew listens on its ports, or has had its time.
    pub async fn listens(&self, pod: &Pod, ports: &[u16]) {
        let Some(agent) = self.agent(pod).await else {
            return;
        };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let deadline = Instant::now() + LISTENS_WITHIN;
        for port in ports {
            while let Err(error) = agent.dial(uid, *port).await {
                if error.kind() != std::io::ErrorKind::ConnectionRefused
                    || Instant::now() > deadline
                {
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

fn read_one(root: &std::path::Path, item: &Item) -> Result<(Had, FileChange), Trouble> {
    let mut change = FileChange {
        path: item.dest.clone(),
        content: None,
        mode: 0,
    };
    let mut had = Had {
        source: item.source.clone(),
        digest: None,
    };
    if let Some(now) = item.now {
        let mut content = Vec::new();
        let path = root.join(&*item.source);
        let read = digests::open(&path)
            .and_then(|mut file| std::io::Read::read_to_end(&mut file, &mut content));
        read.map_err(|_| Trouble::Vanished)?;
        // It may be newer than what was planned; then another plan is on its way.
        had.digest = Some(digests::of_bytes(&content));
        change.content = Some(content.into());
        change.mode = u32::from(now.mode);
    }
    Ok((had, change))
}
