//! A TCP or Unix socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// A connection that does not block.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects to a port of 127.0.0.1, or to the path of a Unix socket.
    ///
    /// # Errors
    /// If nothing listens there.
    pub fn connect(to: &str) -> io::Result<Self> {
        match to.parse::<u16>() {
            Ok(port) => Ok(Self::Tcp(TcpStream::connect(("127.0.0.1", port))?)),
            Err(_) => Ok(Self::Unix(UnixStream::connect(to)?)),
        }
    }

    /// # Errors
    /// If the socket cannot be set up.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => {
                socket.set_nodelay(true)?;
                socket.set_nonblocking(true)
            }
            Self::Unix(socket) => socket.set_nonblocking(true),
        }
    }

    /// # Errors
    /// `WouldBlock` if nothing has arrived.
    pub fn read(&mut self, part: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(part),
            Self::Unix(socket) => socket.read(part),
        }
    }

    /// Writes all of it, and yields while the socket is full.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Tcp(socket) => socket.write(bytes),
                Self::Unix(socket) => socket.write(bytes),
            };
            match written {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Self {
        Self::Tcp(socket)
    }
}

impl From<UnixStream> for Stream {
    fn from(socket: UnixStream) -> Self {
        Self::Unix(socket)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}
