//! The loop that owns the swarm: commands in, events out, reservations kept.

use std::{
    collections::{HashMap, HashSet},
    future::pending,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, autonat,
    core::{ConnectedPoint, transport::ListenerId},
    mdns,
    multiaddr::Protocol,
    ping, relay,
    request_response::{self, Message, OutboundFailure, OutboundRequestId, ResponseChannel},
    swarm::{
        ConnectionId, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
    time::Instant,
};

use crate::{
    address::{MAX_ADDRESSES, first_ip, is_relayed, resolved},
    behaviour::{Protocols, ProtocolsEvent},
    codec::{Request, Status},
    guard::Permit,
    host::{HostConfig, Inbound, P2pError, Route, SendError},
};

/// Most peers remembered from the local network.
const MAX_NEARBY: usize = 256;
/// How often what is due is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Pause before a relay is asked again, doubled up to [`LONGEST_RELAY_PAUSE`].
const FIRST_RELAY_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause before a relay is asked again.
const LONGEST_RELAY_PAUSE: Duration = Duration::from_secs(60);
/// What direct addresses have before a relayed one is tried beside them.
const HEAD_START: Duration = Duration::from_secs(2);
/// What is under way on a relayed connection may end after a direct one was made.
const GRACE: Duration = Duration::from_secs(5);

/// What the host's owner asks for.
pub(crate) enum Command {
    Send(SendTask),
    Route { peer_id: PeerId, done: oneshot::Sender<Option<Route>> },
}

/// One message to be handed over. Its addresses begin with literal ones.
pub(crate) struct SendTask {
    pub(crate) peer_id: PeerId,
    pub(crate) addresses: Vec<Multiaddr>,
    pub(crate) envelope: Vec<u8>,
    pub(crate) done: oneshot::Sender<Result<Status, SendError>>,
}

/// A peer that is being connected to, and what waits for it.
struct Dialing {
    attempts: Vec<ConnectionId>,
    /// Tried when the direct addresses failed, or have not answered at `then`.
    relayed: Vec<Multiaddr>,
    then: Instant,
    waiting: Vec<SendTask>,
}

struct Connection {
    peer_id: PeerId,
    relayed: bool,
}

/// A relay this host wants to be reached through.
struct Relay {
    peer_id: PeerId,
    address: Multiaddr,
    listener: Option<ListenerId>,
    due: Instant,
    pause: Duration,
}

/// Owner of the swarm.
pub(crate) struct Driver {
    swarm: Swarm<Protocols>,
    inbound: Arc<dyn Inbound>,
    commands: mpsc::Receiver<Command>,
    told: watch::Sender<Vec<Multiaddr>>,
    announce: Vec<Multiaddr>,
    serves_relay: bool,
    permit: Permit,
    handling: Arc<Semaphore>,
    handled: JoinSet<(ResponseChannel<Status>, Status)>,
    dialing: HashMap<PeerId, Dialing>,
    sent: HashMap<OutboundRequestId, oneshot::Sender<Result<Status, SendError>>>,
    connections: HashMap<ConnectionId, Connection>,
    closing: Vec<(Instant, ConnectionId)>,
    nearby: HashMap<PeerId, Vec<Multiaddr>>,
    relays: Vec<Relay>,
    resolving: JoinSet<(usize, Option<Multiaddr>)>,
}

impl Driver {
    pub(crate) fn new(
        swarm: Swarm<Protocols>,
        inbound: Arc<dyn Inbound>,
        commands: mpsc::Receiver<Command>,
        config: &HostConfig,
    ) -> Result<Self, P2pError> {
        let relay = |address: &Multiaddr| match address.iter().last() {
            Some(Protocol::P2p(peer_id)) if !is_relayed(address) => Ok(Relay {
                peer_id,
                address: address.clone(),
                listener: None,
                due: Instant::now(),
                pause: FIRST_RELAY_PAUSE,
            }),
            _ => Err(P2pError::Relay { address: address.clone() }),
        };
        let relays = config.relays.iter().map(relay).collect::<Result<_, _>>()?;
        let mut driver = Self {
            swarm,
            inbound,
            commands,
            told: watch::Sender::new(Vec::new()),
            announce: config.announce.clone(),
            serves_relay: config.relay_server.is_some(),
            permit: config.permit.clone(),
            handling: Arc::new(Semaphore::new(config.bounds.handling)),
            handled: JoinSet::new(),
            dialing: HashMap::new(),
            sent: HashMap::new(),
            connections: HashMap::new(),
            closing: Vec::new(),
            nearby: HashMap::new(),
            relays,
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

    /// Binds every address; returns when all of them are listened on.
    pub(crate) async fn listen(&mut self, addresses: &[Multiaddr]) -> Result<(), P2pError> {
        let failed =
            |address: &Multiaddr, reason: String| P2pError::Listen { address: address.clone(), reason };
        let mut waiting = HashMap::new();
        for address in addresses {
            let id = self.swarm.listen_on(address.clone()).map_err(|e| failed(address, e.to_string()))?;
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
                            reason.as_ref().err().map_or("it was closed".into(), ToString::to_string);
                        return Err(failed(address, reason));
                    }
                }
                _ => {}
            }
            self.on_event(event);
        }
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
                (index, address) = next_resolved(&mut self.resolving) => self.reserve(index, address),
                _ = tick.tick() => self.on_tick(),
            }
        }
    }

    fn route_to(&self, peer_id: PeerId) -> Option<Route> {
        let mut ways =
            self.connections.values().filter(|connection| connection.peer_id == peer_id).peekable();
        ways.peek()?;
        Some(if ways.any(|connection| !connection.relayed) { Route::Direct } else { Route::Relayed })
    }

    // --- Out -----------------------------------------------------------------------------------------------------

    fn on_send(&mut self, task: SendTask) {
        let peer_id = task.peer_id;
        if self.swarm.is_connected(&peer_id) {
            return self.request(task);
        }
        if let Some(dialing) = self.dialing.get_mut(&peer_id) {
            dialing.waiting.push(task);
            return;
        }
        let found = self.nearby.get(&peer_id).cloned().unwrap_or_default();
        let all: Vec<Multiaddr> = found.into_iter().chain(task.addresses.iter().cloned()).collect();
        if all.is_empty() {
            let _ = task.done.send(Err(SendError::Unreachable { reason: "no address of it is known" }));
            return;
        }
        let allowed = all.into_iter().filter(|address| self.permit.allows_address(address));
        let (relayed, direct): (Vec<_>, Vec<_>) = allowed.partition(is_relayed);
        if relayed.is_empty() && direct.is_empty() {
            let _ = task.done.send(Err(SendError::Forbidden));
            return;
        }
        let (first, later) = if direct.is_empty() { (relayed, direct) } else { (direct, relayed) };
        match self.dial(peer_id, first) {
            Some(connection) => {
                let then = Instant::now() + HEAD_START;
                let waiting = vec![task];
                self.dialing
                    .insert(peer_id, Dialing { attempts: vec![connection], relayed: later, then, waiting });
            }
            None => {
                let _ =
                    task.done.send(Err(SendError::Unreachable { reason: "no connection can be opened now" }));
            }
        }
    }

    fn dial(&mut self, peer_id: PeerId, addresses: Vec<Multiaddr>) -> Option<ConnectionId> {
        let options =
            DialOpts::peer_id(peer_id).addresses(addresses).condition(PeerCondition::Always).build();
        let connection = options.connection_id();
        self.swarm.dial(options).ok().map(|()| connection)
    }

    fn request(&mut self, task: SendTask) {
        let request = Request::Envelope { bytes: task.envelope, place: None };
        let id = self.swarm.behaviour_mut().messages.send_request(&task.peer_id, request);
        self.sent.insert(id, task.done);
    }

    fn on_dial_failure(&mut self, peer_id: PeerId, connection: ConnectionId) {
        let Some(dialing) = self.dialing.get_mut(&peer_id) else { return };
        dialing.attempts.retain(|attempt| *attempt != connection);
        if !dialing.attempts.is_empty() || self.dial_relayed(peer_id) {
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
    fn look_after_dialing(&mut self, now: Instant) {
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

    // --- In ------------------------------------------------------------------------------------------------------

    fn on_request(&mut self, request: Request, channel: ResponseChannel<Status>) {
        let messages = &mut self.swarm.behaviour_mut().messages;
        match request {
            Request::TooLarge => {
                let _ = messages.send_response(channel, Status::TooLarge);
            }
            Request::Busy => {
                let _ = messages.send_response(channel, Status::Busy);
            }
            Request::Envelope { bytes, place } => {
                let Ok(slot) = Arc::clone(&self.handling).try_acquire_owned() else {
                    let _ = messages.send_response(channel, Status::Busy);
                    return;
                };
                let taken = self.inbound.receive(bytes);
                self.handled.spawn(async move {
                    let status = taken.await;
                    drop((slot, place));
                    (channel, status)
                });
            }
        }
    }

    // --- Events --------------------------------------------------------------------------------------------------

    fn on_event(&mut self, event: SwarmEvent<ProtocolsEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_protocol(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let relayed = is_over_relay(&endpoint);
                self.connections.insert(connection_id, Connection { peer_id, relayed });
                if !relayed {
                    self.prefer_direct(peer_id);
                }
                let how = if relayed { "through a relay" } else { "directly" };
                tracing::debug!("a peer is connected {how}");
                for task in self.dialing.remove(&peer_id).into_iter().flat_map(|dialing| dialing.waiting) {
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
                if self.serves_relay && self.announce.is_empty() && self.may_be_told(&address) {
                    // A relay tells those who reserve how they are reached; it was configured to be reachable.
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
                // Nobody there any more: found out now, and not by the next message.
                self.swarm.close_connection(connection);
            }
            ProtocolsEvent::RelayClient(relay::client::Event::ReservationReqAccepted {
                relay_peer_id,
                ..
            }) => {
                let is_it = |relay: &&mut Relay| relay.peer_id == relay_peer_id;
                self.relays.iter_mut().filter(is_it).for_each(|relay| relay.pause = FIRST_RELAY_PAUSE);
            }
            ProtocolsEvent::Dcutr(event) => match event.result {
                Ok(_) => tracing::info!("a hole was punched: a relayed peer is now reached directly"),
                Err(error) => tracing::info!(%error, "no hole was punched; the relay stays in use"),
            },
            ProtocolsEvent::AutonatClient(autonat::v2::client::Event { result: Err(error), .. }) => {
                tracing::debug!(%error, "an own address was not reachable from outside");
            }
            _ => {}
        }
    }

    fn on_message(&mut self, event: request_response::Event<Request, Status>) {
        match event {
            request_response::Event::Message { message, .. } => match message {
                Message::Request { request, channel, .. } => self.on_request(request, channel),
                Message::Response { request_id, response } => self.settle(request_id, Ok(response)),
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                let error = match error {
                    OutboundFailure::UnsupportedProtocols => SendError::Refused { status: Status::Refused },
                    OutboundFailure::Timeout => {
                        SendError::Unreachable { reason: "it did not answer in time" }
                    }
                    _ => SendError::Unreachable { reason: "the connection failed" },
                };
                self.settle(request_id, Err(error));
            }
            _ => {}
        }
    }

    fn settle(&mut self, id: OutboundRequestId, outcome: Result<Status, SendError>) {
        if let Some(done) = self.sent.remove(&id) {
            let _ = done.send(outcome);
        }
    }

    /// A direct connection was made: relayed ones beside it are closed when they have had time to become quiet.
    fn prefer_direct(&mut self, peer_id: PeerId) {
        let end = Instant::now() + GRACE;
        let relayed = self.connections.iter().filter(|(_, held)| held.peer_id == peer_id && held.relayed);
        self.closing.extend(relayed.map(|(id, _)| (end, *id)));
    }

    fn on_discovery(&mut self, event: mdns::Event) {
        match event {
            mdns::Event::Discovered(found) => {
                for (peer_id, address) in found {
                    self.note_nearby(peer_id, address);
                }
            }
            mdns::Event::Expired(gone) => {
                for (peer_id, address) in gone {
                    if let Some(known) = self.nearby.get_mut(&peer_id) {
                        known.retain(|one| *one != address);
                    }
                }
                self.nearby.retain(|_, known| !known.is_empty());
            }
        }
        let ips = self.nearby.values().flatten().filter_map(first_ip).collect::<HashSet<_>>();
        self.permit.set_nearby(ips);
    }

    /// Remembers a neighbour. Beyond what may be dialled anyway, its word counts for local addresses only.
    fn note_nearby(&mut self, peer_id: PeerId, address: Multiaddr) {
        let full = self.nearby.len() >= MAX_NEARBY && !self.nearby.contains_key(&peer_id);
        let bearable = first_ip(&address).is_some_and(|ip| is_local_network(ip) || self.permit.allows(ip));
        if full || is_relayed(&address) || !bearable {
            return;
        }
        let known = self.nearby.entry(peer_id).or_default();
        if known.len() < MAX_ADDRESSES && !known.contains(&address) {
            known.push(address);
        }
    }

    // --- Own addresses and relays --------------------------------------------------------------------------------

    fn may_be_told(&self, address: &Multiaddr) -> bool {
        first_ip(address).is_some_and(|ip| !ip.is_unspecified() && self.permit.allows(ip))
    }

    /// Works out where others reach this host.
    fn tell_addresses(&mut self) {
        let own = *self.swarm.local_peer_id();
        let listened =
            self.swarm.listeners().filter(|address| is_relayed(address) || self.announce.is_empty());
        let all: HashSet<Multiaddr> = listened
            .chain(self.swarm.external_addresses())
            .filter(|address| self.announce.contains(address) || self.may_be_told(address))
            .map(|address| match address.iter().last() {
                Some(Protocol::P2p(last)) if last == own => address.clone(),
                _ => address.clone().with(Protocol::P2p(own)),
            })
            .collect();
        let mut all: Vec<Multiaddr> = all.into_iter().collect();
        all.sort_by_key(|address| (is_relayed(address), address.to_string()));
        all.truncate(MAX_ADDRESSES);
        self.told.send_if_modified(|told| {
            let changed = *told != all;
            *told = all;
            changed
        });
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        self.look_after_dialing(now);
        // One connection serves all reservations at one relay: the second address waits until the first has one.
        let mut asked: HashSet<PeerId> = self
            .relays
            .iter()
            .filter(|relay| relay.listener.is_some() && !self.swarm.is_connected(&relay.peer_id))
            .map(|relay| relay.peer_id)
            .collect();
        for (index, relay) in self.relays.iter_mut().enumerate() {
            if relay.listener.is_none()
                && relay.due <= now
                && (self.swarm.is_connected(&relay.peer_id) || asked.insert(relay.peer_id))
            {
                relay.due = now + relay.pause;
                relay.pause = (relay.pause * 2).min(LONGEST_RELAY_PAUSE);
                let address = relay.address.clone();
                self.resolving.spawn(async move { (index, resolved(&address).await.into_iter().next()) });
            }
        }
        let due: Vec<ConnectionId> =
            self.closing.extract_if(.., |(end, _)| *end <= now).map(|(_, connection)| connection).collect();
        for connection in due {
            self.swarm.close_connection(connection);
        }
    }

    fn reserve(&mut self, index: usize, address: Option<Multiaddr>) {
        let Some(relay) = self.relays.get_mut(index).filter(|relay| relay.listener.is_none()) else { return };
        let Some(address) = address.filter(|address| self.permit.allows_address(address)) else {
            tracing::warn!("a configured relay has no address that may be connected to");
            return;
        };
        match self.swarm.listen_on(address.with(Protocol::P2pCircuit)) {
            Ok(listener) => relay.listener = Some(listener),
            Err(error) => tracing::warn!(%error, "a relay cannot be used"),
        }
    }

    fn on_listener_closed(&mut self, listener: ListenerId) {
        for relay in &mut self.relays {
            if relay.listener == Some(listener) {
                tracing::info!("a relay was lost; it is asked again");
                relay.listener = None;
                relay.due = Instant::now() + relay.pause;
            }
        }
    }
}

/// Whether an address is one a local network gives.
fn is_local_network(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

fn is_over_relay(endpoint: &ConnectedPoint) -> bool {
    endpoint.is_relayed()
}

async fn next_resolved(resolving: &mut JoinSet<(usize, Option<Multiaddr>)>) -> (usize, Option<Multiaddr>) {
    loop {
        match resolving.join_next().await {
            Some(Ok(found)) => return found,
            Some(Err(_)) => {}
            None => return pending().await,
        }
    }
}
