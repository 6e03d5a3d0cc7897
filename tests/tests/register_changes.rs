//! The register counts more than an old card; offers can be withdrawn; barred people get nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fs, path::Path};

use einmal::config::{Config, Role};
use einmal_tests::{ADULT, ByName, START_MS, World, city_folder, invitation_in, own_city_folder, play};
use serde_json::{Value, json};

const DAY: u64 = 24 * 3600;

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_else(|| panic!("no `{member}` in {value}"))
}

/// All nodes idle, and a city with the folder `folder`.
async fn world_with(seed: u64, folder: &Path) -> World {
    let mut world = World::new(seed);
    world.add("mediator", Config::new(Role::Mediator)).await;
    let mut config = Config::new(Role::City);
    config.city.as_mut().unwrap().description = folder.join("city.toml");
    world.add("city", config).await;
    world.add_library("library", &["city"]).await;
    world.add_citizen("anna").await;
    world.pump().await;
    world
}

/// Enters a death in the register's row of [`ADULT`].
fn enter_death(folder: &Path) {
    let file = folder.join("einwohner.csv");
    let rows = fs::read_to_string(&file).unwrap();
    let changed = rows.lines().map(|row| {
        let mut fields: Vec<&str> = row.split(';').collect();
        if fields[0] == ADULT {
            fields[20] = "01.03.2001";
        }
        fields.join(";") + "\r\n"
    });
    let changed: String = changed.collect();
    assert_ne!(changed, rows);
    fs::write(&file, changed).unwrap();
}

async fn accept(world: &World, offer: &Value) {
    world.ask("anna", "accept", json!({"url": text(offer, "invitation"), "yes": true})).await;
}

/// Offers a card and accepts it; returns the city's list of issued cards.
async fn issue(world: &mut World, order: Value) -> Value {
    let offer = world.ask("city", "offer", order).await;
    accept(world, &offer).await;
    world.pump().await;
    world.ask("city", "issued", json!({})).await
}

fn resident() -> Value {
    json!({"template": "resident-card", "person": ADULT})
}

fn library() -> Value {
    json!({"template": "library-card", "after": "library-signup"})
}

async fn cards(world: &World) -> usize {
    world.ask("anna", "list", json!({})).await.as_array().unwrap().len()
}

#[test]
fn a_death_entered_later_is_told_at_the_next_reading_and_keeps_further_cards_back() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(1, folder.path()).await;
        issue(&mut world, resident()).await;
        let reloaded = world.ask("city", "reload", json!({})).await;
        assert_eq!(reloaded["outdated"], json!([]));
        enter_death(folder.path());
        let reloaded = world.ask("city", "reload", json!({})).await;
        assert_eq!(text(&reloaded["outdated"][0], "person"), ADULT, "{reloaded}");
        assert!(text(&reloaded["outdated"][0], "reason").contains("death"), "{reloaded}");
        let refused = world.node("city").by_name("offer", &resident()).await.unwrap_err().to_string();
        assert!(refused.contains("death"), "{refused}");
        // The resident card is not revoked yet, but what it proves is outdated.
        let issued = issue(&mut world, library()).await;
        assert_eq!((issued.as_array().unwrap().len(), cards(&world).await), (1, 1), "{issued}");
    });
}

/// Changes one field of the register's row of [`ADULT`].
fn enter(folder: &Path, field: usize, value: &str) {
    let file = folder.join("einwohner.csv");
    let rows = fs::read_to_string(&file).unwrap();
    let changed = rows.lines().map(|row| {
        let mut fields: Vec<&str> = row.split(';').collect();
        if fields[0] == ADULT {
            fields[field] = value;
        }
        fields.join(";") + "\r\n"
    });
    fs::write(&file, changed.collect::<String>()).unwrap();
}

