//! From an address to a stream of HTTP: sockets, the PROXY protocol, TLS, and who sent it.
//!
//! 1. An address belongs to one gateway and to all of its workers: [`Entrance`].
//! 2. A connection that was accepted is brought to where HTTP begins by [`greet`]: the PROXY
//!    header where one is required, the TLS handshake, and which HTTP it is. All of it has a
//!    deadline, and what fails has a [`Refused`].
//! 3. What comes of it is one type, [`Io`], whatever is below: the stack is compiled once.
//! 4. [`Peer`] says who sent a message: the address of the connection, unless a proxy that is
//!    trusted tells of another.

mod certificate;
mod clients;
mod door;
mod greet;
mod peer;
mod proxy;
mod stream;
mod tls;
mod unix;

pub use clients::{Clients, Place};
pub use door::Door;
pub use greet::{Greeted, Http, Refused, Settings, greet};
pub use peer::{Peer, Trusted};
pub use stream::{Io, Raw, Stream};
pub use tls::{CertificateFiles, ClientAuth, Tls, TlsError, TlsFiles};
pub use unix::UnixDoor;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// Where connections come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why an address is not ours.
#[derive(Debug)]
pub struct ListenError {
    address: String,
    error: io::Error,
}

impl ListenError {
    fn new(address: impl fmt::Display, error: io::Error) -> Self {
        Self { address: address.to_string(), error }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, error } = self;
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "{address} is in use: another gateway or another program listens there; stop it or choose another address"
                )
            }
            _ => write!(f, "{address} cannot be listened on: {error}"),
        }
    }
}

impl std::error::Error for ListenError {}

/// An address of either kind that is ours.
pub enum Entrance {
    /// TCP.
    Tcp(Door),
    /// A Unix socket.
    Unix(UnixDoor),
}

/// What one worker accepts from.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Entrance {
    /// Takes an address for this process; a Unix socket gets this mode.
    ///
    /// # Errors
    /// If somebody else has it.
    pub fn open(address: &Address, mode: u32) -> Result<Self, ListenError> {
        match address {
            Address::Tcp(address) => Door::open(*address).map(Self::Tcp),
            Address::Unix(path) => UnixDoor::open(path, mode).map(Self::Unix),
        }
    }

    /// The address; of a port that was free for the taking, the one that was taken.
    pub fn address(&self) -> Address {
        match self {
            Self::Tcp(door) => Address::Tcp(door.address()),
            Self::Unix(door) => Address::Unix(door.path().to_owned()),
        }
    }

    /// A listener of its own for each worker.
    ///
    /// # Errors
    /// If there are no more descriptors, say.
    pub fn listeners(&self, workers: usize) -> io::Result<Vec<Listener>> {
        Ok(match self {
            Self::Tcp(door) => door.listeners(workers)?.into_iter().map(Listener::Tcp).collect(),
            Self::Unix(door) => door.listeners(workers)?.into_iter().map(Listener::Unix).collect(),
        })
    }
}
