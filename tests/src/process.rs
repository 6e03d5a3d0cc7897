//! The command as a real process: run with arguments, started as a node, queried, signalled, and ended with the test.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Longest time for a node to start or stop, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test: a test names it as `Einmal(env!("CARGO_BIN_EXE_einmal-under-test"))`.
#[derive(Clone, Copy, Debug)]
pub struct Einmal(pub &'static str);

impl Einmal {
    /// The command with arguments, without input and without settings from the environment.
    pub fn command(self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.0);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("EINMAL_")) {
            command.env_remove(name);
        }
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs the command to its end.
    pub fn run(self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts the node in `dir`, with further arguments.
    pub fn start(self, dir: &str, further: &[&str]) -> Running {
        self.start_with(dir, further, Stdio::null())
    }

    /// Like [`Einmal::start`], with its log as JSON lines in a file.
    pub fn start_logged(self, dir: &str, further: &[&str], log: &Path) -> Running {
        self.start_with(dir, &[&["--log-json"], further].concat(), File::create(log).unwrap().into())
    }

    /// As [`Einmal::start_logged`], with what is for `debug` too.
    pub fn start_logged_in_full(self, dir: &str, further: &[&str], log: &Path) -> Running {
        let mut command = self.run_command(dir, &[&["--log-json"], further].concat());
        Running::of(command.env("EINMAL_LOG", "einmal=debug").stderr(File::create(log).unwrap()))
    }

    fn start_with(self, dir: &str, further: &[&str], log: Stdio) -> Running {
        Running::of(self.run_command(dir, further).stderr(log))
    }

    fn run_command(self, dir: &str, further: &[&str]) -> Command {
        self.command(&[&["run", "--json", "--dir", dir], further].concat())
    }
}

/// Reads the first line of a node's output as JSON; `null` if it prints nothing in time. A thread continues reading, so
/// that the node never waits for a reader.
pub fn first_line(child: &mut Child) -> Value {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = output.read_line(&mut line);
        let _ = sender.send(line);
        let _ = output.read_to_string(&mut String::new());
    });
    let line = receiver.recv_timeout(PATIENCE).unwrap_or_default();
    serde_json::from_str(&line).unwrap_or(Value::Null)
}

/// A running node; killed when the test ends, in any way.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// What it printed about itself on its first line.
    pub about: Value,
}

impl Running {
    /// Starts a command that becomes a node and prints JSON about itself on its first line.
    pub fn of(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let about = first_line(&mut child);
        Self { child, about }
    }

    /// A string the node printed about itself.
    #[track_caller]
    pub fn said(&self, member: &str) -> &str {
        self.about[member].as_str().unwrap_or_else(|| panic!("no `{member}` in {}", self.about))
    }

    /// Sends a signal, such as `-TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Waits for the end and returns the exit status; `None` if a signal ended it.
    pub fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the node does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
