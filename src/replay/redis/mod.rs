//! The spent salts of a fleet, in Redis.
//!
//! 1. A claim is one script on the one server that holds the salt's key (`claim.lua`): it judges
//!    the floor, then sets the key if it is not there, with the rest of the date's life to live.
//! 2. Beside every salt's key lies a **witness**, in the same slot of the cluster, so the same
//!    script reads it: which history of the data was vouched for (the server's run id and
//!    replication id), from which floor on, and for which window. Keys have no hash tag
//!    (`prefix:hex`), so salts spread; the witness's key has one that was searched for the slot
//!    (`prefix:epoch:{tag}`), one for each of the 16 384. A server that is no cluster has one
//!    witness, `prefix:epoch`.
//! 3. What Redis forgets it forgets together with its witness, or under another history. `FLUSHALL`,
//!    a restart without a file, a slot assigned without its keys: there is no witness. A restart
//!    from an older file, a failover to a replica that lagged: the witness names a history that
//!    the server no longer has, because every restart and every promotion begins a new one.
//!    Either way the script refuses, in the same step in which it would have spent; nothing has to
//!    be noticed in time, and no gateway has to remember anything. A slot that is moved with its
//!    keys takes its witness along, under the old owner's history: it is fenced too.
//! 4. The **watcher** ([`watch`]) vouches for the servers (`vouch.lua`): where the witness is gone
//!    or of another history it raises the floor in it to the fence, now + the window's future +
//!    what clocks may differ, and writes the new history, again in one step; whichever gateway is
//!    first does it for the fleet. Only the slots of that server are fenced.
//! 5. Nothing is ever sent twice; only a script that the server says it did not have, and so did
//!    not run, is. A claim without an answer in time is [`ClaimRefused::Unknown`].
//! 6. A failure opens the server's breaker: [`SpentSalts::reach`] refuses, while nothing is spent,
//!    until the watcher has had an answer from it in time. Nothing fails open.
//! 7. Clocks: the script refuses where the server's clock and the gateway's differ by more than
//!    `clock_margin`, so two gateways' differ by at most twice that; keys outlive their dates, and
//!    the fence reaches beyond the window, by as much. A server whose clock jumps ahead may have
//!    let keys go too early: the watcher sees the jump against elapsed time, and fences.
//! 8. `max_salts` is of the fleet: what the servers hold, counted every second.
//!    `max_salts_per_key` is of each process: what it spent itself and Redis still holds.
//!
//! What is not covered: a server that goes on as master after another was promoted, out of reach
//! of the rest, with gateways on both sides. A cluster's master stops by itself within
//! `cluster-node-timeout`, before the fence of its successor has fallen; behind a single address
//! whoever moves it must see to that (`min-replicas-to-write`).

mod script;
mod server;
mod slots;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use redis::{RedisError, Script};
use tokio::sync::Notify;
use tokio::time::timeout;

use self::script::{Keys, Verdict};
pub use self::server::ping;
use self::server::{Server, Trouble};
use super::ledger::{GENERATIONS, Ledger};
use super::{
    Claim, ClaimRefused, Floor, Health, LookUp, OutOfWindow, Reach, Reservation, Room, SaltId, SpentSalts, Unavailable,
    WhenNew, Window,
};
use crate::clock::Clock;

/// What a Redis that may have lost salts means, once it was known to hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailover {
    /// Nothing that may have been spent before is admitted again.
    Fence,
    /// What was lost can be replayed.
    DangerAccept,
}

/// Where Redis is, and how it is used (contract §9, `[replay.redis]`).
pub struct RedisSettings {
    /// Hosts and ports: one server, or some of a cluster's.
    pub servers: Vec<(String, u16)>,
    /// Whether it is a cluster.
    pub cluster: bool,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Who signs the servers' certificates, in PEM; the system's authorities if `None`.
    pub ca: Option<Vec<u8>>,
    /// The user; Redis's default one if `None`.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The database, 0 in a cluster.
    pub database: i64,
    /// What all keys begin with.
    pub prefix: String,
    /// The time for an answer.
    pub timeout: Duration,
    /// How far the clock of a gateway and that of Redis may differ.
    pub clock_margin: Duration,
    /// How much room there is: `max_salts` of the fleet, `max_salts_per_key` of each process.
    pub room: Room,
    /// What it means that Redis knows nothing of the gateways.
    pub when_new: WhenNew,
    /// What it means that Redis lost what it knew.
    pub on_failover: OnFailover,
    /// The window of the fleet.
    pub window: Window,
}

