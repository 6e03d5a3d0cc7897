//! Commands whose input is not what they take: refused by the member at fault, and nothing is done.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use einmal::{
    db::{Db, INVITATIONS},
    node::Failure,
};
use einmal_storage::TenantId;
use einmal_tests::{ADULT, ByName, World, lone_city, play};
use serde_json::{Value, json};

/// What a node says to a command it refuses.
async fn refused(world: &World, name: &str, command: &str, input: Value) -> String {
    match world.node(name).by_name(command, &input).await {
        Err(Failure::User { problem }) => problem,
        other => panic!("{name} was not to do `{command}`: {other:?}"),
    }
}

/// How many invitations a node keeps.
fn invitations(world: &World, name: &str) -> u64 {
    Db::new(world.store(name), TenantId::default()).count(INVITATIONS).unwrap()
}

#[test]
fn a_person_that_is_no_text_makes_no_invitation_for_anybody() {
    play(async {
        let (world, ..) = lone_city().await;
        let before = invitations(&world, "city");
        for person in [json!(7), json!(true), json!([ADULT]), json!({"id": ADULT})] {
            let said = refused(&world, "city", "invite", json!({"person": person})).await;
            assert!(said.contains("`person`") && said.contains("expected a string"), "{said}");
            assert!(said.contains("einmal --help"), "{said}");
        }
        assert_eq!(invitations(&world, "city"), before);
        world.ask("city", "invite", json!({"person": ADULT})).await;
        world.ask("city", "invite", json!({"person": null})).await;
        assert_eq!(invitations(&world, "city"), before + 2);
    });
}

#[test]
fn a_life_that_is_no_number_makes_no_card_of_the_full_one() {
    play(async {
        let (world, ..) = lone_city().await;
        for valid_for in [json!("60"), json!(60.5), json!(-60)] {
            let order = json!({"template": "resident-card", "person": ADULT, "valid_for": valid_for});
            let said = refused(&world, "city", "offer", order).await;
            assert!(said.contains("`valid_for`"), "{said}");
        }
        assert_eq!(invitations(&world, "city"), 0);
        let order = json!({"template": "resident-card", "person": ADULT, "valid_for": 60});
        world.ask("city", "offer", order).await;
        assert_eq!(invitations(&world, "city"), 1);
    });
}

#[test]
fn an_agreement_that_is_no_truth_value_is_refused_and_decides_nothing() {
    play(async {
        let mut world = World::with_everybody(1).await;
        let order = json!({"template": "resident-card", "person": ADULT});
        let offer = world.ask("city", "offer", order).await;
        let begun = world.ask("anna", "accept", json!({"url": offer["invitation"]})).await;
        world.pump().await;
        let thread = json!({"thread": begun["thread"]});
        let waiting = world.ask("anna", "progress", thread.clone()).await;
        let shown = &waiting["decide"]["shown"];
        for agree in [json!("true"), json!(1), json!(null)] {
            let input = json!({"thread": begun["thread"], "agree": agree, "shown": shown});
            let said = refused(&world, "anna", "decide", input).await;
            assert!(said.contains("`agree`") && said.contains("expected a boolean"), "{said}");
        }
        let said = refused(&world, "anna", "decide", thread.clone()).await;
        assert!(said.contains("missing field `agree`"), "{said}");
        world.pump().await;
        assert_eq!(world.ask("anna", "progress", thread.clone()).await, waiting);
        world.ask("anna", "decide", json!({"thread": begun["thread"], "agree": true, "shown": shown})).await;
        world.pump().await;
        assert_eq!(world.ask("anna", "progress", thread).await["state"], "done");
    });
}

#[test]
fn an_unknown_member_of_the_input_is_refused_and_named() {
    play(async {
        let (world, ..) = lone_city().await;
        let said = refused(&world, "city", "invite", json!({"persons": ADULT})).await;
        assert!(said.contains("unknown field `persons`, expected `person`"), "{said}");
        let said = refused(&world, "city", "unbind", json!({"person": ADULT, "devices": "d"})).await;
        assert!(said.contains("unknown field `devices`"), "{said}");
        assert_eq!(invitations(&world, "city"), 0);
    });
}

#[test]
fn a_command_of_another_role_is_refused_and_so_is_one_of_none() {
    play(async {
        let world = World::with_everybody(1).await;
        for (name, role, command, input) in [
            ("city", "city", "request", json!({"template": "cafe-over-16"})),
            ("library", "merchant", "offer", json!({"template": "resident-card"})),
            ("mediator", "mediator", "list", json!({})),
            ("anna", "citizen", "queues", json!({})),
        ] {
            let said = refused(&world, name, command, input).await;
            assert_eq!(said, format!("a {role} has no command `{command}`; see: einmal --help"));
            let said = refused(&world, name, "ofer", json!({})).await;
            assert_eq!(said, "there is no command `ofer`; see: einmal --help");
        }
        for name in ["library", "mediator"] {
            let said = refused(&world, name, "invite", json!({"person": ADULT})).await;
            assert!(said.contains("leave out --person"), "{said}");
        }
        let said = refused(&world, "anna", "invite", json!({})).await;
        assert!(said.contains("take an invitation instead"), "{said}");
    });
}
