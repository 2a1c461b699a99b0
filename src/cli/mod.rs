//! What people type: one file a command, each thin.

mod build;
mod check;
mod daemon;
mod doctor;
mod down;
mod editor;
mod events;
mod exec;
mod init;
mod jsonc;
mod logs;
mod open;
mod prune;
mod render;
mod restart;
mod status;
mod survey;
mod sync;
mod terminal;
mod up;
mod watch;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Failure, Kind, Result};
use crate::stack::{self, Stack};
use crate::state::State;
use crate::ui;

/// Brings a many-service LLM system up on your own Kubernetes, and keeps it true to the code while you edit.
#[derive(Debug, Parser)]
#[command(name = "llmdev", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  llmdev up                 build, load, apply, forward every port, watch
  llmdev logs r2r -f        follow a service's output
  llmdev why r2r            why it is not ready
  llmdev down               take away what this stack owns

Exit codes: 0 ok, 1 failed, 2 usage, 3 stack.yaml, 4 Docker, cluster or a program is missing, 5 refused, 130 interrupted.";

/// What Ctrl-C tells. To be had before a loop, not in it: what comes while nobody listens is lost.
fn interrupts() -> Result<Signal> {
    signal(SignalKind::interrupt())
        .map_err(|error| Failure::environment("cannot wait for Ctrl-C").because(error))
}

/// Options of every command.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// The stack's file; without it stack.yaml of this folder or the nearest one above
    // No short form: `-f` means follow, as in every `logs`.
    #[arg(long, global = true, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The profile of stack.yaml to use
    #[arg(short, long, global = true, value_name = "NAME")]
    profile: Option<String>,
    /// How results are printed
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For code scanning; `check` only.
    Sarif,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build, load, apply, forward every port and watch; returns when every service is ready
    #[command(visible_aliases = ["dev"], after_help = up::HELP)]
    Up(up::Args),
    /// Take away what this stack owns, and end its daemon
    #[command(visible_aliases = ["delete"], after_help = down::HELP)]
    Down(down::Args),
    /// How each service is
    #[command(after_help = status::HELP)]
    Status(status::Args),
    /// The services' output, merged by time
    #[command(after_help = logs::HELP)]
    Logs(logs::Args),
    /// Why a service is not ready, and what to do about it
    #[command(after_help = why::HELP)]
    Why(why::Args),
    /// Build images without loading or applying them
    #[command(after_help = build::HELP)]
    Build(build::Args),
    /// Print the objects that `up` applies
    ///
    /// No cluster is asked, so `dev.resources: fit` is left out: `up` goes by what the nodes have.
    #[command(after_help = render::HELP)]
    Render,
    /// Find what is wrong with the objects before anyone relies on them
    ///
    /// Reads the manifests as kustomize, helm or the files give them, before llmdev sets its own images and a
    /// developer's secrets: that is what production gets. Rules for production hold when the profile, the namespace or
    /// the folder of the manifests is called so, or with --production.
    #[command(after_help = check::HELP)]
    Check(check::Args),
    /// Replace the pods of services
    #[command(after_help = restart::HELP)]
    Restart(restart::Args),
    /// Run a command in a service's newest pod
    #[command(after_help = exec::HELP)]
    Exec(exec::Args),
    /// A shell in a service's newest pod
    #[command(after_help = exec::SHELL_HELP)]
    Shell(exec::ShellArgs),
    /// Open a service in the browser
    #[command(after_help = open::HELP)]
    Open(open::Args),
    /// Send all files that `sync` covers into the running containers again
    #[command(after_help = sync::HELP)]
    Sync(sync::Args),
    /// Remove old images that llmdev made, in Docker and in the nodes
    #[command(after_help = prune::HELP)]
    Prune(prune::Args),
    /// Stop acting on file changes
    #[command(after_help = watch::HELP)]
    Pause,
    /// Act on file changes again
    #[command(after_help = watch::HELP)]
    Resume,
    /// Print what happens as it happens, one JSON object a line
    #[command(after_help = events::HELP)]
    Events,
    /// The background process of this stack
    #[command(after_help = daemon::HELP)]
    Daemon(daemon::Args),
    /// Check this machine: Docker, the cluster, programs, limits, ports
    #[command(after_help = doctor::HELP)]
    Doctor,
    /// Write a stack.yaml for the project in this folder
    #[command(after_help = init::HELP)]
    Init(init::Args),
    /// Set an editor up for this stack
    #[command(after_help = editor::HELP)]
    Editor(editor::Args),
    /// Print the JSON Schema of stack.yaml, for editors
    #[command(after_help = "Example:\n  llmdev schema > .vscode/llmdev.schema.json")]
    Schema,
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  llmdev completions bash > /etc/bash_completion.d/llmdev")]
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let usage = error.use_stderr();
            return if usage {
                ExitCode::from(Kind::Usage.exit_code())
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(cli));
            // Whatever still reads standard input or waits for a lock must not hold the exit up.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Failure::environment("cannot start").because(error)),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            print_failure(&failure);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let global = cli.global;
    if global.output == Output::Sarif && !matches!(cli.command, Command::Check(_)) {
        let failure = Failure::usage("only `llmdev check` prints SARIF");
        return Err(failure.remedy("-o json is for programs"));
    }
    let done = match cli.command {
        Command::Exec(args) => return exec::run(&global, args).await,
        Command::Shell(args) => return exec::shell(&global, args).await,
        Command::Check(args) => return check::run(&global, args).await,
        Command::Doctor => return doctor::run(&global).await,
        Command::Open(args) => open::run(&global, args).await,
        Command::Init(args) => init::run(&global, args).await,
        Command::Editor(args) => editor::run(&global, args),
        Command::Up(args) => up::run(&global, args).await,
        Command::Down(args) => down::run(&global, args).await,
        Command::Status(args) => status::run(&global, args).await,
        Command::Logs(args) => logs::run(&global, args).await,
        Command::Why(args) => why::run(&global, args).await,
        Command::Build(args) => build::run(&global, args).await,
        Command::Render => render::run(&global).await,
        Command::Restart(args) => restart::run(&global, args).await,
        Command::Sync(args) => sync::run(&global, args).await,
        Command::Prune(args) => prune::run(&global, args).await,
        Command::Pause => watch::run(&global, false).await,
        Command::Resume => watch::run(&global, true).await,
        Command::Events => events::run(&global).await,
        Command::Daemon(args) => daemon::run(&global, args).await,
        Command::Schema => print(&json(&stack::schema())),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "llmdev", &mut std::io::stdout());
            Ok(())
        }
        Command::Man => clap_mangen::Man::new(Cli::command())
            .render(&mut std::io::stdout())
            .map_err(|error| Failure::failed("cannot print").because(error)),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// The last thing on the screen.
