//! From what is on disk to a journal that runs.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::error::JournalError;
use super::lock::Lock;
use super::log::{Closed, Log, Open};
use super::segment::{self, Ending, RECORDS};
use super::state::State;
use super::{JournalSettings, JournalSync, Reset, WhenNew, Window};
use crate::clock::Clock;
use crate::replay::book::{Book, at, nanos_up};

/// How much further than now the reach on disk is, so that it need not be written all the time.
pub(super) const REACH_AHEAD: Duration = Duration::from_secs(120);
/// How much of that is left when it is written again.
pub(super) const REACH_LEFT: Duration = Duration::from_secs(60);

/// What a journal is made of once it is open.
pub(super) struct Opened {
    pub(super) lock: Lock,
    pub(super) state: State,
    pub(super) book: Book,
    pub(super) log: Log,
}

pub(super) fn open(clock: &Clock, settings: &JournalSettings) -> Result<Opened, JournalError> {
    let directory = &settings.path;
    let failed = |doing| move |error| JournalError::io(&settings.path, doing, error);
    std::fs::create_dir_all(directory).map_err(failed("cannot be made a directory"))?;
    let lock = Lock::take(directory).map_err(failed("its lock cannot be taken"))?;
    let lock = lock.ok_or_else(|| JournalError::Locked(directory.clone()))?;
    if settings.discard {
        // Whatever its state says of who had it last, it may not be to be believed.
        if lock.hears_another().map_err(failed("its lock cannot be read"))? {
            return Err(JournalError::Locked(directory.clone()));
        }
        discard(directory, clock).map_err(failed("cannot be moved aside"))?;
    }
    let before = match State::read(directory).map_err(failed("its state cannot be read"))? {
        _ if settings.discard => None,
        None => None,
        Some(Ok(state)) => Some(state),
        Some(Err(fault)) => return Err(JournalError::fault(directory.join("state.json"), fault)),
    };
    let elsewhere = before.as_ref().is_some_and(|state| state.is_of_another_kernel(&settings.boot_id));
    if elsewhere && lock.hears_another().map_err(failed("its lock cannot be read"))? {
        return Err(JournalError::Locked(directory.clone()));
    }
    let floor = floor(clock, settings, before.as_ref());
    let (first, last) = match &before {
        Some(state) => (state.first, state.last),
        None => (1, 0),
    };
    if before.is_none() && !is_unfinished(directory) {
        if let Some(orphan) = segments(directory).map_err(failed("cannot be listed"))?.first() {
            let file = segment::path(directory, *orphan);
            return Err(JournalError::Damaged(
                file,
                "is there, and the state of the journal (state.json) is not".into(),
            ));
        }
    }
    let mut book = Book::new(clock.clone(), settings.room, floor);
    // Behind the fence of a lost kernel nothing that is there matters any more, whole or not.
    let worthless = elsewhere && before.as_ref().is_some_and(|state| !state.each);
    let mut holes = before.as_ref().map(|state| state.holes.clone()).unwrap_or_default();
    if elsewhere {
        // Each salt was on disk before it was answered; what was being written was not: while one
        // sync takes its time, a segment may be filled, the next begun, and one more made ready.
        holes.extend((first..=last).rev().take(3));
    }
    // What a process that was killed left to the kernel is put on disk before this life promises
    // that it is: with `each` from now on, or by a clean close.
    let unsynced = before.as_ref().is_some_and(|state| !state.clean);
    let segments = if worthless { Vec::new() } else { load_all(first..=last, &holes, &mut book, settings)? };
    if unsynced {
        let on_disk = segments.iter().try_for_each(|segment| segment.file.sync_data());
        on_disk.map_err(failed("cannot be synced"))?;
    }
    let (closed, current, next) = arrange(segments, directory)?;
    // One that is empty is as good as new.
    holes.retain(|sequence| closed.iter().any(|closed| closed.sequence == *sequence));
    let current = match current {
        Some(current) => current,
        None => {
            let sequence = last + 1;
            let file = segment::create(directory, sequence).map_err(failed("has no room for a segment"))?;
            Open { file: Arc::new(file), sequence, used: 0, newest: i64::MIN }
        }
    };
    let log = Log::new(directory, settings.sync != JournalSync::Os, current, next, closed);
    let (first, last) = log.span();
    let now = clock.now();
    let reach = nanos_up(now + settings.window.future + REACH_AHEAD);
    let state = State {
        floor: book.floor_nanos(),
        reach: before.map_or(reach, |state| state.reach.max(reach)),
        boot_id: settings.boot_id.clone(),
        clean: false,
        each: settings.sync == JournalSync::Each,
        first,
        last,
        holes,
    };
    state.write(directory).map_err(failed("its state cannot be written"))?;
    remove_below(directory, first);
    Ok(Opened { lock, state, book, log })
}

