//! Both machines against each other, every refusal, and any order of events.

use std::collections::BTreeMap;

use einmal_didcomm::{Body, MessageError, ProblemCode, UnixSeconds};
use serde_json::{Value, json};

use super::{prover, verifier, *};
use crate::{
    Draft, FlowError,
    formats::{Content, DcqlPresentation, DcqlRequest},
    limits::{PROPOSAL_TIMEOUT_SECS, REQUEST_TIMEOUT_SECS, VERDICT_TIMEOUT_SECS},
    report_problem::PROBLEM_REPORT,
    testing::{NOW, Post, did, id, report, restart, thread, vector},
};

const SHOP: &str = "did:example:shop";
const ERIKA: &str = "did:example:erika";
const NONCE: &str = "AAAAAAAAAAAAAAAAAAAAAA";

fn dcql() -> Value {
    json!({"credentials": [{"id": "age", "format": "dc+sd-jwt"}]})
}

fn asking_as(client_id: String, will_confirm: bool) -> verifier::Event<'static> {
    verifier::Event::Request {
        dcql: dcql(),
        client_id,
        nonce: NONCE.into(),
        comment: Some("for the wine".into()),
        goal_code: Some("org.example.age".into()),
        will_confirm,
        expires: Some(UnixSeconds(5_000)),
    }
}

fn asking(will_confirm: bool) -> verifier::Event<'static> {
    asking_as(client_id(&did(SHOP)), will_confirm)
}

fn vp() -> DcqlPresentation {
    DcqlPresentation(BTreeMap::from([("age".to_owned(), vec!["s.d.jwt~kb".to_owned()])]))
}

fn presenting() -> prover::Event<'static> {
    prover::Event::Present { vp: vp() }
}

fn declining() -> prover::Event<'static> {
    prover::Event::Declined { code: ProblemCode::DECLINED }
}

fn refusing() -> verifier::Event<'static> {
    verifier::Event::Refused { code: ProblemCode::TRUST }
}

fn draft_of_prover(actions: &[prover::Action]) -> Draft {
    let Some(prover::Action::Send(draft)) = actions.first() else { panic!("{actions:?}") };
    draft.clone()
}

fn draft_of_verifier(actions: &[verifier::Action]) -> Draft {
    let Some(verifier::Action::Send(draft)) = actions.first() else { panic!("{actions:?}") };
    draft.clone()
}

fn to_shop(draft: &Draft) -> Post {
    Post::of(draft, ERIKA, SHOP)
}

fn to_erika(draft: &Draft) -> Post {
    Post::of(draft, SHOP, ERIKA)
}

fn give_prover(prover: &mut Prover, post: &Post) -> Result<Vec<prover::Action>, FlowError> {
    prover.handle(prover::Event::Message(&post.received()), NOW)
}

fn give_verifier(verifier: &mut Verifier, post: &Post) -> Result<Vec<verifier::Action>, FlowError> {
    verifier.handle(verifier::Event::Message(&post.received()), NOW)
}

struct Story {
    proposed: Prover,
    proposal: Post,
    got_proposal: Verifier,
    asked: Verifier,
    request: Post,
    got_request: Prover,
    presented: Prover,
    presentation: Post,
    got_presentation: Verifier,
    accepted: Verifier,
    ack: Option<Post>,
}

fn story(will_confirm: bool) -> Story {
    let pthid = Some(thread("oob-1"));
    let (proposed, actions) = Prover::propose(did(ERIKA), did(SHOP), thread("t-1"), pthid, NOW);
    let proposal = to_shop(&draft_of_prover(&actions));
    let (got_proposal, _) = Verifier::from_proposal(&proposal.received(), NOW).unwrap();
    let mut asked = got_proposal.clone();
    let request = to_erika(&draft_of_verifier(&asked.handle(asking(will_confirm), NOW).unwrap()));
    let mut got_request = proposed.clone();
    give_prover(&mut got_request, &request).unwrap();
    let mut presented = got_request.clone();
    let presentation = to_shop(&draft_of_prover(&presented.handle(presenting(), NOW).unwrap()));
    let mut got_presentation = asked.clone();
    give_verifier(&mut got_presentation, &presentation).unwrap();
    let mut accepted = got_presentation.clone();
    let actions = accepted.handle(verifier::Event::Accepted, NOW).unwrap();
    assert_eq!(actions.last(), Some(&verifier::Action::Ended(Outcome::Done)));
    let ack = will_confirm.then(|| to_erika(&draft_of_verifier(&actions)));
    Story {
        proposed,
        proposal,
        got_proposal,
        asked,
        request,
        got_request,
        presented,
        presentation,
        got_presentation,
        accepted,
        ack,
    }
}

