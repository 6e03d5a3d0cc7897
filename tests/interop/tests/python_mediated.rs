//! Wallets of the Python library `didcomm` 0.3.2 on every curve use our mediator, the real process, over HTTP.

use einmal_did::{Did, Relationship, peer};
use einmal_interop::{CURVES, Mediator, Order, Peer, PythonPeer};
use einmal_keys::{Jwk, KeyKind, SecretKey, SystemEntropy, base64url_decode, base64url_encode};
use serde_json::{Value, json};

/// The library's content encryptions for anoncrypt, which it also uses for its forwards.
const ENCRYPTIONS: [&str; 3] = ["A256CBC-HS512", "A256GCM", "XC20P"];

const MEDIATION: &str = "https://didcomm.org/coordinate-mediation/3.0";
const PICKUP: &str = "https://didcomm.org/messagepickup/3.0";

/// A did:peer:2 with one agreement key of any curve, one Ed25519 key and optionally a mediator; with its secrets.
///
/// Built by hand, because other wallets do not follow the rule that the first agreement key must be X25519.
fn party(kind: KeyKind, mediator: Option<&Mediator>) -> (Did, Vec<(String, Jwk)>) {
    let keys = [kind, KeyKind::Ed25519].map(|kind| SecretKey::generate(kind, &SystemEntropy).unwrap());
    let [agreement, authentication] = keys.each_ref().map(|key| key.public_key().to_multikey());
    let service = mediator.map(|mediator| {
        // If the endpoint is the mediator's DID and names no routing key, the library wraps nothing.
        let (uri, key) =
            (format!("http://{}", mediator.about("listen")), mediator.about("did").to_owned() + "#key-1");
        let service = json!({"t": "dm", "s": {"uri": uri, "r": [key], "a": ["didcomm/v2"]}});
        format!(".S{}", base64url_encode(service.to_string()))
    });
    let text = format!("did:peer:2.E{agreement}.V{authentication}{}", service.unwrap_or_default());
    let did = Did::parse(&text).unwrap();
    let kids = ["key-1", "key-2"].map(|fragment| format!("{did}#{fragment}"));
    let secrets = kids.into_iter().zip(keys.iter().map(SecretKey::to_jwk)).collect();
    (did, secrets)
}

/// The document of a did:peer:2, with the only type of method that the library reads for all curves.
fn document(did: &Did) -> Value {
    let document = peer::two::document(did).unwrap();
    let methods: Vec<Value> = document
        .verification_methods()
        .iter()
        .map(|method| {
            json!({"id": method.id.as_str(), "type": "JsonWebKey2020", "controller": did.as_str(),
                "publicKeyJwk": method.key.to_jwk()})
        })
        .collect();
    let ids = |relationship| -> Vec<&str> {
        document.methods(relationship).map(|method| method.id.as_str()).collect()
    };
    let services: Vec<Value> = document
        .didcomm_endpoints()
        .enumerate()
        .map(|(index, endpoint)| {
            json!({"id": format!("{did}#service-{index}"), "type": "DIDCommMessaging",
                "serviceEndpoint": {"uri": endpoint.uri, "accept": endpoint.accept,
                    "routingKeys": endpoint.routing_keys}})
        })
        .collect();
    json!({"id": did.as_str(), "verificationMethod": methods, "keyAgreement": ids(Relationship::KeyAgreement),
        "authentication": ids(Relationship::Authentication), "assertionMethod": [], "capabilityDelegation": [],
        "capabilityInvocation": [], "service": services})
}

/// Alice's account, her DID behind the mediator, and Bob, all managed by the library.
struct Play {
    mediator: Mediator,
    peer: PythonPeer,
    account: Did,
    alice: Did,
    bob: Did,
    sent: usize,
}

impl Play {
    /// Alice and Bob have agreement keys of `kind`; the account's key is on the mediator's curve.
    fn start(kind: KeyKind) -> Option<Self> {
        let mediator = Mediator::start()?;
        let (account, account_secrets) = party(KeyKind::X25519, None);
        let (alice, alice_secrets) = party(kind, Some(&mediator));
        let (bob, bob_secrets) = party(kind, None);
        let own = Did::parse(mediator.about("did")).unwrap();
        let documents = [&own, &account, &alice, &bob].map(document);
        let secrets = [account_secrets, alice_secrets, bob_secrets].concat();
        let peer = PythonPeer::start_with(&documents.each_ref(), secrets)?;
        Some(Self { mediator, peer, account, alice, bob, sent: 0 })
    }

