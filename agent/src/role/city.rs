//! The city: reads its register and templates, offers cards, issues and revokes them, and asks for proofs itself.

use einmal_didcomm::{Body, ProblemCode, ThreadId};
use einmal_flows::{
    Received,
    issue_credential::{self, ProposeCredential, issuer},
    out_of_band::Uses,
    present_proof::{self, verifier},
    report_problem,
    trust_ping::Ping,
};
use einmal_register::PersonId;
use serde_json::{Value, json};

use crate::{
    command::{CityCommand, Command, Invite, Nothing, OfPerson, Offer, Person, Revoke, Thread, Unbind},
    config::TrustedIssuer,
    db::PEERS,
    error::SetupError,
    handler::{
        Effects, Failure, Handled, PeerFault, RoleService, Shared, foreign_command, learn, our_form,
        their_form,
    },
    identity::{Peer, peer_of},
    service::{
        asking::{self, AskJob, Asking, AskingService},
        connecting, devices,
        exchange::{self, Job, Relation, Work},
        ids::{RequestId, person_id},
        invitations::{self, IssueOrder, Purpose, Subject},
        issued,
        issuing::{IssueJob, Issuing, IssuingService},
        messages, open_offers, overtaken, patron_nym,
        status::KnownLists,
        templates::CityFiles,
    },
};

/// Tolerated difference between clocks, in seconds.
pub(super) const CLOCK_SKEW_SECS: u64 = 60;

/// A register that loses more than one person in so many, from one reading to the next, looks like an export that broke off.
const FEWER: usize = 20;

/// The city's service.
pub(super) struct City {
    issuing: IssuingService,
    asking: AskingService,
}

impl City {
    pub(super) fn new(shared: &Shared) -> Result<Self, SetupError> {
        let settings = shared.config.city.clone().unwrap_or_default();
        if settings.description.as_os_str().is_empty() {
            return Err(SetupError::Config {
                path: crate::config::CONFIG_FILE.into(),
                problem:
                    "[city] needs `description`: the path of a city.toml such as examples/wetzlar/city.toml"
                        .into(),
            });
        }
        let files = read_files(shared)?;
        patron_nym::make_secret(shared)?;
        let asking = AskingService {
            requests: asking::Requests::new(files.requests.clone()),
            clock_skew: CLOCK_SKEW_SECS,
            language: files.config.language().to_owned(),
            lists: KnownLists::default(),
        };
        Ok(Self { issuing: IssuingService::new(files), asking })
    }

    /// Reads register and templates anew, and reports cards that count as valid although the register says otherwise.
    fn reload(&self, shared: &Shared) -> Result<Value, Failure> {
        let files = read_files(shared)?;
        let (before, now) = (self.issuing.files().register.people.len(), files.register.people.len());
        self.asking.replace_requests(files.requests.clone());
        self.issuing.replace_files(files);
        let mut answer = self.issuing.register_report();
        if let Some(members) = answer.as_object_mut() {
            let overtaken = overtaken::overtaken(shared, &self.issuing.files())?;
            members.insert("outdated".into(), overtaken.outdated);
            members.insert("uncertain".into(), overtaken.uncertain);
            if now < before - before / FEWER {
                tracing::warn!(
                    before,
                    now,
                    "the register has lost many people at once: is the export whole?"
                );
                let warning =
                    format!("{now} people, {before} before: is the export whole? Nothing was revoked");
                members.insert("warning".into(), warning.into());
            }
        }
        Ok(answer)
    }

