//! A folder that only its owner can enter, in which a socket is created before it is moved to its name.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// How many random names are tried.
const TRIES: usize = 32;

/// A temporary folder that only its owner can enter, next to the socket's final path. It holds one entry, and is
/// removed on drop.
pub(crate) struct PrivateFolder(PathBuf);

impl PrivateFolder {
    /// Creates one in the directory of `path`, with a random name.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut last = io::ErrorKind::AlreadyExists.into();
        for _ in 0..TRIES {
            // A short name, because the path of a socket is limited to 107 bytes.
            let name = format!(".sg{:04x}", getrandom::u32().map_err(io::Error::other)? & 0xffff);
            let folder = directory.join(name);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(Self(folder)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// The path of its one entry.
    pub(crate) fn entry(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // If the entry was moved, there is nothing to remove.
        drop(std::fs::remove_file(self.entry()));
        drop(std::fs::remove_dir(&self.0));
    }
}
