//! An entry of `services:` as it is written.

use std::time::Duration;

use super::build::{BuildFile, build};
use super::decode::{At, Fields, boolean, expected, list, read, read_raw, text, understood};
use super::diagnostic::{Diagnostic, Report, nearest};
use super::file::arguments;
use super::place::places;
use super::scalar::{self, Read, Wrong};
use super::tree::{Entry, Node, Value};
use super::{ForwardSpec, ImagePlace, SyncAfter, SyncRule, WorkloadSpec};

/// From applied to ready, when nothing is said.
const READY_TIMEOUT: Duration = Duration::from_secs(180);

/// The keys of a service.
pub const SERVICE: &[&str] = &[
    "build",
    "workload",
    "imageIn",
    "dependsOn",
    "forward",
    "sync",
    "readyTimeout",
    "dev",
];
/// The keys of an entry of `forward`.
pub const FORWARD: &[&str] = &["local", "remote", "address"];
/// The keys of an entry of `sync` with a `src`.
pub const SYNC: &[&str] = &["src", "dest", "strip", "restart", "exec", "container"];
/// The keys of an entry of `sync` with `infer`.
pub const INFER: &[&str] = &["infer", "restart", "exec"];
/// The keys of `dev`.
pub const DEV: &[&str] = &["fastRollout"];

/// The kinds that run pods, with what people call them.
const WORKLOADS: &[(&str, &str)] = &[
    ("deployment", "deploy"),
    ("statefulset", "sts"),
    ("daemonset", "ds"),
    ("job", "jobs"),
    ("cronjob", "cj"),
    ("pod", "po"),
];

/// A service; names are not looked up yet.
#[derive(Debug)]
pub struct ServiceFile {
    /// Its key.
    pub name: At<String>,
    /// `build`.
    pub build: Option<BuildFile>,
    /// `workload`.
    pub workload: WorkloadSpec,
    /// `imageIn`.
    pub image_in: Vec<ImagePlace>,
    /// `dependsOn`.
    pub depends_on: Vec<At<String>>,
    /// `forward`.
    pub forwards: Vec<At<ForwardSpec>>,
    /// `sync`.
    pub sync: Vec<SyncRule>,
    /// `readyTimeout`.
    pub ready_timeout: Duration,
    /// `dev.fastRollout`.
    pub fast_rollout: bool,
}

/// Reads a service; mistakes go to `report`.
pub fn service(entry: &Entry, report: &mut Report) -> ServiceFile {
    let name = At {
        span: entry.key_span.clone(),
        it: entry.key.clone(),
    };
    understood(&name.span, scalar::label(&name.it), report);
    let mut file = ServiceFile {
        name: name.clone(),
        build: None,
        workload: WorkloadSpec::ByName,
        image_in: vec![],
        depends_on: vec![],
        forwards: vec![],
        sync: vec![],
        ready_timeout: READY_TIMEOUT,
        fast_rollout: false,
    };
    if entry.node.value == Value::Null {
        return file;
    }
    let place = format!("in service {:?}", name.it);
    let Some(fields) = Fields::of(&entry.node, Some(&name.span), &place, SERVICE, report) else {
        return file;
    };
    file.build = fields
        .entry("build")
        .and_then(|build_entry| build(build_entry, &name, report));
    if let Some(workload) = fields
        .get("workload")
        .and_then(|node| read(node, report, workload_spec))
    {
        file.workload = workload.it;
    }
    if let Some(entry) = fields.entry("imageIn") {
        if file.build.is_none() && fields.get("build").is_none() {
            let mistake = Diagnostic::new(entry.key_span.clone(), "`imageIn` needs `build`");
            report.add(mistake.help("it says where the image that is built is named"));
        }
        file.image_in = places(&entry.node, &name.it, report);
    }
    if let Some(node) = fields.get("dependsOn") {
        file.depends_on = list(node, report)
            .iter()
            .filter_map(|it| text(it, report))
            .collect();
    }
    if let Some(node) = fields.get("forward") {
        let items = list(node, report).iter();
        file.forwards = items
            .filter_map(|it| forward(it, &name.it, report))
            .collect();
    }
    if let Some(sync_entry) = fields.entry("sync") {
        file.sync = sync(sync_entry, &fields, &name.it, report);
    }
    if let Some(time) = fields
        .get("readyTimeout")
        .and_then(|it| read_raw(it, report, scalar::duration))
    {
        file.ready_timeout = time.it;
    }
    if let Some(dev) = fields.entry("dev") {
        let place = format!("in dev of service {:?}", name.it);
        let fields = Fields::of(&dev.node, Some(&dev.key_span), &place, DEV, report);
        let fast = fields.and_then(|fields| fields.get("fastRollout"));
        file.fast_rollout = fast.and_then(|it| boolean(it, report)).unwrap_or(false);
    }
    if file.workload == WorkloadSpec::None {
        for entry in ["forward", "sync"]
            .iter()
            .filter_map(|key| fields.entry(key))
        {
            let message = format!(
                "`{}` needs a workload, and this service has none",
                entry.key
            );
            report.add(Diagnostic::new(entry.key_span.clone(), message));
        }
    }
    file
}

