//! Who is to have no card, and why: one rule for the clerk who orders it and for the holder who asks for it.

use einmal_register::{FillError, PersonId, Template};

use super::{
    issued,
    issuing::{IssueJob, basis_of},
};
use crate::handler::{Failure, PeerFault, Shared};

/// Most valid cards of one kind that one person may take from a poster, which serves everybody again and again.
const MAX_VALID_CARDS: usize = 8;

/// Why there is to be no card. The texts are read by clerk and holder alike, and tell nothing about anybody else.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCard {
    /// The template was taken away since.
    #[error("cards of this kind are no longer issued")]
    TemplateGone,
    /// The person is not, or no longer, in the register.
    #[error("the register does not hold whom this card would be for")]
    NotInRegister,
    /// What was proved first is of another person than the order names.
    #[error("what was proved belongs to another person")]
    OtherPerson,
    /// The person has as many as one may take without asking the issuer.
    #[error(
        "there are as many valid cards of this kind as one person may take by a poster; the issuer may offer more"
    )]
    EnoughCards,
    /// Who proved something is nobody the city knows, and cards of this kind need that.
    #[error(
        "the card that was proved does not tell whose it is, as this one needs; the issuer may offer it to a person"
    )]
    Unknown,
    /// An earlier card was revoked for good.
    #[error("an earlier card was revoked for a reason that bars from another")]
    Barred,
    /// The template makes no card of what is known: the person is not eligible, or a claim has no value.
    #[error(transparent)]
    Fill(#[from] FillError),
}

/// A card was not made.
pub(crate) enum NotMade {
    /// Because there is to be none.
    NoCard(NoCard),
    /// Because something failed.
    Failed(Failure),
}

impl NotMade {
    /// The same, as the clerk reads it who ordered the card.
    pub(super) fn of_order(self, person: &PersonId) -> Failure {
        match self {
            Self::NoCard(why) => Failure::user(format!("{}: {why}", person.as_str())),
            Self::Failed(failure) => failure,
        }
    }
}

impl From<Failure> for NotMade {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<NoCard> for NotMade {
    fn from(why: NoCard) -> Self {
        Self::NoCard(why)
    }
}

/// As the holder is told it.
impl From<NotMade> for Failure {
    fn from(not_made: NotMade) -> Self {
        match not_made {
            NotMade::NoCard(why) => Self::peer(PeerFault::Request, why.to_string()),
            NotMade::Failed(failure) => failure,
        }
    }
}

/// The person a card is for: named by the order, and the holder of the cards that were proved. They must be the same.
pub(super) fn person_of(shared: &Shared, job: &IssueJob) -> Result<Option<PersonId>, NotMade> {
    let mut known = job.order.subject.person().cloned();
    for place in basis_of(job).iter().filter_map(|basis| basis.status.as_ref()) {
        let Some(person) = issued::at(shared, place)?.and_then(|card| card.person) else { continue };
        if known.as_ref().is_some_and(|known| *known != person) {
            return Err(NoCard::OtherPerson.into());
        }
        known = Some(person);
    }
    Ok(known)
}

/// Refuses a card to a person whose earlier one was revoked for a reason that bars another. Also to one who has enough
/// of this kind and takes another `unasked`, as from a poster; for a clerk's offer the clerk decides.
pub(super) fn check_may_have_another(
    shared: &Shared,
    template: &Template,
    person: &PersonId,
    unasked: bool,
) -> Result<(), NotMade> {
    let bars =
        |code: &str| template.revocation_reasons().iter().any(|reason| reason.bars && reason.code == code);
    let mut cards = issued::of_person(shared, person)?;
    cards.retain(|(_, card)| card.template.as_str() == template.id());
    let valid = cards.iter().filter(|(_, card)| card.is_valid(shared.now())).count();
    if unasked && valid >= MAX_VALID_CARDS {
        return Err(NoCard::EnoughCards.into());
    }
    let barred =
        cards.iter().any(|(_, card)| card.revoked.as_ref().is_some_and(|revoked| bars(&revoked.reason)));
    if barred { Err(NoCard::Barred.into()) } else { Ok(()) }
}