#[test]
fn a_name_or_an_address_that_changed_is_told_at_the_next_reading_and_what_no_card_says_is_not() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(13, folder.path()).await;
        issue(&mut world, resident()).await;
        let good = fs::read_to_string(folder.path().join("einwohner.csv")).unwrap();
        let changes = [
            (1, "Neuhaus", Some("family_name")),
            (11, "40", Some("address.street_address")),
            // No claim of the card: who was born where, and since when somebody lives here.
            (7, "Marburg", None),
            (18, "27.02.2000", None),
        ];
        for (field, value, claim) in changes {
            enter(folder.path(), field, value);
            let reloaded = world.ask("city", "reload", json!({})).await;
            match claim {
                None => assert_eq!(reloaded["outdated"], json!([]), "{reloaded}"),
                Some(claim) => {
                    let reason = text(&reloaded["outdated"][0], "reason");
                    assert_eq!(reason, format!("the register now says otherwise: {claim}"));
                    assert!(!reloaded.to_string().contains(value), "not what it says");
                }
            }
            fs::write(folder.path().join("einwohner.csv"), &good).unwrap();
        }
        assert_eq!(world.ask("city", "reload", json!({})).await["outdated"], json!([]));
    });
}

/// Takes the status list from the resident card's template; returns what it was before.
fn without_status_list(folder: &Path) -> String {
    let template = folder.join("templates/resident-card.toml");
    let with_list = fs::read_to_string(&template).unwrap();
    let (reasons, claims) =
        (with_list.find("[[revocation_reasons]]").unwrap(), with_list.find("[[claims]]").unwrap());
    let without = [&with_list[..reasons], &with_list[claims..]].concat();
    fs::write(&template, without.replace("status_list = true", "status_list = false")).unwrap();
    with_list
}

#[test]
fn a_card_that_must_know_people_again_is_not_offered_after_one_without_status_list() {
    play(async {
        let folder = own_city_folder();
        let world = world_with(14, folder.path()).await;
        world.ask("city", "offer", library()).await;
        without_status_list(folder.path());
        let template = folder.path().join("templates/library-card.toml");
        let both = fs::read_to_string(&template).unwrap();
        let never_bars = both.replace("bars = true", "");
        let claim = both.find("[[claims]]\npath = [\"patron_nym\"]").unwrap();
        let next = claim + both[claim + 1..].find("[[claims]]").unwrap() + 1;
        let no_name = [&both[..claim], &both[next..]].concat();
        let neither = no_name.replace("bars = true", "");
        for (text, refused) in [(&both, true), (&never_bars, true), (&no_name, true), (&neither, false)] {
            fs::write(&template, text).unwrap();
            world.ask("city", "reload", json!({})).await;
            let offered = world.node("city").by_name("offer", &library()).await;
            assert_eq!(offered.is_err(), refused, "{text}");
            if let Err(told) = offered {
                assert!(told.to_string().contains("status list"), "{told}");
            }
        }
    });
}

/// It was issued before the template had a list; the holder of such a card could be barred and come again under a new number.
#[test]
fn a_card_that_must_know_people_again_is_not_given_on_proof_of_a_card_that_names_nobody() {
    play(async {
        let folder = own_city_folder();
        let with_list = without_status_list(folder.path());
        let mut world = world_with(15, folder.path()).await;
        issue(&mut world, resident()).await;
        fs::write(folder.path().join("templates/resident-card.toml"), with_list).unwrap();
        world.ask("city", "reload", json!({})).await;
        issue(&mut world, library()).await;
        assert_eq!(cards(&world).await, 1, "only the resident card");
        let issued = issue(&mut world, resident()).await;
        assert_eq!(issued.as_array().unwrap().len(), 2);
    });
}

/// The cards say what they said; only new ones say it otherwise.
#[test]
fn a_template_that_takes_a_claim_from_elsewhere_makes_no_card_untrue() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(16, folder.path()).await;
        issue(&mut world, resident()).await;
        let template = folder.path().join("templates/resident-card.toml");
        let text = fs::read_to_string(&template).unwrap();
        let other = text.replace(r#"column = "given_names""#, r#"column = "family_name""#);
        assert_ne!(text, other);
        fs::write(&template, other).unwrap();
        assert_eq!(world.ask("city", "reload", json!({})).await["outdated"], json!([]));
    });
}

