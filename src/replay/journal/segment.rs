//! The files of a journal: one header, then 32 767 slots of 32 bytes, each of which holds a record or is vacant.
//!
//! 1. A file has its full length from the start, so that writing a record never needs more disk space.
//! 2. A vacant slot is marked as vacant, with a checksum. Zeros are neither a record nor vacant: like everything that
//!    the journal did not write, they are damage.
//! 3. A checksum covers the slot's content, its number, its file's number and the journal's id. So a record that was
//!    copied or moved, within this journal or from another, is damage too.
//! 4. Records are written in consecutive slots.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::super::ledger::KeyTag;
use crate::credential::SaltId;
use crate::state as disk;

/// The version of the format of segments and of the state.
pub(super) const VERSION: u32 = 2;
/// Bytes of a record, and of the header.
pub(super) const RECORD: usize = 32;
/// Records per segment: with the header, one mebibyte. Tests use few, because they fill many segments.
pub(super) const RECORDS: u32 = if cfg!(any(test, fuzzing)) { 255 } else { (1 << 20) / RECORD as u32 - 1 };

const LENGTH: usize = (RECORDS as usize + 1) * RECORD;
const MAGIC: &[u8; 8] = b"SALTJRNL";
/// The content of a vacant slot, before its checksum. A salt has this hash with a probability of 2^-128.
const VACANT: [u8; RECORD - 4] = [0xff; RECORD - 4];

/// Identifies the journal that a file belongs to: random, drawn when the journal is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JournalId(pub(super) u64);

impl JournalId {
    pub(super) fn new() -> io::Result<Self> {
        getrandom::u64().map(Self).map_err(io::Error::other)
    }
}

/// A file of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) journal: JournalId,
    /// The number of the segment; the first is 1.
    pub(super) sequence: u64,
}

/// A spent salt as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) salt: SaltId,
    /// The date that was signed with the salt, in nanoseconds since 1970.
    pub(super) nanos: i64,
    pub(super) key: KeyTag,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SegmentFault {
    /// A later version of Saltgate wrote it.
    Newer(u32),
    /// Anything else, as a text.
    Damaged(String),
}

/// The records of a file, and how they are arranged.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) records: Vec<Record>,
    /// A checksum over all records in order.
    pub(super) sum: Sum,
    /// The first slot without a record.
    pub(super) end: u32,
    pub(super) shape: Shape,
}

/// How the records of a file are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Consecutive from the first slot on, followed by vacant slots only.
    Dense,
    /// With vacant slots between them.
    Holes,
    /// Like `Dense`, but the slot after the last record is damaged: its byte offset.
    DamagedEnd(usize),
    /// Another slot is damaged: the byte offset of the first.
    Damaged(usize),
}

/// A running checksum over records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum(pub(super) u32);

impl Sum {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let mut sum = crc32fast::Hasher::new_with_initial(self.0);
        sum.update(bytes);
        self.0 = sum.finalize();
    }
}

impl Segment {
    pub(super) fn path(self, directory: &Path) -> PathBuf {
        path(directory, self.sequence)
    }

    /// Creates the file with its full length, and syncs it.
    pub(super) fn create(self, directory: &Path) -> io::Result<File> {
        let path = self.path(directory);
        let made = disk::file().read(true).write(true).create(true).truncate(true).open(&path);
        let written = made.and_then(|file| {
            allocate(&file)?;
            file.write_all_at(&self.empty(), 0)?;
            file.sync_all()?;
            File::open(directory)?.sync_all()?;
            Ok(file)
        });
        if written.is_err() {
            // Half a file would waste disk space.
            drop(std::fs::remove_file(path));
        }
        written
    }

    /// The bytes of a file without records.
    pub(super) fn empty(self) -> Vec<u8> {
        [self.header().as_slice(), &self.vacant(0, RECORDS)].concat()
    }

    /// The bytes of vacant slots.
    pub(super) fn vacant(self, first: u32, slots: u32) -> Vec<u8> {
        let seed = self.seed();
        let mut bytes = Vec::with_capacity(slots as usize * RECORD);
        for slot in first..first + slots {
            bytes.extend_from_slice(&sealed(VACANT, seed, slot));
        }
        bytes
    }

    /// The bytes of records in consecutive slots.
    pub(super) fn encode(self, records: &[Record], first: u32) -> Vec<[u8; RECORD]> {
        let seed = self.seed();
        (first..).zip(records).map(|(slot, record)| sealed(record.bytes(), seed, slot)).collect()
    }

