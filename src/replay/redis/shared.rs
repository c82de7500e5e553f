//! What the claims and the watcher of one process share: the slot map, the floors, and the counts.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use redis::Script;
use tokio::sync::Notify;

use super::RedisSettings;
use super::script::{Keys, Numbers};
use super::sentinels::TERM;
use super::server::{Server, Trouble};
use super::settings::TlsFiles;
use super::slot_map::SlotMap;
use crate::clock::Clock;
use crate::replay::Floor;
use crate::replay::fullness::Fullness;
use crate::replay::ledger::{GENERATIONS, Ledger};

/// The timeout for what may take longer than a claim: a TLS connection, or a few hundred slots at once.
pub(super) const SLOW_TIMEOUT: Duration = Duration::from_secs(2);

/// State that the workers and the watcher share.
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) settings: RedisSettings,
    pub(super) tls: TlsFiles,
    pub(super) keys: Keys,
    pub(super) claim: Script,
    pub(super) attest: Script,
    pub(super) map: ArcSwap<SlotMap>,
    pub(super) ledger: Arc<Ledger>,
    /// The floor of each slot as far as this process knows, in nanoseconds since 1970. A claim is checked against the
    /// floor that its server knows.
    pub(super) floors: Box<[AtomicU64]>,
    /// Why the slot map is unknown, if it is.
    pub(super) lost: Mutex<Option<Trouble>>,
    /// The period that each generation of the ledger counts.
    pub(super) periods: [AtomicUsize; GENERATIONS],
    /// How many salts the servers hold.
    pub(super) held: AtomicUsize,
    /// Whether a server is out of memory.
    pub(super) out_of_memory: AtomicBool,
    /// Whether all servers were usable and writable at least once.
    pub(super) in_use: AtomicBool,
    pub(super) numbers: Numbers,
    pub(super) fullness: Fullness,
    /// Wakes the watcher.
    pub(super) wake: Notify,
}

impl Shared {
    pub(super) fn floor(&self, slot: usize) -> Floor {
        let nanos = self.floors.get(slot).map_or(0, |floor| floor.load(Ordering::Acquire));
        Floor(UNIX_EPOCH + Duration::from_nanos(nanos))
    }

    pub(super) fn raise_floor(&self, slot: usize, floor: SystemTime) {
        let nanos = floor.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        if let Some(known) = self.floors.get(slot) {
            known.fetch_max(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::AcqRel);
        }
    }

    /// How many slots are fenced, and when the last fence ends.
    pub(super) fn fenced(&self) -> Option<(usize, SystemTime)> {
        let now = self.clock.now();
        let floors = (0..self.floors.len()).map(|slot| self.floor(slot).0).filter(|floor| *floor > now);
        floors.fold(None, |fenced, floor| match fenced {
            None => Some((1, floor)),
            Some((slots, last)) => Some((slots + 1, last.max(floor))),
        })
    }

    /// How long the salt of a date must be remembered, by any gateway's clock.
    pub(super) fn life(&self, date: SystemTime, now: SystemTime) -> Duration {
        let window = self.settings.window;
        let left = match date.duration_since(now) {
            Ok(ahead) => window.past + ahead,
            Err(behind) => window.past.saturating_sub(behind.duration()),
        };
        left + 2 * self.settings.clock_margin
    }

    /// The floor to set when salts spent before `now` may be lost.
    pub(super) fn fence(&self, now: SystemTime) -> SystemTime {
        // A gateway that no longer reaches the Sentinels, or the other masters, may go on using the old one for so long.
        let term = if self.settings.sentinel.is_some() || self.settings.cluster { TERM } else { Duration::ZERO };
        let ahead = self.settings.window.future + 2 * self.settings.clock_margin + term;
        now.checked_add(ahead).unwrap_or(UNIX_EPOCH + Duration::from_nanos(u64::MAX))
    }

    pub(super) fn period(&self) -> Duration {
        let window = self.settings.window;
        // A salt's life spans at most three periods, so one of four generations can always be forgotten.
        (window.past + window.future + 2 * self.settings.clock_margin) / 2 + Duration::from_millis(1)
    }

    /// The generation of the ledger that counts a salt with this life, and its period.
    pub(super) fn generation(&self, life: Duration) -> (usize, usize) {
        let until = self.clock.elapsed() + life;
        let period = usize::try_from(until.as_millis() / self.period().as_millis()).unwrap_or(usize::MAX);
        (period % GENERATIONS, period)
    }

    pub(super) fn is_full(&self) -> bool {
        let full = self.held.load(Ordering::Relaxed) >= self.settings.room.max_salts;
        full || self.out_of_memory.load(Ordering::Relaxed)
    }

    /// Opens the circuit breaker, and wakes the watcher.
    pub(super) fn failed(&self, server: &Server, trouble: Trouble) {
        if server.suspend(trouble.clone()) {
            tracing::warn!(%server, %trouble, "Redis failed; nothing is admitted by it until it answers again");
        }
        self.wake.notify_one();
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
