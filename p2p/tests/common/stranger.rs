//! A misbehaving foreign host: it names addresses in hole punching and AutoNAT, and opens circuits.
#![allow(dead_code, reason = "not every file of tests uses everything")]

use std::{
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use einmal_p2p::{Host, Multiaddr, PeerId};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, autonat,
    core::{Endpoint, transport::PortUse},
    identify,
    multiaddr::Protocol,
    noise, relay,
    request_response::{self, Message, ProtocolSupport},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, SwarmEvent, THandler, THandlerInEvent,
        ToSwarm,
        dial_opts::{DialOpts, PeerCondition},
        dummy,
    },
    tcp, yamux,
};

/// Frames of hole punching, as bytes.
#[derive(Clone, Default)]
pub(crate) struct Frames;

async fn frame<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let length = unsigned_varint::aio::read_u64(&mut *io).await.map_err(io::Error::other)?;
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}

impl request_response::Codec for Frames {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        frame(io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        frame(io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await?;
        io.flush().await?;
        // Give the other side time to say that it begins.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    }
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    out.extend(unsigned_varint::encode::usize(bytes.len(), &mut buffer));
    out.extend(bytes);
}

/// The message that names one's own addresses for hole punching.
pub(crate) fn connect_to(addresses: &[Multiaddr]) -> Vec<u8> {
    let mut body = vec![0x08, 100];
    for address in addresses {
        body.push(0x12);
        field(&mut body, &address.to_vec());
    }
    assert!(body.len() <= 4096, "more than the protocol takes: {}", body.len());
    let mut out = Vec::new();
    field(&mut out, &body);
    out
}

/// Claims to see itself at some addresses.
#[derive(Default)]
pub(crate) struct Claims(VecDeque<Multiaddr>);

impl NetworkBehaviour for Claims {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        let next = self.0.pop_front();
        next.map_or(Poll::Pending, |address| Poll::Ready(ToSwarm::NewExternalAddrCandidate(address)))
    }
}

#[derive(NetworkBehaviour)]
pub(crate) struct Protocols {
    relay: relay::client::Behaviour,
    punch: request_response::Behaviour<Frames>,
    identify: identify::Behaviour,
    autonat: autonat::v2::client::Behaviour,
    claims: Claims,
}

pub(crate) fn stranger() -> Swarm<Protocols> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key, relay| Protocols {
            relay,
            punch: request_response::Behaviour::with_codec(
                Frames,
                [(StreamProtocol::new("/libp2p/dcutr"), ProtocolSupport::Full)],
                request_response::Config::default(),
            ),
            identify: identify::Behaviour::new(identify::Config::new("/stranger".into(), key.public())),
            autonat: autonat::v2::client::Behaviour::default(),
            claims: Claims::default(),
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(300)))
        .build()
}

/// The message that starts hole punching.
const SYNC: [u8; 4] = [3, 0x08, 0xac, 0x02];

/// Makes a reservation at `relay`, and asks everyone who connects to punch a hole to each of `places`, one after the
/// other.
pub(crate) async fn punch_back(relay: &Multiaddr, places: Vec<Vec<Multiaddr>>) -> (PeerId, Arc<AtomicUsize>) {
    let (mut swarm, asked) = (stranger(), Arc::<AtomicUsize>::default());
    let id = *swarm.local_peer_id();
    swarm.listen_on(relay.clone().with(Protocol::P2pCircuit)).unwrap();
    while !matches!(swarm.select_next_some().await, SwarmEvent::NewListenAddr { .. }) {}
    tokio::spawn({
        let asked = Arc::clone(&asked);
        async move {
            let mut places =
                places.into_iter().map(|addresses| [connect_to(&addresses), SYNC.into()].concat());
            loop {
                let peer = match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. }
                        if endpoint.is_relayed() && endpoint.is_listener() =>
                    {
                        peer_id
                    }
                    SwarmEvent::Behaviour(ProtocolsEvent::Punch(request_response::Event::Message {
                        peer,
                        message: Message::Response { .. },
                        ..
                    })) => {
                        asked.fetch_add(1, Ordering::SeqCst);
                        peer
                    }
                    _ => continue,
                };
                if let Some(next) = places.next() {
                    swarm.behaviour_mut().punch.send_request(&peer, next);
                }
            }
        }
    });
    (id, asked)
}

