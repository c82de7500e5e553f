//! Opens a journal: decides from the files on disk what to believe, and where the floor is.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::aside;
use super::doubt::Doubt;
use super::error::JournalError;
use super::load::{self, Expected, Loaded, Unusable};
use super::lock::Lock;
use super::log::{Closed, Log, Open};
use super::segment::{self, JournalId, Segment, segments};
use super::state::{Found, REACH_AHEAD, REACH_LEFT, State};
use super::witness::{self, End, Reading, Seen, Witness};
use super::{JournalSettings, JournalSync, WhenNew};
use crate::clock::{Clock, rfc3339};
use crate::replay::salt_set::{SaltSet, at, nanos_up};
use crate::state as disk;

/// How many segments may have been in use since the last sync: one that was filled meanwhile, one that was started,
/// and one that was allocated.
const IN_USE: u64 = 3;

/// The parts of an open journal.
pub(super) struct Opened {
    pub(super) lock: Lock,
    pub(super) state: State,
    pub(super) witness: Witness,
    pub(super) salts: SaltSet,
    pub(super) log: Log,
}

/// A log to continue, and the salts loaded from it.
struct Resumed {
    journal: JournalId,
    salts: SaltSet,
    closed: VecDeque<Closed>,
    current: Option<Open>,
    next: Option<Open>,
    /// The number for a new segment, if there is none to continue with.
    fresh: u64,
    holes: Vec<u64>,
}

pub(super) fn open(clock: &Clock, settings: &JournalSettings) -> Result<Opened, JournalError> {
    let directory = &settings.path;
    let failed = |doing| move |error| JournalError::io(&settings.path, doing, error);
    disk::folder(directory).map_err(failed("the directory cannot be created"))?;
    let lock = Lock::take(directory).map_err(failed("its lock cannot be taken"))?;
    let lock = lock.ok_or_else(|| JournalError::Locked(directory.clone()))?;
    let found = State::read(directory).map_err(failed("its state cannot be read"))?;
    let elsewhere = matches!(&found, Some(Ok(found)) if found.state.is_of_another_kernel(&settings.boot_id));
    // The state of a journal that is discarded may not say who used it last.
    if (elsewhere || settings.discard) && lock.hears_another().map_err(failed("its lock cannot be read"))? {
        return Err(JournalError::Locked(directory.clone()));
    }
    let found = match found {
        Some(Ok(found)) => Some(found),
        Some(Err(fault)) if !settings.discard => {
            return Err(JournalError::fault(directory.join(super::state::NAME), fault));
        }
        Some(Err(_)) | None => None,
    };
    let seen = found.as_ref().map(|found| look_at_witness(found, settings)).transpose()?;
    let reach = reach(settings, found.as_ref(), seen.as_ref())?;
    let fence = fence(clock, settings, found.as_ref(), reach);
    let (resumed, starts) = match &found {
        _ if settings.discard => {
            aside::discard(directory, clock).map_err(failed("its files cannot be moved"))?;
            tracing::warn!("the replay journal was discarded as asked: it starts behind the fence");
            (begin(clock, settings, Some(fence), 1)?, 0)
        }
        None => {
            refuse_orphans(directory)?;
            let fence = (settings.when_new == WhenNew::Fence).then_some(fence);
            (begin(clock, settings, fence, 1)?, 0)
        }
        Some(found) => match resume(clock, settings, found, seen.as_ref(), elsewhere) {
            Ok(resumed) => (resumed, found.state.starts),
            Err(Unusable::Refused(error)) => return Err(error),
            Err(Unusable::Doubted(doubt)) => {
                tracing::warn!(
                    until = rfc3339(fence),
                    "the replay journal starts behind the fence, and nothing signed before the fence ends is admitted: {doubt}"
                );
                (begin(clock, settings, Some(fence), found.state.last + 1)?, found.state.starts)
            }
        },
    };
    put_in_force(clock, settings, resumed, starts, reach, found.map(|found| found.state.witness), lock)
}

