//! The loop that owns the swarm: commands in, events out, reservations kept.

mod lanes;
mod out;
mod own;
mod relays;

use std::{collections::HashMap, future::pending, sync::Arc, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, autonat, ping, relay,
    request_response::{self, Message, OutboundFailure, OutboundRequestId, ResponseChannel},
    swarm::{ConnectionId, SwarmEvent},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{self, JoinSet},
    time::Instant,
};

use self::{
    lanes::{Lane, Sent},
    out::Dialing,
    relays::Relay,
};
use crate::{
    address::is_relayed,
    behaviour::{Protocols, ProtocolsEvent},
    codec::{Request, Status},
    guard::Permit,
    host::{HostConfig, Inbound, P2pError, Route, SendError},
    names::Names,
    places::{Place, Places},
};

/// Most peers remembered from the local network.
const MAX_NEARBY: usize = 256;
/// How often due work is checked.
const TICK: Duration = Duration::from_secs(1);
/// How long direct addresses are tried before a relayed one is tried as well.
const HEAD_START: Duration = Duration::from_secs(2);
/// How long unanswered messages on a relayed connection may still finish after a direct one was made.
const GRACE: Duration = Duration::from_secs(5);

/// Requests from the host's owner.
pub(crate) enum Command {
    Send(SendTask),
    Route { peer_id: PeerId, done: oneshot::Sender<Option<Route>> },
}

/// One message to be delivered.
pub(crate) struct SendTask {
    pub(crate) peer_id: PeerId,
    /// As in the peer's endpoint.
    pub(crate) addresses: Vec<Multiaddr>,
    pub(crate) envelope: Vec<u8>,
    /// Whether to dial; otherwise it is sent over an existing connection or not at all.
    pub(crate) dials: bool,
    pub(crate) done: oneshot::Sender<Result<Status, SendError>>,
}

struct Connection {
    peer_id: PeerId,
    relayed: bool,
    /// Whether it was made by us, at an address that somebody named for the peer.
    is_ours: bool,
}

/// Owner of the swarm.
pub(crate) struct Driver {
    swarm: Swarm<Protocols>,
    inbound: Arc<dyn Inbound>,
    commands: mpsc::Receiver<Command>,
    told: watch::Sender<Vec<Multiaddr>>,
    announce: Vec<Multiaddr>,
    serves_relay: bool,
    discovers: bool,
    permit: Permit,
    handling: Arc<Places>,
    handled: JoinSet<(ResponseChannel<Status>, Status)>,
    dialing: HashMap<PeerId, Vec<Dialing>>,
    naming: JoinSet<(PeerId, Vec<Multiaddr>)>,
    names: Names,
    lanes: HashMap<PeerId, Lane>,
    sent: HashMap<OutboundRequestId, Sent>,
    connections: HashMap<ConnectionId, Connection>,
    closing: Vec<(Instant, ConnectionId)>,
    nearby: HashMap<PeerId, Vec<Multiaddr>>,
    relays: Vec<Relay>,
    resolving: JoinSet<(usize, Vec<Multiaddr>)>,
}

impl Driver {
    pub(crate) fn new(
        swarm: Swarm<Protocols>,
        inbound: Arc<dyn Inbound>,
        commands: mpsc::Receiver<Command>,
        config: &HostConfig,
    ) -> Result<Self, P2pError> {
        let mut driver = Self {
            swarm,
            inbound,
            commands,
            told: watch::Sender::new(Vec::new()),
            announce: config.announce.clone(),
            serves_relay: config.relay_server.is_some(),
            discovers: config.mdns,
            permit: config.permit.clone(),
            handling: Places::new(config.bounds.handling),
            handled: JoinSet::new(),
            dialing: HashMap::new(),
            naming: JoinSet::new(),
            names: Names::default(),
            lanes: HashMap::new(),
            sent: HashMap::new(),
            connections: HashMap::new(),
            closing: Vec::new(),
            nearby: HashMap::new(),
            relays: Relay::all(&config.relays)?,
            resolving: JoinSet::new(),
        };
        for address in &config.announce {
            driver.swarm.add_external_address(address.clone());
        }
        Ok(driver)
    }

