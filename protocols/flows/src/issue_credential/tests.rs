//! Both machines against each other, every refusal, and any order of events.

use einmal_didcomm::{Body, MessageError, ProblemCode, UnixSeconds};
use serde_json::{Value, json};

use super::{holder, issuer, *};
use crate::{
    Draft, FlowError,
    formats::{Content, CryptographicBinding, SdJwtIssue, SdJwtOffer, SdJwtRequest},
    limits::{ISSUE_ACK_TIMEOUT_SECS, ISSUE_TIMEOUT_SECS, OFFER_TIMEOUT_SECS, PROPOSAL_TIMEOUT_SECS},
    testing::{NOW, Post, did, id, report, restart, thread, vector},
};

const CITY: &str = "did:example:city";
const ERIKA: &str = "did:example:erika";

fn offer() -> SdJwtOffer {
    SdJwtOffer {
        vct: "https://city.example/vct/residency".into(),
        cryptographic_binding: CryptographicBinding::Jwk,
        alg: vec!["ES256".into()],
        nonce: "AAAAAAAAAAAAAAAAAAAAAA".into(),
        aud: CITY.into(),
    }
}

fn offering() -> issuer::Event<'static> {
    issuer::Event::Offer {
        offer: offer(),
        preview: vec![("age_equal_or_over.18".into(), "true".into())],
        comment: Some("Resident card".into()),
        expires: Some(UnixSeconds(5_000)),
    }
}

fn accepted() -> holder::Event<'static> {
    holder::Event::Accepted { proof_jwt: "p.r.oof".into() }
}

fn issued() -> issuer::Event<'static> {
    issuer::Event::Issued { credentials: vec!["c.r.ed~".into()] }
}

fn draft_of_holder(actions: &[holder::Action]) -> Draft {
    let Some(holder::Action::Send(draft)) = actions.first() else { panic!("{actions:?}") };
    draft.clone()
}

fn draft_of_issuer(actions: &[issuer::Action]) -> Draft {
    let Some(issuer::Action::Send(draft)) = actions.first() else { panic!("{actions:?}") };
    draft.clone()
}

fn to_issuer(draft: &Draft) -> Post {
    Post::of(draft, ERIKA, CITY)
}

fn to_holder(draft: &Draft) -> Post {
    Post::of(draft, CITY, ERIKA)
}

/// The messages of an exchange begun by the holder, and both machines at each stage.
struct Story {
    proposed: Holder,
    proposal: Post,
    got_proposal: Issuer,
    offered: Issuer,
    offer: Post,
    got_offer: Holder,
    requested: Holder,
    request: Post,
    got_request: Issuer,
    issued: Issuer,
    credential: Post,
    got_credential: Holder,
    kept: Holder,
    ack: Post,
}

fn give_holder(holder: &mut Holder, post: &Post) -> Result<Vec<holder::Action>, FlowError> {
    holder.handle(holder::Event::Message(&post.received()), NOW)
}

fn give_issuer(issuer: &mut Issuer, post: &Post) -> Result<Vec<issuer::Action>, FlowError> {
    issuer.handle(issuer::Event::Message(&post.received()), NOW)
}

fn story() -> Story {
    let pthid = Some(thread("oob-1"));
    let (proposed, actions) = Holder::propose(did(ERIKA), did(CITY), thread("t-1"), pthid, NOW);
    let proposal = to_issuer(&draft_of_holder(&actions));
    let (got_proposal, _) = Issuer::from_proposal(&proposal.received(), NOW).unwrap();
    let mut offered = got_proposal.clone();
    let offer = to_holder(&draft_of_issuer(&offered.handle(offering(), NOW).unwrap()));
    let mut got_offer = proposed.clone();
    give_holder(&mut got_offer, &offer).unwrap();
    let mut requested = got_offer.clone();
    let request = to_issuer(&draft_of_holder(&requested.handle(accepted(), NOW).unwrap()));
    let mut got_request = offered.clone();
    give_issuer(&mut got_request, &request).unwrap();
    let mut issued_ = got_request.clone();
    let credential = to_holder(&draft_of_issuer(&issued_.handle(issued(), NOW).unwrap()));
    let mut got_credential = requested.clone();
    give_holder(&mut got_credential, &credential).unwrap();
    let mut kept = got_credential.clone();
    let ack = to_issuer(&draft_of_holder(&kept.handle(holder::Event::Verified, NOW).unwrap()));
    Story {
        proposed,
        proposal,
        got_proposal,
        offered,
        offer,
        got_offer,
        requested,
        request,
        got_request,
        issued: issued_,
        credential,
        got_credential,
        kept,
        ack,
    }
}

