//! Nodes in network namespaces: what works over libp2p if every other route is cut, and from behind NAT.
//!
//! Needs the right to make namespaces (root) and the tools `ip` and `nft`; without them each test says that it was
//! skipped, and why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use einmal_tests::first_line;
use serde_json::Value;

/// Longest time to wait for one thing, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// A resident in the example register.
const PERSON: &str = "SAZPE-R7CC7";
/// Numbers the namespaces and links of this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

fn number() -> u32 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

// --- Networks ----------------------------------------------------------------------------------------------------------

/// Runs a tool; the error is its output.
fn tool(words: &[&str]) -> Result<String, String> {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("`{}` cannot be run: {error}", words[0]))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("`{}`: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

fn must(words: &[&str]) -> String {
    tool(words).unwrap()
}

/// The namespaces of one test, removed at its end.
#[derive(Default)]
struct Net {
    spaces: Vec<String>,
}

impl Net {
    /// Whether namespaces, links and rules can be made here; if not, prints why.
    fn permitted() -> bool {
        let mut probe = Self::default();
        let made = probe.try_space("probe").and_then(|space| {
            tool(&["ip", "-n", &space, "link", "add", "probe", "type", "veth", "peer", "name", "probe2"])?;
            tool(&["ip", "netns", "exec", &space, "nft", "add", "table", "ip", "probe"])
        });
        if let Err(reason) = &made {
            eprintln!("skipped: network namespaces cannot be used here: {reason}");
        }
        made.is_ok()
    }

    fn try_space(&mut self, name: &str) -> Result<String, String> {
        let space = format!("einmal-{}-{}-{name}", std::process::id(), number());
        tool(&["ip", "netns", "add", &space])?;
        self.spaces.push(space.clone());
        tool(&["ip", "-n", &space, "link", "set", "lo", "up"])?;
        Ok(space)
    }

    /// A machine with only a loopback interface.
    fn space(&mut self, name: &str) -> String {
        self.try_space(name).unwrap()
    }

    /// A cable between two machines; returns the names of its ends.
    fn link(&self, (one, address): (&str, &str), (other, far): (&str, &str)) -> (String, String) {
        let (near_end, far_end) = (format!("near{}", number()), format!("far{}", number()));
        must(&[
            "ip", "link", "add", &near_end, "netns", one, "type", "veth", "peer", "name", &far_end, "netns",
            other,
        ]);
        for (space, end, address) in [(one, &near_end, address), (other, &far_end, far)] {
            must(&["ip", "-n", space, "addr", "add", address, "dev", end]);
            must(&["ip", "-n", space, "link", "set", end, "up"]);
        }
        (near_end, far_end)
    }

    fn default_route(&self, space: &str, gateway: &str) {
        must(&["ip", "-n", space, "route", "add", "default", "via", gateway]);
    }

    fn forward(&self, space: &str) {
        must(&["ip", "netns", "exec", space, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]);
    }

    /// Redirects `localhost:port` on one machine to another, as if its content were published on the Internet.
    fn borrow_port(&self, space: &str, port: u16, machine: &str) {
        must(&["ip", "netns", "exec", space, "sysctl", "-q", "-w", "net.ipv4.conf.all.route_localnet=1"]);
        self.rules(
            space,
            &format!(
                "table ip borrow {{
                   chain out {{ type nat hook output priority -100; ip daddr 127.0.0.1 tcp dport {port} dnat to {machine}:{port}; }}
                   chain post {{ type nat hook postrouting priority 100; oifname != \"lo\" masquerade; }}
                 }}"
            ),
        );
    }

    /// Rules of a home router: outgoing packets on `wan` get its address, and only answers come in.
    fn masquerade(&self, space: &str, wan: &str) {
        let rules = format!(
            "table ip home {{
               chain post {{ type nat hook postrouting priority 100; oifname \"{wan}\" masquerade; }}
               chain pass {{ type filter hook forward priority 0;
                 iifname \"{wan}\" ct state established,related accept; iifname \"{wan}\" drop; }}
               chain in {{ type filter hook input priority 0;
                 iifname \"{wan}\" ct state established,related accept; iifname \"{wan}\" drop; }}
             }}"
        );
        self.rules(space, &rules);
    }

    fn rules(&self, space: &str, rules: &str) {
        let mut nft = Command::new("ip")
            .args(["netns", "exec", space, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "these rules were not taken: {rules}");
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for space in &self.spaces {
            let _ = tool(&["ip", "netns", "del", space]);
        }
    }
}

// --- Nodes -------------------------------------------------------------------------------------------------------------

fn einmal(space: Option<&str>, arguments: &[&str]) -> Command {
    let binary = env!("CARGO_BIN_EXE_einmal-under-test");
    let mut command = match space {
        Some(space) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", space, binary]);
            command
        }
        None => Command::new(binary),
    };
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("EINMAL_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a verb that must succeed, and returns its output.
#[track_caller]
fn verb(arguments: &[&str]) -> Value {
    let output = einmal(None, arguments).arg("--json").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}\nstandard output: {out}\nstandard error: {err}");
    let last = out.lines().last().unwrap_or_default();
    serde_json::from_str(&out).or_else(|_| serde_json::from_str(last)).unwrap_or(Value::Null)
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn example(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/wetzlar").join(name);
    path(&folder.canonicalize().unwrap()).to_owned()
}

/// Makes a node's folder; `settings` are lines of `[p2p]`.
fn make(folder: &Path, role: &str, flags: &[&str], settings: &str) -> String {
    let dir = folder.join(role);
    verb(&[&["init", role, "--dir", path(&dir)], flags].concat());
    let mut file = OpenOptions::new().append(true).open(dir.join("einmal.toml")).unwrap();
    write!(file, "\n[p2p]\n{settings}\n").unwrap();
    path(&dir).to_owned()
}

/// Removes the HTTP listener from a node's configuration.
fn without_http(dir: &str) {
    let file = Path::new(dir).join("einmal.toml");
    let text = fs::read_to_string(&file).unwrap();
    let kept: String = text
        .lines()
        .filter(|line| !line.starts_with("listen = \"127"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(kept.len() < text.len(), "{text}");
    fs::write(&file, kept).unwrap();
}

/// A running node; killed if a test fails.
struct Running {
    child: Child,
    first_line: Value,
    log: Arc<Mutex<String>>,
}

impl Running {
    fn start(space: &str, dir: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = einmal(Some(space), &["run", "--json", "--dir", dir])
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (errors, kept) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let first_line = first_line(&mut child);
        let node = Self { child, first_line, log };
        assert!(node.first_line.is_object(), "the node did not start:\n{}", node.log());
        node
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn endpoints(&self) -> Vec<String> {
        let list = self.first_line["endpoints"].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    }

    fn did(&self) -> &str {
        self.first_line["did"].as_str().expect("the node shows no DID")
    }

    /// Waits until the log holds `words`; `false` if it never does.
    fn says(&self, words: &str, within: Duration) -> bool {
        until(within, || self.log().contains(words).then_some(())).is_some()
    }

    fn stop(mut self) {
        must(&["kill", "-TERM", &self.child.id().to_string()]);
        let ended = until(PATIENCE, || self.child.try_wait().unwrap());
        assert!(ended.is_some_and(|status| status.success()), "the node did not stop:\n{}", self.log());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether a text has reached a node's inbox.
fn inbox_holds(dir: &str, text: &str) -> bool {
    verb(&["inbox", "--dir", dir]).to_string().contains(text)
}

// --- Stories -----------------------------------------------------------------------------------------------------------

/// Permits the loopback interface of a node's own machine, where the city publishes its document.
const TRIAL: [(&str, &str); 2] = [("EINMAL_ALLOW_PRIVATE", "true"), ("EINMAL_ALLOW_HTTP", "true")];

/// A city on the loopback interface of `space` gives the wallet a resident card.
fn give_card(space: &str, folder: &Path, wallet: &str) -> Running {
    let listen = ["--description", &example("city.toml"), "--listen", "127.0.0.1:7001"];
    let city = make(folder, "city", &listen, "listen = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false");
    let running = Running::start(space, &city, &[]);
    let citizen = Running::start(space, wallet, &TRIAL);
    let offer = verb(&["city", "offer", "resident-card", "--person", PERSON, "--dir", &city]);
    verb(&["accept", offer["invitation"].as_str().unwrap(), "--yes", "--dir", wallet]);
    assert!(verb(&["citizen", "list", "--dir", wallet]).to_string().contains("resident"));
    citizen.stop();
    running
}

/// A merchant asks and a citizen presents over one cable, without Internet, mediator or HTTP between them; returns the
/// verdict and both logs.
fn present_over_a_cable(
    wallet_settings: &str,
    wallet_variables: &[(&str, &str)],
    wait: &str,
) -> Option<(Value, String)> {
    if !Net::permitted() {
        return None;
    }
    let mut net = Net::default();
    let (shop, street) = (net.space("shop"), net.space("street"));
    net.link((&shop, "10.77.0.1/24"), (&street, "10.77.0.2/24"));
    for space in [&shop, &street] {
        assert!(!must(&["ip", "-n", space, "route"]).contains("default"));
    }
    let folder = tempfile::tempdir().unwrap();
    let wallet = make(folder.path(), "citizen", &[], wallet_settings);
    // The city stays on the shop's loopback interface: the wallet can never reach it again.
    let city = give_card(&shop, folder.path(), &wallet);
    let flags = ["--requests", &example("requests"), "--trust", city.did()];
    let till = make(folder.path(), "merchant", &flags, "");
    without_http(&till);
    let merchant = Running::start(&shop, &till, &TRIAL);
    assert!(merchant.endpoints().iter().all(|one| one.starts_with('/')), "{:?}", merchant.endpoints());
    let citizen = Running::start(&street, &wallet, wallet_variables);
    let request = verb(&["merchant", "request", "cafe-over-16", "--dir", &till]);
    let invitation = request["invitation"].as_str().unwrap();
    einmal(None, &["accept", invitation, "--yes", "--wait", "0", "--json", "--dir", &wallet])
        .output()
        .unwrap();
    let thread = request["thread"].as_str().unwrap();
    let asked = ["merchant", "result", thread, "--wait", wait, "--json", "--dir", &till];
    let verdict = einmal(None, &asked).output().unwrap();
    let verdict = serde_json::from_slice(&verdict.stdout).unwrap_or(Value::Null);
    Some((verdict, format!("the wallet:\n{}\nthe till:\n{}", citizen.log(), merchant.log())))
}

#[test]
fn a_presentation_needs_neither_internet_nor_mediator_where_neighbours_are_found() {
    // The wallet may dial only public addresses, and those that discovery finds on the cable.
    if let Some((verdict, logs)) = present_over_a_cable("mdns = true", &[], "30") {
        assert_eq!(verdict["accepted"], true, "{verdict}\n{logs}");
    }
}

#[test]
fn a_presentation_needs_no_discovery_where_addresses_are_known() {
    let permitted = [("EINMAL_ALLOW_PRIVATE", "true")];
    if let Some((verdict, logs)) = present_over_a_cable("mdns = false", &permitted, "30") {
        assert_eq!(verdict["accepted"], true, "{verdict}\n{logs}");
    }
}

#[test]
fn without_discovery_and_permission_a_private_address_is_not_dialled() {
    if let Some((verdict, logs)) = present_over_a_cable("mdns = false", &[], "3") {
        assert_eq!(verdict["pending"], true, "{verdict}\n{logs}");
        assert!(logs.contains("allow_private"), "{logs}");
    }
}

/// Two homes behind routers, a hub with a relay, and a shop, on an Internet of their own.
struct Internet {
    hub: String,
    shop: String,
    homes: [String; 2],
    net: Net,
}

impl Internet {
    /// Addresses are public ones, so that the normal rules apply; nothing leaves the namespaces.
    fn new() -> Option<Self> {
        if !Net::permitted() {
            return None;
        }
        let mut net = Net::default();
        let backbone = net.space("net");
        net.forward(&backbone);
        let plug = |net: &mut Net, name: &str, ours: &str, gateway: &str| {
            let space = net.space(name);
            let (_, wan) = net.link((&backbone, &format!("{gateway}/24")), (&space, ours));
            net.default_route(&space, gateway);
            (space, wan)
        };
        let (hub, _) = plug(&mut net, "hub", "5.5.5.10/24", "5.5.5.1");
        let (shop, _) = plug(&mut net, "shop", "7.7.7.7/24", "7.7.7.1");
        let homes = [("6.6.6.2/24", "6.6.6.1"), ("8.8.9.2/24", "8.8.9.1")].map(|(ours, gateway)| {
            let (router, wan) = plug(&mut net, "router", ours, gateway);
            net.forward(&router);
            net.masquerade(&router, &wan);
            let home = net.space("home");
            net.link((&router, "192.168.7.1/24"), (&home, "192.168.7.2/24"));
            net.default_route(&home, "192.168.7.1");
            home
        });
        Some(Self { hub, shop, homes, net })
    }
}

/// A more detailed log, to see which way was taken.
const LOUD: [(&str, &str); 1] = [("EINMAL_LOG", "einmal=info,einmal_p2p=debug,libp2p_dcutr=debug")];

/// A mediator that relays, reached at the hub's address; returns its first TCP and QUIC address.
fn relay(internet: &Internet, folder: &Path) -> (Running, Vec<String>) {
    let flags = ["--listen", "5.5.5.10:7000", "--public-url", "http://5.5.5.10:7000"];
    let dir = make(folder, "mediator", &flags, "mdns = false\nrelay_server = true");
    let hub = Running::start(&internet.hub, &dir, &LOUD);
    let addresses: Vec<String> = hub.endpoints().into_iter().filter(|one| one.contains("/p2p/")).collect();
    assert_eq!(addresses.len(), 2, "{addresses:?}\n{}", hub.log());
    (hub, addresses)
}

fn merchant(folder: &Path, settings: &str) -> String {
    let dir = make(folder, "merchant", &["--requests", &example("requests")], settings);
    without_http(&dir);
    dir
}

/// Accepts the shop's invitation and writes to the shop.
fn write_to_the_shop(till: &str, merchant: &Running, wallet: &str, citizen: &Running) {
    let invitation = merchant.first_line["invitation"].as_str().unwrap();
    verb(&["accept", invitation, "--yes", "--dir", wallet]);
    verb(&["send", "--to", merchant.did(), "hello shop", "--dir", wallet]);
    let arrived = until(PATIENCE, || inbox_holds(till, "hello shop").then_some(()));
    assert!(arrived.is_some(), "the wallet:\n{}\nthe till:\n{}", citizen.log(), merchant.log());
}

#[test]
fn a_citizen_behind_nat_is_reached_through_the_mediators_relay() {
    let Some(internet) = Internet::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_hub, addresses) = relay(&internet, folder.path());
    let flags = ["--description", &example("city.toml"), "--listen", "0.0.0.0:7001"];
    let flags = [&flags[..], &["--public-url", "http://localhost:7001"]].concat();
    let hall = make(folder.path(), "city", &flags, "mdns = false");
    let city = Running::start(&internet.shop, &hall, &LOUD);
    let settings = format!("mdns = false\nrelays = {addresses:?}");
    let wallet = make(folder.path(), "citizen", &[], &settings);
    // At the counter, on the city's own machine, the two get to know each other.
    let citizen = Running::start(&internet.shop, &wallet, &TRIAL);
    let invitation = verb(&["invite", "--person", PERSON, "--dir", &hall]);
    verb(&["accept", invitation["invitation"].as_str().unwrap(), "--yes", "--dir", &wallet]);
    let sent = until(PATIENCE, || (verb(&["status", "--dir", &wallet])["outbox"] == 0).then_some(()));
    assert!(sent.is_some(), "{}", citizen.log());
    citizen.stop();
    // At home, the wallet can be called only through the relay. It can still look up who the city is.
    internet.net.borrow_port(&internet.homes[0], 7001, "7.7.7.7");
    let citizen = Running::start(&internet.homes[0], &wallet, &[&LOUD[..], &TRIAL].concat());
    verb(&["send", "--to", PERSON, "hello citizen", "--dir", &hall]);
    let arrived = until(PATIENCE, || inbox_holds(&wallet, "hello citizen").then_some(()));
    let logs = format!("the wallet:\n{}\nthe city:\n{}", citizen.log(), city.log());
    assert!(arrived.is_some(), "{logs}");
    assert!(city.says("connected through a relay", PATIENCE), "{logs}");
}

#[test]
fn two_peers_behind_nat_punch_a_hole_and_leave_the_relay() {
    let Some(internet) = Internet::new() else { return };
    for transport in ["/udp/", "/tcp/"] {
        let folder = tempfile::tempdir().unwrap();
        let (_hub, addresses) = relay(&internet, folder.path());
        let settings = addresses.iter().find(|one| one.contains(transport)).unwrap();
        let settings = format!("mdns = false\nrelays = [\"{settings}\"]");
        let till = merchant(folder.path(), &settings);
        let merchant = Running::start(&internet.homes[1], &till, &LOUD);
        let wallet = make(folder.path(), "citizen", &[], &settings);
        let citizen = Running::start(&internet.homes[0], &wallet, &LOUD);
        write_to_the_shop(&till, &merchant, &wallet, &citizen);
        let punched = merchant.says("a hole was punched", Duration::from_secs(20));
        let logs = format!("the wallet:\n{}\nthe till:\n{}", citizen.log(), merchant.log());
        assert!(citizen.says("connected through a relay", PATIENCE), "{transport}\n{logs}");
        assert!(punched, "{transport}\n{logs}");
        assert!(citizen.says("connected directly", PATIENCE), "{transport}\n{logs}");
    }
}