/// See the module.
pub struct Redis {
    shared: Arc<Shared>,
    watcher: Option<watch::Watcher>,
}

/// What the workers and the watcher share.
struct Shared {
    clock: Clock,
    settings: RedisSettings,
    keys: Keys,
    claim: Script,
    vouch: Script,
    map: ArcSwap<Map>,
    ledger: Arc<Ledger>,
    /// By slot, in nanoseconds since 1970: nothing at or below is admitted, as far as is known
    /// here. A claim is judged by what its server knows.
    floors: Box<[AtomicU64]>,
    /// Why nobody can say which server has what, if so.
    lost: Mutex<Option<Trouble>>,
    /// Which period each generation of the ledger stands for.
    periods: [AtomicUsize; GENERATIONS],
    /// Salts that the servers hold.
    held: AtomicUsize,
    /// Whether a server has no memory left.
    out_of_memory: AtomicBool,
    /// Wakes the watcher.
    wake: Notify,
}

/// Which server has which slot.
#[derive(Default)]
struct Map {
    servers: Vec<Arc<Server>>,
    /// By slot, an index into `servers`; beyond them if nobody has it.
    owners: Vec<u16>,
}

impl Map {
    fn owner(&self, slot: usize) -> Option<&Arc<Server>> {
        self.servers.get(usize::from(*self.owners.get(slot)?))
    }
}

impl Redis {
    /// Starts to watch Redis. One that is out of reach is waited for in the background.
    ///
    /// # Errors
    /// If Redis answers and is not fit: it may evict, judges by another window, refuses the
    /// password, is a cluster or is none.
    pub fn start(clock: Clock, settings: RedisSettings) -> Result<Self, String> {
        let keys = Keys::new(&settings.prefix, settings.cluster);
        // The fleet's bound is on what the servers hold; here only each key's share is counted.
        let ledger = Ledger::new(Room { max_salts: usize::MAX, ..settings.room });
        if settings.on_failover == OnFailover::DangerAccept {
            tracing::warn!("replay.redis.on_failover = \"danger_accept\": what Redis loses can be replayed");
        }
        let shared = Arc::new(Shared {
            clock,
            floors: (0..keys.slots()).map(|_| AtomicU64::new(0)).collect(),
            lost: Mutex::default(),
            keys,
            settings,
            claim: script::claim(),
            vouch: script::vouch(),
            map: ArcSwap::default(),
            ledger: Arc::new(ledger),
            periods: Default::default(),
            held: AtomicUsize::new(0),
            out_of_memory: AtomicBool::new(false),
            wake: Notify::new(),
        });
        let watcher = watch::Watcher::start(shared.clone())?;
        Ok(Self { shared, watcher: Some(watcher) })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.watcher = None;
        self.shared.map.store(Arc::default());
    }
}

impl Shared {
    fn floor(&self, slot: usize) -> Floor {
        let nanos = self.floors.get(slot).map_or(0, |floor| floor.load(Ordering::Acquire));
        Floor(UNIX_EPOCH + Duration::from_nanos(nanos))
    }

    fn raise_floor(&self, slot: usize, floor: SystemTime) {
        let nanos = floor.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        if let Some(known) = self.floors.get(slot) {
            known.fetch_max(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::AcqRel);
        }
    }

    /// How many slots are fenced, and until when the last of them is.
    fn fenced(&self) -> Option<(usize, SystemTime)> {
        let now = self.clock.now();
        let floors = (0..self.floors.len()).map(|slot| self.floor(slot).0).filter(|floor| *floor > now);
        floors.fold(None, |fenced, floor| match fenced {
            None => Some((1, floor)),
            Some((slots, last)) => Some((slots + 1, last.max(floor))),
        })
    }

    /// The life that the salt of a date has left, by any gateway's clock.
    fn life(&self, date: SystemTime, now: SystemTime) -> Duration {
        let window = self.settings.window;
        let left = match date.duration_since(now) {
            Ok(ahead) => window.past + ahead,
            Err(behind) => window.past.saturating_sub(behind.duration()),
        };
        left + 2 * self.settings.clock_margin
    }

