//! The first requests of spent salts, in memory.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::first::First;
use super::{Earlier, Print, RepeatSettings};
use crate::clock::Clock;
use crate::credential::SaltId;

/// How many repeats of one request may wait for its end at once. Clients and proxies send fewer by themselves.
const WAITING: usize = 16;

/// The first requests of spent salts, for as long as repeats of them may come.
#[derive(Clone)]
pub struct Repeats(pub(super) Arc<Shared>);

pub(super) struct Shared {
    settings: RepeatSettings,
    clock: Clock,
    memory: Mutex<Memory>,
    /// How many requests that lost a claim wait until the winner has registered.
    unsettled: AtomicUsize,
    settled: Notify,
}

impl Shared {
    /// Wakes those who wait for a claim to be decided.
    pub(super) fn tell_settled(&self) {
        if self.unsettled.load(Ordering::SeqCst) > 0 {
            self.settled.notify_waiters();
        }
    }
}

/// A request that waits until a claim is settled.
struct Unsettled<'r>(&'r Shared);

impl<'r> Unsettled<'r> {
    fn new(shared: &'r Shared) -> Self {
        shared.unsettled.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.0.unsettled.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Default)]
pub(super) struct Memory {
    pub(super) by_salt: HashMap<u128, SaltEntry, BuildHasherDefault<AsItIs>>,
    /// Ended requests, oldest first, each with the elapsed time of its end.
    ended: VecDeque<(Duration, SaltId, Arc<First>)>,
    /// Requests that ended before this process started, by the hash of what they asked for, and until when they are
    /// remembered.
    earlier: HashMap<String, (Duration, Earlier)>,
    /// How many repeats wait for the end of each first request.
    waiting: HashMap<u128, usize, BuildHasherDefault<AsItIs>>,
}

#[derive(Default)]
pub(super) struct SaltEntry {
    pub(super) first: Option<Arc<First>>,
    /// How many requests have an undecided claim of the salt.
    pub(super) claiming: u32,
}

impl Repeats {
    /// An empty memory.
    pub fn new(settings: RepeatSettings, clock: Clock) -> Self {
        Self(Arc::new(Shared {
            settings,
            clock,
            memory: Mutex::default(),
            unsettled: AtomicUsize::new(0),
            settled: Notify::new(),
        }))
    }

    /// Whether repeats are answered as the first request was.
    pub fn answers(&self) -> bool {
        self.0.settings.answer
    }

    /// How long after its end a request is remembered.
    pub fn window(&self) -> Duration {
        self.0.settings.window
    }

    /// Whether the record holds what requests asked for.
    pub fn goes_on_record(&self) -> bool {
        self.0.settings.by_record
    }

    /// Remembers requests that ended before this process started: what each asked for, and how long ago it ended. If
    /// there are too many, the latest are kept.
    pub fn restore(&self, mut ended: Vec<(String, Duration, Earlier)>) {
        ended.sort_by_key(|(_, ago, _)| *ago);
        let now = self.0.clock.elapsed();
        let until = |ago: Duration| self.0.settings.window.checked_sub(ago).map(|left| now + left);
        let ended = ended.into_iter().take(self.0.settings.max);
        self.memory().earlier =
            ended.filter_map(|(print, ago, earlier)| Some((print, (until(ago)?, earlier)))).collect();
    }

    /// The request that asked for this before this process started, if it is remembered.
    pub fn earlier(&self, print: Print) -> Option<Earlier> {
        let now = self.0.clock.elapsed();
        let mut memory = self.memory();
        memory.earlier.retain(|_, (until, _)| now <= *until);
        memory.earlier.get(&print.text()).map(|(_, earlier)| earlier.clone())
    }

    /// The first request of this salt, if it is remembered. Waits while a claim of the salt is undecided.
    pub async fn first(&self, salt: SaltId) -> Option<Arc<First>> {
        if let Some(known) = self.look(salt) {
            return known;
        }
        // Set before looking: whoever settles a claim changes the memory first and reads this afterwards.
        let _unsettled = Unsettled::new(&self.0);
        loop {
            let settled = self.0.settled.notified();
            tokio::pin!(settled);
            // From here on a notification is not missed.
            settled.as_mut().enable();
            if let Some(known) = self.look(salt) {
                return known;
            }
            settled.await;
        }
    }

    /// The first request of this salt, if it is remembered now.
    pub fn known(&self, salt: SaltId) -> Option<Arc<First>> {
        self.look(salt).flatten()
    }

    /// `None` while a claim of the salt is undecided.
    fn look(&self, salt: SaltId) -> Option<Option<Arc<First>>> {
        let mut memory = self.memory();
        self.forget(&mut memory, self.0.clock.turn_elapsed());
        match memory.by_salt.get(&key(salt)) {
            Some(SaltEntry { first: Some(first), .. }) => Some(Some(first.clone())),
            Some(SaltEntry { first: None, .. }) => None,
            None => Some(None),
        }
    }

