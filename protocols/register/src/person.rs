//! One person in the register. Personal data: wiped when dropped, never printed.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{Date, PartialDate};

/// Longest person id in bytes.
pub const MAX_PERSON_ID_LEN: usize = 64;

/// A person id is empty, too long, or has characters other than ASCII letters, digits and `-._:`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a person id is 1 to {MAX_PERSON_ID_LEN} ASCII letters, digits or any of -._: ")]
pub struct InvalidPersonId;

/// The register's own id of a person. It never enters a credential; `Debug` hides it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Zeroize, ZeroizeOnDrop)]
pub struct PersonId(String);

impl PersonId {
    /// Checks and wraps an id.
    ///
    /// # Errors
    ///
    /// [`InvalidPersonId`] for anything but 1 to [`MAX_PERSON_ID_LEN`] ASCII letters, digits and `-._:`.
    pub fn parse(text: &str) -> Result<Self, InvalidPersonId> {
        let permitted = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        if text.is_empty() || text.len() > MAX_PERSON_ID_LEN || !text.bytes().all(permitted) {
            return Err(InvalidPersonId);
        }
        Ok(Self(text.to_owned()))
    }

    /// The id as the register writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonId(..)")
    }
}

/// Sex as recorded in the register.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sex {
    /// `m`
    Male,
    /// `w`
    Female,
    /// `d`: divers
    Diverse,
    /// `x`, or nothing entered
    Unspecified,
}

impl fmt::Debug for Sex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sex(..)")
    }
}

/// Whether the home is the person's only or main one. Both count as main.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residence {
    /// `Hauptwohnung` or `alleinige Wohnung`
    Main,
    /// `Nebenwohnung`
    Secondary,
}

/// A person in the register. Texts are trimmed, and empty ones are `None`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Person {
    pub(crate) id: PersonId,
    pub(crate) family_name: Option<String>,
    pub(crate) given_names: Option<String>,
    pub(crate) call_name: Option<String>,
    pub(crate) doctorate: Option<String>,
    pub(crate) birth_name: Option<String>,
    pub(crate) birth_date: PartialDate,
    pub(crate) birth_place: Option<String>,
    #[zeroize(skip)]
    pub(crate) sex: Sex,
    pub(crate) nationalities: Vec<String>,
    pub(crate) street: Option<String>,
    pub(crate) house_number: Option<String>,
    pub(crate) house_number_suffix: Option<String>,
    pub(crate) postal_code: String,
    pub(crate) locality: String,
    pub(crate) district: Option<String>,
    pub(crate) municipality_key: String,
    #[zeroize(skip)]
    pub(crate) residence: Residence,
    pub(crate) moved_in: Option<Date>,
    pub(crate) moved_out: Option<Date>,
    pub(crate) died: Option<PartialDate>,
    pub(crate) information_block: bool,
    pub(crate) guardians: Vec<PersonId>,
}

impl Person {
    /// The register's id.
    pub fn id(&self) -> &PersonId {
        &self.id
    }

    /// Family name with its particles; a person with one name may have none.
    pub fn family_name(&self) -> Option<&str> {
        self.family_name.as_deref()
    }

    /// All given names, in order; a person with one name may have none.
    pub fn given_names(&self) -> Option<&str> {
        self.given_names.as_deref()
    }

    /// The given name the person goes by, if the register marks one.
    pub fn call_name(&self) -> Option<&str> {
        self.call_name.as_deref()
    }

    /// Doctor's degree, such as `Dr.`.
    pub fn doctorate(&self) -> Option<&str> {
        self.doctorate.as_deref()
    }

    /// Family name at birth, if it differs.
    pub fn birth_name(&self) -> Option<&str> {
        self.birth_name.as_deref()
    }

    /// Birth date, as far as it is known.
    pub fn birth_date(&self) -> PartialDate {
        self.birth_date
    }

    /// Place of birth.
    pub fn birth_place(&self) -> Option<&str> {
        self.birth_place.as_deref()
    }

    /// Sex.
    pub fn sex(&self) -> Sex {
        self.sex
    }

    /// Nationalities: ISO 3166-1 alpha-2, `XK`, or `XXA` (stateless) and `XXX` (unspecified). At least one.
    pub fn nationalities(&self) -> &[String] {
        &self.nationalities
    }

    /// Street, or a text instead, such as "ohne festen Wohnsitz".
    pub fn street(&self) -> Option<&str> {
        self.street.as_deref()
    }

    /// House number without suffix.
    pub fn house_number(&self) -> Option<&str> {
        self.house_number.as_deref()
    }

    /// Suffix of the house number.
    pub fn house_number_suffix(&self) -> Option<&str> {
        self.house_number_suffix.as_deref()
    }

    /// Street, house number and suffix as written on a letter; `None` without a street.
    pub fn street_address(&self) -> Option<String> {
        let mut address = self.street.clone()?;
        if let Some(number) = &self.house_number {
            address.push(' ');
            address.push_str(number);
            if let Some(suffix) = &self.house_number_suffix {
                address.push_str(suffix);
            }
        }
        Some(address)
    }

    /// Five digits.
    pub fn postal_code(&self) -> &str {
        &self.postal_code
    }

    /// Town.
    pub fn locality(&self) -> &str {
        &self.locality
    }

    /// District of the town.
    pub fn district(&self) -> Option<&str> {
        self.district.as_deref()
    }

    /// Amtlicher Gemeindeschlüssel, eight digits; the first two are a German state.
    pub fn municipality_key(&self) -> &str {
        &self.municipality_key
    }

    /// Main or secondary home.
    pub fn residence(&self) -> Residence {
        self.residence
    }

    /// First day in this home, if known; may be in the future if announced.
    pub fn moved_in(&self) -> Option<Date> {
        self.moved_in
    }

    /// Day of moving away; may be in the future if announced.
    pub fn moved_out(&self) -> Option<Date> {
        self.moved_out
    }

    /// Whether a day of death is recorded.
    pub fn is_dead(&self) -> bool {
        self.died.is_some()
    }

    /// Whether an Auskunftssperre (Federal Registration Act § 51) is recorded: nobody else may be told the address. It
    /// does not deny the person a credential of their own.
    pub fn has_information_block(&self) -> bool {
        self.information_block
    }

    /// Ids of those who act for a child; they need not be in the same register.
    pub fn guardians(&self) -> &[PersonId] {
        &self.guardians
    }

    /// Completed years on `today`; for an incomplete birth date, the lowest possible number.
    pub fn age_on(&self, today: Date) -> u16 {
        self.birth_date.youngest_age_on(today)
    }

    /// Whether the person lives in this home on `today`: moved in and not moved away.
    pub fn lives_here_on(&self, today: Date) -> bool {
        self.moved_in.is_none_or(|day| day <= today) && self.moved_out.is_none_or(|day| day > today)
    }
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Person(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_outside_the_alphabet_are_refused() {
        assert!(PersonId::parse("7K2-Q.9:x_y").is_ok());
        for text in ["", "a b", "ä", "a/b", "a\n", &"x".repeat(MAX_PERSON_ID_LEN + 1)] {
            assert_eq!(PersonId::parse(text), Err(InvalidPersonId));
        }
    }

    #[test]
    fn debug_of_an_id_hides_it() {
        assert_eq!(format!("{:?}", PersonId::parse("SECRET").unwrap()), "PersonId(..)");
    }
}
