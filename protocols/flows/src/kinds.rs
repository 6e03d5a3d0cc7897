//! The message types this crate sends.

use einmal_didcomm::Body;

use crate::{
    basic_message::BasicMessage,
    coordinate_mediation as mediation, discover_features as features,
    empty::Empty,
    issue_credential as issue, message_pickup as pickup,
    out_of_band::InvitationBody,
    present_proof as proof,
    report_problem::ProblemReport,
    trust_ping::{Ping, PingResponse},
};

/// All of them.
pub(crate) const ALL: [&str; 36] = [
    Empty::TYPE,
    InvitationBody::TYPE,
    Ping::TYPE,
    PingResponse::TYPE,
    features::Queries::TYPE,
    features::Disclose::TYPE,
    ProblemReport::TYPE,
    BasicMessage::TYPE,
    mediation::MediateRequest::TYPE,
    mediation::MediateGrant::TYPE,
    mediation::MediateDeny::TYPE,
    mediation::RecipientUpdate::TYPE,
    mediation::RecipientUpdateResponse::TYPE,
    mediation::RecipientQuery::TYPE,
    mediation::RecipientList::TYPE,
    mediation::KeylistGrant::TYPE,
    mediation::KeylistDeny::TYPE,
    mediation::KeylistUpdateResponse::TYPE,
    mediation::Keylist::TYPE,
    pickup::Status4::TYPE,
    pickup::Delivery4::TYPE,
    pickup::StatusRequest::TYPE,
    pickup::Status::TYPE,
    pickup::DeliveryRequest::TYPE,
    pickup::Delivery::TYPE,
    pickup::MessagesReceived::TYPE,
    pickup::LiveDeliveryChange::TYPE,
    issue::ProposeCredential::TYPE,
    issue::OfferCredential::TYPE,
    issue::RequestCredential::TYPE,
    issue::IssueCredential::TYPE,
    issue::Ack::TYPE,
    proof::ProposePresentation::TYPE,
    proof::RequestPresentation::TYPE,
    proof::Presentation::TYPE,
    proof::Ack::TYPE,
];

#[cfg(test)]
mod tests {
    use einmal_didcomm::MessageType;

    use super::*;

    #[test]
    fn every_type_is_a_message_type_uri_and_stands_once() {
        for (n, kind) in ALL.iter().enumerate() {
            assert_eq!(MessageType::parse(kind).unwrap().as_str(), *kind);
            assert!(!ALL[..n].contains(kind), "{kind}");
        }
    }
}