fn print_failure(failure: &Failure) {
    ui::failure::print(failure);
}

impl Global {
    /// Where `stack.yaml` is.
    fn stack_file(&self) -> Result<PathBuf> {
        match &self.file {
            Some(file) => Ok(std::path::absolute(file).unwrap_or_else(|_| file.clone())),
            None => {
                let here = std::env::current_dir()
                    .map_err(|error| Failure::environment("this folder is gone").because(error))?;
                stack::find(&here)
            }
        }
    }

    fn stack(&self) -> Result<Stack> {
        stack::read(&self.stack_file()?, self.profile.as_deref())
    }

    /// The state of the stack without reading it: what already runs is found even when `stack.yaml` is broken.
    fn state(&self) -> Result<State> {
        let file = self.stack_file()?;
        let file = file.canonicalize().map_err(|error| {
            Failure::config(format!("{} cannot be read", file.display())).because(error)
        })?;
        State::of(file.parent().expect("a file is in a folder"))
    }

    fn json(&self) -> bool {
        self.output == Output::Json
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("results are plain data")
}

/// Prints a result; a reader that has gone away, as `head` does, is no failure.
fn print(text: &str) -> Result<()> {
    use std::io::Write;
    match writeln!(anstream::stdout(), "{text}") {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::failed("cannot print").because(error)),
    }
}

/// The names among `services` that the stack has not, as a usage failure with what it has.
fn check_services<'a>(stack: &Stack, services: impl IntoIterator<Item = &'a String>) -> Result<()> {
    let unknown: Vec<_> = services
        .into_iter()
        .filter(|name| stack.find(name).is_none())
        .map(String::as_str)
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let known: Vec<_> = stack.services.iter().map(|one| one.name.as_str()).collect();
    Err(
        Failure::usage(format!("there is no service {}", unknown.join(", "))).remedy(format!(
            "{} has {}",
            stack.file.display(),
            known.join(", ")
        )),
    )
}