    fn header(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.journal.0.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.sequence.to_le_bytes());
        let sum = checksum(&bytes[..28], 0);
        bytes[28..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The initial value of the checksums of its slots.
    fn seed(self) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&self.journal.0.to_le_bytes());
        sum.update(&self.sequence.to_le_bytes());
        sum.finalize()
    }

    /// Reads a whole file.
    pub(super) fn read(self, bytes: &[u8]) -> Result<Contents, SegmentFault> {
        let damaged = |what: String| SegmentFault::Damaged(what);
        if bytes.len() != LENGTH {
            return Err(damaged(format!("is {} bytes long", bytes.len())));
        }
        let (head, slots) = bytes.split_at(RECORD);
        if head[..8] != *MAGIC {
            return Err(damaged("does not begin like the file of a journal".into()));
        }
        let version = head[8..12].try_into().map_or(0, u32::from_le_bytes);
        if version > VERSION {
            return Err(SegmentFault::Newer(version));
        }
        if head != self.header() {
            return Err(damaged("has the header of another file, or a damaged one".into()));
        }
        let seed = self.seed();
        let (records, sum) = (Vec::with_capacity(RECORDS as usize), Sum::default());
        let mut contents = Contents { records, sum, end: RECORDS, shape: Shape::Dense };
        let (mut gap, mut first_damage, mut damage) = (false, None, 0);
        for (slot, bytes) in (0..).zip(slots.as_chunks::<RECORD>().0) {
            match decode(bytes, seed, slot) {
                Slot::Record(record) => {
                    if gap {
                        contents.shape = Shape::Holes;
                    }
                    contents.sum.add(bytes);
                    contents.records.push(record);
                }
                Slot::Vacant => {
                    gap = true;
                    contents.end = contents.end.min(slot);
                }
                Slot::Damaged => {
                    first_damage.get_or_insert((slot, gap));
                    damage += 1;
                    gap = true;
                    contents.end = contents.end.min(slot);
                }
            }
        }
        if let Some((slot, behind_vacant)) = first_damage {
            let byte = offset(slot) as usize;
            let at_the_end = damage == 1 && !behind_vacant && contents.shape == Shape::Dense;
            contents.shape = if at_the_end { Shape::DamagedEnd(byte) } else { Shape::Damaged(byte) };
        }
        Ok(contents)
    }
}

/// The path of the segment with this number.
pub(super) fn path(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{sequence:012}.salts"))
}

/// Whether these bytes are a file, possibly incomplete, that never held a record.
pub(super) fn never_held_any(bytes: &[u8]) -> bool {
    let zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    // Fewer bytes than a header hold no record.
    let Some((head, slots)) = bytes.split_at_checked(RECORD) else { return true };
    let journal = head[12..20].try_into().map_or(0, u64::from_le_bytes);
    let sequence = head[20..28].try_into().map_or(0, u64::from_le_bytes);
    let segment = Segment { journal: JournalId(journal), sequence };
    let seed = segment.seed();
    let is_empty =
        |(slot, bytes): (u32, &[u8; RECORD])| matches!(decode(bytes, seed, slot), Slot::Vacant) || zeros(bytes);
    (head == segment.header() || zeros(head)) && (0..).zip(slots.as_chunks::<RECORD>().0).all(is_empty)
}

fn allocate(file: &File) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, LENGTH as u64) {
        // A file system that cannot allocate in advance does so, or fails, when the file is written.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn offset(slot: u32) -> u64 {
    (u64::from(slot) + 1) * RECORD as u64
}

/// The content of a slot.
enum Slot {
    Record(Record),
    Vacant,
    Damaged,
}

fn decode(bytes: &[u8; RECORD], seed: u32, slot: u32) -> Slot {
    let (body, sum) = bytes.split_at(RECORD - 4);
    if checksum(body, seed ^ slot).to_le_bytes() != *sum {
        return Slot::Damaged;
    }
    if *body == VACANT {
        return Slot::Vacant;
    }
    Record::read(body).map_or(Slot::Damaged, Slot::Record)
}

/// The numbers of the segments in a directory, in order.
pub(super) fn segments(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        if let Some(number) = name.to_str().and_then(|name| name.strip_suffix(".salts")?.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

impl Record {
    fn bytes(&self) -> [u8; RECORD - 4] {
        let mut bytes = [0; RECORD - 4];
        bytes[..16].copy_from_slice(self.salt.bytes());
        bytes[16..24].copy_from_slice(&self.nanos.to_le_bytes());
        bytes[24..].copy_from_slice(&self.key.0.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            salt: SaltId::from_stored(bytes[..16].try_into().ok()?),
            nanos: i64::from_le_bytes(bytes[16..24].try_into().ok()?),
            key: KeyTag(u32::from_le_bytes(bytes[24..].try_into().ok()?)),
        })
    }
}

/// A slot with its checksum. A CRC is a bijection of its initial value, so the same bytes in another slot of the file
/// never have the same checksum.
fn sealed(body: [u8; RECORD - 4], seed: u32, slot: u32) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..RECORD - 4].copy_from_slice(&body);
    bytes[RECORD - 4..].copy_from_slice(&checksum(&body, seed ^ slot).to_le_bytes());
    bytes
}

