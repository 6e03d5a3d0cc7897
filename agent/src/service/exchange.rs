//! Exchanges in the store: one record each, with the machine, the job it is about, and both parties' DIDs.

use std::ops::ControlFlow;

use einmal_did::Did;
use einmal_didcomm::{ThreadId, UnixSeconds};
use einmal_flows::{
    Draft, ExchangeKey, Received,
    issue_credential::{holder::Holder, issuer::Issuer},
    present_proof::{prover::Prover, verifier::Verifier},
    report_problem,
};
use einmal_storage::{Batch, Record, StoreError, Table, Version};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::predecessors::{our_dids_towards, sender_chain};
use crate::{
    db::{EXCHANGES, META, did_id, encode},
    handler::{
        Effects, Failure, Handled, KEEP_FOR_EXCHANGE_SECS, PeerFault, Shared, learn_for, our_form, their_form,
    },
};

/// The exchange of each thread, as users name threads.
const THREADS: Table = Table::new("thread");
/// The exchange that has a relation to a thread; users do not name exchanges by it.
const RELATED: Table = Table::new("related-exchange");
/// The prefix of names in [`THREADS`] that were relations, in earlier versions.
const OLD_RELATED: &str = "below:";
/// Name of the record that says the move is done.
const RELATED_MOVED: &str = "relations-moved";
/// Old relations moved at a time.
const OLD_PAGE: usize = 256;
/// Keys of unasked exchanges that wait for a decision, by our DID of the relationship.
const UNASKED: Table = Table::new("unasked");
/// Most unasked exchanges in one relationship: with more a peer could bury the requests of others.
const MAX_UNASKED: usize = 8;
/// Seconds an ended exchange is kept.
pub(super) const KEEP_ENDED_SECS: u64 = 30 * 24 * 3600;

/// A machine together with this node's work on it.
pub(crate) trait Work: Serialize + DeserializeOwned {
    /// Kind of exchange, so that a thread of one kind is never read as another.
    const KIND: &'static str;

    /// Whether nothing more will happen.
    fn has_ended(&self) -> bool;

    /// Continues with the DIDs that replaced those of both sides.
    fn follow(&mut self, ours: &Did, theirs: &Did);
}

/// The relation of an exchange to a thread other than its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Relation<'a> {
    /// It answers the invitation that begins this thread, which admits one answer.
    AnswerTo(&'a ThreadId),
    /// A peer asked for it in the course of this thread.
    AskedIn { thread: &'a ThreadId, by: &'a Did },
}

impl Relation<'_> {
    fn id(self) -> String {
        let id = match self {
            Self::AnswerTo(thread) => format!("{}:answer", thread.to_key()),
            Self::AskedIn { thread, by } => format!("{}:{}", thread.to_key(), did_id(by)),
        };
        id.to_ascii_lowercase()
    }
}

/// An exchange as stored.
#[derive(Serialize, Deserialize)]
struct StoredExchange {
    kind: String,
    ours: Did,
    theirs: Did,
    work: Value,
}

/// An exchange being worked on.
pub(crate) struct Exchange<W> {
    pub(crate) key: String,
    pub(crate) ours: Did,
    pub(crate) theirs: Did,
    pub(crate) work: W,
    version: Option<Version>,
}

impl<W: Work> Exchange<W> {
    /// A new exchange in thread `thid`.
    pub(crate) fn new(ours: Did, theirs: Did, thid: &ThreadId, work: W) -> Self {
        let key = ExchangeKey::new(&ours, &theirs, thid).as_str().to_owned();
        Self { key, ours, theirs, work, version: None }
    }

    /// A new exchange that a received message opens.
    pub(crate) fn opened_by(rx: &Received<'_>, work: W) -> Self {
        Self::new(our_form(rx), their_form(rx), &rx.message().thread(), work)
    }

    /// Reads the exchange with this key if it is of this kind.
    pub(crate) fn load(shared: &Shared, key: &str) -> Result<Option<Self>, Failure> {
        let Some(stored) = shared.db.get::<StoredExchange>(EXCHANGES, key)? else { return Ok(None) };
        if stored.value.kind != W::KIND {
            return Ok(None);
        }
        let work = serde_json::from_value(stored.value.work)
            .map_err(|_| Failure::damaged("an exchange does not parse"))?;
        let (ours, theirs) = (stored.value.ours, stored.value.theirs);
        Ok(Some(Self { key: key.to_owned(), ours, theirs, work, version: Some(stored.version) }))
    }

