//! Spent salts (contract §3): the window, the floor, and the stores that remember which salts were used.
//!
//! 1. A salt is spent once per secret, in one atomic step that checks window and floor again.
//! 2. Above the floor, every spent salt is remembered. At or below the floor, nothing is admitted.
//! 3. Nothing above the floor is evicted, and no key holds more than its share of the store.

#[cfg(test)]
mod adversary;
mod fleet;
mod fullness;
mod journal;
mod ledger;
mod memory;
mod redis;
mod salt_set;
mod settings;
mod table;
#[cfg(test)]
mod theorem;
mod window;

pub(crate) use fleet::{
    FleetCount, FleetDeletion, FleetMember, FleetReading, FleetReport, FleetStore, FleetTaken, FleetVerdict,
};
#[cfg(any(test, fuzzing))]
pub(crate) use journal::fuzz as fuzz_journal;
pub use journal::{Journal, JournalSettings, JournalSync, boot_id};
pub(crate) use journal::{JournalError, Reset};
pub use memory::{Memory, MemorySettings};
#[cfg(any(test, fuzzing))]
pub(crate) use redis::fuzz::fuzz as fuzz_redis;
#[cfg(test)]
pub(crate) use redis::simulated;
pub(crate) use redis::{
    Access, ClientCertificate, OnFailover, Redis, RedisSettings, RedisStartError, SentinelSettings, examine,
};
pub(crate) use settings::{ReplaySettings, StoreOpenError};
pub(crate) use window::OutOfWindow;
pub use window::{Floor, Window};

use crate::credential::SaltId;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Identifies the request that spent a salt. A shared store keeps it with the salt; all zeros if unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark([u8; 32]);

impl Mark {
    /// A mark from the hash of what the request asks for, and its request id.
    pub fn new(print: [u8; 16], id: [u8; 16]) -> Self {
        let mut mark = [0; 32];
        mark[..16].copy_from_slice(&print);
        mark[16..].copy_from_slice(&id);
        Self(mark)
    }

    /// The hash of what the request asked for.
    pub fn print(&self) -> [u8; 16] {
        self.0[..16].try_into().unwrap_or_default()
    }

    /// The request id, in hexadecimal digits.
    pub fn id(&self) -> String {
        self.text()[32..].to_owned()
    }

    fn text(&self) -> String {
        self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|n| char::from_digit(n.into(), 16)).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut mark = [0; 32];
        let pairs = text.as_bytes().as_chunks::<2>();
        if !pairs.1.is_empty() || pairs.0.len() != mark.len() {
            return None;
        }
        for (byte, [high, low]) in mark.iter_mut().zip(pairs.0) {
            let digit = |c: u8| if c.is_ascii_uppercase() { None } else { char::from(c).to_digit(16) };
            *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
        }
        Some(Self(mark))
    }
}

/// How many salts a store may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Salts of all keys together.
    pub max_salts: usize,
    /// Salts of one key.
    pub max_salts_per_key: usize,
}

impl Room {
    /// Default of [`Room::max_salts`].
    pub const MAX_SALTS: usize = 1_000_000;

    /// Default of [`Room::max_salts_per_key`]: a quarter of `max_salts`.
    pub fn share_of_one_key(max_salts: usize) -> usize {
        (max_salts / 4).max(1)
    }
}

/// What to do when the store is empty at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenNew {
    /// An earlier store may have been lost, so nothing that it may have admitted is admitted again.
    Fence,
    /// Admit everything: this is a first start, or the loss of earlier salts is accepted.
    Accept,
}

impl WhenNew {
    /// Default of `when_new`.
    pub const DEFAULT: Self = Self::Fence;
}

/// A store of spent salts.
///
/// Every implementation guarantees at every moment: *above [`SpentSalts::floor`] every spent salt is remembered; at
/// or below it nothing is admitted.*
pub trait SpentSalts: Send + Sync {
    /// No date at or below this is ever admitted.
    fn floor(&self) -> Floor;

    /// The end of the fence, while the floor lies in the future. Salts dated before it may have been spent before
    /// this store began.
    fn fenced_until(&self) -> Option<SystemTime>;

    /// Reserves room for one claim of `api_key`, so that the claim cannot find the store full. Dropping the
    /// [`Reservation`] releases it.
    ///
    /// # Errors
    /// If the store is full, or the key holds its share. Nothing has been spent.
    fn reserve(&self, api_key: &str) -> Result<Reservation, Unavailable>;

    /// Spends a salt: checks window and floor again and remembers the salt, in one step. Of any number of
    /// simultaneous claims of one salt, exactly one is `Ok`. A shared store keeps `mark` with the salt.
    fn claim(&self, reservation: Reservation, salt: SaltId, date: SystemTime, window: Window, mark: Mark) -> Claim<'_>;

