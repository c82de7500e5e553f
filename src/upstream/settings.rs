//! `[upstream]` (contract §9): the servers of the service, and the timeouts. Every default is a constant beside its
//! field; the configuration is read into these types.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::headers::Authorization;
use super::resolve::{Resolve, System};
use crate::net::Authority;

/// The most connections that one worker keeps idle to one server.
pub(crate) const MAX_IDLE: usize = 256;

/// The servers of the service, and the timeouts.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// The servers, which are equivalent. At most [`super::MAX_SERVERS`].
    pub servers: Vec<ServerAddress>,
    /// `Host`; each server's own if `None`.
    pub host: Option<HeaderValue>,
    /// How servers are authenticated over TLS.
    pub tls: UpstreamTls,
    /// How the health of servers is checked; not at all if `None`.
    pub health: Option<HealthSettings>,
    /// Whether the `Authorization` of a judged request is passed on.
    pub authorization: Authorization,
    /// How long the addresses of a name are used before it is resolved again.
    pub dns_refresh: Duration,
    /// Resolves names. Not a setting: tests replace it.
    pub resolver: Arc<dyn Resolve>,
    /// The timeout of a connection, including name resolution and the TLS handshake.
    pub connect_timeout: Duration,
    /// The timeout of the head of an answer, and between two parts of its body.
    pub response_timeout: Duration,
    /// How long a connection may be idle before it is reused. Must be shorter than the service's own idle timeout.
    pub idle_timeout: Duration,
    /// A deletion is sent only on a new connection, or on one whose last answer ended no longer ago than this.
    pub fresh: Duration,
    /// The timeout of the whole answer to a deletion.
    pub answer_timeout: Duration,
    /// The most idle connections of a pool. Not a setting: it follows from the limits.
    pub max_idle: usize,
}

impl UpstreamSettings {
    /// Default of [`UpstreamSettings::authorization`].
    pub const AUTHORIZATION: Authorization = Authorization::Strip;
    /// Default of [`UpstreamSettings::dns_refresh`].
    pub const DNS_REFRESH: Duration = Duration::from_secs(30);
    /// Default of [`UpstreamSettings::connect_timeout`].
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
    /// Default of [`UpstreamSettings::response_timeout`].
    pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
    /// Default of [`UpstreamSettings::idle_timeout`].
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
    /// Default of [`UpstreamSettings::fresh`].
    pub const FRESH: Duration = Duration::from_secs(1);
    /// Default of [`UpstreamSettings::answer_timeout`].
    pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

    /// These servers, and every other setting at its default.
    pub fn new(servers: Vec<ServerAddress>) -> Self {
        Self {
            servers,
            host: None,
            tls: UpstreamTls::default(),
            health: None,
            authorization: Self::AUTHORIZATION,
            dns_refresh: Self::DNS_REFRESH,
            resolver: Arc::new(System),
            connect_timeout: Self::CONNECT_TIMEOUT,
            response_timeout: Self::RESPONSE_TIMEOUT,
            idle_timeout: Self::IDLE_TIMEOUT,
            fresh: Self::FRESH,
            answer_timeout: Self::ANSWER_TIMEOUT,
            max_idle: MAX_IDLE,
        }
    }
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    /// On the network.
    Network {
        /// The host and the port.
        at: Authority,
        /// Whether it uses TLS.
        tls: bool,
    },
    /// On this machine.
    Unix(PathBuf),
}

impl ServerAddress {
    /// `host:port`, as a `Host` field has it; `localhost` on this machine.
    pub(super) fn authority(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".into(),
            Self::Network { at, .. } => at.to_string(),
        }
    }
}

/// The name of the server in logs and metrics.
impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Network { tls, .. } => write!(f, "http{}://{}", if *tls { "s" } else { "" }, self.authority()),
        }
    }
}

/// `[upstream.tls]`: files in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The authorities of the servers' certificates; those of the system if `None`.
    pub ca: Option<PathBuf>,
    /// The client certificate with its chain, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the servers' certificates must be for; the host of the address if `None`.
    pub server_name: Option<String>,
}

/// `[upstream.health]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// The path to request. Any 2xx means that the server is healthy.
    pub path: String,
    /// The time between two checks.
    pub interval: Duration,
    /// The timeout of a check, including the connection.
    pub timeout: Duration,
    /// How many checks in a row must succeed before an unhealthy server is used again.
    pub healthy_threshold: usize,
    /// How many checks in a row must fail before a server is not used.
    pub unhealthy_threshold: usize,
}

impl HealthSettings {
    /// Default of [`HealthSettings::interval`].
    pub const INTERVAL: Duration = Duration::from_secs(5);
    /// Default of [`HealthSettings::timeout`].
    pub const TIMEOUT: Duration = Duration::from_secs(1);
    /// Default of [`HealthSettings::healthy_threshold`].
    pub const HEALTHY_THRESHOLD: usize = 2;
    /// Default of [`HealthSettings::unhealthy_threshold`].
    pub const UNHEALTHY_THRESHOLD: usize = 3;
}
