//! The city's description, register and templates, and a merchant's request templates, read from their files.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Path, PathBuf},
};

use einmal_credentials::dcql::DcqlQuery;
use einmal_register::{CityConfig, Date, Register, RequestTemplate, Template, read_register};

use super::ids::{RequestId, TemplateId};
use crate::error::SetupError;

/// Largest template or description read, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// Most templates of one folder.
const MAX_TEMPLATES: usize = 256;

/// Everything a city reads at its start.
pub(crate) struct CityFiles {
    pub(crate) config: CityConfig,
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
    /// Reads a city's description and the files it names; its paths are relative to it.
    pub(crate) fn read(description: &Path, today: Date) -> Result<Self, SetupError> {
        let file = if description.is_dir() { description.join("city.toml") } else { description.to_owned() };
        let text = read_text(&file)?;
        let config = CityConfig::parse(&file.display().to_string(), &text)
            .map_err(|error| SetupError::input(&file, error))?;
        let folder = file.parent().unwrap_or(Path::new("."));
        let path = folder.join(config.register().file());
        let input = std::fs::File::open(&path).map_err(|error| SetupError::input(&path, error))?;
        let register = read_register(input, config.register().columns(), today)
            .map_err(|error| SetupError::input(&path, error))?;
        let templates = read_folder(&folder.join(config.templates()), |name, text| {
            Template::parse(name, text).map(|template| (TemplateId::from(template.id()), template))
        })?;
        let requests = read_requests(&folder.join(config.requests()))?;
        Ok(Self { config, register, templates, requests })
    }
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
