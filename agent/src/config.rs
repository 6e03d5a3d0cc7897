//! A node's configuration: `einmal.toml` in its folder, then the environment, then flags.

use std::{
    fmt,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use einmal_p2p::Source;
use serde::{Deserialize, Serialize};

use crate::error::SetupError;

mod address_range;
mod check;
mod mediator;
mod trusted_issuer;

pub use address_range::{AddressRange, NoAddressRange};
pub use check::check_public_url;
pub(crate) use mediator::mediator_of;
pub use trusted_issuer::{TrustedFor, TrustedIssuer};

/// Name of the configuration file in a node's folder.
pub const CONFIG_FILE: &str = "einmal.toml";

/// Largest configuration file read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 256 * 1024;

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Issues credentials.
    City,
    /// Verifies presentations.
    Merchant,
    /// Holds credentials.
    Citizen,
    /// Keeps mail for others.
    Mediator,
}

impl Role {
    /// The name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::City => "city",
            Self::Merchant => "merchant",
            Self::Citizen => "citizen",
            Self::Mediator => "mediator",
        }
    }

    /// The port a node of this role listens on by default; a citizen listens nowhere.
    pub fn default_port(self) -> Option<u16> {
        match self {
            Self::Mediator => Some(7000),
            Self::City => Some(7001),
            Self::Merchant => Some(7002),
            Self::Citizen => None,
        }
    }

    /// The address it listens on then: this machine's own.
    fn default_address(self) -> Option<SocketAddr> {
        self.default_port().map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

impl FromStr for Role {
    type Err = SetupError;

    fn from_str(text: &str) -> Result<Self, SetupError> {
        [Self::City, Self::Merchant, Self::Citizen, Self::Mediator]
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| SetupError::Usage {
                problem: format!("`{text}` is no role"),
                remedy: "use one of: city, merchant, citizen, mediator".into(),
            })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Everything that can be configured. Unknown members are refused, so that a typing error is not silently ignored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the node is for.
    pub role: Role,
    /// Address to listen on; a citizen has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// The URL others reach this node by; without it the listening address is used, and the node is in trial mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// A passphrase protects the store instead of a key file; it is asked for, or read from `EINMAL_PASSPHRASE`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passphrase: bool,
    /// What the node may connect to.
    #[serde(default)]
    pub network: Network,
    /// How much others may ask of the node.
    #[serde(default)]
    pub limits: Limits,
    /// A TLS certificate; without it the node speaks plain HTTP, for a proxy in front.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
    /// Peer-to-peer networking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p2p: Option<P2pSettings>,
    /// The city's own settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<CitySettings>,
    /// The merchant's own settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merchant: Option<MerchantSettings>,
    /// The citizen's own settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub citizen: Option<CitizenSettings>,
    /// The mediator's own settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mediator: Option<MediatorSettings>,
}

/// What the node may connect to. The defaults suit the public Internet.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Also connect to private, loopback and link-local addresses: test networks only.
    pub allow_private: bool,
    /// Also fetch and deliver by plain `http`: test networks only.
    pub allow_http: bool,
}

/// TLS with certificate files; paths are relative to the node's folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate chain in PEM, the node's own certificate first.
    pub certificate: PathBuf,
    /// Its private key in PEM; nobody else may read it.
    pub key: PathBuf,
}

/// How much others may ask of the node. The defaults suit one machine of two cores.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most connections open at once.
    pub max_connections: Option<usize>,
    /// Most connections open at once from one address; for IPv6, from one 56-bit network.
    pub max_connections_per_address: Option<usize>,
    /// Most connections at once that have not sent a request yet.
    pub max_pending: Option<usize>,
    /// Most of them from one address.
    pub max_pending_per_address: Option<usize>,
    /// Seconds a connection may take until its first request has arrived, TLS included.
    pub pending_seconds: Option<u64>,
    /// Requests and messages per second from one address; twice as many in a burst. 0 means no limit.
    pub max_requests_per_second: Option<u32>,
    /// Count this machine's own addresses too. They are exempt because they belong to a proxy, or to tests.
    pub loopback: bool,
    /// Reverse proxies whose `X-Forwarded-For` is trusted: limits by address then count the clients it names.
    pub proxies: Vec<AddressRange>,
}

impl Limits {
    /// Most connections open at once.
    pub fn connections(&self) -> usize {
        self.max_connections.unwrap_or(20_000)
    }

    /// Most connections open at once from one address.
    pub fn connections_per_address(&self) -> usize {
        self.max_connections_per_address.unwrap_or(1_024)
    }

