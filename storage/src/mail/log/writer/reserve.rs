//! Room on the disk that is lent to cleaning when the disk is full: cleaning needs some before it gives back more.

use std::path::{Path, PathBuf};

use crate::{mail::log::SEGMENT_LEN, queue::MAX_GROUP_BYTES};

/// As much as the letters of one segment may take: with that the oldest can always be cleaned, whatever lives in it.
const RESERVE_LEN: u64 = SEGMENT_LEN + MAX_GROUP_BYTES as u64;
/// Name of the file that takes the room until it is lent.
const RESERVE_FILE: &str = "reserve";

/// The room, which a file holds that nobody reads.
pub(super) struct Reserve {
    path: PathBuf,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Held,
    /// Given to cleaning, which has not given it back yet.
    Lent,
    /// The disk had no room for it, or the system cannot set room aside.
    Missing,
}

impl Reserve {
    /// Sets the room aside if the disk has it.
    pub(super) fn open(folder: &Path) -> Self {
        let mut reserve = Self { path: folder.join(RESERVE_FILE), state: State::Missing };
        reserve.restore();
        reserve
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

    /// Gives up room that others than cleaning have taken, so that letters get what is left of it.
    pub(super) fn write_off(&mut self) {
        if self.is_lent() {
            self.state = State::Missing;
        }
    }

    /// Sets the room aside again. `false` if the disk does not have it.
    pub(super) fn restore(&mut self) -> bool {
        if self.state == State::Held {
            return true;
        }
        let is_there = set_aside(&self.path).is_ok();
        if is_there {
            self.state = State::Held;
        } else {
            // A part of it would help nobody.
            let _ = std::fs::remove_file(&self.path);
        }
        is_there
    }
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
        let mut reserve = Reserve::open(folder.path());
        assert_eq!((len(), reserve.is_lent()), (Some(RESERVE_LEN), false));
        assert!(reserve.lend() && reserve.is_lent() && !reserve.lend());
        assert_eq!(len(), None);
        std::fs::create_dir(&file).unwrap();
        assert!(!reserve.restore() && reserve.is_lent(), "the disk does not have it");
        reserve.write_off();
        assert!(!reserve.is_lent() && !reserve.lend());
        std::fs::remove_dir(&file).unwrap();
        assert!(reserve.restore() && !reserve.is_lent());
        reserve.write_off();
        assert_eq!(len(), Some(RESERVE_LEN));
        assert!(reserve.lend(), "what is held is not written off");
    }
}
