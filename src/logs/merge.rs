//! Many containers' lines as one sequence.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::{LogItem, LogLine};

/// How long a live line waits for older ones of other containers.
const WINDOW: Duration = Duration::from_millis(150);
/// Live lines that wait at most.
const WAITING: usize = 4096;

/// Nobody takes the lines any more.
#[derive(Debug)]
pub(super) struct Closed;

type Out = mpsc::Sender<LogItem>;

async fn send(out: &Out, item: LogItem) -> Result<(), Closed> {
    out.send(item).await.map_err(|_| Closed)
}

/// Merges what was printed so far, exactly.
pub(super) async fn history(
    mut sources: Vec<mpsc::Receiver<LogItem>>,
    out: &Out,
) -> Result<(), Closed> {
    let mut heads: Vec<Option<LogLine>> = Vec::new();
    let mut order = BinaryHeap::new();
    for (index, source) in sources.iter_mut().enumerate() {
        let head = next(source, out).await?;
        order.extend(head.as_ref().map(|line| Reverse((line.at, index))));
        heads.push(head);
    }
    while let Some(Reverse((_, index))) = order.pop() {
        let Some(line) = heads[index].take() else {
            continue;
        };
        send(out, Ok(line)).await?;
        let head = next(&mut sources[index], out).await?;
        order.extend(head.as_ref().map(|line| Reverse((line.at, index))));
        heads[index] = head;
    }
    Ok(())
}

/// The next line of a source; what it can't read is passed on at once.
async fn next(source: &mut mpsc::Receiver<LogItem>, out: &Out) -> Result<Option<LogLine>, Closed> {
    loop {
        match source.recv().await {
            Some(Ok(line)) => return Ok(Some(line)),
            Some(failure) => send(out, failure).await?,
            None => return Ok(None),
        }
    }
}

/// When a line was printed, and how many came before it.
type Order = (DateTime<Utc>, u64);

/// The last lines of each service.
pub(super) struct Last {
    each: usize,
    count: u64,
    lines: HashMap<Arc<str>, BTreeMap<Order, LogLine>>,
}

impl Last {
    pub(super) fn new(each: usize) -> Self {
        Last {
            each,
            count: 0,
            lines: HashMap::new(),
        }
    }

    /// Reads all of these.
    pub(super) async fn read(
        &mut self,
        sources: Vec<mpsc::Receiver<LogItem>>,
        out: &Out,
    ) -> Result<(), Closed> {
        for mut source in sources {
            while let Some(line) = next(&mut source, out).await? {
                self.push(line);
            }
        }
        Ok(())
    }

    fn push(&mut self, line: LogLine) {
        let lines = self.lines.entry(line.service.clone()).or_default();
        lines.insert((line.at, self.count), line);
        self.count += 1;
        if lines.len() > self.each {
            lines.pop_first();
        }
    }

    /// Whether no line of a service up to this moment can be among its last.
    pub(super) fn are_after(&self, service: &str, moment: DateTime<Utc>) -> bool {
        self.lines.get(service).is_some_and(|lines| {
            let first = lines.first_key_value();
            lines.len() == self.each && first.is_none_or(|((at, _), _)| *at > moment)
        })
    }

    pub(super) async fn print(self, out: &Out) -> Result<(), Closed> {
        let mut lines: Vec<_> = self.lines.into_values().flatten().collect();
        lines.sort_by_key(|(key, _)| *key);
        for (_, line) in lines {
            send(out, Ok(line)).await?;
        }
        Ok(())
    }
}

/// Merges what is being printed: a line waits a moment for older ones.
pub(super) async fn live(mut lines: mpsc::Receiver<LogItem>, out: &Out) -> Result<(), Closed> {
    let mut window = Window::default();
    loop {
        let due = window.due();
        tokio::select! {
            line = lines.recv(), if window.len() < WAITING => match line {
                Some(Ok(line)) => window.push(line, Instant::now()),
                Some(failure) => send(out, failure).await?,
                None => break,
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                for line in window.pop(Instant::now()) {
                    send(out, Ok(line)).await?;
                }
            }
        }
    }
    for line in window.pop(Instant::now() + WINDOW) {
        send(out, Ok(line)).await?;
    }
    Ok(())
}

/// Lines by time and arrival.
#[derive(Default)]
struct Window {
    count: u64,
    lines: BTreeMap<Order, LogLine>,
    arrivals: VecDeque<(Instant, Order)>,
}

