//! Attachments: inline JSON, inline bytes, links with a hash, and detached signatures over any of them.

use std::fmt;

use einmal_did::{DidUrl, JsonCensus, Relationship, Resolver, strict_json_object};
use einmal_keys::{
    Custody, KeyId, SignatureAlgorithm, base64url_decode, base64url_decode_tolerant, base64url_encode,
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json, value::RawValue};
use sha2::{Digest, Sha256, Sha512};

use crate::{
    error::MessageError,
    limits::{MAX_ATTACHMENT_ID_LEN, MAX_LINKS, MAX_PROTECTED_LEN},
};

/// One attachment of a message.
///
/// # Specification
///
/// DIDComm Messaging v2.1, "Attachments".
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Attachment {
    /// Names the attachment within its message.
    pub id: Option<String>,
    /// Text for people.
    pub description: Option<String>,
    /// Suggested file name; never to be used as a path.
    pub filename: Option<String>,
    /// Media type of the content.
    pub media_type: Option<String>,
    /// Format id, such as the project's own ones in `docs/profile.md`.
    pub format: Option<String>,
    /// When the content last changed, as the sender wrote it.
    pub lastmod_time: Option<Value>,
    /// Size of linked content in bytes, as the sender claims.
    pub byte_count: Option<u64>,
    /// The content, or where to find it.
    pub data: AttachmentData,
}

/// The `data` member: at least one of `json`, `carried`, `base64` and `links` is set.
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct AttachmentData {
    /// Inline JSON.
    pub json: Option<Value>,
    /// Inline JSON that is only passed on: written as `json` if there is no other. Reading sets it for payloads of
    /// forwards.
    pub carried: Option<CarriedJson>,
    /// Inline bytes as the sender encoded them; read with [`Attachment::bytes`].
    pub base64: Option<String>,
    /// Where the content can be fetched; only with `hash`.
    pub links: Vec<String>,
    /// Multihash of the content.
    pub hash: Option<String>,
    /// Detached signature over the content.
    pub jws: Option<Value>,
}

/// A JSON object that is passed on unchanged, without ever being parsed into values.
#[derive(Clone)]
pub struct CarriedJson {
    text: Box<RawValue>,
    census: JsonCensus,
}

/// How many levels of arrays and objects an attachment's JSON lies below its message.
const CARRIED_AT: usize = 4;

impl CarriedJson {
    /// Accepts an object that a strict reader of the whole message will accept too, as far as that depends on the
    /// object alone; otherwise `None`.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let census = strict_json_object(bytes, CARRIED_AT)?;
        let text = str::from_utf8(bytes).ok()?.trim_ascii();
        RawValue::from_string(text.to_owned()).ok().map(|text| Self { text, census })
    }

    /// How much of what one message may hold this object uses.
    pub fn census(&self) -> JsonCensus {
        self.census
    }
}

impl PartialEq for CarriedJson {
    fn eq(&self, other: &Self) -> bool {
        self.text.get() == other.text.get()
    }
}

/// An attachment is not what it claims to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachmentError {
    /// Neither inline JSON nor inline bytes: the content must be fetched first.
    #[error("the attachment has no inline content")]
    NotInline,
    /// Inline bytes that do not decode.
    #[error("the attachment's base64 does not decode")]
    Encoding,
    /// There is no hash, or one with an algorithm other than SHA-256 and SHA-512.
    #[error("the attachment has no usable hash; SHA-256 and SHA-512 multihashes are understood")]
    UnusableHash,
    /// The content does not match the hash.
    #[error("the attachment's content does not match its hash")]
    HashMismatch,
    /// There is no signature, or it is not a single detached JWS with a known algorithm.
    #[error("the attachment has no usable signature")]
    UnusableSignature,
    /// The signature does not verify.
    #[error("the attachment's signature does not hold")]
    BadSignature,
    /// The signing key is not among the authentication keys of its DID, or cannot be resolved.
    #[error("the attachment's signing key is none of its DID's authentication keys")]
    UnknownSigner,
    /// Our own key refused to sign.
    #[error("signing the attachment failed")]
    Signing,
}

/// The DID URL of the key that provably signed an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachedSigner(pub DidUrl);

