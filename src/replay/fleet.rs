//! What the gateways of a fleet tell each other through their store: what is frozen, and who knows it.

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

/// The part of a shared store that the gateways of a fleet tell each other by.
pub trait FleetStore: Send + Sync {
    /// Reports, and reads the state.
    fn read(&self, report: FleetReport) -> StoreFuture<Result<FleetReading, String>>;

    /// Replaces the state if it has this version, by the next version. Returns whether it did.
    fn replace(&self, version: u64, state: String) -> StoreFuture<Result<bool, String>>;

    /// The version of the state, and all gateways that have reported.
    fn members(&self) -> StoreFuture<Result<(u64, Vec<FleetMember>), String>>;

    /// How long after a failover a gateway may still read from the old server.
    fn straggling(&self) -> Duration;
}
