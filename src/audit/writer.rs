use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{NotRecorded, Sync};
use crate::clock::{self, Clock};

/// How long after a failure the writer tries again.
const RETRY: Duration = Duration::from_millis(500);
/// Lines that are kept while the disk is full, before they are given up.
const MAX_BACKLOG: usize = 100_000;

/// One thread that appends lines to one file and syncs as many at once as have come.
///
/// The queue needs no bound of its own: a request puts at most two lines into it, and the
/// requests in flight are bounded.
pub(super) struct Writer {
    lines: Option<mpsc::Sender<Line>>,
    healthy: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Line {
    bytes: Vec<u8>,
    durable: Option<oneshot::Sender<()>>,
    /// Whether it is written later if it cannot be written now. An intent is not: whoever waits
    /// for it then sends nothing.
    keep: bool,
}

/// Why no record can be kept.
#[derive(Debug)]
pub struct OpenError {
    path: PathBuf,
    doing: &'static str,
    error: io::Error,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, doing, error } = self;
        write!(f, "audit.path {}: {doing}: {error}", path.display())
    }
}

impl std::error::Error for OpenError {}

impl Writer {
    pub(super) fn start(
        directory: &Path,
        sync: Sync,
        clock: Clock,
        on_sync: Box<dyn Fn(Duration) + Send>,
    ) -> Result<Self, OpenError> {
        let failed = |doing| move |error| OpenError { path: directory.into(), doing, error };
        std::fs::create_dir_all(directory).map_err(failed("cannot be made a directory"))?;
        let stamp: String = clock::rfc3339(clock.now()).chars().filter(char::is_ascii_alphanumeric).collect();
        let path = directory.join(format!("record-{stamp}-{}.jsonl", std::process::id()));
        let file = OpenOptions::new().create(true).append(true).mode(0o640).open(&path);
        let file = file.map_err(failed("the directory cannot be written"))?;
        let good = file.metadata().map_err(failed("cannot be read"))?.len();
        // The file's name must survive power loss as well as its lines do.
        File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed("the directory cannot be synced"))?;

        let (lines, queue) = mpsc::channel();
        let healthy = Arc::new(AtomicBool::new(true));
        let state = Appender { file, good, sync, clock, on_sync, healthy: healthy.clone(), backlog: Vec::new() };
        let thread = std::thread::Builder::new().name("record".into()).spawn(move || state.run(&queue));
        let thread = thread.map_err(failed("no thread for its writer"))?;
        Ok(Self { lines: Some(lines), healthy, thread: Some(thread) })
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Writes a line or nothing, and says which.
    pub(super) async fn write_durably(&self, bytes: Vec<u8>) -> Result<(), NotRecorded> {
        self.queue(bytes, false).await.map_err(|_| NotRecorded)
    }

    /// Writes a line, now or once it can be. What is returned says when it was written; nobody
    /// need wait for it.
    pub(super) fn write(&self, bytes: Vec<u8>) -> oneshot::Receiver<()> {
        self.queue(bytes, true)
    }

    fn queue(&self, bytes: Vec<u8>, keep: bool) -> oneshot::Receiver<()> {
        let (durable, written) = oneshot::channel();
        self.send(Line { bytes, durable: Some(durable), keep });
        written
    }

    fn send(&self, line: Line) {
        // A line that nobody takes is dropped, and with it the sender its writer waits for.
        if let Some(lines) = &self.lines {
            drop(lines.send(line));
        }
    }
}

impl Drop for Writer {
    /// Waits until everything queued is written.
    fn drop(&mut self) {
        self.lines = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Appender {
    file: File,
    /// The length up to which the file holds whole lines.
    good: u64,
    sync: Sync,
    clock: Clock,
    on_sync: Box<dyn Fn(Duration) + Send>,
    healthy: Arc<AtomicBool>,
    /// Lines to keep that could not be written yet.
    backlog: Vec<u8>,
}

impl Appender {
    fn run(mut self, queue: &Receiver<Line>) {
        loop {
            let first = match queue.recv_timeout(RETRY) {
                Ok(line) => Some(line),
                Err(RecvTimeoutError::Timeout) if self.healthy.load(Ordering::Relaxed) => continue,
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    if !self.backlog.is_empty() {
                        self.append(Vec::new());
                    }
                    return;
                }
            };
            // Everything that came while the last batch was being synced shares the next sync.
            self.append(first.into_iter().chain(queue.try_iter()).collect());
        }
    }

    fn append(&mut self, lines: Vec<Line>) {
        let mut batch = std::mem::take(&mut self.backlog);
        let resumed = batch.len();
        lines.iter().for_each(|line| batch.extend_from_slice(&line.bytes));
        if batch.is_empty() {
            // An empty write succeeds on a full disk; only a line that is there proves anything.
            batch =
                format!("{{\"kind\":\"resumed\",\"time\":\"{}\"}}\n", clock::rfc3339(self.clock.now())).into_bytes();
        }
        if self.commit(&batch).is_ok() {
            if !self.healthy.swap(true, Ordering::Relaxed) {
                tracing::warn!("the record can be written again");
            }
            for waiting in lines.into_iter().filter_map(|line| line.durable) {
                let _ = waiting.send(());
            }
            return;
        }
        // Whoever waits is told by the dropped sender; what must not be lost is kept for the next
        // try.
        batch.truncate(resumed);
        for line in lines.iter().filter(|line| line.keep) {
            batch.extend_from_slice(&line.bytes);
        }
        if batch.iter().filter(|&&b| b == b'\n').count() > MAX_BACKLOG {
            tracing::error!("the record cannot be written and its backlog is full: lines are lost");
            batch.truncate(resumed);
        }
        self.backlog = batch;
    }

    fn commit(&mut self, batch: &[u8]) -> io::Result<()> {
        let done = self.file.write_all(batch).and_then(|()| self.make_durable());
        match &done {
            Ok(()) => self.good += batch.len() as u64,
            Err(error) => {
                if self.healthy.swap(false, Ordering::Relaxed) {
                    tracing::error!(%error, "the record cannot be written: nothing is deleted until it can");
                }
                // Half a line must not stand before the next one.
                if let Err(error) = self.file.set_len(self.good) {
                    tracing::error!(%error, "the record cannot be cut back to its last whole line");
                }
            }
        }
        done
    }

    fn make_durable(&self) -> io::Result<()> {
        match self.sync {
            Sync::Os => Ok(()),
            Sync::Each => {
                let started = self.clock.elapsed();
                self.file.sync_data()?;
                (self.on_sync)(self.clock.elapsed().saturating_sub(started));
                Ok(())
            }
        }
    }
}