#[test]
fn messages_of_an_exchange_are_exactly_these() {
    let story = story();
    let wire = |post: &Post| {
        let mut value = post.message.to_value();
        for header in ["typ", "from", "to", "created_time"] {
            value.as_object_mut().unwrap().remove(header);
        }
        value
    };
    let kind = |name: &str| format!("https://didcomm.org/issue-credential/3.0/{name}");
    let proposal = json!({"id": "t-1", "type": kind("propose-credential"), "thid": "t-1", "pthid": "oob-1",
        "body": {}});
    assert_eq!(wire(&story.proposal), proposal);
    let attachment = |id: &str, format: &str, content: Value| json!([{"id": id, "media_type": "application/json", "format": format, "data": {"json": content}}]);
    let offer_id = story.offer.message.id.as_str();
    let expected = json!({"id": offer_id, "type": kind("offer-credential"), "thid": "t-1", "expires_time": 5000,
        "body": {"comment": "Resident card", "credential_preview": {"type": kind("credential-preview"),
            "body": {"attributes": [{"name": "age_equal_or_over.18", "value": "true"}]}}},
        "attachments": attachment("offer", "einmal/dc+sd-jwt-offer@v1.0",
            json!({"vct": "https://city.example/vct/residency", "cryptographic_binding": "jwk", "alg": ["ES256"],
                "nonce": "AAAAAAAAAAAAAAAAAAAAAA", "aud": CITY}))});
    assert_eq!(wire(&story.offer), expected);
    let expected = json!({"id": story.request.message.id.as_str(), "type": kind("request-credential"),
        "thid": "t-1", "body": {},
        "attachments": attachment("request", "einmal/dc+sd-jwt-request@v1.0", json!({"proof_jwt": "p.r.oof"}))});
    assert_eq!(wire(&story.request), expected);
    let credential_id = story.credential.message.id.as_str();
    let expected = json!({"id": credential_id, "type": kind("issue-credential"), "thid": "t-1", "body": {},
        "attachments": attachment("credential", "einmal/dc+sd-jwt@v1.0", json!({"credentials": ["c.r.ed~"]}))});
    assert_eq!(wire(&story.credential), expected);
    let expected = json!({"id": story.ack.message.id.as_str(), "type": kind("ack"), "thid": "t-1",
        "pthid": "oob-1", "body": {"status": "OK"}});
    assert_eq!(wire(&story.ack), expected);
}

#[test]
fn states_have_the_names_of_the_text_and_survive_a_restart() {
    let mut story = story();
    let holders = [
        (&story.proposed, "proposal-sent"),
        (&story.got_offer, "offer-received"),
        (&story.requested, "request-sent"),
        (&story.got_credential, "credential-received"),
        (&story.kept, "done"),
    ];
    for (machine, name) in holders {
        assert_eq!(machine.state_name(), name);
        assert_eq!((machine.has_ended(), machine.is_abandoned()), (name == "done", false), "{name}");
        assert_eq!(machine.awaits_offer(), name == "proposal-sent", "{name}");
        assert_eq!(&restart(machine), machine);
    }
    let issuers = [
        (&story.got_proposal, "proposal-received"),
        (&story.offered, "offer-sent"),
        (&story.got_request, "request-received"),
        (&story.issued, "credential-issued"),
    ];
    for (machine, name) in issuers {
        assert_eq!(machine.state_name(), name);
        assert_eq!((machine.has_ended(), machine.is_abandoned()), (false, false), "{name}");
        assert_eq!(machine.awaits_our_offer(), name == "proposal-received", "{name}");
        assert_eq!(&restart(machine), machine);
    }
    let ended = give_issuer(&mut story.issued, &story.ack).unwrap();
    assert_eq!((ended, story.issued.state_name()), (vec![issuer::Action::Ended(Outcome::Done)], "done"));
    assert_eq!(story.kept.pthid(), Some(&thread("oob-1")));
    assert_eq!(
        (story.kept.thread(), story.kept.own(), story.kept.peer()),
        (&thread("t-1"), &did(ERIKA), &did(CITY))
    );
    assert_ne!(story.kept.key(), story.issued.key());
}

#[test]
fn offer_is_shown_with_everything_a_person_needs() {
    let mut story = story();
    let actions = give_holder(&mut story.proposed, &story.offer).unwrap();
    let [holder::Action::ShowOffer(view), holder::Action::WakeAt(UnixSeconds(5_000))] = actions.as_slice()
    else {
        panic!("{actions:?}")
    };
    assert_eq!(view.vct, "https://city.example/vct/residency");
    assert_eq!(view.preview, [("age_equal_or_over.18".to_owned(), "true".to_owned())]);
    assert_eq!((view.comment.as_deref(), view.expires), (Some("Resident card"), Some(UnixSeconds(5_000))));
    assert_eq!((view.nonce.as_str(), view.aud.as_str()), ("AAAAAAAAAAAAAAAAAAAAAA", CITY));
}

