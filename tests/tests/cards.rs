//! Cards and proofs that break the rules, or that foreign wallets and issuers make in their own way: the exact outcome.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use einmal::{
    config::{Config, Role},
    db::{Db, INVITATIONS},
    node::Refusal,
};
use einmal_credentials::{
    proof::{self, ProofCheck},
    sd_jwt::Claims,
    vc::{self, CredentialRequest, HeldCredential, KeyBindingRequest},
};
use einmal_did::Did;
use einmal_didcomm::{Message, UnixSeconds};
use einmal_flows::{
    Draft,
    formats::{Content, DcqlPresentation, DcqlRequest, SdJwtIssue, SdJwtOffer, SdJwtRequest},
    issue_credential::{IssueCredential, ProposeCredential},
    present_proof::{self, Presentation, ProposePresentation, RequestPresentation},
};
use einmal_keys::{KeyId, PublicKey, base64url_decode};
use einmal_storage::{Batch, TenantId};
use einmal_tests::{
    ADULT, ByName, REPORT, START_MS, Stranger, World, befriended, card_offer, code, did_of, invitation_in,
    lone_city, name, offer, offering, own_city_folder, play, proposal, request, stranger_of,
};
use serde_json::json;

const NOW: UnixSeconds = UnixSeconds(START_MS / 1000);
const DAY: u64 = 24 * 3600;
const STRANGER: &str = "https://stranger.example";

fn asked(offer: &SdJwtOffer) -> ProofCheck<'_> {
    ProofCheck { audience: &offer.aud, nonce: &offer.nonce, asked_at: None, now: NOW.0 }
}

#[test]
fn proof_of_possession_for_another_offer_gets_no_card() {
    play(async {
        let (world, city, _) = lone_city().await;
        let stranger = stranger_of(1, &city);
        let first = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let second = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let mixed = request(&stranger, &first, Some(second.thread()));
        assert_eq!(code(&stranger.ask(&city, &mixed).await), "e.p.trust.crypto");
        assert_eq!(world.ask("city", "issued", json!({})).await, json!([]));
    });
}

#[test]
fn an_offer_for_one_is_spent_once_a_card_was_issued_whatever_its_holder_says() {
    play(async {
        let (world, city, did) = lone_city().await;
        let stranger = stranger_of(1, &city);
        let invitation = offer(&world).await;
        // Given up before there was a card: it may be started again.
        let first = stranger.ask(&city, &proposal(&stranger, &invitation)).await;
        let mut report = stranger.message(REPORT, &did, json!({"code": "e.p.msg.declined"}));
        report.pthid = Some(first.thread());
        stranger.hear(&city, &report).await;
        let offered = stranger.ask(&city, &proposal(&stranger, &invitation)).await;
        assert_eq!(name(&offered), "offer-credential");
        let thread = offered.thread();
        let issued = stranger.ask(&city, &request(&stranger, &offered, Some(thread.clone()))).await;
        assert_eq!(name(&issued), "issue-credential");
        let kind = "https://didcomm.org/issue-credential/3.0/ack";
        let mut refused = stranger.message(kind, &did, json!({"status": "FAIL"}));
        refused.thid = Some(thread);
        assert_eq!(stranger.hear(&city, &refused).await, None);
        assert_eq!(code(&stranger.ask(&city, &proposal(&stranger, &invitation)).await), "e.p.req");
        assert_eq!(world.ask("city", "issued", json!({})).await.as_array().unwrap().len(), 1);
    });
}

