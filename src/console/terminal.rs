//! A terminal that a command draws on again and again, and gives back as it was.

use std::io;
use std::os::fd::AsFd;

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};

use super::{out, write};
use crate::plain;

/// To the other screen, without a cursor.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
/// Back to the first, with it.
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// To the first line.
const HOME: &str = "\u{1b}[H";
/// The rest of a line is empty.
const REST_OF_LINE: &str = "\u{1b}[K";
/// The rest of the screen is empty.
const REST_OF_SCREEN: &str = "\u{1b}[J";

/// The terminal of this command, while it draws. Dropping it restores what was on it.
pub(crate) struct Terminal {
    /// What standard input was set to, if it is a terminal.
    before: Option<Termios>,
}

impl Terminal {
    /// Takes the terminal: keys are read one by one and are not shown.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn take() -> io::Result<Self> {
        let input = io::stdin();
        let before = termios::tcgetattr(&input).ok();
        if let Some(before) = &before {
            let mut by_key = before.clone();
            by_key.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
            // A read returns at once, with what there is.
            by_key.special_codes[SpecialCodeIndex::VMIN] = 0;
            by_key.special_codes[SpecialCodeIndex::VTIME] = 0;
            termios::tcsetattr(&input, OptionalActions::Now, &by_key)?;
        }
        let terminal = Self { before };
        raw(ENTER)?;
        Ok(terminal)
    }

    /// Draws these lines, as many and as much of each as fit. Control characters in them are escaped.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub(crate) fn draw(&self, lines: &str) -> io::Result<()> {
        #[allow(clippy::disallowed_methods, reason = "all output passes through this module")]
        let size = termios::tcgetwinsize(io::stdout()).ok();
        let fits = |number: u16| if number == 0 { usize::MAX } else { usize::from(number) };
        let (rows, columns) = size.map_or((usize::MAX, usize::MAX), |size| (fits(size.ws_row), fits(size.ws_col)));
        let mut frame = HOME.to_owned();
        for (row, line) in lines.lines().take(rows).enumerate() {
            if row > 0 {
                frame.push_str("\r\n");
            }
            frame.extend(plain::line(line).to_string().chars().take(columns));
            frame.push_str(REST_OF_LINE);
        }
        frame.push_str(REST_OF_SCREEN);
        raw(&frame)
    }

    /// The keys that were pressed since.
    pub(crate) fn pressed(&self) -> Vec<u8> {
        let mut keys = vec![0; 64];
        // Where input is no terminal, a read could wait.
        let read = self.before.as_ref().and_then(|_| rustix::io::read(io::stdin(), &mut keys).ok());
        keys.truncate(read.unwrap_or_default());
        keys
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = raw(LEAVE);
        if let Some(before) = &self.before {
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Writes what is ours as it is, behind what was printed.
fn raw(text: &str) -> io::Result<()> {
    out().flush();
    #[allow(clippy::disallowed_methods, reason = "all output passes through this module")]
    let stdout = io::stdout();
    write(stdout.as_fd(), text.as_bytes(), None)
}
