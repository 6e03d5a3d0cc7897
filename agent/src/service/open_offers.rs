//! Offers and invitations of a city that have led to nothing yet: what a clerk may still take back.

use std::ops::ControlFlow;

use einmal_flows::out_of_band::State;
use einmal_register::PersonId;
use serde_json::{Value, json};

use super::{
    exchange::Exchange,
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
        // Who has answered is connected, or has an exchange, which stands below.
        let is_open = record.record.state() != State::Connected && record.expires > shared.now();
        if is_open && is_asked_for(named) {
            shown.push(entry(
                &String::from_utf8_lossy(&id),
                template.map(ToString::to_string),
                named,
                "invited",
            ));
        }
        Ok::<_, Failure>(ControlFlow::Continue(()))
    })?;
    Exchange::each(shared, |exchange: Issuing| {
        let job = &exchange.work.job;
        let Subject::Person(named) = &job.order.subject else { return };
        let machine = &exchange.work.machine;
        if !job.issued && !machine.is_abandoned() && is_asked_for(Some(named)) {
            let thread = machine.pthid().unwrap_or(machine.thread()).to_key();
            shown.push(entry(&thread, Some(job.order.template.to_string()), Some(named), "taken"));
        }
    })?;
    Ok(shown.into_value(|left| format!("{left} more; ask for those of a person: --person ID")))
}

fn entry(thread: &str, template: Option<String>, person: Option<&PersonId>, state: &str) -> Value {
    json!({"thread": thread, "template": template, "person": person.map(PersonId::as_str), "state": state})
}
