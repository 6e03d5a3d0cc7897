//! The presentations an attacker makes.

use std::collections::BTreeMap;

use einmal_credentials::{
    sd_jwt::{Claims, PathElement},
    vc::{self, CredentialRequest, HeldCredential},
};
use einmal_did::did_key;
use einmal_flows::formats::DcqlPresentation;
use einmal_keys::{
    Custody, KeyId, KeyKind, Keyring, PublicKey, SecretKey, SystemEntropy, base64url_decode, base64url_encode,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    city::City,
    wallet::{Asked, ForeignWallet},
};
use crate::clock::{Clock, SystemClock};

/// Seconds for which a self-made card is valid, and by which a changed card would last longer.
const AN_HOUR: u64 = 3600;

/// The one question attackers answer: whether a person is old enough.
pub(super) struct Question {
    query: String,
    vct: String,
    path: Vec<String>,
}

impl Question {
    /// The question of the city's age request.
    pub(super) fn of(city: &City) -> Result<Self, String> {
        let asked = city.age.asked.first().ok_or("the age request asks for nothing")?;
        let (path, _) = asked.claims.first().ok_or("the age request asks for no claim")?;
        Ok(Self { query: asked.query.clone(), vct: city.resident.vct.clone(), path: path.clone() })
    }

    fn paths(&self) -> Vec<Vec<PathElement>> {
        vec![self.path.iter().cloned().map(PathElement::Name).collect()]
    }

    fn answer(&self, text: String) -> DcqlPresentation {
        DcqlPresentation(BTreeMap::from([(self.query.clone(), vec![text])]))
    }

    /// The card with just the age disclosed, ending in a tilde.
    fn disclose(&self, card: &str) -> Result<String, String> {
        let held = HeldCredential::from_store(card).map_err(|error| error.to_string())?;
        held.present(&self.paths(), None).map_err(|error| error.to_string())
    }

    /// The card with nothing disclosed, ending in a tilde.
    fn disclose_nothing(card: &str) -> Result<String, String> {
        let held = HeldCredential::from_store(card).map_err(|error| error.to_string())?;
        held.present(&[], None).map_err(|error| error.to_string())
    }
}

/// A wallet that answers the question in every wrong way, and in the right one.
pub(super) struct Attacker<'a> {
    pub(super) wallet: &'a ForeignWallet,
    pub(super) question: &'a Question,
}

impl Attacker<'_> {
    /// Presents `card` with the wallet's own key, whether or not that is the key the card is bound to.
    pub(super) fn present(&self, card: &str, asked: &Asked) -> Result<DcqlPresentation, String> {
        self.bound(&self.question.disclose(card)?, asked)
    }

    /// One disclosed value changed; the key binding covers exactly what is sent.
    pub(super) fn with_changed_disclosure(
        &self,
        card: &str,
        asked: &Asked,
    ) -> Result<DcqlPresentation, String> {
        let name = self.question.path.last().ok_or("the question has no path")?;
        self.bound(&changed_disclosure(&self.question.disclose(card)?, name)?, asked)
    }

    /// The issuer-signed part changed, so that the card lasts longer; the key binding covers exactly what is sent.
    pub(super) fn with_changed_payload(&self, card: &str, asked: &Asked) -> Result<DcqlPresentation, String> {
        self.bound(&changed_payload(&self.question.disclose(card)?)?, asked)
    }

    /// A key binding signed for another request and rewritten to answer this one.
    pub(super) fn with_changed_binding(&self, card: &str, asked: &Asked) -> Result<DcqlPresentation, String> {
        let disclosed = self.question.disclose(card)?;
        let other = Asked { nonce: "another nonce".into(), client_id: asked.client_id.clone() };
        let binding = changed_binding(&self.binding(&disclosed, &other)?, &asked.nonce)?;
        Ok(self.question.answer(format!("{disclosed}{binding}")))
    }

    /// A key binding with the right key for this request, but for a presentation that discloses less.
    pub(super) fn with_binding_for_less(
        &self,
        card: &str,
        asked: &Asked,
    ) -> Result<DcqlPresentation, String> {
        let binding = self.binding(&Question::disclose_nothing(card)?, asked)?;
        Ok(self.question.answer(format!("{}{binding}", self.question.disclose(card)?)))
    }

    fn bound(&self, disclosed: &str, asked: &Asked) -> Result<DcqlPresentation, String> {
        Ok(self.question.answer(format!("{disclosed}{}", self.binding(disclosed, asked)?)))
    }

    /// A key binding made by hand: our own library would refuse to make one with the wrong key.
    fn binding(&self, disclosed: &str, asked: &Asked) -> Result<String, String> {
        let header = json!({"alg": "ES256", "typ": "kb+jwt"});
        let payload = json!({
            "iat": SystemClock.now().0,
            "aud": asked.client_id,
            "nonce": asked.nonce,
            "sd_hash": base64url_encode(Sha256::digest(disclosed.as_bytes())),
        });
        let input =
            format!("{}.{}", base64url_encode(header.to_string()), base64url_encode(payload.to_string()));
        let (keyring, holder) = (&self.wallet.keyring, &self.wallet.holder);
        let signature = keyring.sign(holder, input.as_bytes()).map_err(|error| error.to_string())?;
        Ok(format!("{input}.{}", base64url_encode(signature)))
    }

    /// A card made by an unknown issuer: everything is correct except who signed it.
    pub(super) fn card_of_a_stranger(&self) -> Result<String, String> {
        let key = new_key()?;
        let issuer = did_key(&key.public_key());
        let kid = KeyId::new(format!("{issuer}#{}", key.public_key().to_multikey()));
        self.self_made(issuer.as_str(), kid, key)
    }

    /// A card in the name and under the key id of the issuer of `genuine`, signed by another key.
    pub(super) fn card_in_the_name_of(&self, genuine: &str) -> Result<String, String> {
        let peek = vc::peek(genuine).map_err(|error| error.to_string())?;
        let kid = peek.kid.ok_or("the genuine card names no key")?;
        self.self_made(&peek.issuer, KeyId::new(kid), new_key()?)
    }

    fn self_made(&self, issuer: &str, kid: KeyId, key: SecretKey) -> Result<String, String> {
        let holder = self.wallet.keyring.public_key(&self.wallet.holder).ok_or("no holder key")?;
        self_made(self.question, issuer, kid, key, holder)
    }
}

