//! Verifying presentations: every check in one place, whichever way they came.

use std::collections::BTreeMap;

use einmal_credentials::{
    dcql::{DcqlQuery, asked_claims, satisfied_by},
    status_list::StatusError,
    vc::{
        IssuerTrust, KeyBindingRequirement, KeyLookupError, TECHNICAL_CLAIMS, VerificationContext,
        VerifiedCredential, VerifyError, verify_presentation,
    },
};
use einmal_flows::formats::DcqlPresentation;
use serde_json::{Map, Value, json};

use super::{keys::DidIssuerKeys, status::KnownLists};
use crate::handler::{Failure, Need, Shared};

/// The result of verifying a presentation. Holds personal data.
pub(crate) enum Verdict {
    /// Everything asked for was proved.
    Accepted(BTreeMap<String, Vec<VerifiedCredential>>),
    /// Something was not; the code says why, without personal data.
    Refused(&'static str, String),
}

/// The question the presentation must answer.
pub(crate) struct Question<'a> {
    pub(crate) query: &'a DcqlQuery,
    pub(crate) nonce: &'a str,
    /// The verifier's name as the presentation must state it: `decentralized_identifier:` and its DID.
    pub(crate) audience: &'a str,
    pub(crate) trust: &'a dyn IssuerTrust,
    pub(crate) clock_skew: u64,
}

/// Verifies a presentation: structure, issuer trust, signature, digests, validity, holder key, nonce, audience,
/// status, and that it answers the whole query.
///
/// # Errors
///
/// [`Failure::Need`] if an issuer's document or a status list must be fetched first.
pub(crate) fn verify(
    shared: &Shared,
    lists: &KnownLists,
    presentation: &DcqlPresentation,
    question: &Question<'_>,
) -> Result<Verdict, Failure> {
    let mut verified: BTreeMap<String, Vec<VerifiedCredential>> = BTreeMap::new();
    let mut refused = None;
    for (id, texts) in &presentation.0 {
        for text in texts {
            match verify_one(shared, lists, text, question)? {
                Ok(credential) => verified.entry(id.clone()).or_default().push(credential),
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
    }
    // A credential that fails counts as absent: it matters only if it was needed.
    match (satisfied_by(question.query, &verified), refused) {
        (Ok(()), _) if !verified.is_empty() => Ok(Verdict::Accepted(verified)),
        (_, Some(error)) => Ok(Verdict::Refused(code(&error), error.to_string())),
        (Err(error), None) => Ok(Verdict::Refused("not-as-requested", error.to_string())),
        (Ok(()), None) => Ok(Verdict::Refused("not-as-requested", "nothing was presented".into())),
    }
}

fn verify_one(
    shared: &Shared,
    lists: &KnownLists,
    text: &str,
    question: &Question<'_>,
) -> Result<Result<VerifiedCredential, VerifyError>, Failure> {
    let keys = DidIssuerKeys::new(&shared.resolver);
    let source = lists.source(shared, &keys);
    let binding = KeyBindingRequirement { audience: question.audience, nonce: question.nonce };
    let mut context = VerificationContext::new(shared.now().0, question.trust, Some(binding));
    context.clock_skew = question.clock_skew;
    let answer = verify_presentation(text, &context, &keys, &source);
    match answer {
        Err(VerifyError::Status(StatusError::NotFetched { uri })) if !lists.recently_failed(shared, &uri) => {
            Err(Failure::Need(Need::StatusList { uri }))
        }
        Err(VerifyError::KeyLookup(KeyLookupError::Unavailable { .. })) => {
            Err(keys.need().map_or(Failure::later("the issuer cannot be reached"), Failure::Need))
        }
        answer => Ok(answer),
    }
}

/// A short stable code for results, tills and scripts.
fn code(error: &VerifyError) -> &'static str {
    match error {
        VerifyError::UntrustedIssuer => "untrusted-issuer",
        VerifyError::BadSignature => "bad-signature",
        VerifyError::UnreferencedDisclosure { .. } | VerifyError::DuplicateDigest => "tampered",
        VerifyError::WrongHolderKey | VerifyError::KeyBindingMissing => "not-the-holder",
        VerifyError::WrongAudience => "made-for-another-verifier",
        VerifyError::WrongNonce => "answers-another-request",
        VerifyError::StaleKeyBinding => "too-old",
        VerifyError::KeyBinding(_) => "key-binding",
        VerifyError::Expired => "expired",
        VerifyError::NotYetValid => "not-yet-valid",
        VerifyError::Revoked => "revoked",
        VerifyError::Suspended => "suspended",
        VerifyError::Status(_) | VerifyError::UnknownStatus { .. } => "status-unknown",
        VerifyError::KeyLookup(_) => "issuer-unknown",
        _ => "malformed",
    }
}

/// The disclosed claims that were asked for, by query id: a wallet may show more, which is neither kept nor reported.
pub(crate) fn disclosed(query: &DcqlQuery, verified: &BTreeMap<String, Vec<VerifiedCredential>>) -> Value {
    let mut out = Map::new();
    for (id, credentials) in verified {
        let claims = credentials.iter().map(|credential| {
            json!({
                "issuer": credential.issuer,
                "vct": credential.vct,
                "claims": asked_of(query, id, credential),
            })
        });
        out.insert(id.clone(), claims.collect());
    }
    Value::Object(out)
}

/// The claims of one credential that were asked for, without the members every credential carries.
pub(crate) fn asked_of(query: &DcqlQuery, id: &str, credential: &VerifiedCredential) -> Map<String, Value> {
    let mut claims = asked_claims(query, id, credential);
    claims.retain(|name, value| !TECHNICAL_CLAIMS.contains(&name.as_str()) && says_something(value));
    claims
}

/// Removes from a value whatever is empty because its content stayed hidden. False if nothing is left.
fn says_something(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| says_something(member));
            !members.is_empty()
        }
        Value::Array(elements) => {
            elements.retain_mut(says_something);
            !elements.is_empty()
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stayed_hidden_leaves_no_hollow_value_at_any_depth() {
        let mut value =
            json!({"a": {"b": {"c": {}}, "d": 1}, "e": [{}, [[]], {"f": null}], "g": [{}], "h": ""});
        assert!(says_something(&mut value));
        assert_eq!(value, json!({"a": {"d": 1}, "e": [{"f": null}], "h": ""}));
        assert!(!says_something(&mut json!([{"a": {}}])));
    }
}
