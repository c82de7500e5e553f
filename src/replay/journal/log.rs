//! Where records are appended: one segment that is being filled, and the next, made ready before
//! it is needed.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::segment::{self, RECORDS, Record};

/// See the module.
pub(super) struct Log {
    directory: PathBuf,
    appender: Mutex<Appender>,
    /// Records there is room for without asking the file system.
    room: AtomicUsize,
    /// Set while writing fails.
    broken: AtomicBool,
    /// Set once what was written cannot be trusted to be on disk: for good.
    given_up: AtomicBool,
    /// Whether it is ever synced but at its end.
    syncs: bool,
    #[cfg(test)]
    sync_fails: AtomicBool,
    #[cfg(test)]
    writes_fail: AtomicBool,
    #[cfg(test)]
    pub(super) writes: AtomicUsize,
}

/// A segment on disk, and the newest date in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    pub(super) sequence: u64,
    pub(super) newest: i64,
}

/// A segment that is being filled.
pub(super) struct Open {
    pub(super) file: Arc<File>,
    pub(super) sequence: u64,
    pub(super) used: u32,
    pub(super) newest: i64,
}

struct Appender {
    current: Open,
    next: Option<Open>,
    closed: VecDeque<Closed>,
    /// Closed since the last sync.
    unsynced: Vec<Arc<File>>,
    /// Records that wait to be written together.
    queued: Vec<Record>,
    /// How many were ever queued, and of how many of those it is known what became of them.
    taken: u64,
    settled: u64,
    /// Which of those were not written when it was their turn. Few: what follows each other is one.
    missed: Vec<RangeInclusive<u64>>,
    /// Records that could not be written yet; their claims were told that nobody knows.
    owed: Vec<Record>,
    /// How many records were ever appended in this life.
    appended: u64,
}

/// A record could not be written. It counts as spent, and is written once that can be.
#[derive(Debug)]
pub(super) struct NotWritten;

impl Log {
    pub(super) fn new(
        directory: &Path,
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

    /// How many records there is room for; none while writing fails.
    pub(super) fn room(&self) -> usize {
        if self.broken.load(Ordering::Acquire) || self.given_up.load(Ordering::Acquire) {
            return 0;
        }
        self.room.load(Ordering::Acquire)
    }

    /// Takes a record to be written with those that come in the same turn. Returns its number.
    pub(super) fn queue(&self, record: &Record) -> Result<u64, NotWritten> {
        let mut appender = self.appender();
        if self.given_up.load(Ordering::Acquire) {
            return Err(NotWritten);
        }
        appender.queued.push(*record);
        appender.taken += 1;
        // What is owed takes its room all the same.
        let less = |room: usize| Some(room.saturating_sub(1));
        let _ = self.room.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        Ok(appender.taken)
    }

    /// Makes sure that a record was handed to the operating system: from then on it survives this
    /// process. Whoever asks first hands over all that is queued. Returns how many were ever handed
    /// over.
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
        // The room is the next turn's.
        queued.clear();
        appender.queued = queued;
    }

    /// Writes records, one write for all that a segment takes, and says how many.
    fn write(&self, appender: &mut Appender, records: &[Record]) -> usize {
        let mut written = 0;
        while written < records.len() {
            if appender.current.used == RECORDS {
                let Some(next) = appender.next.take() else { return written };
                let full = std::mem::replace(&mut appender.current, next);
                appender.closed.push_back(Closed { sequence: full.sequence, newest: full.newest });
                // What is only synced at the end is opened again for it: a file that is kept open takes a
                // descriptor, and its room even when it is removed.
                if self.syncs {
                    appender.unsynced.push(full.file);
                }
            }
            let Open { file, sequence, used, newest } = &mut appender.current;
            let rest = &records[written..];
            let these = &rest[..rest.len().min((RECORDS - *used) as usize)];
            let bytes: Vec<[u8; segment::RECORD]> = these.iter().map(|it| segment::encode(it, *sequence)).collect();
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
            *newest = these.iter().map(|record| record.nanos).fold(*newest, i64::max);
            appender.appended += these.len() as u64;
            written += these.len();
        }
        written
    }

    /// Whether the next segment should be made ready.
    pub(super) fn is_short(&self) -> bool {
        self.room.load(Ordering::Relaxed) < RECORDS as usize
    }

    /// Whether writing fails.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// The number of the segment to make ready next, if there is none ready.
    pub(super) fn wants(&self) -> Option<u64> {
        let appender = self.appender();
        appender.next.is_none().then_some(appender.current.sequence + 1)
    }

    /// A new segment, on disk but not in use yet.
    pub(super) fn prepare(&self, sequence: u64) -> io::Result<Open> {
        let file = Arc::new(segment::create(&self.directory, sequence)?);
        Ok(Open { file, sequence, used: 0, newest: i64::MIN })
    }

    /// Makes room: the next segment, which the state on disk knows of by now.
    pub(super) fn install(&self, next: Open) {
        self.appender().next = Some(next);
        self.room.fetch_add(RECORDS as usize, Ordering::AcqRel);
    }

    /// Syncs what was appended so far, and says how much that is.
    pub(super) fn sync(&self) -> io::Result<u64> {
        let (files, appended) = {
            let mut appender = self.appender();
            let mut files = std::mem::take(&mut appender.unsynced);
            files.push(appender.current.file.clone());
            (files, appender.appended)
        };
        #[cfg(test)]
        if self.sync_fails.swap(false, Ordering::AcqRel) {
            return Err(io::Error::other("as a test asked"));
        }
        files.iter().try_for_each(|file| file.sync_data())?;
        Ok(appended)
    }

    /// Syncs all there is, for a log that is closed.
    pub(super) fn sync_all(&self) -> io::Result<()> {
        self.write_queued(&mut self.appender());
        if !self.syncs {
            let closed: Vec<u64> = self.appender().closed.iter().map(|closed| closed.sequence).collect();
            for sequence in closed {
                File::open(segment::path(&self.directory, sequence))?.sync_data()?;
            }
        }
        self.sync().map(drop)
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

    /// After a failed write: tries the places again with nothing in them, then writes what is owed.
    pub(super) fn mend(&self) {
        if self.given_up.load(Ordering::Acquire) {
            return;
        }
        let mut appender = self.appender();
        let broken = self.broken.load(Ordering::Acquire);
        if broken {
            // Some of what failed may stand there, whole or not.
            let Open { file, used, .. } = &appender.current;
            let places = appender.owed.len().max(1).min((RECORDS - *used) as usize);
            if file.write_all_at(&vec![0; places * segment::RECORD], segment::offset(*used)).is_err() {
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

    /// Gives up for this life: what was written cannot be trusted to be on disk.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    /// The first and the last segment there is.
    pub(super) fn span(&self) -> (u64, u64) {
        let appender = self.appender();
        let first = appender.closed.front().map_or(appender.current.sequence, |closed| closed.sequence);
        (first, appender.next.as_ref().unwrap_or(&appender.current).sequence)
    }

    /// Takes the oldest segments out that hold nothing above the floor. Their files are still
    /// there.
    pub(super) fn release(&self, floor: i64) {
        let mut appender = self.appender();
        let free = appender.closed.iter().take_while(|closed| closed.newest <= floor).count();
        appender.closed.drain(..free);
    }

    fn appender(&self) -> MutexGuard<'_, Appender> {
        // Whoever panicked in here had written a record or had not; the counts say which.
        self.appender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