    /// Takes back an offer that was not carried out yet: the invitation, even if taken, and the exchange answering it.
    ///
    /// For a poster, all exchanges without a card end the next time anything happens in them.
    fn withdraw(&self, shared: &Shared, thread: &str, fx: &mut Effects<'_>) -> Result<Value, Failure> {
        let thread = thread.to_ascii_lowercase();
        let mut exchange = Issuing::by_thread(shared, &thread)?;
        if exchange.is_none()
            && let Ok(invitation) = ThreadId::try_from(thread.as_str())
        {
            exchange = Issuing::by_relation(shared, Relation::AnswerTo(&invitation))?;
        }
        let ended = |exchange: &Issuing| exchange.work.job.issued || exchange.work.machine.is_abandoned();
        let for_one = exchange.as_ref().is_some_and(|exchange| !exchange.work.job.order.subject.must_prove());
        if for_one && exchange.as_ref().is_some_and(|exchange| exchange.work.job.issued) {
            return Err(Failure::user("its card was issued already; revoke that: einmal city issued"));
        }
        // Also if the invitation itself has ended: holders who took it may be on their way to a card, whatever became
        // of the last.
        let is_poster =
            exchange.as_ref().is_some_and(|exchange| exchange.work.job.order.subject.must_prove());
        let news = is_poster && !invitations::is_withdrawn_by_key(shared, &thread)?;
        if let Some(person) = invitations::connected(shared, &thread)? {
            let person = person.as_str();
            return Err(Failure::user(format!(
                "this invitation was answered already: whoever did is taken for {person}; see: einmal city devices {person}, and take \
                 off whom you do not know: einmal city unbind {person}"
            )));
        }
        let open = invitations::withdraw(shared, &thread, exchange.is_some(), fx)?;
        let running = exchange.filter(|exchange| !ended(exchange));
        if !open && !news && running.is_none() {
            return Err(Failure::user(format!("no offer `{thread}` is open")));
        }
        if let Some(exchange) = running {
            self.refuse_offer(shared, exchange, fx)?;
        }
        Ok(json!({"withdrawn": true}))
    }

    /// Ends an exchange without a card.
    fn refuse_offer(&self, shared: &Shared, mut exchange: Issuing, fx: &mut Effects<'_>) -> Handled {
        let refused = issuer::Event::Refused { code: ProblemCode::ISSUANCE_ABANDONED };
        self.issuing.handle(shared, &mut exchange, refused, fx)?;
        exchange.save(fx)
    }

    /// An answer to an invitation: the offer follows, or first the request for a proof.
    fn proposal(&self, shared: &Shared, rx: &Received<'_>, fx: &mut Effects<'_>) -> Handled {
        let (Some((Purpose::Issue(order), again)), Some(pthid)) =
            (invitations::take(shared, fx, rx)?, &rx.message().pthid)
        else {
            let comment = "this proposal answers no invitation that is open to you";
            return Err(Failure::peer(PeerFault::Request, comment));
        };
        if exchange::is_taken(shared, rx)? {
            return Err(invitations::answered_already());
        }
        let answer = Relation::AnswerTo(pthid);
        // An abandoned exchange may be begun anew, but not once there is a card: a holder who refuses the card would
        // get another one each time.
        let stands = |exchange: Issuing| exchange.work.job.issued || !exchange.work.machine.is_abandoned();
        if again && Issuing::by_relation(shared, answer)?.is_some_and(stands) {
            return Err(invitations::answered_already());
        }
        let (machine, actions) = issuer::Issuer::from_proposal(rx, fx.now())?;
        let job = IssueJob::new(order.clone());
        let mut exchange = Issuing::opened_by(rx, Job { machine, job });
        self.issuing.carry_out(shared, &mut exchange, actions, fx)?;
        exchange.index_by_relation(answer, fx)?;
        match order.subject {
            Subject::Prover { request, .. } => self.ask_first(shared, request, &exchange, rx, fx)?,
            Subject::Person(_) => self.issuing.offer(shared, &mut exchange, fx)?,
        }
        exchange.save(fx)
    }

    /// Asks for the proof that must precede the offer, in a child thread of the same invitation.
    fn ask_first(
        &self,
        shared: &Shared,
        request: RequestId,
        issuing: &Issuing,
        rx: &Received<'_>,
        fx: &mut Effects<'_>,
    ) -> Handled {
        let thread = shared.fresh_thread()?;
        let parent = rx.message().pthid.clone().unwrap_or_else(|| rx.message().thread());
        let machine = verifier::Verifier::start(
            rx.recipient().clone(),
            rx.sender().clone(),
            thread.clone(),
            Some(parent),
        );
        let mut job = AskJob::new(request, thread.clone());
        job.then = Some(issuing.key.clone());
        let mut exchange = Asking::new(our_form(rx), their_form(rx), &thread, Job { machine, job });
        self.asking.request(shared, &mut exchange, fx)?;
        exchange.save(fx)
    }

