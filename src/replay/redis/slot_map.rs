//! Which server of a fleet owns which slot.

use std::sync::Arc;
use std::time::Duration;

use super::server::Server;

/// The slot map: which server owns which slot.
#[derive(Default)]
pub(super) struct SlotMap {
    pub(super) servers: Vec<Arc<Server>>,
    /// For each slot an index into `servers`; out of range if no server owns it.
    pub(super) owners: Vec<u16>,
    /// For how long that is good, if Sentinels or a cluster say it.
    pub(super) term: Option<Term>,
}

/// How long servers may be used as masters, and with Sentinels since which failover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    pub(super) epoch: Option<u64>,
    /// The elapsed time at which it ends.
    pub(super) until: Duration,
}

impl SlotMap {
    pub(super) fn owner(&self, slot: usize) -> Option<&Arc<Server>> {
        self.servers.get(usize::from(*self.owners.get(slot)?))
    }

    /// Whether its servers may be used at this elapsed time.
    pub(super) fn is_in_force(&self, elapsed: Duration) -> bool {
        self.term.is_none_or(|term| elapsed < term.until)
    }

    /// The epoch of the failover that made its server the master, by the Sentinels.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.term.and_then(|term| term.epoch)
    }
}
