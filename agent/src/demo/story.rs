//! The story, step by step.
#![allow(clippy::indexing_slicing, reason = "reading a JSON value by index yields null, never a panic")]

mod issuing;
mod mail;
mod refusing;

use std::{collections::BTreeSet, net::SocketAddr, path::Path};

use serde_json::{Value, json};

use super::{
    Stage, StepResult,
    attacks::Question,
    canary::Scanner,
    city::{City, Kind},
    person::Chosen,
    wallet::ForeignWallet,
    wire::Wiretap,
};
use crate::{child::NodeProcess, error::SetupError, home::KEY_FILE};

/// Seconds a step waits for what must happen.
const PATIENCE: u64 = 30;
/// Seconds a status list of the story's city may be cached.
const STATUS_TTL: u64 = 1;

/// The people of the story and all nodes.
struct Cast {
    mediator: NodeProcess,
    city: NodeProcess,
    library: NodeProcess,
    anna: NodeProcess,
    bela: NodeProcess,
    tap: Wiretap,
    foreign: ForeignWallet,
    input: Input,
}

/// What the story takes from the city's folder.
struct Input {
    city: City,
    question: Question,
    anna: Chosen,
    bela: Chosen,
}

impl Input {
    /// Searches for both people's personal data.
    fn scanner(&self) -> Scanner {
        Scanner::new(self.anna.canaries.iter().chain(&self.bela.canaries))
    }
}

/// Cards that are copied and presented again.
#[derive(Default)]
struct Cards {
    /// The text of Anna's resident card.
    annas: String,
    /// A resident card that the foreign wallet holds rightfully.
    own: String,
}

/// Plays every step on `stage` with the city in `data`, in `folder`.
pub(super) async fn play(stage: &mut Stage, data: &Path, folder: &Path) -> Result<(), SetupError> {
    let city = City::read(data)?;
    let (anna, bela) = city.two_people(data)?;
    let question = Question::of(&city).map_err(|problem| SetupError::input(data, problem))?;
    let input = Input { city, question, anna, bela };
    let foreign = ForeignWallet::new().map_err(SetupError::internal)?;
    let mut cast = None;
    stage
        .step("nodes-up", async || {
            let up = nodes_up(folder, foreign, input)?;
            let told = apart(&up);
            cast = Some(up);
            told
        })
        .await;
    let mut cards = Cards::default();
    macro_rules! step {
        ($name:literal, |$cast:ident| $action:expr) => {
            stage
                .step($name, async || {
                    let $cast = cast.as_mut().ok_or("the nodes are not up")?;
                    $action
                })
                .await;
        };
    }
    step!("mediation-granted", |cast| mediation_granted(cast));
    step!("resident-card-issued", |cast| issuing::resident_card_issued(cast));
    step!("library-card-issued", |cast| issuing::library_card_issued(cast).await);
    step!("library-accepts", |cast| issuing::library_accepts(cast));
    step!("false-name-refused", |cast| refusing::false_name_refused(cast, &mut cards).await);
    step!("replay-refused", |cast| refusing::replay_refused(cast, &mut cards).await);
    step!("tampered-refused", |cast| refusing::tampered_refused(cast, &cards).await);
    step!("foreign-issuer-refused", |cast| refusing::foreign_issuer_refused(cast, &cards).await);
    step!("expired-refused", |cast| refusing::expired_refused(cast).await);
    step!("revoked-refused", |cast| refusing::revoked_refused(cast, &cards).await);
    step!("mediator-killed-and-back", |cast| mail::mediator_killed_and_back(cast));
    step!("mediator-blind", |cast| mail::mediator_blind(cast, &cards));
    Ok(())
}

fn nodes_up(folder: &Path, foreign: ForeignWallet, input: Input) -> Result<Cast, String> {
    let path = |path: &Path| path.display().to_string();
    let mut mediator = NodeProcess::init(folder, "mediator", "mediator", &[])?;
    mediator.start(true)?;
    let description = path(&input.city.description);
    let ttl = STATUS_TTL.to_string();
    let mut city =
        NodeProcess::init(folder, "city", "city", &["--description", &description, "--status-ttl", &ttl])?;
    city.start(true)?;
    let (tap, address) = Wiretap::open()?;
    let public = format!("http://localhost:{}", address.port());
    let (requests, issuer) = (path(&input.city.requests), city.said("did")?);
    let flags = [
        "--requests",
        &requests,
        "--trust",
        &issuer,
        "--name",
        "Bibliothek",
        "--clock-skew",
        "1",
        "--public-url",
        &public,
    ];
    let mut library = NodeProcess::init(folder, "library", "merchant", &flags)?;
    library.start(true)?;
    tap.aim(library.said("listen")?.parse::<SocketAddr>().map_err(|error| error.to_string())?);
    let invitation = mediator.said("invitation")?;
    let flags = ["--mediator", &invitation, "--poll-ms", "150"];
    let mut anna = NodeProcess::init(folder, "anna", "citizen", &flags)?;
    let mut bela = NodeProcess::init(folder, "bela", "citizen", &flags)?;
    anna.start(false)?;
    bela.start(false)?;
    Ok(Cast { mediator, city, library, anna, bela, tap, foreign, input })
}

