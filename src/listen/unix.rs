//! Unix sockets: each path belongs to one gateway, and a file of another process is never removed.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, open};

use super::ListenError;
use crate::state::{self, PrivateFolder};

/// A Unix socket that this process listens on.
///
/// A socket file outlives a killed process, and anybody who may write to its directory can replace it. Therefore a lock file
/// beside it says who owns it, a socket on which somebody still listens is never touched, and a new socket gets its mode
/// before it is renamed to its path. A file that has replaced the socket is left alone, and so is the target of a link.
pub(crate) struct BoundUnix {
    path: PathBuf,
    listener: UnixListener,
    /// The device and inode of the socket file, to recognise it later.
    identity: (u64, u64),
    _lock: File,
}

impl BoundUnix {
    /// Binds a path for this process.
    ///
    /// # Errors
    /// If another process listens on it, or the path is not a socket.
    pub(crate) fn open(path: &Path, mode: u32) -> Result<Self, ListenError> {
        let failed = |error| ListenError::new(format!("unix:{}", path.display()), error);
        let lock = lock(path).map_err(failed)?;
        replaceable(path).map_err(failed)?;
        let (listener, identity) = bind_private(path, mode).map_err(failed)?;
        Ok(Self { path: path.into(), listener, identity, _lock: lock })
    }

    /// The path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sets the mode, which decides who may connect.
    ///
    /// # Errors
    /// If another file has replaced the socket.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        let file = open(&self.path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let about = fstat(&file)?;
        if (about.st_dev, about.st_ino) != self.identity {
            return Err(io::Error::other("the socket was replaced by another file, which is left as it is"));
        }
        if about.st_mode & 0o7777 == mode {
            return Ok(());
        }
        // By the descriptor, because the path may lead to another file by now.
        fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), Permissions::from_mode(mode))
    }

    /// A descriptor for each worker. All of them accept from the same socket.
    ///
    /// # Errors
    /// If the process has no file descriptors left.
    pub(crate) fn listeners(&self, workers: usize) -> io::Result<Vec<UnixListener>> {
        (0..workers).map(|_| self.listener.try_clone()).collect()
    }
}

impl Drop for BoundUnix {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|about| (about.dev(), about.ino()) == self.identity);
        if ours {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Takes the lock file. It is never removed, because two processes could then hold a lock of the same name.
fn lock(path: &Path) -> io::Result<File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let file = state::file().read(true).write(true).create(true).truncate(false).open(beside)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::ErrorKind::AddrInUse.into()),
        // On a file system without locks, only the attempt to connect protects the socket.
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
        return Err(io::Error::other("there is a file that is not a socket; remove it or choose another path"));
    }
    match UnixStream::connect(path) {
        // The kernel refuses only if nobody listens.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

/// A socket at this path, with its device and inode. It is bound in a private directory, gets its mode and is then
/// renamed to its path. A link at that path is replaced and not followed.
///
/// # Errors
/// If it cannot be created.
pub(crate) fn bind_private(path: &Path, mode: u32) -> io::Result<(UnixListener, (u64, u64))> {
    let private = PrivateFolder::beside(path)?;
    let listener = UnixListener::bind(private.entry())?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(private.entry(), Permissions::from_mode(mode))?;
    let about = fs::symlink_metadata(private.entry())?;
    fs::rename(private.entry(), path)?;
    Ok((listener, (about.dev(), about.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gate.sock");
        // A killed process left this behind.
        drop(UnixListener::bind(&path).unwrap());
        let bound = BoundUnix::open(&path, 0o620).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
        let second = BoundUnix::open(&path, 0o600).err().unwrap();
        assert!(second.to_string().contains("is in use"), "{second}");
        drop(UnixStream::connect(&path).unwrap());
        drop(bound);
        assert!(!path.exists(), "it goes with its owner");
        // Another program listens there and does not know the lock.
        let other = UnixListener::bind(&path).unwrap();
        assert!(BoundUnix::open(&path, 0o600).is_err());
        drop(other);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        let file = BoundUnix::open(&path, 0o600).err().unwrap();
        assert!(file.to_string().contains("not a socket"), "{file}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn the_target_of_a_link_at_the_path_is_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let (path, precious) = (dir.path().join("gate.sock"), dir.path().join("precious"));
        fs::write(&precious, "precious").unwrap();
        let is_untouched = || {
            let about = fs::metadata(&precious).unwrap();
            assert_eq!((about.permissions().mode() & 0o7777, about.len()), (0o600, 8));
        };
        fs::set_permissions(&precious, Permissions::from_mode(0o600)).unwrap();
        let bound = BoundUnix::open(&path, 0o600).unwrap();
        bound.set_mode(0o640).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        let told = bound.set_mode(0o666).unwrap_err();
        assert!(told.to_string().contains("left as it is"), "{told}");
        is_untouched();
        // Not even if it leads to another program's socket.
        let other = dir.path().join("other.sock");
        let _listens = UnixListener::bind(&other).unwrap();
        let before = fs::metadata(&other).unwrap().permissions().mode();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(bound.set_mode(0o666).is_err());
        assert_eq!(fs::metadata(&other).unwrap().permissions().mode(), before);
        drop(bound);
        assert!(path.is_symlink() && other.exists(), "nor removed");
        assert!(BoundUnix::open(&path, 0o666).is_err(), "nor replaced");
        // The lock beside it.
        fs::remove_file(&path).unwrap();
        fs::remove_file(dir.path().join("gate.sock.lock")).unwrap();
        std::os::unix::fs::symlink(&precious, dir.path().join("gate.sock.lock")).unwrap();
        assert!(BoundUnix::open(&path, 0o666).is_err());
        is_untouched();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "precious, a socket, a link, and nothing left over");
    }

    #[test]
    fn a_file_that_replaced_the_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gate.sock");
        let bound = BoundUnix::open(&path, 0o600).unwrap();
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists());
        drop(other);
    }
}
