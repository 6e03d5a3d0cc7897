//! From bytes to a message and what was proved about it: the only way in.

use std::{cell::OnceCell, sync::Arc};

use einmal_did::{Did, DidDocument, DidUrl, Relationship, Resolver};
use einmal_keys::{Custody, KeyId, KeyKind, PublicKey};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use crate::{
    error::{EnvelopeError, OpenError},
    from_prior::{self, FromPriorFault, Rotation},
    ids::UnixSeconds,
    jwe::ParsedJwe,
    jws::ParsedJws,
    limits::{MAX_ENVELOPE_BYTES, MAX_LAYERS},
    message::{Layer, Message},
};

/// Which nestings of envelopes may be opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerPolicy {
    /// Also anoncrypt(authcrypt(sign(plain))): it must not be sent, yet the specification's own last example uses it.
    #[default]
    Tolerant,
    /// Only the combinations the specification permits.
    Strict,
}

/// What opening needs from outside.
#[derive(Clone, Copy)]
pub struct OpenContext<'a> {
    /// Our secret keys.
    pub custody: &'a dyn Custody,
    /// Documents of senders and of our own DIDs.
    pub resolver: &'a dyn Resolver,
    /// Present time, for `expires_time`.
    pub now: UnixSeconds,
    /// Whether a bare plaintext message is accepted; it proves nothing.
    pub accept_plaintext: bool,
    /// Which nestings are opened.
    pub layers: LayerPolicy,
}

impl std::fmt::Debug for OpenContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenContext").field("now", &self.now).finish_non_exhaustive()
    }
}

/// What kind of envelope some bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// JWE.
    Encrypted,
    /// JWS.
    Signed,
    /// Plaintext message.
    Plain,
}

/// A key that provably did something, and its DID in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProvedKey {
    /// The DID, canonical.
    pub did: Did,
    /// The key, as the envelope names it.
    pub kid: DidUrl,
    /// The key itself, as the peer's document listed it at that moment; `None` for a key of ours. The document may
    /// later list another key under the same name.
    pub key: Option<PublicKey>,
}

/// What opening proved. Everything absent here was not proved, whatever the message says.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Proof {
    /// Who encrypted (authcrypt): repudiable, and proved only to us.
    pub sender: Option<ProvedKey>,
    /// Who signed: non-repudiable.
    pub signer: Option<ProvedKey>,
    /// Our key that the envelope was encrypted to; `None` if it was not encrypted.
    pub recipient: Option<ProvedKey>,
    /// The rotation proved by `from_prior`.
    pub rotation: Option<Rotation>,
}

impl Proof {
    fn names_sender(&self) -> bool {
        self.sender.is_some() || self.signer.is_some()
    }
}

/// A message that was opened, with its proof.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Opened {
    /// The message. Its `from` is proved; an unproved one was moved to `claimed_from`.
    pub message: Message,
    /// What was proved.
    pub proof: Proof,
    /// The sender an anonymous message claims: for display at most.
    pub claimed_from: Option<Did>,
}

impl Opened {
    /// The proved sender, canonical: the one who encrypted, else the one who signed.
    pub fn sender(&self) -> Option<&Did> {
        self.proof.sender.as_ref().or(self.proof.signer.as_ref()).map(|key| &key.did)
    }

    /// Our DID that the message was encrypted to, canonical.
    pub fn recipient(&self) -> Option<&Did> {
        self.proof.recipient.as_ref().map(|key| &key.did)
    }

    /// Whether the message is encrypted and its sender proved: protocols act only on such messages.
    pub fn is_authenticated(&self) -> bool {
        self.proof.recipient.is_some() && self.sender().is_some()
    }
}

impl Envelope {
    /// Recognises the kind by its members, never by a label.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::TooLarge`] or [`EnvelopeError::Unrecognised`].
    pub fn classify(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        #[derive(Deserialize)]
        struct Peek {
            ciphertext: Option<IgnoredAny>,
            payload: Option<IgnoredAny>,
            id: Option<IgnoredAny>,
            r#type: Option<IgnoredAny>,
        }
        if bytes.len() > MAX_ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLarge);
        }
        let peek: Peek = serde_json::from_slice(bytes).map_err(|_| EnvelopeError::Unrecognised)?;
        match (peek.ciphertext.is_some(), peek.payload.is_some(), peek.id.is_some() && peek.r#type.is_some())
        {
            (true, false, _) => Ok(Self::Encrypted),
            (false, true, _) => Ok(Self::Signed),
            (false, false, true) => Ok(Self::Plain),
            _ => Err(EnvelopeError::Unrecognised),
        }
    }

    fn of_json(value: &Value) -> Result<Self, EnvelopeError> {
        let has = |name| value.get(name).is_some_and(|member| !member.is_null());
        let is_enveloped = has("recipients") || has("signatures") || has("signature");
        if has("id") && has("type") && !is_enveloped {
            // Unknown headers may have any name.
            return Ok(Self::Plain);
        }
        match (has("ciphertext"), has("payload"), has("id") && has("type")) {
            (true, false, _) => Ok(Self::Encrypted),
            (false, true, _) => Ok(Self::Signed),
            (false, false, _) => Ok(Self::Plain),
            _ => Err(EnvelopeError::Unrecognised),
        }
    }
}

