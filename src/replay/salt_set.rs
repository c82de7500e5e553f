//! The set of spent salts in the memory of one process. [`Memory`](super::Memory) is just this;
//! [`Journal`](super::Journal) also writes them to disk.
//!
//! 1. A salt belongs to one of 64 shards, chosen by its own bits. A claim, with its check of window and floor, is one
//!    step under that shard's lock.
//! 2. A shard has one table with four generations by date, and one more for salts outside the window. A salt is found
//!    whatever its generation.
//! 3. A generation is forgotten as a whole. Under all locks at once, the floor is raised to the generation's newest
//!    date and new salts get another tag; then the old salts are removed shard by shard. So *above the floor every
//!    spent salt is remembered, at or below it nothing is admitted*, whatever the clock does.
//! 4. A generation is forgotten only when both clocks agree: by elapsed time all its salts have expired, and by the
//!    wall clock its newest date is out of the window. So a jump of the clock alone forgets nothing, and raising the
//!    floor refuses no valid request.
//! 5. Nothing is evicted. Room is reserved before it is needed; a full set refuses.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ledger::{GENERATIONS, KeyTag, Ledger};
use super::table::{Table, Tag};
use super::{ClaimRefused, Floor, OutOfWindow, Reservation, Room, Unavailable, Window};
use crate::clock::Clock;
use crate::credential::SaltId;

/// The generation of salts that an earlier run spent with a date in the future of the window: its clock was ahead, or
/// this one is behind. They may expire years from now and must not keep other salts from being forgotten.
const OUT_OF_WINDOW: usize = GENERATIONS - 1;
const SHARDS: usize = 64;

/// See the module.
pub(super) struct SaltSet {
    clock: Clock,
    shards: Box<[Mutex<Shard>]>,
    /// Nanoseconds since 1970. Written only under all locks, read under any.
    floor: AtomicI64,
    ledger: Arc<Ledger>,
}

#[derive(Default)]
struct Shard {
    salts: Table,
    generations: [Generation; GENERATIONS],
}

/// The salts of one span of dates in one shard.
#[derive(Clone, Copy, Default)]
struct Generation {
    salts: usize,
    /// Which of the generation's two tags its salts have.
    parity: bool,
    /// The newest date, in nanoseconds since 1970.
    newest: i64,
    /// The elapsed time at which the last salt expires.
    expires: Duration,
    /// The longest `window.past` under which a salt was added.
    past: Duration,
}

impl SaltSet {
    /// An empty set with this floor.
    pub(super) fn new(clock: Clock, room: Room, floor: Option<SystemTime>) -> Self {
        Self {
            clock,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            floor: AtomicI64::new(floor.map_or(i64::MIN, nanos_up)),
            ledger: Arc::new(Ledger::new(room)),
        }
    }

    /// Allocates room for `salts` salts.
    pub(super) fn preallocate(&mut self, salts: usize) {
        for shard in &mut self.shards {
            if let Ok(shard) = shard.get_mut() {
                shard.salts.preallocate(salts / SHARDS);
            }
        }
    }

    /// Adds salts that an earlier run spent, except those at or below the floor. Returns whether all of them were
    /// new.
    pub(super) fn load_spent(&self, spent: impl Iterator<Item = (SaltId, i64, KeyTag)>, window: Window) -> bool {
        let (now, elapsed, floor) = (self.clock.now(), self.clock.elapsed(), self.floor_nanos());
        let newest = now.checked_add(window.future).map_or(i64::MAX, nanos_up);
        let mut loading = self.ledger.loading();
        let mut all_new = true;
        for (salt, nanos, key) in spent.filter(|(_, nanos, _)| *nanos > floor) {
            let Ok(mut shard) = self.shard(salt).lock() else { continue };
            let expires = elapsed.saturating_add(remaining_life(at(nanos), now, window));
            let home = if nanos > newest { OUT_OF_WINDOW } else { generation(nanos, window) };
            match shard.remember(salt, nanos, home, expires, window) {
                Some(generation) => loading.hold(key, generation),
                None => all_new = false,
            }
        }
        all_new
    }

