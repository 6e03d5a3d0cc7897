//! `einmal doctor`: nothing red for a healthy node, and each part red for its own reason, with the remedy.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs::{self, File, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use einmal_tests::{Einmal, Running, city_folder};
use serde_json::Value;

/// The program under test.
const EINMAL: Einmal = Einmal(env!("CARGO_BIN_EXE_einmal-under-test"));
/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(60);

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Makes a node's folder, ready to run on any free port.
fn init(folder: &Path, role: &str, flags: &[&str]) -> PathBuf {
    let dir = folder.join(role);
    let listen: &[&str] = if role == "citizen" { &[] } else { &["--listen", "127.0.0.1:0"] };
    let made = EINMAL.run(&[&["init", role, "--dir", path(&dir)], listen, flags].concat());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    dir
}

fn start(dir: &Path) -> Running {
    let node = EINMAL.start(path(dir), &[]);
    assert!(node.about.is_object(), "{} did not start", dir.display());
    node
}

fn add_to_configuration(dir: &Path, text: &str) {
    let file = dir.join("einmal.toml");
    let before = fs::read_to_string(&file).unwrap();
    // Top-level members come before the first section.
    let after = if text.starts_with('[') { format!("{before}\n{text}") } else { format!("{text}\n{before}") };
    fs::write(file, after).unwrap();
}

fn stop(mut node: Running) {
    node.signal("-TERM");
    assert_eq!(node.end(), Some(0));
}

struct Examined {
    status: i32,
    findings: Vec<Value>,
}

/// The doctor's findings; also checks that its exit status agrees.
#[track_caller]
fn examine(dir: &Path) -> Examined {
    examine_with(dir, &[])
}

#[track_caller]
fn examine_with(dir: &Path, environment: &[(&str, &str)]) -> Examined {
    let mut command = EINMAL.command(&["doctor", "--json", "--dir", path(dir)]);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let findings: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{output:?}"));
    let failed = findings.iter().any(|one| one["state"] == "failed");
    for one in &findings {
        assert_eq!(one["ok"], one["state"] != "failed", "{one}");
        assert_eq!(one["remedy"].is_string(), one["state"] != "ok", "a remedy where something is: {one}");
        assert!(one["detail"].is_string(), "{one}");
    }
    let status = output.status.code().unwrap();
    assert_eq!(status, i32::from(failed), "{findings:#?}");
    Examined { status, findings }
}

impl Examined {
    #[track_caller]
    fn part(&self, name: &str) -> &Value {
        self.findings
            .iter()
            .find(|one| one["part"] == name)
            .unwrap_or_else(|| panic!("no part {name} in {:#?}", self.findings))
    }

    fn parts(&self) -> Vec<&str> {
        self.findings.iter().filter_map(|one| one["part"].as_str()).collect()
    }

    #[track_caller]
    fn is(&self, part: &str, state: &str, detail: &str, remedy: &str) {
        let found = self.part(part);
        assert_eq!(found["state"], state, "{found}");
        assert!(found["detail"].as_str().unwrap().contains(detail), "`{detail}` is not in {found}");
        let told = found["remedy"].as_str().unwrap_or_default();
        assert!(told.contains(remedy), "`{remedy}` is not in {found}");
    }

    /// Only these parts have findings, whatever this machine's disk is like.
    #[track_caller]
    fn only(&self, parts: &[&str]) {
        let told = self.findings.iter().filter(|one| one["state"] != "ok" && one["part"] != "disk");
        let told: Vec<&str> = told.filter_map(|one| one["part"].as_str()).collect();
        assert_eq!(told, parts, "{:#?}", self.findings);
    }
}

/// Names, bytes and modes of everything in a folder, except the snapshot that sled takes of its own log whenever it
/// opens: it says nothing the log does not.
fn everything(dir: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap.")) {
            continue;
        }
        let about = fs::metadata(&path).unwrap();
        let bytes = if about.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        if about.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push((path, about.permissions().mode(), bytes));
    }
    found.sort();
    found
}