/// Revocation is final, so a fault in the file is no reason for it.
#[test]
fn cards_of_whose_row_was_skipped_are_listed_apart() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(11, folder.path()).await;
        issue(&mut world, resident()).await;
        let good = fs::read_to_string(folder.path().join("einwohner.csv")).unwrap();
        for (field, value, reason) in [(20, "31.02.2001", "was skipped"), (0, "?", "without an id")] {
            enter(folder.path(), field, value);
            let reloaded = world.ask("city", "reload", json!({})).await;
            assert_eq!(reloaded["outdated"], json!([]), "{reloaded}");
            assert_eq!(text(&reloaded["uncertain"][0], "person"), ADULT, "{reloaded}");
            assert!(text(&reloaded["uncertain"][0], "reason").contains(reason), "{reloaded}");
            fs::write(folder.path().join("einwohner.csv"), &good).unwrap();
        }
        let gone: String =
            good.lines().filter(|row| !row.starts_with(ADULT)).map(|row| format!("{row}\r\n")).collect();
        fs::write(folder.path().join("einwohner.csv"), gone).unwrap();
        let reloaded = world.ask("city", "reload", json!({})).await;
        assert_eq!(reloaded["uncertain"], json!([]), "{reloaded}");
        assert!(text(&reloaded["outdated"][0], "reason").contains("no longer holds"), "{reloaded}");
    });
}

#[test]
fn cards_of_a_kind_that_is_no_longer_issued_are_listed_and_can_be_revoked() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(12, folder.path()).await;
        let issued = issue(&mut world, resident()).await;
        let id = &issued[0]["credential"];
        fs::remove_file(folder.path().join("templates/resident-card.toml")).unwrap();
        let reloaded = world.ask("city", "reload", json!({})).await;
        assert_eq!(&reloaded["outdated"][0]["credential"], id, "{reloaded}");
        assert!(text(&reloaded["outdated"][0], "reason").contains("no longer issued"), "{reloaded}");
        let no_word = json!({"credential": id, "reason": "No Word"});
        let refused = world.node("city").by_name("revoke", &no_word).await.unwrap_err().to_string();
        assert!(refused.contains("one word"), "{refused}");
        world.ask("city", "revoke", json!({"credential": id, "reason": "discontinued"})).await;
        let reloaded = world.ask("city", "reload", json!({})).await;
        assert_eq!(reloaded["outdated"], json!([]), "{reloaded}");
    });
}

#[test]
fn cards_whose_kind_has_a_status_no_more_can_be_revoked() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(13, folder.path()).await;
        let issued = issue(&mut world, resident()).await;
        let file = folder.path().join("templates/resident-card.toml");
        let template =
            fs::read_to_string(&file).unwrap().replace("status_list = true", "status_list = false");
        let (reasons, claims) =
            (template.find("[[revocation_reasons]]").unwrap(), template.find("[[claims]]").unwrap());
        fs::write(&file, format!("{}{}", &template[..reasons], &template[claims..])).unwrap();
        world.ask("city", "reload", json!({})).await;
        let revocation = json!({"credential": issued[0]["credential"], "reason": "moved"});
        assert_eq!(world.ask("city", "revoke", revocation).await["revoked"], true);
    });
}

#[test]
fn cards_are_forgotten_a_year_after_their_end_unless_they_were_revoked() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(14, folder.path()).await;
        let mut short = resident();
        short["valid_for"] = json!(2 * DAY);
        issue(&mut world, short.clone()).await;
        let issued = issue(&mut world, short).await;
        let revocation = json!({"credential": issued[0]["credential"], "reason": "moved"});
        world.ask("city", "revoke", revocation).await;
        for (days, left) in [(300, 2), (100, 1)] {
            world.clock().advance(days * DAY * 1000);
            for _ in 0..3 {
                world.node("city").sweep().await;
            }
            let issued = world.ask("city", "issued", json!({"person": ADULT})).await;
            assert_eq!(issued.as_array().unwrap().len(), left, "{issued}");
            assert_eq!(world.ask("city", "issued", json!({})).await, issued);
        }
        assert_eq!(world.ask("city", "issued", json!({})).await[0]["revoked"], "moved");
    });
}

#[test]
fn files_that_cannot_be_read_leave_everything_as_it_was() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(2, folder.path()).await;
        fs::write(folder.path().join("einwohner.csv"), "Kennung;Name\r\n").unwrap();
        let refused = world.node("city").by_name("reload", &json!({})).await.unwrap_err().to_string();
        assert!(refused.contains("einwohner.csv"), "{refused}");
        let issued = issue(&mut world, resident()).await;
        assert_eq!(issued.as_array().unwrap().len(), 1);
    });
}

