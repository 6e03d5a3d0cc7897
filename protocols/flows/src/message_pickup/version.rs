//! The versions of the protocol, and the bodies of 4.0 where they differ from 3.0.

use einmal_didcomm::{Body, MessageType};
use serde::{Deserialize, Serialize};

use super::{Delivery, LiveDeliveryChange, Status};
use crate::{Protocol, coordinate_mediation::MediationVersion, protocol::is_one_of};

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
        match (Protocol::of(kind)?, kind.major()) {
            (Protocol::MessagePickup, 3) => Some(Self::V3),
            (Protocol::MessagePickup, 4) => Some(Self::V4),
            _ => None,
        }
    }
}

/// Whether a message, of either version, turns pushing on the connection it comes by on or off.
pub fn is_live_change(kind: &MessageType) -> bool {
    is_one_of(kind, &[LiveDeliveryChange::TYPE, LIVE_DELIVERY_CHANGE_4])
}

/// Whether a message, of either version, is of those that a mediator sends unasked while it pushes: it says that there
/// is mail, or hands it over.
pub fn is_push(kind: &MessageType) -> bool {
    is_one_of(kind, &[Status::TYPE, Status4::TYPE, Delivery::TYPE, Delivery4::TYPE])
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

    /// The version of the protocol it is spoken in: raw messages are pushed in 3.0 only.
    pub fn version(self) -> PickupVersion {
        match self {
            Self::Raw => PickupVersion::V3,
            Self::Wrapped(version) => version,
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
    use super::*;
    use crate::message_pickup::{MessagesReceived, StatusRequest};

    fn kind(uri: &str) -> MessageType {
        MessageType::parse(uri).unwrap()
    }

    #[test]
    fn a_change_of_live_delivery_is_told_in_both_versions_and_in_no_other() {
        for uri in [LiveDeliveryChange::TYPE, LIVE_DELIVERY_CHANGE_4] {
            assert!(is_live_change(&kind(uri)), "{uri}");
        }
        for uri in [
            StatusRequest::TYPE,
            "https://didcomm.org/messagepickup/2.0/live-delivery-change",
            "https://example.org/messagepickup/3.0/live-delivery-change",
            "https://example.org/message-pickup/4.0/live-delivery-change",
        ] {
            assert!(!is_live_change(&kind(uri)), "{uri}");
        }
    }

    #[test]
    fn what_a_mediator_pushes_is_told_from_what_it_is_asked() {
        for uri in [Status::TYPE, Status4::TYPE, Delivery::TYPE, Delivery4::TYPE] {
            assert!(is_push(&kind(uri)), "{uri}");
        }
        for uri in [
            StatusRequest::TYPE,
            MessagesReceived::TYPE,
            LiveDeliveryChange::TYPE,
            STATUS_REQUEST_4,
            "https://didcomm.org/messagepickup/2.0/status",
            "https://example.org/messagepickup/3.0/status",
        ] {
            assert!(!is_push(&kind(uri)), "{uri}");
        }
    }

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
