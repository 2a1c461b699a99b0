//! The state machine of a stack: every input is one enum, every answer a list of effects, nothing else happens here.
//!
//! Each service has a *target* (what it should run, as fingerprints) and a *stage* (how far its pipeline is). An input
//! that changes the target starts a new *generation*: the older one's effect is cancelled, and its late results are
//! dropped. At most one effect of a service is live; nothing is applied before what it depends on is ready.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::error::{Failure, Kind};
use crate::event::Phase;
use crate::ready::Readiness;

/// How long Docker or the cluster may be gone before what needs them is given up.
const PATIENCE: Duration = Duration::from_secs(180);

/// The first wait before another try; each one after it is twice as long, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait before another try.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What one service should run. Equal targets need no work.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The service's name.
    pub name: String,
    /// Names of the services that must be ready before this one is applied.
    pub depends_on: Vec<String>,
    /// The reference of the image that llmdev builds for it.
    pub image: Option<String>,
    /// Digest of its rendered objects.
    pub objects: String,
    /// How long it may take from applied to ready.
    pub ready_timeout: Duration,
}

/// Everything that can happen to a stack.
#[derive(Debug)]
#[expect(missing_docs, reason = "the variants' texts say what their fields are")]
pub enum Input {
    /// Somebody wants these services and what they depend on (empty: all of them) to be up.
    Up(BTreeSet<String>),
    /// Files that the stack is made of have changed.
    Changed,
    /// The answer to [`Effect::Prepare`].
    Prepared {
        run: u64,
        result: Result<Vec<Target>, Failure>,
    },
    /// The answer to [`Effect::Groundwork`].
    Grounded {
        run: u64,
        result: Result<(), Failure>,
    },
    /// The answer to [`Effect::Run`].
    Done {
        service: String,
        generation: u64,
        stage: Stage,
        result: Result<(), Failure>,
    },
    /// What a build is at.
    Says {
        service: String,
        generation: u64,
        line: String,
    },
    /// The answer to [`Effect::Prune`].
    Pruned {
        run: u64,
        result: Result<(), Failure>,
    },
    /// What the cluster says of a service that is applied.
    Readiness {
        service: String,
        readiness: Readiness,
    },
    /// A deadline may have passed.
    Tick,
    /// The user stopped what is under way; what is applied stays.
    Halt,
}

/// What the driver must do. Each ends with the input that its text names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
#[expect(missing_docs, reason = "the variants' texts say what their fields are")]
pub enum Effect {
    /// Find out what the services should run; a prepare that is still under way is cancelled.
    Prepare { run: u64 },
    /// Apply what belongs to no pipeline: namespaces, configuration, Services.
    Groundwork { run: u64 },
    /// Run one stage of a service's pipeline.
    Run {
        service: String,
        generation: u64,
        stage: Stage,
    },
    /// End the live effect of a service; its answer, if one still comes, is dropped.
    Cancel { service: String },
    /// Take away what the stack no longer contains.
    Prune { run: u64 },
    /// All that was asked for has come to an end: tell whoever waits.
    Settled,
}

/// The stages of a service's pipeline, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Docker builds the image, if it has not got it.
    Build,
    /// The image goes into the nodes, if they have not got it.
    Load,
    /// The workload is applied.
    Apply,
}

impl Stage {
    /// The stage's name in timings and messages.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Build => "build",
            Stage::Load => "load",
            Stage::Apply => "apply",
        }
    }
}

/// Where a service's pipeline is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Not asked for.
    Idle,
    /// The next stage to run; it runs when `live`.
    Before(Stage),
    /// Through; the cluster's word counts.
    Applied,
    /// A stage failed.
    Stuck,
}

#[derive(Debug)]
struct Service {
    target: Target,
    generation: u64,
    place: Place,
    live: bool,
    readiness: Readiness,
    failure: Option<Failure>,
    /// The target that was applied last, which may serve still.
    applied: Option<Target>,
    deadline: Option<Instant>,
    retry: Option<Retry>,
    /// What the live stage said last.
    line: Option<String>,
    since: Instant,
    shown: Phase,
}

