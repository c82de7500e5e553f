//! The log that records are appended to: one segment that is being filled, and the next one, allocated before it is
//! needed.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::segment::{self, JournalId, RECORDS, Record, Segment, Sum};
use super::state::Sealed;
use super::witness::End;

/// See the module.
pub(super) struct Log {
    directory: PathBuf,
    journal: JournalId,
    appender: Mutex<Appender>,
    /// How many records fit into the allocated segments.
    room: AtomicUsize,
    /// Set while writes fail.
    broken: AtomicBool,
    /// Set for the rest of this run once a sync has failed, so that written records may not be on disk.
    given_up: AtomicBool,
    /// Whether the log is synced before it is closed.
    syncs: bool,
    #[cfg(test)]
    sync_fails: AtomicBool,
    #[cfg(test)]
    writes_fail: AtomicBool,
    #[cfg(test)]
    pub(super) writes: AtomicUsize,
}

/// A segment that takes no more records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    pub(super) newest: i64,
    pub(super) holds: Sealed,
}

/// A segment that is being filled.
pub(super) struct Open {
    pub(super) file: Arc<File>,
    /// The number of records, which is also the first vacant slot.
    pub(super) used: u32,
    pub(super) newest: i64,
    pub(super) holds: Sealed,
}

impl Open {
    /// A segment without records.
    pub(super) fn empty(file: File, sequence: u64) -> Self {
        let holds = Sealed { sequence, records: 0, sum: Sum::default() };
        Self { file: Arc::new(file), used: 0, newest: i64::MIN, holds }
    }

    pub(super) fn closed(&self) -> Closed {
        Closed { newest: self.newest, holds: self.holds }
    }

    pub(super) fn end(&self) -> End {
        End { sequence: self.holds.sequence, slot: self.used }
    }
}

/// What a sync put on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Synced {
    /// How many records this run has appended.
    pub(super) appended: u64,
    pub(super) end: End,
}

struct Appender {
    current: Open,
    next: Option<Open>,
    closed: VecDeque<Closed>,
    /// Closed since the last sync.
    unsynced: Vec<Arc<File>>,
    /// Records that will be written together.
    queued: Vec<Record>,
    /// How many records were ever queued, and how many of them have been written or have failed.
    taken: u64,
    settled: u64,
    /// The numbers of records whose write failed. Consecutive failures share one range.
    missed: Vec<RangeInclusive<u64>>,
    /// Records that could not be written yet. Their claims got [`NotWritten`].
    owed: Vec<Record>,
    /// How many records this run has appended.
    appended: u64,
}

/// A record could not be written. Its salt counts as spent, and the record is written when writing works again.
#[derive(Debug)]
pub(super) struct NotWritten;

impl Log {
    pub(super) fn new(
        directory: &Path,
        journal: JournalId,
        syncs: bool,
        current: Open,
        next: Option<Open>,
        closed: VecDeque<Closed>,
    ) -> Self {
        let left = std::iter::once(&current).chain(&next).map(|open| (RECORDS - open.used) as usize).sum();
        let room = AtomicUsize::new(left);
        let appender = Appender {
            current,
            next,
            closed,
            unsynced: Vec::new(),
            queued: Vec::new(),
            taken: 0,
            settled: 0,
            missed: Vec::new(),
            owed: Vec::new(),
            appended: 0,
        };
        Self {
            directory: directory.into(),
            journal,
            appender: Mutex::new(appender),
            room,
            broken: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            syncs,
            #[cfg(test)]
            sync_fails: AtomicBool::new(false),
            #[cfg(test)]
            writes_fail: AtomicBool::new(false),
            #[cfg(test)]
            writes: AtomicUsize::new(0),
        }
    }

    /// How many records fit; 0 while writes fail.
    pub(super) fn room(&self) -> usize {
        if self.broken.load(Ordering::Acquire) || self.given_up.load(Ordering::Acquire) {
            return 0;
        }
        self.room.load(Ordering::Acquire)
    }

