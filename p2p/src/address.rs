//! Endpoints of peers as DID documents name them: `libp2p-peerId:` and multiaddresses, read with suspicion.

use std::net::IpAddr;

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// Scheme of this transport's endpoint URIs, as the extension writes it; compared case-insensitively.
pub const SCHEME: &str = "libp2p-peerId:";

/// Most multiaddresses taken from one endpoint.
pub const MAX_ADDRESSES: usize = 16;

/// Most bytes of one multiaddress as text.
const MAX_ADDRESS_BYTES: usize = 512;

/// The multicodec of a libp2p key in a content identifier.
const LIBP2P_KEY: u64 = 0x72;

/// An endpoint is not usable as written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The URI has another scheme.
    #[error("the endpoint is none of libp2p")]
    OtherScheme,
    /// The part after the scheme is not a peer id.
    #[error("the endpoint names no valid peer id")]
    PeerId,
    /// An address is not a multiaddress.
    #[error("an address of the endpoint is no multiaddress")]
    Address,
    /// An address does not end in the endpoint's own peer id.
    #[error("an address of the endpoint does not end in /p2p/ and the peer id of its URI")]
    ForeignPeer,
    /// More addresses than are accepted.
    #[error("the endpoint has more than {MAX_ADDRESSES} addresses")]
    TooManyAddresses,
}

/// A peer and the addresses it claims to be reachable at.
///
/// # Specification
///
/// DIDComm's libp2p transport extension, "Service Endpoint".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEndpoint {
    /// The peer.
    pub peer_id: PeerId,
    /// Where it listens; each address ends in its peer id. Empty if only discovery can find it.
    pub addresses: Vec<Multiaddr>,
}

/// Whether an endpoint URI belongs to this transport.
pub fn is_served(uri: &str) -> bool {
    uri.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
}

/// Whether an address leads through a relay.
pub fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

impl PeerEndpoint {
    /// Reads an endpoint's `uri` and `multiAddrs`.
    ///
    /// # Errors
    ///
    /// [`EndpointError`]; a single address that names another peer invalidates the whole endpoint.
    pub fn parse(uri: &str, multi_addrs: &[String]) -> Result<Self, EndpointError> {
        if !is_served(uri) {
            return Err(EndpointError::OtherScheme);
        }
        let peer_id = parse_peer_id(uri.get(SCHEME.len()..).unwrap_or_default())?;
        if multi_addrs.len() > MAX_ADDRESSES {
            return Err(EndpointError::TooManyAddresses);
        }
        let addresses =
            multi_addrs.iter().map(|text| parse_address(text, peer_id)).collect::<Result<_, _>>()?;
        Ok(Self { peer_id, addresses })
    }

    /// The URI of the endpoint.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}", self.peer_id)
    }
}

fn parse_address(text: &str, peer_id: PeerId) -> Result<Multiaddr, EndpointError> {
    if text.len() > MAX_ADDRESS_BYTES {
        return Err(EndpointError::Address);
    }
    let address: Multiaddr = text.parse().map_err(|_| EndpointError::Address)?;
    match address.iter().last() {
        Some(Protocol::P2p(last)) if last == peer_id => Ok(address),
        _ => Err(EndpointError::ForeignPeer),
    }
}

/// A peer id in either of its forms: base58, or a content identifier of version 1 in any multibase.
fn parse_peer_id(text: &str) -> Result<PeerId, EndpointError> {
    if text.len() > MAX_ADDRESS_BYTES {
        return Err(EndpointError::PeerId);
    }
    if text.starts_with("1") || text.starts_with("Qm") {
        return text.parse().map_err(|_| EndpointError::PeerId);
    }
    let (_, bytes) = multibase::decode(text).map_err(|_| EndpointError::PeerId)?;
    let wrong = |_| EndpointError::PeerId;
    let (version, rest) = unsigned_varint::decode::u64(&bytes).map_err(wrong)?;
    let (codec, multihash) = unsigned_varint::decode::u64(rest).map_err(wrong)?;
    if version != 1 || codec != LIBP2P_KEY {
        return Err(EndpointError::PeerId);
    }
    PeerId::from_bytes(multihash).map_err(|_| EndpointError::PeerId)
}

