//! What a node does with messages that break the rules of a protocol: the exact outcome, and no second effect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use einmal::{
    config::{Config, Role},
    node::{Arrival, Node, Refusal},
};
use einmal_credentials::{
    proof,
    sd_jwt::Claims,
    vc::{self, CredentialRequest, HeldCredential, KeyBindingRequest},
};
use einmal_did::Did;
use einmal_didcomm::{Message, SenderProtection, ThreadId, UnixSeconds};
use einmal_flows::{
    Draft,
    formats::{
        Content, CryptographicBinding, DcqlPresentation, DcqlRequest, SdJwtIssue, SdJwtOffer, SdJwtRequest,
    },
    issue_credential::{IssueCredential, OfferCredential, ProposeCredential, RequestCredential},
    limits::MAX_ERRORS,
    out_of_band::Invitation,
    present_proof::{self, Presentation, ProposePresentation, RequestPresentation},
};
use einmal_keys::{Custody, KeyId, PublicKey, base64url_decode, base64url_encode};
use einmal_storage::Store;
use einmal_tests::{
    ADULT, REPORT, START_MS, Stranger, World, code, did_of, invitation_in, letters, name, own_city_folder,
    play, stranger_of,
};
use serde_json::json;

const NOW: UnixSeconds = UnixSeconds(START_MS / 1000);
const DAY: u64 = 24 * 3600;
const TEXT: &str = "https://didcomm.org/basicmessage/2.0/message";
const STRANGER: &str = "https://stranger.example";

/// The example city alone.
async fn city() -> (World, Arc<Node>, Did) {
    let mut world = World::new(1);
    world.add_city("city").await;
    let node = world.node("city");
    let did = did_of(&node);
    (world, node, did)
}

async fn offer(world: &World) -> Invitation {
    let input = json!({"template": "resident-card", "person": ADULT});
    invitation_in(&world.ask("city", "offer", input).await)
}

fn proposal(stranger: &Stranger, invitation: &Invitation) -> Message {
    let draft = Draft::of(&ProposeCredential::default()).child_of(invitation.thread());
    stranger.drafted(draft, &invitation.from)
}

/// The request that takes an offer.
fn request(stranger: &Stranger, offered: &Message, thid: Option<ThreadId>) -> Message {
    let offer = SdJwtOffer::find_in(offered).unwrap();
    let (kid, _) = stranger.holder_key();
    let proof_jwt = proof::prove(stranger.keyring(), &kid, &offer.aud, &offer.nonce, NOW.0).unwrap();
    let attachment = SdJwtRequest { proof_jwt }.to_attachment("request").unwrap();
    let draft = Draft::of(&RequestCredential::default()).attach(attachment);
    let to = offered.from.clone().unwrap();
    let mut message = stranger.drafted(draft, &to);
    message.thid = thid;
    message
}

// ---- identity of messages, time, threads

#[test]
fn replayed_message_has_no_second_effect() {
    play(async {
        let (world, city, did) = city().await;
        let stranger = stranger_of(1, &city);
        let message = stranger.message(TEXT, &did, json!({"content": "once"}));
        let envelope = stranger.pack(&message, SenderProtection::Authcrypt);
        for _ in 0..3 {
            let receipt = city.receive(&envelope, Arrival::Http { from: None }).await;
            assert_eq!((receipt.refused, receipt.replies.len()), (None, 0));
        }
        // The same message in a fresh envelope is the same message.
        stranger.say(&city, &message).await;
        assert_eq!(letters(&world, "city").await, 1);
        assert_eq!((world.count("city", "accepted"), world.count("city", "duplicates")), (1, 3));
    });
}

#[test]
fn replayed_message_is_known_after_a_restart() {
    play(async {
        let (mut world, city, did) = city().await;
        let stranger = stranger_of(1, &city);
        let message = stranger.message(TEXT, &did, json!({"content": "once"}));
        stranger.say(&city, &message).await;
        drop(city);
        world.kill("city");
        world.start("city").await;
        stranger.say(&world.node("city"), &message).await;
        assert_eq!((letters(&world, "city").await, world.count("city", "duplicates")), (1, 1));
    });
}

#[test]
fn texts_of_strangers_are_bounded_the_newest_stay_and_those_of_peers_too() {
    play(async {
        let mut world = World::with_everybody(1).await;
        let invited = world.ask("city", "invite", json!({"person": ADULT})).await;
        world.ask("anna", "accept", json!({"url": invited["invitation"]})).await;
        world.pump().await;
        let (city, long) = (world.node("city"), "x".repeat(16 * 1024 + 1));
        let to = did_of(&city);
        world.ask("anna", "send", json!({"to": to, "text": long})).await;
        world.pump().await;
        let stranger = stranger_of(1, &city);
        let write = |text: &str| stranger.message(TEXT, &to, json!({"content": text}));
        assert_eq!(code(&stranger.ask(&city, &write(&long)).await), "e.p.req");
        for number in 0..1002 {
            world.clock().advance(10);
            assert_eq!(stranger.say(&city, &write(&number.to_string())).await.refused, None);
        }
        let inbox = world.ask("city", "inbox", json!({})).await;
        let texts: Vec<&str> =
            inbox.as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap()).collect();
        assert_eq!((texts.len(), texts[0], texts[999]), (1001, "1001", "2"));
        assert_eq!(texts[1000], long, "of somebody who is known");
    });
}

/// Ids of a month would be gigabytes of one address.
#[test]
fn what_a_stranger_sends_and_nothing_comes_of_leaves_no_record_and_is_still_handled_once() {
    play(async {
        let (world, city, did) = city().await;
        let records = || world.store("city").dump(None, usize::MAX).unwrap().len();
        let stranger = stranger_of(1, &city);
        let before = records();
        let of_type = |kind: &str| stranger.message(kind, &did, json!({}));
        for _ in 0..20 {
            let ping = of_type("https://didcomm.org/trust-ping/2.0/ping");
            assert_eq!(name(&stranger.ask(&city, &ping).await), "ping-response");
            let again = stranger.pack(&ping, SenderProtection::Authcrypt);
            let receipt = city.receive(&again, Arrival::Http { from: None }).await;
            assert_eq!((receipt.refused, receipt.replies.len()), (None, 0), "handled once");
            let unknown = of_type("https://example.org/unknown/1.0/anything");
            assert_eq!(name(&stranger.ask(&city, &unknown).await), "problem-report");
        }
        assert_eq!(records(), before);
    });
}