#[test]
fn an_offer_that_was_withdrawn_is_not_carried_out_before_or_after_it_was_taken() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(3, folder.path()).await;
        let offer = world.ask("city", "offer", resident()).await;
        world.ask("city", "withdraw", json!({"thread": text(&offer, "thread")})).await;
        accept(&world, &offer).await;
        world.pump().await;
        assert_eq!(cards(&world).await, 0);
        let offer = world.ask("city", "offer", resident()).await;
        world.ask("anna", "accept", json!({"url": text(&offer, "invitation")})).await;
        world.pump().await;
        world.ask("city", "withdraw", json!({"thread": text(&offer, "thread")})).await;
        world.pump().await;
        let progress = world.ask("anna", "progress", json!({"thread": text(&offer, "thread")})).await;
        assert_eq!(text(&progress, "state"), "abandoned");
        let again = json!({"thread": text(&offer, "thread")});
        let refused = world.node("city").by_name("withdraw", &again).await.unwrap_err().to_string();
        assert!(refused.contains("no offer"), "{refused}");
        // Someone who has already accepted it cannot start again either.
        accept(&world, &offer).await;
        world.pump().await;
        assert_eq!(world.ask("city", "issued", json!({})).await, json!([]));
    });
}

#[test]
fn a_poster_that_was_withdrawn_issues_to_nobody_any_more_whoever_was_last() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(6, folder.path()).await;
        issue(&mut world, resident()).await;
        let poster = world.ask("city", "offer", library()).await;
        accept(&world, &poster).await;
        world.pump().await;
        assert_eq!(cards(&world).await, 2);
        world.ask("anna", "accept", json!({"url": text(&poster, "invitation")})).await;
        world.ask("city", "withdraw", json!({"thread": text(&poster, "thread")})).await;
        accept(&world, &poster).await;
        world.pump().await;
        assert_eq!(cards(&world).await, 2);
    });
}

/// Agrees to the first decision a wallet waits for.
async fn agree(world: &mut World, name: &str) {
    world.pump().await;
    let pending = world.ask(name, "pending", json!({})).await;
    let (thread, shown) = (&pending[0]["thread"], &pending[0]["decide"]["shown"]);
    world.ask(name, "decide", json!({"thread": thread, "agree": true, "shown": shown})).await;
    world.pump().await;
}

/// A poster for a library card. Anna accepted it first and leaves it undecided; Bela accepted it after her and has got
/// a card. Both have a resident card. Returns the city's answer about the poster.
async fn poster_of_two(world: &mut World) -> Value {
    world.add_citizen("bela").await;
    issue(world, resident()).await;
    let other = json!({"template": "resident-card", "person": "JJMSK-3YTCM"});
    let offer = world.ask("city", "offer", other).await;
    world.ask("bela", "accept", json!({"url": text(&offer, "invitation"), "yes": true})).await;
    world.pump().await;
    let poster = world.ask("city", "offer", library()).await;
    let url = text(&poster, "invitation");
    world.ask("anna", "accept", json!({ "url": url })).await;
    agree(world, "anna").await;
    world.ask("bela", "accept", json!({"url": url, "yes": true})).await;
    world.pump().await;
    poster
}

#[test]
fn of_a_poster_that_was_withdrawn_also_those_get_no_card_who_took_it_before_the_last() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(8, folder.path()).await;
        let poster = poster_of_two(&mut world).await;
        assert_eq!(
            world.ask("city", "issued", json!({})).await.as_array().unwrap().len(),
            3,
            "bela has hers"
        );
        world.ask("city", "withdraw", json!({"thread": text(&poster, "thread")})).await;
        agree(&mut world, "anna").await;
        assert_eq!(world.ask("city", "issued", json!({})).await.as_array().unwrap().len(), 3);
        assert_eq!(cards(&world).await, 1);
    });
}

