//! What the services' containers print, merged by time, without losing or repeating a line.

mod containers;
mod line;
mod merge;
mod near;
mod seen;
mod source;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use regex::Regex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::agent::Agents;
use crate::error::{Failure, Result};
use crate::view::Views;
use containers::Place;
use merge::{Closed, Last};
use source::Source;

/// Lines that may wait to be taken; a slow taker slows the reading down.
const WAITING: usize = 256;
/// How long a picture of the cluster that is not complete yet is waited for.
const COMPLETE: Duration = Duration::from_secs(10);

/// Which lines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogQuery {
    /// Services by name.
    pub services: Vec<String>,
    /// Go on with what is printed from now on, in pods that do not exist yet as well.
    pub follow: bool,
    /// Nothing older.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// No more than so many lines of each service to begin with, the newest ones, counted after `grep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<usize>,
    /// The containers' last run but one, instead of the last one. Nothing is followed then.
    pub previous: bool,
    /// Only lines that this regular expression matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
    /// Only containers of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// One line that a container printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// The service's name.
    pub service: Arc<str>,
    /// The pod's name.
    pub pod: Arc<str>,
    /// The container's name.
    pub container: Arc<str>,
    /// When it was printed, by the node's clock.
    pub at: DateTime<Utc>,
    /// Without the line's end. What is not UTF-8 is replaced; what is longer than 64 KiB is cut, with a word about it.
    pub text: String,
}

/// What is read: a line, or why a container could not be read. The others go on then.
pub type LogItem = Result<LogLine>;

/// Reads what `query` asks for. Ends after the last line, with `cancel`, or when the receiver is dropped. With agents in
/// the nodes, last lines are read there.
///
/// Fails when `query.grep` is no regular expression.
pub fn stream(
    client: kube::Client,
    agents: Option<Arc<Agents>>,
    views: Views,
    query: LogQuery,
    cancel: CancellationToken,
) -> Result<mpsc::Receiver<LogItem>> {
    let grep = query
        .grep
        .as_deref()
        .map(Regex::new)
        .transpose()
        .map_err(|error| {
            Failure::usage("`--grep` is not a regular expression")
                .because(error)
                .remedy("put a backslash before ( [ { . * + ? to mean the character itself")
        })?;
    let (out, lines) = mpsc::channel(WAITING);
    let follow = query.follow && !query.previous;
    let reader = Reader {
        client,
        agents,
        views,
        query,
        grep,
        follow,
    };
    tokio::spawn(async move {
        tokio::select! {
            () = reader.run(&out) => {}
            () = cancel.cancelled() => {}
            () = out.closed() => {}
        }
    });
    Ok(lines)
}

struct Reader {
    client: kube::Client,
    agents: Option<Arc<Agents>>,
    views: Views,
    query: LogQuery,
    grep: Option<Regex>,
    follow: bool,
}

impl Reader {
    async fn run(self, out: &mpsc::Sender<LogItem>) {
        let mut views = self.views.clone();
        let complete = views.wait_for(|view| view.complete);
        if !matches!(tokio::time::timeout(COMPLETE, complete).await, Ok(Ok(_))) {
            let unknown = Failure::environment("the cluster has not said yet which pods there are");
            let _ = out.send(Err(unknown)).await;
            return;
        }
        let mut tasks = JoinSet::new();
        let (live, lines) = mpsc::channel(WAITING);
        let places = containers::places(&views.borrow_and_update(), &self.query);
        let known = places.iter().cloned().collect();
        // Who follows goes on from all of them.
        let (over, others) = match self.query.tail {
            Some(_) if !self.follow => self.apart(places),
            _ => (Vec::new(), places),
        };
        let histories = self.read(others, self.follow.then_some(&live), &mut tasks);
        let printing = async {
            match self.query.tail {
                Some(tail) => self.tail(tail, histories, over, out).await?,
                None => merge::history(histories, out).await?,
            }
            if self.follow {
                merge::live(lines, out).await
            } else {
                Ok(())
            }
        };
        tokio::select! {
            // It ends early only when nobody takes the lines any more.
            _ = printing => {}
            () = self.discover(views, known, &mut tasks, live.clone()), if self.follow => {}
        }
    }

    /// Reads these containers side by side; what they printed so far comes in the channels.
    fn read(
        &self,
        places: Vec<Place>,
        live: Option<&mpsc::Sender<LogItem>>,
        tasks: &mut JoinSet<()>,
    ) -> Vec<mpsc::Receiver<LogItem>> {
        let mut histories = Vec::new();
        for place in places {
            let (history, receiver) = mpsc::channel(WAITING);
            histories.push(receiver);
            tasks.spawn(self.source(place).run(Some(history), live.cloned()));
        }
        histories
    }

    /// The containers whose last run is over, with when it ended, and the others.
    fn apart(&self, places: Vec<Place>) -> (Vec<(Place, DateTime<Utc>)>, Vec<Place>) {
        let view = self.views.borrow();
        let (mut over, mut others) = (Vec::new(), Vec::new());
        for place in places {
            match containers::runs(&view, &place).and_then(|runs| runs.ended) {
                Some(ended) => over.push((place, ended)),
                None => others.push(place),
            }
        }
        (over, others)
    }

    /// Prints the last lines of each service, and reads no container that was over before them: most pods have such,
    /// which waited for something when they began.
    async fn tail(
        &self,
        tail: usize,
        histories: Vec<mpsc::Receiver<LogItem>>,
        over: Vec<(Place, DateTime<Utc>)>,
        out: &mpsc::Sender<LogItem>,
    ) -> Result<(), Closed> {
        let mut last = Last::new(tail);
        last.read(histories, out).await?;
        // The end is in whole seconds.
        let needed = over.into_iter().filter(|(place, ended)| {
            !last.are_after(&place.service, *ended + Duration::from_secs(1))
        });
        let needed = needed.map(|(place, _)| place).collect();
        let mut tasks = JoinSet::new();
        last.read(self.read(needed, None, &mut tasks), out).await?;
        last.print(out).await
    }

    /// Follows containers as they appear. Ends with the views.
    async fn discover(
        &self,
        mut views: Views,
        mut known: HashSet<Place>,
        tasks: &mut JoinSet<()>,
        live: mpsc::Sender<LogItem>,
    ) {
        while views.changed().await.is_ok() {
            let places = containers::places(&views.borrow_and_update(), &self.query);
            for place in &places {
                if !known.contains(place) {
                    tasks.spawn(self.source(place.clone()).run(None, Some(live.clone())));
                }
            }
            known = places.into_iter().collect();
            while tasks.try_join_next().is_some() {}
        }
    }

    fn source(&self, place: Place) -> Source {
        Source::new(
            self.client.clone(),
            self.agents.clone(),
            self.views.clone(),
            place,
            &self.query,
            self.grep.clone(),
        )
    }
}
