//! Bodies of Present Proof 3.0.

use einmal_didcomm::Body;
use serde::{Deserialize, Serialize};

use crate::issue_credential::AckStatus;

macro_rules! body {
    ($name:ident, $message:literal) => {
        impl Body for $name {
            const TYPE: &'static str = concat!("https://didcomm.org/present-proof/3.0/", $message);
        }

        impl $name {
            /// The same message under the namespace of a widely deployed agent; read, never sent.
            pub(super) const ALIAS: &'static str =
                concat!("https://didcomm.atalaprism.io/present-proof/3.0/", $message);
        }
    };
}

/// Prover to verifier: asks for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposePresentation {
    /// The purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal_code: Option<String>,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}
body!(ProposePresentation, "propose-presentation");

/// Verifier to prover: what to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestPresentation {
    /// The purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal_code: Option<String>,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the verifier will tell its verdict; `false` if absent.
    #[serde(default)]
    pub will_confirm: bool,
}
body!(RequestPresentation, "request-presentation");

/// Prover to verifier: the presentation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presentation {
    /// The purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal_code: Option<String>,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}
body!(Presentation, "presentation");

/// Verifier to prover: the verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Whether it was accepted; accepted if absent.
    #[serde(default)]
    pub status: AckStatus,
}
body!(Ack, "ack");

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Draft;

    #[test]
    fn bodies_have_exactly_the_members_of_the_text() {
        let body = |draft: Draft| Value::Object(draft.body);
        assert_eq!(body(Draft::of(&ProposePresentation::default())), json!({}));
        assert_eq!(body(Draft::of(&Presentation::default())), json!({}));
        assert_eq!(body(Draft::of(&Ack::default())), json!({"status": "OK"}));
        let request = RequestPresentation {
            goal_code: Some("org.example.age".into()),
            comment: Some("for wine".into()),
            will_confirm: true,
        };
        let expected = json!({"goal_code": "org.example.age", "comment": "for wine", "will_confirm": true});
        assert_eq!(body(Draft::of(&request)), expected);
        assert_eq!(serde_json::from_value::<RequestPresentation>(expected).unwrap(), request);
        assert!(!serde_json::from_value::<RequestPresentation>(json!({})).unwrap().will_confirm);
    }
}
