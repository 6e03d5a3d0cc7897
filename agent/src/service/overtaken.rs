//! Overtaken cards: still valid, although register and templates, as last read, say there should be none.

use einmal_register::{Date, PersonId};
use serde_json::{Value, json};

use super::{
    issued::{self, IssuedCard},
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
        let (list, reason) = match standing(files, &card, today) {
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

fn standing(files: &CityFiles, card: &IssuedCard, today: Date) -> Standing {
    let Some(template) = files.templates.get(&card.template) else {
        return Standing::Outdated("cards of this kind are no longer issued".into());
    };
    let (Some(person), register) = (&card.person, &files.register) else { return Standing::Good };
    match register.people.get(person) {
        Some(person) => match einmal_register::eligible(template, person, today) {
            Ok(()) => Standing::Good,
            Err(error) => Standing::Outdated(error.to_string()),
        },
        None if register.skipped.contains(person) => {
            Standing::Uncertain("the row of this person was skipped; correct it first: einmal city register")
        }
        None if register.nameless_rows > 0 => Standing::Uncertain(
            "no row of this person was found, but rows without an id that can be read; correct those first: einmal city register",
        ),
        None => Standing::Outdated("the register no longer holds this person".into()),
    }
}
