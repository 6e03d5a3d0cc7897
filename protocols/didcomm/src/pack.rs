//! From a message to an envelope; the API cannot express combinations that DIDComm forbids.

use einmal_did::{Did, DidDocument, DidUrl, Relationship, Resolver};
use einmal_keys::{Custody, Entropy, KeyKind, SignatureAlgorithm};

use crate::{
    error::PackError,
    jwe::{ContentEncryption, Irregularity, JweSender, Means, Recipient, encrypt, encrypt_breaking},
    jws,
    limits::MAX_ENVELOPE_BYTES,
    message::Message,
    open::key_id,
};

/// How much of the sender an envelope proves, and who sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SenderProtection {
    /// authcrypt: the recipient knows the sender but cannot prove it to others. The default.
    #[default]
    Authcrypt,
    /// anoncrypt(authcrypt): the same, but the sender's key id is hidden from every hop.
    AuthcryptHidden,
    /// anoncrypt(sign): the recipient can prove to others who wrote it.
    SignedAnoncrypt,
    /// anoncrypt: no sender is named.
    Anoncrypt,
}

/// Choices of one packing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackOptions {
    /// What the envelope proves.
    pub protection: SenderProtection,
    /// Content encryption of anoncrypt layers; authcrypt has a fixed one.
    pub anoncrypt_enc: ContentEncryption,
    /// Use only this curve; otherwise the first of the recipient's curves that both sides have.
    pub curve: Option<KeyKind>,
}

impl PackOptions {
    /// Options with this protection and defaults for the rest.
    pub fn protecting(protection: SenderProtection) -> Self {
        Self { protection, ..Self::default() }
    }
}

/// An envelope ready for a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The bytes of one encrypted envelope.
    pub bytes: Vec<u8>,
    /// The recipient.
    pub recipient: Did,
}

/// Packs messages with our keys.
#[derive(Clone, Copy)]
pub struct Packer<'a> {
    /// Our secret keys.
    pub custody: &'a dyn Custody,
    /// Documents of recipients and of our own DIDs.
    pub resolver: &'a dyn Resolver,
    /// Randomness for keys and nonces.
    pub entropy: &'a dyn Entropy,
}

impl std::fmt::Debug for Packer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Packer(..)")
    }
}

