//! The items of a backup, in sequence: a kind, then fields with a length prefix.

use std::io::{self, Read, Write};

use einmal_storage::{
    Key, Record, Version,
    mail::{MailboxId, NewLetter, Quota},
};

/// First bytes of the content, with the version of its format.
const MAGIC: &[u8; 8] = b"EINMALB1";
/// Longest field, in bytes: longer than the longest value of a record.
pub const MAX_ITEM_LEN: usize = 16 * 1024 * 1024;
/// Longest configuration, in bytes.
pub const MAX_CONFIG_LEN: usize = 256 * 1024;

/// One thing a backup holds.
pub(super) enum Item {
    /// The format of the store the records come from; the first item.
    Format(u32),
    Config(String),
    Record(Record),
    Letter(NewLetter),
    /// How many records and letters came before.
    End {
        records: u64,
        letters: u64,
    },
}

/// Writes items.
pub(super) struct Writer<W>(W);

impl<W: Write> Writer<W> {
    pub(super) fn begin(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        Ok(Self(out))
    }

    pub(super) fn into_inner(self) -> W {
        self.0
    }

    fn number(&mut self, number: u64) -> io::Result<()> {
        self.0.write_all(&number.to_le_bytes())
    }

    fn field(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.number(bytes.len() as u64)?;
        self.0.write_all(bytes)
    }

    pub(super) fn write(&mut self, item: &Item) -> io::Result<()> {
        match item {
            Item::Format(format) => {
                self.0.write_all(&[4])?;
                self.number(u64::from(*format))
            }
            Item::Config(text) => {
                self.0.write_all(&[1])?;
                self.field(text.as_bytes())
            }
            Item::Record(record) => {
                self.0.write_all(&[2])?;
                self.field(record.key.tenant().as_str().as_bytes())?;
                self.field(record.key.table().name().as_bytes())?;
                self.field(record.key.id())?;
                self.number(record.expires_at.unwrap_or(u64::MAX))?;
                self.field(&record.value)
            }
            Item::Letter(letter) => {
                self.0.write_all(&[3])?;
                self.0.write_all(&letter.mailbox.0)?;
                self.number(letter.arrived_ms)?;
                self.number(letter.expires_at)?;
                self.field(&letter.payload)
            }
            Item::End { records, letters } => {
                self.0.write_all(&[0])?;
                self.number(*records)?;
                self.number(*letters)
            }
        }
    }
}

/// Reads items.
pub(super) struct Reader<R>(R);

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the backup holds {what}"))
}

impl<R: Read> Reader<R> {
    pub(super) fn begin(mut input: R) -> io::Result<Self> {
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        match &magic {
            MAGIC => Ok(Self(input)),
            _ => Err(invalid("nothing of einmal, or something of a later version")),
        }
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn field(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.number()?).ok().filter(|length| *length <= most);
        let mut bytes = vec![0; length.ok_or_else(|| invalid("a field beyond its bound"))?];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn text(&mut self, most: usize) -> io::Result<String> {
        String::from_utf8(self.field(most)?).map_err(|_| invalid("a text that is none"))
    }

    pub(super) fn read(&mut self) -> io::Result<Item> {
        let mut kind = [0];
        self.0.read_exact(&mut kind)?;
        Ok(match kind {
            [0] => Item::End { records: self.number()?, letters: self.number()? },
            [1] => Item::Config(self.text(MAX_CONFIG_LEN)?),
            [2] => {
                let (tenant, table) = (self.text(256)?, self.text(256)?);
                let id = self.field(4096)?;
                let key =
                    Key::dumped(&tenant, &table, &id).map_err(|_| invalid("a record without a name"))?;
                let expires_at = Some(self.number()?).filter(|at| *at != u64::MAX);
                Item::Record(Record {
                    key,
                    value: self.field(MAX_ITEM_LEN)?,
                    version: Version(0),
                    expires_at,
                })
            }
            [3] => {
                let mut mailbox = [0; 20];
                self.0.read_exact(&mut mailbox)?;
                let (arrived_ms, expires_at) = (self.number()?, self.number()?);
                let (mailbox, quota) = (MailboxId(mailbox), Quota::NONE);
                Item::Letter(NewLetter {
                    mailbox,
                    payload: self.field(MAX_ITEM_LEN)?,
                    arrived_ms,
                    expires_at,
                    quota,
                    early: None,
                })
            }
            [4] => {
                let format = u32::try_from(self.number()?);
                Item::Format(format.map_err(|_| invalid("a store format that is none"))?)
            }
            _ => return Err(invalid("something of a later version")),
        })
    }

    /// Whether nothing follows.
    pub(super) fn is_over(&mut self) -> io::Result<bool> {
        Ok(self.0.read(&mut [0])? == 0)
    }
}
