//! The findings: one verdict for each requirement, as a table for people or lines of JSON for machines.

use std::{collections::BTreeMap, fmt::Write as _, time::Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    advertised::Advertised,
    catalogue::{self, Level, Requirement},
    ids::Id,
    outcome::Problem,
};

/// The detail of everything that was not checked before the time was over.
const TIME_IS_UP: &str = "time is up";
/// Why a report is open in which everything is not offered or not checked.
const NOTHING_SEEN: &str = "nothing that was asked for is offered";
/// Longest detail kept, in characters: it may quote what the target says.
const MAX_DETAIL_CHARS: usize = 240;

/// The verdict on a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is met.
    Passed,
    /// It is not met.
    Failed,
    /// The target does not offer the protocol.
    NotOffered,
    /// It could not be checked.
    NotChecked,
}

/// What the verdicts together say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing required failed, and everything the target offers was looked at.
    Conforms,
    /// Something required failed.
    Fails,
    /// Nothing required failed, but not everything was looked at, or nothing was there to look at.
    Open,
}

impl Standing {
    /// The exit status of the command; 2 is wrong use.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Conforms => 0,
            Self::Fails => 1,
            Self::Open => 3,
        }
    }
}

/// A verdict and its reason.
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
    /// What the target says of itself.
    pub(super) advertised: Advertised,
    /// The options of the run.
    pub(super) options: Value,
    /// Why the check is incomplete, if it is.
    incomplete: Option<String>,
    /// When the time for the run is over: nothing noted later counts.
    end: Option<Instant>,
}

impl Report {
    /// An empty report on the requirements whose id begins with `only`.
    pub(super) fn new(target: &str, only: Option<&str>, end: Option<Instant>) -> Self {
        let wanted = |requirement: &Requirement| only.is_none_or(|only| requirement.id.starts_with(only));
        let requirements = catalogue::all().into_iter().filter(wanted).collect();
        Self {
            target: target.to_owned(),
            requirements,
            findings: BTreeMap::new(),
            advertised: Advertised::default(),
            options: Value::Null,
            incomplete: None,
            end,
        }
    }

    /// Whether any wanted requirement has an id that begins with `prefix`.
    pub(super) fn wants(&self, prefix: &str) -> bool {
        self.requirements.iter().any(|requirement| requirement.id.starts_with(prefix))
    }

    /// Notes the outcome of a requirement. A failure stays a failure, and an unknown outcome does not become met by a
    /// later success. Returns whether it is met.
    pub(super) fn settle<P: Into<Problem>>(&mut self, id: Id, result: Result<(), P>) -> bool {
        let id = id.as_str().to_owned();
        let (verdict, detail) = match result.map_err(Into::into) {
            Ok(()) => (Verdict::Passed, String::new()),
            Err(problem) if problem.is_unknown() => (Verdict::NotChecked, problem.to_string()),
            Err(problem) => (Verdict::Failed, problem.to_string()),
        };
        let known = self.findings.get(&id).map(|known| known.verdict);
        let stays = known == Some(Verdict::Failed)
            || (known == Some(Verdict::NotChecked) && verdict == Verdict::Passed);
        if !stays {
            self.note(id, verdict, detail);
        }
        verdict == Verdict::Passed
    }

    /// As [`Report::settle`], with a detail about success.
    pub(super) fn passed(&mut self, id: Id, detail: impl Into<String>) {
        self.note(id.as_str().to_owned(), Verdict::Passed, detail.into());
    }

    /// A requirement that binds others does not bind this target: here it is only informative.
    pub(super) fn relax(&mut self, id: &Id) {
        let named = self.requirements.iter_mut().filter(|requirement| requirement.id == id.as_str());
        named.for_each(|requirement| requirement.level = Level::Info);
    }

    /// All requirements below `prefix` without a verdict are not offered.
    pub(super) fn not_offered(&mut self, prefix: &str, why: &str) {
        self.rest(prefix, Verdict::NotOffered, why);
    }

