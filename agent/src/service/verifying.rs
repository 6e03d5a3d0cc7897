//! Verifying presentations: every check in one place, whichever way they came.

use std::{collections::BTreeMap, fmt};

use einmal_credentials::{
    dcql::{DcqlQuery, asked_claims, satisfied_by},
    vc::{
        IssuerTrust, KeyBindingRequirement, KeyLookupError, TECHNICAL_CLAIMS, VerificationContext,
        VerifiedCredential, VerifyError, VerifyFault, verify_presentation,
    },
};
use einmal_didcomm::UnixSeconds;
use einmal_flows::formats::DcqlPresentation;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{keys::DidIssuerKeys, status::KnownLists};
use crate::handler::{Effects, Failure, Need, Shared};

/// The result of verifying a presentation. Holds personal data.
pub(crate) enum Verdict {
    /// Everything asked for was proved.
    Accepted(BTreeMap<String, Vec<VerifiedCredential>>),
    /// Something was not; the text says more about why, without personal data.
    Refused(VerdictReason, String),
}

/// Why a request ended without a proof, as results, tills and scripts read it: a short word that stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum VerdictReason {
    // What was shown does not hold.
    UntrustedIssuer,
    BadSignature,
    Tampered,
    NotTheHolder,
    MadeForAnotherVerifier,
    AnswersAnotherRequest,
    TooOld,
    KeyBinding,
    Expired,
    NotYetValid,
    Revoked,
    Suspended,
    StatusUnknown,
    IssuerUnknown,
    Malformed,
    // It does, and is not what was asked for.
    NotAsRequested,
    // Nothing was shown.
    NoAnswer,
    Declined,
    NoCardAnswers,
    // What was shown is not known any more.
    NoLongerKept,
}

/// As it is stored.
impl fmt::Display for VerdictReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl From<VerifyFault> for VerdictReason {
    fn from(fault: VerifyFault) -> Self {
        match fault {
            VerifyFault::UntrustedIssuer => Self::UntrustedIssuer,
            VerifyFault::BadSignature => Self::BadSignature,
            VerifyFault::Tampered => Self::Tampered,
            VerifyFault::NotTheHolder => Self::NotTheHolder,
            VerifyFault::OtherVerifier => Self::MadeForAnotherVerifier,
            VerifyFault::OtherRequest => Self::AnswersAnotherRequest,
            VerifyFault::TooOld => Self::TooOld,
            VerifyFault::KeyBinding => Self::KeyBinding,
            VerifyFault::Expired => Self::Expired,
            VerifyFault::NotYetValid => Self::NotYetValid,
            VerifyFault::Revoked => Self::Revoked,
            VerifyFault::Suspended => Self::Suspended,
            VerifyFault::StatusUnknown => Self::StatusUnknown,
            VerifyFault::IssuerUnknown => Self::IssuerUnknown,
            VerifyFault::Malformed => Self::Malformed,
        }
    }
}

/// The question the presentation must answer.
pub(crate) struct Question<'a> {
    pub(crate) query: &'a DcqlQuery,
    pub(crate) nonce: &'a str,
    /// When that nonce was given out, if it is known.
    pub(crate) asked_at: Option<UnixSeconds>,
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
    fx: &Effects<'_>,
) -> Result<Verdict, Failure> {
    let mut verified: BTreeMap<String, Vec<VerifiedCredential>> = BTreeMap::new();
    let (mut refused, mut needs, mut is_unreached) = (None, Vec::new(), false);
    for (id, texts) in &presentation.0 {
        for text in texts {
            let (answer, need) = verify_one(shared, lists, text, question);
            needs.extend(need);
            match answer {
                Ok(credential) => verified.entry(id.clone()).or_default().push(credential),
                Err(error) => {
                    is_unreached |=
                        matches!(&error, VerifyError::KeyLookup(KeyLookupError::Unavailable { .. }));
                    refused.get_or_insert(error);
                }
            }
        }
    }
    if let Some(need) = fx.to_fetch(needs) {
        return Err(Failure::Need(need));
    }
    if is_unreached {
        return Err(Failure::later("the issuer cannot be reached"));
    }
    // What does not hold is as if it had not come: it matters only if it was needed.
    match (satisfied_by(question.query, &verified), refused) {
        (Ok(()), _) if !verified.is_empty() => Ok(Verdict::Accepted(verified)),
        (_, Some(error)) => Ok(Verdict::Refused(error.fault().into(), detail(&error))),
        (Err(error), None) => Ok(Verdict::Refused(VerdictReason::NotAsRequested, error.to_string())),
        (Ok(()), None) => Ok(Verdict::Refused(VerdictReason::NotAsRequested, "nothing was presented".into())),
    }
}

/// One credential verified, and what must be fetched before its answer counts.
fn verify_one(
    shared: &Shared,
    lists: &KnownLists,
    text: &str,
    question: &Question<'_>,
) -> (Result<VerifiedCredential, VerifyError>, Option<Need>) {
    let keys = DidIssuerKeys::new(&shared.resolver);
    let source = lists.source(shared, &keys);
    let binding = KeyBindingRequirement {
        audience: question.audience,
        nonce: question.nonce,
        asked_at: question.asked_at.map(|at| at.0),
    };
    let mut context = VerificationContext::new(shared.now().0, question.trust, Some(binding));
    context.clock_skew = question.clock_skew;
    let answer = verify_presentation(text, &context, &keys, &source);
    let need = match answer {
        Err(VerifyError::Status(_)) => source.need(),
        Err(VerifyError::KeyLookup(KeyLookupError::Unavailable { .. })) => keys.need(),
        _ => None,
    };
    (answer, need)
}

