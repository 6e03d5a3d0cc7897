//! Files of the log: segments of entries, each with a table of contents once it is full.
//!
//! A segment begins with a head of 32 bytes: `EINMAIL1`, its number, four zero bytes, the next free id at its
//! beginning, and a CRC-32 of these. It grows by zeros in steps ahead of the writes, because overwriting is flushed
//! faster than appending. Its contents are in a second file, `NUMBER.toc`: the headers of all entries with the offset
//! in place of the checksum, the bodies of removals, and a CRC-32 of everything. Without that file the segment itself
//! is read, skipping entries that are not whole.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    frame::{self, HEADER_LEN, Header, Kind},
    sectors::{self, Contents, ReadAt, is_bad_sector},
    writer::IDS_LEFT_OUT,
};
use crate::{
    StoreError,
    disk::{drop_cached, sync},
};

/// Bytes after which a segment is full.
pub const SEGMENT_LEN: u64 = 16 * 1024 * 1024;
/// Bytes a segment grows by.
const GROWTH: u64 = 1024 * 1024;
/// Bytes of the grown file that letters leave for removals: even on a full disk, delivered mail can be removed.
pub(super) const LEFT_TO_REMOVALS: u64 = 64 * 1024;
/// Bytes of it that cleaning leaves, which gives back more when it is done.
pub(super) const LEFT_BY_CLEANING: u64 = LEFT_TO_REMOVALS / 2;
pub(super) const HEAD_LEN: usize = 32;
const MAGIC: &[u8; 8] = b"EINMAIL1";

/// An entry of a segment, as listed in its contents.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listed {
    pub(super) header: Header,
    pub(super) offset: u32,
    /// Ids of removed letters; empty for other kinds.
    pub(super) removed: Vec<u64>,
}

impl Listed {
    /// The end of the entry in its file.
    pub(super) fn end(&self) -> u64 {
        u64::from(self.offset) + HEADER_LEN as u64 + u64::from(self.header.body_len)
    }
}

/// The segment being written.
pub(super) struct Segment {
    pub(super) number: u32,
    file: File,
    /// Where the next entry goes.
    pub(super) end: u64,
    grown: u64,
    /// How far a refused write may have left whole entries, which must not be taken as accepted.
    refused: u64,
    contents: Vec<u8>,
}

pub(super) fn path_of(folder: &Path, number: u32, ending: &str) -> PathBuf {
    folder.join(format!("{number:010}.{ending}"))
}

impl Segment {
    /// Begins a segment with its room for removals. If the disk has no room for that, no file is left behind.
    pub(super) fn begin(folder: &Path, number: u32, next_id: u64) -> Result<Self, StoreError> {
        let begun = Self::create(folder, number, next_id).and_then(|mut segment| {
            segment.reserve()?;
            Ok(segment)
        });
        if begun.is_err() {
            // Others need the space. If the file stays, the next start finds it empty.
            let _ = std::fs::remove_file(path_of(folder, number, "mail"));
        }
        begun
    }

    /// Begins a segment with as much room for removals as the disk has: reading the existing mail needs none.
    pub(super) fn begin_anyway(folder: &Path, number: u32, next_id: u64) -> Result<Self, StoreError> {
        let mut segment = Self::create(folder, number, next_id)?;
        // If something is wrong, the first write fails too, and then there is a caller to tell.
        let _ = segment.reserve();
        Ok(segment)
    }

