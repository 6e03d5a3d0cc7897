//! Every requirement the suite checks: its id, how binding it is, its section, and what it says.

use serde::Serialize;

/// How binding a requirement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// A foreign client or peer fails without it, or is unsafe.
    Must,
    /// Recommended, or common practice that deployed clients count on.
    Should,
    /// Informative; neither right nor wrong.
    Info,
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Requirement {
    /// Its id in reports: specification, section, point.
    pub id: String,
    /// How binding it is.
    pub level: Level,
    /// The section it stands in.
    pub section: &'static str,
    /// What it requires of the target.
    pub text: &'static str,
}

type Row = (Level, &'static str, &'static str);

use Level::{Info, Must, Should};

/// Of the whole catalogue: it rises with every requirement that is added, dropped, reworded or weighed anew.
pub(super) const VERSION: u32 = 2;

const BASICS: &[(&str, &str, &[Row])] = &[
    (
        "DCv2.1-did",
        "DIDComm Messaging v2.1, DID Document Keys",
        &[
            (
                Must,
                "agreement-key",
                "the target's DID resolves and has a key agreement key on a curve of DIDComm",
            ),
            (Info, "agreement-curve", "one of these keys lies on X25519 or P-384: P-256 alone is deprecated"),
        ],
    ),
    (
        "DCv2.1-did",
        "DIDComm Messaging v2.1, Service Endpoint",
        &[(
            Must,
            "service-endpoint",
            "its document names a DIDCommMessaging endpoint of a kind that can be called",
        )],
    ),
    (
        "DCv2.1",
        "DIDComm Messaging v2.1, DID Rotation",
        &[(Info, "rotation", "the target moves to a DID of its own for each peer, proved by from_prior")],
    ),
    (
        "DCv2.1-envelope",
        "DIDComm Messaging v2.1, DID Rotation",
        &[(
            Must,
            "rotation-forged",
            "a from_prior that the prior DID did not sign, or not for this sender, gives no power over its account",
        )],
    ),
    (
        "DCv2.1-threading",
        "DIDComm Messaging v2.1, Threading",
        &[(Should, "ids", "ids of messages are made of unreserved URI characters")],
    ),
    (
        "DCv2.1-envelope",
        "DIDComm Messaging v2.1, Threading",
        &[(Must, "reply-thread", "an answer names the request as its thread")],
    ),
    (
        "OOB2",
        "DIDComm Messaging v2.1, Out Of Band Messages",
        &[
            (Must, "invitation-form", "the invitation has id, type and from, encoded in `_oob`"),
            (Should, "invitation-accept", "it accepts didcomm/v2"),
            (Must, "invitation-response", "a message whose pthid is the invitation's id is taken"),
        ],
    ),
    (
        "DCv2.1-transport",
        "DIDComm Messaging v2.1, Transports",
        &[
            (Must, "answers", "an encrypted message is accepted at the endpoint with a status 2xx"),
            (Should, "media-type", "an answer is labelled application/didcomm-encrypted+json"),
            (Must, "garbage-survived", "the target answers others after bytes that are no message"),
            (Must, "socket-survives", "bytes that are no message do not end service for other sockets"),
        ],
    ),
    (
        "TP2",
        "DIDComm Messaging v2.1, Transports",
        &[
            (Should, "response-async", "without return_route the answer goes to the sender's own endpoint"),
            (Should, "response-once", "an answer sent on the connection is not sent to the endpoint again"),
        ],
    ),
    (
        "DCv2.1-transport",
        "DIDComm Messaging v2.1, Agent Constraint Disclosure",
        &[
            (Info, "oversize-refused", "a message of 8 MiB is refused"),
            (Must, "oversize-survived", "the target answers others after an oversized message"),
        ],
    ),
    (
        "DF2",
        "DIDComm Messaging v2.1, Agent Constraint Disclosure",
        &[(Info, "max-receive-bytes", "the largest message accepted is disclosed as a constraint")],
    ),
    (
        "DCv2.1-transport",
        "DIDComm Messaging Return-Route and Queue Transport Extension",
        &[
            (Must, "return-route-all", "with return_route `all` the answer comes back on the connection"),
            (
                Must,
                "return-route-none",
                "without return_route a message is taken and nothing comes back on the connection",
            ),
            (Must, "socket", "over an advertised WebSocket, answers to return_route `all` come back on it"),
        ],
    ),
    (
        "DCv2.1-envelope",
        "DIDComm Messaging v2.1, Message Encryption",
        &[
            (Must, "reply-proves-sender", "answers are encrypted to us and prove that the target wrote them"),
            (Must, "ciphertext-tampered", "a message whose ciphertext was changed is not acted upon"),
            (Must, "tag-tampered", "a message whose authentication tag was changed is not acted upon"),
            (Must, "protected-tampered", "a message whose protected header was changed is not acted upon"),
            (Should, "apv", "an apv that is not the digest of the recipients' key ids is refused"),
            (Should, "apu", "an apu that is not the sender's key id is refused"),
            (Must, "sender-key", "a key that its document does not list for key agreement proves no sender"),
            (
                Must,
                "anoncrypt-from",
                "a from that no key proves is not believed: no account is given, and none changed",
            ),
            (
                Must,
                "plaintext",
                "on the word of an unencrypted message no account is given, and none changed",
            ),
            (Should, "plaintext-silent", "an unencrypted request is not answered"),
            (Should, "anoncrypt-authcrypt", "a hidden sender, anoncrypt(authcrypt), is understood"),
            (Info, "did-peer-4", "a sender with a did:peer:4 is answered"),
            (Info, "did-key", "a sender with a did:key is answered"),
            (Info, "curve-p256", "a sender whose keys lie on P-256 is answered"),
        ],
    ),
    (
        "DCv2.1-envelope",
        "DIDComm Messaging v2.1, Message Layer Addressing Consistency",
        &[
            (Must, "from-not-sender", "a message whose from is not the proved sender is not acted upon"),
            (Info, "to-not-recipient", "a message whose to leaves the target out is not acted upon"),
        ],
    ),
    (
        "DCv2.1-envelope",
        "DIDComm Messaging v2.1, Message Signing",
        &[
            (Must, "signer-not-from", "a signed message whose from is not the signer is not acted upon"),
            (Should, "signed-without-to", "a signed and encrypted message without to is not acted upon"),
            (Should, "signed-anoncrypt", "a signed message inside anoncrypt is understood"),
        ],
    ),
    (
        "DCv2.1-envelope",
        "DIDComm Messaging v2.1, Message Headers",
        &[
            (Should, "expired", "a message past its expires_time is not acted upon"),
            (Must, "unknown-headers", "headers it does not know do not keep it from answering"),
        ],
    ),
    (
        "RP2",
        "DIDComm Messaging v2.1, Message Headers",
        &[
            (Should, "replay", "a repeated message is not acted upon a second time"),
            (Info, "replay-code", "a repeated message is reported with the code e.p.crypto.message.dejavu"),
        ],
    ),
    (
        "RP2",
        "DIDComm Messaging v2.1, Message Type URI",
        &[(
            Info,
            "unknown-type-form",
            "a type that is no message type URI is answered with a problem report",
        )],
    ),
    (
        "TP2",
        "DIDComm Messaging v2.1, Trust Ping Protocol 2.0",
        &[
            (Must, "response", "a ping is answered with ping-response"),
            (Must, "response-default", "a ping without response_requested is answered: the default is true"),
            (Must, "response-not-requested", "a ping with response_requested false is not answered"),
        ],
    ),
    (
        "DF2",
        "DIDComm Messaging v2.1, Discover Features Protocol 2.0",
        &[
            (Must, "disclose", "queries are answered with disclose in their thread"),
            (Must, "wildcard", "a match of `*` alone is answered, and not only full names are"),
            (Should, "wildcard-prefix", "a match that ends in `*` finds what begins so, and nothing else"),
            (Must, "match", "only what was asked for is disclosed"),
            (
                Must,
                "unknown-feature-type",
                "a feature type it does not know, beside one it knows, is ignored and no error",
            ),
            (Info, "lists-what-works", "every protocol that works here is disclosed"),
            (Should, "works-what-is-listed", "every protocol of this suite that is disclosed for us works"),
        ],
    ),
    (
        "RP2",
        "DIDComm Messaging v2.1, Report Problem Protocol 2.0",
        &[
            (Should, "unknown-protocol", "an unknown protocol is answered with a problem report"),
            (Should, "unknown-version", "an unknown major version is answered with a problem report"),
            (Info, "unsupported-code", "both reports have the code e.p.msg.unsupported"),
            (
                Must,
                "form",
                "problem reports have a code, and as pthid the thread of the message they are about",
            ),
            (Should, "code-form", "codes of problem reports have the form sorter.scope.descriptors"),
            (Should, "malformed-body", "a body without required members is answered with a problem report"),
            (Must, "malformed-survived", "the target answers on after a malformed body"),
            (Should, "no-loop", "a problem report is not answered with a problem report"),
        ],
    ),
    (
        "RT2",
        "DIDComm Messaging v2.1, Routing Protocol 2.0",
        &[
            (Must, "forward", "an anoncrypted forward to a registered DID is accepted and queued"),
            (Must, "payload-unchanged", "the recipient gets the envelope as it was sent"),
            (Should, "forward-silent", "nothing comes back for a forward that is accepted"),
            (Should, "forward-base64", "a forward that carries its payload as base64 is accepted"),
            (Should, "forward-authcrypt", "a forward whose sender is proved is accepted"),
            (Info, "forward-several", "each of several attachments is queued"),
            (Info, "forward-expired", "a forward past its expires_time is not queued"),
            (
                Must,
                "unregistered",
                "a forward to a DID that nobody registered is not kept for who registers it later",
            ),
            (
                Info,
                "unregistered-told",
                "its sender is told, by status or problem report, that it is not taken",
            ),
            (Info, "unregistered-code", "such a report has the code e.p.req.not_enroll"),
            (Must, "recipients-apart", "messages for several recipients are queued for each of them alone"),
            (Must, "removed", "nothing is taken for a DID whose registration was removed"),
            (Must, "malformed-survived", "a forward without next or without attachment harms nothing"),
        ],
    ),
];

