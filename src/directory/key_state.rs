//! Until when the keys in force may be used, and what is wrong with their source.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What is known of the source of the keys in force. Generations with keys of one source share it.
///
/// Times are those of the elapsed clock.
#[derive(Debug)]
pub struct KeyState {
    /// When the source was first asked.
    since: Duration,
    /// When the source last said that these are its keys, in nanoseconds; 0 if it never did.
    confirmed: AtomicU64,
    /// For how long that holds; `None`: until others are read.
    max_stale: Option<Duration>,
    /// Why the last attempt failed.
    trouble: Mutex<Option<String>>,
    /// How many entries are disabled because they are at fault.
    at_fault: AtomicUsize,
}

/// Whether the keys can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyHealth {
    /// They are what their source has.
    Ok,
    /// They are used, although something is wrong.
    Degraded(String),
    /// They are too old, or there are none yet: nobody is let through.
    Gone(String),
}

impl KeyState {
    /// Keys of a file, which hold until the file is read again.
    pub fn of_file(read: Duration) -> Self {
        Self { confirmed: nanoseconds(read).into(), ..Self::new(read, None) }
    }

    /// Keys of a database, which has not been asked yet and must confirm them again within `max_stale`.
    pub fn of_database(since: Duration, max_stale: Duration) -> Self {
        Self::new(since, Some(max_stale))
    }

    fn new(since: Duration, max_stale: Option<Duration>) -> Self {
        Self { since, confirmed: 0.into(), max_stale, trouble: Mutex::default(), at_fault: 0.into() }
    }

    /// The source confirmed the keys in force when it was asked at this time. Returns whether it could not be asked before.
    pub fn confirm(&self, asked: Duration) -> bool {
        self.confirmed.store(nanoseconds(asked), Ordering::Release);
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    /// The source could not be asked. Returns whether that is news.
    pub fn failed(&self, why: String) -> bool {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = trouble.as_ref() != Some(&why);
        *trouble = Some(why);
        is_news
    }

    /// So many entries of the source are disabled.
    pub fn set_at_fault(&self, count: usize) {
        self.at_fault.store(count, Ordering::Relaxed);
    }

    /// Whether requests may be judged by these keys. Every request asks this when it arrives and before its salt is spent.
    /// Reads the time only if they can become too old.
    pub fn is_usable(&self, now: impl FnOnce() -> Duration) -> bool {
        match self.max_stale {
            None => true,
            Some(max_stale) => {
                let confirmed = self.confirmed.load(Ordering::Acquire);
                confirmed != 0 && nanoseconds(now()).saturating_sub(confirmed) <= nanoseconds(max_stale)
            }
        }
    }

    /// How long ago the source confirmed these keys, or was first asked.
    pub fn age(&self, now: Duration) -> Duration {
        match self.confirmed.load(Ordering::Acquire) {
            0 => now.saturating_sub(self.since),
            confirmed => now.saturating_sub(Duration::from_nanos(confirmed)),
        }
    }

    /// What is wrong, if anything is.
    pub fn health(&self, now: Duration) -> KeyHealth {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let was_read = self.confirmed.load(Ordering::Acquire) != 0;
        let why = trouble.clone().unwrap_or_else(|| "its answer is awaited".into());
        if !self.is_usable(|| now) {
            return KeyHealth::Gone(match was_read {
                true => format!("its keys are older than max_stale, so nobody is let through: {why}"),
                false => format!("its keys have not been read yet: {why}"),
            });
        }
        match (trouble, self.at_fault.load(Ordering::Relaxed)) {
            (Some(why), _) => KeyHealth::Degraded(format!("its keys may be outdated: {why}")),
            (None, 0) => KeyHealth::Ok,
            (None, count) => {
                KeyHealth::Degraded(format!("{count} of its entries are at fault and disabled; the log names them"))
            }
        }
    }
}

/// Never 0, which stands for never.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn keys_of_a_database_hold_until_max_stale_and_those_of_a_file_for_ever() {
        let state = KeyState::of_database(SECOND, 10 * SECOND);
        assert!(!state.is_usable(|| SECOND) && matches!(state.health(SECOND), KeyHealth::Gone(_)));
        assert!(!state.confirm(2 * SECOND));
        assert!(state.is_usable(|| 12 * SECOND) && !state.is_usable(|| 12 * SECOND + Duration::from_nanos(1)));
        assert!(state.failed("away".into()) && !state.failed("away".into()), "the same again is no news");
        assert!(matches!(state.health(12 * SECOND), KeyHealth::Degraded(why) if why.contains("away")));
        assert!(matches!(state.health(13 * SECOND), KeyHealth::Gone(why) if why.contains("max_stale")));
        assert_eq!(state.age(13 * SECOND), 11 * SECOND);
        assert!(state.confirm(13 * SECOND));
        assert_eq!(state.health(13 * SECOND), KeyHealth::Ok);
        assert!(KeyState::of_file(SECOND).is_usable(|| Duration::MAX));
    }
}
