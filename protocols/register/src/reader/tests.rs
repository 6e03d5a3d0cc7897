//! Registers of a few rows: what is read, what is skipped and where, and what is refused as a whole.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{PartialDate, Residence, Sex};

const HEADER: &str = "Kennung;Name;Vornamen;Geboren;Sex;Staat;Straße;Nr;PLZ;Ort;AGS;Wohnung;Einzug;Auszug;Tod;Sperre;Vertreter";
const GOOD: &str = "A-1;Weiß;Jürgen;12.03.1984;m;DE,TR;Gasse;7;35578;Wetzlar;06532023;Hauptwohnung;01.02.2003;;;nein;B-2,C-3";

fn columns() -> Columns {
    let names = [
        (Column::PersonId, "Kennung"),
        (Column::FamilyName, "Name"),
        (Column::GivenNames, "Vornamen"),
        (Column::BirthDate, "Geboren"),
        (Column::Sex, "Sex"),
        (Column::Nationalities, "Staat"),
        (Column::Street, "Straße"),
        (Column::HouseNumber, "Nr"),
        (Column::PostalCode, "PLZ"),
        (Column::Locality, "Ort"),
        (Column::MunicipalityKey, "AGS"),
        (Column::Residence, "Wohnung"),
        (Column::MovedIn, "Einzug"),
        (Column::MovedOut, "Auszug"),
        (Column::Died, "Tod"),
        (Column::InformationBlock, "Sperre"),
        (Column::Guardians, "Vertreter"),
    ];
    let headers: BTreeMap<_, _> = names.into_iter().map(|(column, name)| (column, name.to_owned())).collect();
    Columns::new(headers, b';').unwrap()
}

fn today() -> Date {
    Date::new(2026, 11, 23).unwrap()
}

fn read(bytes: impl AsRef<[u8]>) -> Result<Register, ReadError> {
    read_register(bytes.as_ref(), &columns(), today())
}

fn rows(rows: &[&str]) -> Register {
    read(format!("{HEADER}\n{}\n", rows.join("\n"))).unwrap()
}

/// The good row with one field replaced.
fn with(name: &str, value: &str) -> String {
    let index = HEADER.split(';').position(|header| header == name).unwrap();
    let mut fields: Vec<&str> = GOOD.split(';').collect();
    fields[index] = value;
    fields.join(";")
}

#[test]
fn a_good_row_is_read_in_full() {
    let register = rows(&[GOOD]);
    assert_eq!(register.report.bad_row_count, 0);
    let person = &register.people[&PersonId::parse("A-1").unwrap()];
    assert_eq!((person.family_name(), person.given_names()), (Some("Weiß"), Some("Jürgen")));
    assert_eq!(person.birth_date(), PartialDate::parse("12.03.1984").unwrap());
    assert_eq!((person.sex(), person.residence()), (Sex::Male, Residence::Main));
    assert_eq!(person.nationalities(), ["DE", "TR"]);
    assert_eq!(person.street_address().as_deref(), Some("Gasse 7"));
    assert_eq!((person.postal_code(), person.municipality_key()), ("35578", "06532023"));
    assert_eq!(person.guardians().len(), 2);
    assert_eq!(format!("{person:?} {register:?}").matches("Weiß").count(), 0);
}

#[test]
fn each_fault_is_reported_at_its_line_and_column() {
    let long = "x".repeat(MAX_FIELD_BYTES + 1);
    let cases = [
        ("Kennung", "", Reason::MissingValue),
        ("Kennung", "A 1", Reason::InvalidId),
        ("Geboren", "", Reason::MissingValue),
        ("Geboren", "1984", Reason::NotADate),
        ("Geboren", "31.02.1984", Reason::NoSuchDay),
        ("Geboren", "24.11.2026", Reason::InTheFuture),
        ("Geboren", "00.12.2026", Reason::InTheFuture),
        ("Geboren", "01.01.1826", Reason::ImplausibleAge),
        ("Sex", "q", Reason::UnknownCode),
        ("Staat", "", Reason::MissingValue),
        ("Staat", "DE,ZZ", Reason::UnknownNationality),
        ("Staat", "DE,", Reason::UnknownNationality),
        ("Staat", "DE,DE,DE,DE,DE,DE,DE,DE,DE", Reason::TooManyEntries),
        ("Name", &long, Reason::FieldTooLong),
        ("Vornamen", "J\u{FFFD}rgen", Reason::UnreadableCharacter),
        ("Vornamen", "J\u{7}rgen", Reason::UnreadableCharacter),
        ("PLZ", "3557", Reason::NotAPostalCode),
        ("PLZ", "00123", Reason::NotAPostalCode),
        ("PLZ", "３５５７８", Reason::NotAPostalCode),
        ("Ort", "", Reason::MissingValue),
        ("AGS", "17000000", Reason::NotAMunicipalityKey),
        ("Wohnung", "Zelt", Reason::UnknownCode),
        ("Einzug", "00.02.2003", Reason::IncompleteDate),
        ("Auszug", "31.01.2003", Reason::BeforeMovingIn),
        ("Tod", "11.03.1984", Reason::BeforeBirth),
        ("Tod", "24.11.2026", Reason::InTheFuture),
        ("Sperre", "vielleicht", Reason::UnknownCode),
        ("Vertreter", "A-1", Reason::OwnGuardian),
        ("Vertreter", "B-2,,", Reason::InvalidId),
        ("Vertreter", "1,2,3,4,5,6,7,8,9", Reason::TooManyEntries),
    ];
    for (name, value, reason) in cases {
        let register = rows(&["", &with(name, value)]);
        let number = HEADER.split(';').position(|header| header == name).unwrap() + 1;
        let column = Some(ColumnPlace { number, name: name.to_owned() });
        assert_eq!(register.report.bad_rows, [BadRow { line: 3, column, reason }], "{name} = {value}");
        assert!(register.people.is_empty());
        let text = register.report.to_string();
        assert!(value.len() < 3 || !text.contains(value), "{text}");
    }
}

