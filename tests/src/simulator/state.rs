//! What the simulator remembers: accounts, registrations, mail, sockets.

use std::collections::{BTreeMap, BTreeSet};

use einmal_did::Did;
use tokio::sync::mpsc;

/// The whole state.
#[derive(Default)]
pub(super) struct State {
    pub(super) seen: BTreeSet<(Did, String)>,
    pub(super) accounts: BTreeSet<Did>,
    /// Registered DIDs as given, by canonical form, with their account.
    pub(super) routes: BTreeMap<Did, (Did, String)>,
    pub(super) mail: Vec<Mail>,
    pub(super) live: BTreeMap<Did, Live>,
    /// Sockets, by the account that used them last.
    pub(super) sockets: BTreeMap<Did, mpsc::Sender<Vec<u8>>>,
    pub(super) deliveries: u64,
    pub(super) taken: u64,
    /// Handshakes of WebSockets so far.
    pub(super) handshakes: u64,
    /// POST requests so far.
    pub(super) posts: u64,
    /// Messages with a request so far.
    pub(super) asked_for: u64,
    /// Types of messages that came.
    pub(super) types: BTreeSet<String>,
    /// Whether a bad envelope came from the one address all come from.
    pub(super) banned: bool,
    /// Those who answered its invitation.
    pub(super) invited: BTreeSet<Did>,
    /// Accounts granted by the old version.
    pub(super) old: BTreeSet<Did>,
    /// Accounts that have asked for mediation before.
    pub(super) asked: BTreeSet<Did>,
}

/// One waiting message.
#[derive(Clone)]
pub(super) struct Mail {
    pub(super) id: String,
    pub(super) next: Did,
    pub(super) payload: Vec<u8>,
}

/// Where to push, and in which version.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) socket: mpsc::Sender<Vec<u8>>,
    pub(super) four: bool,
    /// The account's DID as given.
    pub(super) to: Did,
}

impl State {
    /// The account that a DID is registered for.
    pub(super) fn owner(&self, did: &Did) -> Option<&Did> {
        self.routes.get(&did.canonical()).map(|(account, _)| account)
    }
}