    /// Heap bytes that the salts use.
    pub(super) fn heap_bytes(&self) -> usize {
        self.shards.iter().filter_map(|shard| shard.lock().ok()).map(|shard| shard.salts.heap_bytes()).sum()
    }

    fn shard(&self, salt: SaltId) -> &Mutex<Shard> {
        &self.shards[usize::from(salt.bytes()[0]) % SHARDS]
    }

    /// Spends a salt. Calls `write` while the shard is locked, after the salt was added: the salt is spent whether or
    /// not the write succeeds.
    pub(super) fn spend<W>(
        &self,
        reservation: Reservation,
        salt: SaltId,
        date: SystemTime,
        window: Window,
        write: impl FnOnce(KeyTag, i64) -> W,
    ) -> Result<W, ClaimRefused> {
        let mut shard = self.shard(salt).lock().map_err(|_| ClaimRefused::Unknown)?;
        let now = self.clock.now();
        window.judge(date, now, self.floor()).map_err(ClaimRefused::OutOfWindow)?;
        // Dates that do not fit into nanoseconds are centuries outside any window.
        let nanos = nanos(date).ok_or(ClaimRefused::OutOfWindow(OutOfWindow::Future))?;
        let key = reservation.key();
        // A turn too early is safe: forgetting raises the floor, and waits for the wall clock, too.
        let expires = self.clock.turn_elapsed().saturating_add(remaining_life(date, now, window));
        let home = generation(nanos, window);
        let generation = shard.remember(salt, nanos, home, expires, window).ok_or(ClaimRefused::Reused)?;
        // The reservation lasts until the write, so that nobody else gets the same room on disk.
        let written = write(key, nanos);
        reservation.hold(generation);
        Ok(written)
    }

    /// Whether a salt is in the set; `None` if a panic left that in doubt.
    pub(super) fn holds(&self, salt: SaltId) -> Option<bool> {
        self.shard(salt).lock().ok().map(|shard| shard.salts.contains(salt))
    }

    /// Forgets one generation if all its salts have expired.
    fn forget_one(&self, generation: usize) {
        let Some(forgotten) = self.retire(generation) else { return };
        // The floor already excludes these salts, and new salts have another tag. Each shard is locked only while its
        // own salts are removed.
        for (shard, tag) in self.shards.iter().zip(forgotten) {
            if let Ok(mut shard) = shard.lock() {
                shard.salts.forget(tag);
            }
        }
    }

    /// Raises the floor over an expired generation, in all shards at once. Returns the tags of its salts, one for
    /// each shard.
    fn retire(&self, generation: usize) -> Option<Vec<Tag>> {
        // Locked in the order of the shards, as everywhere that takes more than one lock.
        let mut shards = self.shards.iter().map(Mutex::lock).collect::<Result<Vec<MutexGuard<'_, Shard>>, _>>().ok()?;
        let filled = || shards.iter().map(|shard| &shard.generations[generation]).filter(|g| g.salts > 0);
        let newest = filled().map(|g| g.newest).max()?;
        let (elapsed, now) = (self.clock.elapsed(), self.clock.now());
        let had_its_time = filled().all(|g| {
            let out_of_window = now.checked_sub(g.past).and_then(nanos).is_some_and(|oldest| newest <= oldest);
            elapsed >= g.expires && out_of_window
        });
        if !had_its_time {
            return None;
        }
        self.floor.fetch_max(newest, Ordering::AcqRel);
        self.ledger.forget(generation);
        let retire = |shard: &mut MutexGuard<'_, Shard>| {
            let old = &mut shard.generations[generation];
            let tag = Tag::new(generation, old.parity);
            *old = Generation { parity: !old.parity, ..Generation::default() };
            tag
        };
        Some(shards.iter_mut().map(retire).collect())
    }
}

impl SaltSet {
    pub(super) fn floor(&self) -> Floor {
        Floor(at(self.floor_nanos()))
    }

    /// The floor in nanoseconds since 1970; `i64::MIN` if there is none.
    pub(super) fn floor_nanos(&self) -> i64 {
        self.floor.load(Ordering::Acquire)
    }

    pub(super) fn reserve(&self, api_key: &str) -> Result<Reservation, Unavailable> {
        self.ledger.reserve(api_key)
    }

