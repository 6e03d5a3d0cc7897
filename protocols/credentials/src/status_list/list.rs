//! The list itself: entries of 1, 2, 4 or 8 bits, packed from the least significant bit upwards.

use std::{
    fmt,
    io::{Read, Write},
};

use einmal_keys::{base64url_decode, base64url_encode};
use flate2::{Compression, bufread::ZlibDecoder, write::ZlibEncoder};

use super::{RegisterError, StatusError};

/// Largest list in memory, in bytes; it bounds decompression. Holds 32 million entries of one bit.
pub const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;

/// Longest `lst` that is read, in characters; incompressible lists of full size still fit.
pub const MAX_LST_CHARS: usize = 6 * 1024 * 1024;

/// The meaning of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// 0: good.
    Valid,
    /// 1: revoked permanently.
    Invalid,
    /// 2: suspended for now.
    Suspended,
    /// Anything else: its meaning is up to the application, if known at all.
    ApplicationSpecific(u8),
}

impl Status {
    /// The value in the list.
    pub fn value(self) -> u8 {
        match self {
            Self::Valid => 0,
            Self::Invalid => 1,
            Self::Suspended => 2,
            Self::ApplicationSpecific(value) => value,
        }
    }

    /// Reads a value of the list.
    pub fn from_value(value: u8) -> Self {
        match value {
            0 => Self::Valid,
            1 => Self::Invalid,
            2 => Self::Suspended,
            other => Self::ApplicationSpecific(other),
        }
    }
}

/// Entries of `bits` bits each.
#[derive(Clone, PartialEq, Eq)]
pub struct StatusList {
    bits: u8,
    bytes: Vec<u8>,
}

/// Shows the size, not who is revoked.
impl fmt::Debug for StatusList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusList").field("bits", &self.bits).field("entries", &self.len()).finish()
    }
}

/// The position of an entry in the bytes.
struct Slot {
    byte: usize,
    shift: u32,
    mask: u8,
}

impl StatusList {
    /// A list of at least `entries` entries, all valid; rounded up to whole bytes.
    ///
    /// # Errors
    ///
    /// [`StatusError::InvalidBits`], or [`StatusError::TooLarge`] beyond [`MAX_LIST_BYTES`].
    pub fn new(bits: u8, entries: usize) -> Result<Self, StatusError> {
        let per_byte = usize::from(entries_per_byte(bits)?);
        let len = entries.div_ceil(per_byte);
        if len > MAX_LIST_BYTES {
            return Err(StatusError::TooLarge);
        }
        Ok(Self { bits, bytes: vec![0; len] })
    }

    /// A list from bytes in the specification's layout.
    ///
    /// # Errors
    ///
    /// [`StatusError::InvalidBits`], or [`StatusError::TooLarge`] beyond [`MAX_LIST_BYTES`].
    pub fn from_bytes(bits: u8, bytes: Vec<u8>) -> Result<Self, StatusError> {
        entries_per_byte(bits)?;
        if bytes.len() > MAX_LIST_BYTES {
            return Err(StatusError::TooLarge);
        }
        Ok(Self { bits, bytes })
    }

    /// Bits per entry.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.bytes.len().saturating_mul(entries_per_byte(self.bits).map_or(1, usize::from))
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The packed bytes, for storage.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The entry at `index`.
    ///
    /// # Errors
    ///
    /// [`StatusError::IndexOutOfRange`].
    ///
    /// # Specification
    ///
    /// Token Status List, section 4.1: entries fill each byte from its least significant bit.
    pub fn get(&self, index: u64) -> Result<Status, StatusError> {
        let slot = self.slot(index).ok_or(StatusError::IndexOutOfRange { index })?;
        let byte = self.bytes.get(slot.byte).ok_or(StatusError::IndexOutOfRange { index })?;
        Ok(Status::from_value((byte >> slot.shift) & slot.mask))
    }

    /// Overwrites the entry at `index`. Issuers use [`super::StatusRegister`], which enforces the rules.
    ///
    /// # Errors
    ///
    /// [`RegisterError::IndexOutOfRange`], or [`RegisterError::TooNarrow`] if the value does not fit.
    pub fn set(&mut self, index: u64, status: Status) -> Result<(), RegisterError> {
        let slot = self.slot(index).ok_or(RegisterError::IndexOutOfRange { index })?;
        let value = status.value();
        if value & !slot.mask != 0 {
            return Err(RegisterError::TooNarrow { bits: self.bits });
        }
        let byte = self.bytes.get_mut(slot.byte).ok_or(RegisterError::IndexOutOfRange { index })?;
        *byte = (*byte & !(slot.mask << slot.shift)) | (value << slot.shift);
        Ok(())
    }

    fn slot(&self, index: u64) -> Option<Slot> {
        let per_byte = u64::from(entries_per_byte(self.bits).ok()?);
        let byte = usize::try_from(index / per_byte).ok()?;
        let within = u32::try_from(index % per_byte).ok()?;
        let mask = u8::MAX.checked_shr(8u32.checked_sub(u32::from(self.bits))?)?;
        Some(Slot { byte, shift: within.checked_mul(u32::from(self.bits))?, mask })
    }

    /// The list as `lst`: ZLIB, then base64url.
    ///
    /// # Errors
    ///
    /// [`StatusError::MalformedList`] if the compressor fails, which does not happen in memory.
    pub fn encode(&self) -> Result<String, StatusError> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&self.bytes).map_err(|_| StatusError::MalformedList)?;
        let compressed = encoder.finish().map_err(|_| StatusError::MalformedList)?;
        Ok(base64url_encode(compressed))
    }

    /// Reads `lst`. Decompression stops at [`MAX_LIST_BYTES`]; data after the ZLIB stream is refused.
    ///
    /// # Errors
    ///
    /// [`StatusError::InvalidBits`], [`StatusError::TooLarge`] or [`StatusError::MalformedList`].
    pub fn decode(bits: u8, lst: &str) -> Result<Self, StatusError> {
        entries_per_byte(bits)?;
        if lst.len() > MAX_LST_CHARS {
            return Err(StatusError::TooLarge);
        }
        let compressed = base64url_decode(lst).ok_or(StatusError::MalformedList)?;
        let mut decoder = ZlibDecoder::new(compressed.as_slice());
        let mut bytes = Vec::new();
        let limit = u64::try_from(MAX_LIST_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        decoder.by_ref().take(limit).read_to_end(&mut bytes).map_err(|_| StatusError::MalformedList)?;
        if bytes.len() > MAX_LIST_BYTES {
            return Err(StatusError::TooLarge);
        }
        if !decoder.into_inner().is_empty() {
            return Err(StatusError::MalformedList);
        }
        Ok(Self { bits, bytes })
    }
}

fn entries_per_byte(bits: u8) -> Result<u8, StatusError> {
    match bits {
        1 => Ok(8),
        2 => Ok(4),
        4 => Ok(2),
        8 => Ok(1),
        _ => Err(StatusError::InvalidBits),
    }
}
