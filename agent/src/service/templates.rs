//! The city's description, register and templates, and a merchant's request templates, read from their files.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Path, PathBuf},
};

use einmal_credentials::dcql::DcqlQuery;
use einmal_didcomm::UnixSeconds;
use einmal_register::{
    CityConfig, ConfigError, Date, Place, Problem, Register, RequestTemplate, Source, Template, read_register,
};
use serde_json::Value;

use super::{
    calendar::Calendar,
    ids::{RequestId, TemplateId},
};
use crate::{error::SetupError, handler::Failure};

/// Largest template or description read, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// Most templates of one folder.
const MAX_TEMPLATES: usize = 256;

/// Everything a city reads at its start.
pub(crate) struct CityFiles {
    pub(crate) config: CityConfig,
    pub(crate) calendar: Calendar,
    pub(crate) register: Register,
    pub(crate) templates: BTreeMap<TemplateId, Template>,
    pub(crate) requests: BTreeMap<RequestId, RequestTemplate>,
}

impl std::fmt::Debug for CityFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CityFiles").field("people", &self.register.people.len()).finish_non_exhaustive()
    }
}

impl CityFiles {
    /// Reads a city's description and what it names as it is at `now`; paths in it are relative to it.
    pub(crate) fn read(description: &Path, now: UnixSeconds) -> Result<Self, SetupError> {
        let file = if description.is_dir() { description.join("city.toml") } else { description.to_owned() };
        let text = read_text(&file)?;
        let config = CityConfig::parse(&file.display().to_string(), &text)
            .map_err(|error| SetupError::input(&file, error))?;
        let calendar = calendar_of(&config, &file)?;
        let today = calendar
            .day_at(now)
            .ok_or_else(|| SetupError::internal("the clock is out of range; set it right"))?;
        let folder = file.parent().unwrap_or(Path::new("."));
        let path = folder.join(config.register().file());
        let input = std::fs::File::open(&path).map_err(|error| SetupError::input(&path, error))?;
        let register = read_register(input, config.register().columns(), today)
            .map_err(|error| SetupError::input(&path, error))?;
        let requests = read_requests(&folder.join(config.requests()))?;
        let templates = read_folder(&folder.join(config.templates()), |name, text| {
            let template = Template::parse(name, text).map_err(|error| error.to_string())?;
            check_presented(&template, &requests).map_err(|error| format!("{name}: {error}"))?;
            Ok::<_, String>((TemplateId::from(template.id()), template))
        })?;
        Ok(Self { config, calendar, register, templates, requests })
    }

    /// The day it is in the city.
    pub(crate) fn today(&self, now: UnixSeconds) -> Result<Date, Failure> {
        self.calendar.day_at(now).ok_or_else(|| Failure::later("the clock is out of range; set it right"))
    }
}

fn calendar_of(config: &CityConfig, file: &Path) -> Result<Calendar, SetupError> {
    Calendar::of(config.time_zone()).ok_or_else(|| {
        let place = Place::Key("time_zone".into());
        let error = ConfigError { file: file.display().to_string(), place, problem: Problem::TimeZone };
        SetupError::input(file, error)
    })
}

/// Checks that each claim a card takes from a presentation is asked for by some request template: else it would never be there.
fn check_presented(
    template: &Template,
    requests: &BTreeMap<RequestId, RequestTemplate>,
) -> Result<(), String> {
    for (place, path) in presented(template) {
        if !requests.values().any(|request| asks_for(request, path)) {
            let claim = path.join(".");
            return Err(format!(
                "claims[{place}].source.presented: no request template asks for `{claim}`; ask for it in the dcql_query of \
                 the one this card is offered after, or leave the claim out"
            ));
        }
    }
    Ok(())
}

/// Whether cards of a template need to know their holder again: they bar from another, or make a name for their holder.
pub(crate) fn knows_people_again(template: &Template) -> bool {
    let bars = template.revocation_reasons().iter().any(|reason| reason.bars);
    bars || template.claims().iter().any(|claim| matches!(claim.source, Source::Generated(_)))
}

