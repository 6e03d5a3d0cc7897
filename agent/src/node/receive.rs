//! One arriving envelope: opened, deduplicated, handled, committed, answered.

use std::sync::Arc;

use einmal_did::Did;
use einmal_didcomm::{LayerPolicy, OpenContext, OpenError, Opened, ProblemCode, UnixSeconds, open};
use einmal_flows::{Received, coordinate_mediation::MediationVersion};
use einmal_storage::{Commit, mail::MailboxId};
use tracing::{Instrument, Span};

use super::{Done, Node, dispatch};
use crate::{
    config::Role,
    db::{PEERS, SEEN, digest_id, mailbox_id},
    handler::{
        Arrival, Effects, Failure, Forwarded, Handled, Origin, Reason, Receipt, Refusal, Shared,
        describe_for_log, learn, their_form,
    },
    identity::{self, DidUse},
    service::{exchange, queue},
};

/// Seconds a message id is remembered beyond the message's own expiry: longer than mediators keep mail, which may bring it again.
const REMEMBER_SECS: u64 = 37 * 24 * 3600;

/// An envelope that was opened, or not; what it asks for is not done yet.
pub(crate) struct Begun {
    opened: Result<Box<Opening>, OpenError>,
    /// Under which it is logged, wherever it is finished.
    span: Span,
}

/// An opened envelope, and letters if it asks to keep some.
struct Opening {
    opened: Opened,
    mail: Option<Result<Posting, Failure>>,
}

impl Begun {
    /// Who provably sent it, and as whom that one was known before.
    pub(crate) fn senders(&self) -> impl Iterator<Item = &Did> {
        let opened = self.opened.as_ref().ok().map(|opening| &opening.opened);
        let prior = opened.and_then(|opened| opened.proof.rotation.as_ref()).map(|rotation| &rotation.prior);
        opened.and_then(Opened::sender).into_iter().chain(prior)
    }

    /// Whether it only asks to keep letters: then others may be begun before it is finished.
    pub(crate) fn is_mail(&self) -> bool {
        matches!(&self.opened, Ok(opening) if opening.mail.is_some())
    }
}

/// Letters on their way to the disk.
struct Posting {
    /// Of whom whoever is connected for it hears.
    account: MailboxId,
    mailbox: MailboxId,
    letters: u64,
    commit: Commit,
}

impl Posting {
    fn begin(shared: &Shared, forwarded: Forwarded) -> Self {
        let Forwarded { account, mailbox, mut letters } = forwarded;
        let account = mailbox_id(&account);
        let early = Some(shared.live.early(account));
        letters.iter_mut().for_each(|letter| letter.early.clone_from(&early));
        let count = letters.len() as u64;
        Self { account, mailbox, letters: count, commit: shared.mail.put(letters) }
    }

    async fn kept(self, shared: &Shared) -> Handled {
        self.commit.await.map_err(queue::not_kept)?;
        shared.stats.queued.inc_by(self.letters);
        shared.live.ring(self.account, self.mailbox);
        Ok(())
    }
}

impl Node {
    /// Takes one envelope in. When this returns without refusal, whatever follows from it is durable.
    pub async fn receive(self: &Arc<Self>, bytes: &[u8], arrival: Arrival) -> Receipt {
        let begun = std::time::Instant::now();
        let receipt = self.receive_untimed(bytes, arrival).await;
        self.shared.stats.took(begun.elapsed());
        receipt
    }

    async fn receive_untimed(self: &Arc<Self>, bytes: &[u8], arrival: Arrival) -> Receipt {
        let begun = self.begin(bytes, arrival.origin()).await;
        self.finish(begun, arrival).await
    }

