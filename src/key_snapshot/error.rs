//! Why a snapshot is not used, or cannot be written. No text has a path: `/ready` shows it.

use std::io;
use std::time::{Duration, SystemTime};

use crate::clock::rfc3339;
use crate::seal::{OpenError, SealError};

/// Why a snapshot is not used, or cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// There is none.
    #[error("there is none")]
    None,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[source] io::Error),
    /// It is not a file, or too large.
    #[error("it is not a file, or is larger than any snapshot")]
    NotAFile,
    /// It is not what this build writes.
    #[error("it is damaged, or was written by another build")]
    Damaged,
    /// It does not open.
    #[error("it {0}")]
    Sealed(#[from] OpenError),
    /// It is of another database, or of another query.
    #[error("it is of another database, user or query than [directory.postgres] names")]
    Foreign,
    /// It is an older copy, or the number beside the record is one.
    #[error("it is number {number}, and the record's folder says {counted}: one of them is an older copy, or lost")]
    OlderCopy {
        /// Its number.
        number: u64,
        /// The number beside the record.
        counted: u64,
    },
    /// The number beside the record cannot be read or written.
    #[error("its number in the record's folder: {0}")]
    Count(#[source] io::Error),
    /// It is from the future.
    #[error("it says that the database confirmed it at {at}, which is in the future: a clock was set", at = rfc3339(*.0))]
    Future(SystemTime),
    /// It is too old.
    #[error("the database last confirmed it {} s ago, which is more than max_stale", .0.as_secs())]
    TooOld(Duration),
    /// It cannot be sealed.
    #[error("it cannot be written: {0}")]
    Seal(#[from] SealError),
    /// It cannot be written.
    #[error("it cannot be written: {0}")]
    Write(#[source] io::Error),
}
