//! The store of a fleet, in Redis. The numbered rules below are the argument why it loses no spent salt unnoticed.
//!
//! 1. A claim is one script (`claim.lua`) on the one server that holds the salt's key. It checks the floor, then sets
//!    the key if it does not exist, with an expiry at the end of the date's window.
//! 2. In the same cluster slot as every salt's key there is an **epoch marker**, which the script reads (and calls
//!    `witness`). It says which history of the data was attested (the server's run id and replication id), from which
//!    floor on, and for which window. Salts' keys have no hash tag (`prefix:hex`), so that they spread over all
//!    slots. A marker's key (`prefix:epoch:{tag}`) has a tag chosen for its slot, one for each of the 16 384. A
//!    server without a cluster has one marker, `prefix:epoch`.
//! 3. Redis loses salts only together with the marker, or with a change of history. After `FLUSHALL`, a restart
//!    without a file, or the assignment of a slot without its keys, there is no marker. After a restart from an older
//!    file, or a failover to a replica that lagged, the marker names a history that the server no longer has, because
//!    every restart and every promotion starts a new one. In both cases the script refuses in the very step that
//!    would have spent the salt, so nobody has to notice the loss in time, and no gateway has to remember anything. A
//!    slot that is moved with its keys takes along a marker with the old owner's history, so it is fenced too.
//! 4. The **watcher** ([`watch`]) attests the servers' histories (`attest.lua`). If a marker is missing or names
//!    another history, the script raises its floor to the fence (now + the window's future + twice `clock_margin`)
//!    and writes the new history, in one step. The first gateway that does this does it for the fleet. Only the slots
//!    of that server are fenced. The value of a salt's key is the mark of the request that spent it. The answer to
//!    that request is stored under a key of its own (`prefix:answer:hex`) for `repeat_window`. Neither decides
//!    whether a salt is spent.
//! 5. A connection matches replies to requests only by their order. So every request has a number of its own, and
//!    every reply that decides anything repeats this number and the key, and is compared as a whole. A surplus reply
//!    admits nothing, and closes its connection.
//! 6. Nothing is ever sent twice, except what the server reports as not run (`claim.rs`). If such a report was another
//!    request's, the second claim finds the mark of the first, and admits nothing. A claim without a reply in time is
//!    [`ClaimRefused::Unknown`](super::ClaimRefused::Unknown).
//! 7. A failure opens the server's circuit breaker: [`SpentSalts::reach`] refuses, before anything is spent, until
//!    the watcher gets a reply from the server in time. Nothing fails open.
//! 8. Clocks: both scripts refuse if the server's clock and the gateway's differ by more than `clock_margin`, so two
//!    gateways differ by at most twice that. `attest.lua` refuses only where it would set a floor: one that is counted
//!    from a clock that is behind, or that was under way for long, would cover too little. Keys outlive their dates, and
//!    the fence exceeds the window, by as much. A server whose clock jumps ahead may have expired keys too early: the
//!    watcher compares its clock with elapsed time, sees the jump, and fences.
//! 9. `max_salts` applies to the fleet: the keys that the servers hold, counted every second. `max_salts_per_key`
//!    applies to each process: the salts that it spent itself and Redis still holds. With `safeguard.scope = "fleet"` the
//!    claim's script counts them for the fleet, too (`prefix:share:tag`). These counts are lost only with the salts.
//! 10. If Sentinels name the server, a majority of them must have named it within a short term, and marker and claim name
//!     the failover that made it the master ([`sentinels`]). So an old master is not used after its successor's fence can
//!     end, and is fenced if it comes back with the history that was attested once.
//! 11. In a cluster more than half of the masters must have described it within the same term, and the newest description
//!     counts ([`cluster_map`]). So an old master is not used after its successor's fence can end. Marker and claim name the
//!     master's own epoch. So one that wins against its successor without a vote, because it is given a slot, is fenced.
//!
//! Not covered: a network partition with a single address and gateways on both sides, where the old master keeps serving
//! after another server was promoted. Whoever moves the address must prevent that (`min-replicas-to-write`).

mod about;
mod answers;
mod budget;
mod claim;
mod cluster_map;
mod examination;
mod examine;
mod fleet;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod look_up;
mod rights;
mod script;
mod sentinels;
mod server;
mod settings;
mod shared;
#[cfg(test)]
pub(crate) mod simulated;
mod slot_map;
mod slots;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[cfg(not(test))]
use ::redis::aio::MultiplexedConnection as Connection;
use arc_swap::ArcSwap;
use tokio::sync::Notify;

pub(crate) use self::examine::examine;
use self::script::{Keys, Numbers};
use self::server::Server;
use self::settings::TlsFiles;
pub(crate) use self::settings::{
    Access, ClientCertificate, OnFailover, RedisSettings, RedisStartError, SentinelSettings,
};
use self::shared::Shared;
#[cfg(test)]
use self::simulated::Connection;
use super::fleet::FleetStore;
use super::fullness::Fullness;
use super::ledger::Ledger;
use super::{
    Claim, Floor, LookUp, Mark, Reservation, Room, SpentSalts, StoreFuture, StoreHealth, StoreReach, Unavailable,
    Window,
};
use crate::clock::Clock;
use crate::credential::SaltId;

/// See the module.
pub(crate) struct Redis {
    shared: Arc<Shared>,
    watcher: Option<watch::Watcher>,
}

