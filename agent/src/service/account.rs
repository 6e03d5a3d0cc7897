//! The citizen's account at its mediator, and the DIDs the mediator already takes mail for.

use einmal_did::Did;
use einmal_didcomm::UnixSeconds;
use einmal_flows::{coordinate_mediation, out_of_band::Invitation};
use einmal_storage::Table;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    db::META,
    handler::{Effects, Failure, Shared, Visit, learn},
};

/// Fresh DIDs the mediator already takes mail for.
pub(crate) const SPARES: Table = Table::new("spare-did");
/// Fresh DIDs that the mediator was not told about yet, or has not accepted.
pub(crate) const UNREGISTERED: Table = Table::new("unregistered-did");
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

/// Chooses a mediator by its invitation.
pub(crate) fn adopt(
    shared: &Shared,
    invitation: &Invitation,
    fx: &mut Effects<'_>,
) -> Result<Value, Failure> {
    if let Some(account) = account(shared)? {
        if account.mediator.same_as(&invitation.from) {
            return Ok(json!({"state": "granted", "note": "this mediator is in use already"}));
        }
        return Err(Failure::user("this wallet has a mediator; moving to another is not possible yet"));
    }
    learn(&invitation.from, fx)?;
    let ours = shared.pairwise_without_endpoint(fx)?;
    let account = Account { ours, mediator: invitation.from.clone(), routing: None, since: shared.now() };
    fx.update(META, ACCOUNT, &account, None)?;
    Ok(json!({"state": "requested"}))
}

/// The account, if one is granted or requested.
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

/// The state of the mailbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// There is a mediator, or one was asked for an account.
    pub(crate) mediator: bool,
    /// It has granted an account.
    pub(crate) granted: bool,
    spares: u64,
    pub(crate) visit: Visit,
}

/// The state of the mailbox, for its user.
pub(crate) fn standing(shared: &Shared) -> Result<Standing, Failure> {
    let account = account(shared)?;
    let configured = shared.config.citizen.as_ref().is_some_and(|citizen| citizen.mediator.is_some());
    Ok(Standing {
        mediator: account.is_some() || configured,
        granted: account.is_some_and(|account| account.routing.is_some()),
        spares: shared.db.count(SPARES)?,
        visit: shared.last_visit.get(),
    })
}

/// Takes one of the spare DIDs. A wallet that peers reach directly, without a mediator, makes one at once.
pub(crate) fn take_spare(shared: &Shared, fx: &mut Effects<'_>) -> Result<Option<Did>, Failure> {
    let wants_mediator = shared.config.citizen.as_ref().is_some_and(|citizen| citizen.mediator.is_some());
    if shared.peer_endpoint().is_some() && !wants_mediator && account(shared)?.is_none() {
        return shared.pairwise(fx, None).map(Some);
    }
    let spares = shared.db.scan_raw(SPARES, b"", None, 1)?;
    let Some(record) = spares.into_iter().next() else { return Ok(None) };
    let did: Did = serde_json::from_slice(&record.value).map_err(|_| Failure::damaged("a spare DID"))?;
    // Two invitations taken at once must not share a DID: the loser is handled again and gets the next one.
    fx.batch().expect_version(record.key.clone(), record.version).delete(record.key);
    Ok(Some(did))
}
