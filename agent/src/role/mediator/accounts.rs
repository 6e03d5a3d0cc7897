//! Accounts and registrations as the mediator stores them: who may fetch mail for which recipient.

use einmal_did::Did;
use einmal_didcomm::UnixSeconds;
use einmal_flows::coordinate_mediation::{
    MediationVersion, Registration, RegistrationChange, Registrations, Unavailable,
};
use einmal_storage::Table;
use serde::{Deserialize, Serialize};

use crate::{
    db::{Db, Stored, did_id, mailbox_id},
    handler::{Effects, Failure, Handled, PeerFault, Shared, learn},
};

/// Accounts, by the DID they were granted to.
pub(super) const ACCOUNTS: Table = Table::new("account");
/// Registrations, by recipient DID.
pub(super) const ROUTES: Table = Table::new("route");
/// Recipient DIDs of each account, as it wrote them: account id, then recipient id.
pub(super) const ACCOUNT_ROUTES: Table = Table::new("account-route");
/// Most DIDs of one account read: more than one account may register, because two accounts may have become one.
pub(super) const MAX_ROUTES: usize = 100_000;

/// An account as stored.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Account {
    since: UnixSeconds,
    /// The version it was asked for in; unknown for accounts older than this member.
    #[serde(default)]
    pub(super) mediation: Option<MediationVersion>,
}

/// A registration as stored.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Route {
    recipient: Did,
    pub(super) account: Did,
    proved: bool,
}

/// The registrations in the store.
pub(super) struct Book<'a>(pub(super) &'a Db);

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

/// The key of a registration among those of its account.
fn pair(account: &Did, recipient: &Did) -> String {
    format!("{}{}", did_id(account), did_id(recipient))
}

/// Writes registration changes, requested in `version` by `account`, into the batch. `before` is the account as it was
/// before they were decided.
///
/// The account is written with every change of its recipients. So of two requests of one account at once, each of which counted
/// without the other, one decides again, and so does one whose account moves to another DID meanwhile; and a list of its
/// mailboxes holds as long as the account's version.
pub(super) fn apply(
    changes: Vec<RegistrationChange>,
    version: MediationVersion,
    account: &Did,
    before: Option<&Stored<Account>>,
    fx: &mut Effects<'_>,
) -> Handled {
    let lists = |change: &RegistrationChange| !matches!(change, RegistrationChange::Enroll { .. });
    if changes.iter().any(lists) {
        let Some(before) = before else { return Err(Failure::later("the account was made just now")) };
        fx.update(ACCOUNTS, did_id(account), &before.value, Some(before.version))?;
    }
    for change in changes {
        match change {
            RegistrationChange::Enroll { account } => enrol(&account, version, before, fx)?,
            RegistrationChange::Put { recipient, form, registration } => {
                register(recipient, &form, registration, fx)?;
            }
            RegistrationChange::Remove { recipient, account } => unregister(&recipient, &account, fx)?,
        }
    }
    Ok(())
}

/// Makes an account, or notes the version of the protocol it was last asked for in.
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

/// Gives a recipient, written as `form`, to an account, whoever had it: its right to it was decided before.
fn register(recipient: Did, form: &Did, registration: Registration, fx: &mut Effects<'_>) -> Handled {
    let stored = fx.db().get::<Route>(ROUTES, did_id(&recipient))?;
    let version = stored.as_ref().map(|stored| stored.version);
    let Registration { account, proved } = registration;
    if let Some(old) = stored {
        fx.delete(ACCOUNT_ROUTES, pair(&old.value.account, &recipient))?;
        if !old.value.account.same_as(&account) {
            touch(&old.value.account, fx)?;
        }
    }
    fx.put(ACCOUNT_ROUTES, pair(&account, &recipient), form)?;
    fx.reroute(mailbox_id(&recipient));
    // Two accounts register the same DID at once: one of them is decided again.
    let id = did_id(&recipient);
    Ok(fx.update(ROUTES, id, &Route { recipient, account, proved }, version)?)
}

