//! The program itself, run in a folder of its own with a state of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_llmdev");

/// A project's folder; its daemon ends with the test.
pub struct Project {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Project {
    /// With these files; paths end the folders that are needed.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let project = Project {
            folder: tempfile::tempdir().expect("there is room for a folder"),
            variables: Vec::new(),
        };
        files
            .iter()
            .for_each(|(path, text)| project.write(path, text));
        project
    }

    /// And with a variable set.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn path(&self, path: &str) -> PathBuf {
        // As the program says it.
        let root = self.folder.path().canonicalize();
        root.expect("the folder is there")
            .join("project")
            .join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// Another program, in the surroundings of this project.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let state = self.folder.path().join("state");
        let mut command = Command::new(program.as_ref());
        std::fs::create_dir_all(self.path("")).expect("a folder");
        command
            .current_dir(self.path(""))
            .env("XDG_STATE_HOME", state)
            .env("NO_COLOR", "1")
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .env_remove("BROWSER")
            .stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the program.
    pub fn run(&self, words: &[&str]) -> Ran {
        let output = self.command(PROGRAM).args(words).output();
        output.expect("the program runs").into()
    }

    /// Runs it with something to read.
    pub fn run_with(&self, words: &[&str], input: &str) -> Ran {
        use std::io::Write;
        let child = self
            .command(PROGRAM)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("the program runs");
        let mut stdin = child.stdin.take().expect("standard input is piped");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        child.wait_with_output().expect("it ends").into()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.run(&["daemon", "stop"]);
    }
}