fn new_key() -> Result<SecretKey, String> {
    SecretKey::generate(KeyKind::P256, &SystemEntropy).map_err(|error| error.to_string())
}

fn self_made(
    question: &Question,
    issuer: &str,
    kid: KeyId,
    key: SecretKey,
    holder: PublicKey,
) -> Result<String, String> {
    let claim = question.path.iter().rev().fold(json!(true), |inner, name| json!({name: inner}));
    let now = SystemClock.now().0;
    let request = CredentialRequest {
        issuer: issuer.to_owned(),
        vct: question.vct.clone(),
        holder,
        claims: Claims::new(claim.as_object().cloned().unwrap_or_default()),
        disclosable: question.paths(),
        issued_at: now,
        not_before: None,
        expires_at: now + AN_HOUR,
        status: None,
    };
    let keyring = Keyring::new();
    keyring.insert(kid.clone(), key);
    vc::issue(&keyring, &kid, &request, &SystemEntropy).map_err(|error| error.to_string())
}

/// A presentation in which the disclosed value of `name` is changed from false to true, or true to false.
fn changed_disclosure(disclosed: &str, name: &str) -> Result<String, String> {
    let mut parts: Vec<String> = disclosed.split('~').map(str::to_owned).collect();
    for part in parts.iter_mut().skip(1) {
        let Some(Value::Array(mut disclosure)) = decoded(part) else { continue };
        if disclosure.get(1).and_then(Value::as_str) == Some(name)
            && let Some(last) = disclosure.get_mut(2)
            && let Some(value) = last.as_bool()
        {
            *last = json!(!value);
            *part = base64url_encode(Value::Array(disclosure).to_string());
            return Ok(parts.join("~"));
        }
    }
    Err("the card has no such disclosure".into())
}

/// A presentation whose issuer-signed part claims to last an hour longer, under the old signature.
fn changed_payload(disclosed: &str) -> Result<String, String> {
    let (jwt, rest) = disclosed.split_once('~').ok_or("the card has no end of its signed part")?;
    let changed = changed_jwt(jwt, |payload| {
        let end = payload.get_mut("exp").ok_or("the card has no end")?;
        *end = json!(end.as_u64().ok_or("the card has no end")? + AN_HOUR);
        Ok(())
    })?;
    Ok(format!("{changed}~{rest}"))
}

/// A key binding that states `nonce`, under the old signature.
fn changed_binding(binding: &str, nonce: &str) -> Result<String, String> {
    changed_jwt(binding, |payload| {
        *payload.get_mut("nonce").ok_or("the key binding has no nonce")? = json!(nonce);
        Ok(())
    })
}

/// A JWT with a changed payload under the old header and signature.
fn changed_jwt(
    jwt: &str,
    change: impl FnOnce(&mut Value) -> Result<(), &'static str>,
) -> Result<String, String> {
    let parts: Vec<&str> = jwt.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else { return Err("this is no JWT".into()) };
    let mut payload = decoded(payload).ok_or("the payload of the JWT is no JSON")?;
    change(&mut payload)?;
    Ok(format!("{header}.{}.{signature}", base64url_encode(payload.to_string())))
}