/// Another try after something was gone that comes back by itself.
#[derive(Debug, Clone)]
struct Retry {
    /// When the first try failed.
    since: Instant,
    /// When the next one is due.
    at: Instant,
    wait: Duration,
    why: String,
}

impl Retry {
    /// The next try after a failure, if it is worth one.
    fn after(failure: &Failure, before: Option<&Retry>, now: Instant) -> Option<Retry> {
        let since = before.map_or(now, |before| before.since);
        if failure.kind != Kind::Environment || now.duration_since(since) >= PATIENCE {
            return None;
        }
        let wait = before.map_or(FIRST_WAIT, |before| (before.wait * 2).min(LONGEST_WAIT));
        Some(Retry {
            since,
            at: now + wait,
            wait,
            why: failure.line(),
        })
    }

    fn reason(&self) -> String {
        format!("{}; trying again", self.why)
    }
}

/// What the machine says of one service, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The service's name.
    pub name: String,
    /// Where it is.
    pub phase: Phase,
    /// What it waits for, in one line.
    pub reason: Option<String>,
    /// The services that it waits for.
    pub waits_for: Vec<String>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// The image that it has or is to have.
    pub image: Option<String>,
    /// When the phase began.
    pub since: Instant,
    /// Whether it is applied, so that the cluster knows more of it.
    pub applied: bool,
    /// Whether what the cluster has is what it should be.
    pub current: bool,
}

/// The state of a stack.
#[derive(Debug, Default)]
pub struct Machine {
    order: Vec<String>,
    services: BTreeMap<String, Service>,
    wanted: BTreeSet<String>,
    /// Counts prepares; answers to older ones are dropped.
    run: u64,
    preparing: bool,
    grounded: bool,
    ground_retry: Option<Retry>,
    /// Whether an end of all pipelines is to be announced.
    unsettled: bool,
    pruned: bool,
    /// Why the last prepare, groundwork or prune failed.
    failure: Option<Failure>,
}