/// Loads a journal, if it can be relied on.
fn resume(
    clock: &Clock,
    settings: &JournalSettings,
    found: &Found,
    seen: Option<&(PathBuf, Reading)>,
    elsewhere: bool,
) -> Result<Resumed, Unusable> {
    let Found { state, doubt } = found;
    if let Some(doubt) = doubt {
        return Err(Unusable::Doubted(doubt.clone()));
    }
    let end = judge_witness(state, seen).map_err(Unusable::Doubted)?;
    if elsewhere && !state.each {
        return Err(Unusable::Doubted(Doubt::PowerLost));
    }
    let mut salts = SaltSet::new(clock.clone(), settings.room, (state.floor > i64::MIN).then(|| at(state.floor)));
    salts.preallocate((state.first..=state.last).count() * segment::RECORDS as usize);
    let lost_power_at = elsewhere.then(|| (state.last + 1).saturating_sub(IN_USE).max(state.first));
    let expected = Expected {
        journal: state.journal,
        numbers: state.first..=state.last,
        closed: state.closed.as_deref(),
        holes: &state.holes,
        lost_power_at,
    };
    let log = load::load(&settings.path, &expected, &salts, settings.window)?;
    if log.end < end {
        return Err(Unusable::Doubted(Doubt::EndsEarly));
    }
    if state.closed.is_none() {
        // Syncs what a killed process left to the kernel, before this run declares it to be on disk (by `each`, or by
        // a clean close).
        sync(&settings.path, &log).map_err(|error| JournalError::io(&settings.path, "cannot be synced", error))?;
    }
    let mut holes = state.holes.clone();
    holes.extend(lost_power_at.into_iter().flat_map(|first| first..=state.last));
    // An empty segment is as good as new.
    holes.retain(|sequence| log.closed.iter().any(|closed| closed.holds.sequence == *sequence));
    let Loaded { closed, current, next, end: _ } = log;
    Ok(Resumed { journal: state.journal, salts, closed, current, next, fresh: state.last + 1, holes })
}

/// An empty log with this floor. It has a new id, so that no file of an earlier journal is taken for one of its own.
fn begin(
    clock: &Clock,
    settings: &JournalSettings,
    floor: Option<SystemTime>,
    fresh: u64,
) -> Result<Resumed, JournalError> {
    let failed = |error| JournalError::io(&settings.path, "no random id can be made for it", error);
    Ok(Resumed {
        journal: JournalId::new().map_err(failed)?,
        salts: SaltSet::new(clock.clone(), settings.room, floor),
        closed: VecDeque::new(),
        current: None,
        next: None,
        fresh,
        holes: Vec::new(),
    })
}

fn put_in_force(
    clock: &Clock,
    settings: &JournalSettings,
    resumed: Resumed,
    starts: u64,
    before: Option<i64>,
    old_witness: Option<PathBuf>,
    lock: Lock,
) -> Result<Opened, JournalError> {
    let directory = &settings.path;
    let failed = |doing| move |error| JournalError::io(&settings.path, doing, error);
    let Resumed { journal, salts, closed, current, next, fresh, holes } = resumed;
    let current = match current {
        Some(current) => current,
        None => {
            let made = Segment { journal, sequence: fresh }.create(directory);
            Open::empty(made.map_err(failed("no segment can be created"))?, fresh)
        }
    };
    let end = current.end();
    let log = Log::new(directory, journal, settings.sync != JournalSync::Os, current, next, closed);
    let (first, last) = log.span();
    let reach = nanos_up(clock.now() + settings.window.future + REACH_AHEAD);
    let witness_path = witness_path(settings, journal)?;
    let state = State {
        journal,
        starts: starts + 1,
        witness: witness_path.clone(),
        floor: salts.floor_nanos(),
        reach: before.map_or(reach, |before| before.max(reach)),
        boot_id: settings.boot_id.clone(),
        each: settings.sync == JournalSync::Each,
        first,
        last,
        holes,
        closed: None,
    };
    // The witness is written after the state, so that it is never ahead of the journal.
    state.write(directory).map_err(failed("its state cannot be written"))?;
    let seen = Seen { journal, starts: state.starts, end, reach: state.reach };
    let witness = Witness::begin(witness_path.clone(), seen)
        .map_err(|error| JournalError::io(&witness_path, "the witness of the journal cannot be written", error))?;
    if let Some(old) = old_witness.filter(|old| *old != witness_path) {
        // Only if the file is a witness: the path comes from the state and may name anything.
        if matches!(witness::read(&old), Ok(Reading::Seen(_))) {
            drop(std::fs::remove_file(old));
        }
    }
    remove_below(directory, first);
    Ok(Opened { lock, state, witness, salts, log })
}

