//! The store of one process that survives a restart: its salts are in memory and in a directory on disk.
//!
//! 1. A salt is written to the operating system before its claim is answered. So however the process ends, the next
//!    one knows every salt that was answered or forwarded. If a record cannot be written, its salt counts as spent.
//!    Claims of the same event loop iteration share one write.
//! 2. [`JournalSync`] bounds what a loss of power can destroy: nothing with `each`, otherwise the salts since the
//!    last sync. The journal keeps the kernel's boot id. If it differs at the start and the journal was not closed
//!    cleanly, the floor rises to the start plus the window's future (the fence), unless every salt was synced.
//! 3. The floor on disk is raised before a segment that it covers is removed. So at every moment, and after every
//!    crash, *above the floor every spent salt is remembered, at or below it nothing is admitted*.
//! 4. Disk space is allocated before it is needed, and a reservation reserves some of it. So a full disk is reported
//!    before a salt is spent, and the journal recovers by itself when there is space again.
//! 5. Damaged files are never repaired. Damage that no crash explains stops the start. What a crash may have left, or
//!    a restored older copy ([`doubt`]), makes the journal start behind the fence.
//! 6. One process at a time has the journal ([`lock`]).
//!
//! On disk: `lock`; `state.json` ([`state`]), always replaced as a whole; `000000000001.salts` … ([`segment`]), one
//! mebibyte each, 32 bytes a salt; and, next to the record, the witness ([`witness`]).
//!
//! A background thread ([`background`], [`maintenance`]) syncs, allocates segments and removes them. A request waits
//! for it only with `each`.

mod aside;
mod background;
mod doubt;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod load;
mod lock;
mod log;
mod maintenance;
mod open;
mod segment;
mod shared;
mod state;
#[cfg(test)]
mod test_control;
#[cfg(test)]
mod tests;
mod witness;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::salt_set::{SaltSet, nanos};
use super::{
    Claim, ClaimRefused, Floor, LookUp, Mark, Reservation, Room, SpentSalts, StoreHealth, Unavailable, WhenNew, Window,
};
use crate::clock::Clock;
use crate::credential::SaltId;
use crate::event_loop::yield_now;
use background::BackgroundThread;
use log::NotWritten;
use segment::Record;
use shared::Shared;

pub(crate) use error::JournalError;
#[cfg(test)]
pub(super) use test_control::TestControl;

/// When written records are synced to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalSync {
    /// When the operating system does it: survives the end of the process.
    Os,
    /// At this interval: a loss of power destroys at most the salts of one interval.
    Every(Duration),
    /// Before each claim is answered. Simultaneous claims share one sync.
    Each,
}

/// Where a journal is, and how it starts.
#[derive(Clone, Debug)]
pub struct JournalSettings {
    /// The directory, created if it does not exist.
    pub path: PathBuf,
    /// How many salts it may hold.
    pub room: Room,
    /// When records are synced to disk.
    pub sync: JournalSync,
    /// What to do at the start if it is empty.
    pub when_new: WhenNew,
    /// The window in force at the start.
    pub window: Window,
    /// The id of the running kernel: see [`boot_id`].
    pub boot_id: String,
    /// Whether to move existing files away and start behind the fence.
    pub discard: bool,
    /// The directory of the record, for the witness: a file that shows whether an older copy of the journal was
    /// restored. `None` puts the witness into the journal's own directory.
    pub witness_in: Option<PathBuf>,
}

impl JournalSettings {
    /// Default of [`JournalSettings::sync`].
    pub const SYNC: Duration = Duration::from_millis(10);

    /// Settings with the running kernel's boot id, no record, and nothing to discard.
    pub fn new(path: PathBuf, room: Room, sync: JournalSync, when_new: WhenNew, window: Window) -> Self {
        Self { path, room, sync, when_new, window, boot_id: boot_id(), discard: false, witness_in: None }
    }
}

/// What [`Journal::reset_clock`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The floor is where a correct clock may have left it.
    NotNeeded {
        /// The floor, if it was ever raised.
        floor: Option<SystemTime>,
    },
    /// The floor lay beyond the window and was lowered.
    Done {
        /// Where the floor was.
        from: SystemTime,
        /// Where it is now: at the fence.
        to: SystemTime,
    },
}

