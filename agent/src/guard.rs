//! The addresses a node may connect to on behalf of others: every URL and DID of a peer is hostile until vetted.

mod local;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(crate) use self::local::{is_on_loopback, is_on_this_machine};
use crate::config::Network;

/// Whether an address belongs to the public Internet.
///
/// Everything else (loopback, private, link-local, shared, documentation, multicast, reserved, and IPv6 forms that
/// embed such an IPv4 address) is refused unless the configuration permits it.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => is_public_v4(v4),
            None => is_public_v6(v6),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

/// The IPv4 address inside a mapped, compatible, NAT64 or 6to4 address.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let [h1, h2] = high.to_be_bytes();
        let [l1, l2] = low.to_be_bytes();
        Ipv4Addr::new(h1, h2, l1, l2)
    };
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(v4(g, h)),
        (0, 0, 0, 0, 0, 0) if g != 0 => Some(v4(g, h)),
        (0x2002, ..) => Some(v4(b, c)),
        _ => None,
    }
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    let second = address.segments()[1];
    // Global unicast is 2000::/3; its ranges reserved for documentation and tunnels are not for peers.
    let global = first & 0xe000 == 0x2000;
    let set_aside = (first == 0x2001 && (second == 0x0db8 || second < 0x0200)) || first == 0x3fff;
    global && !set_aside
}

/// Why a place must not be connected to. It does not say which: that may be a person's, and this goes into logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// Not a URL at all.
    #[error("not a URL ({0})")]
    NotAUrl(url::ParseError),
    /// A URL of another scheme than those of HTTP.
    #[error("the scheme `{scheme}` is not served here")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// Plain HTTP, which the configuration does not permit.
    #[error("plain http is refused; in a test network set `allow_http = true` under [network]")]
    PlainHttp,
    /// A user's name or password stands in the URL.
    #[error("user information in a URL is refused")]
    UserInfo,
    /// The URL names no host.
    #[error("the URL has no host")]
    NoHost,
    /// The host's name leads to no address, at present.
    #[error("the host has no address")]
    NoAddress,
    /// No address of the host belongs to the public Internet, which the configuration demands.
    #[error("the host has no public address; in a test network set `allow_private = true` under [network]")]
    NotPublic,
}

/// Keeps the addresses that the configuration permits.
///
/// # Errors
///
/// [`GuardError::NoAddress`], [`GuardError::NotPublic`]. Of a name, both may be otherwise later: an access point that wants a login first
/// answers for every name with an address of its own.
pub fn vet(addresses: Vec<SocketAddr>, network: &Network) -> Result<Vec<SocketAddr>, GuardError> {
    let found = addresses.len();
    let kept: Vec<SocketAddr> =
        addresses.into_iter().filter(|address| network.allow_private || is_public(address.ip())).collect();
    match (kept.is_empty(), found) {
        (false, _) => Ok(kept),
        (true, 0) => Err(GuardError::NoAddress),
        (true, _) => Err(GuardError::NotPublic),
    }
}

/// Checks scheme and shape of a URL before connecting, and an address that is written out in it.
///
/// # Errors
///
/// [`GuardError`]; the same URL is refused as long as the configuration stays the same.
pub fn check_url(text: &str, network: &Network) -> Result<url::Url, GuardError> {
    let url = url::Url::parse(text).map_err(GuardError::NotAUrl)?;
    match url.scheme() {
        "https" => {}
        "http" if network.allow_http => {}
        "http" => return Err(GuardError::PlainHttp),
        other => return Err(GuardError::Scheme { scheme: other.to_owned() }),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(GuardError::UserInfo);
    }
    let literal = match url.host() {
        Some(url::Host::Ipv4(v4)) => Some(IpAddr::V4(v4)),
        Some(url::Host::Ipv6(v6)) => Some(IpAddr::V6(v6)),
        Some(url::Host::Domain(_)) => None,
        None => return Err(GuardError::NoHost),
    };
    if let Some(address) = literal {
        vet(vec![SocketAddr::new(address, 0)], network)?;
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_range_is_refused() {
        let special = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "3fff::1",
            "fec0::1",
        ];
        for text in special {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn public_addresses_pass() {
        for text in
            ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2a00:1450:4001::1", "64:ff9b::808:808"]
        {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn mixed_answers_keep_only_the_public_address() {
        let mixed = vec!["127.0.0.1:1".parse().unwrap(), "1.1.1.1:1".parse().unwrap()];
        assert_eq!(vet(mixed, &Network::default()), Ok(vec!["1.1.1.1:1".parse().unwrap()]));
    }

    #[test]
    fn refusal_names_the_setting() {
        let refused = vet(vec!["127.0.0.1:1".parse().unwrap()], &Network::default()).unwrap_err();
        assert_eq!(refused, GuardError::NotPublic);
        assert!(refused.to_string().contains("allow_private"));
        assert_eq!(vet(Vec::new(), &Network::default()), Err(GuardError::NoAddress));
        let refused = check_url("http://a.example/", &Network::default()).unwrap_err();
        assert_eq!(refused, GuardError::PlainHttp);
        assert!(refused.to_string().contains("allow_http"));
    }

    #[test]
    fn addresses_written_as_url_hosts_are_vetted() {
        for text in [
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://127.1/",
        ] {
            let refused = check_url(text, &Network::default());
            assert!(matches!(refused, Err(GuardError::NotPublic)), "{text}");
        }
        for text in ["https://u:p@a.example/", "https://u@a.example/"] {
            assert_eq!(check_url(text, &Network::default()), Err(GuardError::UserInfo));
        }
        let file = check_url("file:///etc/passwd", &Network::default());
        assert_eq!(file, Err(GuardError::Scheme { scheme: "file".into() }));
    }

    #[test]
    fn test_networks_may_permit_both() {
        let open = Network { allow_private: true, allow_http: true };
        assert!(check_url("http://127.0.0.1:7000/", &open).is_ok());
    }
}
