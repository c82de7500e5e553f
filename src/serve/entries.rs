//! The listeners of a gateway, and how a reload adds and removes them.

use std::future::Future;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::StartError;
use crate::config::Config;
use crate::listen::{BoundAddress, ListenAddress, Listener, ListenerTls, Opened};

/// How long to wait for workers to stop accepting.
const STOP_ACCEPTING: Duration = Duration::from_secs(2);

/// How far the shutdown of a listener has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It serves.
    Open,
    /// Its clients are told to go elsewhere: every answer closes its connection.
    Announcing,
    /// Idle connections are closed.
    Closing,
    /// Connections are cut off, except those with a request that must run to its end.
    Cutting,
}

/// One listener, shared by all workers.
pub(super) struct Entry {
    configured: ListenAddress,
    address: ListenAddress,
    opened: ArcSwap<Opened>,
    /// How often the settings were changed.
    changes: AtomicU64,
    /// The phase, once for those who wait for a change and once for cheap reads.
    phase: watch::Sender<Phase>,
    now: AtomicU8,
    /// Whether workers are to stop accepting from it.
    stopped: watch::Sender<bool>,
    /// How many workers accept from it.
    accepting: Mutex<usize>,
    /// Notified when no worker accepts from it any more.
    none_accept: Condvar,
    entrance: Mutex<Option<BoundAddress>>,
}

impl Entry {
    /// The settings for connections that are accepted now.
    pub(super) fn opened(&self) -> Arc<Opened> {
        self.opened.load_full()
    }

    /// How often those settings were changed.
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

    /// Waits until workers are to stop accepting from it.
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

    /// Advances to this phase; never goes back.
    pub(super) fn advance(&self, to: Phase) {
        self.now.fetch_max(to as u8, Ordering::Relaxed);
        self.phase.send_if_modified(|phase| {
            let further = to > *phase;
            *phase = to.max(*phase);
            further
        });
    }

    /// One worker stops accepting from it.
    pub(super) fn accepts_no_more(&self) {
        let mut accepting = locked(&self.accepting);
        *accepting -= 1;
        if *accepting == 0 {
            self.none_accept.notify_all();
        }
    }
}

/// A listener that a worker is told to accept from.
pub(super) type Order = (Listener, Arc<Entry>);

/// All listeners.
pub(super) struct Entries {
    entries: Mutex<Vec<Arc<Entry>>>,
    /// Listeners that a reload removed, as long as they have connections.
    gone: Mutex<Vec<Weak<Entry>>>,
    workers: usize,
}

/// What a reload will do to the listeners, once nothing can fail any more.
pub(super) struct Plan {
    kept: Vec<(Arc<Entry>, Opened, u32)>,
    new: Vec<(Arc<Entry>, Vec<Listener>)>,
    gone: Vec<Arc<Entry>>,
}

impl Entries {
    /// No listeners yet, for this many workers.
    pub(super) fn new(workers: usize) -> Self {
        Self { entries: Mutex::default(), gone: Mutex::default(), workers }
    }

    /// Plans what to add and remove for this configuration. Binds new addresses; dropping the plan releases them.
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
            let entrance = entrance.map_err(|error| match listener.address.passed() {
                // Its name is at fault, not what else runs on this machine.
                Some(_) => StartError::Config(vec![config.fault("listener.address", error.to_string())]),
                None => StartError::Listen("listener.address", error),
            })?;
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

    /// Carries out the plan; `order` tells a worker what to accept from. Returns once the removed listeners accept
    /// nothing more.
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
            tracing::info!(address = %entry.address, "accepts no more connections; the open ones end as they are answered");
            entry.advance(Phase::Announcing);
            let mut all = locked(&self.gone);
            all.retain(|entry| entry.strong_count() > 0);
            all.push(Arc::downgrade(&entry));
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        locked(&self.entries)
    }

    /// The addresses on which requests are accepted.
    pub(super) fn addresses(&self) -> Vec<ListenAddress> {
        self.all().iter().map(|entry| entry.address.clone()).collect()
    }

    /// The TLS settings of each listener that has them.
    pub(super) fn tls(&self) -> Vec<Arc<ListenerTls>> {
        self.all().iter().filter_map(|entry| entry.opened.load().tls.clone()).collect()
    }

    /// Stops all listeners from accepting; they have stopped when this returns.
    pub(super) fn close(&self) {
        self.all().clone().iter().for_each(|entry| entry.close());
    }

    /// Advances all listeners to this phase, including those that a reload removed.
    pub(super) fn advance(&self, to: Phase) {
        self.all().iter().for_each(|entry| entry.advance(to));
        locked(&self.gone).iter().filter_map(Weak::upgrade).for_each(|entry| entry.advance(to));
    }
}

impl Entry {
    /// When this returns, no worker accepts from it. Only then may its clients be told to reconnect: they do so at
    /// once, and must not reach this listener again.
    fn close(&self) {
        // This process's own handle is closed first. A client that connects after that reaches a worker, which
        // empties its queue before it ends.
        drop(locked(&self.entrance).take());
        self.stopped.send_replace(true);
        // Workers stop at once, unless one hangs.
        let accepting = locked(&self.accepting);
        drop(self.none_accept.wait_timeout_while(accepting, STOP_ACCEPTING, |accepting| *accepting > 0));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
