//! The verifier's side: whether what was presented is what was asked for.

use std::collections::BTreeMap;

use super::{CredentialQuery, DcqlError, DcqlQuery, path::View};
use crate::vc::{SD_JWT_VC_TYP, VerifiedCredential};

/// Evaluates the complete query on credentials that are verified already, by id of the credential query.
///
/// Holders compare `values` at their discretion, so they are compared again here.
///
/// # Errors
///
/// [`DcqlError`]: something that was not asked for, does not fit, or is missing.
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
            if !wanted || !self.claim_sets.iter().any(|set| self.find(set, view).is_some()) {
                return Err(DcqlError::NotAsRequested { id: self.id.clone() });
            }
        }
        Ok(())
    }
}
