//! Local ports that hold: bound once, kept until they are no longer wanted, whatever happens to the pods behind.
//!
//! A connection waits for a ready pod instead of being refused, and moves on to the pod's successor as long as
//! nothing was answered and the request may be sent twice.

mod api;
mod bind;
mod board;
mod connection;
mod dial;
mod holder;
mod probe;
mod reach;
mod relay;
mod replay;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::error::Failure;
use crate::event::ForwardStatus;
use crate::stack::ForwardSpec;
use crate::view::Views;

use board::Board;
pub use dial::{DialError, Dialer, TcpDial, Upstream};

/// A service's forwards are not what they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardChange {
    /// The service.
    pub service: String,
    /// All its forwards as they are now; empty when it has none any more.
    pub forwards: Vec<ForwardStatus>,
    /// A line for people, to be said as a warning.
    pub warning: Option<String>,
}

/// All local ports of a stack. They close when `cancel` is cancelled, or when this is dropped.
pub struct Forwards {
    held: Mutex<Vec<Held>>,
    shared: Arc<Shared>,
}

/// What every connection needs.
struct Shared {
    views: Views,
    dialer: Dialer,
    board: Board,
    cancel: CancellationToken,
}

/// One wanted forward.
struct Held {
    id: u64,
    service: String,
    spec: ForwardSpec,
    listening: Option<Listening>,
}

/// An open port. Dropped: closed; connections that it took go on until they end.
struct Listening {
    target: watch::Sender<Target>,
    _stop: tokio_util::sync::DropGuard,
}

/// Where a port's next connection goes.
#[derive(Debug, Clone)]
struct Target {
    id: u64,
    service: String,
    remote: u16,
}

impl Forwards {
    /// No ports yet. `changed` is called at each change, from any task; it must not block.
    pub fn new(
        views: Views,
        dialer: Dialer,
        changed: impl Fn(ForwardChange) + Send + Sync + 'static,
        cancel: CancellationToken,
    ) -> Self {
        let board = Board::new(Box::new(changed));
        // A child, so that dropping this ends what it started and nothing else.
        let shared = Shared {
            views,
            dialer,
            board,
            cancel: cancel.child_token(),
        };
        Forwards {
            held: Mutex::new(Vec::new()),
            shared: Arc::new(shared),
        }
    }

    /// Makes the wanted forwards the ones that are there: what is wanted already is left alone, a port that
    /// only leads elsewhere now is kept open, what is no longer wanted is closed. Where each one is, in the
    /// order of `wanted`; what is wrong with a new one is announced.
    pub async fn set(&self, wanted: Vec<(String, ForwardSpec)>) -> Vec<ForwardStatus> {
        let mut held = self.held.lock().await;
        let mut old: Vec<Held> = std::mem::take(&mut *held);
        let mut slots = keep(&mut old, &wanted);
        for (slot, (service, spec)) in slots.iter_mut().zip(&wanted) {
            if slot.is_none() {
                *slot = self.shared.retarget(&mut old, service, spec);
            }
        }
        for gone in old {
            self.shared.board.remove(gone.id);
        }
        let mut now = Vec::with_capacity(wanted.len());
        for (slot, (service, spec)) in slots.into_iter().zip(wanted) {
            let mut one = slot.unwrap_or_else(|| Held::new(service, spec));
            if one.listening.is_none() {
                self.shared.open(&mut one);
            }
            let status = self
                .shared
                .board
                .get(one.id)
                .expect("every forward is on the board");
            now.push(status);
            held.push(one);
        }
        now
    }

    /// The forwards of each service that has any.
    pub fn status(&self) -> BTreeMap<String, Vec<ForwardStatus>> {
        self.shared.board.all()
    }
}

impl Drop for Forwards {
    fn drop(&mut self) {
        self.shared.cancel.cancel();
    }
}

impl Held {
    fn new(service: String, spec: ForwardSpec) -> Self {
        Held {
            id: board::next_id(),
            service,
            spec,
            listening: None,
        }
    }
}

/// Takes out of `old` what is wanted unchanged.
fn keep(old: &mut Vec<Held>, wanted: &[(String, ForwardSpec)]) -> Vec<Option<Held>> {
    let same = |held: &Held, service: &str, spec: &ForwardSpec| {
        held.service == service && held.spec == *spec
    };
    let take = |(service, spec): &(String, ForwardSpec)| {
        let at = old.iter().position(|held| same(held, service, spec))?;
        Some(old.remove(at))
    };
    wanted.iter().map(take).collect()
}

impl Shared {
    /// Reuses a port that is open but led elsewhere.
    fn retarget(&self, old: &mut Vec<Held>, service: &str, spec: &ForwardSpec) -> Option<Held> {
        let fits = |held: &Held| {
            held.listening.is_some()
                && held.spec.local == spec.local
                && held.spec.address == spec.address
        };
        let at = old.iter().position(fits)?;
        let before = old.remove(at);
        let status = self.board.get(before.id)?;
        self.board.remove(before.id);
        let mut now = Held::new(service.to_owned(), spec.clone());
        let listening = before.listening?;
        listening.target.send_replace(now.target());
        now.listening = Some(listening);
        self.board.put(
            now.id,
            service,
            ForwardStatus {
                remote: spec.remote,
                problem: None,
                ..status
            },
            None,
        );
        Some(now)
    }

    /// Opens a port and serves it. What stands in the way of the wanted one is announced.
    fn open(self: &Arc<Self>, one: &mut Held) {
        let (status, failure) = match bind::listen(&one.spec) {
            Ok(bound) => {
                one.listening = Some(self.serve(bound.listeners, one.target()));
                let status = ForwardStatus {
                    address: bound.address,
                    local: bound.port,
                    remote: one.spec.remote,
                    wanted: bound.elsewhere.is_some().then_some(one.spec.local),
                    problem: None,
                };
                (status, bound.elsewhere)
            }
            Err(failure) => {
                let status = ForwardStatus {
                    address: bind::address_of(&one.spec),
                    local: one.spec.local,
                    remote: one.spec.remote,
                    wanted: None,
                    problem: Some(failure.line()),
                };
                (status, Some(failure))
            }
        };
        let warning = failure.as_ref().map(Failure::line);
        self.board.put(one.id, &one.service, status, warning);
    }

    fn serve(self: &Arc<Self>, listeners: Vec<TcpListener>, target: Target) -> Listening {
        let stop = self.cancel.child_token();
        let (sender, receiver) = watch::channel(target);
        for listener in listeners {
            let work = connection::accept(listener, receiver.clone(), self.clone());
            tokio::spawn(stop.clone().run_until_cancelled_owned(work));
        }
        let work = probe::run(receiver, self.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(work));
        Listening {
            target: sender,
            _stop: stop.drop_guard(),
        }
    }
}

impl Held {
    fn target(&self) -> Target {
        Target {
            id: self.id,
            service: self.service.clone(),
            remote: self.spec.remote,
        }
    }
}
