//! The spent salts of one process, in its memory and in a directory: they survive its end.
//!
//! 1. A salt is handed to the operating system before its claim is answered. So whatever ends the
//!    process, what was answered or forwarded is known to the next one. A claim whose record could
//!    not be written counts as spent. Claims that come in one turn of a worker share one write.
//! 2. What a loss of power takes is bounded by [`JournalSync`]: nothing with `each`, otherwise what came
//!    since the last sync. The kernel's boot id is kept: after another one without a clean close
//!    the floor rises to the start plus the window's future (the fence), unless each was synced.
//! 3. The floor on disk is raised before the segment of what it covers is removed. So at every
//!    moment, and after every crash, *above the floor all that was spent is remembered, at or below
//!    it nothing is admitted*.
//! 4. Room is taken from the file system before it is needed, and a place in it is what a
//!    reservation reserves: a full disk is told while nothing is spent, and mends by itself.
//! 5. A torn record at the very end was never answered; it is repaired and told. Anything else that
//!    is not as it was written stops the start.
//! 6. One process at a time ([`lock`]).
//!
//! On disk: `lock`; `state.json` ([`state`]), replaced whole; `000000000001.salts` … ([`segment`]),
//! a mebibyte each, 32 bytes a salt.
//!
//! A thread of its own (the keeper) syncs, makes room and removes; a request waits for it only with
//! `each`.

mod error;
mod keeper;
mod lock;
mod log;
mod open;
mod segment;
mod state;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::book::{Book, nanos};
use super::{
    Claim, ClaimRefused, Floor, Health, LookUp, Reservation, Room, SaltId, SpentSalts, Unavailable, WhenNew, Window,
};
use crate::clock::Clock;
use crate::turn::others_first;
use keeper::{Keeper, Kept};
use log::NotWritten;
use segment::Record;

pub use error::JournalError;

/// When what was handed to the operating system is made to be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalSync {
    /// When the operating system likes: survives the process.
    Os,
    /// This often: survives a loss of power but for so long.
    Every(Duration),
    /// Before a claim is answered; claims that come together share one sync.
    Each,
}

/// Where a journal is, and how it begins.
#[derive(Clone, Debug)]
pub struct JournalSettings {
    /// The directory; made if it is not there.
    pub path: PathBuf,
    /// How much room there is.
    pub room: Room,
    /// When it is on disk.
    pub sync: JournalSync,
    /// What its being empty means.
    pub when_new: WhenNew,
    /// The window at the start.
    pub window: Window,
    /// The kernel that is running: see [`boot_id`].
    pub boot_id: String,
    /// Moves a journal that is there aside, and starts behind the fence.
    pub discard: bool,
}

/// What [`Journal::reset_clock`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The floor is where a right clock may have left it.
    NotNeeded {
        /// Where that is, if it was ever raised.
        floor: Option<SystemTime>,
    },
    /// The floor lay beyond the window.
    Done {
        /// Where it was.
        from: SystemTime,
        /// Where it is: the fence.
        to: SystemTime,
    },
}

/// The id that the kernel was given when it started; empty where there is none, which no start
/// takes for the same.
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// See the module.
pub struct Journal {
    clock: Clock,
    kept: Arc<Kept>,
    /// Until when the floor stood above the present at the start.
    fence: Option<SystemTime>,
    _keeper: Keeper,
}

impl Journal {
    /// Opens the journal, made if it is not there, and remembers what it says.
    ///
    /// # Errors
    /// If another process has it, it is damaged or of a newer format, or the file system fails.
    pub fn open(clock: Clock, settings: JournalSettings) -> Result<Self, JournalError> {
        let opened = open::open(&clock, &settings)?;
        let fence = Some(opened.book.floor().0).filter(|floor| *floor > clock.now());
        let (kept, keeper) = keeper::start(clock.clone(), &settings, opened)
            .map_err(|error| JournalError::io(&settings.path, "no thread for its keeper", error))?;
        Ok(Self { clock, kept, fence, _keeper: keeper })
    }

    /// Brings a floor that a wrong clock raised beyond the window back, behind the fence. The only
    /// thing that ever lowers a floor: for a person to do, while nobody uses the journal.
    ///
    /// # Errors
    /// If a process has the journal, there is none, or the file system fails.
    pub fn reset_clock(clock: &Clock, path: &Path, window: Window, boot_id: &str) -> Result<Reset, JournalError> {
        open::reset_clock(clock, path, window, boot_id)
    }

    /// Bytes of heap that the salts take.
    pub fn heap_bytes(&self) -> usize {
        self.kept.book.heap_bytes()
    }

    fn book(&self) -> &Book {
        &self.kept.book
    }

    fn spend(&self, place: Reservation, salt: SaltId, date: SystemTime, window: Window) -> Claim<'_> {
        let log = &self.kept.log;
        let spent = self.book().spend(place, salt, date, window, |key, nanos| log.queue(&Record { salt, nanos, key }));
        match spent {
            Err(refused) => Claim::Now(Err(refused)),
            Ok(Err(NotWritten)) => Claim::Now(Err(ClaimRefused::Unknown)),
            Ok(Ok(number)) => Claim::Later(Box::pin(async move {
                others_first().await;
                match log.written(number) {
                    Ok(appended) => self.kept.on_disk(appended).answer().await,
                    Err(NotWritten) => Err(ClaimRefused::Unknown),
                }
            })),
        }
    }
}

impl SpentSalts for Journal {
    fn floor(&self) -> Floor {
        self.book().floor()
    }

    fn fenced_until(&self) -> Option<SystemTime> {
        self.fence.filter(|fence| self.clock.now() < *fence)
    }

    fn reserve(&self, api_key: &str) -> Result<Reservation, Unavailable> {
        let place = self.book().reserve(api_key)?;
        // The place just reserved is among those that are set aside.
        if self.book().set_aside() > self.kept.log.room() { Err(Unavailable::OutOfReach) } else { Ok(place) }
    }

    fn claim(&self, place: Reservation, salt: SaltId, date: SystemTime, window: Window) -> Claim<'_> {
        // What is refused anyway needs no cover.
        let beyond = nanos(date).filter(|nanos| !self.kept.covers(*nanos));
        match beyond.filter(|_| window.judge(date, self.clock.now(), self.floor()).is_ok()) {
            None => self.spend(place, salt, date, window),
            Some(nanos) => Claim::Later(Box::pin(async move {
                if !self.kept.cover(nanos).await {
                    return Err(ClaimRefused::Unknown);
                }
                self.spend(place, salt, date, window).answer().await
            })),
        }
    }

    fn look_up(&self, salt: SaltId) -> LookUp<'_> {
        LookUp::Now(self.book().holds(salt))
    }

    fn forget(&self) {
        if self.book().forget() {
            self.kept.forgot();
        }
    }

    fn held(&self) -> usize {
        self.book().held()
    }

    fn capacity(&self) -> usize {
        self.book().capacity()
    }

    fn health(&self) -> Health {
        self.kept.health()
    }
}
