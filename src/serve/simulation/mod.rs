//! A fleet of gateways and thousands of clients through crashes, partitions, stops, clock steps and failovers, in simulated
//! time. The gateways' claims, floors, watchers, leases and commands are the real code; servers, Sentinels, network and
//! clocks are those of [`simulated`](crate::replay::simulated), which says what is assumed of them.
//!
//! What is assumed of the gateways:
//! - All have the same settings and keys. A wall clock may be set to any time at any moment; elapsed time runs by at most
//!   0.02 % too fast or too slow.
//! - A process may stop at every point where it waits, for any time, and may end there. It does not stop between the
//!   judgement of the lease and the first byte of a deletion.
//! - What is frozen is in the gateway's file when it ends.
//!
//! Then no header passes twice, and after a freeze has returned, no deletion of its target is sent until an unfreeze begins.
//!
//! `make simulate` runs ten million headers. A run that fails prints a seed, which repeats it.

mod gateway;
mod operator;
mod run;
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use self::gateway::{Ended, Header};
use crate::adversary::Dice;

/// How many headers are at hand to be sent again.
const RECENT: usize = 500;

/// What the requests of a simulation come to, and what must never be among it.
pub(super) struct Leaves {
    marks: AtomicU64,
    ignores_leases: bool,
    began: Instant,
    found: Mutex<Found>,
}

struct Found {
    dice: Dice,
    /// By which gateway each header passed, and when.
    passed: HashMap<u64, (usize, Duration)>,
    /// Headers that have passed, the last ones only.
    recent: VecDeque<Header>,
    ended: BTreeMap<Ended, u64>,
    /// Since when each target is frozen: a key, or everything.
    frozen: HashMap<Option<usize>, Duration>,
    freezes: u64,
    broken: Option<String>,
    last: Duration,
    /// For how long nothing passed, beyond a second each time.
    silence: Duration,
}

impl Leaves {
    fn new(seed: u64, ignores_leases: bool) -> Self {
        let found = Found {
            dice: Dice(seed),
            passed: HashMap::new(),
            recent: VecDeque::new(),
            ended: BTreeMap::new(),
            frozen: HashMap::new(),
            freezes: 0,
            broken: None,
            last: Duration::ZERO,
            silence: Duration::ZERO,
        };
        Self { marks: AtomicU64::new(1), ignores_leases, began: Instant::now(), found: Mutex::new(found) }
    }

    fn next_mark(&self) -> u64 {
        self.marks.fetch_add(1, Ordering::Relaxed)
    }

    /// How long a step of a request takes.
    fn some_time(&self) -> Duration {
        let dice = &mut self.found.lock().unwrap().dice;
        let most = if dice.one_in(20) { 3000 } else { 30 };
        Duration::from_millis(dice.roll(most))
    }

    fn counts(&self, ended: Ended) {
        *self.found.lock().unwrap().ended.entry(ended).or_default() += 1;
    }

    fn passes(&self, header: Header, gateway: usize) {
        let (now, mut found) = (self.began.elapsed(), self.found.lock().unwrap());
        let gap = now.saturating_sub(found.last);
        if gap > Duration::from_secs(1) {
            found.silence += gap;
        }
        found.last = now;
        found.recent.push_back(header);
        if found.recent.len() > RECENT {
            found.recent.pop_front();
        }
        if let Some((first, then)) = found.passed.insert(header.number, (gateway, now)) {
            let told = format!("{header:?} passed gateway {first} after {then:?} and gateway {gateway} after {now:?}");
            found.broken.get_or_insert(told);
        }
    }

    fn sends(&self, header: Header, gateway: usize) {
        let (now, mut found) = (self.began.elapsed(), self.found.lock().unwrap());
        for target in [None, Some(header.key)] {
            if let Some(since) = found.frozen.get(&target).copied() {
                let told = format!("{header:?} was sent by gateway {gateway} after {now:?}, frozen since {since:?}");
                found.broken.get_or_insert(told);
            }
        }
    }

    /// A freeze has returned, or an unfreeze begins.
    fn freezes(&self, target: Option<usize>, frozen: bool) {
        let (now, mut found) = (self.began.elapsed(), self.found.lock().unwrap());
        match frozen {
            true => {
                found.freezes += 1;
                found.frozen.insert(target, now);
            }
            false => _ = found.frozen.remove(&target),
        }
    }
}
