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
    /// One server, or some servers of a cluster.
    pub servers: Vec<Authority>,
    /// Whether the servers are a cluster.
    pub cluster: bool,
    /// Whether to use TLS.
    pub tls: bool,
    /// The PEM file of certificate authorities for the servers; the system's if `None`.
    pub ca: Option<PathBuf>,
    /// The user name; Redis's default user if `None`.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Hidden>,
    /// The number of the database; 0 in a cluster.
    pub database: i64,
    /// The prefix of all keys.
    pub prefix: String,
    /// The timeout of a request.
    pub timeout: Duration,
    /// How far a gateway's clock and Redis's clock may differ.
    pub clock_margin: Duration,
    /// The limits: `max_salts` for the fleet, `max_salts_per_key` for each process.
    pub room: Room,
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

    /// The content of the file `ca`.
    pub(super) fn authorities(&self) -> Result<Option<Vec<u8>>, RedisStartError> {
        let read = |file: &Path| std::fs::read(file).map_err(|error| RedisStartError::Ca { file: file.into(), error });
        self.ca.as_deref().map(read).transpose()
    }
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
    /// The file of its authorities cannot be read.
    #[error("{}: replay.redis.ca: cannot be read: {error}", file.display())]
    Ca {
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
    /// It answers, and must not be used as it is.
    #[error("[replay.redis]: Redis {0}")]
    Misconfigured(String),
}
