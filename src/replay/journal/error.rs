//! Why a journal cannot be opened.

use std::io;
use std::path::{Path, PathBuf};

use super::segment::{SegmentFault, VERSION};

/// Why a journal cannot be opened: the file, what is wrong with it, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system failed.
    #[error("replay.journal {}: {doing}: {error}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What failed.
        doing: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Another process uses it.
    #[error(
        "replay.journal {file}: another process is using it; stop that one, or give each its own journal and keys of its own \
         (gateways that share keys must share one store)",
        file = .0.display()
    )]
    Locked(PathBuf),
    /// A later version of Saltgate wrote it.
    #[error(
        "replay.journal {file}: is of format {1}, and this build reads up to {VERSION}; start the newer version of saltgate \
         again",
        file = .0.display()
    )]
    Newer(PathBuf, u32),
    /// It is damaged in a way that no crash explains.
    #[error(
        "replay.journal {file}: {1}; salts that were spent may be missing. Restore nothing from a backup: start once with \
         --discard-replay-journal, which moves the journal aside and admits nothing signed before the start plus \
         window_future",
        file = .0.display()
    )]
    Damaged(PathBuf, String),
    /// It may lack spent salts; the text says why. Only a start can deal with that, behind the fence.
    #[error("replay.journal {file}: {1}; start the gateway on it once, which then begins behind the fence", file = .0.display())]
    Doubted(PathBuf, String),
}

impl JournalError {
    pub(super) fn io(path: &Path, doing: &'static str, error: io::Error) -> Self {
        Self::Io { path: path.into(), doing, error }
    }

    pub(super) fn fault(file: PathBuf, fault: SegmentFault) -> Self {
        match fault {
            SegmentFault::Newer(version) => Self::Newer(file, version),
            SegmentFault::Damaged(what) => Self::Damaged(file, what),
        }
    }
}