#[test]
fn messages_of_an_exchange_are_exactly_these() {
    let story = story(true);
    let wire = |post: &Post| {
        let mut value = post.message.to_value();
        for header in ["typ", "from", "to", "created_time"] {
            value.as_object_mut().unwrap().remove(header);
        }
        value
    };
    let kind = |name: &str| format!("https://didcomm.org/present-proof/3.0/{name}");
    let expected = json!({"id": "t-1", "type": kind("propose-presentation"), "thid": "t-1", "pthid": "oob-1",
        "body": {}});
    assert_eq!(wire(&story.proposal), expected);
    let attachment = |id: &str, format: &str, content: Value| json!([{"id": id, "media_type": "application/json", "format": format, "data": {"json": content}}]);
    let content = json!({"dcql_query": dcql(), "nonce": NONCE,
        "client_id": "decentralized_identifier:did:example:shop"});
    let expected = json!({"id": story.request.message.id.as_str(), "type": kind("request-presentation"),
        "thid": "t-1", "expires_time": 5000,
        "body": {"comment": "for the wine", "goal_code": "org.example.age", "will_confirm": true},
        "attachments": attachment("request", "einmal/dcql@v1.0", content)});
    assert_eq!(wire(&story.request), expected);
    let presentation_id = story.presentation.message.id.as_str();
    let expected = json!({"id": presentation_id, "type": kind("presentation"), "thid": "t-1", "body": {},
        "attachments": attachment("presentation", "einmal/dc+sd-jwt-presentation@v1.0",
            json!({"age": ["s.d.jwt~kb"]}))});
    assert_eq!(wire(&story.presentation), expected);
    let ack = story.ack.unwrap();
    let expected = json!({"id": ack.message.id.as_str(), "type": kind("ack"), "thid": "t-1",
        "body": {"status": "OK"}});
    assert_eq!(wire(&ack), expected);
}

#[test]
fn states_have_the_names_of_the_text_and_survive_a_restart() {
    let mut story = story(true);
    let provers = [
        (&story.proposed, "proposal-sent"),
        (&story.got_request, "request-received"),
        (&story.presented, "presentation-sent"),
    ];
    for (machine, name) in provers {
        assert_eq!(machine.state_name(), name);
        assert_eq!((machine.has_ended(), machine.is_abandoned()), (false, false), "{name}");
        assert_eq!(&restart(machine), machine);
    }
    let verifiers = [
        (&story.got_proposal, "proposal-received"),
        (&story.asked, "request-sent"),
        (&story.got_presentation, "presentation-received"),
        (&story.accepted, "done"),
    ];
    for (machine, name) in verifiers {
        assert_eq!(machine.state_name(), name);
        assert_eq!((machine.has_ended(), machine.is_abandoned()), (name == "done", false), "{name}");
        assert_eq!(machine.awaits_our_request(), name == "proposal-received", "{name}");
        assert_eq!(&restart(machine), machine);
    }
    let ended = give_prover(&mut story.presented, &story.ack.unwrap()).unwrap();
    assert_eq!((ended, story.presented.state_name()), (vec![prover::Action::Ended(Outcome::Done)], "done"));
    assert_eq!(story.presented.pthid(), Some(&thread("oob-1")));
}

#[test]
fn without_confirmation_the_prover_is_done_and_no_ack_is_sent() {
    let story = story(false);
    assert_eq!((story.presented.state_name(), story.accepted.state_name()), ("done", "done"));
    assert!(story.ack.is_none());
    // Neither side stores what was shown.
    for text in [serde_json::to_string(&story.presented), serde_json::to_string(&story.accepted)] {
        assert!(!text.unwrap().contains("s.d.jwt~kb"));
    }
    let mut verifier = story.got_presentation.clone();
    let actions = verifier.handle(verifier::Event::Accepted, NOW).unwrap();
    assert_eq!(actions, [verifier::Action::Ended(Outcome::Done)]);
}

