//! The issuer's side: hides chosen claims behind salted digests and signs the rest.

use std::{collections::BTreeMap, fmt};

use einmal_keys::{Custody, Entropy, KeyId, base64url_encode};
use serde_json::{Map, Value};

use super::{
    Claims, DOTS, HashAlgorithm, IssueError, MAX_DEPTH, MAX_DISCLOSURES, MAX_SD_JWT_BYTES, PathElement,
    SALT_BYTES, SD, SD_ALG, is_reserved,
};
use crate::jwt::{self, HeaderOut};

/// Most decoy digests one SD-JWT may be given.
pub const MAX_DECOYS: usize = 1000;

/// The SD-JWT to be issued.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// Header `typ`, such as `dc+sd-jwt`.
    pub typ: String,
    /// Header `kid`, if the verifier needs it to find the key.
    pub kid: Option<String>,
    /// Header `x5c`: certificate chain, base64 DER, end entity first; empty for none.
    pub x5c: Vec<String>,
    /// All claims, hidden ones included.
    pub claims: Claims,
    /// Paths of the claims the holder may withhold. A path below another one gives a recursive disclosure.
    pub disclosable: Vec<Vec<PathElement>>,
    /// Digests without a disclosure, mixed into the top-level `_sd` so that the number of claims stays unknown.
    pub decoys: usize,
    /// Hash behind the digests.
    pub hash: HashAlgorithm,
}

impl IssueRequest {
    /// A request for `claims` under the header type `typ`, with nothing hidden yet.
    pub fn new(typ: impl Into<String>, claims: Claims) -> Self {
        Self {
            typ: typ.into(),
            kid: None,
            x5c: Vec::new(),
            claims,
            disclosable: Vec::new(),
            decoys: 0,
            hash: HashAlgorithm::default(),
        }
    }
}

/// A freshly issued SD-JWT in compact form, with every disclosure and without key binding. For the holder only.
#[derive(Clone, PartialEq, Eq)]
pub struct SdJwt(String);

impl SdJwt {
    /// The compact text; ends with `~`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The compact text, by value.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Shows the length, not the claims.
impl fmt::Debug for SdJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SdJwt({} bytes)", self.0.len())
    }
}

/// Issues `request`, signed with the key `kid` of `custody`; `entropy` provides the salts.
///
/// # Errors
///
/// [`IssueError`] naming what in the request cannot be issued, or why signing failed.
///
/// # Specification
///
/// RFC 9901, sections 4.1 to 4.3.
pub fn issue(
    custody: &dyn Custody,
    kid: &KeyId,
    request: &IssueRequest,
    entropy: &dyn Entropy,
) -> Result<SdJwt, IssueError> {
    check_claims(request.claims.as_map(), 1)?;
    let plan = Node::plan(&request.disclosable)?;
    let mut concealer = Concealer::new(request, entropy)?;
    let mut payload = Value::Object(request.claims.as_map().clone());
    concealer.conceal(&mut payload, &plan)?;
    if let Value::Object(members) = &mut payload {
        concealer.add_decoys(members, request.decoys)?;
        if concealer.any {
            members.insert(SD_ALG.to_owned(), Value::from(request.hash.name()));
        }
    }
    let header = HeaderOut {
        alg: jwt::algorithm_of(custody, kid)?.name(),
        typ: &request.typ,
        kid: request.kid.as_deref(),
        x5c: &request.x5c,
    };
    let mut text = jwt::sign(custody, kid, &header, &payload)?;
    text.reserve(concealer.disclosures.len().saturating_add(1));
    text.push('~');
    text.push_str(&concealer.disclosures);
    if text.len() > MAX_SD_JWT_BYTES {
        return Err(IssueError::TooLarge { what: "bytes" });
    }
    Ok(SdJwt(text))
}

/// Refuses reserved names and too deep nesting, so that the result can be read back.
fn check_claims(members: &Map<String, Value>, depth: usize) -> Result<(), IssueError> {
    if members.keys().any(|name| is_reserved(name)) {
        return Err(IssueError::ReservedName);
    }
    members.values().try_for_each(|value| check_value(value, depth))
}

fn check_value(value: &Value, depth: usize) -> Result<(), IssueError> {
    let inner = depth.saturating_add(1);
    // A disclosure wraps its value in an array, which adds one level for the receiver.
    if inner >= MAX_DEPTH && (value.is_object() || value.is_array()) {
        return Err(IssueError::TooDeep);
    }
    match value {
        Value::Object(members) => check_claims(members, inner),
        Value::Array(items) => items.iter().try_for_each(|item| check_value(item, inner)),
        _ => Ok(()),
    }
}

/// What to hide below one place in the claims.
#[derive(Default)]
struct Node<'a> {
    /// Index of the path in the request that asks to hide this very place.
    hide: Option<usize>,
    /// Index of some path through this place, to name it in an error.
    witness: usize,
    children: BTreeMap<&'a PathElement, Self>,
}