impl Attachment {
    /// An attachment of inline JSON.
    pub fn json(id: &str, value: Value) -> Self {
        let data = AttachmentData { json: Some(value), ..AttachmentData::default() };
        Self { id: Some(id.to_owned()), media_type: Some("application/json".into()), data, ..Self::default() }
    }

    /// An attachment of inline bytes.
    pub fn base64(id: &str, bytes: &[u8]) -> Self {
        let data = AttachmentData { base64: Some(base64url_encode(bytes)), ..AttachmentData::default() };
        Self { id: Some(id.to_owned()), data, ..Self::default() }
    }

    /// The same attachment with a format id.
    #[must_use]
    pub fn with_format(mut self, format: &str) -> Self {
        self.format = Some(format.to_owned());
        self
    }

    /// The same attachment with a media type.
    #[must_use]
    pub fn with_media_type(mut self, media_type: &str) -> Self {
        self.media_type = Some(media_type.to_owned());
        self
    }

    pub(crate) fn from_value(value: Value) -> Result<Self, MessageError> {
        Self::read(value).ok_or(MessageError::InvalidHeader { header: "attachments" })
    }

    fn read(value: Value) -> Option<Self> {
        let Value::Object(mut members) = value else { return None };
        let Value::Object(mut data) = members.remove("data")? else { return None };
        // The published WACI presentation nests these inside `data`.
        for name in ["id", "format", "media_type"] {
            if let (false, Some(value)) = (members.contains_key(name), data.remove(name)) {
                members.insert(name.to_owned(), value);
            }
        }
        let mut text = |name: &str| match members.remove(name) {
            None | Some(Value::Null) => Some(None),
            Some(Value::String(text)) => Some(Some(text)),
            Some(_) => None,
        };
        let attachment = Self {
            id: text("id")?.filter(|id| id.len() <= MAX_ATTACHMENT_ID_LEN),
            description: text("description")?,
            filename: text("filename")?,
            media_type: text("media_type")?,
            format: text("format")?,
            lastmod_time: members.remove("lastmod_time"),
            byte_count: members.remove("byte_count").and_then(|count| count.as_u64()),
            data: AttachmentData::read(data)?,
        };
        Some(attachment)
    }

    /// Roughly how many bytes it takes as JSON, if nothing in it needs escaping.
    pub(super) fn weight(&self) -> usize {
        let texts = [&self.id, &self.description, &self.filename, &self.media_type, &self.format];
        let texts: usize = texts.into_iter().flatten().map(|text| text.len() + 20).sum();
        texts + self.data.weight() + 80
    }

    /// The inline content as bytes: decoded `base64`, or the JSON text of `json`.
    ///
    /// # Errors
    ///
    /// [`AttachmentError::NotInline`] or [`AttachmentError::Encoding`].
    pub fn bytes(&self) -> Result<Vec<u8>, AttachmentError> {
        if let Some(text) = &self.data.base64 {
            return base64url_decode_tolerant(text).ok_or(AttachmentError::Encoding);
        }
        if let Some(json) = &self.data.json {
            return Ok(json.to_string().into_bytes());
        }
        let carried = self.data.carried.as_ref().ok_or(AttachmentError::NotInline)?;
        Ok(carried.text.get().as_bytes().to_vec())
    }

    /// The inline content as JSON, from `json` or from decoded `base64`.
    ///
    /// # Errors
    ///
    /// [`AttachmentError::NotInline`], or [`AttachmentError::Encoding`] if the bytes are not JSON.
    pub fn to_json(&self) -> Result<Value, AttachmentError> {
        if let Some(json) = &self.data.json {
            return Ok(json.clone());
        }
        let bytes = self.bytes()?;
        einmal_did::parse_strict_json(&bytes, crate::limits::MAX_ENVELOPE_BYTES)
            .map_err(|_| AttachmentError::Encoding)
    }

