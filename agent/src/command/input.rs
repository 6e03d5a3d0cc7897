//! What each command is told: one struct each, and nothing else is taken.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Nothing.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// A text for a peer.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendText {
    /// The peer's DID, or the label of the relationship with it.
    pub to: String,
    /// What it is told.
    pub text: String,
    /// In every relationship with it, not only in the newest.
    #[serde(default)]
    pub all: bool,
}

/// An invitation to connect.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// The person of the register it is for; anybody otherwise.
    #[serde(default)]
    pub person: Option<String>,
}

/// An offer of a credential.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Name of the credential template.
    pub template: String,
    /// The person of the register it is for.
    #[serde(default)]
    pub person: Option<String>,
    /// For whoever answers this request template with a valid presentation.
    #[serde(default)]
    pub after: Option<String>,
    /// Seconds the card is valid, if fewer than the template says.
    #[serde(default)]
    pub valid_for: Option<u64>,
    /// To the person's phone at once, over the relationship there is.
    #[serde(default)]
    pub direct: bool,
}

/// A credential to be revoked.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Its id.
    pub credential: String,
    /// One of the template's reasons.
    pub reason: String,
}

/// A person of the register.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Its id there.
    pub person: String,
}

/// One person of the register, or everybody.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfPerson {
    /// Its id there; everybody otherwise.
    #[serde(default)]
    pub person: Option<String>,
}

/// Devices to be taken off a person.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unbind {
    /// The person of the register.
    pub person: String,
    /// Only this one; all of them otherwise.
    #[serde(default)]
    pub device: Option<String>,
}

/// An invitation or an exchange.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thread {
    /// The thread it goes by.
    pub thread: String,
}

/// A template by which a proof is asked for.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Its name.
    pub template: String,
}

/// An account or a recipient of a mediator.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropId {
    /// The digest it goes by.
    pub id: String,
}

/// An invitation to be taken.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// The invitation.
    pub url: String,
    /// Its user agrees in advance to what it leads to.
    #[serde(default)]
    pub yes: bool,
    /// It is our mediator's, whatever goal it names.
    #[serde(default)]
    pub mediator: bool,
}

/// What the user of a citizen decides. There is no decision by default.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    /// The thread that waits for it.
    pub thread: String,
    /// Whether they agree.
    pub agree: bool,
    /// What they were shown and agree to, as `progress` named it; who declines need not say.
    #[serde(default)]
    pub shown: Option<String>,
}

/// A card.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Its id in this wallet.
    pub card: String,
}

/// A peer.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerName {
    /// Its DID.
    pub peer: String,
}

/// Inputs hold personal data: only their kind may be printed.
macro_rules! withheld {
    ($($input:ident),+ $(,)?) => {
        $(impl fmt::Debug for $input {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($input)).finish_non_exhaustive()
            }
        })+
    };
}

withheld!(
    Nothing, SendText, Invite, Offer, Revoke, Person, OfPerson, Unbind, Thread, Template, DropId, Accept,
    Decide, Card, PeerName,
);
