//! Overtaken cards: still valid, although register and templates, as last read, say there should be none.

use std::collections::BTreeMap;

use einmal_register::{Date, Person, PersonId, Template};
use serde_json::{Value, json};

use super::{
    issued::{self, IssuedCard},
    patron_nym::fact_tag,
    templates::CityFiles,
};
use crate::handler::{BoundedList, Failure, Shared};

/// Valid cards, in lists for the clerk.
pub(crate) struct Overtaken {
    /// Those to be revoked.
    pub(crate) outdated: Value,
    /// Cards that cannot be judged until the register's faults are corrected, because revoking is final.
    pub(crate) uncertain: Value,
}

/// The valid cards for which register and templates say that there should be none.
pub(crate) fn overtaken(shared: &Shared, files: &CityFiles) -> Result<Overtaken, Failure> {
    let today = files.today(shared.now())?;
    let (mut outdated, mut uncertain) = (BoundedList::default(), BoundedList::default());
    issued::each(shared, |id, card| {
        if !card.is_valid(shared.now()) {
            return Ok(());
        }
        let (list, reason) = match standing(shared, files, &card, today)? {
            Standing::Good => return Ok(()),
            Standing::Outdated(reason) => (&mut outdated, reason),
            Standing::Uncertain(reason) => (&mut uncertain, reason.to_owned()),
        };
        list.push(json!({
            "credential": id,
            "template": card.template,
            "person": card.person.as_ref().map(PersonId::as_str),
            "reason": reason,
        }));
        Ok(())
    })?;
    let more = |left: u64| format!("{left} more; deal with these first");
    Ok(Overtaken { outdated: outdated.into_value(more), uncertain: uncertain.into_value(more) })
}

/// What register and templates say about a card.
enum Standing {
    Good,
    Outdated(String),
    Uncertain(&'static str),
}

fn standing(shared: &Shared, files: &CityFiles, card: &IssuedCard, today: Date) -> Result<Standing, Failure> {
    let Some(template) = files.templates.get(&card.template) else {
        return Ok(Standing::Outdated("cards of this kind are no longer issued".into()));
    };
    let (Some(person), register) = (&card.person, &files.register) else { return Ok(Standing::Good) };
    let Some(person) = register.people.get(person) else {
        return Ok(if register.skipped.contains(person) {
            Standing::Uncertain("the row of this person was skipped; correct it first: einmal city register")
        } else if register.nameless_rows > 0 {
            Standing::Uncertain(
                "no row of this person was found, but rows without an id that can be read; correct those first: einmal city register",
            )
        } else {
            Standing::Outdated("the register no longer holds this person".into())
        });
    };
    if let Err(error) = einmal_register::eligible(template, person, today) {
        return Ok(Standing::Outdated(error.to_string()));
    }
    let changed = changed(&card.facts, &facts(shared, template, person)?);
    if changed.is_empty() {
        return Ok(Standing::Good);
    }
    Ok(Standing::Outdated(format!("the register now says otherwise: {}", changed.join(", "))))
}

/// Tags of what a card says of a person, by claim: enough to see later that the register says otherwise, and nothing to read.
pub(crate) fn facts(
    shared: &Shared,
    template: &Template,
    person: &Person,
) -> Result<BTreeMap<String, String>, Failure> {
    let said = einmal_register::facts(template, person);
    said.into_iter()
        .map(|(claim, origin, value)| {
            let tag = fact_tag(shared, (&claim, &value.unwrap_or_default().to_string()))?;
            Ok((format!("{claim}{FROM}{origin}"), tag))
        })
        .collect()
}

/// Between a claim and where the register has it.
const FROM: &str = " from ";

/// The claims whose tags differ. What only one of both has was added to the template since, taken out, or taken from elsewhere.
fn changed(card: &BTreeMap<String, String>, register: &BTreeMap<String, String>) -> Vec<String> {
    let differs = |(claim, tag): &(&String, &String)| register.get(*claim).is_some_and(|now| now != *tag);
    let name = |fact: &String| fact.split(FROM).next().unwrap_or_default().to_owned();
    card.iter().filter(differs).map(|(fact, _)| name(fact)).collect()
}
