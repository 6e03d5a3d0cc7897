//! The mediator's decisions, with real keys where keys matter.

use std::collections::BTreeMap;

use einmal_did::{DerivedAgreement, DidDocument, DidUrl, LocalResolver, Relationship, did_key, key_document};
use einmal_didcomm::{Attachment, AttachmentData};
use einmal_keys::{KeyId, KeyKind, Keyring, PublicKey, SecretKey, SeededEntropy, base64url_encode};
use serde_json::{Value, json};

use super::*;
use crate::{
    SenderKey,
    coordinate_mediation::{dids_to_resolve, ownership_statement},
    limits::{MAX_CLOCK_SKEW_SECS, MAX_OWNERSHIP_PROOF_AGE_SECS},
    testing::{NOW, Post, did, thread},
};

const M: &str = "did:example:mediator";
const A: &str = "did:example:alice";
const B: &str = "did:example:bob";

#[test]
fn a_version_is_told_by_number_and_only_of_the_protocol_that_is_ours() {
    let of = |uri: &str| MediationVersion::of(&MessageType::parse(uri).unwrap());
    assert_eq!(of(MediateRequest::TYPE), Some(MediationVersion::V3));
    assert_eq!(of(MEDIATE_REQUEST_2), Some(MediationVersion::V2));
    assert_eq!(of("https://didcomm.org/coordinate-mediation/1.0/mediate-request"), None);
    for foreign in ["2.0", "3.0"] {
        assert_eq!(of(&format!("https://example.org/coordinate-mediation/{foreign}/mediate-request")), None);
    }
}

#[derive(Clone, Default)]
struct Table {
    accounts: Vec<Did>,
    owners: BTreeMap<String, Registration>,
    broken: bool,
}

impl Registrations for Table {
    fn is_account(&self, account: &Did) -> Result<bool, Unavailable> {
        if self.broken { Err(Unavailable) } else { Ok(self.accounts.contains(account)) }
    }

    fn owner(&self, recipient: &Did) -> Result<Option<Registration>, Unavailable> {
        if recipient.as_str() == "did:example:broken" {
            return Err(Unavailable);
        }
        Ok(self.owners.get(recipient.as_str()).cloned())
    }

    fn list(&self, account: &Did, offset: usize, limit: usize) -> Result<Vec<Did>, Unavailable> {
        let theirs = self.owners.iter().filter(|(_, owner)| owner.account == *account);
        Ok(theirs.skip(offset).take(limit).map(|(text, _)| did(text)).collect())
    }

    fn count(&self, account: &Did) -> Result<usize, Unavailable> {
        Ok(self.owners.values().filter(|owner| owner.account == *account).count())
    }
}

impl Table {
    fn with_accounts() -> Self {
        Self { accounts: vec![did(A), did(B)], ..Self::default() }
    }

    fn with(mut self, recipient: &str, account: &str, proved: bool) -> Self {
        self.owners.insert(recipient.to_owned(), Registration { account: did(account), proved });
        self
    }
}

fn request(from: &str, message: &str, body: Value) -> Post {
    let kind = format!("https://didcomm.org/coordinate-mediation/3.0/{message}");
    Post::new(from, M, json!({"id": "q-1", "type": kind, "body": body}))
}

fn add(from: &str, recipient: &str) -> Post {
    request(from, "recipient-update", json!({"updates": [{"recipient_did": recipient, "action": "add"}]}))
}

fn policy() -> MediationPolicy {
    MediationPolicy::open(did(M))
}

fn ask(post: &Post, table: &Table) -> Result<(Vec<RegistrationChange>, Draft), FlowError> {
    ask_with(post, table, &LocalResolver::default(), &policy())
}

fn ask_with(
    post: &Post,
    table: &Table,
    resolver: &dyn Resolver,
    policy: &MediationPolicy,
) -> Result<(Vec<RegistrationChange>, Draft), FlowError> {
    answer(&post.received(), table, resolver, policy, NOW)
}

