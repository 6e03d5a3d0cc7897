//! Wrapping for mediators: who can open which layer, what each learns, and what is refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking too")]

mod common;

use common::{NOW, Party, World, did, message};
use einmal_did::{Did, DidDocument, Endpoint, Relationship, Resolver, Service, did_key};
use einmal_didcomm::{
    Attachment, Delivery, FORWARD_TYPE, Forward, Message, MessageError, MessageId, MessageType, Opened,
    PackError, PackOptions, Packed, SenderProtection, deliveries,
    limits::{MAX_DELIVERIES, MAX_ROUTING_KEYS, MAX_TOLD_KEY_CHARS, MAX_WRAPPED_KEYS},
};
use einmal_keys::{KeyKind, SecretKey, SeededEntropy};
use serde_json::json;

const URI: &str = "https://mediator.example/didcomm";

struct Stage {
    world: World,
    alice: Party,
    bob: Party,
    near: Party,
    far: Party,
}

impl Stage {
    /// Bob at `endpoints`.
    fn new(endpoints: Vec<Endpoint>) -> Self {
        let world = World::new();
        let (alice, bob) = (world.party("alice", 1), world.party("bob", 2));
        let (near, far) = (world.party("near", 5), world.party("far", 6));
        let stage = Self { world, alice, bob, near, far };
        stage.serve(&stage.bob.did, endpoints);
        stage
    }

    /// Adds services, one for each endpoint, to the document of `did`.
    fn serve(&self, did: &Did, endpoints: Vec<Endpoint>) {
        let mut document: DidDocument = (*self.world.resolver.resolve(did).unwrap()).clone();
        for (index, endpoint) in endpoints.into_iter().enumerate() {
            document.add_service(Service::didcomm(format!("#s{index}"), vec![endpoint])).unwrap();
        }
        self.world.resolver.remember(document);
    }

    fn packed(&self) -> Packed {
        let sent = message(&self.alice.did, &self.bob.did);
        self.world.packer(&self.alice.ring).pack(&sent, &self.bob.did, &PackOptions::default()).unwrap()
    }

    fn deliver(&self) -> Result<Vec<Delivery>, PackError> {
        deliveries(&self.world.packer(&self.alice.ring), &self.packed(), Some(NOW.plus(60)))
    }

    /// What `mediator` reads from `bytes` and passes on.
    fn pass(&self, bytes: &[u8], mediator: &Party) -> Forward {
        let opened = self.world.open(bytes, mediator).unwrap();
        assert_eq!((opened.sender(), &opened.message.to[..]), (None, &[mediator.did.clone()][..]));
        assert_eq!(opened.message.expires_time, Some(NOW.plus(60)));
        let forward = Forward::from_message(&opened.message).unwrap();
        assert_eq!((forward.payloads.len(), forward.expires_time), (1, Some(NOW.plus(60))));
        forward
    }

    fn arrives(&self, bytes: &[u8]) -> Opened {
        let opened = self.world.open(bytes, &self.bob).unwrap();
        assert_eq!(opened.sender(), Some(&self.alice.did));
        assert_eq!(opened.message, message(&self.alice.did, &self.bob.did));
        opened
    }
}

fn at(uri: &str, routing_keys: &[String]) -> Endpoint {
    Endpoint { routing_keys: routing_keys.to_vec(), ..Endpoint::didcomm(uri) }
}

#[test]
fn direct_endpoint_gets_the_envelope_as_it_is() {
    let stage = Stage::new(vec![at(URI, &[])]);
    let packed = stage.packed();
    let ways = deliveries(&stage.world.packer(&stage.alice.ring), &packed, None).unwrap();
    assert_eq!((ways.len(), ways[0].uri.as_str(), ways[0].mediated), (1, URI, false));
    assert_eq!(ways[0].bytes, packed.bytes);
}

#[test]
fn one_mediator_by_routing_key_learns_only_the_recipient() {
    let stage = Stage::new(Vec::new());
    stage.serve(&stage.bob.did, vec![at(URI, &[stage.near.kid("agree-x25519")])]);
    let way = stage.deliver().unwrap().remove(0);
    assert_eq!((way.uri.as_str(), way.mediated), (URI, true));
    let forward = stage.pass(&way.bytes, &stage.near);
    assert_eq!(forward.next, stage.bob.did);
    stage.arrives(&forward.payloads[0]);
}

