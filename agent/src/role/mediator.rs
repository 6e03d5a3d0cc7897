//! The mediator: grants accounts, keeps mail, hands it out; sees only ciphertext.

use einmal_did::{Did, ResolveError, Resolver};
use einmal_didcomm::{
    FORWARD_TYPE, Forward, LayerPolicy, MessageType, OpenContext, Opened, ProblemCode, UnixSeconds, open,
};
use einmal_flows::{
    Received,
    coordinate_mediation::{
        self, MediationPolicy, MediationVersion, Registration, RegistrationChange, Registrations, Unavailable,
    },
    limits::MAX_RECIPIENTS_PER_ACCOUNT,
    message_pickup::{self, AttachedAs, PickupRequest, PickupVersion, PushForm, QueueStatus},
    routing::{self, Decision, NextHop, SelfForwards},
};
use einmal_storage::{
    Table,
    mail::{LetterId, MailboxId},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::operator;
use crate::{
    config::MediatorSettings,
    db::{Db, Stored, did_id, mailbox_id},
    delivery::{self, LiveChange},
    error::SetupError,
    handler::{
        Arrival, Effects, Failure, Forwarded, Handled, Need, RoleService, Shared, learn, our_form,
        their_form, unknown_command,
    },
    home::mail_key,
    service::{invitations, queue},
};

/// Accounts, by the DID they were granted to.
pub(super) const ACCOUNTS: Table = Table::new("account");
/// Registrations, by recipient DID.
pub(super) const ROUTES: Table = Table::new("route");
/// Recipient DIDs of each account: account id, then recipient id.
pub(super) const ACCOUNT_ROUTES: Table = Table::new("account-route");
/// Most DIDs of one account looked through.
const MAX_ROUTES: usize = 100_000;

/// An account as stored.
#[derive(Clone, Serialize, Deserialize)]
struct Account {
    since: UnixSeconds,
    /// In which version it was asked for; unknown of those that are older than this member.
    #[serde(default)]
    mediation: Option<MediationVersion>,
}

/// A registration as stored.
#[derive(Clone, Serialize, Deserialize)]
struct Route {
    recipient: Did,
    account: Did,
    proved: bool,
}

/// Recipients one account may register: as configured, within what a mediator takes at all.
pub(super) fn most_recipients(settings: &MediatorSettings) -> usize {
    settings.max_recipients.unwrap_or(MAX_RECIPIENTS_PER_ACCOUNT).min(MAX_RECIPIENTS_PER_ACCOUNT)
}

/// The mediator's service.
pub(super) struct Mediator {
    settings: MediatorSettings,
    ids: queue::Ids,
}

impl Mediator {
    pub(super) fn new(shared: &Shared) -> Result<Self, SetupError> {
        let key = mail_key(&shared.db, shared.entropy())?;
        let ids = Sha256::new().chain_update(b"einmal letter ids\0").chain_update(*key).finalize();
        Ok(Self {
            settings: shared.config.mediator.clone().unwrap_or_default(),
            ids: queue::Ids::new(&ids).map_err(SetupError::internal)?,
        })
    }

    fn policy(&self, shared: &Shared) -> Result<MediationPolicy, Failure> {
        let own = shared.public_did().cloned().ok_or_else(Failure::no_did_yet)?;
        let open = MediationPolicy::open(own);
        let max_recipients = most_recipients(&self.settings);
        Ok(MediationPolicy { require_proof: self.settings.require_proof, max_recipients, ..open })
    }

    /// The letters of a forward, from whomever it comes.
    fn letters(&self, shared: &Shared, opened: &Opened) -> Result<Forwarded, Failure> {
        if opened.proof.recipient.is_none() {
            return Err(Failure::unproved("a forward must be encrypted to the mediator"));
        }
        let mut forward = Forward::from_message(&opened.message)?;
        let mut unwrapped = SelfForwards::default();
        // What is over is passed over in silence, so it must be over for certain.
        let now = UnixSeconds(shared.present().earliest());
        loop {
            let mailbox = mailbox_id(&forward.next);
            let next = next_hop(shared, &forward.next, mailbox)?;
            match routing::decide(&forward, next, unwrapped, now) {
                Decision::Deliver { account, expires } => {
                    let letters = queue::letters(shared, &self.settings, forward, mailbox, expires);
                    return Ok(Forwarded { account, mailbox, letters });
                }
                Decision::Expired => {
                    let account = forward.next.canonical();
                    return Ok(Forwarded { account, mailbox, letters: Vec::new() });
                }
                Decision::OpenAgain { opened } => {
                    unwrapped = opened;
                    forward = forward_within(shared, &forward)?;
                }
                Decision::Refuse { code } => return Err(Failure::peer(code, "the forward is not taken")),
                _ => return Err(Failure::internal("a decision about a forward that is not known here")),
            }
        }
    }

    fn pickup(
        &self,
        shared: &Shared,
        rx: &Received<'_>,
        version: PickupVersion,
        fx: &mut Effects<'_>,
    ) -> Handled {
        let book = Book(&shared.db);
        let now = shared.now();
        let request = PickupRequest::read(rx, now)?;
        request.authorise(rx, &book)?;
        let own = || book.list(rx.sender(), 0, MAX_ROUTES).map_err(|_| unreadable());
        let named = |recipient: Option<Did>| recipient.map_or_else(own, |one| Ok(vec![one]));
        // A second device, or a connection that broke, says nothing about this one.
        let live = match fx.arrival {
            Some(Arrival::Socket { live, .. }) => live,
            Some(Arrival::Libp2p { .. }) => shared.live.is_live(rx.sender()),
            _ => false,
        };
        let status =
            |recipients: &[Did], gone: &[_]| QueueStatus { live, ..queue::status(shared, recipients, gone) };
        let draft = match request {
            PickupRequest::Status { recipient } => {
                message_pickup::status_reply(rx, &status(&named(recipient)?, &[]), now)
            }
            PickupRequest::Delivery { recipient, limit } => {
                let recipients = named(recipient)?;
                let waiting = queue::oldest(shared, &self.ids, &recipients, limit)?;
                // In 4.0 the form is given, and where nothing waits there is none.
                let form = if version == PickupVersion::V3 && !waiting.is_empty() {
                    let form = reading_form(shared, rx.sender())?;
                    fx.hand_over(mailbox_id(rx.sender()), form);
                    form
                } else {
                    AttachedAs::Base64
                };
                message_pickup::delivery_reply(rx, &waiting, &status(&recipients, &[]), form, now)
            }
            PickupRequest::Received { ids } => {
                let recipients = own()?;
                if ids.is_empty() {
                    fx.nothing_read(mailbox_id(rx.sender()));
                }
                let gone = queue::acknowledge(shared, &self.ids, &recipients, &ids, fx);
                if !gone.is_empty() {
                    fx.some_read(mailbox_id(rx.sender()));
                }
                message_pickup::status_reply(rx, &status(&recipients, &gone), now)
            }
            PickupRequest::LiveDelivery { on } => {
                let persistent = matches!(
                    fx.arrival,
                    Some(Arrival::Socket { .. } | Arrival::Libp2p { answerable: true, .. })
                );
                // Before the status: what it counts has waited, what comes later is pushed, nothing is in between.
                let since = shared.mail.last();
                let recipients = own()?;
                let draft = message_pickup::live_reply(rx, on, persistent, &status(&recipients, &[]), now)?;
                let account = shared.db.get::<Account>(ACCOUNTS, did_id(rx.sender()))?;
                let mediation = account.and_then(|account| account.value.mediation);
                fx.change_live(LiveChange {
                    account: rx.sender().clone(),
                    ours: our_form(rx),
                    theirs: their_form(rx),
                    on,
                    form: PushForm::of(version, mediation),
                    since,
                    mailboxes: recipients.iter().map(mailbox_id).collect(),
                });
                draft
            }
            _ => {
                return Err(Failure::peer(
                    ProblemCode::UNSUPPORTED,
                    "this pickup request is not spoken here",
                ));
            }
        };
        fx.answer(draft, &our_form(rx), &their_form(rx))?;
        Ok(())
    }
}

/// The form in which an account is handed letters by pickup 3.0: as it was seen to read them, else as wallets like it do.
fn reading_form(shared: &Shared, account: &Did) -> Result<AttachedAs, Failure> {
    if let Some(form) = shared.read_forms.of(mailbox_id(account)) {
        return Ok(form);
    }
    let account = shared.db.get::<Account>(ACCOUNTS, did_id(account))?;
    Ok(AttachedAs::first_for(account.and_then(|account| account.value.mediation)))
}

/// The forward inside one that is addressed to the mediator itself: who wraps for a recipient whose document names the
/// mediator both as endpoint and as routing key makes two.
fn forward_within(shared: &Shared, outer: &Forward) -> Result<Forward, Failure> {
    let malformed =
        || Failure::peer(ProblemCode::MALFORMED, "a forward to the mediator itself holds one more forward");
    let [payload] = outer.payloads.as_slice() else { return Err(malformed()) };
    let context = OpenContext {
        custody: &shared.keyring,
        resolver: &shared.resolver,
        now: shared.now(),
        accept_plaintext: false,
        layers: LayerPolicy::Tolerant,
    };
    let opened = open(payload, &context).map_err(|_| malformed())?;
    if opened.proof.recipient.is_none() {
        return Err(malformed());
    }
    let mut forward = Forward::from_message(&opened.message).map_err(|_| malformed())?;
    forward.expires_time = forward.expires_time.into_iter().chain(outer.expires_time).min();
    Ok(forward)
}

/// Has documents fetched that a `recipient-update` rests on, as far as fetches are left; what cannot be had is not proved.
fn fetch_owners(shared: &Shared, rx: &Received<'_>, policy: &MediationPolicy, fx: &Effects<'_>) -> Handled {
    for did in coordinate_mediation::dids_to_resolve(rx, policy) {
        if fx.fetches_left > 0
            && let Err(ResolveError::NotFetched { did }) = shared.resolver.resolve(&did)
        {
            return Err(Failure::Need(Need::Document { did }));
        }
    }
    Ok(())
}

fn unreadable() -> Failure {
    // Not the peer's fault: it may come again, and nothing about it is known now.
    Failure::later("the registrations cannot be read")
}

fn next_hop(shared: &Shared, next: &Did, mailbox: MailboxId) -> Result<NextHop, Failure> {
    if shared.public_did().is_some_and(|own| own.same_as(next)) {
        return Ok(NextHop::Own);
    }
    let ask = || Ok(Book(&shared.db).owner(next)?.map(|registration| registration.account));
    let owner = shared.routes.owner(mailbox, ask).map_err(|_: Unavailable| unreadable())?;
    Ok(owner.map_or(NextHop::Unknown, |account| NextHop::Registered { account }))
}

/// The registrations in the store.
struct Book<'a>(&'a Db);