#[test]
fn nobody_reports_about_an_offer_that_was_not_sent_yet() {
    let mut city = Issuer::offer(did(CITY), did(ERIKA), thread("t-2"), None);
    let early = report(ERIKA, CITY, "t-2", "e.p.x");
    let error = FlowError::Unexpected { message: crate::report_problem::PROBLEM_REPORT, state: "null" };
    assert_eq!(give_issuer(&mut city, &early), Err(error));
    city.handle(offering(), NOW).unwrap();
    assert!(give_issuer(&mut city, &early).is_ok() && city.is_abandoned());
}

#[test]
fn unasked_offer_opens_a_thread_that_both_sides_know_alike() {
    let mut city = Issuer::offer(did(CITY), did(ERIKA), thread("t-2"), Some(thread("oob-2")));
    assert_eq!(city.state_name(), "null");
    let draft = draft_of_issuer(&city.handle(offering(), NOW).unwrap());
    assert_eq!((draft.id.clone(), draft.pthid.clone()), (Some(id("t-2")), Some(thread("oob-2"))));
    let mut post = to_holder(&draft);
    // A first message may omit `thid`: its id then names the thread.
    post.message.thid = None;
    let (mut erika, _) = Holder::from_offer(&post.received(), NOW).unwrap();
    assert_eq!(erika.thread(), &thread("t-2"));
    let request = to_issuer(&draft_of_holder(&erika.handle(accepted(), NOW).unwrap()));
    assert_ne!(request.message.id, id("t-2"));
    assert!(give_issuer(&mut city, &request).is_ok());
}

#[test]
fn repeated_message_gets_the_same_answer_and_changes_nothing() {
    let mut story = story();
    let (before, again) = (story.requested.clone(), give_holder(&mut story.requested, &story.offer).unwrap());
    assert_eq!(draft_of_holder(&again).id, Some(story.request.message.id.clone()));
    assert_eq!(story.requested, before);
    let (before, again) = (story.issued.clone(), give_issuer(&mut story.issued, &story.request).unwrap());
    assert_eq!(to_holder(&draft_of_issuer(&again)).message, story.credential.message);
    assert_eq!(story.issued, before);
    let (before, again) = (story.kept.clone(), give_holder(&mut story.kept, &story.credential).unwrap());
    assert_eq!(to_issuer(&draft_of_holder(&again)).message, story.ack.message);
    assert_eq!(story.kept, before);
    // Messages answered longer ago, or not answered yet, are simply ignored when repeated.
    assert_eq!(give_holder(&mut story.kept, &story.offer), Ok(vec![]));
    assert_eq!(give_holder(&mut story.got_credential, &story.credential), Ok(vec![]));
    assert_eq!(give_issuer(&mut story.got_request, &story.request), Ok(vec![]));
    assert_eq!(give_issuer(&mut story.got_proposal, &story.proposal), Ok(vec![]));
}

#[test]
fn city_forgets_the_credential_once_it_is_acknowledged() {
    let mut story = story();
    give_issuer(&mut story.issued, &story.ack).unwrap();
    assert!(!serde_json::to_string(&story.issued).unwrap().contains("c.r.ed~"));
    assert_eq!(give_issuer(&mut story.issued, &story.request), Ok(vec![]));
    assert!(!serde_json::to_string(&story.kept).unwrap().contains("c.r.ed~"));
}

#[test]
fn messages_from_elsewhere_are_refused_and_change_nothing() {
    let story = story();
    let spoil = |post: &Post| {
        let (mut late, mut threadless) = (post.clone(), post.clone());
        threadless.message.thid = None;
        late.message.expires_time = Some(NOW);
        [
            (post.by_stranger(), FlowError::WrongSender),
            (Post { recipient: did("did:example:x"), ..post.clone() }, FlowError::WrongRecipient),
            (post.in_thread("t-9"), FlowError::WrongThread),
            (threadless, FlowError::WrongThread),
            (late, FlowError::Expired),
        ]
    };
    for (machine, post) in [(&story.proposed, &story.offer), (&story.requested, &story.credential)] {
        for (bad, error) in spoil(post) {
            let mut machine_ = machine.clone();
            assert_eq!(give_holder(&mut machine_, &bad), Err(error));
            assert_eq!(&machine_, machine);
        }
    }
    for (machine, post) in [(&story.offered, &story.request), (&story.issued, &story.ack)] {
        for (bad, error) in spoil(post) {
            let mut machine_ = machine.clone();
            assert_eq!(give_issuer(&mut machine_, &bad), Err(error));
            assert_eq!(&machine_, machine);
        }
    }
}