#[test]
fn two_routing_keys_are_passed_in_the_order_listed() {
    let stage = Stage::new(Vec::new());
    let keys = [stage.near.kid("agree-p-256"), stage.far.did.as_str().to_owned()];
    stage.serve(&stage.bob.did, vec![at(URI, &keys)]);
    let way = stage.deliver().unwrap().remove(0);
    let first = stage.pass(&way.bytes, &stage.near);
    assert_eq!(first.next, stage.far.did);
    let second = stage.pass(&first.payloads[0], &stage.far);
    assert_eq!(second.next, stage.bob.did);
    stage.arrives(&second.payloads[0]);
}

#[test]
fn routing_key_by_url_wraps_to_that_key_alone() {
    let stage = Stage::new(Vec::new());
    stage.serve(&stage.bob.did, vec![at(URI, &[stage.near.kid("agree-p-384")])]);
    let way = stage.deliver().unwrap().remove(0);
    let opened = stage.world.open(&way.bytes, &stage.near).unwrap();
    assert_eq!(opened.proof.recipient.unwrap().kid.as_str(), stage.near.kid("agree-p-384"));
}

#[test]
fn did_as_endpoint_is_a_mediator_before_all_routing_keys() {
    let stage = Stage::new(Vec::new());
    stage.serve(&stage.near.did, vec![at(URI, &[]), at("wss://mediator.example/ws", &[])]);
    stage.serve(&stage.bob.did, vec![at(stage.near.did.as_str(), &[stage.far.kid("agree-x25519")])]);
    let ways = stage.deliver().unwrap();
    assert_eq!(
        ways.iter().map(|way| way.uri.as_str()).collect::<Vec<_>>(),
        [URI, "wss://mediator.example/ws"]
    );
    let first = stage.pass(&ways[0].bytes, &stage.near);
    assert_eq!(first.next, stage.far.did);
    let second = stage.pass(&first.payloads[0], &stage.far);
    assert_eq!(second.next, stage.bob.did);
    stage.arrives(&second.payloads[0]);
}

#[test]
fn routing_key_that_is_a_did_key_wraps_to_its_agreement_key() {
    for (kind, seed) in [(KeyKind::Ed25519, 81), (KeyKind::X25519, 82)] {
        let key = common::secret(kind, seed).public_key();
        let mediator = did_key(&key);
        for routing_key in [mediator.to_string(), format!("{mediator}#{}", key.to_multikey())] {
            let stage = Stage::new(vec![at(URI, &[routing_key])]);
            let way = stage.deliver().unwrap().remove(0);
            let document = stage.world.resolver.resolve(&mediator).unwrap();
            let expected = document.methods(Relationship::KeyAgreement).next().unwrap().id.to_string();
            let jwe: serde_json::Value = serde_json::from_slice(&way.bytes).unwrap();
            assert_eq!(jwe["recipients"][0]["header"]["kid"], json!(expected));
        }
    }
}

#[test]
fn mediators_cannot_open_the_inner_envelope() {
    let stage = Stage::new(Vec::new());
    stage.serve(&stage.bob.did, vec![at(URI, &[stage.near.did.to_string()])]);
    let way = stage.deliver().unwrap().remove(0);
    let forward = stage.pass(&way.bytes, &stage.near);
    let refusal = stage.world.open(&forward.payloads[0], &stage.near).unwrap_err();
    assert_eq!(refusal, einmal_didcomm::OpenError::NotForUs);
}

/// A mediator may put the payload into a fresh forward addressed to the recipient itself.
#[test]
fn forward_rewrapped_for_the_recipient_is_read_by_it() {
    let stage = Stage::new(vec![at(URI, &[])]);
    let inner = stage.packed();
    let mut forward = forward_of(json!({"next": stage.bob.did.as_str()}), vec![payload(&inner.bytes)]);
    forward.to = vec![stage.bob.did.clone()];
    let options = PackOptions::protecting(SenderProtection::Anoncrypt);
    let rewrapped = stage.world.packer(&stage.near.ring).pack(&forward, &stage.bob.did, &options).unwrap();
    let opened = stage.world.open(&rewrapped.bytes, &stage.bob).unwrap();
    let read = Forward::from_message(&opened.message).unwrap();
    assert_eq!(read.next, stage.bob.did);
    stage.arrives(&read.payloads[0]);
}

