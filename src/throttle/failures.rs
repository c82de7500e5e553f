use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;

use crate::policy::Budget;

/// Buckets at most. An attacker with more addresses than that gets some of his buckets anew, and
/// what is thrown away is never a spent salt: eviction does no harm here.
const BUCKETS: u64 = 16_384;

/// Failed signatures per client address: a token bucket each.
pub struct FailedSignatures {
    buckets: Cache<Client, Arc<Bucket>>,
    rate: Budget,
}

/// Who fails: an IPv4 address, or the /64 that one IPv6 customer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Client {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Client {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// The time, in nanoseconds, at which the bucket would be full again (GCRA).
#[derive(Default)]
struct Bucket(AtomicU64);

impl FailedSignatures {
    /// Each address may fail at this rate, and all of it at once.
    pub fn new(rate: Budget) -> Self {
        // A bucket that nobody asked for this long is full again.
        let buckets = Cache::builder().max_capacity(BUCKETS).time_to_idle(rate.span).build();
        Self { buckets, rate }
    }

    /// A signature from `address` failed. `now` is elapsed time.
    ///
    /// # Errors
    /// If there were too many of them: how long until another may fail.
    pub fn failed(&self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        let bucket = self.buckets.get_with(Client::of(address), Arc::default);
        bucket.take(self.rate, now)
    }

    /// How many addresses are remembered.
    pub fn remembered(&self) -> u64 {
        self.buckets.run_pending_tasks();
        self.buckets.entry_count()
    }
}

impl Bucket {
    fn take(&self, rate: Budget, now: Duration) -> Result<(), Duration> {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (now, per) = (nanos(now), nanos(rate.span));
        let each = (per / u64::from(rate.limit.get())).max(1);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let full_at = full_at.max(now) + each;
            (full_at - now <= per).then_some(full_at)
        });
        taken.map(drop).map_err(|full_at| Duration::from_nanos((full_at + each).saturating_sub(now + per)))
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
    fn one_client_is_one_client_however_its_address_is_written() {
        let rows = [
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("192.0.2.1", "192.0.2.2", false),
        ];
        for (one, other, same) in rows {
            let client = |text: &str| Client::of(text.parse().unwrap());
            assert_eq!(client(one) == client(other), same, "{one} and {other}");
        }
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