    /// Checks fetched `content` against the multihash the sender gave.
    ///
    /// # Errors
    ///
    /// [`AttachmentError::UnusableHash`] or [`AttachmentError::HashMismatch`].
    pub fn verify_hash(&self, content: &[u8]) -> Result<(), AttachmentError> {
        let text = self.data.hash.as_deref().ok_or(AttachmentError::UnusableHash)?;
        let multihash = decode_multihash(text).ok_or(AttachmentError::UnusableHash)?;
        let matches = match multihash.split_first_chunk::<2>() {
            Some(([0x12, 0x20], digest)) => Sha256::digest(content).as_slice() == digest,
            Some(([0x13, 0x40], digest)) => Sha512::digest(content).as_slice() == digest,
            _ => return Err(AttachmentError::UnusableHash),
        };
        if matches { Ok(()) } else { Err(AttachmentError::HashMismatch) }
    }

    /// Signs the inline `base64` content with `kid`, one of our authentication keys, as detached JWS.
    ///
    /// # Errors
    ///
    /// [`AttachmentError::NotInline`] without `base64`, [`AttachmentError::Signing`] if the key refuses.
    pub fn sign(&mut self, custody: &dyn Custody, kid: &KeyId) -> Result<(), AttachmentError> {
        let payload = self.payload()?;
        let algorithm = custody
            .public_key(kid)
            .and_then(|key| SignatureAlgorithm::of(key.kind()))
            .ok_or(AttachmentError::Signing)?;
        let protected = json!({"alg": algorithm.name(), "kid": kid.as_str()}).to_string();
        let protected = base64url_encode(protected);
        let input = format!("{protected}.{payload}");
        let signature = custody.sign(kid, input.as_bytes()).map_err(|_| AttachmentError::Signing)?;
        self.data.jws = Some(json!({
            "header": {"kid": kid.as_str()},
            "protected": protected,
            "signature": base64url_encode(signature),
        }));
        Ok(())
    }

    /// Checks the detached JWS over the inline `base64` content and says which key made it.
    ///
    /// The key must be an authentication key of its DID. The caller decides whether that DID may sign this.
    ///
    /// # Errors
    ///
    /// [`AttachmentError`]; [`AttachmentError::UnknownSigner`] also if the DID cannot be resolved.
    pub fn verify_signature(&self, resolver: &dyn Resolver) -> Result<DetachedSigner, AttachmentError> {
        let unusable = AttachmentError::UnusableSignature;
        let payload = self.payload()?;
        let jws = self.data.jws.as_ref().ok_or(unusable.clone())?;
        let jws = jws.get("signatures").and_then(|list| list.get(0)).unwrap_or(jws);
        let text = |name: &str| jws.get(name).and_then(Value::as_str).ok_or(unusable.clone());
        let protected = text("protected")?;
        let signature = base64url_decode(text("signature")?).ok_or(unusable.clone())?;
        if protected.len() > MAX_PROTECTED_LEN {
            return Err(unusable);
        }
        let header = base64url_decode(protected).ok_or(unusable.clone())?;
        let header =
            einmal_did::parse_strict_json(&header, MAX_PROTECTED_LEN).map_err(|_| unusable.clone())?;
        if header.get("crit").is_some() || header.get("b64").is_some() {
            return Err(unusable);
        }
        let alg = header.get("alg").and_then(Value::as_str).and_then(SignatureAlgorithm::from_name);
        let kid = header.get("kid").or_else(|| jws.get("header")?.get("kid")).and_then(Value::as_str);
        let (Some(alg), Some(kid)) = (alg, kid) else { return Err(unusable) };
        let url = DidUrl::parse(kid).map_err(|_| AttachmentError::UnknownSigner)?;
        let document = resolver.resolve(url.did()).map_err(|_| AttachmentError::UnknownSigner)?;
        let method =
            document.method_for(Relationship::Authentication, &url).ok_or(AttachmentError::UnknownSigner)?;
        let input = format!("{protected}.{payload}");
        method.key.verify(alg, input.as_bytes(), &signature).map_err(|_| AttachmentError::BadSignature)?;
        Ok(DetachedSigner(url))
    }

    /// The JWS payload: the content in unpadded base64url, whichever alphabet or padding the sender used.
    fn payload(&self) -> Result<String, AttachmentError> {
        let text = self.data.base64.as_ref().ok_or(AttachmentError::NotInline)?;
        base64url_decode_tolerant(text).map(base64url_encode).ok_or(AttachmentError::Encoding)
    }
}

