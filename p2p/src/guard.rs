//! Every dial goes through here, whichever protocol asked for it.

use std::{
    collections::HashSet,
    fmt, io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, Transport, TransportError, TransportEvent},
    },
};

use crate::{
    address::{is_relayed, reached_ip},
    behaviour::DIALLED_AT_ONCE,
    limits::Tally,
};

/// Addresses dialled for one connection once half of the places are taken.
const DIALLED_WHEN_CROWDED: usize = 4;

/// Decides which addresses may be dialled at the request of others.
#[derive(Clone)]
pub struct Permit {
    rule: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    nearby: Arc<RwLock<HashSet<IpAddr>>>,
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit(..)")
    }
}

impl Permit {
    /// Permits the addresses that `rule` permits.
    pub fn new(rule: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self { rule: Arc::new(rule), nearby: Arc::default() }
    }

    /// Whether the owner's rule permits `ip`, without what was discovered nearby.
    pub(crate) fn rules(&self, ip: IpAddr) -> bool {
        (self.rule)(ip)
    }

    /// Whether `ip` may be dialled.
    pub fn allows(&self, ip: IpAddr) -> bool {
        self.rules(ip) || self.nearby.read().unwrap_or_else(PoisonError::into_inner).contains(&ip)
    }

    /// Whether this is a TCP or QUIC address, perhaps through a relay, with a literal address that may be dialled.
    pub(crate) fn allows_address(&self, address: &Multiaddr) -> bool {
        reached_ip(address).is_some_and(|ip| self.allows(ip))
    }