/// Next to the record, or in the journal's own directory if there is no record.
fn witness_path(settings: &JournalSettings, journal: JournalId) -> Result<PathBuf, JournalError> {
    let beside = settings.witness_in.as_deref().unwrap_or(&settings.path);
    let absolute = std::path::absolute(witness::path(journal, beside));
    absolute.map_err(|error| JournalError::io(beside, "has no absolute path", error))
}

/// Reads the journal's witness: at its present path, or else at the path that the state names.
fn look_at_witness(found: &Found, settings: &JournalSettings) -> Result<(PathBuf, Reading), JournalError> {
    let unread = |path: &Path, error| JournalError::io(path, "the witness of the journal cannot be read", error);
    let here = witness_path(settings, found.state.journal)?;
    match witness::read(&here).map_err(|error| unread(&here, error))? {
        Reading::Missing => {}
        reading => return Ok((here, reading)),
    }
    let there = found.state.witness.clone();
    let reading = witness::read(&there).map_err(|error| unread(&there, error))?;
    Ok((there, reading))
}

/// The least end of the log, according to the witness.
fn judge_witness(state: &State, seen: Option<&(PathBuf, Reading)>) -> Result<End, Doubt> {
    let Some((path, reading)) = seen else { return Err(Doubt::NoWitness(state.witness.clone())) };
    match reading {
        Reading::Missing => Err(Doubt::NoWitness(path.clone())),
        Reading::Seen(seen) if seen.journal == state.journal => {
            let (known, seen_starts) = (state.starts, seen.starts);
            if seen_starts > known { Err(Doubt::OlderStart { known, seen: seen_starts }) } else { Ok(seen.end) }
        }
        Reading::Seen(_) | Reading::Damaged => Err(Doubt::WitnessDamaged(path.clone())),
    }
}

/// The latest date that earlier runs may have admitted, as far as the state and the witnesses know.
fn reach(
    settings: &JournalSettings,
    found: Option<&Found>,
    seen: Option<&(PathBuf, Reading)>,
) -> Result<Option<i64>, JournalError> {
    let beside = settings.witness_in.as_deref().unwrap_or(&settings.path);
    let furthest = witness::furthest_reach(beside)
        .map_err(|error| JournalError::io(beside, "the witnesses in it cannot be read", error))?;
    let its_own = match seen {
        Some((_, Reading::Seen(seen))) => Some(seen.reach),
        Some((_, Reading::Missing | Reading::Damaged)) | None => None,
    };
    Ok(found.map(|found| found.state.reach).max(its_own).max(furthest))
}

/// The date above which no salt can have been spent before now. A run whose clock or window reached further is
/// covered by its own reach.
fn fence(clock: &Clock, settings: &JournalSettings, found: Option<&Found>, reach: Option<i64>) -> SystemTime {
    let covered = reach.map_or(i64::MIN, covered);
    let floor = found.map_or(i64::MIN, |found| found.state.floor);
    at(nanos_up(clock.now() + settings.window.future).max(covered).max(floor))
}

/// The date up to which claims are admitted with this reach on disk.
pub(super) fn covered(reach: i64) -> i64 {
    reach.saturating_sub(i64::try_from(REACH_LEFT.as_nanos()).unwrap_or(i64::MAX))
}

fn sync(directory: &Path, log: &Loaded) -> io::Result<()> {
    let closed = log.closed.iter().map(|closed| closed.holds.sequence);
    let open = log.current.iter().chain(&log.next).map(|open| open.holds.sequence);
    closed.chain(open).try_for_each(|sequence| std::fs::File::open(segment::path(directory, sequence))?.sync_data())
}

/// Refuses segments without a state, which are no empty journal. The exception is a first start that was interrupted
/// before it wrote the state.
fn refuse_orphans(directory: &Path) -> Result<(), JournalError> {
    let there = segments(directory).map_err(|error| JournalError::io(directory, "cannot be listed", error))?;
    let Some(orphan) = there.first() else { return Ok(()) };
    let file = segment::path(directory, *orphan);
    let unfinished = there == [1] && std::fs::read(&file).is_ok_and(|bytes| segment::never_held_any(&bytes));
    if unfinished {
        return Ok(());
    }
    Err(JournalError::Damaged(file, "is there, and the state of the journal (state.json) is not".into()))
}

/// Removes segments below `first`: an earlier run had released them.
pub(super) fn remove_below(directory: &Path, first: u64) {
    let left = segments(directory).unwrap_or_default();
    for sequence in left.into_iter().filter(|sequence| *sequence < first) {
        drop(std::fs::remove_file(segment::path(directory, sequence)));
    }
}
