//! The fetching machine: happy path, pushes, refusals, and any order of events.

use einmal_didcomm::Body;
use serde_json::{Value, json};

use crate::{
    FlowError,
    limits::MAX_PICKUP_BATCH,
    message_pickup::*,
    testing::{NOW, Post, did, report, thread},
};

const A: &str = "did:example:a";
const M: &str = "did:example:m";

fn post(kind: &str, thid: Option<&str>, body: Value, ids: &[&str]) -> Post {
    let attachments: Vec<Value> =
        ids.iter().map(|id| json!({"id": id, "data": {"json": {"ciphertext": id}}})).collect();
    let mut message = json!({"id": "reply", "type": kind, "body": body, "attachments": attachments});
    if let Some(thid) = thid {
        message["thid"] = thid.into();
    }
    Post::new(M, A, message)
}

fn status(count: u64) -> Post {
    post(Status::TYPE, Some("t-1"), json!({ "message_count": count }), &[])
}

fn delivery(ids: &[&str]) -> Post {
    post(Delivery::TYPE, Some("t-1"), json!({}), ids)
}

fn give(machine: &mut Recipient, post: &Post) -> Result<Vec<Action>, FlowError> {
    machine.handle(Event::Message(&post.received()), NOW)
}

fn fetch(machine: &mut Recipient) -> Vec<Action> {
    machine.handle(Event::Fetch { thid: thread("t-1") }, NOW).unwrap()
}

fn durable(machine: &mut Recipient, ids: &[&str]) -> Vec<Action> {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    machine.handle(Event::Durable { ids }, NOW).unwrap()
}

fn machine() -> Recipient {
    Recipient::new(did(A), did(M))
}

fn asked() -> Recipient {
    let mut machine = machine();
    fetch(&mut machine);
    machine
}

fn storing(ids: &[&str]) -> Recipient {
    let mut machine = asked();
    give(&mut machine, &status(2)).unwrap();
    give(&mut machine, &delivery(ids)).unwrap();
    machine
}

fn sent(actions: &[Action]) -> (&str, Value) {
    let [Action::Send(draft)] = actions else { panic!("{actions:?}") };
    assert_eq!(draft.thid, Some(thread("t-1")));
    assert_eq!(draft.return_route, Some(einmal_didcomm::ReturnRoute::All));
    (&draft.kind, Value::Object(draft.body.clone()))
}

#[test]
fn queue_is_emptied_in_rounds_and_only_durable_messages_are_confirmed() {
    let mut machine = machine();
    assert_eq!(sent(&fetch(&mut machine)), (StatusRequest::TYPE, json!({})));
    let actions = give(&mut machine, &status(3)).unwrap();
    assert_eq!(sent(&actions), (DeliveryRequest::TYPE, json!({"limit": MAX_PICKUP_BATCH})));
    let actions = give(&mut machine, &delivery(&["1", "2"])).unwrap();
    let envelope = |id: &str| (id.to_owned(), json!({"ciphertext": id}).to_string().into_bytes());
    assert_eq!(actions.first(), Some(&Action::HandOver { messages: vec![envelope("1"), envelope("2")] }));
    assert_eq!(durable(&mut machine, &["1", "never delivered"]), []);
    let actions = durable(&mut machine, &["2"]);
    assert_eq!(sent(&actions), (MessagesReceived::TYPE, json!({"message_id_list": ["1", "2"]})));
    let actions = give(&mut machine, &status(1)).unwrap();
    assert_eq!(sent(&actions).0, DeliveryRequest::TYPE);
    give(&mut machine, &delivery(&["3"])).unwrap();
    durable(&mut machine, &["3"]);
    assert_eq!(give(&mut machine, &status(0)), Ok(vec![Action::Drained]));
    assert_eq!((machine.state(), machine.thread()), (State::Idle, None));
}

#[test]
fn empty_queue_ends_at_once_however_it_is_told() {
    let mut machine = asked();
    assert_eq!(give(&mut machine, &status(0)), Ok(vec![Action::Drained]));
    for empty in [status(0), status(2), delivery(&[])] {
        let mut machine = asked();
        give(&mut machine, &status(2)).unwrap();
        assert_eq!(give(&mut machine, &empty), Ok(vec![Action::Drained]));
    }
    let mut machine = asked();
    let without_thread = post(Status::TYPE, None, json!({"message_count": 0}), &[]);
    assert_eq!(give(&mut machine, &without_thread), Ok(vec![Action::Drained]));
}