    /// Sets the addresses that answered on the local network, if discovery is on.
    pub(crate) fn set_nearby(&self, found: HashSet<IpAddr>) {
        *self.nearby.write().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

/// The number of the connection being dialled for.
///
/// A transport gets one address after another and is not told which connection it is for. The swarm passes them right
/// after [`Limits`](crate::limits::Limits) has judged the connection, in the same turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts(Arc<AtomicU64>);

impl Attempts {
    /// From now on, dials are for another connection.
    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Addresses being dialled; each has a socket from the beginning.
#[derive(Debug, Default)]
struct Dials {
    all: usize,
    of_one: Tally<u64>,
}

/// The place of one address, held until dropped.
#[derive(Debug)]
struct Dialled {
    dials: Arc<Mutex<Dials>>,
    attempt: u64,
}

impl Dialled {
    /// A place, if there is one: a peer that names many addresses gets fewer places when many dials are in progress.
    fn new(dials: &Arc<Mutex<Dials>>, most: usize, attempt: u64) -> Option<Self> {
        let mut taken = dials.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = if taken.all < most / 2 { DIALLED_AT_ONCE.get().into() } else { DIALLED_WHEN_CROWDED };
        if taken.all >= most || taken.of_one.of(attempt) >= of_one {
            return None;
        }
        taken.all += 1;
        taken.of_one.change(attempt, true);
        Some(Self { dials: Arc::clone(dials), attempt })
    }
}

impl Drop for Dialled {
    fn drop(&mut self) {
        let mut taken = self.dials.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        taken.of_one.change(self.attempt, false);
    }
}

/// A transport that dials only permitted literal addresses, and only a limited number at once.
pub(crate) struct Guarded {
    inner: Inner,
    permit: Permit,
    attempts: Attempts,
    dials: Arc<Mutex<Dials>>,
    /// Most addresses dialled at once.
    most: usize,
}

impl Guarded {
    pub(crate) fn new(inner: Inner, permit: Permit, attempts: Attempts, most: usize) -> Self {
        Self { inner, permit, attempts, dials: Arc::default(), most }
    }
}

type Inner = Boxed<(PeerId, StreamMuxerBox)>;

impl Transport for Guarded {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = <Inner as Transport>::ListenerUpgrade;
    type Dial = <Inner as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        // Circuits are left to the relay transport; here they would be dialled at whatever address comes last.
        if is_relayed(&address) || !self.permit.allows_address(&address) {
            return Err(TransportError::Other(io::ErrorKind::PermissionDenied.into()));
        }
        let Some(place) = Dialled::new(&self.dials, self.most, self.attempts.now()) else {
            return Err(TransportError::Other(io::ErrorKind::QuotaExceeded.into()));
        };
        let dial = self.inner.dial(address, options)?;
        Ok(Box::pin(async move {
            let _place = place;
            dial.await
        }))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.inner).poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use libp2p::identity::Keypair;

    use super::*;
    use crate::{behaviour, host::Bounds};

    #[test]
    fn only_literal_permitted_addresses_pass() {
        let permit = Permit::new(|ip| ip == IpAddr::from([192, 0, 2, 1]));
        let allows = |text: &str| permit.allows_address(&text.parse().unwrap());
        assert!(allows("/ip4/192.0.2.1/tcp/1"));
        assert!(!allows("/ip4/127.0.0.1/tcp/1"));
        assert!(!allows("/dns4/localhost/tcp/1"));
        assert!(!allows("/unix/tmp"));
    }

    #[test]
    fn a_dial_of_any_protocol_meets_the_rule() {
        use libp2p::core::{
            Endpoint,
            transport::{PortUse, dummy::DummyTransport},
        };
        let inner = DummyTransport::<(PeerId, StreamMuxerBox)>::new().boxed();
        let permit = Permit::new(|ip| ip == IpAddr::from([192, 0, 2, 1]));
        let mut guarded = Guarded::new(inner, permit, Attempts::default(), 1);
        let mut dial = |text: &str| {
            let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
            guarded.dial(text.parse().unwrap(), options).err().unwrap()
        };
        let refused = |error: TransportError<io::Error>| matches!(error, TransportError::Other(e) if e.kind() == io::ErrorKind::PermissionDenied);
        assert!(refused(dial("/ip4/10.0.0.1/tcp/1")));
        assert!(refused(dial("/dns4/localhost/tcp/1")));
        // The transport below dials TCP at the last address, whatever comes before it.
        assert!(refused(dial("/ip4/192.0.2.1/ip4/127.0.0.1/tcp/1")));
        assert!(refused(dial("/ip4/192.0.2.1/tcp/1/ip4/127.0.0.1/tcp/1")));
        let relay = PeerId::random();
        assert!(refused(dial(&format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{relay}"))));
        // Permitted addresses reach the transport below, which dials nothing here.
        assert!(matches!(dial("/ip4/192.0.2.1/tcp/1"), TransportError::MultiaddrNotSupported(_)));
    }

    #[test]
    fn what_was_discovered_nearby_passes_as_long_as_it_is_there() {
        let permit = Permit::new(|_| false);
        let ip = IpAddr::from([10, 0, 0, 7]);
        permit.set_nearby(HashSet::from([ip]));
        assert!(permit.allows(ip));
        permit.set_nearby(HashSet::new());
        assert!(!permit.allows(ip));
    }

    #[test]
    fn one_connection_dials_so_many_addresses_and_few_when_many_are_dialled() {
        let dials = Arc::default();
        let attempts = Attempts::default();
        let dial = |count| {
            attempts.begin();
            (0..count).filter_map(|_| Dialled::new(&dials, 80, attempts.now())).collect::<Vec<_>>()
        };
        let first = dial(400);
        assert_eq!(first.len(), 32);
        assert_eq!(dial(20).len(), 8, "until half of the places are taken");
        let second = dial(8);
        assert_eq!((second.len(), dial(400).len()), (8, 4));
        let crowd: Vec<_> = (0..10).map(|_| dial(16)).collect();
        assert_eq!(crowd.iter().map(Vec::len).sum::<usize>(), 40);
        assert!(dial(1).is_empty(), "there are no more places");
        drop(crowd);
        assert_eq!(dial(1).len(), 1, "who is done gives the places back");
        drop((first, second));
        let left = dials.lock().unwrap();
        assert!(left.all == 0 && left.of_one.is_empty());
    }

    #[tokio::test]
    async fn a_dial_has_its_place_until_it_ends_or_is_given_up() {
        use libp2p::core::{Endpoint, transport::PortUse};
        let (key, bounds) = (Keypair::generate_ed25519(), Bounds::default());
        let inner = behaviour::direct(&key, &bounds).unwrap();
        let mut guarded = Guarded::new(inner, Permit::new(|_| true), Attempts::default(), 1);
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let there: Multiaddr =
            format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port()).parse().unwrap();
        let mut dial = |address: &Multiaddr| {
            let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
            guarded.dial(address.clone(), options)
        };
        let first = dial(&there).unwrap();
        let told = dial(&there).err().unwrap();
        assert!(matches!(told, TransportError::Other(error) if error.kind() == io::ErrorKind::QuotaExceeded));
        drop(first);
        let second = dial(&there).unwrap();
        drop(silent);
        assert!(second.await.is_err());
        assert!(dial(&there).is_ok());
    }
}
