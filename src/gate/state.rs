use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use super::{Mode, Refusals, RequestIds, Tasks};
use crate::audit;
use crate::clock::Clock;
use crate::credential::PhpDates;
use crate::directory::Directory;
use crate::ownership::Ownership;
use crate::policy::{Found, Passthrough, Routes};
use crate::replay::{SpentSalts, Window};
use crate::safeguard::{Budgets, Freeze, Guard, Takings};
use crate::telemetry::Metrics;
use crate::throttle::{FailedSignatures, Slots};
use crate::upstream::hygiene::Authorization;
use crate::upstream::{Servers, Upstream};

/// What lives once per process: correctness state, shared by every worker, kept by a reload.
pub struct Process {
    /// Time.
    pub clock: Clock,
    /// The spent salts.
    pub salts: Box<dyn SpentSalts>,
    /// The record.
    pub record: audit::Record,
    /// What is frozen.
    pub freeze: Freeze,
    /// What keys and accounts took of their budgets.
    pub takings: Takings,
    /// What it would have counted of what was only observed.
    pub watched: Takings,
    /// The last requests that were refused.
    pub refusals: Refusals,
    /// One per request between admission and the end of its answer.
    pub slots: Slots,
    /// Signatures that failed, per client address.
    pub failed_signatures: FailedSignatures,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Where request ids come from.
    pub request_ids: RequestIds,
    /// Requests that run to their end whether the client stays or not.
    pub tasks: Tasks,
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

/// What a reload swaps, as a whole: a request takes one at the door and keeps it.
pub struct Generation {
    /// Who may call.
    pub directory: Directory,
    /// Whether what the gates refuse is refused.
    pub mode: Mode,
    /// What may be deleted.
    pub routes: Routes,
    /// What goes upstream without a gate.
    pub passthrough: Passthrough,
    /// How far a date may lie from now.
    pub window: Window,
    /// Whether the PHP SDK's dates are read.
    pub php_dates: PhpDates,
    /// Whose segment it is.
    pub ownership: Ownership,
    /// How many deletions keys and accounts have.
    pub budgets: Budgets,
    /// How the service says which automations are linked.
    pub guard: Guard,
    /// The upstream as each worker reaches it: pools are per worker, so no worker waits for
    /// another's lock.
    pub upstreams: Box<[Upstream]>,
    /// The upstream's servers, as all workers know them.
    pub servers: Arc<Servers>,
    /// What becomes of the `Authorization` of what was judged.
    pub authorization: Authorization,
    /// What a message may measure.
    pub limits: Limits,
}

impl Generation {
    /// Whether a message goes upstream without a gate: it is named, and is no route.
    pub(super) fn passes(&self, method: &str, raw_path: &str) -> bool {
        self.passthrough.lets(method, raw_path)
            && matches!(self.routes.find(method, raw_path), Found::None | Found::OtherMethod(_))
    }
}

/// What a message may measure (contract §9, `[limits]`).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the header section.
    pub max_header_bytes: usize,
    /// Bytes of the request target.
    pub max_target_bytes: usize,
    /// Bytes of the body.
    pub max_body_bytes: usize,
    /// The time for the whole body.
    pub body_timeout: Duration,
}
