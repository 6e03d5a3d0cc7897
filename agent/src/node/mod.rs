//! The node: one loop for every event, wherever it comes from.
//!
//! ```text
//! bytes -> open (sender proved) -> seen before? -> role.on_message
//!       -> one batch: state, messages, timers -> durable -> answer
//! ```
//!
//! Handlers are synchronous and change nothing but the batch, with one exception: places in a status list are reserved
//! by a commit of their own, 64 at once, because a place given to one card must not be given to another. What handlers
//! cannot know without the network they ask for ([`Need`]); the node fetches it and handles the event again. Nothing is
//! acknowledged before the batch is durable, and nothing is sent that is not in it, except direct answers that are
//! worthless later.

mod answering;
mod dispatch;
mod fetching;
mod line_state;
mod live;
mod once;
mod outbox;
mod receive;
mod relationship;
#[cfg(test)]
pub(crate) mod testing;
mod timers;
mod upkeep;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
};

use einmal_did::{Did, DidDocument, ResolveError, Resolver};
use einmal_didcomm::{Message, Opened};
use einmal_storage::StoreError;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::Notify;

use self::{line_state::LineState, upkeep::Upkeep};
pub(crate) use self::{live::Hand, receive::Begun};
pub use crate::handler::{Arrival, Failure, Need, Origin, Parts, PeerFault, Receipt, Refusal, Shared, Stats};
use crate::{
    command::Command,
    delivery::LiveChange,
    handler::{self, Cause, Effects, Handled, Notice, Outgoing, Reached, Recent, RoleService},
    role,
    service::{exchange, queue},
    transport::{self, FetchError, Fetcher, SendError},
};

/// Most fetches one event may cause.
const MAX_FETCHES: usize = 8;
/// Most times an event is handled again because another one changed what it had read.
const MAX_CONFLICTS: usize = 64;

/// What is left to do once an event is committed.
#[derive(Default)]
struct Done {
    /// Messages to send; those that are not transient are in the outbox already.
    outgoing: Vec<Outgoing>,
    /// What happens to the connection the event came by.
    live: Option<LiveChange>,
    /// Set if it was a notice of our own mediator.
    notice: Option<Notice>,
    /// Set if the message was not taken although it is answered.
    refused: Option<Refusal>,
}

/// A running node.
pub struct Node {
    pub(crate) shared: Shared,
    role: Box<dyn RoleService>,
    fetcher: Arc<dyn Fetcher>,
    outbox_bell: Notify,
    outbox_served: outbox::Served,
    fetching: fetching::Fetching,
    changed: Notify,
    /// The state of the line to our own mediator.
    pub(crate) line: LineState,
    /// What is to be looked after at our own mediator, and when.
    pub(crate) upkeep: Upkeep,
    /// Messages handled lately that left no trace in the store.
    recent: Recent<()>,
    /// Whether timers were checked since the clock became trusted.
    timers_fit: AtomicBool,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("role", &self.shared.config.role).finish_non_exhaustive()
    }
}

impl Node {
    /// Starts a node: loads keys and DIDs, and makes the public identity for `url` if it has none yet.
    ///
    /// `url` is how others reach the node; empty for a citizen.
    ///
    /// # Errors
    ///
    /// [`SetupError`](crate::error::SetupError) if the store or the role's own files cannot be read.
    pub async fn start(parts: Parts, url: &str) -> Result<Arc<Self>, crate::error::SetupError> {
        let fetcher = Arc::clone(&parts.fetcher);
        let shared = Shared::new(parts, url)?;
        let role = role::service(&shared)?;
        let node = Self {
            shared,
            role,
            fetcher,
            outbox_bell: Notify::new(),
            outbox_served: outbox::Served::default(),
            fetching: fetching::Fetching::default(),
            changed: Notify::new(),
            line: LineState::default(),
            upkeep: Upkeep::default(),
            recent: Recent::default(),
            timers_fit: AtomicBool::new(false),
        };
        node.take_public_identity(url).await?;
        if node.shared.config.role == crate::config::Role::Mediator {
            let moved = queue::take_over(&node.shared).await?;
            if moved > 0 {
                tracing::info!(moved, "mail of an earlier version was taken over");
            }
        } else {
            let moved = exchange::take_over(&node.shared).await?;
            if moved > 0 {
                tracing::info!(moved, "relations of exchanges of an earlier version were taken over");
            }
        }
        Ok(Arc::new(node))
    }