#[test]
fn mediator_whose_own_endpoint_is_a_did_is_refused() {
    let stage = Stage::new(Vec::new());
    stage.serve(&stage.near.did, vec![at(stage.far.did.as_str(), &[])]);
    stage.serve(&stage.bob.did, vec![at(stage.near.did.as_str(), &[])]);
    let expected = PackError::MediatorChain { mediator: stage.near.did.clone() };
    assert_eq!(stage.deliver().unwrap_err(), expected);
}

#[test]
fn recipient_that_names_itself_as_mediator_is_refused() {
    let stage = Stage::new(Vec::new());
    stage.serve(&stage.bob.did, vec![at(stage.bob.did.as_str(), &[])]);
    let expected = PackError::MediatorChain { mediator: stage.bob.did.clone() };
    assert_eq!(stage.deliver().unwrap_err(), expected);
}

#[test]
fn missing_endpoints_are_named_with_whose_they_are() {
    let stage = Stage::new(Vec::new());
    assert_eq!(stage.deliver().unwrap_err(), PackError::NoEndpoint { did: stage.bob.did.clone() });
    stage.serve(&stage.bob.did, vec![at(stage.near.did.as_str(), &[])]);
    assert_eq!(stage.deliver().unwrap_err(), PackError::NoEndpoint { did: stage.near.did.clone() });
}

#[test]
fn endpoint_that_looks_like_a_did_and_is_none_is_no_transport_uri() {
    for uri in ["did:example:near#key-1", "did:example", "did:"] {
        let stage = Stage::new(vec![at(uri, &[])]);
        assert_eq!(
            stage.deliver().unwrap_err(),
            PackError::NoEndpoint { did: stage.bob.did.clone() },
            "{uri}"
        );
    }
}

#[test]
fn endpoint_for_another_protocol_is_left_out() {
    let other = Endpoint { accept: vec!["didcomm/aip1".into()], ..Endpoint::didcomm("https://v1.example") };
    let stage = Stage::new(vec![other, at(URI, &[])]);
    let ways = stage.deliver().unwrap();
    assert_eq!(ways.iter().map(|way| way.uri.as_str()).collect::<Vec<_>>(), [URI]);
}

#[test]
fn endpoint_that_cannot_be_used_does_not_hide_the_next_one() {
    let stage = Stage::new(vec![at("https://a.example", &["no key".into()]), at(URI, &[])]);
    let ways = stage.deliver().unwrap();
    assert_eq!(ways.iter().map(|way| way.uri.as_str()).collect::<Vec<_>>(), [URI]);
}

#[test]
fn routing_key_that_is_no_agreement_key_is_refused() {
    let stage = Stage::new(Vec::new());
    let authentication = stage.near.kid("auth-ed25519");
    for key in ["no key".to_owned(), authentication] {
        let stage = Stage::new(vec![at(URI, std::slice::from_ref(&key))]);
        assert_eq!(stage.deliver().unwrap_err(), PackError::RoutingKey { key });
    }
    let stage = Stage::new(vec![at(URI, &["x".repeat(MAX_TOLD_KEY_CHARS + 1)])]);
    let told = "x".repeat(MAX_TOLD_KEY_CHARS);
    assert_eq!(stage.deliver().unwrap_err(), PackError::RoutingKey { key: told });
}

#[test]
fn unknown_mediator_must_be_fetched_first() {
    let web = did("did:web:mediator.example");
    let stage = Stage::new(vec![at(web.as_str(), &[])]);
    let source = einmal_did::ResolveError::NotFetched { did: web.clone() };
    assert_eq!(stage.deliver().unwrap_err(), PackError::Resolve { did: web, source });
}

#[test]
fn preferred_mediator_that_is_not_fetched_yet_is_not_left_out_for_the_next_endpoint() {
    let web = did("did:web:mediator.example");
    let stage = Stage::new(vec![at(web.as_str(), &[]), at(URI, &[])]);
    let source = einmal_did::ResolveError::NotFetched { did: web.clone() };
    assert_eq!(stage.deliver().unwrap_err(), PackError::Resolve { did: web, source });
}

#[test]
fn what_may_be_resolved_later_is_told_rather_than_what_will_never_do() {
    let gone = "did:example:gone";
    let stage = Stage::new(vec![at(gone, &[]), at("https://a.example", &["no key".into()])]);
    assert!(matches!(stage.deliver().unwrap_err(), PackError::Resolve { did, .. } if did.as_str() == gone));
}

