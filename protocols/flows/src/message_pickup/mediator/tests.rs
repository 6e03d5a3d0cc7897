//! Requests read, refused and answered.

use einmal_didcomm::{MessageError, ProblemCode};
use einmal_keys::SystemEntropy;
use serde_json::{Value, json};

use super::*;
use crate::{
    coordinate_mediation::{MediationVersion, Registration, Unavailable},
    limits::MAX_QUEUED_PAYLOAD_BYTES,
    testing::{NOW, Post, did, thread},
};

const A: &str = "did:example:a";
const M: &str = "did:example:m";

fn request(message: &str, body: Value) -> Post {
    let kind = format!("https://didcomm.org/messagepickup/3.0/{message}");
    Post::new(A, M, json!({"id": "q-1", "type": kind, "body": body, "return_route": "all"}))
}

fn read(message: &str, body: Value) -> Result<PickupRequest, FlowError> {
    PickupRequest::read(&request(message, body).received(), NOW)
}

fn status() -> QueueStatus {
    QueueStatus { count: 2, bytes: 40, oldest_ms: Some(900_000), newest_ms: Some(990_000), live: false }
}

fn queue(count: usize) -> Vec<(String, Vec<u8>)> {
    (0..count).map(|n| (format!("m{n}"), format!(r#"{{"ciphertext":"{n}"}}"#).into_bytes())).collect()
}

#[test]
fn requests_are_read() {
    let recipient = Some(did("did:example:d"));
    assert_eq!(read("status-request", json!({})), Ok(PickupRequest::Status { recipient: None }));
    assert_eq!(
        read("status-request", json!({"recipient_did": "did:example:d"})),
        Ok(PickupRequest::Status { recipient: recipient.clone() })
    );
    let asked = read("delivery-request", json!({"recipient_did": "did:example:d", "limit": 3}));
    assert_eq!(asked, Ok(PickupRequest::Delivery { recipient, limit: 3 }));
    let all = read("delivery-request", json!({"limit": u64::MAX}));
    assert_eq!(all, Ok(PickupRequest::Delivery { recipient: None, limit: MAX_DELIVERY_BATCH }));
    let ids = vec!["a".to_owned()];
    assert_eq!(
        read("messages-received", json!({"message_id_list": ["a"]})),
        Ok(PickupRequest::Received { ids })
    );
    let live = read("live-delivery-change", json!({"live_delivery": "true"}));
    assert_eq!(live, Ok(PickupRequest::LiveDelivery { on: true }));
}

#[test]
fn malformed_overlong_late_and_foreign_requests_are_refused() {
    let cases = [
        (
            read("status-request", json!({"recipient_did": "x"})),
            FlowError::InvalidContent { what: "recipient_did" },
        ),
        (
            read("delivery-request", json!({})),
            FlowError::Malformed(MessageError::InvalidBody { kind: DeliveryRequest::TYPE }),
        ),
        (
            read("messages-received", json!({"message_id_list": vec!["a"; MAX_CONFIRMED_IDS + 1]})),
            FlowError::TooMany { what: "message ids", most: MAX_CONFIRMED_IDS },
        ),
        (
            read("messages-received", json!({"message_id_list": ["a".repeat(MAX_QUEUE_ID_LEN + 1)]})),
            FlowError::InvalidContent { what: "message_id_list" },
        ),
        (read("status", json!({"message_count": 1})), FlowError::UnknownMessage),
    ];
    for (result, error) in cases {
        assert_eq!(result, Err(error));
    }
    let late = PickupRequest::read(&request("status-request", json!({})).received(), NOW);
    assert!(late.is_ok());
    let mut late = request("status-request", json!({}));
    late.message.expires_time = Some(NOW);
    assert_eq!(PickupRequest::read(&late.received(), NOW), Err(FlowError::Expired));
}

struct Table {
    broken: bool,
}

impl Registrations for Table {
    fn is_account(&self, account: &Did) -> Result<bool, Unavailable> {
        Ok(account.as_str() == A)
    }

    fn owner(&self, recipient: &Did) -> Result<Option<Registration>, Unavailable> {
        if self.broken {
            return Err(Unavailable);
        }
        let account = match recipient.as_str() {
            "did:example:mine" => A,
            "did:example:theirs" => "did:example:b",
            _ => return Ok(None),
        };
        Ok(Some(Registration { account: did(account), proved: true }))
    }

    fn list(&self, _: &Did, _: usize, _: usize) -> Result<Vec<Did>, Unavailable> {
        Err(Unavailable)
    }

    fn count(&self, _: &Did) -> Result<usize, Unavailable> {
        Err(Unavailable)
    }
}

#[test]
fn only_the_owner_of_a_queue_may_ask_about_it() {
    let table = Table { broken: false };
    let ask = |post: &Post| {
        let received = post.received();
        PickupRequest::read(&received, NOW).unwrap().authorise(&received, &table)
    };
    for (recipient, expected) in [
        ("did:example:mine", Ok(())),
        ("did:example:theirs", Err(FlowError::NotEnrolled)),
        ("did:example:nobodys", Err(FlowError::NotEnrolled)),
    ] {
        assert_eq!(ask(&request("status-request", json!({"recipient_did": recipient}))), expected);
        assert_eq!(
            ask(&request("delivery-request", json!({"recipient_did": recipient, "limit": 1}))),
            expected
        );
    }
    assert_eq!(ask(&request("status-request", json!({}))), Ok(()));
    for message in ["status-request", "live-delivery-change", "messages-received"] {
        let body = json!({"live_delivery": true, "message_id_list": []});
        let stranger = ask(&request(message, body).by_stranger()).unwrap_err();
        assert_eq!(ProblemCode::from(&stranger), ProblemCode::NOT_ENROLLED, "{message}");
    }
    let broken = Table { broken: true };
    let post = request("status-request", json!({"recipient_did": "did:example:mine"}));
    let received = post.received();
    let refused = PickupRequest::read(&received, NOW).unwrap().authorise(&received, &broken);
    assert_eq!(refused, Err(FlowError::Unavailable));
}

#[test]
fn status_has_exactly_the_members_it_needs() {
    let post = request("status-request", json!({"recipient_did": "did:example:d"}));
    let draft = status_reply(&post.received(), &status(), NOW);
    let expected = json!({"recipient_did": "did:example:d", "message_count": 2, "longest_waited_seconds": 100,
        "newest_received_time": 990, "oldest_received_time": 900, "total_bytes": 40, "live_delivery": false});
    assert_eq!((Value::Object(draft.body), draft.thid), (expected, Some(thread("q-1"))));
    let empty = status_reply(&request("status-request", json!({})).received(), &QueueStatus::default(), NOW);
    let expected = json!({"message_count": 0, "total_bytes": 0, "live_delivery": false});
    assert_eq!(Value::Object(empty.body), expected);
}

#[test]
fn delivery_carries_json_under_stable_ids() {
    let post = request("delivery-request", json!({"limit": 5}));
    let draft = delivery_reply(&post.received(), &queue(2), &status(), AttachedAs::Json, NOW);
    let message = Post::of(&draft, M, A).message.to_value();
    assert_eq!(message["type"], json!(Delivery::TYPE));
    assert_eq!(message["body"], json!({}));
    assert_eq!(message["thid"], json!("q-1"));
    let expected = json!([{"id": "m0", "data": {"json": {"ciphertext": "0"}}},
        {"id": "m1", "data": {"json": {"ciphertext": "1"}}}]);
    assert_eq!(message["attachments"], expected);
    let binary = [("b".to_owned(), vec![0xff, 0xfe])];
    let draft = delivery_reply(&post.received(), &binary, &status(), AttachedAs::Json, NOW);
    assert_eq!(draft.attachments[0].data.base64.as_deref(), Some("__4"));
}

#[test]
fn the_form_of_a_delivery_follows_the_wallet_and_both_say_the_same() {
    let post = request("delivery-request", json!({"limit": 5}));
    let of = |form| delivery_reply(&post.received(), &queue(1), &status(), form, NOW).attachments.remove(0);
    let (json, base64) = (of(AttachedAs::Json), of(AttachedAs::Base64));
    assert!(json.data.base64.is_none() && base64.data.base64.is_some());
    assert_eq!(json.bytes().unwrap(), base64.bytes().unwrap());
    assert_eq!(AttachedAs::first_for(Some(MediationVersion::V2)), AttachedAs::Base64);
    assert_eq!(AttachedAs::first_for(Some(MediationVersion::V3)), AttachedAs::Json);
    assert_eq!(AttachedAs::first_for(None), AttachedAs::Json);
}

#[test]
fn letter_that_a_strict_reader_refuses_does_not_spoil_the_delivery_it_lies_in() {
    let deep = [r#"{"a":"#.repeat(200), "1".into(), "}".repeat(200)].concat();
    let letters = [r#"{"a":1,"a":2}"#.to_owned(), deep, "{} {}".into(), r#" {"ciphertext":"x"} "#.into()];
    let queue = letters.map(|letter| ("x".to_owned(), letter.into_bytes()));
    let post = request("delivery-request", json!({"limit": 9}));
    let draft = delivery_reply(&post.received(), &queue, &status(), AttachedAs::Json, NOW);
    let bytes = Post::of(&draft, M, A).message.to_bytes();
    let read = einmal_didcomm::Message::from_bytes(&bytes).unwrap();
    let as_json: Vec<_> = read.attachments.iter().map(|one| one.data.json.is_some()).collect();
    assert_eq!(as_json, [false, false, false, true]);
    for (attachment, (_, letter)) in read.attachments.iter().zip(&queue).take(3) {
        assert_eq!(&attachment.bytes().unwrap(), letter);
    }
}

#[test]
fn recipient_did_is_echoed_only_if_asked() {
    let asked = request("delivery-request", json!({"limit": 1, "recipient_did": "did:example:d"}));
    let draft = delivery_reply(&asked.received(), &queue(1), &status(), AttachedAs::Json, NOW);
    assert_eq!(Value::Object(draft.body), json!({"recipient_did": "did:example:d"}));
}

#[test]
fn empty_queue_and_limit_zero_are_answered_by_status() {
    let one = request("delivery-request", json!({"limit": 1}));
    let draft = delivery_reply(&one.received(), &[], &QueueStatus::default(), AttachedAs::Json, NOW);
    assert_eq!((&*draft.kind, &draft.body["message_count"]), (Status::TYPE, &json!(0)));
    let zero = request("delivery-request", json!({"limit": 0}));
    let draft = delivery_reply(&zero.received(), &queue(2), &status(), AttachedAs::Json, NOW);
    assert_eq!((&*draft.kind, &draft.body["message_count"]), (Status::TYPE, &json!(2)));
}

#[test]
fn delivery_is_bounded_by_the_limit_by_our_batch_and_by_bytes() {
    let count = |limit: u64, queue: &[(String, Vec<u8>)]| {
        let post = request("delivery-request", json!({ "limit": limit }));
        delivery_reply(&post.received(), queue, &status(), AttachedAs::Json, NOW).attachments.len()
    };
    assert_eq!(count(1, &queue(3)), 1);
    assert_eq!(count(100, &queue(3)), 3);
    assert_eq!(count(u64::MAX, &queue(MAX_DELIVERY_BATCH + 5)), MAX_DELIVERY_BATCH);
    let object = |len: usize| ("x".to_owned(), format!("{{{}}}", " ".repeat(len - 2)).into_bytes());
    assert_eq!(count(9, &[object(MAX_DELIVERY_BYTES - 2), object(2), object(2)]), 2);
    assert_eq!(count(9, &[object(MAX_DELIVERY_BYTES + 1), object(2)]), 1);
}

#[test]
fn what_is_delivered_as_base64_counts_as_long_as_it_is_written() {
    let large = |len: usize| ("x".to_owned(), vec![b'x'; len]);
    let count = |queue: &[(String, Vec<u8>)]| {
        let [of_3, of_4] = [
            request("delivery-request", json!({"limit": 9})),
            request_4("delivery-request", json!({"limit": 9})),
        ];
        [of_3, of_4].map(|post| {
            delivery_reply(&post.received(), queue, &status(), AttachedAs::Json, NOW).attachments.len()
        })
    };
    assert_eq!(count(&[large(MAX_QUEUED_PAYLOAD_BYTES - 3), large(2), large(1)]), [2, 2]);
    assert_eq!(count(&[large(MAX_QUEUED_PAYLOAD_BYTES - 2), large(2)]), [1, 1]);
}

#[test]
fn what_a_delivery_carries_as_json_is_taken_by_a_strict_reader() {
    let of = |objects: usize| {
        (objects.to_string(), format!(r#"{{"a":[{}]}}"#, vec!["{}"; objects - 1].join(",")).into_bytes())
    };
    let post = request("delivery-request", json!({"limit": 100}));
    let deliver = |queue: &[(String, Vec<u8>)]| {
        delivery_reply(&post.received(), queue, &status(), AttachedAs::Json, NOW)
    };
    let lone = deliver(&[of(MAX_CARRIED_OBJECTS), of(MAX_CARRIED_OBJECTS + 1), of(5_000)]).attachments;
    let as_json: Vec<bool> = lone.iter().map(|one| one.data.carried.is_some()).collect();
    assert_eq!(as_json, [true, false, false]);
    let many: Vec<_> = (0..100).map(|_| of(200)).collect();
    let draft = deliver(&many);
    assert_eq!(draft.attachments.len(), MAX_DELIVERY_OBJECTS / 200);
    let text = serde_json::to_vec(&draft.attachments).unwrap();
    assert!(einmal_did::parse_strict_json(&text, text.len()).is_ok());
}

#[test]
fn the_largest_queued_payload_fits_into_a_delivery_however_it_is_written() {
    for payload in [
        vec![b'['; MAX_QUEUED_PAYLOAD_BYTES],
        format!("{{{}}}", " ".repeat(MAX_QUEUED_PAYLOAD_BYTES - 2)).into_bytes(),
    ] {
        for post in [
            request("delivery-request", json!({"limit": 1})),
            request_4("delivery-request", json!({"limit": 1})),
        ] {
            let draft = delivery_reply(
                &post.received(),
                &[("x".to_owned(), payload.clone())],
                &status(),
                AttachedAs::Json,
                NOW,
            );
            let data = &draft.attachments[0].data;
            let written = data.base64.as_ref().map_or(payload.len(), String::len);
            assert!(written <= MAX_DELIVERY_BYTES);
            // The encrypted text, plus the room for names and keys.
            assert!(written.div_ceil(3) * 4 + 64 * 1024 <= einmal_didcomm::limits::MAX_ENVELOPE_BYTES);
        }
    }
}

#[test]
fn live_mode_needs_a_connection_that_stays_open() {
    let on = request("live-delivery-change", json!({"live_delivery": true}));
    let refused = live_reply(&on.received(), true, false, &status(), NOW).unwrap_err();
    assert_eq!(ProblemCode::from(&refused), ProblemCode::LIVE_MODE);
    let draft = live_reply(&on.received(), true, true, &status(), NOW).unwrap();
    assert_eq!((&*draft.kind, &draft.body["live_delivery"]), (Status::TYPE, &json!(true)));
    let off = live_reply(&on.received(), false, false, &status(), NOW).unwrap();
    assert_eq!(off.body["live_delivery"], json!(false));
}

fn request_4(message: &str, body: Value) -> Post {
    let kind = format!("https://didcomm.org/message-pickup/4.0/{message}");
    Post::new(A, M, json!({"id": "q-1", "type": kind, "body": body, "return_route": "all"}))
}

#[test]
fn requests_of_the_fourth_version_are_read_under_its_names() {
    let read = |message, body| PickupRequest::read(&request_4(message, body).received(), NOW);
    assert_eq!(read("status-request", json!({})), Ok(PickupRequest::Status { recipient: None }));
    for limit in ["limit", "message_count_limit"] {
        let asked = read("delivery-request", json!({limit: 3}));
        assert_eq!(asked, Ok(PickupRequest::Delivery { recipient: None, limit: 3 }), "{limit}");
    }
    let ids = vec!["a".to_owned()];
    let received = read("messages-received", json!({"message_id_list": ["a"]}));
    assert_eq!(received, Ok(PickupRequest::Received { ids }));
    let live = read("live-delivery-change", json!({"live_delivery": true}));
    assert_eq!(live, Ok(PickupRequest::LiveDelivery { on: true }));
    assert_eq!(read("status", json!({"message_count": 1})), Err(FlowError::UnknownMessage));
    assert!(read("delivery-request", json!({})).is_err(), "the limit is missing");
}

#[test]
fn status_of_the_fourth_version_counts_in_milliseconds_and_names_its_thread() {
    let post = request_4("status-request", json!({"recipient_did": "did:example:d"}));
    let draft = status_reply(&post.received(), &status(), NOW);
    let expected = json!({"recipient_did": "did:example:d", "message_count": 2, "newest_received_time": 990_000,
        "oldest_received_time": 900_000, "total_bytes": 40, "live_delivery": false});
    assert_eq!((&*draft.kind, draft.thid.clone()), (Status4::TYPE, Some(thread("q-1"))));
    assert_eq!(Value::Object(draft.body), expected);
}

#[test]
fn delivery_of_the_fourth_version_is_opaque_and_empty_when_nothing_waits() {
    let post = request_4("delivery-request", json!({"message_count_limit": 1}));
    let write = |queue: &[(String, Vec<u8>)]| {
        let draft = delivery_reply(&post.received(), queue, &status(), AttachedAs::Json, NOW);
        draft.into_message(&did(M), &did(A), NOW, &SystemEntropy).unwrap().to_value()
    };
    let full = write(&queue(2));
    assert_eq!(full["type"], json!(Delivery4::TYPE));
    let base64 = einmal_keys::base64url_encode(br#"{"ciphertext":"0"}"#);
    assert_eq!(full["attachments"], json!([{"id": "m0", "data": {"base64": base64}}]), "within the limit");
    let empty = write(&[]);
    assert_eq!((&empty["type"], &empty["attachments"]), (&json!(Delivery4::TYPE), &json!([])));
    assert_eq!(empty["thid"], json!("q-1"));
}

#[test]
fn pushes_are_raw_or_deliveries_of_the_version_asked_for() {
    assert_eq!(push(PushForm::Raw, &queue(1)), None);
    for (version, kind) in [(PickupVersion::V3, Delivery::TYPE), (PickupVersion::V4, Delivery4::TYPE)] {
        let draft = push(PushForm::Wrapped(version), &queue(2)).unwrap();
        assert_eq!((&*draft.kind, draft.attachments.len(), draft.thid), (kind, 2, None));
        assert_eq!(Value::Object(draft.body), json!({}));
    }
}

/// Each of the two deployed kinds of wallets ignores the form that the other one reads.
#[test]
fn third_version_is_pushed_wrapped_to_accounts_of_the_second_mediation_version_only() {
    let (third, fourth) = (PickupVersion::V3, PickupVersion::V4);
    assert_eq!(PushForm::of(third, Some(MediationVersion::V2)), PushForm::Wrapped(third));
    assert_eq!(PushForm::of(third, Some(MediationVersion::V3)), PushForm::Raw);
    assert_eq!(PushForm::of(third, None), PushForm::Raw);
    for account in [None, Some(MediationVersion::V2), Some(MediationVersion::V3)] {
        assert_eq!(PushForm::of(fourth, account), PushForm::Wrapped(fourth));
    }
}