/// The invitation lasts a day, exchanges begun with it last longer.
#[test]
fn a_poster_can_be_withdrawn_also_when_its_invitation_is_over_and_the_last_who_took_it_has_a_card() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(9, folder.path()).await;
        let poster = poster_of_two(&mut world).await;
        let issued = world.ask("city", "issued", json!({})).await;
        assert_eq!(issued.as_array().unwrap().len(), 3, "bela has hers");
        for _ in 0..25 {
            world.clock().advance(3_600_000);
            world.node("city").sweep().await;
        }
        let thread = json!({"thread": text(&poster, "thread")});
        assert_eq!(world.ask("city", "withdraw", thread.clone()).await["withdrawn"], true);
        agree(&mut world, "anna").await;
        assert_eq!(world.ask("city", "issued", json!({})).await, issued);
        assert_eq!(cards(&world).await, 1);
        let again = world.node("city").by_name("withdraw", &thread).await.unwrap_err().to_string();
        assert!(again.contains("no offer"), "{again}");
    });
}

#[test]
fn somebody_who_left_the_register_meanwhile_is_told_that_there_is_no_card() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(7, folder.path()).await;
        let offer = world.ask("city", "offer", resident()).await;
        let file = folder.path().join("einwohner.csv");
        let rows = fs::read_to_string(&file).unwrap();
        let left: String =
            rows.lines().filter(|row| !row.starts_with(ADULT)).map(|row| format!("{row}\r\n")).collect();
        fs::write(&file, left).unwrap();
        world.ask("city", "reload", json!({})).await;
        accept(&world, &offer).await;
        world.pump().await;
        let progress = world.ask("anna", "progress", json!({"thread": text(&offer, "thread")})).await;
        assert_eq!(text(&progress, "state"), "abandoned");
        assert_eq!(world.ask("city", "issued", json!({})).await, json!([]));
    });
}

#[test]
fn who_is_barred_gets_no_other_card_and_who_lost_a_phone_does() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(4, folder.path()).await;
        issue(&mut world, resident()).await;
        for (reason, cards) in [("lost", 2), ("barred", 3), ("", 3)] {
            let issued = issue(&mut world, library()).await;
            let issued = issued.as_array().unwrap();
            assert_eq!(issued.len(), cards, "{reason}");
            let open = |card: &&Value| card["template"] == "library-card" && card["revoked"].is_null();
            if let Some(card) = issued.iter().find(open) {
                let revoke = json!({"credential": card["credential"], "reason": reason});
                world.ask("city", "revoke", revoke).await;
            }
        }
    });
}

/// What Anna sees of an invitation she took.
async fn state(world: &World, invitation: &Value) -> Value {
    world.ask("anna", "progress", json!({"thread": text(invitation, "thread")})).await["state"].clone()
}

#[test]
fn who_gets_no_card_by_a_poster_hears_it_where_the_card_was_to_come_and_may_begin_anew() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(17, folder.path()).await;
        issue(&mut world, resident()).await;
        let poster = world.ask("city", "offer", library()).await;
        let good = fs::read_to_string(folder.path().join("einwohner.csv")).unwrap();
        enter_death(folder.path());
        world.ask("city", "reload", json!({})).await;
        accept(&world, &poster).await;
        world.pump().await;
        assert_eq!(state(&world, &poster).await, "abandoned");
        let pending = world.ask("anna", "pending", json!({})).await;
        assert_eq!((pending, cards(&world).await), (json!([]), 1));
        fs::write(folder.path().join("einwohner.csv"), good).unwrap();
        world.ask("city", "reload", json!({})).await;
        accept(&world, &poster).await;
        world.pump().await;
        assert_eq!((state(&world, &poster).await, cards(&world).await), (json!("done"), 2));
    });
}

#[test]
fn a_poster_ends_for_whoever_proves_nothing_and_may_be_begun_anew() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(18, folder.path()).await;
        let poster = world.ask("city", "offer", library()).await;
        accept(&world, &poster).await;
        world.pump().await;
        assert_eq!(state(&world, &poster).await, "abandoned", "she has no card that answers");
        issue(&mut world, resident()).await;
        accept(&world, &poster).await;
        world.pump().await;
        assert_eq!((state(&world, &poster).await, cards(&world).await), (json!("done"), 2));
    });
}

