//! The host as its owner sees it: starting it with a key, sending, and asking where it listens.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot, watch};
use zeroize::Zeroizing;

use crate::{
    address::PeerEndpoint,
    behaviour,
    codec::Status,
    driver::{Command, Driver, SendTask},
    guard::Permit,
    hold::{Held, HoldError, Holds},
    names,
    source::Source,
};

/// A boxed future.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Accepts incoming messages.
pub trait Inbound: Send + Sync + 'static {
    /// Accepts one packed message; resolves when it is safe, with the answer for its sender.
    ///
    /// `from` is the peer at the other end of the connection. It tells where bytes can be sent back to, not whom the
    /// message is from. `source` is where the connection leads: count load by that, because peer ids cost nothing. It
    /// goes on even if the sender stops waiting.
    fn receive(&self, from: PeerId, source: Source, envelope: Vec<u8>) -> BoxFuture<Status>;
}

/// Limits of a host. The defaults suit the node of a person or a shop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most connections at once, at most three quarters of them in one direction.
    pub connections: usize,
    /// Most connections with one peer.
    pub connections_per_peer: usize,
    /// Most incoming connections from one [`Source`](crate::Source) at once, and most outgoing ones to one.
    pub connections_per_source: usize,
    /// Most incoming connections that have not completed the handshake.
    pub pending_connections: usize,
    /// Most of them from one source.
    pub pending_per_source: usize,
    /// Most connections being made. Those requested by others have a part of them.
    pub pending_outgoing: usize,
    /// Most addresses dialled at once, up to 32 of them for one connection; only four once half are in use.
    pub dials: usize,
    /// Most streams of one connection at once, in both directions together. With TCP, one more ends the connection, so
    /// this must be well above what all protocols use at once.
    pub streams_per_connection: usize,
    /// Most messages on one connection at once, in both directions together.
    pub requests_per_connection: usize,
    /// Most messages being read into memory at once, each at most the largest size; an eighth of them from one source.
    pub reading: usize,
    /// Most messages being processed at once, an eighth of them from one source; senders of further ones are told to
    /// try again.
    pub handling: usize,
    /// Most messages being sent at once; further ones wait two seconds for a turn. More than the owner's queue hands
    /// out.
    pub sending: usize,
    /// Most connections held open at once, and most messages being pushed.
    pub holds: usize,
    /// Longest time one connection may take to be established.
    pub connect: Duration,
    /// Longest time between the first byte of a message and its status.
    pub request: Duration,
    /// A connection is closed after being idle for this long.
    pub idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_per_peer: 8,
            connections_per_source: 64,
            pending_connections: 1024,
            pending_per_source: 32,
            pending_outgoing: 256,
            dials: 512,
            streams_per_connection: 256,
            requests_per_connection: 64,
            reading: 128,
            handling: 128,
            sending: 512,
            holds: 256,
            connect: Duration::from_secs(10),
            request: Duration::from_secs(15),
            idle: Duration::from_secs(60),
        }
    }
}

/// Limits of a host that relays for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayLimits {
    /// Most peers that can be reached through it, an eighth of them from one source, but at least two.
    pub reservations: usize,
    /// Most reservations of one peer.
    pub reservations_per_peer: usize,
    /// Most circuits at once. One source may open an eighth of them, but at least two.
    pub circuits: usize,
    /// Most circuits of one peer, counted when it opens one.
    pub circuits_per_peer: usize,
    /// Most bytes through one circuit, per direction. Must suffice for some messages of the largest size.
    pub circuit_bytes: u64,
    /// Longest life of one circuit.
    pub circuit_time: Duration,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            reservations: 256,
            reservations_per_peer: 4,
            circuits: 64,
            circuits_per_peer: 8,
            circuit_bytes: 8 * 1024 * 1024,
            circuit_time: Duration::from_secs(120),
        }
    }
}

/// Settings for starting a host.
#[derive(Clone)]
pub struct HostConfig {
    /// Secret of the Ed25519 key whose public half is the peer id.
    pub keypair_secret: Zeroizing<[u8; 32]>,
    /// Where to listen. A host that listens nowhere can still send, and be reached through relays.
    pub listen: Vec<Multiaddr>,
    /// Addresses to announce instead of those listened on.
    pub announce: Vec<Multiaddr>,
    /// Whether to look for peers on the local network, and be found there.
    pub mdns: bool,
    /// Limits for relaying for others; `None` to relay nothing.
    pub relay_server: Option<RelayLimits>,
    /// Relays through which to be reached; each address ends in `/p2p/` and the relay's peer id.
    pub relays: Vec<Multiaddr>,
    /// Which addresses may be dialled.
    pub permit: Permit,
    /// Largest message accepted or sent, in bytes.
    pub largest_envelope: usize,
    /// Limits.
    pub bounds: Bounds,
}