#[test]
fn messages_out_of_turn_are_refused_and_change_nothing() {
    let story = story();
    let unexpected = |message, state| FlowError::Unexpected { message, state };
    for (machine, post, error) in [
        (&story.proposed, &story.credential, unexpected(IssueCredential::TYPE, "proposal-sent")),
        (&story.got_offer, &story.credential, unexpected(IssueCredential::TYPE, "offer-received")),
        (&story.got_offer, &story.offer.with_id("o-2"), unexpected(OfferCredential::TYPE, "offer-received")),
        (&story.requested, &story.offer.with_id("o-2"), unexpected(OfferCredential::TYPE, "request-sent")),
        (&story.kept, &story.credential.with_id("c-2"), unexpected(IssueCredential::TYPE, "done")),
    ] {
        let mut machine_ = machine.clone();
        assert_eq!(give_holder(&mut machine_, post), Err(error));
        assert_eq!(&machine_, machine);
    }
    for (machine, post, error) in [
        (&story.got_proposal, &story.request, unexpected(RequestCredential::TYPE, "proposal-received")),
        (&story.offered, &story.ack, unexpected(Ack::TYPE, "offer-sent")),
        (
            &story.issued,
            &story.request.with_id("r-2"),
            unexpected(RequestCredential::TYPE, "credential-issued"),
        ),
        (
            &story.issued,
            &story.proposal.with_id("p-2"),
            unexpected(ProposeCredential::TYPE, "credential-issued"),
        ),
    ] {
        let mut machine_ = machine.clone();
        assert_eq!(give_issuer(&mut machine_, post), Err(error));
        assert_eq!(&machine_, machine);
    }
    // A machine refuses its own messages when the peer sends them back: they are not for its role.
    let echo = Post { sender: did(CITY), recipient: did(ERIKA), ..story.request.clone() };
    assert_eq!(give_holder(&mut story.requested.clone(), &echo), Err(FlowError::UnknownMessage));
    let echo = Post { sender: did(ERIKA), recipient: did(CITY), ..story.credential.clone() };
    assert_eq!(give_issuer(&mut story.issued.clone(), &echo), Err(FlowError::UnknownMessage));
}

#[test]
fn messages_without_readable_content_are_refused_and_change_nothing() {
    let story = story();
    let spoil = |post: &Post, data: Value, format: &str| {
        let mut value = post.message.to_value();
        value["attachments"] = json!([{"id": "x", "format": format, "data": {"json": data}}]);
        Post { message: einmal_didcomm::Message::from_value(value).unwrap(), ..post.clone() }
    };
    let invalid = |what| Err(FlowError::InvalidContent { what });
    let mut holder = story.proposed.clone();
    let foreign = spoil(&story.offer, json!({}), "aries/ld-proof-vc-detail@v1.0");
    assert_eq!(give_holder(&mut holder, &foreign), Err(FlowError::UnknownFormat));
    let broken = spoil(&story.offer, json!({}), SdJwtOffer::FORMAT);
    assert_eq!(give_holder(&mut holder, &broken), invalid(SdJwtOffer::FORMAT));
    let mut preview = story.offer.clone();
    preview.message.body.insert("credential_preview".into(), json!(7));
    let malformed = FlowError::Malformed(MessageError::InvalidBody { kind: OfferCredential::TYPE });
    assert_eq!(give_holder(&mut holder, &preview), Err(malformed));
    assert_eq!(holder, story.proposed);
    let mut holder = story.requested.clone();
    let none = spoil(&story.credential, json!({"credentials": []}), SdJwtIssue::FORMAT);
    assert_eq!(give_holder(&mut holder, &none), invalid("credentials"));
    assert_eq!(holder, story.requested);
    let mut issuer = story.offered.clone();
    let empty = spoil(&story.request, json!({"proof_jwt": ""}), SdJwtRequest::FORMAT);
    assert_eq!(give_issuer(&mut issuer, &empty), Err(FlowError::InvalidContent { what: "proof_jwt" }));
    assert_eq!(issuer, story.offered);
}

