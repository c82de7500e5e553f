use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::Question;

/// The most bytes of one line of an answer.
const MAX_LINE: u64 = 1 << 20;

/// Why a question has no whole answer.
#[derive(Debug)]
pub enum Failed {
    /// Nobody answers at the socket.
    NotRunning(String),
    /// The gateway says why.
    Refused(String),
    /// The answer broke off.
    Broken(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning(what) | Self::Refused(what) | Self::Broken(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Failed {}

/// Asks the gateway at this socket, for at most so long, and hands out each line of its answer.
///
/// # Errors
/// If there is no gateway, it refuses, or its answer is not whole.
pub fn ask(socket: &Path, question: &Question, limit: Duration, mut each: impl FnMut(Value)) -> Result<(), Failed> {
    let stream = UnixStream::connect(socket).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "is not there: no gateway with this control.socket is running".to_owned(),
            io::ErrorKind::ConnectionRefused => "is left of a gateway that is not running any more".to_owned(),
            io::ErrorKind::PermissionDenied => {
                "belongs to another user: ask as the gateway's own, or as root".to_owned()
            }
            _ => format!("cannot be reached: {error}"),
        };
        Failed::NotRunning(format!("{} {why}", socket.display()))
    })?;
    let broken = |what: &str| Failed::Broken(format!("{}: {what}", socket.display()));
    let sent = stream
        .set_read_timeout(Some(limit))
        .and_then(|()| stream.set_write_timeout(Some(limit)))
        .and_then(|()| (&stream).write_all(format!("{}\n", question.line()).as_bytes()));
    sent.map_err(|_| broken("the gateway does not take the question"))?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let read = lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if !read.is_ok_and(|read| read > 0) {
            return Err(broken("the gateway's answer broke off"));
        }
        let value: Value = serde_json::from_slice(&line).map_err(|_| broken("the gateway's answer is not JSON"))?;
        if let Some(error) = value["error"].as_str() {
            return Err(Failed::Refused(error.to_owned()));
        }
        if value["done"] == true {
            return Ok(());
        }
        each(value);
    }
}
