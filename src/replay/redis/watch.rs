//! Who has which slot, and whether each server is fit: looked at every second, and at once when a
//! claim failed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use redis::Value;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::script::{self, Verdict};
use super::server::{Address, Server, Trouble};
use super::{Map, OnFailover, Shared, millis, slots};
use crate::clock::rfc3339;
use crate::replay::WhenNew;

const TICK: Duration = Duration::from_secs(1);
/// Between two looks while something is wrong.
const RETRY: Duration = Duration::from_millis(100);
/// For what may take longer than a claim: a connection with TLS, a few hundred slots at once.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a start waits for the first look.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// How many slots are vouched for in one go; claims take their turns between.
const AT_ONCE: usize = 256;

/// The thread that watches; dropping it ends it.
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
    /// Starts it, and waits for its first look.
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("Redis cannot be watched: {error}"))?;
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
        let thread = thread.map_err(|error| format!("Redis cannot be watched: {error}"))?;
        let watcher = Self { stop: Some(stop), thread: Some(thread) };
        match looked.recv_timeout(FIRST_LOOK) {
            Ok(Err(Trouble::Unfit(why))) => Err(format!("[replay.redis]: Redis {why}")),
            // What is out of reach may come.
            _ => Ok(watcher),
        }
    }
}

/// What the watcher itself remembers.
struct Watch {
    shared: Arc<Shared>,
    /// Slots that were vouched for before: what is missing there now was lost.
    known: Arc<std::sync::Mutex<Vec<bool>>>,
    seen: HashMap<Address, Seen>,
    /// All servers that were ever named, by the settings or by the cluster.
    servers: HashMap<Address, Arc<Server>>,
    round: usize,
}

