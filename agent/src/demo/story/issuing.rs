//! Cards reach their holders, say what the register says, and show only what was asked.

use serde_json::Value;

use super::{
    Cast, PATIENCE, borrow, cards_of, count, done, ended, exported, for_person, issued, kept, offer,
    only_card_of, shown, take, text, waiting,
};
use crate::{
    child::NodeProcess,
    command::{CitizenCommand, CityCommand, CommonCommand, Decide, Invite, Nothing, Offer, SendText},
    demo::{
        StepResult,
        canary::Scanner,
        city::CardQuery,
        person::{Chosen, leaves},
        scan,
        wire::Wiretap,
    },
};

/// Connects a citizen with the city as a person of the register.
fn connect(city: &NodeProcess, citizen: &NodeProcess, person: &str) -> Result<(), String> {
    let invite = Invite { person: Some(person.to_owned()) };
    let invitation = text(&city.ask(CommonCommand::Invite(invite))?, "invitation")?;
    take(citizen, &invitation)?;
    // The relationship exists once the first message has arrived: until then there is nobody to write to.
    let letter = SendText { to: person.to_owned(), text: "Willkommen".to_owned(), all: false };
    city.ask_until(CommonCommand::Send(letter), PATIENCE, |sent| sent["sent"] == true)?;
    citizen.ask_until(CommonCommand::Inbox(Nothing {}), PATIENCE, |inbox| count(inbox) > 0)?;
    Ok(())
}

pub(super) fn resident_card_issued(cast: &mut Cast) -> StepResult {
    connect(&cast.city, &cast.anna, &cast.input.anna.id)?;
    taken_once(cast)?;
    offered_while_off(cast)?;
    let annas = says_what_the_register_says(cast, &cast.anna, &cast.input.anna)?;
    let belas = says_what_the_register_says(cast, &cast.bela, &cast.input.bela)?;
    Ok(format!(
        "offered while the phone was off and kept by the mediator until then; {annas} and {belas} claims of two cards are \
         those of the register's rows; an invitation that one had taken gave the other nothing"
    ))
}

/// Bela takes an invitation for one person, which also connects him; Anna, who got hold of it, comes too late.
fn taken_once(cast: &Cast) -> Result<(), String> {
    let (resident, bela) = (&cast.input.city.resident, &cast.input.bela);
    let invitation = offer(&cast.city, for_person(&resident.template, &bela.id))?;
    done(&cast.bela, &take(&cast.bela, &invitation)?)?;
    let end = ended(&cast.anna, &take(&cast.anna, &invitation)?)?;
    let (cards, issued) = (cards_of(&cast.anna, resident)?, issued(&cast.city, resident, Some(&bela.id))?);
    if end != "abandoned" || !cards.is_empty() || issued != 1 {
        return Err(format!("an invitation for one gave {issued} cards, {} of them to another", cards.len()));
    }
    Ok(())
}

/// Anna is offered the card while her phone is off, sees what it will say, and takes it.
fn offered_while_off(cast: &mut Cast) -> Result<(), String> {
    kept(&cast.mediator, 0)?;
    cast.anna.stop()?;
    let (city, anna) = (&cast.input.city, &cast.input.anna);
    let order = Offer { direct: true, ..for_person(&city.resident.template, &anna.id) };
    cast.city.ask(CityCommand::Offer(order))?;
    cast.city.drained(PATIENCE)?;
    kept(&cast.mediator, 1)
        .map_err(|problem| format!("the offer does not wait at the mediator: {problem}"))?;
    cast.anna.start(false)?;
    let pending = waiting(&cast.anna)?;
    let decide = &pending[0]["decide"];
    anna.compare_preview(decide, city.template(&city.resident)?, city.files.config.region(), city.today)?;
    let thread = text(&pending[0], "thread")?;
    let agreed = Decide { thread: thread.clone(), agree: true, shown: Some(text(decide, "shown")?) };
    cast.anna.ask(CitizenCommand::Decide(agreed))?;
    done(&cast.anna, &thread)?;
    kept(&cast.mediator, 0)
}

/// Compares the one resident card in a wallet with its person's row.
fn says_what_the_register_says(cast: &Cast, wallet: &NodeProcess, person: &Chosen) -> Result<usize, String> {
    let city = &cast.input.city;
    let card = only_card_of(wallet, &city.resident)?;
    let claims = &shown(wallet, &card)?["claims"];
    let template = city.template(&city.resident)?;
    person
        .compare(claims, template, city.files.config.region(), city.today)
        .map_err(|problem| format!("the card of {}: {problem}", wallet.name))
}

pub(super) async fn library_card_issued(cast: &Cast) -> StepResult {
    let (library, signup) = (&cast.input.city.library, &cast.input.city.signup);
    let (template, after) = (library.template.clone(), Some(signup.template.clone()));
    let invitation = offer(&cast.city, Offer { template, after, ..Offer::default() })?;
    if cast.foreign.take_card(&invitation).await.is_ok() || issued(&cast.city, library, None)? > 0 {
        return Err("somebody who proved nothing was issued a card".into());
    }
    done(&cast.anna, &take(&cast.anna, &invitation)?)?;
    // The order names nobody: the city can know that the card is Anna's only from the card she presented.
    let annas = issued(&cast.city, library, Some(&cast.input.anna.id))?;
    let all = issued(&cast.city, library, None)?;
    if (annas, all) != (1, 1) {
        return Err(format!("{all} cards were issued, {annas} of them to who proved the resident card"));
    }
    let card = only_card_of(&cast.anna, library)?;
    let scanner = cast.input.scanner();
    scanner.clean("the card", shown(&cast.anna, &card)?.to_string().as_bytes())?;
    scanner.clean("the card", exported(&cast.anna, &card)?.as_bytes())?;
    let proved = claims_of(&signup.asked);
    Ok(format!(
        "issued once the resident card had shown {proved}, and not before; neither name, birth date nor address in it"
    ))
}

