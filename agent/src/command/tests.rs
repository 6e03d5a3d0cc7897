//! Every command there and back, and inputs that are none.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;

/// Each command with all that it can be told.
fn all() -> Vec<Command> {
    let (person, some) = (|| "W-1".to_owned(), || Some("W-1".to_owned()));
    let (thread, card) = (|| Thread { thread: "t".into() }, || Card { card: "c".into() });
    vec![
        CommonCommand::Status(Nothing {}).into(),
        CommonCommand::Doctor(Nothing {}).into(),
        CommonCommand::Send(SendText { to: person(), text: "hello".into(), all: true }).into(),
        CommonCommand::Inbox(Nothing {}).into(),
        CommonCommand::Invite(Invite { person: some() }).into(),
        CommonCommand::Invite(Invite::default()).into(),
        CityCommand::Offer(Offer { template: "x".into(), person: some(), direct: true, ..Offer::default() })
            .into(),
        CityCommand::Offer(Offer {
            template: "x".into(),
            after: some(),
            valid_for: Some(60),
            ..Offer::default()
        })
        .into(),
        CityCommand::Revoke(Revoke { credential: "c".into(), reason: "moved".into() }).into(),
        CityCommand::Devices(Person { person: person() }).into(),
        CityCommand::Unbind(Unbind { person: person(), device: some() }).into(),
        CityCommand::Withdraw(thread()).into(),
        CityCommand::Reload(Nothing {}).into(),
        CityCommand::Offers(OfPerson { person: some() }).into(),
        CityCommand::Issued(OfPerson { person: some() }).into(),
        CityCommand::Register(Nothing {}).into(),
        MerchantCommand::Request(Template { template: "x".into() }).into(),
        MerchantCommand::Result(thread()).into(),
        MediatorCommand::Accounts(Nothing {}).into(),
        MediatorCommand::Queues(Nothing {}).into(),
        MediatorCommand::Drop(DropId { id: "i".into() }).into(),
        MediatorCommand::Limits(Nothing {}).into(),
        CitizenCommand::Accept(Accept { url: "https://x.example".into(), yes: true, mediator: true }).into(),
        CitizenCommand::Progress(thread()).into(),
        CitizenCommand::Decide(Decide { thread: "t".into(), agree: true, shown: some() }).into(),
        CitizenCommand::Pending(Nothing {}).into(),
        CitizenCommand::List(Nothing {}).into(),
        CitizenCommand::Show(card()).into(),
        CitizenCommand::Export(card()).into(),
        CitizenCommand::Forget(card()).into(),
        CitizenCommand::Mailbox(Nothing {}).into(),
        CitizenCommand::Rotate(PeerName { peer: "did:web:x.example".into() }).into(),
        CitizenCommand::Peers(Nothing {}).into(),
    ]
}

fn refused(name: &str, input: Value) -> String {
    Command::read(name, &input).unwrap_err().to_string()
}

#[test]
fn every_command_comes_back_as_it_was_written() {
    let names = [
        CommonCommand::NAMES,
        CityCommand::NAMES,
        MerchantCommand::NAMES,
        MediatorCommand::NAMES,
        CitizenCommand::NAMES,
    ]
    .concat();
    let tried: BTreeSet<&str> = all().iter().map(Command::name).collect();
    assert_eq!(tried, names.iter().copied().collect(), "a command has no example here");
    assert_eq!(names.len(), tried.len(), "two commands have one name");
    for command in all() {
        let written = serde_json::to_value(&command).unwrap();
        let read = Command::read(written["command"].as_str().unwrap(), &written["input"]).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), written);
        assert_eq!((read.name(), written.as_object().unwrap().len()), (command.name(), 2));
    }
}

#[test]
fn form_on_the_wire_is_a_name_and_an_object() {
    let decide = Decide { thread: "t".into(), agree: false, shown: None };
    assert_eq!(
        serde_json::to_value(Command::from(CitizenCommand::Decide(decide))).unwrap(),
        json!({"command": "decide", "input": {"thread": "t", "agree": false, "shown": null}})
    );
    let status = Command::from(CommonCommand::Status(Nothing {}));
    assert_eq!(serde_json::to_value(status).unwrap(), json!({"command": "status", "input": {}}));
}

#[test]
fn members_that_may_be_left_out_may_be_null_and_no_input_is_an_empty_one() {
    for input in [json!(null), json!({}), json!({"person": null})] {
        let read = Command::read("invite", &input).unwrap();
        assert!(matches!(read, Command::Common(CommonCommand::Invite(Invite { person: None }))));
    }
    assert!(Command::read("status", &json!(null)).is_ok());
}

#[test]
fn member_of_another_type_is_refused_and_named() {
    for (name, input, said) in [
        ("invite", json!({"person": 7}), "`person`: invalid type: integer `7`, expected a string"),
        ("issued", json!({"person": ["W-1"]}), "`person`: invalid type: sequence, expected a string"),
        ("offer", json!({"template": "x", "valid_for": "60"}), "`valid_for`: invalid type: string"),
        ("offer", json!({"template": "x", "valid_for": -1}), "`valid_for`: invalid value: integer `-1`"),
        ("offer", json!({"direct": "yes", "template": "x"}), "`direct`: invalid type: string"),
        ("send", json!({"to": "W-1", "text": "x", "all": 1}), "`all`: invalid type: integer `1`"),
        ("decide", json!({"thread": "t", "agree": "true"}), "`agree`: invalid type: string \"true\""),
        ("status", json!(["x"]), "it is no object"),
        ("drop", json!("x"), "it is no object"),
    ] {
        let problem = refused(name, input);
        assert!(problem.contains(said), "{problem}");
        assert!(problem.contains(&format!("`{name}` was not done")) && problem.contains("einmal --help"));
    }
}

#[test]
fn member_that_a_command_does_not_take_is_refused_and_named() {
    for command in all() {
        let mut input = serde_json::to_value(&command).unwrap()["input"].take();
        input["devise"] = json!("d");
        let said = refused(command.name(), input);
        assert!(said.contains("unknown field `devise`"), "{said}");
    }
    let said = refused("unbind", json!({"person": "W-1", "devise": "d"}));
    assert!(said.contains("expected `person` or `device`"), "{said}");
    assert!(refused("issued", json!({"Person": "W-1"})).contains("unknown field `Person`"));
}

#[test]
fn member_that_is_missing_is_named_and_nobody_decides_by_saying_nothing() {
    assert!(refused("send", json!({"to": "W-1"})).contains("missing field `text`"));
    assert!(refused("drop", json!({"id": null})).contains("`id`: invalid type: null"));
    assert!(refused("decide", json!({"thread": "t"})).contains("missing field `agree`"));
}

#[test]
fn name_that_no_role_knows_is_told() {
    assert_eq!(refused("Status", json!({})), "there is no command `Status`; see: einmal --help");
}

#[test]
fn what_a_command_says_is_not_printed() {
    for command in all() {
        let printed = format!("{command:?}");
        assert!(!printed.contains("W-1") && printed.ends_with(" { .. }))"), "{printed}");
    }
}