impl fmt::Debug for HostConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostConfig")
            .field("listen", &self.listen)
            .field("mdns", &self.mdns)
            .finish_non_exhaustive()
    }
}

/// A host could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum P2pError {
    /// The bytes are not an Ed25519 secret key.
    #[error("the peer-to-peer key cannot be used")]
    Key,
    /// An address cannot be listened on.
    #[error(
        "{address} cannot be listened on: {reason}; stop what listens there, or name another under `listen`, written like /ip4/0.0.0.0/udp/4001/quic-v1"
    )]
    Listen {
        /// The address as configured.
        address: Multiaddr,
        /// The system's error.
        reason: String,
    },
    /// A relay's address does not name the relay.
    #[error("the relay {address} must end in /p2p/ and the relay's peer id")]
    Relay {
        /// The address as configured.
        address: Multiaddr,
    },
    /// A part could not be set up.
    #[error("peer-to-peer networking cannot be set up: {reason}")]
    Setup {
        /// The library's error.
        reason: String,
    },
}

impl P2pError {
    pub(crate) fn setup(error: impl fmt::Display) -> Self {
        Self::Setup { reason: error.to_string() }
    }
}

/// A message was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Larger than this host may send.
    #[error("the message is larger than a peer takes")]
    TooLarge,
    /// None of the addresses may be dialled, or the peer is ourselves.
    #[error("the peer's addresses must not be connected to")]
    Forbidden,
    /// Nobody answered, or not in time; the message may still have arrived.
    #[error("the peer was not reached: {reason}")]
    Unreachable {
        /// What happened, without addresses.
        reason: &'static str,
    },
    /// The peer refused it.
    #[error("the peer refused the message: {status:?}")]
    Refused {
        /// Its answer; never [`Status::Accepted`].
        status: Status,
    },
}

/// How a peer is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Directly, with nobody in between.
    Direct,
    /// Through a relay, which sees who talks and how much, but not what.
    Relayed,
}

/// Longest a message waits for its turn.
const TURN_PATIENCE: Duration = Duration::from_secs(2);
/// Most commands that wait for the driver, which is never busy for long.
const MAX_ORDERS: usize = 64;

const SLOW: SendError = SendError::Unreachable { reason: "it did not answer in time" };
const ENDED: SendError = SendError::Unreachable { reason: "this host is ending" };

/// A running libp2p host. Clones are the same host; it ends when the last is dropped.
#[derive(Clone)]
pub struct Host {
    peer_id: PeerId,
    commands: mpsc::Sender<Command>,
    addresses: watch::Receiver<Vec<Multiaddr>>,
    /// Ends with the driver, which holds the sender.
    alive: watch::Receiver<()>,
    turns: Arc<Semaphore>,
    pushes: Arc<Semaphore>,
    holds: Arc<Holds>,
    largest: usize,
    longest: Duration,
    request: Duration,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("peer_id", &self.peer_id).finish_non_exhaustive()
    }
}

/// A turn. Waiting for it does not count towards a message's time; without one after a moment, the caller may retry.
async fn in_turn(turns: &Semaphore) -> Result<SemaphorePermit<'_>, SendError> {
    let turn = tokio::time::timeout(TURN_PATIENCE, turns.acquire());
    turn.await.map_err(|_| SendError::Unreachable { reason: "too much is being sent" })?.map_err(|_| ENDED)
}

impl Host {
    /// Starts a host: listens, looks for peers if configured, and asks its relays for reservations.
    ///
    /// Resolves when every address of [`HostConfig::listen`] is bound; reservations come later.
    ///
    /// # Errors
    ///
    /// [`P2pError`] if the key, an address or a relay cannot be used.
    pub async fn start(config: HostConfig, inbound: Arc<dyn Inbound>) -> Result<Self, P2pError> {
        let mut secret = config.keypair_secret.clone();
        let key = Keypair::ed25519_from_bytes(secret.as_mut_slice()).map_err(|_| P2pError::Key)?;
        let holds = Holds::new(config.bounds.holds);
        let swarm = behaviour::swarm(&key, Arc::clone(&holds), &config)?;
        let (commands, orders) = mpsc::channel(MAX_ORDERS);
        let mut driver = Driver::new(swarm, inbound, orders, &config)?;
        driver.listen(&config.listen).await?;
        let (lives, alive) = watch::channel(());
        let host = Self {
            alive,
            peer_id: key.public().to_peer_id(),
            commands,
            addresses: driver.addresses(),
            turns: Arc::new(Semaphore::new(config.bounds.sending)),
            pushes: Arc::new(Semaphore::new(config.bounds.holds)),
            holds,
            largest: config.largest_envelope,
            // Names, direct addresses, relayed ones (connecting to the relay, then through it), then the request.
            longest: names::PATIENCE + config.bounds.connect * 3 + config.bounds.request,
            request: config.bounds.request,
        };
        tokio::spawn(async move {
            let _lives = lives;
            driver.run().await;
        });
        Ok(host)
    }

