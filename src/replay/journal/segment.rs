//! The files of a journal: one header, then records of 32 bytes, then zeros.
//!
//! A file has its whole length from the beginning, so that a record never wants room. Records are
//! written one behind the other, so that zeros are an end and nothing else: a zero before a record
//! is damage. A check sum covers each record together with the number of its file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::super::SaltId;
use super::super::ledger::KeyTag;

/// The format of segments and of the state beside them.
pub(super) const VERSION: u32 = 1;
/// Bytes of a record, and of the header.
pub(super) const RECORD: usize = 32;
/// Records a segment has room for: with its header, a mebibyte.
pub(super) const RECORDS: u32 = (1 << 20) / RECORD as u32 - 1;

const MAGIC: &[u8; 8] = b"SALTJRNL";

/// A spent salt as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) salt: SaltId,
    /// The date it was signed with, in nanoseconds since 1970.
    pub(super) nanos: i64,
    pub(super) key: KeyTag,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Written by a later version of Saltgate.
    Newer(u32),
    /// Anything else, in words.
    Damaged(String),
}

/// What was read from a file.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) records: Vec<Record>,
    /// What stands behind the last whole record and is no record itself: a torn tail.
    pub(super) torn: bool,
}

/// How a file may end: only what was being written when the machine stopped may be incomplete.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Full, every place.
    Full,
    /// At any record; one torn record may stand behind it.
    Open,
    /// As after a loss of power: any place may be empty or torn.
    Unsynced,
}

pub(super) fn path(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{sequence:012}.salts"))
}

/// A new file with all the room it will ever take, on disk as far as its header goes.
pub(super) fn create(directory: &Path, sequence: u64) -> io::Result<File> {
    let path = path(directory, sequence);
    let made = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path);
    let written = made.and_then(|file| {
        allocate(&file)?;
        file.write_all_at(&header(sequence), 0)?;
        file.sync_all()?;
        File::open(directory)?.sync_all()?;
        Ok(file)
    });
    if written.is_err() {
        // Half a file takes room that is wanted elsewhere.
        drop(std::fs::remove_file(path));
    }
    written
}

fn allocate(file: &File) -> io::Result<()> {
    let length = (RECORDS as usize + 1) * RECORD;
    match fallocate(file, FallocateFlags::empty(), 0, length as u64) {
        Ok(()) => Ok(()),
        // A file system that cannot be asked for room is written full of zeros.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.write_all_at(&vec![0; length], 0),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn offset(place: u32) -> u64 {
    (u64::from(place) + 1) * RECORD as u64
}

pub(super) fn encode(record: &Record, sequence: u64) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..16].copy_from_slice(&record.salt);
    bytes[16..24].copy_from_slice(&record.nanos.to_le_bytes());
    bytes[24..28].copy_from_slice(&record.key.0.to_le_bytes());
    let sum = checksum(&bytes[..28], sequence);
    bytes[28..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; RECORD], sequence: u64) -> Option<Record> {
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    if checksum(body, sequence) != u32::from_le_bytes(*sum) {
        return None;
    }
    Some(Record {
        salt: bytes[..16].try_into().ok()?,
        nanos: i64::from_le_bytes(bytes[16..24].try_into().ok()?),
        key: KeyTag(u32::from_le_bytes(bytes[24..28].try_into().ok()?)),
    })
}

fn checksum(bytes: &[u8], sequence: u64) -> u32 {
    let mut sum = crc32fast::Hasher::new_with_initial(sequence as u32 ^ 0x5a17_6a7e);
    sum.update(bytes);
    sum.finalize()
}

