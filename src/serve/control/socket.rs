//! The path of the control socket, which belongs to one gateway at a time.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::control::missing_folder;
use crate::listen::bind_private;

/// The socket of this gateway alone. It has mode 0600 before anybody can reach it, and it is removed when the
/// gateway ends.
pub(in crate::serve) struct ControlSocket {
    path: PathBuf,
    /// Device and inode, to recognise it later: something else may be at its path then.
    identity: (u64, u64),
    listener: UnixListener,
    _lock: UnixListener,
}

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another gateway uses the same path.
    #[error("{}: another gateway has it; give each its own control.socket", .0.display())]
    OfAnotherGateway(PathBuf),
    /// The path cannot be locked.
    #[error("{}: cannot be locked: {error}", .0.display(), error = .1)]
    Lock(PathBuf, #[source] io::Error),
    /// Something other than a socket is at the path.
    #[error("{}: is there and is no socket; remove it or choose another path", .0.display())]
    NoSocket(PathBuf),
    /// Another program listens at the path.
    #[error("{}: another program answers there; stop it or choose another path", .0.display())]
    OfAnotherProgram(PathBuf),
    /// Its folder does not exist.
    #[error(
        "{}: the folder {} does not exist; create it for the gateway's user (mkdir -p -m 700), or choose another path",
        .0.display(), .1.display()
    )]
    NoFolder(PathBuf, PathBuf),
    /// The socket cannot be made.
    #[error("{}: cannot be made in its directory: {error}", .0.display(), error = .1)]
    Bind(PathBuf, #[source] io::Error),
}

impl ControlSocket {
    /// Takes the path for this process. Replaces a socket that an earlier gateway left there, but not one that
    /// answers, and nothing that is no socket.
    pub(in crate::serve) fn open(path: &Path) -> Result<Self, ControlError> {
        let lock = lock(path).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => ControlError::OfAnotherGateway(path.into()),
            _ => ControlError::Lock(path.into(), error),
        })?;
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => return Err(ControlError::NoSocket(path.into())),
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(ControlError::OfAnotherProgram(path.into())),
            Ok(_) | Err(_) => {}
        }
        let made = bind_private(path, 0o600);
        let (listener, identity) = made.map_err(|error| match missing_folder(path) {
            Some(folder) => ControlError::NoFolder(path.into(), folder.into()),
            None => ControlError::Bind(path.into(), error),
        })?;
        Ok(Self { path: path.into(), identity, listener, _lock: lock })
    }

    pub(super) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

/// Takes a name that is free again when the process ends, however it ends.
fn lock(path: &Path) -> io::Result<UnixListener> {
    let path = std::path::absolute(path)?;
    let bytes = path.as_os_str().as_encoded_bytes();
    // FNV-1a, because the name of a lock is shorter than a path may be.
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(format!("saltgate:control:{hash:016x}"))?)
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == self.identity) {
            drop(fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_socket_is_private_to_one_gateway_and_removed_at_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.sock");
        let socket = ControlSocket::open(&path).unwrap();
        let meta = fs::symlink_metadata(&path).unwrap();
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        assert!(ControlSocket::open(&path).err().unwrap().to_string().contains("another gateway"));
        drop(socket);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_foreign_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.sock");
        let other = UnixListener::bind(&path).unwrap();
        assert!(ControlSocket::open(&path).err().unwrap().to_string().contains("answers there"));
        drop(other);
        let socket = ControlSocket::open(&path).unwrap();
        // Somebody puts another socket there: it must not be removed.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "theirs").unwrap();
        drop(socket);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert!(ControlSocket::open(&path).err().unwrap().to_string().contains("no socket"));
        assert!(ControlSocket::open(&directory.path().join("none/c.sock")).is_err());
        // The target of a link must not be removed, either.
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let link = directory.path().join("link.sock");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(ControlSocket::open(&link).err().unwrap().to_string().contains("no socket"));
        let socket = ControlSocket::open(&directory.path().join("d.sock")).unwrap();
        fs::remove_file(directory.path().join("d.sock")).unwrap();
        fs::rename(&link, directory.path().join("d.sock")).unwrap();
        drop(socket);
        assert!(directory.path().join("d.sock").is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
    }
}
