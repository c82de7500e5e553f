use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::resolve::{Resolve, System};

/// Where the service is, and how long to wait for it.
#[derive(Clone)]
pub struct Settings {
    /// The servers; any of them is as good as any other. At most [`super::MAX_SERVERS`].
    pub servers: Vec<Address>,
    /// `Host`; each server's own if `None`.
    pub host: Option<HeaderValue>,
    /// How servers prove who they are, where TLS is spoken.
    pub tls: Tls,
    /// How servers are asked whether they are well; not at all if `None`.
    pub health: Option<Health>,
    /// How long the addresses of a name are believed.
    pub dns_refresh: Duration,
    /// Who knows the addresses of a name.
    pub resolver: Arc<dyn Resolve>,
    /// For a connection: the look-up of the name and the TLS handshake included.
    pub connect_timeout: Duration,
    /// For the head of an answer, and between two parts of its body.
    pub response_timeout: Duration,
    /// How long a connection waits to be used again; below the service's own.
    pub idle_timeout: Duration,
}

impl Settings {
    /// These servers, with the defaults of contract §9.
    pub fn new(servers: Vec<Address>) -> Self {
        Self {
            servers,
            host: None,
            tls: Tls::default(),
            health: None,
            dns_refresh: Duration::from_secs(30),
            resolver: Arc::new(System),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(4),
        }
    }
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// On the network.
    Network {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whether TLS is spoken.
        tls: bool,
    },
    /// On this machine.
    Unix(PathBuf),
}

impl Address {
    /// `host:port`, as a `Host` field has it; `localhost` on this machine.
    pub(super) fn authority(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".into(),
            Self::Network { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Network { host, port, .. } => format!("{host}:{port}"),
        }
    }
}

/// The name of the server in logs and metrics.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Network { tls, .. } => write!(f, "http{}://{}", if *tls { "s" } else { "" }, self.authority()),
        }
    }
}

/// `[upstream.tls]`: files in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who signs the servers' certificates; the system's authorities if `None`.
    pub ca: Option<PathBuf>,
    /// Our own certificate, its chain behind it, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the servers' certificates must have; that of the address if `None`.
    pub server_name: Option<String>,
}

/// `[upstream.health]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is asked for; any 2xx says that the server is well.
    pub path: String,
    /// How often.
    pub interval: Duration,
    /// For the answer, the connection included.
    pub timeout: Duration,
    /// Good answers in a row that bring a server in again.
    pub healthy_threshold: usize,
    /// Bad ones in a row that take it out.
    pub unhealthy_threshold: usize,
}