impl<'a> Node<'a> {
    fn plan(paths: &'a [Vec<PathElement>]) -> Result<Self, IssueError> {
        if paths.len() > MAX_DISCLOSURES {
            return Err(IssueError::TooLarge { what: "disclosures" });
        }
        let mut root = Self::default();
        for (index, path) in paths.iter().enumerate() {
            if path.is_empty() || path.len() > MAX_DEPTH {
                return Err(IssueError::UnknownPath { index });
            }
            let mut node = &mut root;
            for element in path {
                node = node.children.entry(element).or_default();
                node.witness = index;
            }
            node.hide = Some(index);
        }
        Ok(root)
    }
}

/// Collects the disclosures while removing hidden claims from the payload.
struct Concealer<'a> {
    hash: HashAlgorithm,
    entropy: &'a dyn Entropy,
    salts: Vec<u8>,
    used: usize,
    /// The disclosures, each followed by `~`.
    disclosures: String,
    scratch: Vec<u8>,
    any: bool,
}

impl<'a> Concealer<'a> {
    fn new(request: &IssueRequest, entropy: &'a dyn Entropy) -> Result<Self, IssueError> {
        if request.decoys > MAX_DECOYS {
            return Err(IssueError::TooLarge { what: "decoys" });
        }
        // Draw all salts at once: one system call per claim would cost more than the hashing.
        let mut salts = vec![0; request.disclosable.len().saturating_mul(SALT_BYTES)];
        entropy.fill(&mut salts).map_err(|_| IssueError::Entropy)?;
        Ok(Self {
            hash: request.hash,
            entropy,
            salts,
            used: 0,
            disclosures: String::new(),
            scratch: Vec::new(),
            any: false,
        })
    }

    fn conceal(&mut self, value: &mut Value, plan: &Node<'_>) -> Result<(), IssueError> {
        match value {
            Value::Object(members) => self.conceal_members(members, plan),
            Value::Array(items) => self.conceal_elements(items, plan),
            _ if plan.children.is_empty() => Ok(()),
            _ => Err(IssueError::UnknownPath { index: plan.witness }),
        }
    }

    fn conceal_members(
        &mut self,
        members: &mut Map<String, Value>,
        plan: &Node<'_>,
    ) -> Result<(), IssueError> {
        let mut digests = Vec::new();
        for (element, child) in &plan.children {
            let unknown = IssueError::UnknownPath { index: child.witness };
            let PathElement::Name(name) = element else { return Err(unknown) };
            let Some(value) = members.get_mut(name) else { return Err(unknown) };
            self.conceal(value, child)?;
            if child.hide.is_some() {
                digests.push(self.disclose(Some(name), value)?);
                members.remove(name);
            }
        }
        if !digests.is_empty() {
            // Sorted digests reveal nothing about the order of the claims.
            digests.sort_unstable();
            members.insert(SD.to_owned(), digests.into());
        }
        Ok(())
    }

    fn conceal_elements(&mut self, items: &mut [Value], plan: &Node<'_>) -> Result<(), IssueError> {
        for (element, child) in &plan.children {
            let unknown = IssueError::UnknownPath { index: child.witness };
            let PathElement::Index(index) = element else { return Err(unknown) };
            let Some(value) = items.get_mut(*index) else { return Err(unknown) };
            self.conceal(value, child)?;
            if child.hide.is_some() {
                let digest = self.disclose(None, value)?;
                *value = Value::Object(Map::from_iter([(DOTS.to_owned(), Value::String(digest))]));
            }
        }
        Ok(())
    }

    /// Writes one disclosure and returns its digest.
    fn disclose(&mut self, name: Option<&str>, value: &Value) -> Result<String, IssueError> {
        let end = self.used.saturating_add(SALT_BYTES);
        let salt = self.salts.get(self.used..end).map(base64url_encode).ok_or(IssueError::Entropy)?;
        self.used = end;
        self.any = true;
        self.scratch.clear();
        match name {
            Some(name) => serde_json::to_writer(&mut self.scratch, &(salt, name, value)),
            None => serde_json::to_writer(&mut self.scratch, &(salt, value)),
        }
        .map_err(|_| IssueError::Encoding)?;
        let encoded = base64url_encode(&self.scratch);
        self.disclosures.push_str(&encoded);
        self.disclosures.push('~');
        Ok(self.hash.digest(encoded.as_bytes()))
    }

    fn add_decoys(&mut self, members: &mut Map<String, Value>, count: usize) -> Result<(), IssueError> {
        if count == 0 {
            return Ok(());
        }
        self.any = true;
        let mut digests = match members.remove(SD) {
            Some(Value::Array(digests)) => digests,
            _ => Vec::new(),
        };
        for _ in 0..count {
            let mut chance = [0u8; 32];
            self.entropy.fill(&mut chance).map_err(|_| IssueError::Entropy)?;
            digests.push(Value::String(self.hash.digest(&chance)));
        }
        digests.sort_unstable_by(|a, b| a.as_str().cmp(&b.as_str()));
        members.insert(SD.to_owned(), Value::Array(digests));
        Ok(())
    }
}