    /// Forgets expired generations. Returns whether there were any.
    pub(super) fn forget(&self) -> bool {
        let before = self.floor();
        (0..GENERATIONS).for_each(|generation| self.forget_one(generation));
        self.ledger.check_fullness();
        self.floor() > before
    }

    /// How many reservations no salt occupies yet.
    pub(super) fn reserved(&self) -> usize {
        self.ledger.reserved()
    }

    pub(super) fn held(&self) -> usize {
        self.ledger.held()
    }

    pub(super) fn capacity(&self) -> usize {
        self.ledger.capacity()
    }

    /// A text for operators, if the set is full.
    pub(super) fn is_full(&self) -> Option<String> {
        self.ledger.is_full()
    }
}

impl Shard {
    /// Adds a salt to this generation and returns the generation; `None` if the salt is there already.
    fn remember(
        &mut self,
        salt: SaltId,
        nanos: i64,
        generation: usize,
        expires: Duration,
        window: Window,
    ) -> Option<usize> {
        let home = &mut self.generations[generation];
        if !self.salts.insert(salt, Tag::new(generation, home.parity)) {
            return None;
        }
        if home.salts == 0 {
            *home = Generation { newest: i64::MIN, parity: home.parity, ..Generation::default() };
        }
        home.salts += 1;
        home.newest = home.newest.max(nanos);
        home.expires = home.expires.max(expires);
        home.past = home.past.max(window.past);
        Some(generation)
    }
}

/// How long from now a date stays in the window.
fn remaining_life(date: SystemTime, now: SystemTime, window: Window) -> Duration {
    match date.duration_since(now) {
        Ok(ahead) => window.past + ahead,
        Err(behind) => window.past.saturating_sub(behind.duration()),
    }
}

/// The generation of a date. A generation spans three eighths of the window, so that the window covers at most four
/// of them, and a generation is forgotten before it is used again. Dates before 1970 share one.
fn generation(nanos: i64, window: Window) -> usize {
    let eighth = u64::try_from((window.past + window.future).as_nanos() / 8).unwrap_or(u64::MAX / 3);
    let span = (eighth * 3).max(1);
    (u64::try_from(nanos).unwrap_or(0) / span) as usize % OUT_OF_WINDOW
}

/// Nanoseconds since 1970, if they fit.
pub(super) fn nanos(at: SystemTime) -> Option<i64> {
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).ok(),
        Err(before) => i64::try_from(before.duration().as_nanos()).ok().map(std::ops::Neg::neg),
    }
}

/// The same, with the highest possible value for what does not fit.
pub(super) fn nanos_up(at: SystemTime) -> i64 {
    nanos(at).unwrap_or(i64::MAX)
}

