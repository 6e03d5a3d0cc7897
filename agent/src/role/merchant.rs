//! The merchant: asks by template, verifies, and keeps the result no longer than the template says.

use einmal_didcomm::Body;
use einmal_flows::{
    Received,
    out_of_band::Uses,
    present_proof::{self, ProposePresentation, verifier},
    report_problem,
    trust_ping::Ping,
};
use serde_json::{Value, json};

use super::city::CLOCK_SKEW_SECS;
use crate::{
    command::{Command, Invite, MerchantCommand, Template, Thread},
    config::TrustedIssuer,
    error::SetupError,
    handler::{Effects, Failure, Handled, PeerFault, RoleService, Shared, foreign_command, refuse_person},
    service::{
        asking::{self, AskJob, Asking, AskingService},
        connecting,
        exchange::{self, Job, Relation},
        ids::RequestId,
        invitations::{self, Purpose},
        status::KnownLists,
        templates::read_requests,
    },
};

/// The merchant's service.
pub(super) struct Merchant {
    asking: AskingService,
    trusted: Vec<TrustedIssuer>,
    name: String,
}

impl Merchant {
    pub(super) fn new(shared: &Shared) -> Result<Self, SetupError> {
        let settings = shared.config.merchant.clone().unwrap_or_default();
        if settings.requests.as_os_str().is_empty() {
            return Err(SetupError::Config {
                path: crate::config::CONFIG_FILE.into(),
                problem: "[merchant] needs `requests`: a folder of request templates such as \
                    examples/wetzlar/requests"
                    .into(),
            });
        }
        if settings.trusted_issuers.is_empty() {
            tracing::warn!(
                "every proof will be refused: add `trusted_issuers` under [merchant] in einmal.toml"
            );
        }
        let asking = AskingService {
            requests: asking::Requests::new(read_requests(&settings.requests)?),
            clock_skew: settings.clock_skew_seconds.unwrap_or(CLOCK_SKEW_SECS),
            language: "de".into(),
            lists: KnownLists::default(),
        };
        Ok(Self { asking, trusted: settings.trusted_issuers, name: settings.display_name })
    }

    fn handle(
        &self,
        shared: &Shared,
        mut exchange: Asking,
        event: verifier::Event<'_>,
        fx: &mut Effects<'_>,
    ) -> Handled {
        self.asking.handle(shared, &mut exchange, event, &self.trusted, fx)?;
        self.asking.ask_again(shared, &mut exchange, fx)?;
        exchange.save(fx)
    }

    /// A holder answers an invitation: the request goes out with a nonce of its own.
    fn proposal(&self, shared: &Shared, rx: &Received<'_>, fx: &mut Effects<'_>) -> Handled {
        let (Some((Purpose::Request { request }, again)), Some(pthid)) =
            (invitations::take(shared, fx, rx)?, rx.message().pthid.clone())
        else {
            let comment = "this proposal answers no invitation that is open to you";
            return Err(Failure::peer(PeerFault::Request, comment));
        };
        if exchange::is_taken(shared, rx)? {
            return Err(invitations::answered_already());
        }
        let answer = Relation::AnswerTo(&pthid);
        let running = |exchange: Asking| !exchange.work.machine.is_abandoned();
        if again && Asking::by_relation(shared, answer)?.is_some_and(running) {
            return Err(invitations::answered_already());
        }
        let (machine, actions) = verifier::Verifier::from_proposal(rx, fx.now())?;
        let job = AskJob::new(request, pthid.clone());
        let mut exchange = Asking::opened_by(rx, Job { machine, job });
        exchange.index_by_relation(answer, fx)?;
        self.asking.carry_out(shared, &mut exchange, actions, &self.trusted, fx)?;
        self.asking.request(shared, &mut exchange, fx)?;
        exchange.save(fx)
    }
}

impl RoleService for Merchant {
    fn on_message(&self, shared: &Shared, rx: &Received<'_>, fx: &mut Effects<'_>) -> Result<bool, Failure> {
        let kind = &rx.message().kind;
        let ours = present_proof::covers(kind);
        if kind.is(Ping::TYPE) {
            // An answer to an invitation to connect: who answers is known from now on, also by the short form of its DID.
            if let Some((Purpose::Connect { .. }, _)) = invitations::take_to_connect(shared, fx, rx)? {
                connecting::meet(rx, fx)?;
            }
            return Ok(true);
        }
        if !ours && !report_problem::is_report(kind) {
            return Ok(false);
        }
        if let Some(exchange) = Asking::of(shared, rx)? {
            self.handle(shared, exchange, verifier::Event::Message(rx), fx)?;
        } else if kind.is(ProposePresentation::TYPE) {
            self.proposal(shared, rx, fx)?;
        } else if ours && !report_problem::is_report(kind) {
            return Err(Failure::peer(PeerFault::Request, "no such exchange with you is known here"));
        }
        Ok(true)
    }

    fn on_timer(&self, shared: &Shared, exchange: &str, fx: &mut Effects<'_>) -> Handled {
        match Asking::load(shared, exchange)? {
            Some(asking) => self.handle(shared, asking, verifier::Event::Tick, fx),
            None => Ok(()),
        }
    }

    fn invite(&self, shared: &Shared, invite: &Invite, fx: &mut Effects<'_>) -> Result<Value, Failure> {
        refuse_person(shared, invite)?;
        let goal = (invitations::GOAL_CONNECT, self.name.clone());
        let purpose = Purpose::Connect { person: None };
        let (thread, url) = invitations::create(shared, fx, purpose, goal, Uses::Multi)?;
        Ok(json!({"invitation": url, "thread": thread}))
    }

    fn command(&self, shared: &Shared, command: &Command, fx: &mut Effects<'_>) -> Result<Value, Failure> {
        let Command::Merchant(command) = command else { return Err(foreign_command(shared, command)) };
        match command {
            MerchantCommand::Request(Template { template }) => {
                let request = RequestId::from(template.as_str());
                let template = self.asking.template(&request)?;
                let goal =
                    (invitations::GOAL_PRESENT, template.label().text(&self.asking.language).to_owned());
                let purpose = Purpose::Request { request };
                let (thread, url) = invitations::create(shared, fx, purpose, goal, Uses::Single)?;
                Ok(json!({"invitation": url, "thread": thread}))
            }
            MerchantCommand::Result(Thread { thread }) => self.asking.result(shared, thread),
        }
    }

    fn protocols(&self) -> Vec<(&'static str, &'static str)> {
        vec![("https://didcomm.org/present-proof/3.0", "verifier")]
    }

    fn status_list_fetched(&self, shared: &Shared, uri: &str, issuer: &str, token: Option<String>) {
        self.asking.lists.fetched(shared, uri, issuer, token);
    }
}