/// Nobody can mend it by coming again, and other mail must not wait behind it.
#[test]
fn a_card_that_would_be_valid_for_no_second_is_refused_and_not_put_off() {
    play(async {
        let (world, city, _) = lone_city().await;
        world.clock().advance(60_000);
        let order =
            |seconds: u64| json!({"template": "resident-card", "person": ADULT, "valid_for": seconds});
        let refused = city.by_name("offer", &order(0)).await.unwrap_err().to_string();
        assert!(refused.contains("leave out --valid-for"), "{refused}");
        // One of an earlier version.
        let invitation = invitation_in(&world.ask("city", "offer", order(77)).await);
        let db = Db::new(world.store("city"), TenantId::default());
        let stored = db.scan_raw(INVITATIONS, b"", None, 2).unwrap().remove(0);
        let changed = String::from_utf8(stored.value).unwrap().replace(":77", ":0");
        let mut batch = Batch::new();
        batch.put_expiring(stored.key, changed.into_bytes(), stored.expires_at.unwrap());
        db.store().commit(batch).wait().unwrap();
        let stranger = stranger_of(1, &city);
        let offered = stranger.ask(&city, &proposal(&stranger, &invitation)).await;
        let answer = stranger.ask(&city, &request(&stranger, &offered, Some(offered.thread()))).await;
        assert_eq!(code(&answer), "e.p.req");
        assert_eq!(world.ask("city", "issued", json!({})).await, json!([]));
    });
}

#[test]
fn a_second_proposal_in_the_thread_gets_a_second_offer_and_the_first_is_void() {
    play(async {
        let (world, city, did) = lone_city().await;
        let stranger = stranger_of(1, &city);
        let first = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let mut again = stranger.drafted(Draft::of(&ProposeCredential::default()), &did);
        again.thid = Some(first.thread());
        let second = stranger.ask(&city, &again).await;
        assert_eq!(name(&second), "offer-credential");
        let stale = request(&stranger, &first, Some(first.thread()));
        assert_eq!(code(&stranger.ask(&city, &stale).await), "e.p.trust.crypto");
        let other = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let mut again = stranger.drafted(Draft::of(&ProposeCredential::default()), &did);
        again.thid = Some(other.thread());
        let offered = stranger.ask(&city, &again).await;
        let good = request(&stranger, &offered, Some(other.thread()));
        assert_eq!(name(&stranger.ask(&city, &good).await), "issue-credential");
    });
}

#[test]
fn an_exchange_goes_on_with_a_holder_that_rotates_in_the_middle_of_it() {
    play(async {
        let (world, city, _) = lone_city().await;
        let mut stranger = stranger_of(1, &city);
        let offered = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let mallory = stranger_of(2, &city);
        let stolen = request(&mallory, &offered, Some(offered.thread()));
        assert_eq!(code(&mallory.ask(&city, &stolen).await), "e.p.req", "whoever proves no rotation");
        let new = stranger.another_did();
        let old = stranger.become_did(new.clone());
        let mut rotated = request(&stranger, &offered, Some(offered.thread()));
        rotated.from_prior = Some(stranger.rotation(&old, &new, NOW));
        let issued = stranger.ask(&city, &rotated).await;
        assert_eq!(name(&issued), "issue-credential");
        // From now on without the proof of rotation.
        let kind = "https://didcomm.org/issue-credential/3.0/ack";
        let mut ack = stranger.message(kind, &did_of(&city), json!({"status": "OK"}));
        ack.thid = Some(offered.thread());
        assert_eq!(stranger.hear(&city, &ack).await, None);
        let mut late = stranger.message(kind, &did_of(&city), json!({"status": "OK"}));
        late.thid = Some(offered.thread());
        let told = stranger.ask(&city, &late).await;
        assert!(told.body["args"][0].as_str().unwrap().contains("state"), "known, and over: {:?}", told.body);
    });
}

#[test]
fn a_did_that_was_rotated_away_takes_no_exchange_back() {
    play(async {
        let (world, city, did) = lone_city().await;
        let mut stranger = stranger_of(1, &city);
        let offered = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let (new, third) = (stranger.another_did(), stranger.another_did());
        let old = stranger.become_did(new.clone());
        let mut again = stranger.drafted(Draft::of(&ProposeCredential::default()), &did);
        again.thid = Some(offered.thread());
        again.from_prior = Some(stranger.rotation(&old, &new, NOW));
        let second = stranger.ask(&city, &again).await;
        assert_eq!(name(&second), "offer-credential");
        // The old key, alone and in favour of a third DID.
        stranger.become_did(old.clone());
        let stolen = request(&stranger, &second, Some(offered.thread()));
        assert_eq!(code(&stranger.ask(&city, &stolen).await), "e.p.req");
        stranger.become_did(third.clone());
        let mut stolen = request(&stranger, &second, Some(offered.thread()));
        stolen.from_prior = Some(stranger.rotation(&old, &third, NOW.plus(1)));
        assert_eq!(code(&stranger.ask(&city, &stolen).await), "e.p.req");
        stranger.become_did(new);
        let good = request(&stranger, &second, Some(offered.thread()));
        assert_eq!(name(&stranger.ask(&city, &good).await), "issue-credential");
    });
}

