//! Messages out: a connection there is, else direct addresses, else relayed ones.

use libp2p::{
    Multiaddr, PeerId,
    swarm::{
        ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::time::Instant;

use super::{Dialing, Driver, HEAD_START, SendTask};
use crate::{
    address::{MAX_ADDRESSES, is_relayed},
    codec::Request,
    host::SendError,
};

/// Most direct addresses dialled for one peer before it is given up.
const MAX_TRIED: usize = 2 * MAX_ADDRESSES;

impl Driver {
    /// Takes a message to its peer, or lets it wait for the connection that is being made.
    pub(super) fn on_send(&mut self, task: SendTask) {
        let peer_id = task.peer_id;
        if self.swarm.is_connected(&peer_id) {
            return self.request(task);
        }
        let (direct, relayed) = match self.addresses_of(&task) {
            Ok(addresses) => addresses,
            Err(error) => {
                let _ = task.done.send(Err(error));
                return;
            }
        };
        let dialing = self.dialing.entry(peer_id).or_insert_with(|| Dialing {
            attempts: Vec::new(),
            tried: Vec::new(),
            relayed: Vec::new(),
            then: Instant::now() + HEAD_START,
            waiting: Vec::new(),
        });
        dialing.waiting.push(task);
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

    /// Takes a message to a peer that is connected; nobody is dialled for it.
    pub(super) fn on_push(&mut self, task: SendTask) {
        // Asked of the very part that would dial.
        if self.swarm.behaviour().messages.is_connected(&task.peer_id) {
            return self.request(task);
        }
        let _ = task.done.send(Err(SendError::Unreachable { reason: "it is not connected" }));
    }

    /// What may be dialled to reach a peer: direct addresses, then relayed ones; not both are empty.
    fn addresses_of(&self, task: &SendTask) -> Result<(Vec<Multiaddr>, Vec<Multiaddr>), SendError> {
        let found = self.nearby.get(&task.peer_id).into_iter().flatten();
        let all: Vec<Multiaddr> = found.chain(&task.addresses).cloned().collect();
        let forbidden = !all.is_empty();
        let allowed = all.into_iter().filter(|address| self.permit.allows_address(address));
        let (relayed, direct): (Vec<_>, Vec<_>) = allowed.partition(is_relayed);
        if !relayed.is_empty() || !direct.is_empty() {
            return Ok((direct, relayed));
        }
        // A neighbour that is not found yet may be found in a moment.
        if forbidden && !self.discovers {
            return Err(SendError::Forbidden);
        }
        Err(SendError::Unreachable { reason: "no address of it is known that may be used" })
    }

    fn dial(&mut self, peer_id: PeerId, addresses: Vec<Multiaddr>) -> Option<ConnectionId> {
        let options =
            DialOpts::peer_id(peer_id).addresses(addresses).condition(PeerCondition::Always).build();
        let connection = options.connection_id();
        self.swarm.dial(options).ok().map(|()| connection)
    }

    pub(super) fn request(&mut self, task: SendTask) {
        let request = Request::Envelope { bytes: task.envelope, place: None };
        let id = self.swarm.behaviour_mut().messages.send_request(&task.peer_id, request);
        self.sent.insert(id, task.done);
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
        let under_way = self.dialing.get(&peer_id).is_none_or(|dialing| !dialing.attempts.is_empty());
        if under_way || self.dial_relayed(peer_id) {
            return;
        }
        for task in self.dialing.remove(&peer_id).into_iter().flat_map(|dialing| dialing.waiting) {
            let _ = task.done.send(Err(SendError::Unreachable { reason: "none of its addresses answers" }));
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