/// `kind/name` or `none`.
fn workload_spec(text: &str) -> Read<WorkloadSpec> {
    if text == "none" {
        return Ok(WorkloadSpec::None);
    }
    let example = || Some("write it like deployment/litellm, or `none`".to_owned());
    let Some((kind, name)) = text.split_once('/') else {
        return Err(Wrong {
            why: format!("{text:?} is not a workload"),
            help: example(),
        });
    };
    let lower = kind.to_lowercase();
    let singular = lower.strip_suffix('s').unwrap_or(&lower);
    let known = |(long, short): &&(&str, &str)| {
        *long == lower || *short == lower || *long == singular || *short == singular
    };
    let Some((kind, _)) = WORKLOADS.iter().find(known) else {
        let near = nearest(&lower, WORKLOADS.iter().map(|(long, _)| *long));
        let help = near.map(|near| format!("did you mean `{near}/{name}`?"));
        let why = format!("{kind:?} is not a kind that llmdev follows");
        return Err(Wrong {
            why,
            help: help.or_else(example),
        });
    };
    scalar::subdomain(name)?;
    Ok(WorkloadSpec::Named {
        kind: (*kind).to_owned(),
        name: name.to_owned(),
    })
}

fn forward(node: &Node, service: &str, report: &mut Report) -> Option<At<ForwardSpec>> {
    match &node.value {
        Value::Plain(text) | Value::Quoted(text) => understood(&node.span, ports(text), report),
        Value::Map(_) => {
            let place = format!("in a forward of service {service:?}");
            let fields = Fields::of(node, None, &place, FORWARD, report)?;
            let remote = fields.need("remote", report);
            let remote = remote.and_then(|it| read_raw(it, report, scalar::port));
            let local = match fields.get("local") {
                Some(it) => read_raw(it, report, scalar::port),
                None => remote.clone(),
            };
            let address = fields.get("address").map(|it| read(it, report, address));
            let spec = ForwardSpec {
                local: local?.it,
                remote: remote?.it,
                address: address.map_or(Some(None), |it| it.map(|it| Some(it.it)))?,
            };
            Some(At {
                span: node.span.clone(),
                it: spec,
            })
        }
        _ => {
            report.add(expected(node, "a port, LOCAL:REMOTE, or a mapping"));
            None
        }
    }
}

fn ports(text: &str) -> Read<ForwardSpec> {
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    if remote.contains(':') {
        let why = format!("{text:?} is not a forward");
        let help = "write {local: 8080, remote: 80, address: 127.0.0.1}".to_owned();
        return Err(Wrong {
            why,
            help: Some(help),
        });
    }
    let (local, remote) = (scalar::port(local)?, scalar::port(remote)?);
    Ok(ForwardSpec {
        local,
        remote,
        address: None,
    })
}

fn address(text: &str) -> Read<std::net::IpAddr> {
    text.parse().map_err(|_| Wrong {
        why: format!("{text:?} is not an IP address"),
        help: match text {
            "localhost" => Some("leave `address` out: loopback is the default".to_owned()),
            "*" => Some("write `0.0.0.0`".to_owned()),
            _ => None,
        },
    })
}

fn sync(entry: &Entry, fields: &Fields<'_>, service: &str, report: &mut Report) -> Vec<SyncRule> {
    if fields.get("build").is_none() {
        let mistake = Diagnostic::new(entry.key_span.clone(), "`sync` needs `build`");
        report.add(mistake.help("what is synced is relative to the build context"));
    }
    list(&entry.node, report)
        .iter()
        .filter_map(|node| rule(node, service, report))
        .collect()
}

fn rule(node: &Node, service: &str, report: &mut Report) -> Option<SyncRule> {
    let place = format!("in a sync rule of service {service:?}");
    if node.get("infer").is_some() {
        let fields = Fields::of(node, None, &place, INFER, report)?;
        let after = after(&fields, report);
        let globs = fields
            .need("infer", report)
            .map(|it| list(it, report))?
            .iter();
        let globs = globs
            .filter_map(|it| read(it, report, scalar::glob))
            .map(|it| it.it)
            .collect();
        return Some(SyncRule::Infer { globs, after });
    }
    let fields = Fields::of(node, None, &place, SYNC, report)?;
    let src = fields
        .need("src", report)
        .and_then(|it| read(it, report, scalar::glob));
    let dest = fields
        .need("dest", report)
        .and_then(|it| read(it, report, scalar::container_path));
    let strip = fields
        .get("strip")
        .and_then(|it| read(it, report, scalar::strip));
    let container = fields
        .get("container")
        .and_then(|it| read(it, report, scalar::label));
    let after = after(&fields, report);
    Some(SyncRule::Manual {
        src: src?.it,
        dest: dest?.it,
        strip: strip.map(|strip| strip.it).unwrap_or_default(),
        after,
        container: container.map(|container| container.it),
    })
}

fn after(fields: &Fields<'_>, report: &mut Report) -> SyncAfter {
    let restart = fields
        .get("restart")
        .and_then(|it| boolean(it, report))
        .unwrap_or(false);
    let Some(exec) = fields.entry("exec") else {
        return if restart {
            SyncAfter::Restart
        } else {
            SyncAfter::Nothing
        };
    };
    if restart {
        let message = "a sync rule has `restart` or `exec`, not both";
        report.add(Diagnostic::new(exec.key_span.clone(), message));
    }
    SyncAfter::Exec(arguments(&exec.node, report).unwrap_or_default())
}
