//! PostgreSQL: a table of keys, read as a whole (contract §4) and changed by commands (contract §8); whose a segment is, asked for
//! each deletion (contract §5); and copied records.
//!
//! 1. The version and all keys are read in one read-only transaction with one snapshot of the database. A change that commits
//!    later has another version, in whatever order changes began, so none is missed.
//! 2. Versions are compared for equality only: after a failover the database may be older than what was seen.
//! 3. Every connection and every query has a deadline, here and in the database.
//! 4. It works through PgBouncer in transaction mode: only simple queries and unnamed statements, no startup options, and
//!    nothing relies on notifications.
//! 5. Only a server that accepts writes is believed: a standby may lag behind.
//! 6. When secrets were last used is kept in tables of their own, so that it changes no version of the keys.
//! 7. A command changes keys in one transaction, which fails if somebody else has changed them since they were read.
//! 8. No message contains a value of a row, except apiKeys.

#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "read, and refused, without the feature too"))]
mod settings;

#[cfg(not(feature = "postgres"))]
mod absent;
#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "only a database makes these"))]
mod owner_answer;

#[cfg(feature = "postgres")]
mod admin;
#[cfg(feature = "postgres")]
mod error;
#[cfg(feature = "postgres")]
mod key_rows;
#[cfg(feature = "postgres")]
mod link;
#[cfg(feature = "postgres")]
mod owner_row;
#[cfg(feature = "postgres")]
mod owner_table;
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
mod uses;

#[cfg(not(feature = "postgres"))]
pub(crate) use self::absent::{NoOwnerTable as OwnerTable, NoPostgres as PostgresError};
#[cfg(feature = "postgres")]
pub(crate) use self::admin::{KeyAdmin, TableGateway};
#[cfg(feature = "postgres")]
pub(crate) use self::error::PostgresError;
#[cfg(feature = "postgres")]
pub(crate) use self::key_rows::{KeyRow, KeyRows};
pub(crate) use self::owner_answer::{OwnerAnswer, OwnerColumn};
#[cfg(feature = "postgres")]
pub(crate) use self::owner_table::OwnerTable;
#[cfg(feature = "postgres")]
pub(crate) use self::record_table::{RecordPlace, RecordTable};
pub(crate) use self::settings::{ABSENT, KeySource, KeyTableSettings, OwnerQuery, PostgresAddress, PostgresServer};
#[cfg(feature = "postgres")]
pub(crate) use self::table::{KeySnapshot, KeyTable, Listening, SealInForce};
#[cfg(feature = "postgres")]
pub(crate) use self::uses::KeptUses;
