//! Ranges of IP addresses, as configuration files name them.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// One address, or a network written with the length of its prefix: `10.0.0.7`, `10.0.0.0/8`, `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange(IpNet);

impl AddressRange {
    /// Whether `address` lies in it; an IPv4 address written as IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

/// The text is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no address and no network; write it like 10.0.0.7 or 10.0.0.0/8")]
pub struct NoAddressRange {
    /// The text.
    pub text: String,
}

impl FromStr for AddressRange {
    type Err = NoAddressRange;

    fn from_str(text: &str) -> Result<Self, NoAddressRange> {
        let single = text.parse::<IpAddr>().map(IpNet::from);
        let range = single.or_else(|_| text.parse::<IpNet>());
        range.map(Self).map_err(|_| NoAddressRange { text: text.to_owned() })
    }
}

impl TryFrom<String> for AddressRange {
    type Error = NoAddressRange;

    fn try_from(text: String) -> Result<Self, NoAddressRange> {
        text.parse()
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    #[test]
    fn single_address_and_network_contain_what_they_name_and_nothing_else() {
        for (text, inside, outside) in [
            ("10.0.0.7", "10.0.0.7", "10.0.0.8"),
            ("10.0.0.0/8", "10.255.1.2", "11.0.0.1"),
            ("10.0.0.7", "::ffff:10.0.0.7", "::ffff:10.0.0.8"),
            ("fd00::/8", "fd12::1", "fe80::1"),
            ("::1", "::1", "127.0.0.1"),
        ] {
            assert!(range(text).contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!range(text).contains(outside.parse().unwrap()), "{text} {outside}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for wrong in ["", "proxy.example", "10.0.0.0/33", "10.0.0", "10.0.0.7:80"] {
            let refused = wrong.parse::<AddressRange>().unwrap_err().to_string();
            assert!(refused.contains("10.0.0.0/8"), "{refused}");
        }
    }
}
