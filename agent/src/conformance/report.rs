//! What was found out: one verdict for each requirement, as a table for people or lines of JSON for machines.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;
use serde_json::{Value, json};

use super::catalogue::{self, Level, Requirement};

/// Longest detail kept, in characters: it may quote what the target says.
const MAX_DETAIL_CHARS: usize = 240;

/// What became of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is met.
    Passed,
    /// It is not met.
    Failed,
    /// The target does not offer the protocol.
    NotOffered,
    /// It could not be looked at.
    NotChecked,
}

/// A verdict and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    verdict: Verdict,
    detail: String,
}

/// The verdicts so far.
#[derive(Clone, Debug)]
pub struct Report {
    target: String,
    requirements: Vec<Requirement>,
    findings: BTreeMap<String, Finding>,
    /// The target did not answer at all.
    unreached: bool,
}

impl Report {
    /// An empty report about the requirements whose id begins with `only`.
    pub(super) fn new(target: &str, only: Option<&str>) -> Self {
        let wanted = |requirement: &Requirement| only.is_none_or(|only| requirement.id.starts_with(only));
        let requirements = catalogue::all().into_iter().filter(wanted).collect();
        Self { target: target.to_owned(), requirements, findings: BTreeMap::new(), unreached: false }
    }

    /// Whether any requirement is looked at whose id begins with `prefix`.
    pub(super) fn wants(&self, prefix: &str) -> bool {
        self.requirements.iter().any(|requirement| requirement.id.starts_with(prefix))
    }

    /// Notes how a requirement came out; a failure stays one. Returns whether it is met.
    pub(super) fn settle(&mut self, id: impl Into<String>, result: Result<(), String>) -> bool {
        let id = id.into();
        let passed = result.is_ok();
        let verdict = if passed { Verdict::Passed } else { Verdict::Failed };
        if self.findings.get(&id).is_none_or(|known| known.verdict != Verdict::Failed) {
            self.note(id, verdict, result.err().unwrap_or_default());
        }
        passed
    }

    /// As [`Report::settle`], with something to say about success.
    pub(super) fn passed(&mut self, id: impl Into<String>, detail: impl Into<String>) {
        self.note(id.into(), Verdict::Passed, detail.into());
    }

    /// Everything below `prefix` that has no verdict is not offered.
    pub(super) fn not_offered(&mut self, prefix: &str, why: &str) {
        self.rest(prefix, Verdict::NotOffered, why);
    }

    /// Everything below `prefix` that has no verdict could not be looked at.
    pub(super) fn not_checked(&mut self, prefix: &str, why: &str) {
        self.rest(prefix, Verdict::NotChecked, why);
    }

    fn rest(&mut self, prefix: &str, verdict: Verdict, why: &str) {
        let open: Vec<String> = self
            .requirements
            .iter()
            .map(|requirement| requirement.id.clone())
            .filter(|id| id.starts_with(prefix) && !self.findings.contains_key(id))
            .collect();
        for id in open {
            self.note(id, verdict, why.to_owned());
        }
    }

    fn note(&mut self, id: String, verdict: Verdict, detail: String) {
        let detail = detail.chars().filter(|c| !c.is_control()).take(MAX_DETAIL_CHARS).collect();
        self.findings.insert(id, Finding { verdict, detail });
    }

    /// The verdict about one requirement.
    pub fn verdict(&self, id: &str) -> Verdict {
        self.findings.get(id).map_or(Verdict::NotChecked, |finding| finding.verdict)
    }

    /// Ids of the requirements of a level with a verdict.
    pub fn ids(&self, level: Level, verdict: Verdict) -> Vec<&str> {
        self.requirements
            .iter()
            .filter(|requirement| requirement.level == level && self.verdict(&requirement.id) == verdict)
            .map(|requirement| requirement.id.as_str())
            .collect()
    }

    /// Whether nothing required failed. Of a target that did not answer nothing is known.
    pub fn conforms(&self) -> bool {
        !self.unreached && self.ids(Level::Must, Verdict::Failed).is_empty()
    }

    /// Notes that the target does not answer: nothing can be looked at.
    pub(super) fn unreached(&mut self) {
        self.unreached = true;
        self.not_checked("", "the target does not answer");
    }

    fn counts(&self, level: Level) -> Value {
        let count = |verdict| self.ids(level, verdict).len();
        json!({
            "passed": count(Verdict::Passed),
            "failed": count(Verdict::Failed),
            "not_offered": count(Verdict::NotOffered),
            "not_checked": count(Verdict::NotChecked),
        })
    }

