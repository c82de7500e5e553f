//! Writes lines whole to a log that may block or fail, or counts them as lost.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::Duration;

/// How many bytes a pipe takes atomically (`PIPE_BUF`).
const ATOMIC: usize = 4096;
/// How long to wait before writing again to a log that blocks.
pub(super) const PAUSE: Duration = Duration::from_millis(5);

/// A log that gets whole lines, even if a write takes only part of one, as with a non-blocking pipe or a full disk.
///
/// The rest of a line that was written in part comes before anything else, so that lines are never mixed.
pub(super) struct Whole<W> {
    log: W,
    /// The rest of a line that was written in part.
    rest: Vec<u8>,
    /// Whether a write would have blocked once. From then on each write is small enough to be atomic.
    does_not_block: bool,
}

impl<W: Write> Whole<W> {
    pub(super) fn new(log: W) -> Self {
        Self { log, rest: Vec::new(), does_not_block: false }
    }

    /// Writes whole lines and returns how many of them were lost. If the log blocks, waits as long as `may_wait` returns
    /// true.
    pub(super) fn write(&mut self, lines: &[u8], mut may_wait: impl FnMut() -> bool) -> usize {
        let rest = std::mem::take(&mut self.rest);
        let written = self.push(&rest, &mut may_wait);
        self.rest = rest[written..].to_vec();
        if !self.rest.is_empty() {
            return count(lines);
        }
        let written = self.push(lines, &mut may_wait);
        let (done, left) = lines.split_at(written);
        let is_within_a_line = done.last().is_some_and(|last| *last != b'\n');
        let end = if is_within_a_line {
            left.iter().position(|byte| *byte == b'\n').map_or(left.len(), |at| at + 1)
        } else {
            0
        };
        self.rest = left[..end].to_vec();
        count(&left[end..])
    }

    /// Returns how many bytes were written.
    fn push(&mut self, bytes: &[u8], may_wait: &mut impl FnMut() -> bool) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.log.write(self.piece(&bytes[written..])) {
                Ok(0) => break,
                Ok(taken) => written += taken,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && may_wait() => {
                    self.does_not_block = true;
                    thread::sleep(PAUSE);
                }
                Err(_) => break,
            }
        }
        written
    }

    fn piece<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        if !self.does_not_block || bytes.len() <= ATOMIC {
            return bytes;
        }
        let end = |piece: &[u8]| piece.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        let first = || bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        &bytes[..end(&bytes[..ATOMIC]).or_else(first).unwrap_or(bytes.len())]
    }
}

fn count(lines: &[u8]) -> usize {
    lines.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Accepts this many bytes at each write; `None` is a failure of this kind.
    struct Odd {
        takes: Vec<Result<usize, ErrorKind>>,
        taken: Vec<u8>,
    }

    impl Write for &mut Odd {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let takes = if self.takes.is_empty() { Ok(usize::MAX) } else { self.takes.remove(0) };
            let takes = takes.map_err(io::Error::from)?.min(bytes.len());
            self.taken.extend_from_slice(&bytes[..takes]);
            Ok(takes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_started_line_is_finished_before_the_next() {
        const BATCH: &[u8] = b"{1}\n{2}\n{3}\n";
        let full = ErrorKind::StorageFull;
        let rows: &[(&str, &[Result<usize, ErrorKind>], usize, &str)] = &[
            ("all at once", &[], 0, "{1}\n{2}\n{3}\n"),
            ("byte by byte", &[Ok(1), Ok(1), Ok(1), Ok(1), Ok(1)], 0, "{1}\n{2}\n{3}\n"),
            ("waited for", &[Ok(5), Err(ErrorKind::WouldBlock), Ok(2)], 0, "{1}\n{2}\n{3}\n"),
            ("full at once", &[Err(full)], 3, ""),
            ("full behind a line", &[Ok(4), Err(full)], 2, "{1}\n"),
            ("full within a line", &[Ok(5), Err(full)], 1, "{1}\n{2}\n"),
            ("full within the last", &[Ok(11), Err(full)], 0, "{1}\n{2}\n{3}\n"),
            ("closed", &[Err(ErrorKind::BrokenPipe)], 3, ""),
        ];
        for (name, takes, lost, taken) in rows {
            let mut odd = Odd { takes: takes.to_vec(), taken: Vec::new() };
            let mut log = Whole::new(&mut odd);
            assert_eq!(log.write(BATCH, || true), *lost, "{name}");
            assert_eq!(log.write(b"{4}\n", || true), 0, "{name}: there is room again");
            assert_eq!(String::from_utf8_lossy(&odd.taken), format!("{taken}{{4}}\n"), "{name}");
        }
    }

    #[test]
    fn an_unfinished_line_blocks_the_next() {
        let full = Err(ErrorKind::StorageFull);
        let mut odd = Odd { takes: vec![Ok(2), full, full, Ok(1), full], taken: Vec::new() };
        let mut log = Whole::new(&mut odd);
        let lost: Vec<usize> = (0..4).map(|_| log.write(b"{12}\n", || true)).collect();
        assert_eq!(lost, [0, 1, 1, 0]);
        assert_eq!(odd.taken, b"{12}\n{12}\n");
    }

    #[test]
    fn writes_to_a_non_blocking_log_are_small_enough_to_be_atomic() {
        struct Pipe(Vec<usize>);
        impl Write for &mut Pipe {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.push(bytes.len());
                if self.0.len() == 1 { Err(ErrorKind::WouldBlock.into()) } else { Ok(bytes.len()) }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let line = |length: usize| [vec![b'x'; length - 1], vec![b'\n']].concat();
        let lines = [line(1500), line(1500), line(1500), line(9000), line(10)].concat();
        let mut pipe = Pipe(Vec::new());
        assert_eq!(Whole::new(&mut pipe).write(&lines, || true), 0);
        assert_eq!(pipe.0, [13_510, 3000, 1500, 9000, 10]);
        let mut pipe = Pipe(Vec::new());
        assert_eq!(Whole::new(&mut pipe).write(&lines, || false), 5, "nobody waits any more");
    }
}
