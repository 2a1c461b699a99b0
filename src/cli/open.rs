//! `llmdev open`.

use std::ffi::OsString;
use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{Global, check_services, json, print};
use crate::daemon::client::Client;
use crate::daemon::protocol::{Answer, Request};
use crate::error::{Failure, Result};
use crate::event::ForwardStatus;

pub(super) const HELP: &str = "Without a browser the address is printed.

Examples:
  llmdev open openwebui
  curl \"$(llmdev open litellm --print)/health/liveliness\"";

/// A launcher that has not failed by then has opened something.
const LAUNCH: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The service
    service: String,
    /// Only print the address
    #[arg(long)]
    print: bool,
}

pub(super) async fn run(global: &Global, args: Args) -> Result<()> {
    let stack = global.stack()?;
    check_services(&stack, [&args.service])?;
    let service = &stack.services[stack.find(&args.service).expect("it was checked").0];
    if service.forwards.is_empty() {
        let what = format!("{} has no port on this machine", args.service);
        return Err(Failure::usage(what).remedy(format!(
            "`forward: [PORT]` at {} in {}",
            args.service,
            stack.file.display()
        )));
    }
    let url = url(&first(global, &args.service).await?);
    if global.json() {
        return print(&json(&serde_json::json!({ "url": url })));
    }
    if args.print || !launch(&url).await {
        return print(&url);
    }
    print(&format!("opened {url}"))
}

/// The service's first port, as the daemon has it.
async fn first(global: &Global, service: &str) -> Result<ForwardStatus> {
    let not_up = || {
        Failure::environment(format!("{service} has no port on this machine yet"))
            .remedy("llmdev up")
    };
    let mut client = Client::connect(&global.state()?)
        .await?
        .ok_or_else(not_up)?;
    client.ask(&Request::Status).await?;
    let Some(Answer::Status(status)) = client.answer().await? else {
        return Err(Failure::environment("the daemon ended"));
    };
    let row = status.services.into_iter().find(|row| row.name == service);
    let forwards = row.map(|row| row.forwards).unwrap_or_default();
    forwards.into_iter().next().ok_or_else(not_up)
}

fn url(forward: &ForwardStatus) -> String {
    let host = match forward.address.parse::<IpAddr>() {
        // A browser cannot go to "every address".
        Ok(address) if address.is_unspecified() => "localhost".to_owned(),
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => forward.address.clone(),
    };
    format!("http://{host}:{}", forward.local)
}

/// The programs that may open a browser, the best first.
fn launchers() -> Vec<OsString> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let mut all: Vec<OsString> = set("BROWSER").into_iter().collect();
    if cfg!(target_os = "macos") {
        all.push("open".into());
    } else if set("WSL_DISTRO_NAME").is_some() {
        all.extend(["wslview".into(), "explorer.exe".into()]);
    } else if set("DISPLAY").or_else(|| set("WAYLAND_DISPLAY")).is_some() {
        // Without a display it would look for a browser that takes the terminal over.
        all.push("xdg-open".into());
    }
    all
}

/// Opens a browser; whether that seems to have worked.
async fn launch(url: &str) -> bool {
    for program in launchers() {
        let child = Command::new(program)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let Ok(mut child) = child else { continue };
        match tokio::time::timeout(LAUNCH, child.wait()).await {
            Ok(Ok(status)) if !status.success() => {}
            // It ended well, or it is the browser itself.
            _ => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_ones_that_a_browser_can_go_to() {
        let at = |address: &str| {
            url(&ForwardStatus {
                address: address.into(),
                local: 8080,
                remote: 80,
                wanted: None,
                problem: None,
            })
        };
        assert_eq!(at("localhost"), "http://localhost:8080");
        assert_eq!(at("0.0.0.0"), "http://localhost:8080");
        assert_eq!(at("::1"), "http://[::1]:8080");
        assert_eq!(at("192.168.1.5"), "http://192.168.1.5:8080");
    }
}
