//! Which lines of a container were read, so that reading can begin anew without losing or repeating one.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

/// The node reads from whole seconds on, and lines of stdout and stderr are not quite in order.
const WINDOW: TimeDelta = TimeDelta::seconds(3);
/// Lines that are remembered one by one.
const REMEMBERED: usize = 16 * 1024;

type Mark = (DateTime<Utc>, u64);

/// What was read of one container.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Reading began in the middle: what is older than the first line is not wanted.
    tail: bool,
    /// The lines of the last seconds.
    recent: VecDeque<Mark>,
    /// All lines up to here were read, or are older than what was asked for.
    floor: Option<DateTime<Utc>>,
    newest: Option<DateTime<Utc>>,
    /// After a new beginning: up to where lines may have been read before, and which ones.
    again: Option<(DateTime<Utc>, HashMap<Mark, u32>)>,
}

impl Seen {
    /// Nothing was read yet. With `tail`, reading begins in the middle.
    pub(super) fn new(tail: bool) -> Self {
        Seen {
            tail,
            ..Seen::default()
        }
    }

    /// From when on to read to miss nothing; none to read all.
    pub(super) fn resume(&mut self) -> Option<DateTime<Utc>> {
        let newest = self.newest?;
        let mut counts = HashMap::new();
        for mark in &self.recent {
            *counts.entry(*mark).or_default() += 1;
        }
        self.again = Some((newest, counts));
        let second = newest
            .duration_trunc(TimeDelta::seconds(1))
            .unwrap_or(newest);
        Some(second - TimeDelta::seconds(1))
    }

    /// Takes note of a line; whether it is read for the first time.
    pub(super) fn is_new(&mut self, at: DateTime<Utc>, text: &str) -> bool {
        let mark = (at, hash(text));
        if self.was_read(&mark) {
            return false;
        }
        if self.tail && self.newest.is_none() {
            self.floor = Some(at - TimeDelta::nanoseconds(1));
        }
        let newest = *self
            .newest
            .insert(self.newest.map_or(at, |newest| newest.max(at)));
        self.recent.push_back(mark);
        while self.recent.len() > REMEMBERED
            || self
                .recent
                .front()
                .is_some_and(|(at, _)| *at < newest - WINDOW)
        {
            let oldest = self.recent.pop_front().map(|(at, _)| at);
            self.floor = self.floor.max(oldest);
        }
        true
    }

    fn was_read(&mut self, mark: &Mark) -> bool {
        let Some((until, counts)) = &mut self.again else {
            return false;
        };
        if mark.0 > *until {
            // The streams' disorder is small: a second later nothing old comes any more.
            if mark.0 > *until + TimeDelta::seconds(1) {
                self.again = None;
            }
            return false;
        }
        if let Some(count) = counts.get_mut(mark).filter(|count| **count > 0) {
            *count -= 1;
            return true;
        }
        self.floor.is_some_and(|floor| mark.0 <= floor)
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_790_000_000_000 + ms).unwrap()
    }

    /// Reads a log from its line `first` up to `cut`, then from where `resume` says to the end.
    fn read_twice(log: &[(i64, String)], first: usize, cut: usize) -> Vec<String> {
        let mut seen = Seen::new(first > 0);
        let mut read = Vec::new();
        for (at, text) in &log[first..cut] {
            if seen.is_new(time(*at), text) {
                read.push(text.clone());
            }
        }
        let since = seen.resume();
        for (at, text) in log {
            if since.is_none_or(|since| time(*at) >= since) && seen.is_new(time(*at), text) {
                read.push(text.clone());
            }
        }
        read
    }

    #[test]
    fn equal_lines_of_one_time_are_counted() {
        let log: Vec<_> = (0..6).map(|_| (500, "same".to_owned())).collect();
        for cut in 0..=6 {
            assert_eq!(read_twice(&log, 0, cut).len(), 6, "cut after {cut}");
        }
    }

    #[test]
    fn what_is_older_than_the_tail_does_not_come_back() {
        let log: Vec<_> = (0..10).map(|n| (n * 10, n.to_string())).collect();
        assert_eq!(read_twice(&log, 7, 10), ["7", "8", "9"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_repeated(
            steps in prop::collection::vec((0i64..700, 0i64..300), 1..200),
            cut in 0usize..200,
        ) {
            // Times grow, less a disorder of up to 0.3 s.
            let mut now = 1000;
            let log: Vec<_> = steps.iter().enumerate().map(|(n, (step, back))| {
                now += step;
                (if n == 0 { 0 } else { now - back }, n.to_string())
            }).collect();
            let read = read_twice(&log, 0, cut.min(log.len()));
            let all: Vec<_> = log.into_iter().map(|(_, text)| text).collect();
            prop_assert_eq!(read, all);
        }
    }
}
