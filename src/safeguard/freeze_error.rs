//! Why the freeze state cannot be trusted, or cannot be stored.

use std::io;
use std::path::{Path, PathBuf};

/// The freeze state cannot be trusted, or cannot be stored. Names the file and the problem.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// The file system failed.
    #[error("{}: {doing}: {error}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What failed.
        doing: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The number beside the record cannot be read. The error below names its file.
    #[error("the number of {0}")]
    NoNumber(#[source] io::Error),
    /// Another process uses the directory.
    #[error("{}: another gateway stores its freeze state here; give each its own control.state", .0.display())]
    InUse(PathBuf),
    /// The file is not the one that was written last.
    #[error("{}: {why}", path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// What shows it.
        #[source]
        why: Untrusted,
    },
    /// The state in this directory is of another format.
    #[error("{}: the freeze state is not in the format of this build", .0.display())]
    OtherFormat(PathBuf),
    /// The state is one of this gateway alone, and the settings want that of a fleet.
    #[error(
        "something is frozen for this gateway alone: with safeguard.scope = \"process\" unfreeze what `saltgate freeze --list` \
         names, and freeze it again for the fleet"
    )]
    FrozenAlone,
    /// The stored state cannot be used, and nobody said that it may be discarded.
    #[error(
        "{0}, so what is frozen is unknown; restore the right file, or start once with --discard-freeze and a [control] \
         socket: then everything is frozen until `saltgate unfreeze all`"
    )]
    NotDiscarded(#[source] Box<FreezeError>),
}

/// What shows that a file of the freeze state is not the one that was written last.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Its checksum is wrong.
    #[error("was changed after it was written")]
    Changed,
    /// It is gone after this many changes.
    #[error("is missing: it was changed {0} times")]
    Missing(u64),
    /// It has the number of another directory, by this name.
    #[error("belongs to another directory ({0})")]
    Elsewhere(String),
    /// It is an older copy.
    #[error("is an older copy: it is of change {of}, and the last was {last}")]
    Older {
        /// Its change.
        of: u64,
        /// The last change.
        last: u64,
    },
    /// The counts beside the record are an older copy.
    #[error("is of change {of}, but the counts beside the record know only {known}")]
    Ahead {
        /// Its change.
        of: u64,
        /// The last change that the counts know.
        known: u64,
    },
    /// Its number beside the record is gone.
    #[error("has no number beside the record any more")]
    NumberGone,
}

impl FreezeError {
    pub(super) fn io(path: &Path, doing: &'static str, error: io::Error) -> Self {
        Self::Io { path: path.into(), doing, error }
    }
}
