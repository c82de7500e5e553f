//! Which server of a fleet owns which slot.

use std::sync::Arc;

use super::server::Server;

/// The slot map: which server owns which slot.
#[derive(Default)]
pub(super) struct SlotMap {
    pub(super) servers: Vec<Arc<Server>>,
    /// For each slot an index into `servers`; out of range if no server owns it.
    pub(super) owners: Vec<u16>,
}

impl SlotMap {
    pub(super) fn owner(&self, slot: usize) -> Option<&Arc<Server>> {
        self.servers.get(usize::from(*self.owners.get(slot)?))
    }
}