#[test]
fn somebody_without_any_name_is_refused_and_with_one_name_read() {
    assert_eq!(rows(&[&with("Name", "")]).people.len(), 1);
    assert_eq!(rows(&[&with("Vornamen", "  ")]).people.len(), 1);
    let nameless = with("Name", "").replace("Jürgen", "");
    assert_eq!(rows(&[&nameless]).report.bad_rows[0].reason, Reason::MissingValue);
}

#[test]
fn the_dead_may_be_older_than_the_living() {
    let row = with("Geboren", "01.01.1880").replace(";;;nein", ";;02.03.1971;nein");
    assert_eq!(rows(&[&row]).people.len(), 1);
    let unknown_day = with("Tod", "00.00.1984");
    assert!(rows(&[&unknown_day]).people.values().all(Person::is_dead));
}

#[test]
fn of_rows_with_one_id_none_counts_and_each_is_reported() {
    let register = rows(&[GOOD, &with("Name", "Schwarz"), &with("Name", "Grau")]);
    let found: Vec<_> = register.report.bad_rows.iter().map(|row| (row.line, row.reason)).collect();
    let (first, again) = (Reason::DuplicateId { first_line: 2 }, Reason::IdUsedAgain { line: 3 });
    assert_eq!(found, [(2, again), (3, first), (4, first)]);
    assert!(register.people.is_empty());
    assert_eq!(register.report.bad_row_count, 3);
}

/// Such a row may hold a death that the other does not have.
#[test]
fn an_id_before_a_quotation_mark_that_is_not_closed_counts_as_used() {
    let dead = with("Tod", "01.03.2020").replace("Weiß", "\"Weiß");
    for both in [[GOOD, &dead], [&dead, GOOD]] {
        let register = rows(&both);
        assert!(register.people.is_empty(), "{both:?}");
        assert_eq!(register.report.bad_row_count, 2);
    }
    let alone = rows(&[&dead]);
    assert_eq!(alone.report.bad_rows[0].reason, Reason::UnclosedQuote);
    let another = dead.replace("A-1", "A-2");
    assert_eq!(rows(&[GOOD, &another]).people.len(), 1);
}

#[test]
fn ids_of_skipped_rows_are_kept_and_rows_without_a_readable_one_are_counted() {
    let typo = with("Geboren", "31.02.1984").replace("A-1", "A-2");
    let nameless = with("Kennung", "\"A-3");
    let register = rows(&[GOOD, &typo, &nameless]);
    let skipped: Vec<&str> = register.skipped.iter().map(PersonId::as_str).collect();
    assert_eq!((skipped, register.nameless_rows), (vec!["A-2"], 1));
    let twice = rows(&[GOOD, GOOD]);
    assert_eq!((twice.skipped.len(), twice.nameless_rows), (1, 0));
    // With an extra field, another one may be in the place of the id.
    let shifted = format!("Anna;{GOOD}");
    assert_eq!(rows(&[&shifted]).nameless_rows, 1);
    let good = rows(&[GOOD]);
    assert_eq!((good.skipped.len(), good.nameless_rows), (0, 0));
}

#[test]
fn an_id_whose_first_row_is_bad_is_given_to_nobody() {
    let register = rows(&[&with("PLZ", "x"), GOOD]);
    assert!(register.people.is_empty());
    assert_eq!(register.report.bad_rows[1].reason, Reason::DuplicateId { first_line: 2 });
}

#[test]
fn too_few_and_too_many_fields_are_refused() {
    let short = GOOD.rsplit_once(';').unwrap().0;
    for (row, found) in [(short.to_owned(), 16), (format!("{GOOD};"), 18)] {
        let reason = Reason::WrongColumnCount { expected: 17, found };
        assert_eq!(rows(&[&row]).report.bad_rows, [BadRow { line: 2, column: None, reason }]);
    }
}

#[test]
fn quoted_fields_hold_delimiters_and_quotes() {
    let register = rows(&[&with("Straße", "\"Gut \"\"Anker\"\"; hinten\"")]);
    assert_eq!(register.people.values().next().unwrap().street(), Some("Gut \"Anker\"; hinten"));
}

