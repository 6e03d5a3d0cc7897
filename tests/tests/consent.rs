//! A citizen agrees to exactly what was shown, and anything based on a proof ends with that proof.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use einmal::node::Failure;
use einmal_did::Did;
use einmal_didcomm::{Message, UnixSeconds};
use einmal_flows::{
    Draft,
    formats::{Content, DcqlRequest},
    out_of_band::Invitation,
    present_proof::{self, RequestPresentation},
};
use einmal_tests::{
    ADULT, ByName, REPORT, START_MS, Stranger, World, befriended, card_offer, code, name, offering, play,
};
use serde_json::{Value, json};

const STRANGER: &str = "https://stranger.example";

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_else(|| panic!("no `{member}` in {value}"))
}

/// Anna with her resident card.
async fn with_card(seed: u64) -> World {
    let mut world = World::with_everybody(seed).await;
    let offer = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
    world.ask("anna", "accept", json!({"url": text(&offer, "invitation"), "yes": true})).await;
    world.pump().await;
    assert_eq!(cards(&world).await.len(), 1);
    world
}

async fn cards(world: &World) -> Vec<Value> {
    world.ask("anna", "list", json!({})).await.as_array().unwrap().clone()
}

/// Accepts an invitation, to be asked about everything; returns the thread.
async fn take(world: &mut World, invitation: &Value) -> String {
    let begun = world.ask("anna", "accept", json!({"url": text(invitation, "invitation")})).await;
    world.pump().await;
    text(&begun, "thread").to_owned()
}

async fn progress(world: &World, thread: &str) -> Value {
    world.ask("anna", "progress", json!({"thread": thread})).await
}

/// Agrees to what is shown now.
async fn agree(world: &mut World, thread: &str) {
    let shown = progress(world, thread).await["decide"]["shown"].clone();
    world.ask("anna", "decide", json!({"thread": thread, "agree": true, "shown": shown})).await;
    world.pump().await;
}

