//! What must be refused, each time for the reason that fits and not for another.

use std::{cell::RefCell, time::Duration};

use einmal_flows::formats::DcqlPresentation;
use serde_json::Value;

use super::{Cards, Cast, STATUS_TTL, borrow, exported, for_person, offer, only_card_of, text, verdict};
use crate::{
    command::{CityCommand, CommonCommand, MerchantCommand, Nothing, OfPerson, Offer, Revoke, Template},
    config::Network,
    demo::{StepResult, attacks::Attacker, wallet::Asked},
    net::client::HttpClient,
    transport::Transport,
};

/// Seconds for which the short-lived card is valid.
const SHORT_LIFE: u64 = 3;

impl Cast {
    fn attacker(&self) -> Attacker<'_> {
        Attacker { wallet: &self.foreign, question: &self.input.question }
    }
}

/// Asks the foreign wallet for a proof of age and returns the library's verdict on its answer.
async fn judged(
    cast: &Cast,
    make: impl Fn(&Asked) -> Result<DcqlPresentation, String>,
) -> Result<Value, String> {
    let template = cast.input.city.age.template.clone();
    let request = cast.library.ask(MerchantCommand::Request(Template { template }))?;
    cast.foreign.answer(&text(&request, "invitation")?, make).await?;
    verdict(cast, &request)
}

/// Fails unless the answer is refused for just this reason.
async fn refused(
    cast: &Cast,
    wanted: &str,
    make: impl Fn(&Asked) -> Result<DcqlPresentation, String>,
) -> Result<(), String> {
    is_refused(&judged(cast, make).await?, wanted)
}

/// Fails unless the answer is accepted: otherwise the refusals would prove nothing.
async fn accepted(
    cast: &Cast,
    make: impl Fn(&Asked) -> Result<DcqlPresentation, String>,
) -> Result<(), String> {
    let result = judged(cast, make).await?;
    if result["accepted"] == true {
        Ok(())
    } else {
        Err(format!("a good card was refused: {}", result["reason"]))
    }
}

fn is_refused(result: &Value, wanted: &str) -> Result<(), String> {
    match result["reason"].as_str() {
        _ if result["accepted"] != false => Err(format!("it was accepted, not refused as {wanted}")),
        Some(reason) if reason == wanted => Ok(()),
        reason => Err(format!("refused as {}, not as {wanted}", reason.unwrap_or("nothing"))),
    }
}

pub(super) async fn false_name_refused(cast: &Cast, cards: &mut Cards) -> StepResult {
    // The text of Anna's card, as a thief would copy it.
    let card = only_card_of(&cast.anna, &cast.input.city.resident)?;
    cards.annas = exported(&cast.anna, &card)?;
    refused(cast, "not-the-holder", |asked| cast.attacker().present(&cards.annas, asked)).await?;
    Ok("a copied card on another phone: not-the-holder".into())
}

pub(super) async fn replay_refused(cast: &mut Cast, cards: &mut Cards) -> StepResult {
    let order = for_person(&cast.input.city.resident.template, &cast.input.bela.id);
    let invitation = offer(&cast.city, order)?;
    cards.own = cast.foreign.take_card(&invitation).await?;
    presentations_count_once(cast, &cards.own).await?;
    let running = envelopes_again(cast).await?;
    cast.library.stop()?;
    cast.library.start(true)?;
    let restarted = envelopes_again(cast).await?;
    Ok(format!(
        "a recorded presentation for a new request: answers-another-request; one for another verifier: \
         made-for-another-verifier; of recorded envelopes sent again {running} were recognised, and {restarted} after a \
         restart, none handled"
    ))
}

/// An accepted presentation answers no second request, and one made for another verifier answers none.
async fn presentations_count_once(cast: &Cast, card: &str) -> Result<(), String> {
    let recorded = RefCell::new(None);
    accepted(cast, |asked| {
        let presentation = cast.attacker().present(card, asked)?;
        recorded.replace(Some(presentation.clone()));
        Ok(presentation)
    })
    .await?;
    let recorded = recorded.into_inner().ok_or("no presentation was recorded")?;
    refused(cast, "answers-another-request", |_| Ok(recorded.clone())).await?;
    refused(cast, "made-for-another-verifier", |asked| {
        let client_id = format!("{}x", asked.client_id);
        cast.attacker().present(card, &Asked { nonce: asked.nonce.clone(), client_id })
    })
    .await
}

