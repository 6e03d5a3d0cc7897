//! What a node does with messages that break the rules of a protocol: the exact outcome, and no second effect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use einmal::{
    config::{Config, Role},
    db::{Db, PEERS, did_id},
    node::{Arrival, Refusal},
};
use einmal_did::Did;
use einmal_didcomm::{Message, SenderProtection, ThreadId, UnixSeconds};
use einmal_flows::{Draft, issue_credential::ProposeCredential, limits::MAX_ERRORS, out_of_band::Invitation};
use einmal_keys::{Custody, KeyId, base64url_encode};
use einmal_storage::{Store, TenantId};
use einmal_tests::{
    ADULT, ByName, REPORT, START_MS, Stranger, World, befriended, code, did_of, invitation_in, letters,
    lone_city, name, offer, play, proposal, request, stranger_of,
};
use serde_json::{Value, json};

const NOW: UnixSeconds = UnixSeconds(START_MS / 1000);
const DAY: u64 = 24 * 3600;
const TEXT: &str = "https://didcomm.org/basicmessage/2.0/message";
const STRANGER: &str = "https://stranger.example";

// ---- identity of messages, time, threads

#[test]
fn replayed_message_has_no_second_effect() {
    play(async {
        let (world, city, did) = lone_city().await;
        let stranger = stranger_of(1, &city);
        let message = stranger.message(TEXT, &did, json!({"content": "once"}));
        let envelope = stranger.pack(&message, SenderProtection::Authcrypt);
        for _ in 0..3 {
            let receipt = city.receive(&envelope, Arrival::Http { from: None }).await;
            assert_eq!((receipt.refused, receipt.replies.len()), (None, 0));
        }
        // The same message in a new envelope is the same message.
        stranger.say(&city, &message).await;
        assert_eq!(letters(&world, "city").await, 1);
        assert_eq!((world.count("city", "accepted"), world.count("city", "duplicates")), (1, 3));
    });
}

