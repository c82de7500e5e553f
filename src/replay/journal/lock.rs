//! Makes sure that only one process uses a journal.
//!
//! There are three locks, because each fails in some environment:
//!
//! 1. `flock` on a file of the journal excludes all processes of a machine, containers included, on every local file
//!    system. On a network file system it may be granted to everybody.
//! 2. An abstract Unix socket, named by the file's device and inode, excludes processes of the same network
//!    namespace, even if `flock` does not work.
//! 3. A heartbeat in the file excludes processes on other machines that see the same file. A process that finds a
//!    journal which another kernel did not close watches whether the heartbeat still changes.
//!
//! All three end with the process, however it ends.

use std::fs::File;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::state;

/// How often the heartbeat is written.
pub(super) const BEAT: Duration = Duration::from_millis(400);
/// How long a start watches for a foreign heartbeat.
const LISTEN: Duration = Duration::from_millis(1500);

/// See the module. Dropping it releases the journal.
pub(super) struct Lock {
    file: File,
    beats: u64,
    _socket: UnixListener,
}

impl Lock {
    /// Takes the journal in `directory`, or says `false` if somebody else has it.
    pub(super) fn take(directory: &Path) -> io::Result<Option<Self>> {
        let path = directory.join("lock");
        let file = state::file().read(true).write(true).create(true).truncate(false).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            // On a file system without locks, the other two locks must do.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOLCK | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        let about = file.metadata()?;
        let name = format!("saltgate-journal:{:x}:{:x}", about.dev(), about.ino());
        let socket = match UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?) {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(None),
            Err(error) => return Err(error),
        };
        let beats = beats(&file)?;
        Ok(Some(Self { file, beats, _socket: socket }))
    }

    /// Whether a process elsewhere keeps writing the heartbeat. Takes 1.5 s if there was a heartbeat once and is none
    /// now.
    pub(super) fn hears_another(&self) -> io::Result<bool> {
        if self.file.metadata()?.len() == 0 {
            return Ok(false);
        }
        let step = Duration::from_millis(50);
        for _ in 0..LISTEN.as_millis() / step.as_millis() {
            if beats(&self.file)? != self.beats {
                return Ok(true);
            }
            std::thread::sleep(step);
        }
        Ok(false)
    }

    /// Shows that this process is alive.
    pub(super) fn beat(&mut self) -> io::Result<()> {
        self.beats = self.beats.wrapping_add(1);
        self.file.write_all_at(&self.beats.to_le_bytes(), 0)
    }
}

fn beats(file: &File) -> io::Result<u64> {
    let mut bytes = [0; 8];
    match file.read_at(&mut bytes, 0)? {
        8 => Ok(u64::from_le_bytes(bytes)),
        _ => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn a_journal_belongs_to_one_process_and_a_foreign_heartbeat_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mine = Lock::take(dir.path()).unwrap().unwrap();
        assert!(Lock::take(dir.path()).unwrap().is_none());
        assert!(!mine.hears_another().unwrap(), "nobody ever");
        let other = OpenOptions::new().write(true).open(dir.path().join("lock")).unwrap();
        other.write_all_at(&0_u64.to_le_bytes(), 0).unwrap();
        assert!(!mine.hears_another().unwrap(), "nobody any more");
        // Another machine writes to the same file without this one's locks saying so.
        other.write_all_at(&77_u64.to_le_bytes(), 0).unwrap();
        assert!(mine.hears_another().unwrap());
        drop(mine);
        assert!(Lock::take(dir.path()).unwrap().is_some(), "it is released with its owner");
    }
}
