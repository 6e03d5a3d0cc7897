//! The target `bodies`: what a proved sender says in each DIDComm protocol, read by every possible role.

use std::sync::LazyLock;

use einmal_did::{Did, parse_strict_json};
use einmal_didcomm::{Body, Message, MessageId, MessageType, UnixSeconds, limits::MAX_ENVELOPE_BYTES};
use einmal_flows::{
    Draft, Received,
    basic_message::{self, BasicMessage},
    coordinate_mediation::{
        self as mediation, Keylist, KeylistDeny, KeylistGrant, KeylistQuery, KeylistUpdate,
        KeylistUpdateResponse, MediateDeny, MediateGrant, MediateRequest, MediationPolicy, RecipientList,
        RecipientQuery, RecipientUpdate, RecipientUpdateResponse, Registration, Registrations, Unavailable,
    },
    discover_features::{self, Disclose, Disclosure, Queries, read_disclosures},
    empty::Empty,
    issue_credential::{
        self, IssueCredential, OfferCredential, ProposeCredential, RequestCredential, holder, issuer,
    },
    limits,
    message_pickup::{
        self as pickup, Delivery, Delivery4, DeliveryRequest, LiveDeliveryChange, MessagesReceived,
        PickupRequest, Status, Status4, StatusRequest,
    },
    out_of_band::{Invitation, InvitationBody},
    present_proof::{self, Presentation, ProposePresentation, RequestPresentation, prover, verifier},
    report_problem::{self, ProblemReport},
    trust_ping::{self, Ping, PingResponse},
};
use einmal_keys::SeededEntropy;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    NOW, json,
    keys::{KnownPeople, world},
    plaintext,
};

