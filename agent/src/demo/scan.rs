//! Searches for personal data where there must be none: every file, and every record and letter once unsealed.

use std::{
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use einmal_keys::{SystemEntropy, base64url_decode, base64url_encode};
use einmal_storage::{
    Batch,
    mail::{LogMail, MAX_LISTED, Mail, MailboxId, NewLetter, Quota},
};
use serde_json::{Value, json};

use super::canary::{Canary, Scanner};
use crate::{
    config::Config,
    db::{Db, META},
    home,
};

/// Records read at a time.
const PAGE: usize = 500;
/// Members of an encrypted envelope that anybody may read.
const JWE_MEMBERS: [&str; 5] = ["protected", "recipients", "iv", "ciphertext", "tag"];

/// Scans every file below a folder; returns how many bytes were read.
pub(super) fn files(folder: &Path, scanner: &Scanner) -> Result<u64, String> {
    let mut seen = 0;
    for (path, is_dir) in entries(folder)? {
        if is_dir {
            seen += files(&path, scanner)?;
        } else {
            let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            scanner.clean(&path.display().to_string(), &bytes)?;
            seen += bytes.len() as u64;
        }
    }
    Ok(seen)
}

/// Files and folders in a folder, and whether each is a folder.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, bool)>, String> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let entry = entry.map_err(|error| error.to_string())?;
        let kind = entry.file_type().map_err(|error| error.to_string())?;
        if kind.is_dir() || kind.is_file() {
            found.push((entry.path(), kind.is_dir()));
        }
    }
    Ok(found)
}

/// Opens the store of a stopped node with its own key and scans every record; returns how many there are.
///
/// In a scan of the files, sealing alone would hide anything; what the node itself can read must be clean too.
pub(super) fn records(dir: &Path, scanner: &Scanner) -> Result<u64, String> {
    let db = open(dir)?;
    let scanned = all_records(&db, scanner);
    db.store().close().map_err(|error| error.to_string())?;
    scanned
}

fn all_records(db: &Db, scanner: &Scanner) -> Result<u64, String> {
    let (mut count, mut last) = (0, None);
    loop {
        let page = db.store().dump(last.as_ref(), PAGE).map_err(|error| error.to_string())?;
        let Some(record) = page.last() else { return Ok(count) };
        last = Some(record.key.clone());
        for record in &page {
            let place = format!("a record of {}", record.key.table());
            scanner.clean(&place, record.key.id())?;
            scanner.clean(&place, &record.value)?;
            count += 1;
        }
    }
}

/// Unseals every letter of a stopped mediator with its own key, and fails unless each is an encrypted envelope and
/// nothing else; returns how many there are.
pub(super) fn letters(dir: &Path, scanner: &Scanner) -> Result<u64, String> {
    with_mail(dir, |mail| {
        let (mut count, mut last) = (0, None);
        loop {
            let mailboxes = mail.mailboxes(last);
            let Some(mailbox) = mailboxes.last() else { return Ok(count) };
            last = Some(*mailbox);
            for mailbox in mailboxes {
                count += letters_of(mail, mailbox, scanner)?;
            }
        }
    })
}

fn letters_of(mail: &LogMail, mailbox: MailboxId, scanner: &Scanner) -> Result<u64, String> {
    let (mut count, mut after) = (0, None);
    loop {
        let listed = mail.list(mailbox, after, MAX_LISTED, 0);
        let Some(letter) = listed.last() else { return Ok(count) };
        after = Some(letter.id);
        for letter in listed {
            let read = mail.read(mailbox, letter.id).map_err(|error| error.to_string())?;
            let payload = read.ok_or("a letter that is listed is not there")?;
            scanner.clean("a letter", &payload)?;
            envelope("a letter", &payload)?;
            count += 1;
        }
    }
}