/// The proof and the card are two things: one is told of each.
#[test]
fn a_proof_for_a_poster_that_was_withdrawn_meanwhile_is_confirmed() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(19, folder.path()).await;
        issue(&mut world, resident()).await;
        let poster = world.ask("city", "offer", library()).await;
        world.ask("anna", "accept", json!({"url": text(&poster, "invitation")})).await;
        world.pump().await;
        world.ask("city", "withdraw", json!({"thread": text(&poster, "thread")})).await;
        world.pump().await;
        let asked = world.ask("anna", "pending", json!({})).await[0].clone();
        agree(&mut world, "anna").await;
        assert_eq!(
            (state(&world, &poster).await, state(&world, &asked).await),
            (json!("abandoned"), json!("done"))
        );
    });
}

/// A poster serves everybody again and again.
#[test]
fn one_person_has_so_many_valid_cards_of_a_kind_and_no_more() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(15, folder.path()).await;
        issue(&mut world, resident()).await;
        for number in 1..=9 {
            let issued = issue(&mut world, library()).await;
            assert_eq!(issued.as_array().unwrap().len(), 1 + number.min(8));
        }
        let issued = world.ask("city", "issued", json!({})).await;
        let one = issued.as_array().unwrap().iter().find(|card| card["template"] == "library-card").unwrap();
        let revocation = json!({"credential": one["credential"], "reason": "lost"});
        world.ask("city", "revoke", revocation).await;
        assert_eq!(issue(&mut world, library()).await.as_array().unwrap().len(), 10);
        let named = json!({"template": "library-card", "person": ADULT});
        let offered = world.node("city").by_name("offer", &named).await;
        assert!(offered.is_ok(), "what a clerk offers is for the clerk to say: {offered:?}");
    });
}

#[test]
fn request_template_whose_query_could_not_be_sent_is_refused_when_it_is_read() {
    play(async {
        let folder = own_city_folder();
        let world = world_with(16, folder.path()).await;
        let file = folder.path().join("requests/cafe-over-16.toml");
        let good = fs::read_to_string(&file).unwrap();
        // As JSON it becomes longer than here, and longer than a query may be.
        let long = format!("values = ['{}']", "\"".repeat(40_000));
        fs::write(&file, good.replace("values = [true]", &long)).unwrap();
        let refused = world.node("city").by_name("reload", &json!({})).await.unwrap_err().to_string();
        assert!(refused.contains("cafe-over-16.toml") && refused.contains("dcql_query"), "{refused}");
        fs::write(&file, good).unwrap();
        world.ask("city", "reload", json!({})).await;
    });
}