/// The literal address that a connection to `address` starts with: the host's own, or its relay's.
///
/// `None` for every address that is not exactly one of TCP or QUIC: transports differ in which part of a longer address
/// they dial, so the vetted address might not be the dialled one.
pub(crate) fn reached_ip(address: &Multiaddr) -> Option<IpAddr> {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    let Some(circuit) = parts.iter().position(|part| *part == Protocol::P2pCircuit) else {
        return way_ip(&parts);
    };
    let (way, behind) = (parts.get(..circuit)?, parts.get(circuit + 1..)?);
    let names_relay = matches!(way.last(), Some(Protocol::P2p(_)));
    let ends = matches!(behind, [] | [Protocol::P2p(_)]);
    way_ip(way).filter(|_| names_relay && ends)
}

/// The relay an address leads through, if the address names it.
pub(crate) fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let mut last = None;
    for part in address {
        match part {
            Protocol::P2p(peer_id) => last = Some(peer_id),
            Protocol::P2pCircuit => return last,
            _ => {}
        }
    }
    None
}

/// The literal address of a host that is reached without a relay; `None` for names, and for every address that is not exactly
/// one of TCP or QUIC.
pub fn direct_ip(address: &Multiaddr) -> Option<IpAddr> {
    reached_ip(address).filter(|_| !is_relayed(address))
}