fn lines(progress: &Value) -> Vec<String> {
    let lines = progress["decide"]["would_disclose"].as_array().unwrap_or_else(|| panic!("{progress}"));
    lines.iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_invitation_to_connect_is_not_taken_before_its_inviter_has_answered() {
    play(async {
        let mut world = World::with_everybody(1).await;
        let invitation = world.ask("library", "invite", json!({})).await;
        world.kill("library");
        let url = text(&invitation, "invitation");
        let begun = world.ask("anna", "accept", json!({ "url": url })).await;
        let thread = text(&begun, "thread").to_owned();
        let now = progress(&world, &thread).await;
        assert_eq!((&now["state"], &now["pending"]), (&json!("connecting"), &json!(true)), "{now}");
        let again = world.ask("anna", "accept", json!({ "url": url })).await;
        assert_eq!(again, json!({"thread": thread, "state": "resumed"}), "it says hello once");
        world.start("library").await;
        world.pump().await;
        let now = progress(&world, &thread).await;
        assert_eq!((&now["state"], &now["pending"]), (&json!("connected"), &json!(false)), "{now}");
    });
}

#[test]
fn an_invitation_that_another_has_answered_is_abandoned_and_says_so() {
    play(async {
        let mut world = World::with_everybody(1).await;
        world.add_citizen("bela").await;
        world.pump().await;
        let invitation = world.ask("city", "invite", json!({"person": ADULT})).await;
        let mut states = Vec::new();
        for name in ["anna", "bela"] {
            let begun = world.ask(name, "accept", json!({"url": text(&invitation, "invitation")})).await;
            world.pump().await;
            let now = world.ask(name, "progress", json!({"thread": text(&begun, "thread")})).await;
            assert_eq!(now["pending"], json!(false), "{now}");
            states.push(text(&now, "state").to_owned());
        }
        assert_eq!(states, ["connected", "abandoned"]);
    });
}

#[test]
fn consent_is_to_what_was_shown_and_to_nothing_else() {
    play(async {
        let mut world = with_card(1).await;
        let first = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
        let second = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
        let thread = take(&mut world, &first).await;
        let other = take(&mut world, &second).await;
        let shown_there = progress(&world, &other).await["decide"]["shown"].clone();
        let anna = world.node("anna");
        let not_shown = anna.by_name("decide", &json!({"thread": thread, "agree": true})).await.unwrap_err();
        assert!(not_shown.to_string().contains("`shown`"), "{not_shown}");
        let input = json!({"thread": thread, "agree": true, "shown": shown_there});
        let another = anna.by_name("decide", &input).await.unwrap_err();
        assert!(another.to_string().contains("no longer what was shown"), "the same, asked anew: {another}");
        drop(anna);
        assert_eq!(progress(&world, &thread).await["decide"]["kind"], "request", "it still waits");
        agree(&mut world, &thread).await;
        let result = world.ask("library", "result", json!({"thread": text(&first, "thread")})).await;
        assert_eq!(result["accepted"], true, "{result}");
    });
}

#[test]
fn what_a_card_shows_to_everybody_is_named_beside_what_was_asked_for() {
    play(async {
        let mut world = with_card(2).await;
        let signup = json!({"template": "library-card", "after": "library-signup"});
        let poster = world.ask("city", "offer", signup).await;
        world.ask("anna", "accept", json!({"url": text(&poster, "invitation"), "yes": true})).await;
        world.pump().await;
        assert_eq!(cards(&world).await.len(), 2);
        let asked = world.ask("library", "request", json!({"template": "library-accepts"})).await;
        let thread = take(&mut world, &asked).await;
        let lines = lines(&progress(&world, &thread).await);
        let shows = |end: &str| lines.iter().any(|line| line.ends_with(end));
        assert!(shows(": age_equal_or_over.7") && shows(": resident_region"), "{lines:?}");
        assert!(shows(": patron_nym (this card shows it to everybody)"), "{lines:?}");
        assert!(
            !lines.iter().any(|line| line.contains("family_name") || line.contains(": cnf")),
            "{lines:?}"
        );
    });
}

/// Anna has proved her resident card and is offered the library's card; returns the thread.
async fn offered_after_a_proof(world: &mut World) -> String {
    let signup = json!({"template": "library-card", "after": "library-signup"});
    let poster = world.ask("city", "offer", signup).await;
    let thread = take(world, &poster).await;
    assert_eq!(progress(world, &thread).await["decide"]["kind"], "request");
    agree(world, &thread).await;
    assert_eq!(progress(world, &thread).await["decide"]["kind"], "offer");
    thread
}

#[test]
fn a_card_that_rests_on_another_ends_with_it_at_the_latest() {
    play(async {
        let mut world = World::with_everybody(3).await;
        let short = json!({"template": "resident-card", "person": ADULT, "valid_for": 100_000});
        let offer = world.ask("city", "offer", short).await;
        world.ask("anna", "accept", json!({"url": text(&offer, "invitation"), "yes": true})).await;
        world.pump().await;
        let thread = offered_after_a_proof(&mut world).await;
        agree(&mut world, &thread).await;
        let cards = cards(&world).await;
        assert_eq!(cards.len(), 2);
        assert_eq!(cards[1]["expires_at"], cards[0]["expires_at"]);
    });
}

#[test]
fn a_card_revoked_after_it_was_proved_brings_no_other() {
    play(async {
        let mut world = with_card(4).await;
        let thread = offered_after_a_proof(&mut world).await;
        let issued = world.ask("city", "issued", json!({"person": ADULT})).await;
        let revocation = json!({"credential": issued[0]["credential"], "reason": "lost"});
        world.ask("city", "revoke", revocation).await;
        agree(&mut world, &thread).await;
        assert_eq!(progress(&world, &thread).await["state"], "abandoned");
        assert_eq!(
            (
                cards(&world).await.len(),
                world.ask("city", "issued", json!({})).await.as_array().unwrap().len()
            ),
            (1, 1)
        );
    });
}

#[test]
fn an_exchange_that_ended_without_a_card_or_a_proof_says_why() {
    play(async {
        let mut world = World::with_everybody(8).await;
        let asked = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
        let thread = take(&mut world, &asked).await;
        assert!(progress(&world, &thread).await["decide"]["would_disclose"].is_null());
        agree(&mut world, &thread).await;
        let ended = progress(&world, &thread).await;
        assert_eq!((&ended["state"], &ended["reason"]), (&json!("abandoned"), &json!("no-card-answers")));
        // On the way to a card the reason is the request's too.
        let signup = json!({"template": "library-card", "after": "library-signup"});
        let poster = world.ask("city", "offer", signup).await;
        let thread = take(&mut world, &poster).await;
        agree(&mut world, &thread).await;
        let ended = progress(&world, &thread).await;
        assert_eq!((&ended["state"], &ended["reason"]), (&json!("abandoned"), &json!("no-card-answers")));
        // The other side's code.
        let order = json!({"template": "resident-card", "person": ADULT});
        let offer = world.ask("city", "offer", order).await;
        let thread = take(&mut world, &offer).await;
        world.ask("city", "withdraw", json!({"thread": text(&offer, "thread")})).await;
        world.pump().await;
        let ended = progress(&world, &thread).await;
        assert_eq!(
            (&ended["reason"], &ended["means"]),
            (&json!("e.p.issuance-abandoned"), &json!("No card will come of this any more"))
        );
    });
}

/// To whoever invites somebody else would come too late, and be refused without an end.
#[test]
fn who_said_no_by_mistake_takes_the_same_invitation_again() {
    play(async {
        let mut world = World::with_everybody(7).await;
        let order = json!({"template": "resident-card", "person": ADULT});
        let offer = world.ask("city", "offer", order).await;
        let asked = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
        for invitation in [&offer, &asked] {
            for agrees in [false, true] {
                let thread = take(&mut world, invitation).await;
                if agrees {
                    agree(&mut world, &thread).await;
                } else {
                    world.ask("anna", "decide", json!({"thread": thread, "agree": false})).await;
                    world.pump().await;
                }
                let state = if agrees { "done" } else { "abandoned" };
                assert_eq!(progress(&world, &thread).await["state"], state);
            }
        }
        let result = world.ask("library", "result", json!({"thread": text(&asked, "thread")})).await;
        assert_eq!(result["accepted"], true, "{result}");
    });
}

/// What the user's own command cannot do, no peer has caused, and nobody is there to be told a code. A fault of a peer has one.
#[test]
fn what_is_too_late_or_cannot_be_sent_is_told_the_user_with_a_remedy_and_no_code() {
    play(async {
        let stranger = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&stranger).await;
        let told = async |command: &str, input: Value| match anna.by_name(command, &input).await {
            Err(Failure::User { problem }) => problem,
            other => panic!("{other:?}"),
        };
        let empty = told("send", json!({"to": stranger.did(), "text": ""})).await;
        assert_eq!(empty, "cannot send this: the text is empty; write something");

        let mut offered = offering(&stranger, &card_offer(&stranger, "ES256"), &to);
        offered.expires_time = Some(UnixSeconds(START_MS / 1000).plus(3600));
        assert_eq!(stranger.hear(&anna, &offered).await, None);
        let waiting = world.ask("anna", "pending", json!({})).await[0].clone();
        let (thread, shown) = (&waiting["thread"], &waiting["decide"]["shown"]);
        world.clock().advance(2 * 3600 * 1000);
        let late = told("decide", json!({"thread": thread, "agree": true, "shown": shown})).await;
        assert_eq!(late, "it came too late: its time is over; ask whoever made it for a new one");

        let malformed = stranger.message("https://didcomm.org/basicmessage/2.0/message", &to, json!({}));
        assert_eq!(code(&stranger.ask(&anna, &malformed).await), "e.p.msg");
    });
}

