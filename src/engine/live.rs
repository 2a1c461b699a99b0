//! Which services keep their image and get newer files into it, and which need another image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::build::entries::What;
use crate::build::{ImagePlan, Planner};
use crate::error::Result;
use crate::stack::{ServiceId, Stack};
use crate::state::State;
use crate::sync::base::{Base, Changed, Now};
use crate::sync::{Rules, Wanted};
use crate::watch::Change;

use super::prepare::Prepared;
use super::world::World;

/// A service that keeps its image.
#[derive(Debug)]
pub struct Synced {
    /// What its containers hold beyond the image.
    pub wanted: Arc<Wanted>,
    /// Its image as the files would have it now.
    pub plan: Arc<ImagePlan>,
}

/// What decides whether a service keeps its image. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bases {
    /// By service.
    of: BTreeMap<String, Arc<Base>>,
    /// Paths in containers that cannot be written to.
    refused: BTreeMap<String, BTreeSet<String>>,
    /// Services whose containers cannot be synced at all, until they have another image.
    blocked: BTreeSet<String>,
    /// When the change began that is being looked at.
    since: Instant,
}

impl Bases {
    /// Gives the plans of services that keep their image that image's name.
    pub fn pin(
        &self,
        stack: &Stack,
        plans: &mut BTreeMap<ServiceId, Arc<ImagePlan>>,
    ) -> BTreeMap<ServiceId, Synced> {
        let mut synced = BTreeMap::new();
        for id in stack.ids() {
            let Some(plan) = plans.get(&id).filter(|_| !is_shared(stack, id)) else {
                continue;
            };
            let Ok(wanted) = self.wanted(stack, plan, self.since) else {
                continue;
            };
            let plan = Arc::clone(plan);
            let pinned = ImagePlan {
                reference: wanted.reference.clone(),
                ..ImagePlan::clone(&plan)
            };
            plans.insert(id, Arc::new(pinned));
            synced.insert(
                id,
                Synced {
                    wanted: Arc::new(wanted),
                    plan,
                },
            );
        }
        synced
    }

    /// What the service's containers are to hold beyond the image that it has; or the first file that no rule covers.
    fn wanted(&self, stack: &Stack, plan: &ImagePlan, since: Instant) -> Result<Wanted, String> {
        let service = stack.service(plan.service);
        let base = self
            .of
            .get(&service.name)
            .filter(|_| !service.sync.is_empty());
        let base = base
            .filter(|base| same_repository(&base.reference, &plan.reference))
            .filter(|_| !self.blocked.contains(&service.name))
            .ok_or_else(String::new)?;
        let rules = Rules::of(&service.sync, plan);
        let changes = base.difference(plan)?;
        let none = BTreeSet::new();
        let items = rules.items(&changes, self.refused.get(&service.name).unwrap_or(&none))?;
        Ok(Wanted {
            service: service.name.clone(),
            reference: base.reference.clone(),
            items,
            context: Arc::clone(&plan.context),
            rules,
            ports: service
                .forwards
                .iter()
                .map(|forward| forward.remote)
                .collect(),
            since,
            number: Wanted::next_number(),
        })
    }
}

/// Whether another image is made from this one, or has its name: then it is the image that has to be right.
fn is_shared(stack: &Stack, id: ServiceId) -> bool {
    let image = stack.service(id).build.as_ref().map(|build| &build.image);
    let others = stack.ids().filter(|&other| other != id);
    let builds = others.filter_map(|other| stack.service(other).build.as_ref());
    builds.into_iter().any(|build| {
        build.requires.values().any(|&needed| needed == id) || Some(&build.image) == image
    })
}

/// Another registry has not got the image that a service has.
fn same_repository(a: &str, b: &str) -> bool {
    let repository = |reference: &str| reference.rsplit_once(':').map(|(name, _)| name.to_owned());
    repository(a) == repository(b)
}

/// What a look at a few build contexts came to.
pub struct Looked {
    order: u64,
    change: Change,
    /// None: not to be said from the contexts alone.
    news: Option<Vec<News>>,
}

struct News {
    plan: Arc<ImagePlan>,
    wanted: Wanted,
}

/// What to do after a look.
pub enum Then {
    /// All is done.
    Nothing,
    /// Everything has to be read. The change is given back.
    Prepare(Change),
}

/// The short way's part of the driver.
pub struct Live {
    state: State,
    bases: Bases,
    /// Plans as they were read last, with the names that their images would have.
    latest: BTreeMap<ServiceId, Arc<ImagePlan>>,
    asked: u64,
    answered: u64,
}

