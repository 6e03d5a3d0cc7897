//! The citizen's account at its mediator, and the DIDs the mediator already takes mail for.

use einmal_did::Did;
use einmal_didcomm::UnixSeconds;
use einmal_flows::{coordinate_mediation, out_of_band::Invitation};
use einmal_storage::Table;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    db::{META, PARKED, digest_id},
    handler::{Effects, Failure, Shared, Visit, learn},
};

/// Fresh DIDs the mediator already takes mail for.
pub(crate) const SPARES: Table = Table::new("spare-did");
/// Fresh DIDs that the mediator was not told about yet, or has not accepted.
pub(crate) const UNREGISTERED: Table = Table::new("unregistered-did");
/// Most DIDs taken in one event.
const MAX_TAKEN: usize = 16;
/// Name of the record of our account.
pub(crate) const ACCOUNT: &str = "mediation";

/// Our account at a mediator.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Our DID towards the mediator; it has no endpoint and receives only what comes back.
    pub(crate) ours: Did,
    pub(crate) mediator: Did,
    /// The DID mail for us is routed by, once granted.
    pub(crate) routing: Option<Did>,
    since: UnixSeconds,
    /// Digest of the setting `mediator` when this one was chosen; another one since then may replace it, if it has granted nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    setting: Option<String>,
}

impl Account {
    /// The machine that speaks coordinate-mediation for the account.
    pub(crate) fn machine(&self) -> coordinate_mediation::Recipient {
        let (ours, mediator) = (self.ours.canonical(), self.mediator.canonical());
        match &self.routing {
            Some(routing) => coordinate_mediation::Recipient::granted(ours, mediator, vec![routing.clone()]),
            None => coordinate_mediation::Recipient::new(ours, mediator),
        }
    }
}

/// Chooses a mediator by its invitation, in the place of one that has granted nothing.
pub(crate) fn adopt(
    shared: &Shared,
    invitation: &Invitation,
    fx: &mut Effects<'_>,
) -> Result<Value, Failure> {
    let stored = shared.db.get::<Account>(META, ACCOUNT)?;
    let version = stored.as_ref().map(|stored| stored.version);
    let setting = setting(shared).map(digest);
    let ours = match stored.map(|stored| stored.value) {
        Some(account) if account.mediator.same_as(&invitation.from) => {
            if account.routing.is_none() && account.setting != setting {
                fx.update(META, ACCOUNT, &Account { setting, ..account.clone() }, version)?;
            }
            let known = account.routing.is_some() && shared.last_visit.get() != Visit::NotEnrolled;
            let state = if known { "granted" } else { "requested" };
            return Ok(json!({"state": state, "note": "this mediator is in use already"}));
        }
        Some(account) if account.routing.is_some() => {
            return Err(Failure::user(
                "this wallet has a mediator, and moving to another is not possible yet; make a new wallet for \
                 that one: einmal init citizen --mediator URL",
            ));
        }
        _ => shared.pairwise_without_endpoint(fx)?,
    };
    learn(&invitation.from, fx)?;
    let account =
        Account { ours, mediator: invitation.from.clone(), routing: None, since: shared.now(), setting };
    fx.update(META, ACCOUNT, &account, version)?;
    Ok(json!({"state": "requested"}))
}

/// The invitation of the mediator that the configuration names.
fn setting(shared: &Shared) -> Option<&str> {
    shared.config.citizen.as_ref()?.mediator.as_deref()
}

fn digest(setting: &str) -> String {
    digest_id(&[setting])
}

/// The setting, if it is to be followed: nothing is chosen yet, or what is has granted nothing and the setting is another one
/// than it was then.
pub(crate) fn setting_to_follow(shared: &Shared) -> Result<Option<&str>, Failure> {
    let Some(setting) = setting(shared) else { return Ok(None) };
    let follows = account(shared)?
        .is_none_or(|account| account.routing.is_none() && account.setting != Some(digest(setting)));
    Ok(follows.then_some(setting))
}

/// Whether the configuration names another mediator than the one that has granted an account.
pub(crate) fn setting_differs(shared: &Shared) -> Result<bool, Failure> {
    let granted = account(shared)?.filter(|account| account.routing.is_some());
    let named = setting(shared).and_then(|url| Invitation::from_url(url).ok());
    Ok(granted.zip(named).is_some_and(|(account, named)| !account.mediator.same_as(&named.from)))
}

/// The account, if one is held or asked for.
pub(crate) fn account(shared: &Shared) -> Result<Option<Account>, Failure> {
    Ok(shared.db.get::<Account>(META, ACCOUNT)?.map(|stored| stored.value))
}