    /// Shows `look` every exchange of this kind; one that does not parse is left out.
    pub(crate) fn each(shared: &Shared, mut look: impl FnMut(Self)) -> Handled {
        shared.db.each(EXCHANGES, |key, stored: StoredExchange| {
            let StoredExchange { kind, ours, theirs, work } = stored;
            if kind == W::KIND
                && let Ok(work) = serde_json::from_value(work)
            {
                let key = String::from_utf8_lossy(&key).into_owned();
                look(Self { key, ours, theirs, work, version: None });
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Reads the exchange a received message belongs to; a problem report belongs to its parent thread.
    ///
    /// Either side may have rotated since it began: it is looked up under their earlier DIDs, and continues with their
    /// present ones.
    pub(crate) fn of(shared: &Shared, rx: &Received<'_>) -> Result<Option<Self>, Failure> {
        let thread = if report_problem::is_report(&rx.message().kind) {
            report_problem::read(rx)?.thread
        } else {
            rx.message().thread()
        };
        let key = ExchangeKey::new(rx.recipient(), rx.sender(), &thread);
        if let Some(found) = Self::load(shared, key.as_str())?
            && found.theirs.same_as(rx.sender())
            && found.ours.same_as(rx.recipient())
        {
            // Nobody has rotated, which is the usual case: nothing more is read.
            return Ok(Some(found));
        }
        let own = our_dids_towards(shared, rx)?;
        let chain = sender_chain(shared, rx, &own)?;
        for ours in &own {
            for theirs in &chain {
                let key = ExchangeKey::new(ours, theirs, &thread);
                let Some(mut found) = Self::load(shared, key.as_str())? else { continue };
                // A peer that has rotated away has no say any more, even if the exchange began under its DID.
                if chain.iter().any(|did| did.same_as(&found.theirs)) {
                    found.follow(rx);
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    fn follow(&mut self, rx: &Received<'_>) {
        let moved = !self.ours.same_as(rx.recipient()) || !self.theirs.same_as(rx.sender());
        if moved {
            self.work.follow(rx.recipient(), rx.sender());
            (self.ours, self.theirs) = (our_form(rx), their_form(rx));
        }
    }

    /// Continues with the DIDs that another exchange of the same two parties has now.
    pub(crate) fn follow_as<V>(&mut self, other: &Exchange<V>) {
        self.work.follow(&other.ours.canonical(), &other.theirs.canonical());
        (self.ours, self.theirs) = (other.ours.clone(), other.theirs.clone());
    }

    /// Writes the exchange back; fails with a conflict if another event changed it meanwhile.
    pub(crate) fn save(&self, fx: &mut Effects<'_>) -> Handled {
        let record = StoredExchange {
            kind: W::KIND.to_owned(),
            ours: self.ours.clone(),
            theirs: self.theirs.clone(),
            work: serde_json::to_value(&self.work)
                .map_err(|_| Failure::internal("an exchange cannot be written"))?,
        };
        learn_for(KEEP_FOR_EXCHANGE_SECS, &self.theirs, fx)?;
        if self.work.has_ended() {
            let until = fx.shared().now().plus(KEEP_ENDED_SECS);
            return Ok(fx.update_expiring(EXCHANGES, &self.key, &record, until, self.version)?);
        }
        Ok(fx.update(EXCHANGES, &self.key, &record, self.version)?)
    }

    /// Makes the exchange findable by a thread as users name it.
    pub(crate) fn index_by_thread(&self, thread: &str, fx: &mut Effects<'_>) -> Handled {
        let until = fx.shared().now().plus(2 * KEEP_ENDED_SECS);
        Ok(fx.put_expiring(THREADS, thread.to_ascii_lowercase(), &self.key, until)?)
    }

    /// Reads the exchange a user names by its thread.
    pub(crate) fn by_thread(shared: &Shared, thread: &str) -> Result<Option<Self>, Failure> {
        let Some(key) = shared.db.get::<String>(THREADS, thread.to_ascii_lowercase())? else {
            return Ok(None);
        };
        Self::load(shared, &key.value)
    }

    /// Makes the exchange findable by its relation to a thread.
    pub(crate) fn index_by_relation(&self, relation: Relation<'_>, fx: &mut Effects<'_>) -> Handled {
        let until = fx.shared().now().plus(2 * KEEP_ENDED_SECS);
        Ok(fx.put_expiring(RELATED, relation.id(), &self.key, until)?)
    }

    /// Reads the exchange that has this relation to a thread.
    pub(crate) fn by_relation(shared: &Shared, relation: Relation<'_>) -> Result<Option<Self>, Failure> {
        let Some(key) = shared.db.get::<String>(RELATED, relation.id())? else { return Ok(None) };
        Self::load(shared, &key.value)
    }

    /// Sends a draft to the peer of the exchange.
    pub(crate) fn send(&self, draft: Draft, fx: &mut Effects<'_>) -> Handled {
        Ok(fx.send(draft, &self.ours, &self.theirs)?)
    }

    /// Asks to be woken.
    pub(crate) fn wake(&self, at: UnixSeconds, fx: &mut Effects<'_>) -> Handled {
        Ok(fx.wake(&self.key, at)?)
    }
}

/// Whether the thread of a message that would open an exchange has one already, which the sender has no part in any more.
pub(crate) fn is_taken(shared: &Shared, rx: &Received<'_>) -> Result<bool, Failure> {
    Ok(shared.db.exists(EXCHANGES, ExchangeKey::of(rx).as_str())?)
}

/// Shows `look` the threads users can name, in the order of their names, until it has seen enough.
pub(crate) fn each_thread(
    shared: &Shared,
    mut look: impl FnMut(&str) -> Result<ControlFlow<()>, Failure>,
) -> Handled {
    shared.db.each(THREADS, |id, _: String| look(&String::from_utf8_lossy(&id)))
}

/// Adds an unasked exchange to those that wait for our decision, in the relationship of our DID that received the
/// message. `waits` tells whether the exchange with a given key still waits.
///
/// # Errors
///
/// [`Failure::Peer`] if the maximum waits there already.
pub(crate) fn note_unasked(
    rx: &Received<'_>,
    key: &str,
    waits: impl Fn(&str) -> Result<bool, Failure>,
    fx: &mut Effects<'_>,
) -> Handled {
    let id = did_id(rx.recipient());
    let stored = fx.db().get::<Vec<String>>(UNASKED, &id)?;
    let (mut open, version) = stored.map_or_else(Default::default, |one| (one.value, Some(one.version)));
    let mut still = Vec::with_capacity(open.len() + 1);
    for key in open.drain(..) {
        if waits(&key)? {
            still.push(key);
        }
    }
    if still.len() >= MAX_UNASKED {
        let comment = "too many offers and requests wait for a decision already";
        return Err(Failure::peer(PeerFault::Request, comment));
    }
    still.push(key.to_owned());
    let until = fx.shared().now().plus(KEEP_ENDED_SECS);
    Ok(fx.update_expiring(UNASKED, id, &still, until, version)?)
}

/// Moves relations that earlier versions kept among thread names into a table of their own. Returns how many.
///
/// # Errors
///
/// [`StoreError`] if they cannot be read or written.
pub(crate) async fn take_over(shared: &Shared) -> Result<u64, StoreError> {
    let mut moved = 0;
    // Only once: a present thread may have a name that looks like an old relation.
    if shared.db.exists(META, RELATED_MOVED)? {
        return Ok(moved);
    }
    loop {
        let page = shared.db.scan_raw(THREADS, OLD_RELATED.as_bytes(), None, OLD_PAGE)?;
        if page.is_empty() {
            let mut batch = Batch::new();
            batch.put(shared.db.key(META, RELATED_MOVED)?, encode(&true)?);
            shared.db.store().commit(batch).await?;
            return Ok(moved);
        }
        let mut batch = Batch::new();
        for Record { key, value, expires_at, .. } in page {
            let id = key.id().get(OLD_RELATED.len()..).unwrap_or_default();
            batch.put_expiring(shared.db.key(RELATED, id)?, value, expires_at.unwrap_or(u64::MAX));
            batch.delete(key);
            moved += 1;
        }
        shared.db.store().commit(batch).await?;
    }
}

/// A machine and its job.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Job<M, J> {
    pub(crate) machine: M,
    pub(crate) job: J,
}

macro_rules! work {
    ($machine:ty, $job:ty, $kind:literal) => {
        impl Work for Job<$machine, $job> {
            const KIND: &'static str = $kind;

            fn has_ended(&self) -> bool {
                self.machine.has_ended()
            }

            fn follow(&mut self, ours: &Did, theirs: &Did) {
                self.machine.follow(ours, theirs);
            }
        }
    };
}

work!(Issuer, super::issuing::IssueJob, "issuer");
work!(Verifier, super::asking::AskJob, "verifier");
work!(Holder, super::holding::HoldJob, "holder");
work!(Prover, super::proving::ProveJob, "prover");