#[test]
fn request_and_presentation_are_handed_over_with_all_that_binds_them() {
    let mut story = story(true);
    let actions = give_prover(&mut story.proposed, &story.request).unwrap();
    let [prover::Action::ShowRequest(view), prover::Action::WakeAt(UnixSeconds(5_000))] = actions.as_slice()
    else {
        panic!("{actions:?}")
    };
    assert_eq!((&view.dcql, view.nonce.as_str()), (&dcql(), NONCE));
    assert_eq!(
        (view.client_id.as_str(), view.will_confirm),
        ("decentralized_identifier:did:example:shop", true)
    );
    assert_eq!(
        (view.comment.as_deref(), view.goal_code.as_deref()),
        (Some("for the wine"), Some("org.example.age"))
    );
    let actions = give_verifier(&mut story.asked, &story.presentation).unwrap();
    assert_eq!(actions, [verifier::Action::CheckPresentation { vp: vp(), nonce: NONCE.into() }]);
}

#[test]
fn unasked_request_opens_a_thread() {
    let mut shop = Verifier::start(did(SHOP), did(ERIKA), thread("t-2"), Some(thread("oob-2")));
    assert_eq!(shop.state_name(), "null");
    let draft = draft_of_verifier(&shop.handle(asking(false), NOW).unwrap());
    assert_eq!((draft.id.clone(), draft.pthid.clone()), (Some(id("t-2")), Some(thread("oob-2"))));
    let (mut erika, _) = Prover::from_request(&to_erika(&draft).received(), NOW).unwrap();
    let presentation = to_shop(&draft_of_prover(&erika.handle(presenting(), NOW).unwrap()));
    assert!(give_verifier(&mut shop, &presentation).is_ok());
}

#[test]
fn request_in_another_verifiers_name_is_refused_on_both_sides() {
    let story = story(true);
    let names = [
        "decentralized_identifier:did:example:other",
        "did:example:shop",
        "redirect_uri:did:example:shop",
        "decentralized_identifier:",
        "decentralized_identifier:did:example:shop#key-1",
    ];
    for name in names {
        let mut shop = story.got_proposal.clone();
        assert!(
            matches!(shop.handle(asking_as(name.into(), true), NOW), Err(FlowError::Misuse { .. })),
            "{name}"
        );
        assert_eq!(shop, story.got_proposal);
        let content = DcqlRequest { dcql_query: dcql(), nonce: NONCE.into(), client_id: name.into() };
        let mut relayed = story.request.clone();
        relayed.message.attachments = vec![content.to_attachment("request").unwrap()];
        let mut erika = story.proposed.clone();
        let untrusted = FlowError::Untrusted { what: "client_id" };
        assert_eq!(give_prover(&mut erika, &relayed), Err(untrusted.clone()), "{name}");
        assert_eq!(erika, story.proposed);
        assert_eq!(Prover::from_request(&relayed.received(), NOW).unwrap_err(), untrusted);
    }
    // A genuine request that someone else passes on names a verifier other than its sender.
    let relayed = story.request.by_stranger();
    let refused = Prover::from_request(&relayed.received(), NOW).unwrap_err();
    assert_eq!(refused, FlowError::Untrusted { what: "client_id" });
}

#[test]
fn repeated_message_gets_the_same_answer_and_changes_nothing() {
    let mut story = story(true);
    let (before, again) =
        (story.presented.clone(), give_prover(&mut story.presented, &story.request).unwrap());
    assert_eq!(to_shop(&draft_of_prover(&again)).message, story.presentation.message);
    assert_eq!(story.presented, before);
    let (before, again) =
        (story.accepted.clone(), give_verifier(&mut story.accepted, &story.presentation).unwrap());
    assert_eq!(to_erika(&draft_of_verifier(&again)).message, story.ack.unwrap().message);
    assert_eq!(story.accepted, before);
    let again = give_verifier(&mut story.asked, &story.proposal).unwrap();
    assert_eq!(to_erika(&draft_of_verifier(&again)).message, story.request.message);
    assert_eq!(give_verifier(&mut story.got_presentation, &story.presentation), Ok(vec![]));
    assert_eq!(give_prover(&mut story.got_request, &story.request), Ok(vec![]));
}