    /// Queues a record, to be written with the others of the same event loop iteration. Returns its number.
    pub(super) fn queue(&self, record: &Record) -> Result<u64, NotWritten> {
        let mut appender = self.appender();
        if self.given_up.load(Ordering::Acquire) {
            return Err(NotWritten);
        }
        appender.queued.push(*record);
        appender.taken += 1;
        // Records that could not be written keep their room.
        let less = |room: usize| Some(room.saturating_sub(1));
        let _ = self.room.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        Ok(appender.taken)
    }

    /// Makes sure that a record was written to the operating system: from then on it survives the process. The first
    /// caller writes all queued records. Returns how many records were ever written.
    pub(super) fn written(&self, number: u64) -> Result<u64, NotWritten> {
        let mut appender = self.appender();
        if appender.settled < number {
            self.write_queued(&mut appender);
        }
        let missed = appender.missed.iter().any(|missed| missed.contains(&number));
        if missed || self.given_up.load(Ordering::Acquire) { Err(NotWritten) } else { Ok(appender.appended) }
    }

    fn write_queued(&self, appender: &mut Appender) {
        let mut queued = std::mem::take(&mut appender.queued);
        let written = self.write(appender, &queued);
        let first = appender.settled + 1;
        appender.settled += queued.len() as u64;
        if written < queued.len() {
            let (from, to) = (first + written as u64, appender.settled);
            match appender.missed.last_mut() {
                Some(before) if *before.end() + 1 == from => *before = *before.start()..=to,
                _ => appender.missed.push(from..=to),
            }
            appender.owed.extend_from_slice(&queued[written..]);
        }
        // The buffer is used again for the next batch.
        queued.clear();
        appender.queued = queued;
    }

    /// Writes records, with one write per segment. Returns how many were written.
    fn write(&self, appender: &mut Appender, records: &[Record]) -> usize {
        let mut written = 0;
        while written < records.len() {
            if appender.current.used == RECORDS {
                let Some(next) = appender.next.take() else { return written };
                let full = std::mem::replace(&mut appender.current, next);
                appender.closed.push_back(full.closed());
                // A log that is synced only at its end opens its files again for that: an open file uses a
                // descriptor, and keeps its disk space even after it is removed.
                if self.syncs {
                    appender.unsynced.push(full.file);
                }
            }
            let Open { file, used, newest, holds } = &mut appender.current;
            let rest = &records[written..];
            let these = &rest[..rest.len().min((RECORDS - *used) as usize)];
            let bytes = Segment { journal: self.journal, sequence: holds.sequence }.encode(these, *used);
            let put = file.write_all_at(bytes.as_flattened(), segment::offset(*used));
            #[cfg(test)]
            let put =
                if self.writes_fail.load(Ordering::Acquire) { Err(io::ErrorKind::StorageFull.into()) } else { put };
            #[cfg(test)]
            self.writes.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = put {
                if !self.broken.swap(true, Ordering::AcqRel) {
                    tracing::error!(%error, "the replay journal cannot be written: nothing is admitted until it can");
                }
                return written;
            }
            *used += these.len() as u32;
            holds.records += these.len() as u32;
            holds.sum.add(bytes.as_flattened());
            *newest = these.iter().map(|record| record.nanos).fold(*newest, i64::max);
            appender.appended += these.len() as u64;
            written += these.len();
        }
        written
    }

    /// Whether the next segment should be allocated.
    pub(super) fn is_short(&self) -> bool {
        self.room.load(Ordering::Relaxed) < RECORDS as usize
    }

    /// Whether writes fail.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// The number of the segment to allocate, if none is ready.
    pub(super) fn wants(&self) -> Option<u64> {
        let appender = self.appender();
        appender.next.is_none().then_some(appender.current.holds.sequence + 1)
    }

    /// Creates a segment on disk; it is not in use yet.
    pub(super) fn prepare(&self, sequence: u64) -> io::Result<Open> {
        let file = Segment { journal: self.journal, sequence }.create(&self.directory)?;
        Ok(Open::empty(file, sequence))
    }

