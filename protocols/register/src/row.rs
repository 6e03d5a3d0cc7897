//! From one row of the register to one person, or the first thing wrong with it.

use crate::{
    Column, Date, DateError, PartialDate, Person, PersonId, Reason, Residence, Sex,
    countries::{is_nationality, region_of_municipality},
};

/// Highest age of a living person; an earlier birth is taken as a typing error.
pub const MAX_AGE_YEARS: u16 = 125;

/// Most nationalities of one person.
pub const MAX_NATIONALITIES: usize = 8;

/// Most guardians of one person.
pub const MAX_GUARDIANS: usize = 8;

/// What is wrong with a row, and in which column, if it is a single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) column: Option<Column>,
    pub(crate) reason: Reason,
}

fn fault(column: Column, reason: Reason) -> Fault {
    Fault { column: Some(column), reason }
}

/// A row's fields by meaning, trimmed; empty for columns that are not read.
pub(crate) trait Fields {
    fn field(&self, column: Column) -> &str;
}

/// Reads only the id, because an id counts as used even if the rest of its row is bad.
pub(crate) fn person_id(row: &impl Fields) -> Result<PersonId, Fault> {
    let text = required(row, Column::PersonId)?;
    PersonId::parse(text).map_err(|_| fault(Column::PersonId, Reason::InvalidId))
}

/// Reads everything else.
pub(crate) fn person(id: PersonId, row: &impl Fields, today: Date) -> Result<Person, Fault> {
    let (family_name, given_names) = (optional(row, Column::FamilyName), optional(row, Column::GivenNames));
    if family_name.is_none() && given_names.is_none() {
        return Err(fault(Column::FamilyName, Reason::MissingValue));
    }
    let birth_date = birth_date(row, today)?;
    let sex = sex(row)?;
    let nationalities = nationalities(row)?;
    let postal_code = postal_code(row)?;
    let locality = required(row, Column::Locality)?.to_owned();
    let municipality_key = required(row, Column::MunicipalityKey)?.to_owned();
    if region_of_municipality(&municipality_key).is_none() {
        return Err(fault(Column::MunicipalityKey, Reason::NotAMunicipalityKey));
    }
    let residence = residence(row)?;
    let (moved_in, moved_out) = stay(row)?;
    let died = death_date(row, birth_date, today)?;
    Ok(Person {
        information_block: information_block(row)?,
        guardians: guardians(row, &id)?,
        id,
        family_name,
        given_names,
        call_name: optional(row, Column::CallName),
        doctorate: optional(row, Column::Doctorate),
        birth_name: optional(row, Column::BirthName),
        birth_date,
        birth_place: optional(row, Column::BirthPlace),
        sex,
        nationalities,
        street: optional(row, Column::Street),
        house_number: optional(row, Column::HouseNumber),
        house_number_suffix: optional(row, Column::HouseNumberSuffix),
        postal_code,
        locality,
        district: optional(row, Column::District),
        municipality_key,
        residence,
        moved_in,
        moved_out,
        died,
    })
}

fn optional(row: &impl Fields, column: Column) -> Option<String> {
    let text = row.field(column);
    (!text.is_empty()).then(|| text.to_owned())
}

fn required(row: &impl Fields, column: Column) -> Result<&str, Fault> {
    let text = row.field(column);
    if text.is_empty() { Err(fault(column, Reason::MissingValue)) } else { Ok(text) }
}

fn date_fault(column: Column, error: DateError) -> Fault {
    let reason = match error {
        DateError::Shape => Reason::NotADate,
        DateError::NoSuchDay => Reason::NoSuchDay,
        DateError::Incomplete => Reason::IncompleteDate,
    };
    fault(column, reason)
}

fn birth_date(row: &impl Fields, today: Date) -> Result<PartialDate, Fault> {
    let column = Column::BirthDate;
    let born = PartialDate::parse(required(row, column)?).map_err(|error| date_fault(column, error))?;
    if born.earliest().is_some_and(|day| day > today) {
        return Err(fault(column, Reason::InTheFuture));
    }
    let alive = row.field(Column::Died).is_empty();
    if alive && born.youngest_age_on(today) > MAX_AGE_YEARS {
        return Err(fault(column, Reason::ImplausibleAge));
    }
    Ok(born)
}

