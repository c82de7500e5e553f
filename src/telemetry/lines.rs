//! The queue of log lines for standard error.
//!
//! A request appends its line to the buffer of its thread and continues. One thread writes all buffers. It is woken only for
//! the first line and then polls while there are more, so that a busy gateway does not pay for a wake-up per line.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use super::per_thread::PerThread;
use super::whole::{PAUSE, Whole};
use crate::plain;

/// The most bytes in the buffer of one thread. Further lines are dropped and counted.
const WAITING: usize = 8 << 20;
/// A buffer that grew beyond this is not kept.
const KEPT: usize = 64 << 10;
/// How long lines may wait while more arrive. Short, so that writing them takes little time from a worker on the same
/// processor.
const LINGER: Duration = Duration::from_millis(5);
/// How long the process waits at its end for the log to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// ESC, with which colour codes begin.
const COLOUR: &str = "\u{1b}";

/// The queue of lines.
#[derive(Default)]
pub(super) struct Lines {
    buffers: PerThread<Mutex<Vec<u8>>>,
    /// The writing thread found no lines and sleeps until it is woken.
    asleep: AtomicBool,
    ended: AtomicBool,
    dropped: AtomicUsize,
    writer: OnceLock<Thread>,
}

impl Lines {
    /// Appends one or more lines, all or none of them.
    pub(super) fn push(&self, line: &[u8]) {
        {
            let mut buffer = self.buffers.mine().lock().unwrap_or_else(PoisonError::into_inner);
            if self.ended.load(Ordering::Relaxed) || buffer.len() + line.len() > WAITING {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            buffer.extend_from_slice(line);
        }
        // The writer sets `asleep` before it looks a last time, so either it sees the line or this thread sees `asleep`.
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// How many lines were dropped.
    pub(super) fn dropped(&self) -> usize {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes all buffers. Returns whether there was anything to write.
    fn write_to(&self, log: &mut Whole<impl Write>, spare: &mut Vec<u8>) -> bool {
        let mut any = false;
        for buffer in self.buffers.all() {
            std::mem::swap(&mut *buffer.lock().unwrap_or_else(PoisonError::into_inner), spare);
            if spare.is_empty() {
                continue;
            }
            any = true;
            // While the log blocks, new lines fill the buffers, and lines that do not fit are dropped.
            let mut last_looks = LAST_WORDS.as_millis() / PAUSE.as_millis();
            let lost = log.write(spare, || {
                last_looks = last_looks.saturating_sub(u128::from(self.ended.load(Ordering::Acquire)));
                last_looks > 0
            });
            self.dropped.fetch_add(lost, Ordering::Relaxed);
            spare.clear();
            spare.shrink_to(KEPT);
        }
        any
    }

    /// Writes lines until the queue is closed, and then the remaining ones.
    fn run(&self, log: impl Write) {
        let mut log = Whole::new(log);
        let mut spare = Vec::new();
        while !self.ended.load(Ordering::Acquire) {
            if self.write_to(&mut log, &mut spare) {
                thread::park_timeout(LINGER);
                continue;
            }
            self.asleep.store(true, Ordering::Relaxed);
            if !self.write_to(&mut log, &mut spare) && !self.ended.load(Ordering::Acquire) {
                thread::park();
            }
            self.asleep.store(false, Ordering::Relaxed);
        }
        self.write_to(&mut log, &mut spare);
    }
}

/// Takes one event as text with colours. The formatter escapes ESC in values and little else, so the rest is escaped here.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let event = text.strip_suffix('\n').unwrap_or(&text);
        let pieces: Vec<String> = event.split(COLOUR).map(|piece| plain::line(piece).to_string()).collect();
        self.push(format!("{}\n", pieces.join(COLOUR)).as_bytes());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread that writes the lines. Dropping this writes the remaining ones.
pub(super) struct Writing {
    pub(super) lines: Arc<Lines>,
    over: Receiver<()>,
}

impl Writing {
    /// Starts the thread.
    pub(super) fn to(log: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Arc::new(Lines::default());
        let left = lines.clone();
        let (tell, over) = channel();
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            left.run(log);
            // Sending fails if nobody waits for the end any more.
            let _ = tell.send(());
        })?;
        lines.writer.get_or_init(|| thread.thread().clone());
        Ok(Self { lines, over })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.lines.ended.store(true, Ordering::Release);
        self.lines.wake();
        // A log that nobody reads must not keep the process alive.
        let _ = self.over.recv_timeout(LAST_WORDS);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};

    use super::*;

    /// A log whose reader accepts one write at a time.
    struct Slow(SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_arrive_complete_and_in_the_order_of_each_thread() {
        let (send, receive) = sync_channel(0);
        let writing = Writing::to(Slow(send)).unwrap();
        let threads: Vec<_> = (0..20)
            .map(|thread| {
                let lines = writing.lines.clone();
                thread::spawn(move || {
                    for n in 0..500 {
                        lines.push(format!("{thread} {n}\n").as_bytes());
                    }
                })
            })
            .collect();
        let mut text = Vec::new();
        let mut lines = 0;
        while lines < 20 * 500 {
            let some = receive.recv_timeout(Duration::from_secs(10)).expect("a line does not lie for ever");
            lines += some.iter().filter(|&&byte| byte == b'\n').count();
            text.extend(some);
        }
        for thread in threads {
            thread.join().unwrap();
        }
        // The thread sleeps by now or will soon; the lines that are left then, and the last ones, must still be
        // written.
        let lines = writing.lines.clone();
        lines.push(b"a later line\n");
        assert_eq!(receive.recv_timeout(Duration::from_secs(10)).unwrap(), b"a later line\n");
        let reader = thread::spawn(move || receive.into_iter().flatten().collect::<Vec<_>>());
        lines.push(b"the last line\n");
        drop(writing);
        assert_eq!(reader.join().unwrap(), b"the last line\n");
        let mut next = [0; 20];
        for line in String::from_utf8(text).unwrap().lines() {
            let (thread, n) = line.split_once(' ').unwrap();
            let (thread, n): (usize, u32) = (thread.parse().unwrap(), n.parse().unwrap());
            assert_eq!(n, next[thread], "{line}");
            next[thread] += 1;
        }
        assert_eq!(lines.dropped(), 0);
    }

    #[test]
    fn unread_lines_are_dropped_and_counted_and_block_nobody() {
        let (send, receive) = sync_channel(0);
        let writing = Writing::to(Slow(send)).unwrap();
        let lines = writing.lines.clone();
        let line = vec![b'x'; WAITING / 4];
        // The writing thread may have taken some of the first line before it waits for the reader.
        for _ in 0..9 {
            lines.push(&line);
        }
        let dropped = lines.dropped();
        assert!((1..=5).contains(&dropped), "{dropped}");
        drop(receive);
        drop(writing);
        lines.push(b"too late\n");
        assert_eq!(lines.dropped(), dropped + 1);
    }
}
