//! Attachment formats of the project for issue-credential 3.0 and present-proof 3.0, and their contents.
//!
//! No registered format carries `dc+sd-jwt` credentials or DCQL queries over DIDComm, so these ids are the project's
//! own. The id alone tells the format, never the order of attachments. Reading tolerates unknown members but enforces
//! the bounds.

use std::{collections::BTreeMap, fmt};

use einmal_didcomm::{Attachment, Message};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    FlowError,
    limits::{
        MAX_ALGORITHM_LEN, MAX_ALGORITHMS, MAX_CREDENTIAL_LEN, MAX_CREDENTIALS_PER_ISSUE, MAX_DCQL_BYTES,
        MAX_IDENTIFIER_LEN, MAX_NONCE_LEN, MAX_PRESENTATIONS_PER_QUERY, MAX_PRESENTED_QUERIES,
        MAX_PROOF_JWT_LEN, MAX_QUERY_ID_LEN, MIN_NONCE_LEN,
    },
};

/// Content of an attachment of one format.
pub trait Content: Serialize + DeserializeOwned {
    /// The attachment's `format`.
    const FORMAT: &'static str;

    /// Checks the bounds.
    ///
    /// # Errors
    ///
    /// [`FlowError::InvalidContent`] or [`FlowError::TooMany`].
    fn check(&self) -> Result<(), FlowError>;

    /// The content as an attachment named `id`.
    ///
    /// # Errors
    ///
    /// Those of [`Content::check`]: content that no peer would accept is not sent.
    fn to_attachment(&self, id: &str) -> Result<Attachment, FlowError> {
        self.check()?;
        let json =
            serde_json::to_value(self).map_err(|_| FlowError::InvalidContent { what: Self::FORMAT })?;
        Ok(Attachment::json(id, json).with_format(Self::FORMAT))
    }

    /// The first attachment of this format. Several attachments are alternatives with the same meaning.
    ///
    /// # Errors
    ///
    /// [`FlowError::UnknownFormat`] if there is none, [`FlowError::Attachment`], [`FlowError::InvalidContent`],
    /// [`FlowError::TooMany`].
    fn find_in(message: &Message) -> Result<Self, FlowError> {
        let attachment = message
            .attachments
            .iter()
            .find(|attachment| attachment.format.as_deref() == Some(Self::FORMAT))
            .ok_or(FlowError::UnknownFormat)?;
        let json = attachment.to_json()?;
        let content: Self =
            serde_json::from_value(json).map_err(|_| FlowError::InvalidContent { what: Self::FORMAT })?;
        content.check()?;
        Ok(content)
    }
}

fn bounded(what: &'static str, text: &str, least: usize, most: usize) -> Result<(), FlowError> {
    if text.len() < least || text.len() > most { Err(FlowError::InvalidContent { what }) } else { Ok(()) }
}

fn at_most(what: &'static str, len: usize, most: usize) -> Result<(), FlowError> {
    if len > most { Err(FlowError::TooMany { what, most }) } else { Ok(()) }
}

/// How a credential is bound to its holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CryptographicBinding {
    /// To a key given as JWK (`cnf.jwk`).
    #[default]
    #[serde(rename = "jwk")]
    Jwk,
}

/// Offer of an SD-JWT VC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SdJwtOffer {
    /// Type of the credential.
    pub vct: String,
    /// How it will be bound to the holder.
    #[serde(default)]
    pub cryptographic_binding: CryptographicBinding,
    /// JOSE algorithms accepted for the holder's key, in order of preference.
    pub alg: Vec<String>,
    /// To be signed in the proof of possession; fresh for each offer.
    pub nonce: String,
    /// Audience of the proof of possession: the issuer.
    pub aud: String,
}

impl Content for SdJwtOffer {
    const FORMAT: &'static str = "einmal/dc+sd-jwt-offer@v1.0";

    fn check(&self) -> Result<(), FlowError> {
        bounded("vct", &self.vct, 1, MAX_IDENTIFIER_LEN)?;
        bounded("nonce", &self.nonce, MIN_NONCE_LEN, MAX_NONCE_LEN)?;
        bounded("aud", &self.aud, 1, MAX_IDENTIFIER_LEN)?;
        at_most("algorithms", self.alg.len(), MAX_ALGORITHMS)?;
        if self.alg.is_empty() {
            return Err(FlowError::InvalidContent { what: "alg" });
        }
        self.alg.iter().try_for_each(|alg| bounded("alg", alg, 1, MAX_ALGORITHM_LEN))
    }
}

