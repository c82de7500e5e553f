//! Limits how many deletions a key and an account may make, by the counts of this process.
//!
//! 1. A budget of N is a sliding window: the times of the last N deletions are kept, and another one is allowed once
//!    the oldest of them is older than the span.
//! 2. The key's and the account's budget are taken in one step, before the intent is written. Concurrent requests
//!    never take more than is left.
//! 3. A deletion is given back only if its intent could not be written. A recorded deletion stays counted whatever
//!    its outcome, because a restart counts the recorded intents and must not count fewer.
//! 4. Time is elapsed time, so that setting the wall clock gives nothing back.
//! 5. A reload may add, change and remove budgets. Deletions are kept for the largest limit and the longest span there
//!    has been, also while there is no budget, so that removing a budget and adding it again gives nothing back. A
//!    budget that is larger than any before needs a [`Recount`].

mod recount;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

pub(crate) use self::recount::Recount;
use crate::policy::Budget;

const SHARDS: usize = 16;

/// The budgets that apply to one deletion.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budgets {
    /// The budget of the key.
    pub key: Option<Budget>,
    /// The budget of the account.
    pub account: Option<Budget>,
    /// Whether the fleet's counts are used although some were lost (`budget.on_lost_counts`).
    pub accepts_lost_counts: bool,
}

impl Budgets {
    /// Whether any budget applies.
    pub fn is_any(&self) -> bool {
        self.key.is_some() || self.account.is_some()
    }
}

/// When a key or an account made its deletions, oldest first: nanoseconds on the elapsed clock, negative for those
/// before the machine started.
type Log = VecDeque<i64>;
type Logs = [Mutex<HashMap<Box<str>, Log>>; SHARDS];

/// The deletions of all keys and accounts.
pub struct BudgetUsage {
    widest_key: Widest,
    widest_account: Widest,
    /// Held by each reservation whose intent is not written yet.
    writing: ArcSwap<Writing>,
    /// Disconnects when the last reservation lets go of `writing`.
    all_written: Mutex<Receiver<Infallible>>,
    hasher: RandomState,
    keys: Logs,
    accounts: Logs,
}

/// Nothing is ever sent: dropping the last clone disconnects the receiver.
type Writing = Sender<Infallible>;

/// The largest limit and the longest span of any budget so far; zero if there was none.
#[derive(Default)]
struct Widest {
    limit: AtomicU32,
    span: AtomicU64,
    /// Whether the record was counted for these. If counting failed, it is tried again.
    counted: AtomicBool,
}

impl Widest {
    fn covers(&self, budget: Budget) -> bool {
        budget.limit.get() <= self.limit.load(Ordering::Relaxed) && seconds(budget) <= self.span.load(Ordering::Relaxed)
    }

    /// Raises both to what this budget needs. Returns whether the record was already counted for that.
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

/// The budget is used up; the time is how long until another deletion is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetExceeded(pub Duration);

/// Why a deletion is not allowed, and was not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotCounted {
    /// A budget is used up.
    Exceeded(BudgetExceeded),
    /// The fleet's counts were lost; they are complete again after this time.
    Lost(Duration),
    /// The fleet's store gave no answer. The deletion may have been counted. The text is for the operator.
    Unknown(String),
}

/// One counted deletion: when it was counted for the key and for the account.
#[derive(Debug)]
pub struct BudgetReservation {
    key: Option<i64>,
    account: Option<i64>,
    /// Until the intent is written, or given back.
    _writing: Arc<Writing>,
}

