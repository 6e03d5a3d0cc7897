//! The way back to a libp2p peer: answers and live mail over the connection it made itself, never by dialling.
//!
//! A line is a task of its own for one peer. It begins with the first thing that goes back and ends when nothing is left
//! to give and nobody has live delivery there, when the peer is gone, or when it takes nothing. A peer id decides where
//! bytes go, and nothing else: whose mail that is, the envelope that asked for it has proved.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use einmal_p2p::{Held, HoldError, Host, PeerEndpoint, PeerId, SendError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::{
    listen::stopped,
    pushing::{Pushing, Trouble},
};
use crate::{node::Node, service::live::LiveChange};

/// Most messages whose answers wait for one peer; what more it sends is answered at its endpoint or not at all.
pub(super) const MAX_BACK: usize = 16;
/// Letters a peer may refuse one after the other. Each alone says nothing: anybody can write a letter that does not open.
pub(super) const MAX_REFUSED: usize = 32;
/// Longest a stop waits for lines to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What goes back to a peer for one message.
pub(super) struct Back {
    /// Envelopes, in their order.
    pub(super) replies: Vec<Vec<u8>>,
    /// Live delivery is to change.
    pub(super) live: Option<LiveChange>,
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
    pub(super) fn new(host: Host, most: usize) -> Self {
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

    /// Sends an envelope to a peer that may have to be connected to.
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
    pub(super) fn has_room(&self, peer: PeerId) -> bool {
        let room = match self.open().get(&peer) {
            Some(line) => line.capacity() > 0,
            None => self.places.available_permits() > 0,
        };
        room && !*self.stopping.borrow()
    }

    /// Gives something back to a peer, if its connection is still there and there is room.
    pub(super) fn give_back(&self, node: &Arc<Node>, peer: PeerId, back: Back) {
        let mut open = self.open();
        let lost = match open.get(&peer) {
            Some(line) => line.try_send(back).is_err(),
            None => match self.line(node, peer) {
                Some((line, sender)) => {
                    let lost = sender.try_send(back).is_err();
                    open.insert(peer, sender);
                    tokio::spawn(line.run());
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

    fn line(&self, node: &Arc<Node>, peer: PeerId) -> Option<(Line, mpsc::Sender<Back>)> {
        if *self.stopping.borrow() {
            return None;
        }
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let held = self.host.hold(peer).ok()?;
        let (sender, incoming) = mpsc::channel(MAX_BACK);
        let line = Line {
            peer,
            incoming,
            pushing: Pushing::default(),
            refused: 0,
            stopping: self.stopping.subscribe(),
            listed: Listed { node: Arc::downgrade(node), peer, left: false },
            held,
            _place: place,
        };
        Some((line, sender))
    }

    /// Ends all lines, and waits for that a while. None is opened any more.
    pub(crate) async fn stop(&self) {
        self.stopping.send_replace(true);
        let all = u32::try_from(self.most).unwrap_or(u32::MAX);
        if tokio::time::timeout(STOP_PATIENCE, self.places.acquire_many(all)).await.is_err() {
            tracing::warn!("some libp2p lines did not end in time");
        }
    }
}

/// A line's entry among all, gone with it however it ends.
struct Listed {
    /// Weak, because a line that waits must not keep its node alive.
    node: Weak<Node>,
    peer: PeerId,
    /// Another line may stand there already.
    left: bool,
}

impl Listed {
    /// Leaves if nothing more has come meanwhile.
    fn leave_if_empty(&mut self, incoming: &mpsc::Receiver<Back>) -> bool {
        let Some(node) = self.node.upgrade() else { return true };
        let Some(lines) = node.shared().lines() else { return true };
        let mut open = lines.open();
        if incoming.is_empty() {
            open.remove(&self.peer);
            self.left = true;
        }
        self.left
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(node) = self.node.upgrade().filter(|_| !self.left)
            && let Some(lines) = node.shared().lines()
        {
            lines.open().remove(&self.peer);
        }
    }
}

/// The line to one peer.
struct Line {
    peer: PeerId,
    incoming: mpsc::Receiver<Back>,
    pushing: Pushing,
    /// Letters refused since the last that was taken.
    refused: usize,
    stopping: watch::Receiver<bool>,
    listed: Listed,
    held: Held,
    _place: OwnedSemaphorePermit,
}

/// Why a line ends.
enum Ending {
    /// There is nothing left to give, or nobody to give it.
    Quiet,
    /// Only its connection has ended; that is looked at before anything else.
    Lost,
    /// We end it, and close the connection: its peer must learn that nothing comes any more.
    HangUp(&'static str),
}

impl From<Trouble> for Ending {
    fn from(trouble: Trouble) -> Self {
        Self::HangUp(trouble.reason())
    }
}

impl Line {
    async fn run(mut self) {
        let bell = self.pushing.bell();
        let mut stopping = self.stopping.clone();
        let ending = loop {
            let turn = tokio::select! {
                // First of all: what comes from a peer that is back belongs to its new connection.
                biased;
                () = self.held.ended() => self.begin_anew(),
                () = stopped(&mut stopping) => Err(Ending::HangUp("the node stops")),
                back = self.incoming.recv() => match back {
                    Some(back) => self.give(back).await,
                    None => Err(Ending::Quiet),
                },
                () = bell.notified() => self.push().await,
            };
            match turn {
                Ok(()) => {}
                Err(Ending::Lost) => continue,
                Err(ending) => break ending,
            }
            if self.pushing.is_empty() && self.listed.leave_if_empty(&self.incoming) {
                break Ending::Quiet;
            }
        };
        self.end(ending);
    }

    /// The connection is gone, and live delivery with it. The peer may be back already, and have asked for something.
    fn begin_anew(&mut self) -> Result<(), Ending> {
        let Some(node) = self.listed.node.upgrade() else { return Err(Ending::Quiet) };
        self.pushing.close(&node);
        // The same hold: where all are taken, another would not be had.
        self.held.renew().map_err(|_| Ending::Quiet)
    }

    /// Gives answers back; who does not take them gets no live mail either.
    ///
    /// The session begins before its answer goes: no letter may come between the two and be overlooked.
    async fn give(&mut self, back: Back) -> Result<(), Ending> {
        let Some(node) = self.listed.node.upgrade() else { return Err(Ending::Quiet) };
        let undone = back.live.clone().map(|change| LiveChange { on: false, ..change });
        let changed = back.live.map_or(Ok(()), |change| self.pushing.change(&node, change));
        for reply in back.replies {
            if self.hand_over(&node, reply).await? {
                continue;
            }
            if let Some(undone) = undone {
                self.pushing.change(&node, undone)?;
            }
            break;
        }
        Ok(changed?)
    }

    /// Pushes letters of mailboxes that changed, some at a time.
    async fn push(&mut self) -> Result<(), Ending> {
        let Some(node) = self.listed.node.upgrade() else { return Err(Ending::Quiet) };
        let mut turn = self.pushing.turn();
        while let Some(envelopes) = self.pushing.next(&node, &mut turn)? {
            for envelope in envelopes {
                let taken = self.hand_over(&node, envelope).await?;
                // What is refused stays in its mailbox, like everything that is pushed.
                self.refused = if taken { 0 } else { self.refused + 1 };
                if self.refused > MAX_REFUSED {
                    return Err(Ending::HangUp("the peer refuses one letter after the other"));
                }
            }
        }
        Ok(())
    }

    /// Whether the peer took an envelope. One after the other, so that they arrive in order.
    async fn hand_over(&mut self, node: &Arc<Node>, envelope: Vec<u8>) -> Result<bool, Ending> {
        let Some(lines) = node.shared().lines() else { return Err(Ending::Quiet) };
        let sent = tokio::select! {
            sent = lines.host.push(self.peer, envelope) => sent,
            () = stopped(&mut self.stopping) => return Err(Ending::HangUp("the node stops")),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(SendError::Refused { .. } | SendError::TooLarge) => Ok(false),
            Err(_) if self.held.is_over() => Err(Ending::Lost),
            Err(_) => Err(Ending::HangUp("the peer does not answer in time")),
        }
    }

    fn end(mut self, ending: Ending) {
        if let Some(node) = self.listed.node.upgrade() {
            self.pushing.close(&node);
        }
        if let Ending::HangUp(reason) = ending {
            tracing::debug!(reason, "a libp2p line ended");
            self.held.hang_up();
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