    /// Opens an envelope. Letters it asks to keep are on their way to the disk when this returns, in the order of the
    /// calls; [`Node::finish`] waits for them, so that many can be under way at once. What must be fetched for it is
    /// fetched because of `from`.
    pub(crate) async fn begin(&self, bytes: &[u8], from: Option<Origin>) -> Begun {
        self.shared.stats.received.inc();
        let opened = self.open(bytes, from).await.map(|opened| {
            let mail = self.role.forwarded(&self.shared, &opened);
            let mail =
                mail.map(|forwarded| forwarded.map(|forwarded| Posting::begin(&self.shared, forwarded)));
            Box::new(Opening { opened, mail })
        });
        Begun { opened, span: Span::current() }
    }

    /// Does what an opened envelope asks for. When this returns without refusal, whatever follows from it is durable.
    pub(crate) async fn finish(self: &Arc<Self>, begun: Begun, arrival: Arrival) -> Receipt {
        let Begun { opened, span } = begun;
        self.finish_opened(opened, arrival).instrument(span).await
    }

    async fn finish_opened(
        self: &Arc<Self>,
        opened: Result<Box<Opening>, OpenError>,
        arrival: Arrival,
    ) -> Receipt {
        let Opening { opened, mail } = match opened {
            Ok(opening) => *opening,
            Err(error) => {
                let (code, failure) = (ProblemCode::from(&error), Failure::Open(error));
                self.shared.stats.refuse(Reason::of_failure(&failure));
                tracing::info!(%code, reason = %describe_for_log(&failure), "envelope refused");
                return Receipt::refused(Refusal::from(&failure));
            }
        };
        let taken = match mail {
            Some(posting) => self.keep_mail(&opened, posting, arrival).await,
            None => self.take(&opened, arrival).await,
        };
        match taken {
            Ok(done) => {
                let replies = self.reply(&opened, done.outgoing, arrival).await;
                Receipt { refused: None, replies, live: done.live, notice: done.notice }
            }
            Err(failure) => {
                self.shared.stats.refuse(Reason::of_failure(&failure));
                let (reason, kind) = (describe_for_log(&failure), &opened.message.kind);
                if failure.is_ours_to_mend() {
                    tracing::error!(reason, %kind, "message not handled, by a fault of ours");
                } else {
                    tracing::info!(reason, %kind, "message not handled");
                }
                let refusal = Refusal::from(&failure);
                let replies = self.signed_report(&opened, &failure, arrival).into_iter().collect();
                Receipt { refused: Some(refusal), replies, ..Receipt::default() }
            }
        }
    }

