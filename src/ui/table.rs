//! The tables: where the services are, and how they are.

use super::{BAD, FAINT, STRONG, WARN, duration, paint, sign, word};
use crate::event::{ForwardStatus, ServiceStatus, Status, Timing};

/// Rows with columns as wide as their widest cell; the last one as it is. Cells are plain, `paint` colours them after
/// they were padded.
fn aligned(rows: &[Vec<String>], paint: impl Fn(usize, usize, &str) -> String) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |(index, row): (usize, &Vec<String>)| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let last = column + 1 == row.len();
            let padded = if last {
                cell.clone()
            } else {
                format!("{cell:<width$}", width = widths[column])
            };
            paint(index, column, &padded)
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().enumerate().map(line).collect()
}

/// Where each service listens on this machine, one line a service, and below it what is wrong with a port.
pub fn addresses(status: &Status) -> Vec<String> {
    let listening: Vec<_> = status
        .services
        .iter()
        .filter(|one| !one.forwards.is_empty())
        .collect();
    let rows: Vec<_> = listening
        .iter()
        .map(|service| {
            let all: Vec<_> = service.forwards.iter().map(address).collect();
            vec![service.name.clone(), all.join(", ")]
        })
        .collect();
    let elsewhere = |row: usize| {
        listening[row]
            .forwards
            .iter()
            .any(|one| one.wanted.is_some())
    };
    let lines = aligned(&rows, |row, column, cell| match column {
        0 => format!("  {}", paint(STRONG, cell)),
        _ if elsewhere(row) => paint(WARN, cell),
        _ => cell.to_owned(),
    });
    let with_problems = lines
        .into_iter()
        .zip(listening)
        .flat_map(|(line, service)| {
            let problems = service.forwards.iter().filter_map(problem);
            let problems = problems.map(|text| format!("    {}", paint(WARN, text)));
            std::iter::once(line).chain(problems)
        });
    with_problems.collect()
}

/// `localhost:5432`, and whether that is another port than the wanted one.
pub fn address(forward: &ForwardStatus) -> String {
    let mut text = format!("{}:{}", forward.address, forward.local);
    if let Some(wanted) = forward.wanted {
        text.push_str(&format!(" (port {wanted} is taken)"));
    }
    text
}

/// What is wrong with a port, and with which.
fn problem(forward: &ForwardStatus) -> Option<String> {
    let problem = forward.problem.as_ref()?;
    Some(if problem.contains(&forward.local.to_string()) {
        problem.clone()
    } else {
        format!("{}: {problem}", forward.local)
    })
}

/// How each service is: `llmdev status`.
pub fn services(status: &Status) -> Vec<String> {
    let head = [
        "", "SERVICE", "PHASE", "SINCE", "PODS", "RESTARTS", "ADDRESS", "",
    ]
    .map(str::to_owned)
    .to_vec();
    let rows: Vec<_> = std::iter::once(head)
        .chain(status.services.iter().map(row))
        .collect();
    aligned(&rows, |index, column, cell| match (index, column) {
        (0, _) => paint(FAINT, cell),
        (_, 0 | 2) => paint(sign(status.services[index - 1].phase).1, cell),
        (_, 1) => paint(STRONG, cell),
        (_, 7) if status.services[index - 1].failure.is_some() => paint(BAD, cell),
        (_, 7)
            if status.services[index - 1]
                .forwards
                .iter()
                .any(|one| one.problem.is_some()) =>
        {
            paint(WARN, cell)
        }
        (_, 3 | 7) => paint(FAINT, cell),
        _ => cell.to_owned(),
    })
}

fn row(service: &ServiceStatus) -> Vec<String> {
    let pods: Vec<_> = service
        .pods
        .iter()
        .filter(|pod| !pod.is_stopping())
        .collect();
    let ready = pods.iter().filter(|pod| pod.ready).count();
    let restarts: u32 = pods.iter().map(|pod| pod.restarts).sum();
    let addresses: Vec<_> = service.forwards.iter().map(address).collect();
    let reason = match (&service.reason, service.older) {
        (Some(reason), true) => format!("{reason} (the older version serves)"),
        (Some(reason), false) => reason.clone(),
        (None, true) => "the older version serves".to_owned(),
        (None, false) => String::new(),
    };
    let problems = service.forwards.iter().filter_map(problem);
    let said = std::iter::once(reason)
        .filter(|reason| !reason.is_empty())
        .chain(problems);
    let said = said.collect::<Vec<_>>().join("; ");
    vec![
        sign(service.phase).0.to_owned(),
        service.name.clone(),
        word(service.phase).to_owned(),
        age(service),
        format!("{ready}/{}", pods.len()),
        restarts.to_string(),
        addresses.join(", "),
        said,
    ]
}

fn age(service: &ServiceStatus) -> String {
    let seconds = (chrono::Utc::now() - service.since).num_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} m", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// How long each stage of each service took the last time: `llmdev status --timings`.
pub fn timings(status: &Status) -> Vec<String> {
    let mut rows = vec![vec!["SERVICE".to_owned(), "STAGES".to_owned()]];
    for service in &status.services {
        let stages: Vec<_> = service.timings.iter().map(stage).collect();
        rows.push(vec![service.name.clone(), stages.join(", ")]);
    }
    aligned(&rows, |row, column, cell| match (row, column) {
        (0, _) => paint(FAINT, cell),
        (_, 0) => paint(STRONG, cell),
        _ => cell.to_owned(),
    })
}

/// `start 21.0 s (held by …)`.
fn stage(timing: &Timing) -> String {
    let time = duration(std::time::Duration::from_millis(timing.ms));
    match &timing.held {
        Some(held) => format!("{} {time} (held by {held})", timing.stage),
        None => format!("{} {time}", timing.stage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::PodStatus;

    fn pod(status: &str, ready: bool) -> PodStatus {
        PodStatus {
            name: "web-1".into(),
            status: status.into(),
            ready,
            restarts: 1,
            node: None,
        }
    }

    fn web() -> ServiceStatus {
        let row = serde_json::json!({"name": "web", "phase": "starting", "ready": true, "pods": [], "forwards": [],
            "since": chrono::Utc::now()});
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn pods_that_stop_do_not_count() {
        let table: &[(&[PodStatus], [&str; 2])] = &[
            (&[], ["0/0", "0"]),
            (
                &[pod("Running", true), pod("Terminating", false)],
                ["1/1", "1"],
            ),
            (&[pod("Running", true), pod("Pending", false)], ["1/2", "2"]),
        ];
        for (pods, expected) in table {
            let cells = row(&ServiceStatus {
                pods: pods.to_vec(),
                ..web()
            });
            assert_eq!(cells[4..6], *expected);
        }
    }

    #[test]
    fn an_older_version_is_said_to_serve_where_there_is_one() {
        let why = Some("1 of 2 pods ready".to_owned());
        for (older, reason, expected) in [
            (false, why.clone(), "1 of 2 pods ready"),
            (true, why, "1 of 2 pods ready (the older version serves)"),
            (true, None, "the older version serves"),
            (false, None, ""),
        ] {
            let cells = row(&ServiceStatus {
                older,
                reason,
                ..web()
            });
            assert_eq!(cells.last().unwrap(), expected);
        }
    }
}
