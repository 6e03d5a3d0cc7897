//! What handlers of all roles share: the store, keys, counters, the way out, and the node's own addresses.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use einmal_did::{Did, Endpoint, Resolver};
use einmal_didcomm::{MessageId, Packer, ThreadId, UnixSeconds};
use einmal_flows::report_problem::ErrorBudget;
use einmal_keys::{Custody, Entropy, Keyring};
use einmal_storage::{
    StoreError,
    mail::{Mail, MailboxId},
};

use super::{Effects, Failure, LastVisit, Parts, Recent, Stats, new_dids};
use crate::{
    clock::Clock,
    config::Config,
    db::Db,
    delivery::{Live, ReadForms, Routes},
    error::SetupError,
    identity::{self, OwnDid},
    rates::{self, Rates},
    resolve::NodeResolver,
    steady::{BEGINNING, Present, Steady},
    transport::{PeerLines, Transport},
};

/// Most messages of others that are not handled and are logged at `info`, per second: proved senders cost nothing either.
const MAX_COMPLAINTS_PER_SECOND: u32 = 10;

/// What handlers of all roles share.
pub struct Shared {
    pub(crate) config: Config,
    pub(crate) db: Db,
    pub(crate) keyring: Keyring,
    pub(crate) resolver: NodeResolver,
    pub(crate) stats: Stats,
    pub(crate) mail: Arc<dyn Mail>,
    pub(crate) live: Arc<Live>,
    pub(crate) routes: Routes,
    pub(crate) read_forms: ReadForms,
    /// How many reports each thread has had lately.
    pub(crate) error_budgets: Recent<ErrorBudget>,
    pub(crate) rates: Rates<MailboxId>,
    /// How many messages that are not handled are logged at `info`.
    pub(crate) complaints: Rates<()>,
    pub(crate) clock: Arc<dyn Clock>,
    steady: Steady,
    entropy: Arc<dyn Entropy>,
    pub(crate) public: OnceLock<Did>,
    url: String,
    /// Where the node listens, once it does.
    pub(crate) listening: OnceLock<SocketAddr>,
    /// The result of the last look into the mailbox.
    pub(crate) last_visit: LastVisit,
    pub(crate) transport: Arc<dyn Transport>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("db", &self.db).finish_non_exhaustive()
    }
}

impl Shared {
    /// Builds the shared state from the parts of a node, and loads its keys and DIDs.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if the store cannot be read.
    pub(crate) fn new(parts: Parts, url: &str) -> Result<Self, SetupError> {
        let keyring = Keyring::new();
        let resolver = NodeResolver::new(parts.db.clone(), Arc::clone(&parts.clock));
        let own = identity::load(&parts.db, &keyring)?;
        let most = parts.config.mediator.as_ref().and_then(|one| one.max_account_requests_per_second);
        let shared = Self {
            rates: Rates::new(most.unwrap_or(rates::DEFAULT_PER_ACCOUNT)),
            complaints: Rates::new(MAX_COMPLAINTS_PER_SECOND),
            config: parts.config,
            db: parts.db,
            keyring,
            resolver,
            stats: Stats::new(),
            mail: parts.mail,
            live: Arc::default(),
            routes: Routes::default(),
            read_forms: ReadForms::default(),
            error_budgets: Recent::default(),
            clock: parts.clock,
            steady: Steady::default(),
            entropy: parts.entropy,
            public: OnceLock::new(),
            url: url.to_owned(),
            listening: OnceLock::new(),
            last_visit: LastVisit::default(),
            transport: parts.transport,
        };
        shared.remember_own(&own);
        Ok(shared)
    }

    /// The present, in whole seconds.
    pub(crate) fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    /// The present, in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The present, and how far the clock can be trusted. A jump is logged and counted.
    pub(crate) fn present(&self) -> Present {
        let (present, jump) = self.steady.look(self.clock.as_ref());
        if let Some(seconds) = jump {
            self.stats.clock_jumps.inc();
            tracing::error!(
                seconds,
                "the clock jumped: nothing is removed by it until it has stood for an hour"
            );
        }
        present
    }

