//! The current file of a chain, and the check that readers still find it.
//!
//! An open file outlives its name: a write to a removed or replaced file succeeds, and is lost. So the file at the path
//! is compared with the open one ([`LogFile::look`]).

use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::chain::{self, FORMAT, Link};
use super::files;
use crate::clock::{self, Clock};
use crate::state;

/// How often the lock is tried, a millisecond apart: a reader in another process may hold it for an instant, and a
/// blocking lock has no timeout.
const LOCK_TRIES: usize = 20;
/// How many file numbers are tried if files with these names already exist.
const NAME_TRIES: u64 = 100;
/// The most bytes of a file that was created and given up: it has at most its header.
const LEFT_OVER: u64 = 4096;

/// The file that is being written.
pub(super) struct LogFile {
    pub(super) handle: File,
    path: PathBuf,
    device: u64,
    inode: u64,
    pub(super) number: u64,
    /// The length, in bytes, up to which it has complete lines of the chain.
    pub(super) good: u64,
    /// The length, in bytes, that readers could find at the last check.
    pub(super) seen: u64,
    pub(super) lines: u64,
    pub(super) opened: Duration,
    /// Whether there may be an incomplete write after `good`.
    pub(super) torn: bool,
}

/// What somebody else did to the file, so that lines written to it are lost or do not continue the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interference {
    Removed,
    Replaced,
    CutOff,
    Overwritten,
}

impl Interference {
    /// Whether the file is intact, and only its name is gone.
    pub(super) fn is_whole(self) -> bool {
        matches!(self, Self::Removed | Self::Replaced)
    }
}

impl fmt::Display for Interference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Removed => "was removed or renamed while it was written",
            Self::Replaced => "was replaced by another file while it was written",
            Self::CutOff => "was truncated while it was written",
            Self::Overwritten => "was written to by another program",
        })
    }
}

/// Why a chain had to continue in a new file, and the lines that are written again there.
pub(super) struct Continuation {
    pub(super) why: String,
    pub(super) repeated: Vec<Vec<u8>>,
}

/// Creates the files of one process.
pub(super) struct LogDirectory<'s> {
    pub(super) directory: &'s Path,
    pub(super) instance: &'s str,
    pub(super) writer: &'s str,
    pub(super) clock: &'s Clock,
}

impl LogDirectory<'_> {
    /// Creates the next file whose name is free, from number `first` on, and writes its header. It is on disk when this
    /// returns. If this fails, no file is left behind.
    pub(super) fn begin(&self, first: u64, link: &mut Link, anew: Option<&Continuation>) -> io::Result<LogFile> {
        for number in first..first.saturating_add(NAME_TRIES) {
            let path = files::path(self.directory, self.instance, number);
            let file = match create(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number > 1 => continue,
                Err(error) => return Err(error),
            };
            let begun = self.begin_in(file, path.clone(), number, link, anew);
            if begun.is_err() {
                // No reader knows of it yet. If it cannot be removed, the next attempt reuses it.
                drop(std::fs::remove_file(&path));
            }
            return begun;
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "files with the next names of this record already exist"))
    }

    fn begin_in(
        &self,
        file: File,
        path: PathBuf,
        number: u64,
        link: &mut Link,
        anew: Option<&Continuation>,
    ) -> io::Result<LogFile> {
        // The lock shows readers that the process is running; nothing else depends on it.
        for _ in 0..LOCK_TRIES {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        let (mut bytes, mut next) = (Vec::new(), *link);
        next.append(self.header(number, anew).to_string().as_bytes(), &mut bytes);
        let repeated = anew.map_or(&[][..], |anew| &anew.repeated);
        repeated.iter().for_each(|body| next.append(body, &mut bytes));
        (&file).write_all(&bytes)?;
        // The directory is synced, too, so that the file's name survives power loss.
        file.sync_all()?;
        File::open(self.directory)?.sync_all()?;
        *link = next;
        let (about, length) = (file.metadata()?, bytes.len() as u64);
        Ok(LogFile {
            handle: file,
            path,
            device: about.dev(),
            inode: about.ino(),
            number,
            good: length,
            seen: length,
            lines: 1 + repeated.len() as u64,
            opened: self.clock.elapsed(),
            torn: false,
        })
    }

    fn header(&self, number: u64, anew: Option<&Continuation>) -> Value {
        let mut header = json!({
            "kind": "header",
            "format": FORMAT,
            "instance": self.instance,
            "file": number,
            "time": clock::rfc3339(self.clock.now()),
            "writer": self.writer,
            "version": env!("CARGO_PKG_VERSION"),
        });
        if let Some(Continuation { why, repeated }) = anew {
            header["begun_anew"] = why.as_str().into();
            header["repeated_lines"] = repeated.len().into();
        }
        header
    }
}

/// Creates the file, or reuses one that was created and given up.
fn create(path: &Path) -> io::Result<File> {
    // Append mode, so that a truncated file gets no hole; readable, so that lines can be recovered if its name is gone.
    let open = |new: bool| state::file().read(true).append(true).create_new(new).open(path);
    match open(true) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_left_over(path) => {
            let file = open(false)?;
            file.set_len(0)?;
            Ok(file)
        }
        opened => opened,
    }
}

fn is_left_over(path: &Path) -> bool {
    let is_short = path.symlink_metadata().is_ok_and(|about| about.is_file() && about.len() <= LEFT_OVER);
    is_short && std::fs::read(path).is_ok_and(|text| text.iter().filter(|byte| **byte == b'\n').count() <= 1)
}

impl LogFile {
    /// The file name without the directory.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Checks that a reader finds this file with exactly `length` bytes; if not, returns what happened.
    pub(super) fn look(&self, length: u64) -> io::Result<Option<Interference>> {
        let about = match std::fs::metadata(&self.path) {
            Ok(about) => about,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Some(Interference::Removed));
            }
            Err(error) => return Err(error),
        };
        Ok(match about.len().cmp(&length) {
            _ if (about.dev(), about.ino()) != (self.device, self.inode) => Some(Interference::Replaced),
            std::cmp::Ordering::Less => Some(Interference::CutOff),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(Interference::Overwritten),
        })
    }

    /// Truncates what a failed write left after the last complete line.
    pub(super) fn cut_back(&mut self) -> io::Result<()> {
        if self.torn {
            // If the file is shorter, somebody truncated it, and `set_len` would fill it with zeros.
            if self.handle.metadata()?.len() > self.good {
                self.handle.set_len(self.good)?;
            }
            self.torn = false;
        }
        Ok(())
    }

    /// The bodies of the lines that were written since the last successful check.
    pub(super) fn unseen(&self) -> io::Result<Vec<Vec<u8>>> {
        let length = usize::try_from(self.good.saturating_sub(self.seen)).unwrap_or_default();
        let mut bytes = vec![0; length];
        self.handle.read_exact_at(&mut bytes, self.seen)?;
        Ok(bytes.split(|byte| *byte == b'\n').filter_map(chain::body).collect())
    }

    /// Syncs the finished file and makes it read-only.
    pub(super) fn seal(&self) -> io::Result<()> {
        self.handle.sync_all()?;
        self.handle.set_permissions(Permissions::from_mode(0o400))
    }
}