#[test]
fn a_request_that_demands_nothing_is_not_met_by_something_that_does_not_hold() {
    play(async {
        let folder = own_city_folder();
        let template = std::fs::read_to_string(folder.path().join("requests/cafe-over-16.toml")).unwrap();
        let sets = "\n[[dcql_query.credential_sets]]\noptions = [[\"resident\"]]\nrequired = false\n";
        let template = template.replace("id = \"cafe-over-16\"", "id = \"if-you-like\"") + sets;
        std::fs::write(folder.path().join("requests/if-you-like.toml"), template).unwrap();
        let mut world = World::new(1);
        let mut config = Config::new(Role::Merchant);
        config.merchant.as_mut().unwrap().requests = folder.path().join("requests");
        world.add("library", config).await;
        let library = world.node("library");
        let stranger = stranger_of(1, &library);
        let asked = world.ask("library", "request", json!({"template": "if-you-like"})).await;
        let invitation = invitation_in(&asked);
        let draft = Draft::of(&ProposePresentation::default()).child_of(invitation.thread());
        let requested = stranger.ask(&library, &stranger.drafted(draft, &invitation.from)).await;
        let vp = DcqlPresentation([("resident".to_owned(), vec!["no.credential~".to_owned()])].into());
        let attachment = vp.to_attachment("presentation").unwrap();
        let draft = Draft::of(&Presentation::default()).attach(attachment);
        let mut answer = stranger.drafted(draft, &invitation.from);
        answer.thid = Some(requested.thread());
        assert!(stranger.ask(&library, &answer).await.kind.is(REPORT));
        let result = world.ask("library", "result", json!({"thread": asked["thread"]})).await;
        assert_eq!((&result["accepted"], &result["reason"]), (&json!(false), &json!("malformed")));
    });
}

#[test]
fn an_offer_for_keys_of_one_kind_is_taken_with_such_a_key_or_declined_unseen() {
    play(async {
        for (alg, taken) in [("ES256", true), ("EdDSA", true), ("Ed25519", true), ("ES384", false)] {
            let stranger = Stranger::reached_at(1, STRANGER);
            let (world, anna, to) = befriended(&stranger).await;
            let offer = card_offer(&stranger, alg);
            let answer = stranger.hear(&anna, &offering(&stranger, &offer, &to)).await;
            let pending = world.ask("anna", "pending", json!({})).await;
            assert_eq!(pending.as_array().unwrap().len(), usize::from(taken), "{alg}");
            if !taken {
                continue;
            }
            assert_eq!(answer, None);
            let sent = agreed(&world, &stranger).await;
            let requested = sent.iter().find_map(|sent| SdJwtRequest::find_in(sent).ok()).unwrap();
            proof::verify(&requested.proof_jwt, &asked(&offer)).unwrap();
            let header = requested.proof_jwt.split('.').next().unwrap();
            let header: serde_json::Value =
                serde_json::from_slice(&base64url_decode(header).unwrap()).unwrap();
            assert_eq!(header["alg"], alg);
        }
    });
}

/// Anna agrees to the first pending request; returns what she sends to the stranger.
async fn agreed(world: &World, stranger: &Stranger) -> Vec<Message> {
    let pending = world.ask("anna", "pending", json!({})).await;
    let (thread, shown) = (&pending[0]["thread"], &pending[0]["decide"]["shown"]);
    let caught = world.wire().catch(STRANGER);
    world.ask("anna", "decide", json!({"thread": thread, "agree": true, "shown": shown})).await;
    world.node("anna").outbox_pass().await.unwrap();
    let sent = caught.lock().unwrap().clone();
    sent.iter().map(|sent| stranger.open(sent).message).collect()
}

