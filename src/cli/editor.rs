//! `llmdev editor`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Global, jsonc, print};
use crate::error::{Failure, Result};
use crate::stack::Stack;

pub(super) const HELP: &str = "Example:
  llmdev editor vscode      tasks for up, down and each service's logs";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    editor: Editor,
}

#[derive(Debug, clap::Subcommand)]
enum Editor {
    /// Write .vscode/tasks.json beside stack.yaml; your own tasks and comments in it stay
    #[command(
        after_help = "Mistakes in stack.yaml and in Dockerfiles are marked where they are.

Example:
  llmdev editor vscode"
    )]
    Vscode,
}

/// What every task of ours is called first.
const OURS: &str = "llmdev: ";

/// `FILE:LINE[:COLUMN]: error: MESSAGE`, as stack.yaml's reader and failed builds say it.
const PROBLEM: &str = r"^\s*(?:\| )?(\S[^:]*):(\d+):(?:(\d+):)? (error|warning): (.*)$";
/// A service has begun to move.
const BEGINS: &str = r"^[a-z0-9-]+: (?:pending|building|loading|applying|starting)\b";
/// All, or one that was built anew, has come to its end.
const ENDS: &str = r"^[✓✗] \S+ is ";

pub(super) fn run(global: &Global, args: Args) -> Result<()> {
    let Editor::Vscode = args.editor;
    let stack = global.stack()?;
    let path = stack.root.join(".vscode/tasks.json");
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(cannot("read", &path, error)),
    };
    let after = merged(&before, &tasks(&stack)).map_err(|wrong| refused(&path, &before, &wrong))?;
    if after == before {
        return print(&format!("{} is as it should be", path.display()));
    }
    write(&path, &after)?;
    let word = if before.is_empty() {
        "wrote"
    } else {
        "updated"
    };
    print(&format!(
        "{word} {}; in VS Code: Terminal, Run Task, `{OURS}up`",
        path.display()
    ))
}

fn merged(before: &str, tasks: &[Value]) -> Result<String, jsonc::Wrong> {
    let text = if before.trim().is_empty() {
        "{\n  \"version\": \"2.0.0\",\n  \"tasks\": []\n}\n"
    } else {
        before
    };
    let label = |task: &Value| task["label"].as_str().unwrap_or_default().to_owned();
    let known: Vec<_> = tasks.iter().map(label).collect();
    let stale = |old: &Value| label(old).starts_with(OURS) && !known.contains(&label(old));
    jsonc::merge(
        text,
        "tasks",
        tasks,
        |old, new| label(old) == label(new),
        stale,
    )
}

fn tasks(stack: &Stack) -> Vec<Value> {
    let mut tasks = vec![up(), task("down", &["down"])];
    for service in &stack.services {
        let words = ["logs", &service.name, "--follow", "--tail", "100"];
        let mut logs = task(&format!("logs {}", service.name), &words);
        logs["isBackground"] = true.into();
        tasks.push(logs);
    }
    tasks
}

fn task(name: &str, words: &[&str]) -> Value {
    json!({
        "label": format!("{OURS}{name}"),
        "type": "process",
        "command": "llmdev",
        "args": words,
        "options": { "cwd": "${workspaceFolder}" },
        "problemMatcher": [],
        "presentation": { "panel": "dedicated", "reveal": "always" },
    })
}

/// Stays to report what is built anew. Plain lines, because a matcher sees lines, and tasks have a terminal.
fn up() -> Value {
    let mut up = task("up", &["up", "--follow"]);
    up["isBackground"] = true.into();
    up["options"]["env"] = json!({ "NO_COLOR": "1" });
    up["problemMatcher"] = json!([{
        "owner": "llmdev",
        "source": "llmdev",
        "fileLocation": ["autoDetect", "${workspaceFolder}"],
        "pattern": {
            "regexp": PROBLEM,
            "file": 1, "line": 2, "column": 3, "severity": 4, "message": 5,
        },
        "background": {
            "activeOnStart": true,
            "beginsPattern": BEGINS,
            "endsPattern": ENDS,
        },
    }]);
    up
}

/// Whole or not at all.
fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().expect("a file is in a folder");
    let beside = path.with_extension("json.new");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&beside, text))
        .and_then(|()| fs::rename(&beside, path))
        .map_err(|error| cannot("write", path, error))
}

fn cannot(what: &str, path: &Path, error: std::io::Error) -> Failure {
    Failure::failed(format!("cannot {what} {}", path.display())).because(error)
}

fn refused(path: &Path, text: &str, wrong: &jsonc::Wrong) -> Failure {
    let before = &text[..wrong.at.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    Failure::config(format!(
        "{} is not the JSON that it should be",
        path.display()
    ))
    .cause(format!(
        "line {line}, column {column}: {} was expected",
        wrong.expected
    ))
    .cause("nothing was changed")
    .remedy("mend it, or move it away, and run this again")
}
