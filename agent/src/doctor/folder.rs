//! The folder itself: who may use its files, how much room there is, and whether the clock can be right.

use std::{
    fs::Metadata,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use einmal_didcomm::UnixSeconds;

use super::Finding;
use crate::{
    config::CONFIG_FILE,
    home::{KEY_FILE, MAIL_FOLDER, STORE_FOLDER},
};

/// The day of this release, 23 November 2026: no right clock shows an earlier one.
const RELEASED: UnixSeconds = UnixSeconds(1_795_392_000);
/// Seconds a file or record may be ahead of the clock.
const AHEAD_SECS: u64 = 120;
/// Free bytes below which nothing works for long.
const NO_ROOM: u64 = 100 * 1024 * 1024;
/// Free bytes below which it is time to make room.
const LITTLE_ROOM: u64 = 1024 * 1024 * 1024;
/// Most files checked for when they were written.
const MAX_FILES: usize = 10_000;

/// Who may do what with a file.
struct Rule {
    path: PathBuf,
    /// Mode bits that endanger the node.
    never: u32,
    /// Mode bits that the node does not need.
    better_not: u32,
    /// The mode it should have.
    mode: u32,
}

fn rules(dir: &Path) -> Vec<Rule> {
    let rule = |name: &str, never, better_not, mode| Rule { path: dir.join(name), never, better_not, mode };
    let mut rules = vec![
        Rule { path: dir.to_owned(), never: 0o022, better_not: 0o055, mode: 0o700 },
        rule(CONFIG_FILE, 0o022, 0o044, 0o600),
        rule(KEY_FILE, 0o077, 0, 0o600),
        // Their content is sealed, but its order and its size are not.
        rule(STORE_FOLDER, 0o022, 0o055, 0o700),
        rule(MAIL_FOLDER, 0o022, 0o055, 0o700),
    ];
    let socket = crate::control::socket_path(dir);
    if std::fs::metadata(&socket).is_ok_and(|about| about.file_type().is_socket()) {
        rules.push(Rule { path: socket, never: 0o077, better_not: 0, mode: 0o600 });
    }
    rules
}

/// Whether nobody else can use or change the node's files.
pub(super) fn rights(dir: &Path) -> Finding {
    let mut note = None;
    for Rule { path, never, better_not, mode } in rules(dir) {
        let Ok(about) = std::fs::metadata(&path) else { continue };
        let found = about.mode() & 0o777;
        let remedy = format!("run: chmod {mode:o} {}", path.display());
        let others = |what: &str| format!("others can {what} {} (mode {found:04o})", path.display());
        if found & never != 0 {
            return Finding::failed("rights", others("use or change"), remedy);
        }
        if found & better_not != 0 && note.is_none() {
            note = Some(Finding::note("rights", others("look into"), remedy));
        }
    }
    note.unwrap_or_else(|| Finding::ok("rights", "nobody else can use the node's files"))
}

/// Whether there is room on the disk.
pub(super) fn space(dir: &Path) -> Finding {
    match rustix::fs::statvfs(dir) {
        Ok(about) => judge_space(about.f_bavail.saturating_mul(about.f_frsize)),
        Err(error) => {
            Finding::note("disk", format!("its free space is not told: {error}"), "look yourself: df")
        }
    }
}

fn judge_space(free: u64) -> Finding {
    let detail = format!("{} MiB free", free / (1024 * 1024));
    let remedy = "make room: a node whose disk is full takes nothing in";
    if free < NO_ROOM {
        Finding::failed("disk", detail, remedy)
    } else if free < LITTLE_ROOM {
        Finding::note("disk", detail, remedy)
    } else {
        Finding::ok("disk", detail)
    }
}

/// When the node's newest file was written, as far as that is known.
pub(super) fn newest_file(dir: &Path) -> Option<UnixSeconds> {
    let folders = [dir.join(STORE_FOLDER), dir.join(STORE_FOLDER).join("records"), dir.join(MAIL_FOLDER)];
    let written = |about: Metadata| {
        let since = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(UnixSeconds(since.as_secs()))
    };
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    files.take(MAX_FILES).filter_map(|file| written(file.ok()?.metadata().ok()?)).max()
}

/// Whether the clock can be right: after the release, and not behind the newest data.
pub(super) fn clock(now: UnixSeconds, newest: Option<UnixSeconds>) -> Finding {
    let remedy = "set the clock right, and keep it by NTP";
    if now < RELEASED {
        return Finding::failed("clock", "it shows a day before this program was released", remedy);
    }
    match newest {
        Some(newest) if newest > now.plus(AHEAD_SECS) => {
            let behind = newest.0 - now.0;
            Finding::failed("clock", format!("it is {behind} s behind the newest record of the node"), remedy)
        }
        _ => Finding::ok("clock", "not behind the newest record"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    #[test]
    fn room_is_judged_by_its_bounds() {
        let states = [NO_ROOM - 1, NO_ROOM, LITTLE_ROOM - 1, LITTLE_ROOM].map(|free| judge_space(free).state);
        assert_eq!(states, [State::Failed, State::Note, State::Note, State::Ok]);
    }

    #[test]
    fn a_clock_before_the_release_or_behind_the_newest_record_is_wrong() {
        let state = |now, newest| clock(now, newest).state;
        let before = UnixSeconds(RELEASED.0 - 1);
        assert_eq!((state(before, None), state(RELEASED, None)), (State::Failed, State::Ok));
        assert_eq!(state(RELEASED, Some(RELEASED.plus(AHEAD_SECS))), State::Ok);
        let behind = clock(RELEASED, Some(RELEASED.plus(AHEAD_SECS + 1)));
        assert_eq!(behind.state, State::Failed);
        assert!(behind.detail.contains("121 s behind") && behind.remedy.unwrap().contains("NTP"));
    }
}