impl Default for BudgetUsage {
    fn default() -> Self {
        let (writing, all_written) = channel();
        Self {
            widest_key: Widest::default(),
            widest_account: Widest::default(),
            writing: ArcSwap::from_pointee(writing),
            all_written: Mutex::new(all_written),
            hasher: RandomState::new(),
            keys: std::array::from_fn(|_| Mutex::default()),
            accounts: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl BudgetUsage {
    /// Whether another deletion would be allowed now. Only [`BudgetUsage::take`] decides.
    ///
    /// # Errors
    /// How long until there is one again.
    pub fn judge(&self, key: &str, account: &str, budgets: Budgets, now: Duration) -> Result<(), BudgetExceeded> {
        let now = nanos(now);
        let of_key = budgets.key.map(|budget| left(self.locked(&self.keys, key).get(key), budget, now));
        let of_account =
            budgets.account.map(|budget| left(self.locked(&self.accounts, account).get(account), budget, now));
        both(of_key, of_account)
    }

    /// Counts one deletion for the key and for the account, or for neither. Reads the time only if there has been a budget.
    ///
    /// # Errors
    /// How long until there is one again.
    pub fn take(
        &self,
        key: &str,
        account: &str,
        budgets: Budgets,
        now: impl FnOnce() -> Duration,
    ) -> Result<BudgetReservation, BudgetExceeded> {
        // First of all, because a recount waits for every reservation that started before it.
        let writing = self.writing.load_full();
        if let Some(budget) = budgets.key {
            self.widest_key.cover(budget);
        }
        if let Some(budget) = budgets.account {
            self.widest_account.cover(budget);
        }
        let (counts_keys, counts_accounts) = (self.widest_key.limit() > 0, self.widest_account.limit() > 0);
        let now = if counts_keys || counts_accounts { nanos(now()) } else { 0 };
        // Always keys before accounts, so that there is no deadlock.
        let mut keys = counts_keys.then(|| self.locked(&self.keys, key));
        let mut accounts = counts_accounts.then(|| self.locked(&self.accounts, account));
        let of = |logs: Option<&HashMap<Box<str>, Log>>, name: &str, budget: Option<Budget>| {
            budget.map(|budget| left(logs.and_then(|logs| logs.get(name)), budget, now))
        };
        both(of(keys.as_deref(), key, budgets.key), of(accounts.as_deref(), account, budgets.account))?;
        Ok(BudgetReservation {
            key: keys.as_mut().map(|keys| add(keys, key, &self.widest_key, now)),
            account: accounts.as_mut().map(|accounts| add(accounts, account, &self.widest_account, now)),
            _writing: writing,
        })
    }

    /// Undoes [`BudgetUsage::take`] when the intent could not be written: the deletion is not on record and was not
    /// sent.
    pub fn give_back(&self, key: &str, account: &str, taken: &BudgetReservation) {
        for (logs, name, at) in [(&self.keys, key, taken.key), (&self.accounts, account, taken.account)] {
            if let (Some(at), Some(log)) = (at, self.locked(logs, name).get_mut(name)) {
                if let Some(place) = log.iter().rposition(|taken| *taken == at) {
                    log.remove(place);
                }
            }
        }
    }

    /// Forgets keys and accounts without a deletion in the longest span so far.
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
        // Safe after a panic: a log changes by one push or pop, never half.
        logs[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// If either budget is used up, how long until both allow a deletion.
fn both(
    key: Option<Result<(), BudgetExceeded>>,
    account: Option<Result<(), BudgetExceeded>>,
) -> Result<(), BudgetExceeded> {
    let spent = [key, account].into_iter().flatten().filter_map(Result::err).map(|BudgetExceeded(left)| left).max();
    spent.map_or(Ok(()), |left| Err(BudgetExceeded(left)))
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn left(log: Option<&Log>, budget: Budget, now: i64) -> Result<(), BudgetExceeded> {
    let limit = budget.limit.get() as usize;
    let Some(log) = log.filter(|log| log.len() >= limit) else { return Ok(()) };
    // With at least `limit` deletions, the oldest of the last `limit` decides when the next one is allowed.
    let Some(oldest) = log.get(log.len() - limit) else { return Ok(()) };
    let free = oldest.saturating_add(nanos(budget.span));
    if now >= free {
        Ok(())
    } else {
        Err(BudgetExceeded(Duration::from_nanos(free.saturating_sub(now).unsigned_abs())))
    }
}

fn log<'l>(logs: &'l mut HashMap<Box<str>, Log>, name: &str) -> &'l mut Log {
    logs.entry(name.into()).or_default()
}

fn add(logs: &mut HashMap<Box<str>, Log>, name: &str, widest: &Widest, now: i64) -> i64 {
    let log = log(logs, name);
    // The clock was read before the lock was taken, so another request may have added a later time.
    let at = log.back().map_or(now, |last| now.max(*last));
    log.push_back(at);
    keep_last(log, widest);
    at
}

fn keep_last(log: &mut Log, widest: &Widest) {
    while log.len() > widest.limit() {
        log.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const SECOND: Duration = Duration::from_secs(1);

    pub(super) fn budgets(key: &str, account: &str) -> Budgets {
        Budgets { key: Budget::parse(key), account: Budget::parse(account), ..Budgets::default() }
    }

    #[test]
    fn no_span_contains_more_deletions_than_the_budget() {
        let (usage, budgets) = (BudgetUsage::default(), budgets("5/minute", ""));
        let mut taken: Vec<u64> = Vec::new();
        // Bursts and pauses, nine minutes of them.
        for step in 0..2_000_u64 {
            let at = step / 40 * 11_000 + step % 40 * 70;
            if usage.take("K", "a", budgets, || Duration::from_millis(at)).is_ok() {
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
    fn without_a_budget_so_far_the_time_is_not_read() {
        let (usage, none) = (BudgetUsage::default(), Budgets::default());
        assert!(usage.take("K", "a", none, || panic!("the time was read")).is_ok());
        assert!(usage.take("K", "a", budgets("2/hour", ""), || SECOND).is_ok());
        assert!(usage.take("K", "a", none, || SECOND * 2).is_ok(), "counted for the budget that there has been");
        assert!(usage.take("K", "a", budgets("2/hour", ""), || SECOND * 3).is_err());
    }

    #[test]
    fn key_and_account_are_taken_together_or_not_at_all() {
        let (usage, budgets) = (BudgetUsage::default(), budgets("2/hour", "3/hour"));
        let take = |key: &str, at| usage.take(key, "a", budgets, || SECOND * at).map(drop);
        assert_eq!((take("K", 0), take("K", 10)), (Ok(()), Ok(())));
        assert_eq!(take("K", 20), Err(BudgetExceeded(SECOND * 3580)), "the key's first leaves at 3600");
        assert_eq!(take("L", 30), Ok(()));
        assert_eq!(take("L", 40), Err(BudgetExceeded(SECOND * 3560)), "the account's");
        assert_eq!(take("L", 3600), Ok(()), "a refused deletion does not count for the key");
        assert_eq!(usage.take("M", "b", budgets, || SECOND * 40).map(drop), Ok(()), "another account");
    }

    #[test]
    fn the_wait_ends_when_both_key_and_account_allow_a_deletion() {
        let (usage, budgets) = (BudgetUsage::default(), budgets("1/minute", "1/hour"));
        usage.take("K", "a", budgets, || SECOND).unwrap();
        let both = Err(BudgetExceeded(SECOND * 3591));
        assert_eq!(usage.judge("K", "a", budgets, SECOND * 10), both);
        assert_eq!(usage.take("K", "a", budgets, || SECOND * 10).map(drop), both);
    }

    #[test]
    fn changing_or_removing_a_budget_for_a_while_gives_nothing_back() {
        let usage = BudgetUsage::default();
        let (five, one, none) = (budgets("5/hour", "5/hour"), budgets("1/minute", "1/minute"), Budgets::default());
        let take = |budgets, at| usage.take("K", "a", budgets, || SECOND * at).is_ok();
        assert!((0..3).all(|at| take(five, at)));
        assert!(take(one, 70), "a smaller one, for a while");
        usage.forget(SECOND * 200);
        assert!(take(none, 300), "and none at all, for a while");
        usage.forget(SECOND * 400);
        assert!(!take(five, 500), "five within the hour");
        assert!(take(five, 3600), "an hour after the first");
    }

    #[test]
    fn returned_and_old_deletions_no_longer_count() {
        let (usage, budgets) = (BudgetUsage::default(), budgets("2/minute", "2/minute"));
        let (now, minute) = (SECOND * 10, SECOND * 60);
        let mut record = usage.widen(budgets, now).unwrap();
        record.found("K", "a", minute + SECOND);
        record.found("K", "a", SECOND * 59);
        record.finish();
        let taken = usage.take("K", "a", budgets, || now).unwrap();
        assert_eq!(
            usage.judge("K", "a", budgets, now),
            Err(BudgetExceeded(SECOND)),
            "deletions from before the machine started"
        );
        usage.give_back("K", "a", &taken);
        assert_eq!(usage.judge("K", "a", budgets, now), Ok(()));
        usage.forget(now + minute);
        assert!(usage.keys.iter().chain(&usage.accounts).all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn the_record_is_counted_again_for_a_larger_limit_or_a_longer_span_only() {
        let (usage, now) = (BudgetUsage::default(), SECOND * 1000);
        let is_counted = |text: &str| match usage.widen(budgets(text, ""), now) {
            Some(recount) => {
                recount.finish();
                false
            }
            None => true,
        };
        for (text, counted) in [
            ("5/minute", false),
            ("5/minute", true),
            ("4/second", true),
            ("6/minute", false),
            ("5/hour", false),
            ("6/hour", true),
        ] {
            assert_eq!(is_counted(text), counted, "{text}");
        }
    }

    #[test]
    fn deletions_in_memory_are_not_counted_from_the_record_again_unless_they_are_too_old() {
        let usage = BudgetUsage::default();
        let (five, six) = (budgets("5/hour", ""), budgets("6/hour", ""));
        usage.widen(five, Duration::ZERO).unwrap().finish();
        for at in [0, 4000] {
            assert!(usage.take("K", "a", five, || SECOND * at).is_ok());
        }
        let now = SECOND * 4000;
        let mut recount = usage.widen(six, now).unwrap();
        recount.found("K", "a", SECOND * 3000);
        recount.found("K", "a", Duration::ZERO);
        recount.finish();
        let more = (0..10).take_while(|_| usage.take("K", "a", six, || now).is_ok()).count();
        assert_eq!(more, 4, "one of 3000 seconds ago, and the one in memory");
    }

    #[test]
    fn concurrent_deletions_never_exceed_the_budget() {
        let (usage, budgets) = (BudgetUsage::default(), budgets("1000/hour", "100/hour"));
        let passed = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|threads| {
            for key in ["K", "L", "M", "N"] {
                let (usage, passed) = (&usage, &passed);
                threads.spawn(move || {
                    for n in 0..1000 {
                        if usage.take(key, "a", budgets, || Duration::from_nanos(n)).is_ok() {
                            passed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 100);
    }
}
