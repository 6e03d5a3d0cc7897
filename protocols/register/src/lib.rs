//! Population register extracts and credential templates: reads a city's files by rule and without side effects.
//!
//! Bytes, texts and the present day come in as arguments: nothing here opens a file, reads a clock or knows a city. The
//! way through the crate:
//!
//! ```text
//! city.toml     -> CityConfig -> Columns ─┐
//! einwohner.csv ──────────────────────────┴-> read_register -> Register { people, report }
//! templates/*   -> Template ─┐                                        │ one Person
//! a proof       -> claims ───┴-> fill  <──────────────────────────────┘  -> Filled: claims, what is disclosable
//! requests/*    -> RequestTemplate -> DCQL query, purpose, retention
//! ```
//!
//! Personal data never appears in `Debug`, in an error or in a report; a report names line and column instead.

mod city;
mod columns;
mod config;
mod countries;
mod date;
mod fill;
mod person;
mod reader;
mod report;
mod request;
mod row;
mod source;
mod template;

pub use city::{CityConfig, RegisterFile};
pub use columns::{Column, Columns, ColumnsError};
pub use config::{ConfigError, Label, MAX_CONFIG_BYTES, MAX_LABEL_BYTES, Place, Problem};
pub use countries::region_of_municipality;
pub use date::{Date, DateError, PartialDate};
pub use fill::{DisplayAttribute, FillError, Filled, Inputs, PathElement, Rule, eligible, facts, fill};
pub use person::{InvalidPersonId, MAX_PERSON_ID_LEN, Person, PersonId, Residence, Sex};
pub use reader::{MAX_COLUMNS, MAX_FIELD_BYTES, MAX_ROW_BYTES, MAX_ROWS, ReadError, Register, read_register};
pub use report::{BadRow, ColumnPlace, MAX_REPORTED_ROWS, Reason, Report};
pub use request::{MAX_QUERY_CLAIMS, MAX_QUERY_CREDENTIALS, MAX_RETENTION_DAYS, RequestTemplate, Retention};
pub use row::{MAX_AGE_YEARS, MAX_GUARDIANS, MAX_NATIONALITIES};
pub use source::{AgeBand, Source};
pub use template::{
    ClaimTemplate, Disclosure, Eligibility, MAX_CLAIMS, MAX_PATH_DEPTH, MAX_REVOCATION_REASONS,
    MAX_VALIDITY_DAYS, RevocationReason, Template,
};
