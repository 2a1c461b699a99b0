//! Where events go out: a subscriber gets a snapshot and then every change, with no gap between the two.

use std::sync::{Arc, Mutex};

use chrono::Utc;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::event::{Event, Level, ServiceStatus, Status, What};

/// How far a subscriber may lag before it is given a new snapshot instead.
const BACKLOG: usize = 256;

/// The bus of one stack. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bus {
    state: Arc<Mutex<State>>,
    sender: broadcast::Sender<Arc<Event>>,
}

#[derive(Debug)]
struct State {
    seq: u64,
    status: Status,
}

impl Bus {
    /// A bus whose first snapshot is `status`.
    pub fn new(status: Status) -> Self {
        Bus {
            state: Arc::new(Mutex::new(State { seq: 0, status })),
            sender: broadcast::Sender::new(BACKLOG),
        }
    }

    /// The stack as it is.
    pub fn status(&self) -> Status {
        self.lock().status.clone()
    }

    /// Says that a service's row is now this; nothing if it was so already.
    pub fn service(&self, row: ServiceStatus) {
        let mut state = self.lock();
        let Some(place) = state
            .status
            .services
            .iter_mut()
            .find(|one| one.name == row.name)
        else {
            return;
        };
        if *place != row {
            *place = row.clone();
            self.send(&mut state, What::Service(Box::new(row)));
        }
    }

    /// Says that the whole picture is now this.
    pub fn snapshot(&self, status: Status) {
        let mut state = self.lock();
        if state.status != status {
            state.status = status.clone();
            self.send(&mut state, What::Snapshot(status));
        }
    }

    /// Says a line to people, and to the daemon's log.
    pub fn note(&self, level: Level, service: Option<&str>, text: impl Into<String>) {
        let text = text.into();
        match level {
            Level::Info => tracing::info!(service, "{text}"),
            Level::Warning => tracing::warn!(service, "{text}"),
            Level::Error => tracing::error!(service, "{text}"),
        }
        self.send(
            &mut self.lock(),
            What::Note {
                level,
                service: service.map(str::to_owned),
                text,
            },
        );
    }

    /// Everything from now on, after the picture as it is now.
    pub fn subscribe(&self) -> Subscription {
        let state = self.lock();
        let first = event(state.seq, What::Snapshot(state.status.clone()));
        Subscription {
            first: Some(Arc::new(first)),
            receiver: self.sender.subscribe(),
            bus: self.clone(),
        }
    }

    fn send(&self, state: &mut State, what: What) {
        state.seq += 1;
        // Nobody listening is no error.
        let _ = self.sender.send(Arc::new(event(state.seq, what)));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no one panics while holding the bus")
    }
}

fn event(seq: u64, what: What) -> Event {
    Event {
        seq,
        at: Utc::now(),
        what,
    }
}

/// One subscriber's end.
#[derive(Debug)]
pub struct Subscription {
    first: Option<Arc<Event>>,
    receiver: broadcast::Receiver<Arc<Event>>,
    bus: Bus,
}

impl Subscription {
    /// The next event; never ends before the bus does.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Closed) => None,
            Err(RecvError::Lagged(_)) => {
                *self = self.bus.subscribe();
                self.first.take()
            }
        }
    }

    /// An event that has happened already, if there is one.
    pub fn ready(&mut self) -> Option<Arc<Event>> {
        self.first.take().or_else(|| self.receiver.try_recv().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Phase;

    fn row(phase: Phase) -> ServiceStatus {
        ServiceStatus {
            name: "api".to_owned(),
            phase,
            ready: false,
            older: false,
            reason: None,
            waits_for: Vec::new(),
            image: None,
            pods: Vec::new(),
            forwards: Vec::new(),
            since: Utc::now(),
            failure: None,
            timings: Vec::new(),
        }
    }

    fn bus() -> Bus {
        let services = vec![row(Phase::Pending)];
        Bus::new(Status {
            stack: "test".to_owned(),
            cluster: None,
            services,
            watching: false,
            unreachable: None,
            failure: None,
        })
    }

    fn phase(event: &Event) -> Phase {
        match &event.what {
            What::Snapshot(status) => status.services[0].phase,
            What::Service(row) => row.phase,
            What::Note { .. } => panic!("a note has no phase"),
        }
    }

    #[tokio::test]
    async fn a_subscriber_gets_a_snapshot_and_then_the_changes() {
        let bus = bus();
        bus.service(row(Phase::Building));
        let mut subscription = bus.subscribe();
        bus.service(row(Phase::Ready));
        let (first, second) = (
            subscription.next().await.unwrap(),
            subscription.next().await.unwrap(),
        );
        assert_eq!(
            (phase(&first), phase(&second)),
            (Phase::Building, Phase::Ready)
        );
        assert_eq!(first.seq + 1, second.seq);
    }

    #[tokio::test]
    async fn a_subscriber_that_lags_gets_a_new_snapshot() {
        let bus = bus();
        let mut subscription = bus.subscribe();
        subscription.next().await;
        for _ in 0..BACKLOG {
            bus.note(Level::Info, None, "one");
            bus.note(Level::Info, None, "another");
        }
        bus.service(row(Phase::Ready));
        let next = subscription.next().await.unwrap();
        assert_eq!(phase(&next), Phase::Ready);
    }
}
