//! Seeds for the bodies of single protocols, and for a node's configuration.

use einmal_didcomm::Body;
use einmal_flows::{
    coordinate_mediation as mediation, discover_features as features, issue_credential as issue,
    message_pickup as pickup, present_proof as present, report_problem, trust_ping,
};
use serde_json::{Value, json};

use crate::{
    NOW,
    bodies::{FIRST_MODE, KINDS, offered},
    keys::world,
};

/// A message of type `uri`, after its mode byte.
fn of(uri: &str, message: &Value) -> Vec<u8> {
    let at = KINDS.iter().position(|(kind, _)| *kind == uri).expect("a type that is read");
    let mode = FIRST_MODE + u8::try_from(at).expect("few types");
    [&[mode], message.to_string().as_bytes()].concat()
}

fn body(uri: &str, body: &Value) -> Vec<u8> {
    of(uri, &json!({"body": body}))
}

pub(super) fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    [mediated(), picked_up(), exchanged(), said(), bent()].concat()
}

fn mediated() -> Vec<(&'static str, Vec<u8>)> {
    let did = world().alice.as_str();
    let updates = json!({"updates": [{"recipient_did": did, "action": "add"}]});
    let keys = json!({"updates": [{"recipient_did": did, "action": "remove"}]});
    let updated = json!({"updated": [{"recipient_did": did, "action": "add", "result": "success"}]});
    let listed =
        json!({"dids": [{"recipient_did": did}], "pagination": {"count": 1, "offset": 0, "remaining": 0}});
    let keylist = json!({"keys": [{"recipient_did": did}]});
    vec![
        ("valid-mediate", body(mediation::MediateRequest::TYPE, &json!({}))),
        ("valid-grant", body(mediation::MediateGrant::TYPE, &json!({"routing_did": [did]}))),
        ("valid-grant-2", body(mediation::KeylistGrant::TYPE, &json!({"routing_did": did}))),
        ("valid-update", body(mediation::RecipientUpdate::TYPE, &updates)),
        ("valid-update-2", body(mediation::KeylistUpdate::TYPE, &keys)),
        ("valid-updated", body(mediation::RecipientUpdateResponse::TYPE, &updated)),
        ("valid-updated-2", body(mediation::KeylistUpdateResponse::TYPE, &updated)),
        (
            "valid-query",
            body(mediation::RecipientQuery::TYPE, &json!({"paginate": {"limit": 1, "offset": 0}})),
        ),
        ("valid-list", body(mediation::RecipientList::TYPE, &listed)),
        ("valid-keylist", body(mediation::Keylist::TYPE, &keylist)),
    ]
}

fn picked_up() -> Vec<(&'static str, Vec<u8>)> {
    let status = json!({
        "recipient_did": world().bob_short, "message_count": 2, "longest_waited_seconds": 3,
        "newest_received_time": NOW, "oldest_received_time": NOW - 9, "total_bytes": 400, "live_delivery": false,
    });
    let delivery = json!({"body": {}, "attachments": [
        {"id": "1", "data": {"json": {"ciphertext": "x"}}}, {"id": "2", "data": {"base64": "eyJjaXBoZXJ0ZXh0IjoieCJ9"}},
    ]});
    let received = json!({"message_id_list": ["1", "2"]});
    let live = json!({"live_delivery": "true"});
    vec![
        ("valid-status-request", body(pickup::StatusRequest::TYPE, &json!({"recipient_did": world().alice}))),
        ("valid-status", body(pickup::Status::TYPE, &status)),
        ("valid-status-4", body(pickup::Status4::TYPE, &status)),
        ("valid-delivery-request", body(pickup::DeliveryRequest::TYPE, &json!({"limit": 10}))),
        ("valid-delivery", of(pickup::Delivery::TYPE, &delivery)),
        ("valid-received", body(pickup::MessagesReceived::TYPE, &received)),
        ("valid-received-4", body("https://didcomm.org/message-pickup/4.0/messages-received", &received)),
        ("valid-live", body(pickup::LiveDeliveryChange::TYPE, &live)),
    ]
}

fn exchanged() -> Vec<(&'static str, Vec<u8>)> {
    let (_, offer) = offered(&world().alice.canonical(), &world().bob_short);
    let attached = |format: &str, content: Value| {
        json!({"body": {}, "attachments": [{"id": "a", "format": format, "media_type": "application/json",
            "data": {"json": content}}]})
    };
    let query = json!({
        "dcql_query": {"credentials": [{"id": "c", "format": "dc+sd-jwt", "meta": {"vct_values": ["v"]}}]},
        "nonce": "n".repeat(32), "client_id": format!("decentralized_identifier:{}", world().alice),
    });
    let mut request = attached("einmal/dcql@v1.0", query);
    request["body"] = json!({"goal_code": "g", "comment": "c", "will_confirm": true});
    let proof = attached("einmal/dc+sd-jwt-request@v1.0", json!({"proof_jwt": "e30.e30.AA"}));
    let issued = attached("einmal/dc+sd-jwt@v1.0", json!({"credentials": ["e30.e30.AA~"]}));
    let shown = attached("einmal/dc+sd-jwt-presentation@v1.0", json!({"c": ["e30.e30.AA~"]}));
    vec![
        ("valid-offer", of(issue::OfferCredential::TYPE, &offer.to_value())),
        ("valid-propose", body(issue::ProposeCredential::TYPE, &json!({}))),
        ("valid-request", of(issue::RequestCredential::TYPE, &proof)),
        ("valid-issue", of(issue::IssueCredential::TYPE, &issued)),
        ("valid-ack", body(issue::Ack::TYPE, &json!({"status": "OK"}))),
        ("valid-ask", of(present::RequestPresentation::TYPE, &request)),
        ("valid-present", of(present::Presentation::TYPE, &shown)),
        ("valid-verdict", body(present::Ack::TYPE, &json!({"status": "FAIL"}))),
    ]
}