const MEDIATION: &[Row] = &[
    (Must, "grant", "mediate-request is answered with mediate-grant or mediate-deny in its thread"),
    (Must, "grant-routing-did", "a grant names routing_did in the form of this version"),
    (Must, "grant-repeated", "a second mediate-request is answered, and the account works on"),
    (Must, "update-add", "adding a DID is answered with `success`, naming DID and action as given"),
    (Should, "update-add-again", "adding it again is answered with `no_change` or `success`"),
    (Must, "update-remove", "removing it is answered with `success`"),
    (
        Should,
        "update-remove-unknown",
        "removing a DID that was never added is answered with `no_change` or `client_error`",
    ),
    (
        Must,
        "update-several",
        "several updates in one message are answered each, in one response in its thread",
    ),
    (Must, "query", "the list holds what was added and not what was removed"),
    (Should, "query-paginated", "no more than `limit` DIDs come in a page, and two pages together hold all"),
    (Should, "query-pagination", "a page tells count, offset and remaining"),
    (Must, "mail", "a letter for a DID of such an account can be fetched"),
    (Must, "query-own", "the list of one account holds nothing of another"),
    (
        Should,
        "not-granted",
        "updates without an account are refused with a problem report, or each with `client_error`",
    ),
    (Info, "not-granted-code", "the code of that report is e.p.req.not_enroll"),
    (Should, "update-foreign", "a DID one account registered is not taken over by another without proof"),
    (Info, "register-fresh", "a fresh DID is registered without further proof"),
    (Info, "register-own", "the DID of the account itself can be registered"),
    (Info, "register-did-peer-4", "a did:peer:4 can be registered"),
    (Info, "register-did-key", "a did:key can be registered"),
];

