//! The versions of the protocol, and the bodies of 4.0 where they differ from 3.0.

use einmal_didcomm::MessageType;
use serde::{Deserialize, Serialize};

use crate::coordinate_mediation::MediationVersion;

/// The version a request came in; its reply is written in the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PickupVersion {
    /// `messagepickup/3.0`.
    V3,
    /// `message-pickup/4.0`.
    V4,
}

impl PickupVersion {
    /// The version of a message type; `None` if it is of another protocol or version.
    pub fn of(kind: &MessageType) -> Option<Self> {
        match (kind.standard_protocol()?, kind.major()) {
            ("messagepickup", 3) => Some(Self::V3),
            ("messagepickup", 4) => Some(Self::V4),
            _ => None,
        }
    }
}

/// The form in which messages are pushed to a live connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushForm {
    /// As they are.
    Raw,
    /// In `delivery` messages of this version.
    Wrapped(PickupVersion),
}

impl PushForm {
    /// The form to push to a wallet that switched on live mode in version `pickup`; `account` is the version in which
    /// it asked for its account, if known.
    ///
    /// 4.0 requires `delivery`. 3.0 leaves it open, and deployed wallets read only one form and ignore the other: those
    /// that ask for mediation in 2.0 read `delivery`, those that ask in 3.0 raw messages.
    pub fn of(pickup: PickupVersion, account: Option<MediationVersion>) -> Self {
        match (pickup, account) {
            (PickupVersion::V3, Some(MediationVersion::V2)) | (PickupVersion::V4, _) => Self::Wrapped(pickup),
            (PickupVersion::V3, _) => Self::Raw,
        }
    }
}

/// Type URI of the request for the status.
pub(super) const STATUS_REQUEST_4: &str = "https://didcomm.org/message-pickup/4.0/status-request";
/// Type URI of the request for messages.
pub(super) const DELIVERY_REQUEST_4: &str = "https://didcomm.org/message-pickup/4.0/delivery-request";
/// Type URI of the confirmation.
pub(super) const MESSAGES_RECEIVED_4: &str = "https://didcomm.org/message-pickup/4.0/messages-received";
/// Type URI of the switch for live delivery.
pub(super) const LIVE_DELIVERY_CHANGE_4: &str = "https://didcomm.org/message-pickup/4.0/live-delivery-change";

/// How much is waiting; times are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status4 {
    /// The DID of the request, if it named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_did: Option<String>,
    /// Number of messages.
    pub message_count: u64,
    /// When the newest arrived, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_received_time: Option<u64>,
    /// When the oldest arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_received_time: Option<u64>,
    /// Size of all messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Whether messages are pushed on this connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_delivery: Option<bool>,
}

/// Delivers messages, which are its attachments; also pushes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery4 {
    /// The DID of the request, if it named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_did: Option<String>,
}

bodies! {
    "https://didcomm.org/message-pickup/4.0/":
    Status4 = "status",
    Delivery4 = "delivery",
}

#[cfg(test)]
mod tests {
    use einmal_didcomm::Body;

    use super::*;

    #[test]
    fn a_version_is_told_by_name_and_number() {
        let of = |uri: &str| PickupVersion::of(&MessageType::parse(uri).unwrap());
        assert_eq!(of("https://didcomm.org/messagepickup/3.0/status"), Some(PickupVersion::V3));
        assert_eq!(of(Status4::TYPE), Some(PickupVersion::V4));
        assert_eq!(of("https://didcomm.org/messagepickup/2.0/status"), None);
        assert_eq!(of("https://didcomm.org/routing/3.0/forward"), None);
        assert_eq!(of("https://example.org/messagepickup/3.0/status"), None);
        assert_eq!(of("https://example.org/message-pickup/4.0/status"), None);
    }
}