    /// Where the floor is raised to when what was spent before now may be forgotten.
    fn fence(&self) -> SystemTime {
        let ahead = self.settings.window.future + 2 * self.settings.clock_margin;
        self.clock.now().checked_add(ahead).unwrap_or(UNIX_EPOCH + Duration::from_nanos(u64::MAX))
    }

    fn period(&self) -> Duration {
        let window = self.settings.window;
        // A life spans at most three of these, so one of four is always free to be forgotten.
        (window.past + window.future + 2 * self.settings.clock_margin) / 2 + Duration::from_millis(1)
    }

    /// Which generation of the ledger counts a place that is held for so long, and its period.
    fn generation(&self, life: Duration) -> (usize, usize) {
        let until = self.clock.elapsed() + life;
        let period = usize::try_from(until.as_millis() / self.period().as_millis()).unwrap_or(usize::MAX);
        (period % GENERATIONS, period)
    }

    async fn spend(
        &self,
        place: Reservation,
        salt: SaltId,
        date: SystemTime,
        window: Window,
    ) -> Result<(), ClaimRefused> {
        let key = self.keys.salt(salt);
        let slot = self.keys.slot(&key);
        let map = self.map.load_full();
        let server = map.owner(slot).ok_or(ClaimRefused::Unknown)?;
        let now = self.clock.now();
        // The script knows the floor better; this saves the way.
        window.judge(date, now, self.floor(slot)).map_err(ClaimRefused::OutOfWindow)?;
        let limit = self.settings.timeout;
        let asked = timeout(limit, self.ask(server, slot, &key, date, now)).await;
        let verdict =
            asked.unwrap_or_else(|_| Err(Trouble::OutOfReach(format!("no answer within {} ms", limit.as_millis()))));
        let refused = match verdict {
            Ok(Verdict::Reused) => return Err(ClaimRefused::Reused),
            Ok(Verdict::Floor(floor)) => {
                self.raise_floor(slot, floor);
                self.wake.notify_one();
                return Err(ClaimRefused::OutOfWindow(OutOfWindow::BelowFloor));
            }
            Ok(Verdict::Full) => {
                self.out_of_memory.store(true, Ordering::Relaxed);
                self.wake.notify_one();
                return Err(ClaimRefused::Unknown);
            }
            Ok(Verdict::Spent) => None,
            Ok(other) => {
                server.in_doubt.store(true, Ordering::Release);
                Some(Trouble::OutOfReach(format!("a claim was answered {other:?}")))
            }
            Err(trouble) => Some(trouble),
        };
        // A place is held for what may have been spent, too.
        let (generation, period) = self.generation(self.life(date, now));
        self.periods[generation].fetch_max(period, Ordering::AcqRel);
        place.hold(generation);
        match refused {
            None => Ok(()),
            Some(trouble) => {
                self.failed(server, trouble);
                Err(ClaimRefused::Unknown)
            }
        }
    }

    async fn ask(
        &self,
        server: &Server,
        slot: usize,
        key: &str,
        date: SystemTime,
        now: SystemTime,
    ) -> Result<Verdict, Trouble> {
        let mut connection = server.connection(self.settings.timeout).await?;
        let window = self.settings.window;
        let life = self.life(date, now).as_millis() + 1;
        let mut claim = self.claim.key(key);
        claim.key(self.keys.witness(slot)).arg(script::digits(date)).arg(u64::try_from(life).unwrap_or(u64::MAX));
        claim.arg(millis(window.past)).arg(millis(window.future));
        claim.arg(millis(now.duration_since(UNIX_EPOCH).unwrap_or_default()));
        claim.arg(millis(self.settings.clock_margin));
        let answer: Result<String, RedisError> = claim.invoke_async(&mut connection).await;
        match answer {
            Ok(answer) => {
                server.answered(self.clock.elapsed());
                Ok(Verdict::read(&answer))
            }
            Err(error) if error.code() == Some("OOM") => Ok(Verdict::Full),
            Err(error) => {
                if error.is_unrecoverable_error() {
                    server.disconnect();
                }
                Err(error.into())
            }
        }
    }

    async fn look_up(&self, salt: SaltId) -> Option<bool> {
        let key = self.keys.salt(salt);
        let map = self.map.load_full();
        let server = map.owner(self.keys.slot(&key)).filter(|server| server.is_usable())?;
        let limit = self.settings.timeout;
        let asked = async {
            let mut connection = server.connection(limit).await.ok()?;
            let value: Option<Vec<u8>> = redis::cmd("GET").arg(&key).query_async(&mut connection).await.ok()?;
            Some(value.is_some())
        };
        timeout(limit, asked).await.ok()?
    }