#[test]
fn the_id_of_one_sender_is_free_for_another() {
    play(async {
        let (world, city, did) = city().await;
        let (a, b) = (stranger_of(1, &city), stranger_of(2, &city));
        let first = a.message(TEXT, &did, json!({"content": "mine"}));
        let mut second = b.message(TEXT, &did, json!({"content": "also mine"}));
        second.id = first.id.clone();
        a.say(&city, &first).await;
        b.say(&city, &second).await;
        assert_eq!(letters(&world, "city").await, 2);
    });
}

#[test]
fn expired_message_is_refused() {
    play(async {
        let (world, city, did) = city().await;
        let stranger = stranger_of(1, &city);
        let mut message = stranger.message(TEXT, &did, json!({"content": "too late"}));
        message.expires_time = Some(NOW);
        let receipt = stranger.say(&city, &message).await;
        assert_eq!((receipt.refused, receipt.replies.len()), (Some(Refusal::Invalid), 0));
        assert_eq!(letters(&world, "city").await, 0);
        message.expires_time = Some(NOW.plus(1));
        assert_eq!(stranger.say(&city, &message).await.refused, None);
        assert_eq!(letters(&world, "city").await, 1);
    });
}

#[test]
fn later_message_without_thid_belongs_to_no_exchange() {
    play(async {
        let (world, city, _) = city().await;
        let stranger = stranger_of(1, &city);
        let offered = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let lost = request(&stranger, &offered, None);
        assert_eq!(code(&stranger.ask(&city, &lost).await), "e.p.req");
        assert_eq!(world.ask("city", "issued", json!({})).await, json!([]));
        let found = request(&stranger, &offered, Some(offered.thread()));
        let issued = stranger.ask(&city, &found).await;
        assert!(
            issued.kind.is("https://didcomm.org/issue-credential/3.0/issue-credential"),
            "{}",
            issued.kind
        );
    });
}

#[test]
fn message_in_the_thread_of_another_peer_is_refused_and_changes_nothing() {
    play(async {
        let (world, city, _) = city().await;
        let (a, b) = (stranger_of(1, &city), stranger_of(2, &city));
        let offered = a.ask(&city, &proposal(&a, &offer(&world).await)).await;
        let stolen = request(&b, &offered, Some(offered.thread()));
        assert_eq!(code(&b.ask(&city, &stolen).await), "e.p.req");
        assert_eq!(world.ask("city", "issued", json!({})).await, json!([]));
        let own = request(&a, &offered, Some(offered.thread()));
        assert!(name(&a.ask(&city, &own).await) == "issue-credential");
        assert_eq!(world.ask("city", "issued", json!({})).await.as_array().unwrap().len(), 1);
    });
}

#[test]
fn proof_of_possession_for_another_offer_gets_no_card() {
    play(async {
        let (world, city, _) = city().await;
        let stranger = stranger_of(1, &city);
        let first = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let second = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let mixed = request(&stranger, &first, Some(second.thread()));
        assert_eq!(code(&stranger.ask(&city, &mixed).await), "e.p.trust.crypto");
        assert_eq!(world.ask("city", "issued", json!({})).await, json!([]));
    });
}

#[test]
fn an_offer_for_one_is_spent_once_a_card_was_issued_whatever_its_holder_says() {
    play(async {
        let (world, city, did) = city().await;
        let stranger = stranger_of(1, &city);
        let invitation = offer(&world).await;
        // Given up before there was a card: it may be begun anew.
        let first = stranger.ask(&city, &proposal(&stranger, &invitation)).await;
        let mut report = stranger.message(REPORT, &did, json!({"code": "e.p.msg.declined"}));
        report.pthid = Some(first.thread());
        stranger.hear(&city, &report).await;
        let offered = stranger.ask(&city, &proposal(&stranger, &invitation)).await;
        assert_eq!(name(&offered), "offer-credential");
        let thread = offered.thread();
        let issued = stranger.ask(&city, &request(&stranger, &offered, Some(thread.clone()))).await;
        assert_eq!(name(&issued), "issue-credential");
        let kind = "https://didcomm.org/issue-credential/3.0/ack";
        let mut refused = stranger.message(kind, &did, json!({"status": "FAIL"}));
        refused.thid = Some(thread);
        assert_eq!(stranger.hear(&city, &refused).await, None);
        assert_eq!(code(&stranger.ask(&city, &proposal(&stranger, &invitation)).await), "e.p.req");
        assert_eq!(world.ask("city", "issued", json!({})).await.as_array().unwrap().len(), 1);
    });
}

#[test]
fn a_second_proposal_in_the_thread_gets_a_second_offer_and_the_first_is_void() {
    play(async {
        let (world, city, did) = city().await;
        let stranger = stranger_of(1, &city);
        let first = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let mut again = stranger.drafted(Draft::of(&ProposeCredential::default()), &did);
        again.thid = Some(first.thread());
        let second = stranger.ask(&city, &again).await;
        assert_eq!(name(&second), "offer-credential");
        let stale = request(&stranger, &first, Some(first.thread()));
        assert_eq!(code(&stranger.ask(&city, &stale).await), "e.p.trust.crypto");
        let other = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let mut again = stranger.drafted(Draft::of(&ProposeCredential::default()), &did);
        again.thid = Some(other.thread());
        let offered = stranger.ask(&city, &again).await;
        let good = request(&stranger, &offered, Some(other.thread()));
        assert_eq!(name(&stranger.ask(&city, &good).await), "issue-credential");
    });
}