fn decoded(part: &str) -> Option<Value> {
    serde_json::from_slice(&base64url_decode(part)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        let path = vec!["age_equal_or_over".to_owned(), "16".to_owned()];
        Question { query: "resident".into(), vct: "urn:example:resident".into(), path }
    }

    fn card() -> String {
        let key = new_key().unwrap();
        let issuer = did_key(&key.public_key());
        let kid = KeyId::new(format!("{issuer}#{}", key.public_key().to_multikey()));
        let holder = new_key().unwrap().public_key();
        self_made(&question(), issuer.as_str(), kid, key, holder).unwrap()
    }

    fn attacked(attack: impl Fn(&Attacker<'_>, &Asked) -> Result<DcqlPresentation, String>) -> String {
        let (wallet, question) = (ForeignWallet::new().unwrap(), question());
        let asked = Asked { nonce: "this nonce".into(), client_id: "this verifier".into() };
        let answer = attack(&Attacker { wallet: &wallet, question: &question }, &asked).unwrap();
        answer.0["resident"][0].clone()
    }

    /// Issuer-signed part, disclosures, key binding.
    fn parts(text: &str) -> (Vec<String>, Vec<String>, Vec<String>) {
        let all: Vec<&str> = text.split('~').collect();
        let jwt = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let disclosures = all[1..all.len() - 1].iter().map(|text| (*text).to_owned()).collect();
        (jwt(all[0]), disclosures, jwt(all[all.len() - 1]))
    }

    fn sd_hash(binding: &[String]) -> Value {
        decoded(&binding[1]).unwrap()["sd_hash"].clone()
    }

    fn hash_of(text: &str) -> Value {
        let sent = &text[..=text.rfind('~').unwrap()];
        json!(base64url_encode(Sha256::digest(sent.as_bytes())))
    }

    #[test]
    fn a_changed_disclosure_is_the_only_change() {
        let card = card();
        let right = parts(&attacked(|attacker, asked| attacker.present(&card, asked)));
        let text = attacked(|attacker, asked| attacker.with_changed_disclosure(&card, asked));
        let wrong = parts(&text);
        assert_eq!(wrong.0, right.0);
        assert_eq!((wrong.1.len(), right.1.len()), (1, 1));
        assert_eq!(decoded(&right.1[0]).unwrap()[2], true);
        assert_eq!(decoded(&wrong.1[0]).unwrap()[2], false);
        assert_eq!(decoded(&wrong.1[0]).unwrap()[1], "16");
        assert_eq!(sd_hash(&wrong.2), hash_of(&text), "the key binding covers what is sent");
    }

    #[test]
    fn a_changed_payload_keeps_header_signature_and_disclosures() {
        let card = card();
        let right = parts(&attacked(|attacker, asked| attacker.present(&card, asked)));
        let text = attacked(|attacker, asked| attacker.with_changed_payload(&card, asked));
        let wrong = parts(&text);
        assert_eq!((&wrong.0[0], &wrong.0[2], &wrong.1), (&right.0[0], &right.0[2], &right.1));
        let end = |jwt: &[String]| decoded(&jwt[1]).unwrap()["exp"].as_u64().unwrap();
        assert_eq!(end(&wrong.0), end(&right.0) + AN_HOUR);
        assert_eq!(sd_hash(&wrong.2), hash_of(&text), "the key binding covers what is sent");
    }

    #[test]
    fn a_changed_binding_answers_the_request_under_a_signature_made_for_another() {
        let card = card();
        let text = attacked(|attacker, asked| attacker.with_changed_binding(&card, asked));
        let (_, _, binding) = parts(&text);
        assert_eq!(decoded(&binding[1]).unwrap()["nonce"], "this nonce");
        assert_eq!(sd_hash(&binding), hash_of(&text), "nothing but the signature is wrong");
    }

    #[test]
    fn a_binding_for_less_has_the_hash_of_another_presentation() {
        let card = card();
        let text = attacked(|attacker, asked| attacker.with_binding_for_less(&card, asked));
        let (_, disclosures, binding) = parts(&text);
        assert_eq!(disclosures.len(), 1);
        assert_ne!(sd_hash(&binding), hash_of(&text));
        assert_eq!(decoded(&binding[1]).unwrap()["nonce"], "this nonce");
    }

    #[test]
    fn a_card_in_anothers_name_names_him_and_his_key_and_is_not_signed_by_it() {
        let (genuine, question) = (card(), question());
        let wallet = ForeignWallet::new().unwrap();
        let forged = Attacker { wallet: &wallet, question: &question }.card_in_the_name_of(&genuine).unwrap();
        let (real, made) = (vc::peek(&genuine).unwrap(), vc::peek(&forged).unwrap());
        assert_eq!((real.issuer, real.kid, real.vct), (made.issuer, made.kid, made.vct));
        assert_ne!(parts(&genuine).0[2], parts(&forged).0[2]);
    }

    #[test]
    fn what_cannot_be_changed_is_an_error_and_no_harmless_attack() {
        let card = card();
        let nothing = Question::disclose_nothing(&card).unwrap();
        assert!(changed_disclosure(&nothing, "16").unwrap_err().contains("no such disclosure"));
        assert!(changed_disclosure(&card, "18").unwrap_err().contains("no such disclosure"));
        assert!(changed_payload("a.b~").unwrap_err().contains("no JWT"));
        assert!(changed_payload("no tilde").unwrap_err().contains("no end"));
        assert!(changed_binding("a.b.c", "x").unwrap_err().contains("no JSON"));
    }
}