#[test]
fn messages_from_elsewhere_are_refused_and_change_nothing() {
    let story = story(true);
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
    let ack = story.ack.clone().unwrap();
    for (machine, post) in [(&story.proposed, &story.request), (&story.presented, &ack)] {
        for (bad, error) in spoil(post) {
            let mut machine_ = machine.clone();
            assert_eq!(give_prover(&mut machine_, &bad), Err(error));
            assert_eq!(&machine_, machine);
        }
    }
    for (bad, error) in spoil(&story.presentation) {
        let mut verifier = story.asked.clone();
        assert_eq!(give_verifier(&mut verifier, &bad), Err(error));
        assert_eq!(verifier, story.asked);
    }
}

#[test]
fn messages_out_of_turn_are_refused_and_change_nothing() {
    let story = story(true);
    let unexpected = |message, state| FlowError::Unexpected { message, state };
    let ack = story.ack.clone().unwrap();
    let second = story.request.with_id("r-2");
    for (machine, post, error) in [
        (&story.proposed, &ack, unexpected(Ack::TYPE, "proposal-sent")),
        (&story.got_request, &ack, unexpected(Ack::TYPE, "request-received")),
        (&story.got_request, &second, unexpected(RequestPresentation::TYPE, "request-received")),
        (&story.presented, &second, unexpected(RequestPresentation::TYPE, "presentation-sent")),
    ] {
        let mut machine_ = machine.clone();
        assert_eq!(give_prover(&mut machine_, post), Err(error));
        assert_eq!(&machine_, machine);
    }
    let another = story.presentation.with_id("p-2");
    for (machine, post, error) in [
        (&story.got_proposal, &story.presentation, unexpected(Presentation::TYPE, "proposal-received")),
        (&story.got_presentation, &another, unexpected(Presentation::TYPE, "presentation-received")),
        (&story.accepted, &another, unexpected(Presentation::TYPE, "done")),
        (&story.accepted, &story.proposal.with_id("p-3"), unexpected(ProposePresentation::TYPE, "done")),
    ] {
        let mut machine_ = machine.clone();
        assert_eq!(give_verifier(&mut machine_, post), Err(error));
        assert_eq!(&machine_, machine);
    }
    let echo = Post { sender: did(SHOP), recipient: did(ERIKA), ..story.presentation.clone() };
    assert_eq!(give_prover(&mut story.presented.clone(), &echo), Err(FlowError::UnknownMessage));
    let echo = Post { sender: did(ERIKA), recipient: did(SHOP), ..story.request.clone() };
    assert_eq!(give_verifier(&mut story.asked.clone(), &echo), Err(FlowError::UnknownMessage));
}

#[test]
fn events_out_of_turn_are_refused_and_change_nothing() {
    let story = story(true);
    for (machine, event, name) in [
        (&story.proposed, presenting(), "Present"),
        (&story.presented, presenting(), "Present"),
        (&story.presented, declining(), "Declined"),
    ] {
        let mut machine_ = machine.clone();
        let error = FlowError::Unexpected { message: name, state: machine.state_name() };
        assert_eq!(machine_.handle(event, NOW), Err(error));
        assert_eq!(&machine_, machine);
    }
    for (machine, event, name) in [
        (&story.asked, asking(true), "Request"),
        (&story.asked, verifier::Event::Accepted, "Accepted"),
        (&story.accepted, verifier::Event::Accepted, "Accepted"),
        (&story.accepted, refusing(), "Refused"),
    ] {
        let mut machine_ = machine.clone();
        let error = FlowError::Unexpected { message: name, state: machine.state_name() };
        assert_eq!(machine_.handle(event, NOW), Err(error));
        assert_eq!(&machine_, machine);
    }
}