    /// A request from the account, and the mediator's answer on the same connection.
    fn ask(&mut self, kind: &str, body: Value) -> Value {
        self.sent += 1;
        let id = format!("request-{}", self.sent);
        let mediator = self.mediator.about("did");
        let message = json!({"id": id, "typ": "application/didcomm-plain+json", "type": kind, "body": body,
            "from": self.account.as_str(), "to": [mediator], "return_route": "all"});
        let packed = self.peer.pack(&Order {
            message: &message,
            from: Some(self.account.as_str()),
            signer: None,
            to: mediator,
            enc: "XC20P",
            hide_sender: false,
            forward: false,
        });
        let (status, answer) = self.mediator.post(&packed);
        assert_eq!(status, 200, "{kind}");
        let answer = self.peer.unpack(&answer);
        assert!(answer.sender.is_some_and(|kid| kid.starts_with(mediator)));
        assert_eq!((&answer.message["from"], &answer.message["thid"]), (&json!(mediator), &json!(id)));
        answer.message
    }

    /// Bob's letter, packed and wrapped by the library for the mediator that Alice's DID names.
    fn letter(&self, content: &str, enc: &str, hide_sender: bool) -> String {
        let message = json!({"id": format!("letter-{content}"), "typ": "application/didcomm-plain+json",
            "type": "https://didcomm.org/basicmessage/2.0/message", "body": {"content": content},
            "from": self.bob.as_str(), "to": [self.alice.as_str()]});
        self.peer.pack(&Order {
            message: &message,
            from: Some(self.bob.as_str()),
            signer: None,
            to: self.alice.as_str(),
            enc,
            hide_sender,
            forward: true,
        })
    }
}

/// The content encryption that an envelope names.
fn encryption(envelope: &str) -> Value {
    let envelope: Value = serde_json::from_str(envelope).unwrap();
    let header = base64url_decode(envelope["protected"].as_str().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["enc"].take()
}

#[test]
#[cfg_attr(not(with_mediator), ignore = "needs a mediator and an environment; use tests/interop/run.sh")]
fn mail_between_wallets_on_any_curve_passes_our_mediator_in_every_encryption() {
    for kind in CURVES {
        let Some(mut play) = Play::start(kind) else { return };
        // No DID is registered yet, so nothing is relayed.
        assert_eq!(play.mediator.post(&play.letter("too early", "XC20P", false)).0, 400);

        let grant = play.ask(&format!("{MEDIATION}/mediate-request"), json!({}));
        assert_eq!(grant["type"], format!("{MEDIATION}/mediate-grant"));
        assert_eq!(grant["body"]["routing_did"], json!([play.mediator.about("did")]));
        let update = json!({"updates": [{"recipient_did": play.alice.as_str(), "action": "add"}]});
        let updated = play.ask(&format!("{MEDIATION}/recipient-update"), update);
        assert_eq!(updated["body"]["updated"][0]["result"], "success", "{kind:?}");

        let mut letters = Vec::new();
        for (hide_sender, enc) in ENCRYPTIONS.iter().flat_map(|enc| [(false, enc), (true, enc)]) {
            let content = format!("{enc} {hide_sender}");
            let forward = play.letter(&content, enc, hide_sender);
            assert_eq!(encryption(&forward), **enc);
            assert_eq!(play.mediator.post(&forward), (200, String::new()), "{kind:?} {content}");
            letters.push(content);
        }

        let delivery = play.ask(&format!("{PICKUP}/delivery-request"), json!({"limit": 10}));
        let attachments = delivery["attachments"].as_array().unwrap();
        let read: Vec<String> = attachments
            .iter()
            .map(|attachment| {
                let letter = play.peer.unpack(&attachment["data"]["json"].to_string());
                assert_eq!(letter.sender, Some(format!("{}#key-1", play.bob)));
                letter.message["body"]["content"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(read, letters, "{kind:?}");
        let ids: Vec<&Value> = attachments.iter().map(|attachment| &attachment["id"]).collect();
        let status = play.ask(&format!("{PICKUP}/messages-received"), json!({"message_id_list": ids}));
        assert_eq!(status["body"]["message_count"], 0);
    }
}