#[test]
fn an_exchange_goes_on_with_a_holder_that_rotates_in_the_middle_of_it() {
    play(async {
        let (world, city, _) = city().await;
        let mut stranger = stranger_of(1, &city);
        let offered = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let mallory = stranger_of(2, &city);
        let stolen = request(&mallory, &offered, Some(offered.thread()));
        assert_eq!(code(&mallory.ask(&city, &stolen).await), "e.p.req", "whoever proves no rotation");
        let new = stranger.another_did();
        let old = stranger.become_did(new.clone());
        let mut rotated = request(&stranger, &offered, Some(offered.thread()));
        rotated.from_prior = Some(stranger.rotation(&old, &new, NOW));
        let issued = stranger.ask(&city, &rotated).await;
        assert_eq!(name(&issued), "issue-credential");
        // From now on without the proof.
        let kind = "https://didcomm.org/issue-credential/3.0/ack";
        let mut ack = stranger.message(kind, &did_of(&city), json!({"status": "OK"}));
        ack.thid = Some(offered.thread());
        assert_eq!(stranger.hear(&city, &ack).await, None);
        let mut late = stranger.message(kind, &did_of(&city), json!({"status": "OK"}));
        late.thid = Some(offered.thread());
        let told = stranger.ask(&city, &late).await;
        assert!(told.body["comment"].as_str().unwrap().contains("state"), "known, and over: {:?}", told.body);
    });
}

#[test]
fn a_did_that_was_rotated_away_takes_no_exchange_back() {
    play(async {
        let (world, city, did) = city().await;
        let mut stranger = stranger_of(1, &city);
        let offered = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let (new, third) = (stranger.another_did(), stranger.another_did());
        let old = stranger.become_did(new.clone());
        let mut again = stranger.drafted(Draft::of(&ProposeCredential::default()), &did);
        again.thid = Some(offered.thread());
        again.from_prior = Some(stranger.rotation(&old, &new, NOW));
        let second = stranger.ask(&city, &again).await;
        assert_eq!(name(&second), "offer-credential");
        // The old key, on its own and in favour of a third DID.
        stranger.become_did(old.clone());
        let stolen = request(&stranger, &second, Some(offered.thread()));
        assert_eq!(code(&stranger.ask(&city, &stolen).await), "e.p.req");
        stranger.become_did(third.clone());
        let mut stolen = request(&stranger, &second, Some(offered.thread()));
        stolen.from_prior = Some(stranger.rotation(&old, &third, NOW.plus(1)));
        assert_eq!(code(&stranger.ask(&city, &stolen).await), "e.p.req");
        stranger.become_did(new);
        let good = request(&stranger, &second, Some(offered.thread()));
        assert_eq!(name(&stranger.ask(&city, &good).await), "issue-credential");
    });
}

#[test]
fn a_request_that_demands_nothing_is_not_met_by_something_that_does_not_hold() {
    play(async {
        let folder = own_city_folder();
        let template = std::fs::read_to_string(folder.path().join("requests/cafe-over-16.toml")).unwrap();
        let sets = "\n[[dcql_query.credential_sets]]\noptions = [[\"resident\"]]\nrequired = false\n";
        let template = template.replace("id = \"cafe-over-16\"", "id = \"if-you-like\"") + sets;
        std::fs::write(folder.path().join("requests/if-you-like.toml"), template).unwrap();
        let mut world = World::new(1);
        let mut config = Config::new(Role::Merchant);
        config.merchant.as_mut().unwrap().requests = folder.path().join("requests");
        world.add("library", config).await;
        let library = world.node("library");
        let stranger = stranger_of(1, &library);
        let asked = world.ask("library", "request", json!({"template": "if-you-like"})).await;
        let invitation = invitation_in(&asked);
        let draft = Draft::of(&ProposePresentation::default()).child_of(invitation.thread());
        let requested = stranger.ask(&library, &stranger.drafted(draft, &invitation.from)).await;
        let vp = DcqlPresentation([("resident".to_owned(), vec!["no.credential~".to_owned()])].into());
        let attachment = vp.to_attachment("presentation").unwrap();
        let draft = Draft::of(&Presentation::default()).attach(attachment);
        let mut answer = stranger.drafted(draft, &invitation.from);
        answer.thid = Some(requested.thread());
        assert!(stranger.ask(&library, &answer).await.kind.is(REPORT));
        let result = world.ask("library", "result", json!({"thread": asked["thread"]})).await;
        assert_eq!((&result["accepted"], &result["reason"]), (&json!(false), &json!("malformed")));
    });
}

#[test]
fn an_offer_for_keys_of_one_kind_is_taken_with_such_a_key_or_declined_unseen() {
    play(async {
        for (alg, taken) in [("ES256", true), ("EdDSA", true), ("Ed25519", true), ("ES384", false)] {
            let stranger = Stranger::reached_at(1, STRANGER);
            let (world, anna, to) = befriended(&stranger).await;
            let offer = card_offer(&stranger, alg);
            let answer = stranger.hear(&anna, &offering(&stranger, &offer, &to)).await;
            let pending = world.ask("anna", "pending", json!({})).await;
            assert_eq!(pending.as_array().unwrap().len(), usize::from(taken), "{alg}");
            if !taken {
                continue;
            }
            assert_eq!(answer, None);
            let sent = agreed(&world, &stranger).await;
            let requested = sent.iter().find_map(|sent| SdJwtRequest::find_in(sent).ok()).unwrap();
            proof::verify(&requested.proof_jwt, &offer.aud, &offer.nonce, NOW.0).unwrap();
            let header = requested.proof_jwt.split('.').next().unwrap();
            let header: serde_json::Value =
                serde_json::from_slice(&base64url_decode(header).unwrap()).unwrap();
            assert_eq!(header["alg"], alg);
        }
    });
}

/// What `issuer` offers: cards for keys of `alg`.
fn card_offer(issuer: &Stranger, alg: &str) -> SdJwtOffer {
    SdJwtOffer {
        vct: "urn:x:1".into(),
        cryptographic_binding: CryptographicBinding::Jwk,
        alg: vec![alg.into()],
        nonce: "AAAAAAAAAAAAAAAAAAAAAA".into(),
        aud: issuer.did().canonical().to_string(),
    }
}

