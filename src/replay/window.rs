use std::time::{Duration, SystemTime};

/// How far a date may lie from now, each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How old a date may be.
    pub past: Duration,
    /// How far ahead a date may be.
    pub future: Duration,
}

/// The date at or below which nothing is ever admitted. Only rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Floor(pub SystemTime);

/// Why a date is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfWindow {
    /// Older than the window, by this much or more.
    Past,
    /// Further ahead than the window.
    Future,
    /// In the window, but at or below the floor.
    BelowFloor,
}

impl Default for Window {
    /// Fifteen minutes each way, as the scheme publishes.
    fn default() -> Self {
        Self { past: Duration::from_secs(15 * 60), future: Duration::from_secs(15 * 60) }
    }
}

impl Window {
    /// `max(now - past, floor) < date < now + future`, to the nanosecond (contract §3).
    ///
    /// # Errors
    /// Which side it fails on. A date outside the window is out of the window even if it is
    /// below the floor too.
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