impl AttachmentData {
    fn read(mut data: Map<String, Value>) -> Option<Self> {
        let mut text = |name: &str| match data.remove(name) {
            None | Some(Value::Null) => Some(None),
            Some(Value::String(text)) => Some(Some(text)),
            Some(_) => None,
        };
        let (base64, hash) = (text("base64")?, text("hash")?);
        let links = match data.remove("links") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(links)) if links.len() <= MAX_LINKS => {
                links.into_iter().map(|link| link.as_str().map(str::to_owned)).collect::<Option<_>>()?
            }
            Some(_) => return None,
        };
        // As with the others, `null` is written for what is not there; alone it is what is sent.
        let is_elsewhere = base64.is_some() || !links.is_empty();
        let json = data.remove("json").filter(|json| !(json.is_null() && is_elsewhere));
        let jws = data.remove("jws").filter(|jws| !jws.is_null());
        let read = Self { json, carried: None, base64, links, hash, jws };
        let somewhere = read.json.is_some() || read.base64.is_some() || !read.links.is_empty();
        let links_are_pinned = read.links.is_empty() || read.hash.is_some();
        (somewhere && links_are_pinned).then_some(read)
    }

    fn weight(&self) -> usize {
        let values: usize = self.json.iter().chain(&self.jws).map(super::weight).sum();
        let carried = self.carried.as_ref().map_or(0, |carried| carried.text.get().len());
        let texts = self.base64.iter().chain(&self.hash).chain(&self.links);
        values + carried + texts.map(|text| text.len() + 20).sum::<usize>()
    }
}

/// Writes the members that are set, borrowed because contents are large.
impl Serialize for Attachment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let texts = [
            ("id", &self.id),
            ("description", &self.description),
            ("filename", &self.filename),
            ("media_type", &self.media_type),
            ("format", &self.format),
        ];
        for (name, text) in texts {
            entry(&mut map, name, text.as_ref())?;
        }
        entry(&mut map, "lastmod_time", self.lastmod_time.as_ref())?;
        entry(&mut map, "byte_count", self.byte_count.as_ref())?;
        map.serialize_entry("data", &self.data)?;
        map.end()
    }
}

impl Serialize for AttachmentData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        entry(&mut map, "json", self.json.as_ref())?;
        entry(&mut map, "json", self.carried.as_ref().map(|one| &one.text).filter(|_| self.json.is_none()))?;
        entry(&mut map, "base64", self.base64.as_ref())?;
        entry(&mut map, "hash", self.hash.as_ref())?;
        entry(&mut map, "jws", self.jws.as_ref())?;
        entry(&mut map, "links", Some(&self.links).filter(|links| !links.is_empty()))?;
        map.end()
    }
}

fn entry<M: SerializeMap>(map: &mut M, name: &str, value: Option<&impl Serialize>) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(name, value))
}

/// Shows the kind of content, never the content itself: credentials travel here.
impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("id", &self.id)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for CarriedJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CarriedJson(..)")
    }
}

impl fmt::Debug for AttachmentData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttachmentData(..)")
    }
}

/// Reads a multihash written as multibase base58 (`z…`), bare base58 (`Qm…`), multibase base64url or hex.
fn decode_multihash(text: &str) -> Option<Vec<u8>> {
    const LONGEST: usize = 160;
    if text.len() > LONGEST {
        return None;
    }
    let hex = |digits: &str| {
        let digits = digits.as_bytes();
        let nibble = |b: u8| char::from(b).to_digit(16).and_then(|n| u8::try_from(n).ok());
        let pairs = digits.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return None;
        }
        pairs
            .map(|pair| Some(nibble(*pair.first()?)? << 4 | nibble(*pair.get(1)?)?))
            .collect::<Option<Vec<u8>>>()
    };
    match text.chars().next()? {
        'z' => bs58_decode(text.get(1..)?),
        'u' => base64url_decode(text.get(1..)?),
        'f' => hex(text.get(1..)?),
        _ if text.starts_with("1220") || text.starts_with("1340") => hex(text),
        _ => bs58_decode(text),
    }
}

fn bs58_decode(text: &str) -> Option<Vec<u8>> {
    bs58::decode(text).into_vec().ok()
}

#[cfg(test)]
mod tests;
