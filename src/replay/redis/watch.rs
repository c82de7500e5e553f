//! The watcher: every second, and at once after a failed claim, it checks the slot map and every server, and attests
//! their histories.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::RedisStartError;
use super::cluster_map::{ClusterMap, Owners};
use super::examination::{Examination, Seen};
use super::sentinels::{Sentinels, TERM};
use super::server::{Server, Trouble};
use super::shared::Shared;
use super::slot_map::SlotMap;
use super::slots::Owned;
use crate::net::Authority;

const TICK: Duration = Duration::from_secs(1);
/// The interval between checks while something is wrong.
const RETRY: Duration = Duration::from_millis(100);
/// How long the start waits for the first check.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// The watcher's thread. Dropping it ends the thread.
pub(super) struct Watcher {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Watcher {
    /// Starts the thread, and waits for its first check.
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, RedisStartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(RedisStartError::NoThread)?;
        let (stop, stopped) = oneshot::channel();
        let (first, looked) = mpsc::channel();
        let watch = Watch::new(shared).map_err(RedisStartError::from)?;
        let work = move || {
            let watching = async move {
                tokio::select! {
                    () = watch.run(&first) => {}
                    _ = stopped => {}
                }
            };
            runtime.block_on(watching);
        };
        let thread = std::thread::Builder::new().name("redis".into()).spawn(work);
        let thread = thread.map_err(RedisStartError::NoThread)?;
        let watcher = Self { stop: Some(stop), thread: Some(thread) };
        match looked.recv_timeout(FIRST_LOOK) {
            Ok(Err(Trouble::Misconfigured(why))) => Err(RedisStartError::Misconfigured(why)),
            // A server that cannot be reached may still appear.
            _ => Ok(watcher),
        }
    }
}

/// The watcher's own state.
pub(super) struct Watch {
    shared: Arc<Shared>,
    sentinels: Option<Sentinels>,
    cluster: ClusterMap,
    /// Slots that were attested before: a missing marker there means a loss.
    known: Arc<std::sync::Mutex<Vec<bool>>>,
    seen: HashMap<Authority, Seen>,
    /// All servers ever named by the settings or by the cluster.
    servers: HashMap<Authority, Arc<Server>>,
    round: usize,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, Trouble> {
        let known = Arc::new(std::sync::Mutex::new(vec![false; shared.keys.slots()]));
        let named = shared.settings.sentinel.as_ref();
        let sentinels = named.map(|settings| Sentinels::new(settings, &shared.tls)).transpose()?;
        Ok(Self {
            shared,
            sentinels,
            cluster: ClusterMap::default(),
            known,
            seen: HashMap::new(),
            servers: HashMap::new(),
            round: 0,
        })
    }

    pub(super) async fn run(mut self, first: &mpsc::Sender<Result<(), Trouble>>) {
        loop {
            let looked = self.look().await;
            if looked.is_ok() {
                self.shared.in_use.store(true, Ordering::Release);
            }
            let well = looked.is_ok() && self.shared.map.load().servers.iter().all(|server| server.is_usable());
            *super::server::unpoisoned(&self.shared.lost) = looked.as_ref().err().cloned();
            // Only the start receives this, once.
            let _ = first.send(looked);
            let wait = if well { TICK } else { RETRY };
            tokio::select! {
                biased;
                () = sleep(wait) => {}
                // Many claims fail at once; one check serves them all.
                () = self.shared.wake.notified() => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn look(&mut self) -> Result<(), Trouble> {
        self.round += 1;
        let (owners, until) = self.owners().await?;
        let map = self.remap(&owners, until)?;
        let mut looks = JoinSet::new();
        for (server, owned) in map.servers.iter().zip(owners.into_values()) {
            let (shared, server, known) = (self.shared.clone(), server.clone(), self.known.clone());
            let before = self.seen.get(&server.address).cloned();
            let (Owned { slots, epoch }, round) = (owned, self.round);
            looks.spawn(async move {
                let examination = Examination { shared: &shared, server: &server, known: &known, round, epoch };
                let seen = examination.run(before, slots).await;
                (server, seen)
            });
        }
        let mut worst = Ok(());
        while let Some(Ok((server, seen))) = looks.join_next().await {
            let fares = seen.and_then(|(seen, fares)| {
                self.seen.insert(server.address.clone(), seen);
                fares
            });
            match fares {
                Ok(()) => {
                    if server.resume() {
                        tracing::info!(%server, "Redis is in use");
                    }
                }
                Err(trouble) => {
                    // Requests pipelined on its connections might hang for ever.
                    server.disconnect_all();
                    if server.suspend(trouble.clone()) {
                        tracing::warn!(%server, %trouble, "Redis is not in use; nothing is admitted by it");
                    }
                    if !matches!(worst, Err(Trouble::Misconfigured(_))) {
                        worst = Err(trouble);
                    }
                }
            }
        }
        let used = || map.servers.iter().filter_map(|server| self.seen.get(&server.address));
        self.shared.held.store(used().map(|seen| seen.held).sum(), Ordering::Relaxed);
        self.shared.out_of_memory.store(used().any(|seen| seen.out_of_memory), Ordering::Relaxed);
        worst
    }

    fn server(&mut self, address: &Authority) -> Result<Arc<Server>, Trouble> {
        if let Some(server) = self.servers.get(address) {
            return Ok(server.clone());
        }
        let Shared { settings, tls, .. } = &*self.shared;
        let server = Server::new(address.clone(), &settings.access, tls)?;
        let server = Arc::new(if settings.sentinel.is_some() { server.checking_role() } else { server });
        self.servers.insert(address.clone(), server.clone());
        Ok(server)
    }

    /// Each master and its slots, and for how long that is good.
    async fn owners(&mut self) -> Result<(Owners, Option<Duration>), Trouble> {
        let of_all = |epoch| Owned { slots: vec![0], epoch };
        if let Some(sentinels) = &self.sentinels {
            let asked = self.shared.clock.elapsed();
            let (master, epoch) = sentinels.master(self.shared.numbers.next()).await?;
            return Ok((Owners::from([(master, of_all(Some(epoch)))]), Some(asked + TERM)));
        }
        let named = self.shared.settings.servers.clone();
        if !self.shared.settings.cluster {
            return Ok((named.into_iter().take(1).map(|address| (address, of_all(None))).collect(), None));
        }
        let shared = self.shared.clone();
        let known: Vec<Authority> = shared.map.load().servers.iter().map(|server| server.address.clone()).collect();
        let mut cluster = std::mem::take(&mut self.cluster);
        let asked = cluster.ask(&shared, known.into_iter().chain(named), |address| self.server(address)).await;
        self.cluster = cluster;
        asked.map(|(owners, until)| (owners, Some(until)))
    }

    fn remap(&mut self, owners: &Owners, until: Option<Duration>) -> Result<Arc<SlotMap>, Trouble> {
        let owned_by = vec![u16::MAX; self.shared.keys.slots()];
        let mut map = SlotMap { servers: Vec::new(), epochs: Vec::new(), owners: owned_by, until };
        for (index, (address, owned)) in owners.iter().enumerate() {
            map.servers.push(self.server(address)?);
            map.epochs.push(owned.epoch);
            for slot in &owned.slots {
                if let Some(owner) = map.owners.get_mut(usize::from(*slot)) {
                    *owner = u16::try_from(index).unwrap_or(u16::MAX);
                }
            }
        }
        let map = Arc::new(map);
        self.shared.map.store(map.clone());
        Ok(map)
    }
}