#[test]
fn content_out_of_bounds_is_neither_sent_nor_taken() {
    let story = story(true);
    let mut prover = story.got_request.clone();
    let empty = prover::Event::Present { vp: DcqlPresentation(BTreeMap::new()) };
    assert_eq!(prover.handle(empty, NOW), Err(FlowError::InvalidContent { what: "vp_token" }));
    assert_eq!(prover, story.got_request);
    let spoil = |post: &Post, data: Value, format: &str| {
        let mut value = post.message.to_value();
        value["attachments"] = json!([{"id": "x", "format": format, "data": {"json": data}}]);
        Post { message: einmal_didcomm::Message::from_value(value).unwrap(), ..post.clone() }
    };
    let mut verifier = story.asked.clone();
    // `vp_token` with a string in place of an array.
    let text = spoil(&story.presentation, json!({"age": "s.d.jwt~kb"}), DcqlPresentation::FORMAT);
    let invalid = |what| Err(FlowError::InvalidContent { what });
    assert_eq!(give_verifier(&mut verifier, &text), invalid(DcqlPresentation::FORMAT));
    let foreign = spoil(&story.presentation, json!({}), "dif/presentation-exchange/submission@v1.0");
    assert_eq!(give_verifier(&mut verifier, &foreign), Err(FlowError::UnknownFormat));
    assert_eq!(verifier, story.asked);
    let mut prover = story.proposed.clone();
    let mut long = story.request.clone();
    long.message.body.insert("goal_code".into(), "x".repeat(200).into());
    assert_eq!(give_prover(&mut prover, &long), Err(FlowError::InvalidContent { what: "goal_code" }));
    let mut broken = story.request.clone();
    broken.message.body.insert("will_confirm".into(), "yes".into());
    let malformed = FlowError::Malformed(MessageError::InvalidBody { kind: RequestPresentation::TYPE });
    assert_eq!(give_prover(&mut prover, &broken), Err(malformed));
    assert_eq!(prover, story.proposed);
    let mut verifier = story.got_proposal.clone();
    let void = verifier::Event::Request {
        dcql: dcql(),
        client_id: client_id(&did(SHOP)),
        nonce: NONCE.into(),
        comment: None,
        goal_code: None,
        will_confirm: false,
        expires: Some(NOW),
    };
    assert!(matches!(verifier.handle(void, NOW), Err(FlowError::Misuse { .. })));
}

fn assert_reported(draft: &Draft, code: &str) {
    assert_eq!(draft.kind, PROBLEM_REPORT);
    assert_eq!((&draft.thid, &draft.pthid), (&None, &Some(thread("t-1"))));
    assert_eq!(draft.body.get("code"), Some(&json!(code)));
}

#[test]
fn declining_and_refusing_end_the_exchange_with_a_report() {
    let story = story(true);
    for mut prover in [story.proposed, story.got_request] {
        let actions = prover.handle(declining(), NOW).unwrap();
        assert_reported(&draft_of_prover(&actions), "e.p.req.declined");
        assert_eq!(actions[1], prover::Action::Ended(Outcome::Declined { code: ProblemCode::DECLINED }));
        assert_eq!(prover.state_name(), "abandoned");
        assert!(prover.is_abandoned() && prover.has_ended());
    }
    let ended = verifier::Action::Ended(Outcome::Refused { code: ProblemCode::TRUST });
    for mut verifier in [story.got_proposal, story.asked, story.got_presentation] {
        let actions = verifier.handle(refusing(), NOW).unwrap();
        assert_reported(&draft_of_verifier(&actions), "e.p.trust");
        assert_eq!(actions[1], ended);
        assert!(!serde_json::to_string(&verifier).unwrap().contains("s.d.jwt~kb"));
    }
    let mut unsent = Verifier::start(did(SHOP), did(ERIKA), thread("t-1"), None);
    assert_eq!(unsent.handle(refusing(), NOW), Ok(vec![ended]));
}

