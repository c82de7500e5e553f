//! How many deletions a key and an account have had.
//!
//! 1. A budget of N bounds every span, wherever it begins: the times of the last N are kept, and
//!    one more may go once the oldest of them has left the span.
//! 2. One is taken of the key and of the account in one step, before the intent is written; of
//!    any number at once no more pass than are left.
//! 3. It is given back only if the intent could not be written. Whatever became of a deletion on
//!    record, it stays counted: a restart counts the intents on record, and must count no less.
//! 4. Time is elapsed time: setting the wall clock gives nothing back.
//! 5. Budgets come and go by a reload. What is kept is as many and as long as the widest there
//!    has been asks for, and kept of every deletion, also while there is no budget: bringing one
//!    back gives nothing back. One that is wider than any before needs a [`Recount`].

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::policy::Budget;

const SHARDS: usize = 16;

/// The budgets that apply to one deletion.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budgets {
    /// The key's.
    pub key: Option<Budget>,
    /// The account's.
    pub account: Option<Budget>,
}

impl Budgets {
    /// Whether there is one.
    pub fn is_any(&self) -> bool {
        self.key.is_some() || self.account.is_some()
    }
}

/// What a key or an account took, oldest first: nanoseconds on the elapsed clock, below zero for
/// what was before the machine started.
type Log = VecDeque<i64>;
type Logs = [Mutex<HashMap<Box<str>, Log>>; SHARDS];

/// What all keys and accounts took.
pub struct Takings {
    widest_key: Widest,
    widest_account: Widest,
    /// Held by whoever took and has not written yet.
    writing: ArcSwap<()>,
    hasher: RandomState,
    keys: Logs,
    accounts: Logs,
}

/// How many and for how long are kept; nothing, until there was a budget.
#[derive(Default)]
struct Widest {
    limit: AtomicU32,
    span: AtomicU64,
    /// Whether all of that was counted from the record. If that failed, it is to be tried again.
    counted: AtomicBool,
}

impl Widest {
    fn covers(&self, budget: Budget) -> bool {
        budget.limit.get() <= self.limit.load(Ordering::Relaxed) && seconds(budget) <= self.span.load(Ordering::Relaxed)
    }

    /// Returns whether all that this budget asks for is kept and counted.
    fn cover(&self, budget: Budget) -> bool {
        if !self.covers(budget) {
            self.limit.fetch_max(budget.limit.get(), Ordering::Relaxed);
            self.span.fetch_max(seconds(budget), Ordering::Relaxed);
            self.counted.store(false, Ordering::Relaxed);
        }
        self.counted.load(Ordering::Relaxed)
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed) as usize
    }

    fn span(&self) -> Duration {
        Duration::from_secs(self.span.load(Ordering::Relaxed))
    }
}

/// Spans are whole seconds.
fn seconds(budget: Budget) -> u64 {
    budget.span.as_secs()
}

/// Counting anew from the record, for budgets that are wider than any before. Nothing is counted
/// too little: what is taken meanwhile may be counted twice.
pub struct Recount<'t> {
    takings: &'t Takings,
    now: i64,
    keys: HashMap<Box<str>, Found>,
    accounts: HashMap<Box<str>, Found>,
}

#[derive(Default)]
struct Found {
    /// How many were known of, all of them on record by the time it is read.
    known: usize,
    /// When those were that the record tells of.
    told: Vec<i64>,
}

/// Nothing is left; there will be after so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent(pub Duration);

/// One deletion that was counted: when, of the key and of the account.
#[derive(Debug)]
pub struct Taken {
    key: Option<i64>,
    account: Option<i64>,
    /// Until the intent is written, or given back.
    _writing: Arc<()>,
}