impl Live {
    /// With what an earlier daemon knew of the images of these services.
    pub fn new(state: State) -> Self {
        let mut of = BTreeMap::new();
        for entry in std::fs::read_dir(state.bases())
            .into_iter()
            .flatten()
            .flatten()
        {
            if let (Some(service), Some(base)) =
                (entry.file_name().to_str(), Base::load(&entry.path()))
            {
                of.insert(service.to_owned(), Arc::new(base));
            }
        }
        let bases = Bases {
            of,
            refused: BTreeMap::new(),
            blocked: BTreeSet::new(),
            since: Instant::now(),
        };
        Live {
            state,
            bases,
            latest: BTreeMap::new(),
            asked: 0,
            answered: 0,
        }
    }

    /// What a preparation goes by.
    pub fn bases(&mut self) -> Bases {
        // What is being looked at is read again.
        self.answered = self.asked;
        self.bases.clone()
    }

    /// A change began then that is looked at from now on.
    pub fn since(&mut self, since: Instant) {
        self.bases.since = since;
    }

    /// All was read: containers are to hold what it says.
    pub fn prepared(&mut self, prepared: &Prepared, world: &World) {
        let of = |id: &ServiceId| {
            prepared
                .synced
                .get(id)
                .map(|synced| Arc::clone(&synced.plan))
        };
        let plans = prepared.plans.iter();
        self.latest = plans
            .map(|(id, plan)| (*id, of(id).unwrap_or_else(|| Arc::clone(plan))))
            .collect();
        for synced in prepared.synced.values() {
            world.keeper.want(Arc::clone(&synced.wanted));
        }
        let gone = |name: &String| {
            prepared
                .stack
                .find(name)
                .is_none_or(|id| prepared.stack.service(id).sync.is_empty())
        };
        let gone: Vec<String> = self
            .bases
            .of
            .keys()
            .filter(|name| gone(name))
            .cloned()
            .collect();
        for name in gone {
            self.drop_base(&name);
            world.keeper.forget(&name);
        }
    }

    /// A service's workload was applied with what was prepared then.
    pub fn applied(&mut self, prepared: &Prepared, service: &str, world: &World) {
        let Some(id) = prepared.stack.find(service) else {
            return;
        };
        let rules = &prepared.stack.service(id).sync;
        let Some(plan) = prepared.plans.get(&id).filter(|_| !rules.is_empty()) else {
            return;
        };
        if prepared.synced.contains_key(&id) {
            return;
        }
        let base = Arc::new(Base::of(plan));
        self.bases.blocked.remove(service);
        self.bases.of.insert(service.to_owned(), Arc::clone(&base));
        if let Ok(wanted) = self.bases.wanted(&prepared.stack, plan, Instant::now()) {
            world.keeper.want(Arc::new(wanted));
        }
        let path = self.state.base(service);
        tokio::task::spawn_blocking(move || {
            // Without it, the next daemon builds what this one would have synced.
            if let Err(error) = base.save(&path) {
                tracing::warn!(%error, "cannot remember what an image was made from");
            }
        });
    }

    /// The image is not there any more.
    pub fn drop_base(&mut self, service: &str) {
        self.bases.of.remove(service);
        let _ = std::fs::remove_file(self.state.base(service));
    }

    /// The stack is down.
    pub fn clear(&mut self) {
        let names: Vec<String> = self.bases.of.keys().cloned().collect();
        names.iter().for_each(|name| self.drop_base(name));
        let _ = std::fs::remove_file(self.state.synced());
    }

    /// A container does not take a path, or nothing at all. Whether that is news.
    pub fn refuse(&mut self, service: &str, dest: Option<String>) -> bool {
        match dest {
            Some(dest) => self
                .bases
                .refused
                .entry(service.to_owned())
                .or_default()
                .insert(dest),
            None => self.bases.blocked.insert(service.to_owned()),
        }
    }