    /// The instant until which something is kept for `seconds`. A clock that is certainly wrong cannot set a limit:
    /// then it is kept until it is dealt with.
    pub(crate) fn kept_for(&self, seconds: u64) -> UnixSeconds {
        let latest = self.present().latest();
        if latest < BEGINNING { UnixSeconds(u64::MAX) } else { UnixSeconds(latest).plus(seconds) }
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        self.entropy.as_ref()
    }

    /// A fresh id for a message, a thread or a record.
    pub(crate) fn fresh_id(&self) -> Result<MessageId, Failure> {
        MessageId::random(self.entropy()).map_err(Failure::entropy)
    }

    /// A fresh thread.
    pub(crate) fn fresh_thread(&self) -> Result<ThreadId, Failure> {
        Ok(self.fresh_id()?.to_thread())
    }

    pub(crate) fn custody(&self) -> &dyn Custody {
        &self.keyring
    }

    /// The DID shown to everybody; a citizen has none.
    pub(crate) fn public_did(&self) -> Option<&Did> {
        self.public.get()
    }

    /// The URL others reach this node by; empty for a citizen.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Notes where the node listens.
    pub(crate) fn listens_on(&self, address: SocketAddr) {
        let _ = self.listening.set(address);
    }

    pub(crate) fn packer(&self) -> Packer<'_> {
        Packer { custody: &self.keyring, resolver: &self.resolver, entropy: self.entropy.as_ref() }
    }

    /// The start of invitations: the URL others reach this node by, or a scheme that only says what it is.
    pub(crate) fn invitation_base(&self) -> &str {
        if self.url.is_empty() { "didcomm://invite" } else { &self.url }
    }

    /// The node's own libp2p endpoint as it is now, if it has one.
    pub(crate) fn peer_endpoint(&self) -> Option<Endpoint> {
        self.transport.peer_endpoint()
    }

    /// The way back to libp2p peers, if libp2p is switched on.
    pub(crate) fn lines(&self) -> Option<&PeerLines> {
        self.transport.lines()
    }

    /// Makes a DID for one relationship and keeps its keys. It names the mediator, and the node's own
    /// libp2p endpoint if there is one.
    pub(crate) fn pairwise(&self, fx: &mut Effects<'_>, mediator: Option<&Did>) -> Result<Did, Failure> {
        let mailbox = mediator.map(|mediator| Endpoint::didcomm(mediator.as_str()));
        // The mailbox first: deployed clients take the first endpoint. Ours try them in an order of their own.
        self.pairwise_at(fx, mailbox.into_iter().chain(self.peer_endpoint()).collect())
    }

    /// Makes a DID that receives only what comes back on its own connections.
    pub(crate) fn pairwise_without_endpoint(&self, fx: &mut Effects<'_>) -> Result<Did, Failure> {
        self.pairwise_at(fx, Vec::new())
    }

    fn pairwise_at(&self, fx: &mut Effects<'_>, endpoints: Vec<Endpoint>) -> Result<Did, Failure> {
        Ok(new_dids::pairwise(fx, &self.keyring, self.entropy(), self.now(), endpoints)?)
    }

    fn remember_own(&self, own: &[OwnDid]) {
        for did in own {
            // Resolving a long form teaches the resolver the short one; did:web is published when its URL is known.
            let _ = self.resolver.resolve(&did.did);
        }
    }

    /// Whether a DID has an endpoint, or may have one that is not known yet.
    pub(crate) fn can_be_sent_to(&self, did: &Did) -> bool {
        match self.resolver.resolve(did) {
            Ok(document) => document.didcomm_endpoints().next().is_some(),
            Err(_) => true,
        }
    }

    /// The record of one of our DIDs.
    pub(crate) fn own_did(&self, did: &Did) -> Result<Option<OwnDid>, StoreError> {
        Ok(self.db.get(crate::db::OWN_DIDS, crate::db::did_id(did))?.map(|stored| stored.value))
    }
}