impl Window {
    fn len(&self) -> usize {
        self.lines.len()
    }

    fn push(&mut self, line: LogLine, now: Instant) {
        let key = (line.at, self.count);
        self.count += 1;
        self.arrivals.push_back((now, key));
        self.lines.insert(key, line);
    }

    fn due(&self) -> Option<Instant> {
        self.arrivals.front().map(|(arrived, _)| *arrived + WINDOW)
    }

    /// All lines that have waited, and what is older than one of them.
    fn pop(&mut self, now: Instant) -> Vec<LogLine> {
        let mut newest = None;
        while let Some((arrived, key)) = self.arrivals.front() {
            if *arrived + WINDOW > now {
                break;
            }
            newest = newest.max(Some(*key));
            self.arrivals.pop_front();
        }
        let Some((at, count)) = newest else {
            return Vec::new();
        };
        let later = self.lines.split_off(&(at, count + 1));
        let popped = std::mem::replace(&mut self.lines, later);
        // They need not wait any more, though they arrived later.
        let lines = &self.lines;
        self.arrivals.retain(|(_, key)| lines.contains_key(key));
        popped.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(service: &str, ms: i64) -> LogLine {
        let at = DateTime::from_timestamp_millis(ms).unwrap();
        LogLine {
            service: service.into(),
            pod: "p".into(),
            container: "c".into(),
            at,
            text: ms.to_string(),
        }
    }

    async fn merged(sources: &[(&str, &[i64])], tail: Option<usize>) -> Vec<String> {
        let (out, mut lines) = mpsc::channel(100);
        let mut receivers = Vec::new();
        for (service, times) in sources {
            let (sender, receiver) = mpsc::channel(100);
            receivers.push(receiver);
            for ms in *times {
                sender.send(Ok(line(service, *ms))).await.unwrap();
            }
        }
        if let Some(tail) = tail {
            let mut last = Last::new(tail);
            last.read(receivers, &out).await.unwrap();
            last.print(&out).await.unwrap();
        } else {
            history(receivers, &out).await.unwrap();
        }
        drop(out);
        let mut texts = Vec::new();
        while let Some(Ok(line)) = lines.recv().await {
            texts.push(line.text);
        }
        texts
    }

    #[tokio::test]
    async fn history_is_merged_by_time_and_the_tail_is_a_services() {
        let a: (&str, &[i64]) = ("a", &[1, 4, 9]);
        let b: (&str, &[i64]) = ("a", &[2, 3, 10, 11]);
        let c: (&str, &[i64]) = ("c", &[0, 5]);
        let none: (&str, &[i64]) = ("c", &[]);
        let sources = [a, b, c, none];
        assert_eq!(
            merged(&sources, None).await.join(" "),
            "0 1 2 3 4 5 9 10 11"
        );
        assert_eq!(merged(&sources, Some(2)).await.join(" "), "0 5 10 11");
        assert_eq!(merged(&sources, Some(0)).await.join(" "), "");
        assert_eq!(merged(&[], None).await.join(" "), "");
    }

    #[test]
    fn what_ended_before_the_last_lines_need_not_be_read() {
        let moment = |ms| DateTime::from_timestamp_millis(ms).unwrap();
        let mut last = Last::new(2);
        assert!(!last.are_after("a", moment(0)));
        last.push(line("a", 5));
        assert!(!last.are_after("a", moment(0)), "there is room for more");
        last.push(line("a", 4));
        last.push(line("a", 9));
        assert!(last.are_after("a", moment(4)) && !last.are_after("a", moment(5)));
        assert!(!last.are_after("b", moment(0)));
    }

    #[test]
    fn live_lines_wait_for_older_ones() {
        let mut window = Window::default();
        let start = Instant::now();
        window.push(line("a", 5), start);
        window.push(line("a", 9), start + WINDOW / 2);
        window.push(line("b", 3), start + WINDOW / 2);
        assert_eq!(window.pop(start + WINDOW / 2).len(), 0);
        let first: Vec<_> = window
            .pop(start + WINDOW)
            .into_iter()
            .map(|line| line.text)
            .collect();
        assert_eq!(first, ["3", "5"]);
        assert_eq!(window.due(), Some(start + WINDOW / 2 + WINDOW));
        assert_eq!(window.pop(start + WINDOW * 2).len(), 1);
        assert_eq!(window.due(), None);
    }
}
