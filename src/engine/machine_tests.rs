//! The machine by tables and by properties.

use proptest::prelude::*;

use super::*;

/// A cluster and a Docker that do what the test says.
struct World {
    machine: Machine,
    now: Instant,
    targets: Vec<Target>,
    /// Effects that are under way.
    live: Vec<Effect>,
    settled: usize,
    log: Vec<String>,
}

fn target(name: &str, depends_on: &[&str], version: u8) -> Target {
    Target {
        name: name.to_owned(),
        depends_on: depends_on.iter().map(|&one| one.to_owned()).collect(),
        image: Some(format!("{name}:{version}")),
        objects: format!("{version}"),
        ready_timeout: Duration::from_secs(60),
    }
}

impl World {
    fn new(targets: Vec<Target>) -> Self {
        World {
            machine: Machine::default(),
            now: Instant::now(),
            targets,
            live: vec![],
            settled: 0,
            log: vec![],
        }
    }

    fn give(&mut self, input: Input) {
        for effect in self.machine.handle(input, self.now) {
            match &effect {
                Effect::Settled => self.settled += 1,
                Effect::Cancel { service } => {
                    self.log.push(format!("cancel {service}"));
                    self.live.retain(
                        |one| !matches!(one, Effect::Run { service: name, .. } if name == service),
                    );
                }
                Effect::Run { service, stage, .. } => {
                    self.log.push(format!("{} {service}", stage.name()));
                    self.live.push(effect);
                }
                Effect::Prepare { .. } => {
                    self.live
                        .retain(|one| !matches!(one, Effect::Prepare { .. }));
                    self.live.push(effect);
                }
                _ => self.live.push(effect),
            }
        }
    }

    /// Answers the effect at an index of `live`.
    fn answer(&mut self, index: usize, good: bool) {
        let result = if good {
            Ok(())
        } else {
            Err(Failure::failed("no"))
        };
        let input = match self.live.remove(index) {
            Effect::Prepare { run } => Input::Prepared {
                run,
                result: result.map(|()| self.targets.clone()),
            },
            Effect::Groundwork { run } => Input::Grounded { run, result },
            Effect::Prune { run } => Input::Pruned { run, result },
            Effect::Run {
                service,
                generation,
                stage,
            } => Input::Done {
                service,
                generation,
                stage,
                result,
            },
            Effect::Cancel { .. } | Effect::Settled => unreachable!("never live"),
        };
        self.give(input);
    }

    /// Answers everything well until nothing is live, and says of what is applied that it is ready.
    fn settle(&mut self) {
        loop {
            if !self.live.is_empty() {
                self.answer(0, true);
            } else if let Some(name) = self.starting() {
                self.give(Input::Readiness {
                    service: name,
                    readiness: Readiness::Ready,
                });
            } else {
                return;
            }
        }
    }

    fn starting(&self) -> Option<String> {
        let row = self
            .machine
            .rows()
            .into_iter()
            .find(|row| row.phase == Phase::Starting)?;
        Some(row.name)
    }

    fn phase(&self, name: &str) -> Phase {
        self.machine
            .rows()
            .into_iter()
            .find(|row| row.name == name)
            .unwrap()
            .phase
    }

    fn reason(&self, name: &str) -> String {
        self.machine
            .rows()
            .into_iter()
            .find(|row| row.name == name)
            .unwrap()
            .reason
            .unwrap_or_default()
    }
}

fn up() -> Input {
    Input::Up(BTreeSet::new())
}

fn chain() -> World {
    World::new(vec![target("db", &[], 1), target("api", &["db"], 1)])
}

#[test]
fn what_has_no_build_is_never_building() {
    let upstream = Target {
        image: None,
        ..target("db", &[], 1)
    };
    let mut world = World::new(vec![upstream, target("api", &[], 1)]);
    for _ in 0..2 {
        world.give(up());
        while !world.live.is_empty() {
            let rows = world.machine.rows();
            let building = |row: &Row| row.name == "db" && row.phase == Phase::Building;
            assert!(!rows.iter().any(building));
            world.answer(0, true);
        }
    }
    let of = |name| {
        let ends = |line: &&String| line.ends_with(name);
        world.log.iter().filter(ends).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of("db")[..2], ["load db", "apply db"]);
    assert_eq!(of("api")[..3], ["build api", "load api", "apply api"]);
}

