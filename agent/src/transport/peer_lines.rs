//! The lines that carry answers back to libp2p peers: how many there may be, and which are open.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use einmal_p2p::{Held, HoldError, Host, PeerEndpoint, PeerId, SendError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::delivery::LiveChange;

/// Most messages whose answers wait for one peer; further ones are answered at its endpoint or not at all.
pub(crate) const MAX_BACK: usize = 16;
/// Longest a stop waits for lines to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What goes back to a peer for one message.
pub(crate) struct Back {
    /// Envelopes, in their order.
    pub(crate) replies: Vec<Vec<u8>>,
    /// A change of live delivery.
    pub(crate) live: Option<LiveChange>,
}

/// A line that is about to run.
pub(crate) struct NewLine {
    pub(crate) peer: PeerId,
    /// What is to go back.
    pub(crate) incoming: mpsc::Receiver<Back>,
    /// Signals that the node stops.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Keeps the connection open.
    pub(crate) held: Held,
    /// Its place among all lines; free again when this is dropped.
    pub(crate) place: OwnedSemaphorePermit,
}

/// All lines of a node.
pub struct PeerLines {
    host: Host,
    open: Mutex<HashMap<PeerId, mpsc::Sender<Back>>>,
    places: Arc<Semaphore>,
    most: usize,
    stopping: watch::Sender<bool>,
}

impl fmt::Debug for PeerLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerLines").field("host", &self.host).finish_non_exhaustive()
    }
}

impl PeerLines {
    /// At most `most` lines at once.
    pub(crate) fn new(host: Host, most: usize) -> Self {
        Self {
            host,
            open: Mutex::default(),
            places: Arc::new(Semaphore::new(most)),
            most,
            stopping: watch::Sender::new(false),
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<PeerId, mpsc::Sender<Back>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines open now.
    pub(crate) fn count(&self) -> usize {
        self.most.saturating_sub(self.places.available_permits())
    }

    /// Sends an envelope to a peer, connecting if necessary.
    pub(crate) async fn send(&self, to: &PeerEndpoint, envelope: Vec<u8>) -> Result<(), SendError> {
        self.host.send(to, envelope).await
    }

    /// Resolves when the host has ended by itself; see [`Host::ended`].
    pub(crate) fn host_ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let ended = self.host.ended();
        async move {
            ended.await;
            tracing::error!("libp2p has stopped");
        }
    }

    /// Keeps the connection with a peer open.
    pub(crate) fn hold(&self, peer: PeerId) -> Result<Held, HoldError> {
        self.host.hold(peer)
    }

    /// Whether something could go back to a peer now.
    pub(crate) fn has_room(&self, peer: PeerId) -> bool {
        let room = match self.open().get(&peer) {
            Some(line) => line.capacity() > 0,
            None => self.places.available_permits() > 0,
        };
        room && !*self.stopping.borrow()
    }

    /// Gives something back to a peer, if its connection is still there and there is room. If no line is open, one is
    /// made, and `begin` runs it.
    pub(crate) fn give_back(&self, peer: PeerId, back: Back, begin: impl FnOnce(NewLine)) {
        let mut open = self.open();
        let lost = match open.get(&peer) {
            Some(line) => line.try_send(back).is_err(),
            None => match self.new_line(peer) {
                Some((line, sender)) => {
                    let lost = sender.try_send(back).is_err();
                    open.insert(peer, sender);
                    begin(line);
                    lost
                }
                None => true,
            },
        };
        if lost {
            tracing::debug!(
                "an answer was dropped: there is no line to the peer that asked, or no room on it"
            );
        }
    }

    fn new_line(&self, peer: PeerId) -> Option<(NewLine, mpsc::Sender<Back>)> {
        if *self.stopping.borrow() {
            return None;
        }
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let held = self.host.hold(peer).ok()?;
        let (sender, incoming) = mpsc::channel(MAX_BACK);
        let line = NewLine { peer, incoming, stopping: self.stopping.subscribe(), held, place };
        Some((line, sender))
    }

    /// Hands an envelope to a peer on the connection it made.
    pub(crate) async fn push(&self, peer: PeerId, envelope: Vec<u8>) -> Result<(), SendError> {
        self.host.push(peer, envelope).await
    }

    /// Takes a line off the list if nothing more has arrived for it meanwhile; false if something has.
    pub(crate) fn leave_if_empty(&self, peer: PeerId, incoming: &mpsc::Receiver<Back>) -> bool {
        let mut open = self.open();
        let leaves = incoming.is_empty();
        if leaves {
            open.remove(&peer);
        }
        leaves
    }

    /// Takes a line off the list, whatever has arrived for it.
    pub(crate) fn leave(&self, peer: PeerId) {
        self.open().remove(&peer);
    }

    /// Ends all lines and waits a while for that. No line can be opened afterwards.
    pub(crate) async fn stop(&self) {
        self.stopping.send_replace(true);
        let all = u32::try_from(self.most).unwrap_or(u32::MAX);
        if tokio::time::timeout(STOP_PATIENCE, self.places.acquire_many(all)).await.is_err() {
            tracing::warn!("some libp2p lines did not end in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use einmal_p2p::{Bounds, BoxFuture, HostConfig, Inbound, Permit, Source, Status};
    use zeroize::Zeroizing;

    use super::*;

    struct Nobody;

    impl Inbound for Nobody {
        fn receive(&self, _: PeerId, _: Source, _: Vec<u8>) -> BoxFuture<Status> {
            Box::pin(async { Status::Refused })
        }
    }

    async fn lines(most: usize) -> PeerLines {
        let config = HostConfig {
            keypair_secret: Zeroizing::new([7; 32]),
            listen: Vec::new(),
            announce: Vec::new(),
            mdns: false,
            relay_server: None,
            relays: Vec::new(),
            permit: Permit::new(|_| false),
            largest_envelope: 1,
            bounds: Bounds::default(),
        };
        PeerLines::new(Host::start(config, Arc::new(Nobody)).await.unwrap(), most)
    }

    #[tokio::test]
    async fn where_all_lines_are_taken_nothing_can_go_back_until_one_is_free() {
        let (lines, peer) = (lines(1).await, PeerId::random());
        assert!(lines.has_room(peer));
        let place = Arc::clone(&lines.places).try_acquire_owned().unwrap();
        assert!(!lines.has_room(peer));
        assert_eq!(lines.count(), 1);
        drop(place);
        assert!(lines.has_room(peer));
        assert_eq!(lines.count(), 0);
    }

    #[tokio::test]
    async fn line_with_enough_to_give_takes_no_more() {
        let (lines, peer) = (lines(1).await, PeerId::random());
        let (sender, mut incoming) = mpsc::channel(1);
        lines.open().insert(peer, sender.clone());
        assert!(lines.has_room(peer));
        assert!(sender.try_send(Back { replies: Vec::new(), live: None }).is_ok());
        assert!(!lines.has_room(peer));
        assert!(incoming.recv().await.is_some());
        assert!(lines.has_room(peer));
    }

    #[tokio::test]
    async fn after_a_stop_nothing_can_go_back_and_a_line_that_lingers_does_not_hold_it_up_for_ever() {
        let (lines, peer) = (lines(2).await, PeerId::random());
        let _lingers = Arc::clone(&lines.places).try_acquire_owned().unwrap();
        tokio::time::pause();
        lines.stop().await;
        assert!(!lines.has_room(peer));
    }
}
