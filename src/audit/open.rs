//! Where the record is (contract §9, `[audit]`), and how a process opens it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::{Record, RecordOpenError, RecordSettings, abandoned};
use crate::clock::Clock;

/// Whether a record is kept.
#[derive(Clone, Debug)]
pub enum Audit {
    /// A record is kept.
    Record {
        /// Its directory.
        path: PathBuf,
        /// How it is kept.
        settings: RecordSettings,
    },
    /// No record is kept: `danger_no_record`.
    DangerNoRecord,
}

impl Audit {
    /// The directory of the record.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Record { path, .. } => Some(path),
            Self::DangerNoRecord => None,
        }
    }

    /// How the record is kept; the defaults if there is none.
    pub(crate) fn settings(&self) -> RecordSettings {
        match self {
            Self::Record { settings, .. } => *settings,
            Self::DangerNoRecord => RecordSettings::default(),
        }
    }

    /// How long files are kept; forever if `None`, and without a record.
    pub(crate) fn retain(&self) -> Option<Duration> {
        self.settings().retain
    }

    /// Opens the record. In the background it also logs a warning if an earlier process left deletions without an
    /// outcome. `on_sync` gets the duration of each sync.
    ///
    /// # Errors
    /// If the directory or the file cannot be created or written.
    pub(crate) fn open(
        &self,
        clock: Clock,
        on_sync: impl Fn(Duration) + Send + 'static,
    ) -> Result<Record, RecordOpenError> {
        match self {
            Self::Record { path, settings } => Record::open_in(path, *settings, clock, on_sync)
                .inspect(|record| watch_abandoned(path.clone(), record, LOOK_AGAIN)),
            Self::DangerNoRecord => {
                tracing::warn!("audit.danger_no_record: deletions leave no record");
                Ok(Record::none(clock))
            }
        }
    }
}

/// How often the record is searched again while earlier processes' intents have no outcome: `audit reconcile` adds it.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// Counts the deletions that earlier processes left without an outcome, from a background thread, and logs a warning if
/// there are any. Looks again until there are none.
fn watch_abandoned(directory: PathBuf, record: &Record, again: Duration) {
    let Some(state) = record.writer.as_ref().map(|writer| Arc::downgrade(writer.state())) else { return };
    let watch = move || {
        let mut warned = false;
        loop {
            let left = match abandoned(&directory) {
                Ok((count, complete)) => {
                    if count > 0 && !warned {
                        tracing::warn!(
                            count,
                            complete,
                            "deletions whose outcome is unknown: an earlier process ended between intent and outcome; \
                             `saltgate audit show --unknown` lists them, `saltgate audit reconcile` asks the upstream"
                        );
                        warned = true;
                    }
                    count
                }
                Err(error) => {
                    return tracing::warn!(%error, "cannot check whether earlier deletions have an outcome");
                }
            };
            match state.upgrade() {
                Some(state) => state.abandoned.store(left, Ordering::Relaxed),
                None => return,
            }
            if left == 0 {
                return;
            }
            thread::sleep(again);
        }
    };
    if let Err(error) = thread::Builder::new().name("record-look".into()).spawn(watch) {
        tracing::warn!(%error, "cannot start the check whether earlier deletions have an outcome");
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::entry;
    use super::super::unknown;
    use super::*;

    fn waited_for(what: &str, mut is_so: impl FnMut() -> bool) {
        let clock = Clock::system();
        let started = clock.elapsed();
        while !is_so() {
            assert!(clock.elapsed() - started < Duration::from_secs(20), "waited in vain: {what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[tokio::test]
    async fn what_an_earlier_process_left_is_open_until_it_is_reconciled() {
        let (alive, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = |directory: &Path, writer| {
            let settings = RecordSettings { writer, ..RecordSettings::default() };
            Record::open_in(directory, settings, Clock::system(), drop).unwrap()
        };
        let earlier = open(alive.path(), "serve");
        let intent = earlier.open(entry("1")).await.unwrap();
        assert_eq!(earlier.open_outcomes(), Some(1));
        // A copy has no process that lives.
        for file in std::fs::read_dir(alive.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
        drop(intent);
        waited_for("its outcome is written", || earlier.open_outcomes() == Some(0));

        let later = open(dir.path(), "serve");
        watch_abandoned(dir.path().into(), &later, Duration::from_millis(5));
        waited_for("the intent is found", || later.open_outcomes() == Some(1));
        let mut unread = Default::default();
        let left = unknown(dir.path(), &mut unread).unwrap();
        open(dir.path(), "reconcile").reconciled(&left[0], "deleted").await.unwrap();
        waited_for("it is reconciled", || later.open_outcomes() == Some(0));
    }
}