#[test]
fn problem_report_ends_the_exchange_and_others_move_nothing() {
    let story = story(true);
    let mut prover = story.presented.clone();
    let post = report(SHOP, ERIKA, "t-1", "e.p.trust");
    assert_eq!(give_prover(&mut prover, &post.by_stranger()), Err(FlowError::WrongSender));
    let other = report(SHOP, ERIKA, "t-2", "e.p.trust");
    assert_eq!(give_prover(&mut prover, &other), Err(FlowError::WrongThread));
    assert_eq!(give_prover(&mut prover, &report(SHOP, ERIKA, "t-1", "w.p.x")), Ok(vec![]));
    assert_eq!(prover, story.presented);
    let outcome = Outcome::PeerAbandoned { code: ProblemCode::TRUST };
    assert_eq!(give_prover(&mut prover, &post), Ok(vec![prover::Action::Ended(outcome)]));
    assert_eq!(give_prover(&mut prover, &post), Ok(vec![]));
    let mut by_thid = report(ERIKA, SHOP, "x", "e.p.req.declined");
    by_thid.message.pthid = None;
    by_thid.message.thid = Some(thread("t-1"));
    let mut verifier = story.asked.clone();
    let outcome = Outcome::PeerAbandoned { code: ProblemCode::DECLINED };
    assert_eq!(give_verifier(&mut verifier, &by_thid), Ok(vec![verifier::Action::Ended(outcome)]));
    let mut done = story.accepted.clone();
    let late = FlowError::Unexpected { message: PROBLEM_REPORT, state: "done" };
    assert_eq!(give_verifier(&mut done, &report(ERIKA, SHOP, "t-1", "e.p.x")), Err(late));
    assert_eq!(done, story.accepted);
}

#[test]
fn every_wait_ends() {
    let story = story(true);
    for (machine, deadline) in
        [(&story.proposed, NOW.plus(PROPOSAL_TIMEOUT_SECS)), (&story.got_request, UnixSeconds(5_000))]
    {
        let mut prover = machine.clone();
        let waiting = prover.handle(prover::Event::Tick, UnixSeconds(deadline.0 - 1)).unwrap();
        assert_eq!(waiting.last(), Some(&prover::Action::WakeAt(deadline)));
        let over = prover.handle(prover::Event::Tick, deadline).unwrap();
        assert_reported(&draft_of_prover(&over), "e.p.req.time");
        assert_eq!(over[1], prover::Action::Ended(Outcome::TimedOut));
    }
    let mut prover = story.presented.clone();
    let over = prover.handle(prover::Event::Tick, NOW.plus(VERDICT_TIMEOUT_SECS)).unwrap();
    assert_eq!(over, [prover::Action::Ended(Outcome::Unconfirmed)]);
    for (machine, deadline) in
        [(&story.got_proposal, NOW.plus(PROPOSAL_TIMEOUT_SECS)), (&story.asked, UnixSeconds(5_000))]
    {
        let mut verifier = machine.clone();
        let waiting = verifier.handle(verifier::Event::Tick, UnixSeconds(deadline.0 - 1)).unwrap();
        assert_eq!(waiting, [verifier::Action::WakeAt(deadline)]);
        let over = verifier.handle(verifier::Event::Tick, deadline).unwrap();
        assert_reported(&draft_of_verifier(&over), "e.p.req.time");
    }
    let mut verifier = story.got_presentation.clone();
    let again = verifier.handle(verifier::Event::Tick, NOW).unwrap();
    assert_eq!(again, [verifier::Action::CheckPresentation { vp: vp(), nonce: NONCE.into() }]);
}

#[test]
fn request_past_its_end_is_neither_answered_nor_is_its_answer_taken() {
    let mut story = story(true);
    let end = UnixSeconds(5_000);
    assert_eq!(story.got_request.handle(presenting(), end), Err(FlowError::Expired));
    let late = story.asked.handle(verifier::Event::Message(&story.presentation.received()), end);
    assert_eq!(late, Err(FlowError::Expired));
    assert_eq!(Prover::from_request(&story.request.received(), end).unwrap_err(), FlowError::Expired);
}

#[test]
fn request_without_end_stands_for_the_usual_time() {
    let mut post = story(true).request;
    post.message.expires_time = None;
    let (_, actions) = Prover::from_request(&post.received(), NOW).unwrap();
    assert_eq!(actions[1], prover::Action::WakeAt(NOW.plus(REQUEST_TIMEOUT_SECS)));
}

#[test]
fn counter_proposal_gets_a_new_request_with_a_nonce_of_its_own() {
    let mut story = story(true);
    assert!(give_verifier(&mut story.asked, &story.proposal.with_id("p-2")).is_ok());
    assert_eq!(story.asked.state_name(), "proposal-received");
    // An answer to the withdrawn request is refused.
    let refused = give_verifier(&mut story.asked, &story.presentation).unwrap_err();
    assert_eq!(refused, FlowError::Unexpected { message: Presentation::TYPE, state: "proposal-received" });
    assert!(story.asked.handle(asking(true), NOW).is_ok());
}

