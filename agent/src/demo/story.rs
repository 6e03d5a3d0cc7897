//! The story, step by step.
#![allow(clippy::indexing_slicing, reason = "reading a JSON value by index yields null, never a panic")]

use std::{net::SocketAddr, path::Path, time::Duration};

use einmal_didcomm::UnixSeconds;
use einmal_register::{Date, PartialDate, Person};
use serde_json::{Value, json};

use super::{
    Stage, StepResult, attacks,
    scan::{self, Canary},
    wallet::ForeignWallet,
    wire::Wiretap,
};
use crate::{
    child::NodeProcess,
    clock::{Clock, SystemClock},
    db,
    error::SetupError,
    net::{Transport, client::HttpClient},
    role,
    service::templates::CityFiles,
};

/// Seconds a step waits for what must happen.
const PATIENCE: u64 = 30;
/// Seconds a status list of the story's city may be cached.
const STATUS_TTL: u64 = 1;
/// Seconds the short-lived card is good for.
const SHORT_LIFE: u64 = 3;
/// Messages that are under way when the mediator is killed.
const MAIL: usize = 20;

/// The people of the story and all nodes.
struct Cast {
    mediator: NodeProcess,
    city: NodeProcess,
    library: NodeProcess,
    anna: NodeProcess,
    bela: NodeProcess,
    tap: Wiretap,
    foreign: ForeignWallet,
    anna_person: Chosen,
    bela_person: Chosen,
}

/// A person of the register, with what must never be found where it does not belong.
struct Chosen {
    id: String,
    canaries: Vec<Canary>,
}

/// Plays every step on `stage` with the city of `data`, in `folder`.
pub(super) async fn play(stage: &mut Stage, data: &Path, folder: &Path) -> Result<(), SetupError> {
    let mut people = choose_people(data)?;
    let (Some(bela_person), Some(anna_person)) = (people.pop(), people.pop()) else {
        return Err(SetupError::input(data, "the register has no two adults to play the citizens"));
    };
    let foreign = ForeignWallet::new().map_err(SetupError::internal)?;
    let mut cast = None;
    stage.step("nodes-up", async || {
        cast = Some(nodes_up(data, folder, foreign, anna_person, bela_person)?);
        Ok("mediator, city, library and two citizens run as processes of their own, each with its own sealed store".into())
    })
    .await;
    let mut card = String::new();
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
    step!("resident-card-issued", |cast| resident_card_issued(cast));
    step!("library-card-issued", |cast| library_card_issued(cast));
    step!("library-accepts", |cast| library_accepts(cast));
    step!("false-name-refused", |cast| {
        card = export_resident_card(cast)?;
        false_name_refused(cast, &card).await
    });
    step!("replay-refused", |cast| replay_refused(cast).await);
    step!("tampered-refused", |cast| tampered_refused(cast, &card).await);
    step!("foreign-issuer-refused", |cast| foreign_issuer_refused(cast).await);
    step!("expired-refused", |cast| expired_refused(cast).await);
    step!("revoked-refused", |cast| revoked_refused(cast));
    step!("mediator-killed-and-back", |cast| mediator_killed_and_back(cast));
    step!("mediator-blind", |cast| mediator_blind(cast, &card));
    Ok(())
}

/// Two adults who live here, with names and addresses long enough to look for.
fn choose_people(data: &Path) -> Result<Vec<Chosen>, SetupError> {
    let now: UnixSeconds = SystemClock.now();
    let today =
        Date::from_unix_seconds(now.0).ok_or_else(|| SetupError::internal("the clock is out of range"))?;
    let files = CityFiles::read(data, today)?;
    let adult = |person: &&Person| {
        person.lives_here_on(today) && !person.is_dead() && (18..65).contains(&person.age_on(today))
    };
    let mut chosen: Vec<Chosen> = Vec::new();
    for person in files.register.people.values().filter(adult) {
        let Some(candidate) = canaries_of(person) else { continue };
        let distinct = chosen.iter().all(|other| {
            let names =
                |one: &Chosen| one.canaries.iter().map(Canary::text).map(str::to_owned).collect::<Vec<_>>();
            names(other).iter().all(|text| !names(&candidate).contains(text))
        });
        if distinct {
            chosen.push(candidate);
        }
        if chosen.len() == 2 {
            break;
        }
    }
    Ok(chosen)
}

