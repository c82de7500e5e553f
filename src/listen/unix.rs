use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::ListenError;

/// A Unix socket that is ours.
///
/// A socket file outlives a process that was killed, and can be replaced by anybody who may write
/// to its directory. So a lock beside it says whose it is, a file that somebody still listens on is
/// never touched, and a new one takes its place at once: it has its mode before it has its name.
pub struct UnixDoor {
    path: PathBuf,
    listener: UnixListener,
    /// The device and number of the file, by which it is known to be ours at the end.
    identity: (u64, u64),
    _lock: File,
}

impl UnixDoor {
    /// Takes a path for this process.
    ///
    /// # Errors
    /// If somebody listens there, or the path is something else than a socket.
    pub fn open(path: &Path, mode: u32) -> Result<Self, ListenError> {
        let failed = |error| ListenError::new(format!("unix:{}", path.display()), error);
        let lock = lock(path).map_err(failed)?;
        replaceable(path).map_err(failed)?;
        let listener = bind(path, mode).map_err(failed)?;
        let about = fs::symlink_metadata(path).map_err(failed)?;
        Ok(Self { path: path.into(), listener, identity: (about.dev(), about.ino()), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who may connect, from now on.
    ///
    /// # Errors
    /// If the file is not there any more.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(&self.path, Permissions::from_mode(mode))
    }

    /// A descriptor for each worker: they all accept from the one socket.
    ///
    /// # Errors
    /// If there are no more descriptors.
    pub fn listeners(&self, workers: usize) -> io::Result<Vec<UnixListener>> {
        (0..workers).map(|_| self.listener.try_clone()).collect()
    }
}

impl Drop for UnixDoor {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|about| (about.dev(), about.ino()) == self.identity);
        if ours {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// The lock stays when its holder goes: removing it would let two hold it.
fn lock(path: &Path) -> io::Result<File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(beside)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::ErrorKind::AddrInUse.into()),
        // A file system that knows no locks leaves it to the attempt to connect.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOLCK | rustix::io::Errno::NOSYS) => Ok(file),
        Err(error) => Err(error.into()),
    }
}

fn replaceable(path: &Path) -> io::Result<()> {
    let about = match fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !about.file_type().is_socket() {
        return Err(io::Error::other("something that is no socket is there; remove it or choose another path"));
    }
    match UnixStream::connect(path) {
        // Only a socket that nobody listens on refuses.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

/// Bound under another name, and moved to its own once it has its mode.
fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}", std::process::id()));
    drop(fs::remove_file(&aside));
    let listener = UnixListener::bind(&aside)?;
    listener.set_nonblocking(true)?;
    let moved = fs::set_permissions(&aside, Permissions::from_mode(mode)).and_then(|()| fs::rename(&aside, path));
    if moved.is_err() {
        drop(fs::remove_file(&aside));
    }
    moved.map(|()| listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_file_is_replaced_and_a_live_one_never() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gate.sock");
        // Somebody was killed and left this behind.
        drop(UnixListener::bind(&path).unwrap());
        let door = UnixDoor::open(&path, 0o620).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
        let second = UnixDoor::open(&path, 0o600).err().unwrap();
        assert!(second.to_string().contains("is in use"), "{second}");
        drop(UnixStream::connect(&path).unwrap());
        drop(door);
        assert!(!path.exists(), "it goes with its owner");
        // Another program listens there, and knows nothing of our lock.
        let other = UnixListener::bind(&path).unwrap();
        assert!(UnixDoor::open(&path, 0o600).is_err());
        drop(other);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        let file = UnixDoor::open(&path, 0o600).err().unwrap();
        assert!(file.to_string().contains("no socket"), "{file}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_file_that_is_not_ours_any_more_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gate.sock");
        let door = UnixDoor::open(&path, 0o600).unwrap();
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(door);
        assert!(path.exists());
        drop(other);
    }
}
