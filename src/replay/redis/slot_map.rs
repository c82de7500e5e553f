//! Which server of a fleet owns which slot.

use std::sync::Arc;
use std::time::Duration;

use super::server::Server;

/// The slot map: which server owns which slot.
#[derive(Default)]
pub(super) struct SlotMap {
    pub(super) servers: Vec<Arc<Server>>,
    /// Since which failover each is the master, as far as Sentinels or a cluster say it.
    pub(super) epochs: Vec<Option<u64>>,
    /// For each slot an index into `servers`; out of range if no server owns it.
    pub(super) owners: Vec<u16>,
    /// The elapsed time until which that is good, if Sentinels or a cluster say it.
    pub(super) until: Option<Duration>,
}

impl SlotMap {
    pub(super) fn owner(&self, slot: usize) -> Option<&Arc<Server>> {
        self.servers.get(usize::from(*self.owners.get(slot)?))
    }

    /// Whether its servers may be used at this elapsed time.
    pub(super) fn is_in_force(&self, elapsed: Duration) -> bool {
        self.until.is_none_or(|until| elapsed < until)
    }

    /// The epoch of the failover that made the slot's server the master.
    pub(super) fn epoch(&self, slot: usize) -> Option<u64> {
        self.epochs.get(usize::from(*self.owners.get(slot)?)).copied().flatten()
    }
}