fn said() -> Vec<(&'static str, Vec<u8>)> {
    let queries = json!({"queries": [{"feature-type": "protocol", "match": "https://didcomm.org/*"}]});
    let disclosed = json!({"disclosures": [{"feature-type": "protocol", "id": "p", "roles": ["r"]}]});
    let problem =
        json!({"code": "e.p.xfer.cant-use-endpoint", "comment": "at {1}", "args": ["x"], "escalate_to": "m"});
    let invited = json!({"goal_code": "issue", "goal": "Karte", "accept": ["didcomm/v2"]});
    vec![
        ("valid-text", body(einmal_flows::basic_message::BasicMessage::TYPE, &json!({"content": "hallo"}))),
        ("valid-queries", body(features::Queries::TYPE, &queries)),
        ("valid-old-queries", body("https://didcomm.org/discover-features/2.0/query", &queries)),
        ("valid-disclose", body(features::Disclose::TYPE, &disclosed)),
        ("valid-problem", body(report_problem::ProblemReport::TYPE, &problem)),
        ("valid-ping", body(trust_ping::Ping::TYPE, &json!({"response_requested": true}))),
        ("valid-invitation", body(einmal_flows::out_of_band::InvitationBody::TYPE, &invited)),
    ]
}

fn bent() -> Vec<(&'static str, Vec<u8>)> {
    let many: Vec<Value> = (0..1001).map(|n| json!(n)).collect();
    vec![
        ("bent-json", b"A{".to_vec()),
        ("bent-list", b"A[]".to_vec()),
        ("bent-text", body(einmal_flows::basic_message::BasicMessage::TYPE, &json!({"content": 1}))),
        ("bent-update", body(mediation::RecipientUpdate::TYPE, &json!({"updates": [{"action": "add"}]}))),
        ("bent-limit", body(pickup::DeliveryRequest::TYPE, &json!({"limit": -1}))),
        ("bent-received", body(pickup::MessagesReceived::TYPE, &json!({"message_id_list": many}))),
        ("bent-problem", body(report_problem::ProblemReport::TYPE, &json!({"comment": "x"}))),
        ("bent-live", body(pickup::LiveDeliveryChange::TYPE, &json!({"live_delivery": "perhaps"}))),
    ]
}

pub(super) fn node_configurations() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let city = r#"
role = "city"
listen = "127.0.0.1:7001"
public_url = "https://id.city.example"
passphrase = true

[network]
allow_private = false
allow_http = true

[limits]
max_connections = 100
max_connections_per_address = 10
max_requests_per_second = 0
loopback = true

[tls]
certificate = "cert.pem"
key = "key.pem"

[city]
display_name = "Wetzlar"
description = "/etc/einmal/city.toml"
status_ttl_seconds = 60
"#;
    let mediator = r#"
role = "mediator"
listen = "[::1]:7000"

[p2p]
enabled = true
listen = ["/ip4/0.0.0.0/udp/4001/quic-v1"]
announce = []
mdns = false
relays = []
relay_server = true
relay_reservations = 5
relay_circuits = 6

[mediator]
require_proof = true
max_queue = 10
max_queue_bytes = 18446744073709551615
keep_seconds = 60
"#;
    let citizen = "role = \"citizen\"\n[citizen]\nmediator = \"https://m.example?_oob=eyJ0eXBlIjoiaHR0cHM6Ly9kaWRjb21tLm9yZy9vdXQtb2YtYmFuZC8yLjAvaW52aXRhdGlvbiIsImlkIjoiMSIsImZyb20iOiJkaWQ6ZXhhbXBsZTptIiwiYm9keSI6e319\"\npoll_ms = 1000\n";
    let merchant = "role = \"merchant\"\n[merchant]\nrequests = \"requests\"\ntrusted_issuers = [\"did:web:city.example\"]\nclock_skew_seconds = 5\n";
    vec![
        ("valid-city", text(city)),
        ("valid-mediator", text(mediator)),
        ("valid-citizen", text(citizen)),
        ("valid-merchant", text(merchant)),
        ("valid-least", text("role = \"mediator\"")),
        ("bent-empty", Vec::new()),
        ("bent-mediator", text("role = \"citizen\"\n[citizen]\nmediator = \"https://m.example?_oob=e30\"\n")),
        ("bent-role", text("role = \"mayor\"")),
        ("bent-unknown", text("role = \"city\"\nlisen = \"127.0.0.1:1\"")),
        ("bent-url", text("role = \"city\"\npublic_url = \"https://city.example/agent\"")),
        ("bent-number", text("role = \"mediator\"\n[mediator]\nmax_queue = -1")),
        ("bent-utf8", b"role = \"\xff\"".to_vec()),
    ]
}