/// Takes a stranger's invitation to a card with `--yes`; returns what came of it: the proposal.
async fn proposed_to(world: &mut World, stranger: &Stranger) -> Message {
    let caught = world.wire().catch(STRANGER);
    let mut invitation = Invitation::new("oob-1".try_into().unwrap(), stranger.did().clone());
    invitation.goal_code = Some("einmal.credential.issue".into());
    world.ask("anna", "accept", json!({"url": invitation.to_url(STRANGER), "yes": true})).await;
    world.pump().await;
    let first = caught.lock().unwrap().first().cloned().unwrap();
    stranger.open(&first).message
}

/// A request for the name of whoever has a resident card, below the proposal.
fn asking_name(stranger: &Stranger, to: &Did, proposal: &Message) -> Message {
    let dcql_query = json!({"credentials": [{"id": "card", "format": "dc+sd-jwt",
        "meta": {"vct_values": ["urn:de:kommune:resident:1"]}, "claims": [{"path": ["family_name"]}]}]});
    let client_id = present_proof::client_id(stranger.did());
    let asks = DcqlRequest { dcql_query, nonce: "0123456789abcdef".into(), client_id };
    let draft = Draft::of(&RequestPresentation::default()).attach(asks.to_attachment("request").unwrap());
    let mut message = stranger.drafted(draft, to);
    message.pthid = proposal.pthid.clone();
    message
}

