//! `[replay.redis]` (contract §9). The configuration is read into these types; every default is a constant next to
//! its field.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::credential::Hidden;
use crate::net::Authority;
use crate::replay::{Room, WhenNew, Window};

/// Where Redis is, and how to use it.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// One server, or some servers of a cluster. None if Sentinels name the server.
    pub servers: Vec<Authority>,
    /// Whether the servers are a cluster.
    pub cluster: bool,
    /// The Sentinels that name the server.
    pub sentinel: Option<SentinelSettings>,
    /// How to log in to the servers that hold the data.
    pub access: Access,
    /// The PEM file of certificate authorities for servers and Sentinels; the system's if `None`.
    pub ca: Option<PathBuf>,
    /// The PEM files of the gateway's own certificate and of its key.
    pub client_certificate: Option<ClientCertificate>,
    /// The prefix of all keys.
    pub prefix: String,
    /// The timeout of a request.
    pub timeout: Duration,
    /// How far a gateway's clock and Redis's clock may differ.
    pub clock_margin: Duration,
    /// The limits: `max_salts` for the fleet, `max_salts_per_key` for each process.
    pub room: Room,
    /// Whether `max_salts_per_key` is for the fleet, too (`safeguard.scope`). Not in a cluster, where the salts of one key are
    /// on many servers.
    pub fleet_shares: bool,
    /// What to do if Redis has no data of the gateways.
    pub when_new: WhenNew,
    /// What to do if Redis lost data.
    pub on_failover: OnFailover,
    /// The window of the fleet.
    pub window: Window,
}

impl RedisSettings {
    /// Default of [`RedisSettings::prefix`].
    pub const PREFIX: &str = "saltgate";
    /// Default of [`RedisSettings::timeout`].
    pub const TIMEOUT: Duration = Duration::from_millis(250);
    /// Default of [`RedisSettings::clock_margin`].
    pub const CLOCK_MARGIN: Duration = Duration::from_secs(5);
    /// Default of [`RedisSettings::on_failover`].
    pub const ON_FAILOVER: OnFailover = OnFailover::Fence;

    /// The content of the files for TLS.
    pub(super) fn tls_files(&self) -> Result<TlsFiles, RedisStartError> {
        let read = |setting, file: &Path| {
            std::fs::read(file).map_err(|error| RedisStartError::File { setting, file: file.into(), error })
        };
        let ca = self.ca.as_deref().map(|file| read("replay.redis.ca", file)).transpose()?;
        let client = self.client_certificate.as_ref().map(|client| -> Result<_, RedisStartError> {
            let certificate = read("replay.redis.certificate", &client.certificate)?;
            let key = read("replay.redis.key", &client.key)?;
            Ok((certificate, Hidden(String::from_utf8_lossy(&key).into_owned())))
        });
        Ok(TlsFiles {
            ca,
            client: client.transpose()?,
            #[cfg(test)]
            link: None,
        })
    }
}

/// How to log in to a server.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Whether to use TLS.
    pub tls: bool,
    /// The user name; Redis's default user if `None`.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Hidden>,
    /// The number of the database; 0 in a cluster and for a Sentinel.
    pub database: i64,
}

/// The Sentinels that name the master.
#[derive(Clone, Debug)]
pub struct SentinelSettings {
    /// The master's name.
    pub master: String,
    /// All Sentinels that watch it.
    pub nodes: Vec<(Authority, Access)>,
}

/// The gateway's own certificate.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// Its file, in PEM.
    pub certificate: PathBuf,
    /// The file of its key, in PEM.
    pub key: PathBuf,
}

/// The files for TLS, as they were at the start.
#[derive(Default)]
pub(super) struct TlsFiles {
    pub(super) ca: Option<Vec<u8>>,
    /// The gateway's own certificate, and its key.
    pub(super) client: Option<(Vec<u8>, Hidden)>,
    /// What takes the place of the network in a simulation.
    #[cfg(test)]
    pub(super) link: Option<super::simulated::Link>,
}

/// What to do when Redis may have lost salts that it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailover {
    /// Admit nothing that may have been spent before.
    Fence,
    /// Accept that lost salts can be replayed.
    DangerAccept,
}

/// Why Redis cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RedisStartError {
    /// A file for TLS cannot be read.
    #[error("{}: {setting}: cannot be read: {error}", file.display())]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The operating system has no random bytes.
    #[error("the operating system has no random bytes: {0}")]
    NoRandomness(#[source] getrandom::Error),
    /// There is no thread that could watch it.
    #[error("Redis cannot be watched: {0}")]
    NoThread(#[source] io::Error),
    /// It answers, or its settings say already, that it must not be used as it is.
    #[error("[replay.redis]: Redis {0}")]
    Misconfigured(String),
}