/// A card from the stranger, bound to `holder`.
fn card(issuer: &Stranger, holder: PublicKey) -> String {
    let iss = issuer.did().canonical();
    let request = CredentialRequest {
        issuer: iss.to_string(),
        vct: "urn:x:1".into(),
        holder,
        claims: Claims::new(json!({"age": 16, "name": "Anna"}).as_object().cloned().unwrap()),
        disclosable: vec![vec!["age".into()], vec!["name".into()]],
        issued_at: NOW.0,
        not_before: None,
        expires_at: NOW.0 + 400 * DAY,
        status: None,
    };
    let kid = KeyId::new(format!("{iss}#key-2"));
    vc::issue(issuer.keyring(), &kid, &request, issuer.entropy()).unwrap()
}

#[test]
fn of_two_cards_neither_is_kept_if_one_is_bound_to_another_key() {
    play(async {
        for good in [true, false] {
            let issuer = Stranger::issuing_at(1, STRANGER);
            let (world, anna, to) = befriended(&issuer).await;
            let offer = card_offer(&issuer, "ES256");
            let offered = offering(&issuer, &offer, &to);
            assert_eq!(issuer.hear(&anna, &offered).await, None);
            let sent = agreed(&world, &issuer).await;
            let requested = sent.iter().find_map(|sent| SdJwtRequest::find_in(sent).ok()).unwrap();
            let holder = proof::verify(&requested.proof_jwt, &asked(&offer)).unwrap();
            let second = if good { holder.clone() } else { issuer.holder_key().1 };
            let both = SdJwtIssue { credentials: vec![card(&issuer, holder), card(&issuer, second)] };
            let draft = Draft::of(&IssueCredential::default()).attach(both.to_attachment("cards").unwrap());
            let mut issued = issuer.drafted(draft, &to);
            issued.thid = Some(offered.thread());
            let answer = issuer.ask(&anna, &issued).await;
            let held = world.ask("anna", "list", json!({})).await;
            assert_eq!(held.as_array().unwrap().len(), if good { 2 } else { 0 }, "{held}");
            assert_eq!(name(&answer), if good { "ack" } else { "problem-report" });
        }
    });
}

/// The result at our own verifier cannot show this: it holds only what was requested, whatever was sent.
#[test]
fn a_wallet_shows_what_was_asked_for_and_nothing_else() {
    play(async {
        let peer = Stranger::issuing_at(1, STRANGER);
        let (world, anna, to) = befriended(&peer).await;
        let offer = card_offer(&peer, "ES256");
        let offered = offering(&peer, &offer, &to);
        peer.hear(&anna, &offered).await;
        let sent = agreed(&world, &peer).await;
        let requested = sent.iter().find_map(|sent| SdJwtRequest::find_in(sent).ok()).unwrap();
        let holder = proof::verify(&requested.proof_jwt, &asked(&offer)).unwrap();
        let issue = SdJwtIssue { credentials: vec![card(&peer, holder)] };
        let draft = Draft::of(&IssueCredential::default()).attach(issue.to_attachment("card").unwrap());
        let draft = draft.in_thread(offered.thread());
        assert_eq!(name(&peer.ask(&anna, &peer.drafted(draft, &to)).await), "ack");
        let dcql_query = json!({"credentials": [{"id": "card", "format": "dc+sd-jwt",
            "meta": {"vct_values": ["urn:x:1"]}, "claims": [{"path": ["age"]}]}]});
        let client_id = present_proof::client_id(peer.did());
        let asks = DcqlRequest { dcql_query, nonce: "0123456789abcdef".into(), client_id };
        let draft = Draft::of(&RequestPresentation::default()).attach(asks.to_attachment("request").unwrap());
        assert_eq!(peer.hear(&anna, &peer.drafted(draft, &to)).await, None);
        let sent = agreed(&world, &peer).await;
        let shown = sent.iter().find_map(|sent| DcqlPresentation::find_in(sent).ok()).unwrap();
        let disclosures: Vec<String> = shown.0["card"][0]
            .split('~')
            .filter_map(|part| String::from_utf8(base64url_decode(part)?).ok())
            .collect();
        assert!(disclosures.len() == 1 && disclosures[0].contains("age"), "{disclosures:?}");
    });
}

