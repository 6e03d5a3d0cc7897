//! What the scheme of an endpoint says about the way there.

use einmal_p2p::{Multiaddr, is_relayed, is_served};

/// Whether an endpoint returns nothing but its acceptance.
pub(crate) fn is_one_way(uri: &str) -> bool {
    is_served(uri)
}

/// Order in which the ways to one recipient are tried: direct libp2p, relayed, WebSocket, HTTP.
pub(crate) fn rank(uri: &str, multi_addrs: &[String]) -> u8 {
    let relayed = |text: &String| text.parse::<Multiaddr>().is_ok_and(|address| is_relayed(&address));
    if is_served(uri) {
        u8::from(!multi_addrs.is_empty() && multi_addrs.iter().all(relayed))
    } else if is_socket(uri) {
        2
    } else {
        3
    }
}

/// Whether a URI is a WebSocket URI.
pub(crate) fn is_socket(uri: &str) -> bool {
    uri.split_once(':')
        .is_some_and(|(scheme, _)| ["ws", "wss"].iter().any(|ours| scheme.eq_ignore_ascii_case(ours)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_ordered_from_direct_to_http() {
        let direct =
            "/ip4/192.0.2.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN".to_owned();
        let relayed =
            format!("{direct}/p2p-circuit/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN");
        let uri = "libp2p-peerid:12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        let ranks = [
            rank(uri, &[]),
            rank(uri, &[direct.clone(), relayed.clone()]),
            rank(uri, &[relayed]),
            rank("WSS://a.example", &[]),
            rank("https://a.example", &[direct]),
        ];
        assert_eq!(ranks, [0, 0, 1, 2, 3]);
    }
}