    async fn take_public_identity(&self, url: &str) -> Result<(), crate::error::SetupError> {
        let shared = &self.shared;
        let role = shared.config.role;
        // A merchant needs no URL if peers reach it directly. City and mediator need HTTP for their work.
        let by_peers_only = role == crate::config::Role::Merchant && shared.peer_endpoint().is_some();
        if url.is_empty() && !by_peers_only {
            return Ok(());
        }
        let mut fx = Effects::new(shared, Cause::Own);
        let peer_did = role == crate::config::Role::Mediator || url.is_empty();
        let did = handler::public(
            &mut fx,
            &shared.keyring,
            &shared.resolver,
            shared.entropy(),
            shared.now(),
            Reached { url, peer_did, further: shared.peer_endpoint() },
        )?;
        let (batch, _) = fx.into_parts();
        shared.db.store().commit(batch).await?;
        let _ = shared.public.set(did);
        Ok(())
    }

    /// Whether the node can take anything in: its stores have not failed, the disk takes mail, and it does not hang.
    pub fn is_ready(&self) -> bool {
        let (mail, store) = (&self.shared.mail, self.shared.db.store());
        // First whether it hangs: other questions may then wait for it.
        !store.is_stalled()
            && !mail.is_stalled()
            && store.stats().is_ok()
            && mail.is_open()
            && !mail.is_held_up()
    }

    /// Ends all streams back to libp2p peers and closes their connections; from now on nothing goes back to any.
    pub async fn end_lines(&self) {
        if let Some(lines) = self.shared.lines() {
            lines.stop().await;
        }
    }

    /// What handlers share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Counters of what the node did.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// The DID shown to everybody; a citizen has none.
    pub fn public_did(&self) -> Option<&Did> {
        self.shared.public_did()
    }

    /// The document this node publishes for one of its own did:web DIDs.
    pub fn published_document(&self, did: &Did) -> Option<Arc<DidDocument>> {
        self.shared.resolver.own(did)
    }

    /// A fresh token for the status list this node publishes at `uri`; `None` if it publishes none there.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the list cannot be known now, read or signed.
    pub fn published_status_list(&self, uri: &str) -> Result<Option<String>, Failure> {
        self.role.status_list(&self.shared, uri)
    }

    /// Carries out a request of this node's own user: handled and committed like any other event.
    ///
    /// # Errors
    ///
    /// [`Failure::User`] with the remedy, or why it cannot be done now.
    pub async fn command(self: &Arc<Self>, command: &Command) -> Result<Value, Failure> {
        let mut answer = Value::Null;
        self.run(Cause::Own, |fx| {
            answer = dispatch::command(&self.shared, self.role.as_ref(), command, fx)?;
            Ok(())
        })
        .await
        .map_err(Failure::of_command)?;
        Ok(answer)
    }

