//! Messages out: a connection there is, else direct addresses, else relayed ones.

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
    host::SendError,
    names::is_named,
};

/// Most direct addresses dialled for one peer before it is given up.
const MAX_TRIED: usize = 2 * MAX_ADDRESSES;

/// A peer that is being connected to, and what waits for it.
pub(super) struct Dialing {
    attempts: Vec<ConnectionId>,
    /// Look-ups of names that may bring more addresses.
    naming: Vec<task::Id>,
    /// Direct addresses dialled so far.
    tried: Vec<Multiaddr>,
    /// Tried when the direct addresses failed, or have not answered at `then`.
    relayed: Vec<Multiaddr>,
    then: Instant,
    pub(super) waiting: Vec<SendTask>,
    /// Some address may be dialled.
    is_known: bool,
    /// Some address must not be dialled.
    is_forbidden: bool,
}

impl Dialing {
    fn new() -> Self {
        Self {
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

    /// Why the peer was not reached. A neighbour that is not found yet may be found in a moment, if somebody `discovers`.
    fn failure(&self, discovers: bool) -> SendError {
        match self {
            Self { is_known: true, .. } => SendError::Unreachable { reason: "none of its addresses answers" },
            Self { is_forbidden: true, .. } if !discovers => SendError::Forbidden,
            _ => SendError::Unreachable { reason: "no address of it is known that may be used" },
        }
    }
}

/// Most addresses of one endpoint that are looked up by name: a name server that does not answer holds a place for each.
const MAX_NAMED: usize = 4;

impl Driver {
    /// Takes a message to its peer, or lets it wait for the connection that is being made.
    pub(super) fn on_send(&mut self, task: SendTask) {
        let peer_id = task.peer_id;
        if self.is_connected(peer_id) {
            return self.request(task);
        }
        if !task.dials {
            let _ = task.done.send(Err(SendError::Unreachable { reason: "it is not connected" }));
            return;
        }
        // They stay with it: the connection may be lost before it has its turn.
        let told = task.addresses.clone();
        let found = self.nearby.get(&peer_id).into_iter().flatten().cloned();
        let (mut named, literal): (Vec<_>, Vec<_>) = found.chain(told).partition(is_named);
        named.truncate(MAX_NAMED);
        let dialing = self.dialing.entry(peer_id).or_insert_with(Dialing::new);
        dialing.waiting.push(task);
        if !named.is_empty() {
            let names = self.names.clone();
            let lookup = self.naming.spawn(async move { (peer_id, names.resolve(named).await) });
            dialing.naming.push(lookup.id());
        }
        self.dial_all(peer_id, literal);
    }

    /// Names were looked up; what they stand for is tried beside the rest.
    pub(super) fn on_named(&mut self, lookup: task::Id, peer_id: PeerId, found: Vec<Multiaddr>) {
        let Some(dialing) = self.dialing.get_mut(&peer_id) else { return };
        dialing.naming.retain(|one| *one != lookup);
        self.dial_all(peer_id, found);
    }

    /// Dials what may be dialled and was not yet; relayed addresses have their time later.
    fn dial_all(&mut self, peer_id: PeerId, addresses: Vec<Multiaddr>) {
        let Some(dialing) = self.dialing.get_mut(&peer_id) else { return };
        let (allowed, forbidden): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|address| self.permit.allows_address(address));
        dialing.is_known |= !allowed.is_empty();
        dialing.is_forbidden |= !forbidden.is_empty();
        let (relayed, direct): (Vec<_>, Vec<_>) = allowed.into_iter().partition(is_relayed);
        let room = MAX_ADDRESSES.saturating_sub(dialing.relayed.len());
        dialing.relayed.extend(relayed.into_iter().take(room));
        // Addresses another message brought may have been wrong ones: those of this one are tried as well.
        let room = MAX_TRIED.saturating_sub(dialing.tried.len());
        let fresh: Vec<_> =
            direct.into_iter().filter(|one| !dialing.tried.contains(one)).take(room).collect();
        dialing.tried.extend(fresh.iter().cloned());
        if !fresh.is_empty()
            && let Some(attempt) = self.dial(peer_id, fresh)
            && let Some(dialing) = self.dialing.get_mut(&peer_id)
        {
            dialing.attempts.push(attempt);
        }
        self.go_on(peer_id);
    }

    fn dial(&mut self, peer_id: PeerId, addresses: Vec<Multiaddr>) -> Option<ConnectionId> {
        let options =
            DialOpts::peer_id(peer_id).addresses(addresses).condition(PeerCondition::Always).build();
        let connection = options.connection_id();
        self.swarm.dial(options).ok().map(|()| connection)
    }

    /// One attempt to connect to a peer failed.
    pub(super) fn on_dial_failure(&mut self, peer_id: PeerId, connection: ConnectionId) {
        if let Some(dialing) = self.dialing.get_mut(&peer_id) {
            dialing.attempts.retain(|attempt| *attempt != connection);
            self.go_on(peer_id);
        }
    }

    /// If nothing is under way to a peer any more: its relayed addresses, else the end.
    fn go_on(&mut self, peer_id: PeerId) {
        let under_way = self
            .dialing
            .get(&peer_id)
            .is_none_or(|dialing| !dialing.attempts.is_empty() || !dialing.naming.is_empty());
        if under_way || self.dial_relayed(peer_id) {
            return;
        }
        let Some(dialing) = self.dialing.remove(&peer_id) else { return };
        let failure = dialing.failure(self.discovers);
        for task in dialing.waiting {
            let _ = task.done.send(Err(failure.clone()));
        }
    }

    /// Turns to the relayed addresses of a peer, if there are any left.
    fn dial_relayed(&mut self, peer_id: PeerId) -> bool {
        let relayed = self.dialing.get_mut(&peer_id).map(|dialing| std::mem::take(&mut dialing.relayed));
        let Some(relayed) = relayed.filter(|relayed| !relayed.is_empty()) else { return false };
        let attempt = self.dial(peer_id, relayed);
        if let (Some(attempt), Some(dialing)) = (attempt, self.dialing.get_mut(&peer_id)) {
            dialing.attempts.push(attempt);
        }
        attempt.is_some()
    }

    /// Gives up what nobody waits for any more, and helps along what direct addresses keep waiting.
    pub(super) fn look_after_dialing(&mut self, now: Instant) {
        self.dialing.retain(|_, dialing| {
            dialing.waiting.retain(|task| !task.done.is_closed());
            !dialing.waiting.is_empty()
        });
        let due: Vec<PeerId> =
            self.dialing.iter().filter(|(_, dialing)| dialing.then <= now).map(|(peer, _)| *peer).collect();
        for peer_id in due {
            self.dial_relayed(peer_id);
        }
    }
}