/// How a server was when it was last looked at.
#[derive(Clone)]
struct Seen {
    run: String,
    history: String,
    slots: Vec<u16>,
    /// Its clock, less elapsed time, in milliseconds.
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
            let well = looked.is_ok() && self.shared.map.load().servers.iter().all(|server| server.is_usable());
            *super::server::unpoisoned(&self.shared.lost) = looked.as_ref().err().cloned();
            // Only a start listens, once.
            let _ = first.send(looked);
            let wait = if well { TICK } else { RETRY };
            tokio::select! {
                () = sleep(wait) => {}
                // Many claims fail at once: one look serves them all.
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
                    // What is pipelined on its connections may hang for ever.
                    server.disconnect_all();
                    if server.suspend(trouble.clone()) {
                        tracing::warn!(%server, %trouble, "Redis is not in use; nothing is admitted by it");
                    }
                    if !matches!(worst, Err(Trouble::Unfit(_))) {
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

    fn server(&mut self, address: &Address) -> Result<Arc<Server>, Trouble> {
        if let Some(server) = self.servers.get(address) {
            return Ok(server.clone());
        }
        let server = Arc::new(Server::new(address.clone(), &self.shared.settings)?);
        self.servers.insert(address.clone(), server.clone());
        Ok(server)
    }

    /// Each master, and its slots.
    async fn owners(&mut self) -> Result<std::collections::BTreeMap<Address, Vec<u16>>, Trouble> {
        let seeds = self.shared.settings.servers.clone();
        if !self.shared.settings.cluster {
            return Ok(seeds.into_iter().take(1).map(|address| (address, vec![0])).collect());
        }
        let mut asked: Vec<Address> = self.shared.map.load().servers.iter().map(|s| s.address.clone()).collect();
        asked.extend(seeds);
        let turn = self.round % asked.len().max(1);
        asked.rotate_left(turn);
        let mut last = Trouble::OutOfReach("no server of the cluster is named".into());
        for address in asked {
            let server = self.server(&address)?;
            match timeout(PATIENCE, cluster_slots(&server)).await {
                Ok(Ok(owners)) => return Ok(owners),
                Ok(Err(trouble @ Trouble::Unfit(_))) => return Err(trouble),
                Ok(Err(trouble)) => last = trouble,
                Err(_) => {
                    server.disconnect_all();
                    last = Trouble::OutOfReach("no answer".into());
                }
            }
        }
        Err(last)
    }

    fn remap(&mut self, owners: &std::collections::BTreeMap<Address, Vec<u16>>) -> Result<Arc<Map>, Trouble> {
        let mut map = Map { servers: Vec::new(), owners: vec![u16::MAX; self.shared.keys.slots()] };
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

/// Asks one server of a cluster who has what.
async fn cluster_slots(server: &Server) -> Result<std::collections::BTreeMap<Address, Vec<u16>>, Trouble> {
    let mut connection = server.connection(PATIENCE).await?;
    let mut ask = redis::pipe();
    ask.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
    let answer: Result<(String, Value), _> = ask.query_async(&mut connection).await;
    let (info, ranges) = answer.map_err(|error| {
        server.disconnect();
        match error.to_string() {
            told if told.contains("cluster support disabled") => {
                Trouble::Unfit("is no cluster: leave out cluster = true, or name the cluster's servers".into())
            }
            _ => error.into(),
        }
    })?;
    if field(&info, "cluster_state") != Some("ok") {
        return Err(Trouble::OutOfReach(format!("{server} says that its cluster is down")));
    }
    let mut owners = std::collections::BTreeMap::<Address, Vec<u16>>::new();
    let strange = || Trouble::OutOfReach(format!("{server} describes its cluster in a way that is not understood"));
    for range in ranges.as_sequence().ok_or_else(strange)? {
        let [Value::Int(first), Value::Int(last), master, ..] = range.as_sequence().ok_or_else(strange)? else {
            return Err(strange());
        };
        let [host, Value::Int(port), ..] = master.as_sequence().ok_or_else(strange)? else { return Err(strange()) };
        let host: String = redis::from_redis_value_ref::<Option<String>>(host).ok().flatten().unwrap_or_default();
        // A server that does not know its own name means the one that was asked.
        let host = if host.is_empty() { server.address.0.clone() } else { host };
        let port = u16::try_from(*port).map_err(|_| strange())?;
        let (first, last) = (u16::try_from(*first), u16::try_from(*last));
        let range = first.ok().zip(last.ok()).filter(|(_, last)| *last < slots::SLOTS).ok_or_else(strange)?;
        owners.entry((host, port)).or_default().extend(range.0..=range.1);
    }
    Ok(owners)
}

/// What a look found, and whether the server may be used.
type Look = (Seen, Result<(), Trouble>);

/// One look at one server.
struct Examination<'a> {
    shared: &'a Shared,
    server: &'a Server,
    known: &'a std::sync::Mutex<Vec<bool>>,
    round: usize,
}

impl Examination<'_> {
    async fn run(&self, before: Option<Seen>, slots: Vec<u16>) -> Result<Look, Trouble> {
        // Cleared first: a claim that doubts while this looks is looked after again.
        let in_doubt = self.server.in_doubt.swap(false, Ordering::AcqRel);
        let looked = self.look(before, slots, in_doubt).await;
        if looked.is_err() && in_doubt {
            self.server.in_doubt.store(true, Ordering::Release);
        }
        looked
    }

    async fn look(&self, before: Option<Seen>, slots: Vec<u16>, in_doubt: bool) -> Result<Look, Trouble> {
        let limit = self.shared.settings.timeout;
        let fresh = self.server.connected().is_none();
        let mut connection = self.server.connection(PATIENCE.max(limit)).await?;
        if fresh {
            // Where the watcher's connection had ended, the workers' have too.
            self.server.disconnect_others();
        }
        let mut ask = redis::pipe();
        ask.cmd("INFO").arg("server").cmd("INFO").arg("memory").cmd("INFO").arg("replication");
        ask.cmd("TIME").cmd("DBSIZE");
        let answer = timeout(limit, ask.query_async(&mut connection)).await;
        let late = |_| Trouble::OutOfReach(format!("no answer within {} ms", limit.as_millis()));
        let (server, memory, replication, (seconds, micros), keys): (String, String, String, (i64, i64), usize) =
            answer.map_err(late)??;
        let elapsed = i64::try_from(self.shared.clock.elapsed().as_millis()).unwrap_or(i64::MAX);
        let time = seconds.saturating_mul(1000).saturating_add(micros / 1000);
        let used = number(&memory, "used_memory");
        let most = number(&memory, "maxmemory");
        let seen = Seen {
            run: field(&server, "run_id").unwrap_or_default().into(),
            history: field(&replication, "master_replid").unwrap_or_default().into(),
            clock: time - elapsed,
            held: keys.saturating_sub(slots.len()),
            // Two in a hundred are left for what is on its way.
            out_of_memory: most > 0 && used >= most - most / 50,
            slots,
        };
        self.judge(&server, &memory, &replication)?;

        let margin = i64::try_from(millis(self.shared.settings.clock_margin)).unwrap_or(i64::MAX);
        let same_run = before.as_ref().filter(|before| before.run == seen.run);
        let jumped = same_run.is_some_and(|before| seen.clock.saturating_sub(before.clock) > margin);
        let changed =
            before.is_none_or(|old| old.run != seen.run || old.history != seen.history || old.slots != seen.slots);
        if in_doubt || jumped || changed {
            self.vouch(&seen.slots, jumped).await?;
        } else if let Some(sample) = seen.slots.get(self.round % seen.slots.len().max(1)) {
            // One slot for all: what is forgotten is forgotten by the server.
            if self.vouch(&[*sample], false).await? {
                self.vouch(&seen.slots, false).await?;
            }
        }
        // After its jump was answered: keys that went too early are fenced once, not at every look.
        let fares = self.judge_clock(time);
        Ok((seen, fares))
    }

    fn judge(&self, server: &str, memory: &str, replication: &str) -> Result<(), Trouble> {
        let policy = field(memory, "maxmemory_policy").unwrap_or("unknown");
        if policy != "noeviction" {
            return Err(Trouble::Unfit(format!(
                "at {} has maxmemory-policy {policy}: it may evict spent salts, which could then be replayed; expected \
                 noeviction",
                self.server
            )));
        }
        let mode = field(server, "redis_mode");
        if mode == Some("cluster") && !self.shared.settings.cluster {
            return Err(Trouble::Unfit(format!("at {} is a cluster: say cluster = true", self.server)));
        }
        if field(replication, "role") != Some("master") {
            return Err(Trouble::OutOfReach("is not a master now".into()));
        }
        Ok(())
    }

    fn judge_clock(&self, time: i64) -> Result<(), Trouble> {
        let now = self.shared.clock.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let apart = time.abs_diff(i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
        if apart > millis(self.shared.settings.clock_margin) {
            return Err(Trouble::OutOfReach(format!("its clock and the gateway's differ by {apart} ms")));
        }
        Ok(())
    }

    /// Vouches for these slots. Returns whether any had not been vouched for.
    async fn vouch(&self, slots: &[u16], force: bool) -> Result<bool, Trouble> {
        let Shared { settings, keys, vouch, .. } = self.shared;
        let fence = self.shared.fence();
        let (fenced, accepted) = (script::digits(fence), script::digits(std::time::UNIX_EPOCH));
        let lost = match settings.on_failover {
            OnFailover::Fence => &fenced,
            OnFailover::DangerAccept => &accepted,
        };
        let new = match settings.when_new {
            WhenNew::Fence => &fenced,
            WhenNew::Accept => &accepted,
        };
        let mut connection = self.server.connection(PATIENCE).await?;
        let late = |_| Trouble::OutOfReach("its slots were not vouched for in time".into());
        let (mut raised, mut highest) = (0_usize, std::time::UNIX_EPOCH);
        for some in slots.chunks(AT_ONCE) {
            let mut ask = redis::pipe();
            ask.load_script(vouch).ignore();
            for &slot in some {
                let known = super::server::unpoisoned(self.known).get(usize::from(slot)).is_some_and(|known| *known);
                let missing = if known || force { lost } else { new };
                let mut one = vouch.key(keys.witness(slot.into()));
                one.arg(millis(settings.window.past)).arg(millis(settings.window.future));
                one.arg(missing).arg(lost).arg(u8::from(force));
                ask.invoke_script(&one);
            }
            let answers: Vec<String> = timeout(PATIENCE, ask.query_async(&mut connection)).await.map_err(late)??;
            for (answer, &slot) in answers.iter().zip(some) {
                let (floor, is_news) = match Verdict::read(answer) {
                    Verdict::Vouched(floor) => (floor, false),
                    Verdict::Raised(floor) => (floor, true),
                    Verdict::OtherWindow(theirs) => return Err(self.other_window(theirs)),
                    _ => {
                        let key = keys.witness(slot.into());
                        return Err(Trouble::Unfit(format!("holds {key} by a newer version, or by somebody else")));
                    }
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
                tracing::warn!(%server, slots = raised, until = rfc3339(floor), "Redis is new, or lost what it knew: fenced; nothing signed before then is admitted by it");
            } else {
                tracing::warn!(%server, slots = raised, "Redis is new, or lost what it knew, and that is accepted: what was spent before could be replayed");
            }
        }
        Ok(raised > 0)
    }

    fn other_window(&self, theirs: super::Window) -> Trouble {
        let ours = self.shared.settings.window;
        Trouble::Unfit(format!(
            "is used by gateways of another window: theirs is window_past = {} ms, window_future = {} ms, and ours {} ms, \
             {} ms; all that share a prefix must have one window",
            millis(theirs.past),
            millis(theirs.future),
            millis(ours.past),
            millis(ours.future)
        ))
    }
}

/// A field of what INFO says.
fn field<'t>(info: &'t str, name: &str) -> Option<&'t str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn number(info: &str, name: &str) -> u64 {
    field(info, name).and_then(|text| text.parse().ok()).unwrap_or(0)
}
