//! Replaces host names in multiaddresses by their present addresses, so that the vetted address is the dialled one.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures::future::join_all;
use libp2p::{Multiaddr, multiaddr::Protocol};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    address::{MAX_ADDRESSES, reached_ip},
    host::BoxFuture,
};

/// Most look-ups in progress for messages; one that hangs keeps its place until the system gives up.
const MAX_LOOKUPS: usize = 56;
/// Most of them in one domain, whose name server may be the one that does not answer.
const MAX_OF_ONE_DOMAIN: usize = 8;
/// Most look-ups in progress for this host's own relays, in addition to the others.
const MAX_OWN_LOOKUPS: usize = 8;
/// Longest time to wait for look-ups.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// The function that looks up a name.
type Lookup = fn(String) -> BoxFuture<Vec<IpAddr>>;

fn ask_the_system(name: String) -> BoxFuture<Vec<IpAddr>> {
    Box::pin(async move {
        let found = tokio::net::lookup_host((name, 0)).await;
        found.map(|sockets| sockets.map(|socket| socket.ip()).collect()).unwrap_or_default()
    })
}

/// Looks names up.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    lookup: Lookup,
    places: Arc<Semaphore>,
    own_places: Arc<Semaphore>,
    domains: Arc<Mutex<HashMap<String, Weak<Semaphore>>>>,
}

impl Default for Names {
    fn default() -> Self {
        Self::by(ask_the_system)
    }
}

/// The places that a look-up holds until it ends.
type Taken = (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit);

/// The domain by which names are counted: the last two labels, because its owner can make any number of names below.
fn domain_of(name: &str) -> String {
    let mut labels = name.trim_end_matches('.').rsplit('.');
    let (last, before) = (labels.next().unwrap_or_default(), labels.next().unwrap_or_default());
    format!("{before}.{last}").to_ascii_lowercase()
}

/// Whether an address begins with a host name.
pub(crate) fn is_named(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)))
}

impl Names {
    fn by(lookup: Lookup) -> Self {
        Self {
            lookup,
            places: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            own_places: Arc::new(Semaphore::new(MAX_OWN_LOOKUPS)),
            domains: Arc::default(),
        }
    }

    /// `addresses` with their names replaced, looked up concurrently. A name without an address, or without an answer
    /// in time, is left out. Literal addresses stay as they are.
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
        let Some(taken) = self.place(&name, own).await else { return Vec::new() };
        // A separate task: a system look-up cannot be stopped, and holds its place until it ends.
        let found = (self.lookup)(name);
        let lookup = tokio::spawn(async move {
            let found = found.await;
            drop(taken);
            found
        });
        let Ok(found) = lookup.await else { return Vec::new() };
        let wanted = found.into_iter().filter(|ip| if ip.is_ipv4() { v4 } else { v6 });
        wanted.take(MAX_ADDRESSES).map(|ip| with_ip(address, ip)).collect()
    }

    /// Waits for places, first for one in the name's domain, so that waiting for that takes no other places.
    async fn place(&self, name: &str, own: bool) -> Option<Taken> {
        if own {
            return Some((None, Arc::clone(&self.own_places).acquire_owned().await.ok()?));
        }
        let of_domain = self.domain(name).acquire_owned().await.ok()?;
        Some((Some(of_domain), Arc::clone(&self.places).acquire_owned().await.ok()?))
    }

    /// The places of a name's domain; they are dropped with its last look-up.
    fn domain(&self, name: &str) -> Arc<Semaphore> {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        domains.retain(|_, places| places.strong_count() > 0);
        let known = domains.entry(domain_of(name)).or_default();
        known.upgrade().unwrap_or_else(|| {
            let places = Arc::new(Semaphore::new(MAX_OF_ONE_DOMAIN));
            *known = Arc::downgrade(&places);
            places
        })
    }
}

/// An address with its first part replaced.
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
        assert!(names.resolve_one(&odd, false).await.is_empty());
    }

    /// Names below `hangs` are never answered; all others are.
    fn some_hang(name: String) -> BoxFuture<Vec<IpAddr>> {
        Box::pin(async move {
            match name.to_ascii_lowercase().contains("hangs") {
                true => std::future::pending().await,
                false => vec![IpAddr::from([192, 0, 2, 1])],
            }
        })
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
        let names = Names::by(some_hang);
        hang(&names, |number| format!("n{number}.Hangs.example")).await;
        assert_eq!(names.resolve(named("shop.example")).await.len(), 1);
        assert!(names.resolve(named("fine.hangs.example.")).await.is_empty());
        assert_eq!(names.places.available_permits(), MAX_LOOKUPS - MAX_OF_ONE_DOMAIN);
    }

    #[tokio::test(start_paused = true)]
    async fn the_relays_of_this_host_are_looked_up_whatever_hangs() {
        let names = Names::by(some_hang);
        hang(&names, |number| format!("hangs{number}.example")).await;
        assert!(names.resolve(named("shop.example")).await.is_empty());
        assert_eq!(names.resolve_own(named("relay.example")).await.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn many_names_of_one_domain_that_are_answered_are_all_found_and_no_domain_is_remembered() {
        let names = Names::by(some_hang);
        let many: Vec<_> = (0..64).flat_map(|number| named(&format!("n{number}.shop.example"))).collect();
        assert_eq!(names.resolve(many).await.len(), 64);
        assert_eq!(names.places.available_permits(), MAX_LOOKUPS);
        names.domain("other.example");
        assert_eq!(names.domains.lock().unwrap().len(), 1);
    }

    #[test]
    fn names_are_counted_by_their_last_two_labels() {
        for name in ["shop.example", "A.b.SHOP.example", "shop.example."] {
            assert_eq!(domain_of(name), "shop.example");
        }
        assert_ne!(domain_of("shop.example"), domain_of("other.example"));
        assert_eq!(domain_of("localhost"), ".localhost");
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
