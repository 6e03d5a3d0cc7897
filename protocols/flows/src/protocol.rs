//! Which protocol a message belongs to. The names by which protocols are told apart stand here only; messages are told
//! apart by the types of their bodies.

use einmal_didcomm::MessageType;

/// A protocol that didcomm.org describes and this crate tells apart by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Coordinate Mediation.
    CoordinateMediation,
    /// Discover Features.
    DiscoverFeatures,
    /// Issue Credential.
    IssueCredential,
    /// Message Pickup.
    MessagePickup,
    /// Present Proof.
    PresentProof,
}

impl Protocol {
    /// The protocol of a message type, in whatever version and spelling.
    ///
    /// `None` if it is none of these, or somebody else's of the same name.
    ///
    /// # Specification
    ///
    /// DIDComm Messaging v2.1, "Protocol Identifier URI".
    pub fn of(kind: &MessageType) -> Option<Self> {
        Some(match kind.standard_protocol()? {
            "coordinatemediation" => Self::CoordinateMediation,
            "discoverfeatures" => Self::DiscoverFeatures,
            "issuecredential" => Self::IssueCredential,
            "messagepickup" => Self::MessagePickup,
            "presentproof" => Self::PresentProof,
            _ => return None,
        })
    }
}

/// Whether a message is of one of these types, in their major versions.
pub(crate) fn is_one_of(kind: &MessageType, uris: &[&str]) -> bool {
    uris.iter().any(|uri| kind.is(uri))
}

#[cfg(test)]
mod tests {
    use einmal_didcomm::Body;

    use super::*;
    use crate::{
        coordinate_mediation as mediation, discover_features as features, issue_credential as issue,
        message_pickup as pickup, present_proof as proof, trust_ping::Ping,
    };

    fn of(uri: &str) -> Option<Protocol> {
        Protocol::of(&MessageType::parse(uri).unwrap())
    }

    #[test]
    fn every_protocol_is_told_by_the_types_of_its_own_bodies() {
        for (uri, protocol) in [
            (mediation::MediateRequest::TYPE, Protocol::CoordinateMediation),
            (mediation::KeylistUpdate::TYPE, Protocol::CoordinateMediation),
            (features::Queries::TYPE, Protocol::DiscoverFeatures),
            (issue::OfferCredential::TYPE, Protocol::IssueCredential),
            (pickup::Status::TYPE, Protocol::MessagePickup),
            (pickup::Status4::TYPE, Protocol::MessagePickup),
            (proof::Presentation::TYPE, Protocol::PresentProof),
        ] {
            assert_eq!(of(uri), Some(protocol), "{uri}");
        }
    }

    #[test]
    fn a_protocol_is_the_same_in_every_version_and_spelling_but_not_under_a_foreign_namespace() {
        let pickup = Some(Protocol::MessagePickup);
        assert_eq!(of("https://didcomm.org/Message_Pickup/9.0/anything"), pickup);
        assert_eq!(of("did:sov:BzCbsNYhMrjHiqZDTUASHg;spec/messagepickup/1.0/status"), pickup);
        assert_eq!(of("https://example.org/messagepickup/3.0/status"), None);
        assert_eq!(of(Ping::TYPE), None);
    }
}