fn canaries_of(person: &Person) -> Option<Chosen> {
    let PartialDate::Day(birth) = person.birth_date() else { return None };
    let canaries = vec![
        Canary::new("a family name", person.family_name()?)?,
        Canary::new("a given name", person.given_names()?)?,
        Canary::new("a birth date", &birth.to_string())?,
        Canary::new("an address", &person.street_address()?)?,
    ];
    Some(Chosen { id: person.id().as_str().to_owned(), canaries })
}

fn nodes_up(
    data: &Path,
    folder: &Path,
    foreign: ForeignWallet,
    anna_person: Chosen,
    bela_person: Chosen,
) -> Result<Cast, String> {
    let path = |path: &Path| path.display().to_string();
    let mut mediator = NodeProcess::init(folder, "mediator", "mediator", &[])?;
    mediator.start(true)?;
    let description = path(&data.join("city.toml"));
    let ttl = STATUS_TTL.to_string();
    let mut city =
        NodeProcess::init(folder, "city", "city", &["--description", &description, "--status-ttl", &ttl])?;
    city.start(true)?;
    let (tap, address) = Wiretap::open()?;
    let public = format!("http://localhost:{}", address.port());
    let (requests, issuer) = (path(&data.join("requests")), city.said("did")?);
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
    Ok(Cast { mediator, city, library, anna, bela, tap, foreign, anna_person, bela_person })
}

fn mediation_granted(cast: &Cast) -> StepResult {
    for citizen in [&cast.anna, &cast.bela] {
        citizen.ask_until("mailbox", &json!({}), PATIENCE, |state| {
            state["granted"] == true && state["spares"].as_u64().unwrap_or(0) > 0
        })?;
    }
    let queues = cast.mediator.ask("queues", json!({}))?;
    Ok(format!("{} accounts, {} proved recipient DIDs", queues["accounts"], queues["recipients"]))
}

/// Connects a citizen with the city as a person of the register.
fn connect(city: &NodeProcess, citizen: &NodeProcess, person: &str) -> Result<(), String> {
    let invitation = text(&city.ask("invite", json!({"person": person}))?, "invitation")?;
    citizen.ask("accept", json!({"url": invitation, "yes": true, "wait_seconds": PATIENCE}))?;
    // The relationship stands when the first message has arrived: until then there is nobody to write to.
    city.ask_until("send", &json!({"to": person, "text": "Willkommen"}), PATIENCE, |sent| {
        sent["sent"] == true
    })?;
    citizen.ask_until("inbox", &json!({}), PATIENCE, |inbox| {
        inbox.as_array().is_some_and(|mail| !mail.is_empty())
    })?;
    Ok(())
}

fn text(value: &Value, member: &str) -> Result<String, String> {
    value
        .get(member)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| format!("no `{member}` in {value}"))
}

/// Waits until an exchange of a citizen has ended well.
fn done(citizen: &NodeProcess, thread: &str) -> Result<(), String> {
    let input = json!({"thread": thread});
    let ended = citizen.ask_until("progress", &input, PATIENCE, |now| {
        matches!(now["state"].as_str(), Some("done" | "abandoned"))
    })?;
    if ended["state"] == "done" {
        Ok(())
    } else {
        Err(format!("{}: the exchange was given up", citizen.name))
    }
}

