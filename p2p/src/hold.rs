//! Connections the owner keeps open: while a peer is held, none of its connections counts as idle.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse, upgrade::DeniedUpgrade},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId,
        FromSwarm, NetworkBehaviour, NotifyHandler, SubstreamProtocol, ToSwarm,
        derive_prelude::{ConnectionClosed, ConnectionEstablished},
        handler::ConnectionEvent,
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A peer cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HoldError {
    /// There is no connection to keep open.
    #[error("the peer is not connected")]
    NotConnected,
    /// The number of holds has reached its limit.
    #[error("too many connections are held open already")]
    TooMany,
}

/// While it lives, keeps the connections with one peer from being closed as idle.
///
/// Fields are dropped in this order: when a connection checks again, it must no longer find this hold.
pub struct Held {
    over: watch::Receiver<()>,
    _place: OwnedSemaphorePermit,
    release: Release,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("peer_id", &self.release.peer_id).finish_non_exhaustive()
    }
}

impl Held {
    /// Resolves when the last connection with the peer has closed, or the host has ended.
    pub async fn ended(&mut self) {
        // Nothing is ever sent: this waits for the sender to be dropped.
        while self.over.changed().await.is_ok() {}
    }

    /// Whether [`Held::ended`] would resolve at once.
    pub fn is_over(&self) -> bool {
        self.over.has_changed().is_err()
    }

    /// Holds the peer's present connections, if it has come back after the held ones ended. This keeps the hold's
    /// place; if the limit is reached, a new hold would find none.
    ///
    /// # Errors
    ///
    /// [`HoldError::NotConnected`].
    pub fn renew(&mut self) -> Result<(), HoldError> {
        let over = self.release.holds.subscribe(self.release.peer_id)?;
        self.over = over;
        Ok(())
    }

    /// Closes all connections with the peer, even if others use them, but not those made after this hold has ended.
    pub fn hang_up(self) {
        if self.is_over() {
            return;
        }
        self.release.holds.change(self.release.peer_id, |state, peer_id| state.doomed.insert(peer_id));
    }
}

/// Tells connections that they may count as idle now.
struct Release {
    holds: Arc<Holds>,
    peer_id: PeerId,
}

impl Drop for Release {
    fn drop(&mut self) {
        self.holds.change(self.peer_id, |state, peer_id| state.released.insert(peer_id));
    }
}

/// The connected peers, and which of them are held.
pub(crate) struct Holds {
    state: Mutex<State>,
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    peers: HashMap<PeerId, Peer>,
    /// Released peers whose connections do not know it yet.
    released: BTreeSet<PeerId>,
    /// Peers whose connections are to be closed.
    doomed: BTreeSet<PeerId>,
    waker: Option<Waker>,
}

/// A connected peer. The receivers of its end are the holds on it.
#[derive(Default)]
struct Peer {
    connections: Vec<ConnectionId>,
    over: watch::Sender<()>,
}

impl Holds {
    /// Allows at most `most` holds at once.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), places: Arc::new(Semaphore::new(most)) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn hold(self: &Arc<Self>, peer_id: PeerId) -> Result<Held, HoldError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| HoldError::TooMany)?;
        let over = self.subscribe(peer_id)?;
        Ok(Held { over, _place: place, release: Release { holds: Arc::clone(self), peer_id } })
    }

    fn subscribe(&self, peer_id: PeerId) -> Result<watch::Receiver<()>, HoldError> {
        let over = self.state().peers.get(&peer_id).map(|peer| peer.over.subscribe());
        over.ok_or(HoldError::NotConnected)
    }

    fn is_held(&self, peer_id: &PeerId) -> bool {
        self.state().peers.get(peer_id).is_some_and(|peer| peer.over.receiver_count() > 0)
    }

    /// Changes the state of a peer, if it is still connected, and has its connections check it.
    fn change(&self, peer_id: PeerId, note: impl FnOnce(&mut State, PeerId) -> bool) {
        let mut state = self.state();
        if !state.peers.contains_key(&peer_id) {
            return;
        }
        note(&mut state, peer_id);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

/// Tells a connection to check again whether it is idle.
#[derive(Debug)]
pub(crate) struct Look;

/// Speaks no protocol, and only decides which connections stay open.
pub(crate) struct Behaviour {
    holds: Arc<Holds>,
    looks: VecDeque<(PeerId, ConnectionId)>,
}

impl Behaviour {
    pub(crate) fn new(holds: Arc<Holds>) -> Self {
        Self { holds, looks: VecDeque::new() }
    }

    fn handler(&self, peer_id: PeerId) -> Handler {
        Handler { holds: Arc::clone(&self.holds), peer_id }
    }
}

impl Drop for Behaviour {
    fn drop(&mut self) {
        // When the host ends, every hold ends with it.
        self.holds.state().peers.clear();
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer_id: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer_id))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer_id: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer_id))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let mut state = self.holds.state();
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, .. }) => {
                state.peers.entry(peer_id).or_default().connections.push(connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                let Some(peer) = state.peers.get_mut(&peer_id) else { return };
                peer.connections.retain(|one| *one != connection_id);
                if peer.connections.is_empty() {
                    state.peers.remove(&peer_id);
                    state.released.remove(&peer_id);
                    state.doomed.remove(&peer_id);
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Look>> {
        let mut state = self.holds.state();
        while let Some(peer_id) = state.released.pop_first() {
            let connections = state.peers.get(&peer_id).into_iter().flat_map(|peer| &peer.connections);
            self.looks.extend(connections.map(|connection| (peer_id, *connection)));
        }
        if let Some(peer_id) = state.doomed.pop_first() {
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::All });
        }
        if let Some((peer_id, connection)) = self.looks.pop_front() {
            let handler = NotifyHandler::One(connection);
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event: Look });
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Decides for one connection whether it stays open.
pub(crate) struct Handler {
    holds: Arc<Holds>,
    peer_id: PeerId,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Look;
    type ToBehaviour = Infallible;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.holds.is_held(&self.peer_id)
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Infallible>> {
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, Look: Look) {
        // The connection asks again by itself whenever it is woken.
    }

    fn on_connection_event(&mut self, _: ConnectionEvent<'_, DeniedUpgrade, DeniedUpgrade>) {}
}