/// A type URI, and a function that tells whether a body of that type is accepted.
type Kind = (&'static str, fn(&Message) -> bool);

/// The types of all messages read here, and the types that older and foreign agents send instead.
pub(crate) static KINDS: &[Kind] = &[
    (BasicMessage::TYPE, body::<BasicMessage>),
    (MediateRequest::TYPE, body::<MediateRequest>),
    (MediateGrant::TYPE, body::<MediateGrant>),
    (MediateDeny::TYPE, body::<MediateDeny>),
    (RecipientUpdate::TYPE, body::<RecipientUpdate>),
    (RecipientUpdateResponse::TYPE, body::<RecipientUpdateResponse>),
    (RecipientQuery::TYPE, body::<RecipientQuery>),
    (RecipientList::TYPE, body::<RecipientList>),
    (KeylistGrant::TYPE, body::<KeylistGrant>),
    (KeylistDeny::TYPE, body::<KeylistDeny>),
    (KeylistUpdate::TYPE, body::<KeylistUpdate>),
    (KeylistUpdateResponse::TYPE, body::<KeylistUpdateResponse>),
    (KeylistQuery::TYPE, body::<KeylistQuery>),
    (Keylist::TYPE, body::<Keylist>),
    (Queries::TYPE, body::<Queries>),
    (Disclose::TYPE, body::<Disclose>),
    (Empty::TYPE, body::<Empty>),
    (ProposeCredential::TYPE, body::<ProposeCredential>),
    (OfferCredential::TYPE, body::<OfferCredential>),
    (RequestCredential::TYPE, body::<RequestCredential>),
    (IssueCredential::TYPE, body::<IssueCredential>),
    (issue_credential::Ack::TYPE, body::<issue_credential::Ack>),
    (StatusRequest::TYPE, body::<StatusRequest>),
    (Status::TYPE, body::<Status>),
    (DeliveryRequest::TYPE, body::<DeliveryRequest>),
    (Delivery::TYPE, body::<Delivery>),
    (MessagesReceived::TYPE, body::<MessagesReceived>),
    (LiveDeliveryChange::TYPE, body::<LiveDeliveryChange>),
    (Status4::TYPE, body::<Status4>),
    (Delivery4::TYPE, body::<Delivery4>),
    (InvitationBody::TYPE, body::<InvitationBody>),
    (ProposePresentation::TYPE, body::<ProposePresentation>),
    (RequestPresentation::TYPE, body::<RequestPresentation>),
    (Presentation::TYPE, body::<Presentation>),
    (present_proof::Ack::TYPE, body::<present_proof::Ack>),
    (ProblemReport::TYPE, body::<ProblemReport>),
    (Ping::TYPE, body::<Ping>),
    (PingResponse::TYPE, body::<PingResponse>),
    ("https://didcomm.org/coordinate-mediation/2.0/mediate-request", by_roles),
    ("https://didcomm.org/message-pickup/4.0/status-request", by_roles),
    ("https://didcomm.org/message-pickup/4.0/delivery-request", by_roles),
    ("https://didcomm.org/message-pickup/4.0/messages-received", by_roles),
    ("https://didcomm.org/message-pickup/4.0/live-delivery-change", by_roles),
    ("https://didcomm.org/discover-features/2.0/query", by_roles),
    ("https://didcomm.org/discover-features/2.0/disclosures", by_roles),
    ("https://didcomm.atalaprism.io/present-proof/3.0/request-presentation", by_roles),
];

/// The mode byte of the first type.
pub(crate) const FIRST_MODE: u8 = b'A';

/// Reads a message from alice to bob: the first byte chooses its type, the rest is the message as JSON, to which an id,
/// a thread and the type are added.
///
/// True if the body is valid for its type; for types of foreign agents, if some role accepts it.
pub fn bodies(bytes: &[u8]) -> bool {
    let Some((mode, rest)) = bytes.split_first() else { return false };
    let (uri, taken) = KINDS[usize::from(mode.wrapping_sub(FIRST_MODE)) % KINDS.len()];
    let Ok(Value::Object(mut value)) = parse_strict_json(rest, MAX_ENVELOPE_BYTES) else { return false };
    value.insert("type".into(), uri.into());
    value.entry("id").or_insert_with(|| "m-1".into());
    value.entry("thid").or_insert_with(|| THREAD.into());
    let Ok(mut message) = Message::from_value(value.into()) else { return false };
    message.from = Some(world().alice.clone());
    message.to = vec![world().bob_short.clone()];
    let by_roles = by_roles(&message);
    by_roles | taken(&message)
}

const THREAD: &str = "t-1";

/// Reads the body, which must stay the same when written and read again.
fn body<B: Body>(message: &Message) -> bool {
    let Ok(body) = message.body_as::<B>() else { return false };
    let write = |body: &B| {
        let mut written = Message::new(id("m-2"), MessageType::parse(B::TYPE).expect("a type of ours"));
        let Ok(Value::Object(members)) = serde_json::to_value(body) else {
            panic!("what was read can be written")
        };
        written.body = members;
        written
    };
    let written = write(&body);
    plaintext::check(&written);
    let again = written.body_as::<B>().expect("what was written can be read");
    let (first, second) = (Value::Object(written.body), Value::Object(write(&again).body));
    assert!(json::same(&first, &second), "a body changed by writing and reading it: {first} {second}");
    true
}

fn id(text: &str) -> MessageId {
    MessageId::try_from(text).expect("an id")
}

/// Registrations in which alice has an account, with her own DID registered.
struct Book;

impl Registrations for Book {
    fn is_account(&self, account: &Did) -> Result<bool, Unavailable> {
        Ok(account.same_as(&world().alice))
    }

    fn owner(&self, recipient: &Did) -> Result<Option<Registration>, Unavailable> {
        let alice = &world().alice;
        let own = recipient.same_as(alice);
        Ok(own.then(|| Registration { account: alice.canonical(), proved: true }))
    }

    fn list(&self, _: &Did, offset: usize, limit: usize) -> Result<Vec<Did>, Unavailable> {
        Ok([world().alice.canonical()].into_iter().skip(offset).take(limit).collect())
    }

    fn count(&self, _: &Did) -> Result<usize, Unavailable> {
        Ok(1)
    }
}

/// Shows the message to every role; true if one accepts it.
fn by_roles(message: &Message) -> bool {
    let (sender, recipient) = (world().alice.canonical(), world().bob_short.clone());
    let rx = Received::unproved(message, &sender, &recipient);
    let answered = [as_mediator(&rx), as_anybody(&rx), as_party(&rx)];
    answered.contains(&true)
}

fn as_mediator(rx: &Received<'_>) -> bool {
    let mut taken = false;
    if let Ok(request) = PickupRequest::read(rx, UnixSeconds(NOW)) {
        taken = true;
        let _ = request.authorise(rx, &Book);
        match &request {
            PickupRequest::Delivery { limit, .. } => assert!(*limit <= limits::MAX_DELIVERY_BATCH),
            PickupRequest::Received { ids, .. } => {
                assert!(ids.len() <= limits::MAX_CONFIRMED_IDS);
                assert!(ids.iter().all(|id| id.len() <= limits::MAX_QUEUE_ID_LEN));
            }
            PickupRequest::Status { .. } | PickupRequest::LiveDelivery { .. } => {}
        }
    }
    for require_proof in [false, true] {
        let policy = MediationPolicy { require_proof, ..MediationPolicy::open(world().bob.clone()) };
        let answer = mediation::answer(rx, &Book, &KnownPeople::new(), &policy, UnixSeconds(NOW));
        if let Ok((changes, draft)) = answer {
            taken = true;
            assert!(changes.len() <= limits::MAX_UPDATES_PER_MESSAGE);
            sent(draft);
        }
    }
    taken
}

fn as_anybody(rx: &Received<'_>) -> bool {
    let now = UnixSeconds(NOW);
    let features = [Disclosure::protocol("https://didcomm.org/trust-ping/2.0", &["receiver"])];
    let answered = discover_features::answer(rx, &features, now).map(sent).is_ok();
    let disclosed = read_disclosures(rx);
    if let Ok(disclosures) = &disclosed {
        assert!(disclosures.len() <= limits::MAX_DISCLOSURES);
        assert!(disclosures.iter().all(|one| one.id.len() <= limits::MAX_FEATURE_LEN));
    }
    let pinged = trust_ping::answer(rx, now).map(|pong| pong.map(sent)).is_ok();
    let text = basic_message::read(rx, now);
    assert!(text.as_ref().is_ok_and(|text| text.content.len() <= limits::MAX_CONTENT_LEN) || text.is_err());
    let reported = report_problem::read(rx);
    if let Ok(problem) = &reported {
        let report = &problem.report;
        let chars = |text: &String, most: usize| text.chars().count() <= most;
        assert!(report.comment.as_ref().is_none_or(|text| chars(text, limits::MAX_COMMENT_CHARS)));
        let args = report.args.as_deref().unwrap_or_default();
        assert!(args.len() <= limits::MAX_PROBLEM_ARGS);
    }
    let invited = Invitation::from_message(rx.message());
    answered || disclosed.is_ok() || pinged || text.is_ok() || reported.is_ok() || invited.is_ok()
}

/// Gives a machine the same message twice, then the end of its time, and checks its state.
macro_rules! hear {
    ($module:ident, $machine:expr, $rx:expr) => {{
        let mut machine = $machine;
        let before = record(&machine);
        let heard = machine.handle($module::Event::Message($rx), UnixSeconds(NOW));
        match &heard {
            Err(_) => assert_eq!(record(&machine), before, "a refused message changed something"),
            Ok(actions) => {
                for action in actions {
                    if let $module::Action::Send(draft) = action {
                        sent(draft.clone());
                    }
                }
            }
        }
        let once = record(&machine);
        let _ = machine.handle($module::Event::Message($rx), UnixSeconds(NOW));
        if heard.is_ok() {
            assert_eq!(record(&machine), once, "a repeated message changed something");
        }
        let _ = machine.handle($module::Event::Tick, UnixSeconds(NOW + 400 * 24 * 3600));
        record(&machine);
        heard.is_ok()
    }};
}

/// As one side of an exchange: a new one, or one that waits for such a message.
fn as_party(rx: &Received<'_>) -> bool {
    let now = UnixSeconds(NOW);
    let begun = [
        holder::Holder::from_offer(rx, now).map(|(machine, _)| record(&machine)).is_ok(),
        issuer::Issuer::from_proposal(rx, now).map(|(machine, _)| record(&machine)).is_ok(),
        prover::Prover::from_request(rx, now).map(|(machine, _)| record(&machine)).is_ok(),
        verifier::Verifier::from_proposal(rx, now).map(|(machine, _)| record(&machine)).is_ok(),
    ];
    let waiting = &*WAITING;
    let heard = [
        hear!(holder, waiting.proposing.clone(), rx),
        hear!(holder, waiting.requesting.clone(), rx),
        hear!(issuer, waiting.offering.clone(), rx),
        hear!(prover, waiting.proving.clone(), rx),
        hear!(verifier, waiting.asking.clone(), rx),
        hear_answer(rx),
    ];
    begun.contains(&true) || heard.contains(&true)
}

/// As the owner of an account at a mediator, waiting for its answers.
fn hear_answer(rx: &Received<'_>) -> bool {
    let (now, waiting) = (UnixSeconds(NOW), &*WAITING);
    let mut account = waiting.account.clone();
    let granted = account.handle(mediation::Event::Message(rx), now).is_ok();
    assert!(granted || account == waiting.account, "a refused message changed something");
    let mut fetching = waiting.fetching.clone();
    let fetched = fetching.handle(pickup::Event::Message(rx), now);
    assert!(fetched.is_ok() || fetching == waiting.fetching, "a refused message changed something");
    granted || fetched.is_ok()
}

/// Bob's machines that wait for a message from alice.
struct Waiting {
    proposing: holder::Holder,
    requesting: holder::Holder,
    offering: issuer::Issuer,
    proving: prover::Prover,
    asking: verifier::Verifier,
    account: mediation::Recipient,
    fetching: pickup::Recipient,
}

static WAITING: LazyLock<Waiting> = LazyLock::new(|| {
    let (alice, bob, now) = (world().alice.canonical(), world().bob_short.clone(), UnixSeconds(NOW));
    let thid = || id(THREAD).to_thread();
    let mut asking = verifier::Verifier::start(bob.clone(), alice.clone(), thid(), None);
    let request = verifier::Event::Request {
        dcql: json!({"credentials": [{"id": "c", "format": "dc+sd-jwt", "meta": {"vct_values": ["v"]}}]}),
        client_id: present_proof::client_id(&bob),
        nonce: "n".repeat(32),
        comment: None,
        goal_code: None,
        will_confirm: true,
        expires: None,
    };
    asking.handle(request, now).expect("a good request");
    let mut account = mediation::Recipient::new(bob.clone(), alice.clone());
    account.handle(mediation::Event::Ask { thid: thid() }, now).expect("a first question");
    let mut fetching = pickup::Recipient::new(bob.clone(), alice.clone());
    fetching.handle(pickup::Event::Fetch { thid: thid() }, now).expect("a first question");
    Waiting {
        proposing: holder::Holder::propose(bob.clone(), alice.clone(), thid(), None, now).0,
        requesting: requesting(&alice, &bob),
        offering: offered(&bob, &alice).0,
        proving: prover::Prover::propose(bob, alice, thid(), None, now).0,
        asking,
        account,
        fetching,
    }
});

/// An issuer that has made an offer, and its message.
pub(crate) fn offered(own: &Did, holder: &Did) -> (issuer::Issuer, Message) {
    let offer = einmal_flows::formats::SdJwtOffer {
        vct: "urn:v".into(),
        cryptographic_binding: einmal_flows::formats::CryptographicBinding::Jwk,
        alg: vec!["ES256".into()],
        nonce: "n".repeat(32),
        aud: own.to_string(),
    };
    let mut machine = issuer::Issuer::offer(own.clone(), holder.clone(), id(THREAD).to_thread(), None);
    let event = issuer::Event::Offer {
        offer,
        preview: vec![("name".into(), "Erika".into())],
        comment: None,
        expires: None,
    };
    let actions = machine.handle(event, UnixSeconds(NOW)).expect("a good offer");
    let draft = actions.into_iter().find_map(|action| match action {
        issuer::Action::Send(draft) => Some(draft),
        _ => None,
    });
    let draft = draft.expect("an offer is sent");
    let message = draft.into_message(own, holder, UnixSeconds(NOW), &SeededEntropy::new(7));
    (machine, message.expect("a good message"))
}

/// A holder that has accepted an offer of alice's.
fn requesting(alice: &Did, bob: &Did) -> holder::Holder {
    let (_, message) = offered(alice, bob);
    let rx = Received::unproved(&message, alice, bob);
    let (mut machine, _) = holder::Holder::from_offer(&rx, UnixSeconds(NOW)).expect("a good offer");
    let accepted = holder::Event::Accepted { proof_jwt: "e30.e30.AA".into() };
    machine.handle(accepted, UnixSeconds(NOW)).expect("an offer can be taken");
    machine
}

/// A machine as stored; it must read back equal.
fn record<M: Serialize + DeserializeOwned>(machine: &M) -> Value {
    let value = serde_json::to_value(machine).expect("a machine can be stored");
    let text = value.to_string();
    let again: M = serde_json::from_str(&text).expect("a stored machine can be loaded");
    let again = serde_json::to_value(&again).expect("a machine can be stored");
    assert!(json::same(&value, &again), "a machine changed by storing it: {value} {again}");
    value
}

/// The answer must be a valid message.
fn sent(draft: Draft) {
    let message = draft.into_message(&world().bob, &world().alice, UnixSeconds(NOW), &SeededEntropy::new(7));
    let message = message.expect("an answer can be written");
    assert!(message.to_bytes().len() <= MAX_ENVELOPE_BYTES);
    plaintext::check(&message);
}