/// The message that makes this offer.
fn offering(issuer: &Stranger, offer: &SdJwtOffer, to: &Did) -> Message {
    let attachment = offer.to_attachment("offer").unwrap();
    issuer.drafted(Draft::of(&OfferCredential::default()).attach(attachment), to)
}

/// Anna agrees to the first thing that waits; returns what she sends to the stranger.
async fn agreed(world: &World, stranger: &Stranger) -> Vec<Message> {
    let pending = world.ask("anna", "pending", json!({})).await;
    let (thread, shown) = (&pending[0]["thread"], &pending[0]["decide"]["shown"]);
    let caught = world.wire().catch(STRANGER);
    world.ask("anna", "decide", json!({"thread": thread, "agree": true, "shown": shown})).await;
    world.node("anna").outbox_pass().await.unwrap();
    let sent = caught.lock().unwrap().clone();
    sent.iter().map(|sent| stranger.open(sent).message).collect()
}

/// A card of the stranger's, bound to `holder`.
fn card(issuer: &Stranger, holder: PublicKey) -> String {
    let iss = issuer.did().canonical();
    let request = CredentialRequest {
        issuer: iss.to_string(),
        vct: "urn:x:1".into(),
        holder,
        claims: Claims::new(json!({"age": 16, "name": "Anna"}).as_object().cloned().unwrap()),
        disclosable: vec![vec!["age".into()], vec!["name".into()]],
        issued_at: NOW.0,
        not_before: None,
        expires_at: NOW.0 + 400 * DAY,
        status: None,
    };
    let kid = KeyId::new(format!("{iss}#key-2"));
    vc::issue(issuer.keyring(), &kid, &request, issuer.entropy()).unwrap()
}

#[test]
fn of_two_cards_neither_is_kept_if_one_is_bound_to_another_key() {
    play(async {
        for good in [true, false] {
            let issuer = Stranger::issuing_at(1, STRANGER);
            let (world, anna, to) = befriended(&issuer).await;
            let offer = card_offer(&issuer, "ES256");
            let offered = offering(&issuer, &offer, &to);
            assert_eq!(issuer.hear(&anna, &offered).await, None);
            let sent = agreed(&world, &issuer).await;
            let requested = sent.iter().find_map(|sent| SdJwtRequest::find_in(sent).ok()).unwrap();
            let holder = proof::verify(&requested.proof_jwt, &offer.aud, &offer.nonce, NOW.0).unwrap();
            let second = if good { holder.clone() } else { issuer.holder_key().1 };
            let both = SdJwtIssue { credentials: vec![card(&issuer, holder), card(&issuer, second)] };
            let draft = Draft::of(&IssueCredential::default()).attach(both.to_attachment("cards").unwrap());
            let mut issued = issuer.drafted(draft, &to);
            issued.thid = Some(offered.thread());
            let answer = issuer.ask(&anna, &issued).await;
            let held = world.ask("anna", "list", json!({})).await;
            assert_eq!(held.as_array().unwrap().len(), if good { 2 } else { 0 }, "{held}");
            assert_eq!(name(&answer), if good { "ack" } else { "problem-report" });
        }
    });
}

/// The result a verifier of ours keeps does not show it: that holds what was asked for whatever came.
#[test]
fn a_wallet_shows_what_was_asked_for_and_nothing_else() {
    play(async {
        let peer = Stranger::issuing_at(1, STRANGER);
        let (world, anna, to) = befriended(&peer).await;
        let offer = card_offer(&peer, "ES256");
        let offered = offering(&peer, &offer, &to);
        peer.hear(&anna, &offered).await;
        let sent = agreed(&world, &peer).await;
        let requested = sent.iter().find_map(|sent| SdJwtRequest::find_in(sent).ok()).unwrap();
        let holder = proof::verify(&requested.proof_jwt, &offer.aud, &offer.nonce, NOW.0).unwrap();
        let issue = SdJwtIssue { credentials: vec![card(&peer, holder)] };
        let draft = Draft::of(&IssueCredential::default()).attach(issue.to_attachment("card").unwrap());
        let draft = draft.in_thread(offered.thread());
        assert_eq!(name(&peer.ask(&anna, &peer.drafted(draft, &to)).await), "ack");
        let dcql_query = json!({"credentials": [{"id": "card", "format": "dc+sd-jwt",
            "meta": {"vct_values": ["urn:x:1"]}, "claims": [{"path": ["age"]}]}]});
        let client_id = present_proof::client_id(peer.did());
        let asks = DcqlRequest { dcql_query, nonce: "0123456789abcdef".into(), client_id };
        let draft = Draft::of(&RequestPresentation::default()).attach(asks.to_attachment("request").unwrap());
        assert_eq!(peer.hear(&anna, &peer.drafted(draft, &to)).await, None);
        let sent = agreed(&world, &peer).await;
        let shown = sent.iter().find_map(|sent| DcqlPresentation::find_in(sent).ok()).unwrap();
        let disclosures: Vec<String> = shown.0["card"][0]
            .split('~')
            .filter_map(|part| String::from_utf8(base64url_decode(part)?).ok())
            .collect();
        assert!(disclosures.len() == 1 && disclosures[0].contains("age"), "{disclosures:?}");
    });
}

#[test]
fn unknown_protocol_is_told_as_unsupported() {
    play(async {
        let (_, city, did) = city().await;
        let stranger = stranger_of(1, &city);
        for kind in [
            "https://didcomm.org/nonsense/1.0/hello",
            "https://didcomm.org/issue-credential/4.0/propose-credential",
            "https://didcomm.org/coordinate-mediation/3.0/mediate-request",
            // Of others, though they bear the names of ours.
            "https://example.org/issue-credential/3.0/propose-credential",
            "https://example.org/present-proof/3.0/presentation",
            "https://example.org/discover-features/2.0/queries",
            "https://example.org/discover-features/2.0/disclose",
        ] {
            let answer = stranger.ask(&city, &stranger.message(kind, &did, json!({}))).await;
            assert_eq!(code(&answer), "e.p.msg.unsupported", "{kind}");
        }
    });
}

