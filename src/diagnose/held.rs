//! What holds up a version that is yet to come to the cluster. Only the daemon knows.

use chrono::{DateTime, Utc};

use super::span;
use crate::error::Failure;
use crate::event::{Phase, ServiceStatus, Status};
use crate::ui;

/// What holds a service up before the cluster has it as it should be; nothing where the cluster has.
pub fn held_up(status: &Status, service: &str, now: DateTime<Utc>) -> Option<Failure> {
    // Without rows, the stack was never read or the cluster never reached.
    let Some(row) = find(status, service) else {
        return status.failure.clone();
    };
    match row.phase {
        Phase::Starting | Phase::Ready | Phase::Stopped => return None,
        Phase::Failed => return row.failure.clone(),
        Phase::Pending | Phase::Building | Phase::Loading | Phase::Applying => {}
    }
    let (mut failure, mut root) = (Failure::failed(line(row, now)), row);
    while let Some(next) = root.waits_for.iter().find_map(|name| find(status, name)) {
        failure = failure.cause(line(next, now));
        root = next;
    }
    if root.name != row.name {
        return Some(failure.remedy(format!("llmdev why {}", root.name)));
    }
    Some(match (row.phase, &row.reason, &status.failure) {
        (Phase::Building, ..) => failure.remedy(format!(
            "`llmdev logs --build {service}` has what it said so far"
        )),
        (Phase::Pending, _, Some(whole)) => Failure {
            remedy: whole.remedy.clone(),
            ..failure.cause(whole.line())
        },
        // Docker or the cluster does not answer.
        (Phase::Pending, Some(_), None) => failure.remedy("`llmdev doctor` looks into it"),
        (Phase::Pending, None, None) => failure.remedy(format!("llmdev up {service}")),
        _ => failure,
    })
}

fn find<'a>(status: &'a Status, service: &str) -> Option<&'a ServiceStatus> {
    status.services.iter().find(|row| row.name == service)
}

/// `api is building for 12 s: RUN make`
fn line(row: &ServiceStatus, now: DateTime<Utc>) -> String {
    let mut line = match row.phase {
        Phase::Failed => format!("{} failed", row.name),
        Phase::Pending => format!("{} is pending", row.name),
        phase => {
            let seconds = (now - row.since).num_seconds().max(0);
            format!("{} is {} for {}", row.name, ui::word(phase), span(seconds))
        }
    };
    let reason = row.reason.as_deref();
    let reason = reason.or((row.phase == Phase::Pending).then_some("nothing was begun for it"));
    if let Some(reason) = reason {
        line += &format!(": {}", reason.trim());
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(name: &str, phase: Phase, reason: Option<&str>, waits_for: &[&str]) -> ServiceStatus {
        let row = json!({"name": name, "phase": phase, "reason": reason, "waitsFor": waits_for, "ready": false,
            "pods": [], "forwards": [], "since": Utc::now()});
        serde_json::from_value(row).unwrap()
    }

    fn status(services: Vec<ServiceStatus>) -> Status {
        Status {
            stack: "test".to_owned(),
            cluster: None,
            services,
            watching: false,
            unreachable: None,
            failure: None,
        }
    }

    fn said(status: &Status, service: &str) -> Vec<String> {
        let failure = held_up(status, service, Utc::now()).unwrap();
        let remedy = failure.remedy.map(|remedy| format!("try: {remedy}"));
        let what = std::iter::once(failure.what);
        what.chain(failure.causes).chain(remedy).collect()
    }

    #[test]
    fn the_root_of_a_chain_is_named() {
        let mut base = row("base", Phase::Failed, Some("building base failed"), &[]);
        base.failure = Some(Failure::failed("building base failed").detail(["RUN false"]));
        let status = status(vec![
            row("top", Phase::Pending, Some("waits for middle"), &["middle"]),
            row(
                "middle",
                Phase::Pending,
                Some("waits for base, which failed"),
                &["base"],
            ),
            base.clone(),
        ]);
        assert_eq!(
            said(&status, "top"),
            [
                "top is pending: waits for middle",
                "middle is pending: waits for base, which failed",
                "base failed: building base failed",
                "try: llmdev why base",
            ]
        );
        assert_eq!(held_up(&status, "base", Utc::now()), base.failure);
    }

    #[test]
    fn what_is_under_way_is_said_with_its_time() {
        let mut building = row("web", Phase::Building, Some("RUN make"), &[]);
        building.since -= chrono::TimeDelta::seconds(12);
        let status = status(vec![
            building,
            row(
                "db",
                Phase::Pending,
                Some("cannot ask Docker; trying again"),
                &[],
            ),
            row("job", Phase::Pending, None, &[]),
            row("up", Phase::Starting, Some("0 of 1 pods ready"), &[]),
        ]);
        assert_eq!(
            said(&status, "web")[0],
            "web is building for 12 s: RUN make"
        );
        assert_eq!(
            said(&status, "db"),
            [
                "db is pending: cannot ask Docker; trying again",
                "try: `llmdev doctor` looks into it"
            ]
        );
        assert_eq!(said(&status, "job")[1], "try: llmdev up job");
        assert_eq!(held_up(&status, "up", Utc::now()), None);
    }

    #[test]
    fn what_is_wrong_with_the_whole_stack_holds_up_each_service() {
        let whole = Failure::environment("cannot connect to Docker").remedy("start it");
        let nothing_read = Status {
            failure: Some(whole.clone()),
            ..status(Vec::new())
        };
        assert_eq!(held_up(&nothing_read, "web", Utc::now()), Some(whole));
        let read = Status {
            services: vec![row("web", Phase::Pending, None, &[])],
            ..nothing_read
        };
        assert_eq!(
            said(&read, "web")[1..],
            ["cannot connect to Docker", "try: start it"]
        );
    }
}