impl Packer<'_> {
    /// Encrypts `message` to every key agreement key of `recipient` on one curve.
    ///
    /// One envelope serves one DID; call once for each recipient in `to`.
    ///
    /// # Errors
    ///
    /// [`PackError`]; [`PackError::MissingTo`] if `to` lacks the recipient and is not empty, or is empty for a signed
    /// message.
    pub fn pack(
        &self,
        message: &Message,
        recipient: &Did,
        options: &PackOptions,
    ) -> Result<Packed, PackError> {
        self.check_addressing(message, recipient, options.protection)?;
        let document = self.document(recipient)?;
        let plaintext = zeroize::Zeroizing::new(message.to_bytes());
        let bytes = match options.protection {
            SenderProtection::Anoncrypt => self.anoncrypt(&plaintext, recipient, &document, options)?,
            SenderProtection::SignedAnoncrypt => {
                let signed = self.sign_bytes(message, &plaintext)?;
                self.anoncrypt(&signed, recipient, &document, options)?
            }
            SenderProtection::Authcrypt => {
                self.authcrypt(message, &plaintext, recipient, &document, options)?
            }
            SenderProtection::AuthcryptHidden => {
                let inner = self.authcrypt(message, &plaintext, recipient, &document, options)?;
                self.anoncrypt(&inner, recipient, &document, options)?
            }
        };
        Ok(Packed { bytes, recipient: recipient.clone() })
    }

    /// Encrypts unchecked bytes by `sender`, whatever they claim: for tools that test whether others refuse what they
    /// must refuse. Never use it to talk.
    ///
    /// # Errors
    ///
    /// [`PackError`] for keys and sizes only.
    pub fn authcrypt_unchecked(
        &self,
        plaintext: &[u8],
        sender: &Did,
        recipient: &Did,
        rule: Irregularity,
    ) -> Result<Vec<u8>, PackError> {
        let document = self.document(recipient)?;
        self.authcrypt_by(sender, plaintext, recipient, &document, &PackOptions::default(), rule)
    }

    /// As [`Packer::authcrypt_unchecked`], but by the held key `skid`, whatever its owner's document lists it for.
    ///
    /// # Errors
    ///
    /// [`PackError`] for keys and sizes only.
    pub fn authcrypt_by_key_unchecked(
        &self,
        plaintext: &[u8],
        skid: &DidUrl,
        recipient: &Did,
    ) -> Result<Vec<u8>, PackError> {
        let document = self.document(recipient)?;
        let no_curve = || PackError::NoCommonCurve { recipient: recipient.clone() };
        let held = self.custody.public_key(&key_id(skid)).ok_or_else(no_curve)?;
        let keys = recipient_keys(recipient, &document);
        let keys: Vec<Recipient> = keys.into_iter().filter(|key| key.key.kind() == held.kind()).collect();
        let sender = JweSender::Authenticated { kid: skid, key_id: key_id(skid) };
        encrypt(plaintext, keys, &sender, ContentEncryption::A256CbcHs512, self.means())
    }

    /// Signs unchecked bytes by `signer`, whatever they claim, and encrypts them anonymously; for the same tools.
    ///
    /// # Errors
    ///
    /// [`PackError`] for keys and sizes only.
    pub fn sign_unchecked(
        &self,
        plaintext: &[u8],
        signer: &Did,
        recipient: &Did,
    ) -> Result<Vec<u8>, PackError> {
        let (kid, algorithm) = signing_key(signer, self.custody, self.resolver)?;
        let signed = jws::sign(plaintext, &kid, &key_id(&kid), algorithm, self.custody)?;
        self.anoncrypt(&signed, recipient, &*self.document(recipient)?, &PackOptions::default())
    }

    /// Signs `message` with an authentication key of its `from`, unencrypted: for invitations and broadcasts.
    ///
    /// # Errors
    ///
    /// [`PackError::MissingFrom`], [`PackError::NoSigningKey`] and others.
    pub fn sign(&self, message: &Message) -> Result<Vec<u8>, PackError> {
        self.sign_bytes(message, &message.to_bytes())
    }

    fn sign_bytes(&self, message: &Message, plaintext: &[u8]) -> Result<Vec<u8>, PackError> {
        let from = message.from.as_ref().ok_or(PackError::MissingFrom)?;
        let (kid, algorithm) = signing_key(from, self.custody, self.resolver)?;
        jws::sign(plaintext, &kid, &key_id(&kid), algorithm, self.custody)
    }

    /// Encrypts raw bytes anonymously to the keys in `recipient`'s given document, as forward layers need.
    pub(crate) fn anoncrypt(
        &self,
        plaintext: &[u8],
        recipient: &Did,
        document: &DidDocument,
        options: &PackOptions,
    ) -> Result<Vec<u8>, PackError> {
        if plaintext.len() > MAX_ENVELOPE_BYTES {
            return Err(PackError::TooLarge { size: plaintext.len() });
        }
        let keys = recipient_keys(recipient, document);
        let kind = keys
            .iter()
            .map(|key| key.key.kind())
            .find(|kind| options.curve.is_none_or(|wanted| wanted == *kind))
            .ok_or_else(|| PackError::NoCommonCurve { recipient: recipient.clone() })?;
        let keys: Vec<Recipient> = keys.into_iter().filter(|key| key.key.kind() == kind).collect();
        encrypt(plaintext, keys, &JweSender::Anonymous, options.anoncrypt_enc, self.means())
    }

    fn authcrypt(
        &self,
        message: &Message,
        plaintext: &[u8],
        recipient: &Did,
        document: &DidDocument,
        options: &PackOptions,
    ) -> Result<Vec<u8>, PackError> {
        let from = message.from.as_ref().ok_or(PackError::MissingFrom)?;
        self.authcrypt_by(from, plaintext, recipient, document, options, Irregularity::None)
    }

    fn authcrypt_by(
        &self,
        from: &Did,
        plaintext: &[u8],
        recipient: &Did,
        document: &DidDocument,
        options: &PackOptions,
        rule: Irregularity,
    ) -> Result<Vec<u8>, PackError> {
        let own = self.document(from)?;
        let keys = recipient_keys(recipient, document);
        let no_curve = || PackError::NoCommonCurve { recipient: recipient.clone() };
        let (kind, fragment) = keys
            .iter()
            .map(|key| key.key.kind())
            .filter(|kind| options.curve.is_none_or(|wanted| wanted == *kind))
            .find_map(|kind| Some((kind, self.own_agreement_key(&own, kind)?)))
            .ok_or_else(no_curve)?;
        let keys: Vec<Recipient> = keys.into_iter().filter(|key| key.key.kind() == kind).collect();
        // The key id uses the same form of our DID as `from`.
        let skid = DidUrl::new(from, &fragment).map_err(|_| no_curve())?;
        let sender = JweSender::Authenticated { kid: &skid, key_id: key_id(&skid) };
        encrypt_breaking(rule, plaintext, keys, &sender, ContentEncryption::A256CbcHs512, self.means())
    }

    fn means(&self) -> Means<'_> {
        Means { custody: self.custody, entropy: self.entropy }
    }

    /// Fragment of our first key agreement key of `kind` that custody holds.
    fn own_agreement_key(&self, document: &DidDocument, kind: KeyKind) -> Option<String> {
        document
            .methods(Relationship::KeyAgreement)
            .filter(|method| method.key.kind() == kind)
            .find(|method| self.custody.public_key(&key_id(&method.id)).is_some())
            .and_then(|method| method.id.fragment().map(str::to_owned))
    }

    fn check_addressing(
        &self,
        message: &Message,
        recipient: &Did,
        protection: SenderProtection,
    ) -> Result<(), PackError> {
        let named = message.to.iter().any(|did| did.same_as(recipient));
        let may_be_silent = message.to.is_empty() && protection != SenderProtection::SignedAnoncrypt;
        if named || may_be_silent {
            return Ok(());
        }
        Err(PackError::MissingTo { recipient: recipient.clone() })
    }

    pub(crate) fn document(&self, did: &Did) -> Result<std::sync::Arc<DidDocument>, PackError> {
        self.resolver.resolve(did).map_err(|source| PackError::Resolve { did: did.clone(), source })
    }
}