#[test]
fn replayed_message_is_known_after_a_restart() {
    play(async {
        let (mut world, city, did) = lone_city().await;
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

/// Whoever took an invitation that was for everybody can be answered, and becomes no peer whose texts are kept without end.
#[test]
fn till_and_city_answer_whoever_has_connected_by_the_did_their_inbox_names() {
    play(async {
        for inviter in ["library", "city"] {
            let mut world = World::with_everybody(1).await;
            let invited = world.ask(inviter, "invite", json!({})).await;
            world.ask("anna", "accept", json!({"url": invited["invitation"]})).await;
            world.pump().await;
            let to = did_of(&world.node(inviter));
            world.ask("anna", "send", json!({"to": to, "text": "a question"})).await;
            world.pump().await;
            let inbox = world.ask(inviter, "inbox", json!({})).await;
            assert_eq!((&inbox[0]["text"], &inbox[0]["name"]), (&json!("a question"), &json!(null)));
            world.ask(inviter, "send", json!({"to": inbox[0]["from"], "text": "an answer"})).await;
            world.pump().await;
            assert_eq!(world.ask("anna", "inbox", json!({})).await[0]["text"], "an answer", "{inviter}");
            let stranger = stranger_of(1, &world.node(inviter));
            let to = json!({"to": stranger.did(), "text": "hello"});
            assert!(world.node(inviter).by_name("send", &to).await.is_err());
        }
    });
}

/// Anybody may be one, with as many DIDs as they like.
#[test]
fn contacts_are_kept_for_a_time_whatever_dids_they_take_and_for_longer_if_they_write() {
    play(async {
        let mut world = World::with_everybody(1).await;
        let invited = world.ask("library", "invite", json!({})).await;
        world.ask("anna", "accept", json!({"url": invited["invitation"]})).await;
        world.pump().await;
        let db = Db::new(world.store("library"), TenantId::default());
        let ends = || {
            let peers = db.scan_raw(PEERS, b"", None, 9).unwrap();
            peers.iter().map(|record| record.expires_at.map(|end| end / DAY)).collect::<Vec<_>>()
        };
        let begun = ends();
        assert!(matches!(begun.as_slice(), [Some(_)]), "{begun:?}");
        let to = did_of(&world.node("library"));
        world.ask("anna", "rotate", json!({"peer": to})).await;
        world.pump().await;
        assert!(matches!(ends().as_slice(), [Some(_)]), "{:?}", ends());
        world.clock().advance(300 * DAY * 1000);
        world.ask("anna", "send", json!({"to": to, "text": "hello again"})).await;
        world.pump().await;
        assert!(ends()[0].unwrap() >= begun[0].unwrap() + 299, "{:?} {begun:?}", ends());
    });
}

/// A wallet that answers an invitation for everybody in the message by which it takes another DID.
#[test]
fn a_persons_device_stays_theirs_though_it_answers_another_invitation_while_it_rotates() {
    play(async {
        let (world, city, did) = lone_city().await;
        let mut wallet = stranger_of(1, &city);
        let ping = |wallet: &Stranger, invited: &Value| {
            let invitation = invitation_in(invited);
            let mut ping = wallet.message(
                "https://didcomm.org/trust-ping/2.0/ping",
                &did,
                json!({"response_requested": true}),
            );
            ping.pthid = Some(invitation.thread());
            ping
        };
        let invited = world.ask("city", "invite", json!({"person": ADULT})).await;
        wallet.ask(&city, &ping(&wallet, &invited)).await;
        let everybody = world.ask("city", "invite", json!({})).await;
        let new = wallet.another_did();
        let prior = wallet.become_did(new.clone());
        let mut moved = ping(&wallet, &everybody);
        moved.from_prior = Some(wallet.rotation(&prior, &new, UnixSeconds(START_MS / 1000)));
        wallet.ask(&city, &moved).await;
        let devices = world.ask("city", "devices", json!({"person": ADULT})).await;
        assert_eq!(devices[0]["device"], did_id(&new), "{devices}");
    });
}

#[test]
fn inbox_of_a_city_names_the_person_a_text_is_from() {
    play(async {
        let mut world = World::with_everybody(1).await;
        let invited = world.ask("city", "invite", json!({"person": ADULT})).await;
        world.ask("anna", "accept", json!({"url": invited["invitation"]})).await;
        world.pump().await;
        let to = did_of(&world.node("city"));
        world.ask("anna", "send", json!({"to": to, "text": "it is me"})).await;
        world.pump().await;
        assert_eq!(world.ask("city", "inbox", json!({})).await[0]["name"], ADULT);
    });
}

/// A month's ids from a single address would take gigabytes.
#[test]
fn what_a_stranger_sends_and_nothing_comes_of_leaves_no_record_and_is_still_handled_once() {
    play(async {
        let (world, city, did) = lone_city().await;
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
        let (world, city, did) = lone_city().await;
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
        let (world, city, did) = lone_city().await;
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
        let (world, city, _) = lone_city().await;
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
        let (world, city, _) = lone_city().await;
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
fn unknown_protocol_is_told_as_unsupported() {
    play(async {
        let (_, city, did) = lone_city().await;
        let stranger = stranger_of(1, &city);
        for kind in [
            "https://didcomm.org/nonsense/1.0/hello",
            "https://didcomm.org/issue-credential/4.0/propose-credential",
            "https://didcomm.org/coordinate-mediation/3.0/mediate-request",
            // Foreign protocols that use the names of ours.
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
        let (world, city, did) = lone_city().await;
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
        let (world, city, did) = lone_city().await;
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
        let (world, city, _) = lone_city().await;
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
        let (world, city, _) = lone_city().await;
        let stranger = stranger_of(1, &city);
        let invitation = offer(&world).await;
        world.clock().advance(DAY * 1000);
        assert_eq!(code(&stranger.ask(&city, &proposal(&stranger, &invitation)).await), "e.p.req");
    });
}

#[test]
fn proposal_that_names_no_invitation_of_ours_is_refused() {
    play(async {
        let (_, city, did) = lone_city().await;
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
    world.node("anna").by_name("accept", &json!({"url": url})).await.unwrap_err().to_string()
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
            assert_eq!(taken["state"], "connecting", "{taken}");
        }
    });
}

// ---- problem reports

#[test]
fn problem_report_ends_the_exchange_its_parent_thread_names() {
    play(async {
        let (world, city, did) = lone_city().await;
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
        let (world, city, did) = lone_city().await;
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
        let (_, city, did) = lone_city().await;
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
        let (_, city, did) = lone_city().await;
        let stranger = stranger_of(1, &city);
        for body in [json!({}), json!({"code": 7}), json!({"code": "e.p.msg"})] {
            let report = stranger.message(REPORT, &did, body);
            assert_eq!(stranger.hear(&city, &report).await, None);
        }
    });
}

// ---- rotation of DIDs

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
        // Repeating the proof, as senders do until answered, and omitting it are both allowed.
        assert_eq!(stranger.say(&anna, &letter(&stranger, &to, Some(proof))).await.refused, None);
        assert_eq!(stranger.say(&anna, &letter(&stranger, &to, None)).await.refused, None);
        assert_eq!(letters(&world, "anna").await, 3);
        stranger.become_did(old);
        let late = stranger.say(&anna, &letter(&stranger, &to, None)).await;
        assert_eq!((late.refused, late.replies.len()), (Some(Refusal::Invalid), 0));
        assert_eq!(letters(&world, "anna").await, 3);
    });
}

/// A rotation JWT signed by a key other than its `kid` names.
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
