//! Until when the keys in force may be used, and what is wrong with their source.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is known of the source of the keys in force. Generations with keys of one source share it.
///
/// Times are those of the elapsed clock.
#[derive(Debug)]
pub struct KeyState {
    /// When the source was first asked.
    since: Duration,
    /// `max_stale` after the source last said that these are its keys, in nanoseconds; 0 if it never did. Keys of a snapshot may
    /// have been confirmed before the time that the clock begins with.
    usable_until: AtomicU64,
    /// For how long a confirmation holds; `None`: until others are read.
    max_stale: Option<Duration>,
    troubles: Mutex<Troubles>,
    /// How many entries are disabled because they are at fault.
    at_fault: AtomicUsize,
}

#[derive(Debug, Default)]
struct Troubles {
    /// Why the last attempt to ask the source failed.
    source: Option<String>,
    /// The snapshot that the keys in force are from, if they are from one.
    from_snapshot: Option<String>,
    /// Why there is no snapshot that a start could use, or why this start did not use it.
    snapshot: Option<String>,
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
        Self { usable_until: nanoseconds(read).into(), ..Self::new(read, None) }
    }

    /// Keys of a database, which has not been asked yet and must confirm them again within `max_stale`.
    pub fn of_database(since: Duration, max_stale: Duration) -> Self {
        Self::new(since, Some(max_stale))
    }

    fn new(since: Duration, max_stale: Option<Duration>) -> Self {
        Self { since, usable_until: 0.into(), max_stale, troubles: Mutex::default(), at_fault: 0.into() }
    }

    /// The source confirmed the keys in force when it was asked at this time. Returns whether it could not be asked before.
    pub fn confirm(&self, asked: Duration) -> bool {
        self.holds_from(asked, Duration::ZERO);
        let mut troubles = self.troubles();
        troubles.from_snapshot = None;
        troubles.source.take().is_some()
    }

    /// The keys in force are those of a snapshot, which the source confirmed `age` before `now`. `name` tells the snapshot.
    #[cfg(feature = "postgres")]
    pub(crate) fn taken_from_snapshot(&self, now: Duration, age: Duration, name: String) {
        self.holds_from(now, age);
        self.troubles().from_snapshot = Some(name);
    }

    fn holds_from(&self, now: Duration, age: Duration) {
        let until = now.saturating_add(self.max_stale.unwrap_or_default()).saturating_sub(age);
        self.usable_until.store(nanoseconds(until), Ordering::Release);
    }

    /// The source could not be asked. Returns whether that is news.
    pub fn failed(&self, why: String) -> bool {
        let mut troubles = self.troubles();
        let is_news = troubles.source.as_ref() != Some(&why);
        troubles.source = Some(why);
        is_news
    }

    /// Why there is no snapshot that a start could use, if there is none. Returns whether that is news.
    #[cfg(feature = "postgres")]
    pub(crate) fn set_snapshot_trouble(&self, why: Option<String>) -> bool {
        let mut troubles = self.troubles();
        let is_news = troubles.snapshot != why;
        troubles.snapshot = why;
        is_news
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many entries of the source are disabled.
    pub fn set_at_fault(&self, count: usize) {
        self.at_fault.store(count, Ordering::Relaxed);
    }

    /// Whether the source has ever confirmed keys, itself or by a snapshot.
    pub(crate) fn has_keys(&self) -> bool {
        self.usable_until.load(Ordering::Acquire) != 0
    }

    /// Whether requests may be judged by these keys. Every request asks this when it arrives and before its salt is spent.
    /// Reads the time only if they can become too old.
    pub fn is_usable(&self, now: impl FnOnce() -> Duration) -> bool {
        match self.max_stale {
            None => true,
            Some(_) => {
                let until = self.usable_until.load(Ordering::Acquire);
                until != 0 && nanoseconds(now()) <= until
            }
        }
    }

    /// How long ago the source confirmed these keys, or was first asked.
    pub fn age(&self, now: Duration) -> Duration {
        match self.usable_until.load(Ordering::Acquire) {
            0 => now.saturating_sub(self.since),
            until => now.saturating_add(self.max_stale.unwrap_or_default()).saturating_sub(Duration::from_nanos(until)),
        }
    }

    /// What is wrong, if anything is.
    pub fn health(&self, now: Duration) -> KeyHealth {
        let Troubles { source, from_snapshot, snapshot } = &*self.troubles();
        let why = source.as_deref().unwrap_or("its answer is awaited");
        if !self.is_usable(|| now) {
            let unused = snapshot.as_ref().map(|why| format!("; its snapshot is not used: {why}")).unwrap_or_default();
            return KeyHealth::Gone(match self.has_keys() {
                true => format!("its keys are older than max_stale, so nobody is let through: {why}"),
                false => format!("its keys have not been read yet: {why}{unused}"),
            });
        }
        let mut all = Vec::new();
        match (from_snapshot, source) {
            (Some(name), _) => all.push(format!("its keys are those of {name}: {why}")),
            (None, Some(why)) => all.push(format!("its keys may be outdated: {why}")),
            (None, None) => {}
        }
        all.extend(snapshot.as_ref().filter(|_| from_snapshot.is_none()).map(|why| {
            format!("a start without the database would find no keys, because its snapshot is not kept: {why}")
        }));
        match self.at_fault.load(Ordering::Relaxed) {
            0 => {}
            count if all.is_empty() => {
                all.push(format!("{count} of its entries are at fault and disabled; the log names them"));
            }
            _ => {}
        }
        if all.is_empty() { KeyHealth::Ok } else { KeyHealth::Degraded(all.join("; ")) }
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
        assert!(!state.has_keys());
        assert!(!state.confirm(2 * SECOND));
        assert!(state.has_keys());
        assert!(state.is_usable(|| 12 * SECOND) && !state.is_usable(|| 12 * SECOND + Duration::from_nanos(1)));
        assert!(state.failed("away".into()) && !state.failed("away".into()), "the same again is no news");
        assert!(matches!(state.health(12 * SECOND), KeyHealth::Degraded(why) if why.contains("away")));
        assert!(matches!(state.health(13 * SECOND), KeyHealth::Gone(why) if why.contains("max_stale")));
        assert_eq!(state.age(13 * SECOND), 11 * SECOND);
        assert!(state.confirm(13 * SECOND));
        assert_eq!(state.health(13 * SECOND), KeyHealth::Ok);
        let file = KeyState::of_file(SECOND);
        assert!(file.is_usable(|| Duration::MAX));
        assert_eq!(file.age(3 * SECOND), 2 * SECOND);
    }

    #[test]
    fn keys_of_a_snapshot_hold_for_what_is_left_of_max_stale() {
        let state = KeyState::of_database(SECOND, 10 * SECOND);
        state.failed("away".into());
        // Confirmed before the machine was booted.
        state.taken_from_snapshot(2 * SECOND, 7 * SECOND, "the snapshot of noon".into());
        assert_eq!((state.age(2 * SECOND), state.age(4 * SECOND)), (7 * SECOND, 9 * SECOND));
        assert!(state.is_usable(|| 5 * SECOND) && !state.is_usable(|| 5 * SECOND + Duration::from_nanos(1)));
        let told = "its keys are those of the snapshot of noon: away";
        assert_eq!(state.health(5 * SECOND), KeyHealth::Degraded(told.into()));
        assert!(matches!(state.health(6 * SECOND), KeyHealth::Gone(why) if why.contains("max_stale")));
        assert!(state.confirm(6 * SECOND));
        assert_eq!(state.health(6 * SECOND), KeyHealth::Ok);
        assert!(
            state.set_snapshot_trouble(Some("no room".into())) && !state.set_snapshot_trouble(Some("no room".into()))
        );
        assert!(matches!(state.health(6 * SECOND), KeyHealth::Degraded(why) if why.contains("no room")));
    }

    #[test]
    fn entries_at_fault_are_told_if_nothing_worse_is_wrong() {
        let state = KeyState::of_database(SECOND, 10 * SECOND);
        state.confirm(SECOND);
        state.set_at_fault(2);
        assert!(matches!(state.health(SECOND), KeyHealth::Degraded(why) if why.starts_with("2 of its entries")));
        state.failed("away".into());
        let told = "its keys may be outdated: away";
        assert_eq!(state.health(SECOND), KeyHealth::Degraded(told.into()));
        state.confirm(SECOND);
        state.set_at_fault(0);
        assert_eq!(state.health(SECOND), KeyHealth::Ok);
    }
}
