//! A city and a party that is no node of ours: their messages until there is a card or a relationship.

use std::sync::Arc;

use einmal::{
    config::{Config, Role},
    node::Node,
};
use einmal_credentials::proof;
use einmal_did::Did;
use einmal_didcomm::{Message, ThreadId};
use einmal_flows::{
    Draft,
    formats::{Content, CryptographicBinding, SdJwtOffer, SdJwtRequest},
    issue_credential::{OfferCredential, ProposeCredential, RequestCredential},
    out_of_band::Invitation,
};
use serde_json::json;

use crate::{ADULT, START_MS, Stranger, World, did_of, invitation_in};

/// Base of a stranger's invitation links.
const STRANGER: &str = "https://stranger.example";

/// The example city alone.
pub async fn lone_city() -> (World, Arc<Node>, Did) {
    let mut world = World::new(1);
    world.add_city("city").await;
    let node = world.node("city");
    let did = did_of(&node);
    (world, node, did)
}

/// The invitation to a resident card of that city.
pub async fn offer(world: &World) -> Invitation {
    let input = json!({"template": "resident-card", "person": ADULT});
    invitation_in(&world.ask("city", "offer", input).await)
}

/// The proposal that accepts such an invitation.
pub fn proposal(stranger: &Stranger, invitation: &Invitation) -> Message {
    let draft = Draft::of(&ProposeCredential::default()).child_of(invitation.thread());
    stranger.drafted(draft, &invitation.from)
}

/// The request that accepts an offer.
pub fn request(stranger: &Stranger, offered: &Message, thid: Option<ThreadId>) -> Message {
    let offer = SdJwtOffer::find_in(offered).unwrap();
    let (kid, _) = stranger.holder_key();
    let proof_jwt =
        proof::prove(stranger.keyring(), &kid, &offer.aud, &offer.nonce, START_MS / 1000).unwrap();
    let attachment = SdJwtRequest { proof_jwt }.to_attachment("request").unwrap();
    let draft = Draft::of(&RequestCredential::default()).attach(attachment);
    let to = offered.from.clone().unwrap();
    let mut message = stranger.drafted(draft, &to);
    message.thid = thid;
    message
}

/// The offer of `issuer`: cards for keys of `alg`.
pub fn card_offer(issuer: &Stranger, alg: &str) -> SdJwtOffer {
    SdJwtOffer {
        vct: "urn:x:1".into(),
        cryptographic_binding: CryptographicBinding::Jwk,
        alg: vec![alg.into()],
        nonce: "AAAAAAAAAAAAAAAAAAAAAA".into(),
        aud: issuer.did().canonical().to_string(),
    }
}

/// The message with this offer.
pub fn offering(issuer: &Stranger, offer: &SdJwtOffer, to: &Did) -> Message {
    let attachment = offer.to_attachment("offer").unwrap();
    issuer.drafted(Draft::of(&OfferCredential::default()).attach(attachment), to)
}

/// A citizen in a relationship with a stranger; returns the citizen's DID for it.
pub async fn befriended(stranger: &Stranger) -> (World, Arc<Node>, Did) {
    let mut world = World::new(1);
    world.add("mediator", Config::new(Role::Mediator)).await;
    world.add_citizen("anna").await;
    world.pump().await;
    let caught = world.wire().catch(STRANGER);
    let invitation = Invitation::new("oob-1".try_into().unwrap(), stranger.did().clone());
    world.ask("anna", "accept", json!({"url": invitation.to_url(STRANGER), "yes": true})).await;
    world.pump().await;
    let first = caught.lock().unwrap().first().cloned().unwrap();
    let did = stranger.open(&first).message.from.unwrap();
    let anna = world.node("anna");
    (world, anna, did)
}
