//! Parties, peers and the exchanges that every peer library must pass: a test-only crate that is never shipped.

mod exchange;
mod mediator;
mod party;
mod play;
mod python;

pub use exchange::{
    CURVES, forwarded_by_peer, from_prior_both_ways, peer_to_us, sealed_signature_both_ways,
    signed_both_ways, us_to_peer,
};
pub use mediator::Mediator;
pub use party::{Party, Stage};
pub use play::play;
pub use python::PythonPeer;

use serde_json::Value;

/// A request to a peer to pack a message.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The plaintext message.
    pub message: &'a Value,
    /// DID of the sender for authcrypt; `None` for anoncrypt.
    pub from: Option<&'a str>,
    /// Key id of the signer, for a signature inside.
    pub signer: Option<&'a str>,
    /// DID of the recipient.
    pub to: &'a str,
    /// Content encryption of anoncrypt layers, by its JOSE name.
    pub enc: &'a str,
    /// Whether an anoncrypt layer hides the sender.
    pub hide_sender: bool,
    /// Whether the peer wraps the result for the recipient's mediator.
    pub forward: bool,
}

/// The result of a peer's unpacking.
#[derive(Clone, Debug, PartialEq)]
pub struct Unpacked {
    /// The plaintext message, without headers the peer left empty.
    pub message: Value,
    /// Key id of the authcrypt sender.
    pub sender: Option<String>,
    /// Key id of the signer.
    pub signer: Option<String>,
    /// Key id of the prior DID that signed a rotation.
    pub rotation_key: Option<String>,
}

/// Another implementation of DIDComm v2, with the documents and secrets of all parties on a [`Stage`].
pub trait Peer {
    /// Encrypts.
    fn pack(&self, order: &Order<'_>) -> String;

    /// Signs with the key `kid`, unencrypted.
    fn sign(&self, message: &Value, kid: &str) -> String;

    /// Opens an encrypted or signed envelope.
    fn unpack(&self, packed: &str) -> Unpacked;

    /// What the peer needs as `from_prior` of a message it packs: a JWT, or the claims from which it makes one.
    fn rotation(&self, claims: Value) -> Value {
        claims
    }
}
