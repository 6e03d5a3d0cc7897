//! Outgoing messages: over an existing connection, else to direct addresses, else to relayed ones.

use libp2p::{
    Multiaddr, PeerId,
    swarm::{
        ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{task, time::Instant};

use super::{Driver, HEAD_START, SendTask};
use crate::{
    address::{MAX_ADDRESSES, is_relayed},
    behaviour::DIALLED_AT_ONCE,
    host::SendError,
    names::is_named,
};

/// Most direct addresses dialled for one endpoint, including those found by name.
const MAX_TRIED: usize = 3 * MAX_ADDRESSES;

/// An endpoint being dialled, and the messages that wait for it.
///
/// If others name different addresses for the same peer, that is a separate endpoint, so that made-up addresses do not
/// keep the right ones from being tried. Whichever connects first serves them all.
pub(super) struct Dialing {
    /// The addresses as given.
    told: Vec<Multiaddr>,
    attempts: Vec<ConnectionId>,
    /// Name look-ups that may yield more addresses.
    naming: Vec<task::Id>,
    /// Direct addresses dialled so far.
    tried: Vec<Multiaddr>,
    /// Tried when the direct addresses have failed, or have not answered by `then`.
    relayed: Vec<Multiaddr>,
    then: Instant,
    pub(super) waiting: Vec<SendTask>,
    /// Whether some address may be dialled.
    is_known: bool,
    /// Whether some address must not be dialled.
    is_forbidden: bool,
}

impl Dialing {
    fn new(told: Vec<Multiaddr>) -> Self {
        Self {
            told,
            attempts: Vec::new(),
            naming: Vec::new(),
            tried: Vec::new(),
            relayed: Vec::new(),
            then: Instant::now() + HEAD_START,
            waiting: Vec::new(),
            is_known: false,
            is_forbidden: false,
        }
    }

    fn is_under_way(&self) -> bool {
        !self.attempts.is_empty() || !self.naming.is_empty()
    }

    /// Why the peer was not reached. If discovery is on (`discovers`), an unknown neighbour may still be found soon.
    fn failure(&self, discovers: bool) -> SendError {
        match self {
            Self { is_known: true, .. } => SendError::Unreachable { reason: "none of its addresses answers" },
            Self { is_forbidden: true, .. } if !discovers => SendError::Forbidden,
            _ => SendError::Unreachable { reason: "no address of it is known that may be used" },
        }
    }

    fn fail(self, discovers: bool) {
        let failure = self.failure(discovers);
        for task in self.waiting {
            let _ = task.done.send(Err(failure.clone()));
        }
    }
}

/// Most addresses of one endpoint that are looked up by name, because an unresponsive name server holds a place for
/// each.
const MAX_NAMED: usize = 4;

impl Driver {
    /// Sends a message to its peer, or lets it wait for the connection being made.
    pub(super) fn on_send(&mut self, task: SendTask) {
        let peer_id = task.peer_id;
        if self.is_connected(peer_id) {
            return self.request(task);
        }
        if !task.dials {
            let _ = task.done.send(Err(SendError::Unreachable { reason: "it is not connected" }));
            return;
        }
        let known = self.dialing.entry(peer_id).or_default();
        if let Some(dialing) = known.iter_mut().find(|dialing| dialing.told == task.addresses) {
            dialing.waiting.push(task);
            return;
        }
        // The task keeps its addresses: the connection may be lost before its turn comes.
        let mut dialing = Dialing::new(task.addresses.clone());
        let found = self.nearby.get(&peer_id).into_iter().flatten().cloned();
        let (mut named, literal): (Vec<_>, Vec<_>) = found.chain(task.addresses.clone()).partition(is_named);
        dialing.waiting.push(task);
        named.truncate(MAX_NAMED);
        if !named.is_empty() {
            let names = self.names.clone();
            let lookup = self.naming.spawn(async move { (peer_id, names.resolve(named).await) });
            dialing.naming.push(lookup.id());
        }
        self.dial_all(peer_id, &mut dialing, literal);
        self.go_on(peer_id, dialing);
    }

    /// Names were looked up; the addresses found are tried as well.
    pub(super) fn on_named(&mut self, lookup: task::Id, peer_id: PeerId, found: Vec<Multiaddr>) {
        let Some(mut dialing) = self.take_dialing(peer_id, |one| one.naming.contains(&lookup)) else {
            return;
        };
        dialing.naming.retain(|one| *one != lookup);
        self.dial_all(peer_id, &mut dialing, found);
        self.go_on(peer_id, dialing);
    }

    /// One attempt to connect to a peer failed.
    pub(super) fn on_dial_failure(&mut self, peer_id: PeerId, connection: ConnectionId) {
        let Some(mut dialing) = self.take_dialing(peer_id, |one| one.attempts.contains(&connection)) else {
            return;
        };
        dialing.attempts.retain(|attempt| *attempt != connection);
        self.go_on(peer_id, dialing);
    }

    /// Takes out an endpoint to work on; [`Self::go_on`] puts it back.
    fn take_dialing(&mut self, peer_id: PeerId, is_it: impl Fn(&Dialing) -> bool) -> Option<Dialing> {
        let known = self.dialing.get_mut(&peer_id)?;
        let place = known.iter().position(is_it)?;
        Some(known.swap_remove(place))
    }

    /// Dials the permitted addresses not dialled yet; relayed addresses get their turn later.
    fn dial_all(&mut self, peer_id: PeerId, dialing: &mut Dialing, addresses: Vec<Multiaddr>) {
        let (allowed, forbidden): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|address| self.permit.allows_address(address));
        dialing.is_known |= !allowed.is_empty();
        dialing.is_forbidden |= !forbidden.is_empty();
        let (relayed, direct): (Vec<_>, Vec<_>) = allowed.into_iter().partition(is_relayed);
        let room = MAX_ADDRESSES.saturating_sub(dialing.relayed.len());
        dialing.relayed.extend(relayed.into_iter().take(room));
        let room = MAX_TRIED.saturating_sub(dialing.tried.len()).min(DIALLED_AT_ONCE.get().into());
        let fresh: Vec<_> =
            direct.into_iter().filter(|one| !dialing.tried.contains(one)).take(room).collect();
        dialing.tried.extend(fresh.iter().cloned());
        if !fresh.is_empty() {
            dialing.attempts.extend(self.dial(peer_id, fresh));
        }
    }

    fn dial(&mut self, peer_id: PeerId, addresses: Vec<Multiaddr>) -> Option<ConnectionId> {
        let options =
            DialOpts::peer_id(peer_id).addresses(addresses).condition(PeerCondition::Always).build();
        let connection = options.connection_id();
        self.swarm.dial(options).ok().map(|()| connection)
    }

    /// If nothing more is in progress for an endpoint, tries its relayed addresses, or else gives up.
    fn go_on(&mut self, peer_id: PeerId, mut dialing: Dialing) {
        if !dialing.is_under_way() {
            self.dial_relayed(peer_id, &mut dialing);
        }
        if dialing.is_under_way() {
            self.dialing.entry(peer_id).or_default().push(dialing);
            return;
        }
        dialing.fail(self.discovers);
        if self.dialing.get(&peer_id).is_some_and(Vec::is_empty) {
            self.dialing.remove(&peer_id);
        }
    }

    /// Dials the relayed addresses of an endpoint, if any are left.
    fn dial_relayed(&mut self, peer_id: PeerId, dialing: &mut Dialing) {
        let relayed = std::mem::take(&mut dialing.relayed);
        if !relayed.is_empty() {
            dialing.attempts.extend(self.dial(peer_id, relayed));
        }
    }

    /// Gives up endpoints that nobody waits for any more, and moves on to relayed addresses if direct ones are slow.
    pub(super) fn look_after_dialing(&mut self, now: Instant) {
        self.dialing.retain(|_, known| {
            known.retain_mut(|dialing| {
                dialing.waiting.retain(|task| !task.done.is_closed());
                !dialing.waiting.is_empty()
            });
            !known.is_empty()
        });
        let is_due = |dialing: &mut Dialing| dialing.then <= now && !dialing.relayed.is_empty();
        let due: Vec<(PeerId, Dialing)> = self
            .dialing
            .iter_mut()
            .flat_map(|(peer, known)| known.extract_if(.., is_due).map(move |dialing| (*peer, dialing)))
            .collect();
        for (peer_id, mut dialing) in due {
            self.dial_relayed(peer_id, &mut dialing);
            self.go_on(peer_id, dialing);
        }
    }
}
