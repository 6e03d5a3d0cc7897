//! The holder's side: which cards answer a query while showing least.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound,
};

use super::{
    CredentialQuery, DcqlQuery, NoMatch,
    path::{Found, View},
};
use crate::sd_jwt::{Claims, ElementPositions, PathElement};

/// A card that may answer a query, made by [`crate::vc::HeldCredential::candidate`]. Expired cards are not offered.
#[derive(Clone)]
pub struct Candidate<'a> {
    /// The caller's name for the card.
    pub id: String,
    /// Its format, such as `dc+sd-jwt`.
    pub format: &'a str,
    /// Its type.
    pub vct: &'a str,
    /// Whether possession can be proved.
    pub holder_bound: bool,
    /// All its claims.
    pub claims: &'a Claims,
    /// Signed positions of array elements.
    pub positions: &'a ElementPositions,
    /// Paths of the claims that can be withheld.
    pub disclosable: BTreeSet<&'a [PathElement]>,
    /// How many claims it always shows, whatever is requested.
    pub always_shown: usize,
    /// Chosen only where no other card answers, however little it shows: as far as is known, it will be refused.
    pub last_resort: bool,
}

/// Hides the claims.
impl fmt::Debug for Candidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("id", &self.id).field("vct", &self.vct).finish_non_exhaustive()
    }
}

/// The answer to one credential query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The card, by the caller's name.
    pub candidate: String,
    /// The paths that must be disclosed, ready for [`crate::vc::HeldCredential::present`]; empty if everything
    /// requested is always visible.
    pub paths: Vec<Vec<PathElement>>,
}

/// The cards that answer a query. Nothing is sent before the person agrees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The required answers, by id of the credential query; the possible ones if none is required.
    pub credentials: BTreeMap<String, Chosen>,
    /// Possible further answers, from sets that are not required; the person may add them.
    pub optional: BTreeMap<String, Chosen>,
}

impl DcqlQuery {
    /// Chooses, for each credential query, the card and the alternative that show fewest claims; among equals the
    /// verifier's preferred alternative, then the earlier card. A card of last resort comes behind all others. Of a credential set, the verifier's first option that can
    /// be answered.
    ///
    /// An object or array requested by name is disclosed with everything in it.
    ///
    /// # Errors
    ///
    /// [`NoMatch`] if something required cannot be answered.
    ///
    /// # Specification
    ///
    /// OpenID4VP 1.0, section 6.4. Showing less takes precedence over its preference order of `claim_sets`, as it
    /// permits.
    pub fn select(&self, candidates: &[Candidate<'_>]) -> Result<Selection, NoMatch> {
        let mut answers: BTreeMap<&str, Chosen> = self
            .credentials
            .iter()
            .filter_map(|query| Some((query.id(), query.choose(candidates)?)))
            .collect();
        let mut selection = Selection::default();
        let Some(sets) = &self.sets else {
            if answers.len() < self.credentials.len() {
                return Err(NoMatch);
            }
            selection.credentials = answers.into_iter().map(|(id, chosen)| (id.to_owned(), chosen)).collect();
            return Ok(selection);
        };
        let (mut required, mut optional) = (BTreeSet::new(), BTreeSet::new());
        for set in sets {
            let answerable =
                |option: &&Vec<String>| option.iter().all(|id| answers.contains_key(id.as_str()));
            match set.options.iter().find(answerable) {
                Some(option) if set.required => required.extend(option),
                Some(option) => optional.extend(option),
                None if set.required => return Err(NoMatch),
                None => {}
            }
        }
        let mut take = |id: &String| answers.remove(id.as_str()).map(|chosen| (id.clone(), chosen));
        selection.credentials = required.into_iter().filter_map(&mut take).collect();
        selection.optional = optional.into_iter().filter_map(&mut take).collect();
        if selection.credentials.is_empty() {
            // Nothing is required: the optional answers are the answer, or there is none.
            selection.credentials = std::mem::take(&mut selection.optional);
        }
        if selection.credentials.is_empty() {
            return Err(NoMatch);
        }
        Ok(selection)
    }
}

impl CredentialQuery {
    /// The cheapest answer: no last resort, then fewest claims shown, those included that a card shows to everybody, then order of
    /// alternatives, then order of cards.
    fn choose(&self, candidates: &[Candidate<'_>]) -> Option<Chosen> {
        let answers = candidates.iter().filter(|card| self.admits(card)).flat_map(|card| {
            let shown = self.disclosures(card);
            let alternatives = self.claim_sets.iter().enumerate();
            let answers = alternatives.filter_map(move |(rank, set)| {
                let mut paths = BTreeSet::new();
                for index in set {
                    paths.extend(shown.get(*index)?.as_ref()?);
                }
                Some(((card.last_resort, paths.len() + card.always_shown, rank), card, paths))
            });
            answers.collect::<Vec<_>>()
        });
        // `min_by_key` keeps the first of several equals.
        let (_, card, paths) = answers.min_by_key(|(cost, ..)| *cost)?;
        Some(Chosen {
            candidate: card.id.clone(),
            paths: paths.into_iter().map(<[PathElement]>::to_vec).collect(),
        })
    }

    fn admits(&self, card: &Candidate<'_>) -> bool {
        self.wants(card.format, card.vct) && (card.holder_bound || !self.holder_binding)
    }

    /// What `card` must disclose for each requested claim; `None` for claims it does not have.
    fn disclosures<'a>(&self, card: &Candidate<'a>) -> Vec<Option<BTreeSet<&'a [PathElement]>>> {
        let view = View { claims: card.claims, positions: card.positions };
        let paths_of = |found: &Vec<Found<'a>>| {
            if found.is_empty() {
                return None;
            }
            let mut paths = BTreeSet::new();
            for claim in found {
                let path = claim.path.as_slice();
                for len in 1..path.len() {
                    paths.extend(path.get(..len).and_then(|above| card.disclosable.get(above)));
                }
                // Paths are ordered element by element, so everything below a path directly follows it.
                let from =
                    card.disclosable.range::<[PathElement], _>((Bound::Included(path), Bound::Unbounded));
                paths.extend(from.take_while(|below| below.starts_with(path)));
            }
            Some(paths)
        };
        self.find(view).iter().map(paths_of).collect()
    }
}