impl Redis {
    /// Starts the watcher. If Redis cannot be reached, the watcher keeps trying in the background.
    ///
    /// # Errors
    /// If Redis answers but is misconfigured (it may evict keys, is used with another window, refuses the password,
    /// or is or is not a cluster), or if the file of certificate authorities cannot be read.
    pub(crate) fn start(clock: Clock, settings: RedisSettings) -> Result<Self, RedisStartError> {
        let keys = Keys::new(&settings.prefix, settings.cluster);
        let tls = settings.tls_files()?;
        let shared = Self::shared(clock, settings, keys, tls)?;
        let watcher = watch::Watcher::start(shared.clone())?;
        Ok(Self { shared, watcher: Some(watcher) })
    }

    fn shared(
        clock: Clock,
        settings: RedisSettings,
        keys: Keys,
        tls: TlsFiles,
    ) -> Result<Arc<Shared>, RedisStartError> {
        // `max_salts` is checked against what the servers hold. The ledger counts only each key's share.
        let ledger = Ledger::new(Room { max_salts: usize::MAX, ..settings.room });
        if settings.on_failover == OnFailover::DangerAccept {
            tracing::warn!("replay.redis.on_failover = \"danger_accept\": salts that Redis loses can be replayed");
        }
        Ok(Arc::new(Shared {
            clock,
            floors: (0..keys.slots()).map(|_| AtomicU64::new(0)).collect(),
            lost: Mutex::default(),
            keys,
            settings,
            tls,
            claim: script::claim(),
            attest: script::attest(),
            map: ArcSwap::default(),
            ledger: Arc::new(ledger),
            periods: Default::default(),
            held: AtomicUsize::new(0),
            out_of_memory: AtomicBool::new(false),
            in_use: AtomicBool::new(false),
            numbers: Numbers::new().map_err(RedisStartError::NoRandomness)?,
            fullness: Fullness::default(),
            wake: Notify::new(),
        }))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.watcher = None;
        self.shared.map.store(Arc::default());
    }
}

impl SpentSalts for Redis {
    /// The lowest floor of all slots; [`SpentSalts::floor_of`] gives the floor of a salt's own slot.
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
        if self.shared.is_full() {
            self.shared.fullness.begins(self.capacity());
            return Err(Unavailable::Full);
        }
        self.shared.ledger.reserve(api_key)
    }

    fn reach(&self, salt: SaltId) -> StoreReach<'_> {
        let slot = self.shared.keys.slot(&self.shared.keys.salt(salt));
        let map = self.shared.map.load();
        let elapsed = self.shared.clock.elapsed();
        let owner = map.owner(slot).filter(|server| server.is_usable() && map.is_in_force(elapsed));
        let Some(server) = owner else {
            return StoreReach::Now(Err(Unavailable::OutOfReach));
        };
        if server.is_alive(elapsed) {
            return StoreReach::Now(Ok(()));
        }
        let server = server.clone();
        StoreReach::Later(Box::pin(async move {
            match server.revive(self.shared.numbers.next(), self.shared.settings.timeout).await {
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

    fn claim(&self, reservation: Reservation, salt: SaltId, date: SystemTime, window: Window, mark: Mark) -> Claim<'_> {
        Claim::Later(Box::pin(self.shared.spend(reservation, salt, date, window, mark)))
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn fleet(&self) -> Option<Arc<dyn FleetStore>> {
        Some(Arc::new(fleet::RedisFleet::new(self.shared.clone())))
    }

    fn store_answer(&self, salt: SaltId, text: Vec<u8>, life: Duration) -> Option<StoreFuture<()>> {
        let shared = self.shared.clone();
        Some(Box::pin(async move { shared.store_answer(salt, text, life).await.unwrap_or_default() }))
    }

    fn stored_answer(&self, salt: SaltId) -> Option<StoreFuture<Option<Vec<u8>>>> {
        let shared = self.shared.clone();
        Some(Box::pin(async move { shared.stored_answer(salt).await }))
    }

    fn look_up(&self, salt: SaltId) -> LookUp<'_> {
        LookUp::Later(Box::pin(self.shared.look_up(salt)))
    }

    /// Redis expires keys by itself. This updates the counts of the keys' shares.
    fn forget(&self) {
        if self.shared.is_full() {
            self.shared.fullness.begins(self.capacity());
        } else {
            self.shared.fullness.ends(self.held(), self.capacity());
        }
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

    fn health(&self) -> StoreHealth {
        let map = self.shared.map.load();
        let troubled = |server: &Arc<Server>| server.trouble().map(|trouble| format!("Redis at {server}: {trouble}"));
        let mut problems: Vec<String> = map.servers.iter().filter_map(troubled).collect();
        if let Some(trouble) = server::unpoisoned(&self.shared.lost).as_ref().filter(|_| problems.is_empty()) {
            problems.push(format!("Redis: {trouble}"));
        }
        if map.owners.iter().any(|owner| usize::from(*owner) >= map.servers.len()) {
            problems.push("some slots of the cluster have no server".into());
        }
        if let Some((slots, until)) = self.shared.fenced() {
            let (of, until) = (self.shared.floors.len(), crate::clock::rfc3339(until));
            problems.push(format!("fenced until {until}, {slots} of {of} slots"));
        }
        problems.extend(self.shared.fullness.describe(self.capacity()));
        match problems.is_empty() {
            _ if !self.shared.in_use.load(Ordering::Acquire) => {
                problems.insert(0, "no Redis that takes salts has answered yet".into());
                StoreHealth::Gone(problems.join("; "))
            }
            true => StoreHealth::Ok,
            false => StoreHealth::Degraded(problems.join("; ")),
        }
    }
}