#[test]
fn events_out_of_turn_are_refused_and_change_nothing() {
    let story = story();
    let rejected = || holder::Event::Rejected { code: ProblemCode::CRYPTO };
    for (machine, event, name) in [
        (&story.proposed, accepted(), "Accepted"),
        (&story.requested, accepted(), "Accepted"),
        (&story.requested, holder::Event::Verified, "Verified"),
        (&story.got_offer, rejected(), "Rejected"),
        (&story.got_credential, holder::Event::Declined, "Declined"),
        (&story.kept, rejected(), "Rejected"),
        (&story.kept, holder::Event::Declined, "Declined"),
    ] {
        let mut machine_ = machine.clone();
        let error = FlowError::Unexpected { message: name, state: machine.state_name() };
        assert_eq!(machine_.handle(event, NOW), Err(error));
        assert_eq!(&machine_, machine);
    }
    for (machine, event, name) in [
        (&story.offered, offering(), "Offer"),
        (&story.offered, issued(), "Issued"),
        (&story.issued, issued(), "Issued"),
        (&story.issued, issuer::Event::Refused { code: ProblemCode::TRUST }, "Refused"),
    ] {
        let mut machine_ = machine.clone();
        let error = FlowError::Unexpected { message: name, state: machine.state_name() };
        assert_eq!(machine_.handle(event, NOW), Err(error));
        assert_eq!(&machine_, machine);
    }
}

#[test]
fn what_no_peer_would_take_is_not_sent() {
    let story = story();
    let mut issuer = story.got_proposal.clone();
    let late = issuer::Event::Offer { offer: offer(), preview: vec![], comment: None, expires: Some(NOW) };
    assert!(matches!(issuer.handle(late, NOW), Err(FlowError::Misuse { .. })));
    let weak = SdJwtOffer { nonce: "x".into(), ..offer() };
    let weak = issuer::Event::Offer { offer: weak, preview: vec![], comment: None, expires: None };
    assert_eq!(issuer.handle(weak, NOW), Err(FlowError::InvalidContent { what: "nonce" }));
    assert_eq!(issuer, story.got_proposal);
    let mut issuer = story.got_request.clone();
    let none = issuer.handle(issuer::Event::Issued { credentials: vec![] }, NOW);
    assert_eq!(none, Err(FlowError::InvalidContent { what: "credentials" }));
    assert_eq!(issuer, story.got_request);
    let mut holder = story.got_offer.clone();
    let none = holder.handle(holder::Event::Accepted { proof_jwt: String::new() }, NOW);
    assert_eq!(none, Err(FlowError::InvalidContent { what: "proof_jwt" }));
    assert_eq!(holder, story.got_offer);
}

fn assert_reported(draft: &Draft, code: &str) {
    assert_eq!(draft.kind, report_problem_type());
    assert_eq!((&draft.thid, &draft.pthid), (&None, &Some(thread("t-1"))));
    assert_eq!(draft.body.get("code"), Some(&json!(code)));
}

fn report_problem_type() -> &'static str {
    crate::report_problem::PROBLEM_REPORT
}

#[test]
fn declining_and_rejecting_end_the_exchange_with_a_report() {
    let story = story();
    for mut holder in [story.proposed, story.got_offer, story.requested] {
        let actions = holder.handle(holder::Event::Declined, NOW).unwrap();
        assert_reported(&draft_of_holder(&actions), "e.p.issuance-abandoned");
        assert_eq!(actions[1], holder::Action::Ended(Outcome::Declined));
        assert_eq!(holder.state_name(), "abandoned");
        assert!(holder.is_abandoned() && holder.has_ended() && !holder.awaits_offer());
    }
    let mut holder = story.got_credential;
    let code = ProblemCode::CRYPTO;
    let actions = holder.handle(holder::Event::Rejected { code: code.clone() }, NOW).unwrap();
    let draft = draft_of_holder(&actions);
    assert_reported(&draft, "e.p.trust.crypto");
    assert!(draft.ack.is_empty(), "deployed readers take no list");
    assert_eq!(actions[1], holder::Action::Ended(Outcome::Refused { code: code.clone() }));
    for mut issuer in [story.got_proposal, story.offered, story.got_request] {
        let actions = issuer.handle(issuer::Event::Refused { code: code.clone() }, NOW).unwrap();
        assert_reported(&draft_of_issuer(&actions), "e.p.trust.crypto");
        assert_eq!(actions[1], issuer::Action::Ended(Outcome::Refused { code: code.clone() }));
    }
    let mut unsent = Issuer::offer(did(CITY), did(ERIKA), thread("t-1"), None);
    let actions = unsent.handle(issuer::Event::Refused { code: code.clone() }, NOW).unwrap();
    assert_eq!(actions, [issuer::Action::Ended(Outcome::Refused { code })]);
}

