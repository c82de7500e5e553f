//! The window and the floor: which dates are admitted (contract §3).

use std::time::{Duration, SystemTime};

/// How far a date may lie in the past and in the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How old a date may be.
    pub past: Duration,
    /// How far ahead a date may be.
    pub future: Duration,
}

/// The date at or below which nothing is ever admitted. It only rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Floor(pub SystemTime);

/// Why a date is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfWindow {
    /// Older than the window.
    Past,
    /// Further in the future than the window.
    Future,
    /// In the window, but at or below the floor.
    BelowFloor,
}

impl Default for Window {
    /// Fifteen minutes each way, as the scheme publishes.
    fn default() -> Self {
        Self { past: Self::PAST, future: Self::FUTURE }
    }
}

impl Window {
    /// Default of [`Window::past`].
    pub const PAST: Duration = Duration::from_secs(15 * 60);
    /// Default of [`Window::future`].
    pub const FUTURE: Duration = Duration::from_secs(15 * 60);

    /// `max(now - past, floor) < date < now + future`, to the nanosecond (contract §3).
    ///
    /// # Errors
    /// Which bound the date misses. A date that misses the window and the floor is reported as out of the window.
    pub fn judge(&self, date: SystemTime, now: SystemTime, floor: Floor) -> Result<(), OutOfWindow> {
        // A bound that cannot be represented lies beyond every date that can.
        if now.checked_sub(self.past).is_some_and(|oldest| date <= oldest) {
            return Err(OutOfWindow::Past);
        }
        if now.checked_add(self.future).is_some_and(|newest| date >= newest) {
            return Err(OutOfWindow::Future);
        }
        if date <= floor.0 { Err(OutOfWindow::BelowFloor) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::OutOfWindow::{BelowFloor, Future, Past};
    use super::*;

    #[test]
    fn the_window_is_open_at_both_ends_to_the_nanosecond() {
        let (second, tick) = (Duration::from_secs(1), Duration::from_nanos(1));
        let window = Window { past: 5 * second, future: 3 * second };
        let now = UNIX_EPOCH + 1000 * second;
        let (oldest, newest) = (now - window.past, now + window.future);
        let below = UNIX_EPOCH;
        for (name, date, floor, verdict) in [
            ("at the old end", oldest, below, Err(Past)),
            ("just within the old end", oldest + tick, below, Ok(())),
            ("now", now, below, Ok(())),
            ("just within the new end", newest - tick, below, Ok(())),
            ("at the new end", newest, below, Err(Future)),
            ("at the floor", now, now, Err(BelowFloor)),
            ("just above the floor", now + tick, now, Ok(())),
            ("below the floor", oldest + tick, now, Err(BelowFloor)),
            ("past, and below the floor", oldest, now, Err(Past)),
            ("ahead, and below the floor", newest, newest, Err(Future)),
            ("a floor at the new end", newest - tick, newest, Err(BelowFloor)),
            ("a floor at the old end", oldest + tick, oldest, Ok(())),
        ] {
            assert_eq!(window.judge(date, now, Floor(floor)), verdict, "{name}");
        }
    }

    #[test]
    fn a_bound_that_cannot_be_represented_excludes_nothing() {
        let window = Window { past: Duration::MAX, future: Duration::MAX };
        assert_eq!(window.judge(UNIX_EPOCH, UNIX_EPOCH, Floor(UNIX_EPOCH - Duration::from_secs(1))), Ok(()));
    }
}