// ---- proofs

fn asking(verifier: &Stranger, to: &Did, client_id: &str) -> Message {
    let dcql_query = json!({"credentials": [{"id": "resident", "format": "dc+sd-jwt",
        "meta": {"vct_values": ["urn:de:kommune:resident:1"]}}]});
    let request =
        DcqlRequest { dcql_query, nonce: "0123456789abcdef".into(), client_id: client_id.to_owned() };
    let draft = Draft::of(&RequestPresentation::default()).attach(request.to_attachment("request").unwrap());
    verifier.drafted(draft, to)
}

/// Like [`asking`], with a `client_id` that our own library would not write.
fn asking_unchecked(verifier: &Stranger, to: &Did, client_id: &str) -> Message {
    let mut message = asking(verifier, to, &present_proof::client_id(verifier.did()));
    let data = message.attachments[0].data.json.as_mut().unwrap();
    data["client_id"] = client_id.into();
    message
}

async fn pending(world: &World) -> usize {
    world.ask("anna", "pending", json!({})).await.as_array().unwrap().len()
}

#[test]
fn request_of_a_stranger_to_a_did_made_for_another_is_refused() {
    play(async {
        let friend = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&friend).await;
        let mallory = Stranger::new(2);
        let own = present_proof::client_id(&mallory.did().canonical());
        let receipt = mallory.say(&anna, &asking(&mallory, &to, &own)).await;
        assert_eq!((receipt.refused, receipt.replies.len()), (Some(Refusal::Invalid), 0));
        assert_eq!(pending(&world).await, 0);
    });
}

#[test]
fn request_in_a_relationship_waits_for_the_citizen() {
    play(async {
        let friend = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&friend).await;
        let own = present_proof::client_id(friend.did());
        assert_eq!(friend.say(&anna, &asking(&friend, &to, &own)).await.refused, None);
        assert_eq!(pending(&world).await, 1);
    });
}

#[test]
fn what_one_peer_asks_unasked_is_bounded_until_something_of_it_is_decided() {
    play(async {
        let friend = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&friend).await;
        let own = present_proof::client_id(friend.did());
        let ask = async || friend.hear(&anna, &asking(&friend, &to, &own)).await;
        for _ in 0..7 {
            assert_eq!(ask().await, None);
        }
        assert_eq!(friend.hear(&anna, &offering(&friend, &card_offer(&friend, "ES256"), &to)).await, None);
        assert_eq!(code(&ask().await.unwrap()), "e.p.req");
        let offered = friend.hear(&anna, &offering(&friend, &card_offer(&friend, "ES256"), &to)).await;
        assert_eq!(code(&offered.unwrap()), "e.p.req");
        let waiting = world.ask("anna", "pending", json!({})).await;
        assert_eq!(waiting.as_array().unwrap().len(), 8);
        world.ask("anna", "decide", json!({"thread": waiting[0]["thread"], "agree": false})).await;
        assert_eq!(ask().await, None);
        assert_eq!(pending(&world).await, 8);
    });
}

