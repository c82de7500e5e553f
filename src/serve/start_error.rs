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
    /// The configuration has faults.
    #[error("{}", lines(.0))]
    Config(Vec<Fault>),
    /// The address of this setting cannot be bound.
    #[error("{0}: {1}")]
    Listen(&'static str, #[source] ListenError),
    /// The listeners of an address (one for each worker) cannot be made.
    #[error("listeners cannot be opened: {0}")]
    Listeners(#[source] io::Error),
    /// The control socket cannot be opened.
    #[error("control.socket: {0}")]
    Control(#[source] ControlError),
    /// The list of frozen keys and accounts cannot be read.
    #[error("control.state: {0}")]
    Freeze(#[source] FreezeError),
    /// The deletions that count against budgets cannot be read from the record.
    #[error(
        "budget: the deletions within the last span cannot be counted: {0}; repair the file, or move it out of \
         audit.path and keep it elsewhere: its deletions are then not counted"
    )]
    Budget(#[source] CountError),
    /// The record cannot be opened.
    #[error(transparent)]
    Record(RecordOpenError),
    /// The earlier requests, needed for their repeats, cannot be read from the record.
    #[error("replay.repeats: what became of earlier requests cannot be read: {0}")]
    Repeats(#[source] ReadError),
    /// The store of spent salts cannot be opened.
    #[error(transparent)]
    Salts(StoreOpenError),
    /// The metrics cannot be registered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The exporter of traces cannot be started.
    #[error("the exporter of traces cannot be started: {0}")]
    Traces(#[source] io::Error),
    /// A worker or the admin listener cannot be started.
    #[error("workers cannot be started: {0}")]
    Workers(#[source] io::Error),
}

/// One line for each fault.
fn lines(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
