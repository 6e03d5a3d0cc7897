//! The recipient's machine: happy paths, refusals, repetitions, and any order of events.

use einmal_didcomm::{Attachment, ProblemCode, ReturnRoute};
use serde_json::{Value, json};

use crate::{
    FlowError,
    coordinate_mediation::*,
    testing::{NOW, Post, did, report, thread},
};

const A: &str = "did:example:a";
const M: &str = "did:example:m";
const D: &str = "did:example:d";

fn post(message: &str, thid: &str, body: Value) -> Post {
    let kind = format!("https://didcomm.org/coordinate-mediation/3.0/{message}");
    Post::new(M, A, json!({"id": format!("r-{thid}"), "type": kind, "thid": thid, "body": body}))
}

fn grant() -> Post {
    post("mediate-grant", "t-ask", json!({"routing_did": M}))
}

fn response(thid: &str, action: &str, result: &str) -> Post {
    let updated = json!([{"recipient_did": D, "action": action, "result": result}]);
    post("recipient-update-response", thid, json!({ "updated": updated }))
}

fn ask() -> Event<'static> {
    Event::Ask { thid: thread("t-ask") }
}

fn register() -> Event<'static> {
    Event::Register { did: did(D), thid: thread("t-add"), proof: None }
}

fn unregister() -> Event<'static> {
    Event::Unregister { did: did(D), thid: thread("t-remove") }
}

fn give(machine: &mut Recipient, post: &Post) -> Result<Vec<Action>, FlowError> {
    machine.handle(Event::Message(&post.received()), NOW)
}

fn requested() -> Recipient {
    let mut machine = Recipient::new(did(A), did(M));
    machine.handle(ask(), NOW).unwrap();
    machine
}

fn granted() -> Recipient {
    let mut machine = requested();
    give(&mut machine, &grant()).unwrap();
    machine
}

fn registering() -> Recipient {
    let mut machine = granted();
    machine.handle(register(), NOW).unwrap();
    machine
}

fn registered() -> Recipient {
    let mut machine = registering();
    give(&mut machine, &response("t-add", "add", "success")).unwrap();
    machine
}

