//! What "spent" means (contract §3).
//!
//! 1. A salt is spent for the secret that signed it, once, by one atomic step that judges window
//!    and floor again.
//! 2. Above the floor everything that was spent is remembered; at or below it nothing is admitted.
//! 3. Nothing above the floor is evicted, and no key holds more than its share.

mod book;
mod journal;
mod ledger;
mod memory;
mod redis;
mod table;
#[cfg(test)]
mod theorem;
mod window;

pub use journal::{Journal, JournalError, JournalSettings, JournalSync, Reset, boot_id};
pub use memory::{Memory, MemorySettings};
pub use redis::{OnFailover, Redis, RedisSettings, ping};
pub use window::{Floor, OutOfWindow, Window};

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

/// A salt as the stores know it: 16 bytes of a keyed hash, nothing readable.
pub type SaltId = [u8; 16];

/// How much a store may remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Salts there is room for.
    pub max_salts: usize,
    /// Salts that one key may hold.
    pub max_salts_per_key: usize,
}

/// What it means that a store is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenNew {
    /// Perhaps an earlier one was lost: nothing that it may have admitted is admitted again.
    Fence,
    /// A first start, or a restart whose forgetting is accepted.
    Accept,
}

/// A store of spent salts: the one atomic step, and what must be known before it.
///
/// The promise of every implementation, at every moment: *above [`SpentSalts::floor`] every salt
/// that was spent is remembered; at or below it nothing is admitted.*
pub trait SpentSalts: Send + Sync {
    /// Nothing dated at or below this is ever admitted.
    fn floor(&self) -> Floor;

    /// Until when the floor stands above the present, if it does: what happened before this
    /// memory began may have been spent, so nothing of that time is admitted.
    fn fenced_until(&self) -> Option<SystemTime>;

    /// Sets a place aside for one claim of `api_key`, so that the claim cannot find the memory
    /// full. Dropping the [`Reservation`] gives the place back.
    ///
    /// # Errors
    /// If there is no place, or the key has its share. Nothing has been spent.
    fn reserve(&self, api_key: &str) -> Result<Reservation, Unavailable>;

    /// Spends a salt: judges window and floor again and remembers the salt, in one step. Of any
    /// number of simultaneous claims of one salt exactly one is `Ok`.
    fn claim(&self, reservation: Reservation, salt: SaltId, date: SystemTime, window: Window) -> Claim<'_>;

    /// Forgets what can no longer be admitted, and raises the floor to it. Called now and then.
    fn forget(&self);

    /// How many salts are remembered now.
    fn held(&self) -> usize;

    /// How many salts there is room for.
    fn capacity(&self) -> usize;

    /// Whether the store can be asked for this salt now, while nothing is spent. One that is not
    /// in this process may have to be connected to first.
    fn reach(&self, _salt: SaltId) -> Reach<'_> {
        Reach::Now(Ok(()))
    }

    /// The floor for one salt, where parts of a store have floors of their own.
    fn floor_of(&self, _salt: SaltId) -> Floor {
        self.floor()
    }

    /// Whether a salt is spent, as far as is remembered; `None` if the store does not say. Spends
    /// nothing, and decides nothing: a claim does.
    fn look_up(&self, salt: SaltId) -> LookUp<'_>;

    /// How the store fares.
    fn health(&self) -> Health {
        Health::Ok
    }
}

/// How a store fares (contract §10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// As it should.
    Ok,
    /// It serves in part, or may again by itself; in words for operators.
    Degraded(String),
    /// It does not serve now; in words for operators.
    Gone(String),
}

/// Whether a store is in reach: known at once, or once it was tried.
pub enum Reach<'s> {
    /// Known.
    Now(Result<(), Unavailable>),
    /// Being tried.
    Later(Pin<Box<dyn Future<Output = Result<(), Unavailable>> + Send + 's>>),
}

impl Reach<'_> {
    /// Waits where there is anything to wait for.
    ///
    /// # Errors
    /// If the store is out of reach. Nothing has been spent.
    pub async fn known(self) -> Result<(), Unavailable> {
        match self {
            Self::Now(known) => known,
            Self::Later(known) => known.await,
        }
    }
}

/// Whether a salt is spent: known at once, or once the store was asked.
pub enum LookUp<'s> {
    /// Known.
    Now(Option<bool>),
    /// Being asked.
    Later(Pin<Box<dyn Future<Output = Option<bool>> + Send + 's>>),
}

impl LookUp<'_> {
    /// Waits where there is anything to wait for.
    pub async fn known(self) -> Option<bool> {
        match self {
            Self::Now(known) => known,
            Self::Later(known) => known.await,
        }
    }
}

/// The answer of a claim: at once from a store in this process, later from one that is not.
pub enum Claim<'s> {
    /// Judged.
    Now(Result<(), ClaimRefused>),
    /// Being judged elsewhere.
    Later(Pin<Box<dyn Future<Output = Result<(), ClaimRefused>> + Send + 's>>),
}

impl Claim<'_> {
    /// Waits for the answer where there is anything to wait for.
    pub async fn answer(self) -> Result<(), ClaimRefused> {
        match self {
            Self::Now(answer) => answer,
            Self::Later(answer) => answer.await,
        }
    }
}

/// A place set aside. Dropping it gives it back.
pub struct Reservation {
    ledger: Arc<ledger::Ledger>,
    tally: Arc<ledger::Tally>,
    key: ledger::KeyTag,
    /// Set once a salt holds the place.
    held: bool,
}

/// Why a claim was refused. In each case but the last the salt was not spent by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimRefused {
    /// Somebody spent it before.
    Reused,
    /// The date left the window since it was first judged.
    OutOfWindow(OutOfWindow),
    /// The store did not say; the salt counts as spent.
    Unknown,
}

/// Why nothing can be claimed now. Nothing has been spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Every place is taken.
    Full,
    /// The key holds its share (`max_salts_per_key`).
    KeyShare,
    /// The store is out of reach.
    OutOfReach,
}
