//! A black-box suite against any DIDComm v2 mediator or agent: what it offers, and how well it conforms.
//!
//! The suite is a stranger with throw-away identities in memory. It relies on no habit of any mediator: protocols are
//! tried, not assumed; statuses, optional members and orders are free where the specification leaves them free.

mod advertised;
mod answer;
mod callback;
mod carrying;
mod catalogue;
mod discover;
mod envelopes;
mod forged;
mod ids;
mod invitation;
mod irregular;
mod knock;
mod live;
mod mail;
mod mediation;
mod negatives;
mod outcome;
mod pickup;
mod ping;
mod probe;
mod problems;
mod pushed;
mod queues;
mod report;
mod routing;
mod socket;
mod transport;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

pub use self::{
    catalogue::{Level, Requirement, all as requirements},
    report::{Report, Standing, Verdict},
};
use self::{
    ids::{Id, id},
    invitation::{Invited, read_target},
    knock::Knock,
    mediation::Dialect,
    outcome::{Outcome, Problem},
    probe::Probe,
};
use crate::{config::Network, error::SetupError, guard::is_on_this_machine};

/// What to check, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// An out-of-band invitation URL, or a DID.
    pub target: String,
    /// Only requirements whose id begins with this.
    pub only: Option<String>,
    /// Longest an answer may take.
    pub timeout: Duration,
    /// Connect to private addresses and by plain http, even if the target is not on this machine.
    pub allow_private: bool,
    /// Address for answers that do not come back on the connection. The default is a free one if the target is on this
    /// machine, and otherwise none.
    pub listen: Option<SocketAddr>,
    /// The URL by which the target reaches `listen`, if that is not the address itself.
    pub public_url: Option<String>,
    /// Longest time for the whole run; [`TOTAL`] by default.
    pub total: Duration,
}

impl Options {
    /// As they stand in the summary of a report, which names the target itself.
    fn to_json(&self) -> Value {
        json!({
            "only": self.only,
            "timeout_seconds": self.timeout.as_secs(),
            "total_seconds": self.total.as_secs(),
            "allow_private": self.allow_private,
            "listen": self.listen,
            "public_url": self.public_url,
        })
    }
}

/// Longest time for a whole run, by default.
pub const TOTAL: Duration = Duration::from_secs(900);

/// Why a target that takes all and says nothing is not looked at further.
const NOTHING_HEARD: &str =
    "nothing the target says was heard; perhaps it answers to endpoints only: --listen ADDRESS:PORT";

/// What is known about the target so far.
struct Run {
    probe: Probe,
    report: Report,
    invitation: Option<Result<Invited, String>>,
    listen: Option<SocketAddr>,
    public_url: Option<String>,
    /// Protocols the target names in any role; `None` if it names none.
    listed: Option<BTreeSet<String>>,
    /// Those of them that it claims to speak in the role this suite needs.
    disclosed: BTreeSet<String>,
    /// Protocols that were seen to work.
    worked: BTreeSet<&'static str>,
    /// Protocols of which it is not known whether they work: their first message, or the answer to it, got lost.
    unknown: BTreeSet<&'static str>,
    /// What it is tried with that needs some answer: the first kind of message it answers.
    knock: Knock,
    /// Whether the target answers on the connection it was asked on.
    talks: bool,
    /// Whether it answers at the sender's endpoint instead.
    calls_back: bool,
    /// Versions of coordinate-mediation that work.
    mediation: Vec<&'static Dialect>,
    /// Versions of pickup that work.
    pickup: Vec<&'static pickup::Dialect>,
}

impl Run {
    /// Whether the target says that it speaks a protocol.
    fn discloses(&self, protocol: &str) -> bool {
        self.disclosed.contains(protocol)
    }

    /// Notes a protocol whose first message was answered correctly, or why it was not.
    ///
    /// Returns whether to go on. If the target does not name the protocol and answers its first message with silence or
    /// the report that it is unsupported, the protocol is not offered; a wrong answer of the protocol is a failure.
    fn opens(&mut self, tag: &str, protocol: &'static str, first: Id, result: Outcome) -> bool {
        let problem = match result {
            Ok(()) => {
                self.worked.insert(protocol);
                self.report.passed(first, "");
                return true;
            }
            Err(problem) => problem,
        };
        match problem {
            Problem::Unknown(why) => {
                self.unknown.insert(protocol);
                self.report.not_checked(tag, &why);
                self.report.leave_open(&format!("{protocol} could not be tried: {why}"));
            }
            Problem::Silent(why) if !self.discloses(protocol) => self.report.not_offered(tag, &why),
            // Whoever refuses a first message for a reason of its own may well speak the protocol with others.
            Problem::Refused(why) if !self.discloses(protocol) => {
                self.report.not_checked(tag, &why);
                self.report.leave_open(&format!("{protocol} is refused: {why}"));
            }
            failed => {
                self.report.settle(first, Err(failed));
                self.report.not_checked(tag, "the protocol's first message was not answered as it should be");
            }
        }
        false
    }

    /// Notes what needs an account where there is none: it is not offered, unless nobody knows whether there are any.
    fn without_account(&mut self, prefix: &str, why: &str) {
        if mediation::DIALECTS.iter().any(|dialect| self.unknown.contains(dialect.protocol)) {
            self.report.not_checked(prefix, "whether the target gives accounts is not known");
        } else {
            self.report.not_offered(prefix, why);
        }
    }
}