#[test]
fn peers_do_not_keep_offers_and_requests_open_for_as_long_as_they_like() {
    play(async {
        for (is_offer, days) in [(false, 1), (true, 7)] {
            let friend = Stranger::reached_at(1, STRANGER);
            let (world, anna, to) = befriended(&friend).await;
            let mut message = if is_offer {
                offering(&friend, &card_offer(&friend, "ES256"), &to)
            } else {
                asking(&friend, &to, &present_proof::client_id(friend.did()))
            };
            message.expires_time = Some(UnixSeconds(NOW.0 + 100 * 365 * DAY));
            assert_eq!(friend.hear(&anna, &message).await, None);
            let thread = world.ask("anna", "pending", json!({})).await[0]["thread"].clone();
            for (advanced, waiting) in [(days * DAY - 600, 1), (1200, 0)] {
                world.clock().advance(advanced * 1000);
                anna.visit_mailbox().await.unwrap();
                anna.timer_pass().await.unwrap();
                assert_eq!(pending(&world).await, waiting, "{is_offer}");
            }
            assert_eq!(world.ask("anna", "progress", json!({"thread": thread})).await["state"], "abandoned");
        }
    });
}

#[test]
fn verifier_whose_client_id_is_none_of_a_did_is_refused() {
    play(async {
        let friend = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&friend).await;
        let own = present_proof::client_id(friend.did());
        let bare = own.trim_start_matches("decentralized_identifier:");
        for client_id in [bare, "x509_san_dns:a.example", "decentralized_identifier:", ""] {
            let told = friend.ask(&anna, &asking_unchecked(&friend, &to, client_id)).await;
            assert!(matches!(code(&told), "e.p.trust" | "e.p.msg"), "{client_id}: {}", code(&told));
        }
        assert_eq!(pending(&world).await, 0);
    });
}

#[test]
fn verifier_in_anothers_name_is_refused_as_untrusted() {
    play(async {
        let friend = Stranger::reached_at(1, STRANGER);
        let (world, anna, to) = befriended(&friend).await;
        let library = "decentralized_identifier:did:web:library.example";
        assert_eq!(code(&friend.ask(&anna, &asking(&friend, &to, library)).await), "e.p.trust");
        assert_eq!(pending(&world).await, 0);
    });
}

#[test]
fn presentation_into_the_thread_of_another_is_refused() {
    play(async {
        let mut world = World::new(1);
        world.add_library("library", &["city"]).await;
        let library = world.node("library");
        let (a, b) = (stranger_of(1, &library), stranger_of(2, &library));
        let asked = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
        let invitation = invitation_in(&asked);
        let draft = Draft::of(&ProposePresentation::default()).child_of(invitation.thread());
        let requested = a.ask(&library, &a.drafted(draft, &invitation.from)).await;
        assert_eq!(name(&requested), "request-presentation");
        let vp = DcqlPresentation([("resident".to_owned(), vec!["x~".to_owned()])].into());
        let draft = Draft::of(&Presentation::default())
            .in_thread(requested.thread())
            .attach(vp.to_attachment("vp").unwrap());
        assert_eq!(code(&b.ask(&library, &b.drafted(draft.clone(), &invitation.from)).await), "e.p.req");
        let thread = json!({"thread": asked["thread"]});
        assert_eq!(world.ask("library", "result", thread.clone()).await["pending"], true);
        // The same from the right peer is checked, and found malformed.
        assert!(a.ask(&library, &a.drafted(draft, &invitation.from)).await.kind.is(REPORT));
        assert_eq!(world.ask("library", "result", thread).await["reason"], "malformed");
    });
}

