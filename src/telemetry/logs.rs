use std::io::{self, IsTerminal};
use std::sync::Arc;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use super::decision;
use super::json::Json;
use super::lines::Writing;

/// The running log. Dropping it writes what waits.
pub struct Logs(Writing);

impl Logs {
    /// How many lines were dropped because nobody read them fast enough.
    pub fn dropped(&self) -> usize {
        self.0.lines.dropped()
    }
}

/// Starts the log on standard error: text on a terminal, JSON when not. Never blocks a request.
///
/// Both forms escape control bytes, so that no client writes lines of its own.
///
/// # Errors
/// If there is no thread for it.
pub fn start(level: LevelFilter) -> io::Result<Logs> {
    let log = std::io::stderr();
    let terminal = log.is_terminal();
    let writing = Writing::to(log)?;
    let lines = || Arc::clone(&writing.lines);
    let text = terminal.then(|| fmt::layer().with_writer(lines()).with_target(false));
    let json = (!terminal).then(|| Json(lines()));
    if let (Some(json), true) = (&json, level >= LevelFilter::INFO) {
        decision::write_to(json.clone());
    }
    // A second start in one process (the tests') keeps the first.
    drop(tracing_subscriber::registry().with(level).with(text).with(json).try_init());
    Ok(Logs(writing))
}
