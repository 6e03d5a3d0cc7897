//! A relay's bounds: how much of the shared circuits one source may open.

use std::{num::NonZeroU32, time::Duration};

use libp2p::{Multiaddr, PeerId, relay};

use crate::{
    host::RelayLimits,
    reserved::{Reservations, Reserving},
    source::Source,
};

/// Reservations that one peer may request at once.
const RESERVATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);
/// Time after which it may request one more.
const RESERVATION_PACE: Duration = Duration::from_secs(2);
/// One source has this part of the circuits, and of the reservations.
const SHARE_OF_ONE: usize = 8;
/// But at least this many: one at once, and one more while that lasts.
const LEAST_OF_ONE: usize = 2;
/// How long the library waits for the other end to agree to a circuit; this time counts from the beginning.
const AGREEING: Duration = Duration::from_secs(60);

/// How many circuits one source may open: some at once, and one more per interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    at_once: NonZeroU32,
    every: Duration,
}

impl Pace {
    /// Half of a source's share at once, and the other half while those last, so that the share is never exceeded.
    fn of(limits: &RelayLimits) -> Self {
        let share = (limits.circuits / SHARE_OF_ONE).max(LEAST_OF_ONE);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let at_once = NonZeroU32::new(share / 2).unwrap_or(NonZeroU32::MIN);
        let rest = share.saturating_sub(at_once.get()).max(1);
        Self { at_once, every: longest(limits).saturating_add(AGREEING) / rest }
    }
}

/// The longest life of a circuit. The library panics if its seconds exceed 32 bits.
fn longest(limits: &RelayLimits) -> Duration {
    limits.circuit_time.min(Duration::from_secs(u32::MAX.into()))
}

/// The protocol of a host that relays for others.
pub(crate) fn relay_server(id: PeerId, limits: &RelayLimits) -> Reserving {
    let mut config = config(limits);
    let of_one = (limits.reservations / SHARE_OF_ONE).max(LEAST_OF_ONE);
    let reservations = Reservations::new(of_one, limits.reservations, config.reservation_duration);
    // The last to be asked: what it says yes to is granted.
    config.reservation_rate_limiters.push(reservations.limiter());
    let mut server = relay::Behaviour::new(id, config);
    // It was configured as one: whether it looks public to itself does not matter.
    server.set_status(Some(relay::Status::Enable));
    Reserving::new(server, reservations)
}

fn config(limits: &RelayLimits) -> relay::Config {
    let config = relay::Config {
        // Counted by `Reservations`: here a renewal would count as one more, and who was there first would lose its place.
        max_reservations: usize::MAX,
        // The library grants one more than these two values.
        max_reservations_per_peer: limits.reservations_per_peer.saturating_sub(1),
        max_circuits: limits.circuits,
        max_circuits_per_peer: limits.circuits_per_peer.saturating_sub(1),
        max_circuit_bytes: limits.circuit_bytes,
        max_circuit_duration: longest(limits),
        reservation_rate_limiters: Vec::new(),
        circuit_src_rate_limiters: Vec::new(),
        ..relay::Config::default()
    };
    let pace = Pace::of(limits);
    let mut config = config
        .reservation_rate_per_peer(RESERVATIONS, RESERVATION_PACE)
        .circuit_src_per_ip(pace.at_once, pace.every);
    let by_address = config.circuit_src_rate_limiters.drain(..).map(by_source).collect();
    config.circuit_src_rate_limiters = by_address;
    config
}

/// The library distinguishes addresses, but one IPv6 customer has many.
fn by_source(mut by_address: Box<dyn relay::RateLimiter>) -> Box<dyn relay::RateLimiter> {
    Box::new(move |peer, address: &Multiaddr, now| {
        // Everything without an address shares one source's part.
        let source = Source::of_ends(None, address).address().unwrap_or([0; 4].into());
        by_address.try_next(peer, &Multiaddr::from(source), now)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    /// How many of 500 circuits, and reservations, someone at `from` is granted at `now`.
    fn granted(limiters: &mut [Box<dyn relay::RateLimiter>], from: &str, now: Instant) -> usize {
        let (peer, from) = (PeerId::random(), address(from));
        (0..500).filter(|_| limiters[0].try_next(peer, &from, now)).count()
    }

    #[test]
    fn what_lives_of_one_source_is_an_eighth_at_most_and_who_waits_gets_the_next() {
        for circuits in [0, 1, 8, 64, 1000] {
            let limits = RelayLimits { circuits, ..RelayLimits::default() };
            let limiters = &mut config(&limits).circuit_src_rate_limiters;
            let (begun, mut opened) = (Instant::now(), Vec::new());
            for second in 0..1000 {
                let granted = granted(limiters, "/ip4/192.0.2.1/tcp/1", begun + Duration::from_secs(second));
                opened.extend((0..granted).map(|_| second));
                let alive = opened.iter().filter(|at| **at + 180 > second).count();
                assert!(alive <= (circuits / 8).max(2), "{alive} of {circuits} after {second} s");
            }
            assert!(opened.len() > circuits / 8 * 2, "{} of {circuits}", opened.len());
        }
    }

    #[test]
    fn one_source_leaves_room_for_others_whatever_its_addresses_and_peer_ids() {
        let limiters = &mut config(&RelayLimits::default()).circuit_src_rate_limiters;
        let now = Instant::now();
        assert_eq!(granted(limiters, "/ip6/2001:db8::1/tcp/1", now), 4);
        assert_eq!(granted(limiters, "/ip6/2001:db8::ffff:2/udp/1/quic-v1", now), 0);
        assert_eq!(granted(limiters, "/ip6/2001:db8:0:100::1/tcp/1", now), 4);
        assert_eq!(granted(limiters, "/ip4/192.0.2.1/tcp/1", now), 4);
        assert_eq!(granted(limiters, "/memory/1", now), 4);
        assert_eq!(granted(limiters, "/memory/2", now), 0);
    }

    #[test]
    fn who_has_used_up_its_reservations_gets_the_next_after_a_moment() {
        let limiters = &mut config(&RelayLimits::default()).reservation_rate_limiters;
        let (peer, from, begun) = (PeerId::random(), address("/ip4/192.0.2.1/tcp/1"), Instant::now());
        let mut granted = |now| (0..500).filter(|_| limiters[0].try_next(peer, &from, now)).count();
        assert_eq!(granted(begun), 30);
        assert_eq!(granted(begun + Duration::from_secs(60)), 30);
        assert!((1..=5).contains(&granted(begun + Duration::from_secs(62))));
    }
}
