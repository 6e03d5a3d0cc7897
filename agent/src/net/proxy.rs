//! The client whose request a reverse proxy passes on.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::AddressRange;

/// Each proxy appends to this header the address that asked it.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whether `address` belongs to a proxy.
pub(super) fn is_proxy(proxies: &[AddressRange], address: IpAddr) -> bool {
    proxies.iter().any(|range| range.contains(address))
}

/// The client of a request that came from one of `proxies`: the last address in `X-Forwarded-For` that is not a proxy.
/// Anything before it may have been written by the client itself.
///
/// `None` if the proxies name nobody, as in requests of their own.
pub(super) fn client(proxies: &[AddressRange], headers: &HeaderMap) -> Option<IpAddr> {
    let lines: Vec<&[u8]> = headers.get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    // As bytes: the client's part may not be text, and must not hide what the proxy wrote.
    let last_first = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    for entry in last_first {
        let address = address(std::str::from_utf8(entry).ok()?.trim())?;
        if !is_proxy(proxies, address) {
            return Some(address);
        }
    }
    None
}

/// Some proxies write the port, too.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[&str]) -> Option<String> {
        let proxies = ["10.0.0.0/8", "::1"].map(|text| text.parse().unwrap());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        client(&proxies, &headers).map(|address| address.to_string())
    }

    #[test]
    fn last_address_that_is_no_proxys_is_the_client() {
        for (lines, client) in [
            (&["192.0.2.1"][..], Some("192.0.2.1")),
            (&["192.0.2.1, 10.1.2.3"], Some("192.0.2.1")),
            (&["192.0.2.1", "10.1.2.3 , ::1"], Some("192.0.2.1")),
            (&["192.0.2.1:4711"], Some("192.0.2.1")),
            (&["[2001:db8::1]:4711"], Some("2001:db8::1")),
            (&[], None),
            (&["10.0.0.1, 10.0.0.2"], None),
        ] {
            assert_eq!(found(lines).as_deref(), client, "{lines:?}");
        }
    }

    #[test]
    fn what_the_client_wrote_itself_counts_for_nothing() {
        assert_eq!(found(&["198.51.100.9, 192.0.2.1"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(found(&["198.51.100.9", "192.0.2.1, 10.0.0.1"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(found(&["127.0.0.1, 192.0.2.1"]).as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn bytes_that_are_no_text_hide_nobody() {
        let proxies = ["10.0.0.0/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED_FOR, HeaderValue::from_bytes(b"\xff, 192.0.2.1").unwrap());
        assert_eq!(client(&proxies, &headers), Some("192.0.2.1".parse().unwrap()));
        headers.insert(FORWARDED_FOR, HeaderValue::from_bytes(b"\xff").unwrap());
        headers.append(FORWARDED_FOR, HeaderValue::from_static("192.0.2.1, 10.0.0.1"));
        assert_eq!(client(&proxies, &headers), Some("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn words_instead_of_an_address_name_nobody() {
        assert_eq!(found(&["192.0.2.1, unknown"]), None);
        assert_eq!(found(&["unix:"]), None);
        assert_eq!(found(&["192.0.2.1,"]), None);
    }
}