#[test]
fn repeated_delivery_is_handed_over_again_and_confirmed_once() {
    let mut machine = storing(&["1"]);
    assert!(matches!(give(&mut machine, &delivery(&["1"])).unwrap().as_slice(), [Action::HandOver { .. }]));
    let actions = durable(&mut machine, &["1"]);
    assert_eq!(sent(&actions).1, json!({"message_id_list": ["1"]}));
    assert_eq!(durable(&mut machine, &["1"]), []);
}

#[test]
fn fewer_messages_are_asked_for_until_an_answer_can_be_read() {
    let mut machine = asked();
    give(&mut machine, &status(3)).unwrap();
    let unreadable = |machine: &mut Recipient| machine.handle(Event::Unreadable, NOW).unwrap();
    for limit in [25, 12, 6, 3, 1] {
        assert_eq!(sent(&unreadable(&mut machine)), (DeliveryRequest::TYPE, json!({"limit": limit})));
    }
    give(&mut machine, &delivery(&["1"])).unwrap();
    durable(&mut machine, &["1"]);
    assert_eq!(sent(&give(&mut machine, &status(2)).unwrap()).1, json!({"limit": 1}));
    assert_eq!(unreadable(&mut machine), [Action::Failed], "not even one alone");
    assert_eq!(machine.state(), State::Idle);
    fetch(&mut machine);
    assert_eq!(sent(&give(&mut machine, &status(3)).unwrap()).1, json!({"limit": MAX_PICKUP_BATCH}));
}

#[test]
fn a_message_without_usable_content_is_handed_over_empty_and_one_without_id_is_passed_over() {
    let mut machine = asked();
    give(&mut machine, &status(3)).unwrap();
    let attachments = json!([
        {"id": "1", "data": {"links": ["https://a.example"], "hash": "z"}},
        {"data": {"json": {}}},
        {"id": "3", "data": {"json": {}}},
    ]);
    let message =
        json!({"id": "reply", "type": Delivery::TYPE, "thid": "t-1", "body": {}, "attachments": attachments});
    let mixed = Post::new(M, A, message);
    let Some(Action::HandOver { messages }) = give(&mut machine, &mixed).unwrap().into_iter().next() else {
        panic!("nothing was handed over")
    };
    assert_eq!(messages[0], ("1".to_owned(), vec![]));
    assert_eq!(messages.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["1", "3"]);
}

#[test]
fn wrapped_pushes_are_handed_over_and_confirmed() {
    let mut machine = machine();
    let pushed = post(Delivery::TYPE, Some("push-1"), json!({}), &["9"]);
    assert!(matches!(give(&mut machine, &pushed).unwrap().first(), Some(Action::HandOver { .. })));
    let actions = durable(&mut machine, &["9"]);
    let Some(Action::Send(draft)) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(draft.body.get("message_id_list"), Some(&json!(["9"])));
    assert_eq!(draft.thid, Some(thread("push-1")));
}

#[test]
fn push_during_a_fetch_is_confirmed_with_its_next_round() {
    let mut machine = storing(&["1"]);
    durable(&mut machine, &["1"]);
    let pushed = post(Delivery::TYPE, Some("push-1"), json!({}), &["9"]);
    assert!(matches!(give(&mut machine, &pushed).unwrap().first(), Some(Action::HandOver { .. })));
    durable(&mut machine, &["9"]);
    give(&mut machine, &status(1)).unwrap();
    give(&mut machine, &delivery(&["2"])).unwrap();
    let actions = durable(&mut machine, &["2"]);
    assert_eq!(sent(&actions).1, json!({"message_id_list": ["9", "2"]}));
}

#[test]
fn live_mode_is_known_from_the_mediators_status_and_ends_with_the_connection() {
    let mut machine = machine();
    let actions = machine.handle(Event::SetLive { on: true, thid: thread("t-1") }, NOW).unwrap();
    assert_eq!(sent(&actions), (LiveDeliveryChange::TYPE, json!({"live_delivery": true})));
    assert!(!machine.is_live());
    let live = post(Status::TYPE, Some("t-1"), json!({"message_count": 4, "live_delivery": true}), &[]);
    assert_eq!(give(&mut machine, &live), Ok(vec![Action::Live(true)]));
    assert_eq!(give(&mut machine, &live), Ok(vec![]));
    assert_eq!(machine.handle(Event::Disconnected, NOW), Ok(vec![Action::Live(false)]));
    let refused = report(M, A, "t-1", "e.m.live-mode-not-supported");
    assert_eq!(give(&mut machine, &refused), Ok(vec![Action::Live(false)]));
}

