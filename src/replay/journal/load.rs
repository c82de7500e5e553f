//! Loads the segments of an earlier run into the set of salts, on all cores.

use std::collections::VecDeque;
use std::io;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::doubt::Doubt;
use super::error::JournalError;
use super::log::{Closed, Open};
use super::segment::{self, JournalId, RECORDS, Segment, Shape};
use super::state::Sealed;
use super::witness::End;
use crate::replay::Window;
use crate::replay::salt_set::SaltSet;
use crate::state as disk;

/// What the segments of a journal must look like.
pub(super) struct Expected<'s> {
    pub(super) journal: JournalId,
    pub(super) numbers: RangeInclusive<u64>,
    /// What each segment holds, if the journal was closed cleanly.
    pub(super) closed: Option<&'s [Sealed]>,
    /// Segments in which any slot may be vacant.
    pub(super) holes: &'s [u64],
    /// The first segment that may have been in use when the machine stopped. In it and in later ones, any slot may be
    /// vacant or half written.
    pub(super) lost_power_at: Option<u64>,
}

/// The segments of a log that is continued.
pub(super) struct Loaded {
    pub(super) closed: VecDeque<Closed>,
    /// The segment to continue with.
    pub(super) current: Option<Open>,
    /// The segment after it, if it was allocated already.
    pub(super) next: Option<Open>,
    /// The first slot without a record that a record could have been written to.
    pub(super) end: End,
}

/// A segment as read.
struct Read {
    open: Open,
    records: Vec<segment::Record>,
    /// The first slot without a record, or the end of the segment where vacant slots mean nothing.
    end: u32,
}

/// Why segments cannot be used.
pub(super) enum Unusable {
    /// Records may be missing. The journal starts behind the fence, without these segments.
    Doubted(Doubt),
    /// They are damaged or cannot be read. The journal does not start.
    Refused(JournalError),
}

impl From<JournalError> for Unusable {
    fn from(error: JournalError) -> Self {
        Self::Refused(error)
    }
}

/// Loads all segments.
pub(super) fn load(
    directory: &Path,
    expected: &Expected<'_>,
    salts: &SaltSet,
    window: Window,
) -> Result<Loaded, Unusable> {
    let numbers: Vec<u64> = expected.numbers.clone().collect();
    if let Some(closed) = expected.closed {
        if !closed.iter().map(|it| it.sequence).eq(numbers.iter().copied()) {
            let what = "does not list the segments that the journal has";
            return Err(JournalError::Damaged(directory.join(super::state::NAME), what.into()).into());
        }
    }
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(numbers.len());
    let share = numbers.len().div_ceil(threads.max(1)).max(1);
    let twice = AtomicBool::new(false);
    let one = |sequence: &u64| {
        let Read { open, records, end } = read(directory, expected, *sequence)?;
        let all_new = salts.load_spent(records.into_iter().map(|it| (it.salt, it.nanos, it.key)), window);
        twice.fetch_or(!all_new, Ordering::Relaxed);
        Ok((open, end))
    };
    let one = &one;
    let read = std::thread::scope(|scope| {
        let shares = numbers.chunks(share);
        let threads: Vec<_> =
            shares.map(|share| scope.spawn(move || share.iter().map(one).collect::<Vec<_>>())).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let died = |_| JournalError::io(directory, "cannot be loaded", io::Error::other("a loading thread panicked"));
    let mut segments = Vec::with_capacity(numbers.len());
    let mut end = End { sequence: *expected.numbers.end() + 1, slot: 0 };
    let mut doubted = None;
    for segment in read.into_iter().flat_map(|share| share.unwrap_or_else(|error| vec![Err(died(error).into())])) {
        match segment {
            Ok((segment, first_gap)) => {
                if first_gap < RECORDS {
                    end = end.min(End { sequence: segment.holds.sequence, slot: first_gap });
                }
                segments.push(segment);
            }
            Err(Unusable::Doubted(doubt)) => doubted = Some(doubt),
            // Damage that no crash explains takes precedence.
            Err(refused @ Unusable::Refused(_)) => return Err(refused),
        }
    }
    let loaded = arrange(segments, end, directory)?;
    // After a clean close the contents are verified by their checksums, so a repeated salt is no reason for doubt.
    match doubted.or((expected.closed.is_none() && twice.into_inner()).then_some(Doubt::Twice)) {
        None => Ok(loaded),
        Some(doubt) => Err(Unusable::Doubted(doubt)),
    }
}

fn read(directory: &Path, expected: &Expected<'_>, sequence: u64) -> Result<Read, Unusable> {
    let segment = Segment { journal: expected.journal, sequence };
    let path = segment.path(directory);
    let damaged = |what: String| Unusable::Refused(JournalError::Damaged(path.clone(), what));
    let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => damaged("is missing".into()),
        _ => JournalError::io(&path, "cannot be read", error).into(),
    })?;
    let contents = segment.read(&bytes).map_err(|fault| JournalError::fault(path.clone(), fault))?;
    let records = contents.records.len() as u32;
    let holds = Sealed { sequence, records, sum: contents.sum };
    let lost_power = expected.lost_power_at.is_some_and(|first| sequence >= first);
    let had_holes = expected.holes.contains(&sequence);
    let may_have_holes = lost_power || had_holes;
    match contents.shape {
        Shape::DamagedEnd(byte) | Shape::Damaged(byte) if lost_power => {
            return Err(Unusable::Doubted(Doubt::DamagedRecord(path, byte)));
        }
        // A kill may leave the last record half written, which looks the same as damage.
        Shape::DamagedEnd(byte)
            if expected.closed.is_none() && sequence.saturating_add(2) > *expected.numbers.end() =>
        {
            return Err(Unusable::Doubted(Doubt::DamagedRecord(path, byte)));
        }
        Shape::DamagedEnd(byte) | Shape::Damaged(byte) => {
            return Err(damaged(format!("has a damaged record at byte {byte}")));
        }
        Shape::Holes if !may_have_holes => return Err(damaged("has records missing between others".into())),
        Shape::Holes | Shape::Dense => {}
    }
    if let Some(closed) = expected.closed.and_then(|all| all.iter().find(|it| it.sequence == sequence)) {
        if *closed != holds {
            return Err(damaged(format!(
                "holds {records} records, which are not the {} that it held when the journal was closed",
                closed.records
            )));
        }
    }
    let opened = disk::file().read(true).write(true).open(&path);
    let file = opened.map_err(|error| JournalError::io(&path, "cannot be opened", error))?;
    let newest = contents.records.iter().map(|record| record.nanos).max().unwrap_or(i64::MIN);
    // Nothing more is written to a segment that may have holes.
    let used = if may_have_holes && records > 0 { RECORDS } else { records };
    let open = Open { file: Arc::new(file), used, newest, holds };
    let end = if had_holes { open.used } else { contents.end };
    Ok(Read { open, records: contents.records, end })
}

fn arrange(segments: Vec<Open>, end: End, directory: &Path) -> Result<Loaded, JournalError> {
    let mut closed = VecDeque::new();
    let mut open: VecDeque<Open> = VecDeque::new();
    for segment in segments {
        if segment.used > 0 {
            if let Some(before) = open.pop_front() {
                let file = segment::path(directory, before.holds.sequence);
                return Err(JournalError::Damaged(file, "is not full, although the segment after it is in use".into()));
            }
        }
        if segment.used == RECORDS { closed.push_back(segment.closed()) } else { open.push_back(segment) }
    }
    Ok(Loaded { closed, current: open.pop_front(), next: open.pop_front(), end })
}