const PICKUP: &[Row] = &[
    (Must, "status-count", "status tells how many messages wait"),
    (Must, "status-recipient-did", "status names recipient_did if the request did"),
    (Must, "status-account", "without recipient_did, status counts what waits for the whole account"),
    (Should, "status-thread", "status names the request as its thread"),
    (Must, "delivery", "delivery holds the forwarded envelope as attachment"),
    (Must, "delivery-account", "without recipient_did, what waits for the whole account is delivered"),
    (Must, "delivery-thread", "delivery names the request as its thread"),
    (Must, "delivery-limit", "no more messages are delivered than asked for"),
    (Should, "delivery-oldest-first", "the oldest message is delivered first"),
    (Must, "delivery-keeps", "a delivered message waits on until messages-received names it"),
    (Must, "delivery-redelivery-same-id", "a message delivered again has the same attachment id"),
    (Must, "received-deletes", "what messages-received names is gone, and nothing else"),
    (Should, "received-status", "messages-received is answered with status"),
    (Must, "received-unknown", "messages-received with an unknown id does no harm"),
    (Must, "received-foreign", "messages-received by somebody else deletes nothing"),
    (Must, "empty-queue", "a delivery-request for an empty queue is answered as this version asks"),
    (
        Must,
        "recipients-independent",
        "one message for several DIDs waits for each of them until it is confirmed for that DID",
    ),
    (Must, "recipient-foreign", "nobody learns or fetches what waits for a DID of another account"),
    (Info, "not-enrolled-code", "such a request is refused with the code e.p.req.not_enroll"),
    (Should, "not-enrolled", "a stranger without an account is refused with a problem report"),
    (Must, "malformed-survived", "a malformed request harms nothing"),
    (Should, "live-http", "live delivery by HTTP is refused with e.m.live-mode-not-supported"),
    (Must, "socket", "over a WebSocket, a delivery-request is answered with the message that waits"),
    (Must, "socket-empty", "over a WebSocket, an empty queue is answered as by HTTP"),
    (Must, "live-status", "live-delivery-change is answered with status"),
    (Must, "live-push", "in live mode a new message is pushed at once"),
    (
        Must,
        "live-apart",
        "nobody else is pushed it, be it another account in live mode or a stranger who asked for that",
    ),
    (Must, "live-off-default", "a socket that did not ask for live delivery is not pushed to"),
    (Must, "live-reconnect", "a new connection is not pushed to, although the one before it was"),
    (Should, "live-told", "if status tells live_delivery, it tells what was asked for"),
    (Should, "live-off", "after live_delivery false nothing is pushed any more"),
    (Must, "live-no-flush", "turning live delivery on does not push what waited before"),
    (Must, "live-keeps", "a pushed message that nobody confirmed can be fetched after the socket closed"),
];