    /// An event of a verifying exchange; if it proves what was asked for, the offer that waited for it goes out, and if it ends
    /// otherwise, there will be none.
    ///
    /// The city trusts what it issued itself, and no other issuer.
    fn presentation(
        &self,
        shared: &Shared,
        mut exchange: Asking,
        event: verifier::Event<'_>,
        fx: &mut Effects<'_>,
    ) -> Handled {
        let own = shared.public_did().map(|did| TrustedIssuer::Any(did.to_string()));
        let trusted: Vec<TrustedIssuer> = own.into_iter().collect();
        let proved = self.asking.handle(shared, &mut exchange, event, &trusted, fx)?;
        self.asking.ask_again(shared, &mut exchange, fx)?;
        exchange.save(fx)?;
        let Some(waiting) = exchange.work.job.then.as_ref().filter(|_| exchange.work.has_ended()) else {
            return Ok(());
        };
        // It may have been withdrawn meanwhile: what was proved was proved all the same.
        let Some(mut issuing) =
            Issuing::load(shared, waiting)?.filter(|issuing| issuing.work.machine.awaits_our_offer())
        else {
            return Ok(());
        };
        issuing.follow_as(&exchange);
        if let Some(proved) = proved {
            issuing.work.job.presented = Some(proved.claims);
            issuing.work.job.basis = proved.basis;
            self.issuing.offer_or_refuse(shared, &mut issuing, fx)?;
        } else {
            // There will be no other proof: whoever waits for the card may begin anew.
            let refused = issuer::Event::Refused { code: ProblemCode::ISSUANCE_ABANDONED };
            self.issuing.handle(shared, &mut issuing, refused, fx)?;
        }
        issuing.save(fx)
    }