    /// All requirements below `prefix` without a verdict could not be checked.
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
        // What is found after the end had no time at all: its silence is not the target's silence.
        let (verdict, detail) = match self.end {
            Some(end) if Instant::now() >= end => {
                self.incomplete = Some(TIME_IS_UP.to_owned());
                (Verdict::NotChecked, TIME_IS_UP.to_owned())
            }
            _ => (verdict, detail),
        };
        let detail = clean(&detail);
        self.findings.insert(id, Finding { verdict, detail });
    }

    /// The verdict on one requirement.
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

    /// What follows from all verdicts: little is known of a target that stops answering, or of which nothing was seen.
    pub fn standing(&self) -> Standing {
        if !self.ids(Level::Must, Verdict::Failed).is_empty() {
            Standing::Fails
        } else if self.is_complete() && self.saw_something() {
            Standing::Conforms
        } else {
            Standing::Open
        }
    }

    /// Whether nothing required failed, and everything the target offers was checked.
    pub fn conforms(&self) -> bool {
        self.standing() == Standing::Conforms
    }

    fn saw_something(&self) -> bool {
        let seen = |requirement: &Requirement| {
            matches!(self.verdict(&requirement.id), Verdict::Passed | Verdict::Failed)
        };
        self.requirements.iter().any(seen)
    }

    /// Why it is not known whether the target conforms, as far as nothing failed.
    fn open(&self) -> Option<&str> {
        let nothing = || (!self.saw_something()).then_some(NOTHING_SEEN);
        self.incomplete.as_deref().or_else(nothing)
    }

    /// Whether everything that the target offers was checked: it answered to the end, and the time sufficed.
    pub fn is_complete(&self) -> bool {
        self.incomplete.is_none()
    }

    /// Notes that something the target may offer could not be looked at, and why.
    pub(super) fn leave_open(&mut self, why: &str) {
        self.incomplete.get_or_insert_with(|| clean(why));
    }

    /// Notes that nothing more can be looked at, and why.
    pub(super) fn stop(&mut self, why: &str) {
        let over = self.end.is_some_and(|end| Instant::now() >= end);
        let why = if over { TIME_IS_UP } else { why };
        self.incomplete.get_or_insert_with(|| why.to_owned());
        self.not_checked("", why);
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
            "complete": self.is_complete(),
            "open": self.open(),
            "version": env!("CARGO_PKG_VERSION"),
            "catalogue": catalogue::VERSION,
            "options": self.options,
            "advertises": self.advertised,
            "must": self.counts(Level::Must),
            "should": self.counts(Level::Should),
            "info": self.counts(Level::Info),
        }}));
        lines
    }

    /// The single verdict of a section of which nothing was checked, if that is so.
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
                // A section that is absent takes one line, whatever it would contain.
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
        let _ = writeln!(out, "\n{}\n{}", self.advertised.to_table(), self.closing());
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
        let failed = !self.ids(Level::Must, Verdict::Failed).is_empty();
        let end = match (self.open(), failed) {
            (Some(why), false) => {
                format!("nothing required failed, but not everything was looked at ({why})")
            }
            (Some(why), true) => format!("something required failed, and not all could be looked at ({why})"),
            (None, true) => "something required failed".to_owned(),
            (None, false) => "nothing required failed".to_owned(),
        };
        format!("{lines}{end}: {}", self.target)
    }
}

/// What may quote the target, in bounds and without what would break a table.
pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_DETAIL_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::ids::id;

    fn report(only: Option<&str>) -> Report {
        Report::new("did:example:1", only, None)
    }

    #[test]
    fn failed_must_is_the_only_thing_that_spoils_the_verdict() {
        let mut report = report(None);
        report.settle(id!("TP2-response-async"), Err("late"));
        report.settle(id!("TP2-response-default"), Err(Problem::Unknown("lost".into())));
        report.not_offered("MP4-", "not spoken");
        assert!(report.conforms());
        report.settle(id!("TP2-response"), Err("silence"));
        assert!(!report.conforms());
        assert_eq!(report.ids(Level::Must, Verdict::Failed), ["TP2-response"]);
        assert_eq!(report.verdict("TP2-response-default"), Verdict::NotChecked);
    }

    #[test]
    fn report_in_which_nothing_was_seen_says_nothing_about_the_target() {
        let mut report = report(Some("MP4"));
        report.not_offered("MP4", "not spoken");
        assert!(report.is_complete());
        assert_eq!(report.standing(), Standing::Open);
        assert_eq!(report.to_json().last().unwrap()["summary"]["open"], NOTHING_SEEN);
        report.settle(id!("MP4-status-count"), Ok::<_, Problem>(()));
        assert_eq!(report.standing(), Standing::Conforms);
        report.leave_open("something was refused");
        assert_eq!(report.standing(), Standing::Open);
        report.settle(id!("MP4-delivery"), Err("lost"));
        assert_eq!(report.standing().exit_status(), 1);
    }

    #[test]
    fn failure_stays_a_failure_whatever_comes_later() {
        let mut report = report(None);
        report.settle(id!("TP2-response"), Err("silence"));
        report.settle(id!("TP2-response"), Err(Problem::Unknown("lost".into())));
        report.settle(id!("TP2-response"), Ok::<_, Problem>(()));
        assert_eq!(report.verdict("TP2-response"), Verdict::Failed);
    }

    #[test]
    fn what_is_unknown_in_part_is_not_met_but_may_be_seen_to_fail() {
        let mut report = report(None);
        report.settle(id!("CM3-query"), Err(Problem::Unknown("lost".into())));
        report.settle(id!("CM3-query"), Ok::<_, Problem>(()));
        assert_eq!(report.verdict("CM3-query"), Verdict::NotChecked);
        report.settle(id!("CM3-query"), Err("lacking"));
        assert_eq!(report.verdict("CM3-query"), Verdict::Failed);
    }

    #[test]
    fn nothing_counts_that_is_found_after_the_end() {
        let mut report = Report::new("did:example:1", Some("TP2"), Some(Instant::now()));
        report.settle(id!("TP2-response-not-requested"), Ok::<_, Problem>(()));
        report.settle(id!("TP2-response"), Err("silence"));
        report.not_offered("TP2", "silence");
        for requirement in catalogue::all().iter().filter(|one| one.id.starts_with("TP2")) {
            assert_eq!(report.verdict(&requirement.id), Verdict::NotChecked, "{}", requirement.id);
        }
        assert!(!report.is_complete() && !report.conforms());
        assert!(report.to_table().contains(TIME_IS_UP));
    }

    #[test]
    fn what_the_target_says_cannot_break_the_table() {
        let mut report = report(Some("TP2"));
        report.settle(id!("TP2-response"), Err(format!("\u{1b}[2J{}", "x".repeat(10_000))));
        let table = report.to_table();
        assert!(!table.contains('\u{1b}') && table.len() < 4_000);
    }
}
