//! Puts disclosed claims back in their places and refuses everything that does not fit (RFC 9901, section 7.1).

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{DOTS, HashAlgorithm, MAX_DEPTH, PathElement, SD, SD_ALG, SdJwtError, is_reserved};

/// For each array that lost undisclosed elements: the signed positions of the remaining ones.
///
/// Without it, element 0 of a presentation could be any element of the credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElementPositions(HashMap<Vec<PathElement>, Vec<usize>>);

impl ElementPositions {
    /// The present index of the element signed at `index` of the array at `path`; `None` if it was not disclosed.
    pub fn current(&self, path: &[PathElement], index: usize) -> Option<usize> {
        match self.0.get(path) {
            None => Some(index),
            Some(kept) => kept.binary_search(&index).ok(),
        }
    }

    /// The signed index of the element that is now at `index` of the array at `path`.
    pub fn signed(&self, path: &[PathElement], index: usize) -> usize {
        self.0.get(path).and_then(|kept| kept.get(index)).copied().unwrap_or(index)
    }
}

/// The content of a decoded disclosure.
#[derive(Clone)]
pub(super) struct Disclosed {
    /// `None` for an element of an array.
    pub(super) name: Option<String>,
    pub(super) value: Value,
}

/// The claims, with all disclosures in place.
pub(super) struct Opened {
    pub(super) claims: Map<String, Value>,
    /// The path of each disclosure, in the order of the text.
    pub(super) places: Vec<Vec<PathElement>>,
    pub(super) positions: ElementPositions,
}

/// Removes `_sd_alg` from the payload and reads it.
pub(super) fn take_hash(payload: &mut Map<String, Value>) -> Result<HashAlgorithm, SdJwtError> {
    match payload.remove(SD_ALG) {
        None => Ok(HashAlgorithm::default()),
        Some(Value::String(name)) => HashAlgorithm::from_name(&name).ok_or(SdJwtError::UnsupportedHash),
        Some(_) => Err(SdJwtError::UnsupportedHash),
    }
}

/// Opens `payload` (without `_sd_alg`) with `disclosures`, each given as encoded text and content.
pub(super) fn open<'t>(
    mut payload: Map<String, Value>,
    hash: HashAlgorithm,
    disclosures: impl ExactSizeIterator<Item = (&'t str, Disclosed)>,
) -> Result<Opened, SdJwtError> {
    let count = disclosures.len();
    let mut opener = Opener {
        waiting: HashMap::with_capacity(count),
        seen: HashSet::with_capacity(count),
        path: Vec::new(),
        places: vec![Vec::new(); count],
        positions: ElementPositions::default(),
    };
    for (index, (encoded, disclosed)) in disclosures.enumerate() {
        if opener.waiting.insert(hash.digest(encoded.as_bytes()), (index, disclosed)).is_some() {
            return Err(SdJwtError::DuplicateDigest);
        }
    }
    opener.object(&mut payload, 1)?;
    if let Some(index) = opener.waiting.values().map(|(index, _)| *index).min() {
        return Err(SdJwtError::UnreferencedDisclosure { index });
    }
    Ok(Opened { claims: payload, places: opener.places, positions: opener.positions })
}

struct Opener {
    /// Disclosures that no digest has referred to yet, by digest.
    waiting: HashMap<String, (usize, Disclosed)>,
    /// Every digest found, including decoys.
    seen: HashSet<String>,
    /// The path from the top to the present place.
    path: Vec<PathElement>,
    places: Vec<Vec<PathElement>>,
    positions: ElementPositions,
}

impl Opener {
    fn value(&mut self, value: &mut Value, depth: usize) -> Result<(), SdJwtError> {
        if depth > MAX_DEPTH && (value.is_object() || value.is_array()) {
            return Err(SdJwtError::TooDeep);
        }
        match value {
            Value::Object(members) => self.object(members, depth),
            Value::Array(items) => self.array(items, depth),
            _ => Ok(()),
        }
    }

    fn object(&mut self, members: &mut Map<String, Value>, depth: usize) -> Result<(), SdJwtError> {
        if members.contains_key(SD_ALG) || members.contains_key(DOTS) {
            return Err(SdJwtError::ReservedName);
        }
        let digests = match members.remove(SD) {
            None => Vec::new(),
            Some(Value::Array(digests)) => digests,
            Some(_) => return Err(SdJwtError::MalformedDigest),
        };
        for (name, value) in members.iter_mut() {
            if value.is_object() || value.is_array() {
                self.path.push(PathElement::Name(name.clone()));
                self.value(value, depth.saturating_add(1))?;
                self.path.pop();
            }
        }
        for digest in digests {
            let Some((index, disclosed)) = self.take(digest)? else { continue };
            let Some(name) = disclosed.name else {
                return Err(SdJwtError::MisplacedDisclosure { index });
            };
            if is_reserved(&name) {
                return Err(SdJwtError::ReservedName);
            }
            let value = self.place(PathElement::Name(name.clone()), index, disclosed.value, depth)?;
            if members.insert(name, value).is_some() {
                return Err(SdJwtError::DuplicateClaim);
            }
        }
        Ok(())
    }

    fn array(&mut self, items: &mut Vec<Value>, depth: usize) -> Result<(), SdJwtError> {
        let signed = items.len();
        let mut kept = Vec::new();
        let mut opened = Vec::with_capacity(signed);
        for (position, mut item) in std::mem::take(items).into_iter().enumerate() {
            let element = PathElement::Index(position);
            if let Some(digest) = element_digest(&mut item)? {
                let Some((index, disclosed)) = self.take(digest)? else { continue };
                if disclosed.name.is_some() {
                    return Err(SdJwtError::MisplacedDisclosure { index });
                }
                item = self.place(element, index, disclosed.value, depth)?;
            } else {
                self.path.push(element);
                self.value(&mut item, depth.saturating_add(1))?;
                self.path.pop();
            }
            opened.push(item);
            kept.push(position);
        }
        if kept.len() < signed {
            self.positions.0.insert(self.path.clone(), kept);
        }
        *items = opened;
        Ok(())
    }

    /// Opens a disclosed value and records its place.
    fn place(
        &mut self,
        element: PathElement,
        index: usize,
        mut value: Value,
        depth: usize,
    ) -> Result<Value, SdJwtError> {
        self.path.push(element);
        if let Some(place) = self.places.get_mut(index) {
            place.clone_from(&self.path);
        }
        self.value(&mut value, depth.saturating_add(1))?;
        self.path.pop();
        Ok(value)
    }

    /// The disclosure behind `digest`, if it was sent.
    fn take(&mut self, digest: Value) -> Result<Option<(usize, Disclosed)>, SdJwtError> {
        let Value::String(digest) = digest else { return Err(SdJwtError::MalformedDigest) };
        let found = self.waiting.remove(&digest);
        if self.seen.insert(digest) { Ok(found) } else { Err(SdJwtError::DuplicateDigest) }
    }
}

/// The digest of an undisclosed element, if `item` is a placeholder for one.
fn element_digest(item: &mut Value) -> Result<Option<Value>, SdJwtError> {
    let Value::Object(members) = item else { return Ok(None) };
    if !members.contains_key(DOTS) {
        return Ok(None);
    }
    if members.len() > 1 {
        return Err(SdJwtError::MalformedDigest);
    }
    Ok(members.remove(DOTS))
}
