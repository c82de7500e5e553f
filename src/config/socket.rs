//! The paths of Unix sockets.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::source::Source;

/// The longest path that the kernel accepts, in bytes, without its final zero.
pub(super) const MAX_SOCKET_PATH: usize = 107;

/// Why a socket cannot have this path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SocketPathError {
    #[error("names no path")]
    Empty,
    #[error("names a path with a zero byte in it")]
    ZeroByte,
    #[error("names a path of over {0} bytes, which is too long for a socket")]
    TooLong(usize),
}

/// The path after `unix:`, of at most `most` bytes once it is absolute or relative to the working directory.
pub(super) fn socket_path(text: &str, source: &Source<'_>, most: usize) -> Result<PathBuf, SocketPathError> {
    if text.is_empty() {
        return Err(SocketPathError::Empty);
    }
    let path = source.resolve(text);
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(SocketPathError::ZeroByte);
    }
    if path.as_os_str().len() > most {
        return Err(SocketPathError::TooLong(most));
    }
    Ok(path)
}
