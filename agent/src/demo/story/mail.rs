//! Waiting mail: kept through a kill, and readable only by its recipient.

use einmal_credentials::vc;
use serde_json::Value;

use super::{Cards, Cast, PATIENCE, count, for_person, kept, text, waiting};
use crate::{
    command::{CityCommand, CommonCommand, Nothing, Offer, SendText},
    demo::{
        StepResult,
        canary::{Canary, Scanner},
        scan,
    },
};

/// Messages under way when the mediator is killed.
const MAIL: usize = 20;

pub(super) fn mediator_killed_and_back(cast: &mut Cast) -> StepResult {
    kept(&cast.mediator, 0)?;
    let known = count(&cast.bela.ask(inbox())?);
    cast.bela.stop()?;
    let mut expected = Vec::new();
    for number in 0..MAIL {
        if number == MAIL / 2 {
            // Half of the mail is queued, the other half still to come: the mediator cannot shut down in order.
            cast.city.drained(PATIENCE)?;
            kept(&cast.mediator, MAIL / 2)?;
            cast.mediator.kill()?;
        }
        let text = format!("Nachricht {number}");
        cast.city.ask(letter_to(&cast.input.bela.id, text.clone()))?;
        expected.push(text);
    }
    let waiting = cast.city.ask(CommonCommand::Status(Nothing {}))?["outbox"].as_u64().unwrap_or(0);
    if waiting != (MAIL - MAIL / 2) as u64 {
        return Err(format!("{waiting} messages wait in the city's outbox while the mediator is down"));
    }
    cast.mediator.start(true)?;
    cast.bela.start(false)?;
    let arrived = |inbox: &Value| count(inbox) >= known + MAIL;
    cast.bela.ask_until(inbox(), 2 * PATIENCE, arrived)?;
    // A second copy cannot follow once nothing is under way any more.
    cast.city.drained(PATIENCE)?;
    kept(&cast.mediator, 0)?;
    let inbox = cast.bela.ask(inbox())?;
    // The newest come first: those that were there before are the last.
    let arrived = inbox.as_array().into_iter().flatten().rev().skip(known);
    let mut texts: Vec<&str> = arrived.filter_map(|mail| mail["text"].as_str()).collect();
    let arrived = texts.len();
    texts.sort_unstable();
    expected.sort_unstable();
    if texts != expected {
        return Err(format!("{arrived} messages arrived instead of {MAIL}, each once"));
    }
    Ok(format!(
        "killed with {} messages queued and {} to come; all {MAIL} arrived, each once",
        MAIL / 2,
        MAIL - MAIL / 2
    ))
}

pub(super) fn mediator_blind(cast: &mut Cast, cards: &Cards) -> StepResult {
    let canaries = everything(cast, cards)?;
    let scanner = Scanner::new(&canaries);
    let planted = scanner.finds_what_is_planted()?;
    mail_waits(cast)?;
    let (folder, name) = (cast.mediator.dir.clone(), canaries.first().ok_or("nobody to look for")?);
    let bytes = scan::files(&folder, &scanner)?;
    let records = scan::records(&folder, &scanner)?;
    let letters = scan::letters(&folder, &scanner)?;
    if letters != 2 || records == 0 {
        return Err(format!("{letters} letters and {records} records lie there; 2 letters should wait"));
    }
    scan::finds_what_is_planted(&folder, name, &scanner)?;
    let logs = [&cast.mediator, &cast.city, &cast.library, &cast.anna, &cast.bela];
    for node in logs {
        scanner.clean(&format!("the log of {}", node.name), &node.log())?;
    }
    sealed_where_it_belongs(cast, &scanner)?;
    mail_arrives(cast)?;
    Ok(format!(
        "with an offer and a letter full of personal data waiting: {bytes} bytes of its folder, {records} records and \
         {letters} letters unsealed with its own key, and its log: no name, date, address or piece of a credential, in plain \
         text, JSON or base64url; all {planted} forms and a file, a record and a letter planted for a trial were found; Anna \
         then read her mail"
    ))
}

/// Both people's data, every piece of the cards, and the types of cards.
fn everything(cast: &Cast, cards: &Cards) -> Result<Vec<Canary>, String> {
    let mut all: Vec<Canary> =
        [&cast.input.anna, &cast.input.bela].iter().flat_map(|p| p.canaries.clone()).collect();
    for card in [&cards.annas, &cards.own] {
        vc::peek(card).map_err(|error| format!("there is no card to look for: {error}"))?;
        // The header only says which key signed, which is public.
        let pieces = card.split('~').flat_map(|part| part.split('.')).skip(1);
        all.extend(pieces.filter_map(|piece| Canary::new("a piece of a credential", piece)));
    }
    for kind in [&cast.input.city.resident, &cast.input.city.library] {
        all.extend(Canary::new("a type of credential", &kind.vct));
    }
    Ok(all)
}

/// Stops Anna's phone, sends her an offer and a text with everything personal, and stops the mediator that keeps both.
fn mail_waits(cast: &mut Cast) -> Result<(), String> {
    kept(&cast.mediator, 0)?;
    cast.anna.stop()?;
    let anna = &cast.input.anna.id;
    let template = &cast.input.city.resident.template;
    cast.city.ask(CityCommand::Offer(Offer { direct: true, ..for_person(template, anna) }))?;
    cast.city.ask(letter_to(anna, letter(cast)))?;
    cast.city.drained(PATIENCE)?;
    kept(&cast.mediator, 2)?;
    cast.mediator.stop()
}

fn inbox() -> CommonCommand {
    CommonCommand::Inbox(Nothing {})
}

fn letter_to(person: &str, text: String) -> CommonCommand {
    CommonCommand::Send(SendText { to: person.to_owned(), text, all: false })
}

fn letter(cast: &Cast) -> String {
    let people = [&cast.input.anna, &cast.input.bela];
    let texts = people.iter().flat_map(|person| &person.canaries).map(Canary::text);
    texts.collect::<Vec<_>>().join(", ")
}

/// In a stopped wallet the same scanner finds the cards once they are unsealed, and nothing in the files.
fn sealed_where_it_belongs(cast: &Cast, scanner: &Scanner) -> Result<(), String> {
    scan::files(&cast.anna.dir, scanner)?;
    match scan::records(&cast.anna.dir, scanner) {
        Err(problem) if problem.contains(" contains ") => Ok(()),
        Err(problem) => Err(problem),
        Ok(_) => Err("the scan does not find Anna's cards in her own wallet".into()),
    }
}

/// Proves that the mail was what was scanned: once both are back, Anna reads it.
fn mail_arrives(cast: &mut Cast) -> Result<(), String> {
    cast.mediator.start(true)?;
    cast.anna.start(false)?;
    let pending = waiting(&cast.anna)?;
    let city = &cast.input.city;
    let template = city.template(&city.resident)?;
    let decide = &pending[0]["decide"];
    cast.input.anna.compare_preview(decide, template, city.files.config.region(), city.today)?;
    let wanted = letter(cast);
    let inbox = cast.anna.ask_until(inbox(), PATIENCE, |inbox| {
        inbox.as_array().into_iter().flatten().any(|mail| mail["text"] == *wanted)
    });
    // The answer would contain the letter.
    inbox.map(|_| ()).map_err(|_| "the letter did not arrive".to_owned())?;
    text(&pending[0], "thread").map(|_| ())
}
