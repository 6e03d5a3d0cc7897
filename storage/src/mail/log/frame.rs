//! The layout of one entry in the log: a header of fixed length, then a body, both under one checksum.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | CRC-32 of everything after it, begun with the segment's number |
//! | 4 | kind |
//! | 8..12 | length of the body |
//! | 12..32 | mailbox |
//! | 32..40 | id of the letter; for [`Kind::Cleared`] the last id that is gone |
//! | 40..48 | arrival, milliseconds since 1970 |
//! | 48..56 | expiry, seconds since 1970 |
//! | 56..64 | digest of mailbox and payload under the mail key |
//!
//! Numbers are little-endian. The body of a letter is `nonce (24) | ciphertext | tag (16)`, bound to mailbox, arrival,
//! expiry and digest, so that no letter passes as another. The body of [`Kind::Removed`] is a list of ids.

use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce, aead::AeadInOut};

use crate::{
    StoreError,
    mail::{MailKey, MailboxId},
};

/// Length of the header.
pub(super) const HEADER_LEN: usize = 64;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
/// Bytes that sealing adds to a payload.
pub(super) const SEAL_LEN: usize = NONCE_LEN + TAG_LEN;

/// The meaning of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A letter.
    Letter = 1,
    /// Letters of a mailbox are gone.
    Removed = 2,
    /// All letters of a mailbox up to an id are gone.
    Cleared = 3,
}

/// The header of an entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) body_len: u32,
    pub(super) mailbox: MailboxId,
    pub(super) id: u64,
    pub(super) arrived_ms: u64,
    pub(super) expires_at: u64,
    pub(super) digest: u64,
}

impl Header {
    /// A header for an entry about a mailbox.
    pub(super) fn about(kind: Kind, mailbox: MailboxId, id: u64) -> Self {
        Self { kind, body_len: 0, mailbox, id, arrived_ms: 0, expires_at: 0, digest: 0 }
    }

    /// Length of the payload sealed in the body.
    pub(super) fn payload_len(&self) -> u32 {
        u32::try_from(SEAL_LEN).map_or(0, |seal| self.body_len.saturating_sub(seal))
    }

    /// The header without its checksum.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&[self.kind as u8, 0, 0, 0]);
        out.extend_from_slice(&self.body_len.to_le_bytes());
        out.extend_from_slice(&self.mailbox.0);
        for number in [self.id, self.arrived_ms, self.expires_at, self.digest] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Reads a header; `None` if there is none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let kind = match bytes.get(4)? {
            1 => Kind::Letter,
            2 => Kind::Removed,
            3 => Kind::Cleared,
            _ => return None,
        };
        let number = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self {
            kind,
            body_len: u32::from_le_bytes(*bytes.get(8..)?.first_chunk()?),
            mailbox: MailboxId(*bytes.get(12..)?.first_chunk()?),
            id: number(32)?,
            arrived_ms: number(40)?,
            expires_at: number(48)?,
            digest: number(56)?,
        })
    }

    fn associated_data(&self) -> [u8; 48] {
        let mut data = [0; 48];
        let parts = [self.digest, self.arrived_ms, self.expires_at];
        let bytes = self.mailbox.0.iter().copied().chain(parts.iter().flat_map(|part| part.to_le_bytes()));
        data.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        data
    }
}

/// The checksum of an entry in segment `segment`; `rest` is the entry after its checksum.
fn checksum(segment: u32, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(rest);
    hasher.finalize()
}

/// Appends an entry to `out`.
pub(super) fn append(out: &mut Vec<u8>, segment: u32, header: &Header, body: &[u8]) {
    let start = out.len();
    header.write(out);
    out.extend_from_slice(body);
    let sum = checksum(segment, out.get(start + 4..).unwrap_or_default());
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}