#[test]
fn messages_from_elsewhere_or_out_of_bounds_are_refused_and_change_nothing() {
    let many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut nameless = delivery(&["1"]);
    nameless.message.attachments[0].id = None;
    let cases = [
        (status(1).by_stranger(), FlowError::WrongSender),
        (Post { recipient: did("did:example:x"), ..status(1) }, FlowError::WrongRecipient),
        (delivery(&many), FlowError::TooMany { what: "delivered messages", most: 100 }),
        (nameless, FlowError::InvalidContent { what: "attachments.id" }),
        (post(StatusRequest::TYPE, None, json!({}), &[]), FlowError::UnknownMessage),
        (report(M, A, "t-2", "e.p.req"), FlowError::WrongThread),
    ];
    for (post, error) in cases {
        let mut machine = asked();
        let before = machine.clone();
        assert_eq!(give(&mut machine, &post), Err(error));
        assert_eq!(machine, before);
    }
}

#[test]
fn status_of_another_thread_moves_nothing() {
    let mut machine = asked();
    assert_eq!(give(&mut machine, &status(3).in_thread("t-9")), Ok(vec![]));
    assert_eq!(machine.state(), State::StatusAsked);
}

#[test]
fn problem_report_ends_the_fetch() {
    let mut machine = asked();
    assert_eq!(give(&mut machine, &report(M, A, "t-1", "w.p.req")), Ok(vec![]));
    assert_eq!(give(&mut machine, &report(M, A, "t-1", "e.p.req.not_enroll")), Ok(vec![Action::Failed]));
    assert_eq!((machine.state(), machine.thread()), (State::Idle, None));
}

#[test]
fn what_waits_keeps_nothing_else_from_being_confirmed() {
    let mut machine = storing(&["1", "2"]);
    durable(&mut machine, &["2"]);
    let actions = machine.handle(Event::RestWaits, NOW).unwrap();
    assert_eq!(sent(&actions).1, json!({"message_id_list": ["2"]}));
    let confirming = machine.clone();
    assert_eq!(machine.handle(Event::RestWaits, NOW), Ok(vec![]), "nothing is awaited any more");
    assert_eq!(machine, confirming);
    let mut machine = storing(&["1"]);
    assert_eq!(machine.handle(Event::RestWaits, NOW), Ok(vec![Action::Failed]));
}

#[test]
fn fetch_during_a_fetch_does_nothing() {
    let mut machine = asked();
    let before = machine.clone();
    assert_eq!(fetch(&mut machine), []);
    assert_eq!(machine, before);
}

#[test]
fn debug_shows_no_envelope_and_no_did() {
    let actions = give(&mut asked(), &delivery(&["1"])).unwrap();
    assert!(!format!("{actions:?}").contains("ciphertext"));
    assert!(!format!("{:?}", machine()).contains("did:"));
}

mod properties {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Fetch,
        Durable(u8),
        Status(u64),
        Delivery(Vec<u8>),
        RestWaits,
        Unreadable,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Fetch),
            (0..6_u8).prop_map(Step::Durable),
            (0..3_u64).prop_map(Step::Status),
            prop::collection::vec(0..6_u8, 0..4).prop_map(Step::Delivery),
            Just(Step::RestWaits),
            Just(Step::Unreadable),
        ]
    }

    proptest! {
        /// In any order of events: only messages that were delivered and then reported durable are confirmed.
        #[test]
        fn nothing_is_confirmed_before_it_is_durable(steps in prop::collection::vec(step(), 0..60)) {
            let mut machine = machine();
            let (mut delivered, mut safe) = (HashSet::new(), HashSet::new());
            for step in steps {
                let actions = match step {
                    Step::Fetch => fetch(&mut machine),
                    Step::Durable(n) => {
                        let id = n.to_string();
                        if delivered.contains(&id) {
                            safe.insert(id.clone());
                        }
                        durable(&mut machine, &[&id])
                    }
                    Step::Status(count) => give(&mut machine, &status(count)).unwrap(),
                    Step::Delivery(ids) => {
                        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                        delivered.extend(ids.iter().cloned());
                        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                        give(&mut machine, &delivery(&ids)).unwrap()
                    }
                    Step::RestWaits => machine.handle(Event::RestWaits, NOW).unwrap(),
                    Step::Unreadable => machine.handle(Event::Unreadable, NOW).unwrap(),
                };
                for action in actions {
                    let Action::Send(draft) = action else { continue };
                    let confirmed = draft.body.get("message_id_list").and_then(Value::as_array).cloned();
                    for id in confirmed.unwrap_or_default() {
                        prop_assert!(safe.contains(id.as_str().unwrap()));
                    }
                }
            }
        }
    }
}
