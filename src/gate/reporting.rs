//! The destinations that an observation reports to.

use std::sync::Arc;

use super::request_ids::RequestIds;
use crate::audit;
use crate::clock::Clock;
use crate::repeats::Repeats;
use crate::replay::SpentSalts;
use crate::telemetry::{Metrics, Refusals};
use crate::trace::Tracing;

/// What an observation reads and writes: the time, request ids, and the places that learn how requests ended. No
/// gate bases a decision on it.
pub struct Reporting {
    /// The clock.
    pub clock: Clock,
    /// The source of request ids.
    pub request_ids: RequestIds,
    /// Counters and durations.
    pub metrics: Arc<Metrics>,
    /// Records requests that spent their salt and were refused, and counts those that spent nothing.
    pub record: audit::Record,
    /// The most recent refused requests.
    pub refusals: Arc<Refusals>,
    /// Stores the answers for repeats that reach another gateway, if the store is shared.
    pub salts: Arc<dyn SpentSalts>,
    /// Says how long such an answer is kept.
    pub repeats: Repeats,
    /// Makes the traces, if there are any.
    pub(crate) tracing: Tracing,
}
