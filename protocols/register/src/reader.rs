//! Reads a register export line by line, within bounds, and reports every row it skips.
//!
//! A row is one physical line, because no column of a register holds a line break. So a forgotten quotation mark costs
//! only its own row and not the rest of the file, and line numbers in the report match those in an editor.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, BufRead, BufReader, Read},
};

use csv::{ReaderBuilder, StringRecord, Terminator};
use zeroize::Zeroizing;

use crate::{
    Column, Columns, Date, Person, PersonId,
    report::{BadRow, ColumnPlace, Reason, Report},
    row::{Fault, Fields, person, person_id},
};

/// Longest line in bytes, without its end: far above any real row, far below what would hurt.
pub const MAX_ROW_BYTES: usize = 8 * 1024;

/// Most data rows in one file: above the population of any German municipality except Berlin.
pub const MAX_ROWS: u64 = 2_000_000;

/// Most columns of one file.
pub const MAX_COLUMNS: usize = 128;

/// Longest field in bytes.
pub const MAX_FIELD_BYTES: usize = 255;

/// The file as a whole cannot be read. No part of it is used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file is empty.
    #[error("the register file is empty; export it again")]
    Empty,
    /// The bytes are not UTF-8; most often they are Latin-1.
    #[error("line {line} is not UTF-8; convert to UTF-8 first, for example: iconv -f ISO-8859-1 -t UTF-8")]
    NotUtf8 {
        /// Physical line, from 1.
        line: u64,
    },
    /// The first line is not a usable header: too long, too many columns, or an unclosed quote.
    #[error(
        "line {line} is not a usable header; its first line must name at most {MAX_COLUMNS} columns, separated by `delimiter` of [register]"
    )]
    Header {
        /// Physical line, from 1.
        line: u64,
    },
    /// The header lacks a column named in the configuration.
    #[error("the header has no column \"{header}\"; export it, or correct `{column}` in [register.columns]")]
    MissingColumn {
        /// What the column means.
        column: Column,
        /// The header the configuration expects.
        header: String,
    },
    /// The header has a column twice.
    #[error("the header has the column \"{header}\" twice; export each column once")]
    DuplicateColumn {
        /// What the column means.
        column: Column,
        /// The header.
        header: String,
    },
    /// More than [`MAX_ROWS`] rows.
    #[error("the file has more than {MAX_ROWS} rows; divide it")]
    TooManyRows,
    /// The source of the bytes failed.
    #[error("the register file could not be read: {kind}")]
    Io {
        /// The error of the operating system.
        kind: io::ErrorKind,
    },
}

/// The people in a register, and what was skipped.
#[derive(Debug)]
pub struct Register {
    /// Everyone with a good row, by id.
    pub people: BTreeMap<PersonId, Person>,
    /// Ids of skipped rows: one must not conclude that these people are gone.
    pub skipped: BTreeSet<PersonId>,
    /// Number of skipped rows whose id is unreadable: they may be anyone's.
    pub nameless_rows: u64,
    /// What was skipped and why.
    pub report: Report,
}

/// Reads a register export.
///
/// `input` is UTF-8 with or without byte order mark, with lines ending in LF or CRLF; the first line names the columns.
/// `today` is the day for checking births and deaths. A faulty row is skipped and reported. If several rows share an
/// id, none of them counts, because nobody knows which is right: one may hold a death. This includes faulty rows, if
/// their id is readable.
///
/// # Errors
///
/// Each [`ReadError`], for faults that leave the whole file in doubt.
pub fn read_register(input: impl Read, columns: &Columns, today: Date) -> Result<Register, ReadError> {
    let mut lines = Lines::new(input);
    let mut report = Report::default();
    let mut splitter = Splitter::new(columns.delimiter());
    let layout = match lines.next()? {
        None => return Err(ReadError::Empty),
        Some(Line { text: None, .. }) => return Err(ReadError::Header { line: 1 }),
        Some(Line { text: Some(text), .. }) => Layout::new(text, columns, &mut splitter, &mut report)?,
    };
    let mut people = BTreeMap::new();
    let mut first_lines: HashMap<PersonId, u64> = HashMap::new();
    let mut nameless_rows = 0;
    while let Some(line) = lines.next()? {
        if line.text.is_some_and(|text| text.trim().is_empty()) {
            report.blank_lines += 1;
            continue;
        }
        report.rows += 1;
        if report.rows > MAX_ROWS {
            return Err(ReadError::TooManyRows);
        }
        let row = take_row(&line, &layout, &mut splitter, &mut first_lines, today);
        nameless_rows += u64::from(row.is_nameless);
        match row.person {
            Ok(person) => {
                people.insert(person.id().clone(), person);
            }
            Err(fault) => {
                if let Some((id, first_line)) = fault.used_before()
                    && people.remove(id).is_some()
                {
                    let reason = Reason::IdUsedAgain { line: line.number };
                    let first = Fault { column: Some(Column::PersonId), reason };
                    report.refuse(layout.place(first.into(), first_line));
                }
                report.refuse(layout.place(fault, line.number));
            }
        }
    }
    // The first row of a repeated id is reported late.
    report.bad_rows.sort_by_key(|row| row.line);
    let skipped = first_lines.into_keys().filter(|id| !people.contains_key(id)).collect();
    Ok(Register { people, skipped, nameless_rows, report })
}

