//! The parts of the host: transports and protocols, each with its bounds.

use std::{num::NonZeroU8, sync::Arc};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, Transport, autonat,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, ListenerId},
        upgrade::Version,
    },
    dcutr, identify, identity, mdns, noise, ping, quic, relay,
    request_response::{self, ProtocolSupport},
    swarm::{self, FromSwarm, NetworkBehaviour, NewListenAddr, behaviour::toggle::Toggle},
    tcp, yamux,
};

use crate::{
    asked::{Allowance, Bounded},
    circuits::relay_server,
    codec::{Entering, EnvelopeCodec, PROTOCOL},
    guard::{Attempts, Guarded},
    hint::Hint,
    hold::{self, Holds},
    host::{Bounds, HostConfig, P2pError},
    limits::Limits,
    places::Places,
    reserved::Reserving,
};

/// The answer to peers that ask who we are: the protocol family, without version or machine.
const IDENTIFY: &str = "/einmal";
/// Holes punched at once, and requests heeded per relayed connection, because the library makes three attempts.
const PUNCHED: Allowance = Allowance { dials: 8, dials_of_one: 4, heeded: 8 };
/// Peers dialled back at once for AutoNAT.
const DIALLED_BACK: Allowance = Allowance { dials: 32, dials_of_one: 4, heeded: usize::MAX };
/// Addresses dialled at once for one connection. All their timeouts start with the first dial, so an address that has
/// to wait for others might never be tried.
pub(crate) const DIALLED_AT_ONCE: NonZeroU8 = NonZeroU8::MIN.saturating_add(31);
/// Most unread bytes of one stream with QUIC: about one message. Yamux begins with a quarter of that.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// The same for all streams of one connection.
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// The protocols of the host.
#[derive(NetworkBehaviour)]
pub(crate) struct Protocols {
    /// Comes before `messages`, which learns from it the source of the connection it is given.
    limits: Limits,
    held: hold::Behaviour,
    pub(crate) messages: request_response::Behaviour<EnvelopeCodec>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    autonat_client: Hint,
    autonat_server: Toggle<Bounded<autonat::v2::server::Behaviour>>,
    relay_client: relay::client::Behaviour,
    relay_server: Toggle<Reserving>,
    dcutr: Bounded<dcutr::Behaviour>,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

/// Most neighbours that discovery may hold: more than a local network has.
const MAX_DISCOVERED: usize = 2_048;

impl Protocols {
    /// Begins discovery anew if it holds too much; says whether it did. The library keeps all that is sent to it, for as long as the
    /// sender wants, and searches through it for each answer.
    pub(crate) fn discovers_anew(&mut self, id: PeerId, listened: &[Multiaddr]) -> bool {
        let is_flooded =
            self.mdns.as_ref().is_some_and(|found| found.discovered_nodes().len() > MAX_DISCOVERED);
        if is_flooded {
            let mut anew = mdns::tokio::Behaviour::new(mdns::Config::default(), id).ok();
            for addr in listened {
                // It hears of listeners only as they begin, and answers with what it has heard of.
                let listener_id = ListenerId::next();
                let begun = FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr });
                anew.iter_mut().for_each(|anew| anew.on_swarm_event(begun));
            }
            self.mdns = anew.into();
        }
        is_flooded
    }
}

/// Builds the swarm, which does not listen yet.
pub(crate) fn swarm(
    key: &identity::Keypair,
    holds: Arc<Holds>,
    config: &HostConfig,
) -> Result<Swarm<Protocols>, P2pError> {
    let bounds = &config.bounds;
    let id = key.public().to_peer_id();
    let (relayed, relay_client) = relay::client::new(id);
    let relayed = relayed
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).map_err(P2pError::setup)?)
        .multiplex(multiplexer(bounds))
        .timeout(bounds.connect);
    let attempts = Attempts::default();
    let guarded = Guarded::new(direct(key, bounds)?, config.permit.clone(), attempts.clone(), bounds.dials);
    let transport: Boxed<(PeerId, StreamMuxerBox)> = relayed
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .or_transport(guarded)
        .map(|either, _| either.into_inner())
        .boxed();
    let protocols = protocols(key, holds, attempts, relay_client, config)?;
    let settings = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(bounds.idle)
        .with_dial_concurrency_factor(DIALLED_AT_ONCE)
        .with_max_negotiating_inbound_streams(bounds.streams_per_connection);
    Ok(Swarm::new(transport, protocols, id, settings))
}

/// QUIC, and TCP with Noise and Yamux.
pub(crate) fn direct(
    key: &identity::Keypair,
    bounds: &Bounds,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, P2pError> {
    let mut quic = quic::Config::new(key);
    quic.handshake_timeout = bounds.connect;
    quic.max_concurrent_stream_limit = u32::try_from(bounds.streams_per_connection).unwrap_or(u32::MAX);
    quic.max_stream_data = STREAM_WINDOW;
    quic.max_connection_data = CONNECTION_WINDOW;
    let quic = quic::tokio::Transport::new(quic).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).map_err(P2pError::setup)?)
        .multiplex(multiplexer(bounds))
        .timeout(bounds.connect)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(quic.or_transport(tcp).map(|either, _| either.into_inner()).boxed())
}

fn multiplexer(bounds: &Bounds) -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(bounds.streams_per_connection);
    config
}

fn protocols(
    key: &identity::Keypair,
    holds: Arc<Holds>,
    attempts: Attempts,
    relay_client: relay::client::Behaviour,
    config: &HostConfig,
) -> Result<Protocols, P2pError> {
    let (bounds, id) = (&config.bounds, key.public().to_peer_id());
    let entering = Entering::default();
    let codec = EnvelopeCodec {
        largest: config.largest_envelope as u64,
        places: Places::new(bounds.reading),
        patience: bounds.request,
        entering: entering.clone(),
        source: None,
    };
    let requests = request_response::Config::default()
        .with_request_timeout(bounds.request)
        .with_max_concurrent_streams(bounds.requests_per_connection);
    let discovery = match config.mdns {
        true => Some(mdns::tokio::Behaviour::new(mdns::Config::default(), id).map_err(P2pError::setup)?),
        false => None,
    };
    // Only those who have the DID document learn a host's own addresses, not everyone who connects.
    let identify = identify::Config::new(IDENTIFY.into(), key.public())
        .with_agent_version(IDENTIFY.into())
        .with_hide_listen_addrs(true)
        .with_cache_size(0);
    Ok(Protocols {
        limits: Limits::new(bounds, entering, attempts),
        held: hold::Behaviour::new(holds),
        messages: request_response::Behaviour::with_codec(
            codec,
            [(StreamProtocol::new(PROTOCOL), ProtocolSupport::Full)],
            requests,
        ),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::default(),
        autonat_client: Hint::default(),
        autonat_server: config
            .relay_server
            .as_ref()
            .map(|_| Bounded::new(autonat::v2::server::Behaviour::default(), DIALLED_BACK))
            .into(),
        relay_client,
        relay_server: config.relay_server.as_ref().map(|limits| relay_server(id, limits)).into(),
        dcutr: Bounded::new(dcutr::Behaviour::new(id), PUNCHED),
        mdns: discovery.into(),
    })
}