#[test]
fn keys_that_forwards_are_wrapped_for_are_bounded_in_all() {
    let stage =
        Stage::new(vec![at(URI, &vec!["did:example:many".to_owned(); 3]), at("https://b.example", &[])]);
    let mut many = DidDocument::new(did("did:example:many"));
    for number in 0..60 {
        let key = SecretKey::generate(KeyKind::X25519, &SeededEntropy::new(number)).unwrap().public_key();
        many.add_method(&format!("k{number}"), key, &[Relationship::KeyAgreement]).unwrap();
    }
    stage.world.resolver.remember(many);
    let ways = stage.deliver().unwrap();
    assert_eq!(ways.iter().map(|way| way.uri.as_str()).collect::<Vec<_>>(), ["https://b.example"]);
    let two = Stage::new(vec![at(URI, &vec!["did:example:many".to_owned(); 2])]);
    two.world.resolver.remember((*stage.world.resolver.resolve(&did("did:example:many")).unwrap()).clone());
    assert_eq!(two.deliver().unwrap().len(), 1);
    let alone = Stage::new(vec![at(URI, &vec!["did:example:many".to_owned(); 3])]);
    alone.world.resolver.remember((*two.world.resolver.resolve(&did("did:example:many")).unwrap()).clone());
    let error = PackError::TooMany { what: "keys on the way", most: MAX_WRAPPED_KEYS };
    assert_eq!(alone.deliver().unwrap_err(), error);
}

#[test]
fn numbers_of_hops_and_of_endpoints_are_bounded() {
    let keys = vec!["did:example:near".to_owned(); MAX_ROUTING_KEYS + 1];
    let stage = Stage::new(vec![at(URI, &keys)]);
    let error = PackError::TooMany { what: "routing keys", most: MAX_ROUTING_KEYS };
    assert_eq!(stage.deliver().unwrap_err(), error);

    let many =
        |scheme: &str| (0..20).map(|n| at(&format!("{scheme}://{n}.example"), &[])).collect::<Vec<_>>();
    let stage = Stage::new(many("https"));
    assert_eq!(stage.deliver().unwrap().len(), MAX_DELIVERIES);
    let stage = Stage::new(vec![at("did:example:near", &[]), at("did:example:near", &[])]);
    stage.serve(&stage.near.did, many("wss"));
    assert_eq!(stage.deliver().unwrap().len(), MAX_DELIVERIES);
}

fn payload(bytes: &[u8]) -> Attachment {
    Attachment::json("0", serde_json::from_slice(bytes).unwrap())
}

fn forward_of(body: serde_json::Value, attachments: Vec<Attachment>) -> Message {
    let kind = MessageType::parse(FORWARD_TYPE).unwrap();
    let mut message = Message::new(MessageId::try_from("f-1").unwrap(), kind);
    message.body = body.as_object().unwrap().clone();
    message.attachments = attachments;
    message
}

#[test]
fn next_may_be_a_key_reference_and_several_payloads_are_all_read() {
    let bytes = br#"{"ciphertext":"a"}"#;
    let attachments = vec![payload(bytes), Attachment::base64("1", bytes)];
    let forward = forward_of(json!({"next": "did:example:bob#key-1"}), attachments);
    let read = Forward::from_message(&forward).unwrap();
    assert_eq!(
        (read.next.as_str(), read.payloads),
        ("did:example:bob", vec![bytes.to_vec(), bytes.to_vec()])
    );
}

#[test]
fn forward_without_next_or_payload_and_payload_by_link_are_refused() {
    let good = || vec![payload(b"{}")];
    let invalid = MessageError::InvalidBody { kind: FORWARD_TYPE };
    for body in
        [json!({}), json!({"next": null}), json!({"next": 7}), json!({"next": "bob"}), json!({"next": [""]})]
    {
        assert_eq!(Forward::from_message(&forward_of(body, good())).unwrap_err(), invalid);
    }
    let next = json!({"next": "did:example:bob"});
    assert_eq!(Forward::from_message(&forward_of(next.clone(), Vec::new())).unwrap_err(), invalid);
    let mut linked = Attachment::default();
    linked.data.links = vec!["https://a.example".into()];
    linked.data.hash = Some("zQm".into());
    assert_eq!(Forward::from_message(&forward_of(next, vec![linked])).unwrap_err(), invalid);
    let other = message(&did("did:example:a"), &did("did:example:b"));
    let expected = MessageError::WrongType { expected: FORWARD_TYPE };
    assert_eq!(Forward::from_message(&other).unwrap_err(), expected);
}
