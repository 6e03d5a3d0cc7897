//! What is wrong with a register file: line, column and reason, never the value.

use std::fmt;

use crate::MAX_FIELD_BYTES;

/// Most bad rows listed individually; further ones are only counted.
pub const MAX_REPORTED_ROWS: usize = 1_000;

/// Why a row was skipped. The texts end with how to fix it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// More or fewer fields than the header has.
    #[error("{found} fields where the header has {expected}; quote fields that hold the delimiter")]
    WrongColumnCount {
        /// Fields of the header.
        expected: usize,
        /// Fields of the row.
        found: usize,
    },
    /// The line is longer than [`crate::MAX_ROW_BYTES`].
    #[error("the line is longer than {limit} bytes; a line break may be missing", limit = crate::MAX_ROW_BYTES)]
    RowTooLong,
    /// A quotation mark opens a field but none closes it on the same line.
    #[error(
        "a quotation mark is not closed on this line; close it, or remove the line break inside the field"
    )]
    UnclosedQuote,
    /// The field is longer than [`MAX_FIELD_BYTES`].
    #[error("longer than {MAX_FIELD_BYTES} bytes; shorten it")]
    FieldTooLong,
    /// A control character, or U+FFFD, which an earlier conversion put in place of a letter.
    #[error("holds a control or replacement character; export the row again as UTF-8")]
    UnreadableCharacter,
    /// A required value is missing.
    #[error("is empty; enter the value")]
    MissingValue,
    /// Not a person id.
    #[error("is no id; use up to 64 ASCII letters, digits and -._:")]
    InvalidId,
    /// An earlier row has the same id. Neither counts.
    #[error(
        "the id was used in line {first_line} already, so neither row counts; give each person one row and an id of their own"
    )]
    DuplicateId {
        /// Physical line of the first use.
        first_line: u64,
    },
    /// A later row has the same id. Neither counts.
    #[error(
        "the id is used again in line {line}, so neither row counts; give each person one row and an id of their own"
    )]
    IdUsedAgain {
        /// Physical line of the first other use.
        line: u64,
    },
    /// Not a date at all.
    #[error("is not a date; write dd.mm.yyyy, with 00 for what is unknown")]
    NotADate,
    /// Not a day of the calendar.
    #[error("names a day the calendar does not have; correct it")]
    NoSuchDay,
    /// Parts are unknown, but the complete date is needed.
    #[error("is incomplete; enter the whole date")]
    IncompleteDate,
    /// Born or died after today.
    #[error("lies in the future; correct it")]
    InTheFuture,
    /// Older than [`crate::MAX_AGE_YEARS`].
    #[error("makes the person older than {limit}; correct it, or enter the death", limit = crate::MAX_AGE_YEARS)]
    ImplausibleAge,
    /// Died before being born.
    #[error("lies before the birth; correct either date")]
    BeforeBirth,
    /// Moved away before moving in.
    #[error("lies before the day of moving in; correct either date")]
    BeforeMovingIn,
    /// Not a nationality code.
    #[error(
        "holds an unknown nationality; use two letters of ISO 3166-1, XXA (stateless) or XXX (unsettled)"
    )]
    UnknownNationality,
    /// Not five digits, or from 00000 to 00999.
    #[error("is no German postal code; write five digits")]
    NotAPostalCode,
    /// Not an Amtlicher Gemeindeschlüssel.
    #[error("is no municipality key; write eight digits with the leading zero")]
    NotAMunicipalityKey,
    /// Not one of the values the column may have.
    #[error("is none of the values this column may have; see the table of formats")]
    UnknownCode,
    /// More entries in a list than anyone has.
    #[error("lists too many entries; shorten it")]
    TooManyEntries,
    /// The person is named as their own guardian.
    #[error("names the person as their own guardian; enter the guardian's id")]
    OwnGuardian,
}

impl Reason {
    /// A stable word, for scripts and tests.
    pub fn code(self) -> &'static str {
        match self {
            Self::WrongColumnCount { .. } => "wrong-column-count",
            Self::RowTooLong => "row-too-long",
            Self::UnclosedQuote => "unclosed-quote",
            Self::FieldTooLong => "field-too-long",
            Self::UnreadableCharacter => "unreadable-character",
            Self::MissingValue => "missing-value",
            Self::InvalidId => "invalid-id",
            Self::DuplicateId { .. } => "duplicate-id",
            Self::IdUsedAgain { .. } => "id-used-again",
            Self::NotADate => "not-a-date",
            Self::NoSuchDay => "no-such-day",
            Self::IncompleteDate => "incomplete-date",
            Self::InTheFuture => "in-the-future",
            Self::ImplausibleAge => "implausible-age",
            Self::BeforeBirth => "before-birth",
            Self::BeforeMovingIn => "before-moving-in",
            Self::UnknownNationality => "unknown-nationality",
            Self::NotAPostalCode => "not-a-postal-code",
            Self::NotAMunicipalityKey => "not-a-municipality-key",
            Self::UnknownCode => "unknown-code",
            Self::TooManyEntries => "too-many-entries",
            Self::OwnGuardian => "own-guardian",
        }
    }
}

/// A column of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPlace {
    /// Position in the file, from 1.
    pub number: usize,
    /// Header in the file.
    pub name: String,
}

/// A row that was skipped, for the first fault found in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// Physical line of the file; the header is line 1.
    pub line: u64,
    /// The column at fault; `None` if the row as a whole is.
    pub column: Option<ColumnPlace>,
    /// What is wrong with it.
    pub reason: Reason,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            Some(place) => {
                write!(f, "line {}, column {} \"{}\": {}", self.line, place.number, place.name, self.reason)
            }
            None => write!(f, "line {}: {}", self.line, self.reason),
        }
    }
}

/// The result of reading a register.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Data rows read, good and bad, without header and blank lines.
    pub rows: u64,
    /// Rows that were skipped.
    pub bad_row_count: u64,
    /// The first [`MAX_REPORTED_ROWS`] of them, by line.
    pub bad_rows: Vec<BadRow>,
    /// Number of blank lines.
    pub blank_lines: u64,
    /// Headers of the file that the configuration does not name; their columns were not read.
    pub ignored_columns: Vec<String>,
}

impl Report {
    pub(crate) fn refuse(&mut self, row: BadRow) {
        self.bad_row_count += 1;
        if self.bad_rows.len() < MAX_REPORTED_ROWS {
            self.bad_rows.push(row);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rows: {} read, {} skipped",
            self.rows,
            self.rows - self.bad_row_count,
            self.bad_row_count
        )?;
        for row in &self.bad_rows {
            write!(f, "\n{row}")?;
        }
        let listed = u64::try_from(self.bad_rows.len()).unwrap_or(u64::MAX);
        if self.bad_row_count > listed {
            write!(f, "\nand {} more", self.bad_row_count - listed)?;
        }
        if self.blank_lines > 0 {
            write!(f, "\n{} blank lines", self.blank_lines)?;
        }
        if !self.ignored_columns.is_empty() {
            write!(f, "\ncolumns not read: {}", self.ignored_columns.join(", "))?;
        }
        Ok(())
    }
}
