//! Nodes as child processes: made, started, asked, stopped, killed.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command as Program, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    command::{Command, CommonCommand, Nothing},
    control::{self, Request},
};

/// Longest a node may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// One node of the story.
pub(crate) struct NodeProcess {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    log: PathBuf,
    listen: Option<String>,
    child: Option<Child>,
    /// What the node says about itself on its first line.
    pub(crate) about: Value,
}

impl NodeProcess {
    /// Makes a node's folder with `einmal init`.
    pub(crate) fn init(folder: &Path, name: &str, role: &str, flags: &[&str]) -> Result<Self, String> {
        let dir = folder.join(name);
        let output = einmal()?
            .args(["init", role, "--dir"])
            .arg(&dir)
            .args(flags)
            .output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!("einmal init {role}: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        let log = folder.join(format!("{name}.log"));
        Ok(Self { name: name.to_owned(), dir, log, listen: None, child: None, about: Value::Null })
    }

    /// Starts the node; after the first start it listens on the same port again.
    pub(crate) fn start(&mut self, listens: bool) -> Result<(), String> {
        let log =
            File::options().create(true).append(true).open(&self.log).map_err(|error| error.to_string())?;
        let mut command = einmal()?;
        command.args(["run", "--json", "--dir"]).arg(&self.dir).stdout(Stdio::piped()).stderr(log);
        if listens {
            let address = self.listen.clone().unwrap_or_else(|| "127.0.0.1:0".to_owned());
            command.args(["--listen", &address]);
        }
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let line = first_line(&mut child).map_err(|problem| {
            let _ = child.kill();
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            format!("{} did not start ({problem}): {}", self.name, log.lines().last().unwrap_or_default())
        })?;
        self.about = serde_json::from_str(&line).map_err(|error| format!("{}: {error}", self.name))?;
        if listens && self.listen.is_none() {
            self.listen = self.about.get("listen").and_then(Value::as_str).map(str::to_owned);
        }
        self.child = Some(child);
        Ok(())
    }

    /// The id of the node's process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// A text the node said about itself.
    pub(crate) fn said(&self, member: &str) -> Result<String, String> {
        let text = self.about.get(member).and_then(Value::as_str);
        text.map(str::to_owned).ok_or_else(|| format!("{} did not say its {member}", self.name))
    }

    /// Asks the running node.
    pub(crate) fn ask(&self, command: impl Into<Command>) -> Result<Value, String> {
        self.ask_waiting(command, 0)
    }

    /// Asks the running node, and waits for that long while its answer is `pending`.
    pub(crate) fn ask_waiting(
        &self,
        command: impl Into<Command>,
        wait_seconds: u64,
    ) -> Result<Value, String> {
        control::call(&self.dir, &Request::waiting(command, wait_seconds), PATIENCE)
            .map_err(|error| format!("{}: {error}", self.name))
    }

    /// Asks until `done` accepts the answer, for at most `seconds`.
    pub(crate) fn ask_until(
        &self,
        command: impl Into<Command>,
        seconds: u64,
        done: impl Fn(&Value) -> bool,
    ) -> Result<Value, String> {
        let command = command.into();
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let answer = self.ask(command.clone());
            match answer {
                Ok(value) if done(&value) => return Ok(value),
                Ok(value) if Instant::now() > deadline => {
                    let asked = command.name();
                    return Err(format!("{}: `{asked}` stays at {value} for {seconds} s", self.name));
                }
                Err(problem) if Instant::now() > deadline => return Err(problem),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Waits until everything the node wanted to send was taken.
    pub(crate) fn drained(&self, seconds: u64) -> Result<(), String> {
        let status = CommonCommand::Status(Nothing {});
        self.ask_until(status, seconds, |status| status["outbox"] == 0).map(|_| ())
    }

    /// Tells the node to stop and waits for it.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        kill_process(Pid::from_child(&child), Signal::TERM)
            .map_err(|error| format!("cannot signal {}: {error}", self.name))?;
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("{} ended with {status}", self.name)),
                None if Instant::now() > deadline => {
                    let _ = child.kill();
                    return Err(format!("{} did not stop within 15 s", self.name));
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Kills the node with SIGKILL: it has no chance to write anything.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().map_err(|error| error.to_string())?;
        child.wait().map_err(|error| error.to_string())?;
        Ok(())
    }

    /// The node's log so far.
    pub(crate) fn log(&self) -> Vec<u8> {
        std::fs::read(&self.log).unwrap_or_default()
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn einmal() -> Result<Program, String> {
    let mut command = Program::new(std::env::current_exe().map_err(|error| error.to_string())?);
    for variable in ["EINMAL_LISTEN", "EINMAL_PUBLIC_URL", "EINMAL_DIR"] {
        command.env_remove(variable);
    }
    Ok(command)
}

/// Reads the first line of a child's output; a thread does it, so that a silent child cannot hold us up.
fn first_line(child: &mut Child) -> Result<String, String> {
    let output = child.stdout.take().ok_or("no output")?;
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        let _ = sender.send(read.map(|_| line));
    });
    match receiver.recv_timeout(START_TIMEOUT) {
        Ok(Ok(line)) if !line.trim().is_empty() => Ok(line),
        Ok(_) => Err("it ended at once".into()),
        Err(_) => Err(format!("nothing for {} s", START_TIMEOUT.as_secs())),
    }
}
