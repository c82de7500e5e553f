//! The watcher: every second, and at once after a failed claim, it checks the slot map and every server, and attests
//! their histories.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use redis::Value;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::about::{self, Counted, Expected, field};
use super::script::{self, Verdict};
use super::server::{Server, Trouble};
use super::shared::{Shared, millis};
use super::slot_map::SlotMap;
use super::{OnFailover, RedisStartError, slots};
use crate::clock::rfc3339;
use crate::net::Authority;
use crate::replay::WhenNew;

const TICK: Duration = Duration::from_secs(1);
/// The interval between checks while something is wrong.
const RETRY: Duration = Duration::from_millis(100);
/// The timeout for what may take longer than a claim: a TLS connection, or a few hundred slots at once.
const SLOW_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the start waits for the first check.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// How many slots one pipeline attests, so that claims can run in between.
const AT_ONCE: usize = 256;

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
        let work = move || {
            let watching = async move {
                tokio::select! {
                    () = Watch::new(shared).run(&first) => {}
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
struct Watch {
    shared: Arc<Shared>,
    /// Slots that were attested before: a missing marker there means a loss.
    known: Arc<std::sync::Mutex<Vec<bool>>>,
    seen: HashMap<Authority, Seen>,
    /// All servers ever named by the settings or by the cluster.
    servers: HashMap<Authority, Arc<Server>>,
    round: usize,
}

/// A server as of the last check.
#[derive(Clone)]
struct Seen {
    run: String,
    history: String,
    slots: Vec<u16>,
    /// Its clock minus elapsed time, in milliseconds.
    clock: i64,
    held: usize,
    out_of_memory: bool,
}

impl Watch {
    fn new(shared: Arc<Shared>) -> Self {
        let known = Arc::new(std::sync::Mutex::new(vec![false; shared.keys.slots()]));
        Self { shared, known, seen: HashMap::new(), servers: HashMap::new(), round: 0 }
    }

    async fn run(mut self, first: &mpsc::Sender<Result<(), Trouble>>) {
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
                () = sleep(wait) => {}
                // Many claims fail at once; one check serves them all.
                () = self.shared.wake.notified() => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn look(&mut self) -> Result<(), Trouble> {
        self.round += 1;
        let owners = self.owners().await?;
        let map = self.remap(&owners)?;
        let mut looks = JoinSet::new();
        for (server, slots) in map.servers.iter().zip(owners.values()) {
            let (shared, server, known) = (self.shared.clone(), server.clone(), self.known.clone());
            let before = self.seen.get(&server.address).cloned();
            let (slots, round) = (slots.clone(), self.round);
            looks.spawn(async move {
                let examination = Examination { shared: &shared, server: &server, known: &known, round };
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
        let server = Arc::new(Server::new(address.clone(), &self.shared.settings, self.shared.ca.as_deref())?);
        self.servers.insert(address.clone(), server.clone());
        Ok(server)
    }

    /// Each master and its slots.
    async fn owners(&mut self) -> Result<std::collections::BTreeMap<Authority, Vec<u16>>, Trouble> {
        let seeds = self.shared.settings.servers.clone();
        if !self.shared.settings.cluster {
            return Ok(seeds.into_iter().take(1).map(|address| (address, vec![0])).collect());
        }
        let mut asked: Vec<Authority> = self.shared.map.load().servers.iter().map(|s| s.address.clone()).collect();
        asked.extend(seeds);
        let turn = self.round % asked.len().max(1);
        asked.rotate_left(turn);
        let mut last = Trouble::OutOfReach("the cluster names no server".into());
        for address in asked {
            let server = self.server(&address)?;
            match timeout(SLOW_TIMEOUT, cluster_slots(&self.shared, &server)).await {
                Ok(Ok(owners)) => return Ok(owners),
                Ok(Err(trouble @ Trouble::Misconfigured(_))) => return Err(trouble),
                Ok(Err(trouble)) => last = trouble,
                Err(_) => {
                    server.disconnect_all();
                    last = Trouble::OutOfReach("no answer".into());
                }
            }
        }
        Err(last)
    }

    fn remap(&mut self, owners: &std::collections::BTreeMap<Authority, Vec<u16>>) -> Result<Arc<SlotMap>, Trouble> {
        let mut map = SlotMap { servers: Vec::new(), owners: vec![u16::MAX; self.shared.keys.slots()] };
        for (index, (address, slots)) in owners.iter().enumerate() {
            map.servers.push(self.server(address)?);
            for slot in slots {
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

/// Asks one server of a cluster for the slot map.
async fn cluster_slots(
    shared: &Shared,
    server: &Server,
) -> Result<std::collections::BTreeMap<Authority, Vec<u16>>, Trouble> {
    let mut connection = server.connection(SLOW_TIMEOUT).await?;
    let asked = async {
        let number = shared.numbers.next();
        // A server outside a cluster cannot answer the commands that follow.
        about::ask(&mut connection, &server.address, Expected::Seed, number, SLOW_TIMEOUT).await?;
        let mut ask = redis::pipe();
        ask.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS").cmd("PING").arg(number.to_string());
        let (info, ranges, echo): (String, Value, Value) = ask.query_async(&mut connection).await?;
        if number.is_echoed(&echo) { Ok((info, ranges)) } else { Err(Trouble::OutOfSync) }
    };
    let (info, ranges) = asked.await.inspect_err(|_| server.disconnect())?;
    if field(&info, "cluster_state") != Some("ok") {
        return Err(Trouble::OutOfReach(format!("{server} reports that its cluster is down")));
    }
    slots::owners(&ranges, &server.address)
        .ok_or_else(|| Trouble::OutOfReach(format!("{server} describes its cluster in a way that is not understood")))
}

/// What a check found, and whether the server may be used.
type Look = (Seen, Result<(), Trouble>);

/// One check of one server.
struct Examination<'a> {
    shared: &'a Shared,
    server: &'a Server,
    known: &'a std::sync::Mutex<Vec<bool>>,
    round: usize,
}

impl Examination<'_> {
    async fn run(&self, before: Option<Seen>, slots: Vec<u16>) -> Result<Look, Trouble> {
        // Cleared first, so that a doubt raised by a claim during this check causes another check.
        let in_doubt = self.server.in_doubt.swap(false, Ordering::AcqRel);
        let looked = self.look(before, slots, in_doubt).await;
        if looked.is_err() && in_doubt {
            self.server.in_doubt.store(true, Ordering::Release);
        }
        looked
    }

    async fn look(&self, before: Option<Seen>, slots: Vec<u16>, in_doubt: bool) -> Result<Look, Trouble> {
        let fresh = self.server.connected().is_none();
        let limit = self.shared.settings.timeout;
        let mut connection = self.server.connection(SLOW_TIMEOUT.max(limit)).await?;
        if fresh {
            // If the watcher's connection ended, the workers' connections have ended, too.
            self.server.disconnect_others();
        }
        let number = self.shared.numbers.next();
        let expected = if self.shared.settings.cluster { Expected::InCluster } else { Expected::Alone };
        let about = about::ask(&mut connection, &self.server.address, expected, number, limit).await?;
        let asked = self.shared.clock.now();
        let Counted { time, keys } = about::count(&mut connection, number, limit).await?;
        let times = (asked, self.shared.clock.now());
        let elapsed = i64::try_from(self.shared.clock.elapsed().as_millis()).unwrap_or(i64::MAX);
        let seen = Seen {
            run: about.run,
            history: about.history,
            clock: time.saturating_sub(elapsed),
            held: keys.saturating_sub(slots.len()),
            // Two percent are left for claims that are under way.
            out_of_memory: about.most > 0 && about.used >= about.most - about.most / 50,
            slots,
        };
        let margin = i64::try_from(millis(self.shared.settings.clock_margin)).unwrap_or(i64::MAX);
        let same_run = before.as_ref().filter(|before| before.run == seen.run);
        let jumped = same_run.is_some_and(|before| seen.clock.saturating_sub(before.clock) > margin);
        let changed =
            before.is_none_or(|old| old.run != seen.run || old.history != seen.history || old.slots != seen.slots);
        if in_doubt || jumped || changed {
            self.attest(&seen.slots, jumped).await?;
        } else if let Some(sample) = seen.slots.get(self.round % seen.slots.len().max(1)) {
            // One slot stands for all of a server: a server loses all its data or none.
            if self.attest(&[*sample], false).await? {
                self.attest(&seen.slots, false).await?;
            }
        }
        // After the attestation, so that a jump fences once and not at every check.
        let fares = self.judge_clock(time, times);
        Ok((seen, fares))
    }

    /// Judges the server's time, which it read between two readings of the gateway's clock: waiting is no difference.
    fn judge_clock(&self, time: i64, (asked, answered): (SystemTime, SystemTime)) -> Result<(), Trouble> {
        let unix = |at: SystemTime| millis(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()) as i64;
        let apart = (unix(asked) - time).max(time - unix(answered)).max(0).unsigned_abs();
        if apart > millis(self.shared.settings.clock_margin) {
            return Err(Trouble::OutOfReach(format!("its clock and the gateway's differ by {apart} ms")));
        }
        Ok(())
    }

    /// Attests these slots. Returns whether any was not attested before.
    async fn attest(&self, slots: &[u16], force: bool) -> Result<bool, Trouble> {
        let Shared { settings, keys, attest, .. } = self.shared;
        let fence = self.shared.fence();
        let (fenced, accepted) = (script::digits(fence), script::digits(SystemTime::UNIX_EPOCH));
        let lost = match settings.on_failover {
            OnFailover::Fence => &fenced,
            OnFailover::DangerAccept => &accepted,
        };
        let new = match settings.when_new {
            WhenNew::Fence => &fenced,
            WhenNew::Accept => &accepted,
        };
        let mut connection = self.server.connection(SLOW_TIMEOUT).await?;
        let late = |_| Trouble::OutOfReach("its slots were not attested in time".into());
        let (mut raised, mut highest) = (0_usize, SystemTime::UNIX_EPOCH);
        for some in slots.chunks(AT_ONCE) {
            let mut ask = redis::pipe();
            let number = self.shared.numbers.next();
            ask.load_script(attest).ignore();
            for &slot in some {
                let known = super::server::unpoisoned(self.known).get(usize::from(slot)).is_some_and(|known| *known);
                let missing = if known || force { lost } else { new };
                let mut one = attest.key(keys.epoch_marker(slot.into()));
                one.arg(millis(settings.window.past)).arg(millis(settings.window.future));
                one.arg(missing).arg(lost).arg(u8::from(force)).arg(number.to_string());
                ask.invoke_script(&one);
            }
            let answers: Vec<Value> = timeout(SLOW_TIMEOUT, ask.query_async(&mut connection)).await.map_err(late)??;
            if answers.len() != some.len() {
                return Err(Trouble::OutOfSync);
            }
            for (answer, &slot) in answers.iter().zip(some) {
                let key = keys.epoch_marker(slot.into());
                let (floor, is_news) = match Verdict::read(answer, &key, number) {
                    Verdict::Attested(floor) => (floor, false),
                    Verdict::Raised(floor) => (floor, true),
                    Verdict::OtherWindow(theirs) => return Err(self.other_window(theirs)),
                    Verdict::Version => {
                        return Err(Trouble::Misconfigured(format!(
                            "holds a {key} of a newer version, or of another program"
                        )));
                    }
                    Verdict::Spent
                    | Verdict::Reused(_)
                    | Verdict::Floor(_)
                    | Verdict::Forgot
                    | Verdict::Full
                    | Verdict::Clock
                    | Verdict::OutOfSync => return Err(Trouble::OutOfSync),
                };
                raised += usize::from(is_news);
                self.shared.raise_floor(slot.into(), floor);
                highest = highest.max(floor);
                if let Some(known) = super::server::unpoisoned(self.known).get_mut(usize::from(slot)) {
                    *known = true;
                }
            }
        }
        if raised > 0 {
            let (server, floor) = (self.server, highest);
            if floor > self.shared.clock.now() {
                tracing::warn!(%server, slots = raised, until = rfc3339(floor), "Redis is new, or lost its data: fenced; nothing signed before then is admitted by it");
            } else {
                tracing::warn!(%server, slots = raised, "Redis is new, or lost its data, and the settings accept that: salts spent before can be replayed");
            }
        }
        Ok(raised > 0)
    }

    fn other_window(&self, theirs: super::Window) -> Trouble {
        let ours = self.shared.settings.window;
        Trouble::Misconfigured(format!(
            "is used by gateways with another window: theirs is window_past = {} ms, window_future = {} ms, ours is {} ms, \
             {} ms; all gateways that share a prefix must have the same window",
            millis(theirs.past),
            millis(theirs.future),
            millis(ours.past),
            millis(ours.future)
        ))
    }
}
