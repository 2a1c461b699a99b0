//! `llmdev check`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Global, Output, json as pretty, print};
use crate::check::{self, RULES, Report, Severity, Subject, sarif};
use crate::error::{Failure, Kind, Result};
use crate::render::{self, Rendered, loose};
use crate::stack::{self, KUSTOMIZATIONS, RenderStep, Stack};
use crate::state::State;
use crate::ui::findings;

pub(super) const HELP: &str = "Ends with 1 if a finding is as bad as --fail-on says.

A rule is switched off in stack.yaml, with a reason:
  check: { ignore: [{ rule: cpu-limit, reason: one tenant a node, objects: [deployment/*] }] }

Examples:
  llmdev check -p prod --fail-on warning
  kustomize build k8s/overlays/prod | llmdev check --from - --production
  llmdev check -o sarif > check.sarif";

/// Names of what is in production.
const PRODUCTION: [&str; 2] = ["prod", "production"];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Read these in place of a stack: a folder of manifests, a kustomization, a chart, a file, or - for standard input
    #[arg(long, value_name = "DIR|-")]
    from: Option<PathBuf>,
    /// The least severity that makes it fail
    #[arg(long, value_enum, value_name = "SEVERITY", default_value = "error")]
    fail_on: Severity,
    /// Hold the objects to the rules for production, whatever they are called
    #[arg(long)]
    production: bool,
    /// Print the rules, each with the documents that it comes from
    #[arg(long)]
    list: bool,
}

pub(super) async fn run(global: &Global, args: Args) -> Result<ExitCode> {
    if args.list {
        list(global.output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let read = match &args.from {
        Some(from) => Subjects::from(global, from).await?,
        None => Subjects::of_stack(global).await?,
    };
    for note in &read.rendered.notes {
        anstream::eprintln!("note: {note}");
    }
    let report = check::check(&Subject {
        objects: &read.rendered.objects,
        namespace: &read.namespace,
        production: args.production || read.production,
        ignore: &read.ignore,
        input: &read.input,
    });
    show(&report, &read.root, global.output)?;
    let failed = report.worst() >= Some(args.fail_on);
    Ok(if failed {
        ExitCode::from(Kind::Failed.exit_code())
    } else {
        ExitCode::SUCCESS
    })
}

fn show(report: &Report, root: &Path, output: Output) -> Result<()> {
    match output {
        Output::Text => print(&findings::lines(report, root).join("\n")),
        Output::Json => print(&pretty(&report.json(root))),
        Output::Sarif => print(&pretty(&sarif::log(report, root))),
    }
}

fn list(output: Output) -> Result<()> {
    match output {
        Output::Text => print(&findings::rules().join("\n")),
        Output::Json => print(&pretty(
            &RULES.iter().map(check::Rule::json).collect::<Vec<_>>(),
        )),
        Output::Sarif => {
            Err(Failure::usage("a list of rules is not SARIF").remedy("-o json is for programs"))
        }
    }
}

/// What is to be checked, and what is known of it.
struct Subjects {
    rendered: Rendered,
    /// Files are shown from here.
    root: PathBuf,
    namespace: String,
    production: bool,
    ignore: Vec<stack::Ignore>,
    input: String,
}

impl Subjects {
    async fn of_stack(global: &Global) -> Result<Self> {
        let stack = global.stack()?;
        let production = is_production(&stack, global.profile.as_deref());
        Self::rendered(stack, production).await
    }

    async fn rendered(stack: Stack, production: bool) -> Result<Self> {
        let state = State::of(&stack.root)?;
        Ok(Subjects {
            rendered: render::read(&stack, &state.dir).await?,
            root: stack.root,
            namespace: stack.namespace,
            production,
            ignore: stack.ignore,
            input: String::new(),
        })
    }

    async fn from(global: &Global, from: &Path) -> Result<Self> {
        if global.file.is_some() || global.profile.is_some() {
            let failure =
                Failure::usage("--from reads no stack.yaml, so it has no --file and no --profile");
            return Err(failure.remedy("leave --from out to check a stack"));
        }
        if from == Path::new("-") {
            let input = std::io::read_to_string(std::io::stdin()).map_err(|error| {
                Failure::usage("cannot read standard input as text").because(error)
            })?;
            let rendered = loose::text(&input)?;
            return Ok(Self::loose(rendered, PathBuf::new(), input));
        }
        let path = from.canonicalize().map_err(|error| {
            Failure::usage(format!("cannot read {}", from.display())).because(error)
        })?;
        let here = std::env::current_dir()
            .map_err(|error| Failure::environment("this folder is gone").because(error))?;
        match step(&path) {
            Some(step) => {
                let stack = bare(&here, step)?;
                let production = is_production(&stack, None);
                Self::rendered(stack, production).await
            }
            None => {
                let mut subjects = Self::loose(loose::files(&path)?, here, String::new());
                subjects.production = from.to_str().is_some_and(names_production);
                Ok(subjects)
            }
        }
    }

    fn loose(rendered: Rendered, root: PathBuf, input: String) -> Self {
        Subjects {
            rendered,
            root,
            namespace: "default".to_owned(),
            production: false,
            ignore: vec![],
            input,
        }
    }
}

/// How a folder is rendered, if it is one that has to be.
fn step(folder: &Path) -> Option<Value> {
    let has = |name: &str| folder.join(name).is_file();
    if KUSTOMIZATIONS.into_iter().any(has) {
        Some(json!({ "kustomize": folder }))
    } else {
        let chart = || json!({ "helm": { "release": "release", "chart": folder } });
        has("Chart.yaml").then(chart)
    }
}

/// A stack of this step alone; JSON is YAML.
fn bare(here: &Path, step: Value) -> Result<Stack> {
    let text = json!({
        "apiVersion": stack::API_VERSION,
        "name": "check",
        "render": [step],
        "services": { "none": { "workload": "none" } },
    });
    Ok(stack::parse(
        &text.to_string(),
        &here.join(stack::FILE_NAME),
        None,
    )?)
}

/// Whether the profile, the namespace, or what is rendered is called so.
fn is_production(stack: &Stack, profile: Option<&str>) -> bool {
    let rendered = stack.render.iter().flat_map(|step| match step {
        RenderStep::Kustomize(folder) => vec![folder.clone()],
        RenderStep::Helm(release) => release.values.clone(),
        RenderStep::Manifests(globs) => globs.iter().map(PathBuf::from).collect(),
    });
    let mut below = rendered.map(|path| {
        path.strip_prefix(&stack.root)
            .map_or(path.clone(), Path::to_owned)
    });
    profile.is_some_and(names_production)
        || names_production(&stack.namespace)
        || below.any(|path| names_production(&path.to_string_lossy()))
}

fn names_production(text: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| PRODUCTION.contains(&word))
}