    /// Opens the breaker, and has the watcher look.
    fn failed(&self, server: &Server, trouble: Trouble) {
        if server.suspend(trouble.clone()) {
            tracing::warn!(%server, %trouble, "Redis failed; nothing is admitted by it until it answers again");
        }
        self.wake.notify_one();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl SpentSalts for Redis {
    /// The lowest of all slots; [`SpentSalts::floor_of`] knows the salt's own.
    fn floor(&self) -> Floor {
        let floors = (0..self.shared.floors.len()).map(|slot| self.shared.floor(slot));
        floors.min().unwrap_or(Floor(UNIX_EPOCH))
    }

    fn floor_of(&self, salt: SaltId) -> Floor {
        self.shared.floor(self.shared.keys.slot(&self.shared.keys.salt(salt)))
    }

    fn fenced_until(&self) -> Option<SystemTime> {
        let Floor(floor) = self.floor();
        (floor > self.shared.clock.now()).then_some(floor)
    }

    fn reserve(&self, api_key: &str) -> Result<Reservation, Unavailable> {
        let full = self.held() >= self.shared.settings.room.max_salts;
        if full || self.shared.out_of_memory.load(Ordering::Relaxed) {
            return Err(Unavailable::Full);
        }
        self.shared.ledger.reserve(api_key)
    }

    fn reach(&self, salt: SaltId) -> Reach<'_> {
        let slot = self.shared.keys.slot(&self.shared.keys.salt(salt));
        let map = self.shared.map.load();
        let Some(server) = map.owner(slot).filter(|server| server.is_usable()) else {
            return Reach::Now(Err(Unavailable::OutOfReach));
        };
        if server.is_alive(self.shared.clock.elapsed()) {
            return Reach::Now(Ok(()));
        }
        let server = server.clone();
        Reach::Later(Box::pin(async move {
            match server.revive(self.shared.settings.timeout).await {
                Ok(()) => {
                    server.answered(self.shared.clock.elapsed());
                    Ok(())
                }
                Err(trouble) => {
                    self.shared.failed(&server, trouble);
                    Err(Unavailable::OutOfReach)
                }
            }
        }))
    }

    fn claim(&self, place: Reservation, salt: SaltId, date: SystemTime, window: Window) -> Claim<'_> {
        Claim::Later(Box::pin(self.shared.spend(place, salt, date, window)))
    }

    fn look_up(&self, salt: SaltId) -> LookUp<'_> {
        LookUp::Later(Box::pin(self.shared.look_up(salt)))
    }

    /// Redis forgets by itself; here the counts of the keys' shares follow it.
    fn forget(&self) {
        let now = self.shared.clock.elapsed().as_millis() / self.shared.period().as_millis();
        for (generation, period) in self.shared.periods.iter().enumerate() {
            let period = period.load(Ordering::Acquire);
            if period > 0 && u128::try_from(period).is_ok_and(|period| period < now) {
                self.shared.ledger.forget(generation);
                self.shared.periods[generation].store(0, Ordering::Release);
            }
        }
    }

    fn held(&self) -> usize {
        self.shared.held.load(Ordering::Relaxed)
    }

    fn capacity(&self) -> usize {
        self.shared.settings.room.max_salts
    }

    fn health(&self) -> Health {
        let map = self.shared.map.load();
        let troubled = |server: &Arc<Server>| server.trouble().map(|trouble| format!("Redis at {server}: {trouble}"));
        let mut told: Vec<String> = map.servers.iter().filter_map(troubled).collect();
        if let Some(trouble) = server::unpoisoned(&self.shared.lost).as_ref().filter(|_| told.is_empty()) {
            told.push(format!("Redis: {trouble}"));
        }
        if map.owners.iter().any(|owner| usize::from(*owner) >= map.servers.len()) {
            told.push("some slots of the cluster have no server".into());
        }
        if let Some((slots, until)) = self.shared.fenced() {
            let (of, until) = (self.shared.floors.len(), crate::clock::rfc3339(until));
            told.push(format!("fenced until {until}, {slots} of {of} slots"));
        }
        if told.is_empty() { Health::Ok } else { Health::Degraded(told.join("; ")) }
    }
}
