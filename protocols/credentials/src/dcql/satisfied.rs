//! The verifier's side: whether the presentation is what the query requested.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{CredentialQuery, DcqlError, DcqlQuery, path::View};
use crate::{
    sd_jwt::PathElement,
    vc::{SD_JWT_VC_TYP, VerifiedCredential},
};

/// Evaluates the complete query against credentials that are already verified, keyed by credential query id.
///
/// Holders may ignore `values`, so they are compared again here.
///
/// # Errors
///
/// [`DcqlError`]: something was not requested, does not fit, or is missing.
///
/// # Specification
///
/// OpenID4VP 1.0, section 8.6.
pub fn satisfied_by(
    query: &DcqlQuery,
    presented: &BTreeMap<String, Vec<VerifiedCredential>>,
) -> Result<(), DcqlError> {
    for (id, credentials) in presented {
        let asked = query.credentials.iter().find(|asked| asked.id == *id);
        asked.ok_or(DcqlError::Unrequested)?.check_answer(credentials)?;
    }
    let complete = match &query.sets {
        None => query.credentials.iter().all(|asked| presented.contains_key(&asked.id)),
        Some(sets) => sets
            .iter()
            .filter(|set| set.required)
            .all(|set| set.options.iter().any(|option| option.iter().all(|id| presented.contains_key(id)))),
    };
    if complete { Ok(()) } else { Err(DcqlError::Incomplete) }
}

/// The part of a credential that was requested under `id`: a wallet may show more, which nobody may keep. If the query
/// names no claims, it requests the whole credential, so this returns all claims.
///
/// List elements keep their order; gaps close up.
pub fn asked_claims(query: &DcqlQuery, id: &str, credential: &VerifiedCredential) -> Map<String, Value> {
    let Some(asked) = query.credentials.iter().find(|asked| asked.id == id) else { return Map::new() };
    if asked.claims.is_empty() {
        return credential.claims.as_map().clone();
    }
    let view = View { claims: &credential.claims, positions: &credential.positions };
    let mut shown = Shown::default();
    for found in asked.find(view).iter().flatten() {
        shown.insert(&found.path, found.value);
    }
    shown.into_members()
}

/// Rebuilds claims from their paths.
#[derive(Default)]
struct Shown<'a> {
    /// The whole value was requested.
    whole: Option<&'a Value>,
    /// Parts of it were requested.
    parts: BTreeMap<PathElement, Self>,
}

impl<'a> Shown<'a> {
    fn insert(&mut self, path: &[PathElement], value: &'a Value) {
        match path.split_first() {
            None => self.whole = Some(value),
            Some((first, rest)) => self.parts.entry(first.clone()).or_default().insert(rest, value),
        }
    }

    fn into_value(self) -> Value {
        if let Some(whole) = self.whole {
            return whole.clone();
        }
        let is_list = matches!(self.parts.keys().next(), Some(PathElement::Index(_)));
        if is_list {
            return Value::Array(self.parts.into_values().map(Self::into_value).collect());
        }
        Value::Object(self.into_members())
    }

    fn into_members(self) -> Map<String, Value> {
        let named = self.parts.into_iter().filter_map(|(element, shown)| match element {
            PathElement::Name(name) => Some((name, shown.into_value())),
            PathElement::Index(_) => None,
        });
        named.collect()
    }
}

impl CredentialQuery {
    fn check_answer(&self, credentials: &[VerifiedCredential]) -> Result<(), DcqlError> {
        if credentials.is_empty() {
            return Err(DcqlError::NotAsRequested { id: self.id.clone() });
        }
        if credentials.len() > 1 && !self.multiple {
            return Err(DcqlError::TooMany { id: self.id.clone() });
        }
        for credential in credentials {
            if self.holder_binding && credential.key_binding.is_none() {
                return Err(DcqlError::NotBound { id: self.id.clone() });
            }
            let view = View { claims: &credential.claims, positions: &credential.positions };
            let wanted = self.wants(SD_JWT_VC_TYP, &credential.vct);
            let found = self.find(view);
            if !wanted || !self.claim_sets.iter().any(|set| Self::all_of(set, &found).is_some()) {
                return Err(DcqlError::NotAsRequested { id: self.id.clone() });
            }
        }
        Ok(())
    }
}
