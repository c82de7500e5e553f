//! Why PostgreSQL could not be asked. The text contains neither a password nor a value of a row.

use std::error::Error;
use std::time::Duration;

use crate::certificate::CertificateError;

/// Why it could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostgresError {
    /// The file of its authorities cannot be used.
    #[error("directory.postgres.ca: {0}")]
    Ca(#[from] CertificateError),
    /// There are no authorities.
    #[error("the system has no certificate authorities; name a file of them in directory.postgres.ca")]
    NoAuthorities,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
    /// No server could be used.
    #[error("{}", .0.join("; "))]
    NoServer(Vec<String>),
    /// A query failed.
    #[error("{}", told(.0))]
    Query(#[source] tokio_postgres::Error),
    /// There was no answer in time.
    #[error("{what} took longer than directory.postgres.timeout ({} ms)", limit.as_millis())]
    Late {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        limit: Duration,
    },
    /// The server is a standby, which may lag behind.
    #[error("the server is a standby now, which may lag behind")]
    Standby,
    /// The version is not one value.
    #[error("version_query does not give exactly one row with one value that is not NULL")]
    Version,
    /// A column is missing.
    #[error("query has no column {0}")]
    Column(&'static str),
    /// There is more than one result.
    #[error("query holds more than one statement with rows")]
    Statements,
    /// A row of the table of records cannot be read.
    #[error("a row of saltgate.record is not as deploy/postgres/record.sql has it")]
    RecordRow,
    /// The operating system has no random bytes.
    #[error("the operating system has no random bytes")]
    NoRandomness,
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Query(error)
    }
}

/// What an error of PostgreSQL says. Some of its messages quote values that a query met, such as a secret that cannot be cast;
/// details and hints may quote whole rows.
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        let code = error.code().code();
        return match &code[..2.min(code.len())] {
            "22" | "23" | "P0" => format!("the database refused a query with SQLSTATE {code}; its log says why"),
            _ => format!("{} (SQLSTATE {code})", error.message()),
        };
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}