/// Request of an SD-JWT VC.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SdJwtRequest {
    /// Proof of possession of the holder's key (`typ` `openid4vci-proof+jwt`).
    pub proof_jwt: String,
}

impl Content for SdJwtRequest {
    const FORMAT: &'static str = "einmal/dc+sd-jwt-request@v1.0";

    fn check(&self) -> Result<(), FlowError> {
        bounded("proof_jwt", &self.proof_jwt, 1, MAX_PROOF_JWT_LEN)
    }
}

/// Issued SD-JWT VCs, in compact form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SdJwtIssue {
    /// The credentials; several carry the same claims, for separate use.
    pub credentials: Vec<String>,
}

impl Content for SdJwtIssue {
    const FORMAT: &'static str = "einmal/dc+sd-jwt@v1.0";

    fn check(&self) -> Result<(), FlowError> {
        at_most("credentials", self.credentials.len(), MAX_CREDENTIALS_PER_ISSUE)?;
        if self.credentials.is_empty() {
            return Err(FlowError::InvalidContent { what: "credentials" });
        }
        self.credentials.iter().try_for_each(|text| bounded("credentials", text, 1, MAX_CREDENTIAL_LEN))
    }
}

/// Request of a presentation by a DCQL query.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct DcqlRequest {
    /// The query, as OpenID4VP 1.0 defines it. Its rules are checked where credentials are chosen.
    pub dcql_query: Value,
    /// To be signed in the key binding; fresh for each request.
    pub nonce: String,
    /// The verifier: `decentralized_identifier:` and its DID. Also the audience of the key binding.
    pub client_id: String,
}

impl Content for DcqlRequest {
    const FORMAT: &'static str = "einmal/dcql@v1.0";

    fn check(&self) -> Result<(), FlowError> {
        bounded("nonce", &self.nonce, MIN_NONCE_LEN, MAX_NONCE_LEN)?;
        bounded("client_id", &self.client_id, 1, MAX_IDENTIFIER_LEN)?;
        if !self.dcql_query.is_object() {
            return Err(FlowError::InvalidContent { what: "dcql_query" });
        }
        bounded("dcql_query", &self.dcql_query.to_string(), 2, MAX_DCQL_BYTES)
    }
}

/// Presentations by credential query id, in the shape of `vp_token`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DcqlPresentation(pub BTreeMap<String, Vec<String>>);

impl Content for DcqlPresentation {
    const FORMAT: &'static str = "einmal/dc+sd-jwt-presentation@v1.0";

    fn check(&self) -> Result<(), FlowError> {
        at_most("answered queries", self.0.len(), MAX_PRESENTED_QUERIES)?;
        if self.0.is_empty() {
            return Err(FlowError::InvalidContent { what: "vp_token" });
        }
        for (id, presentations) in &self.0 {
            bounded("query id", id, 1, MAX_QUERY_ID_LEN)?;
            at_most("presentations", presentations.len(), MAX_PRESENTATIONS_PER_QUERY)?;
            if presentations.is_empty() {
                return Err(FlowError::InvalidContent { what: "vp_token" });
            }
            presentations.iter().try_for_each(|text| bounded("vp_token", text, 1, MAX_CREDENTIAL_LEN))?;
        }
        Ok(())
    }
}