fn results(draft: &Draft) -> Vec<&str> {
    let updated = draft.body["updated"].as_array().unwrap();
    updated.iter().map(|entry| entry["result"].as_str().unwrap()).collect()
}

fn put(recipient: &str, account: &str, proved: bool) -> RegistrationChange {
    let registration = Registration { account: did(account), proved };
    RegistrationChange::Put { recipient: did(recipient), form: did(recipient), registration }
}

#[test]
fn stranger_gets_an_account_once_and_only_if_the_operator_admits_it() {
    let mediate = request(A, "mediate-request", json!({}));
    let (changes, draft) = ask(&mediate, &Table::default()).unwrap();
    assert_eq!(changes, [RegistrationChange::Enroll { account: did(A) }]);
    assert_eq!(Value::Object(draft.body.clone()), json!({"routing_did": [M]}));
    assert_eq!(draft.thid, Some(thread("q-1")));
    let (changes, again) = ask(&mediate, &Table::with_accounts()).unwrap();
    assert_eq!((changes, again), (vec![RegistrationChange::Enroll { account: did(A) }], draft), "asked anew");
    let closed = MediationPolicy { admits_new_accounts: false, ..policy() };
    let resolver = LocalResolver::default();
    let (changes, draft) = ask_with(&mediate, &Table::default(), &resolver, &closed).unwrap();
    assert_eq!((changes.len(), &*draft.kind), (0, MediateDeny::TYPE));
    let (_, draft) = ask_with(&mediate, &Table::with_accounts(), &resolver, &closed).unwrap();
    assert_eq!(draft.kind, MediateGrant::TYPE);
}

#[test]
fn nobody_registers_the_mediators_own_did_nor_unproved_the_did_of_an_account() {
    for theirs in [M, B] {
        let (changes, draft) = ask(&add(A, theirs), &Table::with_accounts()).unwrap();
        assert_eq!((changes, results(&draft)), (vec![], vec!["client_error"]), "{theirs}");
    }
    let (changes, draft) = ask(&add(B, B), &Table::with_accounts()).unwrap();
    assert_eq!((changes, results(&draft)), (vec![put(B, B, true)], vec!["success"]), "its own");
}

#[test]
fn stranger_registers_and_lists_nothing() {
    for post in [add(A, "did:example:d"), request(A, "recipient-query", json!({}))] {
        assert_eq!(ask(&post, &Table::default()), Err(FlowError::NotEnrolled));
    }
}

#[test]
fn fresh_did_is_registered_without_proof_under_its_canonical_form_and_kept_as_it_was_written() {
    let (changes, draft) = ask(&add(A, "did:web:City.example#key-1"), &Table::with_accounts()).unwrap();
    let registration = Registration { account: did(A), proved: false };
    let (recipient, form) = (did("did:web:city.example"), did("did:web:City.example"));
    assert_eq!(changes, [RegistrationChange::Put { recipient, form, registration }]);
    let expected = json!({"updated":
        [{"recipient_did": "did:web:City.example#key-1", "action": "add", "result": "success"}]});
    assert_eq!(Value::Object(draft.body), expected);
}

#[test]
fn a_did_that_is_there_already_is_listed_as_it_is_written_now() {
    let table = || Table::with_accounts().with("did:web:city.example", A, false);
    let (changes, draft) = ask(&add(A, "did:web:City.example"), &table()).unwrap();
    assert_eq!(results(&draft), ["no_change"]);
    let [RegistrationChange::Put { recipient, form, registration }] = changes.as_slice() else {
        panic!("{changes:?}")
    };
    let expected = Registration { account: did(A), proved: false };
    assert_eq!(
        (recipient, form, registration),
        (&did("did:web:city.example"), &did("did:web:City.example"), &expected)
    );
    assert_eq!(ask(&add(A, "did:web:city.example"), &table()).unwrap().0, [], "nothing new is said");
}

#[test]
fn own_did_is_proved_by_being_the_sender() {
    let (changes, _) = ask(&add(A, A), &Table::with_accounts()).unwrap();
    assert_eq!(changes, [put(A, A, true)]);
}