#[test]
fn claim_that_is_to_be_presented_and_that_nobody_asks_for_is_refused_with_its_place() {
    play(async {
        let folder = own_city_folder();
        let world = world_with(20, folder.path()).await;
        let file = folder.path().join("templates/library-card.toml");
        let good = fs::read_to_string(&file).unwrap();
        let claim = |path: &str| {
            let source =
                format!("source = {{ presented = {path} }}\ndisclosure = \"selective\"\nrequired = false\n");
            format!(
                "{good}\n[[claims]]\npath = [\"town\"]\nlabel = {{ de = \"Ort\", en = \"Town\" }}\n{source}"
            )
        };
        fs::write(&file, claim("[\"address\", \"nowhere\"]")).unwrap();
        let refused = world.node("city").by_name("reload", &json!({})).await.unwrap_err().to_string();
        for part in ["library-card.toml", "claims[3].source.presented", "`address.nowhere`", "dcql_query"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
        // Asked for, but by another request template than the one it is offered after.
        fs::write(&file, claim("[\"age_equal_or_over\", \"16\"]")).unwrap();
        world.ask("city", "reload", json!({})).await;
        let refused = world.node("city").by_name("offer", &library()).await.unwrap_err().to_string();
        assert!(
            refused.contains("`age_equal_or_over.16`") && refused.contains("library-signup"),
            "{refused}"
        );
        fs::write(&file, claim("[\"resident_region\"]")).unwrap();
        world.ask("city", "reload", json!({})).await;
        world.ask("city", "offer", library()).await;
    });
}

#[test]
fn a_card_ends_with_the_one_it_rests_on_says_so_and_is_named_when_that_is_revoked() {
    play(async {
        let folder = own_city_folder();
        let mut world = world_with(5, folder.path()).await;
        let mut short = resident();
        short["valid_for"] = json!(10 * 24 * 3600);
        let issued = issue(&mut world, short).await;
        let resident = issued[0].clone();
        let issued = issue(&mut world, library()).await;
        let library =
            issued.as_array().unwrap().iter().find(|card| card["template"] == "library-card").unwrap();
        assert_eq!(library["expires_at"], resident["expires_at"]);
        let held = world.ask("anna", "list", json!({})).await;
        let held =
            held.as_array().unwrap().iter().find(|card| text(card, "vct").contains("library")).unwrap();
        let shown = world.ask("anna", "show", json!({"card": held["card"]})).await;
        let last_day = day_of(library["expires_at"].as_u64().unwrap() - 1);
        assert_eq!(shown["claims"]["valid_until"], json!(last_day), "{shown}");
        let revoked = json!({"credential": resident["credential"], "reason": "moved"});
        let answer = world.ask("city", "revoke", revoked).await;
        assert_eq!(answer["issued_for_it"], json!([library["credential"]]));
    });
}

/// The example's city is two hours ahead of UTC in summer.
#[test]
fn days_of_cards_are_those_of_the_city() {
    play(async {
        const HOUR: u64 = 3600;
        let folder = own_city_folder();
        let mut world = world_with(21, folder.path()).await;
        let morning = START_MS / 1000;
        let night = morning - morning % (24 * HOUR) + 23 * HOUR + 1800;
        for (at, days) in [(morning, 0), (night, 1)] {
            world.clock().set(at * 1000);
            world.pump().await;
            let issued = issue(&mut world, resident()).await;
            let ends =
                issued.as_array().unwrap().iter().map(|card| card["expires_at"].as_u64().unwrap()).max();
            let today = at - at % (24 * HOUR) + days * 24 * HOUR;
            assert_eq!(
                ends,
                Some(today + 1096 * 24 * HOUR - 2 * HOUR),
                "1095 days after the day it was made"
            );
        }
    });
}

/// A moment in Unix seconds as a day.
fn day_of(seconds: u64) -> String {
    einmal_register::Date::from_unix_seconds(seconds).unwrap().to_string()
}

#[test]
fn template_that_cannot_be_read_is_named_and_not_left_out() {
    play(async {
        let folder = own_city_folder();
        let world = world_with(1, folder.path()).await;
        std::os::unix::fs::symlink("nowhere.toml", folder.path().join("templates/zz-gone.toml")).unwrap();
        let Err(failure) = world.node("city").by_name("reload", &json!({})).await else {
            panic!("it goes on without the template")
        };
        assert!(failure.to_string().contains("templates/zz-gone.toml"), "{failure}");
        world.ask("city", "offer", resident()).await;
    });
}

#[test]
fn city_is_called_in_invitations_what_it_is_configured_to_be_called() {
    play(async {
        let mut world = World::new(1);
        for (name, configured, shown) in
            [("city", "", "Stadt Wetzlar"), ("hall", "Rathaus am Dom", "Rathaus am Dom")]
        {
            let mut config = Config::new(Role::City);
            let city = config.city.as_mut().unwrap();
            city.description = city_folder().join("city.toml");
            city.display_name = configured.to_owned();
            world.add(name, config).await;
            let invitation = invitation_in(&world.ask(name, "invite", json!({})).await);
            assert_eq!(invitation.goal.as_deref(), Some(shown));
        }
    });
}

#[test]
fn offer_for_whoever_proves_something_cannot_be_sent_to_a_phone() {
    play(async {
        let mut world = World::new(1);
        world.add_city("city").await;
        let order = json!({"template": "library-card", "after": "library-signup", "direct": true});
        let Err(failure) = world.node("city").by_name("offer", &order).await else {
            panic!("it was sent to somebody")
        };
        assert!(failure.to_string().contains("leave out --direct"), "{failure}");
        let invited = world.ask("city", "offer", library()).await;
        assert!(invited["invitation"].is_string());
    });
}