fn header(sequence: u64) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
    let sum = checksum(&bytes[..28], 0);
    bytes[28..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Reads a whole file.
pub(super) fn read(bytes: &[u8], sequence: u64, ending: Ending) -> Result<Contents, Fault> {
    let damaged = |what: String| Fault::Damaged(what);
    if bytes.len() != (RECORDS as usize + 1) * RECORD {
        return Err(damaged(format!("is {} bytes long", bytes.len())));
    }
    let (head, places) = bytes.split_at(RECORD);
    if head[..8] != *MAGIC {
        return Err(damaged("does not begin as a journal does".into()));
    }
    let version = head[8..12].try_into().map_or(0, u32::from_le_bytes);
    if version > VERSION {
        return Err(Fault::Newer(version));
    }
    if head != header(sequence) {
        return Err(damaged("has a header that is not its own".into()));
    }
    let mut contents = Contents { records: Vec::with_capacity(RECORDS as usize), torn: false };
    let mut gap = None;
    for (place, bytes) in places.as_chunks::<RECORD>().0.iter().enumerate() {
        let record = if *bytes == [0; RECORD] { None } else { decode(bytes, sequence) };
        match record {
            Some(record) => {
                if let (Some(gap), false) = (gap, ending == Ending::Unsynced) {
                    return Err(damaged(format!("has a damaged record at byte {}", gap * RECORD + RECORD)));
                }
                contents.records.push(record);
            }
            None => {
                gap.get_or_insert(place);
                contents.torn |= *bytes != [0; RECORD];
            }
        }
    }
    match gap {
        Some(gap) if ending == Ending::Full => {
            Err(damaged(format!("has a damaged record at byte {}", (gap + 1) * RECORD)))
        }
        Some(gap) if ending == Ending::Open && !is_torn_tail(places, gap) => {
            Err(damaged(format!("has a damaged record at byte {}", (gap + 1) * RECORD)))
        }
        _ => Ok(contents),
    }
}

/// One record may have been half written; there is nothing behind it.
fn is_torn_tail(places: &[u8], gap: usize) -> bool {
    places[(gap + 1) * RECORD..].iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u8) -> Record {
        Record { salt: [n; 16], nanos: i64::from(n) * 1000, key: KeyTag(7) }
    }

    fn file(records: &[u8]) -> Vec<u8> {
        let mut bytes = header(3).to_vec();
        records.iter().for_each(|n| bytes.extend(encode(&record(*n), 3)));
        bytes.resize((RECORDS as usize + 1) * RECORD, 0);
        bytes
    }

    #[test]
    fn what_was_written_is_read_and_every_damage_is_noticed() {
        let whole = file(&[1, 2, 3]);
        let read =
            |bytes: &[u8], ending| read(bytes, 3, ending).map(|contents| (contents.records.len(), contents.torn));
        assert_eq!(read(&whole, Ending::Open), Ok((3, false)));
        assert!(read(&whole, Ending::Full).is_err(), "only the newest may have room left");
        for byte in 0..RECORD * 4 {
            for bit in 0..8 {
                let mut hurt = whole.clone();
                hurt[byte] ^= 1 << bit;
                let read = read(&hurt, Ending::Open);
                // The last record may be torn; before it nothing may be.
                let tail = byte >= RECORD * 3;
                assert_eq!(read == Ok((2, true)), tail, "byte {byte}: {read:?}");
                assert_eq!(read.is_err(), !tail, "byte {byte}: {read:?}");
            }
        }
        let mut zeroed = whole.clone();
        zeroed[RECORD * 2..RECORD * 3].fill(0);
        assert!(read(&zeroed, Ending::Open).is_err(), "zeros are an end, and nothing stands behind it");
        assert_eq!(read(&zeroed, Ending::Unsynced), Ok((2, false)), "but after a loss of power");
        assert!(read(&whole[..whole.len() - 1], Ending::Open).is_err());
        assert_eq!(
            super::read(&whole, 4, Ending::Open).err(),
            Some(Fault::Damaged("has a header that is not its own".into()))
        );
    }

    #[test]
    fn a_newer_version_is_told_by_name() {
        let mut newer = file(&[]);
        newer[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
        assert_eq!(read(&newer, 3, Ending::Open).err(), Some(Fault::Newer(VERSION + 1)));
    }
}