#[test]
fn a_healthy_node_that_is_stopped_is_not_red_and_is_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let dir = init(folder.path(), "mediator", &[]);
    let fresh = examine(&dir);
    fresh.only(&["process"]);
    fresh.is("process", "note", "not running", "einmal run --dir");
    fresh.is("listening", "ok", "free", "");
    assert_eq!(fresh.status, 0);
    // Also with what a run leaves behind.
    stop(start(&dir));
    let before = everything(&dir);
    examine(&dir).only(&["process"]);
    examine(&dir).is("mail", "ok", "0 letters", "");
    let after = everything(&dir);
    let names = |all: &[(PathBuf, u32, Vec<u8>)]| all.iter().map(|one| one.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after, "{} was changed", before.0.display());
    }
}

#[test]
fn a_healthy_node_that_runs_is_green_in_every_part() {
    let folder = tempfile::tempdir().unwrap();
    let description = path(city_folder()).to_owned();
    let city = init(folder.path(), "city", &["--description", &description]);
    let node = start(&city);
    let found = examine(&city);
    // None of the first rows of the register is faulty.
    found.only(&[]);
    found.is("listening", "ok", "/readyz", "");
    found.is("public-url", "ok", "the node's own", "");
    drop(node);
    let mediator = init(folder.path(), "mediator", &[]);
    let relay = start(&mediator);
    let found = examine(&mediator);
    found.only(&[]);
    found.is("public-url", "ok", "/healthz", "");
    let phone = init(folder.path(), "citizen", &["--mediator", relay.said("invitation"), "--poll-ms", "50"]);
    let _phone = start(&phone);
    let deadline = Instant::now() + PATIENCE;
    while examine(&phone).part("mediator")["state"] != "ok" {
        assert!(Instant::now() < deadline, "{:#?}", examine(&phone).findings);
    }
    examine(&phone).only(&[]);
    let lines = EINMAL.run(&["doctor", "--dir", path(&phone)]);
    let lines = String::from_utf8_lossy(&lines.stdout).into_owned();
    assert!(lines.contains("ok   mediator") && !lines.contains("FAIL"), "{lines}");
}

#[test]
fn a_mediator_that_is_gone_is_red_for_its_citizen() {
    let folder = tempfile::tempdir().unwrap();
    let mediator = init(folder.path(), "mediator", &[]);
    let relay = start(&mediator);
    let phone = init(folder.path(), "citizen", &["--mediator", relay.said("invitation"), "--poll-ms", "50"]);
    drop(relay);
    let _phone = start(&phone);
    let deadline = Instant::now() + PATIENCE;
    while examine(&phone).part("mediator")["state"] != "failed" {
        assert!(Instant::now() < deadline, "{:#?}", examine(&phone).findings);
    }
    examine(&phone).is("mediator", "failed", "not reached", "whether the mediator runs");
}

#[test]
fn a_folder_without_node_or_with_a_broken_configuration_is_red() {
    let folder = tempfile::tempdir().unwrap();
    let found = examine(&folder.path().join("nothing"));
    assert_eq!(found.parts(), ["configuration"]);
    found.is("configuration", "failed", "holds no node", "einmal init");
    let dir = init(folder.path(), "mediator", &[]);
    add_to_configuration(&dir, "lisen = 1");
    let found = examine(&dir);
    found.only(&["configuration"]);
    found.is("configuration", "failed", "lisen", "docs/configuration.md");
}

#[test]
fn rights_of_others_are_red_or_a_note_with_the_command_that_mends_them() {
    let folder = tempfile::tempdir().unwrap();
    let dir = init(folder.path(), "mediator", &[]);
    let with = |file: &str, mode: u32| {
        let place = dir.join(file);
        let before = fs::metadata(&place).unwrap().permissions();
        fs::set_permissions(&place, Permissions::from_mode(mode)).unwrap();
        let found = examine(&dir);
        fs::set_permissions(&place, before).unwrap();
        found
    };
    with("store.key", 0o644).is("rights", "failed", "0644", "chmod 600");
    with("store.key", 0o644).is("store", "failed", "can be used by others", "chmod 600");
    with("", 0o770).is("rights", "failed", "0770", "chmod 700");
    with("", 0o755).is("rights", "note", "0755", "chmod 700");
    with("einmal.toml", 0o646).is("rights", "failed", "0646", "chmod 600");
    with("store", 0o707).is("rights", "failed", "0707", "chmod 700");
    examine(&dir).only(&["process"]);
    let _node = start(&dir);
    with("control.sock", 0o666).is("rights", "failed", "control.sock", "chmod 600");
}