/// Nothing at or below this is admitted, by what is known of earlier lives.
fn floor(clock: &Clock, settings: &JournalSettings, before: Option<&State>) -> Option<SystemTime> {
    let fence = clock.now() + settings.window.future;
    let Some(before) = before else {
        let fenced = settings.discard || settings.when_new == WhenNew::Fence;
        return fenced.then_some(fence);
    };
    let kept = (before.floor > i64::MIN).then(|| at(before.floor));
    if !before.is_of_another_kernel(&settings.boot_id) || before.each {
        return kept;
    }
    // Another kernel was running and may have lost what it had not put on disk yet. An earlier
    // life whose clock or window reached further than this one's is covered by its own reach.
    let reached = at(before.reach) - REACH_LEFT;
    tracing::warn!(
        "the replay journal was not closed, and the machine has restarted since: it starts behind the fence"
    );
    Some(fence.max(reached).max(kept.unwrap_or(fence)))
}

pub(super) fn reset_clock(clock: &Clock, path: &Path, window: Window, boot_id: &str) -> Result<Reset, JournalError> {
    let failed = |doing| move |error| JournalError::io(path, doing, error);
    // The state first: what is no journal is not to become one.
    let state = State::read(path).map_err(failed("its state cannot be read"))?;
    let state = state.ok_or_else(|| JournalError::io(path, "is no journal", io::ErrorKind::NotFound.into()))?;
    let state = state.map_err(|fault| JournalError::fault(path.join("state.json"), fault))?;
    let lock = Lock::take(path).map_err(failed("its lock cannot be taken"))?;
    let lock = lock.ok_or_else(|| JournalError::Locked(path.into()))?;
    let elsewhere = state.is_of_another_kernel(boot_id);
    if elsewhere && lock.hears_another().map_err(failed("its lock cannot be read"))? {
        return Err(JournalError::Locked(path.into()));
    }
    let fence = nanos_up(clock.now() + window.future);
    if state.floor <= fence && state.reach <= nanos_up(clock.now() + window.future + REACH_AHEAD) {
        return Ok(Reset::NotNeeded { floor: (state.floor > i64::MIN).then(|| at(state.floor)) });
    }
    let from = state.floor.max(fence);
    let reset = State { floor: fence, reach: fence, ..state };
    reset.write(path).map_err(failed("its state cannot be written"))?;
    Ok(Reset::Done { from: at(from), to: at(fence) })
}

