//! One arriving envelope: it is opened, its letters are kept or its message handled, and its sender is answered.

use std::sync::Arc;

use einmal_did::Did;
use einmal_didcomm::{LayerPolicy, OpenContext, OpenError, Opened, ProblemCode, open};
use einmal_flows::Received;
use einmal_storage::{Commit, mail::MailboxId};
use tracing::{Instrument, Span};

use super::{Done, Node, answering::Replies, once::seen_id};
use crate::{
    db::mailbox_id,
    handler::{
        Arrival, Failure, Forwarded, Handled, Notice, Origin, Reason, Receipt, Refusal, Shared,
        describe_for_log,
    },
    service::queue,
};

/// An envelope after opening, whether that succeeded or not; what it asks for is not done yet.
pub(crate) struct Begun {
    opened: Result<Box<Opening>, OpenError>,
    /// The span it is logged under, wherever it is finished.
    span: Span,
}

/// An opened envelope, with its letters if it asks to keep some.
struct Opening {
    opened: Opened,
    mail: Option<Result<Posting, Failure>>,
}

impl Begun {
    /// The proved sender, and the DID it had before a rotation.
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
    /// The account whose connections are told of the letters.
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
    /// Takes one envelope in. When this returns without refusal, all that follows from it is durable.
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
    /// calls; [`Node::finish`] waits for them, so many can be under way at once. Fetches it needs are counted for
    /// `from`.
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

    /// Does what an opened envelope asks for. When this returns without refusal, all that follows from it is durable.
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
                // At `info` everybody could fill the disk: it takes no key to send what is refused here.
                tracing::debug!(%code, reason = %describe_for_log(&failure), "envelope refused");
                return Receipt::refused(Refusal::from(&failure));
            }
        };
        let taken = match mail {
            Some(posting) => self.keep_mail(&opened, posting, arrival).await,
            None => self.take(&opened, arrival).await,
        };
        match taken {
            Ok(done) => {
                let Replies { envelopes: replies, is_on_its_way: is_told } =
                    self.reply(&opened, done.outgoing, arrival).await;
                Receipt { refused: done.refused, is_told, replies, live: done.live, notice: done.notice }
            }
            Err(failure) => {
                self.shared.stats.refuse(Reason::of_failure(&failure));
                let (reason, kind) = (describe_for_log(&failure), &opened.message.kind);
                if failure.is_ours_to_mend() {
                    tracing::error!(reason, %kind, "message not handled, by a fault of ours");
                } else if opened.is_authenticated() && self.shared.complaints.admit(&()) {
                    tracing::info!(reason, %kind, "message not handled");
                } else {
                    // At `info` anybody could fill the disk with them.
                    tracing::debug!(reason, %kind, "message not handled");
                }
                let refusal = Refusal::from(&failure);
                let replies: Vec<_> = self.signed_report(&opened, &failure, arrival).into_iter().collect();
                // In an answer by HTTP its status says so too; a socket has nothing but the report.
                let is_told = matches!(arrival, Arrival::Socket { .. }) && !replies.is_empty();
                Receipt { refused: Some(refusal), is_told, replies, ..Receipt::default() }
            }
        }
    }

    /// What our own mediator says in an envelope about its mail, if it says anything; nothing is done with it.
    pub(crate) async fn notice_in(&self, bytes: &[u8]) -> Option<Notice> {
        let opened = self.open(bytes, None).await.ok()?;
        self.role.notice(&self.shared, &Received::of(&opened)?).ok()?
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

    /// Waits for letters and tells their connected recipients; a proved sender is told why they are not kept.
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
            (Err(Failure::Peer { fault, comment }), Some(rx)) => {
                let refused = Some(fault.refusal());
                self.shared.stats.refuse(fault.reason());
                // With the report the letter is not kept all the same: whoever hears no report must not take it for accepted.
                let told = self.report(opened, &rx, &seen_id(&rx), (fault, &comment), arrival).await?;
                Ok(Done { refused, ..told })
            }
            (kept, _) => kept.map(|()| Done::default()),
        }
    }
}
