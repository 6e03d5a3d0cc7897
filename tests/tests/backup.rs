//! A backup restores a node as the same node; a backup that was tampered with restores nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    path::Path,
    process::{Command, Output},
};

use einmal::{
    config::Network,
    net::{Transport, client::HttpClient},
};
use einmal_did::Did;
use einmal_didcomm::{Attachment, Message, ReturnRoute, SenderProtection};
use einmal_tests::{Einmal, Running, Stranger};
use serde_json::{Value, json};

const PASSPHRASE: &str = "seven geese under one umbrella";

/// The program under test.
const EINMAL: Einmal = Einmal(env!("CARGO_BIN_EXE_einmal-under-test"));

fn einmal(arguments: &[&str]) -> Command {
    let mut command = EINMAL.command(arguments);
    command.env("EINMAL_BACKUP_PASSPHRASE", PASSPHRASE);
    command
}

fn run(arguments: &[&str]) -> Output {
    einmal(arguments).output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[track_caller]
fn refused(output: &Output, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(words), "`{words}` is not in: {text}");
}

fn start(dir: &str) -> Running {
    EINMAL.start(dir, &["--listen", "127.0.0.1:0"])
}

fn did(node: &Running) -> Did {
    Did::parse(node.said("did")).unwrap()
}

/// Posts an envelope by HTTP; returns the answer, if any.
fn post(mediator: &Running, envelope: Vec<u8>) -> Option<Vec<u8>> {
    let network = Network { allow_private: true, allow_http: true };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = format!("http://{}", mediator.said("listen"));
    runtime.block_on(async { HttpClient::new(&network).unwrap().send(&url, envelope).await.unwrap() })
}

/// Sends a request to a running mediator by HTTP.
fn ask(mediator: &Running, who: &Stranger, mut message: Message) -> Message {
    message.return_route = Some(ReturnRoute::All);
    let envelope = who.pack(&message, SenderProtection::Authcrypt);
    who.open(&post(mediator, envelope).unwrap()).message
}

const MEDIATION: &str = "https://didcomm.org/coordinate-mediation/3.0";
const PICKUP: &str = "https://didcomm.org/messagepickup/3.0";

/// A running mediator with one letter waiting for Alice.
fn with_mail(folder: &Path, alice: &Stranger) -> (String, Running) {
    let dir = folder.join("mediator").to_str().unwrap().to_owned();
    // A fixed address, so that the DID is the same wherever the node is restored.
    done(&run(&["init", "mediator", "--dir", &dir]));
    let config = Path::new(&dir).join("einmal.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("public_url = \"http://127.0.0.1:7\"\n{text}")).unwrap();
    let mediator = start(&dir);
    let own = alice.did().to_string();
    let to = did(&mediator);
    ask(&mediator, alice, alice.message(&format!("{MEDIATION}/mediate-request"), &to, json!({})));
    let updates = json!({"updates": [{"recipient_did": own, "action": "add"}]});
    ask(&mediator, alice, alice.message(&format!("{MEDIATION}/recipient-update"), &to, updates));
    let forward = alice.forward(&to, alice.did(), json!({"ciphertext": "for Alice"}));
    let envelope = alice.pack(&forward, SenderProtection::Authcrypt);
    post(&mediator, envelope);
    (dir, mediator)
}

/// The backup of such a mediator, which no longer exists.
fn backup_with_mail(folder: &Path, alice: &Stranger) -> String {
    let (dir, mediator) = with_mail(folder, alice);
    drop(mediator);
    let file = path(folder, "good.age");
    done(&run(&["backup", "--dir", &dir, "--out", &file]));
    file
}

