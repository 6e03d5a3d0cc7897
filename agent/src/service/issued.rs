//! The cards a city has issued: recorded without claims, found by id, person and place in the status list, revoked.

use std::{collections::BTreeMap, ops::ControlFlow};

use einmal_credentials::vc::StatusReference;
use einmal_didcomm::{ThreadId, UnixSeconds};
use einmal_register::{PersonId, Template};
use einmal_storage::{Table, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    ids::{TemplateId, stored_person},
    status::PublishedLists,
};
use crate::{
    db::digest_id,
    handler::{BoundedList, Effects, Failure, Shared},
};

/// Issued cards, by their id.
const ISSUED: Table = Table::new("issued");
/// Ids of issued cards, by place in the status list.
const ISSUED_AT: Table = Table::new("issued-at");
/// Ids of issued cards, by person.
const ISSUED_TO: Table = Table::new("issued-to");
/// Ids of issued cards, by the card whose presentation was their basis.
const ISSUED_FOR: Table = Table::new("issued-for");
/// Changes whenever somebody gets or loses a card, by person.
const TURNS: Table = Table::new("issued-turn");
/// Seconds that is remembered: longer than any event takes.
const KEEP_TURN_SECS: u64 = 24 * 3600;
/// Seconds a card is remembered after its end; one that was revoked is remembered for good, for it may bar from another.
const KEEP_ENDED_SECS: u64 = 365 * 24 * 3600;
/// Longest reason of a revocation when no template names the reasons.
const MAX_REASON_LEN: usize = 64;
/// Cards of one person, or for one card, read at a time.
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
    /// Tags of what it says of its person, by claim; cards of earlier versions have none.
    #[serde(default)]
    pub(crate) facts: BTreeMap<String, String>,
}

impl IssuedCard {
    /// Whether it counts now.
    pub(crate) fn is_valid(&self, now: UnixSeconds) -> bool {
        self.revoked.is_none() && now.0 < self.expires_at
    }
}

/// The record that a card was revoked.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Revoked {
    pub(crate) reason: String,
    at: UnixSeconds,
}

/// A person's turn to get a card: what was decided by the cards they had when it was taken holds only as long as nobody gave them
/// another or revoked one.
pub(crate) struct Turn {
    pub(crate) person: PersonId,
    read_at: Option<Version>,
}

impl Turn {
    /// The turn as it is before the person's cards are looked at.
    pub(crate) fn of(shared: &Shared, person: PersonId) -> Result<Self, Failure> {
        let stored = shared.db.get::<UnixSeconds>(TURNS, id_of(&person))?;
        Ok(Self { person, read_at: stored.map(|stored| stored.version) })
    }

    /// Ends the turn: of two that were taken at once the second is decided anew.
    fn end(&self, fx: &mut Effects<'_>) -> Result<(), Failure> {
        fx.expect(TURNS, id_of(&self.person), self.read_at)?;
        end_turns(&self.person, fx)
    }
}

/// Has every card that is being issued to this person be decided anew.
fn end_turns(person: &PersonId, fx: &mut Effects<'_>) -> Result<(), Failure> {
    let now = fx.shared().now();
    Ok(fx.put_expiring(TURNS, id_of(person), &now, now.plus(KEEP_TURN_SECS))?)
}

