//! The listeners of a gateway: which there are, and how they come and go by a reload.

use std::future::Future;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::StartError;
use crate::config::Config;
use crate::listen::{BoundAddress, ListenAddress, Listener, ListenerTls, Opened};

/// How long workers are waited for to stop accepting.
const STOP_ACCEPTING: Duration = Duration::from_secs(2);

/// How far a listener is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It serves.
    Open,
    /// Its clients are told to go elsewhere: every answer closes its connection.
    Announcing,
    /// Connections on which nothing is under way are closed.
    Closing,
    /// Connections on which nothing is under way that must run to its end are cut off.
    Cutting,
}

/// One listener, as all workers share it.
pub(super) struct Entry {
    configured: ListenAddress,
    address: ListenAddress,
    opened: ArcSwap<Opened>,
    /// How often they were changed.
    changes: AtomicU64,
    /// The phase, for whoever waits for it, and for whoever only looks.
    phase: watch::Sender<Phase>,
    now: AtomicU8,
    /// Whether workers are to accept from it no more.
    stopped: watch::Sender<bool>,
    /// How many workers accept from it.
    accepting: Mutex<usize>,
    /// Notified when no worker accepts from it any more.
    none_accept: Condvar,
    entrance: Mutex<Option<BoundAddress>>,
}

impl Entry {
    /// What connections begin with that are accepted now.
    pub(super) fn opened(&self) -> Arc<Opened> {
        self.opened.load_full()
    }

    /// How often those were changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    fn change(&self, opened: Opened) {
        let before = self.opened.swap(Arc::new(opened));
        if before.settings != self.opened().settings {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Waits until workers are to accept from it no more.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut stopped = self.stopped.subscribe();
        async move { drop(stopped.wait_for(|stopped| *stopped).await) }
    }

    /// Waits for this phase.
    pub(super) fn reached(&self, phase: Phase) -> impl Future<Output = ()> + use<> {
        let mut phases = self.watch();
        async move { drop(phases.wait_for(|now| *now >= phase).await) }
    }

    /// Whether its clients are told to go elsewhere.
    pub(super) fn is_leaving(&self) -> bool {
        self.now.load(Ordering::Relaxed) > Phase::Open as u8
    }

    /// Whether its connections are cut off.
    pub(super) fn is_cutting(&self) -> bool {
        self.now.load(Ordering::Relaxed) >= Phase::Cutting as u8
    }

    /// It goes on to this phase; never back.
    pub(super) fn advance(&self, to: Phase) {
        self.now.fetch_max(to as u8, Ordering::Relaxed);
        self.phase.send_if_modified(|phase| {
            let further = to > *phase;
            *phase = to.max(*phase);
            further
        });
    }

    /// One worker accepts from it no more.
    pub(super) fn accepts_no_more(&self) {
        let mut accepting = locked(&self.accepting);
        *accepting -= 1;
        if *accepting == 0 {
            self.none_accept.notify_all();
        }
    }
}

/// What a worker is told to accept from.
pub(super) type Order = (Listener, Arc<Entry>);

/// All listeners.
pub(super) struct Entries {
    entries: Mutex<Vec<Arc<Entry>>>,
    /// Those that a reload took away, for as long as they have connections.
    gone: Mutex<Vec<Weak<Entry>>>,
    workers: usize,
}

/// What a reload does to the listeners, once nothing more can go wrong.
pub(super) struct Plan {
    kept: Vec<(Arc<Entry>, Opened, u32)>,
    new: Vec<(Arc<Entry>, Vec<Listener>)>,
    gone: Vec<Arc<Entry>>,
}

impl Entries {
    /// None yet, for so many workers.
    pub(super) fn new(workers: usize) -> Self {
        Self { entries: Mutex::default(), gone: Mutex::default(), workers }
    }