    /// Lets a repeat wait for the end of the first request; `None` if enough repeats wait already.
    pub fn queue(&self, salt: SaltId) -> Option<Waiting> {
        let mut memory = self.memory();
        let waiting = memory.waiting.entry(key(salt)).or_default();
        if *waiting == WAITING {
            return None;
        }
        *waiting += 1;
        Some(Waiting { repeats: self.clone(), salt })
    }

    /// How many repeats are waiting.
    pub fn waiting(&self) -> usize {
        self.memory().waiting.values().sum()
    }

    pub(super) fn ended(&self, salt: SaltId, first: &Arc<First>) {
        let mut memory = self.memory();
        let now = self.0.clock.turn_elapsed();
        memory.ended.push_back((now, salt, first.clone()));
        self.forget(&mut memory, now);
    }

    /// Forgets requests that ended too long ago, and the oldest if there are too many.
    fn forget(&self, memory: &mut Memory, now: Duration) {
        while let Some((ended, salt, first)) = memory.ended.front() {
            if memory.ended.len() <= self.0.settings.max && now.saturating_sub(*ended) <= self.0.settings.window {
                return;
            }
            let is_it = |entry: &SaltEntry| entry.first.as_ref().is_some_and(|known| Arc::ptr_eq(known, first));
            if let Some(entry) = memory.by_salt.get_mut(&key(*salt))
                && is_it(entry)
            {
                entry.first = None;
                if entry.claiming == 0 {
                    memory.by_salt.remove(&key(*salt));
                }
            }
            memory.ended.pop_front();
        }
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        // A panic cannot leave it half changed.
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A repeat that waits for the end of the first request.
pub struct Waiting {
    repeats: Repeats,
    salt: SaltId,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Entry::Occupied(mut waiting) = self.repeats.memory().waiting.entry(key(self.salt)) {
            match waiting.get() {
                0 | 1 => drop(waiting.remove()),
                more => *waiting.get_mut() = more - 1,
            }
        }
    }
}

/// Salt ids are keyed hashes and need no further hashing.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, salt: u128) {
        self.0 = (salt >> 64) as u64;
    }
}

pub(super) fn key(salt: SaltId) -> u128 {
    u128::from_be_bytes(*salt.bytes())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::{Asked, Became};
    use super::*;
    use crate::clock::ManualTime;

    const SALT: SaltId = SaltId::from_stored([7; 16]);

    fn repeats(max: usize) -> (Repeats, ManualTime) {
        let (clock, time) = Clock::manual(SystemTime::UNIX_EPOCH);
        (
            Repeats::new(
                RepeatSettings { answer: true, window: Duration::from_secs(60), max, by_record: false },
                clock,
            ),
            time,
        )
    }

    fn first(id: u8) -> First {
        First::new(Asked::new(&SALT, "K", "DELETE", "/", b""), 0, [id; 32], None, Duration::ZERO)
    }

    fn is_empty(repeats: &Repeats) -> bool {
        let memory = repeats.memory();
        memory.by_salt.is_empty() && memory.ended.is_empty()
    }

    #[tokio::test]
    async fn a_request_that_lost_a_claim_waits_until_the_winner_is_known() {
        let (repeats, _) = repeats(10);
        let (wins, loses) = (repeats.claims(SALT), repeats.claims(SALT));
        drop(loses);
        let found = tokio::spawn({
            let repeats = repeats.clone();
            async move { repeats.first(SALT).await.map(|first| first.id()) }
        });
        tokio::task::yield_now().await;
        assert!(!found.is_finished());
        let under_way = wins.begins(first(b'w'));
        assert_eq!(found.await.unwrap(), Some("w".repeat(32)));
        assert_eq!(repeats.known(SALT).unwrap().became(), Became::UnderWay);
        drop(under_way);
        assert_eq!(repeats.known(SALT).unwrap().became(), Became::Unknown, "it ended without a word");
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_salt_that_was_not_spent_here() {
        let (repeats, _) = repeats(10);
        let claims: Vec<_> = (0..3).map(|_| repeats.claims(SALT)).collect();
        drop(claims);
        assert!(repeats.first(SALT).await.is_none());
        assert!(is_empty(&repeats));
    }

    #[test]
    fn ended_requests_are_forgotten_oldest_first_and_running_ones_never() {
        let (repeats, time) = repeats(2);
        let spend = |n: u8| repeats.claims(SaltId::from_stored([n; 16])).begins(first(n));
        let under_way = spend(0);
        (1..=4).for_each(|n| drop(spend(n)));
        let known = |n: u8| repeats.known(SaltId::from_stored([n; 16])).is_some();
        assert_eq!([0, 1, 2, 3, 4].map(known), [true, false, false, true, true]);
        time.advance(Duration::from_secs(61));
        assert_eq!([0, 3, 4].map(known), [true, false, false]);
        drop(under_way);
        assert!(known(0));
        time.advance(Duration::from_secs(61));
        assert!(!known(0) && is_empty(&repeats));
    }

    #[test]
    fn the_memory_for_repeats_is_bounded() {
        assert!(size_of::<First>() + size_of::<SaltEntry>() + size_of::<(Duration, SaltId, Arc<First>)>() < 300);
    }
}
