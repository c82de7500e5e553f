use std::io::{BufWriter, IsTerminal};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use super::json::Json;

/// Lines that wait for a slow reader of the log before further ones are dropped and counted.
const QUEUE: usize = 65_536;

/// Bytes that are written at once, where so many wait; what is there is written when nothing more
/// waits.
const BATCH: usize = 64 << 10;

/// The running log. Dropping it writes what is queued.
pub struct Logs {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl Logs {
    /// How many lines were dropped because nobody read them fast enough.
    pub fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}

/// Starts the log on standard error: text on a terminal, JSON when not. Never blocks a request.
///
/// Both forms escape control bytes, so that no client writes lines of its own.
pub fn start(level: LevelFilter) -> Logs {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE)
        .finish(BufWriter::with_capacity(BATCH, std::io::stderr()));
    let dropped = writer.error_counter();
    let terminal = std::io::stderr().is_terminal();
    let text = terminal.then(|| fmt::layer().with_writer(writer.clone()).with_target(false));
    let json = (!terminal).then(|| fmt::layer().with_writer(writer).event_format(Json));
    // A second start in one process (the tests') keeps the first.
    drop(tracing_subscriber::registry().with(level).with(text).with(json).try_init());
    Logs { dropped, _writer: guard }
}
