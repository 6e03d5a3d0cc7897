//! The issuer's list: suspension comes and goes, revocation stays.

use super::{RegisterError, Status, StatusError, StatusList};

/// A status list under the rules for its issuer.
///
/// There is no way to make a revoked entry valid again: whoever saw it revoked acted on that.
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

    /// Takes up a list read back from the store.
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

    /// Revokes for good. Doing it again changes nothing.
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
    /// [`RegisterError`], [`RegisterError::RevokedIsFinal`] among them.
    pub fn suspend(&mut self, index: u64) -> Result<(), RegisterError> {
        self.change(index, Status::Suspended)
    }

    /// Ends a suspension.
    ///
    /// # Errors
    ///
    /// [`RegisterError`], [`RegisterError::RevokedIsFinal`] among them.
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
