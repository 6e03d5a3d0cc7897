//! Claims path pointers: how a query names claims (OpenID4VP 1.0, section 7).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::sd_jwt::{Claims, ElementPositions, PathElement};

/// Most claims one pointer may match; a pointer that matches more counts as matching none.
pub(super) const MAX_FOUND: usize = 4096;

/// One step of a pointer. In JSON: a string, a non-negative integer, or `null` for all elements of an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PathStep {
    /// A member of an object.
    Name(String),
    /// An element of an array, by its index as the issuer signed it.
    Index(usize),
    /// All elements of an array.
    All,
}

/// Claims, with the signed positions needed to find elements in them.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) claims: &'a Claims,
    pub(super) positions: &'a ElementPositions,
}

/// A claim that a pointer matches, with its path.
pub(super) struct Found<'a> {
    pub(super) path: Vec<PathElement>,
    pub(super) value: &'a Value,
}

impl Found<'_> {
    fn step<'b>(&self, element: PathElement, value: &'b Value) -> Found<'b> {
        let mut path = Vec::with_capacity(self.path.len().saturating_add(1));
        path.extend_from_slice(&self.path);
        path.push(element);
        Found { path, value }
    }
}

/// All claims that `pointer` matches. Empty if it matches nothing, or meets a value of the wrong type on the way.
pub(super) fn resolve<'a>(view: View<'a>, pointer: &[PathStep]) -> Vec<Found<'a>> {
    let mut steps = pointer.iter();
    let Some(PathStep::Name(first)) = steps.next() else { return Vec::new() };
    let Some(value) = view.claims.get(first) else { return Vec::new() };
    let mut found = vec![Found { path: vec![PathElement::Name(first.clone())], value }];
    for step in steps {
        let mut next = Vec::new();
        for claim in &found {
            // An issuer may make a list of any length, and a verifier may request all of it many times.
            if !advance(view, claim, step, &mut next) || next.len() > MAX_FOUND {
                return Vec::new();
            }
        }
        found = next;
    }
    found
}

/// Takes one step from `claim`; `false` if its type forbids the step, which ends the whole pointer.
fn advance<'a>(view: View<'a>, claim: &Found<'a>, step: &PathStep, next: &mut Vec<Found<'a>>) -> bool {
    match (step, claim.value) {
        (PathStep::Name(name), Value::Object(members)) => {
            if let Some(value) = members.get(name) {
                next.push(claim.step(PathElement::Name(name.clone()), value));
            }
        }
        (PathStep::Index(index), Value::Array(items)) => {
            let current = view.positions.current(&claim.path, *index);
            if let Some(value) = current.and_then(|current| items.get(current)) {
                next.push(claim.step(PathElement::Index(*index), value));
            }
        }
        (PathStep::All, Value::Array(items)) => {
            next.extend(items.iter().enumerate().map(|(current, value)| {
                claim.step(PathElement::Index(view.positions.signed(&claim.path, current)), value)
            }));
        }
        _ => return false,
    }
    true
}
