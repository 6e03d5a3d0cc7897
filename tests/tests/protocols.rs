//! What a node does with messages that break the rules of a protocol: the exact outcome, and no second effect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use einmal::{
    config::{CitizenSettings, Config, Role},
    node::{Arrival, Node, Refusal},
};
use einmal_credentials::proof;
use einmal_did::Did;
use einmal_didcomm::{Message, ReturnRoute, SenderProtection, ThreadId, UnixSeconds};
use einmal_flows::{
    Draft,
    formats::{Content, DcqlPresentation, DcqlRequest, SdJwtOffer, SdJwtRequest},
    issue_credential::{ProposeCredential, RequestCredential},
    limits::{MAX_ERRORS, MAX_QUEUED_PAYLOAD_BYTES},
    out_of_band::Invitation,
    present_proof::{self, Presentation, ProposePresentation, RequestPresentation},
};
use einmal_keys::{Custody, KeyId, KeyKind, base64url_encode};
use einmal_tests::{ADULT, START_MS, Stranger, World, play};
use serde_json::{Value, json};

const NOW: UnixSeconds = UnixSeconds(START_MS / 1000);
const DAY: u64 = 24 * 3600;
const TEXT: &str = "https://didcomm.org/basicmessage/2.0/message";
const PING: &str = "https://didcomm.org/trust-ping/2.0/ping";
const REPORT: &str = "https://didcomm.org/report-problem/2.0/problem-report";
const STRANGER: &str = "https://stranger.example";

/// The code of a problem report.
#[track_caller]
fn code(message: &Message) -> &str {
    assert!(message.kind.is(REPORT), "{} is no problem report", message.kind);
    message.body["code"].as_str().unwrap()
}

/// Name of a message, the last part of its type.
fn name(message: &Message) -> &str {
    message.kind.as_str().rsplit('/').next().unwrap()
}

async fn letters(world: &World, name: &str) -> usize {
    world.ask(name, "inbox", json!({})).await.as_array().unwrap().len()
}

fn did_of(node: &Node) -> Did {
    node.public_did().unwrap().clone()
}

/// The example city alone.
async fn city() -> (World, Arc<Node>, Did) {
    let mut world = World::new(1);
    world.add_city("city").await;
    let node = world.node("city");
    let did = did_of(&node);
    (world, node, did)
}

/// A stranger that has learnt the document of `node`.
fn stranger_of(seed: u64, node: &Node) -> Stranger {
    let stranger = Stranger::new(seed);
    stranger.learn(node);
    stranger
}