/// All key agreement keys of a document, with ids that use the same DID form as `recipient`.
fn recipient_keys(recipient: &Did, document: &DidDocument) -> Vec<Recipient> {
    document
        .methods(Relationship::KeyAgreement)
        .filter(|method| method.key.kind().can_agree())
        .map(|method| {
            let other_form = method.id.did() != recipient && method.id.did().same_as(recipient);
            let kid = match method.id.fragment() {
                Some(fragment) if other_form => DidUrl::new(recipient, fragment).ok(),
                _ => None,
            };
            let kid = kid.unwrap_or_else(|| method.id.clone());
            Recipient { kid, key: method.key.clone() }
        })
        .collect()
}

/// The first authentication key of `did` that custody holds, with an id in the same form as `did`.
pub(crate) fn signing_key(
    did: &Did,
    custody: &dyn Custody,
    resolver: &dyn Resolver,
) -> Result<(DidUrl, SignatureAlgorithm), PackError> {
    let document = resolver.resolve(did).map_err(|source| PackError::Resolve { did: did.clone(), source })?;
    document
        .methods(Relationship::Authentication)
        .filter(|method| custody.public_key(&key_id(&method.id)).is_some())
        .find_map(|method| {
            let algorithm = SignatureAlgorithm::of(method.key.kind())?;
            Some((DidUrl::new(did, method.id.fragment()?).ok()?, algorithm))
        })
        .ok_or_else(|| PackError::NoSigningKey { did: did.clone() })
}