impl Machine {
    /// Takes an input and says what to do.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Effect> {
        let mut effects = match input {
            Input::Up(wanted) => self.up(wanted),
            Input::Changed => self.prepare(),
            Input::Prepared { run, result } if run == self.run => self.prepared(result, now),
            Input::Grounded { run, result } if run == self.run => self.grounded(result, now),
            Input::Pruned { run, result } if run == self.run => self.ended(result),
            Input::Prepared { .. } | Input::Grounded { .. } | Input::Pruned { .. } => Vec::new(),
            Input::Done {
                service,
                generation,
                stage,
                result,
            } => {
                self.done(&service, generation, stage, result, now);
                Vec::new()
            }
            Input::Says {
                service,
                generation,
                line,
            } => {
                if let Some(service) = self.under_way(&service, generation) {
                    service.line = Some(line);
                }
                Vec::new()
            }
            Input::Readiness { service, readiness } => {
                self.says(&service, readiness);
                Vec::new()
            }
            Input::Tick => self.tick(now),
            Input::Halt => self.halt(),
        };
        effects.extend(self.advance(now));
        effects.extend(self.settle());
        self.stamp(now);
        effects
    }

    /// One row a service, in the order of `stack.yaml`.
    pub fn rows(&self) -> Vec<Row> {
        self.order.iter().map(|name| self.row(name)).collect()
    }

    /// Why the stack as a whole could not be brought up, apart from its services.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// When [`Input::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let late = self
            .services
            .values()
            .filter(|one| one.is_starting())
            .filter_map(|one| one.deadline);
        let retries = self
            .services
            .values()
            .filter(|one| !one.live)
            .filter_map(|one| one.retry.as_ref());
        let retries = retries.chain(&self.ground_retry).map(|retry| retry.at);
        late.chain(retries).min()
    }

    /// Whether the files are being read, so that what changes is read again in any case.
    pub fn is_preparing(&self) -> bool {
        self.preparing
    }

    /// Whether nothing is under way.
    pub fn is_settled(&self) -> bool {
        !self.unsettled
    }

    fn up(&mut self, wanted: BTreeSet<String>) -> Vec<Effect> {
        if wanted.is_empty() {
            self.wanted.clear();
        } else if !self.services.is_empty() && self.wanted.is_empty() {
            // All of them are up already: a part of them asked for again stays all of them.
        } else {
            self.wanted.extend(wanted);
        }
        // Whoever says `up` wants the cluster put right, even where nothing of the files changed.
        for service in self.services.values_mut() {
            if matches!(service.place, Place::Applied | Place::Stuck) {
                service.place = service.first();
                service.generation += 1;
                service.failure = None;
            }
        }
        self.prepare()
    }

    fn prepare(&mut self) -> Vec<Effect> {
        self.run += 1;
        self.preparing = true;
        self.grounded = false;
        self.ground_retry = None;
        self.pruned = false;
        self.unsettled = true;
        vec![Effect::Prepare { run: self.run }]
    }

    fn prepared(&mut self, result: Result<Vec<Target>, Failure>, now: Instant) -> Vec<Effect> {
        self.preparing = false;
        let targets = match result {
            Ok(targets) => targets,
            Err(failure) => {
                self.failure = Some(failure);
                return Vec::new();
            }
        };
        self.failure = None;
        let mut effects = Vec::new();
        self.order = targets.iter().map(|target| target.name.clone()).collect();
        let gone: Vec<_> = self
            .services
            .keys()
            .filter(|name| !self.order.contains(name))
            .cloned()
            .collect();
        for name in gone {
            if self
                .services
                .remove(&name)
                .is_some_and(|service| service.live)
            {
                effects.push(Effect::Cancel { service: name });
            }
        }
        let wanted = closure(&self.wanted, &targets);
        for target in targets {
            let wanted = wanted.contains(&target.name);
            effects.extend(self.retarget(target, wanted, now));
        }
        effects.push(Effect::Groundwork { run: self.run });
        effects
    }

    fn retarget(&mut self, target: Target, wanted: bool, now: Instant) -> Option<Effect> {
        let name = target.name.clone();
        let service = self
            .services
            .entry(name.clone())
            .or_insert_with(|| Service::new(target.clone(), now));
        let changed = service.target != target;
        service.target = target;
        if !wanted {
            return None;
        }
        let begin = changed || service.place == Place::Idle;
        if !begin {
            return None;
        }
        service.generation += 1;
        service.place = service.first();
        service.failure = None;
        service.retry = None;
        service.live.then(|| {
            service.live = false;
            Effect::Cancel { service: name }
        })
    }

    fn grounded(&mut self, result: Result<(), Failure>, now: Instant) -> Vec<Effect> {
        let before = self.ground_retry.take();
        match result {
            Ok(()) => self.grounded = true,
            Err(failure) => match Retry::after(&failure, before.as_ref(), now) {
                Some(retry) => self.ground_retry = Some(retry),
                None => self.failure = Some(failure),
            },
        }
        Vec::new()
    }

    fn ended(&mut self, result: Result<(), Failure>) -> Vec<Effect> {
        self.pruned = true;
        if let Err(failure) = result {
            self.failure = Some(failure);
        }
        Vec::new()
    }

    /// The service whose live effect it is.
    fn under_way(&mut self, name: &str, generation: u64) -> Option<&mut Service> {
        let service = self.services.get_mut(name);
        service.filter(|one| one.generation == generation && one.live)
    }

    fn done(
        &mut self,
        name: &str,
        generation: u64,
        stage: Stage,
        result: Result<(), Failure>,
        now: Instant,
    ) {
        let Some(service) = self.under_way(name, generation) else {
            return;
        };
        service.live = false;
        match result {
            Err(failure) => match Retry::after(&failure, service.retry.as_ref(), now) {
                Some(retry) => service.retry = Some(retry),
                None => {
                    service.retry = None;
                    service.place = Place::Stuck;
                    service.failure = Some(failure);
                    self.unsettled = true;
                }
            },
            Ok(()) => {
                service.retry = None;
                service.pass(stage, now);
            }
        }
    }

    fn says(&mut self, name: &str, readiness: Readiness) {
        if let Some(service) = self.services.get_mut(name).filter(|one| one.is_applied()) {
            if matches!(readiness, Readiness::Ready) {
                service.deadline = None;
            }
            service.failure = None;
            service.readiness = readiness;
        }
    }

    fn tick(&mut self, now: Instant) -> Vec<Effect> {
        for service in self.services.values_mut() {
            if service.is_starting() && service.deadline.is_some_and(|deadline| deadline <= now) {
                service.deadline = None;
                service.failure = Some(service.late());
            }
        }
        // It stays, with its next time far off, until it is answered.
        match &mut self.ground_retry {
            Some(retry) if retry.at <= now => {
                retry.at = now + PATIENCE;
                vec![Effect::Groundwork { run: self.run }]
            }
            _ => Vec::new(),
        }
    }

    fn halt(&mut self) -> Vec<Effect> {
        // A new number: whatever prepare or groundwork is under way answers to nobody.
        self.run += 1;
        self.preparing = false;
        self.ground_retry = None;
        let mut effects = Vec::new();
        for (name, service) in &mut self.services {
            if service.live {
                service.live = false;
                effects.push(Effect::Cancel {
                    service: name.clone(),
                });
            }
            service.retry = None;
            if matches!(service.place, Place::Before(_)) {
                service.generation += 1;
                service.place = match service.is_applied() {
                    true => Place::Applied,
                    false => Place::Idle,
                };
            }
        }
        self.failure = Some(Failure::new(Kind::Interrupted, "stopped"));
        effects
    }

    /// Starts whatever may start now.
    fn advance(&mut self, now: Instant) -> Vec<Effect> {
        let ready: BTreeSet<String> = self
            .services
            .iter()
            .filter(|(_, one)| one.is_ready())
            .map(|(name, _)| name.clone())
            .collect();
        let (preparing, grounded, run) = (self.preparing, self.grounded, self.run);
        let mut effects = Vec::new();
        for (name, service) in &mut self.services {
            let Place::Before(stage) = service.place else {
                continue;
            };
            let gated = stage == Stage::Apply
                && (!grounded
                    || service
                        .target
                        .depends_on
                        .iter()
                        .any(|dependency| !ready.contains(dependency)));
            // While a newer target may be on its way, what is live goes on, but nothing begins.
            let early = service.retry.as_ref().is_some_and(|retry| retry.at > now);
            if service.live || preparing || gated || early || run == 0 {
                continue;
            }
            service.live = true;
            service.line = None;
            effects.push(Effect::Run {
                service: name.clone(),
                generation: service.generation,
                stage,
            });
        }
        effects
    }

    /// Announces the end of a run, after a prune if all of it was applied.
    fn settle(&mut self) -> Vec<Effect> {
        if !self.unsettled
            || self.preparing
            || !self.services.values().all(|one| self.is_at_rest(one))
        {
            return Vec::new();
        }
        if self.failure.is_none() && !self.grounded {
            return Vec::new();
        }
        let applied = self
            .services
            .values()
            .all(|one| matches!(one.place, Place::Applied | Place::Idle));
        if self.failure.is_none() && applied && !self.pruned {
            self.pruned = true;
            return vec![Effect::Prune { run: self.run }];
        }
        self.unsettled = false;
        vec![Effect::Settled]
    }

    fn is_halted(&self) -> bool {
        let failure = self.failure.as_ref();
        failure.is_some_and(|one| one.kind == Kind::Interrupted)
    }

    /// Whether nothing will happen to a service without another input from outside.
    fn is_at_rest(&self, service: &Service) -> bool {
        match service.place {
            _ if service.retry.is_some() => false,
            Place::Idle | Place::Stuck => true,
            // Whoever stopped it does not wait for what it comes to.
            Place::Applied => service.is_ready() || service.has_failed() || self.is_halted(),
            Place::Before(Stage::Apply) => {
                !service.live && (self.failure.is_some() || self.is_blocked(service))
            }
            Place::Before(_) => self.failure.is_some() && !service.live,
        }
    }

    /// Whether something that it depends on, however far, has failed or was not asked for.
    fn is_blocked(&self, service: &Service) -> bool {
        service
            .target
            .depends_on
            .iter()
            .any(|name| match self.services.get(name) {
                None => true,
                Some(dependency) => {
                    dependency.has_failed()
                        || dependency.place == Place::Idle
                        || (!dependency.is_ready()
                            && !dependency.live
                            && self.is_blocked(dependency))
                }
            })
    }

    fn row(&self, name: &str) -> Row {
        let service = &self.services[name];
        Row {
            name: name.to_owned(),
            phase: service.phase(),
            reason: self.reason(service),
            waits_for: match self.is_held(service) {
                true => self
                    .held_by(service)
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
                false => Vec::new(),
            },
            failure: service.failed().cloned(),
            image: service.target.image.clone(),
            since: service.since,
            applied: service.place == Place::Applied,
            current: service.is_applied(),
        }
    }

    fn reason(&self, service: &Service) -> Option<String> {
        if let Some(failure) = service.failed() {
            return Some(failure.line());
        }
        if let (Phase::Building, Some(line)) = (service.phase(), &service.line) {
            return Some(line.clone());
        }
        if let Some(retry) = &service.retry {
            return Some(retry.reason());
        }
        match service.place {
            Place::Before(Stage::Apply) if !service.live => Some(self.waits_for(service)),
            Place::Applied => match &service.readiness {
                Readiness::Waiting { why } => Some(why.clone()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether it is through but for what it depends on.
    fn is_held(&self, service: &Service) -> bool {
        let before_apply = service.place == Place::Before(Stage::Apply) && !service.live;
        before_apply && service.retry.is_none() && !service.has_failed()
    }

    /// What it depends on that has failed; what is not ready yet, if nothing has.
    fn held_by<'a>(&self, service: &'a Service) -> Vec<&'a str> {
        let those = |are: fn(&Service) -> bool| -> Vec<&'a str> {
            let names = service.target.depends_on.iter();
            let those = names.filter(|name| self.services.get(*name).is_some_and(are));
            those.map(String::as_str).collect()
        };
        match those(Service::has_failed) {
            none if none.is_empty() => those(|one| !one.is_ready()),
            failed => failed,
        }
    }

    fn waits_for(&self, service: &Service) -> String {
        let names = self.held_by(service);
        match (names.first(), &self.ground_retry) {
            (Some(first), _) => {
                let failed = self.services.get(*first).is_some_and(Service::has_failed);
                let which = if failed { ", which failed" } else { "" };
                format!("waits for {}{which}", names.join(" and "))
            }
            (None, Some(retry)) => retry.reason(),
            (None, None) => "waits for the stack's configuration to be applied".to_owned(),
        }
    }

    fn stamp(&mut self, now: Instant) {
        for service in self.services.values_mut() {
            let phase = service.phase();
            if phase != service.shown {
                service.shown = phase;
                service.since = now;
            }
        }
    }
}