/// What the layers opened so far have proved.
#[derive(Default)]
struct Layers {
    count: usize,
    anonymous: Option<DidUrl>,
    /// The key that encrypted, and the key of ours it was encrypted to.
    sender: Option<(ProvedKey, DidUrl)>,
    signed: Option<ParsedJws>,
}

/// Opens an envelope and checks every rule of DIDComm v2.1 about it.
///
/// `bytes` is one packed message. Pure: if a DID must be fetched first, this returns [`OpenError::Resolve`] with
/// `NotFetched`, and the caller opens again once it knows the document.
///
/// # Errors
///
/// [`OpenError`]; no part of the message is then usable.
///
/// # Specification
///
/// DIDComm Messaging v2.1, "DIDComm Encrypted Messages", "DIDComm Signed Messages", "Message Layer Addressing
/// Consistency", "DID Rotation".
pub fn open(bytes: &[u8], context: &OpenContext<'_>) -> Result<Opened, OpenError> {
    if bytes.len() > MAX_ENVELOPE_BYTES {
        return Err(EnvelopeError::TooLarge.into());
    }
    let mut layers = Layers::default();
    // The common case first: an encrypted envelope is recognised by parsing it as one.
    let mut current = match ParsedJwe::parse(bytes) {
        Ok(jwe) => open_encrypted(jwe, &mut layers, context)?,
        Err(error) => match Envelope::classify(bytes)? {
            Envelope::Encrypted => return Err(error.into()),
            Envelope::Signed => open_signed(bytes, &mut layers, context)?,
            Envelope::Plain if !context.accept_plaintext => return Err(OpenError::PlaintextRefused),
            Envelope::Plain => zeroize::Zeroizing::new(bytes.to_vec()),
        },
    };
    loop {
        let layer = Layer::read(&current)?;
        current = match Envelope::of_json(&layer.value)? {
            Envelope::Encrypted => open_encrypted(ParsedJwe::parse(&current)?, &mut layers, context)?,
            Envelope::Signed => open_signed(&current, &mut layers, context)?,
            Envelope::Plain => return finish(Message::from_layer(layer)?, layers, context),
        };
    }
}

type Plaintext = zeroize::Zeroizing<Vec<u8>>;

fn open_encrypted(
    jwe: ParsedJwe<'_>,
    layers: &mut Layers,
    context: &OpenContext<'_>,
) -> Result<Plaintext, OpenError> {
    layers.descend()?;
    if layers.signed.is_some() || layers.sender.is_some() {
        return Err(EnvelopeError::Combination.into());
    }
    // Both layers must be for one DID; otherwise a stranger could find out which of our DIDs belong together.
    if let (Some(outer), Some(inner)) = (&layers.anonymous, jwe.recipient_kids().next())
        && !outer.did().same_as(inner.did())
    {
        return Err(EnvelopeError::RecipientKids.into());
    }
    let ours = held_keys(&jwe, context);
    if ours.is_empty() {
        return Err(OpenError::NotForUs);
    }
    let Some(skid) = jwe.sender_kid().cloned() else {
        if layers.anonymous.is_some() {
            return Err(EnvelopeError::Combination.into());
        }
        let (plaintext, kid) = jwe.decrypt(&ours, None, context.custody)?;
        layers.anonymous = Some(kid);
        return Ok(plaintext);
    };
    let document = context
        .resolver
        .resolve(skid.did())
        .map_err(|source| OpenError::Resolve { did: skid.did().clone(), source })?;
    let method = document.method_for(Relationship::KeyAgreement, &skid).ok_or(OpenError::SenderKey)?;
    let (plaintext, kid) = jwe.decrypt(&ours, Some(&method.key), context.custody)?;
    layers.sender = Some((proved(skid, Some(method.key.clone())), kid));
    Ok(plaintext)
}

/// Unwraps a signed layer; its signature is checked later, once `from` is known.
fn open_signed(bytes: &[u8], layers: &mut Layers, context: &OpenContext<'_>) -> Result<Plaintext, OpenError> {
    layers.descend()?;
    let triple = layers.anonymous.is_some() && layers.sender.is_some();
    if layers.signed.is_some() || (triple && context.layers == LayerPolicy::Strict) {
        return Err(EnvelopeError::Combination.into());
    }
    let jws = ParsedJws::parse(bytes)?;
    let payload = zeroize::Zeroizing::new(jws.payload().to_vec());
    layers.signed = Some(jws);
    Ok(payload)
}

impl Layers {
    fn descend(&mut self) -> Result<(), EnvelopeError> {
        self.count += 1;
        if self.count > MAX_LAYERS { Err(EnvelopeError::TooDeep) } else { Ok(()) }
    }
}