const PICKUP_4: &[Row] = &[
    (Must, "times-milliseconds", "times in status are in milliseconds, and longest_waited_seconds is gone"),
    (Must, "live-wrapped", "a pushed message comes as delivery"),
];

/// What one version of pickup weighs otherwise than the other. The text of 3.0 lets `limit` bound only what is wished for,
/// has messages pushed instead of queued, and says in passing that what waits is not pushed; 4.0 leaves the thread of a
/// delivery to the mediator, and no longer asks for a status after `messages-received`.
const OTHERWISE: [(&str, Level); 5] = [
    ("MP3-delivery-limit", Should),
    ("MP3-live-keeps", Should),
    ("MP3-live-no-flush", Should),
    ("MP4-delivery-thread", Should),
    ("MP4-received-status", Info),
];

/// Whether a requirement has this id.
pub(super) const fn holds_id(id: &str) -> bool {
    let id = id.as_bytes();
    let mut groups = BASICS;
    while let [(tag, _, rows), rest @ ..] = groups {
        if is_among(id, tag, rows) {
            return true;
        }
        groups = rest;
    }
    is_among(id, "CM2", MEDIATION)
        || is_among(id, "CM3", MEDIATION)
        || is_among(id, "MP3", PICKUP)
        || is_among(id, "MP4", PICKUP)
        || is_among(id, "MP4", PICKUP_4)
}

/// Whether mediation or pickup has this point.
pub(super) const fn holds_point(point: &str) -> bool {
    let point = point.as_bytes();
    has(MEDIATION, point) || has(PICKUP, point) || has(PICKUP_4, point)
}

/// Whether an id is the tag, a hyphen, and one of the points.
const fn is_among(id: &[u8], tag: &str, rows: &[Row]) -> bool {
    if id.len() <= tag.len() {
        return false;
    }
    let (start, rest) = id.split_at(tag.len());
    let (hyphen, point) = rest.split_at(1);
    same(start, tag.as_bytes()) && same(hyphen, b"-") && has(rows, point)
}

const fn has(mut rows: &[Row], point: &[u8]) -> bool {
    while let [(_, known, _), rest @ ..] = rows {
        if same(known.as_bytes(), point) {
            return true;
        }
        rows = rest;
    }
    false
}

/// What `==` is outside constants.
const fn same(mut one: &[u8], mut other: &[u8]) -> bool {
    while let ([first, rest @ ..], [second, others @ ..]) = (one, other) {
        if *first != *second {
            return false;
        }
        (one, other) = (rest, others);
    }
    one.is_empty() && other.is_empty()
}

