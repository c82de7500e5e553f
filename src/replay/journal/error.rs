use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::segment::{Fault, VERSION};

/// Why a journal does not open: which file, what is wrong with it, and what to do.
#[derive(Debug)]
pub enum JournalError {
    /// The file system failed.
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What could not be done.
        doing: &'static str,
        /// Why.
        error: io::Error,
    },
    /// Another process has it.
    Locked(PathBuf),
    /// Written by a later version of Saltgate.
    Newer(PathBuf, u32),
    /// It is damaged, and not only at its very end.
    Damaged(PathBuf, String),
}

impl JournalError {
    pub(super) fn io(path: &Path, doing: &'static str, error: io::Error) -> Self {
        Self::Io { path: path.into(), doing, error }
    }

    pub(super) fn fault(file: PathBuf, fault: Fault) -> Self {
        match fault {
            Fault::Newer(version) => Self::Newer(file, version),
            Fault::Damaged(what) => Self::Damaged(file, what),
        }
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, doing, error } => write!(f, "replay.journal {}: {doing}: {error}", path.display()),
            Self::Locked(path) => write!(
                f,
                "replay.journal {}: another process is using it; stop that one, or give each its own journal and keys \
                 of its own (gateways that share keys must share one store)",
                path.display()
            ),
            Self::Newer(file, version) => write!(
                f,
                "replay.journal {}: is of format {version}, and this build reads up to {VERSION}; start the newer \
                 version of saltgate again",
                file.display()
            ),
            Self::Damaged(file, what) => write!(
                f,
                "replay.journal {}: {what}; salts that were spent may be missing. Restore nothing from a backup: start \
                 once with --discard-replay-journal, which moves the journal aside and admits nothing signed before \
                 the start plus window_future",
                file.display()
            ),
        }
    }
}

impl std::error::Error for JournalError {}