    fn offer(&self, shared: &Shared, offer: &Offer, fx: &mut Effects<'_>) -> Result<Value, Failure> {
        let subject = match (&offer.person, &offer.after) {
            (Some(person), None) => Subject::Person(person_id(person)?),
            (None, Some(request)) => Subject::Prover { request: request.as_str().into(), only: None },
            (None, None) => {
                return Err(Failure::user(
                    "say for whom: --person ID, or --after REQUEST for whoever proves it",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(Failure::user(
                    "say --person ID or --after REQUEST, not both: whoever proves it is the person",
                ));
            }
        };
        if offer.valid_for == Some(0) {
            return Err(Failure::user(
                "a card that is valid for no second would be none: leave out --valid-for, or give 1 at least",
            ));
        }
        let order =
            IssueOrder { template: offer.template.as_str().into(), subject, valid_for: offer.valid_for };
        self.issuing.check(shared, &order)?;
        if offer.direct {
            return self.offer_directly(shared, order, fx);
        }
        let label = self
            .issuing
            .template(&order.template)?
            .label()
            .text(self.issuing.files().config.language())
            .to_owned();
        // An offer for one person is taken once; a poster that asks for a proof serves everybody.
        let uses = if order.subject.must_prove() { Uses::Multi } else { Uses::Single };
        let goal = (invitations::GOAL_ISSUE, label);
        let (thread, url) = invitations::create(shared, fx, Purpose::Issue(order), goal, uses)?;
        Ok(json!({"invitation": url, "thread": thread}))
    }

    /// Sends the offer to the person's phone over an existing relationship.
    fn offer_directly(
        &self,
        shared: &Shared,
        order: IssueOrder,
        fx: &mut Effects<'_>,
    ) -> Result<Value, Failure> {
        let Subject::Person(person) = &order.subject else {
            return Err(Failure::user(
                "who will prove it is not known yet: leave out --direct and pass the invitation on",
            ));
        };
        let person = person.as_str();
        let peer = messages::find_peers(shared, person)?.into_iter().next().ok_or_else(|| {
            Failure::user(format!(
                "no relationship with {person} yet; connect first: einmal invite --person {person}"
            ))
        })?;
        let thread = shared.fresh_thread()?;
        let machine =
            issuer::Issuer::offer(peer.ours.canonical(), peer.theirs.canonical(), thread.clone(), None);
        let job = IssueJob::new(order);
        let mut exchange = Issuing::new(peer.ours, peer.theirs, &thread, Job { machine, job });
        self.issuing.offer(shared, &mut exchange, fx)?;
        exchange.index_by_thread(thread.as_str(), fx)?;
        exchange.save(fx)?;
        Ok(json!({"sent": true, "thread": thread}))
    }

    /// What is listed of a person, or of everybody.
    fn of(
        &self,
        person: Option<&str>,
        list: impl FnOnce(Option<&PersonId>) -> Result<Value, Failure>,
    ) -> Result<Value, Failure> {
        let Some(person) = person.map(person_id).transpose()? else { return list(None) };
        let listed = list(Some(&person))?;
        self.of_somebody(&person, listed)
    }

    /// An empty list says that there is nothing of a person, not that nobody is called so: else one wrong letter would be taken for
    /// the answer.
    fn of_somebody(&self, person: &PersonId, listed: Value) -> Result<Value, Failure> {
        if listed.as_array().is_some_and(Vec::is_empty) {
            self.issuing.known_person(person)?;
        }
        Ok(listed)
    }

    /// The city's name: as configured, else from its description.
    fn display_name(&self, shared: &Shared) -> String {
        let configured = shared.config.city.as_ref().map(|city| city.display_name.as_str());
        if let Some(name) = configured.filter(|name| !name.is_empty()) {
            return name.to_owned();
        }
        let files = self.issuing.files();
        files.config.name().text(files.config.language()).to_owned()
    }
}

/// Reads the city's description and the files it names.
fn read_files(shared: &Shared) -> Result<CityFiles, SetupError> {
    let settings = shared.config.city.clone().unwrap_or_default();
    let files = CityFiles::read(&settings.description, shared.now())?;
    let report = &files.register.report;
    let (people, rows, skipped) = (files.register.people.len(), report.rows, report.bad_row_count);
    tracing::info!(people, rows, skipped, "register read");
    if skipped > 0 {
        tracing::warn!("rows of the register were skipped; see them with: einmal city register");
    }
    Ok(files)
}

/// Notes that the sender is this person of the register.
fn bind(shared: &Shared, rx: &Received<'_>, person: &PersonId, fx: &mut Effects<'_>) -> Handled {
    learn(&their_form(rx), fx)?;
    let label = Some(person.as_str().to_owned());
    let peer = Peer { knows_us: true, label, ..Peer::new(our_form(rx), their_form(rx), shared.now()) };
    let known = peer_of(fx.db(), rx.recipient(), rx.sender())?.map(|stored| stored.version);
    Ok(fx.update(PEERS, crate::db::peer_id(rx.recipient(), rx.sender()), &peer, known)?)
}

/// Notes that whoever was just given a card is the person it is for, unless that was known. Not before: an offer that is declined or
/// abandoned makes no device of anybody's.
fn bind_holder(shared: &Shared, rx: &Received<'_>, exchange: &Issuing, fx: &mut Effects<'_>) -> Handled {
    let Subject::Person(person) = &exchange.work.job.order.subject else { return Ok(()) };
    // Who was taken off and is offered a card all the same is a device of theirs again.
    if devices::present(rx, fx)?.is_some_and(|peer| !peer.superseded && peer.label.is_some()) {
        return Ok(());
    }
    bind(shared, rx, person, fx)
}

impl RoleService for City {
    fn on_message(&self, shared: &Shared, rx: &Received<'_>, fx: &mut Effects<'_>) -> Result<bool, Failure> {
        let kind = &rx.message().kind;
        if kind.is(Ping::TYPE) {
            // Once only: a lost phone must not become its owner's newest by saying hello again.
            match invitations::take_to_connect(shared, fx, rx)? {
                Some((Purpose::Connect { person: Some(person) }, false)) => bind(shared, rx, &person, fx)?,
                Some((Purpose::Connect { person: None }, _)) => connecting::meet(rx, fx)?,
                _ => {}
            }
            return Ok(true);
        }
        let ours = issue_credential::covers(kind) || present_proof::covers(kind);
        if !ours && !report_problem::is_report(kind) {
            return Ok(false);
        }
        if let Some(mut exchange) = Issuing::of(shared, rx)? {
            let had_card = exchange.work.job.issued;
            // An offer for a person that is still under way must not become a card on a phone that was lost meanwhile.
            let for_person = matches!(exchange.work.job.order.subject, Subject::Person(_));
            let offered_at = exchange.work.job.offered_at;
            if for_person && !had_card && devices::was_taken_off_since(rx, offered_at, fx)? {
                tracing::info!("no card was issued: the device was taken off the person it is for");
                return self.refuse_offer(shared, exchange, fx).map(|()| true);
            }
            self.issuing.handle(shared, &mut exchange, issuer::Event::Message(rx), fx)?;
            if !had_card && exchange.work.job.issued {
                bind_holder(shared, rx, &exchange, fx)?;
            }
            // Whoever proposes once more is offered the same once more; not before what must be proved first.
            let job = &exchange.work.job;
            let proposes = exchange.work.machine.awaits_our_offer();
            if proposes && (!job.order.subject.must_prove() || job.presented.is_some()) {
                self.issuing.offer_or_refuse(shared, &mut exchange, fx)?;
            }
            exchange.save(fx)?;
        } else if let Some(exchange) = Asking::of(shared, rx)? {
            self.presentation(shared, exchange, verifier::Event::Message(rx), fx)?;
        } else if kind.is(ProposeCredential::TYPE) {
            self.proposal(shared, rx, fx)?;
        } else if ours && !report_problem::is_report(kind) {
            return Err(Failure::peer(PeerFault::Request, "no such exchange with you is known here"));
        }
        Ok(true)
    }

    fn on_timer(&self, shared: &Shared, exchange: &str, fx: &mut Effects<'_>) -> Handled {
        if let Some(mut issuing) = Issuing::load(shared, exchange)? {
            self.issuing.handle(shared, &mut issuing, issuer::Event::Tick, fx)?;
            return issuing.save(fx);
        }
        if let Some(asking) = Asking::load(shared, exchange)? {
            return self.presentation(shared, asking, verifier::Event::Tick, fx);
        }
        Ok(())
    }

    fn invite(&self, shared: &Shared, invite: &Invite, fx: &mut Effects<'_>) -> Result<Value, Failure> {
        let person = invite.person.as_deref().map(person_id).transpose()?;
        if let Some(person) = &person {
            self.issuing.known_person(person)?;
        }
        let uses = if person.is_some() { Uses::Single } else { Uses::Multi };
        let purpose = Purpose::Connect { person };
        let name = self.display_name(shared);
        let (thread, url) =
            invitations::create(shared, fx, purpose, (invitations::GOAL_CONNECT, name), uses)?;
        Ok(json!({"invitation": url, "thread": thread}))
    }

    fn command(&self, shared: &Shared, command: &Command, fx: &mut Effects<'_>) -> Result<Value, Failure> {
        let Command::City(command) = command else { return Err(foreign_command(shared, command)) };
        match command {
            CityCommand::Offer(offer) => self.offer(shared, offer, fx),
            CityCommand::Revoke(Revoke { credential, reason }) => {
                // Cards issued on the strength of the revoked one stay valid, and so do the person's others of its
                // kind: whether they should is for people to decide.
                let left = self.issuing.revoke(shared, credential, reason, fx)?;
                Ok(
                    json!({"revoked": true, "issued_for_it": left.issued_for_it, "of_the_same_person": left.of_person}),
                )
            }
            CityCommand::Devices(Person { person }) => {
                let person = person_id(person)?;
                self.of_somebody(&person, devices::list(shared, &person)?)
            }
            CityCommand::Offers(OfPerson { person }) => {
                self.of(person.as_deref(), |person| open_offers::list(shared, person))
            }
            CityCommand::Unbind(Unbind { person, device }) => {
                devices::unbind(shared, &person_id(person)?, device.as_deref(), fx)
            }
            CityCommand::Reload(Nothing {}) => self.reload(shared),
            CityCommand::Withdraw(Thread { thread }) => self.withdraw(shared, thread, fx),
            CityCommand::Issued(OfPerson { person }) => {
                self.of(person.as_deref(), |person| issued::list(shared, person))
            }
            CityCommand::Register(Nothing {}) => Ok(self.issuing.register_report()),
        }
    }

    fn protocols(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("https://didcomm.org/issue-credential/3.0", "issuer"),
            ("https://didcomm.org/present-proof/3.0", "verifier"),
        ]
    }

    fn status_list(&self, shared: &Shared, uri: &str) -> Result<Option<String>, Failure> {
        self.issuing.lists.token(shared, uri)
    }

    fn status_list_fetched(&self, shared: &Shared, uri: &str, issuer: &str, token: Option<String>) {
        self.asking.lists.fetched(shared, uri, issuer, token);
    }
}