impl Service {
    fn new(target: Target, now: Instant) -> Self {
        Service {
            target,
            generation: 0,
            place: Place::Idle,
            live: false,
            readiness: Readiness::waiting("not applied yet"),
            failure: None,
            applied: None,
            deadline: None,
            retry: None,
            line: None,
            since: now,
            shown: Phase::Pending,
        }
    }

    /// Where its pipeline begins: an image from upstream is not built.
    fn first(&self) -> Place {
        Place::Before(match self.target.image {
            Some(_) => Stage::Build,
            None => Stage::Load,
        })
    }

    /// A stage went well.
    fn pass(&mut self, stage: Stage, now: Instant) {
        self.place = match stage {
            Stage::Build => Place::Before(Stage::Load),
            Stage::Load => Place::Before(Stage::Apply),
            Stage::Apply => Place::Applied,
        };
        if stage == Stage::Apply {
            if self.applied.as_ref() != Some(&self.target) {
                // What the cluster said of the older version says nothing of this one.
                self.readiness = Readiness::waiting("just applied");
            }
            self.applied = Some(self.target.clone());
            self.deadline = Some(now + self.target.ready_timeout);
        }
    }

    /// Whether the cluster has it as it should be. An `up` that finds nothing to change does not take that away.
    fn is_applied(&self) -> bool {
        match self.place {
            Place::Applied => true,
            Place::Before(_) => self.applied.as_ref() == Some(&self.target),
            Place::Idle | Place::Stuck => false,
        }
    }