fn death_date(row: &impl Fields, born: PartialDate, today: Date) -> Result<Option<PartialDate>, Fault> {
    let column = Column::Died;
    let text = row.field(column);
    if text.is_empty() {
        return Ok(None);
    }
    let died = PartialDate::parse(text).map_err(|error| date_fault(column, error))?;
    if died.earliest().is_some_and(|day| day > today) {
        return Err(fault(column, Reason::InTheFuture));
    }
    match (born.earliest(), died.latest()) {
        (Some(birth), Some(death)) if death < birth => Err(fault(column, Reason::BeforeBirth)),
        _ => Ok(Some(died)),
    }
}

fn stay(row: &impl Fields) -> Result<(Option<Date>, Option<Date>), Fault> {
    let day = |column| match row.field(column) {
        "" => Ok(None),
        text => Date::parse(text).map(Some).map_err(|error| date_fault(column, error)),
    };
    let (moved_in, moved_out) = (day(Column::MovedIn)?, day(Column::MovedOut)?);
    match (moved_in, moved_out) {
        (Some(first), Some(last)) if last < first => Err(fault(Column::MovedOut, Reason::BeforeMovingIn)),
        stay => Ok(stay),
    }
}

fn sex(row: &impl Fields) -> Result<Sex, Fault> {
    match row.field(Column::Sex) {
        "m" => Ok(Sex::Male),
        "w" => Ok(Sex::Female),
        "d" => Ok(Sex::Diverse),
        "x" | "" => Ok(Sex::Unspecified),
        _ => Err(fault(Column::Sex, Reason::UnknownCode)),
    }
}

fn residence(row: &impl Fields) -> Result<Residence, Fault> {
    match required(row, Column::Residence)? {
        "alleinige Wohnung" | "Hauptwohnung" => Ok(Residence::Main),
        "Nebenwohnung" => Ok(Residence::Secondary),
        _ => Err(fault(Column::Residence, Reason::UnknownCode)),
    }
}

fn information_block(row: &impl Fields) -> Result<bool, Fault> {
    match row.field(Column::InformationBlock) {
        "ja" => Ok(true),
        "nein" | "" => Ok(false),
        _ => Err(fault(Column::InformationBlock, Reason::UnknownCode)),
    }
}

fn nationalities(row: &impl Fields) -> Result<Vec<String>, Fault> {
    let column = Column::Nationalities;
    let codes: Vec<&str> = required(row, column)?.split(',').map(str::trim).collect();
    if codes.len() > MAX_NATIONALITIES {
        return Err(fault(column, Reason::TooManyEntries));
    }
    if !codes.iter().all(|code| is_nationality(code)) {
        return Err(fault(column, Reason::UnknownNationality));
    }
    Ok(codes.into_iter().map(str::to_owned).collect())
}

fn postal_code(row: &impl Fields) -> Result<String, Fault> {
    let text = required(row, Column::PostalCode)?;
    let well_formed = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with("00");
    if well_formed { Ok(text.to_owned()) } else { Err(fault(Column::PostalCode, Reason::NotAPostalCode)) }
}

fn guardians(row: &impl Fields, of: &PersonId) -> Result<Vec<PersonId>, Fault> {
    let column = Column::Guardians;
    let text = row.field(column);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut guardians = Vec::new();
    for part in text.split(',') {
        if guardians.len() == MAX_GUARDIANS {
            return Err(fault(column, Reason::TooManyEntries));
        }
        let id = PersonId::parse(part.trim()).map_err(|_| fault(column, Reason::InvalidId))?;
        if id == *of {
            return Err(fault(column, Reason::OwnGuardian));
        }
        guardians.push(id);
    }
    Ok(guardians)
}
