//! Making one encrypted layer.

use einmal_did::DidUrl;
use einmal_keys::{
    Custody, Entropy, Jwk, KeyError, KeyId, PeerKeyUse, PublicKey, SecretKey, base64url_append,
    base64url_encode,
};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    ContentEncryption,
    content::Sealed,
    header::{ALG_ANONCRYPT, ALG_AUTHCRYPT, apv_of},
    kdf::{OtherInfo, derive_kek, wrap},
};
use crate::{
    ENCRYPTED_MEDIA_TYPE,
    error::PackError,
    limits::{MAX_ENVELOPE_BYTES, MAX_RECIPIENTS},
};

/// One key to encrypt to: its absolute id and the key itself.
pub(crate) struct Recipient {
    pub(crate) kid: DidUrl,
    pub(crate) key: PublicKey,
}

/// Who encrypts.
pub(crate) enum JweSender<'a> {
    /// Nobody in particular: ECDH-ES.
    Anonymous,
    /// The holder of this key agreement key: ECDH-1PU.
    Authenticated { kid: &'a DidUrl, key_id: KeyId },
}

/// What encryption needs: keys held here, and randomness.
#[derive(Clone, Copy)]
pub(crate) struct Means<'a> {
    pub(crate) custody: &'a dyn Custody,
    pub(crate) entropy: &'a dyn Entropy,
}

/// A header rule that an envelope breaks while everything else in it fits: a peer that does not check the rule opens
/// the envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Irregularity {
    /// None.
    #[default]
    None,
    /// `apv` is not the digest of the recipients' key ids.
    Apv,
    /// `apu` is not the sender's key id.
    Apu,
}

/// The value of `apv` or `apu` in an irregular envelope.
const IRREGULAR: [u8; 32] = *b"names nobody who takes part here";

/// Encrypts `plaintext` to all `recipients`, whose keys lie on one curve and belong to one DID.
///
/// They are listed in the order of their ids, because a deployed library computes `apv` without sorting them first.
pub(crate) fn encrypt(
    plaintext: &[u8],
    recipients: Vec<Recipient>,
    sender: &JweSender<'_>,
    enc: ContentEncryption,
    means: Means<'_>,
) -> Result<Vec<u8>, PackError> {
    encrypt_breaking(Irregularity::None, plaintext, recipients, sender, enc, means)
}

/// Like [`encrypt`], but breaks one rule.
pub(crate) fn encrypt_breaking(
    rule: Irregularity,
    plaintext: &[u8],
    mut recipients: Vec<Recipient>,
    sender: &JweSender<'_>,
    enc: ContentEncryption,
    means: Means<'_>,
) -> Result<Vec<u8>, PackError> {
    if recipients.len() > MAX_RECIPIENTS {
        return Err(PackError::TooMany { what: "recipient keys", most: MAX_RECIPIENTS });
    }
    recipients.sort_unstable_by(|one, other| one.kid.cmp(&other.kid));
    let Some(first) = recipients.first() else {
        return Err(PackError::TooMany { what: "recipient keys", most: 0 });
    };
    if matches!(sender, JweSender::Authenticated { .. }) && enc != ContentEncryption::A256CbcHs512 {
        return Err(PackError::Algorithm);
    }
    let kind = first.key.kind();
    let epk = SecretKey::generate(kind, means.entropy).map_err(|error| match error {
        KeyError::Entropy => PackError::Entropy,
        _ => PackError::KeyKind { kind },
    })?;
    let parties = Parties {
        apu: match sender {
            JweSender::Authenticated { .. } if rule == Irregularity::Apu => &IRREGULAR,
            JweSender::Authenticated { kid, .. } => kid.as_str().as_bytes(),
            JweSender::Anonymous => b"",
        },
        apv: match rule {
            Irregularity::Apv => IRREGULAR,
            _ => apv_of(recipients.iter().map(|recipient| recipient.kid.as_str())),
        },
    };
    let failed = |step| move || PackError::Internal { step };
    let protected =
        protected_header(sender, enc, &epk, &parties).ok_or_else(failed("writing the protected header"))?;
    let fresh = enc.fresh(means.entropy).map_err(|_| PackError::Entropy)?;
    let sealed =
        enc.seal(&fresh, plaintext, protected.as_bytes()).ok_or_else(failed("encrypting the content"))?;
    let mut wrapped = Vec::with_capacity(recipients.len());
    for recipient in &recipients {
        let kek = kek(recipient, sender, means.custody, &epk, &parties, &sealed.tag)?;
        wrapped.push(wrap(&kek, &fresh.key).ok_or_else(failed("wrapping the key"))?);
    }
    let envelope = assemble(&protected, &recipients, &wrapped, &sealed);
    if envelope.len() > MAX_ENVELOPE_BYTES {
        return Err(PackError::TooLarge { size: envelope.len() });
    }
    Ok(envelope)
}

