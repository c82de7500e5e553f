//! How long files are kept, and how much room is left for the next.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::files::{self, Segment};
use crate::clock;

/// Free bytes on the file system of a directory, as far as we may use them.
pub(super) fn free(directory: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Removes the files that nobody wrote to for `retain`: of each instance the oldest first and
/// without a gap, so that what stays is one chain. Never the file that `current` writes, or the
/// last of another process that is there. Returns how many.
pub(super) fn forget(directory: &Path, retain: Duration, now: SystemTime, current: (&str, u64)) -> usize {
    let instances = match files::list(directory) {
        Ok(instances) => instances,
        Err(error) => {
            tracing::warn!(%error, "audit.retain: nothing is removed");
            return 0;
        }
    };
    let mut removed = 0;
    for instance in instances {
        let keep = if instance.id == current.0 {
            current.1
        } else if instance.live {
            instance.segments.last().map_or(0, |last| last.number)
        } else {
            u64::MAX
        };
        for (index, segment) in instance.segments.iter().enumerate() {
            if segment.number >= keep || !is_old(segment, instance.segments.get(index + 1), retain, now) {
                break;
            }
            if let Err(error) = std::fs::remove_file(&segment.path) {
                tracing::warn!(%error, file = segment.name(), "audit.retain: a file cannot be removed");
                break;
            }
            tracing::info!(file = segment.name(), "audit.retain: a file of the record is removed");
            removed += 1;
        }
    }
    removed
}

/// A file was last written to before the next one was begun, which that one's header tells and
/// the chain holds to; of an instance's last file only the file system tells.
fn is_old(segment: &Segment, next: Option<&Segment>, retain: Duration, now: SystemTime) -> bool {
    let Some(due) = now.checked_sub(retain) else { return false };
    match next {
        Some(next) => next.started().is_some_and(|started| started <= clock::rfc3339(due)),
        None => segment.path.metadata().and_then(|meta| meta.modified()).is_ok_and(|written| written <= due),
    }
}