fn resident_card_issued(cast: &mut Cast) -> StepResult {
    connect(&cast.city, &cast.anna, &cast.anna_person.id)?;
    connect(&cast.city, &cast.bela, &cast.bela_person.id)?;
    cast.anna.stop()?;
    let offer = json!({"template": "resident-card", "person": cast.anna_person.id, "direct": true});
    cast.city.ask("offer", offer)?;
    cast.city.drained(PATIENCE)?;
    let waiting = cast.mediator.ask("queues", json!({}))?["messages"].as_u64().unwrap_or(0);
    if waiting == 0 {
        return Err("the offer does not wait at the mediator".into());
    }
    cast.anna.start(false)?;
    let pending = cast.anna.ask_until("pending", &json!({}), PATIENCE, |pending| {
        pending.as_array().is_some_and(|offers| !offers.is_empty())
    })?;
    let thread = text(pending.get(0).unwrap_or(&Value::Null), "thread")?;
    let shown = pending.get(0).and_then(|first| first.get("decide")?.get("shown"));
    cast.anna.ask("decide", json!({"thread": thread, "agree": true, "shown": shown}))?;
    done(&cast.anna, &thread)?;
    let cards = cast.anna.ask("list", json!({}))?;
    Ok(format!(
        "offered while the phone was off, {waiting} message kept by the mediator; now {} card",
        count(&cards)
    ))
}

fn count(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}

fn library_card_issued(cast: &Cast) -> StepResult {
    let order = json!({"template": "library-card", "after": "library-signup"});
    let invitation = text(&cast.city.ask("offer", order)?, "invitation")?;
    let begun = cast.anna.ask("accept", json!({"url": invitation, "yes": true, "wait_seconds": PATIENCE}))?;
    done(&cast.anna, &text(&begun, "thread")?)?;
    let cards = cast.anna.ask("list", json!({}))?;
    let library = cards
        .as_array()
        .into_iter()
        .flatten()
        .any(|card| card["vct"].as_str().is_some_and(|vct| vct.contains("library-card")));
    if !library {
        return Err(format!("no library card among {} cards", count(&cards)));
    }
    Ok("issued after the resident card proved age and residence; no form, no name".into())
}

/// Lets Anna answer the library's request template and returns the result.
fn borrow(cast: &Cast) -> Result<Value, String> {
    let request = cast.library.ask("request", json!({"template": "library-accepts"}))?;
    let url = text(&request, "invitation")?;
    cast.anna.ask("accept", json!({"url": url, "yes": true, "wait_seconds": PATIENCE}))?;
    let thread = text(&request, "thread")?;
    cast.library.ask_until("result", &json!({"thread": thread}), PATIENCE, |result| result["pending"] != true)
}

fn library_accepts(cast: &Cast) -> StepResult {
    let result = borrow(cast)?;
    if result["accepted"] != true {
        return Err(format!("not accepted: {}", result["reason"]));
    }
    let resident = &result["disclosed"]["resident"][0]["claims"];
    let card = &result["disclosed"]["library_card"][0]["claims"];
    if resident["age_equal_or_over"]["7"] != true || resident["resident_region"] != "DE-HE" {
        return Err("what was asked for was not disclosed".into());
    }
    let number = card["patron_nym"].as_str().ok_or("no patron number")?;
    let seen = result.to_string();
    scan::clean("the library's result", seen.as_bytes(), &cast.anna_person.canaries)?;
    let members = resident.as_object().map_or(0, serde_json::Map::len);
    if members != 2 {
        return Err(format!("{members} claims of the resident card were disclosed instead of 2"));
    }
    scan::clean("the wire", &cast.tap.bytes(), &cast.anna_person.canaries)?;
    Ok(format!(
        "over 7, resident in Hesse, patron number {number}; name, birth date and address stayed undisclosed"
    ))
}

/// The text of Anna's resident card, as a thief would copy it.
fn export_resident_card(cast: &Cast) -> Result<String, String> {
    let cards = cast.anna.ask("list", json!({}))?;
    let card = cards
        .as_array()
        .into_iter()
        .flatten()
        .find(|card| card["vct"].as_str().is_some_and(|vct| vct.contains("resident")))
        .ok_or("no resident card")?;
    text(&cast.anna.ask("export", json!({"card": card["card"]}))?, "text")
}

