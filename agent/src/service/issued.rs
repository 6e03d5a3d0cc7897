//! The cards a city has issued: written down without claims, found by id, person and place in the status list, revoked.

use std::ops::ControlFlow;

use einmal_credentials::vc::StatusReference;
use einmal_didcomm::{ThreadId, UnixSeconds};
use einmal_register::{PersonId, Template};
use einmal_storage::Table;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    ids::{TemplateId, stored_person},
    status::PublishedLists,
};
use crate::{
    db::{Listed, digest_id},
    handler::{Effects, Failure, Shared, list_of},
};

/// Issued cards, by their id.
const ISSUED: Table = Table::new("issued");
/// Ids of issued cards, by place in the status list.
const ISSUED_AT: Table = Table::new("issued-at");
/// Ids of issued cards, by person.
const ISSUED_TO: Table = Table::new("issued-to");
/// Ids of issued cards, by the card whose presentation they were issued for.
const ISSUED_FOR: Table = Table::new("issued-for");
/// Most cards listed at once.
const MAX_LISTED: usize = 100_000;
/// Cards of one person, or for one card, looked at in one go.
const PAGE: usize = 256;

/// An issued card as the issuer remembers it. No claims: they are in the register.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct IssuedCard {
    pub(crate) template: TemplateId,
    #[serde(default, with = "stored_person")]
    pub(crate) person: Option<PersonId>,
    pub(crate) status: Option<StatusReference>,
    pub(crate) issued_at: UnixSeconds,
    pub(crate) expires_at: u64,
    pub(crate) thread: ThreadId,
    #[serde(default)]
    pub(crate) revoked: Option<Revoked>,
}

impl IssuedCard {
    /// Whether it counts now.
    pub(crate) fn is_valid(&self, now: UnixSeconds) -> bool {
        self.revoked.is_none() && now.0 < self.expires_at
    }
}

/// That a card was revoked.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Revoked {
    pub(crate) reason: String,
    at: UnixSeconds,
}

/// A card that was presented before another was issued: when it ends, and where its status stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Basis {
    /// Its `exp`, in Unix seconds.
    pub(crate) ends_at: Option<u64>,
    /// Its place in a status list, if it has one.
    pub(crate) status: Option<StatusReference>,
}

impl Basis {
    /// What the verified claims of a card say about that.
    pub(crate) fn of(claims: &Map<String, Value>) -> Self {
        let place = || {
            let list = claims.get("status")?.get("status_list")?;
            let uri = list.get("uri")?.as_str()?.to_owned();
            Some(StatusReference { uri, idx: list.get("idx")?.as_u64()? })
        };
        Self { ends_at: claims.get("exp").and_then(Value::as_u64), status: place() }
    }
}

fn place_id(place: &StatusReference) -> String {
    digest_id(&[&place.uri, &place.idx.to_string()])
}

/// The record of the card with this place in a status list.
pub(crate) fn at(shared: &Shared, place: &StatusReference) -> Result<Option<IssuedCard>, Failure> {
    let Some(id) = shared.db.get::<String>(ISSUED_AT, place_id(place))? else { return Ok(None) };
    Ok(shared.db.get::<IssuedCard>(ISSUED, id.value)?.map(|stored| stored.value))
}

/// The cards of one person, with their ids.
pub(crate) fn of_person(shared: &Shared, person: &PersonId) -> Result<Vec<(String, IssuedCard)>, Failure> {
    found(shared, ISSUED_TO, &digest_id(&[person.as_str()]))
}

fn found(shared: &Shared, table: Table, prefix: &str) -> Result<Vec<(String, IssuedCard)>, Failure> {
    let (mut cards, mut after): (_, Option<Vec<u8>>) = (Vec::new(), None);
    loop {
        let page = shared.db.scan::<String>(table, prefix.as_bytes(), after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(cards) };
        after = Some(last.clone());
        for (_, id) in page {
            if let Some(card) = shared.db.get::<IssuedCard>(ISSUED, &id)? {
                cards.push((id, card.value));
            }
        }
    }
}

/// Shows `look` each card with its id.
pub(crate) fn each(
    shared: &Shared,
    mut look: impl FnMut(&str, IssuedCard) -> Result<(), Failure>,
) -> Result<(), Failure> {
    shared.db.each(ISSUED, |id, card| {
        look(&String::from_utf8_lossy(&id), card)?;
        Ok(ControlFlow::Continue(()))
    })
}

