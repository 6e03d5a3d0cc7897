//! An opened message is handled once: repetitions are recognised, faults reported, and handled messages remembered.

use std::sync::Arc;

use einmal_didcomm::{MessageType, Opened, UnixSeconds};
use einmal_flows::{
    Received,
    coordinate_mediation::{self, MediationVersion},
};

use super::{Done, Node, dispatch};
use crate::{
    config::Role,
    db::{SEEN, digest_id, mailbox_id},
    handler::{Arrival, Cause, Effects, Failure, Handled, PeerFault, their_form},
};

/// Seconds a message id is remembered beyond the message's own expiry: longer than mediators keep mail, which may
/// repeat it.
const REMEMBER_SECS: u64 = 37 * 24 * 3600;

impl Node {
    /// Handles an opened message.
    pub(super) async fn take(self: &Arc<Self>, opened: &Opened, arrival: Arrival) -> Result<Done, Failure> {
        let rx = Received::of(opened);
        let Some(rx) = rx else {
            return self
                .run(Cause::Arrival(arrival), |fx| self.role.on_anonymous(&self.shared, opened, fx))
                .await;
        };
        if self.shared.config.role == Role::Mediator && !self.shared.rates.admit(&mailbox_id(rx.sender())) {
            return Err(Failure::TooOften);
        }
        if let Some(notice) = self.role.notice(&self.shared, &rx)? {
            self.shared.stats.accepted.inc();
            return Ok(Done { notice: Some(notice), ..Done::default() });
        }
        let seen = seen_id(&rx);
        if opened.proof.rotation.is_some()
            && let Some(refused) = self.follow_rotation(opened, &rx, &seen, arrival).await?
        {
            return Ok(refused);
        }
        self.take_once(opened, &rx, &seen, arrival).await
    }

