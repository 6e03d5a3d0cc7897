//! A world: nodes with their stores, a clock, a network, and the turns they take.

use std::{collections::BTreeMap, fmt, sync::Arc};

use einmal::{
    clock::{Clock, ManualClock},
    config::{CitizenSettings, Config, Role, TrustedIssuer},
    db::Db,
    net::memory::{Faults, MemoryNetwork},
    node::{Node, Parts},
};
use einmal_keys::{Entropy, SeededEntropy};
use einmal_storage::{MemoryStore, Store, TenantId, mail::MemoryMail};
use serde_json::{Value, json};

use crate::{ByName, Wire, city_folder};

/// When a world begins, in Unix milliseconds: 1 June 2026.
pub const START_MS: u64 = 1_780_272_000_000;

/// Most turns until a world must be quiet after a storm.
const MAX_TURNS: usize = 400;

/// How a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// Between committing and sending.
    BeforeSending,
    /// After sending, before recording that it was sent.
    AfterSending,
    /// While fetching mail: accepted or not, nothing more is written.
    AtTheMailbox,
}

/// A machine: its disk outlives the node running on it.
struct Machine {
    config: Config,
    url: String,
    disk: MemoryStore,
    mail: MemoryMail,
    entropy: Arc<SeededEntropy>,
    running: Option<Running>,
}

struct Running {
    node: Arc<Node>,
    store: Arc<MemoryStore>,
}