#[test]
fn plaintext_and_merely_signed_messages_are_refused() {
    play(async {
        let (world, city, did) = city().await;
        let stranger = stranger_of(1, &city);
        let message = stranger.message(TEXT, &did, json!({"content": "in the open"}));
        let signed = stranger.sign(&message);
        for bytes in [message.to_bytes(), signed, b"{}".to_vec(), b"\xff\xfe".to_vec(), Vec::new()] {
            let receipt = city.receive(&bytes, Arrival::Http { from: None }).await;
            assert_eq!((receipt.refused, receipt.replies.len()), (Some(Refusal::Invalid), 0));
        }
        assert_eq!(letters(&world, "city").await, 0);
    });
}

#[test]
fn message_without_proved_sender_is_refused_by_all_but_mediators() {
    play(async {
        let (world, city, did) = city().await;
        let stranger = stranger_of(1, &city);
        let mut message = stranger.message(TEXT, &did, json!({"content": "from nobody"}));
        message.from = None;
        let receipt = city
            .receive(&stranger.pack(&message, SenderProtection::Anoncrypt), Arrival::Http { from: None })
            .await;
        assert_eq!((receipt.refused, receipt.replies.len()), (Some(Refusal::Invalid), 0));
        assert_eq!(letters(&world, "city").await, 0);
    });
}

// ---- invitations

#[test]
fn invitation_for_one_is_used_up_by_the_first_who_answers() {
    play(async {
        let (world, city, _) = city().await;
        let (a, b) = (stranger_of(1, &city), stranger_of(2, &city));
        let invitation = offer(&world).await;
        let offered = a.ask(&city, &proposal(&a, &invitation)).await;
        assert_eq!(name(&offered), "offer-credential");
        assert_eq!(code(&b.ask(&city, &proposal(&b, &invitation)).await), "e.p.req");
    });
}

#[test]
fn expired_invitation_is_answered_by_a_problem_report() {
    play(async {
        let (world, city, _) = city().await;
        let stranger = stranger_of(1, &city);
        let invitation = offer(&world).await;
        world.clock().advance(DAY * 1000);
        assert_eq!(code(&stranger.ask(&city, &proposal(&stranger, &invitation)).await), "e.p.req");
    });
}

#[test]
fn proposal_that_names_no_invitation_of_ours_is_refused() {
    play(async {
        let (_, city, did) = city().await;
        let stranger = stranger_of(1, &city);
        let bare = stranger.drafted(Draft::of(&ProposeCredential::default()), &did);
        assert_eq!(code(&stranger.ask(&city, &bare).await), "e.p.req");
        let parent = ThreadId::try_from("never-heard-of").unwrap();
        let wrong = stranger.drafted(Draft::of(&ProposeCredential::default()).child_of(parent), &did);
        assert_eq!(code(&stranger.ask(&city, &wrong).await), "e.p.req");
    });
}

/// What a citizen says to an invitation URL.
async fn refusal_of_url(url: &str) -> String {
    let mut world = World::new(1);
    world.add("mediator", Config::new(Role::Mediator)).await;
    world.add_citizen("anna").await;
    world.node("anna").command("accept", &json!({"url": url})).await.unwrap_err().to_string()
}

#[test]
fn invitation_that_is_expired_short_or_ambiguous_is_refused_with_the_reason() {
    play(async {
        let stranger = Stranger::reached_at(1, STRANGER);
        let mut invitation = Invitation::new("oob-1".try_into().unwrap(), stranger.did().clone());
        invitation.expires_time = Some(NOW);
        let expired = refusal_of_url(&invitation.to_url(STRANGER)).await;
        assert!(expired.contains("expired"), "{expired}");
        let short = refusal_of_url("https://stranger.example/?_oobid=5f0e").await;
        assert!(short.contains("short"), "{short}");
        let url = invitation.to_url(STRANGER);
        let twice = format!("{url}&{}", url.split_once('?').unwrap().1);
        let ambiguous = refusal_of_url(&twice).await;
        assert!(ambiguous.contains("several invitations"), "{ambiguous}");
        let nothing = refusal_of_url("https://stranger.example/").await;
        assert!(nothing.contains("_oob"), "{nothing}");
        let garbage = refusal_of_url("https://stranger.example/?_oob=%%%").await;
        assert!(garbage.contains("damaged"), "{garbage}");
    });
}

#[test]
fn invitation_in_padded_or_standard_base64_is_taken() {
    play(async {
        let stranger = Stranger::reached_at(1, STRANGER);
        for goal in ["a", "ab", "abc", "?>?>?>"] {
            let mut invitation = Invitation::new("oob-1".try_into().unwrap(), stranger.did().clone());
            invitation.goal = Some(goal.into());
            let url = invitation.to_url(STRANGER);
            let (base, content) = url.split_once("?_oob=").unwrap();
            let mut padded = content.replace('-', "+").replace('_', "/");
            padded.push_str(["", "", "==", "="][padded.len() % 4]);
            let mut world = World::new(1);
            world.add("mediator", Config::new(Role::Mediator)).await;
            world.add_citizen("anna").await;
            world.pump().await;
            let taken = world.ask("anna", "accept", json!({"url": format!("{base}?_oob={padded}")})).await;
            assert_eq!(taken["state"], "connected", "{taken}");
        }
    });
}

// ---- problem reports

#[test]
fn problem_report_ends_the_exchange_its_parent_thread_names() {
    play(async {
        let (world, city, did) = city().await;
        let stranger = stranger_of(1, &city);
        let offered = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let mut report = stranger.message(REPORT, &did, json!({"code": "e.p.req.declined"}));
        report.pthid = Some(offered.thread());
        assert_eq!(stranger.hear(&city, &report).await, None);
        let late = request(&stranger, &offered, Some(offered.thread()));
        assert_eq!(code(&stranger.ask(&city, &late).await), "e.p.req");
        assert_eq!(world.ask("city", "issued", json!({})).await, json!([]));
    });
}