    /// Resolves when the host stops working although it was not dropped, because one of its protocols failed for good.
    /// From then on nothing is sent or accepted; a new host must be started.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut alive = self.alive.clone();
        // Nothing is ever sent: this waits for the sender to be dropped.
        async move { while alive.changed().await.is_ok() {} }
    }

    /// The host's own peer id.
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Where the host can be reached now, direct addresses first, each ending in its peer id.
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.addresses.borrow().clone()
    }

    /// The endpoint to tell others.
    pub fn endpoint(&self) -> PeerEndpoint {
        PeerEndpoint { peer_id: self.peer_id, addresses: self.listen_addresses() }
    }

    /// Resolves when `wanted` holds for the addresses, which may be never.
    pub async fn addresses_until(&self, wanted: impl FnMut(&Vec<Multiaddr>) -> bool) {
        let mut addresses = self.addresses.clone();
        let _ = addresses.wait_for(wanted).await;
    }

    /// Sends one packed message to a peer: over an existing connection, else to a direct address, else through a relay.
    ///
    /// # Errors
    ///
    /// [`SendError`]. After [`SendError::Unreachable`] the message may still have arrived.
    pub async fn send(&self, endpoint: &PeerEndpoint, envelope: Vec<u8>) -> Result<(), SendError> {
        if envelope.len() > self.largest {
            return Err(SendError::TooLarge);
        }
        if endpoint.peer_id == self.peer_id {
            return Err(SendError::Forbidden);
        }
        let _turn = in_turn(&self.turns).await?;
        let sent = self.hand_over(true, endpoint.peer_id, endpoint.addresses.clone(), envelope);
        tokio::time::timeout(self.longest, sent).await.unwrap_or(Err(SLOW))
    }

    /// Sends one packed message to a peer over an existing connection, without dialling.
    ///
    /// Once it has a turn, it takes no longer than [`Bounds::request`].
    ///
    /// # Errors
    ///
    /// [`SendError`]; [`SendError::Unreachable`] also if the peer is not connected.
    pub async fn push(&self, peer_id: PeerId, envelope: Vec<u8>) -> Result<(), SendError> {
        if envelope.len() > self.largest {
            return Err(SendError::TooLarge);
        }
        // Separate turns: a peer that does not read what is pushed must not hold up other messages.
        let _turn = in_turn(&self.pushes).await?;
        let pushed = self.hand_over(false, peer_id, Vec::new(), envelope);
        tokio::time::timeout(self.request, pushed).await.unwrap_or(Err(SLOW))
    }

    async fn hand_over(
        &self,
        dials: bool,
        peer_id: PeerId,
        addresses: Vec<Multiaddr>,
        envelope: Vec<u8>,
    ) -> Result<(), SendError> {
        let (done, answer) = oneshot::channel();
        let task = SendTask { peer_id, addresses, envelope, dials, done };
        self.commands.send(Command::Send(task)).await.map_err(|_| ENDED)?;
        match answer.await.map_err(|_| ENDED)?? {
            Status::Accepted => Ok(()),
            status => Err(SendError::Refused { status }),
        }
    }

    /// Keeps the connections with a peer from being closed as idle until the guard is dropped.
    ///
    /// The other side decides for itself whether to keep them: it must hold them as well.
    ///
    /// # Errors
    ///
    /// [`HoldError`] if the peer is not connected, or the limit [`Bounds::holds`] is reached.
    pub fn hold(&self, peer_id: PeerId) -> Result<Held, HoldError> {
        self.holds.hold(peer_id)
    }

    /// How a peer is connected now; direct if both kinds of connection exist.
    pub async fn route_to(&self, peer_id: PeerId) -> Option<Route> {
        let (done, answer) = oneshot::channel();
        self.commands.send(Command::Route { peer_id, done }).await.ok()?;
        answer.await.ok().flatten()
    }
}