    /// What comes and goes by this configuration. New addresses are taken, and given back if the
    /// plan is dropped.
    pub(super) fn plan(&self, config: &Config) -> Result<Plan, StartError> {
        let opened = config.open_listeners().map_err(StartError::Config)?;
        let mut before: Vec<_> = self.all().iter().map(|entry| Some(entry.clone())).collect();
        let mut plan = Plan { kept: Vec::new(), new: Vec::new(), gone: Vec::new() };
        for (listener, opened) in config.listeners.iter().zip(opened) {
            let same = |entry: &&mut Option<Arc<Entry>>| {
                entry.as_ref().is_some_and(|entry| entry.configured == listener.address)
            };
            if let Some(kept) = before.iter_mut().find(same).and_then(Option::take) {
                plan.kept.push((kept, opened, listener.mode));
                continue;
            }
            let entrance = BoundAddress::open(&listener.address, listener.mode);
            let entrance = entrance.map_err(|error| StartError::Listen("listener.address", error))?;
            let listeners = entrance.listeners(self.workers).map_err(StartError::Listeners)?;
            let entry = Entry {
                configured: listener.address.clone(),
                address: entrance.address(),
                opened: ArcSwap::from_pointee(opened),
                changes: AtomicU64::new(0),
                phase: watch::Sender::new(Phase::Open),
                now: AtomicU8::new(Phase::Open as u8),
                stopped: watch::Sender::new(false),
                accepting: Mutex::new(listeners.len()),
                none_accept: Condvar::new(),
                entrance: Mutex::new(Some(entrance)),
            };
            plan.new.push((Arc::new(entry), listeners));
        }
        plan.gone = before.into_iter().flatten().collect();
        Ok(plan)
    }

    /// Does what was planned; `order` tells a worker what to accept from. Returns once what is gone
    /// accepts no more.
    pub(super) fn carry_out(&self, plan: Plan, order: impl Fn(usize, Order)) {
        let Plan { kept, new, gone } = plan;
        for (entry, opened, mode) in kept {
            entry.change(opened);
            if let Some(BoundAddress::Unix(socket)) = &*locked(&entry.entrance) {
                if let Err(error) = socket.set_mode(mode) {
                    tracing::warn!(%error, address = %entry.address, "the mode of the socket cannot be set");
                }
            }
        }
        for (entry, listeners) in new {
            self.all().push(entry.clone());
            for (worker, listener) in listeners.into_iter().enumerate() {
                order(worker, (listener, entry.clone()));
            }
        }
        self.all().retain(|entry| !gone.iter().any(|gone| Arc::ptr_eq(gone, entry)));
        for entry in gone {
            entry.close();
            tracing::info!(address = %entry.address, "accepts no more; its connections end as they are answered");
            entry.advance(Phase::Announcing);
            let mut all = locked(&self.gone);
            all.retain(|entry| entry.strong_count() > 0);
            all.push(Arc::downgrade(&entry));
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        locked(&self.entries)
    }

    /// Where requests are taken.
    pub(super) fn addresses(&self) -> Vec<ListenAddress> {
        self.all().iter().map(|entry| entry.address.clone()).collect()
    }

    /// The TLS of each listener that has it.
    pub(super) fn tls(&self) -> Vec<Arc<ListenerTls>> {
        self.all().iter().filter_map(|entry| entry.opened.load().tls.clone()).collect()
    }

    /// None accepts any more, when this returns.
    pub(super) fn close(&self) {
        self.all().clone().iter().for_each(|entry| entry.close());
    }

    /// All of them go on to this phase, those too that a reload took away.
    pub(super) fn advance(&self, to: Phase) {
        self.all().iter().for_each(|entry| entry.advance(to));
        locked(&self.gone).iter().filter_map(Weak::upgrade).for_each(|entry| entry.advance(to));
    }
}

impl Entry {
    /// When this returns, no worker accepts from it. Only then may its clients be told to reconnect: they do so at once,
    /// and must not reach this listener again.
    fn close(&self) {
        // Ours goes first: what connects from now on is a worker's, who looks for it at the end.
        drop(locked(&self.entrance).take());
        self.stopped.send_replace(true);
        // Workers stop at once unless one hangs.
        let accepting = locked(&self.accepting);
        drop(self.none_accept.wait_timeout_while(accepting, STOP_ACCEPTING, |accepting| *accepting > 0));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