impl Default for Takings {
    fn default() -> Self {
        Self {
            widest_key: Widest::default(),
            widest_account: Widest::default(),
            writing: ArcSwap::default(),
            hasher: RandomState::new(),
            keys: std::array::from_fn(|_| Mutex::default()),
            accounts: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Takings {
    /// Whether one could be taken now. The judgement that counts is [`Takings::take`].
    ///
    /// # Errors
    /// How long until there is one again.
    pub fn judge(&self, key: &str, account: &str, budgets: Budgets, now: Duration) -> Result<(), Spent> {
        let now = nanos(now);
        let of_key = budgets.key.map(|budget| left(self.locked(&self.keys, key).get(key), budget, now));
        let of_account =
            budgets.account.map(|budget| left(self.locked(&self.accounts, account).get(account), budget, now));
        both(of_key, of_account)
    }

    /// Takes one of the key's budget and one of the account's, or none.
    ///
    /// # Errors
    /// How long until there is one again.
    pub fn take(&self, key: &str, account: &str, budgets: Budgets, now: Duration) -> Result<Taken, Spent> {
        // Before anything else: a recount waits for whoever began before it.
        let writing = self.writing.load_full();
        let now = nanos(now);
        if let Some(budget) = budgets.key {
            self.widest_key.cover(budget);
        }
        if let Some(budget) = budgets.account {
            self.widest_account.cover(budget);
        }
        // Keys before accounts, here as everywhere: nobody waits in a circle.
        let mut keys = (self.widest_key.limit() > 0).then(|| self.locked(&self.keys, key));
        let mut accounts = (self.widest_account.limit() > 0).then(|| self.locked(&self.accounts, account));
        let of = |logs: Option<&HashMap<Box<str>, Log>>, name: &str, budget: Option<Budget>| {
            budget.map(|budget| left(logs.and_then(|logs| logs.get(name)), budget, now))
        };
        both(of(keys.as_deref(), key, budgets.key), of(accounts.as_deref(), account, budgets.account))?;
        Ok(Taken {
            key: keys.as_mut().map(|keys| add(keys, key, &self.widest_key, now)),
            account: accounts.as_mut().map(|accounts| add(accounts, account, &self.widest_account, now)),
            _writing: writing,
        })
    }

    /// The intent of this one could not be written: nothing of it is on record, and nothing left.
    pub fn give_back(&self, key: &str, account: &str, taken: &Taken) {
        for (logs, name, at) in [(&self.keys, key, taken.key), (&self.accounts, account, taken.account)] {
            if let (Some(at), Some(log)) = (at, self.locked(logs, name).get_mut(name)) {
                if let Some(place) = log.iter().rposition(|taken| *taken == at) {
                    log.remove(place);
                }
            }
        }
    }

    /// Keeps from now on what these budgets ask for. If that is more than before, as it is at a
    /// start, whoever brings them must count from the record before anything is judged by them.
    pub fn widen(&self, budgets: Budgets, now: Duration) -> Option<Recount<'_>> {
        let key = budgets.key.is_none_or(|budget| self.widest_key.cover(budget));
        let account = budgets.account.is_none_or(|budget| self.widest_account.cover(budget));
        if key && account {
            return None;
        }
        let now = nanos(now);
        let known = |logs: &Logs, widest: &Widest| -> HashMap<Box<str>, Found> {
            let since = now.saturating_sub(nanos(widest.span()));
            let mut all = HashMap::new();
            for shard in logs {
                for (name, log) in &*shard.lock().unwrap_or_else(PoisonError::into_inner) {
                    let known = log.len() - log.partition_point(|at| *at < since);
                    all.insert(name.clone(), Found { known, told: Vec::new() });
                }
            }
            all
        };
        let (keys, accounts) = (known(&self.keys, &self.widest_key), known(&self.accounts, &self.widest_account));
        Some(Recount { takings: self, now, keys, accounts })
    }

    /// Lets go of keys and accounts that took nothing in the longest span there has been.
    pub fn forget(&self, now: Duration) {
        for (logs, widest) in [(&self.keys, &self.widest_key), (&self.accounts, &self.widest_account)] {
            let due = nanos(now).saturating_sub(nanos(widest.span()));
            for shard in logs {
                let mut logs = shard.lock().unwrap_or_else(PoisonError::into_inner);
                logs.retain(|_, log| log.back().is_some_and(|last| *last >= due));
            }
        }
    }

    fn locked<'l>(&self, logs: &'l Logs, name: &str) -> MutexGuard<'l, HashMap<Box<str>, Log>> {
        let shard = self.hasher.hash_one(name) as usize % SHARDS;
        // A log is never half changed: one time more or less is one step.
        logs[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recount<'_> {
    /// Waits until all that was taken before is on record; only then may it be read. Blocks, for
    /// so many milliseconds at most. Returns whether it is.
    pub fn all_written(&self, milliseconds: u32) -> bool {
        let before = self.takings.writing.swap(Arc::default());
        for _ in 0..milliseconds {
            if Arc::strong_count(&before) == 1 {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Arc::strong_count(&before) == 1
    }

    /// How far back the record is to be read.
    pub fn span(&self) -> Duration {
        self.takings.widest_key.span().max(self.takings.widest_account.span())
    }

    /// One that the record tells of, so long ago.
    pub fn found(&mut self, key: &str, account: &str, ago: Duration) {
        let at = self.now.saturating_sub(nanos(ago));
        let Takings { widest_key, widest_account, .. } = self.takings;
        for (all, name, widest) in [(&mut self.keys, key, widest_key), (&mut self.accounts, account, widest_account)] {
            if widest.limit() > 0 && ago <= widest.span() {
                all.entry(name.into()).or_default().told.push(at);
            }
        }
    }

    /// Counts those that were not known of: the oldest, for what is known is known from some time
    /// on without a gap.
    pub fn finish(self) {
        let takings = self.takings;
        for (all, logs, widest) in [
            (self.keys, &takings.keys, &takings.widest_key),
            (self.accounts, &takings.accounts, &takings.widest_account),
        ] {
            widest.counted.store(true, Ordering::Relaxed);
            for (name, Found { known, mut told }) in all {
                told.sort_unstable();
                let missing = told.len().saturating_sub(known);
                if missing > 0 {
                    let mut logs = takings.locked(logs, &name);
                    let log = log(&mut logs, &name);
                    told[..missing].iter().for_each(|at| recall(log, widest, *at));
                }
            }
        }
    }
}

/// If either has none left, how long until both have.
fn both(key: Option<Result<(), Spent>>, account: Option<Result<(), Spent>>) -> Result<(), Spent> {
    let spent = [key, account].into_iter().flatten().filter_map(Result::err).map(|Spent(left)| left).max();
    spent.map_or(Ok(()), |left| Err(Spent(left)))
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn left(log: Option<&Log>, budget: Budget, now: i64) -> Result<(), Spent> {
    let limit = budget.limit.get() as usize;
    let Some(log) = log.filter(|log| log.len() >= limit) else { return Ok(()) };
    // Only if so many were taken does the oldest of the last so many say when there is room.
    let Some(oldest) = log.get(log.len() - limit) else { return Ok(()) };
    let free = oldest.saturating_add(nanos(budget.span));
    if now >= free { Ok(()) } else { Err(Spent(Duration::from_nanos(free.saturating_sub(now).unsigned_abs()))) }
}

fn log<'l>(logs: &'l mut HashMap<Box<str>, Log>, name: &str) -> &'l mut Log {
    logs.entry(name.into()).or_default()
}

fn add(logs: &mut HashMap<Box<str>, Log>, name: &str, widest: &Widest, now: i64) -> i64 {
    let log = log(logs, name);
    // The clock was read before the lock was taken: another may have been later and first.
    let at = log.back().map_or(now, |last| now.max(*last));
    log.push_back(at);
    keep_last(log, widest);
    at
}

/// Files are read one after the other, and not in the order of time.
fn recall(log: &mut Log, widest: &Widest, at: i64) {
    let place = log.iter().rposition(|taken| *taken <= at).map_or(0, |before| before + 1);
    log.insert(place, at);
    keep_last(log, widest);
}

fn keep_last(log: &mut Log, widest: &Widest) {
    while log.len() > widest.limit() {
        log.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn budgets(key: &str, account: &str) -> Budgets {
        Budgets { key: Budget::parse(key), account: Budget::parse(account) }
    }

    #[test]
    fn no_span_of_the_length_holds_more_than_the_budget() {
        let (takings, budgets) = (Takings::default(), budgets("5/minute", ""));
        let mut taken: Vec<u64> = Vec::new();
        // Bursts and pauses, nine minutes of them.
        for step in 0..2_000_u64 {
            let at = step / 40 * 11_000 + step % 40 * 70;
            if takings.take("K", "a", budgets, Duration::from_millis(at)).is_ok() {
                taken.push(at);
            }
        }
        assert!(taken.len() > 40, "{}", taken.len());
        for first in &taken {
            let within = taken.iter().filter(|at| (*first..first + 60_000).contains(at)).count();
            assert!(within <= 5, "{within} within a minute of {first}");
        }
    }

    #[test]
    fn key_and_account_are_taken_together_or_not_at_all() {
        let (takings, budgets) = (Takings::default(), budgets("2/hour", "3/hour"));
        let take = |key: &str, at| takings.take(key, "a", budgets, SECOND * at).map(drop);
        assert_eq!((take("K", 0), take("K", 10)), (Ok(()), Ok(())));
        assert_eq!(take("K", 20), Err(Spent(SECOND * 3580)), "the key's first leaves at 3600");
        assert_eq!(take("L", 30), Ok(()));
        assert_eq!(take("L", 40), Err(Spent(SECOND * 3560)), "the account's");
        assert_eq!(take("L", 3600), Ok(()), "what was refused took nothing of the key");
        assert_eq!(takings.take("M", "b", budgets, SECOND * 40).map(drop), Ok(()), "another account");
    }

    #[test]
    fn whoever_waits_is_told_when_key_and_account_both_have_one_again() {
        let (takings, budgets) = (Takings::default(), budgets("1/minute", "1/hour"));
        takings.take("K", "a", budgets, SECOND).unwrap();
        let both = Err(Spent(SECOND * 3591));
        assert_eq!(takings.judge("K", "a", budgets, SECOND * 10), both);
        assert_eq!(takings.take("K", "a", budgets, SECOND * 10).map(drop), both);
    }

    #[test]
    fn a_budget_that_was_changed_or_taken_away_for_a_while_gives_nothing_back() {
        let takings = Takings::default();
        let (five, one, none) = (budgets("5/hour", "5/hour"), budgets("1/minute", "1/minute"), Budgets::default());
        let take = |budgets, at| takings.take("K", "a", budgets, SECOND * at).is_ok();
        assert!((0..3).all(|at| take(five, at)));
        assert!(take(one, 70), "a smaller one, for a while");
        takings.forget(SECOND * 200);
        assert!(take(none, 300), "and none at all, for a while");
        takings.forget(SECOND * 400);
        assert!(!take(five, 500), "five within the hour");
        assert!(take(five, 3600), "an hour after the first");
    }

    #[test]
    fn a_wider_budget_counts_what_the_record_tells_and_nothing_twice() {
        let takings = Takings::default();
        let (narrow, wide) = (budgets("2/minute", ""), budgets("4/hour", "4/hour"));
        let take = |budgets, at| takings.take("K", "a", budgets, SECOND * at);
        takings.widen(narrow, SECOND).unwrap().finish();
        assert!(take(narrow, 0).is_ok() && take(narrow, 100).is_ok() && take(narrow, 200).is_ok());
        assert!(takings.widen(narrow, SECOND * 210).is_none(), "nothing is wider");
        drop(takings.widen(wide, SECOND * 210));
        let mut recount = takings.widen(wide, SECOND * 210).expect("the first one was not finished");
        let writing = take(narrow, 220).unwrap();
        assert!(!recount.all_written(2), "one is not on record yet");
        drop(writing);
        assert!(recount.all_written(0));
        // The record tells of all of them but the last, which is known of anyway.
        for ago in [110, 10, 210, 4000] {
            recount.found("K", "a", SECOND * ago);
        }
        recount.finish();
        assert_eq!(take(wide, 300).map(drop), Err(Spent(SECOND * 3300)), "four within the hour");
        assert!(take(wide, 3600).is_ok(), "one has left it");
        assert_eq!(takings.judge("L", "a", wide, SECOND * 3600), Err(Spent(SECOND * 100)), "the account's as well");
    }

    #[test]
    fn what_was_given_back_or_was_long_ago_counts_no_more() {
        let (takings, budgets) = (Takings::default(), budgets("2/minute", "2/minute"));
        let (now, minute) = (SECOND * 10, SECOND * 60);
        let mut record = takings.widen(budgets, now).unwrap();
        record.found("K", "a", minute + SECOND);
        record.found("K", "a", SECOND * 59);
        record.finish();
        let taken = takings.take("K", "a", budgets, now).unwrap();
        assert_eq!(
            takings.judge("K", "a", budgets, now),
            Err(Spent(SECOND)),
            "what was before the start of the machine"
        );
        takings.give_back("K", "a", &taken);
        assert_eq!(takings.judge("K", "a", budgets, now), Ok(()));
        takings.forget(now + minute);
        assert!(takings.keys.iter().chain(&takings.accounts).all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn of_many_at_once_no_more_pass_than_are_left() {
        let (takings, budgets) = (Takings::default(), budgets("1000/hour", "100/hour"));
        let passed = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|threads| {
            for key in ["K", "L", "M", "N"] {
                let (takings, passed) = (&takings, &passed);
                threads.spawn(move || {
                    for n in 0..1000 {
                        if takings.take(key, "a", budgets, Duration::from_nanos(n)).is_ok() {
                            passed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 100);
    }
}