fn way_ip(parts: &[Protocol<'_>]) -> Option<IpAddr> {
    let (host, way) = parts.split_first()?;
    let served = matches!(
        way,
        [Protocol::Tcp(_)]
            | [Protocol::Tcp(_), Protocol::P2p(_)]
            | [Protocol::Udp(_), Protocol::QuicV1]
            | [Protocol::Udp(_), Protocol::QuicV1, Protocol::P2p(_)]
    );
    match host {
        Protocol::Ip4(v4) if served => Some((*v4).into()),
        Protocol::Ip6(v6) if served => Some((*v6).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(seed: u8) -> PeerId {
        let key = libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        key.public().to_peer_id()
    }

    #[test]
    fn the_scheme_is_compared_without_regard_to_case() {
        let id = peer(1);
        for scheme in ["libp2p-peerId:", "libp2p-peerid:", "LIBP2P-PEERID:"] {
            let read = PeerEndpoint::parse(&format!("{scheme}{id}"), &[]).unwrap();
            assert_eq!(read.peer_id, id);
        }
        let other = PeerEndpoint::parse(&format!("https://{id}"), &[]);
        assert_eq!(other, Err(EndpointError::OtherScheme));
        assert!(!is_served("libp2p"));
    }

    #[test]
    fn a_peer_id_is_read_in_both_forms_and_nothing_else_is() {
        let id = peer(2);
        let mut cid = vec![1, 0x72];
        cid.extend(id.to_bytes());
        for base in [multibase::Base::Base32Lower, multibase::Base::Base58Btc, multibase::Base::Base36Lower] {
            let text = multibase::encode(base, &cid);
            assert_eq!(PeerEndpoint::parse(&format!("{SCHEME}{text}"), &[]).unwrap().peer_id, id, "{text}");
        }
        // A content identifier of something other than a key.
        let mut raw = vec![1, 0x55];
        raw.extend(id.to_bytes());
        let raw = multibase::encode(multibase::Base::Base32Lower, raw);
        for bad in ["", "12D3", "Qm", "bafy", "\u{e9}", raw.as_str(), "12d3koowlower"] {
            let read = PeerEndpoint::parse(&format!("{SCHEME}{bad}"), &[]);
            assert_eq!(read, Err(EndpointError::PeerId), "{bad}");
        }
    }

    #[test]
    fn an_address_of_another_peer_is_refused() {
        let (id, other) = (peer(3), peer(4));
        let uri = format!("{SCHEME}{id}");
        let own = format!("/ip4/192.0.2.1/tcp/4001/p2p/{id}");
        let relayed = format!("/ip4/192.0.2.9/tcp/4001/p2p/{other}/p2p-circuit/p2p/{id}");
        let read = PeerEndpoint::parse(&uri, &[own.clone(), relayed]).unwrap();
        assert_eq!(read.addresses.iter().map(is_relayed).collect::<Vec<_>>(), [false, true]);
        for foreign in [
            format!("/ip4/192.0.2.1/tcp/4001/p2p/{other}"),
            "/ip4/192.0.2.1/tcp/4001".to_owned(),
            format!("{own}/p2p-circuit"),
        ] {
            let read = PeerEndpoint::parse(&uri, &[own.clone(), foreign.clone()]);
            assert_eq!(read, Err(EndpointError::ForeignPeer), "{foreign}");
        }
        assert_eq!(PeerEndpoint::parse(&uri, &["/ip4/x".into()]), Err(EndpointError::Address));
        assert_eq!(
            PeerEndpoint::parse(&uri, &vec![own; MAX_ADDRESSES + 1]),
            Err(EndpointError::TooManyAddresses)
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_an_endpoint_says_is_read_or_refused(id in "\\PC{0,80}", address in "(/[a-z0-9]{0,8}|/[0-9.:]{0,8}){0,8}") {
            for uri in [id.clone(), format!("{SCHEME}{id}")] {
                let _ = PeerEndpoint::parse(&uri, std::slice::from_ref(&address));
            }
            let own = peer(5);
            let read = PeerEndpoint::parse(&format!("{SCHEME}{own}"), &[format!("{address}/p2p/{own}")]);
            if let Ok(read) = read {
                let _ = (reached_ip(&read.addresses[0]), is_relayed(&read.addresses[0]));
            }
        }

        #[test]
        fn a_content_identifier_of_any_bytes_is_read_or_refused(bytes in proptest::collection::vec(0u8.., 0..60)) {
            let _ = parse_peer_id(&multibase::encode(multibase::Base::Base32Lower, bytes));
        }
    }

    #[test]
    fn only_whole_addresses_of_tcp_and_quic_lead_anywhere() {
        let id = peer(6);
        let ip = |text: String| reached_ip(&text.parse().unwrap());
        let (there, relay) = (Some(IpAddr::from([192, 0, 2, 1])), format!("p2p/{id}/p2p-circuit"));
        for way in ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/udp/1/quic-v1"] {
            for end in
                [String::new(), format!("/p2p/{id}"), format!("/{relay}"), format!("/{relay}/p2p/{id}")]
            {
                assert_eq!(ip(format!("{way}{end}")), there, "{way}{end}");
            }
            // A relay without its name, two names, two relays, something after the peer.
            for end in [
                "p2p-circuit".to_owned(),
                format!("p2p/{id}/p2p/{id}"),
                format!("{relay}/{relay}"),
                format!("{relay}/ip4/192.0.2.1"),
                format!("{relay}/p2p/{id}/tcp/1"),
                "ws".to_owned(),
            ] {
                assert_eq!(ip(format!("{way}/{end}")), None, "{way}/{end}");
            }
        }
        for other in [
            format!("/ip4/192.0.2.1/ip4/127.0.0.1/tcp/1/p2p/{id}"),
            format!("/ip4/192.0.2.1/tcp/1/ip4/127.0.0.1/tcp/1/p2p/{id}"),
            format!("/ip4/192.0.2.1/p2p/{id}/ip4/127.0.0.1/tcp/1"),
            format!("/ip4/192.0.2.1/ip4/127.0.0.1/tcp/1/{relay}/p2p/{id}"),
            "/ip4/192.0.2.1".to_owned(),
            "/ip4/192.0.2.1/udp/1".to_owned(),
            "/ip4/192.0.2.1/udp/1/quic".to_owned(),
            "/dns4/localhost/tcp/1".to_owned(),
            String::new(),
        ] {
            assert_eq!(ip(other.clone()), None, "{other}");
        }
        assert_eq!(direct_ip(&format!("/ip4/192.0.2.1/tcp/1/{relay}").parse().unwrap()), None);
        assert_eq!(direct_ip(&"/ip4/192.0.2.1/tcp/1".parse().unwrap()), there);
    }
}
