//! The content of the stores: records, mail, messages given up. For a stopped node they are opened to look.

use std::path::Path;

use einmal_didcomm::UnixSeconds;
use einmal_storage::{RECORDS_FOLDER, SEAL_FILE, mail};

use super::Finding;
use crate::{
    config::{Config, Role},
    db::Db,
    error::SetupError,
    home::{self, MAIL_FOLDER, STORE_FOLDER},
    service::self_report::Inside,
};

/// Most letters unsealed to check that they are intact.
const MAX_LETTERS: u64 = 10_000;

/// What the stores say about the node.
pub(super) fn findings(inside: &Inside, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.role == Role::Mediator {
        let looked = match inside.looked_at {
            some if some < inside.letters && some > 0 => format!(", {some} of them looked at"),
            _ => String::new(),
        };
        let detail = format!("{} letters wait{looked}, {} are damaged", inside.letters, inside.damaged);
        findings.push(if inside.damaged > 0 {
            let remedy = "look after the disk: it lost bytes. Damaged letters are skipped, the others are \
                delivered";
            Finding::failed("mail", detail, remedy)
        } else {
            Finding::ok("mail", detail)
        });
    }
    let detail = format!("{} messages were given up", inside.parked);
    findings.push(if inside.parked > 0 {
        let remedy = "look into the log for the reasons; they are kept for a week and then removed";
        Finding::note("parked", detail, remedy)
    } else {
        Finding::ok("parked", detail)
    });
    findings
}

/// Examines the stores of a stopped node.
pub(super) fn open(dir: &Path, config: &Config) -> (Vec<Finding>, Option<Inside>) {
    if let Some(finding) = reason_not_to_open(dir, config) {
        return (vec![finding], None);
    }
    let db = match home::open_store(dir, config) {
        Ok(db) => db,
        Err(error) => return (vec![Finding::of_error("store", &error)], None),
    };
    let looked = look(dir, config, &db);
    let closed = db.store().close();
    match looked.and_then(|looked| Ok(closed.map(|()| looked)?)) {
        Ok((inside, damage)) => {
            let store = Finding::ok("store", "opens");
            (std::iter::once(store).chain(damage).collect(), Some(inside))
        }
        Err(error) => (vec![Finding::of_error("store", &error)], None),
    }
}

/// Opening would create a missing store, ask in vain for a passphrase, or leave files owned by another user.
fn reason_not_to_open(dir: &Path, config: &Config) -> Option<Finding> {
    use std::os::unix::fs::MetadataExt;
    let seal = dir.join(STORE_FOLDER).join(SEAL_FILE);
    let about = match std::fs::metadata(&seal) {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let detail = format!("{} is missing", seal.display());
            let remedy = "mount the volume it lies on, or restore a backup: einmal restore FILE --dir DIR";
            return Some(Finding::failed("store", detail, remedy));
        }
        // Nothing is lost, only out of reach.
        Err(error) => return Some(Finding::of_error("store", &SetupError::input(&seal, error))),
    };
    let records = dir.join(STORE_FOLDER).join(RECORDS_FOLDER);
    match home::holds_records(&records) {
        Ok(true) => {}
        Ok(false) => {
            let missing = SetupError::Missing { path: records, what: "records of the store" };
            return Some(Finding::of_error("store", &missing));
        }
        Err(error) => return Some(Finding::of_error("store", &error)),
    }
    if about.uid() != rustix::process::geteuid().as_raw() {
        let detail = format!("not opened: it belongs to user {}", about.uid());
        return Some(Finding::note("store", detail, "run einmal doctor as that user"));
    }
    if !home::can_unlock(config) {
        let remedy = format!("set {}, or start the command from a terminal", home::PASSPHRASE_VARIABLE);
        return Some(Finding::note("store", "not opened: it is sealed by a passphrase", remedy));
    }
    None
}

fn look(dir: &Path, config: &Config, db: &Db) -> Result<(Inside, Option<Finding>), SetupError> {
    let records = Inside::of_records(db)?;
    let folder = dir.join(MAIL_FOLDER);
    if config.role != Role::Mediator {
        return Ok((records, None));
    }
    let (stored, is_bare) = (home::stored_mail_key(db)?, home::holds_nothing(&folder)?);
    if is_bare {
        let missing = SetupError::Missing { path: folder, what: "mail" };
        // Without a key it was never started.
        return Ok((records, stored.map(|_| Finding::of_error("mail", &missing))));
    }
    let Some(key) = stored else {
        let remedy = "restore a backup: without its key the mail cannot be read";
        return Ok((records, Some(Finding::failed("mail", "there is mail, but no key to it", remedy))));
    };
    match mail::inspect(&folder, &key, MAX_LETTERS) {
        Ok(found) => {
            let newest = found.newest_ms.map(|at| UnixSeconds(at / 1000)).max(records.newest);
            let mail::Inspection { letters, looked_at, damaged, .. } = found;
            Ok((Inside { letters, looked_at, damaged, newest, ..records }, None))
        }
        Err(error) => Ok((records, Some(Finding::of_error("mail", &error.into())))),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    fn states(inside: Inside, role: Role) -> Vec<(&'static str, State)> {
        findings(&inside, &Config::new(role)).iter().map(|one| (one.part, one.state)).collect()
    }

    #[test]
    fn messages_given_up_are_a_note_and_damaged_letters_are_a_failure() {
        let well = Inside { letters: 3, ..Inside::default() };
        assert_eq!(states(well, Role::Mediator), [("mail", State::Ok), ("parked", State::Ok)]);
        assert_eq!(states(well, Role::City), [("parked", State::Ok)]);
        let parked = Inside { parked: 1, ..well };
        assert_eq!(states(parked, Role::City), [("parked", State::Note)]);
        let damaged = Inside { damaged: 1, ..well };
        assert_eq!(states(damaged, Role::Mediator), [("mail", State::Failed), ("parked", State::Ok)]);
    }
}