    /// Most connections at once that have not sent a request yet.
    pub fn pending(&self) -> usize {
        self.max_pending.unwrap_or(4_096)
    }

    /// Most of them from one address.
    pub fn pending_per_address(&self) -> usize {
        self.max_pending_per_address.unwrap_or(256)
    }

    /// How long a connection may take until its first request has arrived.
    pub fn pending_time(&self) -> Duration {
        Duration::from_secs(self.pending_seconds.unwrap_or(15))
    }

    /// Whether `source` counts: this machine's own address belongs to a proxy or a test, which limit themselves.
    pub(crate) fn counts(&self, source: Source) -> bool {
        !source.is_this_machine() || self.loopback
    }

    /// Requests per second from one address.
    pub fn requests_per_second(&self) -> u32 {
        self.max_requests_per_second.unwrap_or(2_000)
    }
}

/// Peer-to-peer networking by libp2p.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct P2pSettings {
    /// Whether it is used at all.
    pub enabled: bool,
    /// Multiaddresses to listen on; without any, QUIC and TCP on every interface.
    pub listen: Vec<String>,
    /// Multiaddresses to announce to others instead of those listened on.
    pub announce: Vec<String>,
    /// Look for peers on the local network, and be found there; if left out, only a citizen and a merchant do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mdns: Option<bool>,
    /// Multiaddresses of relays through which the node is reached, each ending in `/p2p/` and the relay's peer id. If
    /// left out, a citizen uses its mediator, if that speaks libp2p.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relays: Option<Vec<String>>,
    /// Mediator: relay for others, within limits.
    pub relay_server: bool,
    /// Mediator: most peers reached through its relay.
    pub relay_reservations: Option<usize>,
    /// Mediator: most circuits through its relay at once.
    pub relay_circuits: Option<usize>,
}

impl Default for P2pSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: Vec::new(),
            announce: Vec::new(),
            mdns: None,
            relays: None,
            relay_server: false,
            relay_reservations: None,
            relay_circuits: None,
        }
    }
}

/// Settings of a city.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CitySettings {
    /// Name shown in invitations; if empty, the name in the description.
    pub display_name: String,
    /// Folder or file of the register and the templates: a city description such as `examples/wetzlar/city.toml`.
    pub description: PathBuf,
    /// Seconds a published status list may be cached.
    pub status_ttl_seconds: Option<u64>,
}

/// Settings of a merchant.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MerchantSettings {
    /// Name shown in invitations.
    pub display_name: String,
    /// Folder of request templates.
    pub requests: PathBuf,
    /// Issuers whose credentials are accepted; no others are.
    pub trusted_issuers: Vec<TrustedIssuer>,
    /// Tolerated difference between clocks, in seconds.
    pub clock_skew_seconds: Option<u64>,
}

/// Settings of a citizen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CitizenSettings {
    /// Invitation URL of the mediator to use.
    pub mediator: Option<String>,
    /// Milliseconds between two looks into the mailbox while nothing happens.
    pub poll_ms: Option<u64>,
}

/// Settings of a mediator.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MediatorSettings {
    /// Demand proof of control for every DID that is registered.
    pub require_proof: bool,
    /// Most messages kept for one recipient.
    pub max_queue: Option<u64>,
    /// Most bytes of messages kept for one recipient.
    pub max_queue_bytes: Option<u64>,
    /// Most messages kept for all recipients together.
    pub max_total_queue: Option<u64>,
    /// Most bytes of messages kept for all recipients together.
    pub max_total_bytes: Option<u64>,
    /// Most DIDs one account may register.
    pub max_recipients: Option<usize>,
    /// Requests per second of one account; twice as many in a burst. 0 means no limit.
    pub max_account_requests_per_second: Option<u32>,
    /// Give accounts to nobody who has none.
    pub closed: bool,
    /// Most accounts; nobody new gets one beyond that.
    pub max_accounts: Option<u64>,
    /// New accounts in an hour from one address; as many at once. 0 means no limit.
    pub max_new_accounts_per_hour: Option<u32>,
    /// Seconds a message is kept.
    pub keep_seconds: Option<u64>,
}