    pub(crate) fn addresses(&self) -> watch::Receiver<Vec<Multiaddr>> {
        self.told.subscribe()
    }

    /// Binds every address; returns when it listens on all of them.
    pub(crate) async fn listen(&mut self, addresses: &[Multiaddr]) -> Result<(), P2pError> {
        let failed =
            |address: &Multiaddr, reason: String| P2pError::Listen { address: address.clone(), reason };
        let mut waiting = HashMap::new();
        for address in addresses {
            let id = self.swarm.listen_on(address.clone()).map_err(|e| failed(address, in_words(&e)))?;
            waiting.insert(id, address);
        }
        while !waiting.is_empty() {
            let event = self.swarm.select_next_some().await;
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => {
                    waiting.remove(listener_id);
                }
                SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                    if let Some(address) = waiting.get(listener_id) {
                        let reason =
                            reason.as_ref().err().map_or_else(|| "it was closed".into(), |e| in_words(e));
                        return Err(failed(address, reason));
                    }
                }
                _ => {}
            }
            self.on_event(event);
        }
        self.tell_addresses();
        Ok(())
    }

    /// Works until the host is dropped.
    pub(crate) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                command = self.commands.recv() => match command {
                    Some(Command::Send(task)) => self.on_send(task),
                    Some(Command::Route { peer_id, done }) => {
                        let _ = done.send(self.route_to(peer_id));
                    }
                    None => return,
                },
                Some(answer) = self.handled.join_next() => if let Ok((channel, status)) = answer {
                    // The sender may have stopped waiting.
                    let _ = self.swarm.behaviour_mut().messages.send_response(channel, status);
                },
                (_, (index, addresses)) = next_of(&mut self.resolving) => self.reserve(index, addresses),
                (lookup, (peer_id, found)) = next_of(&mut self.naming) => self.on_named(lookup, peer_id, found),
                _ = tick.tick() => self.on_tick(),
            }
        }
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        self.look_after_dialing(now);
        self.look_after_relays(now);
        self.look_after_discovery();
        let due: Vec<ConnectionId> =
            self.closing.extract_if(.., |(end, _)| *end <= now).map(|(_, connection)| connection).collect();
        for connection in due {
            self.swarm.close_connection(connection);
        }
    }

    fn route_to(&self, peer_id: PeerId) -> Option<Route> {
        let mut ways =
            self.connections.values().filter(|connection| connection.peer_id == peer_id).peekable();
        ways.peek()?;
        Some(if ways.any(|connection| !connection.relayed) { Route::Direct } else { Route::Relayed })
    }

    fn on_request(&mut self, from: PeerId, request: Request, channel: ResponseChannel<Status>) {
        let messages = &mut self.swarm.behaviour_mut().messages;
        match request {
            Request::TooLarge => {
                let _ = messages.send_response(channel, Status::TooLarge);
            }
            Request::Busy => {
                let _ = messages.send_response(channel, Status::Busy);
            }
            Request::Envelope { bytes, place } => {
                let source = place.as_ref().map(Place::source);
                let taken = source.and_then(|source| Some((source, self.handling.take(source)?)));
                let Some((source, slot)) = taken else {
                    let _ = messages.send_response(channel, Status::Busy);
                    return;
                };
                let taken = self.inbound.receive(from, source, bytes);
                self.handled.spawn(async move {
                    let status = taken.await;
                    drop((slot, place));
                    (channel, status)
                });
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<ProtocolsEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_protocol(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let relayed = endpoint.is_relayed();
                self.connections
                    .insert(connection_id, Connection { peer_id, relayed, is_ours: endpoint.is_dialer() });
                if !relayed {
                    self.prefer_direct(peer_id);
                }
                let how = if relayed { "through a relay" } else { "directly" };
                tracing::debug!("a peer is connected {how}");
                self.on_relay_connected(peer_id, &endpoint);
                let served = self.dialing.remove(&peer_id).into_iter().flatten();
                for task in served.flat_map(|dialing| dialing.waiting) {
                    self.request(task);
                }
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => {
                self.connections.remove(&connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id: Some(peer_id), error } => {
                tracing::debug!(%error, "a peer was not connected to");
                self.on_dial_failure(peer_id, connection_id);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                if self.serves_relay
                    && self.announce.is_empty()
                    && !is_relayed(&address)
                    && self.may_be_told(&address)
                {
                    // A relay tells clients with reservations how they can be reached; it was configured to be
                    // reachable.
                    self.swarm.add_external_address(address);
                }
                self.tell_addresses();
            }
            SwarmEvent::ListenerClosed { listener_id, .. } => {
                self.on_listener_closed(listener_id);
                self.tell_addresses();
            }
            SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. } => self.tell_addresses(),
            _ => {}
        }
    }

    fn on_protocol(&mut self, event: ProtocolsEvent) {
        match event {
            ProtocolsEvent::Messages(event) => self.on_message(event),
            ProtocolsEvent::Mdns(event) => self.on_discovery(event),
            ProtocolsEvent::Ping(ping::Event { connection, result: Err(error), .. })
                if !matches!(error, ping::Failure::Unsupported) =>
            {
                // Nobody is there any more: better to find out now than with the next message.
                self.swarm.close_connection(connection);
            }
            ProtocolsEvent::RelayClient(relay::client::Event::ReservationReqAccepted {
                relay_peer_id,
                ..
            }) => self.on_reservation(relay_peer_id),
            ProtocolsEvent::Dcutr(event) => match event.result {
                Ok(_) => tracing::info!("a hole was punched: a relayed peer is now reached directly"),
                Err(error) => tracing::info!(%error, "no hole was punched; the relay stays in use"),
            },
            ProtocolsEvent::AutonatClient(autonat::v2::client::Event { result, .. }) => match result {
                Ok(()) => tracing::debug!("a peer says that it reaches an address of ours"),
                Err(error) => {
                    tracing::debug!(%error, "a peer says that it does not reach an address of ours")
                }
            },
            _ => {}
        }
    }

    fn on_message(&mut self, event: request_response::Event<Request, Status>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request, channel, .. } => self.on_request(peer, request, channel),
                Message::Response { request_id, response } => self.on_answer(request_id, response),
            },
            request_response::Event::OutboundFailure { request_id, connection_id, error, .. } => {
                if matches!(error, OutboundFailure::Timeout) {
                    self.give_up_way(connection_id);
                }
                self.on_request_failure(request_id, &error);
            }
            _ => {}
        }
    }

    /// A peer did not answer on this connection. If we made it, it is closed: whoever named its address may sit between, and the next
    /// message tries the addresses its own endpoint names.
    fn give_up_way(&mut self, connection: ConnectionId) {
        if self.connections.get(&connection).is_some_and(|held| held.is_ours) {
            self.swarm.close_connection(connection);
        }
    }

    /// A direct connection was made: relayed ones to the same peer are closed after some time to finish.
    fn prefer_direct(&mut self, peer_id: PeerId) {
        let end = Instant::now() + GRACE;
        let relayed = self.connections.iter().filter(|(_, held)| held.peer_id == peer_id && held.relayed);
        self.closing.extend(relayed.map(|(id, _)| (end, *id)));
    }
}

/// An error with what lies below it: some of the library's say nothing themselves, or not what the system said.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !text.is_empty() && !words.iter().any(|known| known.contains(&text)) {
            words.push(text);
        }
        next = error.source();
    }
    if words.is_empty() { format!("{error:?}") } else { words.join(": ") }
}

/// Which of `tasks` ended next, and what it has brought; waits as long as there is none.
async fn next_of<T: 'static>(tasks: &mut JoinSet<T>) -> (task::Id, T) {
    loop {
        match tasks.join_next_with_id().await {
            Some(Ok(found)) => return found,
            Some(Err(_)) => {}
            None => return pending().await,
        }
    }
}
