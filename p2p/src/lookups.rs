//! Names looked up by the system, whose look-ups keep a thread each and cannot be stopped: so many at once, and few of one domain.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::host::BoxFuture;

/// What looks a name up.
pub type Lookup = fn(String) -> BoxFuture<io::Result<Vec<SocketAddr>>>;

fn ask_the_system(name: String) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
    Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
}

/// Looks names up within bounds; clones share them.
#[derive(Clone, Debug)]
pub struct Lookups {
    lookup: Lookup,
    bounds: LookupBounds,
    places: Arc<Semaphore>,
    domains: Arc<Mutex<HashMap<String, Weak<Semaphore>>>>,
}

/// How many look-ups there may be.
#[derive(Clone, Copy, Debug)]
pub struct LookupBounds {
    /// Under way at once; one that hangs keeps its place until the system gives it up.
    pub places: usize,
    /// Of them below one domain, whose name server may be the one that does not answer.
    pub of_one_domain: usize,
    /// Longest a look-up waits for its place: names that are answered come free soon.
    pub wait: Duration,
}

/// What countries sell names below.
const SECOND_LEVELS: [&str; 21] = [
    "ac", "asn", "co", "com", "edu", "gc", "gen", "go", "gob", "gov", "gv", "id", "lg", "mil", "ne", "net",
    "nhs", "nom", "or", "org", "web",
];

/// The domain that names are counted by: the last two labels, or three where a country sells names below the second, as in `co.uk`; for
/// whoever has one can make as many as it likes below.
fn domain_of(name: &str) -> String {
    let mut labels: Vec<&str> = name.trim_end_matches('.').rsplit('.').collect();
    let is_country = labels.first().is_some_and(|label| label.len() == 2);
    let is_sold = |label: &&str| SECOND_LEVELS.iter().any(|known| known.eq_ignore_ascii_case(label));
    let below_it = is_country && labels.get(1).is_some_and(is_sold);
    labels.truncate(if below_it { 3 } else { 2 });
    labels.reverse();
    labels.join(".").to_ascii_lowercase()
}

impl Lookups {
    /// Look-ups by the system.
    pub fn new(bounds: LookupBounds) -> Self {
        Self::by(ask_the_system, bounds)
    }

    /// Look-ups by something else, such as a test's.
    pub fn by(lookup: Lookup, bounds: LookupBounds) -> Self {
        Self { lookup, bounds, places: Arc::new(Semaphore::new(bounds.places)), domains: Arc::default() }
    }

    /// The addresses of `name`, with port 0.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if no place came free in time, a later attempt may succeed; else what the system says.
    pub async fn find(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let Ok(Some(taken)) = tokio::time::timeout(self.bounds.wait, self.place(name)).await else {
            let text =
                "as many names are looked up as may be at once, of all or of this domain; try again later";
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        };
        // A task of its own: a system's look-up cannot be stopped, and its place counts until it ends.
        let found = (self.lookup)(name.to_owned());
        let lookup = tokio::spawn(async move {
            let found = found.await;
            drop(taken);
            found
        });
        lookup.await.map_err(io::Error::other)?
    }

    /// Waits for places: one of the name's domain first, so that waiting for it takes none of the others'.
    async fn place(&self, name: &str) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let of_domain = self.domain(name).acquire_owned().await.ok()?;
        Some((of_domain, Arc::clone(&self.places).acquire_owned().await.ok()?))
    }

    /// The places of a name's domain, which are forgotten with the last look-up.
    fn domain(&self, name: &str) -> Arc<Semaphore> {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        domains.retain(|_, places| places.strong_count() > 0);
        let known = domains.entry(domain_of(name)).or_default();
        known.upgrade().unwrap_or_else(|| {
            let places = Arc::new(Semaphore::new(self.bounds.of_one_domain));
            *known = Arc::downgrade(&places);
            places
        })
    }

    /// Places that are free.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.places.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    const BOUNDS: LookupBounds = LookupBounds { places: 16, of_one_domain: 4, wait: Duration::from_secs(1) };

    /// Names below `hangs` are answered after half a minute, all others at once.
    fn some_hang(name: String) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            if name.contains("hangs") {
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
            Ok(vec![SocketAddr::from(([192, 0, 2, 1], 0))])
        })
    }

    /// So many look-ups that hang and are waited for no longer than a connection is.
    async fn hang(lookups: &Lookups, name: impl Fn(usize) -> String) {
        let names: Vec<_> = (0..64).map(name).collect();
        let hanging = names
            .iter()
            .map(|name| async { tokio::time::timeout(Duration::from_secs(5), lookups.find(name)).await });
        assert!(join_all(hanging).await.iter().all(|found| !matches!(found, Ok(Ok(_)))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_up_nobody_waits_for_any_more_keeps_its_place_until_the_system_gives_it_up() {
        let lookups = Lookups::by(some_hang, BOUNDS);
        hang(&lookups, |number| format!("n{number}.hangs.example")).await;
        assert_eq!(lookups.free(), BOUNDS.places - BOUNDS.of_one_domain);
        let refused = lookups.find("fine.hangs.example.").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(lookups.find("shop.example").await.is_ok(), "another domain notices nothing");
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(lookups.free(), BOUNDS.places);
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_hang_below_many_domains_take_no_more_places_than_there_are() {
        let lookups = Lookups::by(some_hang, BOUNDS);
        hang(&lookups, |number| format!("hangs{number}.example")).await;
        let begun = tokio::time::Instant::now();
        let refused = lookups.find("shop.example").await.unwrap_err();
        assert_eq!((refused.kind(), lookups.free()), (io::ErrorKind::WouldBlock, 0));
        assert_eq!(begun.elapsed(), BOUNDS.wait);
    }

    #[tokio::test(start_paused = true)]
    async fn many_names_of_one_domain_that_are_answered_are_all_found_and_no_domain_is_remembered() {
        let lookups = Lookups::by(some_hang, BOUNDS);
        let many: Vec<_> = (0..64).map(|number| format!("n{number}.shop.example")).collect();
        let found = join_all(many.iter().map(|name| lookups.find(name))).await;
        assert!(found.iter().all(Result::is_ok));
        assert_eq!(lookups.free(), BOUNDS.places);
        lookups.domain("other.example");
        assert_eq!(lookups.domains.lock().unwrap().len(), 1);
    }

    #[test]
    fn names_are_counted_by_their_last_two_labels() {
        for name in ["shop.example", "A.b.SHOP.example", "shop.example."] {
            assert_eq!(domain_of(name), "shop.example");
        }
        assert_ne!(domain_of("shop.example"), domain_of("other.example"));
        assert_ne!(domain_of("shop.co.uk"), domain_of("other.co.uk"));
        assert_eq!(domain_of("a.shop.co.uk"), "shop.co.uk");
        assert_ne!(domain_of("linz.gv.at"), domain_of("graz.gv.at"));
        assert_eq!(domain_of("n1.q3x.xyz"), domain_of("n2.q3x.xyz"), "a short name is no country's");
        assert_eq!(domain_of("n1.q3x.de"), domain_of("n2.q3x.de"));
        assert_eq!(domain_of("localhost"), "localhost");
    }
}
