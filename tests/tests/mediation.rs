//! What a mediator does with messages that break the rules, and with those that foreign wallets write in their own way.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use einmal::{
    config::{CitizenSettings, Config, MediatorSettings, Role},
    db::{Db, KNOWN_DIDS, OUTBOX, SEEN, did_id, mailbox_id},
    node::{Arrival, Node, Refusal},
};
use einmal_did::{Did, Endpoint};
use einmal_didcomm::{Message, ReturnRoute, SenderProtection};
use einmal_flows::{limits::MAX_QUEUED_PAYLOAD_BYTES, out_of_band::Invitation};
use einmal_keys::KeyKind;
use einmal_storage::{
    MemoryStore, Store, TenantId,
    mail::{Mail, MailboxId, MemoryMail, NewLetter, Quota},
};
use einmal_tests::{ByName, HeldMail, Stranger, World, code, did_of, name, node_with, play, stranger_of};
use serde_json::{Value, json};

const PING: &str = "https://didcomm.org/trust-ping/2.0/ping";
const STRANGER: &str = "https://stranger.example";

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

/// Delivers a forward without naming a sender, as most do.
async fn drop_off(sender: &Stranger, mediator: &Arc<Node>, mut message: Message) -> Option<Refusal> {
    message.from = None;
    let receipt = mediator
        .receive(&sender.pack(&message, SenderProtection::Anoncrypt), Arrival::Http { from: None })
        .await;
    // Nothing comes back except, if refused, a report signed by the mediator.
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

/// Ids of the delivered messages; the answer must be a delivery.
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

/// A sender without endpoint that asks for no answer reads nothing but the status: 200 would say that the letter is kept.
#[test]
fn a_forward_that_is_not_kept_is_refused_whether_its_sender_hears_the_report_or_not() {
    play(async {
        let (_, mediator, _) = mediator(|_| {}).await;
        let (a, b) = (stranger_of(1, &mediator), Stranger::new(2));
        let silent = forward(&a, &mediator, b.did(), "x");
        for _ in 0..2 {
            let receipt = a.say(&mediator, &silent).await;
            assert_eq!((receipt.refused, receipt.replies.len()), (Some(Refusal::Invalid), 0));
        }
        let mut asking = forward(&a, &mediator, b.did(), "x");
        asking.return_route = Some(ReturnRoute::All);
        let receipt = a.say(&mediator, &asking).await;
        assert_eq!(receipt.refused, Some(Refusal::Invalid));
        assert_eq!(code(&a.open(&receipt.replies[0]).message), "e.p.req.not_enroll");
    });
}

/// The status alone says then that the letter is not kept; with 200 its sender would throw it away.
#[test]
fn whoever_is_to_hear_of_a_refused_forward_elsewhere_is_told_only_if_a_report_really_goes_there() {
    play(async {
        let (world, mediator, did) = mediator(|_| {}).await;
        let caught = world.wire().catch(STRANGER);
        let (sender, nobody) = (Stranger::reached_at(1, STRANGER), Stranger::new(2));
        let first = sender.forward(&did, nobody.did(), json!("x"));
        let told = async |message: &Message| {
            let receipt = sender.say(&mediator, message).await;
            assert_eq!((receipt.refused, receipt.replies.len()), (Some(Refusal::Invalid), 0));
            receipt.is_told
        };
        assert!(told(&first).await);
        assert!(!told(&first).await, "its report is under way, and there is no second");
        mediator.outbox_pass().await.unwrap();
        assert_eq!(caught.lock().unwrap().len(), 1);
        let by_libp2p =
            Stranger::reached_at(3, "libp2p-peerId:12D3KooWGjMkRtZjLvLc8o1hUrfbhbQRDMHKvNvQnpF8Gb3rvQ6P");
        let unheard = by_libp2p.forward(&did, nobody.did(), json!("x"));
        let receipt = by_libp2p.say(&mediator, &unheard).await;
        assert!(!receipt.is_told, "this mediator does not speak libp2p");
    });
}

#[test]
fn a_letter_larger_than_is_kept_is_refused_for_good() {
    play(async {
        let (_, mediator, _) = mediator(|_| {}).await;
        let stranger = stranger_of(1, &mediator);
        enrol(&stranger, &mediator).await;
        register(&stranger, &mediator, stranger.did()).await;
        let large = "x".repeat(MAX_QUEUED_PAYLOAD_BYTES);
        let message = forward(&stranger, &mediator, stranger.did(), &large);
        assert_eq!(drop_off(&stranger, &mediator, message.clone()).await, Some(Refusal::TooLarge));
        assert_eq!(code(&stranger.ask(&mediator, &message).await), "e.p.me.res.storage.message_too_big");
    });
}

/// Each would be one letter more to tell of (pickup 3.0 and 4.0, "Status").
#[test]
fn a_status_goes_into_no_mailbox_of_another_mediator() {
    play(async {
        let (world, mediator, did) = mediator(|_| {}).await;
        let queued = || world.store("mediator").count(&TenantId::default(), OUTBOX, b"").unwrap();
        let other = Endpoint::didcomm("did:web:other.example");
        let routing_keys = vec!["did:web:other.example#key-1".to_owned()];
        let by_address = Endpoint { routing_keys, ..Endpoint::didcomm("https://other.example") };
        for (seed, endpoint) in [(7, other), (8, by_address)] {
            let wallet = Stranger::reached_by(seed, vec![endpoint]);
            wallet.enrol(&mediator).await;
            for (return_route, answers) in [(None, 1), (Some(ReturnRoute::None), 0)] {
                let kind = "https://didcomm.org/messagepickup/3.0/status-request";
                let mut request = wallet.message(kind, &did, json!({}));
                request.return_route = return_route;
                let receipt = wallet.say(&mediator, &request).await;
                assert_eq!(
                    (receipt.refused, receipt.replies.len()),
                    (None, answers),
                    "{seed} {return_route:?}"
                );
            }
            assert_eq!(queued(), 0, "{seed}");
        }
    });
}

#[test]
fn a_status_never_comes_into_the_mailbox_it_tells_of() {
    play(async {
        let (mut world, mediator, did) = mediator(|_| {}).await;
        let wallet = Stranger::reached_at(7, did.as_str());
        wallet.enrol(&mediator).await;
        let routes = [(None, 1), (Some(ReturnRoute::None), 0), (Some(ReturnRoute::All), 1)];
        for kind in ["messagepickup/3.0/status-request", "message-pickup/4.0/status-request"] {
            for (return_route, answers) in routes {
                let kind = format!("https://didcomm.org/{kind}");
                let mut request = wallet.message(&kind, &did, json!({}));
                request.return_route = return_route;
                let receipt = wallet.say(&mediator, &request).await;
                assert_eq!((receipt.refused, receipt.replies.len()), (None, answers));
                world.turns(3).await;
                assert_eq!(waiting(&wallet, &mediator).await, 0);
            }
        }
    });
}

/// The names of the answers to strangers that ask for an account, each twice; `None` if one is told to come again later.
async fn answers_to_newcomers(count: u64, change: impl FnOnce(&mut MediatorSettings)) -> Vec<Option<String>> {
    let (_, mediator, did) = mediator(|config| change(config.mediator.as_mut().unwrap())).await;
    let mut answers = Vec::new();
    for stranger in (1..=count).map(Stranger::new) {
        for _ in 0..2 {
            let kind = "https://didcomm.org/coordinate-mediation/3.0/mediate-request";
            let mut request = stranger.message(kind, &did, json!({}));
            request.return_route = Some(ReturnRoute::All);
            let receipt = stranger.say_from("one address", &mediator, &request).await;
            assert!(matches!(receipt.refused, None | Some(Refusal::TooOften)), "{:?}", receipt.refused);
            let answer = receipt.refused.is_none().then(|| stranger.open(&receipt.replies[0]).message);
            answers.push(answer.map(|answer| name(&answer).to_owned()));
        }
    }
    answers
}

#[test]
fn nobody_new_gets_an_account_where_it_is_closed_or_full_and_one_address_gets_so_many() {
    play(async {
        let (grant, deny) = (Some("mediate-grant".to_owned()), Some("mediate-deny".to_owned()));
        let closed = answers_to_newcomers(1, |settings| settings.closed = true).await;
        assert_eq!(closed, [deny.clone(), deny.clone()]);
        let full = answers_to_newcomers(2, |settings| settings.max_accounts = Some(1)).await;
        assert_eq!(full, [grant.clone(), grant.clone(), deny.clone(), deny], "the first has one already");
        let many = answers_to_newcomers(3, |settings| settings.max_new_accounts_per_hour = Some(2)).await;
        assert_eq!(many, [grant.clone(), grant.clone(), grant.clone(), grant, None, None]);
    });
}

#[test]
fn dids_are_listed_as_their_account_wrote_them() {
    play(async {
        let (_, mediator, did) = mediator(|_| {}).await;
        let wallet = stranger_of(3, &mediator);
        enrol(&wallet, &mediator).await;
        let other = Did::parse("did:web:Alice.example").unwrap();
        let mut written = vec![wallet.did().clone(), other];
        assert!(written.iter().all(|did| did.canonical() != *did), "forms that have another canonical one");
        for did in &written {
            assert_eq!(register(&wallet, &mediator, did).await, "success");
            assert_eq!(register(&wallet, &mediator, &did.canonical()).await, "no_change");
        }
        let query = "https://didcomm.org/coordinate-mediation/3.0/recipient-query";
        let listed = wallet.ask(&mediator, &wallet.message(query, &did, json!({}))).await;
        let text = |entry: &Value| entry["recipient_did"].as_str().unwrap().to_owned();
        let mut listed: Vec<String> = listed.body["dids"].as_array().unwrap().iter().map(text).collect();
        listed.sort();
        written.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        assert_eq!(listed, written.iter().map(|did| did.as_str().to_owned()).collect::<Vec<_>>());
    });
}

#[test]
fn version_4_answers_an_acknowledgement_only_if_asked_and_version_3_always() {
    play(async {
        let (_, mediator, wallet) = account(1).await;
        let did = did_of(&mediator);
        for (family, way, answered) in [
            ("message-pickup/4.0", None, false),
            ("message-pickup/4.0", Some(ReturnRoute::All), true),
            ("messagepickup/3.0", None, true),
        ] {
            let kind = format!("https://didcomm.org/{family}/messages-received");
            let mut received = wallet.message(&kind, &did, json!({"message_id_list": []}));
            received.return_route = way;
            let receipt = wallet.say(&mediator, &received).await;
            let expected = (None, usize::from(answered));
            assert_eq!((receipt.refused, receipt.replies.len()), expected, "{family} {way:?}");
        }
    });
}

#[test]
fn a_status_names_a_did_only_if_it_speaks_of_that_did_alone() {
    play(async {
        let (_, mediator, wallet) = account(1).await;
        let named = |message: &str, mut body: Value| {
            body["recipient_did"] = wallet.did().as_str().into();
            pickup(&wallet, &mediator, message, body)
        };
        let status = wallet.ask(&mediator, &named("status-request", json!({}))).await;
        assert_eq!(status.body["recipient_did"], wallet.did().as_str());
        let all = wallet.ask(&mediator, &named("messages-received", json!({"message_id_list": []}))).await;
        assert_eq!((all.body.get("recipient_did"), &all.body["message_count"]), (None, &json!(1)));
    });
}

#[test]
fn what_a_report_says_is_the_same_for_one_code_and_the_particular_stands_in_its_arguments() {
    play(async {
        let (_, mediator, wallet) = account(0).await;
        let ids: Vec<String> = (0..1_001).map(|number| number.to_string()).collect();
        let many = pickup(&wallet, &mediator, "messages-received", json!({ "message_id_list": ids }));
        let no_did = pickup(&wallet, &mediator, "status-request", json!({"recipient_did": "no DID"}));
        let (many, no_did) = (wallet.ask(&mediator, &many).await, wallet.ask(&mediator, &no_did).await);
        for report in [&many, &no_did] {
            assert_eq!(code(report), "e.p.msg");
            assert!(report.body["comment"].is_string(), "{:?}", report.body);
        }
        assert_eq!(many.body["comment"], no_did.body["comment"]);
        assert_ne!(many.body["args"], no_did.body["args"]);
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

/// The loop in the demo of the DIDComm user group: a wallet that reads only base64 confirms nothing and asks again.
#[test]
fn a_wallet_that_reads_one_form_of_attachment_gets_its_letters_and_its_loop_ends() {
    play(async {
        let (_, mediator, stranger) = account(3).await;
        for reads_json in [false, true] {
            let mut turns = 0;
            while waiting(&stranger, &mediator).await > if reads_json { 0 } else { 1 } {
                let request = pickup(&stranger, &mediator, "delivery-request", json!({"limit": 1}));
                let delivery = stranger.ask(&mediator, &request).await;
                let can = |data: &einmal_didcomm::AttachmentData| data.json.is_some() == reads_json;
                let read = delivery.attachments.iter().filter(|one| can(&one.data));
                let ids: Vec<_> = read.map(|one| one.id.clone().unwrap()).collect();
                let confirm =
                    pickup(&stranger, &mediator, "messages-received", json!({"message_id_list": ids}));
                assert_eq!(name(&stranger.ask(&mediator, &confirm).await), "status");
                turns += 1;
                assert!(turns < 6, "the loop does not end");
            }
        }
    });
}

#[test]
fn an_account_of_mediation_2_is_handed_base64_as_the_suite_made_for_it_reads() {
    play(async {
        let (_, mediator, stranger) = account(1).await;
        let delivered_as_json = async || {
            let request = pickup(&stranger, &mediator, "delivery-request", json!({"limit": 1}));
            stranger.ask(&mediator, &request).await.attachments[0].data.json.is_some()
        };
        assert!(delivered_as_json().await);
        let other = stranger_of(2, &mediator);
        let kind = "https://didcomm.org/coordinate-mediation/2.0/mediate-request";
        let ask = other.message(kind, mediator.public_did().unwrap(), json!({}));
        assert_eq!(name(&other.ask(&mediator, &ask).await), "mediate-grant");
        assert_eq!(register(&other, &mediator, other.did()).await, "success");
        drop_off(&stranger, &mediator, forward(&stranger, &mediator, other.did(), "x")).await;
        let request = pickup(&other, &mediator, "delivery-request", json!({"limit": 1}));
        let delivery = other.ask(&mediator, &request).await;
        assert!(delivery.attachments[0].data.base64.is_some());
    });
}

#[test]
fn unproved_registration_never_displaces_another_and_a_proved_one_does() {
    play(async {
        let (_, mediator, _) = mediator(|_| {}).await;
        let [owner, thief, other] = [1, 2, 3].map(|seed| stranger_of(seed, &mediator));
        for one in [&thief, &other] {
            enrol(one, &mediator).await;
        }
        let did = owner.did().clone();
        // Nobody has it: registered without proof, as by most wallets.
        assert_eq!(register(&thief, &mediator, &did).await, "success");
        enrol(&owner, &mediator).await;
        assert_eq!(register(&other, &mediator, &did).await, "client_error");
        drop_off(&other, &mediator, forward(&other, &mediator, &did, "first")).await;
        assert_eq!((waiting(&thief, &mediator).await, waiting(&owner, &mediator).await), (1, 0));
        // The sender is that DID, so it is proved.
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
        // Anonymous senders are told to try again, proved ones why.
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
        // A payload that is not a JSON object is delivered as base64url, which takes the most room.
        let letter = |len: usize| {
            let mut message = forward(&stranger, &mediator, stranger.did(), "");
            message.attachments = vec![einmal_didcomm::Attachment::json("0", json!(["A".repeat(len - 4)]))];
            message
        };
        let too_large = stranger.ask(&mediator, &letter(MAX_QUEUED_PAYLOAD_BYTES + 1)).await;
        assert_eq!(code(&too_large), "e.p.me.res.storage.message_too_big");
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
        // For an unknown DID, for no DID, and two at once.
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
            // The registration that follows is not answered; only the account matters.
            assert!(world.node("anna").visit_mailbox().await.is_err());
            assert_eq!(world.ask("anna", "mailbox", json!({})).await["granted"], true, "array: {as_array}");
        }
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
fn a_wallet_without_endpoint_is_answered_about_mediation_and_mail_although_it_names_no_way_back() {
    play(async {
        let (_, mediator, did) = mediator(|_| {}).await;
        let (bare, reached) = (stranger_of(1, &mediator), Stranger::reached_at(2, STRANGER));
        reached.learn(&mediator);
        let back = |who: &Stranger, kind: &str, way: Option<ReturnRoute>| {
            let mut message = who.message(kind, &did, json!({}));
            message.return_route = way;
            who.pack(&message, SenderProtection::Authcrypt)
        };
        let mediate = "https://didcomm.org/coordinate-mediation/3.0/mediate-request";
        for (who, kind, way, answered) in [
            (&bare, mediate, None, true),
            (&bare, "https://didcomm.org/messagepickup/3.0/status-request", None, true),
            (&bare, mediate, Some(ReturnRoute::None), false),
            (&bare, "https://example.org/messagepickup/3.0/status-request", None, false),
            (&bare, PING, None, false),
            (&reached, mediate, None, false),
        ] {
            let receipt = mediator.receive(&back(who, kind, way), Arrival::Http { from: None }).await;
            assert_eq!(
                (receipt.refused, receipt.replies.len()),
                (None, usize::from(answered)),
                "{kind} {way:?}"
            );
        }
    });
}

#[test]
fn protocols_of_others_that_bear_the_names_of_ours_are_not_spoken() {
    play(async {
        let (_world, mediator, stranger) = account(1).await;
        for kind in [
            "https://example.org/messagepickup/3.0/live-delivery-change",
            "https://example.org/messagepickup/3.0/status-request",
            "https://example.org/message-pickup/4.0/status-request",
            "https://example.org/coordinate-mediation/3.0/mediate-request",
            "https://example.org/coordinate-mediation/2.0/mediate-request",
        ] {
            let body = json!({"live_delivery": true});
            let message = stranger.message(kind, mediator.public_did().unwrap(), body);
            assert_eq!(code(&stranger.ask(&mediator, &message).await), "e.p.msg.unsupported", "{kind}");
        }
        assert_eq!(waiting(&stranger, &mediator).await, 1);
    });
}

#[test]
fn a_keylist_of_two_names_its_page_only_where_something_is_left() {
    play(async {
        let (_, mediator, did) = mediator(|_| {}).await;
        let stranger = stranger_of(1, &mediator);
        enrol(&stranger, &mediator).await;
        for (version, page, named) in
            [(2, json!({"limit": 2, "offset": 0}), false), (3, json!({"limit": 2, "offset": 0}), true)]
        {
            let query = if version == 2 { "keylist-query" } else { "recipient-query" };
            let kind = format!("https://didcomm.org/coordinate-mediation/{version}.0/{query}");
            let list =
                stranger.ask(&mediator, &stranger.message(&kind, &did, json!({"paginate": page}))).await;
            assert_eq!(list.body.contains_key("pagination"), named, "{version}");
        }
        for _ in 0..2 {
            register(&stranger, &mediator, &stranger.another_did()).await;
        }
        let kind = "https://didcomm.org/coordinate-mediation/2.0/keylist-query";
        let body = json!({"paginate": {"limit": 1, "offset": 0}});
        let list = stranger.ask(&mediator, &stranger.message(kind, &did, body)).await;
        assert!(list.body["pagination"]["remaining"].as_u64().unwrap() > 0);
    });
}

#[tokio::test]
async fn behind_a_damaged_letter_the_next_are_delivered_however_few_are_asked_for() {
    let mail = Arc::new(HeldMail::default());
    let disk = Arc::new(MemoryStore::new());
    let url = "https://mediator.example";
    let node = node_with(disk, Arc::clone(&mail) as _, url, Config::new(Role::Mediator), false).await;
    let stranger = stranger_of(1, &node);
    enrol(&stranger, &node).await;
    register(&stranger, &node, stranger.did()).await;
    let sender = stranger_of(2, &node);
    for number in 0..4 {
        let forward = forward(&sender, &node, stranger.did(), &format!("letter {number}"));
        let kept = async {
            while mail.waiting() == 0 {
                tokio::task::yield_now().await;
            }
            mail.release().await;
        };
        tokio::join!(drop_off(&sender, &node, forward), kept);
    }
    let mailbox = mail.mailboxes(None)[0];
    let letters: Vec<_> = mail.list(mailbox, None, 9, 0).iter().map(|letter| letter.id).collect();
    mail.damage([letters[0], letters[1]]);
    assert_eq!(delivered(&stranger, &node, 1).await.len(), 1);
    assert_eq!(delivered(&stranger, &node, 10).await.len(), 2);
}

/// Whoever asks for accounts, with a new DID each time or the same again and again, must not fill the disk.
#[test]
fn an_account_asked_for_once_more_leaves_nothing_and_one_without_recipients_is_kept_for_a_time() {
    play(async {
        let (world, mediator, did) = mediator(|_| {}).await;
        let db = Db::new(world.store("mediator"), TenantId::default());
        let stranger = stranger_of(1, &mediator);
        let kind = "https://didcomm.org/coordinate-mediation/3.0/mediate-request";
        let mut seen = Vec::new();
        for _ in 0..3 {
            let granted = stranger.ask(&mediator, &stranger.message(kind, &did, json!({}))).await;
            assert_eq!(name(&granted), "mediate-grant");
            seen.push(db.count(SEEN).unwrap());
        }
        assert_eq!(seen, [1; 3]);
        let long_form = || db.get::<Did>(KNOWN_DIDS, did_id(stranger.did())).unwrap().unwrap();
        assert!(long_form().expires_at.is_some());
        assert_eq!(register(&stranger, &mediator, stranger.did()).await, "success");
        assert!(long_form().expires_at.is_none(), "it has something to lose now");
        assert_eq!(register(&stranger, &mediator, stranger.did()).await, "no_change");
        assert_eq!(
            db.count(SEEN).unwrap(),
            3,
            "what may change something when it comes again is known for good"
        );
    });
}

/// There are more mailboxes than one look reads.
#[test]
fn the_fullest_mailboxes_are_listed_first_with_their_accounts_however_many_there_are() {
    play(async {
        let mail = Arc::new(MemoryMail::new());
        let node = node_with(
            Arc::new(MemoryStore::new()),
            Arc::clone(&mail) as _,
            "https://mediator.example",
            Config::new(Role::Mediator),
            false,
        )
        .await;
        let stranger = stranger_of(1, &node);
        stranger.enrol(&node).await;
        let full = mailbox_id(stranger.did());
        let put = |mailbox: MailboxId, number: u32| {
            let payload = number.to_be_bytes().to_vec();
            let (expires_at, quota, early) = (u64::MAX, Quota::NONE, None);
            mail.put(vec![NewLetter { mailbox, payload, arrived_ms: 1, expires_at, quota, early }])
        };
        let commits: Vec<_> = (0..1_500u32)
            .map(|number| {
                let mut id = [0; 20];
                id[..4].copy_from_slice(&number.to_be_bytes());
                put(MailboxId(id), number)
            })
            .chain((0..3).map(|number| put(full, number)))
            .collect();
        for commit in commits {
            commit.await.unwrap();
        }
        let queues = node.by_name("queues", &json!({})).await.unwrap();
        assert_eq!(queues["queues"].as_array().unwrap().len(), 1_000);
        let first = &queues["queues"][0];
        assert_eq!((&first["messages"], &first["account"]), (&json!(3), &json!(did_id(stranger.did()))));
        assert_eq!(queues["queues"][1]["account"], json!(null));
    });
}