#[test]
fn a_store_that_cannot_be_opened_is_red_for_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let dir = init(folder.path(), "mediator", &[]);
    let other = init(&folder.path().join("other"), "mediator", &[]);
    let key = fs::read(dir.join("store.key")).unwrap();
    fs::write(dir.join("store.key"), fs::read(other.join("store.key")).unwrap()).unwrap();
    examine(&dir).is("store", "failed", "wrong key file", "backup");
    fs::remove_file(dir.join("store.key")).unwrap();
    examine(&dir).is("store", "failed", "store.key", "restore the whole node from a backup");
    fs::write(dir.join("store.key"), key).unwrap();
    fs::set_permissions(dir.join("store.key"), Permissions::from_mode(0o600)).unwrap();
    let node = start(&dir);
    fs::remove_file(dir.join("control.sock")).unwrap();
    examine(&dir).is("store", "failed", "in use by another process", "stop the node");
    stop(node);
    fs::rename(dir.join("store"), dir.join("elsewhere")).unwrap();
    examine(&dir).is("store", "failed", "seal.json is missing", "einmal restore");
    assert!(!dir.join("store").exists(), "and no other is made");
}

#[test]
fn a_store_under_a_passphrase_is_opened_by_the_right_one_only() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("node");
    let arguments = ["init", "mediator", "--passphrase", "--dir", path(&dir), "--listen", "127.0.0.1:0"];
    let made = EINMAL.command(&arguments).env("EINMAL_PASSPHRASE", "the right one").status().unwrap();
    assert!(made.success());
    examine_with(&dir, &[("EINMAL_PASSPHRASE", "the right one")]).only(&["process"]);
    let wrong = examine_with(&dir, &[("EINMAL_PASSPHRASE", "the wrong one")]);
    wrong.is("store", "failed", "wrong passphrase", "sealed with");
    let none = examine(&dir);
    none.is("store", "note", "not opened", "EINMAL_PASSPHRASE");
}

#[test]
fn files_that_are_named_and_missing_are_red() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("description");
    let copied = std::process::Command::new("cp").arg("-r").arg(city_folder()).arg(&copy).status();
    assert!(copied.unwrap().success());
    let requests = path(&copy.join("requests")).to_owned();
    let city = init(folder.path(), "city", &["--description", path(&copy)]);
    let shop = init(folder.path(), "merchant", &["--requests", &requests]);
    examine(&shop).is("files", "note", "no issuer is trusted", "trusted_issuers");
    examine(&city).only(&["process"]);
    let description = fs::read_to_string(copy.join("city.toml")).unwrap();
    for (name, renamed) in [("einwohner.csv", "x.csv"), ("templates", "x"), ("requests", "y")] {
        let place = find(&copy, name);
        fs::rename(&place, copy.join(renamed)).unwrap();
        examine(&city).is("files", "failed", name, "name another one");
        fs::rename(copy.join(renamed), &place).unwrap();
    }
    fs::rename(&requests, copy.join("x")).unwrap();
    examine(&shop).is("files", "failed", "requests", "name another one");
    fs::write(copy.join("city.toml"), description.replace("name", "nmae")).unwrap();
    examine(&city).is("files", "failed", "nmae", "correct that file");
    let bare = init(&folder.path().join("bare"), "city", &[]);
    examine(&bare).is("files", "failed", "`description`", "[city]");
}

fn find(folder: &Path, name: &str) -> PathBuf {
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        if path.file_name().is_some_and(|own| own == name) {
            return path;
        }
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    panic!("no {name} in {}", folder.display());
}

