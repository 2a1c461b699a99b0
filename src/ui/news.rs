//! What happens after `up`, in plain lines between the services' output: for `up --follow`, and for editors that read it.

use std::collections::BTreeMap;

use super::{BAD, GOOD, failure, paint, word};
use crate::event::{Event, Phase, ServiceStatus, What};

/// Knows what was said.
#[derive(Debug, Default)]
pub struct News {
    phases: BTreeMap<String, Phase>,
}

impl News {
    /// The lines that an event is worth. The first picture is worth none: it was just shown.
    pub fn lines(&mut self, event: &Event) -> Vec<String> {
        match &event.what {
            What::Snapshot(status) => status
                .services
                .iter()
                .flat_map(|row| self.row(row))
                .collect(),
            What::Service(row) => self.row(row),
            What::Note {
                level,
                service,
                text,
            } => {
                vec![super::progress::note(*level, service.as_deref(), text)]
            }
        }
    }

    fn row(&mut self, row: &ServiceStatus) -> Vec<String> {
        let before = self.phases.insert(row.name.clone(), row.phase);
        if before.is_none_or(|before| before == row.phase) {
            return Vec::new();
        }
        match row.phase {
            Phase::Failed => {
                let mut lines = row.failure.as_ref().map(failure::lines).unwrap_or_default();
                lines.push(format!("{} {} is not up", paint(BAD, "✗"), row.name));
                lines
            }
            Phase::Ready => vec![format!(
                "{} {} is ready{}",
                paint(GOOD, "✓"),
                row.name,
                held(row)
            )],
            phase => vec![format!("{}: {}", row.name, word(phase))],
        }
    }
}

/// What held its start, if anything did: `, held by …`.
fn held(row: &ServiceStatus) -> String {
    let mut held = row.timings.iter().filter_map(|one| one.held.as_ref());
    held.next()
        .map(|why| format!(", held by {why}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;
    use crate::event::Timing;

    #[test]
    fn a_rebuild_is_told_from_its_beginning_to_its_end() {
        let mut news = News::default();
        let mut told = Vec::new();
        for phase in [
            Phase::Ready,
            Phase::Building,
            Phase::Building,
            Phase::Failed,
            Phase::Building,
            Phase::Ready,
            Phase::Building,
            Phase::Ready,
        ] {
            let mut row = ServiceStatus {
                name: "api".to_owned(),
                phase,
                ready: false,
                older: false,
                reason: None,
                waits_for: Vec::new(),
                image: None,
                pods: Vec::new(),
                forwards: Vec::new(),
                since: chrono::Utc::now(),
                failure: None,
                timings: Vec::new(),
            };
            // The last one.
            row.timings = (told.len() > 6)
                .then(|| Timing {
                    stage: "start".to_owned(),
                    ms: 21_000,
                    held: Some("minReadySeconds of 20".to_owned()),
                })
                .into_iter()
                .collect();
            row.failure = (phase == Phase::Failed).then(|| {
                Failure::failed("building api failed").detail(["api/Dockerfile:2: error: RUN make"])
            });
            let event = Event {
                seq: 0,
                at: row.since,
                what: What::Service(Box::new(row)),
            };
            told.extend(news.lines(&event));
        }
        let plain: Vec<_> = told
            .iter()
            .map(|line| anstream::adapter::strip_str(line).to_string())
            .collect();
        assert_eq!(
            plain,
            [
                "api: building",
                "error: building api failed",
                "  | api/Dockerfile:2: error: RUN make",
                "✗ api is not up",
                "api: building",
                "✓ api is ready",
                "api: building",
                "✓ api is ready, held by minReadySeconds of 20",
            ]
        );
    }
}
