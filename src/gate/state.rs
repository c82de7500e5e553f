use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

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
    /// Whether the log tells of deletions that succeeded, too.
    pub log_successes: bool,
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

/// What one worker judges by. Counted for each worker by itself: no request touches the count of
/// another worker's.
pub struct Desk {
    pub(super) process: Arc<Process>,
    pub(super) generation: Arc<Generation>,
    pub(super) worker: usize,
}

impl Desk {
    /// This worker's way to the upstream.
    pub(super) fn upstream(&self) -> &Upstream {
        &self.generation.upstreams[self.worker]
    }
}

/// The generation in force. A request looks here once, at the door.
pub struct Current {
    process: Arc<Process>,
    desks: ArcSwap<Desks>,
}

struct Desks {
    generation: Arc<Generation>,
    of_workers: Box<[Arc<Desk>]>,
}

impl Current {
    /// This one, until another is stored.
    pub fn new(process: &Arc<Process>, generation: Generation) -> Self {
        let desks = ArcSwap::from_pointee(Desks::new(process, generation));
        Self { process: process.clone(), desks }
    }

    /// Every request from now on is judged by this one.
    pub fn store(&self, generation: Generation) {
        self.desks.store(Arc::new(Desks::new(&self.process, generation)));
    }

    /// A look at it, for a moment.
    pub fn load(&self) -> impl Deref<Target = Generation> {
        struct Look(arc_swap::Guard<Arc<Desks>>);
        impl Deref for Look {
            type Target = Generation;

            fn deref(&self) -> &Generation {
                &self.0.generation
            }
        }
        Look(self.desks.load())
    }

    /// To keep.
    pub fn load_full(&self) -> Arc<Generation> {
        self.desks.load().generation.clone()
    }

    /// What this worker judges by.
    pub fn desk(&self, worker: usize) -> Arc<Desk> {
        let desks = self.desks.load();
        desks.of_workers[worker % desks.of_workers.len()].clone()
    }
}

impl Desks {
    /// One for each worker that has a way to the upstream.
    fn new(process: &Arc<Process>, generation: Generation) -> Self {
        let generation = Arc::new(generation);
        let desk = |worker| Desk { process: process.clone(), generation: generation.clone(), worker };
        let of_workers = (0..generation.upstreams.len()).map(|worker| Arc::new(desk(worker))).collect();
        Self { generation, of_workers }
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
