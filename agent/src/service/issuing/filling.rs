//! What a card says, whose it is, and when it ends: from its template, the register and what was presented.

use std::collections::BTreeMap;

use einmal_credentials::sd_jwt::PathElement;
use einmal_didcomm::UnixSeconds;
use einmal_register::{Filled, Inputs, fill};

use super::{
    super::{
        calendar::Calendar,
        issued::Turn,
        no_card::{NoCard, NotMade, check_may_have_another, person_of},
        nonce::fresh_nonce,
        patron_nym::patron_nym,
        templates::knows_people_again,
    },
    IssueJob, IssuingService, basis_of,
    files::in_register,
};
use crate::handler::Shared;

impl IssuingService {
    /// What the card will say, and whose turn it is. The turn is taken first: what changes while the person's cards are counted has
    /// this event be decided anew.
    pub(super) fn turn_and_filled(
        &self,
        shared: &Shared,
        job: &IssueJob,
    ) -> Result<(Option<Turn>, Filled), NotMade> {
        let turn = person_of(shared, job)?.map(|person| Turn::of(shared, person)).transpose()?;
        Ok((turn, self.filled(shared, job)?))
    }

    /// What the card will say. A person known from a presented card is looked up in the register as a named one is: the register
    /// knows better than a card of last year.
    pub(super) fn filled(&self, shared: &Shared, job: &IssueJob) -> Result<Filled, NotMade> {
        let template = self.present_template(job)?;
        let (files, known) = (self.files(), person_of(shared, job)?);
        match &known {
            Some(known) => check_may_have_another(shared, &template, known, job.order.subject.must_prove())?,
            None if knows_people_again(&template) => return Err(NoCard::Unknown.into()),
            None => {}
        }
        let found = |id| in_register(&files, id).map_err(|_| NoCard::NotInRegister);
        let person = known.as_ref().map(found).transpose()?;
        let known = known.as_ref().map(|person| person.as_str().to_owned());
        let subject = known.or_else(|| job.subject.clone()).map_or_else(|| fresh_nonce(shared), Ok)?;
        let generated = BTreeMap::from([("patron_nym".to_owned(), patron_nym(shared, &subject)?)]);
        let last = |end: u64| files.calendar.day_at(UnixSeconds(end.saturating_sub(1)));
        let latest = latest_end(shared, job).and_then(last);
        let inputs = Inputs { person, presented: job.presented.as_ref(), generated: &generated, latest };
        Ok(fill(&template, &inputs, files.today(shared.now())?).map_err(NoCard::Fill)?)
    }
}

/// The second a card ends with: of its template's validity and what bounds it otherwise, the earlier. `None` if it would be over
/// by now.
pub(super) fn end_of(shared: &Shared, job: &IssueJob, filled: &Filled, calendar: &Calendar) -> Option<u64> {
    // A day out of range makes no card: it would end before it begins.
    let end = calendar.end_of(filled.expires).map_or(0, |end| end.0);
    let end = latest_end(shared, job).map_or(end, |latest| latest.min(end));
    (end > shared.now().0).then_some(end)
}

/// The latest second a card may last to: what was ordered, and the end of what it rests on.
fn latest_end(shared: &Shared, job: &IssueJob) -> Option<u64> {
    let ordered = job.order.valid_for.map(|seconds| shared.now().plus(seconds).0);
    basis_of(job).iter().filter_map(|basis| basis.ends_at).chain(ordered).min()
}

/// A path of a template as credentials have it.
pub(super) fn path(elements: Vec<einmal_register::PathElement>) -> Vec<PathElement> {
    elements
        .into_iter()
        .map(|element| match element {
            einmal_register::PathElement::Name(name) => PathElement::Name(name),
            einmal_register::PathElement::Index(index) => PathElement::Index(index),
        })
        .collect()
}
