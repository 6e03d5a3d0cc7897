//! Opening one encrypted layer.

use std::borrow::Cow;

use einmal_did::{Did, DidUrl};
use einmal_keys::{Custody, KeyId, PeerKeyUse, PublicKey, base64url_decode};
use zeroize::Zeroizing;

use super::{
    content::Sealed,
    header::{Header, JweJson},
    kdf::{OtherInfo, derive_kek, unwrap},
};
use crate::error::{EnvelopeError, OpenError};

/// An encrypted envelope with valid structure and header; nothing is decrypted yet.
pub(crate) struct ParsedJwe<'a> {
    protected: Cow<'a, str>,
    header: Header,
    recipients: Vec<(DidUrl, Vec<u8>)>,
    sealed: Sealed,
}

impl<'a> ParsedJwe<'a> {
    /// Parses and checks everything that needs no key.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let json = JweJson::parse(bytes)?;
        let header = json.header()?;
        let member = |member: &'static str, text: &str| {
            base64url_decode(text).ok_or(EnvelopeError::Malformed { member })
        };
        let sealed = Sealed {
            iv: member("iv", &json.iv)?,
            ciphertext: member("ciphertext", &json.ciphertext)?,
            tag: member("tag", &json.tag)?,
        };
        let recipients = json
            .recipients
            .iter()
            .map(|recipient| {
                let kid = DidUrl::parse(&recipient.header.kid).map_err(|_| EnvelopeError::RecipientKids)?;
                Ok((kid, member("encrypted_key", &recipient.encrypted_key)?))
            })
            .collect::<Result<Vec<_>, EnvelopeError>>()?;
        check_one_did(&recipients)?;
        Ok(Self { protected: json.protected, header, recipients, sealed })
    }

    /// The recipient key ids, in the envelope's order.
    pub(crate) fn recipient_kids(&self) -> impl Iterator<Item = &DidUrl> {
        self.recipients.iter().map(|(kid, _)| kid)
    }

    /// The sender's key for authcrypt; only a claim until [`ParsedJwe::decrypt`] succeeds with it.
    pub(crate) fn sender_kid(&self) -> Option<&DidUrl> {
        self.header.skid.as_ref()
    }

    /// Decrypts with one of our keys.
    ///
    /// `ours` pairs recipient key ids of this envelope with the ids that custody uses for them. `sender` is the
    /// resolved key of [`ParsedJwe::sender_kid`]. Returns the plaintext and the recipient key id that opened it.
    pub(crate) fn decrypt(
        self,
        ours: &[(DidUrl, KeyId)],
        sender: Option<&PublicKey>,
        custody: &dyn Custody,
    ) -> Result<(Zeroizing<Vec<u8>>, DidUrl), OpenError> {
        if sender.is_some_and(|key| key.kind() != self.header.epk.kind()) {
            return Err(OpenError::SenderKey);
        }
        let (cek, kid) = self.unwrap_cek(ours, sender, custody)?;
        let aad = self.protected.as_bytes();
        let plaintext = self.header.enc.open(&cek, self.sealed, aad).ok_or(OpenError::Decrypt)?;
        Ok((plaintext, kid))
    }

    fn unwrap_cek(
        &self,
        ours: &[(DidUrl, KeyId)],
        sender: Option<&PublicKey>,
        custody: &dyn Custody,
    ) -> Result<(Zeroizing<Vec<u8>>, DidUrl), OpenError> {
        let mut curve_fits = false;
        for (kid, key_id) in ours {
            let kind = custody.public_key(key_id).map(|key| key.kind());
            if kind != Some(self.header.epk.kind()) {
                continue;
            }
            curve_fits = true;
            let wrapped = self.recipients.iter().find(|(recipient, _)| recipient == kid);
            let Some((_, wrapped)) = wrapped else { continue };
            let kek = self.kek(key_id, sender, custody)?;
            if let Some(cek) = unwrap(&kek, wrapped) {
                return Ok((cek, kid.clone()));
            }
        }
        Err(if curve_fits { OpenError::Decrypt } else { EnvelopeError::Epk.into() })
    }

    fn kek(
        &self,
        key_id: &KeyId,
        sender: Option<&PublicKey>,
        custody: &dyn Custody,
    ) -> Result<Zeroizing<[u8; 32]>, OpenError> {
        let ephemeral = custody.agree(key_id, &self.header.epk, PeerKeyUse::Ephemeral)?;
        let info = OtherInfo {
            alg: self.header.alg(),
            apu: &self.header.apu,
            apv: &self.header.apv,
            tag: sender.map(|_| self.sealed.tag.as_slice()),
        };
        let Some(sender) = sender else { return Ok(derive_kek(&[ephemeral.as_bytes()], &info)) };
        let fixed = custody.agree(key_id, sender, PeerKeyUse::LongTerm)?;
        Ok(derive_kek(&[ephemeral.as_bytes(), fixed.as_bytes()], &info))
    }
}

/// One envelope serves the keys of one DID: each key id is that DID with a fragment and occurs once.
fn check_one_did(recipients: &[(DidUrl, Vec<u8>)]) -> Result<(), EnvelopeError> {
    let first: Option<&Did> = recipients.first().map(|(kid, _)| kid.did());
    let names_key = |kid: &DidUrl| kid.fragment().is_some() && kid.path().is_none() && kid.query().is_none();
    let one_did = recipients.iter().all(|(kid, _)| names_key(kid) && Some(kid.did()) == first);
    let mut kids: Vec<&str> = recipients.iter().map(|(kid, _)| kid.as_str()).collect();
    kids.sort_unstable();
    let unique = kids.windows(2).all(|pair| pair.first() != pair.last());
    if one_did && unique { Ok(()) } else { Err(EnvelopeError::RecipientKids) }
}
