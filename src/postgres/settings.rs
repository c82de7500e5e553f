//! `[directory.postgres]` and `[ownership.postgres]` (contract §9). The configuration is read into these types; every default
//! is a constant next to its field.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::credential::{FieldDigest, Hidden};
use crate::directory::KeysFile;
use crate::net::Authority;
use crate::seal::KeyRing;

/// Why a configuration that asks for PostgreSQL is refused, in a build without it. `absent.rs`, which only such a build has, does
/// not compile if this is `None` there.
pub(crate) const ABSENT: Option<&str> = match cfg!(feature = "postgres") {
    true => None,
    false => Some("is not in this build, which was made without the feature `postgres`"),
};

/// Where a database is, and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PostgresAddress {
    /// The section of the configuration that has it, for messages.
    pub section: &'static str,
    /// The servers. The first that accepts writes is used.
    pub servers: Vec<PostgresServer>,
    /// The user.
    pub user: String,
    /// The password.
    pub password: Option<Hidden>,
    /// The database.
    pub database: String,
    /// Whether TLS is used, with a certificate that is verified for the host (`verify-full`).
    pub tls: bool,
    /// The PEM file of certificate authorities; the system's if `None`.
    pub ca: Option<PathBuf>,
    /// The gateway's own certificate and its key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether a login that is not bound to the certificate of the server is refused.
    pub requires_binding: bool,
}

/// One server, or a pooler in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PostgresServer {
    /// A host and a port.
    Tcp(Authority),
    /// The directory of a Unix socket, and the port that is part of the socket's name.
    Socket(PathBuf, u16),
}

impl PostgresServer {
    /// PostgreSQL's own port.
    pub(crate) const PORT: u16 = 5432;
}

impl fmt::Display for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => authority.fmt(f),
            Self::Socket(folder, port) => write!(f, "{}/.s.PGSQL.{port}", folder.display()),
        }
    }
}

/// The servers, without user, password and database.
impl fmt::Display for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        f.write_str(&servers.join(", "))
    }
}

/// Where the keys are.
pub(crate) enum KeySource {
    /// `[directory.file]`.
    File(KeysFile),
    /// `[directory.postgres]`.
    Table(KeyTableSettings),
}

/// A table of keys, and how it is read.
#[derive(Clone, Debug)]
pub(crate) struct KeyTableSettings {
    /// The database.
    pub address: PostgresAddress,
    /// Where notifications of changes are listened for; not a pooler.
    pub listen: Option<PostgresAddress>,
    /// The query of all keys.
    pub query: String,
    /// The query of one value that changes with the keys; `None`: a digest of the rows.
    pub version_query: Option<String>,
    /// The time between two looks at the version.
    pub interval: Duration,
    /// For how long keys are used that the database does not confirm.
    pub max_stale: Duration,
    /// The time for a connection, and for each query.
    pub timeout: Duration,
    /// Where the keys are kept for a start without the database.
    pub snapshot: Option<PathBuf>,
    /// Whether it is the table of our own schema, which commands can change and last uses are kept beside.
    pub is_ours: bool,
    /// What opens its sealed secrets.
    pub(crate) seal: Arc<KeyRing>,
}

impl KeyTableSettings {
    /// Tells tables apart: of another database, another user or another query the keys may be others.
    pub(crate) fn identity(&self) -> String {
        let KeyTableSettings { address, query, version_query, .. } = self;
        let mut digest = FieldDigest::new("saltgate key table 1");
        for field in [&address.to_string(), &address.user, &address.database, query] {
            digest.field(field.as_bytes());
        }
        digest.field(version_query.as_deref().unwrap_or_default().as_bytes());
        digest.end()
    }

    /// Default of [`KeyTableSettings::query`]: the table of `deploy/postgres/schema.sql`.
    pub(crate) const QUERY: &str = "select * from saltgate.gateway_key";
    /// The version that belongs to [`Self::QUERY`].
    pub(crate) const VERSION_QUERY: &str = "select version from saltgate.key_version";
    /// Default of [`KeyTableSettings::interval`].
    pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
    /// Default of [`KeyTableSettings::max_stale`].
    pub(crate) const MAX_STALE: Duration = Duration::from_secs(15 * 60);
    /// Default of [`KeyTableSettings::timeout`].
    pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
    /// The channel of notifications.
    pub(crate) const CHANNEL: &str = "saltgate_key";
}

/// A query of the owner of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnerQuery {
    /// The database.
    pub address: PostgresAddress,
    /// The query: `$1` is the segment's id, and the columns are its account and its creator.
    pub query: String,
    /// The time for a look-up, of which a connection may take half if there is none.
    pub timeout: Duration,
}

impl OwnerQuery {
    /// Default of [`OwnerQuery::timeout`].
    pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
}
