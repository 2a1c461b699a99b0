//! `llmdev logs`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{Global, check_services, print};
use crate::cluster;
use crate::daemon::client::Client;
use crate::daemon::protocol::{Answer, Request};
use crate::error::{Failure, Result};
use crate::logs::{self, LogLine, LogQuery};
use crate::owner::Owner;
use crate::stack;
use crate::state::State;
use crate::ui;
use crate::view::{self, Scope};

pub(super) const HELP: &str = "Examples:
  llmdev logs                        all services, merged by time
  llmdev logs r2r --tail 100
  llmdev logs r2r litellm -f --grep error
  llmdev logs r2r --previous         the run before the last restart
  llmdev logs --build r2r            the output of its last build";

/// A colour a service, the same every time.
const COLOURS: [anstyle::AnsiColor; 6] = [
    anstyle::AnsiColor::Cyan,
    anstyle::AnsiColor::Green,
    anstyle::AnsiColor::Yellow,
    anstyle::AnsiColor::Magenta,
    anstyle::AnsiColor::Blue,
    anstyle::AnsiColor::BrightCyan,
];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The services; all without any
    services: Vec<String>,
    /// Follow the output, new pods included
    #[arg(short, long)]
    follow: bool,
    /// Only lines of the last while, such as 90s, 5m or 1h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only the last lines of each service
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
    /// The run before the last restart of each container
    #[arg(long)]
    previous: bool,
    /// Only lines that contain this
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Only this container
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// The output of a service's last build
    #[arg(long, value_name = "SERVICE", conflicts_with_all = ["services", "follow"])]
    build: Option<String>,
}

pub(super) async fn run(global: &Global, args: Args) -> Result<()> {
    if let Some(service) = &args.build {
        return build_log(global, service);
    }
    let stack = global.stack()?;
    check_services(&stack, &args.services)?;
    let since = args.since.as_deref().map(ago).transpose()?;
    let all = || stack.services.iter().map(|one| one.name.clone()).collect();
    let query = LogQuery {
        services: if args.services.is_empty() {
            all()
        } else {
            args.services
        },
        follow: args.follow,
        since,
        tail: args.tail,
        previous: args.previous,
        grep: args.grep,
        container: args.container,
    };
    show(global, query).await
}

/// Follows the output of services from now on; of all of them when none is named.
pub(super) async fn follow_all(global: &Global, services: &[String]) -> Result<()> {
    let stack = global.stack()?;
    let names = stack.services.iter().map(|one| one.name.clone());
    let services = names
        .filter(|name| services.is_empty() || services.contains(name))
        .collect();
    let query = LogQuery {
        services,
        follow: true,
        tail: Some(0),
        ..LogQuery::default()
    };
    show(global, query).await
}

/// The moment that a time such as `5m` ago was.
fn ago(text: &str) -> Result<DateTime<Utc>> {
    let time = stack::duration(text).map_err(|wrong| {
        let failure = Failure::usage(format!("--since: {}", wrong.why));
        wrong.help.into_iter().fold(failure, Failure::remedy)
    })?;
    Ok(Utc::now() - time)
}

async fn show(global: &Global, query: LogQuery) -> Result<()> {
    let mut printer = Printer::new(global.json(), &query.services);
    let state = global.state()?;
    let Some(mut client) = Client::connect(&state).await? else {
        return without_daemon(global, query, printer).await;
    };
    client.ask(&Request::Logs(query)).await?;
    let mut interrupts = super::interrupts()?;
    loop {
        tokio::select! {
            answer = client.answer() => match answer? {
                Some(Answer::Log(line)) => printer.print(&line)?,
                Some(Answer::Done(Some(failure))) => return Err(failure),
                Some(Answer::Findings(failures)) => failures.iter().for_each(ui::failure::print),
                Some(Answer::Done(None)) | None => return Ok(()),
                Some(_) => {}
            },
            // The usual end of following, no failure.
            _ = interrupts.recv() => return Ok(()),
        }
    }
}

async fn without_daemon(global: &Global, query: LogQuery, mut printer: Printer) -> Result<()> {
    let stack = global.stack()?;
    let cluster = cluster::connect_existing(&stack.cluster, &stack.name).await?;
    let cancel = tokio_util::sync::CancellationToken::new();
    let _end = cancel.clone().drop_guard();
    let views = view::observe(
        cluster.client.clone(),
        &Owner::of(&stack),
        Scope::AllNamespaces(stack.namespace.clone()),
        cancel.clone(),
    );
    let mut lines = logs::stream(cluster.client, None, views, query, cancel)?;
    while let Some(line) = lines.recv().await {
        printer.print(&line?)?;
    }
    Ok(())
}

fn build_log(global: &Global, service: &str) -> Result<()> {
    check_services(&global.stack()?, [&service.to_owned()])?;
    let path = State::build_log(&global.state()?, service);
    let text = std::fs::read_to_string(&path).map_err(|_| {
        Failure::failed(format!("{service} has not been built by `up` yet")).remedy("llmdev build")
    })?;
    print(text.trim_end())
}

/// Prints lines with the service before them, and the pod or container where the service has several.
struct Printer {
    json: bool,
    colours: BTreeMap<String, anstyle::AnsiColor>,
    width: usize,
    out: std::io::BufWriter<anstream::Stdout>,
}

impl Printer {
    fn new(json: bool, services: &[String]) -> Self {
        let colours = services
            .iter()
            .cloned()
            .zip(COLOURS.into_iter().cycle())
            .collect();
        let width = services.iter().map(String::len).max().unwrap_or(0);
        Printer {
            json,
            colours,
            width,
            out: std::io::BufWriter::new(anstream::stdout()),
        }
    }

    fn print(&mut self, line: &LogLine) -> Result<()> {
        use std::io::Write;
        let text = if self.json {
            serde_json::to_string(line).expect("a line is plain data")
        } else {
            let colour = self
                .colours
                .get(&*line.service)
                .copied()
                .unwrap_or(COLOURS[0])
                .on_default();
            format!(
                "{colour}{:<width$}{colour:#} {}",
                line.service,
                line.text,
                width = self.width
            )
        };
        let printed = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
        printed.map_err(|error| Failure::failed("cannot print").because(error))
    }
}
