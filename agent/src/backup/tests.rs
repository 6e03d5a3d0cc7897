//! Backups of other formats, which no command of this version makes.

use std::fs::File;

use age::Encryptor;

use super::{
    item::{Item, Writer},
    *,
};
use crate::config::{Config, Role};

fn passphrase() -> SecretString {
    SecretString::from("seven geese under one umbrella".to_owned())
}

/// A backup of a node without records, which begins with `first`.
fn backup_of(file: &Path, first: &[Item]) {
    let sealed = Encryptor::with_user_passphrase(passphrase()).wrap_output(File::create(file).unwrap());
    let mut items = Writer::begin(sealed.unwrap()).unwrap();
    let config = toml::to_string(&Config::new(Role::Citizen)).unwrap();
    first.iter().for_each(|item| items.write(item).unwrap());
    items.write(&Item::Config(config)).unwrap();
    items.write(&Item::End { records: 0, letters: 0 }).unwrap();
    items.into_inner().finish().unwrap();
}

#[test]
fn records_of_another_store_format_are_refused_with_the_version_to_take_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let (file, dir) = (folder.path().join("x.age"), folder.path().join("node"));
    for (format, remedy) in [
        (einmal_storage::FORMAT + 1, "install a newer version"),
        (einmal_storage::FORMAT - 1, "the version it was made with"),
    ] {
        backup_of(&file, &[Item::Format(format)]);
        let refused = restore(&file, &dir, passphrase()).unwrap_err();
        assert!(matches!(refused, SetupError::Usage { .. }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains(&format!("store format {format},")) && text.contains(remedy), "{text}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the backup");
    }
}

#[test]
fn a_backup_of_this_format_or_from_before_formats_were_said_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.age");
    for (name, first) in [("a", vec![Item::Format(einmal_storage::FORMAT)]), ("b", Vec::new())] {
        backup_of(&file, &first);
        let restored = restore(&file, &folder.path().join(name), passphrase()).unwrap();
        assert_eq!(restored.role, Role::Citizen);
    }
}

#[test]
fn a_format_said_twice_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.age");
    let format = || Item::Format(einmal_storage::FORMAT);
    backup_of(&file, &[format(), format()]);
    let refused = restore(&file, &folder.path().join("node"), passphrase()).unwrap_err().to_string();
    assert!(refused.contains("does not begin with a configuration"), "{refused}");
}