    /// Puts the next segment into use. The state on disk must name it already.
    pub(super) fn install(&self, next: Open) {
        self.appender().next = Some(next);
        self.room.fetch_add(RECORDS as usize, Ordering::AcqRel);
    }

    /// Syncs the records appended so far. Returns how many they are, and where they end.
    pub(super) fn sync(&self) -> io::Result<Synced> {
        let (files, synced) = {
            let mut appender = self.appender();
            let mut files = std::mem::take(&mut appender.unsynced);
            files.push(appender.current.file.clone());
            (files, Synced { appended: appender.appended, end: appender.end() })
        };
        #[cfg(test)]
        if self.sync_fails.swap(false, Ordering::AcqRel) {
            return Err(io::Error::other("as a test asked"));
        }
        files.iter().try_for_each(|file| file.sync_data())?;
        Ok(synced)
    }

    /// Where the log ends now.
    pub(super) fn end(&self) -> End {
        self.appender().end()
    }

    /// Writes and syncs everything before the log is closed. Returns what each segment holds.
    pub(super) fn seal(&self) -> io::Result<Vec<Sealed>> {
        self.write_queued(&mut self.appender());
        if !self.syncs {
            let closed: Vec<u64> = self.appender().closed.iter().map(|closed| closed.holds.sequence).collect();
            for sequence in closed {
                File::open(segment::path(&self.directory, sequence))?.sync_data()?;
            }
        }
        self.sync()?;
        let appender = self.appender();
        let open = std::iter::once(&appender.current).chain(&appender.next).map(|open| open.holds);
        Ok(appender.closed.iter().map(|closed| closed.holds).chain(open).collect())
    }

    #[cfg(test)]
    pub(super) fn fail_writes(&self, fail: bool) {
        self.writes_fail.store(fail, Ordering::Release);
    }

    #[cfg(test)]
    pub(super) fn fail_next_sync(&self) {
        self.sync_fails.store(true, Ordering::Release);
    }

    /// How many records were appended.
    pub(super) fn appended(&self) -> u64 {
        self.appender().appended
    }

    /// After a failed write: makes its slots vacant again, then writes the records that are still due.
    pub(super) fn mend(&self) {
        if self.given_up.load(Ordering::Acquire) {
            return;
        }
        let mut appender = self.appender();
        let broken = self.broken.load(Ordering::Acquire);
        if broken {
            // The failed write may have left some records there, whole or in part.
            let Open { file, used, holds, .. } = &appender.current;
            let slots = u32::try_from(appender.owed.len()).unwrap_or(RECORDS).max(1).min(RECORDS - *used);
            let vacant = Segment { journal: self.journal, sequence: holds.sequence }.vacant(*used, slots);
            if file.write_all_at(&vacant, segment::offset(*used)).is_err() {
                return;
            }
        }
        let owed = std::mem::take(&mut appender.owed);
        let written = self.write(&mut appender, &owed);
        if written < owed.len() {
            appender.owed.extend_from_slice(&owed[written..]);
            return;
        }
        if broken {
            self.broken.store(false, Ordering::Release);
            tracing::warn!("the replay journal can be written again");
        }
    }

    /// Stops accepting records for the rest of this run, because written records may not be on disk.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    /// The numbers of the first and the last segment.
    pub(super) fn span(&self) -> (u64, u64) {
        let appender = self.appender();
        let first = appender.closed.front().map_or(appender.current.holds.sequence, |closed| closed.holds.sequence);
        (first, appender.next.as_ref().unwrap_or(&appender.current).holds.sequence)
    }

    /// Drops the oldest segments without a salt above the floor from the log. Their files remain.
    pub(super) fn release(&self, floor: i64) {
        let mut appender = self.appender();
        let free = appender.closed.iter().take_while(|closed| closed.newest <= floor).count();
        appender.closed.drain(..free);
    }

    fn appender(&self) -> MutexGuard<'_, Appender> {
        // After a panic the counters still say which records were written.
        self.appender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Appender {
    fn end(&self) -> End {
        self.current.end()
    }
}