    /// Has the role follow a sender to the DID it has rotated to, before the message itself, which may depend on it;
    /// repeated, it finds nothing to do. Returns the answer to a sender whose rotation is refused.
    async fn follow_rotation(
        self: &Arc<Self>,
        opened: &Opened,
        rx: &Received<'_>,
        seen: &str,
        arrival: Arrival,
    ) -> Result<Option<Done>, Failure> {
        let Some(rotation) = &opened.proof.rotation else { return Ok(None) };
        if self.recent.get(seen).is_some() || self.shared.db.exists(SEEN, seen)? {
            return Ok(None);
        }
        let new = their_form(rx);
        let followed = self.run(Cause::Arrival(arrival), |fx| {
            self.role.on_rotation(&self.shared, &rotation.prior, &new, fx)
        });
        match followed.await {
            Ok(_) => Ok(None),
            Err(Failure::Peer { fault, comment }) => {
                self.shared.stats.refuse(fault.reason());
                self.report(opened, rx, seen, (fault, &comment), arrival).await.map(Some)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Handles a message of a proved sender, or answers that it was handled before.
    async fn take_once(
        self: &Arc<Self>,
        opened: &Opened,
        rx: &Received<'_>,
        seen: &str,
        arrival: Arrival,
    ) -> Result<Done, Failure> {
        let question = self.role.is_question(&rx.message().kind);
        let (mut repeated, mut is_kept) = (false, false);
        let handled = self
            .run(Cause::Arrival(arrival), |fx| {
                // Checked anew on every turn: of two copies handled at once, the slower one must see the faster.
                repeated =
                    self.recent.get(seen).is_some() || (!question && self.shared.db.exists(SEEN, seen)?);
                if repeated {
                    return Ok(());
                }
                self.remember(opened, rx, fx)?;
                self.note_rotation(opened, rx, fx)?;
                self.dispatch(rx, fx)?;
                // Of what leaves no trace the memory is enough: strangers must not fill the disk with the ids of their pings.
                // What changes nothing today may change something when it comes again: an account's removal of what it adds later.
                let may_change = changes_accounts(&rx.message().kind);
                is_kept = !question && (may_change || !fx.leaves_no_trace());
                if is_kept { self.keep_seen(rx, seen, fx) } else { Ok(()) }
            })
            .await;
        if repeated {
            self.shared.stats.duplicates.inc();
            return self.answer_replay(rx, arrival).await;
        }
        match handled {
            Ok(done) => {
                self.shared.stats.accepted.inc();
                if !is_kept {
                    self.recent.put(seen, ());
                }
                Ok(done)
            }
            Err(Failure::Peer { fault, comment }) => {
                if self.shared.complaints.admit(&()) {
                    tracing::info!(code = %fault.code(), kind = %rx.message().kind, "answered with a problem report");
                }
                self.shared.stats.refuse(fault.reason());
                self.report(opened, rx, seen, (fault, &comment), arrival).await
            }
            Err(failure) => Err(failure),
        }
    }

    fn dispatch(&self, rx: &Received<'_>, fx: &mut Effects<'_>) -> Handled {
        if dispatch::on_message(&self.shared, self.role.as_ref(), rx, fx)? {
            return Ok(());
        }
        if self.role.on_message(&self.shared, rx, fx)? {
            return Ok(());
        }
        Err(Failure::peer(PeerFault::Unsupported, "this message type is not spoken here"))
    }

    /// Records that a message was handled, for as long as a mediator may repeat it.
    fn keep_seen(&self, rx: &Received<'_>, seen: &str, fx: &mut Effects<'_>) -> Handled {
        let now = self.shared.now();
        let until = rx.message().expires_time.unwrap_or(now).max(now).plus(REMEMBER_SECS);
        let until = UnixSeconds(until.0.min(now.plus(2 * REMEMBER_SECS).0));
        Ok(fx.update_expiring(SEEN, seen, &now, until, None)?)
    }

    /// A repeated message does no harm: it gets no answer, or the code mediators use for it.
    async fn answer_replay(self: &Arc<Self>, rx: &Received<'_>, arrival: Arrival) -> Result<Done, Failure> {
        if !self.role.reports_replays() {
            return Ok(Done::default());
        }
        self.run(Cause::Arrival(arrival), |fx| {
            dispatch::report(rx, PeerFault::Replayed, "a message with this id was handled before", fx)
        })
        .await
    }

    /// Tells a proved sender what was wrong, within the thread's budget; the message counts as seen.
    pub(super) async fn report(
        self: &Arc<Self>,
        opened: &Opened,
        rx: &Received<'_>,
        seen: &str,
        (fault, comment): (PeerFault, &str),
        arrival: Arrival,
    ) -> Result<Done, Failure> {
        if self.recent.get(seen).is_some() {
            return Ok(Done::default());
        }
        let mut is_kept = false;
        let done = self.run(Cause::Arrival(arrival), |fx| {
            if self.shared.db.exists(SEEN, seen)? {
                is_kept = true;
                return Ok(());
            }
            self.remember(opened, rx, fx)?;
            // The message was wrong, but its sender goes on under the new DID, and need not prove that again.
            match self.note_rotation(opened, rx, fx) {
                Ok(()) | Err(Failure::Peer { .. }) => {}
                Err(failure) => return Err(failure),
            }
            dispatch::report(rx, fault, comment, fx)?;
            is_kept = !fx.leaves_no_trace();
            if is_kept { self.keep_seen(rx, seen, fx) } else { Ok(()) }
        });
        let done = done.await?;
        if !is_kept {
            self.recent.put(seen, ());
        }
        Ok(done)
    }
}

/// Whether a message may change an account's recipients, though it changes nothing today. Asking for an account twice gives one.
fn changes_accounts(kind: &MessageType) -> bool {
    MediationVersion::of(kind).is_some()
        && !coordinate_mediation::is_query(kind)
        && !coordinate_mediation::is_request(kind)
}

/// The record id of a message: ids are unique for each sender.
pub(super) fn seen_id(rx: &Received<'_>) -> String {
    digest_id(&[rx.sender().as_str(), &rx.message().id.to_key()])
}
