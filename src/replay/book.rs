//! The spent salts of one process, as its memory holds them: what [`Memory`](super::Memory) is,
//! and what [`Journal`](super::Journal) keeps on disk besides.
//!
//! 1. A salt lives in one of 64 shards by its own bits; a claim is one step under that shard's
//!    lock, the judgement of window and floor included.
//! 2. A shard has four generations by date in one table, and one for strays: which one a salt is in never decides
//!    whether it is found.
//! 3. A generation is forgotten whole: under all locks at once the floor is raised to its newest
//!    date, and what comes after is told apart from it; then its salts go, shard by shard. So
//!    *above the floor all that was spent is remembered, at or below it nothing is admitted*,
//!    whatever the clock does.
//! 4. A generation is forgotten only when elapsed time says that its salts had their time, and
//!    the wall clock agrees that its newest date is out of the window: a jump alone empties
//!    nothing, and raising the floor turns nobody away.
//! 5. Nothing is evicted. A place is reserved before it is needed; a full memory refuses.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ledger::{GENERATIONS, KeyTag, Ledger};
use super::table::{Table, Tag};
use super::{ClaimRefused, Floor, OutOfWindow, Reservation, Room, SaltId, Unavailable, Window};
use crate::clock::Clock;

/// What an earlier life spent with a date that this one cannot admit yet: the clock was ahead then,
/// or is behind now. Its time may come in years, and nothing else is to wait for it.
const STRAYS: usize = GENERATIONS - 1;
const SHARDS: usize = 64;

/// See the module.
pub(super) struct Book {
    clock: Clock,
    shards: Box<[Mutex<Shard>]>,
    /// Nanoseconds since 1970. Raised only under all locks, read under any.
    floor: AtomicI64,
    ledger: Arc<Ledger>,
}

#[derive(Default)]
struct Shard {
    salts: Table,
    generations: [Generation; GENERATIONS],
}

/// The salts of a span of dates, as far as one shard goes.
#[derive(Clone, Copy, Default)]
struct Generation {
    salts: usize,
    /// Which of its two tags its salts have.
    turn: bool,
    /// The newest date in it, in nanoseconds since 1970.
    newest: i64,
    /// The elapsed time at which the last of its salts has had its time.
    expires: Duration,
    /// How old a date was admitted into it.
    past: Duration,
}

impl Book {
    /// An empty one, at or below whose floor nothing is admitted.
    pub(super) fn new(clock: Clock, room: Room, floor: Option<SystemTime>) -> Self {
        Self {
            clock,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            floor: AtomicI64::new(floor.map_or(i64::MIN, nanos_up)),
            ledger: Arc::new(Ledger::new(room)),
        }
    }

    /// Makes room for so many salts at once.
    pub(super) fn expect(&mut self, salts: usize) {
        for shard in &mut self.shards {
            if let Ok(shard) = shard.get_mut() {
                shard.salts.expect(salts / SHARDS);
            }
        }
    }

    /// Remembers salts that were spent in an earlier life. What is at or below the floor need not
    /// be.
    pub(super) fn recall(&self, spent: impl Iterator<Item = (SaltId, i64, KeyTag)>, window: Window) {
        let (now, elapsed, floor) = (self.clock.now(), self.clock.elapsed(), self.floor_nanos());
        let newest = now.checked_add(window.future).map_or(i64::MAX, nanos_up);
        let mut places = self.ledger.recalling();
        for (salt, nanos, key) in spent.filter(|(_, nanos, _)| *nanos > floor) {
            let Ok(mut shard) = self.shard(salt).lock() else { continue };
            let expires = elapsed.saturating_add(its_time(at(nanos), now, window));
            // It is there already if a claim was written twice.
            let home = if nanos > newest { STRAYS } else { generation(nanos, window) };
            if let Some(generation) = shard.remember(salt, nanos, home, expires, window) {
                places.hold(key, generation);
            }
        }
    }

    /// Bytes of heap that the salts take.
    pub(super) fn heap_bytes(&self) -> usize {
        self.shards.iter().filter_map(|shard| shard.lock().ok()).map(|shard| shard.salts.heap_bytes()).sum()
    }

    fn shard(&self, salt: SaltId) -> &Mutex<Shard> {
        &self.shards[usize::from(salt[0]) % SHARDS]
    }

    /// Spends a salt. `write` is told of it while its shard is locked, once it is remembered:
    /// whatever becomes of that, the salt is spent.
    pub(super) fn spend<W>(
        &self,
        place: Reservation,
        salt: SaltId,
        date: SystemTime,
        window: Window,
        write: impl FnOnce(KeyTag, i64) -> W,
    ) -> Result<W, ClaimRefused> {
        let mut shard = self.shard(salt).lock().map_err(|_| ClaimRefused::Unknown)?;
        let now = self.clock.now();
        window.judge(date, now, self.floor()).map_err(ClaimRefused::OutOfWindow)?;
        // Dates that cannot be written in nanoseconds are centuries out of any window.
        let nanos = nanos(date).ok_or(ClaimRefused::OutOfWindow(OutOfWindow::Future))?;
        let key = place.key();
        let expires = self.clock.elapsed().saturating_add(its_time(date, now, window));
        let home = generation(nanos, window);
        let generation = shard.remember(salt, nanos, home, expires, window).ok_or(ClaimRefused::Reused)?;
        // Set aside until it is written: its room is not another's meanwhile.
        let written = write(key, nanos);
        place.hold(generation);
        Ok(written)
    }