/// The result of one row.
struct TakenRow {
    /// Whether nobody can say whose row it is.
    is_nameless: bool,
    person: Result<Person, RowFault>,
}

fn take_row(
    line: &Line<'_>,
    layout: &Layout,
    splitter: &mut Splitter,
    first_lines: &mut HashMap<PersonId, u64>,
    today: Date,
) -> TakenRow {
    let Some(text) = line.text else {
        return TakenRow { is_nameless: true, person: Err(RowFault::row(Reason::RowTooLong)) };
    };
    let (record, whole) = splitter.split(text);
    let row = Row { record, layout };
    // Read the id even if the row is bad otherwise: another row with it must not count as the only one.
    let id = person_id(&row);
    // If the number of fields is wrong, another field may be in the place of the id.
    let is_shifted = whole.is_ok() && row.record.len() != layout.headers.len();
    let is_nameless = is_shifted || id.is_err();
    if let Ok(id) = &id {
        if let Some(&first_line) = first_lines.get(id) {
            return TakenRow { is_nameless, person: Err(RowFault::Again { id: id.clone(), first_line }) };
        }
        first_lines.insert(id.clone(), line.number);
    }
    TakenRow { is_nameless, person: whole.map_err(RowFault::row).and_then(|()| row.person(id, today)) }
}

/// Why a row was skipped. The column is given by meaning or, before meanings are known, by index.
enum RowFault {
    Row(Fault),
    Field {
        index: usize,
        reason: Reason,
    },
    /// An earlier row has the same id.
    Again {
        id: PersonId,
        first_line: u64,
    },
}

impl RowFault {
    /// The id shared with an earlier row, and the line of the first row with it.
    fn used_before(&self) -> Option<(&PersonId, u64)> {
        match self {
            Self::Again { id, first_line } => Some((id, *first_line)),
            _ => None,
        }
    }

    fn row(reason: Reason) -> Self {
        Self::Row(Fault { column: None, reason })
    }
}

impl From<Fault> for RowFault {
    fn from(fault: Fault) -> Self {
        Self::Row(fault)
    }
}

/// The index of each column in this file.
struct Layout {
    headers: Vec<String>,
    positions: BTreeMap<Column, usize>,
}

impl Layout {
    fn new(
        text: &str,
        columns: &Columns,
        splitter: &mut Splitter,
        report: &mut Report,
    ) -> Result<Self, ReadError> {
        let unusable = ReadError::Header { line: 1 };
        let (record, whole) = splitter.split(text);
        whole.map_err(|_| unusable.clone())?;
        if record.len() > MAX_COLUMNS || record.iter().any(|header| header.len() > MAX_FIELD_BYTES) {
            return Err(unusable);
        }
        let headers: Vec<String> = record.iter().map(|header| header.trim().to_owned()).collect();
        let mut positions = BTreeMap::new();
        for (column, expected) in columns.headers() {
            let mut found = (0..).zip(&headers).filter(|(_, header)| header.as_str() == expected);
            let Some((index, _)) = found.next() else {
                return Err(ReadError::MissingColumn { column, header: expected.to_owned() });
            };
            if found.next().is_some() {
                return Err(ReadError::DuplicateColumn { column, header: expected.to_owned() });
            }
            positions.insert(column, index);
        }
        let known = |header: &String| columns.headers().any(|(_, expected)| expected == header);
        report.ignored_columns = headers.iter().filter(|header| !known(header)).cloned().collect();
        Ok(Self { headers, positions })
    }

    fn place(&self, fault: RowFault, line: u64) -> BadRow {
        let (index, reason) = match fault {
            RowFault::Row(Fault { column: None, reason }) => (None, reason),
            RowFault::Row(Fault { column: Some(column), reason }) => {
                (self.positions.get(&column).copied(), reason)
            }
            RowFault::Field { index, reason } => (Some(index), reason),
            RowFault::Again { first_line, .. } => {
                (self.positions.get(&Column::PersonId).copied(), Reason::DuplicateId { first_line })
            }
        };
        let column = index.and_then(|index| {
            Some(ColumnPlace { number: index + 1, name: self.headers.get(index)?.clone() })
        });
        BadRow { line, column, reason }
    }
}

struct Row<'a> {
    record: &'a StringRecord,
    layout: &'a Layout,
}