/// Nodes by name, on one network, at one time.
pub struct World {
    seed: u64,
    clock: Arc<ManualClock>,
    network: Arc<MemoryNetwork>,
    wire: Wire,
    machines: BTreeMap<String, Machine>,
    dice: SeededEntropy,
    crashes: u8,
    faults: Faults,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl World {
    /// An empty world.
    pub fn new(seed: u64) -> Self {
        let network = MemoryNetwork::new(seed);
        Self {
            seed,
            clock: Arc::new(ManualClock::at(START_MS)),
            wire: Wire::new("world", Arc::clone(&network)),
            network,
            machines: BTreeMap::new(),
            dice: SeededEntropy::new(seed ^ 0x00d1_ce00),
            crashes: 0,
            faults: Faults::default(),
        }
    }

    /// A world with mediator, city, library and one citizen, all idle.
    pub async fn with_everybody(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.add_everybody().await;
        world.pump().await;
        world
    }

    /// Starts mediator, city, library and the citizen `anna`.
    pub async fn add_everybody(&mut self) {
        self.add("mediator", Config::new(Role::Mediator)).await;
        self.add_city("city").await;
        self.add_library("library", &["city"]).await;
        self.add_citizen("anna").await;
    }

    /// Starts the example city.
    pub async fn add_city(&mut self, name: &str) {
        let mut config = Config::new(Role::City);
        config.city.as_mut().unwrap().description = city_folder().join("city.toml");
        self.add(name, config).await;
    }

    /// Starts a verifier that trusts the cities with these names.
    pub async fn add_library(&mut self, name: &str, trusted: &[&str]) {
        let mut config = Config::new(Role::Merchant);
        let merchant = config.merchant.as_mut().unwrap();
        merchant.requests = city_folder().join("requests");
        let did = |city: &&str| TrustedIssuer::Any(format!("did:web:{city}.example"));
        merchant.trusted_issuers = trusted.iter().map(did).collect();
        self.add(name, config).await;
    }

    /// Starts a citizen whose mediator is the node `mediator`.
    pub async fn add_citizen(&mut self, name: &str) {
        let mut config = Config::new(Role::Citizen);
        let invitation = self.ask("mediator", "invite", json!({})).await;
        let mediator = Some(invitation["invitation"].as_str().unwrap().to_owned());
        config.citizen = Some(CitizenSettings { mediator, poll_ms: None });
        self.add(name, config).await;
    }

    /// Starts a node; all except citizens are reached at `https://NAME.example`.
    pub async fn add(&mut self, name: &str, config: Config) {
        let url =
            if config.role == Role::Citizen { String::new() } else { format!("https://{name}.example") };
        let own_seed = name.bytes().fold(self.seed, |seed, byte| seed.wrapping_mul(257) ^ u64::from(byte));
        let machine = Machine {
            config,
            url,
            disk: MemoryStore::new(),
            mail: MemoryMail::new(),
            entropy: Arc::new(SeededEntropy::new(own_seed)),
            running: None,
        };
        self.machines.insert(name.to_owned(), machine);
        self.start(name).await;
    }

    /// Starts the node of a machine again, from its disk.
    pub async fn start(&mut self, name: &str) {
        let machine = self.machines.get_mut(name).unwrap();
        let store = Arc::new(machine.disk.reopen());
        let wire = Arc::new(self.wire.of(name));
        let parts = Parts {
            config: machine.config.clone(),
            db: Db::new(Arc::clone(&store) as Arc<dyn Store>, TenantId::default()),
            mail: Arc::new(machine.mail.clone()),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            entropy: Arc::clone(&machine.entropy) as Arc<dyn Entropy>,
            transport: Arc::clone(&wire) as _,
            fetcher: wire,
        };
        let node = Node::start(parts, &machine.url).await.unwrap();
        if !machine.url.is_empty() {
            self.network.attach(&machine.url, &node);
        }
        machine.running = Some(Running { node, store });
    }

    /// Changes the configuration of a machine, for its next start.
    pub fn configure(&mut self, name: &str, change: impl FnOnce(&mut Config)) {
        change(&mut self.machines.get_mut(name).unwrap().config);
    }

    /// Ends the node of a machine at once: whatever was not committed is gone.
    pub fn kill(&mut self, name: &str) {
        let machine = self.machines.get_mut(name).unwrap();
        self.network.detach(&machine.url);
        if let Some(running) = machine.running.take() {
            let store = running.store.close();
            assert!(store.is_ok(), "a store in memory closes");
        }
    }

    /// The running node of this name.
    pub fn node(&self, name: &str) -> Arc<Node> {
        Arc::clone(&self.machines[name].running.as_ref().unwrap().node)
    }

    /// The store under a node.
    pub fn store(&self, name: &str) -> Arc<MemoryStore> {
        Arc::clone(&self.machines[name].running.as_ref().unwrap().store)
    }

    /// The clock all nodes read.
    pub fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    /// The network with its book.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The underlying network.
    pub fn network(&self) -> &Arc<MemoryNetwork> {
        &self.network
    }

    /// Runs a command; if the node refuses, the story fails.
    pub async fn ask(&self, name: &str, command: &str, input: Value) -> Value {
        match self.node(name).by_name(command, &input).await {
            Ok(value) => value,
            Err(failure) => panic!("seed {}: {name} refuses `{command}`: {failure}", self.seed),
        }
    }

    /// A counter of a node, by name.
    pub fn count(&self, name: &str, counter: &str) -> u64 {
        self.node(name).stats().to_json()[counter].as_u64().unwrap()
    }

    /// Number of messages a node gave up.
    pub async fn given_up(&self, name: &str) -> u64 {
        self.ask(name, "status", json!({})).await["given_up"].as_u64().unwrap()
    }

    /// Sets the network faults, and how often nodes die, in percent of their turns.
    pub fn storm(&mut self, faults: Faults, crashes: u8) {
        self.faults = faults;
        self.crashes = crashes;
        self.network.set_faults(faults);
    }

    /// Ends the storm.
    pub fn calm(&mut self) {
        self.storm(Faults::default(), 0);
    }

    /// Lets `turns` turns pass, whatever happens.
    pub async fn turns(&mut self, turns: usize) {
        for _ in 0..turns {
            self.turn().await;
            let pause = 500 + u64::from(self.roll(4)) * 1000;
            self.clock.advance(pause);
        }
    }

    /// Lets turns pass until there is nothing left to do.
    ///
    /// # Panics
    ///
    /// If the nodes do not come to rest.
    pub async fn pump(&mut self) {
        for _ in 0..MAX_TURNS {
            let before = self.handled();
            let due = self.turn().await;
            if self.handled() == before && self.is_quiet().await {
                return;
            }
            // Advance to the next attempt, or the next mailbox check.
            let now = self.clock.now_ms();
            self.clock.advance(due.map_or(1000, |due| due.saturating_sub(now).clamp(1, 300_000)));
        }
        let events = self.wire.events();
        let last: Vec<&String> = events.iter().rev().take(30).collect();
        panic!("seed {}: no rest after {MAX_TURNS} turns; last events: {last:#?}", self.seed);
    }

    /// One turn of every node; returns when the next message is due.
    async fn turn(&mut self) -> Option<u64> {
        let mut next = None::<u64>;
        for name in self.machines.keys().cloned().collect::<Vec<_>>() {
            let death = self.death();
            match death {
                Some(Death::BeforeSending) => {
                    self.reboot(&name).await;
                    continue;
                }
                Some(Death::AfterSending | Death::AtTheMailbox) => {
                    // From here on the disk accepts nothing more.
                    self.store(&name).fail_next_commits(usize::MAX);
                }
                None => {}
            }
            let node = self.node(&name);
            if death != Some(Death::AtTheMailbox) {
                if let Ok(Some(due)) = node.outbox_pass().await {
                    next = Some(next.map_or(due, |next| next.min(due)));
                }
                let _ = node.timer_pass().await;
            }
            if self.machines[&name].config.role == Role::Citizen
                && let Err(failure) = node.visit_mailbox().await
            {
                self.wire.of(&name).note(&format!("does not reach its mailbox: {failure}"));
            }
            drop(node);
            if death.is_some() {
                self.reboot(&name).await;
            }
        }
        self.network.deliver_delayed().await;
        next
    }

    async fn reboot(&mut self, name: &str) {
        self.wire.of(name).note("dies and comes back");
        self.machines[name].disk.fail_next_commits(0);
        self.kill(name);
        self.start(name).await;
    }

    fn death(&self) -> Option<Death> {
        if self.crashes == 0 || self.roll(100) >= self.crashes {
            return None;
        }
        let deaths = [Death::BeforeSending, Death::AfterSending, Death::AtTheMailbox];
        deaths.get(usize::from(self.roll(3))).copied()
    }

    fn roll(&self, sides: u8) -> u8 {
        let mut byte = [0u8];
        let rolled = self.dice.fill(&mut byte);
        assert!(rolled.is_ok(), "seeded chance does not fail");
        byte[0] % sides
    }

    /// Messages handled by all nodes so far, repetitions included.
    fn handled(&self) -> u64 {
        let running = self.machines.values().filter_map(|machine| machine.running.as_ref());
        running
            .map(|running| {
                let stats = running.node.stats();
                let quiet = [&stats.queued, &stats.sent, &stats.send_failures];
                quiet.iter().map(|counter| counter.get()).sum::<u64>()
            })
            .sum()
    }

    /// Whether nothing is waiting: no outbox, queue, message on its way, or account not granted.
    async fn is_quiet(&self) -> bool {
        if self.network.waiting() > 0 {
            return false;
        }
        for (name, machine) in &self.machines {
            let status = self.ask(name, "status", json!({})).await;
            let waits = match machine.config.role {
                Role::Mediator => self.ask(name, "queues", json!({})).await["messages"] != 0,
                Role::Citizen => {
                    let mailbox = self.ask(name, "mailbox", json!({})).await;
                    mailbox["granted"] != true || mailbox["spares"] == 0
                }
                _ => false,
            };
            if waits || status["outbox"] != 0 {
                return false;
            }
        }
        true
    }
}
