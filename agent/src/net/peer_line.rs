//! The way back to a libp2p peer: answers and live mail over the connection it made itself, never by dialling.
//!
//! A line is a task of its own for one peer. It begins with the first envelope that goes back. It ends when nothing is
//! left to give and nobody has live delivery there, when the peer is gone, or when the peer takes nothing. A peer id
//! decides where bytes go, and nothing else: whose mail they are was proved by the envelope that asked for it.

use std::sync::{Arc, Weak};

use einmal_p2p::{Held, PeerId, SendError};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::{
    listen::stopped,
    pushing::{Handful, Pushing, Unreadable},
};
use crate::{
    delivery::LiveChange,
    node::Node,
    transport::{Back, NewLine},
};

/// Letters a peer may refuse in a row. A single refusal says nothing: anybody can write a letter that does not open.
pub(super) const MAX_REFUSED: usize = 32;

/// Gives something back to a peer, on a new line if none is open.
pub(super) fn give_back(node: &Arc<Node>, peer: PeerId, back: Back) {
    if let Some(lines) = node.shared().lines() {
        lines.give_back(peer, back, |new| drop(tokio::spawn(Line::of(node, new).run())));
    }
}

/// A line's entry in the list, removed however the line ends.
struct Listed {
    /// Weak, because a line that waits must not keep its node alive.
    node: Weak<Node>,
    peer: PeerId,
    /// Already removed: another line may have taken its place.
    left: bool,
}

impl Listed {
    /// Leaves if nothing more has arrived meanwhile.
    fn leave_if_empty(&mut self, incoming: &mpsc::Receiver<Back>) -> bool {
        let Some(node) = self.node.upgrade() else { return true };
        let Some(lines) = node.shared().lines() else { return true };
        self.left = lines.leave_if_empty(self.peer, incoming);
        self.left
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(node) = self.node.upgrade().filter(|_| !self.left)
            && let Some(lines) = node.shared().lines()
        {
            lines.leave(self.peer);
        }
    }
}

/// The line to one peer.
struct Line {
    peer: PeerId,
    incoming: mpsc::Receiver<Back>,
    pushing: Pushing,
    /// Letters refused since the last one that was taken.
    refused: usize,
    stopping: watch::Receiver<bool>,
    listed: Listed,
    held: Held,
    _place: OwnedSemaphorePermit,
}

/// Why a line ends.
enum Ending {
    /// There is nothing left to give, or nobody to give it to.
    Quiet,
    /// Only its connection has ended; this is checked before anything else.
    Lost,
    /// We end it and close the connection: its peer must learn that nothing more comes.
    HangUp(&'static str),
}

impl From<Unreadable> for Ending {
    fn from(_: Unreadable) -> Self {
        Self::HangUp(Unreadable::REASON)
    }
}

impl Line {
    fn of(node: &Arc<Node>, new: NewLine) -> Self {
        let NewLine { peer, incoming, stopping, held, place } = new;
        Self {
            peer,
            incoming,
            pushing: Pushing::default(),
            refused: 0,
            stopping,
            listed: Listed { node: Arc::downgrade(node), peer, left: false },
            held,
            _place: place,
        }
    }

    async fn run(mut self) {
        let bell = self.pushing.bell();
        let mut stopping = self.stopping.clone();
        let ending = loop {
            let turn = tokio::select! {
                // Checked first: what comes from a returning peer belongs to its new connection.
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

    /// The connection is gone, and live delivery with it. The peer may be back already, with a new request.
    fn begin_anew(&mut self) -> Result<(), Ending> {
        let Some(node) = self.listed.node.upgrade() else { return Err(Ending::Quiet) };
        self.pushing.close(&node);
        // Keeps its hold: if all are taken, a new one could not be had.
        self.held.renew().map_err(|_| Ending::Quiet)
    }

    /// Gives answers back; a peer that does not take them gets no live mail either.
    ///
    /// The session begins before its answer goes out: a letter arriving between the two must not be overlooked.
    async fn give(&mut self, back: Back) -> Result<(), Ending> {
        let Some(node) = self.listed.node.upgrade() else { return Err(Ending::Quiet) };
        let undone = back.live.clone().map(|change| LiveChange { on: false, ..change });
        if let Some(change) = back.live {
            self.pushing.change(&node, change);
        }
        for reply in back.replies {
            if self.hand_over(&node, reply).await? {
                continue;
            }
            if let Some(undone) = undone {
                self.pushing.change(&node, undone);
            }
            break;
        }
        Ok(())
    }

    /// Pushes letters of mailboxes that changed, some at a time.
    async fn push(&mut self) -> Result<(), Ending> {
        let Some(node) = self.listed.node.upgrade() else { return Err(Ending::Quiet) };
        let mut turn = self.pushing.turn();
        while let Some(Handful { envelopes, hand }) = self.pushing.next(&node, &mut turn)? {
            for envelope in envelopes {
                let taken = self.hand_over(&node, envelope).await?;
                // A refused letter stays in its mailbox, like everything that is pushed.
                self.refused = if taken { 0 } else { self.refused + 1 };
                if self.refused > MAX_REFUSED {
                    return Err(Ending::HangUp("the peer refuses one letter after the other"));
                }
            }
            drop(hand);
        }
        Ok(())
    }

    /// Whether the peer took an envelope. One at a time, so that they arrive in order.
    async fn hand_over(&mut self, node: &Arc<Node>, envelope: Vec<u8>) -> Result<bool, Ending> {
        let Some(lines) = node.shared().lines() else { return Err(Ending::Quiet) };
        let sent = tokio::select! {
            sent = lines.push(self.peer, envelope) => sent,
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