#[test]
fn problem_report_of_another_peer_ends_nothing() {
    play(async {
        let (world, city, did) = city().await;
        let (a, b) = (stranger_of(1, &city), stranger_of(2, &city));
        let offered = a.ask(&city, &proposal(&a, &offer(&world).await)).await;
        let mut report = b.message(REPORT, &did, json!({"code": "e.p.req.declined"}));
        report.pthid = Some(offered.thread());
        assert_eq!(b.hear(&city, &report).await, None);
        let taken = a.ask(&city, &request(&a, &offered, Some(offered.thread()))).await;
        assert_eq!(name(&taken), "issue-credential");
    });
}

#[test]
fn problem_reports_end_with_max_errors_exceeded_and_then_silence() {
    play(async {
        let (_, city, did) = city().await;
        let stranger = stranger_of(1, &city);
        let thread = ThreadId::try_from("quarrel").unwrap();
        let wrong = || {
            let mut message = stranger.message("https://didcomm.org/nonsense/1.0/hello", &did, json!({}));
            message.thid = Some(thread.clone());
            message
        };
        for _ in 0..MAX_ERRORS {
            let answer = stranger.ask(&city, &wrong()).await;
            assert_eq!((code(&answer), answer.pthid.as_ref()), ("e.p.msg.unsupported", Some(&thread)));
        }
        assert_eq!(code(&stranger.ask(&city, &wrong()).await), "e.p.req.max-errors-exceeded");
        for _ in 0..3 {
            assert_eq!(stranger.hear(&city, &wrong()).await, None);
        }
    });
}

#[test]
fn problem_report_is_never_answered_by_a_report() {
    play(async {
        let (_, city, did) = city().await;
        let stranger = stranger_of(1, &city);
        for body in [json!({}), json!({"code": 7}), json!({"code": "e.p.msg"})] {
            let report = stranger.message(REPORT, &did, body);
            assert_eq!(stranger.hear(&city, &report).await, None);
        }
    });
}

// ---- rotation of DIDs

/// A citizen in a relationship with a stranger; returns the citizen's DID for it.
async fn befriended(stranger: &Stranger) -> (World, Arc<Node>, Did) {
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

fn letter(stranger: &Stranger, to: &Did, from_prior: Option<String>) -> Message {
    let mut message = stranger.message(TEXT, to, json!({"content": "hello"}));
    message.from_prior = from_prior;
    message
}

#[test]
fn proved_rotation_moves_the_relationship_and_the_old_did_is_heard_no_more() {
    play(async {
        let mut stranger = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&stranger).await;
        let new = stranger.another_did();
        let old = stranger.become_did(new.clone());
        let proof = stranger.rotation(&old, &new, NOW);
        let rotating = letter(&stranger, &to, Some(proof.clone()));
        assert_eq!(stranger.say(&anna, &rotating).await.refused, None);
        // Repeating the proof, as senders do until they are answered, and leaving it out are both fine.
        assert_eq!(stranger.say(&anna, &letter(&stranger, &to, Some(proof))).await.refused, None);
        assert_eq!(stranger.say(&anna, &letter(&stranger, &to, None)).await.refused, None);
        assert_eq!(letters(&world, "anna").await, 3);
        stranger.become_did(old);
        let late = stranger.say(&anna, &letter(&stranger, &to, None)).await;
        assert_eq!((late.refused, late.replies.len()), (Some(Refusal::Invalid), 0));
        assert_eq!(letters(&world, "anna").await, 3);
    });
}

/// A rotation JWT whose signature is by another key than its `kid` names.
fn forged_rotation(stranger: &Stranger, prior: &Did, new: &Did) -> String {
    let header = json!({"typ": "JWT", "alg": "EdDSA", "kid": format!("{prior}#key-2")});
    let payload = json!({"iss": prior, "sub": new, "iat": NOW.0});
    let input = format!("{}.{}", base64url_encode(header.to_string()), base64url_encode(payload.to_string()));
    let kid = KeyId::new(format!("{}#key-2", new.canonical()));
    let signature = stranger.keyring().sign(&kid, input.as_bytes()).unwrap();
    format!("{input}.{}", base64url_encode(signature))
}

#[test]
fn rotation_by_the_wrong_key_is_refused() {
    play(async {
        let friend = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&friend).await;
        let mallory = Stranger::new(2);
        let forged = forged_rotation(&mallory, friend.did(), mallory.did());
        let receipt = mallory.say(&anna, &letter(&mallory, &to, Some(forged))).await;
        assert_eq!((receipt.refused, receipt.replies.len()), (Some(Refusal::Invalid), 0));
        assert_eq!(letters(&world, "anna").await, 0);
        assert_eq!(friend.say(&anna, &letter(&friend, &to, None)).await.refused, None);
    });
}

#[test]
fn rotation_to_somebody_else_than_the_sender_is_refused() {
    play(async {
        let friend = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&friend).await;
        let stolen = friend.rotation(friend.did(), &friend.another_did(), NOW);
        let mallory = Stranger::new(2);
        let receipt = mallory.say(&anna, &letter(&mallory, &to, Some(stolen))).await;
        assert_eq!(receipt.refused, Some(Refusal::Invalid));
        assert_eq!(letters(&world, "anna").await, 0);
    });
}

#[test]
fn rotation_used_again_after_the_next_one_is_refused() {
    play(async {
        let mut stranger = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&stranger).await;
        let (second, third) = (stranger.another_did(), stranger.another_did());
        let first = stranger.become_did(second.clone());
        let to_second = stranger.rotation(&first, &second, NOW);
        let to_third = stranger.rotation(&second, &third, NOW.plus(1));
        assert_eq!(stranger.say(&anna, &letter(&stranger, &to, Some(to_second.clone()))).await.refused, None);
        stranger.become_did(third);
        assert_eq!(stranger.say(&anna, &letter(&stranger, &to, Some(to_third))).await.refused, None);
        stranger.become_did(second);
        let again = stranger.say(&anna, &letter(&stranger, &to, Some(to_second))).await;
        assert_eq!(again.refused, Some(Refusal::Invalid));
        assert_eq!(letters(&world, "anna").await, 2);
    });
}