    fn create(folder: &Path, number: u32, next_id: u64) -> Result<Self, StoreError> {
        let path = path_of(folder, number, "mail");
        let failed = |e: &io::Error| StoreError::io("begin a file of the mail", e);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| failed(&e))?;
        let mut head = Vec::with_capacity(HEAD_LEN);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&number.to_le_bytes());
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&next_id.to_le_bytes());
        let sum = crc32fast::hash(&head);
        head.extend_from_slice(&sum.to_le_bytes());
        head.resize(HEAD_LEN, 0);
        file.write_all_at(&head, 0).map_err(|e| failed(&e))?;
        file.sync_all().map_err(|e| failed(&e))?;
        sync(folder)?;
        Ok(Self {
            number,
            file,
            end: HEAD_LEN as u64,
            grown: HEAD_LEN as u64,
            refused: 0,
            contents: Vec::new(),
        })
    }

    /// Writes whole entries at the end, leaving room for `spare` bytes. They count only after [`Segment::advance`].
    pub(super) fn write(&mut self, bytes: &[u8], spare: u64) -> Result<(), StoreError> {
        let failed = |e: io::Error| StoreError::io("write mail", &e);
        self.grow(self.end + bytes.len() as u64 + spare).map_err(failed)?;
        let end = self.end + bytes.len() as u64;
        let leftover = usize::try_from(self.refused.saturating_sub(end)).unwrap_or(0);
        self.refused = self.refused.max(end);
        self.file.write_all_at(bytes, self.end).map_err(failed)?;
        self.file.write_all_at(&vec![0; leftover], end).map_err(failed)?;
        self.refused = 0;
        Ok(())
    }

    /// Grows in steps to at least `needed` bytes; if the disk has no room for a whole step, a sufficient part will do.
    fn grow(&mut self, needed: u64) -> io::Result<()> {
        if needed <= self.grown {
            return Ok(());
        }
        let grown = needed.div_ceil(GROWTH) * GROWTH;
        let zeros = vec![0; usize::try_from(grown - self.grown).unwrap_or(0)];
        match self.file.write_all_at(&zeros, self.grown) {
            Ok(()) => self.grown = grown,
            Err(error) => {
                // The zeros written so far are in the file: usable room, also for later, smaller writes.
                self.grown = self.grown.max(self.file.metadata().map_or(0, |file| file.len()));
                if needed > self.grown {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Bytes that are certainly there for what comes next.
    pub(super) fn room(&self) -> u64 {
        self.grown.saturating_sub(self.end)
    }

    fn reserve(&mut self) -> Result<(), StoreError> {
        self.grow(self.end + LEFT_TO_REMOVALS).map_err(|e| StoreError::io("begin a file of the mail", &e))
    }

    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|e| StoreError::io("flush mail", &e))
    }

    /// Adds an entry to the end of the contents.
    pub(super) fn advance(&mut self, header: &Header, body: &[u8]) -> u32 {
        let offset = u32::try_from(self.end).unwrap_or(u32::MAX);
        note(&mut self.contents, header, offset, body);
        self.end += (HEADER_LEN + body.len()) as u64;
        offset
    }

    /// Ends the segment: cuts off unused growth and writes the contents next to it. Without contents the next start
    /// reads the whole segment, which is slower but loses nothing.
    pub(super) fn finish(self, folder: &Path) -> Result<(), StoreError> {
        let failed = |e: io::Error| StoreError::io("finish a file of the mail", &e);
        self.file.set_len(self.end).map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        write_contents(folder, self.number, &self.contents)
    }
}

fn note(contents: &mut Vec<u8>, header: &Header, offset: u32, body: &[u8]) {
    let start = contents.len();
    header.write(contents);
    if let Some(place) = contents.get_mut(start..start + 4) {
        place.copy_from_slice(&offset.to_le_bytes());
    }
    if header.kind == Kind::Removed {
        contents.extend_from_slice(body);
    }
}

/// Writes the contents of a segment next to it, whole or not at all.
pub(super) fn write_contents(folder: &Path, number: u32, contents: &[u8]) -> Result<(), StoreError> {
    let failed = |e: io::Error| StoreError::io("write the contents of a file of the mail", &e);
    let mut bytes = contents.to_vec();
    bytes.extend_from_slice(&crc32fast::hash(contents).to_le_bytes());
    let draft = path_of(folder, number, "new");
    let written = std::fs::write(&draft, bytes)
        .and_then(|()| File::open(&draft)?.sync_all())
        .and_then(|()| std::fs::rename(&draft, path_of(folder, number, "toc")));
    if let Err(error) = written {
        // On a full disk, an incomplete file would take space from the mail.
        let _ = std::fs::remove_file(&draft);
        return Err(failed(error));
    }
    sync(folder)
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// The next free id when it was begun; 0 if it holds nothing, or if the disk cannot read it.
    pub(super) next_id: u64,
    pub(super) listed: Vec<Listed>,
    /// Places that are not whole entries, with whole ones after them, or that the disk cannot read.
    pub(super) damaged: u64,
    /// Whether the disk could not read a part of it, in which more may be.
    pub(super) is_flawed: bool,
    /// Its contents for [`write_contents`], if they are not on the disk yet. None of a flawed one: the next start may read
    /// what this one could not.
    pub(super) contents: Option<Vec<u8>>,
}

impl Loaded {
    /// The next free id, if `free` is that of all earlier segments.
    pub(super) fn next_id_after(&self, free: u64) -> u64 {
        let letters = self.listed.iter().filter(|entry| entry.header.kind == Kind::Letter);
        let free = free.max(self.next_id);
        let free = letters.fold(free, |free, letter| free.max(letter.header.id.saturating_add(1)));
        // What cannot be read may have more letters, or be the head: a segment has fewer letters than that.
        free.saturating_add(if self.is_flawed { IDS_LEFT_OUT } else { 0 })
    }
}

/// Reads what a segment holds. Cuts off the torn end of an unfinished one, and makes durable what is kept of it.
pub(super) fn load(folder: &Path, number: u32) -> Result<Loaded, StoreError> {
    load_from(&open(folder, number)?, folder, number)
}

/// As [`load`], reading by `file`.
pub(super) fn load_from(file: &impl ReadAt, folder: &Path, number: u32) -> Result<Loaded, StoreError> {
    match examine(file, folder, number)? {
        Found::Known(loaded) => Ok(loaded),
        Found::Unfinished(next_id) => {
            let whole = recover(file, number, &path_of(folder, number, "mail"))?;
            whole.loaded(next_id)
        }
    }
}

/// What a segment holds, as [`load`] would find it. Writes nothing.
pub(super) fn look(folder: &Path, number: u32) -> Result<Loaded, StoreError> {
    let file = open(folder, number)?;
    match examine(&file, folder, number)? {
        Found::Known(loaded) => Ok(loaded),
        Found::Unfinished(next_id) => whole_entries(number, &read(&file)?).loaded(next_id),
    }
}

/// What there is to know of a segment without reading it as a whole.
enum Found {
    /// It holds nothing, or its contents are beside it.
    Known(Loaded),
    /// It has to be read; with the next free id when it was begun, 0 if the disk cannot read that.
    Unfinished(u64),
}

fn examine(file: &impl ReadAt, folder: &Path, number: u32) -> Result<Found, StoreError> {
    let (next_id, is_flawed) = match head(file, folder, number)? {
        Head::Empty => return Ok(Found::Known(Loaded::default())),
        Head::Begun(next_id) => (next_id, false),
        Head::Unreadable => (0, true),
    };
    Ok(match finished(folder, number) {
        Some(listed) => Found::Known(Loaded { next_id, listed, is_flawed, ..Loaded::default() }),
        None => Found::Unfinished(next_id),
    })
}

/// The head of a segment.
enum Head {
    /// It was begun with this id as the next free one.
    Begun(u64),
    /// There is none, nor anything else.
    Empty,
    /// The disk cannot read it; there may be entries behind it.
    Unreadable,
}

fn head(file: &impl ReadAt, folder: &Path, number: u32) -> Result<Head, StoreError> {
    let mut head = [0; HEAD_LEN];
    let is_short = match file.fill_at(&mut head, 0) {
        Ok(()) => false,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => true,
        Err(e) if is_bad_sector(&e) => return Ok(Head::Unreadable),
        Err(e) => return Err(StoreError::io("open mail", &e)),
    };
    if let Some(next_id) = parse_head(&head, number).filter(|_| !is_short) {
        return Ok(Head::Begun(next_id));
    }
    // Killed while it was begun, so it is empty. A file with contents, or a long one that is not all zeros, is not such
    // a file, nor is one that cannot be read to its end.
    let has_contents = path_of(folder, number, "toc").exists();
    let is_blank = || {
        let whole = read(file)?;
        Ok::<_, StoreError>(whole.unreadable.is_empty() && whole.bytes.iter().all(|byte| *byte == 0))
    };
    if !has_contents && (is_short || is_blank()?) {
        return Ok(Head::Empty);
    }
    Err(StoreError::Damaged { what: format!("the head of mail file {number:010}") })
}

/// The contents of a finished segment.
pub(super) fn finished(folder: &Path, number: u32) -> Option<Vec<Listed>> {
    std::fs::read(path_of(folder, number, "toc")).ok().and_then(|toc| parse(&toc))
}

fn open(folder: &Path, number: u32) -> Result<File, StoreError> {
    File::open(path_of(folder, number, "mail")).map_err(|e| StoreError::io("open mail", &e))
}

fn read(file: &impl ReadAt) -> Result<Contents, StoreError> {
    sectors::read(file).map_err(|e| StoreError::io("recover mail", &e))
}

/// The whole entries of a segment.
struct Whole {
    /// Their contents.
    contents: Vec<u8>,
    /// The end of the last one.
    end: usize,
    /// Number of places between them that are not whole entries, and of a place behind them that cannot be read.
    damaged: u64,
    /// Whether the disk could not read a part of the segment.
    is_flawed: bool,
}

impl Whole {
    fn loaded(self, next_id: u64) -> Result<Loaded, StoreError> {
        let Self { contents, damaged, is_flawed, .. } = self;
        let listed = entries(&contents)
            .ok_or_else(|| StoreError::Damaged { what: "the contents of the mail".into() })?;
        let contents = Some(contents).filter(|_| !is_flawed);
        Ok(Loaded { next_id, listed, damaged, is_flawed, contents })
    }
}

/// Reads all whole entries. After one that is not whole, it searches for the next whole one: if there is one, the gap
/// is damage; if not, it is the torn end. Letters are sealed, so nobody can make their content look like entries.
fn whole_entries(number: u32, read: &Contents) -> Whole {
    let bytes = &read.bytes;
    let is_flawed = !read.unreadable.is_empty();
    let mut whole = Whole { contents: Vec::new(), end: HEAD_LEN, damaged: 0, is_flawed };
    let entry_at = |at: usize| frame::read(number, bytes.get(at..)?);
    while let Some(at) = (whole.end..bytes.len()).find(|at| entry_at(*at).is_some()) {
        let Some((header, body)) = entry_at(at) else { break };
        whole.damaged += u64::from(at > whole.end);
        note(&mut whole.contents, &header, u32::try_from(at).unwrap_or(u32::MAX), body);
        whole.end = at + HEADER_LEN + body.len();
    }
    whole.damaged += u64::from(read.unreadable.last().is_some_and(|lost| lost.end > whole.end));
    whole
}

fn parse_head(head: &[u8; HEAD_LEN], number: u32) -> Option<u64> {
    let (text, rest) = head.split_at_checked(24)?;
    let sum = u32::from_le_bytes(*rest.first_chunk()?);
    let fits = text.starts_with(MAGIC)
        && text.get(8..12) == Some(&number.to_le_bytes())
        && sum == crc32fast::hash(text);
    fits.then(|| text.get(16..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))).flatten()
}

