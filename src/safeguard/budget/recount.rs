//! A larger budget than any before, as at a start: the deletions within it that are on record and not in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::{BudgetUsage, Budgets, Log, Logs, Widest, keep_last, log, nanos};

/// Counts the record again, for budgets that are larger than any before. It may count a concurrent deletion twice, but
/// never misses one.
pub struct Recount<'t> {
    usage: &'t BudgetUsage,
    now: i64,
    keys: HashMap<Box<str>, Found>,
    accounts: HashMap<Box<str>, Found>,
}

#[derive(Default)]
struct Found {
    /// How many were known of, all of them on record by the time it is read.
    known: usize,
    /// When the deletions on record were made.
    recorded: Vec<i64>,
}

impl BudgetUsage {
    /// Keeps enough deletions for these budgets from now on. If they are larger than any before, as at a start, the
    /// caller must finish the returned recount before it judges by them.
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
                    all.insert(name.clone(), Found { known, recorded: Vec::new() });
                }
            }
            all
        };
        let (keys, accounts) = (known(&self.keys, &self.widest_key), known(&self.accounts, &self.widest_account));
        Some(Recount { usage: self, now, keys, accounts })
    }
}

impl Recount<'_> {
    /// Waits until all that was taken before is on record; only then may it be read. Blocks for `within` at most, and
    /// returns whether it is.
    pub fn all_written(&self, within: Duration) -> bool {
        let (writing, next) = channel();
        let written = {
            let mut all_written = self.usage.all_written.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.usage.writing.swap(Arc::new(writing)));
            std::mem::replace(&mut *all_written, next)
        };
        written.recv_timeout(within) == Err(RecvTimeoutError::Disconnected)
    }

    /// How far back the record must be read.
    pub fn span(&self) -> Duration {
        self.usage.widest_key.span().max(self.usage.widest_account.span())
    }

    /// Adds one deletion from the record, made `ago`.
    pub fn found(&mut self, key: &str, account: &str, ago: Duration) {
        let at = self.now.saturating_sub(nanos(ago));
        let BudgetUsage { widest_key, widest_account, .. } = self.usage;
        for (all, name, widest) in [(&mut self.keys, key, widest_key), (&mut self.accounts, account, widest_account)] {
            if widest.limit() > 0 && ago <= widest.span() {
                all.entry(name.into()).or_default().recorded.push(at);
            }
        }
    }

    /// Counts the deletions that are missing in memory. These are the oldest: memory is complete from some time on.
    pub fn finish(self) {
        let usage = self.usage;
        for (all, logs, widest) in
            [(self.keys, &usage.keys, &usage.widest_key), (self.accounts, &usage.accounts, &usage.widest_account)]
        {
            widest.counted.store(true, Ordering::Relaxed);
            for (name, Found { known, mut recorded }) in all {
                recorded.sort_unstable();
                let missing = recorded.len().saturating_sub(known);
                if missing > 0 {
                    let mut logs = usage.locked(logs, &name);
                    let log = log(&mut logs, &name);
                    recorded[..missing].iter().for_each(|at| recall(log, widest, *at));
                }
            }
        }
    }
}

/// Inserts a time from the record in order: files are not read in the order of time.
fn recall(log: &mut Log, widest: &Widest, at: i64) {
    let place = log.iter().rposition(|taken| *taken <= at).map_or(0, |before| before + 1);
    log.insert(place, at);
    keep_last(log, widest);
}

#[cfg(test)]
mod tests {
    use super::super::BudgetExceeded;
    use super::super::tests::{SECOND, budgets};
    use super::*;

    #[test]
    fn a_larger_budget_counts_the_recorded_deletions_once() {
        let usage = BudgetUsage::default();
        let (narrow, wide) = (budgets("2/minute", ""), budgets("4/hour", "4/hour"));
        let take = |budgets, at| usage.take("K", "a", budgets, || SECOND * at);
        usage.widen(narrow, SECOND).unwrap().finish();
        assert!(take(narrow, 0).is_ok() && take(narrow, 100).is_ok() && take(narrow, 200).is_ok());
        assert!(usage.widen(narrow, SECOND * 210).is_none(), "nothing is wider");
        drop(usage.widen(wide, SECOND * 210));
        let mut recount = usage.widen(wide, SECOND * 210).expect("the first one was not finished");
        let writing = take(narrow, 220).unwrap();
        assert!(!recount.all_written(Duration::from_millis(2)), "one is not on record yet");
        drop(writing);
        assert!(recount.all_written(Duration::ZERO));
        // The record tells of all of them but the last, which is known of anyway.
        for ago in [110, 10, 210, 4000] {
            recount.found("K", "a", SECOND * ago);
        }
        recount.finish();
        assert_eq!(take(wide, 300).map(drop), Err(BudgetExceeded(SECOND * 3300)), "four within the hour");
        assert!(take(wide, 3600).is_ok(), "one has left it");
        assert_eq!(
            usage.judge("L", "a", wide, SECOND * 3600),
            Err(BudgetExceeded(SECOND * 100)),
            "the account's as well"
        );
    }
}
