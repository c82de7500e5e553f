//! Copies the record to a table in PostgreSQL, line by line, and reads it back (contract §9, `[audit.ship]`).
//!
//! 1. Lines are read from the files of the record, so no request waits for the database, and a process copies what earlier
//!    ones left in its directory.
//! 2. Each line has one place: its process, its file and its number. A line that is there is left as it is, so one whose
//!    arrival is unknown is sent again. Nothing is remembered outside the database.
//! 3. The gateway may only add and read lines. Whoever owns its disk cannot change what was copied, so the table shows what was
//!    cut off or changed there afterwards.
//! 4. A file is not removed by `audit.retain` before all of it was copied.

#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "read, and refused, without the feature too"))]
mod settings;

#[cfg(feature = "postgres")]
mod shipment;
#[cfg(feature = "postgres")]
mod shipped;
#[cfg(feature = "postgres")]
mod shipper;

pub(crate) use settings::ShipSettings;
#[cfg(feature = "postgres")]
pub(crate) use shipment::ship_rest;
#[cfg(feature = "postgres")]
pub(crate) use shipped::read_back;
#[cfg(feature = "postgres")]
pub(crate) use shipper::Shipper;
