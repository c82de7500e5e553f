//! Limits how often one client may fail its signature (contract §6).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use super::bucket::{Bucket, Rate};
use crate::net::Subscriber;
use crate::policy::Budget;

/// The most buckets kept. An attacker with more addresses gets fresh buckets, which forgets failures but never a
/// spent salt.
const BUCKETS: u64 = 16_384;

/// Failed signatures: a token bucket for each [`Subscriber`].
#[derive(Clone)]
pub struct FailedSignatures {
    buckets: Cache<Subscriber, Arc<Bucket>>,
    rate: Rate,
}

impl FailedSignatures {
    /// Each subscriber may fail at this rate, with bursts up to the whole budget.
    pub fn new(rate: Budget) -> Self {
        // A bucket idle this long is full again.
        let buckets = Cache::builder().max_capacity(BUCKETS).time_to_idle(rate.span).build();
        Self { buckets, rate: rate.into() }
    }

    /// A signature from `address` failed. `now` is elapsed time.
    ///
    /// # Errors
    /// If there were too many failures: how long until the next one is allowed.
    pub fn failed(&self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        let bucket = self.buckets.get_with(Subscriber::of(address), Arc::default);
        bucket.take(self.rate, now)
    }

    /// How many subscribers are remembered.
    pub fn remembered(&self) -> u64 {
        self.buckets.run_pending_tasks();
        self.buckets.entry_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate() -> Budget {
        Budget::parse("3/minute").unwrap()
    }

    fn second(n: u64) -> Duration {
        Duration::from_secs(1000 + n)
    }

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let failures = FailedSignatures::new(rate());
        let address = "192.0.2.1".parse().unwrap();
        for _ in 0..3 {
            assert_eq!(failures.failed(address, second(0)), Ok(()));
        }
        assert_eq!(failures.failed(address, second(0)), Err(Duration::from_secs(20)));
        assert_eq!(failures.failed(address, second(5)), Err(Duration::from_secs(15)));
        assert_eq!(failures.failed(address, second(20)), Ok(()), "waiting as long as told is long enough");
        assert!(failures.failed(address, second(20)).is_err());
        assert_eq!(failures.failed("192.0.2.2".parse().unwrap(), second(20)), Ok(()), "another address");
    }

    #[test]
    fn memory_is_bounded_whatever_the_number_of_addresses() {
        let failures = FailedSignatures::new(rate());
        for address in 0..4 * u32::try_from(BUCKETS).unwrap() {
            assert_eq!(failures.failed(IpAddr::V4(address.into()), second(0)), Ok(()));
        }
        assert!(failures.remembered() <= BUCKETS, "{}", failures.remembered());
    }
}