/// A certificate for `localhost`, valid from 1 January of one year to 1 January of another.
fn certify(dir: &Path, years: (i32, i32)) {
    let mut about = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    about.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    about.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(dir.join("cert.pem"), about.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    fs::set_permissions(dir.join("key.pem"), Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_certificate_is_red_when_it_has_expired_is_missing_or_its_key_is_open_to_all() {
    let folder = tempfile::tempdir().unwrap();
    let dir = init(folder.path(), "mediator", &[]);
    add_to_configuration(&dir, "[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n");
    examine(&dir).is("certificate", "failed", "cert.pem", "[tls] certificate");
    certify(&dir, (2020, 2200));
    let found = examine(&dir);
    found.only(&["process"]);
    found.is("certificate", "ok", "valid for", "");
    fs::set_permissions(dir.join("key.pem"), Permissions::from_mode(0o604)).unwrap();
    examine(&dir).is("certificate", "failed", "key.pem", "chmod 600");
    certify(&dir, (2020, 2021));
    examine(&dir).is("certificate", "failed", "expired", "renew");
    certify(&dir, (2199, 2200));
    examine(&dir).is("certificate", "failed", "not valid yet", "clock");
}

#[test]
fn a_port_that_is_taken_is_red_for_a_stopped_node_and_not_for_the_one_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = init(folder.path(), "mediator", &[]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = dir.join("einmal.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("127.0.0.1:0", &address)).unwrap();
    examine(&dir).is("listening", "failed", &address, "stop what listens there");
    drop(taken);
    let _node = start(&dir);
    examine(&dir).only(&[]);
    fs::write(&file, text.replace("127.0.0.1:0", "0.0.0.0:0")).unwrap();
    let other = init(&folder.path().join("other"), "mediator", &[]);
    fs::write(other.join("einmal.toml"), text.replace("127.0.0.1:0", "0.0.0.0:0")).unwrap();
    examine(&other).is("listening", "failed", "how others reach", "public_url");
}

#[test]
fn addresses_that_run_would_refuse_are_red_before_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let dir = init(folder.path(), "citizen", &[]);
    let file = dir.join("einmal.toml");
    let text = fs::read_to_string(&file).unwrap();
    let set = |before: &str, behind: &str| fs::write(&file, format!("{before}{text}{behind}")).unwrap();
    set("", "\n[p2p]\nlisten = [\"0.0.0.0:4001\"]\n");
    examine(&dir).is("libp2p", "failed", "0.0.0.0:4001", "docs/configuration.md");
    set("", "\n[p2p]\nenabled = false\nlisten = [\"0.0.0.0:4001\"]\n");
    examine(&dir).only(&["process"]);
    set("listen = \"127.0.0.1:0\"\n", "");
    examine(&dir).is("listen", "failed", "a citizen listens nowhere", "leave the listening address out");
}

#[test]
fn a_public_url_that_leads_to_somebody_else_or_nowhere_is_red() {
    let folder = tempfile::tempdir().unwrap();
    let description = path(city_folder()).to_owned();
    let first = init(&folder.path().join("first"), "city", &["--description", &description]);
    let first_node = start(&first);
    let url = first_node.said("listen").replace("127.0.0.1", "http://localhost");
    let flags = ["--description", &description, "--public-url", &url];
    let second = init(&folder.path().join("second"), "city", &flags);
    let _second_node = start(&second);
    examine(&second).is("public-url", "failed", "another DID document", "public_url");
    examine(&first).only(&[]);
    drop(first_node);
    examine(&second).is("public-url", "failed", &url, "firewall");
}

#[test]
fn a_clock_behind_what_is_written_is_red() {
    let folder = tempfile::tempdir().unwrap();
    let dir = init(folder.path(), "mediator", &[]);
    let file = File::options().write(true).open(dir.join("store/seal.json")).unwrap();
    let later = file.metadata().unwrap().modified().unwrap() + Duration::from_secs(3600);
    file.set_modified(later).unwrap();
    examine(&dir).is("clock", "failed", "behind the newest", "NTP");
}

#[test]
fn mail_that_lost_bytes_is_red_for_a_stopped_node() {
    let folder = tempfile::tempdir().unwrap();
    let dir = init(folder.path(), "mediator", &[]);
    stop(start(&dir));
    examine(&dir).is("mail", "ok", "0 letters", "");
    let mail = fs::read_dir(dir.join("mail")).unwrap().map(|file| file.unwrap().path());
    let segment = mail.into_iter().find(|path| path.extension().is_some_and(|one| one == "mail")).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[3] ^= 1;
    fs::write(&segment, bytes).unwrap();
    examine(&dir).is("mail", "failed", "the head of mail file", "restore a backup");
}
