//! The state of a citizen's line to its mediator, for the rest of the node.

use std::sync::{Mutex, MutexGuard, PoisonError};

use einmal_p2p::PeerId;
use tokio::sync::{Notify, watch};

use crate::handler::Notice;

/// The state of the line, for the rest of the node.
#[derive(Debug, Default)]
pub(crate) struct LineState {
    bell: Notify,
    renewals: watch::Sender<u64>,
    up: watch::Sender<bool>,
    peer: Mutex<LinePeer>,
}

/// The peer whose streams form the line.
#[derive(Debug, Default)]
struct LinePeer {
    /// Remembered after the line has ended: what was under way may still come.
    peer: Option<PeerId>,
    /// Whether a line with it is being made or kept.
    wanted: bool,
}

impl LineState {
    fn peer(&self) -> MutexGuard<'_, LinePeer> {
        self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the mediator would ring.
    pub(crate) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Resolves when the mediator has mail for us.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Whether what comes from this peer comes by the line.
    pub(crate) fn is_with(&self, peer: PeerId) -> bool {
        self.peer().peer == Some(peer)
    }

    /// Something came from a peer. If that is the line, it rings once it is up; the mediator's own notice says that it
    /// is.
    pub(crate) fn heard(&self, from: PeerId, notice: Option<Notice>) {
        let line = self.peer();
        if !line.wanted || line.peer != Some(from) {
            return;
        }
        if let Some(Notice::Live(live)) = notice {
            self.up.send_replace(live);
        }
        if self.is_up() {
            self.bell.notify_one();
        }
    }

    /// Follows whether the mediator would ring.
    pub(crate) fn follow(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Notes that there is no line.
    pub(crate) fn set_down(&self) {
        self.up.send_replace(false);
    }

    /// Something came by the WebSocket. It rings once the mediator has said that it pushes there.
    pub(crate) fn heard_by_socket(&self, notice: Option<Notice>) {
        match notice {
            Some(Notice::Live(live)) => drop(self.up.send_replace(live)),
            // The flag is optional: on this socket nothing else was asked.
            Some(Notice::Mail) => drop(self.up.send_replace(true)),
            None => {}
        }
        if self.is_up() {
            self.bell.notify_one();
        }
    }

    /// Has the line made anew: the mediator may not know any more for whom it should ring.
    pub(crate) fn renew(&self) {
        self.set_down();
        self.renewals.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Follows that from now on: it changes each time.
    pub(crate) fn renewals(&self) -> watch::Receiver<u64> {
        self.renewals.subscribe()
    }

    /// From now on streams of `peer` are the line.
    pub(crate) fn begin(&self, peer: PeerId) -> Wanted<'_> {
        *self.peer() = LinePeer { peer: Some(peer), wanted: true };
        Wanted(self)
    }
}

/// A line by libp2p that is being made or kept.
pub(crate) struct Wanted<'a>(&'a LineState);

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.peer().wanted = false;
        self.0.up.send_replace(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> (PeerId, PeerId) {
        (PeerId::random(), PeerId::random())
    }

    fn rings(line: &LineState) -> bool {
        let mut rung = Box::pin(line.rung());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        rung.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn line_is_up_when_the_mediator_says_so_and_then_whatever_comes_rings() {
        let ((mediator, stranger), line) = (peers(), LineState::default());
        let wanted = line.begin(mediator);
        line.heard(mediator, None);
        line.heard(mediator, Some(Notice::Mail));
        assert!(!line.is_up() && !rings(&line), "a letter alone does not say that others will come");
        line.heard(stranger, Some(Notice::Live(true)));
        assert!(!line.is_up(), "another peer");
        line.heard(mediator, Some(Notice::Live(true)));
        assert!(line.is_up() && rings(&line));
        line.heard(stranger, None);
        assert!(!rings(&line));
        line.heard(mediator, None);
        assert!(rings(&line));
        line.heard(mediator, Some(Notice::Live(false)));
        assert!(!line.is_up() && !rings(&line), "the mediator pushes no longer");
        drop(wanted);
    }

    #[test]
    fn a_socket_is_live_by_an_answer_of_the_mediator_and_not_by_any_frame() {
        let line = LineState::default();
        line.heard_by_socket(None);
        assert!(!line.is_up() && !rings(&line), "whatever that was");
        line.heard_by_socket(Some(Notice::Mail));
        assert!(line.is_up() && rings(&line), "the flag in it is optional");
        line.heard_by_socket(Some(Notice::Live(false)));
        assert!(!line.is_up() && !rings(&line));
    }

    #[test]
    fn a_line_that_is_to_be_made_anew_is_down_and_says_so_to_who_began_it_before() {
        let line = LineState::default();
        let before = line.renewals();
        line.heard_by_socket(Some(Notice::Live(true)));
        line.renew();
        assert!(!line.is_up() && before.has_changed().unwrap());
        assert!(!line.renewals().has_changed().unwrap(), "the next one begins afterwards");
    }

    #[test]
    fn what_comes_after_the_end_is_known_to_come_by_the_line_and_makes_none() {
        let ((mediator, stranger), line) = (peers(), LineState::default());
        let wanted = line.begin(mediator);
        line.heard(mediator, Some(Notice::Live(true)));
        drop(wanted);
        assert!(!line.is_up());
        line.heard(mediator, Some(Notice::Live(true)));
        assert!(!line.is_up());
        assert!(line.is_with(mediator) && !line.is_with(stranger));
    }
}
