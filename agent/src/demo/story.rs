//! The story, step by step.
#![allow(clippy::indexing_slicing, reason = "reading a JSON value by index yields null, never a panic")]

mod issuing;
mod mail;
mod refusing;

use std::{collections::BTreeSet, net::SocketAddr, path::Path};

use serde_json::Value;

use super::{
    Stage, StepResult,
    attacks::Question,
    canary::Scanner,
    city::{City, Kind},
    person::Chosen,
    wallet::ForeignWallet,
    wire::Wiretap,
};
use crate::{
    child::NodeProcess,
    command::{
        Accept, Card, CitizenCommand, CityCommand, CommonCommand, MediatorCommand, MerchantCommand, Nothing,
        OfPerson, Offer, Template, Thread,
    },
    error::SetupError,
    home::KEY_FILE,
};

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
        node.ask(CommonCommand::Status(Nothing {}))?;
    }
    Ok("mediator, city, library and two citizens run as processes of their own, each with its own store key"
        .into())
}

fn mediation_granted(cast: &Cast) -> StepResult {
    let mut spares = 0;
    for citizen in [&cast.anna, &cast.bela] {
        let state = citizen.ask_until(CitizenCommand::Mailbox(Nothing {}), PATIENCE, |state| {
            state["granted"] == true && state["spares"].as_u64().unwrap_or(0) > 0
        })?;
        spares += state["spares"].as_u64().unwrap_or(0);
    }
    let queues = cast.mediator.ask(MediatorCommand::Queues(Nothing {}))?;
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
    let progress = CitizenCommand::Progress(Thread { thread: thread.to_owned() });
    let ended = citizen
        .ask_until(progress, PATIENCE, |now| matches!(now["state"].as_str(), Some("done" | "abandoned")))?;
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
    let accept = Accept { url: invitation.to_owned(), yes: true, ..Accept::default() };
    text(&citizen.ask_waiting(CitizenCommand::Accept(accept), PATIENCE)?, "thread")
}

/// The ids of a citizen's cards of one kind.
fn cards_of(citizen: &NodeProcess, kind: &Kind) -> Result<Vec<String>, String> {
    let cards = citizen.ask(CitizenCommand::List(Nothing {}))?;
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

/// Lets the city offer a card, and returns the invitation to it.
fn offer(city: &NodeProcess, offer: Offer) -> Result<String, String> {
    text(&city.ask(CityCommand::Offer(offer))?, "invitation")
}

/// An offer of a card for a person of the register.
fn for_person(template: &str, person: &str) -> Offer {
    Offer { template: template.to_owned(), person: Some(person.to_owned()), ..Offer::default() }
}

/// Waits until something waits for a citizen's decision, and returns all that does.
fn waiting(citizen: &NodeProcess) -> Result<Value, String> {
    let pending = CitizenCommand::Pending(Nothing {});
    citizen.ask_until(pending, PATIENCE, |pending| count(pending) > 0)
}

/// A card as its wallet shows it.
fn shown(citizen: &NodeProcess, card: &str) -> Result<Value, String> {
    citizen.ask(CitizenCommand::Show(Card { card: card.to_owned() }))
}

/// A card as text.
fn exported(citizen: &NodeProcess, card: &str) -> Result<String, String> {
    text(&citizen.ask(CitizenCommand::Export(Card { card: card.to_owned() }))?, "text")
}

/// How many cards of a template the city has issued, to one person or to anybody.
fn issued(city: &NodeProcess, kind: &Kind, person: Option<&str>) -> Result<usize, String> {
    let of = OfPerson { person: person.map(str::to_owned) };
    let issued = city.ask(CityCommand::Issued(of))?;
    let ours = issued.as_array().into_iter().flatten();
    Ok(ours.filter(|card| card["template"] == *kind.template).count())
}

/// Waits until the mediator keeps exactly this many letters.
fn kept(mediator: &NodeProcess, letters: usize) -> Result<(), String> {
    let queues = MediatorCommand::Queues(Nothing {});
    mediator.ask_until(queues, PATIENCE, |queues| queues["messages"] == letters).map(|_| ())
}

/// Lets the library ask Anna for both cards, and returns the result.
fn borrow(cast: &Cast) -> Result<Value, String> {
    let template = cast.input.city.borrow.template.clone();
    let request = cast.library.ask(MerchantCommand::Request(Template { template }))?;
    take(&cast.anna, &text(&request, "invitation")?)?;
    verdict(cast, &request)
}

/// The library's verdict on the answer to a request.
fn verdict(cast: &Cast, request: &Value) -> Result<Value, String> {
    let result = MerchantCommand::Result(Thread { thread: text(request, "thread")? });
    cast.library.ask_until(result, PATIENCE, |result| result["pending"] != true)
}