impl Config {
    /// A fresh configuration for `role` with all defaults.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            listen: role.default_address(),
            public_url: None,
            passphrase: false,
            network: Network::default(),
            limits: Limits::default(),
            tls: None,
            p2p: None,
            city: (role == Role::City).then(CitySettings::default),
            merchant: (role == Role::Merchant).then(MerchantSettings::default),
            citizen: (role == Role::Citizen).then(CitizenSettings::default),
            mediator: (role == Role::Mediator).then(MediatorSettings::default),
        }
    }

    /// Reads the configuration of the node in `dir`.
    ///
    /// # Errors
    ///
    /// [`SetupError::NotInitialised`] if there is none, [`SetupError::Config`] naming file, place and remedy.
    pub fn load(dir: &Path) -> Result<Self, SetupError> {
        let path = dir.join(CONFIG_FILE);
        let length = match std::fs::metadata(&path) {
            Ok(about) => about.len(),
            Err(error) if says_there_is_none(&error) => {
                return Err(SetupError::NotInitialised { dir: dir.to_owned() });
            }
            Err(error) => return Err(unreadable(&path, &error)),
        };
        if length > MAX_CONFIG_BYTES {
            return Err(SetupError::config(&path, format!("more than {MAX_CONFIG_BYTES} bytes")));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        let mut config = Self::parse(&text).map_err(|problem| SetupError::config(&path, problem))?;
        config.apply_environment(|name| std::env::var(name).ok())?;
        config.listen = config.listen.or_else(|| config.default_address());
        Ok(config)
    }

    /// Where a node listens whose settings name no address. With `[p2p]` a merchant listens nowhere: it is reached by libp2p
    /// only. A city's DID and status lists are fetched by HTTP all the same, and a mediator's DID is made of its URL.
    fn default_address(&self) -> Option<SocketAddr> {
        let by_peers = self.p2p.as_ref().is_some_and(|p2p| p2p.enabled);
        let is_enough = match self.role {
            Role::City | Role::Mediator => false,
            Role::Merchant | Role::Citizen => by_peers,
        };
        self.role.default_address().filter(|_| !is_enough)
    }

    /// Parses configuration text; the error says where it is wrong.
    ///
    /// # Errors
    ///
    /// A description with line and column.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config = Self::read(text)?;
        config.check()?;
        Ok(config)
    }

    /// Reads configuration text, checking only its types: a backup may come from a version that accepted more.
    ///
    /// # Errors
    ///
    /// A description with line and column.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// Writes the configuration into `dir`.
    ///
    /// # Errors
    ///
    /// [`SetupError::Config`] if the file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), SetupError> {
        let path = dir.join(CONFIG_FILE);
        let text = toml::to_string_pretty(self).map_err(|error| SetupError::config(&path, error))?;
        write_durably(dir, &path, &text).map_err(|error| SetupError::config(&path, error))
    }

    /// `EINMAL_LISTEN`, `EINMAL_PUBLIC_URL`, `EINMAL_ALLOW_PRIVATE` and `EINMAL_ALLOW_HTTP` override the file.
    fn apply_environment(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), SetupError> {
        let wrong = |name: &str, expected: &str| SetupError::Setting {
            problem: format!("environment variable {name} is not {expected}"),
            remedy: format!("unset {name} or set it to {expected}"),
        };
        if let Some(listen) = variable("EINMAL_LISTEN") {
            let address = listen.parse().map_err(|_| wrong("EINMAL_LISTEN", "ADDRESS:PORT"))?;
            self.listen = Some(address);
        }
        if let Some(url) = variable("EINMAL_PUBLIC_URL") {
            check_public_url(&url).map_err(|_| wrong("EINMAL_PUBLIC_URL", "an http or https URL"))?;
            self.public_url = Some(url);
        }
        for (name, setting) in [
            ("EINMAL_ALLOW_PRIVATE", &mut self.network.allow_private),
            ("EINMAL_ALLOW_HTTP", &mut self.network.allow_http),
        ] {
            if let Some(value) = variable(name) {
                *setting = value.parse().map_err(|_| wrong(name, "true or false"))?;
            }
        }
        Ok(())
    }
}

/// Whether `dir` holds a node; if that cannot be seen, there may well be one.
pub fn is_node(dir: &Path) -> bool {
    std::fs::metadata(dir.join(CONFIG_FILE)).map_or_else(|error| !says_there_is_none(&error), |_| true)
}

