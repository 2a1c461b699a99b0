//! Sees to it that every container of a service holds what it should: one task that owns who holds what.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::mask::masked;
use super::plan::{Had, Item, Record, UNKNOWN, Wanted};
use super::send::{Job, Means, Outcome, Trouble};
use crate::error::Failure;
use crate::stack::SyncAfter;
use crate::view::{View, Views};

/// How often a container that cannot be reached is tried again, and after how long.
const TRIES: u32 = 8;
const TRY_AFTER: Duration = Duration::from_millis(500);
/// Names of files in a line.
const NAMED: usize = 3;

/// What the keeper has to say.
#[derive(Debug)]
pub enum Said {
    /// Files went into containers.
    Synced {
        /// Whose.
        service: String,
        /// What went where, for people.
        line: String,
        /// From the change.
        time: Duration,
    },
    /// Files do not go into containers: an image has to be built.
    Refused {
        /// Whose.
        service: String,
        /// The path in the container; none: it is not about a path.
        dest: Option<String>,
        /// Why.
        why: String,
    },
    /// What a command in a container printed.
    Output {
        /// Whose.
        service: String,
        /// One line.
        line: String,
    },
}

/// The keeper's end for others. The task ends with it.
pub struct Keeper {
    asks: mpsc::UnboundedSender<Ask>,
    /// The cluster as connections are to see it: who does not hold what it should is not ready.
    pub views: Views,
    _task: AbortOnDropHandle<()>,
}

/// Told when a service's containers hold all, with what went wrong.
pub type Reply = oneshot::Sender<Option<Failure>>;

enum Ask {
    Want(Arc<Wanted>),
    Forget(String),
    Anew(Arc<Wanted>, Reply),
}

impl Keeper {
    /// Starts it. `memory` is a file where it is remembered what containers were sent; `say` must not block.
    pub fn start(
        means: Means,
        views: Views,
        memory: PathBuf,
        say: impl Fn(Said) + Send + Sync + 'static,
    ) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        let first = Arc::clone(&views.borrow());
        let (out, masked) = watch::channel(first);
        let holders = load(&memory);
        let work = Work {
            means,
            views,
            out,
            memory,
            say: Box::new(say),
            wanted: BTreeMap::new(),
            holders,
            jobs: JoinSet::new(),
            rounds: BTreeMap::new(),
            replies: BTreeMap::new(),
        };
        Keeper {
            asks,
            views: masked,
            _task: AbortOnDropHandle::new(tokio::spawn(work.run(asked))),
        }
    }

    /// Every container of the service is to hold this, from now on.
    pub fn want(&self, wanted: Arc<Wanted>) {
        let _ = self.asks.send(Ask::Want(wanted));
    }

    /// A service is synced no more.
    pub fn forget(&self, service: &str) {
        let _ = self.asks.send(Ask::Forget(service.to_owned()));
    }

    /// As [`Keeper::want`], but all is sent again.
    pub fn anew(&self, wanted: Arc<Wanted>, reply: Reply) {
        let _ = self.asks.send(Ask::Anew(wanted, reply));
    }
}

/// What is known of one container.
#[derive(Debug, Default)]
struct Holder {
    record: Record,
    busy: bool,
    /// Its program is to be started anew, or was and does not listen yet.
    restarting: bool,
    /// How often it was sent something; tells whom an answer is for.
    sends: u64,
    /// It has held all at least once, or is not going to.
    whole: bool,
    /// What was wanted when it could not be done.
    stalled: Option<u64>,
    /// How often it was tried, since it went well.
    tries: u32,
    /// When it is tried again all the same.
    again: Option<Instant>,
}

/// The jobs of one service that are under way, and what is to be said of them together.
#[derive(Debug)]
struct Round {
    left: usize,
    began: Instant,
    replay: bool,
    restarted: bool,
    files: BTreeSet<Box<str>>,
    pods: BTreeSet<String>,
}

/// How a task ended.
enum Ended {
    /// Files were sent, or not.
    Sent(Box<Finished>),
    /// The program of a container listens again.
    Listens { id: String, sends: u64 },
}

struct Finished {
    wanted: Arc<Wanted>,
    job: Job,
    outcome: Outcome,
}