    /// Whether a change can be looked at by reading a few build contexts and nothing else; then the work.
    pub fn look(
        &mut self,
        change: &Change,
        current: &Prepared,
        planner: &Arc<Mutex<Planner>>,
    ) -> Option<impl FnOnce() -> Looked + Send + 'static + use<>> {
        let owners = owners(change, current, &self.latest)?;
        self.asked += 1;
        let (order, change) = (self.asked, change.clone());
        let (stack, latest, bases) = (
            Arc::clone(&current.stack),
            self.latest.clone(),
            self.bases.clone(),
        );
        let planner = Arc::clone(planner);
        Some(move || {
            let mut planner = planner.lock().unwrap_or_else(PoisonError::into_inner);
            let news = owners
                .into_iter()
                .map(|id| news(&mut planner, &stack, id, &latest, &bases, change.since));
            // A context that cannot be read is for a whole preparation to complain of.
            let news = news.collect::<Option<Vec<_>>>();
            Looked {
                order,
                change,
                news: news.map(|news| news.into_iter().flatten().collect()),
            }
        })
    }

    /// Takes what a look came to. `ready`: whether a service runs the image that it should, and no stage is under way.
    pub fn looked(
        &mut self,
        looked: Looked,
        world: &World,
        ready: impl Fn(&str, &str) -> bool,
        mut follow: impl FnMut(&ImagePlan),
    ) -> Then {
        if looked.order <= self.answered {
            return Then::Nothing;
        }
        let news = looked.news.filter(|news| {
            news.iter()
                .all(|one| ready(&one.plan.name, &one.wanted.reference))
        });
        let Some(news) = news else {
            return Then::Prepare(looked.change);
        };
        self.answered = looked.order;
        for one in news {
            follow(&one.plan);
            self.latest.insert(one.plan.service, one.plan);
            world.keeper.want(Arc::new(one.wanted));
        }
        Then::Nothing
    }

    /// Everything of a service that rules cover, to be sent again.
    pub fn all_of(&self, stack: &Stack, service: &str) -> Option<Wanted> {
        let plan = self.latest.get(&stack.find(service)?)?;
        let mut wanted = self.bases.wanted(stack, plan, Instant::now()).ok()?;
        for entry in plan.context.entries.iter() {
            if let What::File { digest, .. } = entry.what {
                let now = Some(Now {
                    digest,
                    mode: entry.mode,
                });
                let items = wanted.rules.items_of(&Changed {
                    path: entry.path.into(),
                    now,
                });
                wanted.items.extend(items);
            }
        }
        let mut seen = BTreeSet::new();
        wanted
            .items
            .retain(|item| seen.insert((item.dest.clone(), item.container.clone())));
        Some(wanted)
    }
}

/// The services whose build contexts the paths are in; none if one of them may matter for something else.
fn owners(
    change: &Change,
    current: &Prepared,
    latest: &BTreeMap<ServiceId, Arc<ImagePlan>>,
) -> Option<BTreeSet<ServiceId>> {
    let inputs = &current.rendered.inputs;
    let secrets = current
        .stack
        .secrets
        .iter()
        .map(|secret| secret.env_file.as_path());
    let fixed: BTreeSet<&Path> = secrets.chain([current.stack.file.as_path()]).collect();
    let is_input =
        |path: &Path| fixed.contains(path) || inputs.iter().any(|input| path.starts_with(input));
    let is_recipe = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().ends_with(".dockerignore"))
            || latest.values().any(|plan| plan.spec.dockerfile == path)
    };
    let mut owners = BTreeSet::new();
    for path in &change.paths {
        if is_input(path) || is_recipe(path) {
            return None;
        }
        let of = latest
            .iter()
            .filter(|(_, plan)| path.starts_with(&plan.context.root));
        let before = owners.len();
        let of: Vec<ServiceId> = of.map(|(id, _)| *id).collect();
        let known = of.iter().any(|id| owners.contains(id));
        owners.extend(of);
        if owners.len() == before && !known {
            return None;
        }
    }
    (!owners.is_empty()).then_some(owners)
}

/// What has become of one service; nothing if nothing has; none if it needs another image.
fn news(
    planner: &mut Planner,
    stack: &Stack,
    id: ServiceId,
    latest: &BTreeMap<ServiceId, Arc<ImagePlan>>,
    bases: &Bases,
    since: Instant,
) -> Option<Option<News>> {
    let references = latest
        .iter()
        .map(|(id, plan)| (*id, plan.reference.clone()))
        .collect();
    let plan = planner.plan_one(stack, id, &references).ok()?;
    if latest
        .get(&id)
        .is_some_and(|latest| latest.reference == plan.reference)
    {
        return Some(None);
    }
    if is_shared(stack, id) {
        return None;
    }
    let wanted = bases.wanted(stack, &plan, since).ok()?;
    Some(Some(News {
        plan: Arc::new(plan),
        wanted,
    }))
}