/// The names of the claims a request asks for.
fn claims_of(asked: &[CardQuery]) -> String {
    let paths = asked.iter().flat_map(|card| &card.claims).map(|(path, _)| path.join("."));
    paths.collect::<Vec<_>>().join(", ")
}

pub(super) fn library_accepts(cast: &Cast) -> StepResult {
    let result = borrow(cast)?;
    if result["accepted"] != true {
        return Err(format!("not accepted: {}", result["reason"]));
    }
    let city = &cast.input.city;
    for asked in &city.borrow.asked {
        let kind = if asked.vcts == [city.resident.vct.clone()] { &city.resident } else { &city.library };
        let held = &shown(&cast.anna, &only_card_of(&cast.anna, kind)?)?["claims"];
        disclosed_as_asked(
            &result["disclosed"][&asked.query][0]["claims"],
            held,
            asked,
            city.template(kind)?,
        )?;
    }
    let scanner = cast.input.scanner();
    scanner.clean("the library's result", result.to_string().as_bytes())?;
    let envelopes = wire_is_sealed(&cast.tap, &scanner)?;
    let claims = claims_of(&city.borrow.asked);
    Ok(format!(
        "disclosed {claims}; name, birth date and address are in no result, nor in {envelopes} envelopes to the library, all encrypted"
    ))
}

/// Fails unless a card disclosed every claim that was asked for, as the wallet holds it, and nothing else except what
/// the card cannot hide.
fn disclosed_as_asked(
    disclosed: &Value,
    held: &Value,
    asked: &CardQuery,
    template: &einmal_register::Template,
) -> Result<(), String> {
    let value = |claims: &Value, path: &[String]| {
        path.iter().try_fold(claims, |value, name| value.get(name)).cloned()
    };
    for (path, values) in &asked.claims {
        let shown = value(disclosed, path);
        let fits =
            values.as_ref().is_none_or(|values| shown.as_ref().is_some_and(|one| values.contains(one)));
        if shown.is_none() || shown != value(held, path) || !fits {
            return Err(format!("{} was asked for and not disclosed as it is", path.join(".")));
        }
    }
    let open = |path: &Vec<String>| {
        let claim = template.claims().iter().find(|claim| claim.path == *path);
        claim.is_some_and(|claim| claim.disclosure == einmal_register::Disclosure::Always)
    };
    let was_asked = |path: &Vec<String>| asked.claims.iter().any(|(asked, _)| asked == path);
    match leaves(disclosed).iter().find(|path| !was_asked(path) && !open(path)) {
        Some(path) => Err(format!("{} was disclosed and not asked for", path.join("."))),
        None => Ok(()),
    }
}

/// Fails unless every posted body, and every answer declared as an envelope, is an encrypted envelope, and no byte
/// reveals personal data; returns how many envelopes there were.
fn wire_is_sealed(tap: &Wiretap, scanner: &Scanner) -> Result<usize, String> {
    let bodies = tap.bodies();
    let envelopes: Vec<_> = bodies.iter().filter(|body| body.is_request || body.is_envelope).collect();
    for body in &envelopes {
        scan::envelope("what went over the wire", &body.bytes)?;
    }
    for bytes in tap.streams().iter().chain(bodies.iter().map(|body| &body.bytes)) {
        scanner.clean("the wire", bytes)?;
    }
    if envelopes.is_empty() { Err("nothing went over the wire".into()) } else { Ok(envelopes.len()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked() -> CardQuery {
        CardQuery {
            query: "card".into(),
            vcts: Vec::new(),
            claims: vec![
                (vec!["age".into(), "7".into()], Some(vec![json!(true)])),
                (vec!["region".into()], None),
            ],
        }
    }

    fn template() -> einmal_register::Template {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/wetzlar");
        let text = std::fs::read_to_string(folder.join("templates/library-card.toml")).unwrap();
        einmal_register::Template::parse("library-card.toml", &text).unwrap()
    }

    #[test]
    fn disclosing_less_more_or_something_else_than_asked_is_noticed() {
        let held =
            json!({"age": {"7": true, "18": true}, "region": "DE-HE", "name": "Muster", "patron_nym": "A"});
        let judged = |disclosed: Value| disclosed_as_asked(&disclosed, &held, &asked(), &template());
        assert_eq!(judged(json!({"age": {"7": true}, "region": "DE-HE"})), Ok(()));
        let open = json!({"age": {"7": true}, "region": "DE-HE", "patron_nym": "A"});
        assert_eq!(judged(open), Ok(()), "what the card cannot hide is no disclosure");
        for (disclosed, problem) in [
            (json!({"region": "DE-HE"}), "age.7 was asked for"),
            (json!({"age": {"7": false}, "region": "DE-HE"}), "age.7 was asked for"),
            (json!({"age": {"7": true}, "region": "DE-BY"}), "region was asked for"),
            (json!({"age": {"7": true, "18": true}, "region": "DE-HE"}), "age.18 was disclosed"),
            (json!({"age": {"7": true}, "region": "DE-HE", "name": "Muster"}), "name was disclosed"),
        ] {
            let refused = judged(disclosed).unwrap_err();
            assert!(refused.contains(problem), "{refused}");
        }
    }

    #[test]
    fn a_value_that_will_not_do_is_noticed_although_the_wallet_holds_it() {
        let held = json!({"age": {"7": false}, "region": "DE-HE"});
        let refused = disclosed_as_asked(&held, &held, &asked(), &template()).unwrap_err();
        assert!(refused.contains("age.7"), "{refused}");
    }
}