#[test]
fn messages_in_the_namespace_of_a_deployed_agent_are_understood() {
    let story = story(true);
    let alias = |post: &Post| {
        let mut value = post.message.to_value();
        let kind = value["type"].as_str().unwrap().replace("didcomm.org", "didcomm.atalaprism.io");
        value["type"] = kind.into();
        Post { message: einmal_didcomm::Message::from_value(value).unwrap(), ..post.clone() }
    };
    assert!(covers(&alias(&story.proposal).message.kind));
    assert!(Verifier::from_proposal(&alias(&story.proposal).received(), NOW).is_ok());
    assert!(Prover::from_request(&alias(&story.request).received(), NOW).is_ok());
    assert!(give_verifier(&mut story.asked.clone(), &alias(&story.presentation)).is_ok());
    assert!(give_prover(&mut story.presented.clone(), &alias(story.ack.as_ref().unwrap())).is_ok());
}

#[test]
fn messages_of_others_and_of_other_versions_are_none_of_this_protocol() {
    let covers = |uri: &str| covers(&MessageType::parse(uri).unwrap());
    assert!(covers("https://didcomm.org/present-proof/3.0/ack"));
    assert!(covers("https://didcomm.org/Present_Proof/3.1/anything"));
    assert!(!covers("https://didcomm.org/present-proof/2.0/ack"));
    assert!(!covers("https://example.org/present-proof/3.0/ack"));
    assert!(!covers("https://didcomm.atalaprism.io/present-proof/2.0/ack"));
    assert!(!covers("https://didcomm.atalaprism.io/issue-credential/3.0/ack"));
}

#[test]
fn negative_and_pending_verdicts_are_told_apart() {
    let story = story(true);
    let ack = |status: Value| {
        let mut post = story.ack.clone().unwrap().with_id("ack-2");
        post.message.body.insert("status".into(), status);
        post
    };
    let mut prover = story.presented.clone();
    assert_eq!(give_prover(&mut prover, &ack(json!("PENDING"))), Ok(vec![]));
    assert_eq!(prover.state_name(), "presentation-sent");
    let mut prover = story.presented.clone();
    let outcome = Outcome::PeerAbandoned { code: ProblemCode::REQUEST };
    assert_eq!(give_prover(&mut prover, &ack(json!("FAIL"))), Ok(vec![prover::Action::Ended(outcome)]));
    let malformed = FlowError::Malformed(MessageError::InvalidBody { kind: Ack::TYPE });
    assert_eq!(give_prover(&mut story.presented.clone(), &ack(json!(1))), Err(malformed));
}

