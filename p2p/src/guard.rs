//! The one place every dial goes through, whichever protocol asked for it.

use std::{
    collections::HashSet,
    fmt, io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, Transport, TransportError, TransportEvent},
    },
};

use crate::address::{is_relayed, reached_ip};

/// Says which addresses may be dialled on the word of others.
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
    /// Permits what `rule` permits.
    pub fn new(rule: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self { rule: Arc::new(rule), nearby: Arc::default() }
    }

    /// Whether `ip` may be dialled.
    pub fn allows(&self, ip: IpAddr) -> bool {
        (self.rule)(ip) || self.nearby.read().unwrap_or_else(PoisonError::into_inner).contains(&ip)
    }

    /// Whether the address is one of TCP or QUIC, perhaps of a relay, at a literal address that may be dialled.
    pub(crate) fn allows_address(&self, address: &Multiaddr) -> bool {
        reached_ip(address).is_some_and(|ip| self.allows(ip))
    }

    /// Addresses that answered on the local network, where discovery is switched on.
    pub(crate) fn set_nearby(&self, found: HashSet<IpAddr>) {
        *self.nearby.write().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

/// A transport that dials permitted literal addresses only.
pub(crate) struct Guarded {
    inner: Boxed<(PeerId, StreamMuxerBox)>,
    permit: Permit,
}

impl Guarded {
    pub(crate) fn new(inner: Boxed<(PeerId, StreamMuxerBox)>, permit: Permit) -> Self {
        Self { inner, permit }
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
        // Circuits are the relay transport's; here they would be dialled at whatever address comes last.
        if is_relayed(&address) || !self.permit.allows_address(&address) {
            return Err(TransportError::Other(io::ErrorKind::PermissionDenied.into()));
        }
        self.inner.dial(address, options)
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
    use super::*;

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
        let mut guarded = Guarded::new(inner, Permit::new(|ip| ip == IpAddr::from([192, 0, 2, 1])));
        let mut dial = |text: &str| {
            let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
            guarded.dial(text.parse().unwrap(), options).err().unwrap()
        };
        let refused = |error: TransportError<io::Error>| matches!(error, TransportError::Other(e) if e.kind() == io::ErrorKind::PermissionDenied);
        assert!(refused(dial("/ip4/10.0.0.1/tcp/1")));
        assert!(refused(dial("/dns4/localhost/tcp/1")));
        // Below, TCP is dialled at the last address, whatever stands before it.
        assert!(refused(dial("/ip4/192.0.2.1/ip4/127.0.0.1/tcp/1")));
        assert!(refused(dial("/ip4/192.0.2.1/tcp/1/ip4/127.0.0.1/tcp/1")));
        let relay = PeerId::random();
        assert!(refused(dial(&format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{relay}"))));
        // What is permitted gets through to the transport below, which dials nothing here.
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
}