impl Registrations for Book<'_> {
    fn is_account(&self, account: &Did) -> Result<bool, Unavailable> {
        self.0.exists(ACCOUNTS, did_id(account)).map_err(|_| Unavailable)
    }

    fn owner(&self, recipient: &Did) -> Result<Option<Registration>, Unavailable> {
        let route = self.0.get::<Route>(ROUTES, did_id(recipient)).map_err(|_| Unavailable)?;
        Ok(route.map(|route| Registration { account: route.value.account, proved: route.value.proved }))
    }

    fn list(&self, account: &Did, offset: usize, limit: usize) -> Result<Vec<Did>, Unavailable> {
        let prefix = did_id(account);
        let mut found: Vec<Did> = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        let wanted = offset.saturating_add(limit).min(MAX_ROUTES);
        while found.len() < wanted {
            let page = self
                .0
                .scan::<Did>(ACCOUNT_ROUTES, prefix.as_bytes(), after.as_deref(), wanted - found.len())
                .map_err(|_| Unavailable)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            found.extend(page.into_iter().map(|(_, did)| did));
        }
        Ok(found.into_iter().skip(offset).collect())
    }

    fn count(&self, account: &Did) -> Result<usize, Unavailable> {
        self.list(account, 0, MAX_ROUTES).map(|dids| dids.len())
    }
}