/// What the verifier's people read beside the code.
fn detail(error: &VerifyError) -> String {
    match error {
        // It was tried: nobody else is to do that first.
        VerifyError::Status(einmal_credentials::status_list::StatusError::NotFetched { uri }) => {
            format!("the status list at {uri} could not be fetched; ask again in a moment")
        }
        error => error.to_string(),
    }
}

/// What was disclosed of what was asked for, by query id: a wallet may show more, and that is kept and told by nobody.
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
    use einmal_credentials::vc::{HeldCredential, KeyBindingRequest};
    use einmal_keys::{KeyId, KeyKind, SecretKey};

    use super::{
        super::testing::{Issuer, NOW},
        *,
    };
    use crate::{config::Role, handler::Cause, node::testing};

    #[test]
    fn what_stayed_hidden_leaves_no_hollow_value_at_any_depth() {
        let mut value =
            json!({"a": {"b": {"c": {}}, "d": 1}, "e": [{}, [[]], {"f": null}], "g": [{}], "h": ""});
        assert!(says_something(&mut value));
        assert_eq!(value, json!({"a": {"d": 1}, "e": [{"f": null}], "h": ""}));
        assert!(!says_something(&mut json!([{"a": {}}])));
    }

    /// Tills and scripts compare these words, and results of earlier versions hold them.
    #[test]
    fn reasons_are_the_words_they_always_were() {
        for (reason, word) in [
            (VerifyFault::UntrustedIssuer.into(), "untrusted-issuer"),
            (VerifyFault::BadSignature.into(), "bad-signature"),
            (VerifyFault::Tampered.into(), "tampered"),
            (VerifyFault::NotTheHolder.into(), "not-the-holder"),
            (VerifyFault::OtherVerifier.into(), "made-for-another-verifier"),
            (VerifyFault::OtherRequest.into(), "answers-another-request"),
            (VerifyFault::TooOld.into(), "too-old"),
            (VerifyFault::KeyBinding.into(), "key-binding"),
            (VerifyFault::Expired.into(), "expired"),
            (VerifyFault::NotYetValid.into(), "not-yet-valid"),
            (VerifyFault::Revoked.into(), "revoked"),
            (VerifyFault::Suspended.into(), "suspended"),
            (VerifyFault::StatusUnknown.into(), "status-unknown"),
            (VerifyFault::IssuerUnknown.into(), "issuer-unknown"),
            (VerifyFault::Malformed.into(), "malformed"),
            (VerdictReason::NotAsRequested, "not-as-requested"),
            (VerdictReason::NoAnswer, "no-answer"),
            (VerdictReason::Declined, "declined"),
            (VerdictReason::NoCardAnswers, "no-card-answers"),
            (VerdictReason::NoLongerKept, "no-longer-kept"),
        ] {
            assert_eq!((reason.to_string().as_str(), json!(reason)), (word, json!(word)));
            assert_eq!(serde_json::from_value::<VerdictReason>(json!(word)).unwrap(), reason);
        }
        assert!(serde_json::from_value::<VerdictReason>(json!("Expired")).is_err());
    }

    #[tokio::test]
    async fn lists_of_one_presentation_are_fetched_at_once_and_none_of_them_twice() {
        let (node, clock) = testing::node(Role::Mediator).await;
        let (shared, issuer, lists) = (node.shared(), Issuer::new(1), KnownLists::default());
        let key = SecretKey::generate(KeyKind::P256, shared.entropy()).unwrap();
        let (kid, public) = (KeyId::new("holder"), key.public_key());
        shared.keyring.insert(kid.clone(), key);
        let binding = KeyBindingRequest {
            custody: shared.custody(),
            kid: &kid,
            audience: "shop",
            nonce: "n",
            issued_at: NOW,
        };
        let shown = ["a", "b"].map(|name| {
            let uri = format!("https://{name}.example/status/1");
            let card = HeldCredential::from_store(&issuer.card(name, public.clone(), &uri, 0)).unwrap();
            (name.to_owned(), vec![card.present(&[], Some(&binding)).unwrap()])
        });
        let asked =
            ["a", "b"].map(|id| json!({"id": id, "format": "dc+sd-jwt", "meta": {"vct_values": [id]}}));
        let query = DcqlQuery::from_value(json!({ "credentials": asked })).unwrap();
        let trust = |_: &str, _: &str| true;
        let question = Question {
            query: &query,
            nonce: "n",
            asked_at: None,
            audience: "shop",
            trust: &trust,
            clock_skew: 60,
        };
        let vp = DcqlPresentation(shown.into());
        let mut fx = Effects::new(shared, Cause::Own);
        fx.fetches_left = 8;
        let Err(Failure::Need(Need::All { needs })) = verify(shared, &lists, &vp, &question, &fx) else {
            panic!("the two lists are not asked for at once");
        };
        assert_eq!(needs.len(), 2);
        for need in &needs {
            let Need::StatusList { uri, issuer } = need else { panic!("{need:?}") };
            lists.fetched(shared, uri, issuer, None);
        }
        // However long the others took.
        clock.advance(10_000);
        fx.tried = needs;
        let verdict = verify(shared, &lists, &vp, &question, &fx).unwrap();
        assert!(matches!(verdict, Verdict::Refused(VerdictReason::StatusUnknown, _)));
    }
}