macro_rules! withhold {
    ($($name:ident),*) => {$(
        /// Withholds the content: it is personal.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}
withhold!(SdJwtRequest, SdJwtIssue, DcqlRequest, DcqlPresentation);

#[cfg(test)]
mod tests {
    use einmal_didcomm::AttachmentError;
    use serde_json::json;

    use super::*;
    use crate::testing::Post;

    const NONCE: &str = "AAAAAAAAAAAAAAAAAAAAAA";

    fn offer() -> SdJwtOffer {
        SdJwtOffer {
            vct: "https://city.example/vct/residency".into(),
            cryptographic_binding: CryptographicBinding::Jwk,
            alg: vec!["ES256".into(), "EdDSA".into()],
            nonce: NONCE.into(),
            aud: "decentralized_identifier:did:web:city.example".into(),
        }
    }

    fn request() -> DcqlRequest {
        DcqlRequest {
            dcql_query: json!({"credentials": []}),
            nonce: NONCE.into(),
            client_id: "decentralized_identifier:did:web:shop.example".into(),
        }
    }

    fn message(attachments: Value) -> Message {
        let message =
            json!({"id": "m", "type": "https://didcomm.org/empty/1.0/empty", "attachments": attachments});
        Post::new("did:example:a", "did:example:b", message).message
    }

    fn written<C: Content>(content: &C) -> Value {
        let mut message = message(json!([]));
        message.attachments = vec![content.to_attachment("0").unwrap()];
        message.to_value()["attachments"][0].clone()
    }

    #[test]
    fn contents_are_written_exactly() {
        let expected = json!({"id": "0", "media_type": "application/json", "format": "einmal/dc+sd-jwt-offer@v1.0",
            "data": {"json": {"vct": "https://city.example/vct/residency", "cryptographic_binding": "jwk",
            "alg": ["ES256", "EdDSA"], "nonce": NONCE,
            "aud": "decentralized_identifier:did:web:city.example"}}});
        assert_eq!(written(&offer()), expected);
        let issued = written(&SdJwtIssue { credentials: vec!["a~".into()] });
        assert_eq!(issued["format"], "einmal/dc+sd-jwt@v1.0");
        assert_eq!(issued["data"]["json"], json!({"credentials": ["a~"]}));
        let requested = written(&SdJwtRequest { proof_jwt: "a.b.c".into() });
        assert_eq!(requested["format"], "einmal/dc+sd-jwt-request@v1.0");
        assert_eq!(requested["data"]["json"], json!({"proof_jwt": "a.b.c"}));
        let asked = written(&request());
        assert_eq!(asked["format"], "einmal/dcql@v1.0");
        let expected = json!({"dcql_query": {"credentials": []}, "nonce": NONCE,
            "client_id": "decentralized_identifier:did:web:shop.example"});
        assert_eq!(asked["data"]["json"], expected);
        let presented = written(&DcqlPresentation(BTreeMap::from([("age".into(), vec!["a~b".into()])])));
        assert_eq!(presented["format"], "einmal/dc+sd-jwt-presentation@v1.0");
        assert_eq!(presented["data"]["json"], json!({"age": ["a~b"]}));
    }

    #[test]
    fn content_is_found_by_its_format_in_json_and_in_base64() {
        let other = json!({"id": "x", "format": "aries/ld-proof-vc@v1.0", "data": {"json": {}}});
        let encoded = einmal_keys::base64url_encode(serde_json::to_vec(&offer()).unwrap());
        for data in [json!({"json": serde_json::to_value(offer()).unwrap()}), json!({"base64": encoded})] {
            let ours = json!({"id": "y", "format": SdJwtOffer::FORMAT, "data": data});
            assert_eq!(SdJwtOffer::find_in(&message(json!([other, ours]))), Ok(offer()));
        }
        assert_eq!(SdJwtOffer::find_in(&message(json!([other]))), Err(FlowError::UnknownFormat));
    }

    #[test]
    fn content_that_is_no_json_or_of_another_shape_is_refused() {
        let find = |data: Value| {
            SdJwtOffer::find_in(&message(json!([{"format": SdJwtOffer::FORMAT, "data": data}]))).unwrap_err()
        };
        assert_eq!(find(json!({"base64": "e30!"})), FlowError::Attachment(AttachmentError::Encoding));
        let linked = json!({"links": ["https://x"], "hash": "z1"});
        assert_eq!(find(linked), FlowError::Attachment(AttachmentError::NotInline));
        assert_eq!(find(json!({"json": {}})), FlowError::InvalidContent { what: SdJwtOffer::FORMAT });
        let mut foreign = serde_json::to_value(offer()).unwrap();
        foreign["cryptographic_binding"] = json!("did");
        assert_eq!(find(json!({ "json": foreign })), FlowError::InvalidContent { what: SdJwtOffer::FORMAT });
    }

    #[test]
    fn every_bound_of_an_offer_is_kept() {
        let cases = [
            (SdJwtOffer { vct: String::new(), ..offer() }, FlowError::InvalidContent { what: "vct" }),
            (SdJwtOffer { nonce: "short".into(), ..offer() }, FlowError::InvalidContent { what: "nonce" }),
            (
                SdJwtOffer { nonce: "x".repeat(MAX_NONCE_LEN + 1), ..offer() },
                FlowError::InvalidContent { what: "nonce" },
            ),
            (
                SdJwtOffer { aud: "x".repeat(MAX_IDENTIFIER_LEN + 1), ..offer() },
                FlowError::InvalidContent { what: "aud" },
            ),
            (SdJwtOffer { alg: vec![], ..offer() }, FlowError::InvalidContent { what: "alg" }),
            (
                SdJwtOffer { alg: vec!["x".repeat(MAX_ALGORITHM_LEN + 1)], ..offer() },
                FlowError::InvalidContent { what: "alg" },
            ),
            (
                SdJwtOffer { alg: vec!["a".into(); MAX_ALGORITHMS + 1], ..offer() },
                FlowError::TooMany { what: "algorithms", most: MAX_ALGORITHMS },
            ),
        ];
        assert_eq!(SdJwtOffer { alg: vec!["x".repeat(MAX_ALGORITHM_LEN)], ..offer() }.check(), Ok(()));
        for (offer, error) in cases {
            assert_eq!(offer.check(), Err(error.clone()));
            assert_eq!(offer.to_attachment("0").unwrap_err(), error);
        }
    }

    #[test]
    fn every_bound_of_the_other_contents_is_kept() {
        let invalid = |what| Err(FlowError::InvalidContent { what });
        let too_many = |what, most| Err(FlowError::TooMany { what, most });
        assert_eq!(SdJwtRequest { proof_jwt: "x".repeat(MAX_PROOF_JWT_LEN) }.check(), Ok(()));
        assert_eq!(
            SdJwtRequest { proof_jwt: "x".repeat(MAX_PROOF_JWT_LEN + 1) }.check(),
            invalid("proof_jwt")
        );
        let issue = |credentials| SdJwtIssue { credentials }.check();
        assert_eq!(issue(vec![]), invalid("credentials"));
        assert_eq!(issue(vec!["x".repeat(MAX_CREDENTIAL_LEN + 1)]), invalid("credentials"));
        assert_eq!(
            issue(vec!["x".into(); MAX_CREDENTIALS_PER_ISSUE + 1]),
            too_many("credentials", MAX_CREDENTIALS_PER_ISSUE)
        );
        assert_eq!(DcqlRequest { dcql_query: json!([]), ..request() }.check(), invalid("dcql_query"));
        let long = json!({"x": "x".repeat(MAX_DCQL_BYTES)});
        assert_eq!(DcqlRequest { dcql_query: long, ..request() }.check(), invalid("dcql_query"));
        let present =
            |entries: Vec<(String, Vec<String>)>| DcqlPresentation(entries.into_iter().collect()).check();
        let one = || vec!["a~".to_owned()];
        assert_eq!(present(vec![]), invalid("vp_token"));
        assert_eq!(present(vec![("a".into(), vec![])]), invalid("vp_token"));
        assert_eq!(present(vec![("x".repeat(MAX_QUERY_ID_LEN + 1), one())]), invalid("query id"));
        let many = vec!["a~".to_owned(); MAX_PRESENTATIONS_PER_QUERY + 1];
        assert_eq!(present(vec![("a".into(), many)]), too_many("presentations", MAX_PRESENTATIONS_PER_QUERY));
        let many = (0..=MAX_PRESENTED_QUERIES).map(|n| (n.to_string(), one())).collect();
        assert_eq!(present(many), too_many("answered queries", MAX_PRESENTED_QUERIES));
    }

    #[test]
    fn debug_shows_no_content() {
        let presented = DcqlPresentation(BTreeMap::from([("age".into(), vec!["secret~".into()])]));
        assert!(!format!("{presented:?}").contains("secret"));
        assert!(!format!("{:?}", SdJwtIssue { credentials: vec!["secret~".into()] }).contains("secret"));
    }
}