/// Where a registration stands among those of its account.
fn pair(account: &Did, recipient: &Did) -> String {
    format!("{}{}", did_id(account), did_id(recipient))
}

/// Writes registration changes, asked for in `version` by `account`, into the batch. `before` is the account as it stood before it
/// was decided about them.
///
/// Of two requests of one account at once, each of which counted without the other, one decides again; and so does one whose
/// account moves to another DID meanwhile.
fn apply(
    changes: Vec<RegistrationChange>,
    version: MediationVersion,
    account: &Did,
    before: Option<&Stored<Account>>,
    fx: &mut Effects<'_>,
) -> Handled {
    if changes.iter().any(|change| matches!(change, RegistrationChange::Put { .. })) {
        let Some(before) = before else { return Err(Failure::later("the account was made just now")) };
        fx.update(ACCOUNTS, did_id(account), &before.value, Some(before.version))?;
    }
    for change in changes {
        match change {
            RegistrationChange::Enroll { account } => enrol(&account, version, before, fx)?,
            RegistrationChange::Put { recipient, registration } => register(recipient, registration, fx)?,
            RegistrationChange::Remove { recipient, account } => unregister(&recipient, &account, fx)?,
            _ => return Err(Failure::internal("a registration change that is not known here")),
        }
    }
    Ok(())
}

