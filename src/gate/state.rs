//! The generation that requests are judged by, and its view from each worker.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use http::request::Parts;
use tokio::sync::watch;

use super::disguise::may_delete;
use super::reporting::Reporting;
use crate::authentication::Rules;
use crate::credential::PhpDates;
use crate::directory::{Directory, KeyState};
use crate::ownership::Ownership;
use crate::policy::{Limits, Mode, Passthrough, RouteMatch, Routes};
use crate::replay::Window;
use crate::safeguard::{Budgets, Guard};
use crate::throttle::Rate;
use crate::upstream::headers::Authorization;
use crate::upstream::{self, Servers, Unjudged, Upstream};

/// Everything that a reload replaces at once. A request takes the current generation on arrival. When its salt is
/// spent, it moves to the one in force then ([`super::Spend`]), and keeps that.
#[derive(Clone)]
pub struct Generation {
    /// The keys. Many take a while to be dropped: [`Current::drop_replaced`].
    pub directory: Arc<Directory>,
    /// Until when they may be used.
    pub keys: Arc<KeyState>,
    /// The number of this set of keys in the record: 1 at the start, and one more for each change.
    pub key_set: u64,
    /// Whether refusals are enforced.
    pub mode: Mode,
    /// The routes on which deletions are accepted.
    pub routes: Routes,
    /// What goes upstream without passing a gate.
    pub passthrough: Passthrough,
    /// Whether the log has successful deletions, too.
    pub log_successes: bool,
    /// How far a date may lie from now.
    pub window: Window,
    /// Whether the date format of the PHP SDK is accepted.
    pub php_dates: PhpDates,
    /// How the owner of a segment is found.
    pub(crate) ownership: Ownership,
    /// How many deletions keys and accounts may make.
    pub budgets: Budgets,
    /// How the service reports linked automations.
    pub guard: Guard,
    /// The upstream for each worker. Connection pools are per worker, so that no worker waits for another's lock.
    pub upstreams: Arc<[upstream::Upstreams]>,
    /// The upstream's servers, shared by all workers.
    pub servers: Arc<Servers>,
    /// What happens to the `Authorization` field when a judged request is sent on.
    pub authorization: Authorization,
    /// Limits on the size of messages, and timeouts of connections.
    pub limits: Limits,
    /// How fast one key may spend salts.
    pub spending: Rate,
}

impl Generation {
    /// The same with other keys. Connections to the upstream are kept.
    #[must_use]
    pub fn with_keys(&self, directory: Arc<Directory>, keys: Arc<KeyState>) -> Self {
        Self { directory, keys, ..self.clone() }
    }

    /// The rules for `Authorization` headers.
    pub fn rules(&self) -> Rules<'_> {
        Rules { directory: &self.directory, php_dates: self.php_dates, window: self.window }
    }

    /// Whether a message goes upstream without a gate: `[passthrough]` names it, it is on no route, and it cannot
    /// be a deletion in disguise.
    pub(crate) fn passes(&self, parts: &Parts) -> bool {
        let (method, raw_path) = (parts.method.as_str(), parts.uri.path());
        self.passthrough.lets(method, raw_path)
            && matches!(self.routes.find(method, raw_path), RouteMatch::None | RouteMatch::OtherMethod(_))
            && !may_delete(parts, &self.routes)
    }
}

/// The generation as one worker holds it. One `Arc` per worker, so that reference counts are not shared between
/// cores.
pub struct WorkerState {
    pub(super) reporting: Arc<Reporting>,
    pub(crate) generation: Arc<Generation>,
    pub(super) worker: usize,
    /// Whether another generation has come into force.
    retired: AtomicBool,
}

impl WorkerState {
    /// Whether another generation has come into force.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// This worker's connections to the upstream, for look-ups and deletions.
    pub(super) fn upstream(&self) -> &Upstream {
        &self.generation.upstreams[self.worker].judged
    }

    /// This worker's connections to the upstream, for messages that pass without being judged.
    pub(crate) fn passing(&self) -> &Upstream<Unjudged> {
        &self.generation.upstreams[self.worker].unjudged
    }
}

/// The generation in force. A request looks it up once, on arrival.
pub struct Current {
    reporting: Arc<Reporting>,
    worker_states: ArcSwap<WorkerStates>,
    /// Directories that were replaced. Dropping one with many keys takes a while, so no request must be the last to hold one.
    replaced: Mutex<Vec<Arc<Directory>>>,
    /// Held while a generation is made from the one in force.
    changing: Mutex<()>,
    /// Wakes those who wait for another generation.
    stored: watch::Sender<()>,
}

struct WorkerStates {
    generation: Arc<Generation>,
    of_workers: Box<[Arc<WorkerState>]>,
}

impl Current {
    /// Starts with this generation. Observations of requests report to `reporting`.
    pub fn new(reporting: &Arc<Reporting>, generation: Generation) -> Self {
        let worker_states = ArcSwap::from_pointee(WorkerStates::new(reporting, generation));
        let (replaced, changing) = Default::default();
        Self { reporting: reporting.clone(), worker_states, replaced, changing, stored: watch::Sender::new(()) }
    }

    /// Puts this generation in force for all requests from now on.
    pub fn store(&self, generation: Generation) {
        let new = generation.directory.clone();
        let old = self.worker_states.swap(Arc::new(WorkerStates::new(&self.reporting, generation)));
        if !Arc::ptr_eq(&old.generation.directory, &new) {
            self.replaced.lock().unwrap_or_else(PoisonError::into_inner).push(old.generation.directory.clone());
        }
        old.of_workers.iter().for_each(|worker_state| worker_state.retired.store(true, Ordering::Release));
        self.stored.send_replace(());
    }

    /// Drops the directories that were replaced and that no request uses any more. For a thread that serves none.
    pub(crate) fn drop_replaced(&self) {
        let unused: Vec<_> = {
            let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
            replaced.extract_if(.., |directory| Arc::strong_count(directory) == 1).collect()
        };
        drop(unused);
    }

    /// Keeps others from storing a generation that is made from the one in force now, until this is dropped.
    pub fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signals each time another generation is stored.
    pub fn reloads(&self) -> watch::Receiver<()> {
        self.stored.subscribe()
    }

    /// Borrows the generation for a moment.
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

    /// Takes a reference that can be kept.
    pub fn load_full(&self) -> Arc<Generation> {
        self.worker_states.load().generation.clone()
    }

    /// The state of this worker.
    pub fn worker_state(&self, worker: usize) -> Arc<WorkerState> {
        let worker_states = self.worker_states.load();
        worker_states.of_workers[worker % worker_states.of_workers.len()].clone()
    }
}

impl WorkerStates {
    /// Makes the state of each worker that has connections to the upstream.
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