    pub(super) async fn open(&self, bytes: &[u8], from: Option<Origin>) -> Result<Opened, OpenError> {
        let mut fetches = 0;
        loop {
            let context = OpenContext {
                custody: &self.shared.keyring,
                resolver: &self.shared.resolver,
                now: self.shared.now(),
                accept_plaintext: false,
                layers: LayerPolicy::Tolerant,
            };
            let error = match open(bytes, &context) {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            let need = Failure::Open(error.clone()).need();
            match need {
                Some(need) if fetches < super::MAX_FETCHES => {
                    fetches += 1;
                    if !self.fetch(&need, from).await {
                        return Err(error);
                    }
                }
                _ => return Err(error),
            }
        }
    }

    /// Handles an opened message.
    async fn take(self: &Arc<Self>, opened: &Opened, arrival: Arrival) -> Result<Done, Failure> {
        let rx = Received::of(opened);
        let Some(rx) = rx else {
            return self
                .run(|fx| {
                    fx.arrival = Some(arrival);
                    self.role.on_anonymous(&self.shared, opened, fx)
                })
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
        let question = self.role.is_question(&rx.message().kind);
        if let Some(rotation) = &opened.proof.rotation
            && self.recent.get(&seen).is_none()
            && !self.shared.db.exists(SEEN, &seen)?
        {
            // Before the message itself, which may rest on it; a second time it finds nothing to do.
            let new = their_form(&rx);
            let followed = self.run(|fx| {
                fx.arrival = Some(arrival);
                self.role.on_rotation(&self.shared, &rotation.prior, &new, fx)
            });
            match followed.await {
                Ok(_) => {}
                Err(Failure::Peer { code, comment }) => {
                    self.shared.stats.refuse(Reason::of_code(&code));
                    return self.report(opened, &rx, &seen, (code, &comment), arrival).await;
                }
                Err(failure) => return Err(failure),
            }
        }
        let (mut repeated, mut is_kept) = (false, false);
        let handled = self
            .run(|fx| {
                // Asked anew on every turn: two copies may be handled at once, and the slower one must see the faster.
                repeated =
                    self.recent.get(&seen).is_some() || (!question && self.shared.db.exists(SEEN, &seen)?);
                if repeated {
                    return Ok(());
                }
                fx.arrival = Some(arrival);
                self.remember(opened, &rx, fx)?;
                self.note_rotation(opened, &rx, fx)?;
                self.dispatch(&rx, fx)?;
                // Of what leaves no trace the memory is enough: strangers must not fill the disk with the ids of their pings.
                // What changes nothing today may change something when it comes again: an account's removal of what it adds later.
                let may_change = MediationVersion::of(&rx.message().kind).is_some();
                is_kept = !question && (may_change || !fx.leaves_no_trace());
                if is_kept { self.keep_seen(&rx, &seen, fx) } else { Ok(()) }
            })
            .await;
        if repeated {
            self.shared.stats.duplicates.inc();
            return self.answer_replay(&rx, arrival).await;
        }
        match handled {
            Ok(done) => {
                self.shared.stats.accepted.inc();
                if !is_kept {
                    self.recent.put(&seen, ());
                }
                Ok(done)
            }
            Err(Failure::Peer { code, comment }) => {
                tracing::info!(%code, kind = %rx.message().kind, "answered with a problem report");
                self.shared.stats.refuse(Reason::of_code(&code));
                self.report(opened, &rx, &seen, (code, &comment), arrival).await
            }
            Err(failure) => Err(failure),
        }
    }

    /// Waits for letters and tells whoever is connected for them; a proved sender hears why they are not kept.
    async fn keep_mail(
        self: &Arc<Self>,
        opened: &Opened,
        posting: Result<Posting, Failure>,
        arrival: Arrival,
    ) -> Result<Done, Failure> {
        let kept = match posting {
            Ok(posting) => posting.kept(&self.shared).await,
            Err(failure) => Err(failure),
        };
        match (kept, Received::of(opened)) {
            (Err(Failure::Peer { code, comment }), Some(rx)) => {
                self.shared.stats.refuse(Reason::of_code(&code));
                self.report(opened, &rx, &seen_id(&rx), (code, &comment), arrival).await
            }
            (kept, _) => kept.map(|()| Done::default()),
        }
    }

    fn dispatch(&self, rx: &Received<'_>, fx: &mut Effects<'_>) -> Handled {
        if dispatch::on_message(&self.shared, self.role.as_ref(), rx, fx)? {
            return Ok(());
        }
        if self.role.on_message(&self.shared, rx, fx)? {
            return Ok(());
        }
        Err(Failure::peer(ProblemCode::UNSUPPORTED, "this message type is not spoken here"))
    }

    /// Writes down that a message was handled, for as long as a mediator may bring it again.
    fn keep_seen(&self, rx: &Received<'_>, seen: &str, fx: &mut Effects<'_>) -> Handled {
        let now = self.shared.now();
        let until = rx.message().expires_time.unwrap_or(now).max(now).plus(REMEMBER_SECS);
        let key = fx.db().key(SEEN, seen)?;
        fx.batch().expect_absent(key);
        Ok(fx.put_expiring(SEEN, seen, &now, UnixSeconds(until.0.min(now.plus(2 * REMEMBER_SECS).0)))?)
    }

    /// Notes the sender's long form, and that the sender knows our DID.
    fn remember(&self, opened: &Opened, rx: &Received<'_>, fx: &mut Effects<'_>) -> Handled {
        let pairwise = self.shared.own_did(rx.recipient())?.is_some_and(|own| own.usage == DidUse::Pairwise);
        if !pairwise {
            return Ok(());
        }
        let known = identity::peer_of(fx.db(), rx.recipient(), rx.sender())?.is_some();
        let rotated = match &opened.proof.rotation {
            Some(rotation) => identity::peer_of(fx.db(), rx.recipient(), &rotation.prior)?.is_some(),
            None => false,
        };
        if !known && !rotated {
            // A DID made for one peer was passed on: nobody else is listened to there, and nobody is answered.
            return Err(Failure::unproved("a stranger wrote to a DID of another relationship"));
        }
        learn(&their_form(rx), fx)?;
        if let Some(stored) = identity::peer_of(fx.db(), rx.recipient(), rx.sender())?
            && !stored.value.knows_us
        {
            let peer = identity::Peer { knows_us: true, ..stored.value };
            let id = crate::db::peer_id(rx.recipient(), rx.sender());
            fx.update(PEERS, id, &peer, Some(stored.version))?;
        }
        Ok(())
    }

    /// Moves a relationship to the DID its peer has proved to rotate to.
    fn note_rotation(&self, opened: &Opened, rx: &Received<'_>, fx: &mut Effects<'_>) -> Handled {
        let Some(rotation) = &opened.proof.rotation else { return Ok(()) };
        let is_old = |last: UnixSeconds| rotation.issued_at < last;
        let known = identity::peer_of(fx.db(), rx.recipient(), &rotation.prior)?;
        if known.as_ref().and_then(|stored| stored.value.rotated_at).is_some_and(is_old) {
            return Err(Failure::peer(ProblemCode::REPLAYED, "an older rotation than the one in force"));
        }
        if self.shared.config.role != Role::Mediator {
            exchange::note_rotation(rx, fx)?;
        }
        let Some(stored) = known else {
            // Not a peer of ours: there is nothing to rotate.
            return Ok(());
        };
        let old = crate::db::peer_id(rx.recipient(), &rotation.prior);
        let peer =
            identity::Peer { theirs: their_form(rx), rotated_at: Some(rotation.issued_at), ..stored.value };
        learn(&their_form(rx), fx)?;
        fx.delete(PEERS, old)?;
        fx.put(PEERS, crate::db::peer_id(rx.recipient(), rx.sender()), &peer)?;
        Ok(())
    }

    /// A repeated message does no harm: nothing, or the code mediators use for it.
    async fn answer_replay(self: &Arc<Self>, rx: &Received<'_>, arrival: Arrival) -> Result<Done, Failure> {
        if !self.role.reports_replays() {
            return Ok(Done::default());
        }
        self.run(|fx| {
            fx.arrival = Some(arrival);
            dispatch::report(rx, ProblemCode::REPLAYED, "a message with this id was handled before", fx)
        })
        .await
    }

    /// Tells a proved sender what was wrong, within the thread's budget; the message counts as seen.
    async fn report(
        self: &Arc<Self>,
        opened: &Opened,
        rx: &Received<'_>,
        seen: &str,
        (code, comment): (ProblemCode, &str),
        arrival: Arrival,
    ) -> Result<Done, Failure> {
        if self.recent.get(seen).is_some() {
            return Ok(Done::default());
        }
        let mut is_kept = false;
        let done = self.run(|fx| {
            fx.arrival = Some(arrival);
            if self.shared.db.exists(SEEN, seen)? {
                is_kept = true;
                return Ok(());
            }
            self.remember(opened, rx, fx)?;
            // What it said was wrong; who said it goes on under the new DID, and need not prove that again.
            match self.note_rotation(opened, rx, fx) {
                Ok(()) | Err(Failure::Peer { .. }) => {}
                Err(failure) => return Err(failure),
            }
            dispatch::report(rx, code.clone(), comment, fx)?;
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

/// The record id of a message: ids are unique for each sender.
fn seen_id(rx: &Received<'_>) -> String {
    digest_id(&[rx.sender().as_str(), &rx.message().id.to_key()])
}