/// Asks the foreign wallet for a proof of age and returns the library's reason for refusing it.
async fn refused(
    cast: &Cast,
    make: impl Fn(&super::wallet::Asked) -> Result<einmal_flows::formats::DcqlPresentation, String>,
) -> Result<String, String> {
    let request = cast.library.ask("request", json!({"template": "cafe-over-16"}))?;
    cast.foreign.answer(&text(&request, "invitation")?, make).await?;
    let thread = json!({"thread": text(&request, "thread")?});
    let result = cast.library.ask_until("result", &thread, PATIENCE, |result| result["pending"] != true)?;
    if result["accepted"] == true {
        return Err("it was accepted".into());
    }
    text(&result, "reason")
}

fn expect(reason: &str, wanted: &str, detail: &str) -> StepResult {
    if reason == wanted {
        Ok(format!("{detail}: {reason}"))
    } else {
        Err(format!("refused as {reason}, not as {wanted}"))
    }
}

async fn false_name_refused(cast: &Cast, card: &str) -> StepResult {
    let reason = refused(cast, |asked| attacks::present(&cast.foreign, card, asked)).await?;
    expect(&reason, "not-the-holder", "a copied card on another phone")
}

async fn replay_refused(cast: &Cast) -> StepResult {
    let envelopes = cast.tap.envelopes();
    if envelopes.is_empty() {
        return Err("nothing was recorded".into());
    }
    let counters = |status: Value| {
        let counter = |name: &str| status["counters"][name].as_u64().unwrap_or(0);
        (counter("duplicates"), counter("accepted"))
    };
    let (duplicates, accepted) = counters(cast.library.ask("status", json!({}))?);
    let network = crate::config::Network { allow_private: true, allow_http: true };
    let client = HttpClient::new(&network)?;
    let endpoint = cast.library.about["endpoints"][0].as_str().ok_or("no endpoint")?.to_owned();
    for envelope in &envelopes {
        // A refusal is as good as silence; what counts is that nothing happens.
        let _ = client.send(&endpoint, envelope.clone()).await;
    }
    let (duplicates_after, accepted_after) = counters(cast.library.ask("status", json!({}))?);
    let replayed = duplicates_after.saturating_sub(duplicates);
    if accepted_after != accepted {
        return Err(format!("{} replayed messages were handled again", accepted_after - accepted));
    }
    if replayed == 0 {
        return Err("no replay was recognised".into());
    }
    Ok(format!(
        "{} envelopes recorded on the wire were sent again; {replayed} recognised, none handled",
        envelopes.len()
    ))
}

async fn tampered_refused(cast: &Cast, card: &str) -> StepResult {
    let reason = refused(cast, |asked| attacks::present_tampered(&cast.foreign, card, asked)).await?;
    expect(&reason, "tampered", "one disclosed value changed")
}

async fn foreign_issuer_refused(cast: &Cast) -> StepResult {
    let card = attacks::self_made(&cast.foreign)?;
    let reason = refused(cast, |asked| attacks::present(&cast.foreign, &card, asked)).await?;
    expect(&reason, "untrusted-issuer", "a perfect card from an issuer nobody knows")
}

async fn expired_refused(cast: &Cast) -> StepResult {
    let order = json!({"template": "resident-card", "person": cast.bela_person.id, "valid_for": SHORT_LIFE});
    let invitation = text(&cast.city.ask("offer", order)?, "invitation")?;
    let card = cast.foreign.take_card(&invitation).await?;
    // The same card is good as long as it lasts: otherwise the refusal would prove nothing.
    let request = cast.library.ask("request", json!({"template": "cafe-over-16"}))?;
    cast.foreign
        .answer(&text(&request, "invitation")?, |asked| attacks::present(&cast.foreign, &card, asked))
        .await?;
    let thread = json!({"thread": text(&request, "thread")?});
    let before = cast.library.ask_until("result", &thread, PATIENCE, |result| result["pending"] != true)?;
    if before["accepted"] != true {
        return Err(format!("the fresh card was refused: {}", before["reason"]));
    }
    tokio::time::sleep(Duration::from_secs(SHORT_LIFE + 2)).await;
    let reason = refused(cast, |asked| attacks::present(&cast.foreign, &card, asked)).await?;
    expect(&reason, "expired", "accepted while it was valid, refused by its own holder's hand afterwards")
}