/// Opens a circuit to a peer and answers its hole punching with `addresses`; counts the requests.
pub(crate) fn punch(circuit: &Multiaddr, addresses: &[Multiaddr]) -> Arc<AtomicUsize> {
    let (mut swarm, answer, asked) = (stranger(), connect_to(addresses), Arc::<AtomicUsize>::default());
    swarm.dial(circuit.clone()).unwrap();
    tokio::spawn({
        let asked = Arc::clone(&asked);
        async move {
            loop {
                if let SwarmEvent::Behaviour(ProtocolsEvent::Punch(request_response::Event::Message {
                    message: Message::Request { channel, .. },
                    ..
                })) = swarm.select_next_some().await
                {
                    let _ = swarm.behaviour_mut().punch.send_response(channel, answer.clone());
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    });
    asked
}

/// Has a host check whether it can be reached at `addresses`.
pub(crate) fn claim(at: Multiaddr, addresses: &[Multiaddr]) {
    let mut swarm = stranger();
    swarm.behaviour_mut().claims.0.extend(addresses.iter().cloned());
    swarm.dial(at).unwrap();
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
}

/// The outcomes of circuits that strangers tried to open.
#[derive(Default)]
pub(crate) struct Opened {
    pub(crate) open: AtomicUsize,
    pub(crate) refused: AtomicUsize,
}

/// Makes a reservation at `relay`; resolves when it is granted.
pub(crate) async fn reserve(relay: &Multiaddr) -> PeerId {
    let mut swarm = stranger();
    let id = *swarm.local_peer_id();
    swarm.listen_on(relay.clone().with(Protocol::P2pCircuit)).unwrap();
    while !matches!(swarm.select_next_some().await, SwarmEvent::NewListenAddr { .. }) {}
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    id
}

/// Opens as many circuits to `target` as the relay grants.
pub(crate) fn open_circuits(relay: &Multiaddr, target: PeerId, opened: &Arc<Opened>) {
    let (mut swarm, opened) = (stranger(), Arc::clone(opened));
    let circuit = relay.clone().with(Protocol::P2pCircuit).with(Protocol::P2p(target));
    let options = move || {
        let options = DialOpts::peer_id(target).addresses(vec![circuit.clone()]);
        options.condition(PeerCondition::Always).build()
    };
    swarm.dial(options()).unwrap();
    tokio::spawn(async move {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { endpoint, .. } if endpoint.is_relayed() => {
                    opened.open.fetch_add(1, Ordering::SeqCst);
                    let _ = swarm.dial(options());
                }
                SwarmEvent::OutgoingConnectionError { .. } => {
                    opened.refused.fetch_add(1, Ordering::SeqCst);
                }
                _ => {}
            }
        }
    });
}

/// Accepts connections and says nothing.
pub(crate) struct Silent {
    port: u16,
    reached: Arc<Mutex<Reached>>,
}

#[derive(Default)]
struct Reached {
    at: BTreeSet<IpAddr>,
    _kept: Vec<tokio::net::TcpStream>,
}

impl Silent {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let reached = Arc::<Mutex<Reached>>::default();
        tokio::spawn({
            let reached = Arc::clone(&reached);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let mut reached = reached.lock().unwrap();
                    reached.at.extend(stream.local_addr().map(|at| at.ip()));
                    reached._kept.push(stream);
                }
            }
        });
        Self { port, reached }
    }

    /// `count` of its addresses; different values of `net` give different ones.
    pub(crate) fn addresses(&self, net: u8, count: u32) -> Vec<Multiaddr> {
        let at = |number| format!("/ip4/127.{net}.{}.{}/tcp/{}", number / 200, 1 + number % 200, self.port);
        (0..count).map(|number| at(number).parse().unwrap()).collect()
    }

    /// At how many of its addresses it was reached.
    pub(crate) fn reached(&self) -> usize {
        self.reached.lock().unwrap().at.len()
    }
}

/// Where a host listens by TCP.
pub(crate) fn tcp_of(host: &Host) -> Multiaddr {
    let is_tcp = |address: &Multiaddr| address.iter().any(|part| matches!(part, Protocol::Tcp(_)));
    host.listen_addresses().into_iter().find(is_tcp).unwrap()
}
