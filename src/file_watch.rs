//! Notices that files were changed or replaced, by comparing them with how they were at the last check.
//!
//! 1. A path is followed through symbolic links, so a volume that swaps a link (as Kubernetes does with `..data`) is
//!    noticed as well as a file that is written or renamed into place.
//! 2. A file must be added before it is read: a change in between is then noticed at the next check.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Watches files that may be replaced.
#[derive(Debug, Default)]
pub(crate) struct FileWatch {
    seen: Mutex<Vec<Seen>>,
}

/// A path, and the file that it led to at the last check; `None` if there was none.
#[derive(Debug)]
struct Seen(PathBuf, Option<Identity>);

/// The identity of the file that a path leads to, through symbolic links, and of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl FileWatch {
    /// Remembers these files as they are now. Must be called before they are read.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let seen = paths.into_iter().map(|path| Seen::now(&path));
        Self { seen: Mutex::new(seen.collect()) }
    }

    /// Remembers another file as it is now. Must be called before it is read.
    pub(crate) fn add(&self, path: &Path) {
        self.seen().push(Seen::now(path));
    }

    /// Whether any file changed since the last check.
    pub(crate) fn has_changed(&self) -> bool {
        let mut changed = false;
        for Seen(path, before) in self.seen().iter_mut() {
            let now = identity(path);
            changed |= *before != now;
            *before = now;
        }
        changed
    }

    /// The first path that leads to something other than a regular file, such as a pipe, whose content can be read only
    /// once.
    pub(crate) fn irregular(&self) -> Option<PathBuf> {
        let is_irregular = |path: &Path| fs::metadata(path).is_ok_and(|about| !about.is_file());
        self.seen().iter().find(|Seen(path, _)| is_irregular(path)).map(|Seen(path, _)| path.clone())
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn now(path: &Path) -> Self {
        Self(path.into(), identity(path))
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let about = fs::metadata(path).ok()?;
    let changed = (about.ctime(), about.ctime_nsec());
    Some(Identity { device: about.dev(), inode: about.ino(), size: about.size(), changed })
}