fn revoked_refused(cast: &Cast) -> StepResult {
    let issued = cast.city.ask("issued", json!({"person": cast.anna_person.id}))?;
    let card = issued
        .as_array()
        .into_iter()
        .flatten()
        .find(|card| card["template"] == "resident-card")
        .ok_or("the city knows no such card")?;
    cast.city.ask("revoke", json!({"credential": card["credential"], "reason": "moved"}))?;
    std::thread::sleep(Duration::from_secs(2 * STATUS_TTL));
    let result = borrow(cast)?;
    if result["accepted"] == true {
        return Err("the revoked card was accepted".into());
    }
    expect(&text(&result, "reason")?, "revoked", "the card accepted before, after a move")
}

fn mediator_killed_and_back(cast: &mut Cast) -> StepResult {
    let known = count(&cast.bela.ask("inbox", json!({}))?);
    cast.bela.stop()?;
    let mut expected = Vec::new();
    for number in 0..MAIL {
        if number == MAIL / 2 {
            // Half of the mail is queued, the other half still to come: no chance to shut down in order.
            cast.city.drained(PATIENCE)?;
            cast.mediator.kill()?;
        }
        let text = format!("Nachricht {number}");
        cast.city.ask("send", json!({"to": cast.bela_person.id, "text": text}))?;
        expected.push(text);
    }
    cast.mediator.start(true)?;
    cast.bela.start(false)?;
    let arrived = |inbox: &Value| count(inbox) >= known + MAIL;
    let inbox = cast.bela.ask_until("inbox", &json!({}), 2 * PATIENCE, arrived)?;
    let texts: Vec<String> = inbox
        .as_array()
        .into_iter()
        .flatten()
        .skip(known)
        .filter_map(|mail| mail["text"].as_str().map(str::to_owned))
        .collect();
    let mut sorted = texts.clone();
    sorted.sort_by_key(|text| expected.iter().position(|wanted| wanted == text));
    if sorted != expected {
        return Err(format!("{} of {MAIL} messages arrived once and only once", texts.len()));
    }
    Ok(format!(
        "killed with {} messages queued and {} to come; all {MAIL} arrived, each once",
        MAIL / 2,
        MAIL - MAIL / 2
    ))
}

fn mediator_blind(cast: &mut Cast, card: &str) -> StepResult {
    let signature = card.split('~').next().unwrap_or_default();
    let credential = Canary::new("a credential", signature).ok_or("no credential to look for")?;
    let kind = Canary::new("a type of credential", "urn:de:kommune").ok_or("no type to look for")?;
    let mut all = vec![credential, kind];
    all.append(&mut cast.anna_person.canaries);
    all.append(&mut cast.bela_person.canaries);
    cast.mediator.stop()?;
    let bytes = scan::files(&cast.mediator.dir, &all)?;
    scan::clean("the mediator's log", &cast.mediator.log(), &all)?;
    let records =
        scan::records(&cast.mediator.dir, &[db::SEEN, db::KNOWN_DIDS, db::OUTBOX, db::PEERS], &all)?
            + scan::records(&cast.mediator.dir, &role::mediator_tables(), &all)?;
    if records == 0 {
        return Err("the mediator's store holds nothing, so the scan proves nothing".into());
    }
    for node in [&cast.city, &cast.library, &cast.anna, &cast.bela] {
        scan::clean(&format!("the log of {}", node.name), &node.log(), &all)?;
    }
    Ok(format!(
        "{bytes} bytes of its folder and {records} unsealed records: no name, date, address or credential"
    ))
}
