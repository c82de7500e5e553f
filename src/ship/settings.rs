//! `[audit.ship]` (contract §9). The configuration is read into this type; every default is a constant next to its field.

use std::time::Duration;

use crate::postgres::PostgresAddress;

/// Where the record is copied to.
#[derive(Clone, Debug)]
pub(crate) struct ShipSettings {
    /// The database.
    pub address: PostgresAddress,
    /// The time between two looks for new lines.
    pub interval: Duration,
    /// The time for a connection, and for each query.
    pub timeout: Duration,
}

impl ShipSettings {
    /// Default of [`ShipSettings::interval`].
    pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
    /// Default of [`ShipSettings::timeout`].
    pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
}