#[test]
fn unproved_registration_displaces_nobody() {
    for proved in [false, true] {
        let table = Table::with_accounts().with("did:example:d", B, proved);
        let (changes, draft) = ask(&add(A, "did:example:d"), &table).unwrap();
        assert_eq!((changes.len(), results(&draft)), (0, vec!["client_error"]));
    }
}

#[test]
fn proved_registration_displaces_everybody() {
    for proved in [false, true] {
        let table = Table::with_accounts().with(A, B, proved);
        let (changes, draft) = ask(&add(A, A), &table).unwrap();
        assert_eq!((changes, results(&draft)), (vec![put(A, A, true)], vec!["success"]));
    }
}

#[test]
fn own_registration_is_no_change_and_may_gain_proof() {
    let table = Table::with_accounts().with("did:example:d", A, false).with(A, A, false);
    let (changes, draft) = ask(&add(A, "did:example:d"), &table).unwrap();
    assert_eq!((changes.len(), results(&draft)), (0, vec!["no_change"]));
    let (changes, draft) = ask(&add(A, A), &table).unwrap();
    assert_eq!((changes, results(&draft)), (vec![put(A, A, true)], vec!["no_change"]));
}

#[test]
fn operator_may_demand_proof() {
    let strict = MediationPolicy { require_proof: true, ..policy() };
    let resolver = LocalResolver::default();
    let table = Table::with_accounts();
    let (changes, draft) = ask_with(&add(A, "did:example:d"), &table, &resolver, &strict).unwrap();
    assert_eq!((changes.len(), results(&draft)), (0, vec!["client_error"]));
    let (changes, _) = ask_with(&add(A, A), &table, &resolver, &strict).unwrap();
    assert_eq!(changes, [put(A, A, true)]);
}

#[test]
fn quota_is_kept_within_one_message_too() {
    let tight = MediationPolicy { max_recipients: 2, ..policy() };
    let table = Table::with_accounts().with("did:example:1", A, false);
    let update =
        |n: &str, action: &str| json!({"recipient_did": format!("did:example:{n}"), "action": action});
    let updates = [update("2", "add"), update("3", "add"), update("1", "remove"), update("3", "add")];
    let post = request(A, "recipient-update", json!({ "updates": updates }));
    let (changes, draft) = ask_with(&post, &table, &LocalResolver::default(), &tight).unwrap();
    assert_eq!(results(&draft), ["success", "client_error", "success", "success"]);
    let removed = RegistrationChange::Remove { recipient: did("did:example:1"), account: did(A) };
    let expected = [put("did:example:2", A, false), removed, put("did:example:3", A, false)];
    assert_eq!(changes, expected);
}

#[test]
fn removal_touches_ones_own_registrations_only() {
    let table = Table::with_accounts().with("did:example:d", B, false);
    for recipient in ["did:example:d", "did:example:nobodys"] {
        let updates = json!([{"recipient_did": recipient, "action": "remove"}]);
        let post = request(A, "recipient-update", json!({ "updates": updates }));
        let (changes, draft) = ask(&post, &table).unwrap();
        assert_eq!((changes.len(), results(&draft)), (0, vec!["no_change"]));
    }
}

#[test]
fn entries_that_are_no_dids_or_meet_a_broken_store_fail_alone() {
    let update = |text: &str| json!({"recipient_did": text, "action": "add"});
    let updates =
        [update("no did"), update("did:example:broken"), update("did:example:d"), update("did:example:d")];
    let post = request(A, "recipient-update", json!({ "updates": updates }));
    let (changes, draft) = ask(&post, &Table::with_accounts()).unwrap();
    assert_eq!(results(&draft), ["client_error", "server_error", "success", "no_change"]);
    assert_eq!(changes.len(), 1);
}

#[test]
fn broken_store_is_never_read_as_an_empty_one() {
    let broken = Table { broken: true, ..Table::with_accounts() };
    for post in [add(A, A), request(A, "mediate-request", json!({}))] {
        assert_eq!(ask(&post, &broken), Err(FlowError::Unavailable));
    }
}