/// Reads all segments into the book, oldest first.
fn load_all(
    numbers: RangeInclusive<u64>,
    holes: &[u64],
    book: &mut Book,
    settings: &JournalSettings,
) -> Result<Vec<Open>, JournalError> {
    let last = *numbers.end();
    book.expect(numbers.clone().count() * RECORDS as usize);
    let ending = |sequence| match () {
        () if holes.contains(&sequence) => Ending::Unsynced,
        // The last one was made ready ahead of its use; the one before may have room left.
        () if sequence + 2 > last => Ending::Open,
        () => Ending::Full,
    };
    let numbers: Vec<u64> = numbers.collect();
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(numbers.len());
    let share = numbers.len().div_ceil(threads.max(1)).max(1);
    let book = &*book;
    // What a machine has to read through at a start it reads with all its cores.
    let loaded = std::thread::scope(|scope| {
        let load_share = |share: &[u64]| share.iter().map(|n| load(*n, ending(*n), book, settings)).collect::<Vec<_>>();
        let threads: Vec<_> = numbers.chunks(share).map(|share| scope.spawn(move || load_share(share))).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let died = |_| JournalError::io(&settings.path, "cannot be loaded", io::Error::other("a thread ended early"));
    loaded.into_iter().flat_map(|share| share.unwrap_or_else(|error| vec![Err(died(error))])).collect()
}

fn load(sequence: u64, ending: Ending, book: &Book, settings: &JournalSettings) -> Result<Open, JournalError> {
    let path = segment::path(&settings.path, sequence);
    let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => JournalError::Damaged(path.clone(), "is missing".into()),
        _ => JournalError::io(&path, "cannot be read", error),
    })?;
    let contents = segment::read(&bytes, sequence, ending).map_err(|fault| JournalError::fault(path.clone(), fault))?;
    let opened = OpenOptions::new().read(true).write(true).open(&path);
    let file = opened.map_err(|error| JournalError::io(&path, "cannot be opened", error))?;
    let mut used = contents.records.len() as u32;
    if contents.torn && ending == Ending::Open {
        mend(&file, used).map_err(|error| JournalError::io(&path, "cannot be repaired", error))?;
        tracing::warn!(file = %path.display(), "the replay journal ended in a torn record, which was never answered; repaired");
    }
    if ending == Ending::Unsynced && (used > 0 || contents.torn) {
        // There may be holes in it: nothing more is written to this one.
        used = RECORDS;
    }
    let newest = contents.records.iter().map(|record| record.nanos).max().unwrap_or(i64::MIN);
    let spent = contents.records.into_iter().map(|record| (record.salt, record.nanos, record.key));
    book.recall(spent, settings.window);
    Ok(Open { file: Arc::new(file), sequence, used, newest })
}

/// The closed ones, the one to go on with, and the one after it.
#[allow(clippy::type_complexity, reason = "three parts of one thing, taken apart at once")]
fn arrange(
    segments: Vec<Open>,
    directory: &Path,
) -> Result<(VecDeque<Closed>, Option<Open>, Option<Open>), JournalError> {
    let mut closed = VecDeque::new();
    let mut open: VecDeque<Open> = VecDeque::new();
    for segment in segments {
        if segment.used > 0 {
            if let Some(before) = open.pop_front() {
                let file = segment::path(directory, before.sequence);
                return Err(JournalError::Damaged(file, "ends before its end: the one after it is in use".into()));
            }
        }
        if segment.used == RECORDS {
            closed.push_back(Closed { sequence: segment.sequence, newest: segment.newest });
        } else {
            open.push_back(segment);
        }
    }
    let current = open.pop_front();
    Ok((closed, current, open.pop_front()))
}

fn mend(file: &std::fs::File, place: u32) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    file.write_all_at(&[0; segment::RECORD], segment::offset(place))?;
    file.sync_data()
}

/// The numbers of the segments that are there, in order.
fn segments(directory: &Path) -> io::Result<Vec<u64>> {
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

/// Whether all there is is the first segment with nothing in it: a first start that did not get
/// as far as the state.
fn is_unfinished(directory: &Path) -> bool {
    let empty = |bytes: Vec<u8>| bytes.iter().skip(segment::RECORD).all(|byte| *byte == 0);
    segments(directory).is_ok_and(|numbers| numbers == [1])
        && std::fs::read(segment::path(directory, 1)).is_ok_and(empty)
}

/// Removes what an earlier life had released or could not finish.
pub(super) fn remove_below(directory: &Path, first: u64) {
    let left = segments(directory).unwrap_or_default();
    for sequence in left.into_iter().filter(|sequence| *sequence < first) {
        drop(std::fs::remove_file(segment::path(directory, sequence)));
    }
}

/// Moves everything but the lock aside: nothing is thrown away. Until the new state is written, the
/// one that is there is none: a start that is interrupted here does not look like a first one.
fn discard(directory: &Path, clock: &Clock) -> io::Result<()> {
    let aside: PathBuf = directory.join(format!("discarded-{}", clock.elapsed().as_nanos()));
    std::fs::create_dir(&aside)?;
    let state = directory.join("state.json");
    match std::fs::copy(&state, aside.join("state.json")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::write(&state, "being discarded\n")?;
    std::fs::File::open(&state)?.sync_all()?;
    std::fs::File::open(directory)?.sync_all()?;
    for sequence in segments(directory)? {
        let path = segment::path(directory, sequence);
        std::fs::rename(&path, aside.join(path.file_name().unwrap_or_default()))?;
    }
    tracing::warn!(aside = %aside.display(), "the replay journal was discarded as asked; it starts behind the fence");
    Ok(())
}
