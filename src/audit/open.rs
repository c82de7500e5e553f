//! Where the record is (contract §9, `[audit]`), and how a process opens it.

use std::path::{Path, PathBuf};
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
            Self::Record { path, settings } => {
                Record::open_in(path, *settings, clock, on_sync).inspect(|_| report_abandoned(path.clone()))
            }
            Self::DangerNoRecord => {
                tracing::warn!("audit.danger_no_record: deletions leave no record");
                Ok(Record::none(clock))
            }
        }
    }
}

/// Logs a warning if earlier processes left deletions without an outcome, from a background thread.
fn report_abandoned(directory: PathBuf) {
    let look = move || match abandoned(&directory) {
        Ok((0, _)) => {}
        Ok((count, complete)) => tracing::warn!(
            count,
            complete,
            "deletions whose outcome is unknown: an earlier process ended between intent and outcome; \
             `saltgate audit show --unknown` lists them, `saltgate audit reconcile` asks the upstream"
        ),
        Err(error) => tracing::warn!(%error, "cannot check whether earlier deletions have an outcome"),
    };
    if let Err(error) = std::thread::Builder::new().name("record-look".into()).spawn(look) {
        tracing::warn!(%error, "cannot start the check whether earlier deletions have an outcome");
    }
}
