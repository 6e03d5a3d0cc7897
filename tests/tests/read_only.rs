//! A folder that becomes read-only under a running mediator: accepted mail is kept, other senders are told to try
//! again.
//!
//! Root can write despite permission bits, so files are made immutable, and a separate file system is turned read-only
//! as the kernel does after an error. Where neither is possible, a test says that it was skipped, and why.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use einmal_did::Did;
use einmal_tests::{Courier, Einmal, Running, Stranger};

/// Longest time for anything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
const EINMAL: Einmal = Einmal(env!("CARGO_BIN_EXE_einmal-under-test"));

/// Runs a tool; the error is its output.
fn tool(words: &[&str]) -> Result<(), String> {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("`{}` cannot be run: {error}", words[0]))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`{}`: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

fn must(words: &[&str]) {
    tool(words).unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder in which nobody can write anything, not even to open files, until this is dropped.
struct Frozen(PathBuf);

impl Frozen {
    fn new(folder: &Path) -> Self {
        must(&["chattr", "-R", "+i", text(folder)]);
        Self(folder.to_owned())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = tool(&["chattr", "-R", "-i", text(&self.0)]);
    }
}

/// Whether files can be made immutable here; if not, prints why.
fn can_freeze(folder: &Path) -> bool {
    use std::io::Write;
    let probe = folder.join("probe");
    let mut file = File::create(&probe).unwrap();
    let made = tool(&["chattr", "+i", text(&probe)]);
    let refused = file.write_all(b"x").is_err();
    let thawed = tool(&["chattr", "-i", text(&probe)]);
    let reason = match made.and(thawed) {
        Ok(()) if refused => return true,
        Ok(()) => "an open file can still be written".to_owned(),
        Err(reason) => reason,
    };
    eprintln!("skipped: files cannot be made immutable here: {reason}");
    false
}

#[track_caller]
fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "it never comes true that {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn log_of(path: &Path) -> String {
    let log = std::fs::read_to_string(path).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    log
}

fn init(dir: &Path) {
    must(&[EINMAL.0, "init", "mediator", "--dir", text(dir), "--listen", "127.0.0.1:0"]);
    // The address changes at each start; the DID must not.
    let config = dir.join("einmal.toml");
    let written = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("public_url = \"http://127.0.0.1:7\"\n{written}")).unwrap();
}

/// Starts the mediator in `dir`, with its log in the file.
fn start(dir: &Path, log: &Path) -> Running {
    let mut command = EINMAL.command(&["run", "--json", "--dir", text(dir)]);
    Running::of(command.stderr(File::options().create(true).append(true).open(log).unwrap()))
}

/// A new running mediator: its folder, its log, the process, and a client.
fn begin(folder: &Path) -> (PathBuf, PathBuf, Running, Courier) {
    let (dir, log) = (folder.join("mediator"), folder.join("log"));
    init(&dir);
    let mediator = start(&dir, &log);
    let courier = Courier::to(&mediator);
    (dir, log, mediator, courier)
}

/// Sends forwards with these texts; all must be accepted.
#[track_caller]
fn send(courier: &Courier, from: &Stranger, next: &Did, texts: &[&str]) {
    for text in texts {
        let answered = courier.forward(from, next, text);
        assert_eq!((answered.status, answered.body.len()), (200, 0), "{text}: {answered:?}");
    }
}

#[track_caller]
fn refused(courier: &Courier, from: &Stranger, next: &Did, texts: &[&str]) {
    for text in texts {
        let answered = courier.forward(from, next, text);
        assert!(answered.is_come_again(), "{text}: {answered:?}");
    }
}

