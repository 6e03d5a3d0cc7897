//! libp2p as a transport of the node: `libp2p-peerId:` endpoints out, streams of `/didcomm/v2` in.

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicBool, Ordering},
};

use einmal_did::{Endpoint, LocalResolver, Resolver};
use einmal_didcomm::limits::MAX_ENVELOPE_BYTES;
use einmal_flows::out_of_band::Invitation;
use einmal_keys::{Entropy, SystemEntropy, base64url_decode, base64url_encode};
use einmal_p2p::{
    Bounds, Host, HostConfig, Inbound, Multiaddr, P2pError, PeerEndpoint, PeerId, Permit, RelayLimits,
    Source, Status, is_relayed, is_served,
};
use einmal_storage::Batch;
use tracing::Instrument;
use zeroize::Zeroizing;

use super::{client::HttpClient, peer_line::give_back};
use crate::{
    config::{CONFIG_FILE, Config, Limits, P2pSettings, Role},
    db::{Db, META, encode},
    error::SetupError,
    guard,
    handler::{Arrival, Receipt, Refusal},
    log,
    node::Node,
    rates::Rates,
    transport::{Back, BoxFuture, PeerLines, SendError, Transport},
};

/// Name of the record of the host's key.
const KEY: &str = "p2p-key";
/// Port listened on unless configured otherwise; a citizen takes a free one.
pub const DEFAULT_PORT: u16 = 4001;
/// Most addresses of a mediator that are tried as relays.
const MAX_RELAYS: usize = 2;
/// How long a start waits for a relay's reservation, so that the first DIDs name it.
const RELAY_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// Where streams of peers come in; closed until the node is there.
#[derive(Debug)]
pub struct Entrance {
    node: OnceLock<Weak<Node>>,
    /// The node stops: peers are told to come again.
    closed: AtomicBool,
    limits: Limits,
    rates: Rates<Source>,
}

impl Default for Entrance {
    fn default() -> Self {
        Self::new(&Limits::default())
    }
}

impl Entrance {
    /// Admits as many messages per second from one source as HTTP admits requests from one address.
    pub fn new(limits: &Limits) -> Self {
        let rates = Rates::new(limits.requests_per_second());
        Self { node: OnceLock::new(), closed: AtomicBool::new(false), limits: limits.clone(), rates }
    }

    /// Lets messages in to `node`.
    pub fn open(&self, node: &Arc<Node>) {
        let _ = self.node.set(Arc::downgrade(node));
    }

    /// Lets no more messages in; those under way are finished.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether a message is within the rate of its source, if that is bounded.
    fn admits(&self, source: Source) -> bool {
        !self.limits.counts(source) || self.rates.admit(&source)
    }
}

impl Inbound for Entrance {
    fn receive(&self, from: PeerId, source: Source, envelope: Vec<u8>) -> einmal_p2p::BoxFuture<Status> {
        let is_open = !self.closed.load(Ordering::Relaxed);
        let node = self.node.get().and_then(Weak::upgrade).filter(|_| is_open);
        // Our mediator brings what many others wrote.
        let admitted = node.filter(|node| node.line.is_with(from) || self.admits(source));
        Box::pin(async move {
            let Some(node) = admitted else { return Status::Busy };
            let arrival = arrival(&node, from, source);
            let receipt = node.receive(&envelope, arrival).instrument(log::request("libp2p")).await;
            node.line.heard(from, receipt.notice);
            let Receipt { refused, replies, live, .. } = receipt;
            if !replies.is_empty() || live.is_some() {
                give_back(&node, from, Back { replies, live });
            }
            match refused {
                None => Status::Accepted,
                Some(Refusal::TooLarge) => Status::TooLarge,
                Some(Refusal::Unavailable | Refusal::TooOften) => Status::Busy,
                Some(Refusal::Invalid) => Status::Refused,
            }
        })
    }
}

/// What can go back on the stream's connection. Our mediator brings what others wrote, so answers to them are not sent
/// to it. Effects are counted for the source of the connection: a peer could have as many names as it likes.
fn arrival(node: &Node, from: PeerId, source: Source) -> Arrival {
    if node.line.is_with(from) {
        return Arrival::Mailbox { from: None };
    }
    let answerable = node.shared().lines().is_some_and(|lines| lines.has_room(from));
    Arrival::Libp2p { answerable, from: Some(node.origin(source)) }
}

/// Carries envelopes by libp2p to libp2p endpoints, by HTTP to all others.
#[derive(Debug)]
pub struct PeerTransport {
    host: Host,
    lines: PeerLines,
    http: Arc<HttpClient>,
}