    /// One JSON object for each requirement, then one with the summary.
    pub fn to_json(&self) -> Vec<Value> {
        let mut lines: Vec<Value> = self
            .requirements
            .iter()
            .map(|requirement| {
                let detail = self.findings.get(&requirement.id).map_or("", |finding| &finding.detail);
                json!({
                    "id": requirement.id,
                    "level": requirement.level,
                    "verdict": self.verdict(&requirement.id),
                    "section": requirement.section,
                    "requirement": requirement.text,
                    "detail": detail,
                })
            })
            .collect();
        lines.push(json!({"summary": {
            "target": self.target,
            "conforms": self.conforms(),
            "must": self.counts(Level::Must),
            "should": self.counts(Level::Should),
            "info": self.counts(Level::Info),
        }}));
        lines
    }

    /// The one verdict of a section nothing of which was seen, if it is so.
    fn unseen(&self, section: &str) -> Option<Verdict> {
        let mut verdicts = self
            .requirements
            .iter()
            .filter(|requirement| requirement.section == section)
            .map(|requirement| self.verdict(&requirement.id));
        let first = verdicts.next()?;
        let unseen = matches!(first, Verdict::NotOffered | Verdict::NotChecked);
        (unseen && verdicts.all(|verdict| verdict == first)).then_some(first)
    }

    /// The table for people.
    pub fn to_table(&self) -> String {
        let mut out = String::new();
        let (mut section, mut unseen) = ("", None);
        for requirement in &self.requirements {
            if requirement.section != section {
                section = requirement.section;
                let _ = writeln!(out, "\n{section}");
                unseen = self.unseen(section);
                // What is not there takes one line, whatever it would have had to keep.
                if let Some(verdict) = unseen {
                    let mark = if verdict == Verdict::NotOffered { "n/o" } else { "-" };
                    let why = self.findings.get(&requirement.id).map_or("", |finding| &finding.detail);
                    let _ = writeln!(out, "  {mark:<5}all of it: {why}");
                }
            }
            if unseen.is_some() {
                continue;
            }
            let finding = self.findings.get(&requirement.id);
            let mark = match (self.verdict(&requirement.id), requirement.level) {
                (Verdict::Passed, _) => "ok",
                (Verdict::Failed, Level::Must) => "FAIL",
                (Verdict::Failed, Level::Should) => "weak",
                (Verdict::Failed, Level::Info) => "no",
                (Verdict::NotOffered, _) => "n/o",
                (Verdict::NotChecked, _) => "-",
            };
            let level = match requirement.level {
                Level::Must => "MUST",
                Level::Should => "SHOULD",
                Level::Info => "INFO",
            };
            let _ = writeln!(out, "  {mark:<5}{level:<7}{:<38} {}", requirement.id, requirement.text);
            if let Some(detail) = finding.map(|finding| &finding.detail).filter(|detail| !detail.is_empty()) {
                let _ = writeln!(out, "  {:<50} > {detail}", "");
            }
        }
        let _ = writeln!(out, "\n{}", self.closing());
        out
    }

    fn closing(&self) -> String {
        let line = |name: &str, level| {
            let count = |verdict| self.ids(level, verdict).len();
            format!(
                "{name:<7} {:>3} passed {:>3} failed {:>3} not offered {:>3} not checked\n",
                count(Verdict::Passed),
                count(Verdict::Failed),
                count(Verdict::NotOffered),
                count(Verdict::NotChecked)
            )
        };
        let lines =
            [line("MUST", Level::Must), line("SHOULD", Level::Should), line("INFO", Level::Info)].concat();
        let end = if self.conforms() { "nothing required failed" } else { "something required failed" };
        format!("{lines}{end}: {}", self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_must_is_the_only_thing_that_spoils_the_verdict() {
        let mut report = Report::new("did:example:1", None);
        report.settle("TP2-response-async", Err("late".into()));
        report.not_offered("MP4-", "not spoken");
        assert!(report.conforms());
        report.settle("TP2-response", Err("silence".into()));
        assert!(!report.conforms());
        assert_eq!(report.ids(Level::Must, Verdict::Failed), ["TP2-response"]);
    }

    #[test]
    fn failure_stays_a_failure_whatever_comes_later() {
        let mut report = Report::new("did:example:1", None);
        report.settle("TP2-response", Err("silence".into()));
        report.settle("TP2-response", Ok(()));
        assert_eq!(report.verdict("TP2-response"), Verdict::Failed);
    }

    #[test]
    fn what_the_target_says_cannot_break_the_table() {
        let mut report = Report::new("did:example:1", Some("TP2"));
        report.settle("TP2-response", Err(format!("\u{1b}[2J{}", "x".repeat(10_000))));
        let table = report.to_table();
        assert!(!table.contains('\u{1b}') && table.len() < 4_000);
    }
}
