//! Bodies of Issue Credential 3.0.

use std::fmt;

use einmal_keys::base64url_decode_tolerant;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    FlowError,
    limits::{MAX_ATTRIBUTE_NAME_CHARS, MAX_COMMENT_CHARS, MAX_PREVIEW_ATTRIBUTES},
    text::for_display,
};

/// Holder to issuer: asks for an offer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProposeCredential {
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal_code: Option<String>,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The claims the holder wishes for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_preview: Option<CredentialPreview>,
}

/// Issuer to holder: what it is ready to issue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OfferCredential {
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal_code: Option<String>,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Names a credential this one replaces. Never shown to a verifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement_id: Option<String>,
    /// The claims on offer. Unsigned: for display, never evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_preview: Option<CredentialPreview>,
}

/// Holder to issuer: asks for what was offered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCredential {
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal_code: Option<String>,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Issuer to holder: the credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueCredential {
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal_code: Option<String>,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Names a credential this one replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement_id: Option<String>,
}

/// The result of a message that asked to be acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AckStatus {
    /// Accepted; also the default if nothing is said.
    #[default]
    #[serde(rename = "OK")]
    Ok,
    /// Not accepted.
    #[serde(rename = "FAIL")]
    Fail,
    /// Not decided yet.
    #[serde(rename = "PENDING")]
    Pending,
}

/// Holder to issuer: the credential was verified and kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Whether it was.
    #[serde(default)]
    pub status: AckStatus,
}

bodies! {
    "https://didcomm.org/issue-credential/3.0/":
    ProposeCredential = "propose-credential",
    OfferCredential = "offer-credential",
    RequestCredential = "request-credential",
    IssueCredential = "issue-credential",
    Ack = "ack",
}

/// Type URI of a preview.
const PREVIEW_TYPE: &str = "https://didcomm.org/issue-credential/3.0/credential-preview";
/// The preview type as the specification misprints it and deployed agents write it.
const MISPRINTED_PREVIEW_TYPE: &str = "https://didcomm.org/issue-credential/3.0/credential-credential";

/// Claims of a credential that does not exist yet.
///
/// Written with `attributes` below `body`, as the specification says; also read without that level.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "AnyPreview")]
pub struct CredentialPreview {
    #[serde(rename = "type")]
    kind: String,
    body: Attributes,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Attributes {
    attributes: Vec<PreviewAttribute>,
}

/// One claim.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct PreviewAttribute {
    /// Name of the claim.
    pub name: String,
    /// Media type; if given, the value is base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The value.
    pub value: Value,
}

#[derive(Deserialize)]
struct AnyPreview {
    #[serde(rename = "type")]
    kind: Option<String>,
    body: Option<Attributes>,
    attributes: Option<Vec<PreviewAttribute>>,
}

impl TryFrom<AnyPreview> for CredentialPreview {
    type Error = &'static str;

    fn try_from(any: AnyPreview) -> Result<Self, &'static str> {
        let kind = any.kind.unwrap_or_else(|| PREVIEW_TYPE.to_owned());
        if kind != PREVIEW_TYPE && kind != MISPRINTED_PREVIEW_TYPE {
            return Err("not a credential preview");
        }
        let body = any.body.or(any.attributes.map(|attributes| Attributes { attributes }));
        Ok(Self { kind, body: body.ok_or("a preview without attributes")? })
    }
}

impl CredentialPreview {
    /// A preview of text claims, by name.
    ///
    /// # Errors
    ///
    /// [`FlowError::TooMany`] beyond [`MAX_PREVIEW_ATTRIBUTES`].
    pub fn of(claims: Vec<(String, String)>) -> Result<Self, FlowError> {
        let attribute =
            |(name, value)| PreviewAttribute { name, media_type: None, value: Value::String(value) };
        let attributes = claims.into_iter().map(attribute).collect();
        let preview = Self { kind: PREVIEW_TYPE.to_owned(), body: Attributes { attributes } };
        preview.check()?;
        Ok(preview)
    }

    fn check(&self) -> Result<(), FlowError> {
        if self.body.attributes.len() > MAX_PREVIEW_ATTRIBUTES {
            return Err(FlowError::TooMany { what: "preview attributes", most: MAX_PREVIEW_ATTRIBUTES });
        }
        Ok(())
    }

