//! What lives once per process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::audit;
use crate::clock::Clock;
use crate::gate::Reporting;
use crate::pipeline::Tasks;
use crate::repeats::Repeats;
use crate::replay::SpentSalts;
use crate::safeguard::{BudgetUsage, Freeze};
use crate::telemetry::{Metrics, Refusals};
use crate::throttle::{FailedSignatures, LateBodies, PassingSlots, Slots};

/// What lives once per process: correctness state, shared by every worker, kept by a reload.
pub struct Process {
    /// Time.
    pub clock: Clock,
    /// The spent salts.
    pub salts: Arc<dyn SpentSalts>,
    /// What became of the requests that spent them, for repeats.
    pub repeats: Repeats,
    /// The record.
    pub record: audit::Record,
    /// What is frozen.
    pub freeze: Arc<Freeze>,
    /// What keys and accounts took of their budgets.
    pub budget_usage: Arc<BudgetUsage>,
    /// What it would have counted of what was only observed.
    pub shadow_budget_usage: Arc<BudgetUsage>,
    /// The last requests that were refused.
    pub refusals: Arc<Refusals>,
    /// One per request between admission and the end of its answer.
    pub slots: Slots,
    /// One per request that passes without being judged, to the end of its answer.
    pub passing_slots: PassingSlots,
    /// Requests that wait for their bodies, by the header they have.
    pub late_bodies: LateBodies,
    /// Signatures that failed, per client address.
    pub failed_signatures: FailedSignatures,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Where observations of requests report to.
    pub reporting: Arc<Reporting>,
    /// Requests that run to their end whether the client stays or not, of each worker.
    pub tasks: Box<[Tasks]>,
    /// Set once the process is to end.
    pub draining: AtomicBool,
    /// How many seconds the wall clock is ahead of where elapsed time says it should be, once
    /// that is more than a jump.
    pub clock_skew: AtomicI64,
    /// Whether the process is not ready without its store of salts, where others could be.
    pub ready_needs_replay: bool,
}

impl Process {
    /// Whether the process is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
