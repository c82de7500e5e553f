//! All output of the commands to standard output and standard error.
//!
//! 1. Writing never panics, and control characters in the text are escaped ([`plain`]).
//! 2. If the reader goes away (`saltgate check | head -1`), only the writing stops: the command finishes its work and
//!    exits with its usual status.
//! 3. If output is lost for another reason (a full disk), the command reports that once on standard error and fails.
//! 4. A non-blocking stream is waited for like a blocking one.

mod terminal;

use std::fmt::{self, Write};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::plain;

/// Prints one or more lines to standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::console::now(format_args!($($text)*)) };
}

/// Prints one line to standard error.
macro_rules! complain {
    ($($text:tt)*) => { $crate::console::complaint(format_args!($($text)*)) };
}

pub(crate) use terminal::Terminal;
pub(crate) use {complain, say};

/// How many bytes [`later`] buffers.
const BUFFER: usize = 64 << 10;
/// The pause before a write to a full non-blocking stream is tried again.
const PAUSE: Duration = Duration::from_millis(5);
/// How many such pauses an error message waits, so that no command hangs because nobody reads its errors.
const MAX_PAUSES: u32 = 400;

static OUT: Mutex<Out> = Mutex::new(Out { kept: Vec::new(), lost: None });

/// Standard output.
struct Out {
    /// Bytes that are not written yet.
    kept: Vec<u8>,
    /// Why nothing more is written.
    lost: Option<io::Error>,
}

impl Out {
    fn flush(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        if self.lost.is_none() && !kept.is_empty() {
            #[allow(clippy::disallowed_methods, reason = "all output passes through this module")]
            let out = io::stdout();
            self.lost = write(out.as_fd(), &kept, None).err();
        }
    }
}

fn out() -> MutexGuard<'static, Out> {
    OUT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints one or more lines immediately: [`say!`].
pub(crate) fn now(text: fmt::Arguments<'_>) {
    later(text);
    out().flush();
}

/// Prints one or more lines through a buffer, for lists that may be long.
pub(crate) fn later(text: fmt::Arguments<'_>) {
    let shown = plain::lines(&text.to_string()).to_string();
    let mut out = out();
    out.kept.extend_from_slice(shown.as_bytes());
    out.kept.push(b'\n');
    if out.kept.len() >= BUFFER {
        out.flush();
    }
}

/// Prints a secret and a line end, and keeps no copy of it. It is printed as it is: only for secrets without control
/// characters.
pub(crate) fn secret(text: &[u8]) {
    let mut out = out();
    out.flush();
    if out.lost.is_none() {
        let mut line = zeroize::Zeroizing::new(Vec::with_capacity(text.len() + 1));
        line.extend_from_slice(text);
        line.push(b'\n');
        #[allow(clippy::disallowed_methods, reason = "all output passes through this module")]
        let stream = io::stdout();
        out.lost = write(stream.as_fd(), &line, None).err();
    }
}

/// Prints text that already has its line ends.
pub(crate) fn text(text: &str) {
    let text = text.strip_suffix('\n').unwrap_or(text);
    if !text.is_empty() {
        say!("{text}");
    }
}

/// Prints one line to standard error; line ends in it are escaped: [`complain!`].
pub(crate) fn complaint(text: fmt::Arguments<'_>) {
    write_error(plain::line(&text.to_string()));
}

/// Prints lines to standard error.
pub(crate) fn complain_in_lines(text: &str) {
    write_error(plain::lines(text.trim_end()));
}

fn write_error(text: plain::Plain<'_>) {
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(line, "{text}");
    out().flush();
    #[allow(clippy::disallowed_methods, reason = "all output passes through this module")]
    let err = io::stderr();
    // If this fails, there is nobody left to report it to.
    let _ = write(err.as_fd(), line.as_bytes(), Some(MAX_PAUSES));
}

/// Whether standard output still has a reader.
pub(crate) fn is_heard() -> bool {
    out().lost.is_none()
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    #[allow(clippy::disallowed_methods, reason = "all output passes through this module")]
    io::stdout().is_terminal()
}

/// Ends a command: flushes, and returns its exit status, or failure if output was lost.
pub(crate) fn end(code: ExitCode) -> ExitCode {
    out().flush();
    let lost = out().lost.take();
    match lost {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain!("saltgate: standard output cannot be written: {error}");
            if code == ExitCode::SUCCESS { ExitCode::FAILURE } else { code }
        }
        Some(_) | None => code,
    }
}

/// Writes all bytes. Waits for a full non-blocking stream for at most `pauses` pauses, or forever if `None`.
fn write(stream: BorrowedFd<'_>, mut bytes: &[u8], mut pauses: Option<u32>) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(stream, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) if pauses != Some(0) => {
                pauses = pauses.map(|left| left - 1);
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
