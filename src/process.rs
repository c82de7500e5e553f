//! What exists once per process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crate::audit;
use crate::clock::Clock;
use crate::gate::Reporting;
use crate::key_use::UseLedger;
use crate::pipeline::Tasks;
use crate::repeats::Repeats;
use crate::replay::{FleetStore, SpentSalts};
use crate::safeguard::{BudgetCounts, Freeze};
use crate::telemetry::{Metrics, Refusals};
use crate::throttle::{FailedSignatures, LateBodies, PassingSlots, Slots};

/// What exists once per process. All workers share it, and a reload keeps it. Correctness depends on it.
pub struct Process {
    /// The clock.
    pub clock: Clock,
    /// The spent salts.
    pub salts: Arc<dyn SpentSalts>,
    /// How the requests that spent their salts ended, for repeats.
    pub repeats: Repeats,
    /// The audit record.
    pub record: audit::Record,
    /// What is frozen.
    pub freeze: Arc<Freeze>,
    /// Where the gateways of the fleet tell each other what is frozen, if `safeguard.scope` is `fleet`.
    pub fleet: Option<Fleet>,
    /// How much of their budgets keys and accounts have used.
    pub budget_usage: Arc<BudgetCounts>,
    /// How much would have been used of the budgets in observe mode.
    pub shadow_budget_usage: Arc<BudgetCounts>,
    /// The most recent refused requests.
    pub refusals: Arc<Refusals>,
    /// One slot for each request between admission and the end of its answer.
    pub slots: Slots,
    /// One slot for each request that passes without being judged, until the end of its answer.
    pub passing_slots: PassingSlots,
    /// Requests that wait for their bodies, by header.
    pub late_bodies: LateBodies,
    /// Failed signatures, per client address.
    pub failed_signatures: FailedSignatures,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The destinations that observations report to.
    pub reporting: Arc<Reporting>,
    /// For each worker, the requests that run to their end even if their clients leave.
    pub tasks: Box<[Tasks]>,
    /// Set when the process begins to end.
    pub draining: AtomicBool,
    /// How many seconds the wall clock is ahead of the elapsed time, once that exceeds the limit for a jump.
    pub clock_skew: AtomicI64,
    /// Set while the keys that were found last cannot be used, so that earlier ones are in force.
    pub keys_refused: AtomicBool,
    /// When the secrets of keys were last used.
    pub(crate) key_uses: Arc<UseLedger>,
    /// Whether `/ready` fails while the store of salts is unavailable (`ready_needs` lists `replay`).
    pub ready_needs_replay: bool,
}

/// What a gateway of a fleet needs to freeze for all of them.
pub struct Fleet {
    /// Where they tell each other.
    pub store: Arc<dyn FleetStore>,
    /// For how long a gateway knows what is frozen after it has read it.
    pub lease: Duration,
}

impl Process {
    /// Whether the process is ending.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