/// Sends every envelope recorded on the wire once more; returns how many there were, if each was recognised and none
/// changed anything.
async fn envelopes_again(cast: &Cast) -> Result<u64, String> {
    let envelopes = cast.tap.envelopes();
    if envelopes.is_empty() {
        return Err("nothing was recorded".into());
    }
    let counters = |status: Value| {
        let counter = |name: &str| status["counters"][name].as_u64().unwrap_or(0);
        (counter("duplicates"), counter("accepted"))
    };
    let (duplicates, accepted) = counters(cast.library.ask(CommonCommand::Status(Nothing {}))?);
    let client = HttpClient::new(&Network { allow_private: true, allow_http: true })?;
    let endpoint = cast.library.about["endpoints"][0].as_str().ok_or("no endpoint")?.to_owned();
    for envelope in &envelopes {
        // A refusal is as good as silence; what counts is that nothing happens.
        let _ = client.send(&endpoint, envelope.clone()).await;
    }
    let (duplicates_after, accepted_after) = counters(cast.library.ask(CommonCommand::Status(Nothing {}))?);
    let recognised = duplicates_after.saturating_sub(duplicates);
    if accepted_after != accepted {
        return Err(format!("{} replayed messages were handled again", accepted_after.abs_diff(accepted)));
    }
    if recognised != envelopes.len() as u64 {
        return Err(format!("{recognised} of {} replayed envelopes were recognised", envelopes.len()));
    }
    Ok(recognised)
}

pub(super) async fn tampered_refused(cast: &Cast, cards: &Cards) -> StepResult {
    let (attacker, card) = (cast.attacker(), cards.own.as_str());
    accepted(cast, |asked| attacker.present(card, asked)).await?;
    refused(cast, "tampered", |asked| attacker.with_changed_disclosure(card, asked)).await?;
    refused(cast, "bad-signature", |asked| attacker.with_changed_payload(card, asked)).await?;
    refused(cast, "not-the-holder", |asked| attacker.with_changed_binding(card, asked)).await?;
    refused(cast, "key-binding", |asked| attacker.with_binding_for_less(card, asked)).await?;
    Ok("one disclosed value changed: tampered; a longer life under the old signature: bad-signature; the key binding \
        changed: not-the-holder; made for fewer disclosures: key-binding; the same card unchanged: accepted"
        .into())
}

pub(super) async fn foreign_issuer_refused(cast: &Cast, cards: &Cards) -> StepResult {
    let attacker = cast.attacker();
    let strange = attacker.card_of_a_stranger()?;
    refused(cast, "untrusted-issuer", |asked| attacker.present(&strange, asked)).await?;
    let forged = attacker.card_in_the_name_of(&cards.own)?;
    refused(cast, "bad-signature", |asked| attacker.present(&forged, asked)).await?;
    Ok("a perfect card from an issuer nobody knows: untrusted-issuer; one in the city's name and under its key id, signed \
        by another key: bad-signature"
        .into())
}

pub(super) async fn expired_refused(cast: &Cast) -> StepResult {
    let (template, person) = (&cast.input.city.resident.template, &cast.input.bela.id);
    let order = Offer { valid_for: Some(SHORT_LIFE), ..for_person(template, person) };
    let invitation = offer(&cast.city, order)?;
    let card = cast.foreign.take_card(&invitation).await?;
    accepted(cast, |asked| cast.attacker().present(&card, asked)).await?;
    tokio::time::sleep(Duration::from_secs(SHORT_LIFE + 2)).await;
    refused(cast, "expired", |asked| cast.attacker().present(&card, asked)).await?;
    Ok("accepted while it was valid, refused by its own holder's hand afterwards: expired".into())
}

pub(super) async fn revoked_refused(cast: &Cast, cards: &Cards) -> StepResult {
    let resident = &cast.input.city.resident;
    let of = OfPerson { person: Some(cast.input.anna.id.clone()) };
    let issued = cast.city.ask(CityCommand::Issued(of))?;
    let card = issued
        .as_array()
        .into_iter()
        .flatten()
        .find(|card| card["template"] == *resident.template)
        .ok_or("the city knows no such card")?;
    let template = cast.input.city.template(resident)?;
    let reason = template.revocation_reasons().first().ok_or("the card cannot be revoked")?;
    let revoked = Revoke { credential: text(card, "credential")?, reason: reason.code.to_string() };
    cast.city.ask(CityCommand::Revoke(revoked))?;
    tokio::time::sleep(Duration::from_secs(2 * STATUS_TTL)).await;
    is_refused(&borrow(cast)?, "revoked")?;
    accepted(cast, |asked| cast.attacker().present(&cards.own, asked)).await?;
    Ok(format!(
        "the card accepted before, revoked as `{}`: revoked; another card, not revoked, is accepted",
        reason.label.text("en")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_refusal_for_the_reason_that_fits_will_do() {
        let result = |accepted: bool, reason: Value| json!({"accepted": accepted, "reason": reason});
        assert_eq!(is_refused(&result(false, json!("expired")), "expired"), Ok(()));
        for (result, problem) in [
            (result(true, Value::Null), "it was accepted"),
            (result(true, json!("expired")), "it was accepted"),
            (result(false, json!("revoked")), "refused as revoked, not as expired"),
            (result(false, Value::Null), "refused as nothing"),
            (json!({}), "it was accepted"),
        ] {
            let told = is_refused(&result, "expired").unwrap_err();
            assert!(told.contains(problem), "{told}");
        }
    }
}
