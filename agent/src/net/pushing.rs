//! Accounts with live delivery on one connection of any transport, and their letters, some at a time.

use std::sync::Arc;

use einmal_did::Did;
use tokio::sync::Notify;

use crate::{
    delivery::{LiveChange, Session},
    node::{Node, Pushes},
};

/// Most accounts with live delivery on one connection.
pub(super) const MAX_SESSIONS: usize = 16;
/// Letters pushed before the connection listens again.
pub(super) const PUSH_TURN: usize = 32;

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// One account more than [`MAX_SESSIONS`].
    TooManyAccounts,
    /// The store failed.
    Unreadable,
}

impl Trouble {
    /// The reason the connected peer is told.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::TooManyAccounts => "too many accounts on one connection",
            Self::Unreadable => "mail cannot be read at present",
        }
    }
}

/// The accounts of one connection.
#[derive(Default)]
pub(super) struct Pushing {
    sessions: Vec<Arc<Session>>,
    bell: Arc<Notify>,
}

/// Letters of every account in turn, until none are left or it is time to listen again.
pub(super) struct Turn {
    sessions: std::vec::IntoIter<Arc<Session>>,
    current: Option<Arc<Session>>,
    left: usize,
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
    pub(super) fn change(&mut self, node: &Node, change: LiveChange) -> Result<(), Trouble> {
        let live = &node.shared().live;
        // There is more than one if two accounts have become one.
        while let Some(held) = self.sessions.iter().position(|one| one.owner().same_as(&change.account)) {
            live.close(&self.sessions.remove(held));
        }
        if change.on {
            if self.sessions.len() >= MAX_SESSIONS {
                return Err(Trouble::TooManyAccounts);
            }
            self.sessions.push(node.open_session(change, &self.bell));
        }
        Ok(())
    }

    /// Begins a turn; sessions displaced by a newer one elsewhere are dropped.
    pub(super) fn turn(&mut self) -> Turn {
        self.sessions.retain(|session| !session.is_displaced());
        Turn { sessions: self.sessions.clone().into_iter(), current: None, left: PUSH_TURN }
    }

    /// The next envelopes to push, perhaps none; `None` when the turn is over. The bell rings for what is left.
    pub(super) fn next(&self, node: &Node, turn: &mut Turn) -> Result<Option<Vec<Vec<u8>>>, Trouble> {
        while turn.left > 0 {
            let Some(session) = &turn.current else {
                let Some(session) = turn.sessions.next() else { return Ok(None) };
                let offered = node.offered_letters(&session, turn.left).map_err(|_| Trouble::Unreadable)?;
                turn.left = turn.left.saturating_sub(offered.len());
                turn.current = Some(session);
                return Ok(Some(offered));
            };
            let Some(mailbox) = session.next_changed() else {
                turn.current = None;
                continue;
            };
            let Pushes { envelopes, more } =
                node.live_letters(session, mailbox, turn.left).map_err(|_| Trouble::Unreadable)?;
            turn.left = turn.left.saturating_sub(envelopes.len());
            if more {
                session.look_again(mailbox);
            }
            return Ok(Some(envelopes));
        }
        // Others first; the bell rings again for the rest of this turn's mailboxes.
        self.bell.notify_one();
        Ok(None)
    }

    /// Nothing is pushed here any more.
    pub(super) fn close(&mut self, node: &Node) {
        for session in self.sessions.drain(..) {
            node.shared().live.close(&session);
        }
    }
}
