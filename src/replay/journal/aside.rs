//! What an operator can do to a journal that no process uses: discard it, or lower its floor.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::JournalError;
use super::lock::Lock;
use super::segment::{self, segments};
use super::state::{Found, NAME, REACH_AHEAD, State};
use super::witness::{self, Reading, Witness};
use super::{Reset, Window};
use crate::clock::Clock;
use crate::replay::salt_set::{at, nanos_up};
use crate::state as disk;

/// Moves all files except the lock to a new directory; nothing is deleted. Until the new state is written,
/// `state.json` holds no valid state, so that an interrupted start does not look like a first one.
pub(super) fn discard(directory: &Path, clock: &Clock) -> io::Result<()> {
    let aside = new_directory(directory, clock)?;
    let state = directory.join(NAME);
    match std::fs::read(&state) {
        Ok(bytes) => disk::replace(&aside, NAME, &bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut undecided = disk::file().write(true).create(true).truncate(true).open(&state)?;
    undecided.write_all(b"being discarded\n")?;
    undecided.sync_all()?;
    std::fs::File::open(directory)?.sync_all()?;
    for sequence in segments(directory)? {
        let path = segment::path(directory, sequence);
        std::fs::rename(&path, aside.join(path.file_name().unwrap_or_default()))?;
    }
    tracing::warn!(aside = %aside.display(), "the files of the replay journal were moved aside");
    Ok(())
}

fn new_directory(directory: &Path, clock: &Clock) -> io::Result<PathBuf> {
    let mut number = clock.elapsed().as_nanos();
    loop {
        let path = directory.join(format!("discarded-{number}"));
        if !path.exists() {
            return disk::folder(&path).map(|()| path);
        }
        number += 1;
    }
}

/// Lowers a floor and a reach that a wrong clock raised beyond the window.
pub(super) fn reset_clock(clock: &Clock, path: &Path, window: Window, boot_id: &str) -> Result<Reset, JournalError> {
    let failed = |doing| move |error| JournalError::io(path, doing, error);
    // Reads the state before it takes the lock, which would create files in a directory that is no journal.
    let found = State::read(path).map_err(failed("its state cannot be read"))?;
    let found = found.ok_or_else(|| JournalError::io(path, "is no journal", io::ErrorKind::NotFound.into()))?;
    let Found { state, doubt } = found.map_err(|fault| JournalError::fault(path.join(NAME), fault))?;
    if let Some(doubt) = doubt {
        // Writing the state again would make it look reliable.
        return Err(JournalError::Doubted(path.into(), doubt.to_string()));
    }
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
    let witness = state.witness.clone();
    let reset = State { floor: fence, reach: fence, ..state };
    reset.write(path).map_err(failed("its state cannot be written"))?;
    lower(&witness, fence).map_err(|error| JournalError::io(&witness, "the witness cannot be written", error))?;
    Ok(Reset::Done { from: at(from), to: at(fence) })
}

/// Lowers the reach in the witness, too. If the witness is missing or damaged, the next start finds that.
fn lower(path: &Path, reach: i64) -> io::Result<()> {
    match witness::read(path)? {
        Reading::Seen(seen) => Witness::begin(path.into(), witness::Seen { reach, ..seen }).map(drop),
        Reading::Missing | Reading::Damaged => Ok(()),
    }
}