/// Runs the suite.
///
/// # Errors
///
/// [`SetupError::Usage`] if the target is neither an invitation nor a DID, no requirement begins with `only`, or others
/// cannot call the address to listen on.
pub async fn run(options: &Options) -> Result<Report, SetupError> {
    let (target, invitation) = read_target(&options.target)?;
    check_callback(options)?;
    let end = Instant::now() + options.total;
    let mut report = Report::new(target.as_str(), options.only.as_deref(), Some(end));
    report.options = options.to_json();
    if !report.wants("") {
        return Err(usage(
            "no requirement begins with what --only says".into(),
            "docs/conformance.md lists all ids, such as MP3-delivery",
        ));
    }
    let local = is_on_this_machine(&target);
    let open = local || options.allow_private;
    let network = Network { allow_private: open, allow_http: open };
    let probe = Probe::new(target, network, options.timeout, end).map_err(SetupError::Internal)?;
    let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let mut run = Run {
        probe,
        report,
        invitation,
        listen: options.listen.or(local.then_some(loopback)),
        public_url: options.public_url.clone(),
        listed: None,
        disclosed: BTreeSet::new(),
        worked: BTreeSet::new(),
        unknown: BTreeSet::new(),
        knock: Knock::Ping,
        talks: false,
        calls_back: false,
        mediation: Vec::new(),
        pickup: Vec::new(),
    };
    play(&mut run).await;
    Ok(run.report)
}

/// Nobody can call "any address": a URL must say how the listener is reached.
fn check_callback(options: &Options) -> Result<(), SetupError> {
    let Some(listen) = options.listen.filter(|listen| listen.ip().is_unspecified()) else { return Ok(()) };
    match options.public_url {
        Some(_) => Ok(()),
        None => Err(usage(
            format!("nobody can call {listen}: it stands for every address of this machine"),
            "name the URL by which the target reaches it with --public-url, or a single address with --listen",
        )),
    }
}

/// All groups, in an order in which each has what it needs.
async fn play(run: &mut Run) {
    if !transport::reach(run).await {
        run.report.stop("the target does not answer");
        return;
    }
    if run.probe.behind_hops {
        if !ping::elsewhere(run).await {
            ping::others_elsewhere(run).await;
        }
        // That something before the target says 200 tells nothing about the target.
        if !run.calls_back {
            run.report.stop(NOTHING_HEARD);
        }
        run.report.not_checked(
            "",
            "the target is reached through mediators of its own only, so that no answer comes back on the connection",
        );
        return;
    }
    discover::discover(run).await;
    ping::ping(run).await;
    if run.talks {
        invitation::invited(run).await;
        transport::quiet_route(run).await;
    } else if !run.calls_back {
        ping::others_elsewhere(run).await;
    }
    // Most of the rest needs accounts, so the first steps are taken whatever is checked.
    for dialect in &mediation::DIALECTS {
        if mediation::opens(run, dialect).await {
            run.mediation.push(dialect);
        }
    }
    for dialect in &pickup::DIALECTS {
        if pickup::opens(run, dialect).await {
            run.pickup.push(dialect);
        }
    }
    for dialect in run.mediation.clone() {
        if run.report.wants(dialect.tag) {
            mediation::run(run, dialect).await;
            queues::by_account(run, dialect).await;
        }
    }
    if run.talks && run.report.wants("DCv2.1-envelope") {
        envelopes::run(run).await;
        negatives::run(run).await;
    }
    if run.talks && run.report.wants("RP2") {
        problems::run(run).await;
    }
    if run.report.wants("RT2") {
        routing::run(run).await;
    }
    for dialect in run.pickup.clone() {
        if run.report.wants(dialect.tag) {
            pickup::run(run, dialect).await;
            queues::run(run, dialect).await;
            live::run(run, dialect).await;
        }
    }
    discover::compare_disclosed(run);
    if run.report.wants("DCv2.1-transport") {
        transport::abuse(run).await;
    }
    close(run).await;
}

/// What can be judged only at the end.
async fn close(run: &mut Run) {
    if let Some(ids) = run.probe.ids() {
        run.report.settle(id!("DCv2.1-threading-ids"), ids);
    }
    if run.probe.rotated() {
        run.report.passed(id!("DCv2.1-rotation"), "it did so here");
    } else {
        run.report.not_offered("DCv2.1-rotation", "the target keeps its DID");
    }
    // Both mediation protocols ask for answers on the connection; other agents may call back instead.
    let serves = mediation::DIALECTS.iter().map(|dialect| dialect.protocol);
    let mut serves = serves.chain(pickup::DIALECTS.iter().map(|dialect| dialect.protocol));
    if !serves.any(|protocol| run.worked.contains(protocol)) {
        run.report.relax(&id!("DCv2.1-transport-return-route-all"));
    }
    if transport::alive(run).await.is_err() {
        run.report.stop("the target no longer answers");
    } else if !run.talks && !run.calls_back {
        run.report.stop(NOTHING_HEARD);
    } else if !run.talks {
        run.report.not_checked("", "answers do not come on the connection");
    }
    run.report.not_checked("", "it could not be looked at");
}

fn usage(problem: String, remedy: &str) -> SetupError {
    SetupError::Usage { problem, remedy: remedy.to_owned() }
}