/// Reads the entry that `bytes` begin with: its header and body. `None` if there is no complete one.
pub(super) fn read(segment: u32, bytes: &[u8]) -> Option<(Header, &[u8])> {
    let header = Header::parse(bytes)?;
    let end = HEADER_LEN.checked_add(usize::try_from(header.body_len).ok()?)?;
    let entry = bytes.get(..end)?;
    let (sum, rest) = entry.split_first_chunk()?;
    (checksum(segment, rest) == u32::from_le_bytes(*sum)).then_some((header, entry.get(HEADER_LEN..)?))
}

/// Seals and opens letters.
pub(super) struct Sealer(XChaCha20Poly1305);

impl Sealer {
    pub(super) fn new(key: &MailKey) -> Self {
        Self(XChaCha20Poly1305::new((&*key.0).into()))
    }

    /// The body of a letter: `payload`, sealed for the mailbox and times in `header`.
    pub(super) fn seal(&self, header: &Header, payload: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| StoreError::Entropy)?;
        let mut body = Vec::with_capacity(payload.len() + SEAL_LEN);
        body.extend_from_slice(&nonce);
        body.extend_from_slice(payload);
        let text = body.get_mut(NONCE_LEN..).unwrap_or_default();
        let tag = self
            .0
            .encrypt_inout_detached(&XNonce::from(nonce), &header.associated_data(), text.into())
            .map_err(|_| StoreError::ValueTooLarge { len: payload.len() })?;
        body.extend_from_slice(&tag);
        Ok(body)
    }

    /// Undoes [`Sealer::seal`]; `None` if anything was altered.
    pub(super) fn open(&self, header: &Header, body: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = body.split_first_chunk::<NONCE_LEN>()?;
        let (text, tag) = rest.split_last_chunk::<TAG_LEN>()?;
        let mut payload = text.to_vec();
        let inout = payload.as_mut_slice().into();
        let data = header.associated_data();
        let (nonce, tag) = (XNonce::from(*nonce), Tag::from(*tag));
        self.0.decrypt_inout_detached(&nonce, &data, inout, &tag).ok()?;
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::*;

    fn header(id: u64) -> Header {
        Header {
            kind: Kind::Letter,
            body_len: 0,
            mailbox: MailboxId([3; 20]),
            id,
            arrived_ms: 4,
            expires_at: 5,
            digest: 6,
        }
    }

    proptest! {
        #[test]
        fn an_entry_survives_the_disk(id: u64, body: Vec<u8>, behind: Vec<u8>) {
            let header = Header { body_len: u32::try_from(body.len()).unwrap(), ..header(id) };
            let mut bytes = Vec::new();
            append(&mut bytes, 9, &header, &body);
            bytes.extend_from_slice(&behind);
            prop_assert_eq!(read(9, &bytes), Some((header, &body[..])));
            prop_assert_eq!(read(8, &bytes), None, "another segment");
        }

        #[test]
        fn any_bytes_parse_or_are_refused(bytes: Vec<u8>) {
            let _ = read(1, &bytes);
        }

        #[test]
        fn a_changed_or_shortened_entry_is_none(body: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let header = Header { body_len: u32::try_from(body.len()).unwrap(), ..header(1) };
            let mut bytes = Vec::new();
            append(&mut bytes, 1, &header, &body);
            prop_assert_eq!(read(1, &bytes[..bytes.len() - 1]), None);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(read(1, &bytes), None);
        }
    }

    #[test]
    fn a_letter_opens_only_as_itself() {
        let sealer = Sealer::new(&MailKey::new(Zeroizing::new([1; 32])));
        let body = sealer.seal(&header(1), b"hello").unwrap();
        assert_eq!(sealer.open(&header(1), &body).as_deref(), Some(&b"hello"[..]));
        let other = Header { mailbox: MailboxId([4; 20]), ..header(1) };
        assert_eq!(sealer.open(&other, &body), None, "another mailbox");
        let late = Header { expires_at: 9, ..header(1) };
        assert_eq!(sealer.open(&late, &body), None, "another expiry");
        let other = Sealer::new(&MailKey::new(Zeroizing::new([2; 32])));
        assert_eq!(other.open(&header(1), &body), None, "another key");
        assert_eq!(sealer.open(&header(1), &body[..10]), None, "too short");
    }
}