#[test]
fn problem_report_ends_the_exchange_by_pthid_or_thid_and_only_once() {
    let story = story();
    let code = "e.p.issuance-abandoned";
    let by_pthid = report(CITY, ERIKA, "t-1", code);
    let mut by_thid = report(CITY, ERIKA, "other", code);
    by_thid.message.pthid = None;
    by_thid.message.thid = Some(thread("t-1"));
    for post in [by_pthid, by_thid] {
        let mut holder = story.requested.clone();
        let ended = give_holder(&mut holder, &post).unwrap();
        let outcome = Outcome::PeerAbandoned { code: ProblemCode::received(code) };
        assert_eq!(ended, [holder::Action::Ended(outcome)]);
        assert_eq!(give_holder(&mut holder, &post), Ok(vec![]));
    }
    let mut issuer = story.issued.clone();
    let post = report(ERIKA, CITY, "t-1", "e.p.trust.crypto");
    let outcome = Outcome::PeerAbandoned { code: ProblemCode::CRYPTO };
    assert_eq!(give_issuer(&mut issuer, &post), Ok(vec![issuer::Action::Ended(outcome)]));
}

#[test]
fn problem_reports_from_elsewhere_late_ones_and_warnings_move_nothing() {
    let story = story();
    let mut holder = story.requested.clone();
    let report_ = |pthid: &str, code: &str| report(CITY, ERIKA, pthid, code);
    assert_eq!(give_holder(&mut holder, &report_("t-2", "e.p.x")), Err(FlowError::WrongThread));
    let stranger = report_("t-1", "e.p.x").by_stranger();
    assert_eq!(give_holder(&mut holder, &stranger), Err(FlowError::WrongSender));
    assert_eq!(give_holder(&mut holder, &report_("t-1", "w.p.x")), Ok(vec![]));
    assert_eq!(holder, story.requested);
    let mut done = story.kept.clone();
    let late = FlowError::Unexpected { message: report_problem_type(), state: "done" };
    assert_eq!(give_holder(&mut done, &report_("t-1", "e.p.x")), Err(late));
    assert_eq!(done, story.kept);
}

#[test]
fn every_wait_ends() {
    let story = story();
    let deadlines = [
        (&story.proposed, NOW.plus(PROPOSAL_TIMEOUT_SECS)),
        (&story.got_offer, UnixSeconds(5_000)),
        (&story.requested, NOW.plus(ISSUE_TIMEOUT_SECS)),
    ];
    for (machine, deadline) in deadlines {
        let mut holder = machine.clone();
        let waiting = holder.handle(holder::Event::Tick, UnixSeconds(deadline.0 - 1)).unwrap();
        assert_eq!(waiting.last(), Some(&holder::Action::WakeAt(deadline)));
        assert_eq!(&holder, machine);
        let over = holder.handle(holder::Event::Tick, deadline).unwrap();
        assert_reported(&draft_of_holder(&over), "e.p.req.time");
        assert_eq!(over[1], holder::Action::Ended(Outcome::TimedOut));
        assert_eq!(holder.handle(holder::Event::Tick, deadline), Ok(vec![]));
    }
    let deadlines =
        [(&story.got_proposal, NOW.plus(PROPOSAL_TIMEOUT_SECS)), (&story.offered, UnixSeconds(5_000))];
    for (machine, deadline) in deadlines {
        let mut issuer = machine.clone();
        let waiting = issuer.handle(issuer::Event::Tick, UnixSeconds(deadline.0 - 1)).unwrap();
        assert_eq!(waiting, [issuer::Action::WakeAt(deadline)]);
        let over = issuer.handle(issuer::Event::Tick, deadline).unwrap();
        assert_reported(&draft_of_issuer(&over), "e.p.req.time");
        assert_eq!(over[1], issuer::Action::Ended(Outcome::TimedOut));
    }
    let mut issuer = story.issued.clone();
    let over = issuer.handle(issuer::Event::Tick, NOW.plus(ISSUE_ACK_TIMEOUT_SECS)).unwrap();
    assert_eq!(over, [issuer::Action::Ended(Outcome::Unacknowledged)]);
    assert!(!serde_json::to_string(&issuer).unwrap().contains("c.r.ed~"));
}

#[test]
fn offer_past_its_end_is_neither_accepted_nor_requested() {
    let mut story = story();
    let end = UnixSeconds(5_000);
    assert_eq!(story.got_offer.handle(accepted(), end), Err(FlowError::Expired));
    let late = story.offered.handle(issuer::Event::Message(&story.request.received()), end);
    assert_eq!(late, Err(FlowError::Expired));
    assert_eq!(Holder::from_offer(&story.offer.received(), end).unwrap_err(), FlowError::Expired);
}

