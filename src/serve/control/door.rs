use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The socket, ours alone: mode 0600 before anybody can reach it, and gone with the gateway.
pub(in crate::serve) struct ControlDoor {
    path: PathBuf,
    /// By which it is told from whatever may stand at its path later.
    inode: u64,
    listener: UnixListener,
    _lock: UnixListener,
}

/// Why there is no socket.
#[derive(Debug)]
pub(in crate::serve) struct ControlError {
    path: PathBuf,
    what: String,
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for ControlError {}

impl ControlDoor {
    /// Takes the path for this process. What an earlier gateway left there is replaced; one that
    /// answers, or anything that is no socket, is not.
    pub(in crate::serve) fn open(path: &Path) -> Result<Self, ControlError> {
        let wrong = |what: String| ControlError { path: path.into(), what };
        let failed = |doing: &str, error: io::Error| wrong(format!("{doing}: {error}"));
        let lock = lock(path).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => wrong("another gateway has it; give each its own control.socket".into()),
            _ => failed("cannot be locked", error),
        })?;
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(wrong("is there and is no socket; remove it or choose another path".into()));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(wrong("another program answers there; stop it or choose another path".into()));
            }
            Ok(_) | Err(_) => {}
        }
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // In a directory that only we can enter until its mode is set.
        let private = directory.join(format!(".sg{}", std::process::id()));
        drop(fs::remove_dir_all(&private));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&private)
            .map_err(|error| failed("its directory cannot be written", error))?;
        let made = bind(&private.join("s"), path);
        drop(fs::remove_dir_all(&private));
        let (listener, inode) = made.map_err(|error| failed("cannot be made", error))?;
        Ok(Self { path: path.into(), inode, listener, _lock: lock })
    }

    pub(super) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

fn bind(temporary: &Path, path: &Path) -> io::Result<(UnixListener, u64)> {
    let listener = UnixListener::bind(temporary)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(temporary, Permissions::from_mode(0o600))?;
    let inode = fs::symlink_metadata(temporary)?.ino();
    fs::rename(temporary, path)?;
    Ok((listener, inode))
}

/// A name that goes with the process, however that ends.
fn lock(path: &Path) -> io::Result<UnixListener> {
    let path = std::path::absolute(path)?;
    let bytes = path.as_os_str().as_encoded_bytes();
    // FNV-1a: the name of a lock has less room than a path.
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(format!("saltgate:control:{hash:016x}"))?)
}

impl Drop for ControlDoor {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            drop(fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_one_gateways_and_private_and_gone_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.sock");
        let door = ControlDoor::open(&path).unwrap();
        let meta = fs::symlink_metadata(&path).unwrap();
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        assert!(ControlDoor::open(&path).err().unwrap().to_string().contains("another gateway"));
        drop(door);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn what_is_left_is_replaced_and_what_is_somebody_elses_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.sock");
        let other = UnixListener::bind(&path).unwrap();
        assert!(ControlDoor::open(&path).err().unwrap().to_string().contains("answers there"));
        drop(other);
        let door = ControlDoor::open(&path).unwrap();
        // Somebody puts another there: it is not ours to remove.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "theirs").unwrap();
        drop(door);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert!(ControlDoor::open(&path).err().unwrap().to_string().contains("no socket"));
        assert!(ControlDoor::open(&directory.path().join("none/c.sock")).is_err());
    }
}
