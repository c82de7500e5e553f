//! Lines on their way to standard error.
//!
//! A request leaves its line in its thread's buffer and goes on. One thread writes what all of them
//! left, and is woken for the first line only: while there are more it looks by itself, so that a
//! busy gateway does not pay a wake-up for each line.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use super::per_thread::PerThread;

/// Bytes that wait in one thread's buffer, for a slow reader of the log, before further lines are
/// dropped and counted.
const WAITING: usize = 8 << 20;
/// A buffer that grew beyond this is not kept.
const KEPT: usize = 64 << 10;
/// How long lines may lie where there are always more of them: so short that writing them at once
/// holds nothing else up on a processor that a worker has too.
const LINGER: Duration = Duration::from_millis(5);
/// How long the end of the process waits for a reader of the log.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where lines are left.
#[derive(Default)]
pub(super) struct Lines {
    buffers: PerThread<Mutex<Vec<u8>>>,
    /// The writing thread found nothing and sleeps until it is woken.
    asleep: AtomicBool,
    ended: AtomicBool,
    dropped: AtomicUsize,
    writer: OnceLock<Thread>,
}

impl Lines {
    /// Takes a line, or several, whole or not at all.
    pub(super) fn leave(&self, line: &[u8]) {
        {
            let mut buffer = self.buffers.mine().lock().unwrap_or_else(PoisonError::into_inner);
            if self.ended.load(Ordering::Relaxed) || buffer.len() + line.len() > WAITING {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            buffer.extend_from_slice(line);
        }
        // The writer says that it sleeps before it looks a last time: one of us sees the other.
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

    /// Writes what was left, and says whether there was any.
    fn write_to(&self, log: &mut impl Write, spare: &mut Vec<u8>) -> bool {
        let mut any = false;
        for buffer in self.buffers.all() {
            std::mem::swap(&mut *buffer.lock().unwrap_or_else(PoisonError::into_inner), spare);
            if spare.is_empty() {
                continue;
            }
            any = true;
            if log.write_all(spare).and_then(|()| log.flush()).is_err() {
                let lines = spare.iter().filter(|&&byte| byte == b'\n').count();
                self.dropped.fetch_add(lines, Ordering::Relaxed);
            }
            spare.clear();
            spare.shrink_to(KEPT);
        }
        any
    }

    /// Writes until the end, and then what is left.
    fn run(&self, mut log: impl Write) {
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

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.leave(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread that writes them. Dropping it writes what was left.
pub(super) struct Writing {
    pub(super) lines: Arc<Lines>,
    over: Receiver<()>,
}

impl Writing {
    /// Starts it.
    pub(super) fn to(log: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Arc::new(Lines::default());
        let left = lines.clone();
        let (tell, over) = channel();
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            left.run(log);
            // Nobody waits for it yet, or no longer, where nobody takes this.
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
        // A log that nobody reads does not keep the process.
        let _ = self.over.recv_timeout(LAST_WORDS);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};

    use super::*;

    /// A log whose reader takes one write at a time.
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
    fn lines_of_many_threads_arrive_whole_and_those_of_one_in_their_order() {
        let (send, receive) = sync_channel(0);
        let writing = Writing::to(Slow(send)).unwrap();
        let threads: Vec<_> = (0..20)
            .map(|thread| {
                let door = writing.lines.clone();
                thread::spawn(move || {
                    for n in 0..500 {
                        door.leave(format!("{thread} {n}\n").as_bytes());
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
        // It sleeps by now, or soon; what is left then still arrives, and so does what is left last.
        let door = writing.lines.clone();
        door.leave(b"a later line\n");
        assert_eq!(receive.recv_timeout(Duration::from_secs(10)).unwrap(), b"a later line\n");
        let reader = thread::spawn(move || receive.into_iter().flatten().collect::<Vec<_>>());
        door.leave(b"the last line\n");
        drop(writing);
        assert_eq!(reader.join().unwrap(), b"the last line\n");
        let mut next = [0; 20];
        for line in String::from_utf8(text).unwrap().lines() {
            let (thread, n) = line.split_once(' ').unwrap();
            let (thread, n): (usize, u32) = (thread.parse().unwrap(), n.parse().unwrap());
            assert_eq!(n, next[thread], "{line}");
            next[thread] += 1;
        }
        assert_eq!(door.dropped(), 0);
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_counted_and_holds_nobody_up() {
        let (send, receive) = sync_channel(0);
        let writing = Writing::to(Slow(send)).unwrap();
        let door = writing.lines.clone();
        let line = vec![b'x'; WAITING / 4];
        // The writing thread may have taken some of the first before it waits for the reader.
        for _ in 0..9 {
            door.leave(&line);
        }
        let dropped = door.dropped();
        assert!((1..=5).contains(&dropped), "{dropped}");
        drop(receive);
        drop(writing);
        door.leave(b"too late\n");
        assert_eq!(door.dropped(), dropped + 1);
    }
}