#[test]
fn a_quote_left_open_costs_its_own_row_only() {
    let register = rows(&[&with("Straße", "\"Gasse"), &with("Kennung", "B-9")]);
    assert_eq!(register.report.bad_rows, [BadRow { line: 2, column: None, reason: Reason::UnclosedQuote }]);
    assert_eq!(register.people.len(), 1);
}

#[test]
fn rows_after_open_quotes_of_every_kind_are_read_as_if_alone() {
    for open in ["\"", ";\"", "x;\"a\"\"", "\"a\";\"", "a\"b", "\"a\"b", ";\"\";\";\r"] {
        let register = rows(&[open, &with("Kennung", "B-9"), open, &with("Kennung", "B-8")]);
        let read: Vec<_> = register.people.keys().map(PersonId::as_str).collect();
        assert_eq!(read, ["B-8", "B-9"], "{open}");
        assert_eq!(register.report.bad_rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 4], "{open}");
    }
}

#[test]
fn an_endless_line_costs_its_own_row_only() {
    for extra in [MAX_ROW_BYTES, MAX_ROW_BYTES * 5] {
        let register = rows(&[&with("Ort", &"x".repeat(extra)), &with("Kennung", "B-9")]);
        assert_eq!(register.report.bad_rows, [BadRow { line: 2, column: None, reason: Reason::RowTooLong }]);
        assert_eq!(register.people.len(), 1);
    }
}

#[test]
fn byte_order_mark_crlf_and_a_missing_last_line_end_are_taken() {
    let register = read(format!("\u{FEFF}{HEADER}\r\n{GOOD}\r\n \r\n{}", with("Kennung", "B-9"))).unwrap();
    assert_eq!((register.people.len(), register.report.rows, register.report.blank_lines), (2, 2, 1));
}

#[test]
fn latin_1_is_refused_with_its_line_and_the_remedy() {
    let mut bytes = format!("{HEADER}\n{GOOD}\n").into_bytes();
    bytes.extend(b"B-9;Wei\xDF;");
    let error = read(&bytes).unwrap_err();
    assert_eq!(error, ReadError::NotUtf8 { line: 3 });
    assert!(error.to_string().contains("convert to UTF-8"));
}

#[test]
fn a_header_without_a_column_names_it() {
    let error = read(HEADER.replace(";PLZ", ";Plz")).unwrap_err();
    assert_eq!(error, ReadError::MissingColumn { column: Column::PostalCode, header: "PLZ".into() });
    let error = read(HEADER.replace(";Ort", ";PLZ;Ort")).unwrap_err();
    assert_eq!(error, ReadError::DuplicateColumn { column: Column::PostalCode, header: "PLZ".into() });
    assert_eq!(read("").unwrap_err(), ReadError::Empty);
    assert_eq!(read("\nx").unwrap_err(), ReadError::Header { line: 1 });
    assert_eq!(read("\"").unwrap_err(), ReadError::Header { line: 1 });
    let wide = format!("{HEADER}{}", ";x".repeat(MAX_COLUMNS));
    assert_eq!(read(wide).unwrap_err(), ReadError::Header { line: 1 });
}

#[test]
fn columns_that_are_not_configured_are_not_read_but_named() {
    let register = read(format!("{HEADER};Religion\n{GOOD};\u{FFFD}\n")).unwrap();
    assert_eq!(register.report.ignored_columns, ["Religion"]);
    assert_eq!(register.people.len(), 1);
}

#[test]
fn more_bad_rows_than_are_listed_are_counted() {
    let bad = vec!["x"; crate::MAX_REPORTED_ROWS + 5];
    let report = rows(&bad).report;
    assert_eq!((report.bad_rows.len(), report.bad_row_count), (crate::MAX_REPORTED_ROWS, 1_005));
    assert!(report.to_string().ends_with("and 5 more"));
}

#[test]
fn a_source_that_fails_is_told_apart_from_a_bad_file() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let error = read_register(Broken, &columns(), today()).unwrap_err();
    assert_eq!(error, ReadError::Io { kind: io::ErrorKind::ConnectionReset });
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = read(&bytes);
        let mut after_header = format!("{HEADER}\n").into_bytes();
        after_header.extend(bytes);
        let _ = read(after_header);
    }

    #[test]
    fn every_row_is_either_read_or_reported(lines in proptest::collection::vec("[A-Za-z0-9;\",.ß ]{0,80}", 0..20)) {
        let register = read(format!("{HEADER}\n{GOOD}\n{}", lines.join("\n"))).unwrap();
        let read = u64::try_from(register.people.len()).unwrap();
        prop_assert_eq!(register.report.rows, read + register.report.bad_row_count);
    }

    #[test]
    fn one_changed_field_never_panics_and_never_loses_a_row(index in 0usize..17, value in "[^\n]{0,40}") {
        let mut fields: Vec<String> = GOOD.split(';').map(str::to_owned).collect();
        fields[index] = value;
        let register = read(format!("{HEADER}\n{}\n", fields.join(";"))).unwrap();
        let read = u64::try_from(register.people.len()).unwrap();
        prop_assert_eq!(register.report.rows, read + register.report.bad_row_count);
    }
}
