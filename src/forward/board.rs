//! How each forward is; whoever changes it announces it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ForwardChange;
use crate::event::ForwardStatus;

type Announce = Box<dyn Fn(ForwardChange) + Send + Sync>;

/// Service and status by forward, in the order in which the forwards were made.
type Rows = BTreeMap<u64, (String, ForwardStatus)>;

pub(super) struct Board {
    rows: Mutex<Rows>,
    announce: Announce,
}

/// The next forward's number.
pub(super) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Board {
    pub(super) fn new(announce: Announce) -> Self {
        Board {
            rows: Mutex::default(),
            announce,
        }
    }

    pub(super) fn put(
        &self,
        id: u64,
        service: &str,
        status: ForwardStatus,
        warning: Option<String>,
    ) {
        let forwards = {
            let mut rows = self.rows();
            rows.insert(id, (service.to_owned(), status));
            of(&rows, service)
        };
        self.say(service, forwards, warning);
    }

    pub(super) fn remove(&self, id: u64) {
        let (service, forwards) = {
            let mut rows = self.rows();
            let Some((service, _)) = rows.remove(&id) else {
                return;
            };
            let forwards = of(&rows, &service);
            (service, forwards)
        };
        self.say(&service, forwards, None);
    }

    /// Sets or clears what is wrong with a forward. Says nothing when that was known.
    pub(super) fn problem(&self, id: u64, problem: Option<String>) {
        let (service, forwards, warning) = {
            let mut rows = self.rows();
            let Some((service, status)) = rows.get_mut(&id) else {
                return;
            };
            if status.problem == problem {
                return;
            }
            let warning = problem
                .as_ref()
                .map(|text| match status.local == status.remote {
                    true => text.clone(),
                    false => format!("{text} ({}:{} leads there)", status.address, status.local),
                });
            status.problem = problem;
            let service = service.clone();
            let forwards = of(&rows, &service);
            (service, forwards, warning)
        };
        self.say(&service, forwards, warning);
    }

    pub(super) fn get(&self, id: u64) -> Option<ForwardStatus> {
        self.rows().get(&id).map(|(_, status)| status.clone())
    }

    pub(super) fn all(&self) -> BTreeMap<String, Vec<ForwardStatus>> {
        let mut all: BTreeMap<String, Vec<ForwardStatus>> = BTreeMap::new();
        for (service, status) in self.rows().values() {
            all.entry(service.clone()).or_default().push(status.clone());
        }
        all
    }

    fn rows(&self) -> std::sync::MutexGuard<'_, Rows> {
        self.rows.lock().expect("no holder of this lock panics")
    }

    fn say(&self, service: &str, forwards: Vec<ForwardStatus>, warning: Option<String>) {
        (self.announce)(ForwardChange {
            service: service.to_owned(),
            forwards,
            warning,
        });
    }
}

fn of(rows: &Rows, service: &str) -> Vec<ForwardStatus> {
    rows.values()
        .filter(|(name, _)| name == service)
        .map(|(_, status)| status.clone())
        .collect()
}
