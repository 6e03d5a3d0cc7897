//! Offers and invitations of a city that have led to nothing yet: what a clerk may still take back.

use std::ops::ControlFlow;

use einmal_didcomm::ThreadId;
use einmal_flows::out_of_band::State;
use einmal_register::PersonId;
use serde_json::{Value, json};

use super::{
    exchange::{Exchange, Relation},
    invitations::{Purpose, Record, Subject},
    issuing::Issuing,
};
use crate::{
    db::INVITATIONS,
    handler::{BoundedList, Failure, Shared},
};

/// What is open for `person`, or for everybody: threads for `einmal city withdraw`, each with what it leads to.
pub(crate) fn list(shared: &Shared, person: Option<&PersonId>) -> Result<Value, Failure> {
    let mut shown = BoundedList::default();
    let is_asked_for = |named: Option<&PersonId>| person.is_none() || named == person;
    shared.db.each(INVITATIONS, |id, record: Record| {
        let (template, named) = match &record.purpose {
            Purpose::Issue(order) => (Some(&order.template), order.subject.person()),
            Purpose::Connect { person } => (None, person.as_ref()),
            Purpose::Request { .. } => return Ok(ControlFlow::Continue(())),
        };
        let thread = String::from_utf8_lossy(&id).into_owned();
        let state = match record.record.state() {
            _ if record.expires <= shared.now() || !is_asked_for(named) => None,
            // Who has answered is connected, or has an exchange, which stands below; or has given that up, and may begin anew.
            State::Connected => (template.is_some() && was_given_up(shared, &thread)?).then_some("given up"),
            // Whoever proves what is asked gets a card, again and again, until it is withdrawn.
            _ if matches!(&record.purpose, Purpose::Issue(order) if order.subject.must_prove()) => {
                Some("for whoever proves it")
            }
            _ => Some("invited"),
        };
        if let Some(state) = state {
            shown.push(entry(&thread, template.map(ToString::to_string), named, state));
        }
        Ok::<_, Failure>(ControlFlow::Continue(()))
    })?;
    Exchange::each(shared, |exchange: Issuing| {
        let job = &exchange.work.job;
        let Subject::Person(named) = &job.order.subject else { return };
        let machine = &exchange.work.machine;
        if !job.issued && !machine.is_abandoned() && is_asked_for(Some(named)) {
            // Without a parent thread nobody took an invitation: the offer was sent to the phone.
            let (thread, state) = match machine.pthid() {
                Some(invitation) => (invitation, "taken"),
                None => (machine.thread(), "sent"),
            };
            shown.push(entry(&thread.to_key(), Some(job.order.template.to_string()), Some(named), state));
        }
    })?;
    Ok(shown.into_value(|left| format!("{left} more; ask for those of a person: --person ID")))
}

/// Whether the exchange that answered an offer ended without a card.
fn was_given_up(shared: &Shared, thread: &str) -> Result<bool, Failure> {
    let Ok(thread) = ThreadId::try_from(thread) else { return Ok(false) };
    let exchange = Issuing::by_relation(shared, Relation::AnswerTo(&thread))?;
    Ok(exchange.is_some_and(|exchange| !exchange.work.job.issued && exchange.work.machine.is_abandoned()))
}

fn entry(thread: &str, template: Option<String>, person: Option<&PersonId>, state: &str) -> Value {
    json!({"thread": thread, "template": template, "person": person.map(PersonId::as_str), "state": state})
}