#[test]
fn mail_is_refused_while_its_folder_is_read_only_and_taken_again_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    if !can_freeze(folder.path()) {
        return;
    }
    let (dir, log, mediator, courier) = begin(folder.path());
    let (alice, sender) = (Stranger::new(1), Stranger::new(2));
    courier.enrol(&alice, &[alice.did()]);
    send(&courier, &sender, alice.did(), &["one", "two", "three"]);
    let frozen = Frozen::new(&dir.join("mail"));
    refused(&courier, &sender, alice.did(), &["four", "five", "three more"]);
    assert_eq!(courier.get("/readyz").status, 503);
    assert_eq!(courier.get("/healthz").status, 200);
    let waiting = courier.letters(&alice);
    let texts: Vec<&str> = waiting.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["one", "two", "three"], "what was accepted is still delivered");
    let first = std::slice::from_ref(&waiting[0].0);
    let acknowledged = courier.acknowledge(&alice, first);
    assert!(acknowledged.is_come_again(), "what is not written down is not said: {acknowledged:?}");
    until("the log says so", || log_of(&log).contains("the disk takes no mail"));
    drop(frozen);
    until("it is ready again, although nobody sends anything", || courier.get("/readyz").status == 200);
    send(&courier, &sender, alice.did(), &["four", "six"]);
    assert_eq!(courier.texts(&alice), ["one", "two", "three", "four", "six"]);
    assert_eq!(courier.acknowledge(&alice, first).status, 200);
    mediator.signal("-KILL");
    drop(mediator);
    let mediator = start(&dir, &log);
    assert_eq!(Courier::to(&mediator).texts(&alice), ["two", "three", "four", "six"]);
    log_of(&log);
}

#[test]
fn accounts_are_refused_while_their_folder_is_read_only_and_taken_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    if !can_freeze(folder.path()) {
        return;
    }
    let (dir, log, mut mediator, courier) = begin(folder.path());
    let (alice, bob, sender) = (Stranger::new(1), Stranger::new(2), Stranger::new(3));
    let further = alice.another_did();
    courier.enrol(&alice, &[alice.did(), &further]);
    send(&courier, &sender, alice.did(), &["one"]);
    let frozen = Frozen::new(&dir.join("store"));
    for _ in 0..3 {
        let answered = courier.request_account(&bob);
        assert!(answered.is_come_again(), "{answered:?}");
    }
    assert_eq!(courier.get("/readyz").status, 503);
    // A mailbox's owner can no longer be looked up; if already known, the letter goes into the mail as always.
    refused(&courier, &sender, &further, &["two"]);
    send(&courier, &sender, alice.did(), &["three"]);
    mediator.signal("-TERM");
    assert_ne!(mediator.end(), None, "it ends by itself");
    let early = EINMAL.run(&["run", "--dir", text(&dir)]);
    assert!(!early.status.success(), "a read-only store is not opened");
    drop(frozen);
    let mediator = start(&dir, &log);
    let courier = Courier::to(&mediator);
    assert_eq!(courier.get("/readyz").status, 200);
    assert_eq!(courier.texts(&alice), ["one", "three"]);
    courier.enrol(&bob, &[bob.did()]);
    send(&courier, &sender, &further, &["two"]);
    assert_eq!(courier.texts(&alice), ["one", "three", "two"]);
    log_of(&log);
}

#[test]
fn accounts_are_taken_again_where_they_were_once_their_folder_can_be_written_by_a_node_that_nobody_restarts()
{
    let folder = tempfile::tempdir().unwrap();
    if !can_freeze(folder.path()) {
        return;
    }
    let (dir, log, mut mediator, courier) = begin(folder.path());
    let (alice, bob, sender) = (Stranger::new(1), Stranger::new(2), Stranger::new(3));
    courier.enrol(&alice, &[alice.did()]);
    send(&courier, &sender, alice.did(), &["one"]);
    let frozen = Frozen::new(&dir.join("store"));
    assert!(courier.request_account(&bob).is_come_again());
    send(&courier, &sender, alice.did(), &["two"]);
    // It checks every two seconds, and must not restart before the disk accepts writes.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!((courier.get("/readyz").status, courier.get("/healthz").status), (503, 200));
    drop(frozen);
    until("it was started anew", || log_of(&log).contains("the node is started anew"));
    until("it listens again", || courier.is_heard());
    until("it is ready again", || courier.get("/readyz").status == 200);
    courier.enrol(&bob, &[bob.did()]);
    send(&courier, &sender, bob.did(), &["three"]);
    assert_eq!(
        (courier.texts(&alice), courier.texts(&bob)),
        (vec!["one".into(), "two".into()], vec!["three".into()])
    );
    mediator.signal("-TERM");
    assert_eq!(mediator.end(), Some(0), "it stops in order, when told to");
    log_of(&log);
}

