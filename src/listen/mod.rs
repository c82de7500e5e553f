//! From an address to a stream of HTTP: sockets, the PROXY protocol, TLS, and who sent a request.
//!
//! 1. An address belongs to one gateway and is shared by all of its workers: [`BoundAddress`].
//! 2. [`handshake()`] does what comes before HTTP: the PROXY header if one is required, the TLS handshake, and the choice of
//!    the HTTP version. Each step has a deadline, and each failure is a [`GreetError`].
//! 3. The result is one type, [`Io`], for TCP, TLS and Unix sockets, so that the stack is compiled once.
//! 4. Every connection holds a [`ConnectionSlot`] of the [`ConnectionLimit`]. If none is free, the oldest connection on
//!    which no caller was recognised is evicted.
//! 5. [`Peer`] says who sent a request: the address of the connection, or the one that a trusted proxy reports.

mod activity;
mod clients;
mod eviction_order;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod handshake;
mod limit;
mod opened;
mod passed;
mod peer;
mod proxy;
mod settings;
mod stream;
mod tcp;
mod tls;
mod unix;

pub(crate) use activity::{Activity, Full};
pub(crate) use handshake::{GreetError, Http, handshake};
pub(crate) use limit::{ConnectionLimit, ConnectionSlot};
pub(crate) use opened::Opened;
pub(crate) use passed::{take_passed_sockets, unused_sockets};
pub(crate) use peer::{Peer, Trusted};
pub use settings::ListenAddress;
pub(crate) use settings::{CertificateFiles, ClientAuth, ConnectionSettings, ListenerSettings, TlsFiles};
pub(crate) use stream::{Io, Stream, suit_answers, suits_answers};
pub(crate) use tcp::BoundTcp;
pub(crate) use tls::ListenerTls;
pub(crate) use unix::{BoundUnix, bind_private};

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use passed::BoundPassed;

/// Why an address could not be bound.
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

/// An address, TCP or Unix, that this process listens on.
pub(crate) enum BoundAddress {
    /// TCP.
    Tcp(BoundTcp),
    /// A Unix socket.
    Unix(BoundUnix),
    /// A socket that was passed in.
    Passed(BoundPassed),
}

/// The socket from which one worker accepts connections.
pub(crate) enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Listener {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener) => Self::Tcp(listener.try_clone()?),
            Self::Unix(listener) => Self::Unix(listener.try_clone()?),
        })
    }
}

impl BoundAddress {
    /// Binds an address for this process. A Unix socket gets this mode.
    ///
    /// # Errors
    /// If another process listens on it, or it cannot be bound.
    pub(crate) fn open(address: &ListenAddress, mode: u32) -> Result<Self, ListenError> {
        match address {
            ListenAddress::Tcp(address) => BoundTcp::open(*address).map(Self::Tcp),
            ListenAddress::Unix(path) => BoundUnix::open(path, mode).map(Self::Unix),
            ListenAddress::Passed(name) => BoundPassed::open(name).map(Self::Passed),
        }
    }

    /// The address, with the port that was chosen if the settings say port 0.
    pub(crate) fn address(&self) -> ListenAddress {
        match self {
            Self::Tcp(bound) => ListenAddress::Tcp(bound.address()),
            Self::Unix(bound) => ListenAddress::Unix(bound.path().to_owned()),
            Self::Passed(bound) => bound.address().clone(),
        }
    }

    /// One listener for each worker.
    ///
    /// # Errors
    /// If a socket cannot be made, for example because the process has no file descriptors left.
    pub(crate) fn listeners(&self, workers: usize) -> io::Result<Vec<Listener>> {
        Ok(match self {
            Self::Tcp(bound) => bound.listeners(workers)?.into_iter().map(Listener::Tcp).collect(),
            Self::Unix(bound) => bound.listeners(workers)?.into_iter().map(Listener::Unix).collect(),
            Self::Passed(bound) => bound.listeners(workers)?,
        })
    }
}