/// "The first" is by the exchange that was agreed to: by DID each new one of the peer would be the first again.
#[test]
fn a_peer_gets_one_proof_for_one_yes_though_it_rotates() {
    play(async {
        let mut world = with_card(5).await;
        let mut stranger = Stranger::reached_at(1, STRANGER);
        let proposal = proposed_to(&mut world, &stranger).await;
        let (anna, to) = (world.node("anna"), proposal.from.clone().unwrap());
        let first = stranger.hear(&anna, &asking_name(&stranger, &to, &proposal)).await;
        assert_eq!(name(&first.unwrap()), "presentation", "the request on the way to the offer");
        for round in 0..3 {
            let new = stranger.another_did();
            let old = stranger.become_did(new.clone());
            // Changes nothing, but for the DID.
            let mut warning = stranger.message(REPORT, &to, json!({"code": "w.p.msg"}));
            warning.pthid = Some(proposal.thread());
            let now = UnixSeconds(START_MS / 1000 + round);
            warning.from_prior = Some(stranger.rotation(&old, &new, now));
            assert_eq!(stranger.hear(&anna, &warning).await, None);
            assert_eq!(stranger.hear(&anna, &asking_name(&stranger, &to, &proposal)).await, None, "{round}");
            let waiting = world.ask("anna", "pending", json!({})).await;
            assert!(!waiting.as_array().unwrap().is_empty(), "it waits for her: {waiting}");
        }
    });
}

/// The answer to her proposal comes in its thread; what comes beside it is unasked.
#[test]
fn an_offer_beside_the_one_that_was_agreed_to_is_asked_about() {
    play(async {
        let mut world = with_card(6).await;
        let stranger = Stranger::reached_at(1, STRANGER);
        let proposal = proposed_to(&mut world, &stranger).await;
        let (anna, to) = (world.node("anna"), proposal.from.clone().unwrap());
        let mut offered = offering(&stranger, &card_offer(&stranger, "ES256"), &to);
        offered.pthid = proposal.pthid.clone();
        assert_eq!(stranger.hear(&anna, &offered).await, None);
        let waiting = world.ask("anna", "pending", json!({})).await;
        assert_eq!(waiting[0]["decide"]["kind"], "offer", "{waiting}");
        let mut offered = offering(&stranger, &card_offer(&stranger, "ES256"), &to);
        offered.thid = Some(proposal.thread());
        assert_eq!(name(&stranger.hear(&anna, &offered).await.unwrap()), "request-credential");
    });
}
