//! Replaces host names in multiaddresses by their present addresses, so that the vetted address is the dialled one.

use std::{net::IpAddr, time::Duration};

use futures::future::join_all;
use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::{
    address::{MAX_ADDRESSES, reached_ip},
    lookups::{LookupBounds, Lookups},
};

/// Most look-ups under way at once because of messages.
const MAX_LOOKUPS: usize = 56;
/// Most of them below one domain.
const MAX_OF_ONE_DOMAIN: usize = 8;
/// Most look-ups in progress for this host's own relays, in addition to the others.
const MAX_OWN_LOOKUPS: usize = 8;
/// Longest time to wait for look-ups.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// The bounds of what messages cause.
const ASKED: LookupBounds =
    LookupBounds { places: MAX_LOOKUPS, of_one_domain: MAX_OF_ONE_DOMAIN, wait: PATIENCE };
/// The bounds of what this host has chosen.
const OWN: LookupBounds =
    LookupBounds { places: MAX_OWN_LOOKUPS, of_one_domain: MAX_OWN_LOOKUPS, wait: PATIENCE };

/// Looks names up.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    asked: Lookups,
    own: Lookups,
}

impl Default for Names {
    fn default() -> Self {
        Self { asked: Lookups::new(ASKED), own: Lookups::new(OWN) }
    }
}

/// Whether an address begins with a name.
pub(crate) fn is_named(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)))
}

impl Names {
    /// `addresses` with their names replaced, all at once; a name without address, or without answer in time, is left
    /// out. Literal addresses stay as they are.
    pub(crate) async fn resolve(&self, addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        self.resolve_all(addresses, false).await
    }

    /// The same for addresses the owner configured: look-ups that hang because of others do not hold them up.
    pub(crate) async fn resolve_own(&self, addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        self.resolve_all(addresses, true).await
    }

    async fn resolve_all(&self, addresses: Vec<Multiaddr>, own: bool) -> Vec<Multiaddr> {
        let found = addresses.iter().map(|address| async move {
            tokio::time::timeout(PATIENCE, self.resolve_one(address, own)).await.unwrap_or_default()
        });
        join_all(found).await.into_iter().flatten().collect()
    }

    async fn resolve_one(&self, address: &Multiaddr, own: bool) -> Vec<Multiaddr> {
        let (name, v4, v6) = match address.iter().next() {
            Some(Protocol::Dns(name)) => (name.into_owned(), true, true),
            Some(Protocol::Dns4(name)) => (name.into_owned(), true, false),
            Some(Protocol::Dns6(name)) => (name.into_owned(), false, true),
            _ => return vec![address.clone()],
        };
        // Skip names that could not lead to anything dialable.
        if reached_ip(&with_ip(address, [0; 4].into())).is_none() {
            return Vec::new();
        }
        let lookups = if own { &self.own } else { &self.asked };
        let Ok(found) = lookups.find(&name).await else { return Vec::new() };
        let ips = found.into_iter().map(|socket| socket.ip());
        let wanted = ips.filter(|ip| if ip.is_ipv4() { v4 } else { v6 });
        wanted.take(MAX_ADDRESSES).map(|ip| with_ip(address, ip)).collect()
    }
}

/// An address with its first part replaced.
fn with_ip(address: &Multiaddr, ip: IpAddr) -> Multiaddr {
    std::iter::once(Protocol::from(ip)).chain(address.iter().skip(1)).collect()
}

#[cfg(test)]
mod tests {
    use std::{io, net::SocketAddr};

    use super::*;
    use crate::host::BoxFuture;

    #[tokio::test]
    async fn a_name_is_replaced_by_its_addresses() {
        let named: Multiaddr = "/dns4/localhost/tcp/4001".parse().unwrap();
        let literal: Multiaddr = "/ip4/127.0.0.1/tcp/4001".parse().unwrap();
        assert!(is_named(&named) && !is_named(&literal));
        let found = Names::default().resolve(vec![named, literal.clone()]).await;
        assert_eq!(found, [literal.clone(), literal]);
    }

    #[tokio::test]
    async fn a_name_before_anything_else_than_tcp_or_quic_is_not_looked_up() {
        let names = Names::default();
        let odd: Multiaddr = "/dns4/localhost/ip4/127.0.0.1/tcp/1".parse().unwrap();
        assert!(names.resolve_one(&odd, false).await.is_empty());
    }

    /// Names below `hangs` are never answered, all others are.
    fn some_hang(name: String) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            match name.to_ascii_lowercase().contains("hangs") {
                true => std::future::pending().await,
                false => Ok(vec![SocketAddr::from(([192, 0, 2, 1], 0))]),
            }
        })
    }

    fn hanging_names() -> Names {
        Names { asked: Lookups::by(some_hang, ASKED), own: Lookups::by(some_hang, OWN) }
    }

    fn named(name: &str) -> Vec<Multiaddr> {
        vec![format!("/dns4/{name}/tcp/1").parse().unwrap()]
    }

    /// Starts many look-ups that hang; their callers have given up by the end.
    async fn hang(names: &Names, name: impl Fn(usize) -> String) {
        let hanging = (0..64).map(|number| names.resolve(named(&name(number))));
        assert!(join_all(hanging).await.into_iter().all(|found| found.is_empty()));
    }

    #[tokio::test(start_paused = true)]
    async fn names_of_one_domain_that_hang_hold_up_their_own_domain_only() {
        let names = hanging_names();
        hang(&names, |number| format!("n{number}.Hangs.example")).await;
        assert_eq!(names.resolve(named("shop.example")).await.len(), 1);
        assert!(names.resolve(named("fine.hangs.example.")).await.is_empty());
        assert_eq!(names.asked.free(), MAX_LOOKUPS - MAX_OF_ONE_DOMAIN);
    }

    #[tokio::test(start_paused = true)]
    async fn the_relays_of_this_host_are_looked_up_whatever_hangs() {
        let names = hanging_names();
        hang(&names, |number| format!("hangs{number}.example")).await;
        assert!(names.resolve(named("shop.example")).await.is_empty());
        assert_eq!(names.resolve_own(named("relay.example")).await.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn look_ups_that_hang_do_not_hold_anything_up_for_long() {
        let names = hanging_names();
        hang(&names, |number| format!("hangs{number}.example")).await;
        let begun = tokio::time::Instant::now();
        let named: Vec<Multiaddr> = vec!["/dns4/localhost/tcp/1".parse().unwrap(); MAX_ADDRESSES];
        assert!(names.resolve(named).await.is_empty());
        assert_eq!(begun.elapsed(), PATIENCE);
    }
}