#[test]
fn too_many_updates_late_and_foreign_messages_are_refused() {
    let update = json!({"recipient_did": "did:example:d", "action": "add"});
    let updates = vec![update; MAX_UPDATES_PER_MESSAGE + 1];
    let many = request(A, "recipient-update", json!({ "updates": updates }));
    let refused = FlowError::TooMany { what: "updates", most: MAX_UPDATES_PER_MESSAGE };
    assert_eq!(ask(&many, &Table::with_accounts()), Err(refused));
    let mut late = request(A, "mediate-request", json!({}));
    late.message.expires_time = Some(NOW);
    assert_eq!(ask(&late, &Table::default()), Err(FlowError::Expired));
    let foreign = request(A, "mediate-grant", json!({}));
    assert_eq!(ask(&foreign, &Table::default()), Err(FlowError::UnknownMessage));
}

#[test]
fn list_is_paged_with_bounds_and_pagination_is_written_only_where_it_says_something() {
    let mut table = Table::with_accounts();
    for n in 0..150 {
        table = table.with(&format!("did:example:{n:03}"), A, false);
    }
    let list = |body: Value, table: &Table| ask(&request(A, "recipient-query", body), table).unwrap().1.body;
    let page = list(json!({"paginate": {"limit": 2, "offset": 3}}), &table);
    let expected = json!({"dids": [{"recipient_did": "did:example:003"}, {"recipient_did": "did:example:004"}],
        "pagination": {"count": 2, "offset": 3, "remaining": 145}});
    assert_eq!(Value::Object(page), expected);
    for body in [json!({}), json!({"paginate": {"limit": u64::MAX, "offset": 0}})] {
        let page = list(body, &table);
        assert_eq!(page["dids"].as_array().unwrap().len(), MAX_RECIPIENT_PAGE);
        assert_eq!(page["pagination"]["remaining"], json!(50));
    }
    let beyond = list(json!({"paginate": {"limit": 1, "offset": u64::MAX}}), &table);
    assert_eq!(beyond["pagination"]["remaining"], json!(0));
    let few = list(json!({}), &Table::with_accounts().with("did:example:d", A, false));
    assert_eq!(Value::Object(few), json!({"dids": [{"recipient_did": "did:example:d"}]}));
}

/// A did:key with its secret, and the resolver that computes its document.
fn keyed(seed: u64) -> (Did, Keyring, KeyId, PublicKey) {
    let secret = SecretKey::generate(KeyKind::Ed25519, &SeededEntropy::new(seed)).unwrap();
    let public = secret.public_key();
    let did = did_key(&public);
    let kid = KeyId::new(format!("{did}#{}", public.to_multikey()));
    let ring = Keyring::new();
    ring.insert(kid.clone(), secret);
    (did, ring, kid, public)
}

fn with_statement(statement: Attachment, recipient: &Did) -> Post {
    let mut post = add(A, recipient.as_str());
    post.message.attachments = vec![statement];
    post
}

fn proved(post: &Post, resolver: &dyn Resolver) -> bool {
    let (changes, _) = ask_with(post, &Table::with_accounts(), resolver, &policy()).unwrap();
    let [RegistrationChange::Put { registration, .. }] = changes.as_slice() else { panic!("{changes:?}") };
    registration.proved
}

#[test]
fn signed_statement_of_the_did_proves_its_consent() {
    let (recipient, ring, kid, _) = keyed(1);
    let mut statement = ownership_statement(&recipient, &did(A), &did(M), NOW);
    statement.sign(&ring, &kid).unwrap();
    assert!(proved(&with_statement(statement, &recipient), &LocalResolver::default()));
}

