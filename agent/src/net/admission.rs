//! Who may come in, and how often: connections and requests are counted and bounded before any work is done.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use axum::http::HeaderMap;
use einmal_p2p::Source;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::proxy;
use crate::{config::Limits, rates::Rates};

/// Most requests handled at once.
pub(super) const MAX_REQUESTS: usize = 256;
/// Most of them from one source: what it asks for may cost much, and others have their turn all the same.
pub(super) const MAX_REQUESTS_PER_SOURCE: usize = 64;
/// Most request bodies read at once, each of at most one envelope's size.
pub(super) const MAX_BODIES: usize = 512;
/// Most of them from one source: a client whose bodies drip in holds up nobody else.
pub(super) const MAX_BODIES_PER_SOURCE: usize = 64;
/// Bytes from which on a message is large: it is counted as long as it waits for its reader, as are the buffers it went through, which stay
/// as large as it was.
pub(super) const LARGE_BYTES: usize = 64 * 1024;
/// Most bytes of buffers that WebSockets keep because large messages went through them.
pub(super) const MAX_GROWN_BYTES: usize = 256 * 1024 * 1024;
/// Most of them for one source.
pub(super) const MAX_GROWN_BYTES_PER_SOURCE: usize = 16 * 1024 * 1024;
/// Answers by HTTP that are made, or are large and wait for their reader.
const MAX_ANSWERS: usize = 512;
/// Most of them from one source.
pub(super) const MAX_ANSWERS_PER_SOURCE: usize = 64;
/// Messages on WebSockets of which more than [`LARGE_BYTES`] have arrived and which are not complete.
const MAX_UNFINISHED: usize = 256;
/// Most of them from one source.
pub(super) const MAX_UNFINISHED_PER_SOURCE: usize = 16;
/// Bytes of buffers are counted in pieces of this many.
const PIECE: usize = 4 * 1024;
/// Most requests that wait for their turn; there is no room for more.
pub(super) const MAX_WAITING: usize = 4096;
/// Longest a request waits for its turn before it is told to come again.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(2);
/// Longest a request waits outside, unread, for room before it is told to come again. Requests enter in order of
/// arrival. Waiting costs nothing, while a client that ignores a refusal and returns at once takes time from the
/// requests being served.
pub(super) const MAX_WAIT_OUTSIDE: Duration = Duration::from_secs(2);
/// Seconds after which a refused request may come again.
pub(super) const RETRY_AFTER_SECS: u64 = 1;

/// Counts and bounds.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    connections: Arc<Semaphore>,
    pending: Arc<Semaphore>,
    by_source: Mutex<HashMap<Source, Counts>>,
    /// The turns of each source, for as long as one is taken: also after its last connection has closed.
    turns_of: Mutex<HashMap<Source, Weak<Semaphore>>>,
    rates: Rates<Source>,
    rooms: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    grown: Arc<Semaphore>,
    unfinished: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

/// Connections from one source.
#[derive(Debug, Default)]
struct Counts {
    open: usize,
    /// Those of them that have not sent a request yet.
    pending: usize,
    /// Permits to read bodies, made for the first one; kept while a connection of this source is open.
    bodies: Option<Arc<Semaphore>>,
    /// Room for grown buffers, likewise.
    grown: Option<Arc<Semaphore>>,
    /// Leave for large messages that are not complete, likewise.
    unfinished: Option<Arc<Semaphore>>,
    /// Leave for answers by HTTP, likewise.
    answers: Option<Arc<Semaphore>>,
}

