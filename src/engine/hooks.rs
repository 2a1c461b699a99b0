//! Commands of the user's own, before the first build and after all is ready.

use std::process::Stdio;

use tokio::process::Command;

use crate::daemon::spawn::ALLOCATOR;
use crate::error::{Failure, Result};
use crate::stack::Stack;

/// How much of a failed hook's output is shown.
const LINES: usize = 20;

/// Runs commands one after the other, in the stack's folder. `name` is the hook's key in `stack.yaml`.
///
/// # Errors
/// When one cannot be run or does not end with 0; the ones after it are not run.
pub async fn run(stack: &Stack, commands: &[Vec<String>], name: &str) -> Result<()> {
    for words in commands {
        let Some((program, arguments)) = words.split_first() else {
            continue;
        };
        let failure =
            |what: String| Failure::failed(format!("the hook {name} `{}` {what}", words.join(" ")));
        let mut command = Command::new(program);
        for (name, _) in ALLOCATOR {
            command.env_remove(name);
        }
        let output = command
            .args(arguments)
            .current_dir(&stack.root)
            .env("LLMDEV_STACK", &stack.name)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| failure("cannot be run".to_owned()).because(error))?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            let lines: Vec<_> = said.lines().collect();
            return Err(failure(format!("ended with {}", output.status))
                .detail(lines[lines.len().saturating_sub(LINES)..].to_vec()));
        }
    }
    Ok(())
}
