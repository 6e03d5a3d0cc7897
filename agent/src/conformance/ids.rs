//! Ids of requirements: one that the catalogue does not hold does not compile.

use std::borrow::Cow;

/// The id of a requirement; it is made by [`id!`] alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(Cow<'static, str>);

impl Id {
    /// An id that is in the catalogue.
    pub(super) const fn known(id: &'static str) -> Self {
        Self(Cow::Borrowed(id))
    }

    /// The id of a point of one version of a protocol.
    pub(super) fn versioned(tag: &str, point: &str) -> Self {
        Self(Cow::Owned(format!("{tag}-{point}")))
    }

    /// The id as reports show it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id of a requirement: by its text, or by a point that all versions of mediation or of pickup have.
macro_rules! id {
    ($id:literal) => {{
        const { assert!($crate::conformance::catalogue::holds_id($id), "no requirement has this id") };
        $crate::conformance::ids::Id::known($id)
    }};
    ($dialect:expr, $point:literal) => {{
        const { assert!($crate::conformance::catalogue::holds_point($point), "no version has this point") };
        $crate::conformance::ids::Id::versioned($dialect.tag, $point)
    }};
}
pub(super) use id;