struct Work {
    means: Means,
    views: Views,
    out: watch::Sender<Arc<View>>,
    memory: PathBuf,
    say: Box<dyn Fn(Said) + Send + Sync>,
    wanted: BTreeMap<String, Arc<Wanted>>,
    holders: HashMap<String, Holder>,
    jobs: JoinSet<Ended>,
    rounds: BTreeMap<String, Round>,
    replies: BTreeMap<String, Vec<Reply>>,
}

/// A container that runs.
struct Running {
    pod: Arc<Pod>,
    name: String,
    id: String,
    own: bool,
}

impl Work {
    async fn run(mut self, mut asked: mpsc::UnboundedReceiver<Ask>) {
        loop {
            let again = self
                .holders
                .values()
                .filter_map(|holder| holder.again)
                .min();
            tokio::select! {
                ask = asked.recv() => match ask {
                    Some(ask) => self.ask(ask),
                    None => return,
                },
                changed = self.views.changed() => if changed.is_err() { return },
                Some(Ok(ended)) = self.jobs.join_next() => match ended {
                    Ended::Sent(finished) => self.finished(*finished),
                    Ended::Listens { id, sends } => self.listens(&id, sends),
                },
                () = until(again) => self.try_again(),
            }
            let view = Arc::clone(&self.views.borrow_and_update());
            self.pump(&view);
        }
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Want(wanted) => drop(self.wanted.insert(wanted.service.clone(), wanted)),
            Ask::Forget(service) => drop(self.wanted.remove(&service)),
            Ask::Anew(wanted, reply) => {
                let view = Arc::clone(&self.views.borrow());
                for running in running(&view, &wanted) {
                    if let Some(holder) = self.holders.get_mut(&running.id) {
                        holder
                            .record
                            .values_mut()
                            .for_each(|had| had.digest = UNKNOWN);
                        holder.stalled = None;
                    }
                }
                self.replies
                    .entry(wanted.service.clone())
                    .or_default()
                    .push(reply);
                self.wanted.insert(wanted.service.clone(), wanted);
            }
        }
    }

    /// Sends what lacks, and shows who is held back.
    fn pump(&mut self, view: &Arc<View>) {
        let mut held_back = BTreeSet::new();
        let mut alive = BTreeSet::new();
        let mut begun = Vec::new();
        for wanted in self.wanted.values() {
            let mut busy = false;
            for running in running(view, wanted) {
                let holder = self.holders.entry(running.id.clone()).or_default();
                alive.insert(running.id.clone());
                if !holder.busy && holder.stalled != Some(wanted.number) {
                    let lacks = wanted.lacks(&running.name, running.own, &holder.record);
                    match lacks.is_empty() {
                        true => holder.whole = true,
                        false => {
                            let round = self.rounds.entry(wanted.service.clone());
                            let round = round.or_insert_with(|| Round::new(wanted));
                            let job = start(&self.means, wanted, &running, holder, lacks, round);
                            begun.push((Arc::clone(wanted), job));
                        }
                    }
                }
                busy |= holder.busy;
                if !holder.whole || holder.restarting {
                    held_back.extend(running.pod.metadata.uid.clone());
                }
            }
            if !busy {
                let replies = self.replies.remove(&wanted.service);
                replies
                    .into_iter()
                    .flatten()
                    .for_each(|reply| drop(reply.send(None)));
            }
        }
        if !begun.is_empty() {
            // Before anything is sent: a daemon that is killed in between must not forget of it.
            self.remember();
        }
        for (wanted, job) in begun {
            self.jobs.spawn(async move {
                let outcome = job.run().await;
                Ended::Sent(Box::new(Finished {
                    wanted,
                    job,
                    outcome,
                }))
            });
        }
        if view.complete && view.unreachable.is_none() {
            let services = &self.wanted;
            let exists = |id: &String| alive.contains(id) || is_known(view, id);
            if !services.is_empty() {
                self.holders.retain(|id, holder| holder.busy || exists(id));
            }
        }
        self.out.send_if_modified(|shown| {
            let now = masked(view, &held_back);
            let changed = !Arc::ptr_eq(shown, &now);
            *shown = now;
            changed
        });
    }

    fn finished(&mut self, finished: Finished) {
        let Finished {
            wanted,
            job,
            outcome,
        } = finished;
        let service = wanted.service.clone();
        let holder = self.holders.entry(job.id.clone()).or_default();
        holder.busy = false;
        // Connections wait meanwhile; whoever asks the pod itself asks the kubelet's probes.
        holder.restarting = outcome.restarted && !wanted.ports.is_empty();
        if holder.restarting {
            let (id, sends, means) = (job.id.clone(), holder.sends, self.means.clone());
            let (pod, ports) = (Arc::clone(&job.pod), wanted.ports.clone());
            self.jobs.spawn(async move {
                means.listens(&pod, &ports).await;
                Ended::Listens { id, sends }
            });
        }
        let sources = outcome
            .files
            .iter()
            .map(|(_, had)| had.source.clone())
            .collect::<Vec<_>>();
        holder.record.extend(outcome.files);
        let well = outcome.trouble.is_none();
        if !well {
            holder.stalled = Some(wanted.number);
        }
        for line in outcome.output {
            (self.say)(Said::Output {
                service: service.clone(),
                line,
            });
        }
        match outcome.trouble {
            None => (holder.whole, holder.tries) = (true, 0),
            Some(Trouble::Vanished | Trouble::Gone) if holder.tries < TRIES => {
                holder.tries += 1;
                holder.again = Some(Instant::now() + TRY_AFTER);
            }
            Some(Trouble::Vanished | Trouble::Gone) => holder.whole = true,
            Some(Trouble::Refused(dest, why)) => {
                holder.whole = true;
                self.refused(&service, Some(dest), why);
            }
            Some(Trouble::Failed(failure)) => {
                holder.whole = true;
                self.refused(&service, None, failure.line());
            }
        }
        if let Some(round) = self.rounds.get_mut(&service) {
            round.left -= 1;
            if well {
                round.files.extend(sources);
                round
                    .pods
                    .insert(job.pod.metadata.name.clone().unwrap_or_default());
                round.restarted |= outcome.restarted;
            }
            if round.left == 0 {
                let round = self.rounds.remove(&service).expect("it was just there");
                if let Some(line) = round.line() {
                    (self.say)(Said::Synced {
                        service,
                        line,
                        time: round.began.elapsed(),
                    });
                }
            }
        }
        self.remember();
    }

    fn listens(&mut self, id: &str, sends: u64) {
        if let Some(holder) = self
            .holders
            .get_mut(id)
            .filter(|holder| holder.sends == sends)
        {
            holder.restarting = false;
        }
    }

    fn try_again(&mut self) {
        let now = Instant::now();
        for holder in self
            .holders
            .values_mut()
            .filter(|holder| holder.again.is_some_and(|at| at <= now))
        {
            (holder.again, holder.stalled) = (None, None);
        }
    }

    fn refused(&mut self, service: &str, dest: Option<String>, why: String) {
        for reply in self.replies.remove(service).into_iter().flatten() {
            let _ = reply.send(Some(
                Failure::failed(format!("{service} cannot be synced")).cause(why.clone()),
            ));
        }
        (self.say)(Said::Refused {
            service: service.to_owned(),
            dest,
            why,
        });
    }

    /// For a daemon after this one: what a container holds cannot be seen from outside.
    fn remember(&self) {
        let records: BTreeMap<&String, &Record> = self
            .holders
            .iter()
            .filter(|(_, holder)| !holder.record.is_empty())
            .map(|(id, holder)| (id, &holder.record))
            .collect();
        let Ok(text) = serde_json::to_vec(&records) else {
            return;
        };
        let memory = self.memory.clone();
        let written = move || {
            let partial = memory.with_extension("partial");
            std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, &memory))
        };
        if let Err(error) = written() {
            tracing::warn!(%error, "cannot remember what containers were sent");
        }
    }
}

