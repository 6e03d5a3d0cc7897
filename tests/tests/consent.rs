//! A citizen agrees to exactly what was shown, and anything based on a proof ends with that proof.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use einmal_tests::{ADULT, World, play};
use serde_json::{Value, json};

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
fn consent_is_to_what_was_shown_and_to_nothing_else() {
    play(async {
        let mut world = with_card(1).await;
        let first = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
        let second = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
        let thread = take(&mut world, &first).await;
        let other = take(&mut world, &second).await;
        let shown_there = progress(&world, &other).await["decide"]["shown"].clone();
        let anna = world.node("anna");
        let not_shown = anna.command("decide", &json!({"thread": thread, "agree": true})).await.unwrap_err();
        assert!(not_shown.to_string().contains("`shown`"), "{not_shown}");
        let input = json!({"thread": thread, "agree": true, "shown": shown_there});
        let another = anna.command("decide", &input).await.unwrap_err();
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
