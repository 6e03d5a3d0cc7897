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
    behaviour::DIALLED_AT_ONCE,
    host::SendError,
    names::is_named,
};

/// Most direct addresses of one endpoint that are dialled, those of its names among them.
const MAX_TRIED: usize = 3 * MAX_ADDRESSES;

/// An endpoint that is being connected to, and what waits for it.
///
/// Others may name the same peer elsewhere: that is another one, so that addresses made up for a peer keep no right ones
/// from being tried. Whichever is connected to first serves them all.
pub(super) struct Dialing {
    /// The addresses as they were told.
    told: Vec<Multiaddr>,
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

    /// Why the peer was not reached. A neighbour that is not found yet may be found in a moment, if somebody `discovers`.
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
        let known = self.dialing.entry(peer_id).or_default();
        if let Some(dialing) = known.iter_mut().find(|dialing| dialing.told == task.addresses) {
            dialing.waiting.push(task);
            return;
        }
        // They stay with it: the connection may be lost before it has its turn.
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

    /// Names were looked up; what they stand for is tried beside the rest.
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

    /// One that is being worked on; [`Self::go_on`] puts it back.
    fn take_dialing(&mut self, peer_id: PeerId, is_it: impl Fn(&Dialing) -> bool) -> Option<Dialing> {
        let known = self.dialing.get_mut(&peer_id)?;
        let place = known.iter().position(is_it)?;
        Some(known.swap_remove(place))
    }

    /// Dials what may be dialled and was not yet; relayed addresses have their time later.
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

    /// If nothing is under way to an endpoint any more: its relayed addresses, else the end.
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

    /// Turns to the relayed addresses of an endpoint, if there are any left.
    fn dial_relayed(&mut self, peer_id: PeerId, dialing: &mut Dialing) {
        let relayed = std::mem::take(&mut dialing.relayed);
        if !relayed.is_empty() {
            dialing.attempts.extend(self.dial(peer_id, relayed));
        }
    }

    /// Gives up what nobody waits for any more, and helps along what direct addresses keep waiting.
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