    /// Ready as it should be: dependants may go on.
    fn is_ready(&self) -> bool {
        self.is_applied() && matches!(self.readiness, Readiness::Ready)
    }

    fn is_starting(&self) -> bool {
        self.place == Place::Applied && !self.is_ready()
    }

    fn failed(&self) -> Option<&Failure> {
        match &self.readiness {
            Readiness::Failed(failure) if self.place == Place::Applied => Some(failure),
            _ => self.failure.as_ref(),
        }
    }

    fn has_failed(&self) -> bool {
        self.failed().is_some()
    }

    fn late(&self) -> Failure {
        let seconds = self.target.ready_timeout.as_secs();
        let failure = Failure::failed(format!(
            "{} is not ready after {seconds} s",
            self.target.name
        ));
        let failure = match &self.readiness {
            Readiness::Waiting { why } => failure.cause(why.clone()),
            _ => failure,
        };
        failure.remedy(format!(
            "see `llmdev why {}`; `readyTimeout` allows for more",
            self.target.name
        ))
    }

    fn phase(&self) -> Phase {
        if self.has_failed() {
            return Phase::Failed;
        }
        if self.is_ready() {
            return Phase::Ready;
        }
        match self.place {
            Place::Idle | Place::Stuck => Phase::Pending,
            Place::Applied => Phase::Starting,
            Place::Before(_) if !self.live => Phase::Pending,
            // Until Docker says something, it may be as far away as at the last try.
            Place::Before(Stage::Build) if self.retry.is_some() && self.line.is_none() => {
                Phase::Pending
            }
            Place::Before(Stage::Build) => Phase::Building,
            Place::Before(Stage::Load) => Phase::Loading,
            Place::Before(Stage::Apply) => Phase::Applying,
        }
    }
}

/// The wanted services and all that they depend on; all of them when none is named.
fn closure(wanted: &BTreeSet<String>, targets: &[Target]) -> BTreeSet<String> {
    let by_name: BTreeMap<&str, &Target> =
        targets.iter().map(|one| (one.name.as_str(), one)).collect();
    let mut found = BTreeSet::new();
    let mut next: Vec<&str> = if wanted.is_empty() {
        by_name.keys().copied().collect()
    } else {
        wanted
            .iter()
            .map(String::as_str)
            .filter(|name| by_name.contains_key(name))
            .collect()
    };
    while let Some(name) = next.pop() {
        if found.insert(name.to_owned()) {
            next.extend(
                by_name
                    .get(name)
                    .into_iter()
                    .flat_map(|one| one.depends_on.iter().map(String::as_str)),
            );
        }
    }
    found
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