/// A mount namespace with its own ext4 file system; both end with the test.
struct Disk {
    keeper: Child,
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    const MIB: u64 = 128;

    /// Makes one; if impossible, prints why.
    fn new(folder: &Path) -> Option<Self> {
        let disk = Self::make(folder);
        if let Err(reason) = &disk {
            eprintln!("skipped: no file system can be mounted in a namespace here: {reason}");
        }
        disk.ok()
    }

    fn make(folder: &Path) -> Result<Self, String> {
        let (image, mount) = (folder.join("image"), folder.join("mount"));
        File::create(&image).and_then(|file| file.set_len(Self::MIB << 20)).map_err(|e| e.to_string())?;
        tool(&["mkfs.ext4", "-q", text(&image)])?;
        std::fs::create_dir(&mount).map_err(|e| e.to_string())?;
        // The first line shows that the namespace exists; the end of the input ends it.
        let mut keeper = Command::new("unshare")
            .args(["-m", "sh", "-c", "echo made; read _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("`unshare` cannot be run: {error}"))?;
        let mut made = [0; 4];
        let told = std::io::Read::read_exact(keeper.stdout.as_mut().unwrap(), &mut made);
        let disk = Self { keeper, image, mount };
        told.map_err(|_| "`unshare -m` is not permitted".to_owned())?;
        disk.tool(&disk.mounting())?;
        Ok(disk)
    }

    /// On a disk error, behave as Debian and others configure it: `errors=remount-ro`.
    fn mounting(&self) -> [&str; 5] {
        ["mount", "-o", "loop,errors=remount-ro", text(&self.image), text(&self.mount)]
    }

    fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-m", "-t", &self.keeper.id().to_string(), "--"]).args(words);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a tool in the namespace; the error is its output.
    fn tool(&self, words: &[&str]) -> Result<(), String> {
        let output = self.inside(words).output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("`{}`: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
    }

    fn start(&self, dir: &Path, log: &Path) -> Running {
        let mut command = self.inside(&[EINMAL.0, "run", "--json", "--dir", text(dir)]);
        Running::of(command.stderr(File::options().create(true).append(true).open(log).unwrap()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

#[test]
fn a_file_system_that_turns_read_only_after_an_error_loses_nothing_that_was_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::new(folder.path()) else { return };
    let (dir, log) = (disk.mount.join("mediator"), folder.path().join("log"));
    disk.tool(&[EINMAL.0, "init", "mediator", "--dir", text(&dir), "--listen", "127.0.0.1:0"]).unwrap();
    let url = "1i public_url = \"http://127.0.0.1:7\"";
    disk.tool(&["sed", "-i", url, text(&dir.join("einmal.toml"))]).unwrap();
    let mut mediator = disk.start(&dir, &log);
    let courier = Courier::to(&mediator);
    let (alice, bob, sender) = (Stranger::new(1), Stranger::new(2), Stranger::new(3));
    courier.enrol(&alice, &[alice.did()]);
    let before: Vec<String> = (0..20).map(|number| format!("letter {number}")).collect();
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    send(&courier, &sender, alice.did(), &before);
    // What the kernel does to a file system with `errors=remount-ro` on an error, even with open files.
    disk.tool(&["mount", "-o", "remount,abort", text(&disk.mount)]).unwrap();
    refused(&courier, &sender, alice.did(), &["too late", "too late again"]);
    let answered = courier.request_account(&bob);
    assert!(answered.is_come_again(), "{answered:?}");
    assert_eq!(courier.get("/readyz").status, 503);
    mediator.signal("-TERM");
    assert_ne!(mediator.end(), None, "it ends by itself");
    disk.tool(&["umount", text(&disk.mount)]).unwrap();
    disk.tool(&disk.mounting()).unwrap();
    let mediator = disk.start(&dir, &log);
    let courier = Courier::to(&mediator);
    assert_eq!(courier.texts(&alice), before);
    courier.enrol(&bob, &[bob.did()]);
    send(&courier, &sender, bob.did(), &["in time"]);
    assert_eq!(courier.texts(&bob), ["in time"]);
    log_of(&log);
}
