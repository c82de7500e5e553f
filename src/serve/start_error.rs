//! Why a gateway does not start.

use std::io;

use super::control::ControlError;
use crate::audit::{ReadError, RecordOpenError};
use crate::config::Fault;
use crate::listen::ListenError;
use crate::replay::StoreOpenError;
use crate::safeguard::{CountError, FreezeError};
use crate::telemetry::MetricsError;

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is at fault.
    #[error("{}", lines(.0))]
    Config(Vec<Fault>),
    /// The address of this setting cannot be bound.
    #[error("{0}: {1}")]
    Listen(&'static str, #[source] ListenError),
    /// The listeners of an address cannot be made, one for each worker.
    #[error("listeners cannot be opened: {0}")]
    Listeners(#[source] io::Error),
    /// The control socket cannot be opened.
    #[error("control.socket: {0}")]
    Control(#[source] ControlError),
    /// The frozen keys and accounts cannot be read.
    #[error("control.state: {0}")]
    Freeze(#[source] FreezeError),
    /// The deletions that count against budgets cannot be read from the record.
    #[error(
        "budget: what was deleted within the last span cannot be counted: {0}; mend the file, or move it out of \
         audit.path and keep it elsewhere: what it tells is then not counted"
    )]
    Budget(#[source] CountError),
    /// The record cannot be opened.
    #[error(transparent)]
    Record(RecordOpenError),
    /// The earlier requests, for their repeats, cannot be read from the record.
    #[error("replay.repeats: what became of earlier requests cannot be read: {0}")]
    Repeats(#[source] ReadError),
    /// The store of spent salts cannot be opened.
    #[error(transparent)]
    Salts(StoreOpenError),
    /// The metrics cannot be registered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A worker, or the admin listener, cannot be started.
    #[error("workers cannot be started: {0}")]
    Workers(#[source] io::Error),
}

/// Each fault on a line of its own.
fn lines(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