    /// Names and values for display, cut to a bounded length.
    ///
    /// # Errors
    ///
    /// [`FlowError::TooMany`].
    pub fn claims(&self) -> Result<Vec<(String, String)>, FlowError> {
        self.check()?;
        let shown = |attribute: &PreviewAttribute| {
            let name = for_display(&attribute.name, MAX_ATTRIBUTE_NAME_CHARS);
            (name, for_display(&attribute.shown_value(), MAX_COMMENT_CHARS))
        };
        Ok(self.body.attributes.iter().map(shown).collect())
    }
}

impl PreviewAttribute {
    fn shown_value(&self) -> String {
        match (&self.value, &self.media_type) {
            (Value::String(text), None) => text.clone(),
            (Value::String(text), Some(media_type)) => base64url_decode_tolerant(text)
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .unwrap_or_else(|| format!("({media_type})")),
            (value, _) => value.to_string(),
        }
    }
}

/// Shows how many claims there are, not which.
impl fmt::Debug for CredentialPreview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.body.attributes.len();
        f.debug_struct("CredentialPreview").field("attributes", &count).finish_non_exhaustive()
    }
}

/// Withholds name and value.
impl fmt::Debug for PreviewAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreviewAttribute").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Draft;

    #[test]
    fn bodies_have_exactly_the_members_of_the_text() {
        let body = |draft: Draft| Value::Object(draft.body);
        assert_eq!(body(Draft::of(&ProposeCredential::default())), json!({}));
        let credential_preview = Some(CredentialPreview::of(vec![("age".into(), "20".into())]).unwrap());
        let offer =
            OfferCredential { comment: Some("hi".into()), credential_preview, ..OfferCredential::default() };
        let expected = json!({"comment": "hi", "credential_preview": {
            "type": "https://didcomm.org/issue-credential/3.0/credential-preview",
            "body": {"attributes": [{"name": "age", "value": "20"}]}}});
        assert_eq!(body(Draft::of(&offer)), expected);
        assert_eq!(serde_json::from_value::<OfferCredential>(expected).unwrap(), offer);
        assert_eq!(body(Draft::of(&RequestCredential::default())), json!({}));
        assert_eq!(body(Draft::of(&IssueCredential::default())), json!({}));
        assert_eq!(body(Draft::of(&Ack { status: AckStatus::Ok })), json!({"status": "OK"}));
        assert_eq!(serde_json::from_value::<Ack>(json!({})).unwrap().status, AckStatus::Ok);
        assert!(serde_json::from_value::<Ack>(json!({"status": "MAYBE"})).is_err());
    }

    #[test]
    fn previews_in_every_seen_shape_are_read() {
        let attributes = json!([{"name": "a", "value": "x"}, {"name": "b", "media_type": "text/plain", "value": "eA=="},
            {"name": "c", "media_type": "image/png", "value": "_w"}, {"name": "d", "value": 7}]);
        for preview in [
            json!({"type": MISPRINTED_PREVIEW_TYPE, "id": "1", "body": {"attributes": attributes}}),
            json!({"type": PREVIEW_TYPE, "attributes": attributes}),
            json!({"attributes": attributes}),
        ] {
            let claims = serde_json::from_value::<CredentialPreview>(preview).unwrap().claims().unwrap();
            let expected = [("a", "x"), ("b", "x"), ("c", "(image/png)"), ("d", "7")];
            assert_eq!(claims, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
    }

    #[test]
    fn foreign_and_overlong_previews_are_refused() {
        for preview in
            [json!({"type": "https://example.org/x/1.0/y", "attributes": []}), json!({"type": PREVIEW_TYPE})]
        {
            assert!(serde_json::from_value::<CredentialPreview>(preview).is_err());
        }
        let many = vec![("a".to_owned(), "x".to_owned()); MAX_PREVIEW_ATTRIBUTES + 1];
        let refused = FlowError::TooMany { what: "preview attributes", most: MAX_PREVIEW_ATTRIBUTES };
        assert_eq!(CredentialPreview::of(many), Err(refused));
    }

    #[test]
    fn debug_shows_no_claim() {
        let preview = CredentialPreview::of(vec![("name".into(), "Erika".into())]).unwrap();
        assert!(
            !format!("{preview:?}").contains("Erika")
                && !format!("{:?}", preview.body.attributes).contains("Erika")
        );
    }
}