#[test]
fn account_is_asked_for_granted_and_used() {
    let mut machine = Recipient::new(did(A), did(M));
    assert_eq!(machine.state(), &State::None);
    let actions = machine.handle(ask(), NOW).unwrap();
    let [Action::Send(draft)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(draft.kind, "https://didcomm.org/coordinate-mediation/3.0/mediate-request");
    assert_eq!(draft.id.as_ref().map(|id| id.to_thread()), draft.thid);
    assert_eq!((draft.return_route, draft.body.len()), (Some(ReturnRoute::All), 0));
    let routing_dids = vec![did(M)];
    assert_eq!(
        give(&mut machine, &grant()),
        Ok(vec![Action::Granted { routing_dids: routing_dids.clone() }])
    );
    assert_eq!(machine.state(), &State::Granted { routing_dids });
    let actions = machine.handle(register(), NOW).unwrap();
    let Some(Action::Send(draft)) = actions.first() else { panic!("{actions:?}") };
    let expected = json!({"updates": [{"recipient_did": D, "action": "add"}]});
    assert_eq!(Value::Object(draft.body.clone()), expected);
    assert_eq!(machine.did_state(&did(D)), DidState::Registering);
    let done = give(&mut machine, &response("t-add", "add", "success")).unwrap();
    assert_eq!(done, [Action::Registered { did: did(D) }]);
    assert_eq!(machine.did_state(&did(D)), DidState::Registered);
}

#[test]
fn proof_is_attached_to_the_registration() {
    let mut machine = granted();
    let proof = Some(Box::new(Attachment::base64("ownership", b"x")));
    let actions = machine
        .handle(Event::Register { did: did(D), thid: thread("t-add"), proof: proof.clone() }, NOW)
        .unwrap();
    let Some(Action::Send(draft)) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(draft.attachments.first(), proof.as_deref());
}

#[test]
fn registration_is_removed_again() {
    let mut machine = registered();
    machine.handle(unregister(), NOW).unwrap();
    assert_eq!(machine.did_state(&did(D)), DidState::Removing);
    let done = give(&mut machine, &response("t-remove", "remove", "success")).unwrap();
    assert_eq!(done, [Action::Unregistered { did: did(D) }]);
    assert_eq!(machine.did_state(&did(D)), DidState::Unregistered);
    assert_eq!(machine.handle(unregister(), NOW), Ok(vec![Action::Unregistered { did: did(D) }]));
}

#[test]
fn refused_changes_leave_the_did_as_it_was() {
    let mut machine = registering();
    let refused = Some(UpdateResult::ClientError);
    let failed = give(&mut machine, &response("t-add", "add", "client_error")).unwrap();
    assert_eq!(failed, [Action::Failed { did: did(D), result: refused }]);
    assert_eq!(machine.did_state(&did(D)), DidState::Unregistered);
    let mut machine = registered();
    machine.handle(unregister(), NOW).unwrap();
    give(&mut machine, &response("t-remove", "remove", "server_error")).unwrap();
    assert_eq!(machine.did_state(&did(D)), DidState::Registered);
}

#[test]
fn denial_and_problem_report_end_the_request() {
    for answer in [post("mediate-deny", "t-ask", json!({})), report(M, A, "t-ask", "e.p.req")] {
        let mut machine = requested();
        assert_eq!(give(&mut machine, &answer), Ok(vec![Action::Denied]));
        assert_eq!(machine.state(), &State::Denied);
        // After a refusal one may ask again.
        assert!(machine.handle(ask(), NOW).is_ok());
    }
    let mut machine = registering();
    let failed = give(&mut machine, &report(M, A, "t-add", ProblemCode::STORAGE.as_str())).unwrap();
    assert_eq!(failed, [Action::Failed { did: did(D), result: None }]);
}

#[test]
fn repeated_answers_change_nothing() {
    let mut machine = registered();
    let before = machine.clone();
    assert_eq!(give(&mut machine, &grant()), Ok(vec![]));
    assert_eq!(give(&mut machine, &response("t-add", "add", "success")), Ok(vec![]));
    assert_eq!(machine, before);
}

#[test]
fn messages_from_elsewhere_or_out_of_turn_are_refused_and_change_nothing() {
    let kind = "https://didcomm.org/coordinate-mediation/3.0/mediate-deny";
    let cases = [
        (requested(), grant().by_stranger(), FlowError::WrongSender),
        (requested(), Post { recipient: did("did:example:x"), ..grant() }, FlowError::WrongRecipient),
        (requested(), grant().in_thread("t-2"), FlowError::WrongThread),
        (Recipient::new(did(A), did(M)), grant(), FlowError::WrongThread),
        (
            granted(),
            post("mediate-deny", "t-ask", json!({})),
            FlowError::Unexpected { message: kind, state: "granted" },
        ),
        (granted(), response("t-add", "add", "success"), FlowError::WrongThread),
        (granted(), report(M, A, "t-ask", "e.p.req"), FlowError::WrongThread),
        (requested(), post("mediate-request", "t-ask", json!({})), FlowError::UnknownMessage),
        (
            registering(),
            response("t-add", "remove", "success"),
            FlowError::InvalidContent { what: "updated" },
        ),
        (
            requested(),
            post("mediate-grant", "t-ask", json!({"routing_did": []})),
            FlowError::InvalidContent { what: "routing_did" },
        ),
        (
            requested(),
            post("mediate-grant", "t-ask", json!({"routing_did": "https://m.example"})),
            FlowError::InvalidContent { what: "routing_did" },
        ),
        (
            requested(),
            post("mediate-grant", "t-ask", json!({"routing_did": vec![M; 9]})),
            FlowError::TooMany { what: "routing DIDs", most: 8 },
        ),
    ];
    for (mut machine, post, error) in cases {
        let before = machine.clone();
        assert_eq!(give(&mut machine, &post), Err(error));
        assert_eq!(machine, before);
    }
}

#[test]
fn events_out_of_turn_are_refused() {
    let unexpected = |message, state| Err(FlowError::Unexpected { message, state });
    assert_eq!(requested().handle(ask(), NOW), unexpected("Ask", "requested"));
    assert_eq!(requested().handle(register(), NOW), unexpected("Register", "requested"));
    assert_eq!(registering().handle(register(), NOW), unexpected("Register", "registering or removing"));
    assert_eq!(registering().handle(unregister(), NOW), unexpected("Unregister", "registering or removing"));
    assert_eq!(registered().handle(register(), NOW), Ok(vec![Action::Registered { did: did(D) }]));
}

fn list(dids: &[&str], page: Option<Value>) -> Post {
    let dids: Vec<Value> = dids.iter().map(|did| json!({"recipient_did": did})).collect();
    let body = page.map_or(json!({ "dids": dids }), |page| json!({"dids": dids, "pagination": page}));
    post("recipient", "t-list", body)
}

fn compare(ours: &[&str]) -> Event<'static> {
    Event::Compare { ours: ours.iter().map(|text| did(text)).collect(), thid: thread("t-list") }
}