/// The instant that lies this many nanoseconds after 1970.
pub(super) fn at(nanos: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(set: &SaltSet, n: u8, date: SystemTime) -> Result<(), ClaimRefused> {
        set.spend(set.reserve("KEY").unwrap(), SaltId::from_stored([n; 16]), date, Window::default(), |_, _| ())
    }

    const ROOM: Room = Room { max_salts: 8, max_salts_per_key: 8 };

    fn start() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn span(window: Window) -> i64 {
        i64::try_from((window.past + window.future).as_nanos() / 8 * 3).unwrap()
    }

    #[test]
    fn generations_follow_each_other_in_time() {
        let (window, first) = (Window::default(), 1_000_000 * OUT_OF_WINDOW as i64);
        for n in 0..20 {
            let begins = (first + n) * span(window);
            for nanos in [begins, begins + 1, begins + span(window) - 1] {
                assert_eq!(generation(nanos, window), n as usize % OUT_OF_WINDOW, "{n}: {nanos}");
            }
        }
    }

    #[test]
    fn the_floor_rises_to_the_newest_date_of_what_is_forgotten() {
        let (clock, time) = Clock::manual(start());
        let set = SaltSet::new(clock.clone(), ROOM, None);
        assert!(!set.forget(), "there is nothing to forget");
        assert_eq!(set.floor_nanos(), i64::MIN);
        // Both in the middle of one generation, and in one shard.
        let generations = nanos_up(start()) / span(Window::default());
        let newest = at(generations * span(Window::default()) + span(Window::default()) / 2);
        let dates = [newest, newest - Duration::from_secs(60)];
        assert_eq!(spend(&set, 1, dates[0]), Ok(()));
        assert_eq!(spend(&set, 1 + SHARDS as u8, dates[1]), Ok(()));
        assert!(!set.forget(), "both are in the window");
        assert!(set.heap_bytes() > 0);
        assert_eq!(set.holds(SaltId::from_stored([1; 16])), Some(true));
        time.advance(Duration::from_secs(3600));
        assert!(set.forget());
        assert_eq!(set.floor_nanos(), nanos_up(newest));
        assert_eq!((set.holds(SaltId::from_stored([1; 16])), set.held(), set.heap_bytes()), (Some(false), 0, 0));
    }

    #[test]
    fn what_an_earlier_run_spent_counts_unless_the_floor_refuses_it() {
        let (clock, _time) = Clock::manual(start());
        let floor = start() - Duration::from_secs(60);
        let set = SaltSet::new(clock, Room { max_salts: 8, max_salts_per_key: 3 }, Some(floor));
        let (one, two) = (KeyTag::of("KEY"), KeyTag::of("OTHER"));
        let nanos = nanos_up(floor);
        let spent =
            [(1, nanos - 1, one), (2, nanos, one), (3, nanos + 1, one), (4, nanos + 2, one), (5, nanos + 3, two)];
        let spent = spent.map(|(n, nanos, key)| (SaltId::from_stored([n; 16]), nanos, key));
        assert!(set.load_spent(spent.into_iter(), Window::default()));
        let held = [1, 2, 3, 4, 5].map(|n| set.holds(SaltId::from_stored([n; 16])) == Some(true));
        assert_eq!((held, set.held()), ([false, false, true, true, true], 3));
        assert_eq!(spend(&set, 6, start()), Ok(()), "the third of this key");
        assert!(matches!(set.reserve("KEY"), Err(Unavailable::KeyShare)), "two of its three were loaded");
        assert!(!set.load_spent(spent.into_iter(), Window::default()), "they are there already");
    }

    #[test]
    fn a_full_set_says_so_until_there_is_room_again() {
        let (clock, time) = Clock::manual(start());
        let set = SaltSet::new(clock.clone(), Room { max_salts: 2, max_salts_per_key: 2 }, None);
        assert_eq!(spend(&set, 1, clock.now()), Ok(()));
        set.forget();
        assert!(set.is_full().is_none());
        let reservation = set.reserve("KEY").unwrap();
        assert_eq!((set.reserved(), set.held()), (1, 1));
        set.forget();
        assert!(set.is_full().is_some());
        drop(reservation);
        assert_eq!(set.reserved(), 0);
        set.forget();
        assert!(set.is_full().is_none());
        time.advance(Duration::from_secs(3600));
        assert!(set.forget());
        assert_eq!(set.held(), 0);
    }

    #[test]
    fn salts_added_while_a_generation_is_forgotten_are_kept() {
        let (clock, time) = Clock::manual(start());
        let set = SaltSet::new(clock.clone(), ROOM, None);
        let current = || generation(nanos_up(clock.now()), Window::default());
        let home = current();
        assert_eq!(spend(&set, 1, clock.now()), Ok(()));
        // Until the same generation is in use again.
        time.advance(Duration::from_secs(1800));
        while current() != home {
            time.advance(Duration::from_secs(60));
        }
        let forgotten = set.retire(home).unwrap();
        // Two in one shard: the first starts its generation there again.
        let second = 2 + SHARDS as u8;
        assert_eq!(spend(&set, 2, clock.now()), Ok(()));
        assert_eq!(spend(&set, second, clock.now()), Ok(()));
        for (shard, tag) in set.shards.iter().zip(forgotten) {
            shard.lock().unwrap().salts.forget(tag);
        }
        assert_eq!(spend(&set, 2, clock.now()), Err(ClaimRefused::Reused));
        assert_eq!(spend(&set, second, clock.now()), Err(ClaimRefused::Reused));
        assert_eq!(set.held(), 2);
    }
}