#[test]
fn a_service_is_applied_only_when_what_it_depends_on_is_ready() {
    let mut world = chain();
    world.give(up());
    while !world.live.is_empty() {
        world.answer(0, true);
    }
    assert_eq!(world.phase("db"), Phase::Starting);
    assert_eq!(
        (world.phase("api"), world.reason("api").as_str()),
        (Phase::Pending, "waits for db")
    );
    assert!(!world.log.contains(&"apply api".to_owned()));
    world.settle();
    assert_eq!(world.phase("api"), Phase::Ready);
    assert_eq!(world.settled, 1);
}

#[test]
fn an_up_that_finds_nothing_to_change_stays_ready_all_along() {
    let mut world = chain();
    world.give(up());
    world.settle();
    world.give(up());
    assert_eq!(world.phase("api"), Phase::Ready);
    world.settle();
    assert_eq!(world.settled, 2);
}

#[test]
fn a_change_concerns_only_the_services_whose_target_it_changes() {
    let mut world = chain();
    world.give(up());
    world.settle();
    world.log.clear();
    world.targets[1] = target("api", &["db"], 2);
    world.give(Input::Changed);
    world.settle();
    assert_eq!(world.log, ["build api", "load api", "apply api"]);
}

#[test]
fn a_newer_change_cancels_the_older_ones_work_and_drops_its_late_answer() {
    let mut world = chain();
    world.give(up());
    world.settle();
    world.targets[1] = target("api", &["db"], 2);
    world.give(Input::Changed);
    world.answer(0, true);
    world.live.retain(|one| matches!(one, Effect::Run { .. }));
    let Effect::Run { generation, .. } = world.live[0] else {
        panic!("a build is live")
    };
    world.targets[1] = target("api", &["db"], 3);
    world.give(Input::Changed);
    let prepare = world
        .live
        .iter()
        .position(|one| matches!(one, Effect::Prepare { .. }))
        .unwrap();
    world.answer(prepare, true);
    assert!(world.log.contains(&"cancel api".to_owned()));
    let late = Input::Done {
        service: "api".to_owned(),
        generation,
        stage: Stage::Build,
        result: Ok(()),
    };
    world.give(late);
    assert_eq!(world.phase("api"), Phase::Building, "the new build goes on");
    world.settle();
    assert_eq!(world.machine.rows()[1].image.as_deref(), Some("api:3"));
}

#[test]
fn a_failed_build_ends_the_run_and_holds_up_only_what_depends_on_it() {
    let mut world = World::new(vec![
        target("db", &[], 1),
        target("api", &["db"], 1),
        target("web", &[], 1),
    ]);
    world.give(up());
    world.answer(0, true);
    let build = world
        .live
        .iter()
        .position(|one| matches!(one, Effect::Run { service, .. } if service == "db"))
        .unwrap();
    world.answer(build, false);
    world.settle();
    assert_eq!(world.phase("db"), Phase::Failed);
    assert_eq!(
        (world.phase("api"), world.reason("api").as_str()),
        (Phase::Pending, "waits for db, which failed")
    );
    assert_eq!(world.phase("web"), Phase::Ready);
    assert_eq!(world.settled, 1);
    assert!(
        !world
            .live
            .iter()
            .any(|one| matches!(one, Effect::Prune { .. })),
        "nothing is pruned after a failure"
    );
}

#[test]
fn a_new_attempt_begins_without_the_words_of_the_one_before() {
    let mut world = World::new(vec![target("api", &[], 1)]);
    world.give(up());
    world.answer(0, true);
    let says = |world: &mut World, line: &str| {
        let build = world.live.iter().find_map(|one| match one {
            Effect::Run { generation, .. } => Some(*generation),
            _ => None,
        });
        world.give(Input::Says {
            service: "api".to_owned(),
            generation: build.expect("a build is live"),
            line: line.to_owned(),
        });
    };
    says(&mut world, "RUN make: no rule");
    assert_eq!(world.reason("api"), "RUN make: no rule");
    let build = world.live.len() - 1;
    world.answer(build, false);
    assert_eq!(
        (world.phase("api"), world.reason("api").as_str()),
        (Phase::Failed, "no")
    );

    world.targets[0] = target("api", &[], 2);
    world.live.clear();
    world.give(Input::Changed);
    world.answer(0, true);
    assert_eq!(
        (world.phase("api"), world.reason("api").as_str()),
        (Phase::Building, "")
    );
    says(&mut world, "RUN make");
    assert_eq!(world.reason("api"), "RUN make");
    // It is tried again by itself, as where Docker goes away.
    let Some(Effect::Run { generation, .. }) = world.live.last().cloned() else {
        panic!("a build is live")
    };
    world.give(Input::Done {
        service: "api".to_owned(),
        generation,
        stage: Stage::Build,
        result: Err(Failure::environment("no Docker")),
    });
    world.now += Duration::from_secs(1);
    world.give(Input::Tick);
    assert_eq!(
        (world.phase("api"), world.reason("api").as_str()),
        (Phase::Pending, "no Docker; trying again")
    );
    says(&mut world, "RUN make");
    assert_eq!(world.phase("api"), Phase::Building);
}

