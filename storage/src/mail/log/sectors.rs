//! Reads a file although the disk cannot read every part of it.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt};

/// Bytes that are lost together where the disk cannot read: the system reads no less at once.
const BLOCK: usize = 4096;
/// Most blocks of one file that may be unreadable. With more the disk itself is failing or gone, and what it holds must not be
/// taken for lost.
const MAX_UNREADABLE: usize = 64;

/// A file, or what a test puts in its place.
pub(super) trait ReadAt {
    /// Its length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buffer` with what begins at `offset`.
    fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

/// What a file holds.
pub(super) struct Contents {
    /// Its bytes, with zeros in place of those that the disk could not read.
    pub(super) bytes: Vec<u8>,
    /// Where those are, in order.
    pub(super) unreadable: Vec<Range<usize>>,
}

impl Contents {
    /// The parts before `end` that were read.
    pub(super) fn readable(&self, end: usize) -> impl Iterator<Item = Range<usize>> {
        let ends = self.unreadable.iter().map(|lost| lost.start).chain([end]);
        let starts = [0].into_iter().chain(self.unreadable.iter().map(|lost| lost.end));
        starts.zip(ends).map(move |(from, to)| from..to.min(end)).filter(|part| !part.is_empty())
    }
}

/// Whether the disk could not read part of a file (EIO), unlike a file that is missing or not permitted.
pub(super) fn is_bad_sector(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.raw_os_error() == Some(EIO)
}

/// Reads a whole file.
///
/// # Errors
///
/// What the system reports, also if more than [`MAX_UNREADABLE`] blocks cannot be read.
pub(super) fn read(file: &impl ReadAt) -> io::Result<Contents> {
    let mut bytes = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
    let mut unreadable = Vec::new();
    match file.fill_at(&mut bytes, 0) {
        Ok(()) => return Ok(Contents { bytes, unreadable }),
        Err(error) if is_bad_sector(&error) => {}
        Err(error) => return Err(error),
    }
    let mut start = 0;
    for block in bytes.chunks_mut(BLOCK) {
        let end = start + block.len();
        match file.fill_at(block, start as u64) {
            Ok(()) => {}
            Err(error) if is_bad_sector(&error) && unreadable.len() < MAX_UNREADABLE => {
                block.fill(0);
                unreadable.push(start..end);
            }
            Err(error) => return Err(error),
        }
        start = end;
    }
    Ok(Contents { bytes, unreadable })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file of which the disk cannot read some parts, each given by its beginning and its end.
    pub(in super::super) struct Flawed {
        pub(in super::super) file: File,
        pub(in super::super) flaws: Vec<(u64, u64)>,
    }

    impl ReadAt for Flawed {
        fn size(&self) -> io::Result<u64> {
            self.file.size()
        }

        fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            let end = offset + buffer.len() as u64;
            if self.flaws.iter().any(|(from, to)| *from < end && offset < *to) {
                // As the system does: part of it may be there.
                buffer.fill(0xee);
                return Err(io::Error::from_raw_os_error(5));
            }
            self.file.fill_at(buffer, offset)
        }
    }

    fn flawed(len: usize, flaws: Vec<(u64, u64)>) -> Flawed {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &vec![7; len]).unwrap();
        Flawed { file, flaws }
    }

    #[test]
    fn what_the_disk_cannot_read_is_zeros_and_the_rest_is_as_it_is() {
        let read = read(&flawed(4 * BLOCK + 10, vec![(5000, 5001), (4 * BLOCK as u64, u64::MAX)])).unwrap();
        assert_eq!(read.unreadable, [BLOCK..2 * BLOCK, 4 * BLOCK..4 * BLOCK + 10]);
        let is_lost = |at: usize| read.unreadable.iter().any(|lost| lost.contains(&at));
        assert!(read.bytes.iter().enumerate().all(|(at, byte)| *byte == if is_lost(at) { 0 } else { 7 }));
        let parts: Vec<_> = read.readable(read.bytes.len()).collect();
        assert_eq!(parts, [0..BLOCK, 2 * BLOCK..4 * BLOCK]);
        assert!(read.readable(BLOCK + 5).eq(std::iter::once(0..BLOCK)));
        assert_eq!(read.readable(2 * BLOCK + 5).collect::<Vec<_>>(), [0..BLOCK, 2 * BLOCK..2 * BLOCK + 5]);
    }

    #[test]
    fn a_file_of_which_too_much_cannot_be_read_is_an_error_and_not_a_loss() {
        let most = (MAX_UNREADABLE * BLOCK) as u64;
        assert_eq!(read(&flawed(100 * BLOCK, vec![(0, most)])).unwrap().unreadable.len(), MAX_UNREADABLE);
        let error = read(&flawed(100 * BLOCK, vec![(0, most + 1)])).err().unwrap();
        assert!(is_bad_sector(&error), "{error}");
    }
}
