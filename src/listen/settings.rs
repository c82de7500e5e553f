//! `[[listener]]` (contract §9). Every default is a constant beside its field; the configuration is read into these types.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::Trusted;
use crate::policy::KeepAlive;

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// The address to listen on.
    pub address: ListenAddress,
    /// The mode of a Unix socket.
    pub mode: u32,
    /// How connections begin.
    pub connections: ConnectionSettings,
}

impl ListenerSettings {
    /// Default of [`ListenerSettings::mode`].
    pub const MODE: u32 = 0o660;
}

/// `listener.address`: the address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// The name of a socket that is passed in by whoever starts the process.
    Passed(String),
}

impl ListenAddress {
    /// Whether it is known to be reached only from this machine.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
            Self::Passed(_) => false,
        }
    }

    /// The name of the socket, if it is one that is passed in.
    pub(crate) fn passed(&self) -> Option<&str> {
        match self {
            Self::Passed(name) => Some(name),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Passed(name) => write!(f, "fd:{name}"),
        }
    }
}

/// How connections of a listener begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// Whether each connection begins with a PROXY header.
    pub proxy_protocol: bool,
    /// The proxies that may report a client's address (`trusted_proxies`). With `proxy_protocol` and unless this is empty, only
    /// they may connect.
    pub trusted: Arc<Trusted>,
    /// Whether HTTP/2 is offered besides HTTP/1.1.
    pub http2: bool,
    /// When an HTTP/1 connection stays open after an answer.
    pub keep_alive: KeepAlive,
    /// TLS, if the listener terminates it.
    pub tls: Option<TlsFiles>,
}

impl ConnectionSettings {
    /// Default of [`ConnectionSettings::proxy_protocol`].
    pub const PROXY_PROTOCOL: bool = false;
    /// Default of [`ConnectionSettings::http2`].
    pub const HTTP2: bool = true;
    /// Default of [`ConnectionSettings::keep_alive`].
    pub const KEEP_ALIVE: KeepAlive = KeepAlive::Accepted;
}

/// One of `listener.tls.certificates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and its intermediates, without the root, in PEM.
    pub chain: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
}

/// Whether clients must present certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Certificates are not requested.
    Off,
    /// Certificates are requested. One that is presented must be valid.
    Optional,
    /// A valid certificate is required.
    Required,
}

/// `[listener.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificates. The first is used for clients that send no name or an unknown one.
    pub certificates: Vec<CertificateFiles>,
    /// The authorities of clients' certificates, in PEM.
    pub client_ca: Option<PathBuf>,
    /// Whether clients must present certificates.
    pub client_auth: ClientAuth,
    /// Whether TLS 1.2 is offered besides 1.3.
    pub tls12: bool,
}

impl TlsFiles {
    /// Default of [`TlsFiles::tls12`].
    pub const TLS12: bool = true;
}