/// Reads an unfinished segment, cuts off its torn end, and makes the rest durable.
fn recover(file: &impl ReadAt, number: u32, path: &Path) -> Result<Whole, StoreError> {
    let failed = |e: io::Error| StoreError::io("recover mail", &e);
    let mut contents = read(file)?;
    let mut whole = whole_entries(number, &contents);
    let writing = OpenOptions::new().write(true).open(path).map_err(failed)?;
    match write_back(&writing, &contents, whole.end).map_err(failed) {
        // A file system that writes nothing in place has no room for it. Then what the disk has is what counts.
        Err(StoreError::Full) => {
            writing.sync_all().map_err(failed)?;
            drop_cached(&writing);
            contents = read(file)?;
            whole = whole_entries(number, &contents);
        }
        written => written?,
    }
    // What the disk cannot read now it may read another time.
    if !whole.is_flawed {
        writing.set_len(whole.end as u64).map_err(failed)?;
    }
    writing.sync_all().map_err(failed)?;
    Ok(whole)
}

/// Writes what was read back to its place.
///
/// After a failed flush the system holds what it could not write for written: it was read from memory, would be lost with
/// it, and no further flush would write it. Writing it again makes the next flush do so.
fn write_back(file: &File, contents: &Contents, end: usize) -> io::Result<()> {
    for part in contents.readable(end) {
        let start = part.start as u64;
        file.write_all_at(contents.bytes.get(part).unwrap_or_default(), start)?;
    }
    Ok(())
}

