//! Where an observation reports to.

use std::sync::Arc;

use super::request_ids::RequestIds;
use crate::audit;
use crate::clock::Clock;
use crate::repeats::Repeats;
use crate::replay::SpentSalts;
use crate::telemetry::{Metrics, Refusals};

/// What an observation reads and writes, and no gate decides by: the time and the ids of requests, and who is told how they
/// ended.
pub struct Reporting {
    /// Time.
    pub clock: Clock,
    /// Where request ids come from.
    pub request_ids: RequestIds,
    /// Counts and times.
    pub metrics: Arc<Metrics>,
    /// Told of requests that spent their salt and were refused, and counts those that spent nothing.
    pub record: audit::Record,
    /// The last requests that were refused.
    pub refusals: Arc<Refusals>,
    /// Keeps the answers for repeats that come to another gateway, where the store is shared.
    pub salts: Arc<dyn SpentSalts>,
    /// How long such an answer is kept.
    pub repeats: Repeats,
}
