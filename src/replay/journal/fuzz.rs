//! Fuzz targets for the files of a journal, checked against a second, independent reader.

use serde_json::Value;

use super::segment::{
    JournalId, RECORD, RECORDS, Record, Segment, SegmentFault, Shape, VERSION, never_held_any, offset,
};
use super::{state, witness};
use crate::credential::SaltId;
use crate::replay::ledger::KeyTag;

const FILE: Segment = Segment { journal: JournalId(7), sequence: 3 };
const MAGIC: u32 = 0x5a17_6a7e;

/// A segment changed by the input, four bytes a step. Its records and their end must equal what the second reader
/// finds.
pub(crate) fn segment(bytes: &[u8]) {
    let Some((head, steps)) = bytes.split_first() else { return };
    let mut file = FILE.empty();
    for step in steps.chunks_exact(4) {
        done([step[0], step[1], step[2], step[3]], &mut file);
    }
    match head {
        1 => file.truncate(file.len().saturating_sub(1 + steps.len())),
        2 => file[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes()),
        3 => file[20] ^= 1,
        4 => file.push(0),
        _ => {}
    }
    let others = [Segment { sequence: 2, ..FILE }, Segment { journal: JournalId(8), ..FILE }];
    assert!(others.iter().all(|other| other.read(&file).is_err()), "another segment's");
    match (head, FILE.read(&file)) {
        (2, Err(fault)) => assert_eq!(fault, SegmentFault::Newer(VERSION + 1)),
        (1 | 3 | 4, Err(SegmentFault::Damaged(why))) => assert!(!why.is_empty()),
        (1..=4, read) => panic!("{head}: {read:?}"),
        (_, Err(fault)) => panic!("{fault:?}"),
        (_, Ok(contents)) => {
            let slots: Vec<Slot> = (0..RECORDS).map(|slot| Slot::read(&file, slot)).collect();
            let records: Vec<Record> = slots.iter().filter_map(|slot| slot.record()).collect();
            assert_eq!(contents.records, records);
            let (end, shape) = shape(&slots);
            assert_eq!((contents.end, contents.shape), (end, shape));
            if shape == Shape::Dense {
                let mut again = FILE.empty();
                let encoded = FILE.encode(&records, 0);
                again[RECORD..RECORD * (records.len() + 1)].copy_from_slice(encoded.as_flattened());
                assert!(again == file, "not all of the text was parsed");
            }
            assert!(!never_held_any(&file) || records.is_empty());
        }
    }
}

/// One step writes a record, a vacant slot, zeros, a copy, or a byte.
fn done([what, to, from, byte]: [u8; 4], file: &mut [u8]) {
    let slot = |n: u8| u32::from(n) % RECORDS;
    let at = |n: u8| offset(slot(n)) as usize;
    let record =
        Record { salt: SaltId::from_stored([byte; 16]), nanos: i64::from(from) - 100, key: KeyTag(u32::from(byte)) };
    match what % 6 {
        0 | 1 => file[at(to)..at(to) + RECORD].copy_from_slice(&FILE.encode(&[record], slot(to))[0]),
        2 => file[at(to)..at(to) + RECORD].copy_from_slice(&FILE.vacant(slot(to), 1)),
        3 => file[at(to)..at(to) + RECORD].fill(0),
        4 => file.copy_within(at(from)..at(from) + RECORD, at(to)),
        _ => file[at(to) + usize::from(from) % RECORD] ^= byte,
    }
}

/// The content of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Record(Record),
    Vacant,
    Damaged,
}

impl Slot {
    fn read(file: &[u8], slot: u32) -> Self {
        let bytes = &file[offset(slot) as usize..][..RECORD];
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let ids = [7_u64.to_le_bytes(), 3_u64.to_le_bytes()].concat();
        let sum = crc(&bytes[..28], crc(&ids, 0) ^ slot ^ MAGIC);
        if sum.to_le_bytes() != bytes[28..] {
            return Self::Damaged;
        }
        if bytes[..28].iter().all(|byte| *byte == 0xff) {
            return Self::Vacant;
        }
        let key = u32::from_le_bytes(bytes[24..28].try_into().expect("four bytes"));
        let salt = SaltId::from_stored(bytes[..16].try_into().expect("sixteen bytes"));
        Self::Record(Record { salt, nanos: number(16).cast_signed(), key: KeyTag(key) })
    }

    fn record(self) -> Option<Record> {
        if let Self::Record(record) = self { Some(record) } else { None }
    }
}

/// The first slot without a record, and how the records are arranged.
fn shape(slots: &[Slot]) -> (u32, Shape) {
    let is_record = |slot: &Slot| slot.record().is_some();
    let end = slots.iter().take_while(|slot| is_record(slot)).count();
    let dense = !slots[end..].iter().any(is_record);
    let damaged: Vec<usize> = (0..slots.len()).filter(|at| slots[*at] == Slot::Damaged).collect();
    let byte = |slot: usize| (slot + 1) * RECORD;
    let shape = match damaged[..] {
        [] if dense => Shape::Dense,
        [] => Shape::Holes,
        [only] if dense && only == end => Shape::DamagedEnd(byte(only)),
        [first, ..] => Shape::Damaged(byte(first)),
    };
    (u32::try_from(end).expect("few"), shape)
}

/// CRC-32 continued from `sum`, computed by its definition, four bits at a time.
fn crc(bytes: &[u8], sum: u32) -> u32 {
    const TABLE: [u32; 16] = {
        let (mut table, mut n) = ([0; 16], 0);
        while n < 16 {
            let (mut row, mut bit) = (n as u32, 0);
            while bit < 4 {
                row = if row & 1 == 1 { row >> 1 ^ 0xedb8_8320 } else { row >> 1 };
                bit += 1;
            }
            table[n] = row;
            n += 1;
        }
        table
    };
    !bytes.iter().fold(!sum, |sum, byte| {
        let sum = sum ^ u32::from(*byte);
        let sum = sum >> 4 ^ TABLE[(sum & 15) as usize];
        sum >> 4 ^ TABLE[(sum & 15) as usize]
    })
}

/// The state of a journal: an accepted one is written again as the same bytes. If the first byte is a space, the rest
/// is JSON and gets a valid checksum.
pub(crate) fn state(bytes: &[u8]) {
    let sealed = match bytes.split_first() {
        Some((b' ', rest)) => serde_json::from_slice::<Value>(rest).ok().and_then(state::sealed),
        _ => None,
    };
    state::fuzz(sealed.as_deref().unwrap_or(bytes));
}

/// A witness: the values read are those in the bytes. If the first byte is a space, the rest gets a valid checksum.
pub(crate) fn witness(bytes: &[u8]) {
    let sealed = match bytes.split_first() {
        Some((b' ', rest)) => rest.get(..60).map(|rest| [rest, &crc(rest, 0).to_le_bytes()].concat()),
        _ => None,
    };
    let bytes = sealed.as_deref().unwrap_or(bytes);
    let is_one = bytes.len() == 64
        && bytes[..16] == *b"SALTGATE WITNESS"
        && bytes[52..60] == [0; 8]
        && bytes[60..] == crc(&bytes[..60], 0).to_le_bytes();
    let Some(seen) = witness::parse(bytes) else { return assert!(!is_one) };
    assert!(is_one);
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    assert_eq!((seen.journal.0, seen.starts, seen.end.sequence), (number(16), number(24), number(32)));
    assert_eq!(u64::from(seen.end.slot), number(40) & 0xffff_ffff);
    assert_eq!(seen.reach, i64::from_le_bytes(bytes[44..52].try_into().expect("eight bytes")));
}