/// Makes an account, or notes by which version of the protocol it was asked for last.
fn enrol(
    account: &Did,
    version: MediationVersion,
    before: Option<&Stored<Account>>,
    fx: &mut Effects<'_>,
) -> Handled {
    if before.is_some_and(|before| before.value.mediation == Some(version)) {
        return Ok(());
    }
    let since = before.map_or(fx.now(), |before| before.value.since);
    let enrolled = Account { since, mediation: Some(version) };
    Ok(fx.update(ACCOUNTS, did_id(account), &enrolled, before.map(|before| before.version))?)
}

/// Gives a recipient to an account, whosever it was: that it may was decided before.
fn register(recipient: Did, registration: Registration, fx: &mut Effects<'_>) -> Handled {
    let stored = fx.db().get::<Route>(ROUTES, did_id(&recipient))?;
    let version = stored.as_ref().map(|stored| stored.version);
    if let Some(old) = stored {
        fx.delete(ACCOUNT_ROUTES, pair(&old.value.account, &recipient))?;
    }
    let Registration { account, proved } = registration;
    fx.put(ACCOUNT_ROUTES, pair(&account, &recipient), &recipient)?;
    fx.reroute(mailbox_id(&recipient));
    // Two accounts that register the same DID at once: one of them decides again.
    let id = did_id(&recipient);
    Ok(fx.update(ROUTES, id, &Route { recipient, account, proved }, version)?)
}

/// Takes a recipient from an account, and throws its mail away: nobody can fetch it any more.
fn unregister(recipient: &Did, account: &Did, fx: &mut Effects<'_>) -> Handled {
    let stored = fx.db().get::<Route>(ROUTES, did_id(recipient))?;
    let Some(stored) = stored.filter(|stored| stored.value.account.same_as(account)) else { return Ok(()) };
    // Whoever registered it meanwhile keeps it.
    let key = fx.db().key(ROUTES, did_id(recipient))?;
    fx.batch().expect_version(key, stored.version);
    fx.delete(ROUTES, did_id(recipient))?;
    fx.delete(ACCOUNT_ROUTES, pair(account, recipient))?;
    fx.reroute(mailbox_id(recipient));
    fx.clear_mailbox(mailbox_id(recipient));
    Ok(())
}

