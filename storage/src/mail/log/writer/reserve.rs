//! Room on the disk that is lent to cleaning when the disk is full: cleaning needs some before it gives back more.

use std::{
    io::{Error, ErrorKind},
    path::{Path, PathBuf},
};

use crate::{mail::log::SEGMENT_LEN, queue::MAX_GROUP_BYTES};

/// As much as the letters of one segment may take: with that the oldest can always be cleaned, whatever lives in it.
const RESERVE_LEN: u64 = SEGMENT_LEN + MAX_GROUP_BYTES as u64;
/// Name of the file that takes the room until it is lent.
const RESERVE_FILE: &str = "reserve";
/// Free bytes of a disk from which on nothing is set aside: cleaning will find room.
const PLENTY: u64 = 1024 * 1024 * 1024;

/// The room, which a file holds that nobody reads.
pub(super) struct Reserve {
    path: PathBuf,
    state: State,
    /// Whether the disk had too little for it when it was asked last; else the system may not be able to do that.
    lacks_room: bool,
    /// Free bytes of the disk that the path is on.
    free: fn(&Path) -> u64,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Held,
    /// Given to cleaning, which has not given it back yet.
    Lent,
    /// The disk had no room for it, or so much that none need be set aside; or the system cannot do that.
    Missing,
}

impl Reserve {
    /// Sets the room aside if the disk has it, and little more.
    pub(super) fn open(folder: &Path) -> Self {
        Self::open_where(folder, free)
    }

    fn open_where(folder: &Path, free: fn(&Path) -> u64) -> Self {
        let mut reserve =
            Self { path: folder.join(RESERVE_FILE), state: State::Missing, lacks_room: false, free };
        // One from before may not be needed any more.
        if reserve.has_plenty() {
            let _ = std::fs::remove_file(&reserve.path);
        }
        reserve.restore();
        reserve
    }

    /// Takes the room that the disk lacks for lent, if with the `own` bytes that the log can do without it is there: the
    /// process before may have lent it, and it must not go to letters now. Returns whether it does so.
    pub(super) fn take_for_lent(&mut self, own: u64) -> bool {
        let is_lent = self.state == State::Missing && self.lacks_room && self.may_be_had(own);
        if is_lent {
            self.state = State::Lent;
        }
        is_lent
    }

    /// The log has grown by a segment, or the disk refuses letters: it may have become small, or large again.
    pub(super) fn look(&mut self) {
        match self.state {
            State::Lent => {}
            // Never in vain: meanwhile others would find the disk full.
            State::Missing if self.may_be_had(0) => drop(self.restore()),
            State::Missing => {}
            State::Held => {
                if self.has_plenty() && std::fs::remove_file(&self.path).is_ok() {
                    self.state = State::Missing;
                }
            }
        }
    }

    /// Whether cleaning has the room, so that letters may not take it.
    pub(super) fn is_lent(&self) -> bool {
        self.state == State::Lent
    }

    /// Gives the room to cleaning. `false` if there is none to give.
    pub(super) fn lend(&mut self) -> bool {
        let is_given = self.state == State::Held && std::fs::remove_file(&self.path).is_ok();
        if is_given {
            self.state = State::Lent;
        }
        is_given
    }

    /// Gives up room that others than the log have taken, so that letters get what is left of it: not even with the `own`
    /// bytes that the log can do without is there as much. Else there soon may be, and a full disk is not left without.
    pub(super) fn write_off(&mut self, own: u64) {
        if self.is_lent() && !self.may_be_had(own) {
            self.state = State::Missing;
        }
    }

    /// Sets the room aside again, unless there is plenty. `false` if the disk does not have it.
    pub(super) fn restore(&mut self) -> bool {
        if self.state == State::Held {
            return true;
        }
        if self.has_plenty() {
            self.state = State::Missing;
            return true;
        }
        let set_aside = set_aside(&self.path);
        let is_full = |e: &Error| matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        self.lacks_room = set_aside.as_ref().is_err_and(is_full);
        let is_there = set_aside.is_ok();
        if is_there {
            self.state = State::Held;
        } else {
            // A part of it would help nobody.
            let _ = std::fs::remove_file(&self.path);
        }
        is_there
    }

    /// Whether what is free and `own` bytes more are enough for it.
    fn may_be_had(&self, own: u64) -> bool {
        (self.free)(&self.path).saturating_add(own) >= RESERVE_LEN
    }

    /// Whether the disk has more room than may soon be taken.
    fn has_plenty(&self) -> bool {
        (self.free)(&self.path) >= PLENTY
    }
}

/// The free bytes of the disk of the folder that `path` lies in; none if it does not tell.
fn free(path: &Path) -> u64 {
    let folder = path.parent().unwrap_or(path);
    rustix::fs::statvfs(folder).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Makes a file that takes the room without writing it.
fn set_aside(path: &Path) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_LEN)?;
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (path, RESERVE_LEN);
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn room_is_lent_once_and_held_again_when_the_disk_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(RESERVE_FILE);
        let len = || std::fs::metadata(&file).map(|file| file.len()).ok();
        let mut reserve = Reserve::open_where(folder.path(), |_| 1000);
        assert_eq!((len(), reserve.is_lent()), (Some(RESERVE_LEN), false));
        assert!(reserve.lend() && reserve.is_lent() && !reserve.lend());
        assert_eq!(len(), None);
        std::fs::create_dir(&file).unwrap();
        assert!(!reserve.restore() && reserve.is_lent(), "the disk does not have it");
        reserve.write_off(RESERVE_LEN - 1000);
        assert!(reserve.is_lent(), "the log itself has it");
        reserve.write_off(RESERVE_LEN - 1001);
        assert!(!reserve.is_lent() && !reserve.lend());
        assert!(!reserve.take_for_lent(RESERVE_LEN), "it is not for want of room");
        reserve.lacks_room = true;
        assert!(!reserve.take_for_lent(RESERVE_LEN - 1001), "others have it");
        assert!(reserve.take_for_lent(RESERVE_LEN - 1000) && reserve.is_lent());
        std::fs::remove_dir(&file).unwrap();
        assert!(reserve.restore() && !reserve.is_lent());
        reserve.write_off(0);
        assert_eq!(len(), Some(RESERVE_LEN));
        assert!(reserve.lend(), "what is held is not written off");
    }

    #[test]
    fn nothing_is_set_aside_on_a_disk_with_plenty_of_room() {
        let folder = tempfile::tempdir().unwrap();
        let is_there = || folder.path().join(RESERVE_FILE).exists();
        let mut reserve = Reserve::open_where(folder.path(), |_| PLENTY);
        assert!(!is_there() && !reserve.lend());
        reserve.free = |_| PLENTY - 1;
        reserve.look();
        assert!(is_there(), "it has become small");
        assert!(reserve.lend());
        reserve.look();
        assert!(reserve.is_lent(), "cleaning has it");
        reserve.free = |_| PLENTY;
        assert!(reserve.restore() && !reserve.is_lent() && !is_there(), "it need not be given back");
        reserve.free = |_| PLENTY - 1;
        reserve.look();
        reserve.free = |_| PLENTY;
        reserve.look();
        assert!(!is_there(), "and is let go where there is plenty again");
    }
}