impl Row<'_> {
    fn person(&self, id: Result<PersonId, Fault>, today: Date) -> Result<Person, RowFault> {
        let (expected, found) = (self.layout.headers.len(), self.record.len());
        if found != expected {
            return Err(RowFault::row(Reason::WrongColumnCount { expected, found }));
        }
        self.check_fields()?;
        Ok(person(id?, self, today)?)
    }

    /// Checks length and characters of the columns that are read; the others are ignored.
    fn check_fields(&self) -> Result<(), RowFault> {
        let mut indexes: Vec<usize> = self.layout.positions.values().copied().collect();
        indexes.sort_unstable();
        for index in indexes {
            let field = self.record.get(index).unwrap_or_default();
            let unreadable = |c: char| c.is_control() || c == '\u{FFFD}';
            if field.len() > MAX_FIELD_BYTES {
                return Err(RowFault::Field { index, reason: Reason::FieldTooLong });
            }
            if field.contains(unreadable) {
                return Err(RowFault::Field { index, reason: Reason::UnreadableCharacter });
            }
        }
        Ok(())
    }
}

impl Fields for Row<'_> {
    fn field(&self, column: Column) -> &str {
        let index = self.layout.positions.get(&column);
        index.and_then(|index| self.record.get(*index)).unwrap_or_default().trim()
    }
}

/// Splits lines into fields, one line at a time, with one parser for all: building a parser costs more than a row.
struct Splitter {
    parser: csv::Reader<Feed>,
    record: StringRecord,
}

impl Splitter {
    fn new(delimiter: u8) -> Self {
        let parser = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .terminator(Terminator::Any(b'\n'))
            .from_reader(Feed::default());
        Self { parser, record: StringRecord::new() }
    }

    /// The fields of `line`, which is not blank, and whether they are complete: fields before an unclosed quote are
    /// still usable. A line end inside the last field reveals such a quote.
    fn split(&mut self, line: &str) -> (&StringRecord, Result<(), Reason>) {
        self.parser.get_mut().load(line);
        let whole = match self.parser.read_record(&mut self.record) {
            Ok(_) if self.record.iter().next_back().is_some_and(|last| last.contains('\n')) => {
                Err(Reason::UnclosedQuote)
            }
            Ok(_) => Ok(()),
            // Lines are UTF-8 and rows flexible, so only something unforeseen can fail here.
            Err(_) => {
                self.record.clear();
                Err(Reason::UnreadableCharacter)
            }
        };
        (&self.record, whole)
    }
}

/// Gives the parser one line and its end. If the parser wants more, a quote is open; then it gets a closing quote and
/// another line end, so that it never sees the end of its input and is always at the start of a row.
#[derive(Default)]
struct Feed {
    line: Zeroizing<Vec<u8>>,
    given: usize,
}

impl Feed {
    fn load(&mut self, line: &str) {
        self.line.clear();
        self.line.extend_from_slice(line.as_bytes());
        self.line.push(b'\n');
        self.given = 0;
    }
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut rest = match self.line.get(self.given..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => return b"\"\n".as_slice().read(buffer),
        };
        let read = rest.read(buffer)?;
        self.given += read;
        Ok(read)
    }
}

/// A line without its end; no text if it is too long.
struct Line<'a> {
    number: u64,
    text: Option<&'a str>,
}

/// Numbered lines of at most [`MAX_ROW_BYTES`]; for longer ones only the number is kept.
struct Lines<R> {
    input: BufReader<R>,
    buffer: Zeroizing<Vec<u8>>,
    number: u64,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> Self {
        // Reserve room for the longest line and CRLF at once, so that no copy of a row stays behind in freed memory.
        let buffer = Zeroizing::new(Vec::with_capacity(MAX_ROW_BYTES + 2));
        Self { input: BufReader::new(input), buffer, number: 0 }
    }

    fn next(&mut self) -> Result<Option<Line<'_>>, ReadError> {
        self.buffer.clear();
        let failed = |error: io::Error| ReadError::Io { kind: error.kind() };
        let limit = u64::try_from(MAX_ROW_BYTES + 2).unwrap_or(u64::MAX);
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.buffer).map_err(failed)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let ended = self.buffer.last() == Some(&b'\n');
        if !ended && self.buffer.len() == MAX_ROW_BYTES + 2 {
            self.skip_line().map_err(failed)?;
            return Ok(Some(Line { number: self.number, text: None }));
        }
        let mut line = self.buffer.as_slice();
        line = line.strip_suffix(b"\n").unwrap_or(line);
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.number == 1 {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.len() > MAX_ROW_BYTES {
            return Ok(Some(Line { number: self.number, text: None }));
        }
        let text = std::str::from_utf8(line).map_err(|_| ReadError::NotUtf8 { line: self.number })?;
        Ok(Some(Line { number: self.number, text: Some(text) }))
    }

    /// Skips to the end of the line without keeping anything.
    fn skip_line(&mut self) -> io::Result<()> {
        self.input.skip_until(b'\n').map(drop)
    }
}

#[cfg(test)]
mod tests;