/// Whether a holder who answers this request may be nobody the city knows again, though cards of `template` need that. People are
/// known by the place of their card in a status list.
///
/// Said when the offer is made, by the templates of that day; what was issued before may still turn out to be nobody's.
pub(crate) fn may_be_anybody(files: &CityFiles, template: &Template, request: &RequestTemplate) -> bool {
    let is_known = |vct: Option<&str>| {
        let admitted = |card: &&Template| vct.is_none_or(|vct| card.vct() == vct);
        files.templates.values().filter(admitted).all(Template::has_status_list)
    };
    knows_people_again(template) && !request.always_holds(is_known)
}

/// The first claim that a card takes from a presentation and this request does not ask for, as people write it.
pub(crate) fn not_asked_for(template: &Template, request: &RequestTemplate) -> Option<String> {
    presented(template).find(|(_, path)| !asks_for(request, path)).map(|(_, path)| path.join("."))
}

/// The claims a card takes from a presentation, each with its place in the template.
fn presented(template: &Template) -> impl Iterator<Item = (usize, &[String])> {
    template.claims().iter().enumerate().filter_map(|(place, claim)| match &claim.source {
        Source::Presented(path) => Some((place, path.as_slice())),
        _ => None,
    })
}

/// Whether an answer may show this claim: it is asked for, or what it lies in; or the card as it is, with what it shows to everybody.
fn asks_for(request: &RequestTemplate, claim: &[String]) -> bool {
    let list = |value: &Value, member: &str| value.get(member).and_then(Value::as_array).cloned();
    let credentials = list(request.dcql_query(), "credentials").unwrap_or_default();
    credentials.iter().any(|credential| {
        let Some(claims) = list(credential, "claims").filter(|claims| !claims.is_empty()) else {
            return true;
        };
        claims.iter().filter_map(|asked| list(asked, "path")).any(|path| {
            path.len() <= claim.len() && path.iter().zip(claim).all(|(asked, name)| asked == name)
        })
    })
}

/// Reads a folder of request templates. Each must hold a query short enough to be sent: otherwise the fault would
/// surface only when a holder takes the invitation.
pub(crate) fn read_requests(folder: &Path) -> Result<BTreeMap<RequestId, RequestTemplate>, SetupError> {
    read_folder(folder, |name, text| {
        let template = RequestTemplate::parse(name, text).map_err(|error| error.to_string())?;
        DcqlQuery::parse(&template.dcql_query().to_string())
            .map_err(|error| format!("{name}: dcql_query: {error}"))?;
        Ok::<_, String>((RequestId::from(template.id()), template))
    })
}

fn read_text(path: &Path) -> Result<String, SetupError> {
    let length = std::fs::metadata(path).map_err(|error| SetupError::input(path, error))?.len();
    if length > MAX_FILE_BYTES {
        return Err(SetupError::input(path, format!("more than {MAX_FILE_BYTES} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| SetupError::input(path, error))
}

fn read_folder<I: Clone + Ord + Display, T, E: Display>(
    folder: &Path,
    parse: impl Fn(&str, &str) -> Result<(I, T), E>,
) -> Result<BTreeMap<I, T>, SetupError> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| SetupError::input(folder, error))? {
        // Skipping an unreadable entry would let the city run with a template missing.
        let path = entry.map_err(|error| SetupError::input(folder, error))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    if files.len() > MAX_TEMPLATES {
        return Err(SetupError::input(folder, format!("more than {MAX_TEMPLATES} templates")));
    }
    let mut found = BTreeMap::new();
    for path in files {
        let (id, template) = parse(&path.display().to_string(), &read_text(&path)?)
            .map_err(|error| SetupError::input(&path, error))?;
        if found.insert(id.clone(), template).is_some() {
            return Err(SetupError::input(
                &path,
                format!("a second template with the id `{id}`; rename one"),
            ));
        }
    }
    Ok(found)
}
