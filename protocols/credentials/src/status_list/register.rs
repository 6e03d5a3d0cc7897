//! The issuer's list: suspensions can end, revocations cannot.

use super::{RegisterError, Status, StatusError, StatusList};

/// A status list that enforces the issuer's rules.
///
/// A revoked entry can never become valid again, because others have acted on the revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRegister(StatusList);

impl StatusRegister {
    /// A register of at least `entries` entries, all valid. Suspension needs 2 bits or more.
    ///
    /// # Errors
    ///
    /// Those of [`StatusList::new`].
    pub fn new(bits: u8, entries: usize) -> Result<Self, StatusError> {
        Ok(Self(StatusList::new(bits, entries)?))
    }

    /// Wraps a list read back from the store.
    pub fn from_list(list: StatusList) -> Self {
        Self(list)
    }

    /// The list, to publish or to store.
    pub fn list(&self) -> &StatusList {
        &self.0
    }

    /// The entry at `index`.
    ///
    /// # Errors
    ///
    /// [`RegisterError::IndexOutOfRange`].
    pub fn status(&self, index: u64) -> Result<Status, RegisterError> {
        self.0.get(index).map_err(|_| RegisterError::IndexOutOfRange { index })
    }

    /// Revokes permanently. Repeating it changes nothing.
    ///
    /// # Errors
    ///
    /// [`RegisterError::IndexOutOfRange`].
    pub fn revoke(&mut self, index: u64) -> Result<(), RegisterError> {
        self.0.set(index, Status::Invalid)
    }

    /// Suspends until [`StatusRegister::resume`].
    ///
    /// # Errors
    ///
    /// [`RegisterError`], including [`RegisterError::RevokedIsFinal`].
    pub fn suspend(&mut self, index: u64) -> Result<(), RegisterError> {
        self.change(index, Status::Suspended)
    }

    /// Ends a suspension.
    ///
    /// # Errors
    ///
    /// [`RegisterError`], including [`RegisterError::RevokedIsFinal`].
    pub fn resume(&mut self, index: u64) -> Result<(), RegisterError> {
        self.change(index, Status::Valid)
    }

    fn change(&mut self, index: u64, status: Status) -> Result<(), RegisterError> {
        if self.status(index)? == Status::Invalid {
            return Err(RegisterError::RevokedIsFinal { index });
        }
        self.0.set(index, status)
    }
}
