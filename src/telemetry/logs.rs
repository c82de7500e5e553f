//! Starts the log on standard error, and logs panics.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::sync::Arc;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use super::decision;
use super::json::Json;
use super::lines::Writing;

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Something no longer works.
    Error,
    /// Something that an operator should look at.
    Warn,
    /// Also every decision.
    #[default]
    Info,
    /// Also connections that end early, and the gates that a request passes; each line has its client and its request id.
    Debug,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
        }
    }
}

/// The running log. Dropping it writes the remaining lines.
pub(crate) struct Logs(Writing);

impl Logs {
    /// How many lines were dropped because nobody read them fast enough.
    pub(crate) fn dropped(&self) -> usize {
        self.0.lines.dropped()
    }
}

/// Starts the log on standard error: text on a terminal, JSON otherwise. Never blocks a request.
///
/// Both forms escape control bytes, so that no client can forge a line.
///
/// # Errors
/// If no thread can be started.
pub(crate) fn start(level: LogLevel) -> io::Result<Logs> {
    let level = LevelFilter::from(level);
    #[allow(clippy::disallowed_methods, reason = "the log is the one writer of standard error")]
    let log = std::io::stderr();
    let terminal = log.is_terminal();
    let writing = Writing::to(log)?;
    let lines = || Arc::clone(&writing.lines);
    let text = terminal.then(|| fmt::layer().with_writer(lines()).with_target(false));
    let json = (!terminal).then(|| Json(lines()));
    if let (Some(json), true) = (&json, level >= LevelFilter::INFO) {
        decision::write_to(json.clone());
    }
    // A second start in one process, as in tests, keeps the first log.
    drop(tracing_subscriber::registry().with(level).with(text).with(json).try_init());
    Ok(Logs(writing))
}

/// Logs panics as one line each from now on. The default hook would write several lines, possibly within another line.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        // Captured only if RUST_BACKTRACE is set.
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(
            at = panic.location().map(tracing::field::display),
            thread = std::thread::current().name(),
            what = panic.payload_as_str(),
            backtrace,
            "a part of the gateway panicked, which is a bug"
        );
    }));
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};

    use super::*;

    #[test]
    fn a_panic_is_one_log_line() {
        let (mut log, writer) = pipe().unwrap();
        let writing = Writing::to(writer).unwrap();
        let layer = Json(writing.lines.clone());
        let before = std::panic::take_hook();
        log_panics();
        let panicked = tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            std::panic::catch_unwind(|| panic!("two\nlines"))
        });
        std::panic::set_hook(before);
        assert!(panicked.is_err());
        drop(writing);
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!((&line["level"], &line["what"]), (&"ERROR".into(), &"two\nlines".into()));
        assert!(line["at"].as_str().unwrap().contains("logs.rs:"), "{line}");
    }
}