/// Fails unless `bytes` are a JWE and nothing else: an encrypted body, and only members that anybody may read.
pub(super) fn envelope(place: &str, bytes: &[u8]) -> Result<(), String> {
    let refused = |problem: &str| Err(format!("{place} is no encrypted envelope: {problem}"));
    let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(bytes) else {
        return refused("it is no JSON object");
    };
    if members.keys().any(|name| !JWE_MEMBERS.contains(&name.as_str())) {
        return refused("it has a member that is none of a JWE");
    }
    let text = |name: &str| members.get(name).and_then(Value::as_str).and_then(base64url_decode);
    let (Some(protected), Some(ciphertext)) = (text("protected"), text("ciphertext")) else {
        return refused("it lacks its header or its ciphertext");
    };
    if ciphertext.is_empty() || serde_json::from_slice::<Value>(&ciphertext).is_ok() {
        return refused("its ciphertext can be read");
    }
    let header: Option<Value> = serde_json::from_slice(&protected).ok();
    if !header.is_some_and(|header| header.get("enc").is_some_and(Value::is_string)) {
        return refused("its header names no encryption");
    }
    if members.get("recipients").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        return refused("it is for nobody");
    }
    Ok(())
}

/// Plants `canary` in a file, a record and a letter in a copy of a stopped mediator's folder, and also an unencrypted
/// letter, and fails unless each is found: a scan that misses these proves nothing.
pub(super) fn finds_what_is_planted(dir: &Path, canary: &Canary, scanner: &Scanner) -> Result<(), String> {
    let copy = tempfile::tempdir().map_err(|error| error.to_string())?;
    let dir = {
        let to = copy.path().join("copy");
        copy_folder(dir, &to)?;
        to
    };
    let hidden = base64url_encode(json!({"body": canary.text()}).to_string());
    let found = |what: &str, scanned: Result<u64, String>, wanted: &str| match scanned {
        Err(problem) if problem.contains(wanted) => Ok(()),
        Err(problem) => Err(format!("{what} planted for a trial is not what was found: {problem}")),
        Ok(_) => Err(format!("{what} planted for a trial was not found")),
    };
    let planted = dir.join("planted");
    std::fs::write(&planted, &hidden).map_err(|error| error.to_string())?;
    found("a file", files(&dir, scanner), canary.name)?;
    std::fs::remove_file(&planted).map_err(|error| error.to_string())?;

    let mail = |payload: &str| with_mail(&dir, |mail| put(mail, payload.as_bytes().to_vec()));
    let header = base64url_encode(json!({"enc": "A256CBC-HS512"}).to_string());
    let open = json!({"protected": header, "recipients": [{}], "iv": "", "ciphertext": hidden, "tag": ""});
    mail(&open.to_string())?;
    files(&dir, scanner).map_err(|problem| format!("the mail is not sealed: {problem}"))?;
    found("a letter", letters(&dir, scanner), canary.name)?;

    plant_record(&dir, &hidden)?;
    files(&dir, scanner).map_err(|problem| format!("the store is not sealed: {problem}"))?;
    found("a record", records(&dir, scanner), canary.name)?;

    let bare = Scanner::new([]);
    found("a letter that is not encrypted", letters(&dir, &bare), "can be read")
}

fn open(dir: &Path) -> Result<Db, String> {
    let config = Config::load(dir).map_err(|error| error.to_string())?;
    home::open_store(dir, &config).map_err(|error| error.to_string())
}

fn with_mail<T>(dir: &Path, action: impl FnOnce(&LogMail) -> Result<T, String>) -> Result<T, String> {
    let db = open(dir)?;
    let mail = home::open_mail(dir, &db, &SystemEntropy).map_err(|error| error.to_string())?;
    let done = action(&mail);
    mail.close().map_err(|error| error.to_string())?;
    db.store().close().map_err(|error| error.to_string())?;
    done
}

fn put(mail: &LogMail, payload: Vec<u8>) -> Result<(), String> {
    let letter = NewLetter {
        mailbox: MailboxId([0; 20]),
        payload,
        arrived_ms: 0,
        expires_at: u64::MAX,
        quota: Quota::NONE,
        early: None,
    };
    mail.put(vec![letter]).wait().map(|_| ()).map_err(|error| error.to_string())
}

