//! PostgreSQL: a table of keys, read as a whole (contract §4).
//!
//! 1. The version and all rows are read in one read-only transaction with one snapshot of the database. A change that commits
//!    later has another version, in whatever order changes began, so none is missed.
//! 2. Versions are compared for equality only: after a failover the database may be older than what was seen.
//! 3. Every connection and every query has a deadline, here and in the database.
//! 4. It works through PgBouncer in transaction mode: only simple queries, no startup options, and nothing relies on
//!    notifications.
//! 5. No message contains a value of a row, except apiKeys.

#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "read, and refused, without the feature too"))]
mod settings;

#[cfg(feature = "postgres")]
mod error;
#[cfg(feature = "postgres")]
mod record_table;
#[cfg(feature = "postgres")]
mod rows;
#[cfg(feature = "postgres")]
mod secret_text;
#[cfg(feature = "postgres")]
mod session;
#[cfg(feature = "postgres")]
mod table;
#[cfg(feature = "postgres")]
mod tls;

#[cfg(feature = "postgres")]
pub(crate) use self::error::PostgresError;
#[cfg(feature = "postgres")]
pub(crate) use self::record_table::{RecordPlace, RecordTable};
pub(crate) use self::settings::{KeyTableSettings, PostgresAddress, PostgresServer};
#[cfg(feature = "postgres")]
pub(crate) use self::table::{KeySnapshot, KeyTable, Listening};