/// Our DID and the mediator's, once it has granted an account.
pub(crate) fn granted(shared: &Shared) -> Result<Option<(Did, Did)>, Failure> {
    let account = account(shared)?.filter(|account| account.routing.is_some());
    Ok(account.map(|account| (account.ours, account.mediator)))
}

/// Whether `peer` is the mediator with which `ours` has its account.
pub(crate) fn is_mediator(shared: &Shared, ours: &Did, peer: &Did) -> Result<bool, Failure> {
    let account = account(shared)?;
    Ok(account.is_some_and(|account| account.ours.same_as(ours) && account.mediator.same_as(peer)))
}

/// Seconds that a deadline waits for mail at most: as long as letters are tried again here.
const LONGEST_WAIT_SECS: u64 = 7 * 24 * 3600;
/// Milliseconds within which an awake node looks into its mailbox again, even if its mediator would ring.
const LATELY_MS: u64 = 3 * 60_000;

/// The state of the mailbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// There is a mediator, or one was asked for an account.
    pub(crate) mediator: bool,
    /// It has granted an account.
    pub(crate) granted: bool,
    spares: u64,
    pub(crate) visit: Visit,
    /// The configuration names another one.
    #[serde(default)]
    pub(crate) setting_differs: bool,
    /// It takes no more DIDs for the account.
    #[serde(default)]
    pub(crate) full: bool,
}

/// The state of the mailbox, for its user.
pub(crate) fn standing(shared: &Shared) -> Result<Standing, Failure> {
    let account = account(shared)?;
    let configured = setting(shared).is_some();
    Ok(Standing {
        mediator: account.is_some() || configured,
        granted: account.is_some_and(|account| account.routing.is_some()),
        spares: shared.db.count(SPARES)?,
        visit: shared.last_visit.get(),
        setting_differs: setting_differs(shared)?,
        full: shared.last_visit.is_full(),
    })
}

/// Whether an answer that came before `deadline` may still be on its way: at the mediator, because the node or the machine has slept
/// since it last looked, or here among letters that are tried again. Not for ever: a mediator may be gone for good.
pub(crate) fn may_have_mail(shared: &Shared, deadline: UnixSeconds) -> Result<bool, Failure> {
    let present = shared.present();
    let granted = account(shared)?.is_some_and(|account| account.routing.is_some());
    let is_over = deadline.plus(LONGEST_WAIT_SECS).0 < present.steady_ms / 1000;
    if !granted || is_over || shared.last_visit.get() == Visit::NotEnrolled {
        return Ok(false);
    }
    let poll_ms = shared.config.citizen.as_ref().and_then(|citizen| citizen.poll_ms).unwrap_or_default();
    let within_ms = LATELY_MS.saturating_add(poll_ms.saturating_mul(2));
    Ok(!shared.last_visit.was_lately(present.steady_ms, within_ms) || shared.db.count(PARKED)? > 0)
}

/// Takes one of the spare DIDs. A wallet that peers reach directly, without a mediator, makes one at once.
pub(crate) fn take_spare(shared: &Shared, fx: &mut Effects<'_>) -> Result<Option<Did>, Failure> {
    Ok(take_spares(shared, 1, fx)?.pop())
}

/// As [`take_spare`], `most` of them or as many as are ready.
pub(crate) fn take_spares(shared: &Shared, most: usize, fx: &mut Effects<'_>) -> Result<Vec<Did>, Failure> {
    let most = most.min(MAX_TAKEN);
    if shared.peer_endpoint().is_some() && setting(shared).is_none() && account(shared)?.is_none() {
        return (0..most).map(|_| shared.pairwise(fx, None)).collect();
    }
    let mut taken = Vec::new();
    for record in shared.db.scan_raw(SPARES, b"", None, most)? {
        let did = serde_json::from_slice(&record.value).map_err(|_| Failure::damaged("a spare DID"))?;
        // Two events that take one at once must not share it: the loser is handled again with the next one.
        fx.remove(SPARES, record.key.id(), record.version)?;
        taken.push(did);
    }
    Ok(taken)
}

/// Why no DID is ready, and what then.
pub(crate) fn none_ready(shared: &Shared) -> Result<Value, Failure> {
    if shared.last_visit.is_full() {
        return Err(Failure::user(
            "the mediator takes no more DIDs for this wallet's account, and each invitation needs one; ask whoever \
             runs the mediator to raise `max_recipients`, or make another wallet: einmal init citizen",
        ));
    }
    Ok(json!({"pending": true, "state": "connecting",
        "note": "the mediator has not been reached yet; try again in a moment"}))
}