fn parse(toc: &[u8]) -> Option<Vec<Listed>> {
    let (contents, sum) = toc.split_last_chunk()?;
    if crc32fast::hash(contents) != u32::from_le_bytes(*sum) {
        return None;
    }
    entries(contents)
}

fn entries(contents: &[u8]) -> Option<Vec<Listed>> {
    let mut found = Vec::with_capacity(contents.len() / HEADER_LEN);
    let mut rest = contents;
    while !rest.is_empty() {
        let header = Header::parse(rest)?;
        let offset = u32::from_le_bytes(*rest.first_chunk()?);
        rest = rest.get(HEADER_LEN..)?;
        let mut removed = Vec::new();
        if header.kind == Kind::Removed {
            let (ids, behind) = rest.split_at_checked(usize::try_from(header.body_len).ok()?)?;
            removed =
                ids.chunks_exact(8).filter_map(|id| Some(u64::from_le_bytes(id.try_into().ok()?))).collect();
            rest = behind;
        }
        found.push(Listed { header, offset, removed });
    }
    Some(found)
}

/// The numbers of the segments in a folder, in order.
pub(super) fn numbers(folder: &Path) -> Result<Vec<u32>, StoreError> {
    let failed = |e: io::Error| StoreError::io("list the mail", &e);
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).map_err(failed)? {
        let name = file.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".mail")).and_then(|n| n.parse().ok());
        found.extend::<Option<u32>>(number);
    }
    found.sort_unstable();
    Ok(found)
}

/// Deletes a segment with its contents.
pub(super) fn delete(folder: &Path, number: u32) -> Result<(), StoreError> {
    let failed = |e: io::Error| StoreError::io("delete mail", &e);
    std::fs::remove_file(path_of(folder, number, "mail")).map_err(failed)?;
    let _ = std::fs::remove_file(path_of(folder, number, "toc"));
    Ok(())
}

/// Keeps the file of a segment, and its contents, where no start reads them. Returns where the file is.
pub(super) fn set_apart(folder: &Path, number: u32) -> Result<PathBuf, StoreError> {
    let kept = path_of(folder, number, "flawed");
    let renamed = std::fs::rename(path_of(folder, number, "mail"), &kept);
    renamed.map_err(|e| StoreError::io("set a file of the mail apart", &e))?;
    let _ = std::fs::rename(path_of(folder, number, "toc"), path_of(folder, number, "flawed-toc"));
    Ok(kept)
}

#[cfg(test)]
pub(super) mod tests;