/// The letters waiting for Alice.
fn letters(mediator: &Running, alice: &Stranger) -> Vec<Attachment> {
    let kind = format!("{PICKUP}/delivery-request");
    ask(mediator, alice, alice.message(&kind, &did(mediator), json!({"limit": 5}))).attachments
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_mediator_backed_up_while_it_runs_comes_back_with_its_did_and_its_mail() {
    let folder = tempfile::tempdir().unwrap();
    let alice = Stranger::new(1);
    let (dir, mediator) = with_mail(folder.path(), &alice);
    let old_id = letters(&mediator, &alice)[0].id.clone();
    let file = path(folder.path(), "mediator.age");
    let written = done(&run(&["--json", "backup", "--dir", &dir, "--out", &file]));
    assert_eq!(written["letters"], 1, "{written}");
    let own = did(&mediator);
    drop(mediator);
    let again = path(folder.path(), "again");
    let restored = done(&run(&["--json", "restore", &file, "--dir", &again]));
    assert_eq!((&restored["letters"], &restored["records"]), (&json!(1), &written["records"]));
    let mediator = start(&again);
    assert_eq!(did(&mediator), own);
    // Ids given out earlier mean nothing here: they could name another letter.
    let kind = format!("{PICKUP}/messages-received");
    ask(&mediator, &alice, alice.message(&kind, &own, json!({"message_id_list": [old_id]})));
    assert_eq!(letters(&mediator, &alice)[0].to_json().unwrap(), json!({"ciphertext": "for Alice"}));
}

#[test]
fn a_stopped_node_is_backed_up_too_and_nothing_of_it_is_readable() {
    let folder = tempfile::tempdir().unwrap();
    let dir = path(folder.path(), "citizen");
    done(&run(&["init", "citizen", "--dir", &dir]));
    let file = path(folder.path(), "citizen.age");
    done(&run(&["backup", "--dir", &dir, "--out", &file]));
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(9).any(|window| window == b"[citizen]"));
    // 256 MiB to make and to read it, not whatever this machine can fill in a second.
    let recipient = bytes.split(|byte| *byte == b'\n').nth(1).unwrap();
    assert!(recipient.starts_with(b"-> scrypt ") && recipient.ends_with(b" 18"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    refused(&run(&["backup", "--dir", &dir, "--out", &file]), "is there already");
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "and was not touched");
    done(&run(&["restore", &file, "--dir", &path(folder.path(), "again")]));
}

#[test]
fn a_backup_that_cannot_be_made_is_told_alike_whether_the_node_runs_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let dir = path(folder.path(), "mediator");
    done(&run(&["init", "mediator", "--dir", &dir]));
    let (there, nowhere) = (path(folder.path(), "there.age"), path(folder.path(), "nowhere/x.age"));
    std::fs::write(&there, "something").unwrap();
    let told = || {
        let output = run(&["backup", "--dir", &dir, "--out", &there]);
        refused(&output, "is there already");
        assert_eq!(output.status.code(), Some(2));
        let output = run(&["backup", "--dir", &dir, "--out", &nowhere]);
        refused(&output, "nowhere: no file can be made here");
        assert!(!String::from_utf8_lossy(&output.stderr).contains(".part"), "a file nobody has named");
        assert_eq!(output.status.code(), Some(1));
    };
    told();
    let _node = start(&dir);
    told();
}

#[test]
fn what_the_settings_name_and_no_backup_holds_is_listed_by_restore() {
    let folder = tempfile::tempdir().unwrap();
    let dir = path(folder.path(), "mediator");
    done(&run(&["init", "mediator", "--dir", &dir]));
    let settings = Path::new(&dir).join("einmal.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    let tls = format!("[tls]\ncertificate = \"own.pem\"\nkey = {:?}\n", settings);
    std::fs::write(&settings, format!("{text}\n{tls}")).unwrap();
    let file = path(folder.path(), "x.age");
    done(&run(&["backup", "--dir", &dir, "--out", &file]));
    let again = path(folder.path(), "again");
    let output = run(&["--json", "restore", &file, "--dir", &again]);
    assert_eq!(done(&output)["missing"], json!([format!("{again}/own.pem")]), "the other is there");
    assert!(String::from_utf8_lossy(&output.stderr).contains("in no backup"));
}