    /// Handles one event: repeats it after fetching and after conflicts, and commits.
    async fn run(
        self: &Arc<Self>,
        cause: Cause,
        mut handle: impl FnMut(&mut Effects<'_>) -> Handled,
    ) -> Result<Done, Failure> {
        let (mut tried, mut conflicts) = (Vec::<Need>::new(), 0);
        loop {
            let mut fx = Effects::new(&self.shared, cause);
            fx.fetches_left = MAX_FETCHES.saturating_sub(tried.len());
            fx.tried.clone_from(&tried);
            if let Err(failure) = handle(&mut fx) {
                match failure.need() {
                    Some(need) if tried.len() < MAX_FETCHES => {
                        tried.extend_from_slice(need.parts());
                        if self.fetch(&need, cause.arrival().and_then(Arrival::origin)).await {
                            continue;
                        }
                        return Err(failure);
                    }
                    _ => return Err(failure),
                }
            }
            let outgoing = std::mem::take(&mut fx.outgoing);
            let (mail, memory) = (std::mem::take(&mut fx.mail), std::mem::take(&mut fx.memory));
            let live = fx.live.take();
            let durable: Vec<_> = outgoing.iter().filter(|out| !out.transient).cloned().collect();
            let queued = !durable.is_empty();
            let in_outbox = self.enqueue(&mut fx, durable)?;
            let (batch, _) = fx.into_parts();
            if !batch.is_empty() {
                match self.shared.db.store().commit(batch).await {
                    Ok(_) => {}
                    Err(StoreError::Conflict { .. }) if conflicts < MAX_CONFLICTS => {
                        conflicts += 1;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
                in_outbox.keep();
                if queued {
                    self.outbox_bell.notify_one();
                }
                self.changed.notify_waiters();
            }
            // The changes that cannot fail come first.
            memory.into_iter().for_each(|change| change.apply(&self.shared));
            // All are begun before one is waited for: the disk is made to write once, not once for each.
            let changes: Vec<_> = mail.into_iter().map(|change| change.begin(&self.shared)).collect();
            for change in changes {
                change.await?;
            }
            return Ok(Done { outgoing, live, ..Done::default() });
        }
    }

    /// Fetches what a handler asked for because of `from`; a failure is remembered, so that the repeated handler sees
    /// it. False if something was not tried, because `from` causes too many fetches: others may be about to ask for the same.
    async fn fetch(&self, need: &Need, from: Option<Origin>) -> bool {
        let all = join_all(need.parts().iter().map(|need| self.fetch_one(need, from))).await;
        all.into_iter().all(|tried| tried)
    }

    async fn fetch_one(&self, need: &Need, from: Option<Origin>) -> bool {
        let Some(_waiting) = self.fetching.wait(from) else { return false };
        // Many messages of one sender need one document: it is fetched once.
        let _alone = match need {
            Need::Document { did } => Some(self.fetching.alone(did).await),
            _ => None,
        };
        if let Need::Document { did } = need
            && !matches!(self.shared.resolver.resolve(did), Err(ResolveError::NotFetched { .. }))
        {
            return true;
        }
        let Some(_slot) = self.fetching.begin(from) else { return false };
        match need {
            Need::Document { did } => match self.fetcher.document(did).await {
                Ok(document) => self.shared.resolver.remember(did, document),
                Err(FetchError::Busy) => return false,
                Err(error) => {
                    // Strangers may cause as many as they like.
                    if self.shared.complaints.admit(&()) {
                        tracing::info!(method = did.method(), %error, "a DID document was not fetched");
                    }
                    self.shared.resolver.remember_failure(did);
                }
            },
            Need::StatusList { uri, issuer } => {
                let fetched = self.fetcher.status_list(uri).await;
                if let Err(FetchError::Busy) = fetched {
                    return false;
                }
                if let Err(error) = &fetched {
                    tracing::info!(%error, "a status list was not fetched");
                }
                self.role.status_list_fetched(&self.shared, uri, issuer, fetched.ok());
            }
            Need::All { .. } => {}
        }
        true
    }

    /// Commits changes of the node's own, outside of any message or command.
    pub(crate) async fn change(self: &Arc<Self>, handle: impl FnMut(&mut Effects<'_>) -> Handled) -> Handled {
        self.run(Cause::Own, handle).await.map(|_| ())
    }

    /// Sends a message now and returns the envelope that comes back on the same connection.
    pub(crate) async fn exchange(self: &Arc<Self>, message: &Message, to: &Did) -> Result<Vec<u8>, Failure> {
        let mut last = Failure::unreached("it has no endpoint");
        let mut ways = self.ways(message, to).await?;
        // HTTP is made for answers; a socket for a single question is not worth opening.
        ways.sort_by_key(|way| transport::is_socket(&way.uri));
        for way in ways {
            if transport::is_one_way(&way.uri) {
                continue;
            }
            match self.shared.transport.send(&way.uri, way.bytes).await {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => last = Failure::unreached("it gave no answer"),
                // Another way would bring the same.
                Err(SendError::AnswerTooLarge { most }) => return Err(Failure::AnswerTooLarge { most }),
                Err(error) => last = Failure::unreached(error),
            }
        }
        Err(last)
    }

    /// Opens an envelope that came back as an answer.
    pub(crate) async fn open_answer(&self, envelope: &[u8]) -> Result<Opened, Failure> {
        Ok(self.open(envelope, None).await?)
    }

    /// Resolves when something is committed, or after `within`, whichever is first.
    pub(crate) async fn changed(&self, within: std::time::Duration) {
        let _ = tokio::time::timeout(within, self.changed.notified()).await;
    }
}