/// The id that the kernel got at boot. Empty if there is none; an empty id never counts as the same boot.
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// See the module.
pub struct Journal {
    clock: Clock,
    shared: Arc<Shared>,
    /// The floor, if it lay in the future at the start.
    fence: Option<SystemTime>,
    _background: BackgroundThread,
}

impl Journal {
    /// Opens the journal, creating it if necessary, and loads its salts.
    ///
    /// # Errors
    /// If another process has the journal, if it is damaged or of a newer format, or if the file system fails.
    pub fn open(clock: Clock, settings: JournalSettings) -> Result<Self, JournalError> {
        let opened = open::open(&clock, &settings)?;
        let fence = Some(opened.salts.floor().0).filter(|floor| *floor > clock.now());
        let (shared, background) = background::start(clock.clone(), &settings, opened)
            .map_err(|error| JournalError::io(&settings.path, "its background thread cannot be started", error))?;
        Ok(Self { clock, shared, fence, _background: background })
    }

    /// Lowers a floor that a wrong clock raised beyond the window, to the fence. Nothing else ever lowers a floor. An
    /// operator does this while no process uses the journal.
    ///
    /// # Errors
    /// If a process has the journal, if there is no journal, or if the file system fails.
    pub fn reset_clock(clock: &Clock, path: &Path, window: Window, boot_id: &str) -> Result<Reset, JournalError> {
        aside::reset_clock(clock, path, window, boot_id)
    }

    /// Heap bytes that the salts use.
    pub fn heap_bytes(&self) -> usize {
        self.shared.salts.heap_bytes()
    }

    /// How a test acts on the journal from outside.
    #[cfg(test)]
    pub(super) fn test_control(&self) -> TestControl {
        TestControl(self.shared.clone())
    }

    fn salts(&self) -> &SaltSet {
        &self.shared.salts
    }

    fn spend(&self, reservation: Reservation, salt: SaltId, date: SystemTime, window: Window) -> Claim<'_> {
        let log = &self.shared.log;
        let spent =
            self.salts().spend(reservation, salt, date, window, |key, nanos| log.queue(&Record { salt, nanos, key }));
        match spent {
            Err(refused) => Claim::Now(Err(refused)),
            Ok(Err(NotWritten)) => Claim::Now(Err(ClaimRefused::Unknown)),
            Ok(Ok(number)) => Claim::Later(Box::pin(async move {
                yield_now().await;
                match log.written(number) {
                    Ok(appended) => self.shared.on_disk(appended).answer().await,
                    Err(NotWritten) => Err(ClaimRefused::Unknown),
                }
            })),
        }
    }
}

impl SpentSalts for Journal {
    fn floor(&self) -> Floor {
        self.salts().floor()
    }

    fn fenced_until(&self) -> Option<SystemTime> {
        self.fence.filter(|fence| self.clock.now() < *fence)
    }

    fn reserve(&self, api_key: &str) -> Result<Reservation, Unavailable> {
        let reservation = self.salts().reserve(api_key)?;
        // `reserved` includes the reservation just made.
        if self.salts().reserved() > self.shared.log.room() { Err(Unavailable::OutOfReach) } else { Ok(reservation) }
    }

    fn claim(&self, reservation: Reservation, salt: SaltId, date: SystemTime, window: Window, _: Mark) -> Claim<'_> {
        // A claim that will be refused anyway needs no wider reach.
        let beyond = nanos(date).filter(|nanos| !self.shared.covers(*nanos));
        match beyond.filter(|_| window.judge(date, self.clock.now(), self.floor()).is_ok()) {
            None => self.spend(reservation, salt, date, window),
            Some(nanos) => Claim::Later(Box::pin(async move {
                if !self.shared.cover(nanos).await {
                    return Err(ClaimRefused::Unknown);
                }
                self.spend(reservation, salt, date, window).answer().await
            })),
        }
    }

    fn look_up(&self, salt: SaltId) -> LookUp<'_> {
        LookUp::Now(self.salts().holds(salt))
    }

    fn forget(&self) {
        if self.salts().forget() {
            self.shared.forgot();
        }
    }

    fn held(&self) -> usize {
        self.salts().held()
    }

    fn capacity(&self) -> usize {
        self.salts().capacity()
    }

    fn health(&self) -> StoreHealth {
        self.shared.health()
    }
}