#[test]
fn a_service_that_is_not_ready_in_time_has_failed_until_it_is_ready_after_all() {
    let mut world = chain();
    world.give(up());
    while !world.live.is_empty() {
        world.answer(0, true);
    }
    world.give(Input::Readiness {
        service: "db".to_owned(),
        readiness: Readiness::waiting("0 of 1 pods ready"),
    });
    assert_eq!(
        world.machine.next_deadline(),
        Some(world.now + Duration::from_secs(60))
    );
    world.now += Duration::from_secs(60);
    world.give(Input::Tick);
    assert_eq!(
        world.reason("db"),
        "db is not ready after 60 s: 0 of 1 pods ready"
    );
    assert_eq!(world.settled, 1);
    world.settle();
    world.give(Input::Readiness {
        service: "db".to_owned(),
        readiness: Readiness::Ready,
    });
    world.settle();
    assert_eq!(
        world.phase("api"),
        Phase::Ready,
        "and what waited for it goes on"
    );
}

#[test]
fn only_what_is_asked_for_and_what_it_depends_on_comes_up() {
    let mut world = World::new(vec![
        target("db", &[], 1),
        target("api", &["db"], 1),
        target("web", &[], 1),
    ]);
    world.give(Input::Up(BTreeSet::from(["api".to_owned()])));
    world.settle();
    assert_eq!(
        [world.phase("db"), world.phase("api"), world.phase("web")],
        [Phase::Ready, Phase::Ready, Phase::Pending]
    );
    assert_eq!(world.settled, 1);
}

#[test]
fn a_halt_ends_what_is_live_and_keeps_what_is_applied() {
    let mut world = chain();
    world.give(up());
    while world.phase_or("db", Phase::Pending) != Phase::Starting {
        world.answer(0, true);
    }
    world.give(Input::Halt);
    assert_eq!(world.settled, 1, "db may start for long yet");
    assert_eq!(world.machine.failure().unwrap().kind, Kind::Interrupted);
    world.give(Input::Readiness {
        service: "db".to_owned(),
        readiness: Readiness::Ready,
    });
    assert_eq!((world.phase("db"), world.settled), (Phase::Ready, 1));
    world.give(up());
    world.settle();
    assert_eq!(world.phase("api"), Phase::Ready);
}

#[test]
fn a_halt_of_an_up_that_finds_nothing_to_change_changes_nothing() {
    let mut world = chain();
    world.give(up());
    world.settle();
    world.give(up());
    world.answer(0, true);
    world.give(Input::Halt);
    assert_eq!([world.phase("db"), world.phase("api")], [Phase::Ready; 2]);
    world.give(Input::Readiness {
        service: "api".to_owned(),
        readiness: Readiness::waiting("it crashed"),
    });
    assert_eq!(world.phase("api"), Phase::Starting);
}

#[test]
fn what_is_gone_for_a_while_is_tried_again_until_it_is_back() {
    let mut world = World::new(vec![target("api", &[], 1)]);
    world.give(up());
    world.answer(0, true);
    let generation = 1;
    let gone = |stage| Input::Done {
        service: "api".to_owned(),
        generation,
        stage,
        result: Err(Failure::environment("Docker does not answer")),
    };
    world.live.retain(|one| !matches!(one, Effect::Run { .. }));
    world.give(gone(Stage::Build));
    assert_eq!(world.reason("api"), "Docker does not answer; trying again");
    assert_eq!(world.machine.next_deadline(), Some(world.now + FIRST_WAIT));
    assert_eq!(world.settled, 0);
    world.now += FIRST_WAIT;
    world.give(Input::Tick);
    world.settle();
    assert_eq!((world.phase("api"), world.settled), (Phase::Ready, 1));
}

