//! The parts a node is put together from.

use std::{fmt, sync::Arc};

use einmal_keys::Entropy;
use einmal_storage::mail::Mail;

use crate::{
    clock::Clock,
    config::Config,
    db::Db,
    transport::{Fetcher, Transport},
};

/// The parts a node is made of; a simulation can replace each of them.
pub struct Parts {
    /// Configuration.
    pub config: Config,
    /// The store, as one tenant.
    pub db: Db,
    /// Mail kept for others; used by mediators only.
    pub mail: Arc<dyn Mail>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// The way out: sends envelopes.
    pub transport: Arc<dyn Transport>,
    /// Fetches documents and status lists.
    pub fetcher: Arc<dyn Fetcher>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("config", &self.config).finish_non_exhaustive()
    }
}