#[test]
fn offer_without_end_stands_for_the_usual_time() {
    let mut city = Issuer::offer(did(CITY), did(ERIKA), thread("t-2"), None);
    let event = issuer::Event::Offer { offer: offer(), preview: vec![], comment: None, expires: None };
    let actions = city.handle(event, NOW).unwrap();
    assert_eq!(actions[1], issuer::Action::WakeAt(NOW.plus(OFFER_TIMEOUT_SECS)));
}

#[test]
fn restart_asks_again_for_what_is_outstanding() {
    let mut story = story();
    let asked = story.got_credential.handle(holder::Event::Tick, NOW).unwrap();
    assert_eq!(asked, [holder::Action::Verify { credentials: vec!["c.r.ed~".into()] }]);
    let asked = story.got_request.handle(issuer::Event::Tick, NOW).unwrap();
    assert_eq!(asked, [issuer::Action::CheckRequest { proof_jwt: "p.r.oof".into() }]);
    let asked = story.got_offer.handle(holder::Event::Tick, NOW).unwrap();
    assert!(matches!(asked.first(), Some(holder::Action::ShowOffer(_))));
}

#[test]
fn messages_of_others_and_of_other_versions_are_none_of_this_protocol() {
    let covers = |uri: &str| covers(&MessageType::parse(uri).unwrap());
    assert!(covers("https://didcomm.org/issue-credential/3.0/ack"));
    assert!(covers("https://didcomm.org/IssueCredential/3.1/anything"));
    assert!(!covers("https://didcomm.org/issue-credential/2.0/ack"));
    assert!(!covers("https://didcomm.org/present-proof/3.0/ack"));
    assert!(!covers("https://example.org/issue-credential/3.0/ack"));
}

#[test]
fn counter_proposal_gets_a_new_offer() {
    let mut story = story();
    let counter = story.proposal.with_id("p-2");
    assert!(give_issuer(&mut story.offered, &counter).is_ok());
    assert_eq!(story.offered.state_name(), "proposal-received");
    let again = draft_of_issuer(&story.offered.handle(offering(), NOW).unwrap());
    assert_ne!(again.id, Some(story.offer.message.id));
}

#[test]
fn negative_and_pending_acknowledgements_are_told_apart() {
    let story = story();
    let ack = |status: &str| {
        let mut post = story.ack.with_id(&format!("ack-{status}"));
        post.message.body.insert("status".into(), status.into());
        post
    };
    let mut issuer = story.issued.clone();
    assert_eq!(give_issuer(&mut issuer, &ack("PENDING")), Ok(vec![]));
    assert_eq!(issuer.state_name(), "credential-issued");
    let ended = give_issuer(&mut issuer, &ack("FAIL")).unwrap();
    let outcome = Outcome::PeerAbandoned { code: ProblemCode::ISSUANCE_ABANDONED };
    assert_eq!((ended, issuer.state_name()), (vec![issuer::Action::Ended(outcome)], "abandoned"));
    let malformed = FlowError::Malformed(MessageError::InvalidBody { kind: Ack::TYPE });
    assert_eq!(give_issuer(&mut story.issued.clone(), &ack("MAYBE")), Err(malformed));
}