#[test]
fn statement_that_is_unsigned_foreign_stale_or_for_another_account_proves_nothing() {
    let (recipient, ring, kid, _) = keyed(1);
    let (other, other_ring, other_kid, _) = keyed(2);
    let signed = |mut statement: Attachment, ring: &Keyring, kid: &KeyId| {
        statement.sign(ring, kid).unwrap();
        statement
    };
    let make = |recipient: &Did, account: &str, mediator: &str, at: UnixSeconds| {
        ownership_statement(recipient, &did(account), &did(mediator), at)
    };
    let now = UnixSeconds(NOW.0 + MAX_OWNERSHIP_PROOF_AGE_SECS);
    let mut relabelled = signed(make(&recipient, A, M, now), &ring, &kid);
    relabelled.format = Some("other".into());
    let mut changed = signed(make(&recipient, B, M, now), &ring, &kid);
    let content = make(&recipient, A, M, now).bytes().unwrap();
    changed.data = {
        let mut data = AttachmentData::default();
        data.base64 = Some(base64url_encode(content));
        data.jws = changed.data.jws.clone();
        data
    };
    let cases = [
        ("unsigned", make(&recipient, A, M, now)),
        ("signed by another DID", signed(make(&recipient, A, M, now), &other_ring, &other_kid)),
        ("about another DID", signed(make(&other, A, M, now), &other_ring, &other_kid)),
        ("for another account", signed(make(&recipient, B, M, now), &ring, &kid)),
        ("for another mediator", signed(make(&recipient, A, B, now), &ring, &kid)),
        ("stale", signed(make(&recipient, A, M, UnixSeconds(NOW.0 - 1)), &ring, &kid)),
        ("of the future", signed(make(&recipient, A, M, now.plus(MAX_CLOCK_SKEW_SECS + 1)), &ring, &kid)),
        ("of another format", relabelled),
        ("changed after signing", changed),
    ];
    for (what, statement) in cases {
        let post = with_statement(statement, &recipient);
        let (changes, _) =
            answer(&post.received(), &Table::with_accounts(), &LocalResolver::default(), &policy(), now)
                .unwrap();
        assert_eq!(changes, [put(recipient.as_str(), A, false)], "{what}");
    }
}

#[test]
fn a_did_too_long_to_be_read_at_every_request_is_not_registered() {
    let of = |len: usize| format!("did:example:{}", "a".repeat(len - "did:example:".len()));
    let longest = of(MAX_RECIPIENT_LEN);
    let (changes, _) = ask(&add(A, &longest), &Table::with_accounts()).unwrap();
    assert_eq!(changes, [put(&longest, A, false)]);
    let (changes, draft) = ask(&add(A, &of(MAX_RECIPIENT_LEN + 1)), &Table::with_accounts()).unwrap();
    assert!(changes.is_empty());
    assert_eq!(draft.body["updated"][0]["result"], "client_error");
}

/// Each statement may cost a signature check, so many statements must not cost many checks.
#[test]
fn however_many_statements_and_updates_name_one_did_few_signatures_are_checked() {
    struct Counting(LocalResolver, std::sync::atomic::AtomicUsize);
    impl Resolver for Counting {
        fn resolve(&self, did: &Did) -> Result<std::sync::Arc<DidDocument>, einmal_did::ResolveError> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.0.resolve(did)
        }
    }
    let (recipient, ..) = keyed(1);
    let (_, other_ring, other_kid, _) = keyed(2);
    let mut wrong = ownership_statement(&recipient, &did(A), &did(M), NOW);
    wrong.sign(&other_ring, &other_kid).unwrap();
    let update = json!({"recipient_did": recipient, "action": "add"});
    let mut post = request(A, "recipient-update", json!({"updates": vec![update; 100]}));
    post.message.attachments = vec![wrong; 100];
    let resolver = Counting(LocalResolver::default(), 0.into());
    let (changes, _) = ask_with(&post, &Table::with_accounts(), &resolver, &policy()).unwrap();
    assert_eq!(changes, [put(recipient.as_str(), A, false)]);
    let looked_up = resolver.1.into_inner();
    assert!((1..=4).contains(&looked_up), "{looked_up}");
}

