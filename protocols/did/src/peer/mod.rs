//! did:peer: DIDs that carry their document, or its hash.
//!
//! Numalgos 0, 2, 3 and 4 are supported; 1 is a legacy form that nobody should make or accept.

mod base58;
pub mod four;
mod multihash;
pub mod three;
pub mod two;
pub mod zero;

use einmal_keys::KeyKind;

use crate::{Did, DidError, Relationship};

/// The supported forms of did:peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerForm {
    /// Numalgo 0: one key.
    Zero,
    /// Numalgo 2: keys and services inline.
    Two,
    /// Numalgo 3: the short form of a numalgo 2.
    Three,
    /// Numalgo 4, with its document.
    FourLong,
    /// Numalgo 4, without its document.
    FourShort,
}

impl PeerForm {
    /// The form of a did:peer, by its numalgo alone.
    ///
    /// # Errors
    ///
    /// [`DidError::WrongMethod`] for another method, [`DidError::UnsupportedNumalgo`].
    pub fn of(did: &Did) -> Result<Self, DidError> {
        const WRONG: DidError = DidError::WrongMethod { expected: "did:peer" };
        if did.method() != "peer" {
            return Err(WRONG);
        }
        match did.method_specific_id().chars().next().ok_or(WRONG)? {
            '0' => Ok(Self::Zero),
            '2' => Ok(Self::Two),
            '3' => Ok(Self::Three),
            '4' if did.method_specific_id().contains(':') => Ok(Self::FourLong),
            '4' => Ok(Self::FourShort),
            numalgo => Err(DidError::UnsupportedNumalgo { numalgo }),
        }
    }
}

/// Refuses a key for a purpose it could never serve.
fn check_purpose(kind: KeyKind, relationship: Relationship) -> Result<(), DidError> {
    let fits = match relationship {
        Relationship::KeyAgreement => kind.can_agree(),
        _ => kind != KeyKind::X25519,
    };
    if fits { Ok(()) } else { Err(DidError::WrongPurpose { kind, relationship: relationship.member() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_told_apart_and_legacy_ones_refused() {
        let form = |text: &str| PeerForm::of(&Did::parse(text).unwrap());
        assert_eq!(form("did:peer:0z6Mk"), Ok(PeerForm::Zero));
        assert_eq!(form("did:peer:2.Vz6Mk"), Ok(PeerForm::Two));
        assert_eq!(form("did:peer:3zQm"), Ok(PeerForm::Three));
        assert_eq!(form("did:peer:4zQm:z1"), Ok(PeerForm::FourLong));
        assert_eq!(form("did:peer:4zQm"), Ok(PeerForm::FourShort));
        assert_eq!(form("did:peer:1zQm"), Err(DidError::UnsupportedNumalgo { numalgo: '1' }));
        assert_eq!(form("did:key:z6Mk"), Err(DidError::WrongMethod { expected: "did:peer" }));
    }
}