fn checksum(bytes: &[u8], begin: u32) -> u32 {
    let mut sum = crc32fast::Hasher::new_with_initial(begin ^ 0x5a17_6a7e);
    sum.update(bytes);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Segment = Segment { journal: JournalId(7), sequence: 3 };

    fn record(n: u8) -> Record {
        Record { salt: SaltId::from_stored([n; 16]), nanos: i64::from(n) * 1000, key: KeyTag(7) }
    }

    fn file(records: &[u8]) -> Vec<u8> {
        let mut bytes = FILE.empty();
        let records: Vec<Record> = records.iter().map(|n| record(*n)).collect();
        let encoded = FILE.encode(&records, 0);
        bytes[RECORD..RECORD * (records.len() + 1)].copy_from_slice(encoded.as_flattened());
        bytes
    }

    fn shape(bytes: &[u8]) -> (usize, Shape) {
        let contents = FILE.read(bytes).unwrap();
        (contents.records.len(), contents.shape)
    }

    #[test]
    fn records_are_read_as_written_and_every_flipped_bit_is_noticed() {
        let whole = file(&[1, 2, 3]);
        assert_eq!(shape(&whole), (3, Shape::Dense));
        for byte in 0..RECORD * 5 {
            let mut hurt = whole.clone();
            hurt[byte] ^= 1 << (byte % 8);
            let begins = byte / RECORD * RECORD;
            match byte / RECORD {
                0 => assert!(FILE.read(&hurt).is_err(), "byte {byte}"),
                1 | 2 => assert_eq!(shape(&hurt), (2, Shape::Damaged(begins)), "byte {byte}"),
                3 => assert_eq!(shape(&hurt), (2, Shape::DamagedEnd(begins)), "byte {byte}"),
                // The first slot that was never used.
                _ => assert_eq!(shape(&hurt), (3, Shape::DamagedEnd(begins)), "byte {byte}"),
            }
        }
        // Every bit of a single slot.
        let slot: [u8; RECORD] = whole[RECORD..RECORD * 2].try_into().unwrap();
        for (byte, bit) in (0..RECORD).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            let mut hurt = slot;
            hurt[byte] ^= 1 << bit;
            assert!(matches!(decode(&hurt, FILE.seed(), 0), Slot::Damaged), "byte {byte}, bit {bit}");
        }
        assert!(FILE.read(&whole[..whole.len() - 1]).is_err());
        let other = Segment { sequence: 4, ..FILE };
        assert_eq!(
            other.read(&whole).err(),
            Some(SegmentFault::Damaged("has the header of another file, or a damaged one".into()))
        );
    }

    #[test]
    fn zeros_and_misplaced_records_are_damage() {
        let whole = file(&[1, 2, 3]);
        let with = |slot: usize, bytes: &[u8]| {
            let mut hurt = whole.clone();
            hurt[RECORD * slot..RECORD * slot + bytes.len()].copy_from_slice(bytes);
            shape(&hurt)
        };
        let slot = |n: usize| &whole[RECORD * n..RECORD * (n + 1)];
        assert_eq!(with(3, &[0; RECORD]), (2, Shape::DamagedEnd(RECORD * 3)), "zeros");
        assert_eq!(with(2, &[0; RECORD * 4]), (1, Shape::Damaged(RECORD * 2)), "more zeros");
        assert_eq!(with(3, slot(1)), (2, Shape::DamagedEnd(RECORD * 3)), "a copy");
        assert_eq!(with(3, slot(4)), (2, Shape::DamagedEnd(RECORD * 3)), "a vacant slot");
        assert_eq!(with(1, slot(2)), (2, Shape::Damaged(RECORD)), "one of two that were swapped");
        let alike = Segment { journal: JournalId(8), ..FILE }.encode(&[record(3)], 2);
        assert_eq!(with(3, &alike[0]), (2, Shape::DamagedEnd(RECORD * 3)), "another journal's");
        let hole = FILE.vacant(1, 1);
        assert_eq!(with(2, &hole), (2, Shape::Holes), "what was never written");
    }

    #[test]
    fn a_newer_version_is_refused_with_its_number() {
        let mut newer = file(&[]);
        newer[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
        assert_eq!(FILE.read(&newer).err(), Some(SegmentFault::Newer(VERSION + 1)));
    }

    #[test]
    fn a_file_that_never_held_a_record_is_recognised() {
        let empty = file(&[]);
        for length in [0, 5, RECORD, RECORD * 2 + 1, empty.len()] {
            assert!(never_held_any(&empty[..length]), "{length}");
        }
        assert!(never_held_any(&vec![0; empty.len()]), "room that nothing was written to");
        assert!(!never_held_any(&file(&[1])));
        let mut hurt = file(&[1]);
        hurt[RECORD + 3] ^= 1;
        assert!(!never_held_any(&hurt));
    }
}
