//! What requests are judged by: a generation, as each worker holds it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use http::request::Parts;
use tokio::sync::watch;

use super::disguise::may_delete;
use super::reporting::Reporting;
use crate::authentication::Rules;
use crate::credential::PhpDates;
use crate::directory::Directory;
use crate::ownership::Ownership;
use crate::policy::{Limits, Mode, Passthrough, RouteMatch, Routes};
use crate::replay::Window;
use crate::safeguard::{Budgets, Guard};
use crate::throttle::Rate;
use crate::upstream::headers::Authorization;
use crate::upstream::{self, Servers, Unjudged, Upstream};

/// What a reload swaps, as a whole. A request takes one at the door; when its salt is spent it is judged by the one
/// in force by then ([`super::Spend`]), and keeps that.
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
    pub upstreams: Box<[upstream::Upstreams]>,
    /// The upstream's servers, as all workers know them.
    pub servers: Arc<Servers>,
    /// What becomes of the `Authorization` of what was judged.
    pub authorization: Authorization,
    /// What a message may measure, and how long connections wait.
    pub limits: Limits,
    /// How fast one key may spend salts.
    pub spending: Rate,
}

impl Generation {
    /// What an `Authorization` header is judged by.
    pub fn rules(&self) -> Rules<'_> {
        Rules { directory: &self.directory, php_dates: self.php_dates, window: self.window }
    }

    /// Whether a message goes upstream without a gate: it is named, is no route, and cannot be a deletion all the same.
    pub(crate) fn passes(&self, parts: &Parts) -> bool {
        let (method, raw_path) = (parts.method.as_str(), parts.uri.path());
        self.passthrough.lets(method, raw_path)
            && matches!(self.routes.find(method, raw_path), RouteMatch::None | RouteMatch::OtherMethod(_))
            && !may_delete(parts, &self.routes)
    }
}

/// What one worker judges by. Counted for each worker by itself: no request touches the count of
/// another worker's.
pub struct WorkerState {
    pub(super) reporting: Arc<Reporting>,
    pub(crate) generation: Arc<Generation>,
    pub(super) worker: usize,
    /// Whether another generation is in force.
    retired: AtomicBool,
}

impl WorkerState {
    /// Whether another generation is in force by now.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// This worker's way to the upstream, for look-ups and deletions.
    pub(super) fn upstream(&self) -> &Upstream {
        &self.generation.upstreams[self.worker].judged
    }

    /// This worker's way to the upstream, for what passes without being judged.
    pub(crate) fn passing(&self) -> &Upstream<Unjudged> {
        &self.generation.upstreams[self.worker].unjudged
    }
}

/// The generation in force. A request looks here once, on arrival.
pub struct Current {
    reporting: Arc<Reporting>,
    worker_states: ArcSwap<WorkerStates>,
    /// Tells whoever waits that another generation is in force.
    stored: watch::Sender<()>,
}

struct WorkerStates {
    generation: Arc<Generation>,
    of_workers: Box<[Arc<WorkerState>]>,
}

impl Current {
    /// This one, until another is stored. What is seen of requests is reported to `reporting`.
    pub fn new(reporting: &Arc<Reporting>, generation: Generation) -> Self {
        let worker_states = ArcSwap::from_pointee(WorkerStates::new(reporting, generation));
        Self { reporting: reporting.clone(), worker_states, stored: watch::Sender::new(()) }
    }

    /// Every request from now on is judged by this one.
    pub fn store(&self, generation: Generation) {
        let old = self.worker_states.swap(Arc::new(WorkerStates::new(&self.reporting, generation)));
        old.of_workers.iter().for_each(|worker_state| worker_state.retired.store(true, Ordering::Release));
        self.stored.send_replace(());
    }

    /// Sees a change whenever another generation is stored.
    pub fn reloads(&self) -> watch::Receiver<()> {
        self.stored.subscribe()
    }

    /// A look at it, for a moment.
    pub fn load(&self) -> impl Deref<Target = Generation> {
        struct Look(arc_swap::Guard<Arc<WorkerStates>>);
        impl Deref for Look {
            type Target = Generation;

            fn deref(&self) -> &Generation {
                &self.0.generation
            }
        }
        Look(self.worker_states.load())
    }

    /// To keep.
    pub fn load_full(&self) -> Arc<Generation> {
        self.worker_states.load().generation.clone()
    }

    /// What this worker judges by.
    pub fn worker_state(&self, worker: usize) -> Arc<WorkerState> {
        let worker_states = self.worker_states.load();
        worker_states.of_workers[worker % worker_states.of_workers.len()].clone()
    }
}

impl WorkerStates {
    /// One for each worker that has a way to the upstream.
    fn new(reporting: &Arc<Reporting>, generation: Generation) -> Self {
        let generation = Arc::new(generation);
        let worker_state = |worker| WorkerState {
            reporting: reporting.clone(),
            generation: generation.clone(),
            worker,
            retired: AtomicBool::new(false),
        };
        let of_workers = (0..generation.upstreams.len()).map(|worker| Arc::new(worker_state(worker))).collect();
        Self { generation, of_workers }
    }
}