impl RoleService for Mediator {
    fn on_message(&self, shared: &Shared, rx: &Received<'_>, fx: &mut Effects<'_>) -> Result<bool, Failure> {
        let kind = &rx.message().kind;
        if let Some(version) = MediationVersion::of(kind) {
            let policy = self.policy(shared)?;
            let book = Book(&shared.db);
            let before = fx.db().get::<Account>(ACCOUNTS, did_id(rx.sender()))?;
            if before.is_some() {
                fetch_owners(shared, rx, &policy, fx)?;
            }
            let (changes, draft) =
                coordinate_mediation::answer(rx, &book, &shared.resolver, &policy, shared.now())?;
            if !changes.is_empty() {
                learn(&their_form(rx), fx)?;
            }
            apply(changes, version, rx.sender(), before.as_ref(), fx)?;
            fx.answer(draft, &our_form(rx), &their_form(rx))?;
        } else if let Some(version) = PickupVersion::of(kind) {
            self.pickup(shared, rx, version, fx)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn forwarded(&self, shared: &Shared, opened: &Opened) -> Option<Result<Forwarded, Failure>> {
        opened.message.kind.is(FORWARD_TYPE).then(|| self.letters(shared, opened))
    }

    fn is_question(&self, kind: &MessageType) -> bool {
        // What turns live delivery on binds a connection: that must not be repeatable after a restart.
        PickupVersion::of(kind).is_some() && !delivery::is_change(kind)
    }

    /// The account and everything registered for it follow its owner's DID.
    fn on_rotation(&self, shared: &Shared, prior: &Did, form: &Did, fx: &mut Effects<'_>) -> Handled {
        let (book, new) = (Book(&shared.db), &form.canonical());
        let mut mailboxes = Vec::new();
        if prior.same_as(new) {
            return Ok(());
        }
        let Some(account) = fx.db().get::<Account>(ACCOUNTS, did_id(prior))? else { return Ok(()) };
        let version = fx.db().get::<Account>(ACCOUNTS, did_id(new))?.map(|stored| stored.version);
        let most = self.policy(shared)?.max_recipients;
        let moved = book.list(prior, 0, MAX_ROUTES).map_err(|_| unreadable())?;
        let held = book.count(new).map_err(|_| unreadable())?;
        if held > 0 && held + moved.len() > most {
            return Err(Failure::peer(
                ProblemCode::STORAGE,
                "both accounts together have more DIDs than one may; remove some first",
            ));
        }
        for recipient in moved {
            fx.delete(ACCOUNT_ROUTES, pair(prior, &recipient))?;
            // What another account has registered stays with it, whatever this one's list says: that may be of a backup.
            let stored = fx.db().get::<Route>(ROUTES, did_id(&recipient))?;
            let Some(stored) = stored.filter(|stored| stored.value.account.same_as(prior)) else { continue };
            fx.put(ACCOUNT_ROUTES, pair(new, &recipient), &recipient)?;
            fx.reroute(mailbox_id(&recipient));
            mailboxes.push(mailbox_id(&recipient));
            let route = Route { account: new.clone(), ..stored.value };
            fx.update(ROUTES, did_id(&recipient), &route, Some(stored.version))?;
        }
        let key = fx.db().key(ACCOUNTS, did_id(prior))?;
        fx.batch().expect_version(key, account.version);
        fx.delete(ACCOUNTS, did_id(prior))?;
        learn(form, fx)?;
        fx.update(ACCOUNTS, did_id(new), &Account { since: shared.now(), ..account.value }, version)?;
        fx.follow(prior, form, mailboxes);
        Ok(())
    }

    fn letter_id(&self, letter: LetterId) -> String {
        self.ids.write(letter)
    }

    fn on_anonymous(&self, _shared: &Shared, _opened: &Opened, _fx: &mut Effects<'_>) -> Handled {
        Err(Failure::unproved("only forwards are accepted without a proved sender"))
    }

    fn on_timer(&self, _shared: &Shared, _exchange: &str, _fx: &mut Effects<'_>) -> Handled {
        Ok(())
    }

    fn command(
        &self,
        shared: &Shared,
        name: &str,
        input: &Value,
        fx: &mut Effects<'_>,
    ) -> Result<Value, Failure> {
        match name {
            "invite" => {
                let goal = "Let this mediator keep your mail".to_owned();
                let (_, url) = invitations::standing(shared, (invitations::GOAL_MEDIATE, goal))?;
                Ok(json!({"invitation": url}))
            }
            _ => operator::command(shared, name, input, fx)?.ok_or_else(|| unknown_command(shared, name)),
        }
    }

    fn protocols(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("https://didcomm.org/routing/2.0", "mediator"),
            ("https://didcomm.org/coordinate-mediation/2.0", "mediator"),
            ("https://didcomm.org/coordinate-mediation/3.0", "mediator"),
            ("https://didcomm.org/messagepickup/3.0", "mediator"),
            ("https://didcomm.org/message-pickup/4.0", "mediator"),
        ]
    }

    fn reports_replays(&self) -> bool {
        true
    }
}
