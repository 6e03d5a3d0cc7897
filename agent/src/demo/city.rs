//! What the story takes from the city's folder: which card and which request play which part. The code names no city.

use std::path::{Path, PathBuf};

use einmal_register::{Column, Date, RequestTemplate, Source, Template};
use serde_json::Value;

use super::person::{Chosen, choose};
use crate::{
    clock::{Clock, SystemClock},
    error::SetupError,
    service::templates::CityFiles,
};

/// A kind of card.
pub(super) struct Kind {
    /// Id of its template.
    pub(super) template: String,
    pub(super) vct: String,
}

/// What a request asks of one card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CardQuery {
    /// Id of the query for this card.
    pub(super) query: String,
    pub(super) vcts: Vec<String>,
    /// The path of each claim, and the acceptable values if not all are.
    pub(super) claims: Vec<(Vec<String>, Option<Vec<Value>>)>,
}

/// A request template.
pub(super) struct Request {
    pub(super) template: String,
    pub(super) asked: Vec<CardQuery>,
}

/// The city's files, and the part each card and request plays.
pub(super) struct City {
    pub(super) files: CityFiles,
    pub(super) description: PathBuf,
    pub(super) requests: PathBuf,
    pub(super) today: Date,
    /// The card that carries name and age of a person of the register.
    pub(super) resident: Kind,
    /// The card that carries a pseudonym.
    pub(super) library: Kind,
    /// What must be proved before a card with a pseudonym is issued.
    pub(super) signup: Request,
    /// Asks for claims of both cards.
    pub(super) borrow: Request,
    /// Asks for one age and nothing else.
    pub(super) age: Request,
}

impl City {
    /// Reads the folder.
    pub(super) fn read(folder: &Path) -> Result<Self, SetupError> {
        let now = SystemClock.now();
        let files = CityFiles::read(folder, now)?;
        let today = files.today(now).map_err(SetupError::internal)?;
        let missing = |what: &str| SetupError::input(folder, format!("the story needs {what}"));
        let resident = kind_of(&files, is_resident_card)
            .ok_or_else(|| missing("a credential template with a name and an age of the register"))?;
        let library = kind_of(&files, is_pseudonym_card)
            .ok_or_else(|| missing("a credential template with a generated pseudonym"))?;
        let asks = |wanted: &dyn Fn(&[CardQuery]) -> bool| {
            let all = files.requests.values().map(request_of);
            all.into_iter().find(|request| wanted(&request.asked))
        };
        let names = |asked: &CardQuery, kind: &Kind| asked.vcts == [kind.vct.clone()];
        let age = asks(&|asked| matches!(asked, [one] if names(one, &resident) && asks_one_truth(one)))
            .ok_or_else(|| missing("a request for one claim of the resident card that must be true"))?;
        let signup = asks(&|asked| matches!(asked, [one] if names(one, &resident) && one.claims.len() > 1))
            .ok_or_else(|| missing("a request for several claims of the resident card"))?;
        let borrow = asks(&|asked| {
            let both = [&resident, &library].map(|kind| asked.iter().any(|one| names(one, kind)));
            both == [true, true] && asked.len() == 2
        })
        .ok_or_else(|| missing("a request for claims of both cards"))?;
        let requests = folder.join(files.config.requests());
        let description = folder.join("city.toml");
        Ok(Self { files, description, requests, today, resident, library, signup, borrow, age })
    }

    /// Two adults who may have the resident card.
    pub(super) fn two_people(&self, folder: &Path) -> Result<(Chosen, Chosen), SetupError> {
        let text = std::fs::read_to_string(folder.join(self.files.config.register().file()))
            .map_err(|error| SetupError::input(folder, error))?;
        let mut chosen = choose(&self.files, &text, self.today);
        let (Some(second), Some(first)) = (chosen.pop(), chosen.pop()) else {
            return Err(SetupError::input(
                folder,
                "the register has no two adults with names and addresses long enough to look for",
            ));
        };
        Ok((first, second))
    }

    /// A credential template that was found before.
    pub(super) fn template(&self, kind: &Kind) -> Result<&Template, String> {
        self.files
            .templates
            .get(kind.template.as_str())
            .ok_or_else(|| format!("no template `{}`", kind.template))
    }
}

fn kind_of(files: &CityFiles, plays: fn(&Template) -> bool) -> Option<Kind> {
    let template = files.templates.values().find(|template| plays(template))?;
    Some(Kind { template: template.id().to_owned(), vct: template.vct().to_owned() })
}

fn is_resident_card(template: &Template) -> bool {
    let has = |wanted: &dyn Fn(&Source) -> bool| template.claims().iter().any(|claim| wanted(&claim.source));
    has(&|source| *source == Source::Column(Column::FamilyName))
        && has(&|source| matches!(source, Source::AgeEqualOrOver { .. }))
}

fn is_pseudonym_card(template: &Template) -> bool {
    template.claims().iter().any(|claim| matches!(claim.source, Source::Generated(_)))
}

fn asks_one_truth(asked: &CardQuery) -> bool {
    matches!(asked.claims.as_slice(), [(_, Some(values))] if *values == [Value::Bool(true)])
}

fn request_of(template: &RequestTemplate) -> Request {
    Request { template: template.id().to_owned(), asked: asked_by(template.dcql_query()) }
}

/// The cards and claims named by a DCQL query.
fn asked_by(query: &Value) -> Vec<CardQuery> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    list(query.get("credentials"))
        .iter()
        .map(|credential| CardQuery {
            query: credential.get("id").map(text).unwrap_or_default(),
            vcts: list(credential.pointer("/meta/vct_values")).iter().map(text).collect(),
            claims: list(credential.get("claims"))
                .iter()
                .map(|claim| {
                    let path = list(claim.get("path")).iter().map(text).collect();
                    (path, claim.get("values").and_then(Value::as_array).cloned())
                })
                .collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_by_what_cards_and_requests_say() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/wetzlar");
        let city = City::read(&folder).unwrap();
        assert_eq!([&*city.resident.template, &*city.library.template], ["resident-card", "library-card"]);
        assert_eq!(
            [&*city.signup.template, &*city.borrow.template, &*city.age.template],
            ["library-signup", "library-accepts", "cafe-over-16"]
        );
        let (first, second) = city.two_people(&folder).unwrap();
        assert_ne!(first.id, second.id);
    }

    #[test]
    fn a_folder_without_a_part_is_named_with_what_it_lacks() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/wetzlar");
        let folder = tempfile::tempdir().unwrap();
        for name in ["templates", "requests"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let files =
            ["city.toml", "einwohner.csv", "templates/resident-card.toml", "templates/library-card.toml"];
        for name in files {
            std::fs::copy(source.join(name), folder.path().join(name)).unwrap();
        }
        let refused = City::read(folder.path()).err().unwrap().to_string();
        assert!(refused.contains("one claim of the resident card"), "{refused}");
        std::fs::remove_file(folder.path().join("templates/library-card.toml")).unwrap();
        let refused = City::read(folder.path()).err().unwrap().to_string();
        assert!(refused.contains("pseudonym"), "{refused}");
    }
}