/// By what somebody's records are found; it does not name them.
fn id_of(person: &PersonId) -> String {
    digest_id(&[person.as_str()])
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
    /// Reads both from the verified claims of a card.
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
    found(shared, ISSUED_TO, &id_of(person))
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

/// Cards as the clerk sees them: those of one person, or all that can be shown.
pub(crate) fn list(shared: &Shared, person: Option<&PersonId>) -> Result<Value, Failure> {
    let mut shown = BoundedList::default();
    if let Some(person) = person {
        of_person(shared, person)?.iter().for_each(|(id, card)| shown.push(summary(id, card)));
        return Ok(shown.into_value(|left| format!("{left} more of this person")));
    }
    each(shared, |id, card| {
        shown.push(summary(id, &card));
        Ok(())
    })?;
    Ok(shown.into_value(|left| format!("{left} more; ask for those of a person: --person ID")))
}

/// Writes down an issued card, findable by id, by person, by its place, and by the cards it was issued for. Ends the person's turn.
pub(crate) fn remember(
    shared: &Shared,
    card: &IssuedCard,
    turn: Option<Turn>,
    basis: &[Basis],
    fx: &mut Effects<'_>,
) -> Result<(), Failure> {
    let id = shared.fresh_id()?.to_key();
    let until = UnixSeconds(card.expires_at).plus(KEEP_ENDED_SECS);
    if let Some(status) = &card.status {
        fx.put_expiring(ISSUED_AT, place_id(status), &id, until)?;
    }
    if let Some(person) = &card.person {
        fx.put_expiring(ISSUED_TO, issued_to(person, &id), &id, until)?;
    }
    if let Some(turn) = turn {
        turn.end(fx)?;
    }
    for place in basis.iter().filter_map(|basis| basis.status.as_ref()) {
        pin(place, fx)?;
        fx.put_expiring(ISSUED_FOR, format!("{}{id}", place_id(place)), &id, until)?;
    }
    Ok(fx.put_expiring(ISSUED, &id, card, until)?)
}

/// The key under which a card is found as this person's.
fn issued_to(person: &PersonId, id: &str) -> String {
    format!("{}{id}", id_of(person))
}

/// Has this event decided anew if the card with this place is revoked before the event is committed.
fn pin(place: &StatusReference, fx: &mut Effects<'_>) -> Result<(), Failure> {
    let Some(id) = fx.db().get::<String>(ISSUED_AT, place_id(place))? else { return Ok(()) };
    if let Some(card) = fx.db().get::<IssuedCard>(ISSUED, &id.value)? {
        fx.expect(ISSUED, &id.value, Some(card.version))?;
    }
    Ok(())
}

/// Cards that stay valid although another was revoked, by their ids.
pub(crate) struct Left {
    /// Cards issued on proof of the revoked one.
    pub(crate) issued_for_it: Vec<String>,
    /// Other cards of the same kind for the same person.
    pub(crate) of_person: Vec<String>,
}

/// Revokes the card `id` for good. Returns those that may have to be revoked with it.
///
/// A kind of card that is no longer issued, or no longer has a status, names no reasons: then any word is accepted.
pub(crate) fn revoke<'t>(
    shared: &Shared,
    lists: &PublishedLists,
    (id, reason): (&str, &str),
    template: impl FnOnce(&TemplateId) -> Option<&'t Template>,
    fx: &mut Effects<'_>,
) -> Result<Left, Failure> {
    let stored = shared
        .db
        .get::<IssuedCard>(ISSUED, id)?
        .ok_or_else(|| Failure::user(format!("no issued card `{id}`; see: einmal city issued")))?;
    let mut card = stored.value;
    check_reason(template(&card.template), reason)?;
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
    if let Some(person) = &card.person {
        fx.put(ISSUED_TO, issued_to(person, id), &id)?;
        end_turns(person, fx)?;
    }
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

fn check_reason(template: Option<&Template>, reason: &str) -> Result<(), Failure> {
    let reasons = template.map_or(&[][..], Template::revocation_reasons);
    if reasons.is_empty() {
        let is_word = reason.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        if is_word && (1..=MAX_REASON_LEN).contains(&reason.len()) {
            return Ok(());
        }
        return Err(Failure::user("say why in one word of the letters a to z and hyphens"));
    }
    if reasons.iter().any(|one| one.code == reason) {
        return Ok(());
    }
    let codes: Vec<&str> = reasons.iter().map(|reason| reason.code.as_str()).collect();
    Err(Failure::user(format!("`{reason}` is no reason here; use one of: {}", codes.join(", "))))
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

#[cfg(test)]
mod tests {
    use einmal_storage::StoreError;

    use super::*;
    use crate::{config::Role, handler::Cause, node::testing};

    const PERSON: &str = "A-1";

    fn person() -> PersonId {
        PersonId::parse(PERSON).unwrap()
    }

    fn card(shared: &Shared, status: StatusReference) -> IssuedCard {
        IssuedCard {
            template: "library-card".into(),
            person: Some(person()),
            status: Some(status),
            issued_at: shared.now(),
            expires_at: shared.now().0 + 1000,
            thread: shared.fresh_thread().unwrap(),
            revoked: None,
            facts: BTreeMap::new(),
        }
    }

    fn commit(shared: &Shared, fx: Effects<'_>) -> Result<(), StoreError> {
        shared.db.store().commit(fx.into_parts().0).wait().map(|_| ())
    }

    /// What an event writes that gives the person a card in this turn.
    fn given<'a>(shared: &'a Shared, lists: &PublishedLists, turn: Turn) -> Effects<'a> {
        let mut fx = Effects::new(shared, Cause::Own);
        let card = card(shared, lists.allocate(shared).unwrap());
        remember(shared, &card, Some(turn), &[], &mut fx).unwrap();
        fx
    }

    #[tokio::test]
    async fn cards_that_were_counted_at_once_are_not_both_written() {
        let (node, _) = testing::node(Role::Mediator).await;
        let (shared, lists) = (&node.shared, PublishedLists::default());
        for read in 1..=2 {
            let turn = || Turn::of(shared, person()).unwrap();
            let (first, second) = (given(shared, &lists, turn()), given(shared, &lists, turn()));
            commit(shared, first).unwrap();
            let refused = commit(shared, second).unwrap_err();
            assert!(matches!(refused, StoreError::Conflict { .. }), "{refused}");
            assert_eq!(of_person(shared, &person()).unwrap().len(), read);
        }
    }

    #[tokio::test]
    async fn a_card_that_was_decided_before_another_was_revoked_is_decided_anew() {
        let (node, _) = testing::node(Role::Mediator).await;
        let (shared, lists) = (&node.shared, PublishedLists::default());
        commit(shared, given(shared, &lists, Turn::of(shared, person()).unwrap())).unwrap();
        let next = given(shared, &lists, Turn::of(shared, person()).unwrap());
        let mut fx = Effects::new(shared, Cause::Own);
        let id = of_person(shared, &person()).unwrap().remove(0).0;
        revoke(shared, &lists, (&id, "barred"), |_| None, &mut fx).unwrap();
        commit(shared, fx).unwrap();
        let refused = commit(shared, next).unwrap_err();
        assert!(matches!(refused, StoreError::Conflict { .. }), "{refused}");
    }
}
