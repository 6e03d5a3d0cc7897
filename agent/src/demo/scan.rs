//! Looking for personal data where none may be: every file, every log, every record once unsealed.

use std::path::Path;

use einmal_storage::TenantId;

use crate::{config::Config, home};

/// Shortest text looked for: shorter ones occur by chance.
const SHORTEST: usize = 5;

/// A text that must not be found, with a name that may be printed.
pub(super) struct Canary {
    pub(super) name: &'static str,
    text: String,
}

impl Canary {
    /// A canary, unless the text is too short to mean anything.
    pub(super) fn new(name: &'static str, text: &str) -> Option<Self> {
        (text.len() >= SHORTEST).then(|| Self { name, text: text.to_owned() })
    }

    /// The text itself; not to be printed.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn occurs_in(&self, bytes: &[u8]) -> bool {
        let needle = self.text.as_bytes();
        bytes.windows(needle.len()).any(|window| window == needle)
    }
}

/// Fails with the name of the first canary found in `bytes`.
pub(super) fn clean(place: &str, bytes: &[u8], canaries: &[Canary]) -> Result<(), String> {
    match canaries.iter().find(|canary| canary.occurs_in(bytes)) {
        Some(found) => Err(format!("{place} contains {}", found.name)),
        None => Ok(()),
    }
}

/// Scans every file below a folder; returns how many bytes were looked at.
pub(super) fn files(folder: &Path, canaries: &[Canary]) -> Result<u64, String> {
    let mut seen = 0;
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let entry = entry.map_err(|error| error.to_string())?;
        let kind = entry.file_type().map_err(|error| error.to_string())?;
        let path = entry.path();
        if kind.is_dir() {
            seen += files(&path, canaries)?;
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            clean(&path.display().to_string(), &bytes, canaries)?;
            seen += bytes.len() as u64;
        }
    }
    Ok(seen)
}

/// Opens the store of a stopped node with its own key and scans every record; returns how many there are.
///
/// Sealing alone would hide anything from a scan of the files; what the mediator itself can read must be clean too.
pub(super) fn records(
    dir: &Path,
    tables: &[einmal_storage::Table],
    canaries: &[Canary],
) -> Result<u64, String> {
    let config = Config::load(dir).map_err(|error| error.to_string())?;
    let db = home::open_store(dir, &config).map_err(|error| error.to_string())?;
    let mut count = 0;
    for table in tables {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = db
                .store()
                .scan(&TenantId::default(), *table, b"", after.as_deref(), 500)
                .map_err(|error| error.to_string())?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.id().to_vec());
            for record in &page {
                clean(&format!("a record of {table}"), record.key.id(), canaries)?;
                clean(&format!("a record of {table}"), &record.value, canaries)?;
                count += 1;
            }
        }
    }
    db.store().close().map_err(|error| error.to_string())?;
    Ok(count)
}
