//! Reconciles deletions whose outcome is unknown (contract §8).
//!
//! 1. The caller passes a function that asks the upstream about a segment.
//! 2. If the segment is gone, it was deleted. If it still exists, it was not, unless the deletion may still be in
//!    progress.
//! 3. With any other answer the outcome stays unknown.

use std::fmt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use super::{NotRecorded, Record, RecordOpenError, RecordSettings};
use crate::clock::{self, Clock};

/// What the upstream says about the segment of an intent. `W` is why its answer is not usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SegmentState<W> {
    /// The segment does not exist.
    Gone,
    /// The segment exists.
    There,
    /// There is no usable answer.
    Unclear(W),
}

/// The outcome of an intent. Displayed as `saltgate audit reconcile` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reconciled<W> {
    /// The deletion happened.
    Deleted,
    /// The deletion did not happen.
    NotDeleted,
    /// The segment exists, but the service may still be deleting it.
    MayBeInProgress,
    /// The outcome stays unknown.
    Unclear(W),
}

/// Why reconciliation ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// No file can be created for the outcomes.
    #[error(transparent)]
    Open(#[from] RecordOpenError),
    /// An outcome could not be written.
    #[error("the record cannot be written")]
    NotRecorded,
}

impl<W> Reconciled<W> {
    fn of(found: SegmentState<W>, is_settled: bool) -> Self {
        match found {
            SegmentState::Gone => Self::Deleted,
            SegmentState::There if is_settled => Self::NotDeleted,
            SegmentState::There => Self::MayBeInProgress,
            SegmentState::Unclear(why) => Self::Unclear(why),
        }
    }

    /// The `outcome` to record, if it is known now.
    fn outcome(&self) -> Option<&'static str> {
        match self {
            Self::Deleted => Some("deleted"),
            Self::NotDeleted => Some("not_deleted"),
            Self::MayBeInProgress | Self::Unclear(_) => None,
        }
    }
}

impl<W: fmt::Display> fmt::Display for Reconciled<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deleted => f.write_str("deleted: the upstream no longer has the segment"),
            Self::NotDeleted => f.write_str("not deleted: the segment still exists"),
            Self::MayBeInProgress => f.write_str(
                "stays unknown: the segment still exists, but its deletion may be in progress: run the command again",
            ),
            Self::Unclear(why) => write!(f, "stays unknown: {why}"),
        }
    }
}

/// Asks about each of `intents`, and writes the outcomes to the record in `directory`. A deletion younger than
/// `timeout` may still be in progress. Calls `report` after each. Returns how many outcomes stay unknown.
///
/// # Errors
/// If the record cannot be written; the outcomes reported before are recorded.
pub(crate) async fn reconcile<W>(
    intents: &[Value],
    directory: &Path,
    settings: RecordSettings,
    clock: &Clock,
    timeout: Duration,
    ask: impl AsyncFn(&Value) -> SegmentState<W>,
    report: impl Fn(&Value, &Reconciled<W>),
) -> Result<usize, ReconcileError> {
    let settled = clock::rfc3339(clock.now().checked_sub(timeout).unwrap_or(UNIX_EPOCH));
    // Opened with the first outcome, so that a run that finds none leaves no file.
    let mut record = None;
    let mut left = 0;
    for intent in intents {
        let is_settled = intent["time"].as_str().is_some_and(|time| time <= settled.as_str());
        let became = Reconciled::of(ask(intent).await, is_settled);
        report(intent, &became);
        let Some(outcome) = became.outcome() else {
            left += 1;
            continue;
        };
        let record = match &mut record {
            Some(record) => record,
            None => record.insert(Record::open_in(directory, settings, clock.clone(), |_| {})?),
        };
        record.reconciled(intent, outcome).await.map_err(|NotRecorded| ReconcileError::NotRecorded)?;
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn only_unambiguous_answers_of_the_upstream_are_recorded() {
        let (clock, _) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_000_000));
        let time = |seconds| clock::rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        let intent = |id: &str, seconds| json!({ "request_id": id, "time": time(seconds), "segment": id });
        let intents = [
            intent("gone", 900_000),
            intent("there", 900_000),
            intent("there, and young", 999_995),
            intent("unclear", 900_000),
        ];
        let ask = async |intent: &Value| match intent["request_id"].as_str().unwrap() {
            "gone" => SegmentState::Gone,
            "unclear" => SegmentState::Unclear("nobody answers"),
            _ => SegmentState::There,
        };
        let directory = tempfile::tempdir().unwrap();
        let reported = std::cell::RefCell::new(Vec::new());
        let report = |_: &Value, became: &Reconciled<&'static str>| reported.borrow_mut().push(became.clone());
        let settings = RecordSettings::default();
        let timeout = Duration::from_secs(10);
        let left = reconcile(&intents, directory.path(), settings, &clock, timeout, ask, report).await;
        assert_eq!(left.unwrap(), 2);
        let expected = [
            Reconciled::Deleted,
            Reconciled::NotDeleted,
            Reconciled::MayBeInProgress,
            Reconciled::Unclear("nobody answers"),
        ];
        assert_eq!(reported.into_inner(), expected);
        assert!(written(directory.path()), "the answers are on record");

        let empty = tempfile::tempdir().unwrap();
        let left = reconcile(&intents[2..], empty.path(), settings, &clock, timeout, ask, |_, _| {}).await;
        assert_eq!(left.unwrap(), 2);
        assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0, "a run that learns nothing leaves no file");
    }

    fn written(directory: &Path) -> bool {
        let mut outcomes = Vec::new();
        for file in std::fs::read_dir(directory).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            outcomes.extend(lines.filter(|line| line["kind"] == "reconciled").map(|line| line["outcome"].clone()));
        }
        outcomes == ["deleted", "not_deleted"]
    }
}