/// A resolver of fixed documents.
fn resolver_of(documents: Vec<DidDocument>) -> impl Resolver {
    struct Fixed(Vec<DidDocument>);
    impl Resolver for Fixed {
        fn resolve(&self, did: &Did) -> Result<std::sync::Arc<DidDocument>, einmal_did::ResolveError> {
            let found = self.0.iter().find(|document| document.id == *did);
            found
                .cloned()
                .map(std::sync::Arc::new)
                .ok_or_else(|| einmal_did::ResolveError::NotFetched { did: did.clone() })
        }
    }
    Fixed(documents)
}

fn document(text: &str, agreement: &[u64], authentication: &[u64]) -> DidDocument {
    let mut document = DidDocument::new(did(text));
    let mut put = |kind: KeyKind, seed: u64, relationship: Relationship| {
        let key = public_key(kind, seed);
        let fragment = format!("{seed}-{}", relationship.member());
        document.add_method(&fragment, key, &[relationship]).unwrap();
    };
    agreement.iter().for_each(|seed| put(KeyKind::X25519, *seed, Relationship::KeyAgreement));
    authentication.iter().for_each(|seed| put(KeyKind::Ed25519, *seed, Relationship::Authentication));
    document
}

fn public_key(kind: KeyKind, seed: u64) -> PublicKey {
    SecretKey::generate(kind, &SeededEntropy::new(seed)).unwrap().public_key()
}

#[test]
fn a_key_of_the_recipient_proves_if_it_authenticated_the_message_and_not_if_it_is_listed() {
    const D: &str = "did:example:d";
    let recipient = || document(D, &[1, 3], &[2]);
    let (agreement, authentication) = (Relationship::KeyAgreement, Relationship::Authentication);
    let cases = [
        ("its agreement key", KeyKind::X25519, 1, agreement, document(A, &[1], &[2]), true),
        ("its second agreement key", KeyKind::X25519, 3, agreement, document(A, &[3], &[9]), true),
        ("its signing key", KeyKind::Ed25519, 2, authentication, document(A, &[9], &[2]), true),
        ("its key for another purpose", KeyKind::X25519, 1, authentication, document(A, &[1], &[2]), false),
        // The sender's document lists the recipient's key, in the last case even that alone; another key opened the
        // envelope.
        ("a key listed beside it", KeyKind::X25519, 9, agreement, document(A, &[1, 9], &[2]), false),
        ("a key that was listed before", KeyKind::X25519, 9, agreement, document(A, &[1], &[2]), false),
    ];
    for (what, kind, seed, purpose, sender, expected) in cases {
        let key = public_key(kind, seed);
        let resolver = resolver_of(vec![sender, recipient()]);
        let post = add(A, D);
        let received = post.received().as_proved_by(SenderKey { key: &key, purpose });
        let (changes, _) = answer(&received, &Table::with_accounts(), &resolver, &policy(), NOW).unwrap();
        assert_eq!(changes, [put(D, A, expected)], "{what}");
        let (unresolved, _) =
            answer(&received, &Table::with_accounts(), &LocalResolver::default(), &policy(), NOW).unwrap();
        assert_eq!(unresolved, [put(D, A, false)], "{what}, unresolved");
    }
}

#[test]
fn documents_to_fetch_first_are_named() {
    let update = |text: &str, action: &str| json!({"recipient_did": text, "action": action});
    let updates =
        [update("did:web:a.example#k", "add"), update("did:web:b.example", "remove"), update("x", "add")];
    let mut post = request(A, "recipient-update", json!({ "updates": updates }));
    let strict = MediationPolicy { require_proof: true, ..policy() };
    assert!(dids_to_resolve(&post.received(), &policy()).is_empty(), "nothing rests on them");
    assert_eq!(dids_to_resolve(&post.received(), &strict), [did("did:web:a.example")]);
    post.message.attachments = vec![ownership_statement(&did("did:web:a.example"), &did(A), &did(M), NOW)];
    assert_eq!(dids_to_resolve(&post.received(), &policy()), [did("did:web:a.example")]);
    assert!(dids_to_resolve(&request(A, "mediate-request", json!({})).received(), &strict).is_empty());
}

