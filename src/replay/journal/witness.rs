//! The witness of a journal: how far the journal got, stored where restoring the journal does not change it.
//!
//! A restored journal is consistent in itself, so only a second file can show that it is an older copy. The witness
//! is 64 bytes in a file next to the record, overwritten in place. It holds the number of starts, the end of the log,
//! and the reach. It is always written after the journal and is never ahead of it, so a journal that knows less than
//! its witness is an older copy.
//!
//! Without a record, the witness is in the journal's own directory. There it still shows that the end of the log was
//! cut off, but a restore of the whole directory restores the witness with it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::segment::JournalId;
use crate::state as disk;

/// The end of a log: the number of a segment, and its first slot without a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    pub(super) sequence: u64,
    pub(super) slot: u32,
}

/// What a witness has recorded of its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) journal: JournalId,
    /// How often the journal was started.
    pub(super) starts: u64,
    /// A lower bound for the end of the log.
    pub(super) end: End,
    /// The reach, in nanoseconds since 1970: no date beyond it was ever admitted.
    pub(super) reach: i64,
}

/// The file, open for writing.
pub(super) struct Witness {
    file: File,
    path: PathBuf,
    seen: Seen,
}

/// The result of reading a witness.
pub(super) enum Reading {
    Seen(Seen),
    Missing,
    Damaged,
}

const MAGIC: &[u8; 16] = b"SALTGATE WITNESS";
const LENGTH: usize = 64;
const EXTENSION: &str = "witness";

/// The path of a journal's witness.
pub(super) fn path(journal: JournalId, directory: &Path) -> PathBuf {
    directory.join(format!("replay-{:016x}.{EXTENSION}", journal.0))
}

/// Reads the witness at this path.
pub(super) fn read(path: &Path) -> io::Result<Reading> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(parse(&bytes).map_or(Reading::Damaged, Reading::Seen)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Reading::Missing),
        Err(error) => Err(error),
    }
}

/// The highest reach of all witnesses in a directory, of any journal: a restored copy may belong to an earlier
/// journal.
pub(super) fn furthest_reach(directory: &Path) -> io::Result<Option<i64>> {
    let mut furthest = None;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            if let Reading::Seen(seen) = read(&path)? {
                furthest = furthest.max(Some(seen.reach));
            }
        }
    }
    Ok(furthest)
}

impl Witness {
    /// Creates or opens the file, writes `seen` and syncs.
    pub(super) fn begin(path: PathBuf, seen: Seen) -> io::Result<Self> {
        let file = disk::file().write(true).create(true).truncate(false).open(&path)?;
        file.set_len(LENGTH as u64)?;
        let witness = Self { file, path, seen };
        witness.write()?;
        witness.sync()?;
        if let Some(directory) = witness.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(witness)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Records the present end of the log.
    pub(super) fn saw_end(&mut self, end: End) -> io::Result<()> {
        if end == self.seen.end {
            return Ok(());
        }
        self.seen.end = end;
        self.write()
    }

    /// Records the new reach.
    pub(super) fn saw_reach(&mut self, reach: i64) -> io::Result<()> {
        if reach == self.seen.reach {
            return Ok(());
        }
        self.seen.reach = reach;
        self.write()
    }

    /// Syncs, so that the content survives a loss of power.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn write(&self) -> io::Result<()> {
        self.file.write_all_at(&self.seen.bytes(), 0)
    }
}

impl Seen {
    fn bytes(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[16..24].copy_from_slice(&self.journal.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.starts.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.end.sequence.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.end.slot.to_le_bytes());
        bytes[44..52].copy_from_slice(&self.reach.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

pub(super) fn parse(bytes: &[u8]) -> Option<Seen> {
    let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
    let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes);
    let seen = Seen {
        journal: JournalId(number(16).ok()?),
        starts: number(24).ok()?,
        end: End { sequence: number(32).ok()?, slot: u32::from_le_bytes(bytes[40..44].try_into().ok()?) },
        reach: number(44).ok()?.cast_signed(),
    };
    (seen.bytes() == *bytes).then_some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_is_read_as_written_and_every_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(JournalId(0xab), dir.path());
        assert!(matches!(read(&path).unwrap(), Reading::Missing));
        let first = Seen { journal: JournalId(0xab), starts: 3, end: End { sequence: 1, slot: 0 }, reach: -5 };
        let mut witness = Witness::begin(path.clone(), first).unwrap();
        witness.saw_end(End { sequence: 2, slot: 77 }).unwrap();
        witness.saw_reach(9).unwrap();
        let last = Seen { end: End { sequence: 2, slot: 77 }, reach: 9, ..first };
        assert!(matches!(read(&path).unwrap(), Reading::Seen(found) if found == last));
        let whole = std::fs::read(&path).unwrap();
        for (byte, bit) in (0..LENGTH).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            let mut hurt = whole.clone();
            hurt[byte] ^= 1 << bit;
            assert_eq!(parse(&hurt), None, "byte {byte}, bit {bit}");
        }
        assert_eq!(parse(&whole[..LENGTH - 1]), None);
    }
}