/// Our recipient keys, each once even if the envelope names it several times, because each key agreement is expensive.
fn held_keys(jwe: &ParsedJwe<'_>, context: &OpenContext<'_>) -> Vec<(DidUrl, KeyId)> {
    let mut ours: Vec<(DidUrl, KeyId)> = Vec::new();
    // All name one DID. It is looked up once, found or not: a long one may cost much each time.
    let document = OnceCell::new();
    for kid in jwe.recipient_kids() {
        match held_key(kid, &document, context) {
            Some(key) if ours.iter().all(|(_, known)| *known != key) => ours.push((kid.clone(), key)),
            _ => {}
        }
    }
    ours
}

/// The id under which custody holds the key named by `kid`, if it is ours.
fn held_key(
    kid: &DidUrl,
    document: &OnceCell<Option<Arc<DidDocument>>>,
    context: &OpenContext<'_>,
) -> Option<KeyId> {
    let document = || document.get_or_init(|| context.resolver.resolve(kid.did()).ok()).as_deref();
    let direct = key_id(kid);
    if let Some(public) = context.custody.public_key(&direct) {
        // A key that can also sign is used only for what our document lists it for: without the document, for nothing.
        let is_for_agreement = public.kind() == KeyKind::X25519
            || document()
                .is_some_and(|document| document.method_for(Relationship::KeyAgreement, kid).is_some());
        return is_for_agreement.then_some(direct);
    }
    // `kid` may be an older spelling of one of our key ids: our own document knows both.
    let document = document()?;
    let current = key_id(&document.method_for(Relationship::KeyAgreement, kid)?.id);
    context.custody.public_key(&current).map(|_| current)
}

/// The name custody uses for a verification method: canonical DID and fragment.
pub(crate) fn key_id(kid: &DidUrl) -> KeyId {
    let Some(fragment) = kid.fragment() else { return kid.to_key_id() };
    let did = kid.did().canonical();
    // Most ids already have this form and can share their text.
    if did == *kid.did() && kid.as_str().len() == did.as_str().len() + 1 + fragment.len() {
        return kid.to_key_id();
    }
    KeyId::new(format!("{did}#{fragment}"))
}

/// The document of one DID that a message spells in two ways. The longer may be the did:peer:4 long form, which
/// resolves on first contact when the short form does not yet.
pub(crate) fn resolve_fuller(
    one: &Did,
    other: &Did,
    resolver: &dyn Resolver,
) -> Result<Arc<DidDocument>, OpenError> {
    let did = if one.as_str().len() > other.as_str().len() { one } else { other };
    resolver.resolve(did).map_err(|source| OpenError::Resolve { did: did.clone(), source })
}

fn proved(kid: DidUrl, key: Option<PublicKey>) -> ProvedKey {
    ProvedKey { did: kid.did().canonical(), kid, key }
}

/// The consistency rules between envelope and plaintext.
fn finish(mut message: Message, layers: Layers, context: &OpenContext<'_>) -> Result<Opened, OpenError> {
    let mut proof = Proof::default();
    if let (Some((sender, _)), Some(jws)) = (&layers.sender, &layers.signed)
        && !jws.names_signer(sender.kid.did())
    {
        return Err(OpenError::SignerIsNotSender);
    }
    let inner_kid = layers.sender.as_ref().map(|(_, kid)| kid.clone()).or(layers.anonymous);
    if let Some((sender, _)) = layers.sender {
        let from = message.from.as_ref().ok_or(OpenError::FromIsNotSender)?;
        if !from.same_as(sender.kid.did()) {
            return Err(OpenError::FromIsNotSender);
        }
        proof.sender = Some(sender);
    }
    if let Some(jws) = layers.signed {
        let from = message.from.as_ref().ok_or(OpenError::FromIsNotSigner)?;
        let (kid, key) = jws.verify(from, context.resolver)?;
        if inner_kid.is_some() && message.to.is_empty() {
            return Err(OpenError::SignedWithoutTo);
        }
        proof.signer = Some(proved(kid, Some(key)));
    }
    if let Some(kid) = inner_kid {
        let addressed = message.to.is_empty() || message.to.iter().any(|did| did.same_as(kid.did()));
        if !addressed {
            return Err(OpenError::NotAddressed);
        }
        proof.recipient = Some(proved(kid, None));
    }
    if let Some(jwt) = &message.from_prior {
        proof.rotation = Some(proved_rotation(jwt, &message, &proof, context)?);
    }
    if message.expires_time.is_some_and(|end| context.now >= end) {
        return Err(OpenError::Expired);
    }
    let claimed_from = if proof.names_sender() { None } else { message.from.take() };
    Ok(Opened { message, proof, claimed_from })
}

/// A rotation that is announced in an encrypted message, to a DID that proves itself in that same message.
///
/// The JWT names no audience: without the second rule, anyone told of a rotation could announce it to third parties.
fn proved_rotation(
    jwt: &str,
    message: &Message,
    proof: &Proof,
    context: &OpenContext<'_>,
) -> Result<Rotation, OpenError> {
    if proof.recipient.is_none() {
        return Err(OpenError::FromPrior { reason: FromPriorFault::NotEncrypted });
    }
    let rotation = from_prior::verify(jwt, message.from.as_ref(), context.resolver, context.now)?;
    if rotation.new.is_some() && !proof.names_sender() {
        return Err(OpenError::FromPrior { reason: FromPriorFault::Unproved });
    }
    Ok(rotation)
}