fn invitation_in(answer: &Value) -> Invitation {
    Invitation::from_url(answer["invitation"].as_str().unwrap()).unwrap()
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
fn replayed_message_is_told_at_the_mediator_as_dejavu() {
    play(async {
        let (world, mediator, did) = mediator(|_| {}).await;
        let stranger = stranger_of(1, &mediator);
        let ping = stranger.message(PING, &did, json!({"response_requested": true}));
        assert!(
            stranger.ask(&mediator, &ping).await.kind.is("https://didcomm.org/trust-ping/2.0/ping-response")
        );
        assert_eq!(code(&stranger.ask(&mediator, &ping).await), "e.p.crypto.message.dejavu");
        assert_eq!(world.count("mediator", "accepted"), 1);
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
fn unknown_protocol_is_told_as_unsupported() {
    play(async {
        let (_, city, did) = city().await;
        let stranger = stranger_of(1, &city);
        for kind in [
            "https://didcomm.org/nonsense/1.0/hello",
            "https://didcomm.org/issue-credential/4.0/propose-credential",
            "https://didcomm.org/coordinate-mediation/3.0/mediate-request",
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

// ---- mediation

async fn mediator(change: impl FnOnce(&mut Config)) -> (World, Arc<Node>, Did) {
    let mut world = World::new(1);
    let mut config = Config::new(Role::Mediator);
    change(&mut config);
    world.add("mediator", config).await;
    let node = world.node("mediator");
    let did = did_of(&node);
    (world, node, did)
}

async fn enrol(stranger: &Stranger, mediator: &Arc<Node>) {
    let kind = "https://didcomm.org/coordinate-mediation/3.0/mediate-request";
    let message = stranger.message(kind, mediator.public_did().unwrap(), json!({}));
    assert_eq!(name(&stranger.ask(mediator, &message).await), "mediate-grant");
}

async fn register(stranger: &Stranger, mediator: &Arc<Node>, did: &Did) -> String {
    let kind = "https://didcomm.org/coordinate-mediation/3.0/recipient-update";
    let body = json!({"updates": [{"recipient_did": did, "action": "add"}]});
    let message = stranger.message(kind, mediator.public_did().unwrap(), body);
    let answer = stranger.ask(mediator, &message).await;
    assert_eq!(name(&answer), "recipient-update-response", "{:?}", answer.body);
    answer.body["updated"][0]["result"].as_str().unwrap().to_owned()
}

fn forward(sender: &Stranger, mediator: &Node, next: &Did, payload: &str) -> Message {
    let mut message = sender.message(
        "https://didcomm.org/routing/2.0/forward",
        mediator.public_did().unwrap(),
        json!({"next": next}),
    );
    let payload = einmal_didcomm::Attachment::json("0", json!({"ciphertext": payload}));
    message.attachments.push(payload);
    message
}

/// Hands a forward over without naming a sender, as most do.
async fn drop_off(sender: &Stranger, mediator: &Arc<Node>, mut message: Message) -> Option<Refusal> {
    message.from = None;
    let receipt = mediator
        .receive(&sender.pack(&message, SenderProtection::Anoncrypt), Arrival::Http { from: None })
        .await;
    // Nothing comes back but, to whom it is refused, a report signed by the mediator.
    assert_eq!(receipt.replies.len(), usize::from(receipt.refused.is_some()));
    for report in &receipt.replies {
        let signed: Value = serde_json::from_slice(report).unwrap();
        assert!(signed["payload"].is_string() && signed["signatures"].is_array(), "{signed}");
    }
    receipt.refused
}

fn pickup(stranger: &Stranger, mediator: &Node, message: &str, body: Value) -> Message {
    let kind = format!("https://didcomm.org/messagepickup/3.0/{message}");
    stranger.message(&kind, mediator.public_did().unwrap(), body)
}

async fn waiting(stranger: &Stranger, mediator: &Arc<Node>) -> u64 {
    let status = stranger.ask(mediator, &pickup(stranger, mediator, "status-request", json!({}))).await;
    assert_eq!(name(&status), "status");
    status.body["message_count"].as_u64().unwrap()
}

/// Ids of delivered messages; the answer must be a delivery.
async fn delivered(stranger: &Stranger, mediator: &Arc<Node>, limit: u64) -> Vec<String> {
    let request = pickup(stranger, mediator, "delivery-request", json!({"limit": limit}));
    let answer = stranger.ask(mediator, &request).await;
    assert_eq!(name(&answer), "delivery");
    answer.attachments.iter().map(|attachment| attachment.id.clone().unwrap()).collect()
}

/// An account with `mail` messages waiting.
async fn account(mail: usize) -> (World, Arc<Node>, Stranger) {
    let (world, mediator, _) = mediator(|_| {}).await;
    let stranger = stranger_of(1, &mediator);
    enrol(&stranger, &mediator).await;
    assert_eq!(register(&stranger, &mediator, stranger.did()).await, "success");
    for number in 0..mail {
        let message = forward(&stranger, &mediator, stranger.did(), &number.to_string());
        assert_eq!(drop_off(&stranger, &mediator, message).await, None);
    }
    (world, mediator, stranger)
}

#[test]
fn forward_to_an_unregistered_did_is_refused() {
    play(async {
        let (world, mediator, _) = mediator(|_| {}).await;
        let (a, b) = (stranger_of(1, &mediator), Stranger::new(2));
        let message = forward(&a, &mediator, b.did(), "x");
        assert_eq!(code(&a.ask(&mediator, &message).await), "e.p.req.not_enroll");
        let anonymous = forward(&a, &mediator, b.did(), "x");
        assert_eq!(drop_off(&a, &mediator, anonymous).await, Some(Refusal::Invalid));
        assert_eq!(world.ask("mediator", "queues", json!({})).await["messages"], 0);
    });
}

#[test]
fn acknowledgements_asked_of_a_mediator_are_not_given() {
    play(async {
        let (world, mediator, stranger) = account(0).await;
        let mut message = forward(&stranger, &mediator, stranger.did(), "x");
        message.please_ack = vec![String::new()];
        assert_eq!(stranger.hear(&mediator, &message).await, None);
        let did = did_of(&mediator);
        let mut ping = stranger.message(PING, &did, json!({"response_requested": false}));
        ping.please_ack = vec![String::new()];
        assert_eq!(stranger.hear(&mediator, &ping).await, None);
        assert_eq!(world.ask("mediator", "status", json!({})).await["outbox"], 0);
        assert_eq!(waiting(&stranger, &mediator).await, 1);
    });
}

#[test]
fn unproved_registration_never_displaces_another_and_a_proved_one_does() {
    play(async {
        let (_, mediator, _) = mediator(|_| {}).await;
        let [owner, thief, other] = [1, 2, 3].map(|seed| stranger_of(seed, &mediator));
        for one in [&owner, &thief, &other] {
            enrol(one, &mediator).await;
        }
        let did = owner.did().clone();
        // Nobody has it: taken without proof, as most wallets register.
        assert_eq!(register(&thief, &mediator, &did).await, "success");
        assert_eq!(register(&other, &mediator, &did).await, "client_error");
        drop_off(&other, &mediator, forward(&other, &mediator, &did, "first")).await;
        assert_eq!((waiting(&thief, &mediator).await, waiting(&owner, &mediator).await), (1, 0));
        // The sender is that DID: proved.
        assert_eq!(register(&owner, &mediator, &did).await, "success");
        drop_off(&other, &mediator, forward(&other, &mediator, &did, "second")).await;
        assert_eq!((waiting(&thief, &mediator).await, waiting(&owner, &mediator).await), (0, 2));
        assert_eq!(register(&thief, &mediator, &did).await, "client_error");
        assert_eq!(waiting(&owner, &mediator).await, 2);
    });
}

#[test]
fn did_that_is_not_controlled_is_not_registered_where_proof_is_demanded() {
    play(async {
        let (_, mediator, _) = mediator(|config| {
            config.mediator.as_mut().unwrap().require_proof = true;
        })
        .await;
        let (owner, thief) = (stranger_of(1, &mediator), stranger_of(2, &mediator));
        enrol(&thief, &mediator).await;
        assert_eq!(register(&thief, &mediator, owner.did()).await, "client_error");
        let message = forward(&thief, &mediator, owner.did(), "x");
        assert_eq!(code(&thief.ask(&mediator, &message).await), "e.p.req.not_enroll");
        enrol(&owner, &mediator).await;
        assert_eq!(register(&owner, &mediator, owner.did()).await, "success");
    });
}

#[test]
fn registration_without_an_account_is_refused() {
    play(async {
        let (_, mediator, did) = mediator(|_| {}).await;
        let stranger = stranger_of(1, &mediator);
        let body = json!({"updates": [{"recipient_did": stranger.did(), "action": "add"}]});
        let kind = "https://didcomm.org/coordinate-mediation/3.0/recipient-update";
        let answer = stranger.ask(&mediator, &stranger.message(kind, &did, body)).await;
        assert_eq!(code(&answer), "e.p.req.not_enroll");
    });
}

#[test]
fn full_mailbox_takes_no_more_until_something_is_acknowledged() {
    play(async {
        let (_, mediator, _) = mediator(|config| {
            config.mediator.as_mut().unwrap().max_queue = Some(2);
        })
        .await;
        let stranger = stranger_of(1, &mediator);
        enrol(&stranger, &mediator).await;
        register(&stranger, &mediator, stranger.did()).await;
        let message = |text: &str| forward(&stranger, &mediator, stranger.did(), text);
        assert_eq!(drop_off(&stranger, &mediator, message("1")).await, None);
        assert_eq!(drop_off(&stranger, &mediator, message("2")).await, None);
        // Anonymous senders are told to come again, proved ones why.
        assert_eq!(drop_off(&stranger, &mediator, message("3")).await, Some(Refusal::Unavailable));
        assert_eq!(code(&stranger.ask(&mediator, &message("3")).await), "e.p.me.res.storage");
        assert_eq!(waiting(&stranger, &mediator).await, 2);
        let ids = delivered(&stranger, &mediator, 1).await;
        let got = pickup(&stranger, &mediator, "messages-received", json!({"message_id_list": ids}));
        assert_eq!(stranger.ask(&mediator, &got).await.body["message_count"], 1);
        assert_eq!(drop_off(&stranger, &mediator, message("4")).await, None);
    });
}

#[test]
fn empty_mailbox_answers_a_delivery_request_with_status() {
    play(async {
        let (_, mediator, stranger) = account(0).await;
        let request = pickup(&stranger, &mediator, "delivery-request", json!({"limit": 10}));
        let answer = stranger.ask(&mediator, &request).await;
        assert_eq!((name(&answer), &answer.body["message_count"]), ("status", &json!(0)));
    });
}

#[test]
fn message_that_is_not_acknowledged_comes_again_under_the_same_id() {
    play(async {
        let (mut world, mediator, stranger) = account(3).await;
        let first = delivered(&stranger, &mediator, 10).await;
        assert_eq!(first.len(), 3);
        assert_eq!(delivered(&stranger, &mediator, 10).await, first);
        drop(mediator);
        world.kill("mediator");
        world.start("mediator").await;
        let mediator = world.node("mediator");
        assert_eq!(delivered(&stranger, &mediator, 10).await, first);
        let got = pickup(&stranger, &mediator, "messages-received", json!({"message_id_list": [first[0]]}));
        assert_eq!(stranger.ask(&mediator, &got).await.body["message_count"], 2);
        assert_eq!(delivered(&stranger, &mediator, 10).await, first[1..]);
    });
}

#[test]
fn limit_of_nothing_is_answered_by_status_and_a_limit_beyond_the_queue_by_all() {
    play(async {
        let (_, mediator, stranger) = account(3).await;
        let request = pickup(&stranger, &mediator, "delivery-request", json!({"limit": 0}));
        let answer = stranger.ask(&mediator, &request).await;
        assert_eq!((name(&answer), &answer.body["message_count"]), ("status", &json!(3)));
        assert_eq!(delivered(&stranger, &mediator, 2).await.len(), 2);
        assert_eq!(delivered(&stranger, &mediator, u64::MAX).await.len(), 3);
    });
}

#[test]
fn malformed_limit_is_refused() {
    play(async {
        let (_, mediator, stranger) = account(1).await;
        for limit in [json!(-1), json!("two"), json!("-1"), json!("+1"), json!(""), json!(1.5), json!(null)] {
            let request = pickup(&stranger, &mediator, "delivery-request", json!({"limit": limit}));
            assert_eq!(code(&stranger.ask(&mediator, &request).await), "e.p.msg", "{limit}");
        }
    });
}

#[test]
fn limit_as_decimal_text_is_understood() {
    play(async {
        let (_, mediator, stranger) = account(3).await;
        let request = pickup(&stranger, &mediator, "delivery-request", json!({"limit": "2"}));
        assert_eq!(stranger.ask(&mediator, &request).await.attachments.len(), 2);
    });
}

#[test]
fn the_largest_letter_that_is_kept_is_delivered_in_every_version_and_a_larger_one_is_refused() {
    play(async {
        let (_, mediator, stranger) = account(0).await;
        // What is no JSON object is delivered as base64url, which takes the most room.
        let letter = |len: usize| {
            let mut message = forward(&stranger, &mediator, stranger.did(), "");
            message.attachments = vec![einmal_didcomm::Attachment::json("0", json!(["A".repeat(len - 4)]))];
            message
        };
        let too_large = stranger.ask(&mediator, &letter(MAX_QUEUED_PAYLOAD_BYTES + 1)).await;
        assert_eq!(code(&too_large), "e.p.me.res.storage");
        assert_eq!(stranger.hear(&mediator, &letter(MAX_QUEUED_PAYLOAD_BYTES)).await, None);
        for family in ["messagepickup/3.0", "message-pickup/4.0"] {
            let kind = format!("https://didcomm.org/{family}/delivery-request");
            let request = stranger.message(&kind, mediator.public_did().unwrap(), json!({"limit": 10}));
            let delivery = stranger.ask(&mediator, &request).await;
            assert_eq!(name(&delivery), "delivery");
            assert_eq!(delivery.attachments[0].bytes().unwrap().len(), MAX_QUEUED_PAYLOAD_BYTES, "{family}");
        }
    });
}

#[test]
fn large_answers_to_somebody_out_of_reach_hold_up_nobody() {
    play(async {
        let (world, mediator, did) = mediator(|_| {}).await;
        let alice = Stranger::reached_at(1, "https://alice.example");
        alice.learn(&mediator);
        enrol(&alice, &mediator).await;
        register(&alice, &mediator, alice.did()).await;
        let mut letter = forward(&alice, &mediator, alice.did(), "");
        letter.attachments = vec![einmal_didcomm::Attachment::json("0", json!(["A".repeat(500_000)]))];
        assert_eq!(alice.hear(&mediator, &letter).await, None);
        // Together more than one page, and more than one batch, of the outbox.
        for _ in 0..40 {
            let request = pickup(&alice, &mediator, "delivery-request", json!({"limit": 1}));
            assert_eq!(alice.say(&mediator, &request).await.refused, None);
        }
        let bob = Stranger::reached_at(2, "https://bob.example");
        let caught = world.wire().catch("https://bob.example");
        bob.learn(&mediator);
        bob.say(&mediator, &bob.message(PING, &did, json!({"response_requested": true}))).await;
        mediator.outbox_pass().await.unwrap();
        assert_eq!(caught.lock().unwrap().len(), 1);
        assert_eq!(
            world.ask("mediator", "status", json!({})).await["outbox"],
            40,
            "hers wait for their next turn"
        );
    });
}

#[test]
fn a_wallet_with_nist_keys_only_is_answered_signed_and_sealed_for_its_curve() {
    play(async {
        let (_, mediator, did) = mediator(|_| {}).await;
        for kind in [KeyKind::P384, KeyKind::P256, KeyKind::P521] {
            let wallet = Stranger::with_agreement(1, kind);
            wallet.learn(&mediator);
            let request = "https://didcomm.org/coordinate-mediation/3.0/mediate-request";
            let mut request = wallet.message(request, &did, json!({}));
            request.return_route = Some(ReturnRoute::All);
            let envelope = wallet.pack(&request, SenderProtection::SignedAnoncrypt);
            let receipt = mediator.receive(&envelope, Arrival::Http { from: None }).await;
            assert_eq!(receipt.refused, None, "{kind:?}");
            let opened = wallet.open(receipt.replies.first().unwrap());
            assert_eq!(name(&opened.message), "mediate-grant");
            assert_eq!(opened.sender(), Some(&did.canonical()), "and it is the mediator who signed");
        }
    });
}

#[test]
fn a_forward_within_a_forward_to_the_mediator_reaches_its_recipient_and_one_too_deep_does_not() {
    play(async {
        let (_, mediator, stranger) = account(0).await;
        let wrapped = |inner: &Message| {
            let mut inner = inner.clone();
            inner.from = None;
            let envelope = stranger.pack(&inner, SenderProtection::Anoncrypt);
            let payload = serde_json::from_slice(&envelope).unwrap();
            stranger.forward(mediator.public_did().unwrap(), mediator.public_did().unwrap(), payload)
        };
        let once = wrapped(&forward(&stranger, &mediator, stranger.did(), "x"));
        assert_eq!(drop_off(&stranger, &mediator, once.clone()).await, None);
        assert_eq!(drop_off(&stranger, &mediator, wrapped(&once)).await, None);
        assert_eq!(waiting(&stranger, &mediator).await, 1, "the same letter twice is one");
        let thrice = wrapped(&wrapped(&once));
        assert_eq!(drop_off(&stranger, &mediator, thrice).await, Some(Refusal::Invalid));
        // For somebody unknown, for nobody, and two at once.
        let unknown = wrapped(&forward(&stranger, &mediator, Stranger::new(2).did(), "y"));
        assert_eq!(code(&stranger.ask(&mediator, &unknown).await), "e.p.req.not_enroll");
        let no_forward = wrapped(&stranger.message(PING, mediator.public_did().unwrap(), json!({})));
        assert_eq!(code(&stranger.ask(&mediator, &no_forward).await), "e.p.msg");
        let sealed = stranger.forward(&did_of(&mediator), &did_of(&mediator), json!({"ciphertext": "x"}));
        assert_eq!(code(&stranger.ask(&mediator, &sealed).await), "e.p.msg");
        let mut two = once;
        two.attachments.push(two.attachments[0].clone());
        assert_eq!(code(&stranger.ask(&mediator, &two).await), "e.p.msg");
        assert_eq!(waiting(&stranger, &mediator).await, 1);
    });
}

#[test]
fn what_is_added_and_removed_in_one_request_is_not_registered() {
    play(async {
        let (_, mediator, stranger) = account(0).await;
        let other = stranger.another_did();
        let kind = "https://didcomm.org/coordinate-mediation/3.0/recipient-update";
        let change = |action: &str| json!({"recipient_did": other, "action": action});
        let update = |actions: &[&str]| {
            let updates: Vec<_> = actions.iter().map(|action| change(action)).collect();
            stranger.message(kind, mediator.public_did().unwrap(), json!({"updates": updates}))
        };
        let answer = stranger.ask(&mediator, &update(&["add", "remove"])).await;
        assert_eq!(answer.body["updated"][1]["result"], "success");
        let mail = || forward(&stranger, &mediator, &other, "x");
        assert_eq!(code(&stranger.ask(&mediator, &mail()).await), "e.p.req.not_enroll");
        stranger.ask(&mediator, &update(&["add", "remove", "add"])).await;
        assert_eq!(stranger.hear(&mediator, &mail()).await, None);
    });
}

#[test]
fn a_queue_is_asked_about_by_a_did_url_as_it_is_registered_by_one() {
    play(async {
        let (_, mediator, stranger) = account(1).await;
        let body = json!({"recipient_did": format!("{}#key-1", stranger.did())});
        let status = stranger.ask(&mediator, &pickup(&stranger, &mediator, "status-request", body)).await;
        assert_eq!((name(&status), &status.body["message_count"]), ("status", &json!(1)));
    });
}

#[test]
fn mail_of_others_is_neither_shown_nor_removed() {
    play(async {
        let (_, mediator, owner) = account(1).await;
        let stranger = stranger_of(2, &mediator);
        let ask = |message: &str, body: Value| {
            let (stranger, mediator, message) = (&stranger, &mediator, message.to_owned());
            async move { stranger.ask(mediator, &pickup(stranger, mediator, &message, body)).await }
        };
        let ids = delivered(&owner, &mediator, 1).await;
        // Without an account.
        assert_eq!(code(&ask("status-request", json!({})).await), "e.p.req.not_enroll");
        assert_eq!(code(&ask("delivery-request", json!({"limit": 1})).await), "e.p.req.not_enroll");
        let received = json!({"message_id_list": ids});
        assert_eq!(code(&ask("messages-received", received.clone()).await), "e.p.req.not_enroll");
        // With an account of its own.
        enrol(&stranger, &mediator).await;
        let of_owner = json!({"limit": 1, "recipient_did": owner.did()});
        assert_eq!(code(&ask("status-request", of_owner.clone()).await), "e.p.req.not_enroll");
        assert_eq!(code(&ask("delivery-request", of_owner).await), "e.p.req.not_enroll");
        assert_eq!(name(&ask("delivery-request", json!({"limit": 1})).await), "status");
        assert_eq!(ask("messages-received", received).await.body["message_count"], 0);
        assert_eq!(waiting(&owner, &mediator).await, 1);
    });
}

#[test]
fn live_mode_over_http_is_not_supported() {
    play(async {
        let (_, mediator, stranger) = account(0).await;
        let on = pickup(&stranger, &mediator, "live-delivery-change", json!({"live_delivery": true}));
        assert_eq!(code(&stranger.ask(&mediator, &on).await), "e.m.live-mode-not-supported");
        let off = pickup(&stranger, &mediator, "live-delivery-change", json!({"live_delivery": false}));
        assert_eq!(name(&stranger.ask(&mediator, &off).await), "status");
    });
}

#[test]
fn routing_did_is_understood_as_string_and_as_array() {
    play(async {
        for as_array in [false, true] {
            let mut world = World::new(1);
            let foreign = Stranger::reached_at(1, STRANGER);
            let invitation = {
                let mut invitation = Invitation::new("oob-1".try_into().unwrap(), foreign.did().clone());
                invitation.goal_code = Some("request-mediate".into());
                invitation.to_url(STRANGER)
            };
            world.wire().answer(STRANGER, move |envelope| {
                let asked = foreign.open(&envelope).message;
                if name(&asked) != "mediate-request" {
                    return None;
                }
                let routing = if as_array { json!([foreign.did()]) } else { json!(foreign.did()) };
                let kind = "https://didcomm.org/coordinate-mediation/3.0/mediate-grant";
                let mut grant =
                    foreign.message(kind, asked.from.as_ref().unwrap(), json!({"routing_did": routing}));
                grant.thid = Some(asked.thread());
                Some(foreign.pack(&grant, SenderProtection::Authcrypt))
            });
            let mut config = Config::new(Role::Citizen);
            config.citizen = Some(CitizenSettings { mediator: Some(invitation), poll_ms: None });
            world.add("anna", config).await;
            // The registration that follows is not answered; what counts is the account.
            assert!(world.node("anna").visit_mailbox().await.is_err());
            assert_eq!(world.ask("anna", "mailbox", json!({})).await["granted"], true, "array: {as_array}");
        }
    });
}
