//! How many deletions a key and an account have had.
//!
//! 1. A budget of N bounds every span, wherever it begins: the times of the last N are kept, and
//!    one more may go once the oldest of them has left the span.
//! 2. One is taken of the key and of the account in one step, before the intent is written; of
//!    any number at once no more pass than are left.
//! 3. It is given back only if the intent could not be written. Whatever became of a deletion on
//!    record, it stays counted: a restart counts the intents on record, and must count no less.
//! 4. Time is elapsed time: setting the wall clock gives nothing back.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    /// The longest span of both.
    pub fn span(&self) -> Option<Duration> {
        [self.key, self.account].into_iter().flatten().map(|budget| budget.span).max()
    }
}

/// What a key or an account took, oldest first: nanoseconds on the elapsed clock, below zero for
/// what was before the machine started.
type Log = VecDeque<i64>;
type Logs = [Mutex<HashMap<Box<str>, Log>>; SHARDS];

/// What all keys and accounts took.
pub struct Takings {
    hasher: RandomState,
    keys: Logs,
    accounts: Logs,
}

/// Nothing is left; there will be after so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent(pub Duration);

/// One deletion that was counted: when, of the key and of the account.
#[derive(Debug)]
pub struct Taken {
    key: Option<i64>,
    account: Option<i64>,
}

impl Default for Takings {
    fn default() -> Self {
        Self {
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
        if let Some(budget) = budgets.key {
            left(self.locked(&self.keys, key).get(key), budget, now)?;
        }
        if let Some(budget) = budgets.account {
            left(self.locked(&self.accounts, account).get(account), budget, now)?;
        }
        Ok(())
    }

    /// Takes one of the key's budget and one of the account's, or none.
    ///
    /// # Errors
    /// How long until there is one again.
    pub fn take(&self, key: &str, account: &str, budgets: Budgets, now: Duration) -> Result<Taken, Spent> {
        let now = nanos(now);
        // Keys before accounts, here as everywhere: nobody waits in a circle.
        let mut keys = budgets.key.map(|budget| (self.locked(&self.keys, key), budget));
        if let Some((keys, budget)) = &keys {
            left(keys.get(key), *budget, now)?;
        }
        let account = match budgets.account {
            None => None,
            Some(budget) => {
                let mut accounts = self.locked(&self.accounts, account);
                left(accounts.get(account), budget, now)?;
                Some(add(&mut accounts, account, budget, now))
            }
        };
        let key = keys.as_mut().map(|(keys, budget)| add(keys, key, *budget, now));
        Ok(Taken { key, account })
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

    /// Counts what an earlier life put on record, so long ago; before anything is taken.
    pub fn recall(&self, key: &str, account: &str, budgets: Budgets, ago: Duration, now: Duration) {
        let at = nanos(now).saturating_sub(nanos(ago));
        if let Some(budget) = budgets.key {
            recall(log(&mut self.locked(&self.keys, key), key), budget, at);
        }
        if let Some(budget) = budgets.account {
            recall(log(&mut self.locked(&self.accounts, account), account), budget, at);
        }
    }

    /// Lets go of keys and accounts that took nothing in the longest span.
    pub fn forget(&self, budgets: Budgets, now: Duration) {
        let due = nanos(now).saturating_sub(nanos(budgets.span().unwrap_or_default()));
        for shard in self.keys.iter().chain(&self.accounts) {
            let mut logs = shard.lock().unwrap_or_else(PoisonError::into_inner);
            logs.retain(|_, log| log.back().is_some_and(|last| *last >= due));
        }
    }

    fn locked<'l>(&self, logs: &'l Logs, name: &str) -> MutexGuard<'l, HashMap<Box<str>, Log>> {
        let shard = self.hasher.hash_one(name) as usize % SHARDS;
        // A log is never half changed: one time more or less is one step.
        logs[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
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

fn add(logs: &mut HashMap<Box<str>, Log>, name: &str, budget: Budget, now: i64) -> i64 {
    let log = log(logs, name);
    // The clock was read before the lock was taken: another may have been later and first.
    let at = log.back().map_or(now, |last| now.max(*last));
    log.push_back(at);
    keep_last(log, budget);
    at
}

/// Files are read one after the other, and not in the order of time.
fn recall(log: &mut Log, budget: Budget, at: i64) {
    let place = log.iter().rposition(|taken| *taken <= at).map_or(0, |before| before + 1);
    log.insert(place, at);
    keep_last(log, budget);
}

fn keep_last(log: &mut Log, budget: Budget) {
    while log.len() > budget.limit.get() as usize {
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
    fn what_was_given_back_or_was_long_ago_counts_no_more() {
        let (takings, budgets) = (Takings::default(), budgets("2/minute", "2/minute"));
        let (now, minute) = (SECOND * 10, SECOND * 60);
        takings.recall("K", "a", budgets, minute + SECOND, now);
        takings.recall("K", "a", budgets, SECOND * 59, now);
        let taken = takings.take("K", "a", budgets, now).unwrap();
        assert_eq!(
            takings.judge("K", "a", budgets, now),
            Err(Spent(SECOND)),
            "what was before the start of the machine"
        );
        takings.give_back("K", "a", &taken);
        assert_eq!(takings.judge("K", "a", budgets, now), Ok(()));
        takings.forget(budgets, now + minute);
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
