//! What the gateways of a fleet tell each other through their store: what is frozen, and who knows it; and what they
//! count together: the deletions of keys and accounts.

use std::time::Duration;

use super::StoreFuture;

/// What a gateway tells with each reading.
#[derive(Clone, Debug)]
pub struct FleetReport {
    /// The version of the state that it holds.
    pub version: u64,
    /// That state. The store takes it if its own version is lower: then it has lost its data.
    pub state: String,
    /// No deletion that was permitted by an older version than this can still be sent by this gateway.
    pub cleared: u64,
}

/// What a gateway reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetReading {
    /// The version of the state; 0 if there is none.
    pub version: u64,
    /// The state.
    pub state: String,
}

/// A gateway of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetMember {
    /// Its machine and process.
    pub name: String,
    /// See [`FleetReport::cleared`].
    pub cleared: u64,
    /// The time since its last reading.
    pub silent: Duration,
}

/// A deletion that counts for a key and for an account, in the whole fleet.
#[derive(Clone, Debug)]
pub struct FleetDeletion {
    /// The key's count, if its deletions are counted.
    pub key: Option<FleetCount>,
    /// The account's.
    pub account: Option<FleetCount>,
    /// Whether a count that may be incomplete is taken as it is.
    pub accepts_lost: bool,
    /// How long a count is kept after the last deletion: at least as long as the longest span.
    pub kept_for: Duration,
}

/// What one key or account may do, and how much of what it did is remembered.
#[derive(Clone, Debug)]
pub struct FleetCount {
    /// The key's or the account's name.
    pub name: String,
    /// How many deletions are allowed in any span of this length; `None` if they are only counted.
    pub limit: Option<(u32, Duration)>,
    /// How many of the newest deletions are kept one by one.
    pub kept: u32,
}

/// What the fleet's counts allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FleetVerdict {
    /// The deletion. If it was taken, this number gives it back.
    Allowed(FleetTaken),
    /// No deletion for so long.
    Exceeded(Duration),
    /// Counts were lost; they are complete again after this time.
    Lost(Duration),
}

/// Names a deletion that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetTaken(pub(super) u64);

/// The part of a shared store that the gateways of a fleet tell each other by, and count together in.
pub trait FleetStore: Send + Sync {
    /// Reports, and reads the state.
    fn read(&self, report: FleetReport) -> StoreFuture<Result<FleetReading, String>>;

    /// Replaces the state if it has this version, by the next version. Returns whether it did.
    fn replace(&self, version: u64, state: String) -> StoreFuture<Result<bool, String>>;

    /// The version of the state, and all gateways that have reported.
    fn members(&self) -> StoreFuture<Result<(u64, Vec<FleetMember>), String>>;

    /// How long after a failover a gateway may still read from the old server.
    fn straggling(&self) -> Duration;

    /// Whether the fleet's counts allow this deletion. With `take` it is counted for the key and for the account, or for
    /// neither, in the same step.
    fn count(&self, deletion: FleetDeletion, take: bool) -> StoreFuture<Result<FleetVerdict, String>>;

    /// Takes back what was counted. If that fails, the deletion stays counted.
    fn give_back(&self, deletion: FleetDeletion, taken: FleetTaken) -> StoreFuture<()>;
}