impl PeerTransport {
    async fn hand_over(
        &self,
        uri: &str,
        multi_addrs: &[String],
        envelope: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, SendError> {
        let endpoint = PeerEndpoint::parse(uri, multi_addrs)
            .map_err(|error| SendError::Forbidden { reason: error.to_string() })?;
        self.host.send(&endpoint, envelope).await.map(|()| None).map_err(told)
    }
}

/// The refusals of a peer as HTTP statuses, which the outbox understands.
fn told(error: einmal_p2p::SendError) -> SendError {
    use einmal_p2p::SendError as Peer;
    match error {
        Peer::TooLarge | Peer::Refused { status: Status::TooLarge } => SendError::Refused { status: 413 },
        Peer::Refused { status: Status::Busy } => SendError::Refused { status: 503 },
        Peer::Refused { .. } => SendError::Refused { status: 400 },
        Peer::Forbidden => SendError::Forbidden {
            reason: "the peer names only addresses that are not public; in a test network set \
                `allow_private = true` under [network]"
                .into(),
        },
        other => SendError::Unreachable { reason: other.to_string() },
    }
}

impl Transport for PeerTransport {
    fn send<'a>(
        &'a self,
        uri: &'a str,
        envelope: Vec<u8>,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, SendError>> {
        self.send_to(uri, &[], envelope)
    }

    fn send_to<'a>(
        &'a self,
        uri: &'a str,
        multi_addrs: &'a [String],
        envelope: Vec<u8>,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, SendError>> {
        if is_served(uri) {
            return Box::pin(self.hand_over(uri, multi_addrs, envelope));
        }
        self.http.send_to(uri, multi_addrs, envelope)
    }

    fn peer_endpoint(&self) -> Option<Endpoint> {
        let own = self.host.endpoint();
        let multi_addrs = own.addresses.iter().map(ToString::to_string).collect();
        Some(Endpoint { multi_addrs, ..Endpoint::didcomm(own.uri()) })
    }