    /// Whether other processes use this store too.
    fn is_shared(&self) -> bool {
        false
    }

    /// Where the gateways that use this store tell each other what is frozen, and count together. `None` if the store belongs to one process.
    fn fleet(&self) -> Option<Arc<dyn FleetStore>> {
        None
    }

    /// Stores the answer to the request that spent `salt`, for `life`, where other processes can read it. `None` if
    /// the store belongs to one process. A failure is not reported: readers then find nothing.
    fn store_answer(&self, _salt: SaltId, _text: Vec<u8>, _life: Duration) -> Option<StoreFuture<()>> {
        None
    }

    /// The answer that a process stored for `salt`. `None` if the store belongs to one process.
    fn stored_answer(&self, _salt: SaltId) -> Option<StoreFuture<Option<Vec<u8>>>> {
        None
    }

    /// Forgets salts that can no longer be admitted, and raises the floor accordingly. Called periodically.
    fn forget(&self);

    /// How many salts the store holds now.
    fn held(&self) -> usize;

    /// How many salts the store can hold.
    fn capacity(&self) -> usize;

    /// Whether the store can serve this salt now. Spends nothing. A remote store may have to connect first.
    fn reach(&self, _salt: SaltId) -> StoreReach<'_> {
        StoreReach::Now(Ok(()))
    }

    /// The floor for one salt. It differs from [`SpentSalts::floor`] where parts of a store have floors of their own.
    fn floor_of(&self, _salt: SaltId) -> Floor {
        self.floor()
    }

    /// Whether a salt is spent; `None` if the store cannot say. Spends nothing and is no proof: only a claim is.
    fn look_up(&self, salt: SaltId) -> LookUp<'_>;

    /// The state of the store.
    fn health(&self) -> StoreHealth {
        StoreHealth::Ok
    }
}

/// An operation on an answer in a shared store.
pub(crate) type StoreFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The state of a store (contract §10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreHealth {
    /// It works.
    Ok,
    /// It works in part, or may recover by itself. The text is for operators.
    Degraded(String),
    /// It does not work now. The text is for operators.
    Gone(String),
}

/// Whether a store can be reached: known now, or after an attempt.
pub enum StoreReach<'s> {
    /// Known.
    Now(Result<(), Unavailable>),
    /// Known when this future completes.
    Later(Pin<Box<dyn Future<Output = Result<(), Unavailable>> + Send + 's>>),
}

impl StoreReach<'_> {
    /// Waits for the answer if it is not known yet.
    ///
    /// # Errors
    /// If the store cannot be reached. Nothing has been spent.
    pub async fn known(self) -> Result<(), Unavailable> {
        match self {
            Self::Now(known) => known,
            Self::Later(known) => known.await,
        }
    }
}

/// Whether a salt is spent: known now, or after the store was asked.
pub enum LookUp<'s> {
    /// Known.
    Now(Option<bool>),
    /// Known when this future completes.
    Later(Pin<Box<dyn Future<Output = Option<bool>> + Send + 's>>),
}

impl LookUp<'_> {
    /// Waits for the answer if it is not known yet.
    pub async fn known(self) -> Option<bool> {
        match self {
            Self::Now(known) => known,
            Self::Later(known) => known.await,
        }
    }
}

/// The result of a claim: immediate from a store in this process, later from a remote one.
pub enum Claim<'s> {
    /// The result.
    Now(Result<(), ClaimRefused>),
    /// The result when this future completes.
    Later(Pin<Box<dyn Future<Output = Result<(), ClaimRefused>> + Send + 's>>),
}

impl Claim<'_> {
    /// Waits for the result if it is not known yet.
    pub async fn answer(self) -> Result<(), ClaimRefused> {
        match self {
            Self::Now(answer) => answer,
            Self::Later(answer) => answer.await,
        }
    }
}

/// Room reserved for one salt. Dropping it releases the room.
pub struct Reservation {
    ledger: Arc<ledger::Ledger>,
    tally: Arc<ledger::Tally>,
    key: ledger::KeyTag,
    /// Set once a salt occupies the room.
    held: bool,
}

/// Why a claim was refused. Except for `Unknown`, this claim spent nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimRefused {
    /// The salt was spent before.
    Reused,
    /// The request with this mark spent the salt before.
    ReusedBy(Mark),
    /// The date left the window after the first check.
    OutOfWindow(OutOfWindow),
    /// The key holds its share of the fleet's store (`max_salts_per_key`) already.
    KeyShare,
    /// The store gave no answer. The salt counts as spent.
    Unknown,
}

/// Why no claim is possible now. Nothing has been spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The store is full.
    Full,
    /// The key holds its share (`max_salts_per_key`) already.
    KeyShare,
    /// The store cannot be reached.
    OutOfReach,
}