/// Leave to keep grown buffers, until dropped.
#[derive(Debug)]
pub(super) struct Buffers {
    _own: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

/// Leave to hold a large message that is not complete, until dropped.
#[derive(Debug)]
pub(super) struct Unfinished {
    _own: Option<OwnedSemaphorePermit>,
    _of_all: Option<OwnedSemaphorePermit>,
}

/// Leave to make an answer by HTTP, and to keep it until its reader has it, until dropped.
#[derive(Debug)]
pub(super) struct Answering {
    /// Otherwise what is counted for a client behind a proxy would be forgotten with its request.
    _place: Arc<Place>,
    _own: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

/// Leave to work on one request, until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _own: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

/// Room to wait for a turn, held until dropped.
#[derive(Debug)]
pub(super) struct Room(#[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit);

/// Permission to read a body, and room to wait in afterwards.
#[derive(Debug)]
pub(super) struct Reading {
    _own: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
    room: Room,
}

impl Reading {
    /// The body is complete: others may read theirs.
    pub(super) fn end(self) -> Room {
        self.room
    }
}

/// The place of a connection, or of a client behind a proxy's connection; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    source: Source,
    /// Whether the connection is from a trusted proxy.
    is_proxys: bool,
    _on: Ground,
    /// Held until the first request has arrived.
    pending: Mutex<Option<OwnedSemaphorePermit>>,
    deadline: Instant,
}

/// What a place rests on.
#[derive(Debug)]
enum Ground {
    Connection(#[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit),
    Within(#[expect(dead_code, reason = "held until it is dropped")] Arc<Place>),
}

impl Place {
    /// The source that holds the place.
    pub(crate) fn source(&self) -> Source {
        self.source
    }

    /// A request has arrived: the connection no longer counts as pending.
    pub(crate) fn arrived(&self) {
        let held = self.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
        if held.is_some()
            && let Some(counts) = self.admission.by_source().get_mut(&self.source)
        {
            counts.pending -= 1;
        }
    }

    /// Resolves when the first request is overdue; never, if it came in time.
    pub(crate) async fn overdue(&self) {
        tokio::time::sleep_until(self.deadline).await;
        if self.pending.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.arrived();
        let mut by_source = self.admission.by_source();
        if let Some(counts) = by_source.get_mut(&self.source) {
            counts.open -= 1;
            if counts.open == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            connections: Arc::new(Semaphore::new(limits.connections())),
            pending: Arc::new(Semaphore::new(limits.pending())),
            by_source: Mutex::default(),
            turns_of: Mutex::default(),
            rates: Rates::new(limits.requests_per_second()),
            limits,
            rooms: Arc::new(Semaphore::new(MAX_WAITING)),
            bodies: Arc::new(Semaphore::new(MAX_BODIES)),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            grown: Arc::new(Semaphore::new(MAX_GROWN_BYTES / PIECE)),
            unfinished: Arc::new(Semaphore::new(MAX_UNFINISHED)),
            answers: Arc::new(Semaphore::new(MAX_ANSWERS)),
        })
    }

    /// See [`Limits::counts`].
    pub(super) fn is_bounded(&self, source: Source) -> bool {
        self.limits.counts(source)
    }

    fn by_source(&self) -> MutexGuard<'_, HashMap<Source, Counts>> {
        self.by_source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `address`, if one is left. Until its first request it counts as pending, too.
    pub(crate) fn connect(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let permit = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        let pending = Arc::clone(&self.pending).try_acquire_owned().ok()?;
        let source = Source::of(address);
        let mut by_source = self.by_source();
        let full = by_source.get(&source).is_some_and(|counts| {
            counts.open >= self.limits.connections_per_address()
                || counts.pending >= self.limits.pending_per_address()
        });
        let is_proxys = proxy::is_proxy(&self.limits.proxies, address);
        if full && self.is_bounded(source) && !is_proxys {
            return None;
        }
        let counts = by_source.entry(source).or_default();
        counts.open += 1;
        counts.pending += 1;
        drop(by_source);
        Some(Place {
            admission: Arc::clone(self),
            source,
            is_proxys,
            _on: Ground::Connection(permit),
            pending: Mutex::new(Some(pending)),
            deadline: Instant::now() + self.limits.pending_time(),
        })
    }

    /// The place for the sender of a request: that of its connection or, if a proxy passes it on, one of the client's
    /// own. `None` if that client has as many as it may.
    pub(super) fn visitor(place: &Arc<Place>, headers: &HeaderMap) -> Option<Arc<Place>> {
        let admission = &place.admission;
        let named = || proxy::client(&admission.limits.proxies, headers);
        let Some(client) = place.is_proxys.then(named).flatten() else { return Some(Arc::clone(place)) };
        let source = Source::of(client);
        let mut by_source = admission.by_source();
        let open = by_source.get(&source).map_or(0, |counts| counts.open);
        if open >= admission.limits.connections_per_address() && admission.is_bounded(source) {
            return None;
        }
        by_source.entry(source).or_default().open += 1;
        drop(by_source);
        Some(Arc::new(Place {
            admission: Arc::clone(admission),
            source,
            is_proxys: false,
            _on: Ground::Within(Arc::clone(place)),
            pending: Mutex::new(None),
            deadline: place.deadline,
        }))
    }

    /// Whether a request from `source` is within its rate.
    pub(crate) fn within_rate(&self, source: Source) -> bool {
        !self.is_bounded(source) || self.rates.admit(&source)
    }

    /// Leave for the WebSocket of `place` to keep `bytes` more of buffers that a large message went through; `None` if there is no room.
    pub(super) fn buffers(&self, place: &Place, bytes: usize) -> Option<Buffers> {
        let pieces = u32::try_from(bytes.div_ceil(PIECE)).ok()?;
        let take = |room: Arc<Semaphore>| room.try_acquire_many_owned(pieces).ok();
        let most = MAX_GROWN_BYTES_PER_SOURCE / PIECE;
        let own = match self.share(place.source, most, |counts| &mut counts.grown) {
            Some(room) => Some(take(room)?),
            None => None,
        };
        Some(Buffers { _own: own, _of_all: take(Arc::clone(&self.grown))? })
    }

    /// Waits for leave to hold a large message that is not complete on the WebSocket of `place`. Whoever came first gets it first.
    pub(super) async fn unfinished(&self, place: &Place) -> Unfinished {
        let own = self.share(place.source, MAX_UNFINISHED_PER_SOURCE, |counts| &mut counts.unfinished);
        let own = match own {
            Some(room) => room.acquire_owned().await.ok(),
            None => None,
        };
        Unfinished { _own: own, _of_all: Arc::clone(&self.unfinished).acquire_owned().await.ok() }
    }

    /// Waits for leave to make an answer for the request of `place`; `None` if that takes too long. Asked for before anything is done: what
    /// is done cannot be refused any more.
    pub(super) async fn answering(&self, place: &Arc<Place>) -> Option<Answering> {
        let own = match self.share(place.source, MAX_ANSWERS_PER_SOURCE, |counts| &mut counts.answers) {
            Some(room) => Some(within(MAX_WAIT, &room).await?),
            None => None,
        };
        let of_all = within(MAX_WAIT, &self.answers).await?;
        Some(Answering { _place: Arc::clone(place), _own: own, _of_all: of_all })
    }

    /// The share of a source in what `part` counts, of `most`, if the source is bounded.
    fn share(
        &self,
        source: Source,
        most: usize,
        part: impl FnOnce(&mut Counts) -> &mut Option<Arc<Semaphore>>,
    ) -> Option<Arc<Semaphore>> {
        if !self.is_bounded(source) {
            return None;
        }
        let mut by_source = self.by_source();
        let share = part(by_source.get_mut(&source)?);
        Some(Arc::clone(share.get_or_insert_with(|| Arc::new(Semaphore::new(most)))))
    }

    /// Waits for permission to read a body on the connection of `place`; `None` if that takes too long, because it
    /// would then be read in vain.
    pub(super) async fn body(&self, place: &Place) -> Option<Reading> {
        // First the permit of its own source: waiting for that takes nothing from others.
        let own = match self.share(place.source, MAX_BODIES_PER_SOURCE, |counts| &mut counts.bodies) {
            Some(bodies) => Some(within(MAX_WAIT, &bodies).await?),
            None => None,
        };
        let room = self.room().await?;
        Some(Reading { _own: own, _of_all: within(MAX_WAIT, &self.bodies).await?, room })
    }

    /// Waits outside until there is room; `None` if that takes too long.
    async fn room(&self) -> Option<Room> {
        within(MAX_WAIT_OUTSIDE, &self.rooms).await.map(Room)
    }

    /// Waits for leave to work with what came by the connection of `place` and is read already; `None` if that takes too long.
    pub(super) async fn request(&self, place: &Place) -> Option<Turn> {
        self.turn(self.room().await?, place).await
    }

    /// Waits in its room for leave to work; `None` if that takes too long.
    pub(super) async fn turn(&self, room: Room, place: &Place) -> Option<Turn> {
        // First the place among its own: who waits for that takes nothing of the others'.
        let own = match self.requests_of(place.source) {
            Some(requests) => Some(within(MAX_WAIT, &requests).await?),
            None => None,
        };
        let of_all = within(MAX_WAIT, &self.requests).await;
        drop(room);
        Some(Turn { _own: own, _of_all: of_all? })
    }

    /// The places of a source's requests, if it is one that counts.
    fn requests_of(&self, source: Source) -> Option<Arc<Semaphore>> {
        if !self.is_bounded(source) {
            return None;
        }
        let mut turns = self.turns_of.lock().unwrap_or_else(PoisonError::into_inner);
        // No more than are handled or wait.
        turns.retain(|_, turns| turns.strong_count() > 0);
        let known = turns.entry(source).or_default();
        Some(known.upgrade().unwrap_or_else(|| {
            let fresh = Arc::new(Semaphore::new(MAX_REQUESTS_PER_SOURCE));
            *known = Arc::downgrade(&fresh);
            fresh
        }))
    }

    /// Connections open now.
    pub(crate) fn open_connections(&self) -> usize {
        self.limits.connections().saturating_sub(self.connections.available_permits())
    }
}

/// One of `places`, in the order of the requests for them; `None` if none becomes free within `time`.
async fn within(time: Duration, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(places).try_acquire_owned() {
        return Some(permit);
    }
    tokio::time::timeout(time, Arc::clone(places).acquire_owned()).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            max_connections: Some(3),
            max_connections_per_address: Some(2),
            max_requests_per_second: Some(1),
            ..Limits::default()
        }
    }

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn connections_are_bounded_for_each_address_and_in_all_and_come_free_again() {
        let admission = Admission::new(limits());
        let first = admission.connect(at("192.0.2.1"));
        let second = admission.connect(at("192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(admission.connect(at("192.0.2.1")).is_none(), "the third of one address");
        let other = admission.connect(at("192.0.2.2"));
        assert!(other.is_some());
        assert!(admission.connect(at("192.0.2.3")).is_none(), "the fourth of all");
        drop(first);
        assert!(admission.connect(at("192.0.2.1")).is_some());
    }

    fn named(client: &str) -> HeaderMap {
        let line = ("x-forwarded-for".parse().unwrap(), client.parse().unwrap());
        HeaderMap::from_iter([line])
    }

    #[test]
    fn clients_behind_a_proxy_are_bounded_for_each_and_the_proxy_is_not() {
        let proxies = vec!["10.0.0.0/8".parse().unwrap()];
        let admission = Admission::new(Limits { proxies, max_connections: None, ..limits() });
        let lines: Vec<_> = (0..5).map(|_| Arc::new(admission.connect(at("10.0.0.1")).unwrap())).collect();
        let visit = |line: usize, client| Admission::visitor(&lines[line], &named(client));
        let (first, second) = (visit(0, "192.0.2.1").unwrap(), visit(1, "192.0.2.1").unwrap());
        assert_eq!(first.source(), Source::of(at("192.0.2.1")));
        assert!(visit(2, "192.0.2.1").is_none(), "the third of one client");
        assert!(visit(2, "192.0.2.2").is_some());
        drop(first);
        let third = visit(2, "192.0.2.1");
        assert!(third.is_some());
        drop((second, third, lines));
        assert!(admission.by_source().is_empty());
        assert_eq!(admission.open_connections(), 0);
    }

    #[test]
    fn connection_of_a_proxy_stays_while_its_client_does() {
        let proxies = vec!["10.0.0.1".parse().unwrap()];
        let admission = Admission::new(Limits { proxies, ..limits() });
        let line = Arc::new(admission.connect(at("10.0.0.1")).unwrap());
        let client = Admission::visitor(&line, &named("192.0.2.1")).unwrap();
        drop(line);
        assert_eq!(admission.open_connections(), 1);
        drop(client);
        assert_eq!(admission.open_connections(), 0);
    }

    #[test]
    fn what_somebody_else_says_of_whom_it_speaks_for_is_not_believed() {
        let proxies = vec!["10.0.0.0/8".parse().unwrap()];
        let admission = Admission::new(Limits { proxies, ..limits() });
        let stranger = Arc::new(admission.connect(at("192.0.2.9")).unwrap());
        let visitor = Admission::visitor(&stranger, &named("192.0.2.1")).unwrap();
        assert!(Arc::ptr_eq(&stranger, &visitor));
    }

    #[test]
    fn connections_that_say_nothing_are_bounded_for_each_address_and_in_all_until_they_do() {
        let few = Limits { max_pending: Some(3), max_pending_per_address: Some(2), ..Limits::default() };
        let admission = Admission::new(few);
        let first = admission.connect(at("192.0.2.1")).unwrap();
        let second = admission.connect(at("192.0.2.1")).unwrap();
        assert!(admission.connect(at("192.0.2.1")).is_none(), "the third of one address");
        let other = admission.connect(at("192.0.2.2")).unwrap();
        assert!(admission.connect(at("192.0.2.3")).is_none(), "the fourth of all");
        first.arrived();
        first.arrived();
        let third = admission.connect(at("192.0.2.1")).unwrap();
        assert!(admission.connect(at("192.0.2.1")).is_none(), "one that speaks makes room for one");
        drop((second, other));
        let fourth = admission.connect(at("192.0.2.1")).unwrap();
        assert!(admission.connect(at("192.0.2.1")).is_none());
        drop((first, third, fourth));
        assert!(admission.by_source().is_empty());
        assert_eq!(admission.open_connections(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_says_nothing_in_time_is_overdue() {
        let admission = Admission::new(Limits { pending_seconds: Some(5), ..Limits::default() });
        let begun = Instant::now();
        let silent = admission.connect(at("192.0.2.1")).unwrap();
        let speaking = admission.connect(at("192.0.2.1")).unwrap();
        speaking.arrived();
        silent.overdue().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        let never = tokio::time::timeout(Duration::from_secs(3600), speaking.overdue()).await;
        assert!(never.is_err());
    }

    #[test]
    fn requests_beyond_the_rate_are_refused_and_loopback_counts_only_if_configured() {
        let admission = Admission::new(limits());
        let stranger = Source::of(at("192.0.2.1"));
        let passed = (0..10).filter(|_| admission.within_rate(stranger)).count();
        assert_eq!(passed, 2, "the burst");
        assert!(admission.within_rate(Source::of(at("192.0.2.2"))), "others are not held up");
        let own = Source::of(at("127.0.0.1"));
        assert!((0..10).all(|_| admission.within_rate(own)));
        let strict = Admission::new(Limits { loopback: true, ..limits() });
        assert!(!(0..10).all(|_| strict.within_rate(own)));
    }

    /// As many requests as may, at work and waiting.
    async fn full_house(admission: &Arc<Admission>) -> (Vec<Turn>, Vec<Room>) {
        let (mut working, mut waiting) = (Vec::new(), Vec::new());
        let own = admission.connect(at("127.0.0.1")).unwrap();
        for _ in 0..MAX_REQUESTS {
            working.push(admission.request(&own).await.unwrap());
        }
        for _ in 0..MAX_WAITING {
            waiting.push(admission.room().await.unwrap());
        }
        (working, waiting)
    }

    #[tokio::test(start_paused = true)]
    async fn no_body_is_read_while_as_many_wait_as_may() {
        let admission = Admission::new(limits());
        let place = admission.connect(at("192.0.2.1")).unwrap();
        assert!(admission.body(&place).await.is_some(), "there is room to wait in");
        let (working, mut waiting) = full_house(&admission).await;
        let begun = Instant::now();
        assert!(admission.body(&place).await.is_none(), "it would wait in vain");
        assert_eq!(begun.elapsed(), MAX_WAIT_OUTSIDE, "who is refused comes again no sooner");
        waiting.pop();
        let reading = admission.body(&place).await.unwrap();
        assert!(admission.room().await.is_none(), "whose body is read takes the room it will wait in");
        let room = reading.end();
        let mut turn = Box::pin(admission.turn(room, &place));
        assert!(futures_util::poll!(turn.as_mut()).is_pending());
        let mut next = Box::pin(admission.room());
        assert!(futures_util::poll!(next.as_mut()).is_pending(), "and keeps it until it is its turn");
        drop(working);
        assert!(turn.await.is_some());
        assert!(next.await.is_some());
        assert!(admission.room().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_outside_goes_in_by_the_order_of_arrival() {
        let admission = Admission::new(limits());
        let (_working, mut waiting) = full_house(&admission).await;
        let (mut first, mut second) = (Box::pin(admission.room()), Box::pin(admission.room()));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        waiting.pop();
        let mut newcomer = Box::pin(admission.room());
        assert!(futures_util::poll!(newcomer.as_mut()).is_pending(), "nobody passes those who wait");
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        let first = first.await;
        assert!(first.is_some());
        waiting.pop();
        let second = second.await;
        assert!(second.is_some());
        assert!(newcomer.await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_lets_bodies_drip_in_takes_no_place_of_others() {
        let admission = Admission::new(Limits { max_connections: Some(1_000), ..Limits::default() });
        let dripping = admission.connect(at("192.0.2.1")).unwrap();
        let again = admission.connect(at("192.0.2.1")).unwrap();
        let other = admission.connect(at("192.0.2.2")).unwrap();
        let mut held = Vec::new();
        for _ in 0..MAX_BODIES_PER_SOURCE {
            held.push(admission.body(&dripping).await.unwrap());
        }
        let mut waiting: Vec<_> = (0..MAX_BODIES).map(|_| Box::pin(admission.body(&again))).collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one.as_mut()).is_pending(), "it waits among its own");
        }
        assert!(admission.body(&other).await.is_some());
        let late = admission.body(&again);
        assert!(late.await.is_none(), "none of its own came free");
        drop(waiting);
        held.pop();
        assert!(admission.body(&again).await.is_some());
        let own = admission.connect(at("127.0.0.1")).unwrap();
        for _ in 0..2 * MAX_BODIES_PER_SOURCE {
            held.push(admission.body(&own).await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_waits_for_its_turn_and_no_longer_than_the_bound() {
        let admission = Admission::new(limits());
        let (own, other) =
            (admission.connect(at("127.0.0.1")).unwrap(), admission.connect(at("192.0.2.1")).unwrap());
        let mut held = Vec::new();
        for _ in 0..MAX_REQUESTS {
            held.push(admission.request(&own).await.unwrap());
        }
        let begun = Instant::now();
        assert!(admission.request(&other).await.is_none(), "nobody gave a turn back");
        assert_eq!(begun.elapsed(), MAX_WAIT);
        let mut late = Box::pin(admission.request(&other));
        assert!(futures_util::poll!(late.as_mut()).is_pending());
        held.pop();
        assert!(late.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn whose_requests_cost_much_takes_no_turn_of_others() {
        let admission = Admission::new(limits());
        let (busy, other) =
            (admission.connect(at("192.0.2.1")).unwrap(), admission.connect(at("192.0.2.2")).unwrap());
        let mut held = Vec::new();
        for _ in 0..MAX_REQUESTS_PER_SOURCE {
            held.push(admission.request(&busy).await.unwrap());
        }
        assert!(admission.request(&busy).await.is_none(), "it waits among its own");
        assert!(admission.request(&other).await.is_some());
        drop(busy);
        let busy = admission.connect(at("192.0.2.1")).unwrap();
        assert!(admission.request(&busy).await.is_none(), "hanging up gives no turn back");
        held.pop();
        assert!(admission.request(&busy).await.is_some());
    }
}