/// Every node is a process of its own, in a folder of its own, with a key of its own for its store.
fn apart(cast: &Cast) -> StepResult {
    let nodes = [&cast.mediator, &cast.city, &cast.library, &cast.anna, &cast.bela];
    let pids: BTreeSet<u32> = nodes.iter().filter_map(|node| node.pid()).collect();
    let keys: BTreeSet<Vec<u8>> =
        nodes.iter().filter_map(|node| std::fs::read(node.dir.join(KEY_FILE)).ok()).collect();
    if pids.len() != nodes.len() || keys.len() != nodes.len() {
        return Err(format!(
            "{} processes with {} store keys for {} nodes",
            pids.len(),
            keys.len(),
            nodes.len()
        ));
    }
    for node in nodes {
        node.ask("status", json!({}))?;
    }
    Ok("mediator, city, library and two citizens run as processes of their own, each with its own store key"
        .into())
}

fn mediation_granted(cast: &Cast) -> StepResult {
    let mut spares = 0;
    for citizen in [&cast.anna, &cast.bela] {
        let state = citizen.ask_until("mailbox", &json!({}), PATIENCE, |state| {
            state["granted"] == true && state["spares"].as_u64().unwrap_or(0) > 0
        })?;
        spares += state["spares"].as_u64().unwrap_or(0);
    }
    let queues = cast.mediator.ask("queues", json!({}))?;
    let recipients = queues["recipients"].as_u64().unwrap_or(0);
    if queues["accounts"] != 2 || recipients < spares {
        return Err(format!("{} accounts and {recipients} DIDs for two citizens", queues["accounts"]));
    }
    Ok(format!("2 accounts, for which {recipients} DIDs are registered"))
}

fn text(value: &Value, member: &str) -> Result<String, String> {
    value
        .get(member)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| format!("no `{member}` in {value}"))
}

fn count(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}

/// Waits until an exchange of a citizen has ended, and returns how.
fn ended(citizen: &NodeProcess, thread: &str) -> Result<String, String> {
    let input = json!({"thread": thread});
    let ended = citizen.ask_until("progress", &input, PATIENCE, |now| {
        matches!(now["state"].as_str(), Some("done" | "abandoned"))
    })?;
    text(&ended, "state")
}

/// Waits until an exchange of a citizen has ended well.
fn done(citizen: &NodeProcess, thread: &str) -> Result<(), String> {
    if ended(citizen, thread)? == "done" {
        Ok(())
    } else {
        Err(format!("{}: the exchange was given up", citizen.name))
    }
}

/// Takes an invitation with `--yes` and returns the thread that begins.
fn take(citizen: &NodeProcess, invitation: &str) -> Result<String, String> {
    let input = json!({"url": invitation, "yes": true, "wait_seconds": PATIENCE});
    text(&citizen.ask("accept", input)?, "thread")
}

/// The ids of a citizen's cards of one kind.
fn cards_of(citizen: &NodeProcess, kind: &Kind) -> Result<Vec<String>, String> {
    let cards = citizen.ask("list", json!({}))?;
    let ours = cards.as_array().into_iter().flatten().filter(|card| card["vct"] == *kind.vct);
    ours.map(|card| text(card, "card")).collect()
}

/// The one card of this kind that a citizen must have.
fn only_card_of(citizen: &NodeProcess, kind: &Kind) -> Result<String, String> {
    match cards_of(citizen, kind)?.as_slice() {
        [card] => Ok(card.clone()),
        cards => Err(format!("{} has {} cards {} instead of one", citizen.name, cards.len(), kind.template)),
    }
}

/// How many cards of a template the city has issued, to one person or to anybody.
fn issued(city: &NodeProcess, kind: &Kind, person: Option<&str>) -> Result<usize, String> {
    let issued = city.ask("issued", person.map_or_else(|| json!({}), |person| json!({"person": person})))?;
    let ours = issued.as_array().into_iter().flatten();
    Ok(ours.filter(|card| card["template"] == *kind.template).count())
}

/// Waits until the mediator keeps exactly this many letters.
fn kept(mediator: &NodeProcess, letters: usize) -> Result<(), String> {
    mediator.ask_until("queues", &json!({}), PATIENCE, |queues| queues["messages"] == letters).map(|_| ())
}

/// Lets the library ask Anna for both cards, and returns the result.
fn borrow(cast: &Cast) -> Result<Value, String> {
    let template = &cast.input.city.borrow.template;
    let request = cast.library.ask("request", json!({"template": template}))?;
    take(&cast.anna, &text(&request, "invitation")?)?;
    verdict(cast, &request)
}

/// The library's verdict on the answer to a request.
fn verdict(cast: &Cast, request: &Value) -> Result<Value, String> {
    let thread = json!({"thread": text(request, "thread")?});
    cast.library.ask_until("result", &thread, PATIENCE, |result| result["pending"] != true)
}