#[test]
fn debug_shows_nothing_personal() {
    let story = story();
    let texts = [
        format!("{:?}{:?}{:?}", story.got_offer, story.got_credential, story.got_request),
        format!(
            "{:?}{:?}{:?}{:?}",
            accepted(),
            issued(),
            offering(),
            holder::Event::Message(&story.offer.received())
        ),
        format!("{:?}", story.got_credential.clone().handle(holder::Event::Tick, NOW)),
        format!("{:?}", story.got_offer.clone().handle(holder::Event::Tick, NOW)),
        format!("{:?}", story.got_request.clone().handle(issuer::Event::Tick, NOW)),
    ];
    for text in texts {
        for secret in ["c.r.ed~", "p.r.oof", "age_equal", "Resident", "erika"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn published_exchange_is_read_and_its_foreign_format_named() {
    let read = |step: &str, from: &str, to: &str| {
        let mut value = vector(&format!("waci/issuance/{step}.json"))?;
        value.as_object_mut()?.remove("from");
        Some(Post::new(from, to, value))
    };
    let (wallet, issuer_) = ("did:example:wallet", "did:example:issuer");
    let Some(proposal) = read("2.issue-credential_propose", wallet, issuer_) else { return };
    let (issuer, _) = Issuer::from_proposal(&proposal.received(), NOW).unwrap();
    assert_eq!(issuer.pthid(), Some(&thread("082cb89d-de4a-43fb-a2c0-4eb2ef1e015e")));
    let offer = read("3.issue-credential_offer", issuer_, wallet).unwrap();
    assert!(offer.message.body_as::<OfferCredential>().is_ok());
    assert_eq!(Holder::from_offer(&offer.received(), NOW).unwrap_err(), FlowError::UnknownFormat);
    let request = read("4.issue-credential_request", wallet, issuer_).unwrap();
    assert!(request.message.body_as::<RequestCredential>().is_ok());
    let credential = read("5.issue-credential_issue", issuer_, wallet).unwrap();
    assert!(credential.message.body_as::<IssueCredential>().is_ok());
    let ack = read("6.issue-credential_ack", wallet, issuer_).unwrap();
    assert_eq!(ack.message.body_as::<Ack>().unwrap().status, AckStatus::Ok);
    for post in [&offer, &request, &credential, &ack] {
        assert_eq!(post.message.thread(), *issuer.thread());
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    const STRANGERS: usize = 6;

    /// All messages of the story, then the same ones from a stranger.
    fn posts(story: &Story) -> Vec<Post> {
        let mut posts = vec![
            story.offer.clone(),
            story.credential.clone(),
            report(CITY, ERIKA, "t-1", "e.p.x"),
            story.request.clone(),
            story.ack.clone(),
            story.proposal.with_id("p-2"),
        ];
        let strangers: Vec<Post> = posts.iter().map(Post::by_stranger).collect();
        posts.extend(strangers);
        posts
    }

    proptest! {
        /// In any order of messages: an ended exchange never moves, a refusal changes nothing, and the holder is never
        /// done without a verdict on a credential from the issuer.
        #[test]
        fn holder_is_done_only_after_a_genuine_credential(
            steps in prop::collection::vec((0..17_usize, 1_000..9_000_u64), 0..40),
        ) {
            let story = story();
            let posts = posts(&story);
            let mut holder = story.proposed.clone();
            let mut genuine = false;
            for (step, now) in steps {
                let before = holder.clone();
                let now = UnixSeconds(now);
                let received = posts.get(step).map(Post::received);
                let event = match (step, &received) {
                    (_, Some(received)) => holder::Event::Message(received),
                    (12, _) => accepted(),
                    (13, _) => holder::Event::Declined,
                    (14, _) => holder::Event::Verified,
                    (15, _) => holder::Event::Rejected { code: ProblemCode::CRYPTO },
                    _ => holder::Event::Tick,
                };
                let result = holder.handle(event, now);
                genuine |= step == 1 && result.is_ok();
                if result.is_err() || matches!(before.state_name(), "done" | "abandoned") {
                    prop_assert_eq!(&holder, &before);
                }
                prop_assert!(!(STRANGERS..2 * STRANGERS).contains(&step) || result.is_err());
                prop_assert!(holder.state_name() != "done" || genuine);
                prop_assert_eq!(restart(&holder), holder.clone());
            }
        }

        /// The same for the issuer: it never issues without a request and never is done without having issued.
        #[test]
        fn issuer_issues_only_on_request(
            steps in prop::collection::vec((0..17_usize, 1_000..9_000_u64), 0..40),
        ) {
            let story = story();
            let mut posts = posts(&story);
            posts[2] = report(ERIKA, CITY, "t-1", "e.p.x");
            let mut issuer = story.got_proposal.clone();
            let (mut requested, mut has_issued) = (false, false);
            for (step, now) in steps {
                let before = issuer.clone();
                let received = posts.get(step).map(Post::received);
                let event = match (step, &received) {
                    (_, Some(received)) => issuer::Event::Message(received),
                    (12, _) => offering(),
                    (13 | 14, _) => issued(),
                    (15, _) => issuer::Event::Refused { code: ProblemCode::TRUST },
                    _ => issuer::Event::Tick,
                };
                let result = issuer.handle(event, UnixSeconds(now));
                requested |= step == 3 && result.is_ok();
                has_issued |= matches!(step, 13 | 14) && result.is_ok();
                prop_assert!(!has_issued || requested);
                if result.is_err() || matches!(before.state_name(), "done" | "abandoned") {
                    prop_assert_eq!(&issuer, &before);
                }
                prop_assert!(!(STRANGERS..2 * STRANGERS).contains(&step) || result.is_err());
                prop_assert!(issuer.state_name() != "done" || has_issued);
                prop_assert_eq!(restart(&issuer), issuer.clone());
            }
        }
    }
}
