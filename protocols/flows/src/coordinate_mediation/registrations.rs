//! What the mediator's decisions read and what they change.

use einmal_did::Did;

/// A registration: messages for a DID go to `account`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The account, canonical.
    pub account: Did,
    /// Whether the DID itself agreed, proved by its keys.
    pub proved: bool,
}

/// The registrations cannot be read at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the registrations cannot be read at present")]
pub struct Unavailable;

/// The present registrations. All DIDs are canonical, both arguments and results.
pub trait Registrations {
    /// Whether mediation was granted to `account`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    fn is_account(&self, account: &Did) -> Result<bool, Unavailable>;

    /// The registration of `recipient`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    fn owner(&self, recipient: &Did) -> Result<Option<Registration>, Unavailable>;

    /// At most `limit` DIDs of `account` after the first `offset`, in an order that does not change.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    fn list(&self, account: &Did, offset: usize, limit: usize) -> Result<Vec<Did>, Unavailable>;

    /// How many DIDs are registered for `account`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    fn count(&self, account: &Did) -> Result<usize, Unavailable>;
}

/// A change to commit in the same batch that queues the answer. DIDs are canonical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationChange {
    /// Opens an account; for an existing one, records the version of this request.
    Enroll {
        /// The account.
        account: Did,
    },
    /// Sends messages for `recipient` to `registration.account`, no matter which account had them before.
    Put {
        /// The DID.
        recipient: Did,
        /// The DID as the account wrote it: it is listed so, for wallets compare texts.
        form: Did,
        /// The new registration.
        registration: Registration,
    },
    /// Accepts no more messages for `recipient`.
    Remove {
        /// The DID.
        recipient: Did,
        /// The account that had it.
        account: Did,
    },
}

impl RegistrationChange {
    /// The DID whose registration changes, if any does.
    pub(super) fn recipient(&self) -> Option<&Did> {
        match self {
            Self::Enroll { .. } => None,
            Self::Put { recipient, .. } | Self::Remove { recipient, .. } => Some(recipient),
        }
    }
}
