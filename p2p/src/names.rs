//! Host names of multiaddresses, replaced by the addresses they have now: what is vetted is what is dialled.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures::future::join_all;
use libp2p::{Multiaddr, multiaddr::Protocol};
use tokio::sync::Semaphore;

use crate::address::{MAX_ADDRESSES, reached_ip};

/// Most look-ups under way at once; one that hangs keeps its place until the system gives it up.
const MAX_LOOKUPS: usize = 64;
/// Longest anything waits for look-ups.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// Looks names up.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    places: Arc<Semaphore>,
}

impl Default for Names {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
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
        let found = addresses.iter().map(|address| async move {
            tokio::time::timeout(PATIENCE, self.resolve_one(address)).await.unwrap_or_default()
        });
        join_all(found).await.into_iter().flatten().collect()
    }

    async fn resolve_one(&self, address: &Multiaddr) -> Vec<Multiaddr> {
        let (name, v4, v6) = match address.iter().next() {
            Some(Protocol::Dns(name)) => (name.into_owned(), true, true),
            Some(Protocol::Dns4(name)) => (name.into_owned(), true, false),
            Some(Protocol::Dns6(name)) => (name.into_owned(), false, true),
            _ => return vec![address.clone()],
        };
        // Nobody asks for a name behind which nothing can be dialled.
        if reached_ip(&with_ip(address, [0; 4].into())).is_none() {
            return Vec::new();
        }
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return Vec::new() };
        // A task of its own: a system's look-up cannot be stopped, and its place counts until it ends.
        let lookup = tokio::spawn(async move {
            let found = tokio::net::lookup_host((name, 0)).await;
            drop(place);
            found.map(|sockets| sockets.map(|socket| socket.ip()).collect::<Vec<_>>())
        });
        let Ok(Ok(found)) = lookup.await else { return Vec::new() };
        let wanted = found.into_iter().filter(|ip| if ip.is_ipv4() { v4 } else { v6 });
        wanted.take(MAX_ADDRESSES).map(|ip| with_ip(address, ip)).collect()
    }
}

/// An address with another beginning.
fn with_ip(address: &Multiaddr, ip: IpAddr) -> Multiaddr {
    std::iter::once(Protocol::from(ip)).chain(address.iter().skip(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(names.resolve_one(&odd).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn look_ups_that_hang_do_not_hold_anything_up_for_long() {
        let names = Names::default();
        let _hanging =
            Arc::clone(&names.places).acquire_many_owned(MAX_LOOKUPS.try_into().unwrap()).await.unwrap();
        let begun = tokio::time::Instant::now();
        let named: Vec<Multiaddr> = vec!["/dns4/localhost/tcp/1".parse().unwrap(); MAX_ADDRESSES];
        assert!(names.resolve(named).await.is_empty());
        assert_eq!(begun.elapsed(), PATIENCE);
    }
}