fn plant_record(dir: &Path, text: &str) -> Result<(), String> {
    let db = open(dir)?;
    let key = db.key(META, "planted").map_err(|error| error.to_string())?;
    let mut batch = Batch::new();
    batch.put(key, text.as_bytes().to_vec());
    db.store().commit(batch).wait().map_err(|error| error.to_string())?;
    db.store().close().map_err(|error| error.to_string())
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", to.display());
    std::fs::DirBuilder::new().mode(0o700).create(to).map_err(failed)?;
    for (path, is_dir) in entries(from)? {
        let target = to.join(path.file_name().unwrap_or_default());
        if is_dir {
            copy_folder(&path, &target)?;
        } else {
            std::fs::copy(&path, &target).map_err(failed)?;
        }
    }
    let mode = std::fs::metadata(from).map_err(failed)?.permissions().mode();
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;

    fn canary() -> Canary {
        Canary::new("a name", "Müller-Lüdenscheidt").unwrap()
    }

    fn mediator() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("mediator");
        home::init(&dir, &Config::new(Role::Mediator)).unwrap();
        (folder, dir)
    }

    fn sealed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let header = base64url_encode(json!({"enc": "A256GCM"}).to_string());
        let mut value =
            json!({"protected": header, "recipients": [{}], "iv": "", "ciphertext": "_wD_", "tag": ""});
        change(&mut value);
        value.to_string().into_bytes()
    }

    #[test]
    fn a_planted_canary_is_found_in_files_records_and_letters() {
        let (_folder, dir) = mediator();
        let (canary, other) = (canary(), Canary::new("an address", "Bahnhofstraße 3").unwrap());
        finds_what_is_planted(&dir, &canary, &Scanner::new([&canary])).unwrap();
        let scanner = Scanner::new([&canary, &other]);
        assert!(files(&dir, &scanner).unwrap() > 0, "the folder itself has nothing planted in it");
        assert_eq!(letters(&dir, &scanner), Ok(0));
    }

    #[test]
    fn a_scanner_that_does_not_know_the_canary_fails_the_trial() {
        let (_folder, dir) = mediator();
        let other = Canary::new("an address", "Bahnhofstraße 3").unwrap();
        let refused = finds_what_is_planted(&dir, &canary(), &Scanner::new([&other])).unwrap_err();
        assert_eq!(refused, "a file planted for a trial was not found");
    }

    #[test]
    fn sealed_letters_are_counted_and_an_open_one_is_refused() {
        let (_folder, dir) = mediator();
        let scanner = Scanner::new([&canary()]);
        with_mail(&dir, |mail| {
            put(mail, sealed(|_| {})).and_then(|()| put(mail, sealed(|v| v["tag"] = json!("AA"))))
        })
        .unwrap();
        assert_eq!(letters(&dir, &scanner), Ok(2));
        with_mail(&dir, |mail| put(mail, br#"{"body": {}}"#.to_vec())).unwrap();
        assert!(letters(&dir, &scanner).unwrap_err().contains("a letter is no encrypted envelope"));
    }

    #[test]
    fn what_is_no_encrypted_envelope_is_refused_for_what_it_lacks() {
        envelope("it", &sealed(|_| {})).unwrap();
        let cases: [(Vec<u8>, &str); 7] = [
            (b"hello".to_vec(), "no JSON object"),
            (sealed(|value| value["body"] = json!("hello")), "none of a JWE"),
            (sealed(|value| value["ciphertext"] = Value::Null), "lacks"),
            (sealed(|value| value["ciphertext"] = json!(base64url_encode("{}"))), "can be read"),
            (sealed(|value| value["ciphertext"] = json!("")), "can be read"),
            (sealed(|value| value["protected"] = json!(base64url_encode("{}"))), "names no encryption"),
            (sealed(|value| value["recipients"] = json!([])), "for nobody"),
        ];
        for (bytes, problem) in cases {
            let refused = envelope("it", &bytes).unwrap_err();
            assert!(refused.contains(problem), "{refused}");
        }
    }

    #[test]
    fn a_record_is_found_by_its_unsealed_value_only() {
        let (_folder, dir) = mediator();
        let scanner = Scanner::new([&canary()]);
        let before = records(&dir, &scanner).unwrap();
        plant_record(&dir, "nothing").unwrap();
        assert_eq!(records(&dir, &scanner), Ok(before + 1));
        plant_record(&dir, &base64url_encode(canary().text())).unwrap();
        assert!(files(&dir, &scanner).is_ok());
        assert_eq!(records(&dir, &scanner).unwrap_err(), "a record of meta contains a name");
    }
}
