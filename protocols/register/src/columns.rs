//! The columns of a register export, and the headers this export gives them.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;

/// The meaning of a column. The serde names are those of `[register.columns]` in a city's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Column {
    /// The register's id of the person.
    PersonId,
    /// Familienname.
    FamilyName,
    /// Vornamen.
    GivenNames,
    /// Rufname.
    CallName,
    /// Doktorgrad.
    Doctorate,
    /// Geburtsname.
    BirthName,
    /// Geburtsdatum; unknown parts are 00.
    BirthDate,
    /// Geburtsort.
    BirthPlace,
    /// Geschlecht: m, w, d, x or empty.
    Sex,
    /// Staatsangehörigkeiten: codes separated by commas.
    Nationalities,
    /// Straße.
    Street,
    /// Hausnummer.
    HouseNumber,
    /// Hausnummernzusatz.
    HouseNumberSuffix,
    /// Postleitzahl.
    PostalCode,
    /// Ort.
    Locality,
    /// Ortsteil.
    District,
    /// Amtlicher Gemeindeschlüssel.
    MunicipalityKey,
    /// Wohnungsstatus: alleinige Wohnung, Hauptwohnung, Nebenwohnung.
    Residence,
    /// Einzugsdatum.
    MovedIn,
    /// Auszugsdatum.
    MovedOut,
    /// Sterbedatum.
    Died,
    /// Auskunftssperre: ja, nein or empty.
    InformationBlock,
    /// Ids of those who act for a child, separated by commas.
    Guardians,
}

impl Column {
    /// Columns needed to decide about a card; without `died` and `moved_out`, the dead and the departed would get
    /// cards.
    const REQUIRED: [Self; 11] = [
        Self::PersonId,
        Self::FamilyName,
        Self::GivenNames,
        Self::BirthDate,
        Self::Nationalities,
        Self::PostalCode,
        Self::Locality,
        Self::MunicipalityKey,
        Self::Residence,
        Self::MovedOut,
        Self::Died,
    ];

    /// The name in configuration files.
    pub fn key(self) -> &'static str {
        match self {
            Self::PersonId => "person_id",
            Self::FamilyName => "family_name",
            Self::GivenNames => "given_names",
            Self::CallName => "call_name",
            Self::Doctorate => "doctorate",
            Self::BirthName => "birth_name",
            Self::BirthDate => "birth_date",
            Self::BirthPlace => "birth_place",
            Self::Sex => "sex",
            Self::Nationalities => "nationalities",
            Self::Street => "street",
            Self::HouseNumber => "house_number",
            Self::HouseNumberSuffix => "house_number_suffix",
            Self::PostalCode => "postal_code",
            Self::Locality => "locality",
            Self::District => "district",
            Self::MunicipalityKey => "municipality_key",
            Self::Residence => "residence",
            Self::MovedIn => "moved_in",
            Self::MovedOut => "moved_out",
            Self::Died => "died",
            Self::InformationBlock => "information_block",
            Self::Guardians => "guardians",
        }
    }

    /// Whether a credential may carry the column's value. The register's id and its notes about a person are never
    /// allowed.
    pub fn may_be_claimed(self) -> bool {
        !matches!(
            self,
            Self::PersonId
                | Self::Sex
                | Self::Residence
                | Self::MovedIn
                | Self::MovedOut
                | Self::Died
                | Self::InformationBlock
                | Self::Guardians
        )
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// A set of column names is unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ColumnsError {
    /// A column that decides who may have a card is not named.
    #[error("`{column}` is not named; add {column} = \"<header in the file>\"")]
    Missing {
        /// The column.
        column: Column,
    },
    /// Two columns have the same header, or a header is empty or has surrounding blanks.
    #[error(
        "the header of `{column}` is empty, has blanks around it or is used twice; name each column's own header"
    )]
    Header {
        /// The later of the two, or the empty one.
        column: Column,
    },
    /// The delimiter is not `;`, `,`, `|` or tab.
    #[error("the delimiter must be one of ; , | and tab")]
    Delimiter,
}

/// The headers of the columns in this export, and its delimiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    headers: BTreeMap<Column, String>,
    delimiter: u8,
}

impl Columns {
    /// Takes the header of each column to be read.
    ///
    /// # Errors
    ///
    /// Each [`ColumnsError`].
    pub fn new(headers: BTreeMap<Column, String>, delimiter: u8) -> Result<Self, ColumnsError> {
        if !b";,|\t".contains(&delimiter) {
            return Err(ColumnsError::Delimiter);
        }
        if let Some(column) = Column::REQUIRED.into_iter().find(|column| !headers.contains_key(column)) {
            return Err(ColumnsError::Missing { column });
        }
        let mut seen = std::collections::BTreeSet::new();
        for (column, header) in &headers {
            if header.is_empty() || header.trim() != header || !seen.insert(header) {
                return Err(ColumnsError::Header { column: *column });
            }
        }
        Ok(Self { headers, delimiter })
    }

    /// The columns to read with their headers.
    pub fn headers(&self) -> impl Iterator<Item = (Column, &str)> {
        self.headers.iter().map(|(column, header)| (*column, header.as_str()))
    }

    /// The byte between two fields.
    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn required() -> BTreeMap<Column, String> {
        Column::REQUIRED.into_iter().map(|column| (column, column.key().to_owned())).collect()
    }

    #[test]
    fn each_column_that_decides_is_demanded() {
        assert!(Columns::new(required(), b';').is_ok());
        for column in Column::REQUIRED {
            let mut headers = required();
            headers.remove(&column);
            assert_eq!(Columns::new(headers, b';'), Err(ColumnsError::Missing { column }));
        }
    }

    #[test]
    fn doubled_and_empty_headers_and_odd_delimiters_are_refused() {
        for header in ["", " x", "died"] {
            let mut headers = required();
            headers.insert(Column::District, header.into());
            assert!(matches!(Columns::new(headers, b';'), Err(ColumnsError::Header { .. })), "{header:?}");
        }
        assert_eq!(Columns::new(required(), b'"'), Err(ColumnsError::Delimiter));
    }

    #[test]
    fn keys_are_the_names_serde_reads() {
        for column in
            Column::REQUIRED.into_iter().chain([Column::HouseNumberSuffix, Column::InformationBlock])
        {
            let read: Column = serde_json::from_value(serde_json::json!(column.key())).unwrap();
            assert_eq!(read, column);
        }
    }
}
