//! The holder's side: chooses what to show and proves to be the one the SD-JWT was issued to.

use std::{collections::HashMap, fmt};

use einmal_keys::{Custody, CustodyError, KeyId, PublicKey, SignatureAlgorithm};
use serde::Serialize;

use super::{
    Claims, ElementPositions, PathElement, PresentError, SdJwtError, SdJwtIn, key_binding::KEY_BINDING_TYP,
    received::Body,
};
use crate::jwt::{self, HeaderOut};

/// An SD-JWT of our own, with all its disclosures.
#[derive(Clone)]
pub struct HeldSdJwt {
    body: Body,
    /// The index of the disclosure that opens each path.
    by_path: HashMap<Vec<PathElement>, usize>,
}

/// Shows sizes, not claims.
impl fmt::Debug for HeldSdJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldSdJwt")
            .field("claims", &self.body.claims)
            .field("disclosures", &self.by_path.len())
            .finish_non_exhaustive()
    }
}

/// How to prove that the holder makes this presentation.
#[derive(Clone, Copy)]
pub struct KeyBindingRequest<'a> {
    /// Holds the holder's secret key.
    pub custody: &'a dyn Custody,
    /// Names that key; it must be the one the SD-JWT is bound to.
    pub kid: &'a KeyId,
    /// The verifier: `aud`.
    pub audience: &'a str,
    /// The request's nonce.
    pub nonce: &'a str,
    /// The present time, in seconds since 1970: `iat`.
    pub issued_at: u64,
}

impl fmt::Debug for KeyBindingRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyBindingRequest").field("audience", &self.audience).finish_non_exhaustive()
    }
}

/// Payload of a KB-JWT (RFC 9901, section 4.3).
#[derive(Serialize)]
struct KeyBindingPayload<'a> {
    iat: u64,
    aud: &'a str,
    nonce: &'a str,
    sd_hash: String,
}

impl HeldSdJwt {
    pub(super) fn new(mut body: Body) -> Self {
        body.text.truncate(body.presented_len);
        body.key_binding = None;
        let by_path =
            body.disclosures.iter().enumerate().map(|(index, (_, path))| (path.clone(), index)).collect();
        Self { body, by_path }
    }

    /// Reads back an SD-JWT that was verified when accepted and has been in the holder's own sealed store since.
    ///
    /// Digests are checked again, but not the issuer's signature: its key may have been rotated since.
    ///
    /// # Errors
    ///
    /// [`SdJwtError`] if the text is damaged.
    pub fn from_store(text: &str) -> Result<Self, SdJwtError> {
        Ok(Self::new(SdJwtIn::parse(text)?.open()?))
    }

    /// The compact text with all disclosures; ends with `~`. For the sealed store.
    pub fn as_str(&self) -> &str {
        &self.body.text
    }

    /// All claims.
    pub fn claims(&self) -> &Claims {
        &self.body.claims
    }

    /// Paths of all claims that can be withheld, in the order of the text.
    pub fn disclosable(&self) -> impl ExactSizeIterator<Item = &[PathElement]> {
        self.body.disclosures.iter().map(|(_, path)| path.as_slice())
    }

    /// Signed positions of array elements, for arrays with digests that have no disclosure.
    pub fn positions(&self) -> &ElementPositions {
        &self.body.positions
    }

    /// The key the SD-JWT is bound to, if there is a usable one.
    pub fn holder_key(&self) -> Option<PublicKey> {
        self.body.holder_key()
    }

    /// Makes a presentation that shows the claims at `paths`, the objects and arrays around them, and nothing else.
    ///
    /// A separately disclosable claim below a path stays hidden unless `paths` lists it too.
    ///
    /// # Errors
    ///
    /// [`PresentError::UnknownPath`] for a path that matches nothing; the other variants concern the key binding.
    pub fn present(
        &self,
        paths: &[Vec<PathElement>],
        key_binding: Option<&KeyBindingRequest<'_>>,
    ) -> Result<String, PresentError> {
        let mut chosen = vec![false; self.body.disclosures.len()];
        for (index, path) in paths.iter().enumerate() {
            if !self.leads_somewhere(path) {
                return Err(PresentError::UnknownPath { index });
            }
            for len in 1..=path.len() {
                let place = path.get(..len).and_then(|prefix| self.by_path.get(prefix));
                if let Some(slot) = place.and_then(|place| chosen.get_mut(*place)) {
                    *slot = true;
                }
            }
        }
        let text = self.select(&chosen);
        match key_binding {
            None => Ok(text),
            Some(request) => self.bind(text, request),
        }
    }

    fn leads_somewhere(&self, path: &[PathElement]) -> bool {
        if self.by_path.contains_key(path) {
            return true;
        }
        let mut elements = path.iter().enumerate();
        let Some((_, PathElement::Name(name))) = elements.next() else { return false };
        let mut value = self.body.claims.get(name);
        for (depth, element) in elements {
            value = match (value, element) {
                (Some(value), PathElement::Name(name)) => value.get(name),
                (Some(value), PathElement::Index(index)) => {
                    let array = path.get(..depth).unwrap_or_default();
                    self.body.positions.current(array, *index).and_then(|index| value.get(index))
                }
                (None, _) => None,
            };
        }
        value.is_some()
    }

    /// The issuer-signed JWT with the chosen disclosures.
    fn select(&self, chosen: &[bool]) -> String {
        let text = &self.body.text;
        let signed = text.find('~').map_or(text.len(), |end| end.saturating_add(1));
        let mut out = String::with_capacity(text.len());
        out.push_str(text.get(..signed).unwrap_or_default());
        for ((range, _), chosen) in self.body.disclosures.iter().zip(chosen) {
            if *chosen {
                out.push_str(text.get(range.clone()).unwrap_or_default());
                out.push('~');
            }
        }
        out
    }

    fn bind(&self, mut text: String, request: &KeyBindingRequest<'_>) -> Result<String, PresentError> {
        let holder = self.holder_key().ok_or(PresentError::NoHolderKey)?;
        let algorithm = SignatureAlgorithm::of(holder.kind()).ok_or(PresentError::CannotSign)?;
        match request.custody.public_key(request.kid) {
            None => return Err(CustodyError::UnknownKey { kid: request.kid.clone() }.into()),
            Some(key) if key != holder => return Err(PresentError::WrongHolderKey),
            Some(_) => {}
        }
        let header = HeaderOut { alg: algorithm.name(), typ: KEY_BINDING_TYP, kid: None, x5c: &[] };
        let payload = KeyBindingPayload {
            iat: request.issued_at,
            aud: request.audience,
            nonce: request.nonce,
            sd_hash: self.body.hash.digest(text.as_bytes()),
        };
        text.push_str(&jwt::sign(request.custody, request.kid, &header, &payload)?);
        Ok(text)
    }
}
