//! A token bucket, as one atomic number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::policy::Budget;

/// A token bucket (GCRA): the time in nanoseconds at which it would be full again.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

/// The size of a bucket, and how fast it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds in which an empty bucket fills.
    per: u64,
    /// Nanoseconds in which one token is added.
    each: u64,
}

impl From<Budget> for Rate {
    fn from(budget: Budget) -> Self {
        let per = nanos(budget.span);
        Self { per, each: (per / u64::from(budget.limit.get())).max(1) }
    }
}

impl Bucket {
    /// Takes a token.
    ///
    /// # Errors
    /// If there is none: how long until there is.
    pub fn take(&self, rate: Rate, now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let full_at = full_at.max(now) + rate.each;
            (full_at - now <= rate.per).then_some(full_at)
        });
        taken.map(drop).map_err(|full_at| rate.wait(full_at, now))
    }

    /// Whether there is a token.
    ///
    /// # Errors
    /// If there is none: how long until there is.
    pub fn has_one(&self, rate: Rate, now: Duration) -> Result<(), Duration> {
        let (full_at, now) = (self.0.load(Ordering::Relaxed), nanos(now));
        if full_at.max(now) + rate.each - now <= rate.per { Ok(()) } else { Err(rate.wait(full_at, now)) }
    }

    /// Takes a token even if there is none. The debt lengthens the wait for the next one.
    pub fn owe(&self, rate: Rate, now: Duration) {
        let now = nanos(now);
        let more = |full_at: u64| Some(full_at.max(now).saturating_add(rate.each));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

impl Rate {
    #[cold]
    fn wait(self, full_at: u64, now: u64) -> Duration {
        Duration::from_nanos(full_at.saturating_add(self.each).saturating_sub(now + self.per))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debt_of_tokens_lengthens_the_wait() {
        let rate = Rate::from(Budget::parse("3/minute").unwrap());
        let (bucket, second) = (Bucket::default(), |n: u64| Duration::from_secs(1000 + n));
        (0..3).for_each(|_| {
            assert_eq!(bucket.has_one(rate, second(0)), Ok(()));
            bucket.owe(rate, second(0));
        });
        assert_eq!(bucket.has_one(rate, second(0)), Err(Duration::from_secs(20)));
        // As many again, from requests that were under way.
        (0..3).for_each(|_| bucket.owe(rate, second(0)));
        assert_eq!(bucket.has_one(rate, second(0)), Err(Duration::from_secs(80)));
        assert_eq!(bucket.has_one(rate, second(79)), Err(Duration::from_secs(1)));
        assert_eq!(bucket.has_one(rate, second(80)), Ok(()));
        assert_eq!(bucket.take(rate, second(80)), Ok(()));
        assert!(bucket.has_one(rate, second(80)).is_err());
        assert_eq!(bucket.has_one(rate, second(10_000)), Ok(()), "it fills, and no further");
    }
}