#[test]
fn rotation_older_than_the_one_in_force_is_told_as_dejavu() {
    play(async {
        let mut stranger = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&stranger).await;
        let (second, third) = (stranger.another_did(), stranger.another_did());
        let first = stranger.become_did(second.clone());
        let now = stranger.rotation(&first, &second, NOW);
        assert_eq!(stranger.say(&anna, &letter(&stranger, &to, Some(now))).await.refused, None);
        let older = stranger.rotation(&second, &third, UnixSeconds(NOW.0 - 1));
        stranger.become_did(third);
        let answer = stranger.ask(&anna, &letter(&stranger, &to, Some(older))).await;
        assert_eq!(code(&answer), "e.p.crypto.message.dejavu");
        assert_eq!(letters(&world, "anna").await, 1);
    });
}

#[test]
fn rotation_of_a_did_that_is_no_peer_opens_no_relationship() {
    play(async {
        let friend = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&friend).await;
        let mut mallory = Stranger::new(2);
        let new = mallory.another_did();
        let old = mallory.become_did(new.clone());
        let proof = mallory.rotation(&old, &new, NOW);
        let receipt = mallory.say(&anna, &letter(&mallory, &to, Some(proof))).await;
        assert_eq!(receipt.refused, Some(Refusal::Invalid));
        assert_eq!(letters(&world, "anna").await, 0);
    });
}

// ---- proofs

fn asking(verifier: &Stranger, to: &Did, client_id: &str) -> Message {
    let dcql_query = json!({"credentials": [{"id": "resident", "format": "dc+sd-jwt",
        "meta": {"vct_values": ["urn:de:kommune:resident:1"]}}]});
    let request =
        DcqlRequest { dcql_query, nonce: "0123456789abcdef".into(), client_id: client_id.to_owned() };
    let draft = Draft::of(&RequestPresentation::default()).attach(request.to_attachment("request").unwrap());
    verifier.drafted(draft, to)
}

/// As [`asking`], with a `client_id` our own library would not write.
fn asking_unchecked(verifier: &Stranger, to: &Did, client_id: &str) -> Message {
    let mut message = asking(verifier, to, &present_proof::client_id(verifier.did()));
    let data = message.attachments[0].data.json.as_mut().unwrap();
    data["client_id"] = client_id.into();
    message
}

async fn pending(world: &World) -> usize {
    world.ask("anna", "pending", json!({})).await.as_array().unwrap().len()
}

#[test]
fn request_of_a_stranger_to_a_did_made_for_another_is_refused() {
    play(async {
        let friend = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&friend).await;
        let mallory = Stranger::new(2);
        let own = present_proof::client_id(&mallory.did().canonical());
        let receipt = mallory.say(&anna, &asking(&mallory, &to, &own)).await;
        assert_eq!((receipt.refused, receipt.replies.len()), (Some(Refusal::Invalid), 0));
        assert_eq!(pending(&world).await, 0);
    });
}

#[test]
fn request_in_a_relationship_waits_for_the_citizen() {
    play(async {
        let friend = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&friend).await;
        let own = present_proof::client_id(friend.did());
        assert_eq!(friend.say(&anna, &asking(&friend, &to, &own)).await.refused, None);
        assert_eq!(pending(&world).await, 1);
    });
}

#[test]
fn what_one_peer_asks_unasked_is_bounded_until_something_of_it_is_decided() {
    play(async {
        let friend = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&friend).await;
        let own = present_proof::client_id(friend.did());
        let ask = async || friend.hear(&anna, &asking(&friend, &to, &own)).await;
        for _ in 0..7 {
            assert_eq!(ask().await, None);
        }
        assert_eq!(friend.hear(&anna, &offering(&friend, &card_offer(&friend, "ES256"), &to)).await, None);
        assert_eq!(code(&ask().await.unwrap()), "e.p.req");
        let offered = friend.hear(&anna, &offering(&friend, &card_offer(&friend, "ES256"), &to)).await;
        assert_eq!(code(&offered.unwrap()), "e.p.req");
        let waiting = world.ask("anna", "pending", json!({})).await;
        assert_eq!(waiting.as_array().unwrap().len(), 8);
        world.ask("anna", "decide", json!({"thread": waiting[0]["thread"], "agree": false})).await;
        assert_eq!(ask().await, None);
        assert_eq!(pending(&world).await, 8);
    });
}

#[test]
fn peers_do_not_keep_offers_and_requests_open_for_as_long_as_they_like() {
    play(async {
        for (is_offer, days) in [(false, 1), (true, 7)] {
            let friend = Stranger::reached_at(1, STRANGER);
            let (world, anna, to) = befriended(&friend).await;
            let mut message = if is_offer {
                offering(&friend, &card_offer(&friend, "ES256"), &to)
            } else {
                asking(&friend, &to, &present_proof::client_id(friend.did()))
            };
            message.expires_time = Some(UnixSeconds(NOW.0 + 100 * 365 * DAY));
            assert_eq!(friend.hear(&anna, &message).await, None);
            let thread = world.ask("anna", "pending", json!({})).await[0]["thread"].clone();
            for (advanced, waiting) in [(days * DAY - 600, 1), (1200, 0)] {
                world.clock().advance(advanced * 1000);
                anna.timer_pass().await.unwrap();
                assert_eq!(pending(&world).await, waiting, "{is_offer}");
            }
            assert_eq!(world.ask("anna", "progress", json!({"thread": thread})).await["state"], "abandoned");
        }
    });
}

