//! `einmal doctor`: examines each part of a node and reports its state, with the remedy. It changes nothing.

mod folder;
mod process;
mod settings;
mod stores;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    clock::{Clock, SystemClock},
    config::{self, Config},
    error::SetupError,
    home,
};

/// The state of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// Worth knowing; the node works.
    Note,
    /// Something is wrong.
    Failed,
}

/// What was found about one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) part: &'static str,
    pub(crate) state: State,
    pub(crate) detail: String,
    /// What to do, unless all is well.
    pub(crate) remedy: Option<String>,
}

impl Finding {
    fn ok(part: &'static str, detail: impl Into<String>) -> Self {
        Self { part, state: State::Ok, detail: detail.into(), remedy: None }
    }

    fn note(part: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { part, state: State::Note, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn failed(part: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { part, state: State::Failed, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    /// The finding for a setup error, with its remedy apart.
    fn of_error(part: &'static str, error: &SetupError) -> Self {
        if let SetupError::Usage { problem, remedy } | SetupError::Setting { problem, remedy } = error {
            return Self::failed(part, problem, remedy);
        }
        let text = error.to_string();
        // Errors that name their remedy do so after the last semicolon.
        if let (Some((problem, remedy)), false) =
            (text.rsplit_once("; "), matches!(error, SetupError::Config { .. } | SetupError::Input { .. }))
        {
            return Self::failed(part, problem, remedy);
        }
        let remedy = match error {
            SetupError::Config { .. } => "correct the line; docs/configuration.md lists every setting",
            SetupError::Input { .. } => "correct that file, or name another one in einmal.toml",
            SetupError::Store(_) => "give what the store was sealed with; if that is lost, restore a backup",
            _ => "look into the log of the node",
        };
        Self::failed(part, text, remedy)
    }

    /// For scripts.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "part": self.part,
            "state": self.state,
            "ok": self.state != State::Failed,
            "detail": self.detail,
            "remedy": self.remedy,
        })
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
        let mark = match self.state {
            State::Ok => "ok  ",
            State::Note => "note",
            State::Failed => "FAIL",
        };
        let mut text = format!("{mark} {:<14} {}", self.part, self.detail);
        if let Some(remedy) = &self.remedy {
            text.push_str(&format!("\n     {:<14} remedy: {remedy}", ""));
        }
        text
    }
}

/// Examines every part of the node in `dir`.
pub(crate) async fn examine(dir: &Path) -> Vec<Finding> {
    let now = SystemClock.now();
    let config = Config::load(dir);
    let mut findings = vec![match &config {
        Ok(config) => Finding::ok("configuration", format!("of a {}", config.role)),
        Err(error) => Finding::of_error("configuration", error),
    }];
    if !config::is_node(dir) {
        return findings;
    }
    // Before anything is opened, because that may touch files.
    let written = folder::newest_file(dir);
    findings.push(folder::rights(dir));
    findings.push(folder::space(dir));
    let Ok(mut config) = config else { return findings };
    home::resolve_paths(&mut config, dir);
    findings.push(settings::files(&config, now));
    findings.extend(settings::certificate(&config, now));
    findings.extend(settings::addresses(&config));
    let found = process::ask(dir);
    findings.push(found.finding(dir));
    let inside = match found.report() {
        Some(report) => {
            findings.push(Finding::ok("store", "held by the running node"));
            Some(report.inside)
        }
        None if found.is_running() => None,
        None => {
            let (opened, inside) = stores::open(dir, &config);
            findings.extend(opened);
            inside
        }
    };
    if let Some(inside) = &inside {
        findings.extend(stores::findings(inside, &config));
    }
    findings.push(folder::clock(now, written.max(inside.and_then(|inside| inside.newest))));
    findings.extend(match found.report() {
        Some(report) => process::reach(report, &config).await,
        None if found.is_running() => Vec::new(),
        None => settings::port(&config).into_iter().collect(),
    });
    findings
}