    fn lines(&self) -> Option<&PeerLines> {
        Some(&self.lines)
    }
}

/// What of a configuration libp2p is started with.
struct Wanted {
    listen: Vec<Multiaddr>,
    announce: Vec<Multiaddr>,
    relays: Vec<Multiaddr>,
    relay_server: Option<RelayLimits>,
}

impl Wanted {
    fn of(config: &Config, settings: &P2pSettings) -> Result<Self, SetupError> {
        Ok(Self {
            listen: listen(config.role, settings)?,
            announce: addresses("announce", &settings.announce)?,
            relays: match &settings.relays {
                Some(relays) => addresses("relays", relays)?,
                None => relays_of_mediator(config),
            },
            relay_server: relay_limits(config.role, settings)?,
        })
    }
}

/// Whether libp2p can be started as the configuration says; `None` if it is not to be.
///
/// # Errors
///
/// [`SetupError`] if an address cannot be read, or the role relays for nobody.
pub(crate) fn check(config: &Config) -> Option<Result<(), SetupError>> {
    let settings = config.p2p.as_ref().filter(|settings| settings.enabled)?;
    Some(Wanted::of(config, settings).map(|_| ()))
}

/// Starts libp2p if the configuration switches it on.
///
/// # Errors
///
/// [`SetupError`] if an address or a relay cannot be used, or the key cannot be read or written.
pub async fn start(
    config: &Config,
    db: &Db,
    entrance: &Arc<Entrance>,
    http: Arc<HttpClient>,
) -> Result<Option<Arc<PeerTransport>>, SetupError> {
    let Some(settings) = config.p2p.as_ref().filter(|settings| settings.enabled) else { return Ok(None) };
    let private = config.network.allow_private;
    let Wanted { listen, announce, relays, relay_server } = Wanted::of(config, settings)?;
    let host = HostConfig {
        keypair_secret: secret(db).await?,
        listen,
        announce,
        // Whoever reaches the port may flood it: what stands in the open network looks for no neighbours unless told to.
        mdns: settings.mdns.unwrap_or(matches!(config.role, Role::Citizen | Role::Merchant)),
        relay_server,
        relays,
        permit: Permit::new(move |ip| private || guard::is_public(ip)),
        largest_envelope: MAX_ENVELOPE_BYTES,
        bounds: bounds(config.role),
    };
    let (wants_relay, most_lines) = (!host.relays.is_empty(), host.bounds.holds);
    let host = Host::start(host, Arc::clone(entrance) as _).await.map_err(refused)?;
    if wants_relay {
        let reserved = host.addresses_until(|addresses| addresses.iter().any(is_relayed));
        if tokio::time::timeout(RELAY_WAIT, reserved).await.is_err() {
            tracing::warn!("no relay has answered yet; DIDs made until one does will not name it");
        }
    }
    let lines = PeerLines::new(host.clone(), most_lines);
    Ok(Some(Arc::new(PeerTransport { host, lines, http })))
}

fn refused(error: P2pError) -> SetupError {
    SetupError::config(CONFIG_FILE.as_ref(), format!("[p2p]: {error}"))
}

fn addresses(member: &str, texts: &[String]) -> Result<Vec<Multiaddr>, SetupError> {
    let read = |text: &String| {
        text.parse().map_err(|_| {
            let problem = format!(
                "[p2p] `{member}`: `{text}` is no multiaddress; write it like /ip4/0.0.0.0/udp/4001/quic-v1"
            );
            SetupError::config(CONFIG_FILE.as_ref(), problem)
        })
    };
    texts.iter().map(read).collect()
}

fn listen(role: Role, settings: &P2pSettings) -> Result<Vec<Multiaddr>, SetupError> {
    if !settings.listen.is_empty() {
        return addresses("listen", &settings.listen);
    }
    let port = if role == Role::Citizen { 0 } else { DEFAULT_PORT };
    addresses("listen", &[format!("/ip4/0.0.0.0/udp/{port}/quic-v1"), format!("/ip4/0.0.0.0/tcp/{port}")])
}

/// The libp2p addresses of a citizen's mediator, from the invitation in the configuration: it may relay too.
fn relays_of_mediator(config: &Config) -> Vec<Multiaddr> {
    let url = config.citizen.as_ref().and_then(|citizen| citizen.mediator.as_deref());
    let document = url
        .and_then(|url| Invitation::from_url(url).ok())
        .and_then(|invitation| LocalResolver::new().resolve(&invitation.from).ok());
    let Some(document) = document else { return Vec::new() };
    document
        .didcomm_endpoints()
        .filter_map(|endpoint| PeerEndpoint::parse(&endpoint.uri, &endpoint.multi_addrs).ok())
        .flat_map(|endpoint| endpoint.addresses)
        .filter(|address| !is_relayed(address))
        .take(MAX_RELAYS)
        .collect()
}

/// A mediator has many peers, and holds a line to each that has live delivery.
fn bounds(role: Role) -> Bounds {
    match role {
        Role::Mediator => Bounds { connections: 4_096, holds: 2_048, ..Bounds::default() },
        _ => Bounds::default(),
    }
}

fn relay_limits(role: Role, settings: &P2pSettings) -> Result<Option<RelayLimits>, SetupError> {
    if !settings.relay_server {
        return Ok(None);
    }
    if role != Role::Mediator {
        let problem =
            format!("[p2p] `relay_server` is for mediators; a {role} relays nothing: remove the line");
        return Err(SetupError::config(CONFIG_FILE.as_ref(), problem));
    }
    let limits = RelayLimits::default();
    Ok(Some(RelayLimits {
        reservations: settings.relay_reservations.unwrap_or(limits.reservations),
        circuits: settings.relay_circuits.unwrap_or(limits.circuits),
        ..limits
    }))
}

/// The secret key of the host: made once, kept in the sealed store, so that the peer id outlives restarts.
async fn secret(db: &Db) -> Result<Zeroizing<[u8; 32]>, SetupError> {
    if let Some(stored) = db.get::<Zeroizing<String>>(META, KEY)? {
        let bytes = Zeroizing::new(base64url_decode(&stored.value).unwrap_or_default());
        let secret = <[u8; 32]>::try_from(bytes.as_slice());
        return secret
            .map(Zeroizing::new)
            .map_err(|_| SetupError::internal("the stored peer-to-peer key does not parse"));
    }
    let mut secret = Zeroizing::new([0; 32]);
    SystemEntropy.fill(secret.as_mut_slice()).map_err(SetupError::internal)?;
    let mut batch = Batch::new();
    batch.put(db.key(META, KEY)?, encode(&Zeroizing::new(base64url_encode(secret.as_slice())))?);
    db.store().commit(batch).await?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use einmal_storage::TenantId;

    use super::*;

    fn settings(text: &str) -> P2pSettings {
        Config::parse(&format!("role = \"mediator\"\n[p2p]\n{text}")).unwrap().p2p.unwrap()
    }

    #[test]
    fn only_a_mediator_relays() {
        let on = settings("relay_server = true\nrelay_reservations = 7\n");
        let limits = relay_limits(Role::Mediator, &on).unwrap().unwrap();
        assert_eq!(limits.reservations, 7);
        assert!(relay_limits(Role::Citizen, &on).unwrap_err().to_string().contains("mediators"));
        assert!(relay_limits(Role::Mediator, &settings("mdns = false\n")).unwrap().is_none());
    }

    #[test]
    fn a_citizen_takes_its_mediator_for_a_relay_unless_told_otherwise() {
        use einmal_did::{Relationship, Service, peer};
        use einmal_keys::{KeyKind, SecretKey, SeededEntropy};
        let (entropy, id) = (SeededEntropy::new(1), "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN");
        let key = SecretKey::generate(KeyKind::X25519, &entropy).unwrap().public_key();
        let invitation = |endpoints| {
            let keys = [(Relationship::KeyAgreement, key.clone())];
            let did = peer::two::create(&keys, &[Service::didcomm("#service", endpoints)]).unwrap();
            let id = einmal_didcomm::MessageId::random(&entropy).unwrap();
            Invitation::new(id, did).to_url("https://m.example")
        };
        let relays = |url: String| {
            let mut config = Config::new(Role::Citizen);
            config.citizen.as_mut().unwrap().mediator = Some(url);
            relays_of_mediator(&config)
        };
        let address = format!("/ip4/192.0.2.1/tcp/4001/p2p/{id}");
        let http = Endpoint::didcomm("https://m.example");
        let peer = |multi_addrs| Endpoint { multi_addrs, ..Endpoint::didcomm(format!("libp2p-peerId:{id}")) };
        let found = relays(invitation(vec![http.clone(), peer(vec![address.clone()])]));
        assert_eq!(found, [address.parse::<Multiaddr>().unwrap()]);
        assert!(relays(invitation(vec![http])).is_empty());
        let foreign = address.replace(id, "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N");
        assert!(relays(invitation(vec![peer(vec![foreign])])).is_empty());
        assert!(relays("no invitation".into()).is_empty());
    }

    #[test]
    fn one_source_has_a_rate_whatever_its_peers_and_this_machine_has_none() {
        let entrance = Entrance::new(&Limits { max_requests_per_second: Some(2), ..Limits::default() });
        let admitted = |source| (0..100).filter(|_| entrance.admits(source)).count();
        let address = |text: &str| Source::of(text.parse().unwrap());
        assert!(admitted(address("192.0.2.1")) < 10);
        assert!(admitted(Source::behind(PeerId::random())) < 10);
        assert!(entrance.admits(address("192.0.2.2")));
        assert_eq!(admitted(address("127.0.0.1")), 100);
    }

    #[tokio::test]
    async fn a_node_that_stops_tells_peers_to_come_again() {
        let node = crate::node::testing::node(Role::Mediator).await.0;
        let (entrance, from) = (Entrance::default(), Source::of([127, 0, 0, 1].into()));
        entrance.open(&node);
        let sent = || entrance.receive(PeerId::random(), from, b"nothing that opens".to_vec());
        assert_eq!(sent().await, Status::Refused);
        entrance.close();
        assert_eq!(sent().await, Status::Busy);
    }

    #[test]
    fn a_bad_multiaddress_is_refused_with_an_example() {
        let refused =
            listen(Role::Citizen, &settings("listen = [\"0.0.0.0:4001\"]\n")).unwrap_err().to_string();
        assert!(refused.contains("0.0.0.0:4001") && refused.contains("quic-v1"), "{refused}");
        assert_eq!(listen(Role::Citizen, &settings("")).unwrap().len(), 2);
    }

    #[test]
    fn refusals_keep_their_meaning() {
        let refused = |status| told(einmal_p2p::SendError::Refused { status });
        assert!(refused(Status::Busy).is_temporary());
        assert!(!refused(Status::Refused).is_temporary());
        assert!(!refused(Status::TooLarge).is_temporary());
        assert!(told(einmal_p2p::SendError::Unreachable { reason: "" }).is_temporary());
        assert!(!told(einmal_p2p::SendError::Forbidden).is_temporary());
    }

    #[tokio::test]
    async fn the_key_is_made_once_and_stays() {
        let db = Db::new(Arc::new(einmal_storage::MemoryStore::new()) as _, TenantId::default());
        let first = secret(&db).await.unwrap();
        assert_ne!(*first, [0; 32]);
        assert_eq!(secret(&db).await.unwrap(), first);
    }
}
