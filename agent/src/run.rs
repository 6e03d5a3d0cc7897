//! A node as a process: opens its folder, listens, works, and stops cleanly when told to.

use std::{future::Future, io::Write, net::SocketAddr, path::PathBuf, sync::Arc};

use einmal_flows::out_of_band::Invitation;
use einmal_keys::SystemEntropy;
use einmal_storage::mail::{Mail, MemoryMail};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    clock::SystemClock,
    command::{CommonCommand, Invite},
    config::{Config, Role},
    control,
    error::SetupError,
    guard,
    handler::Parts,
    home, mend,
    net::{client::HttpClient, p2p, server, tls::Tls},
    node::Node,
    open_files,
};

/// The options of `einmal run`.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The node's folder.
    pub dir: PathBuf,
    /// Listen here instead of at the configured address.
    pub listen: Option<SocketAddr>,
    /// Print one JSON object about the node as the first line on standard output.
    pub json: bool,
}

/// Whether a node starts for the first time in this process.
enum Beginning {
    First(Starting),
    Again,
}

/// Why a node stopped.
enum Ending {
    /// It was told to stop.
    Told,
    /// To be restarted, listening on the same address.
    Mended(Option<SocketAddr>),
}

/// Runs the node of a folder until SIGTERM or SIGINT. If its records could not be written and the disk takes them
/// again, it is restarted.
///
/// # Errors
///
/// [`SetupError`] if it cannot be started.
pub async fn run(mut options: RunOptions) -> Result<(), SetupError> {
    // Before anything else: a node that is told to stop while it starts must not end in disorder, nor, as the first process of a
    // container, overhear it.
    let mut signals = Signals::watch()?;
    let starting = Starting::watch()?;
    open_files::raise();
    let mut ending = run_once(&options, &mut signals, Beginning::First(starting)).await?;
    while let Ending::Mended(address) = ending {
        tracing::warn!("the disk takes records again: the node is started anew");
        options.listen = address.or(options.listen);
        ending = run_again(&options, &mut signals).await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Starts the node until that succeeds: nobody is watching any more who could read why it fails.
async fn run_again(options: &RunOptions, signals: &mut Signals) -> Ending {
    loop {
        match run_once(options, signals, Beginning::Again).await {
            Ok(ending) => return ending,
            Err(error) => tracing::error!(%error, "the node cannot be started anew"),
        }
        tokio::select! {
            () = signals.arrive() => return Ending::Told,
            () = tokio::time::sleep(mend::PAUSE) => {}
        }
    }
}

/// Runs the node until it is told to stop or must be restarted.
async fn run_once(
    options: &RunOptions,
    signals: &mut Signals,
    beginning: Beginning,
) -> Result<Ending, SetupError> {
    let mut config = Config::load(&options.dir)?;
    if let Some(listen) = options.listen {
        config.listen = Some(listen);
    }
    open_files::fit(&mut config);
    // The store first: its lock tells whether another process owns this folder.
    let db = home::open_store(&options.dir, &config)?;
    let listener = listen(&config).await?;
    let url = public_url(&config, listener.as_ref())?;
    enter_trial_mode(&mut config, &url);
    home::resolve_paths(&mut config, &options.dir);
    let tls = config.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
    let client = Arc::new(HttpClient::new(&config.network).map_err(SetupError::internal)?);
    let mail: Arc<dyn Mail> = if config.role == Role::Mediator {
        Arc::new(home::open_mail(&options.dir, &db, &SystemEntropy)?)
    } else {
        Arc::new(MemoryMail::new())
    };
    let entrance = Arc::new(p2p::Entrance::new(&config.limits));
    let within = |error: SetupError| error.within(&options.dir);
    let peers = p2p::start(&config, &db, &entrance, Arc::clone(&client)).await.map_err(within)?;
    let parts = Parts {
        config,
        db: db.clone(),
        mail: Arc::clone(&mail),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        transport: peers.map_or_else(|| Arc::clone(&client) as _, |peers| peers as _),
        fetcher: client,
    };
    let node = Node::start(parts, &url).await.map_err(within)?;
    entrance.open(&node);
    let control = control::Listener::bind(&options.dir)?;
    let listening = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    if let Some(address) = listening {
        node.shared().listens_on(address);
    }
    if let Beginning::First(starting) = beginning {
        drop(starting);
        announce(&node, options, listening).await?;
    }
    if let Some((open, needed)) = open_files::too_few(&node.shared().config) {
        tracing::warn!(open, needed, "fewer files may be open than [limits] permits connections");
    }
    let mended = mend::due(&node, &options.dir);
    let is_mended = work(&node, listener, tls, control, (signals, &entrance), mended).await?;
    drop(node);
    let (mail, store) = (mail.close(), db.store().close());
    if is_mended {
        return Ok(Ending::Mended(listening));
    }
    mail?;
    store?;
    Ok(Ending::Told)
}

/// Refuses an address for a role that listens nowhere.
///
/// # Errors
///
/// [`SetupError::Setting`] with the remedy.
pub(crate) fn check_listening(config: &Config) -> Result<(), SetupError> {
    if config.role != Role::Citizen || config.listen.is_none() {
        return Ok(());
    }
    Err(SetupError::Setting {
        problem: "a citizen listens nowhere: its mail comes through its mediator".into(),
        remedy: "leave the listening address out (--listen, EINMAL_LISTEN, or `listen` in einmal.toml)"
            .into(),
    })
}

async fn listen(config: &Config) -> Result<Option<TcpListener>, SetupError> {
    check_listening(config)?;
    let Some(address) = config.listen else { return Ok(None) };
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| SetupError::Listen { address, problem: error.to_string() })?;
    Ok(Some(listener))
}

/// How others reach the node: the configured URL, else the listening address, loopback under its name.
fn public_url(config: &Config, listener: Option<&TcpListener>) -> Result<String, SetupError> {
    if let Some(url) = &config.public_url {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    let Some(listener) = listener else { return Ok(String::new()) };
    let address = listener.local_addr().map_err(SetupError::internal)?;
    if address.ip().is_unspecified() {
        return Err(SetupError::Setting {
            problem: format!("listening on {address} does not say how others reach this node"),
            remedy: "set `public_url` in einmal.toml, or listen on one address".into(),
        });
    }
    // did:web does not allow addresses, so the loopback address goes by its name.
    let did_needs_name = config.role != Role::Mediator && address.ip().is_loopback();
    let host = if did_needs_name { format!("localhost:{}", address.port()) } else { address.to_string() };
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    Ok(format!("{scheme}://{host}"))
}

/// A node that only its own machine can reach may also connect to its own machine: otherwise nothing could be tried
/// without editing a configuration first.
///
/// Where a citizen's mediator is, its DID says. Its link says nothing: before `?` there may be anything.
pub(crate) fn enter_trial_mode(config: &mut Config, url: &str) {
    let mediator = config.citizen.as_ref().and_then(|citizen| citizen.mediator.as_deref());
    let is_near =
        |url| Invitation::from_url(url).is_ok_and(|invitation| guard::is_on_this_machine(&invitation.from));
    let local = match config.role {
        Role::Citizen => mediator.is_some_and(is_near),
        _ => guard::is_on_loopback(url),
    };
    if local && !(config.network.allow_private && config.network.allow_http) {
        tracing::warn!(
            "trial mode: this node is on the loopback interface, so plain http and private addresses are permitted"
        );
        config.network.allow_private = true;
        config.network.allow_http = true;
    }
}

/// The first line on standard output.
async fn announce(
    node: &Arc<Node>,
    options: &RunOptions,
    listening: Option<SocketAddr>,
) -> Result<(), SetupError> {
    let url = node.shared().url().to_owned();
    let invitation = match node.public_did() {
        Some(_) => {
            let answer = node.command(&CommonCommand::Invite(Invite::default()).into()).await;
            answer.map_err(|failure| SetupError::Refused(failure.to_string()))?
        }
        None => Value::Null,
    };
    let peer = node.shared().peer_endpoint();
    let endpoints: Vec<String> = Some(url.clone())
        .filter(|url| !url.is_empty())
        .into_iter()
        .chain(peer.map(|peer| peer.multi_addrs).into_iter().flatten())
        .collect();
    let about = json!({
        "role": node.shared().config.role,
        "did": node.public_did(),
        "endpoints": endpoints,
        "invitation": invitation.get("invitation").cloned().unwrap_or_default(),
        "listen": listening,
        "pid": std::process::id(),
    });
    let line = if options.json {
        about.to_string()
    } else {
        let without = match node.shared().config.role {
            Role::Citizen => "none (a citizen shows a fresh DID to each peer)",
            _ => "none (nobody reaches this node: set `listen` in einmal.toml)",
        };
        let did = node.public_did().map_or(without, |did| did.as_str());
        let mut text = format!("einmal {} is running\n  DID         {did}", node.shared().config.role);
        for endpoint in &endpoints {
            text.push_str(&format!("\n  endpoint    {endpoint}"));
        }
        if let Some(invitation) = about.get("invitation").and_then(Value::as_str) {
            text.push_str(&format!("\n  invitation  {invitation}"));
        }
        text
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(SetupError::internal)
}

/// Works until it is told to stop or `mended` resolves, then lets requests under way finish; returns which it was.
async fn work(
    node: &Arc<Node>,
    listener: Option<TcpListener>,
    tls: Option<Arc<Tls>>,
    control: control::Listener,
    (signals, entrance): (&mut Signals, &p2p::Entrance),
    mended: impl Future<Output = ()>,
) -> Result<bool, SetupError> {
    let (stop, stopped) = watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(Arc::clone(node).run_outbox());
    tasks.spawn(Arc::clone(node).run_timers());
    tasks.spawn(control::serve(Arc::clone(node), control));
    if node.shared().config.role == Role::Citizen {
        tasks.spawn(Arc::clone(node).run_mailbox());
        tasks.spawn(Arc::clone(node).run_line());
    }
    if let Some(lines) = node.shared().lines() {
        tasks.spawn(lines.host_ended());
    }
    let mut served = listener.map(|listener| {
        let mut stopped = stopped.clone();
        let stop = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        tokio::spawn(server::serve_with(Arc::clone(node), listener, tls.clone(), stop))
    });
    let ended = tokio::select! {
        () = signals.arrive() => Ok(false),
        () = mended => Ok(true),
        // Nor does any of these end by itself: a node that no longer listens, sends or wakes must not go on looking well.
        () = serving_ends(&mut served) => Err(SetupError::Internal("the node no longer listens; look into the log".into())),
        _ = tasks.join_next() => Err(SetupError::Internal("a part of the node ended by itself; look into the log".into())),
    };
    tracing::info!("stopping");
    entrance.close();
    let _ = stop.send(true);
    if let Some(served) = served {
        // Idle connections would hold up the drain for ever.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), served).await;
    }
    node.end_lines().await;
    tasks.shutdown().await;
    ended
}

/// Resolves when the node no longer listens, which it does until it is told to stop; never if it listens nowhere.
async fn serving_ends(served: &mut Option<JoinHandle<()>>) {
    let Some(task) = served else { return std::future::pending().await };
    if let Err(error) = task.await {
        tracing::error!(%error, "the listener ended by a mistake of this program");
    }
    *served = None;
}

/// The signals that tell a node to stop; watched from here on, so that none ends it in disorder.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn watch() -> Result<Self, SetupError> {
        let watch = |kind| signal(kind).map_err(SetupError::internal);
        Ok(Self { term: watch(SignalKind::terminate())?, int: watch(SignalKind::interrupt())? })
    }

    /// Resolves when the node is told to stop.
    async fn arrive(&mut self) {
        self.which().await;
    }

    /// As [`Signals::arrive`]; the exit status of a process that ends at once: it was stopped in order, or interrupted.
    async fn which(&mut self) -> i32 {
        const INTERRUPTED: i32 = 130;
        tokio::select! {
            _ = self.term.recv() => 0,
            _ = self.int.recv() => INTERRUPTED,
        }
    }
}

/// Ends the process at once if it is told to stop, until dropped: while a passphrase is asked for, or a store is read, nobody else looks,
/// and nothing is under way that a restart would not find again.
struct Starting(JoinHandle<()>);

impl Starting {
    fn watch() -> Result<Self, SetupError> {
        let mut signals = Signals::watch()?;
        Ok(Self(tokio::spawn(async move {
            let status = signals.which().await;
            std::process::exit(status);
        })))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use einmal_did::{Endpoint, Relationship, Service, peer};
    use einmal_keys::{KeyKind, SecretKey};

    use super::*;
    use crate::{config::Limits, node::testing};

    #[tokio::test]
    async fn a_node_that_no_longer_listens_ends_with_an_error() {
        let folder = tempfile::tempdir().unwrap();
        // More than can be counted, which no file may say: the listener panics as soon as it begins.
        let limits = Limits { max_connections: Some(usize::MAX), ..Limits::default() };
        let node = testing::node_set_to(Config { limits, ..Config::new(Role::Mediator) }).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control = control::Listener::bind(folder.path()).unwrap();
        let mut signals = Signals::watch().unwrap();
        let never = std::future::pending();
        let entrance = p2p::Entrance::default();
        let work = work(&node, Some(listener), None, control, (&mut signals, &entrance), never);
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), work).await;
        let error = ended.expect("it goes on, and listens nowhere").unwrap_err().to_string();
        assert!(error.contains("no longer listens"), "{error}");
    }

    /// An invitation of a mediator at `endpoint`, as a link that begins with `base`.
    fn link(base: &str, endpoint: &str) -> String {
        let key = SecretKey::generate(KeyKind::X25519, &SystemEntropy).unwrap().public_key();
        let services = [Service::didcomm("#service", vec![Endpoint::didcomm(endpoint)])];
        let did = peer::two::create(&[(Relationship::KeyAgreement, key)], &services).unwrap();
        let id = einmal_didcomm::MessageId::random(&SystemEntropy).unwrap();
        Invitation::new(id, did).to_url(base)
    }

    #[tokio::test]
    async fn listening_where_it_cannot_be_is_a_wrong_setting_and_no_wrong_use() {
        let set =
            |role, address: &str| Config { listen: Some(address.parse().unwrap()), ..Config::new(role) };
        let refused = listen(&set(Role::Citizen, "127.0.0.1:0")).await.unwrap_err();
        let everywhere = set(Role::Mediator, "0.0.0.0:0");
        let listener = listen(&everywhere).await.unwrap();
        let nameless = public_url(&everywhere, listener.as_ref()).unwrap_err();
        for error in [refused, nameless] {
            assert!(matches!(error, SetupError::Setting { .. }) && error.exit_status() == 1, "{error:?}");
        }
        let named = Config { public_url: Some("https://med.example/".into()), ..everywhere };
        assert_eq!(public_url(&named, listener.as_ref()).unwrap(), "https://med.example");
    }

    #[test]
    fn a_link_that_begins_with_localhost_does_not_open_private_addresses_to_a_mediator_elsewhere() {
        let opened = |base, endpoint| {
            let mut config = Config::new(Role::Citizen);
            config.citizen.as_mut().unwrap().mediator = Some(link(base, endpoint));
            enter_trial_mode(&mut config, "");
            (config.network.allow_private, config.network.allow_http)
        };
        assert_eq!(opened("http://localhost/", "https://med.example"), (false, false));
        assert_eq!(opened("https://med.example/", "http://127.0.0.1:7000"), (true, true));
    }
}