#[test]
fn what_a_wallet_shows_and_was_not_asked_for_is_not_kept() {
    play(async {
        let (mut world, city, _) = lone_city().await;
        world.add_library("library", &["city"]).await;
        let library = world.node("library");
        let stranger = stranger_of(1, &city);
        stranger.learn(&library);
        let offered = stranger.ask(&city, &proposal(&stranger, &offer(&world).await)).await;
        let issued = stranger.ask(&city, &request(&stranger, &offered, Some(offered.thread()))).await;
        let card = SdJwtIssue::find_in(&issued).unwrap().credentials.remove(0);
        let asked = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
        let invitation = invitation_in(&asked);
        let draft = Draft::of(&ProposePresentation::default()).child_of(invitation.thread());
        let requested = stranger.ask(&library, &stranger.drafted(draft, &invitation.from)).await;
        let asks = DcqlRequest::find_in(&requested).unwrap();
        let binding = KeyBindingRequest {
            custody: stranger.keyring(),
            kid: &KeyId::new("holder:stranger"),
            audience: &asks.client_id,
            nonce: &asks.nonce,
            issued_at: NOW.0,
        };
        let shown = [["age_equal_or_over", "16"].as_slice(), &["age_equal_or_over", "18"], &["family_name"]];
        let shown = shown.map(|path| path.iter().map(|name| (*name).into()).collect());
        let text = HeldCredential::from_store(&card).unwrap().present(&shown, Some(&binding)).unwrap();
        let vp = DcqlPresentation([("resident".to_owned(), vec![text])].into());
        let attachment = vp.to_attachment("vp").unwrap();
        let draft = Draft::of(&Presentation::default()).in_thread(requested.thread()).attach(attachment);
        stranger.say(&library, &stranger.drafted(draft, &invitation.from)).await;
        let result = world.ask("library", "result", json!({"thread": asked["thread"]})).await;
        assert_eq!(result["accepted"], true, "{result}");
        let claims = &result["disclosed"]["resident"][0]["claims"];
        assert_eq!(*claims, json!({"age_equal_or_over": {"16": true}}));
    });
}

#[test]
fn invitation_to_present_is_used_up_by_the_first_who_answers() {
    play(async {
        let mut world = World::new(1);
        world.add_library("library", &["city"]).await;
        let library = world.node("library");
        let (a, b) = (stranger_of(1, &library), stranger_of(2, &library));
        let asked = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
        let invitation = invitation_in(&asked);
        let draft = || Draft::of(&ProposePresentation::default()).child_of(invitation.thread());
        assert!(!a.ask(&library, &a.drafted(draft(), &invitation.from)).await.kind.is(REPORT));
        assert_eq!(code(&b.ask(&library, &b.drafted(draft(), &invitation.from)).await), "e.p.req");
    });
}

#[test]
fn requests_whose_answers_would_be_too_many_for_one_address_are_refused_and_change_nothing() {
    play(async {
        let mut world = World::new(1);
        world.add_library("library", &["city"]).await;
        let library = world.node("library");
        let stranger = Stranger::reached_at(1, STRANGER);
        stranger.learn(&library);
        let mut proposals = Vec::new();
        for _ in 0..1001 {
            let asked = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
            let invitation = invitation_in(&asked);
            let draft = Draft::of(&ProposePresentation::default()).child_of(invitation.thread());
            proposals.push(stranger.drafted(draft, &invitation.from));
        }
        let last = proposals.pop().unwrap();
        for proposal in &proposals {
            assert_eq!(stranger.say_from("flood", &library, proposal).await.refused, None);
        }
        assert_eq!(world.ask("library", "status", json!({})).await["outbox"], 1000);
        assert_eq!(stranger.say_from("flood", &library, &last).await.refused, Some(Refusal::TooOften));
        assert_eq!(world.ask("library", "status", json!({})).await["outbox"], 1000);
        // As if it had never come: it is accepted from elsewhere, or once there is room.
        assert_eq!(stranger.say_from("other", &library, &last).await.refused, None);
        assert_eq!(world.ask("library", "status", json!({})).await["outbox"], 1001);
    });
}

const AGREED_LATER: [u64; 2] = [0, 2 * 3600];

/// The citizen agrees to an offered card; the request goes out after `pause` seconds without a network, and then the phone is off for
/// four days, while the card comes to the mediator.
async fn agreed_and_switched_off(pause: u64) -> World {
    let mut world = World::with_everybody(1).await;
    let offered = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
    let accepted = world.ask("anna", "accept", json!({"url": offered["invitation"]})).await;
    world.pump().await;
    let waiting = world.ask("anna", "progress", json!({"thread": accepted["thread"]})).await;
    let agreed = json!({"thread": accepted["thread"], "agree": true, "shown": waiting["decide"]["shown"]});
    world.ask("anna", "decide", agreed).await;
    world.clock().advance(pause * 1000);
    world.node("anna").outbox_pass().await.unwrap();
    world.kill("anna");
    world.node("city").outbox_pass().await.unwrap();
    world.clock().advance(4 * DAY * 1000);
    world.start("anna").await;
    world
}

