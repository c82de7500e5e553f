//! Why PostgreSQL could not be asked. The text contains neither a password nor a value of a row.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use super::OwnerColumn;
use crate::certificate::CertificateError;

/// Why it could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The file of its authorities cannot be used.
    #[error("{0}.ca: {1}")]
    Ca(&'static str, #[source] CertificateError),
    /// The gateway's own certificate or its key cannot be read.
    #[error("{0}.certificate or key: {1}")]
    Identity(&'static str, #[source] CertificateError),
    /// They do not belong together.
    #[error("{0}.key is not the key of {0}.certificate: {1}")]
    IdentityKey(&'static str, #[source] rustls::Error),
    /// There are no authorities.
    #[error("the system has no certificate authorities; name a file of them in {0}.ca")]
    NoAuthorities(&'static str),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
    /// No server could be used.
    #[error("{}", .0.join("; "))]
    NoServer(Vec<String>),
    /// A query failed.
    #[error("{}", told(.0))]
    Query(#[source] tokio_postgres::Error),
    /// Our own schema is not there, or not whole, or not for this role.
    #[error(
        "{}; deploy/postgres/schema.sql and schema-2.sql make the tables, and grant saltgate_read to gateways and \
         saltgate_admin to whoever changes keys",
        told(.0)
    )]
    Schema(#[source] tokio_postgres::Error),
    /// There was no answer in time.
    #[error("{what} took longer than {section}.timeout ({} ms)", limit.as_millis())]
    Late {
        /// The section that has the limit.
        section: &'static str,
        /// What was waited for.
        what: &'static str,
        /// For how long.
        limit: Duration,
    },
    /// The server is a standby, which may lag behind.
    #[error("the server is a standby now, which may lag behind")]
    Standby,
    /// Too many questions are not answered.
    #[error("the database has more than a thousand look-ups of this worker to answer")]
    Crowded,
    /// There is no connection, for this reason.
    #[error("{0}")]
    Away(#[source] Arc<PostgresError>),
    /// The answer to a question has no row, which it always has.
    #[error("the answer has no row; is a pooler between that speaks another protocol?")]
    NoRows,
    /// Another number of columns than account and creator.
    #[error("ownership.postgres.query does not have exactly two columns: the account and the creator")]
    Columns,
    /// A column of a type that has several forms as text.
    #[error(
        "the {0} of ownership.postgres.query is {1}; expected text, varchar, char, name, uuid, smallint, integer or bigint; cast \
         it there, such as account_id::text"
    )]
    ColumnType(OwnerColumn, String),
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
    /// Somebody else has changed keys.
    #[error("the keys were changed by somebody else meanwhile; nothing was written: run it again")]
    Changed,
    /// The operating system has no random bytes.
    #[error("the operating system has no random bytes")]
    NoRandomness,
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        // The message may be in any language; this is the function that compares the columns.
        let is_of_columns = |error: &DbError| {
            *error.code() == SqlState::SYNTAX_ERROR && error.routine() == Some("transformSetOperationTree")
        };
        if error.as_db_error().is_some_and(is_of_columns) { Self::Columns } else { Self::Query(error) }
    }
}

impl PostgresError {
    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Query(error) => error.code(),
            _ => None,
        }
    }

    /// Whether the answer came too late: here, or because the database has a limit of its own.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self, Self::Late { .. }) || self.code() == Some(&SqlState::QUERY_CANCELED)
    }

    /// Whether a value was not of the form that the query needs, such as a segment's id that is no number.
    pub(crate) fn is_of_a_value(&self) -> bool {
        self.code().is_some_and(|code| code.code().starts_with("22"))
    }

    /// Whether another connection may have an answer: this one was lost, or leads to a standby.
    pub(super) fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Standby => true,
            Self::Query(error) => match error.code() {
                Some(code) => code.code().starts_with("08") || code.code().starts_with("57P"),
                None => error.is_closed(),
            },
            _ => false,
        }
    }
}

impl PostgresError {
    /// An error of a statement about our own schema.
    pub(super) fn of_ours(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) if *code == SqlState::T_R_SERIALIZATION_FAILURE => Self::Changed,
            Some(code) if code.code().starts_with("42") => Self::Schema(error),
            _ => Self::Query(error),
        }
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
