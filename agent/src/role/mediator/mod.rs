//! The mediator: grants accounts, keeps mail, hands it out; sees only ciphertext.

mod accounts;
mod forwards;
mod mailboxes;
mod newcomers;
mod operator;
mod pickup;

use std::sync::Arc;

use einmal_did::{Did, ResolveError, Resolver};
use einmal_didcomm::{FORWARD_TYPE, MessageType, Opened};
use einmal_flows::{
    Received,
    coordinate_mediation::{self, MediationPolicy, MediationVersion, RegistrationChange},
    limits::MAX_RECIPIENTS_PER_ACCOUNT,
    message_pickup::{self, PickupVersion},
};
use einmal_storage::mail::{LetterId, MailboxId};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::{
    accounts::{ACCOUNTS, Account, Book},
    mailboxes::Mailboxes,
    newcomers::Newcomers,
};
use crate::{
    command::{Command, Invite},
    config::MediatorSettings,
    db::did_id,
    error::SetupError,
    handler::{
        Effects, Failure, Forwarded, Handled, KEEP_FOR_ANSWER_SECS, Need, RoleService, Shared,
        foreign_command, learn, learn_for, our_form, refuse_person, their_form,
    },
    home::mail_key,
    service::{invitations, queue},
};

/// Recipients one account may register: as configured, but never more than a mediator accepts.
pub(super) fn most_recipients(settings: &MediatorSettings) -> usize {
    settings.max_recipients.unwrap_or(MAX_RECIPIENTS_PER_ACCOUNT).min(MAX_RECIPIENTS_PER_ACCOUNT)
}

/// The mediator's service.
pub(super) struct Mediator {
    settings: MediatorSettings,
    ids: queue::Ids,
    mailboxes: Mailboxes,
    newcomers: Newcomers,
}

impl Mediator {
    pub(super) fn new(shared: &Shared) -> Result<Self, SetupError> {
        let key = mail_key(&shared.db, shared.entropy())?;
        let ids = Sha256::new().chain_update(b"einmal letter ids\0").chain_update(*key).finalize();
        let settings = shared.config.mediator.clone().unwrap_or_default();
        Ok(Self {
            ids: queue::Ids::new(&ids).map_err(SetupError::internal)?,
            mailboxes: Mailboxes::default(),
            newcomers: Newcomers::new(&settings),
            settings,
        })
    }

    fn policy(&self, shared: &Shared) -> Result<MediationPolicy, Failure> {
        let own = shared.public_did().cloned().ok_or_else(Failure::no_did_yet)?;
        let open = MediationPolicy::open(own);
        Ok(MediationPolicy {
            require_proof: self.settings.require_proof,
            max_recipients: most_recipients(&self.settings),
            ..open
        })
    }
}

impl RoleService for Mediator {
    fn on_message(&self, shared: &Shared, rx: &Received<'_>, fx: &mut Effects<'_>) -> Result<bool, Failure> {
        let kind = &rx.message().kind;
        if let Some(version) = MediationVersion::of(kind) {
            let mut policy = self.policy(shared)?;
            let book = Book(&shared.db);
            let before = fx.db().get::<Account>(ACCOUNTS, did_id(rx.sender()))?;
            if before.is_none() && coordinate_mediation::is_request(kind) {
                policy.admits_new_accounts = self.newcomers.admit(shared, fx)?;
            }
            if before.is_some() {
                fetch_owners(shared, rx, &policy, fx)?;
            }
            let (changes, draft) =
                coordinate_mediation::answer(rx, &book, &shared.resolver, &policy, shared.now())?;
            // For good once it has something to lose: accounts are had for the asking, with a new DID each time.
            if changes.iter().any(|change| matches!(change, RegistrationChange::Put { .. })) {
                learn(&their_form(rx), fx)?;
            } else if !changes.is_empty() {
                learn_for(KEEP_FOR_ANSWER_SECS, &their_form(rx), fx)?;
            }
            accounts::apply(changes, version, rx.sender(), before.as_ref(), fx)?;
            fx.answer(draft, &our_form(rx), &their_form(rx))?;
        } else if let Some(version) = PickupVersion::of(kind) {
            pickup::answer(self, shared, rx, version, fx)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn forwarded(&self, shared: &Shared, opened: &Opened) -> Option<Result<Forwarded, Failure>> {
        opened.message.kind.is(FORWARD_TYPE).then(|| forwards::letters(shared, &self.settings, opened))
    }

    fn is_question(&self, kind: &MessageType) -> bool {
        // A change of live delivery binds a connection: it must not be repeatable after a restart.
        PickupVersion::of(kind).is_some() && !message_pickup::is_live_change(kind)
    }

    /// The account and everything registered for it move with its owner's DID.
    fn on_rotation(&self, shared: &Shared, prior: &Did, form: &Did, fx: &mut Effects<'_>) -> Handled {
        accounts::follow(shared, (prior, form), self.policy(shared)?.max_recipients, fx)
    }

    fn is_mailbox_of(&self, shared: &Shared, account: &Did, mailbox: MailboxId) -> Result<bool, Failure> {
        Ok(self.mailboxes.of(shared, account)?.binary_search(&mailbox).is_ok())
    }

    fn mailboxes_of(&self, shared: &Shared, account: &Did) -> Result<Arc<[MailboxId]>, Failure> {
        self.mailboxes.of(shared, account)
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

    fn invite(&self, shared: &Shared, invite: &Invite, _fx: &mut Effects<'_>) -> Result<Value, Failure> {
        refuse_person(shared, invite)?;
        let goal = "Let this mediator keep your mail".to_owned();
        let (_, url) = invitations::standing(shared, (invitations::GOAL_MEDIATE, goal))?;
        Ok(json!({"invitation": url}))
    }

    fn command(&self, shared: &Shared, command: &Command, fx: &mut Effects<'_>) -> Result<Value, Failure> {
        let Command::Mediator(command) = command else { return Err(foreign_command(shared, command)) };
        operator::command(shared, command, fx)
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

/// Has documents fetched that a `recipient-update` depends on, while fetches are left; a DID whose document cannot be
/// had is not proved.
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
