//! A city's configuration: its names and key, and the location of its register and templates.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    Column, Columns, ColumnsError, ConfigError, Label, Problem,
    config::{Checker, MAX_NAME_BYTES},
    countries::region_of_municipality,
    template::check_region,
};

/// A checked city configuration. Paths are relative to the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CityConfig {
    name: Label,
    ags: String,
    region: String,
    language: String,
    time_zone: Option<String>,
    issuer: Option<String>,
    templates: String,
    requests: String,
    register: RegisterFile,
}

/// Which file is the register, and how to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterFile {
    file: String,
    columns: Columns,
}

impl RegisterFile {
    /// The file, relative to the configuration.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Its columns, for [`crate::read_register`].
    pub fn columns(&self) -> &Columns {
        &self.columns
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCity {
    name: Label,
    ags: String,
    region: String,
    language: String,
    time_zone: Option<String>,
    issuer: Option<String>,
    templates: String,
    requests: String,
    register: RawRegister,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegister {
    file: String,
    delimiter: String,
    columns: BTreeMap<Column, String>,
}

impl CityConfig {
    /// Reads and checks a city's configuration. `file` is its name in errors, usually its path.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the place and how to fix it.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let (checker, raw) = Checker::parse::<RawCity>(file, text)?;
        checker.label("name", &raw.name)?;
        let of_key = region_of_municipality(&raw.ags);
        checker.demand(of_key.is_some(), "ags", Problem::MunicipalityKey)?;
        check_region(&checker, "region", &raw.region, of_key)?;
        let known = raw.name.texts().any(|(language, _)| language == raw.language);
        checker.demand(known, "language", Problem::Language)?;
        if let Some(zone) = &raw.time_zone {
            let letter = |b: u8| b.is_ascii_alphanumeric() || b"/_+-".contains(&b);
            let named = (1..=MAX_NAME_BYTES).contains(&zone.len()) && zone.bytes().all(letter);
            checker.demand(named, "time_zone", Problem::TimeZone)?;
        }
        if let Some(issuer) = &raw.issuer {
            let did = issuer.starts_with("did:") && issuer.bytes().all(|b| b.is_ascii_graphic());
            checker.demand(did, "issuer", Problem::Issuer)?;
        }
        for (key, path) in [
            ("templates", &raw.templates),
            ("requests", &raw.requests),
            ("register.file", &raw.register.file),
        ] {
            checker.text(key, path)?;
        }
        let delimiter = match raw.register.delimiter.as_bytes() {
            [byte] => *byte,
            _ => return Err(checker.refuse("register.delimiter", ColumnsError::Delimiter.into())),
        };
        let columns = Columns::new(raw.register.columns, delimiter).map_err(|error| {
            let key =
                if error == ColumnsError::Delimiter { "register.delimiter" } else { "register.columns" };
            checker.refuse(key, error.into())
        })?;
        Ok(Self {
            name: raw.name,
            ags: raw.ags,
            region: raw.region,
            language: raw.language,
            time_zone: raw.time_zone,
            issuer: raw.issuer,
            templates: raw.templates,
            requests: raw.requests,
            register: RegisterFile { file: raw.register.file, columns },
        })
    }

    /// The city's name.
    pub fn name(&self) -> &Label {
        &self.name
    }

    /// Amtlicher Gemeindeschlüssel, eight digits.
    pub fn ags(&self) -> &str {
        &self.ags
    }

    /// The German state, such as `DE-HE`; always that of the municipality key.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Language of labels for people who have not chosen one.
    pub fn language(&self) -> &str {
        &self.language
    }

    /// The time zone whose days count, by its IANA name; UTC if there is none. Whether there is a zone of that name is not known here.
    pub fn time_zone(&self) -> Option<&str> {
        self.time_zone.as_deref()
    }

    /// The issuer's DID, once the node has one.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Folder of credential templates.
    pub fn templates(&self) -> &str {
        &self.templates
    }

    /// Folder of request templates.
    pub fn requests(&self) -> &str {
        &self.requests
    }

    /// The register.
    pub fn register(&self) -> &RegisterFile {
        &self.register
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/wetzlar/city.toml"));

    fn refused(from: &str, to: &str) -> (String, Problem) {
        assert!(GOOD.contains(from), "{from}");
        let error = CityConfig::parse("city.toml", &GOOD.replace(from, to)).unwrap_err();
        (error.place.to_string(), error.problem)
    }

    #[test]
    fn the_example_is_read() {
        let city = CityConfig::parse("city.toml", GOOD).unwrap();
        assert_eq!((city.ags(), city.region(), city.language()), ("06532023", "DE-HE", "de"));
        assert_eq!(city.register().columns().headers().count(), 23);
        assert_eq!(city.time_zone(), Some("Europe/Berlin"));
        let elsewhere = CityConfig::parse("city.toml", &GOOD.replace("time_zone", "# time_zone")).unwrap();
        assert_eq!(elsewhere.time_zone(), None, "it may be missing");
    }

    #[test]
    fn each_fault_is_named_at_its_place() {
        let at = |place: &str, problem| (place.to_owned(), problem);
        assert_eq!(refused("ags = \"06532023\"", "ags = \"6532023\""), at("ags", Problem::MunicipalityKey));
        assert_eq!(refused("region = \"DE-HE\"", "region = \"DE-BY\""), at("region", Problem::Region));
        assert_eq!(refused("language = \"de\"", "language = \"tr\""), at("language", Problem::Language));
        assert_eq!(refused("Europe/Berlin", "Europe Berlin"), at("time_zone", Problem::TimeZone));
        assert_eq!(refused("# issuer = \"did:", "issuer = \"dod:"), at("issuer", Problem::Issuer));
        let delimiter = Problem::Columns(ColumnsError::Delimiter);
        assert_eq!(refused("delimiter = \";\"", "delimiter = \";;\""), at("register.delimiter", delimiter));
        let missing = Problem::Columns(ColumnsError::Missing { column: Column::Died });
        assert_eq!(refused("died = \"Sterbedatum\"\n", ""), at("register.columns", missing));
    }

    #[test]
    fn an_unknown_column_is_named_with_its_line() {
        let (place, problem) = refused("died = ", "dide = ");
        assert!(place.starts_with("line "), "{place}");
        assert!(matches!(problem, Problem::Syntax { message } if message.contains("dide")));
    }
}
