//! Sets the gauges that only a scrape needs.

use super::ready::{self, Part};
use crate::gate::Generation;
use crate::process::Process;
use crate::telemetry::Levels;

pub(super) fn refresh(process: &Process, current: &Generation) {
    let parts = ready::parts(process, current).into_iter().map(|(name, part)| (name, part == Part::Ok));
    let parts: Vec<_> = parts.collect();
    process.metrics.levels(&Levels {
        parts: &parts,
        in_flight: process.slots.taken(),
        record_free: process.record.free_bytes(),
        open_outcomes: process.record.open_outcomes(),
        frozen: &process.freeze.counts(),
        keys: current.directory.len(),
        old_secrets_used: &current.directory.old_secrets_used(process.clock.now()),
        keys_age: current.keys.age(process.clock.elapsed()),
    });
}