#[test]
fn verifier_whose_client_id_is_none_of_a_did_is_refused() {
    play(async {
        let friend = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&friend).await;
        let own = present_proof::client_id(friend.did());
        let bare = own.trim_start_matches("decentralized_identifier:");
        for client_id in [bare, "x509_san_dns:a.example", "decentralized_identifier:", ""] {
            let told = friend.ask(&anna, &asking_unchecked(&friend, &to, client_id)).await;
            assert!(matches!(code(&told), "e.p.trust" | "e.p.msg"), "{client_id}: {}", code(&told));
        }
        assert_eq!(pending(&world).await, 0);
    });
}

#[test]
fn verifier_in_anothers_name_is_refused_as_untrusted() {
    play(async {
        let friend = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&friend).await;
        let library = "decentralized_identifier:did:web:library.example";
        assert_eq!(code(&friend.ask(&anna, &asking(&friend, &to, library)).await), "e.p.trust");
        assert_eq!(pending(&world).await, 0);
    });
}

#[test]
fn presentation_into_the_thread_of_another_is_refused() {
    play(async {
        let mut world = World::new(1);
        world.add_library("library", &["city"]).await;
        let library = world.node("library");
        let (a, b) = (stranger_of(1, &library), stranger_of(2, &library));
        let asked = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
        let invitation = invitation_in(&asked);
        let draft = Draft::of(&ProposePresentation::default()).child_of(invitation.thread());
        let requested = a.ask(&library, &a.drafted(draft, &invitation.from)).await;
        assert_eq!(name(&requested), "request-presentation");
        let vp = DcqlPresentation([("resident".to_owned(), vec!["x~".to_owned()])].into());
        let draft = Draft::of(&Presentation::default())
            .in_thread(requested.thread())
            .attach(vp.to_attachment("vp").unwrap());
        assert_eq!(code(&b.ask(&library, &b.drafted(draft.clone(), &invitation.from)).await), "e.p.req");
        let thread = json!({"thread": asked["thread"]});
        assert_eq!(world.ask("library", "result", thread.clone()).await["pending"], true);
        // The same from whom it was asked is looked at, and found malformed.
        assert!(a.ask(&library, &a.drafted(draft, &invitation.from)).await.kind.is(REPORT));
        assert_eq!(world.ask("library", "result", thread).await["reason"], "malformed");
    });
}

#[test]
fn what_a_wallet_shows_and_was_not_asked_for_is_not_kept() {
    play(async {
        let (mut world, city, _) = city().await;
        world.add_library("library", &["city"]).await;
        let library = world.node("library");
        let stranger = stranger_of(1, &city);
        stranger.learn(&library);
        let offered = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let issued = stranger.ask(&city, &request(&stranger, &offered, Some(offered.thread()))).await;
        let card = SdJwtIssue::find_in(&issued).unwrap().credentials.remove(0);
        let asked = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
        let invitation = invitation_in(&asked);
        let draft = Draft::of(&ProposePresentation::default()).child_of(invitation.thread());
        let requested = stranger.ask(&library, &stranger.drafted(draft, &invitation.from)).await;
        let asks = DcqlRequest::find_in(&requested).unwrap();
        let binding = KeyBindingRequest {
            custody: stranger.keyring(),
            kid: &KeyId::new("holder:stranger"),
            audience: &asks.client_id,
            nonce: &asks.nonce,
            issued_at: NOW.0,
        };
        let shown = [["age_equal_or_over", "16"].as_slice(), &["age_equal_or_over", "18"], &["family_name"]];
        let shown = shown.map(|path| path.iter().map(|name| (*name).into()).collect());
        let text = HeldCredential::from_store(&card).unwrap().present(&shown, Some(&binding)).unwrap();
        let vp = DcqlPresentation([("resident".to_owned(), vec![text])].into());
        let attachment = vp.to_attachment("vp").unwrap();
        let draft = Draft::of(&Presentation::default()).in_thread(requested.thread()).attach(attachment);
        stranger.say(&library, &stranger.drafted(draft, &invitation.from)).await;
        let result = world.ask("library", "result", json!({"thread": asked["thread"]})).await;
        assert_eq!(result["accepted"], true, "{result}");
        let claims = &result["disclosed"]["resident"][0]["claims"];
        assert_eq!(*claims, json!({"age_equal_or_over": {"16": true}}));
    });
}

#[test]
fn invitation_to_present_is_used_up_by_the_first_who_answers() {
    play(async {
        let mut world = World::new(1);
        world.add_library("library", &["city"]).await;
        let library = world.node("library");
        let (a, b) = (stranger_of(1, &library), stranger_of(2, &library));
        let asked = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
        let invitation = invitation_in(&asked);
        let draft = || Draft::of(&ProposePresentation::default()).child_of(invitation.thread());
        assert!(!a.ask(&library, &a.drafted(draft(), &invitation.from)).await.kind.is(REPORT));
        assert_eq!(code(&b.ask(&library, &b.drafted(draft(), &invitation.from)).await), "e.p.req");
    });
}

#[test]
fn requests_whose_answers_would_be_too_many_for_one_address_are_refused_and_change_nothing() {
    play(async {
        let mut world = World::new(1);
        world.add_library("library", &["city"]).await;
        let library = world.node("library");
        let stranger = Stranger::reached_at(1, STRANGER);
        stranger.learn(&library);
        let mut proposals = Vec::new();
        for _ in 0..1001 {
            let asked = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
            let invitation = invitation_in(&asked);
            let draft = Draft::of(&ProposePresentation::default()).child_of(invitation.thread());
            proposals.push(stranger.drafted(draft, &invitation.from));
        }
        let last = proposals.pop().unwrap();
        for proposal in &proposals {
            assert_eq!(stranger.say_from("flood", &library, proposal).await.refused, None);
        }
        assert_eq!(world.ask("library", "status", json!({})).await["outbox"], 1000);
        assert_eq!(stranger.say_from("flood", &library, &last).await.refused, Some(Refusal::TooOften));
        assert_eq!(world.ask("library", "status", json!({})).await["outbox"], 1000);
        // It was as if it had not come: from elsewhere, or once there is room, it is taken.
        assert_eq!(stranger.say_from("other", &library, &last).await.refused, None);
        assert_eq!(world.ask("library", "status", json!({})).await["outbox"], 1001);
    });
}