    /// Whether a salt is remembered; `None` if a panic left that in doubt.
    pub(super) fn holds(&self, salt: SaltId) -> Option<bool> {
        self.shard(salt).lock().ok().map(|shard| shard.salts.contains(salt))
    }

    /// Forgets one generation if it had its time.
    fn forget_one(&self, generation: usize) {
        let Some(forgotten) = self.give_up(generation) else { return };
        // Nothing asks for these any more, and nothing new is taken for one of them. Each shard
        // is locked for no longer than its own part takes.
        for (shard, tag) in self.shards.iter().zip(forgotten) {
            if let Ok(mut shard) = shard.lock() {
                shard.salts.forget(tag);
            }
        }
    }

    /// Raises the floor over a generation that had its time, in all shards at once, and returns
    /// what its salts are tagged with, by shard.
    fn give_up(&self, generation: usize) -> Option<Vec<Tag>> {
        // In the order of the shards, as everybody who takes more than one.
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
        let give_up = |shard: &mut MutexGuard<'_, Shard>| {
            let old = &mut shard.generations[generation];
            let tag = Tag::new(generation, old.turn);
            *old = Generation { turn: !old.turn, ..Generation::default() };
            tag
        };
        Some(shards.iter_mut().map(give_up).collect())
    }
}

impl Book {
    pub(super) fn floor(&self) -> Floor {
        Floor(at(self.floor_nanos()))
    }

    /// The floor in nanoseconds since 1970; the least there is if nothing is below it.
    pub(super) fn floor_nanos(&self) -> i64 {
        self.floor.load(Ordering::Acquire)
    }

    pub(super) fn reserve(&self, api_key: &str) -> Result<Reservation, Unavailable> {
        self.ledger.reserve(api_key)
    }

    /// Forgets what had its time. Returns whether there was any.
    pub(super) fn forget(&self) -> bool {
        let before = self.floor();
        (0..GENERATIONS).for_each(|generation| self.forget_one(generation));
        self.floor() > before
    }

    /// How many places are reserved and not held yet.
    pub(super) fn set_aside(&self) -> usize {
        self.ledger.set_aside()
    }

    pub(super) fn held(&self) -> usize {
        self.ledger.held()
    }

    pub(super) fn capacity(&self) -> usize {
        self.ledger.capacity()
    }
}

impl Shard {
    /// Remembers a salt in this generation, and says so; `None` if it is there already.
    fn remember(
        &mut self,
        salt: SaltId,
        nanos: i64,
        generation: usize,
        expires: Duration,
        window: Window,
    ) -> Option<usize> {
        let home = &mut self.generations[generation];
        if !self.salts.insert(salt, Tag::new(generation, home.turn)) {
            return None;
        }
        if home.salts == 0 {
            *home = Generation { newest: i64::MIN, turn: home.turn, ..Generation::default() };
        }
        home.salts += 1;
        home.newest = home.newest.max(nanos);
        home.expires = home.expires.max(expires);
        home.past = home.past.max(window.past);
        Some(generation)
    }
}

/// How long from now a date can still be in the window.
fn its_time(date: SystemTime, now: SystemTime, window: Window) -> Duration {
    match date.duration_since(now) {
        Ok(ahead) => window.past + ahead,
        Err(behind) => window.past.saturating_sub(behind.duration()),
    }
}

/// Which generation a date goes to: the window spans at most four, and with an eighth of it to
/// spare, so that one is forgotten before its turn comes again. Dates before 1970 are none's in
/// particular.
fn generation(nanos: i64, window: Window) -> usize {
    let eighth = u64::try_from((window.past + window.future).as_nanos() / 8).unwrap_or(u64::MAX / 3);
    let span = (eighth * 3).max(1);
    (u64::try_from(nanos).unwrap_or(0) / span) as usize % STRAYS
}

/// Nanoseconds since 1970, where they can be written.
pub(super) fn nanos(at: SystemTime) -> Option<i64> {
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).ok(),
        Err(before) => i64::try_from(before.duration().as_nanos()).ok().map(std::ops::Neg::neg),
    }
}

/// A floor that cannot be written is as high as can be.
pub(super) fn nanos_up(at: SystemTime) -> i64 {
    nanos(at).unwrap_or(i64::MAX)
}

/// The instant of so many nanoseconds since 1970.
pub(super) fn at(nanos: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(book: &Book, n: u8, date: SystemTime) -> Result<(), ClaimRefused> {
        book.spend(book.reserve("KEY").unwrap(), [n; 16], date, Window::default(), |_, _| ())
    }

    #[test]
    fn what_comes_while_a_generation_is_being_forgotten_is_not_forgotten_with_it() {
        let (clock, time) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let book = Book::new(clock.clone(), Room { max_salts: 8, max_salts_per_key: 8 }, None);
        let turn = || generation(nanos_up(clock.now()), Window::default());
        let home = turn();
        assert_eq!(spend(&book, 1, clock.now()), Ok(()));
        // Until the turn of the same generation comes again.
        time.advance(Duration::from_secs(1800));
        while turn() != home {
            time.advance(Duration::from_secs(60));
        }
        let forgotten = book.give_up(home).unwrap();
        assert_eq!(spend(&book, 2, clock.now()), Ok(()));
        for (shard, tag) in book.shards.iter().zip(forgotten) {
            shard.lock().unwrap().salts.forget(tag);
        }
        assert_eq!(spend(&book, 2, clock.now()), Err(ClaimRefused::Reused));
        assert_eq!(book.held(), 1);
    }
}