fn says_there_is_none(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn unreadable(path: &Path, error: &io::Error) -> SetupError {
    SetupError::Setting {
        problem: format!("{} cannot be read: {error}", path.display()),
        remedy: "run this as the user the node belongs to, or look at the rights of its folder".into(),
    }
}

/// Writes a file whole or not at all, for its owner only: a power failure must not leave a node without its settings.
fn write_durably(dir: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut draft = tempfile::NamedTempFile::new_in(dir)?;
    draft.write_all(text.as_bytes())?;
    draft.as_file().sync_all()?;
    draft.persist(path)?;
    std::fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fresh_configuration_survives_writing_and_reading() {
        for role in [Role::City, Role::Merchant, Role::Citizen, Role::Mediator] {
            let dir = tempfile::tempdir().unwrap();
            Config::new(role).save(dir.path()).unwrap();
            let again = Config::load(dir.path()).unwrap();
            assert_eq!(again.role, role);
            assert_eq!(again.listen, Config::new(role).listen);
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in ".{0,400}") {
            let _ = Config::parse(&text);
        }

        #[test]
        fn a_changed_configuration_is_refused_or_survives_writing_and_reading(
            role in 0usize..4, at: prop::sample::Index, with in "[\\PC\n]{0,12}", cut in 0usize..12,
        ) {
            let role = [Role::City, Role::Merchant, Role::Citizen, Role::Mediator][role];
            let mut text = toml::to_string_pretty(&Config::new(role)).unwrap();
            let at = at.index(text.len());
            let end = text.len().min(at + cut);
            prop_assume!(text.is_char_boundary(at) && text.is_char_boundary(end));
            text.replace_range(at..end, &with);
            if let Ok(config) = Config::parse(&text) {
                let written = toml::to_string_pretty(&config).unwrap();
                let again = Config::parse(&written).unwrap();
                prop_assert_eq!(toml::to_string_pretty(&again).unwrap(), written);
            }
        }
    }

    #[test]
    fn a_node_whose_settings_name_no_address_listens_where_its_role_does_unless_libp2p_reaches_it() {
        let listens = |role: &str, more: &str| {
            let dir = tempfile::tempdir().unwrap();
            let text = format!("role = \"{role}\"\n{more}");
            std::fs::write(dir.path().join(CONFIG_FILE), text).unwrap();
            Config::load(dir.path()).unwrap().listen.map(|address| address.to_string())
        };
        let at = |address: &str| Some(address.to_owned());
        assert_eq!(listens("mediator", ""), at("127.0.0.1:7000"));
        assert_eq!(listens("merchant", "[p2p]\nenabled = false"), at("127.0.0.1:7002"));
        assert_eq!(listens("merchant", "[p2p]"), None);
        assert_eq!(listens("mediator", "[p2p]"), at("127.0.0.1:7000"), "its DID is made of its URL");
        assert_eq!(listens("city", "[p2p]"), at("127.0.0.1:7001"), "its DID is fetched by HTTP");
        assert_eq!(listens("city", "listen = \"127.0.0.1:9\""), at("127.0.0.1:9"));
        assert_eq!(listens("citizen", ""), None);
    }

    #[test]
    fn a_variable_that_is_set_to_what_it_cannot_be_is_a_wrong_setting_and_no_wrong_use() {
        let set = |name: &'static str, value: &'static str| {
            let mut config = Config::new(Role::Mediator);
            config.apply_environment(|asked| (asked == name).then(|| value.to_owned())).map(|()| config)
        };
        for (name, wrong) in [
            ("EINMAL_LISTEN", "somewhere"),
            ("EINMAL_PUBLIC_URL", "ftp://node.example"),
            ("EINMAL_ALLOW_PRIVATE", "yes"),
            ("EINMAL_ALLOW_HTTP", ""),
        ] {
            let error = set(name, wrong).unwrap_err();
            assert!(matches!(error, SetupError::Setting { .. }) && error.exit_status() == 1, "{error:?}");
            assert!(error.to_string().contains(&format!("unset {name}")), "{error}");
        }
        assert!(set("EINMAL_ALLOW_HTTP", "true").unwrap().network.allow_http);
    }

    #[test]
    fn misspelt_member_is_refused_with_its_place() {
        let error = Config::parse("role = \"city\"\nlisen = \"127.0.0.1:1\"\n").unwrap_err();
        assert!(error.contains("line 2") && error.contains("lisen"), "{error}");
    }

    #[test]
    fn a_configuration_that_is_there_and_cannot_be_read_is_not_told_as_missing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(CONFIG_FILE);
        // As with the folder of another user: something is there, and what it is cannot be seen.
        std::os::unix::fs::symlink(&file, &file).unwrap();
        let error = Config::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("cannot be read") && error.contains("run this as the user"), "{error}");
        assert!(is_node(dir.path()));
        assert!(!is_node(&dir.path().join("absent")) && !is_node(Path::new("/dev/null")));
    }

    #[test]
    fn missing_configuration_names_the_command_that_makes_one() {
        let error = Config::load(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("einmal init"), "{error}");
    }
}
