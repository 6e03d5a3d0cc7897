//! The verifier's side: whether the presentation is what the query requested.

use std::collections::{BTreeMap, BTreeSet};

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

/// What a credential shows of what was asked for under `id`: a wallet may show more, and that is nobody's to keep. If no claims were
/// named, what it shows to everybody: of the others none was asked for.
///
/// Elements of lists keep their order and lose their gaps.
///
/// # Specification
///
/// OpenID4VP 1.0, section 6.4.1.
pub fn asked_claims(query: &DcqlQuery, id: &str, credential: &VerifiedCredential) -> Map<String, Value> {
    let Some(asked) = query.credentials.iter().find(|asked| asked.id == id) else { return Map::new() };
    let view = View { claims: &credential.claims, positions: &credential.positions };
    if asked.claims.is_empty() {
        let chosen = credential.disclosed.iter().map(Vec::as_slice).collect();
        return members_without(&chosen, view, &mut Vec::new(), credential.claims.as_map());
    }
    let mut shown = Shown::default();
    for found in asked.find(view).iter().flatten() {
        shown.insert(&found.path, found.value);
    }
    shown.into_members()
}

/// The members of the object at `path`, but for those at and below the ways in `chosen`.
fn members_without(
    chosen: &BTreeSet<&[PathElement]>,
    view: View<'_>,
    path: &mut Vec<PathElement>,
    members: &Map<String, Value>,
) -> Map<String, Value> {
    let kept = members.iter().filter_map(|(name, value)| {
        let element = PathElement::Name(name.clone());
        Some((name.clone(), value_without(chosen, view, path, element, value)?))
    });
    kept.collect()
}

fn value_without(
    chosen: &BTreeSet<&[PathElement]>,
    view: View<'_>,
    path: &mut Vec<PathElement>,
    element: PathElement,
    value: &Value,
) -> Option<Value> {
    path.push(element);
    let kept = match value {
        _ if chosen.contains(path.as_slice()) => None,
        Value::Object(members) => Some(Value::Object(members_without(chosen, view, path, members))),
        Value::Array(elements) => {
            let kept = elements.iter().enumerate().filter_map(|(current, value)| {
                let element = PathElement::Index(view.positions.signed(path, current));
                value_without(chosen, view, path, element, value)
            });
            Some(Value::Array(kept.collect()))
        }
        other => Some(other.clone()),
    };
    path.pop();
    kept
}

/// Claims put together again from the ways to them.
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
