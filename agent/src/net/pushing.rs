//! Accounts with live delivery on one connection of any transport, and their letters, some at a time.

use std::{sync::Arc, time::Duration};

use einmal_did::Did;
use tokio::{sync::Notify, time::Instant};

use crate::{
    delivery::{LiveChange, Session},
    node::{Hand, Node},
};

/// Most accounts with live delivery on one connection; beyond that the oldest has it no more, and is told so.
pub(super) const MAX_SESSIONS: usize = 16;
/// Letters pushed before the connection listens again.
pub(super) const PUSH_TURN: usize = 32;

/// Mail cannot be read, so the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Unreadable {
    /// The reason the connected peer is told.
    pub(super) const REASON: &'static str = "mail cannot be read at present";
}

/// How long a large letter waits that may not be held at present.
const REST: Duration = Duration::from_millis(500);

/// The accounts of one connection.
#[derive(Default)]
pub(super) struct Pushing {
    /// Oldest first.
    sessions: Vec<Arc<Session>>,
    /// Which of them had the first turn last.
    first: usize,
    /// Sessions that gave way to a newer one, whose accounts are to be told.
    ended: Vec<Arc<Session>>,
    bell: Arc<Notify>,
    /// Until when large letters wait that were put off.
    resting: Option<Instant>,
}

/// Letters of every account in turn, until none are left or it is time to listen again.
pub(super) struct Turn {
    /// Those that are over: their accounts are told first.
    ended: Vec<Arc<Session>>,
    sessions: std::vec::IntoIter<Arc<Session>>,
    current: Option<Arc<Session>>,
    left: usize,
    /// Whether a large letter may not be held at present.
    has_put_off: bool,
}

/// Envelopes to push, with what they hold in memory until they are sent.
pub(super) struct Handful {
    pub(super) envelopes: Vec<Vec<u8>>,
    pub(super) hand: Hand,
}

impl Pushing {
    /// Rings when there is something to push.
    pub(super) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    /// Whether nobody has live delivery here.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Whether letters of `account` are pushed here.
    pub(super) fn is_for(&self, account: &Did) -> bool {
        self.sessions.iter().any(|session| session.owner().same_as(account) && !session.is_displaced())
    }

    /// Turns live delivery on or off for one account. It happens before the answer: an account that fetches its mail
    /// after the answer then misses nothing.
    pub(super) fn change(&mut self, node: &Node, change: LiveChange) {
        let live = &node.shared().live;
        // There is more than one if two accounts have become one.
        while let Some(held) = self.sessions.iter().position(|one| one.owner().same_as(&change.account)) {
            live.close(&self.sessions.remove(held));
        }
        // What it is told now holds.
        self.ended.retain(|session| !session.owner().same_as(&change.account));
        if change.on {
            if self.sessions.len() >= MAX_SESSIONS {
                let oldest = self.sessions.remove(0);
                live.close(&oldest);
                self.ended.push(oldest);
                self.bell.notify_one();
            }
            self.sessions.push(node.open_session(change, &self.bell));
        }
    }

    /// Begins a turn, each time with another account; accounts that are live elsewhere in their stead are let go.
    pub(super) fn turn(&mut self) -> Turn {
        let mut ended = std::mem::take(&mut self.ended);
        ended.extend(self.sessions.extract_if(.., |session| session.is_displaced()));
        if self.resting.is_some_and(|until| until <= Instant::now()) {
            self.resting = None;
            self.sessions.iter().for_each(|session| session.try_again());
        }
        let mut sessions = self.sessions.clone();
        if !sessions.is_empty() {
            self.first = (self.first + 1) % sessions.len();
            sessions.rotate_left(self.first);
        }
        Turn { ended, sessions: sessions.into_iter(), current: None, left: PUSH_TURN, has_put_off: false }
    }

    /// Rings again for what was put off, after a while.
    fn rest(&mut self) {
        if self.resting.is_some() {
            return;
        }
        self.resting = Some(Instant::now() + REST);
        let bell = self.bell();
        tokio::spawn(async move {
            tokio::time::sleep(REST).await;
            bell.notify_one();
        });
    }

    /// The next envelopes to push, perhaps none; `None` when the turn is over. What is left is rung for.
    pub(super) fn next(&mut self, node: &Node, turn: &mut Turn) -> Result<Option<Handful>, Unreadable> {
        while let Some(session) = turn.ended.pop() {
            if let Some(told) = node.live_no_more(&session) {
                return Ok(Some(Handful { envelopes: vec![told], hand: Hand::default() }));
            }
        }
        while turn.left > 0 {
            if turn.current.is_none() {
                turn.current = turn.sessions.next();
            }
            let Some(session) = &turn.current else {
                if turn.has_put_off {
                    self.rest();
                }
                return Ok(None);
            };
            let Some(pushes) = node.next_pushes(session, turn.left).map_err(|_| Unreadable)? else {
                turn.current = None;
                continue;
            };
            if pushes.is_put_off {
                turn.has_put_off = true;
                // What was offered keeps its order: all behind it waits too, but not what comes to other accounts.
                if session.offered_len().is_some() {
                    turn.current = None;
                }
                continue;
            }
            turn.left = turn.left.saturating_sub(pushes.letters);
            return Ok(Some(Handful { envelopes: pushes.envelopes, hand: pushes.hand }));
        }
        // It is time to listen; what is left of this turn is rung for again.
        if turn.has_put_off {
            self.rest();
        }
        self.bell.notify_one();
        Ok(None)
    }

    /// Nothing is pushed here any more.
    pub(super) fn close(&mut self, node: &Node) {
        self.ended.clear();
        for session in self.sessions.drain(..) {
            node.shared().live.close(&session);
        }
    }
}