#[test]
fn what_stays_gone_is_given_up() {
    let mut world = World::new(vec![target("api", &[], 1)]);
    world.give(up());
    world.answer(0, true);
    for _ in 0..100 {
        let Some(index) = world
            .live
            .iter()
            .position(|one| matches!(one, Effect::Run { .. }))
        else {
            let Some(due) = world.machine.next_deadline() else {
                break;
            };
            world.now = due;
            world.give(Input::Tick);
            continue;
        };
        let Effect::Run {
            service,
            generation,
            stage,
        } = world.live.remove(index)
        else {
            unreachable!()
        };
        let result = Err(Failure::environment("gone"));
        world.give(Input::Done {
            service,
            generation,
            stage,
            result,
        });
    }
    assert_eq!(world.phase("api"), Phase::Failed);
}

#[test]
fn a_service_that_the_stack_no_longer_has_is_forgotten_and_its_work_cancelled() {
    let mut world = chain();
    world.give(up());
    world.answer(0, true);
    world.targets.remove(1);
    world.give(Input::Changed);
    let prepare = world
        .live
        .iter()
        .position(|one| matches!(one, Effect::Prepare { .. }))
        .unwrap();
    world.answer(prepare, true);
    assert!(world.log.contains(&"cancel api".to_owned()));
    world.settle();
    assert_eq!(world.machine.rows().len(), 1);
}

impl World {
    fn phase_or(&self, name: &str, otherwise: Phase) -> Phase {
        self.machine
            .rows()
            .into_iter()
            .find(|row| row.name == name)
            .map_or(otherwise, |row| row.phase)
    }
}

/// What a test may do to the world at each step.
#[derive(Debug, Clone)]
enum Step {
    Up(Option<usize>),
    Change(usize, u8),
    Answer(usize, bool),
    Says(usize, u8),
    Wait(u64),
    Halt,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => proptest::option::of(0..4usize).prop_map(Step::Up),
        2 => (0..4usize, 0..3u8).prop_map(|(service, version)| Step::Change(service, version)),
        8 => (0..8usize, prop::bool::weighted(0.8)).prop_map(|(which, good)| Step::Answer(which, good)),
        4 => (0..4usize, 0..3u8).prop_map(|(service, what)| Step::Says(service, what)),
        1 => (0..90u64).prop_map(Step::Wait),
        1 => Just(Step::Halt),
    ]
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const EDGES: [&[&str]; 4] = [&[], &["a"], &["a", "b"], &[]];

fn take(world: &mut World, step: &Step) {
    match *step {
        Step::Up(which) => world.give(Input::Up(
            which
                .map(|index| NAMES[index].to_owned())
                .into_iter()
                .collect(),
        )),
        Step::Change(index, version) => {
            world.targets[index] = target(NAMES[index], EDGES[index], version);
            world.give(Input::Changed);
        }
        Step::Answer(which, good) if !world.live.is_empty() => {
            world.answer(which % world.live.len(), good)
        }
        Step::Answer(..) => {}
        Step::Says(index, what) => {
            let readiness = match what {
                0 => Readiness::Ready,
                1 => Readiness::waiting("not yet"),
                _ => Readiness::Failed(Failure::failed("crashes")),
            };
            world.give(Input::Readiness {
                service: NAMES[index].to_owned(),
                readiness,
            });
        }
        Step::Wait(seconds) => {
            world.now += Duration::from_secs(seconds);
            world.give(Input::Tick);
        }
        Step::Halt => world.give(Input::Halt),
    }
}

proptest! {
    #[test]
    fn whatever_happens(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new((0..4).map(|index| target(NAMES[index], EDGES[index], 0)).collect());
        for step in &steps {
            let before: BTreeMap<_, _> = world.machine.rows().into_iter().map(|row| (row.name, row.phase)).collect();
            let applies = world.log.len();
            take(&mut world, step);
            // At most one live effect a service.
            for name in NAMES {
                let live = world.live.iter().filter(|one| matches!(one, Effect::Run { service, .. } if service == name));
                prop_assert!(live.count() <= 1);
            }
            // Nothing is applied before what it depends on is ready.
            for line in &world.log[applies..] {
                if let Some(name) = line.strip_prefix("apply ") {
                    let index = NAMES.iter().position(|one| *one == name).unwrap();
                    for dependency in EDGES[index] {
                        prop_assert_eq!(world.phase(dependency), Phase::Ready, "{} before {} ({:?})", name, dependency, before);
                    }
                }
            }
        }
        // Whatever came before, a good up brings everything up, and says so.
        world.targets = (0..4).map(|index| target(NAMES[index], EDGES[index], 9)).collect();
        world.give(up());
        world.settle();
        for row in world.machine.rows() {
            prop_assert_eq!(row.phase, Phase::Ready, "{:?}", row);
        }
        prop_assert!(world.machine.is_settled());
    }
}