/// Cards as the clerk sees them, all or those of one person; of all no more than can be shown.
pub(crate) fn list(shared: &Shared, person: Option<&PersonId>) -> Result<Value, Failure> {
    let shown = |cards: &[(String, IssuedCard)]| cards.iter().map(|(id, card)| summary(id, card)).collect();
    if let Some(person) = person {
        return Ok(Value::Array(shown(&of_person(shared, person)?)));
    }
    let Listed { records, cut } = shared.db.all::<IssuedCard>(ISSUED, MAX_LISTED)?;
    let named = records.into_iter().map(|(id, card)| (String::from_utf8_lossy(&id).into_owned(), card));
    let left_out = format!("there are more than {MAX_LISTED} cards; ask for those of a person: --person ID");
    Ok(list_of(shown(&named.collect::<Vec<_>>()), cut.then_some(left_out)))
}

/// Writes down an issued card, findable by id, by person, by its place, and by the cards it was issued for.
pub(crate) fn remember(
    shared: &Shared,
    card: &IssuedCard,
    basis: &[Basis],
    fx: &mut Effects<'_>,
) -> Result<(), Failure> {
    let id = shared.fresh_id()?.to_key();
    if let Some(status) = &card.status {
        fx.put(ISSUED_AT, place_id(status), &id)?;
    }
    if let Some(person) = &card.person {
        fx.put(ISSUED_TO, format!("{}{id}", digest_id(&[person.as_str()])), &id)?;
    }
    for place in basis.iter().filter_map(|basis| basis.status.as_ref()) {
        pin(place, fx)?;
        fx.put(ISSUED_FOR, format!("{}{id}", place_id(place)), &id)?;
    }
    Ok(fx.put(ISSUED, &id, card)?)
}

/// Has this event be decided anew if the card with this place is revoked before it is committed.
fn pin(place: &StatusReference, fx: &mut Effects<'_>) -> Result<(), Failure> {
    let Some(id) = fx.db().get::<String>(ISSUED_AT, place_id(place))? else { return Ok(()) };
    if let Some(card) = fx.db().get::<IssuedCard>(ISSUED, &id.value)? {
        let key = fx.db().key(ISSUED, &id.value)?;
        fx.batch().expect_version(key, card.version);
    }
    Ok(())
}

/// Cards that count although one was revoked, by their ids.
pub(crate) struct Left {
    /// Those that were issued for whoever proved the revoked one.
    pub(crate) issued_for_it: Vec<String>,
    /// Others of the same kind of the same person.
    pub(crate) of_person: Vec<String>,
}

/// Revokes the card `id` for good. Returns those that may have to go with it.
pub(crate) fn revoke(
    shared: &Shared,
    lists: &PublishedLists,
    (id, reason): (&str, &str),
    template: impl FnOnce(&TemplateId) -> Result<Template, Failure>,
    fx: &mut Effects<'_>,
) -> Result<Left, Failure> {
    let stored = shared
        .db
        .get::<IssuedCard>(ISSUED, id)?
        .ok_or_else(|| Failure::user(format!("no issued card `{id}`; see: einmal city issued")))?;
    let mut card = stored.value;
    let template = template(&card.template)?;
    let reasons: Vec<&str> =
        template.revocation_reasons().iter().map(|reason| reason.code.as_str()).collect();
    if !reasons.contains(&reason) {
        return Err(Failure::user(format!(
            "`{reason}` is no reason here; use one of: {}",
            reasons.join(", ")
        )));
    }
    if card.revoked.is_some() {
        return Err(Failure::user("this card is revoked already; nothing was changed"));
    }
    let status = card
        .status
        .clone()
        .ok_or_else(|| Failure::user("cards of this template have no status; they end by expiring"))?;
    lists.revoke(shared, &status, fx)?;
    card.revoked = Some(Revoked { reason: reason.to_owned(), at: shared.now() });
    fx.update(ISSUED, id, &card, Some(stored.version))?;
    let valid = |cards: Vec<(String, IssuedCard)>| -> Vec<String> {
        cards.into_iter().filter(|(_, card)| card.is_valid(shared.now())).map(|(id, _)| id).collect()
    };
    let mut others = match &card.person {
        Some(person) => of_person(shared, person)?,
        None => Vec::new(),
    };
    others.retain(|(other, theirs)| other != id && theirs.template == card.template);
    let issued_for_it = valid(found(shared, ISSUED_FOR, &place_id(&status))?);
    Ok(Left { issued_for_it, of_person: valid(others) })
}

/// A card as the clerk sees it in a list.
fn summary(id: &str, card: &IssuedCard) -> Value {
    json!({
        "credential": id,
        "template": card.template,
        "person": card.person.as_ref().map(PersonId::as_str),
        "issued_at": card.issued_at,
        "expires_at": card.expires_at,
        "thread": card.thread,
        "revoked": card.revoked.as_ref().map(|revoked| &revoked.reason),
    })
}