#[test]
fn what_the_mediator_does_not_list_is_missing_whatever_page_it_would_be_on() {
    let mut machine = granted();
    let [first, second, third] = ["did:example:1", "did:example:2", "did:example:3"];
    let actions = machine.handle(compare(&[first, second, third]), NOW).unwrap();
    let [Action::Send(draft)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(draft.kind, "https://didcomm.org/coordinate-mediation/3.0/recipient-query");
    assert_eq!(Value::Object(draft.body.clone()), json!({"paginate": {"limit": 100, "offset": 0}}));
    let page = json!({"count": 2, "offset": 0, "remaining": 1});
    let actions = give(&mut machine, &list(&["did:example:x", third], Some(page))).unwrap();
    let [Action::Send(draft)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(Value::Object(draft.body.clone()), json!({"paginate": {"limit": 100, "offset": 2}}));
    assert!(draft.id.is_none() && draft.thid == Some(thread("t-list")));
    let page = json!({"count": 1, "offset": 2, "remaining": 0});
    let missing = give(&mut machine, &list(&[first], Some(page))).unwrap();
    assert_eq!(missing, [Action::Missing { dids: vec![did(second)] }]);
    assert_eq!(give(&mut machine, &list(&[], None)), Err(FlowError::WrongThread), "it is over");
}

#[test]
fn a_list_without_pages_is_whole_and_one_without_end_is_not_followed() {
    let mut machine = granted();
    machine.handle(compare(&[D]), NOW).unwrap();
    assert_eq!(give(&mut machine, &list(&[], None)), Ok(vec![Action::Missing { dids: vec![did(D)] }]));
    machine.handle(compare(&[D]), NOW).unwrap();
    let endless = list(&["did:example:x"], Some(json!({"count": 1, "offset": 0, "remaining": 9})));
    let mut pages = 1;
    while !matches!(give(&mut machine, &endless).unwrap().as_slice(), [Action::Missing { .. }]) {
        pages += 1;
        assert!(pages <= comparing::MAX_PAGES);
    }
    machine.handle(compare(&[D]), NOW).unwrap();
    let empty = list(&[], Some(json!({"count": 0, "offset": 0, "remaining": 9})));
    assert!(matches!(give(&mut machine, &empty).unwrap().as_slice(), [Action::Missing { .. }]));
}

#[test]
fn a_comparison_that_is_refused_ends_and_says_nothing_is_missing() {
    let mut machine = granted();
    machine.handle(compare(&[D]), NOW).unwrap();
    let refused = give(&mut machine, &report(M, A, "t-list", "e.p.msg.unsupported"));
    assert_eq!(refused, Ok(vec![Action::NotCompared]));
    assert_eq!(requested().handle(compare(&[D]), NOW).unwrap_err().to_string(), {
        let unexpected = FlowError::Unexpected { message: "Compare", state: "requested" };
        unexpected.to_string()
    });
}

#[test]
fn an_account_the_mediator_has_forgotten_is_asked_for_anew_and_nothing_is_registered() {
    let forgotten = || Event::Forgotten { thid: thread("t-ask") };
    let mut machine = registered();
    let actions = machine.handle(forgotten(), NOW).unwrap();
    let Some(Action::Send(draft)) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(draft.kind, "https://didcomm.org/coordinate-mediation/3.0/mediate-request");
    assert_eq!((machine.state(), machine.did_state(&did(D))), (&State::Requested, DidState::Unregistered));
    assert_eq!(give(&mut machine, &grant()), Ok(vec![Action::Granted { routing_dids: vec![did(M)] }]));
    assert!(machine.handle(register(), NOW).is_ok());
    let unexpected = FlowError::Unexpected { message: "Forgotten", state: "requested" };
    assert_eq!(requested().handle(forgotten(), NOW), Err(unexpected));
}

#[test]
fn debug_names_no_did() {
    assert!(!format!("{:?}", registered()).contains("did:example"));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Ask,
        Register,
        Unregister,
        Post(usize),
    }

    fn posts() -> Vec<Post> {
        let mut posts = vec![
            grant(),
            post("mediate-deny", "t-ask", json!({})),
            response("t-add", "add", "success"),
            response("t-add", "add", "client_error"),
            response("t-remove", "remove", "success"),
            report(M, A, "t-add", "e.p.req"),
        ];
        let strangers: Vec<Post> = posts.iter().map(Post::by_stranger).collect();
        posts.extend(strangers);
        posts
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Ask),
            Just(Step::Register),
            Just(Step::Unregister),
            (0..12_usize).prop_map(Step::Post),
        ]
    }

    proptest! {
        /// In any order of events: refusals change nothing, and nothing is registered without a grant and an answer from
        /// the mediator.
        #[test]
        fn nothing_is_registered_without_the_mediators_word(steps in prop::collection::vec(step(), 0..40)) {
            let mut machine = Recipient::new(did(A), did(M));
            let posts = posts();
            let (mut granted, mut added) = (false, false);
            for step in steps {
                let before = machine.clone();
                let result = match step {
                    Step::Ask => machine.handle(ask(), NOW),
                    Step::Register => machine.handle(register(), NOW),
                    Step::Unregister => machine.handle(unregister(), NOW),
                    Step::Post(n) => {
                        let result = give(&mut machine, &posts[n]);
                        granted |= n == 0 && result.is_ok();
                        added |= n == 2 && result.is_ok();
                        prop_assert!(n < 6 || result.is_err());
                        result
                    }
                };
                if result.is_err() {
                    prop_assert_eq!(&machine, &before);
                }
                let has_account = matches!(machine.state(), State::Granted { .. });
                prop_assert!(!has_account || granted);
                prop_assert!(machine.did_state(&did(D)) != DidState::Registered || added);
            }
        }
    }
}