/// Both parties as they appear in the header and the key derivation.
struct Parties<'a> {
    apu: &'a [u8],
    apv: [u8; 32],
}

fn protected_header(
    sender: &JweSender<'_>,
    enc: ContentEncryption,
    epk: &SecretKey,
    parties: &Parties<'_>,
) -> Option<String> {
    let skid = match sender {
        JweSender::Authenticated { kid, .. } => Some(*kid),
        JweSender::Anonymous => None,
    };
    let header = ProtectedJson {
        alg: if skid.is_some() { ALG_AUTHCRYPT } else { ALG_ANONCRYPT },
        apu: skid.map(|_| base64url_encode(parties.apu)),
        apv: base64url_encode(parties.apv),
        enc: enc.name(),
        epk: epk.public_key().to_jwk(),
        skid: skid.map(DidUrl::as_str),
        typ: ENCRYPTED_MEDIA_TYPE,
    };
    serde_json::to_vec(&header).ok().map(base64url_encode)
}

/// The protected header as it is written.
#[derive(Serialize)]
struct ProtectedJson<'a> {
    alg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    apu: Option<String>,
    apv: String,
    enc: &'static str,
    epk: Jwk,
    #[serde(skip_serializing_if = "Option::is_none")]
    skid: Option<&'a str>,
    typ: &'static str,
}

fn kek(
    recipient: &Recipient,
    sender: &JweSender<'_>,
    custody: &dyn Custody,
    epk: &SecretKey,
    parties: &Parties<'_>,
    tag: &[u8],
) -> Result<Zeroizing<[u8; 32]>, PackError> {
    let ephemeral = custody.agree_ephemeral(epk, &recipient.key).map_err(|error| match error {
        KeyError::CurveMismatch { theirs, .. } => PackError::KeyKind { kind: theirs },
        _ => PackError::KeyKind { kind: recipient.key.kind() },
    })?;
    let Parties { apu, apv } = parties;
    let JweSender::Authenticated { key_id, .. } = sender else {
        let info = OtherInfo { alg: ALG_ANONCRYPT, apu, apv, tag: None };
        return Ok(derive_kek(&[ephemeral.as_bytes()], &info));
    };
    let fixed = custody.agree(key_id, &recipient.key, PeerKeyUse::LongTerm)?;
    let info = OtherInfo { alg: ALG_AUTHCRYPT, apu, apv, tag: Some(tag) };
    Ok(derive_kek(&[ephemeral.as_bytes(), fixed.as_bytes()], &info))
}

/// A capacity large enough for the envelope, so that it is not copied while it grows.
fn envelope_capacity(protected: &str, recipients: &[Recipient], sealed: &Sealed) -> usize {
    let kids: usize = recipients.iter().map(|recipient| recipient.kid.as_str().len() + 256).sum();
    sealed.ciphertext.len() / 3 * 4 + protected.len() + kids + 256
}

/// Writes the general JSON serialization. Every member is base64url or a DID URL, so nothing needs escaping.
fn assemble(protected: &str, recipients: &[Recipient], wrapped: &[Vec<u8>], sealed: &Sealed) -> Vec<u8> {
    let mut out = String::with_capacity(envelope_capacity(protected, recipients, sealed));
    out.push_str(r#"{"ciphertext":""#);
    base64url_append(&mut out, &sealed.ciphertext);
    out.push_str(r#"","protected":""#);
    out.push_str(protected);
    out.push_str(r#"","recipients":["#);
    for (index, (recipient, key)) in recipients.iter().zip(wrapped).enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(r#"{"encrypted_key":""#);
        base64url_append(&mut out, key);
        out.push_str(r#"","header":{"kid":""#);
        out.push_str(recipient.kid.as_str());
        out.push_str(r#""}}"#);
    }
    out.push_str(r#"],"tag":""#);
    base64url_append(&mut out, &sealed.tag);
    out.push_str(r#"","iv":""#);
    base64url_append(&mut out, &sealed.iv);
    out.push_str(r#""}"#);
    out.into_bytes()
}