#[test]
fn a_changed_cut_or_foreign_backup_restores_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let alice = Stranger::new(1);
    let file = backup_with_mail(folder.path(), &alice);
    let good = std::fs::read(&file).unwrap();
    let (bad, target) = (path(folder.path(), "bad.age"), path(folder.path(), "target"));
    let cases: [(&str, Vec<u8>); 5] = [
        ("cut by one byte", good[..good.len() - 1].to_vec()),
        ("cut in the middle", good[..good.len() / 2].to_vec()),
        ("changed near its end", {
            let mut bytes = good.clone();
            let at = bytes.len() - 40;
            bytes[at] ^= 1;
            bytes
        }),
        ("something behind it", [good.as_slice(), b"x"].concat()),
        ("no backup", b"hello".to_vec()),
    ];
    for (what, bytes) in cases {
        std::fs::write(&bad, bytes).unwrap();
        let output = run(&["restore", &bad, "--dir", &target]);
        refused(&output, "undamaged copy");
        assert!(!Path::new(&target).exists(), "{what}: something is left behind");
        assert!(!folder.path().join("target.part").exists(), "{what}: something is left behind");
    }
}

#[test]
fn an_empty_folder_that_is_there_is_filled_and_not_replaced_and_one_with_anything_in_it_is_refused() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let folder = tempfile::tempdir().unwrap();
    let alice = Stranger::new(1);
    let file = backup_with_mail(folder.path(), &alice);
    // Like a newly mounted file system.
    let mount = folder.path().join("mount");
    std::fs::create_dir_all(mount.join("lost+found")).unwrap();
    std::fs::set_permissions(&mount, std::fs::Permissions::from_mode(0o750)).unwrap();
    let before = std::fs::metadata(&mount).unwrap();
    let target = mount.to_str().unwrap();
    let bad = path(folder.path(), "bad.age");
    std::fs::write(&bad, &std::fs::read(&file).unwrap()[..1000]).unwrap();
    refused(&run(&["restore", &bad, "--dir", target]), "undamaged copy");
    assert_eq!(std::fs::read_dir(&mount).unwrap().count(), 1, "nothing is left behind");
    done(&run(&["restore", &file, "--dir", target]));
    let after = std::fs::metadata(&mount).unwrap();
    assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));
    assert!(!mount.join("restore.part").exists() && !folder.path().join("mount.part").exists());
    let mediator = start(target);
    assert_eq!(letters(&mediator, &alice).len(), 1);
    drop(mediator);
    refused(&run(&["restore", &file, "--dir", target]), "empty or not there yet");
}

#[test]
fn a_wrong_passphrase_a_short_one_and_an_occupied_folder_are_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let dir = path(folder.path(), "citizen");
    done(&run(&["init", "citizen", "--dir", &dir]));
    let file = path(folder.path(), "citizen.age");
    done(&run(&["backup", "--dir", &dir, "--out", &file]));
    let wrong = einmal(&["restore", &file, "--dir", &path(folder.path(), "x")])
        .env("EINMAL_BACKUP_PASSPHRASE", "eight geese under one umbrella")
        .output()
        .unwrap();
    refused(&wrong, "does not open this backup");
    let short = einmal(&["backup", "--dir", &dir, "--out", "x"])
        .env("EINMAL_BACKUP_PASSPHRASE", "short")
        .output()
        .unwrap();
    refused(&short, "fewer than 12");
    let none = einmal(&["backup", "--dir", &dir, "--out", "x"])
        .env_remove("EINMAL_BACKUP_PASSPHRASE")
        .output()
        .unwrap();
    refused(&none, "EINMAL_BACKUP_PASSPHRASE");
    refused(&run(&["restore", &file, "--dir", &dir]), "is not empty");
    assert!(Path::new(&dir).join("einmal.toml").exists(), "and was not touched");
}
