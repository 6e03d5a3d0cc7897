//! The running node: whether it answers its owner, visitors of its address and URL, and its mediator.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use super::Finding;
use crate::{
    command::{CommonCommand, Nothing},
    config::{Config, Network},
    control::{self, Request},
    error::SetupError,
    net::client::HttpClient,
    run,
    service::{account, self_report::Report},
    transport::{FetchError, Fetcher},
};

/// Longest the node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest a connection to the node's own address may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Whether a node runs in the folder, and what it says.
pub(super) enum Found {
    Stopped,
    Silent(SetupError),
    Answers(Box<Report>),
}

/// Asks the node of a folder.
pub(super) fn ask(dir: &Path) -> Found {
    if !control::is_running(dir) {
        return Found::Stopped;
    }
    let answer = control::call(dir, &Request::now(CommonCommand::Doctor(Nothing {})), PATIENCE);
    let parse = |answer| serde_json::from_value(answer).map_err(SetupError::internal);
    match answer.and_then(parse) {
        Ok(report) => Found::Answers(Box::new(report)),
        Err(error) => Found::Silent(error),
    }
}

impl Found {
    pub(super) fn is_running(&self) -> bool {
        !matches!(self, Self::Stopped)
    }

    pub(super) fn report(&self) -> Option<&Report> {
        match self {
            Self::Answers(report) => Some(report),
            _ => None,
        }
    }

    pub(super) fn finding(&self, dir: &Path) -> Finding {
        match self {
            Self::Stopped => {
                let remedy = format!("start it with: einmal run --dir {}", dir.display());
                Finding::note("process", "not running", remedy)
            }
            Self::Silent(error) => Finding::failed(
                "process",
                format!("it does not answer as it should: {error}"),
                "restart it; it may be of another version than this command",
            ),
            Self::Answers(_) => Finding::ok("process", "answers"),
        }
    }
}

/// Checks the running node from outside.
pub(super) async fn reach(report: &Report, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let (Some((open, needed)), Some(_)) = (report.too_few_files, report.listening) {
        findings.push(Finding::note(
            "open files",
            format!("{open} may be open, and the connections that [limits] permits need {needed}"),
            "raise the limit of the service (LimitNOFILE, ulimits, ulimit -n), or lower max_connections in [limits]",
        ));
    }
    if let Some(address) = report.listening {
        findings.push(listening(address, config).await);
    }
    if !report.url.is_empty() {
        findings.push(public_url(report, config).await);
    }
    findings.extend(report.mailbox.as_ref().map(|standing| mediator(standing, config)));
    findings
}

/// The address itself, from this machine.
async fn listening(address: SocketAddr, config: &Config) -> Finding {
    let place = match address.ip() {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let place = SocketAddr::new(place, address.port());
    let looked = if config.tls.is_some() {
        // Its certificate is for a name: whether it is in order shows under the public URL.
        let connected = tokio::time::timeout(CONNECT, tokio::net::TcpStream::connect(place)).await;
        connected
            .map_err(|_| "no connection within the time".to_owned())
            .and_then(|connected| connected.map(|_| "takes connections").map_err(|error| error.to_string()))
    } else {
        answers(place).await
    };
    match looked {
        Ok(how) => Finding::ok("listening", format!("{address} {how}")),
        Err(problem) => Finding::failed(
            "listening",
            format!("{address}: {problem}"),
            "look into the log; make room or give rights if the disk refuses records, else restart the node",
        ),
    }
}

async fn answers(place: SocketAddr) -> Result<&'static str, String> {
    let client = HttpClient::new(&Network { allow_private: true, allow_http: true })?;
    for path in ["healthz", "readyz"] {
        let status = client.look(&format!("http://{place}/{path}")).await;
        match status.map_err(|error| error.to_string())? {
            200 => {}
            status => return Err(format!("/{path} answers {status}")),
        }
    }
    Ok("answers /healthz and /readyz")
}

/// The URL others use: for a did:web, whether the document there is the node's own.
async fn public_url(report: &Report, config: &Config) -> Finding {
    let mut config = config.clone();
    run::enter_trial_mode(&mut config, &report.url);
    // Seen from its own machine, a public name may well have a private address.
    config.network.allow_private = true;
    let client = match HttpClient::new(&config.network) {
        Ok(client) => client,
        Err(problem) => return Finding::note("public-url", problem, "look into the TLS library's set-up"),
    };
    let url = &report.url;
    let looked = match (&report.did, &report.document) {
        (Some(did), Some(own)) if did.method() == "web" => match client.document(did).await {
            Ok(document) if document.to_json() == *own => Ok("serves the node's own DID document"),
            Ok(_) => {
                return Finding::failed(
                    "public-url",
                    format!("{url} serves another DID document than the node's own"),
                    "let `public_url` and the proxy before it lead to this node",
                );
            }
            Err(error) => Err(error),
        },
        _ => match client.look(&format!("{url}/healthz")).await {
            Ok(200) => Ok("answers /healthz"),
            Ok(status) => Err(FetchError::Unreachable { reason: format!("/healthz answers {status}") }),
            Err(error) => Err(error),
        },
    };
    match looked {
        Ok(how) => Finding::ok("public-url", format!("{url} {how}")),
        Err(FetchError::Forbidden { reason }) => {
            let remedy = "look from another machine whether others reach it";
            Finding::note("public-url", format!("{url} was not looked at: {reason}"), remedy)
        }
        Err(error) => Finding::failed(
            "public-url",
            format!("{url}: {error}"),
            "mend the name, the proxy, the certificate or the firewall before it, or correct `public_url`",
        ),
    }
}

/// A citizen's way to its mail.
fn mediator(standing: &account::Standing, config: &Config) -> Finding {
    use crate::handler::Visit;
    let peers = config.p2p.as_ref().is_some_and(|settings| settings.enabled);
    if !standing.mediator {
        return if peers {
            Finding::ok("mediator", "none: peers reach this wallet by libp2p only")
        } else {
            let remedy = "take a mediator's invitation: einmal accept URL --dir DIR";
            Finding::note("mediator", "none: nobody can send this wallet anything", remedy)
        };
    }
    let remedy = "look whether the mediator runs and this machine is on the network";
    let choose = "look whether the mediator runs, or choose another one: set `mediator` in einmal.toml and restart, or \
                  einmal accept URL --dir DIR";
    match (standing.granted, standing.visit) {
        (false, Visit::Failed) => {
            Finding::failed("mediator", "it is not reached, and has granted no account yet", choose)
        }
        (_, Visit::Failed) => Finding::failed("mediator", "it is not reached", remedy),
        (_, Visit::NotEnrolled) => Finding::failed(
            "mediator",
            "it does not know this wallet's account any more",
            "the wallet asks for it anew by itself, ever more seldom; restart it to ask at once, and ask whoever runs the \
             mediator if that does not help",
        ),
        (true, Visit::Done) if standing.setting_differs => Finding::note(
            "mediator",
            "the mailbox is reached, at another mediator than `mediator` in einmal.toml names",
            "take the setting back, or make a new wallet for that mediator: moving is not possible yet",
        ),
        (true, Visit::Done) if standing.full => Finding::note(
            "mediator",
            "the mailbox is reached, but no more DIDs are taken for it",
            "ask whoever runs the mediator to raise `max_recipients`; new invitations cannot be taken until then",
        ),
        (true, Visit::Done) => Finding::ok("mediator", "the mailbox is reached"),
        (true, Visit::None) => Finding::note("mediator", "not reached yet since the start", remedy),
        (false, _) => Finding::note("mediator", "it has not granted an account yet", choose),
    }
}