/// All requirements, in the order of the report.
pub fn all() -> Vec<Requirement> {
    let mut all = Vec::new();
    let mut add = |tag: &str, section: &'static str, rows: &[Row]| {
        all.extend(rows.iter().map(|(level, point, text)| Requirement {
            id: format!("{tag}-{point}"),
            level: *level,
            section,
            text,
        }));
    };
    for (tag, section, rows) in BASICS {
        add(tag, section, rows);
    }
    add("CM2", "Coordinate Mediation Protocol 2.0", MEDIATION);
    add("CM3", "Coordinate Mediation Protocol 3.0", MEDIATION);
    add("MP3", "Message Pickup Protocol 3.0", PICKUP);
    add("MP4", "Message Pickup Protocol 4.0", PICKUP);
    add("MP4", "Message Pickup Protocol 4.0", PICKUP_4);
    for (id, level) in OTHERWISE {
        all.iter_mut().filter(|one| one.id == id).for_each(|one| one.level = level);
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn requirements_name_the_section_that_holds_them() {
        let all = all();
        for (id, holder) in [
            ("DCv2.1-transport-return-route-all", "Return-Route"),
            ("DCv2.1-transport-return-route-none", "Return-Route"),
            ("DCv2.1-transport-socket", "Return-Route"),
            ("DCv2.1-transport-answers", "Transports"),
            ("DCv2.1-did-service-endpoint", "v2.1, Service Endpoint"),
            ("DCv2.1-did-agreement-key", "DID Document Keys"),
            ("DCv2.1-envelope-reply-thread", "Threading"),
            ("DCv2.1-envelope-from-not-sender", "Addressing Consistency"),
            ("DCv2.1-envelope-rotation-forged", "DID Rotation"),
            ("DCv2.1-envelope-signer-not-from", "Message Signing"),
            ("DCv2.1-envelope-expired", "Message Headers"),
            ("RP2-replay", "Message Headers"),
            ("RP2-unknown-type-form", "Message Type URI"),
            ("DF2-max-receive-bytes", "Agent Constraint Disclosure"),
            ("TP2-response-async", "Transports"),
        ] {
            let requirement = all.iter().find(|requirement| requirement.id == id).unwrap();
            assert!(requirement.section.contains(holder), "{id}: {}", requirement.section);
        }
        // A section that came twice would have two headings in the table.
        let mut sections: Vec<&str> = all.iter().map(|requirement| requirement.section).collect();
        sections.dedup();
        let number = sections.len();
        sections.sort_unstable();
        sections.dedup();
        assert_eq!(sections.len(), number);
    }

    /// The rows of the documentation; both versions of a protocol share one.
    fn rows() -> Vec<String> {
        let all = all();
        let level = |id: &str| {
            let found = all.iter().find(|requirement| requirement.id == id)?;
            Some(match found.level {
                Must => "MUST",
                Should => "SHOULD",
                Info => "INFO",
            })
        };
        let mut rows = Vec::new();
        for requirement in &all {
            let (tag, point) = requirement.id.split_once('-').unwrap();
            let (old, new) = match tag {
                "CM2" | "CM3" => ("CM2", "CM3"),
                "MP3" | "MP4" => ("MP3", "MP4"),
                _ => (tag, tag),
            };
            let [old_level, new_level] = [old, new].map(|tag| level(&format!("{tag}-{point}")));
            let shared = old != new && old_level.is_some() && new_level.is_some();
            let id = if shared { format!("{}*-{point}", &tag[..2]) } else { requirement.id.clone() };
            let level = match (old_level, new_level) {
                (Some(one), Some(other)) if one != other => format!("{one} in {old}, {other} in {new}"),
                (one, other) => one.or(other).unwrap().to_owned(),
            };
            let level = match id.as_str() {
                "DCv2.1-transport-return-route-all" => {
                    format!("{level}, INFO for who serves neither mediation nor pickup")
                }
                _ => level,
            };
            let row = format!("| `{id}` | {level} | {} |", requirement.text);
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        rows
    }

    #[test]
    fn documentation_says_of_each_requirement_what_stands_here() {
        let text = include_str!("../../../docs/conformance.md");
        let all = all();
        let ids: BTreeSet<&str> = all.iter().map(|requirement| requirement.id.as_str()).collect();
        assert_eq!(ids.len(), all.len());
        assert!(text.contains(&format!("\n{} in all.", all.len())), "{} in all", all.len());
        assert!(include_str!("../../../README.md").contains(&format!("checks {} requirements", all.len())));
        let lacking: Vec<String> = rows().into_iter().filter(|row| !text.contains(row)).collect();
        assert!(lacking.is_empty(), "\n{}", lacking.join("\n"));
        for requirement in all.iter().filter(|one| !one.id.starts_with("CM") && !one.id.starts_with("MP")) {
            let heading = format!("\n### {}\n", requirement.section);
            assert!(text.contains(&heading), "{heading}");
        }
    }

    /// A number that changes with any id, level or text.
    fn fingerprint() -> u64 {
        let mut number = 0xcbf2_9ce4_8422_2325_u64;
        for requirement in all() {
            for byte in format!("{} {:?} {}\n", requirement.id, requirement.level, requirement.text).bytes() {
                number = (number ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        number
    }

    #[test]
    fn version_rises_with_any_change() {
        assert_eq!(
            (VERSION, fingerprint()),
            (2, 14_971_470_215_142_839_275),
            "raise VERSION, and note the new fingerprint"
        );
    }
}