#[test]
fn debug_shows_nothing_personal() {
    let story = story(true);
    let texts = [
        format!("{:?}{:?}{:?}", story.got_request, story.presented, story.got_presentation),
        format!("{:?}{:?}", presenting(), asking(true)),
        format!("{:?}", story.got_presentation.clone().handle(verifier::Event::Tick, NOW)),
        format!("{:?}", story.got_request.clone().handle(prover::Event::Tick, NOW)),
    ];
    for text in texts {
        for secret in ["s.d.jwt~kb", NONCE, "wine", "erika"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn published_exchange_is_read_and_its_foreign_format_named() {
    let read = |step: &str, from: &str, to: &str| {
        let mut value = vector(&format!("waci/presentation/{step}.json"))?;
        value.as_object_mut()?.remove("from");
        Some(Post::new(from, to, value))
    };
    let (wallet, verifier_) = ("did:example:wallet", "did:example:verifier");
    let Some(proposal) = read("2.present-proof_propose", wallet, verifier_) else { return };
    let (verifier, _) = Verifier::from_proposal(&proposal.received(), NOW).unwrap();
    assert_eq!(verifier.pthid(), Some(&thread("599f3638-b563-4937-9487-dfe55099d900")));
    let request = read("3.present-proof_request", verifier_, wallet).unwrap();
    assert!(!request.message.body_as::<RequestPresentation>().unwrap().will_confirm);
    assert_eq!(Prover::from_request(&request.received(), NOW).unwrap_err(), FlowError::UnknownFormat);
    let presentation = read("4.present-proof_present", wallet, verifier_).unwrap();
    assert!(presentation.message.body_as::<Presentation>().is_ok());
    // The vector nests this one level too deep.
    assert_eq!(
        presentation.message.attachments[0].format.as_deref(),
        Some("dif/presentation-exchange/submission@v1.0")
    );
    let ack = read("5.present-proof_ack", verifier_, wallet).unwrap();
    assert!(ack.message.body_as::<Ack>().is_ok());
    for post in [&request, &presentation, &ack] {
        assert_eq!(post.message.thread(), *verifier.thread());
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    const STRANGERS: usize = 6;

    fn posts(story: &Story, reports: Post) -> Vec<Post> {
        let mut posts = vec![
            story.request.clone(),
            story.ack.clone().unwrap(),
            reports,
            story.presentation.clone(),
            story.proposal.with_id("p-2"),
            story.request.with_id("r-2"),
        ];
        let strangers: Vec<Post> = posts.iter().map(Post::by_stranger).collect();
        posts.extend(strangers);
        posts
    }

    proptest! {
        /// In any order of messages: an ended exchange never moves, a refusal changes nothing, and nothing is presented
        /// without the person's consent to a request of the verifier.
        #[test]
        fn nothing_is_presented_without_the_persons_word(
            steps in prop::collection::vec((0..15_usize, 1_000..9_000_u64), 0..40),
        ) {
            let story = story(true);
            let posts = posts(&story, report(SHOP, ERIKA, "t-1", "e.p.x"));
            let mut prover = story.proposed.clone();
            let (mut asked, mut agreed) = (false, false);
            for (step, now) in steps {
                let before = prover.clone();
                let received = posts.get(step).map(Post::received);
                let event = match (step, &received) {
                    (_, Some(received)) => prover::Event::Message(received),
                    (12, _) => presenting(),
                    (13, _) => declining(),
                    _ => prover::Event::Tick,
                };
                let result = prover.handle(event, UnixSeconds(now));
                asked |= matches!(step, 0 | 5) && result.is_ok();
                agreed |= step == 12 && result.is_ok();
                for action in result.iter().flatten() {
                    if let prover::Action::Send(draft) = action {
                        prop_assert!(draft.kind != Presentation::TYPE || (asked && agreed));
                    }
                }
                if result.is_err() || matches!(before.state_name(), "done" | "abandoned") {
                    prop_assert_eq!(&prover, &before);
                }
                prop_assert!(!(STRANGERS..2 * STRANGERS).contains(&step) || result.is_err());
                prop_assert!(prover.state_name() != "done" || agreed);
                prop_assert_eq!(restart(&prover), prover.clone());
            }
        }

        /// The same for the verifier: it is done only after a presentation and a verdict.
        #[test]
        fn verifier_is_done_only_after_presentation_and_verdict(
            steps in prop::collection::vec((0..16_usize, 1_000..9_000_u64), 0..40),
        ) {
            let story = story(true);
            let posts = posts(&story, report(ERIKA, SHOP, "t-1", "e.p.x"));
            let mut verifier = story.got_proposal.clone();
            let (mut presented, mut accepted) = (false, false);
            for (step, now) in steps {
                let before = verifier.clone();
                let received = posts.get(step).map(Post::received);
                let event = match (step, &received) {
                    (_, Some(received)) => verifier::Event::Message(received),
                    (12, _) => asking(true),
                    (13, _) => verifier::Event::Accepted,
                    (14, _) => refusing(),
                    _ => verifier::Event::Tick,
                };
                let result = verifier.handle(event, UnixSeconds(now));
                presented |= step == 3 && result.is_ok();
                accepted |= step == 13 && result.is_ok();
                prop_assert!(!accepted || presented);
                if result.is_err() || matches!(before.state_name(), "done" | "abandoned") {
                    prop_assert_eq!(&verifier, &before);
                }
                prop_assert!(!(STRANGERS..2 * STRANGERS).contains(&step) || result.is_err());
                prop_assert!(verifier.state_name() != "done" || accepted);
                prop_assert_eq!(restart(&verifier), verifier.clone());
            }
        }
    }
}