/// Its deadline is over by the time it is switched on, but the card came in time and waits in the mailbox.
#[test]
fn a_card_that_waits_in_the_mailbox_is_taken_by_a_phone_that_was_off_beyond_the_deadline() {
    for pause in AGREED_LATER {
        play(async {
            let mut world = agreed_and_switched_off(pause).await;
            world.node("anna").timer_pass().await.unwrap();
            world.pump().await;
            assert_eq!(world.ask("anna", "list", json!({})).await.as_array().unwrap().len(), 1, "{pause}");
        });
    }
}

/// The letter waits here for its issuer's document, and is tried again.
#[test]
fn a_card_whose_issuer_is_out_of_reach_when_the_phone_is_back_is_not_given_up_meanwhile() {
    play(async {
        let mut world = agreed_and_switched_off(0).await;
        world.network().detach("https://city.example");
        for _ in 0..3 {
            let anna = world.node("anna");
            let _ = anna.visit_mailbox().await;
            anna.timer_pass().await.unwrap();
            world.clock().advance(40_000);
        }
        assert_eq!(world.ask("anna", "list", json!({})).await, json!([]));
        world.network().attach("https://city.example", &world.node("city"));
        for _ in 0..40 {
            let _ = world.node("anna").visit_mailbox().await;
            world.clock().advance(60_000);
        }
        world.pump().await;
        assert_eq!(world.ask("anna", "list", json!({})).await.as_array().unwrap().len(), 1);
    });
}

#[test]
fn a_deadline_does_not_wait_for_ever_for_a_mediator_that_is_gone() {
    play(async {
        let mut world = World::with_everybody(1).await;
        let offered = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
        world.kill("city");
        world.kill("mediator");
        let accepted = world.ask("anna", "accept", json!({"url": offered["invitation"], "yes": true})).await;
        let anna = world.node("anna");
        for (days, pending) in [(4, true), (3, true), (2, false)] {
            world.clock().advance(days * DAY * 1000);
            assert!(anna.visit_mailbox().await.is_err());
            anna.timer_pass().await.unwrap();
            let state = world.ask("anna", "progress", json!({"thread": accepted["thread"]})).await;
            assert_eq!(state["pending"], pending, "{days}");
        }
    });
}

/// A till whose issuer was out of reach for longer than a presentation may be old.
#[test]
fn a_presentation_that_waited_for_its_issuer_is_still_fresh() {
    play(async {
        let mut world = World::with_everybody(1).await;
        let offered = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
        world.ask("anna", "accept", json!({"url": offered["invitation"], "yes": true})).await;
        world.pump().await;
        let asked = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
        world.ask("anna", "accept", json!({"url": asked["invitation"], "yes": true})).await;
        world.network().detach("https://city.example");
        world.turns(10).await;
        world.clock().advance(3_600_000);
        world.network().attach("https://city.example", &world.node("city"));
        world.pump().await;
        let result = world.ask("library", "result", json!({"thread": asked["thread"]})).await;
        assert_eq!(result["accepted"], true, "{result}");
    });
}

#[test]
fn a_phone_whose_mailbox_is_empty_gives_up_when_the_deadline_is_over() {
    play(async {
        let mut world = World::with_everybody(1).await;
        let offered = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
        world.kill("city");
        let accepted = world.ask("anna", "accept", json!({"url": offered["invitation"], "yes": true})).await;
        world.clock().advance(4 * DAY * 1000);
        let anna = world.node("anna");
        let state = async || {
            anna.timer_pass().await.unwrap();
            world.ask("anna", "progress", json!({"thread": accepted["thread"]})).await["pending"].clone()
        };
        assert_eq!(state().await, true, "it has not looked yet");
        anna.visit_mailbox().await.unwrap();
        world.clock().advance(40_000);
        assert_eq!(state().await, false);
    });
}