#[test]
fn key_documents_of_these_tests_are_the_ones_the_resolver_computes() {
    let (did, _, kid, _) = keyed(1);
    let document = key_document(&did, DerivedAgreement::Included).unwrap();
    let url = DidUrl::parse(kid.as_str()).unwrap();
    assert!(document.method_for(Relationship::Authentication, &url).is_some());
}

/// What the mediator answers to a request of version 2.0, as JSON.
fn answer_2(message: &str, body: Value, table: &Table) -> Value {
    let kind = format!("https://didcomm.org/coordinate-mediation/2.0/{message}");
    let post = Post::new(A, M, json!({"id": "q-1", "type": kind, "body": body}));
    let policy = MediationPolicy::open(did(M));
    let (_, draft) = answer(&post.received(), table, &LocalResolver::new(), &policy, NOW).unwrap();
    assert_eq!(draft.thid, Some(thread("q-1")));
    json!({"type": draft.kind, "body": draft.body})
}

#[test]
fn a_query_of_either_version_is_told_from_what_changes_something() {
    let is_query = |uri: &str| is_query(&MessageType::parse(uri).unwrap());
    assert!(is_query(RecipientQuery::TYPE) && is_query(KeylistQuery::TYPE));
    for changes in [MediateRequest::TYPE, MEDIATE_REQUEST_2, RecipientUpdate::TYPE, KeylistUpdate::TYPE] {
        assert!(!is_query(changes), "{changes}");
    }
    assert!(!is_query("https://example.org/coordinate-mediation/3.0/recipient-query"));
    let is_request = |uri: &str| is_request(&MessageType::parse(uri).unwrap());
    assert!(is_request(MediateRequest::TYPE) && is_request(MEDIATE_REQUEST_2));
    assert!(!is_request(RecipientQuery::TYPE) && !is_request(RecipientUpdate::TYPE));
}

#[test]
fn the_second_version_gets_its_own_names_and_one_routing_did_as_text() {
    let family = "https://didcomm.org/coordinate-mediation/2.0/";
    let table = Table::with_accounts().with("did:example:r", A, false);
    assert_eq!(
        answer_2("mediate-request", json!({}), &table),
        json!({"type": format!("{family}mediate-grant"), "body": {"routing_did": M}})
    );
    let updates = json!({"updates": [{"recipient_did": "did:example:new", "action": "add"},
        {"recipient_did": "did:example:r", "action": "add"}]});
    let updated = json!([{"recipient_did": "did:example:new", "action": "add", "result": "success"},
        {"recipient_did": "did:example:r", "action": "add", "result": "no_change"}]);
    assert_eq!(
        answer_2("keylist-update", updates, &table),
        json!({"type": format!("{family}keylist-update-response"), "body": {"updated": updated}})
    );
    assert_eq!(
        answer_2("keylist-query", json!({}), &table),
        json!({"type": format!("{family}keylist"), "body": {"keys": [{"recipient_did": "did:example:r"}]}})
    );
    let page = json!({"paginate": {"limit": 1, "offset": 1}});
    let pagination = json!({"count": 0, "offset": 1, "remaining": 0});
    assert_eq!(
        answer_2("keylist-query", page, &table)["body"],
        json!({"keys": [], "pagination": pagination})
    );
}

#[test]
fn names_of_one_version_are_unknown_in_the_other() {
    for (message, version) in
        [("recipient-update", "2.0"), ("keylist-update", "3.0"), ("mediate-request", "1.0")]
    {
        let kind = format!("https://didcomm.org/coordinate-mediation/{version}/{message}");
        let post = Post::new(A, M, json!({"id": "q-1", "type": kind, "body": {"updates": []}}));
        let policy = MediationPolicy::open(did(M));
        let table = Table::with_accounts();
        let refused = answer(&post.received(), &table, &LocalResolver::new(), &policy, NOW).unwrap_err();
        assert_eq!(refused, FlowError::UnknownMessage, "{kind}");
    }
}