fn load(memory: &std::path::Path) -> HashMap<String, Holder> {
    let records: BTreeMap<String, Record> = std::fs::read(memory)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    // They served before this process began.
    let holder = |record| Holder {
        record,
        whole: true,
        ..Holder::default()
    };
    records
        .into_iter()
        .map(|(id, record)| (id, holder(record)))
        .collect()
}

fn start(
    means: &Means,
    wanted: &Arc<Wanted>,
    running: &Running,
    holder: &mut Holder,
    items: Vec<Item>,
    round: &mut Round,
) -> Job {
    holder.busy = true;
    holder.sends += 1;
    holder.restarting |= items.iter().any(|item| item.after == SyncAfter::Restart);
    for item in &items {
        let had = Had {
            source: item.source.clone(),
            digest: UNKNOWN,
        };
        holder.record.insert(item.dest.clone(), had);
    }
    round.left += 1;
    if !holder.whole {
        round.replay = true;
        round.began = Instant::now();
    }
    Job {
        means: means.clone(),
        pod: Arc::clone(&running.pod),
        container: running.name.clone(),
        id: running.id.clone(),
        root: wanted.context.root.clone(),
        items,
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

/// The containers of a service's pods that have the image, and those beside them.
fn running(view: &View, wanted: &Wanted) -> Vec<Running> {
    let mut found = Vec::new();
    for pod in view.pods_of(&wanted.service) {
        let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else {
            continue;
        };
        let image = |name: &str| {
            spec.containers
                .iter()
                .find(|one| one.name == name)?
                .image
                .as_deref()
        };
        let newest = spec
            .containers
            .iter()
            .any(|one| one.image.as_ref() == Some(&wanted.reference));
        if !newest || pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        for container in status.container_statuses.iter().flatten() {
            let runs = container
                .state
                .as_ref()
                .is_some_and(|state| state.running.is_some());
            let Some(id) = container.container_id.clone().filter(|_| runs) else {
                continue;
            };
            let own = image(&container.name) == Some(&wanted.reference);
            found.push(Running {
                pod: Arc::clone(pod),
                name: container.name.clone(),
                id,
                own,
            });
        }
    }
    found
}

/// Whether a container of this id is in the picture, be it of a service that is not synced at the moment.
fn is_known(view: &View, id: &str) -> bool {
    let statuses = view
        .pods
        .values()
        .filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref());
    statuses
        .flatten()
        .any(|container| container.container_id.as_deref() == Some(id))
}

impl Round {
    fn new(wanted: &Wanted) -> Self {
        Round {
            left: 0,
            began: wanted.since,
            replay: false,
            restarted: false,
            files: BTreeSet::new(),
            pods: BTreeSet::new(),
        }
    }

    fn line(&self) -> Option<String> {
        let what = match self.files.len() {
            0 => return None,
            1..=NAMED => self
                .files
                .iter()
                .map(AsRef::as_ref)
                .collect::<Vec<&str>>()
                .join(", "),
            more => format!("{more} files"),
        };
        let whom = match (self.pods.len(), self.replay) {
            (1, true) => "a new pod".to_owned(),
            (1, false) => "1 pod".to_owned(),
            (many, true) => format!("{many} new pods"),
            (many, false) => format!("{many} pods"),
        };
        let then = if self.restarted {
            " and started its program anew"
        } else {
            ""
        };
        Some(format!(
            "synced {what} to {whom}{then} in {} ms",
            self.began.elapsed().as_millis()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_went_where() {
        let round = |files: &[&str], pods: &[&str], replay| Round {
            left: 0,
            began: Instant::now(),
            replay,
            restarted: false,
            files: files.iter().map(|&file| file.into()).collect(),
            pods: pods.iter().map(|&pod| pod.to_owned()).collect(),
        };
        let table = [
            (
                round(&["config.yaml"], &["a"], false),
                Some("synced config.yaml to 1 pod in "),
            ),
            (
                round(&["a", "b"], &["a", "b"], false),
                Some("synced a, b to 2 pods in "),
            ),
            (
                round(&["a", "b", "c", "d"], &["a"], true),
                Some("synced 4 files to a new pod in "),
            ),
            (round(&[], &[], false), None),
        ];
        for (round, expected) in table {
            let line = round.line();
            assert_eq!(line.is_some(), expected.is_some());
            assert!(
                line.unwrap_or_default()
                    .starts_with(expected.unwrap_or_default())
            );
        }
    }
}
