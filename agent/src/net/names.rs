//! Host names of endpoints, looked up within bounds: strangers name them, and each look-up keeps one of the 512 threads that
//! the rest of the node needs too, long after nobody waits for it any more.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
    time::Duration,
};

use einmal_p2p::{LookupBounds, Lookups};

/// Most look-ups under way at once for HTTP and WebSockets; one that hangs keeps its place until the system gives it up.
pub(super) const MAX_LOOKUPS: usize = 192;
/// Most of them below one domain, whose name server may be the one that does not answer.
pub(super) const MAX_LOOKUPS_OF_ONE_DOMAIN: usize = 8;
/// Most look-ups under way at once for what the node's owner has chosen, beside the others.
const MAX_OWN_LOOKUPS: usize = 8;
/// Longest a look-up waits for its place before it is refused for now; names that are answered come free sooner.
const WAIT: Duration = Duration::from_secs(1);

static OWN: LazyLock<Names> = LazyLock::new(|| {
    let (places, of_one_domain) = (MAX_OWN_LOOKUPS, MAX_OWN_LOOKUPS);
    Names(Lookups::new(LookupBounds { places, of_one_domain, wait: WAIT }))
});

/// Looks names up; clones share the bounds.
#[derive(Clone, Debug)]
pub(crate) struct Names(Lookups);

impl Names {
    /// For whatever messages name.
    pub(super) fn asked() -> Self {
        let (places, of_one_domain) = (MAX_LOOKUPS, MAX_LOOKUPS_OF_ONE_DOMAIN);
        Self(Lookups::new(LookupBounds { places, of_one_domain, wait: WAIT }))
    }

    /// For what the node's owner has chosen, such as its mediator: what hangs because of others does not hold it up.
    pub(crate) fn own() -> &'static Self {
        &OWN
    }

    /// The addresses of a host with this port.
    pub(super) async fn find(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(literal) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(literal, port)]);
        }
        let mut found = self.0.find(host).await?;
        found.iter_mut().for_each(|address| address.set_port(port));
        Ok(found)
    }

    /// Names that are never answered.
    #[cfg(test)]
    pub(super) fn that_hang(places: usize) -> Self {
        let bounds = LookupBounds { places, of_one_domain: places, wait: Duration::from_millis(10) };
        Self(Lookups::by(|_| Box::pin(std::future::pending()), bounds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_need_no_look_up_and_names_have_the_port() {
        let at = |text: &str| vec![text.parse::<SocketAddr>().unwrap()];
        assert_eq!(Names::that_hang(0).find("192.0.2.1", 7).await.unwrap(), at("192.0.2.1:7"));
        assert_eq!(Names::that_hang(0).find("2001:db8::1", 7).await.unwrap(), at("[2001:db8::1]:7"));
        assert!(Names::own().find("localhost", 7).await.unwrap().iter().all(|one| one.port() == 7));
    }
}