/// Writes an account anew as it is, for its recipients have changed.
fn touch(account: &Did, fx: &mut Effects<'_>) -> Handled {
    let Some(stored) = fx.db().get::<Account>(ACCOUNTS, did_id(account))? else { return Ok(()) };
    Ok(fx.update(ACCOUNTS, did_id(account), &stored.value, Some(stored.version))?)
}

/// Takes a recipient from an account, and throws its mail away: nobody can fetch it any more.
fn unregister(recipient: &Did, account: &Did, fx: &mut Effects<'_>) -> Handled {
    release(recipient, &did_id(account), fx)
}

/// Takes a recipient from the account with the record id `account`, if it is that one's, and throws its mail away.
pub(super) fn release(recipient: &Did, account: &str, fx: &mut Effects<'_>) -> Handled {
    fx.delete(ACCOUNT_ROUTES, format!("{account}{}", did_id(recipient)))?;
    let stored = fx.db().get::<Route>(ROUTES, did_id(recipient))?;
    let is_its = |stored: &Stored<Route>| did_id(&stored.value.account) == account;
    let Some(stored) = stored.filter(is_its) else { return Ok(()) };
    // An account that registered it meanwhile keeps it.
    fx.remove(ROUTES, did_id(recipient), stored.version)?;
    fx.reroute(mailbox_id(recipient));
    fx.clear_mailbox(mailbox_id(recipient));
    Ok(())
}

/// Moves the account of the DID `prior`, and everything registered for it, to the DID its owner has rotated to, given
/// as it was written. An account that exists there absorbs it, if together they have no more than `most` recipients.
///
/// # Errors
///
/// [`Failure::Peer`] if both together have more; [`Failure::Later`] if the registrations cannot be read.
pub(super) fn follow(
    shared: &Shared,
    (prior, form): (&Did, &Did),
    most: usize,
    fx: &mut Effects<'_>,
) -> Handled {
    let (book, new) = (Book(&shared.db), &form.canonical());
    if prior.same_as(new) {
        return Ok(());
    }
    let Some(account) = fx.db().get::<Account>(ACCOUNTS, did_id(prior))? else { return Ok(()) };
    let version = fx.db().get::<Account>(ACCOUNTS, did_id(new))?.map(|stored| stored.version);
    let moved = book.list(prior, 0, MAX_ROUTES).map_err(|_| unreadable())?;
    let held = book.count(new).map_err(|_| unreadable())?;
    if held > 0 && held + moved.len() > most {
        return Err(Failure::peer(
            PeerFault::NoRoom,
            "both accounts together have more DIDs than one may; remove some first",
        ));
    }
    let mut mailboxes = Vec::new();
    for recipient in moved {
        fx.delete(ACCOUNT_ROUTES, pair(prior, &recipient))?;
        // A recipient that another account has registered stays there, whatever this account's list says: the list may
        // come from a backup.
        let stored = fx.db().get::<Route>(ROUTES, did_id(&recipient))?;
        let Some(stored) = stored.filter(|stored| stored.value.account.same_as(prior)) else { continue };
        fx.put(ACCOUNT_ROUTES, pair(new, &recipient), &recipient)?;
        fx.reroute(mailbox_id(&recipient));
        mailboxes.push(mailbox_id(&recipient));
        let route = Route { account: new.clone(), ..stored.value };
        fx.update(ROUTES, did_id(&recipient), &route, Some(stored.version))?;
    }
    fx.remove(ACCOUNTS, did_id(prior), account.version)?;
    learn(form, fx)?;
    fx.update(ACCOUNTS, did_id(new), &Account { since: shared.now(), ..account.value }, version)?;
    fx.follow(prior, form, mailboxes);
    Ok(())
}

/// A failed read is not the sender's fault: the message may be sent again.
pub(super) fn unreadable() -> Failure {
    Failure::later("the registrations cannot be read")
}
