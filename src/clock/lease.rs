//! A right that ends unless it is renewed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Clock;

/// See the module. It is measured by elapsed time, so it also ends while the machine is suspended or the process stopped.
#[derive(Debug)]
pub struct Lease {
    clock: Clock,
    length: Duration,
    /// The elapsed time at which it ends, in nanoseconds.
    until: AtomicU64,
}

impl Lease {
    /// One that has ended.
    pub(crate) fn new(clock: Clock, length: Duration) -> Self {
        Self { clock, length, until: AtomicU64::new(0) }
    }

    /// Renews it from this elapsed time on. It never ends earlier than before.
    pub(crate) fn renew(&self, from: Duration) {
        let until = u64::try_from((from + self.length).as_nanos()).unwrap_or(0);
        self.until.fetch_max(until, Ordering::AcqRel);
    }

    /// Whether it has not ended.
    pub(crate) fn holds(&self) -> bool {
        self.clock.elapsed().as_nanos() < u128::from(self.until.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_lease_ends_by_elapsed_time_whatever_the_wall_clock_says() {
        let (clock, hands) = Clock::manual(UNIX_EPOCH);
        let lease = Lease::new(clock.clone(), Duration::from_secs(1));
        assert!(!lease.holds(), "nobody has renewed it");
        let asked = clock.elapsed();
        hands.advance(Duration::from_millis(600));
        lease.renew(asked);
        assert!(lease.holds());
        hands.set_wall(UNIX_EPOCH);
        hands.advance(Duration::from_millis(399));
        assert!(lease.holds());
        hands.advance(Duration::from_millis(1));
        assert!(!lease.holds(), "it counts from the question, not from the answer");
    }
}
