//! The client of the control socket, which the commands use.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Question, missing_folder};

/// The most bytes of one line of an answer.
const MAX_LINE: u64 = 1 << 20;

/// Why a question got no complete answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlClientError {
    /// No gateway listens at the socket.
    #[error("{0}")]
    NotRunning(String),
    /// The gateway answered with this error.
    #[error("{0}")]
    Refused(String),
    /// The connection failed, or the answer is incomplete.
    #[error("{0}")]
    Broken(String),
}

/// Asks the gateway at this socket and calls `each` for every line of the answer. Each read and write may take `limit`.
///
/// # Errors
/// If no gateway is running, it refuses, or its answer is incomplete.
pub fn ask(
    socket: &Path,
    question: &Question,
    limit: Duration,
    each: impl FnMut(Value),
) -> Result<(), ControlClientError> {
    let stream = UnixStream::connect(socket).map_err(|error| {
        let why = match (error.kind(), missing_folder(socket)) {
            (io::ErrorKind::NotFound, Some(folder)) => format!(
                "is not there, and neither is its folder {}: no gateway with this control.socket is running",
                folder.display()
            ),
            (io::ErrorKind::NotFound, None) => {
                "does not exist: no gateway with this control.socket is running".to_owned()
            }
            (io::ErrorKind::ConnectionRefused, _) => {
                "was left behind by a gateway that is no longer running".to_owned()
            }
            (io::ErrorKind::PermissionDenied, _) => {
                "belongs to another user: run the command as the gateway's user or as root".to_owned()
            }
            (_, _) => format!("cannot be reached: {error}"),
        };
        ControlClientError::NotRunning(format!("{} {why}", socket.display()))
    })?;
    let broken = |what: &str| ControlClientError::Broken(format!("{}: {what}", socket.display()));
    let sent = stream
        .set_read_timeout(Some(limit))
        .and_then(|()| stream.set_write_timeout(Some(limit)))
        .and_then(|()| (&stream).write_all(format!("{}\n", question.line()).as_bytes()));
    sent.map_err(|_| broken("the gateway does not take the question"))?;
    answer(BufReader::new(stream), each).map_err(|ended| match ended {
        AnswerError::Refused(why) => ControlClientError::Refused(why),
        AnswerError::Broken(what) => broken(what),
    })
}

/// How an answer ends that does not end with `done`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AnswerError {
    /// The gateway answered with this error.
    Refused(String),
    /// The answer is incomplete.
    Broken(&'static str),
}

/// Reads an answer to its end and calls `each` for every line.
pub(super) fn answer(mut lines: impl BufRead, mut each: impl FnMut(Value)) -> Result<(), AnswerError> {
    loop {
        let mut line = Vec::new();
        let read = lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if !read.is_ok_and(|read| read > 0) {
            return Err(AnswerError::Broken("the gateway's answer broke off"));
        }
        let value: Value =
            serde_json::from_slice(&line).map_err(|_| AnswerError::Broken("the gateway's answer is not JSON"))?;
        if let Some(error) = value["error"].as_str() {
            return Err(AnswerError::Refused(error.to_owned()));
        }
        if value["done"] == true {
            return Ok(());
        }
        each(value);
    }
}
