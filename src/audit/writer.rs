//! The thread that appends lines to the record, and what it does on a schedule: counts, checks, rotation and retention.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::chain_writer::{ChainWriter, Disk, RecordOpenError};
use super::counted::Counted;
use super::files::Segment;
use super::queued::{Line, LineKind};
use super::space::{self, Cleanup};
use super::writer_state::WriterState;
use super::{NotRecorded, RecordSettings, Sync};
use crate::clock::{self, Clock};

/// How long the writer waits after a failure before it tries again.
const RETRY: Duration = Duration::from_millis(500);
/// How many lines are kept in memory while the disk is full; more are lost.
const MAX_BACKLOG: usize = 100_000;
/// How often counted requests become a line.
const COUNT_EVERY: Duration = Duration::from_secs(60);
/// How often the file is checked if writes do not check it: lines written since the last check are written again if it
/// is gone.
const SEEN_EVERY: Duration = Duration::from_secs(1);
/// How often the free space is measured.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often files older than `audit.retain` are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// A thread that appends lines to a chain, with one sync for all lines that are waiting.
///
/// Without syncs, handing a line to the thread would cost more than writing it. Then a worker appends the lines of one
/// iteration of its event loop itself, as one batch, unless somebody else is appending or the file needs more than an
/// append. Only the thread ever waits for the lock of the chain.
///
/// The queue is unbounded, but a request adds at most two lines, and the requests in flight are bounded.
pub(super) struct Writer {
    appender: Arc<Mutex<Appender>>,
    sync: Sync,
    batch: Mutex<Batch>,
    lines: Option<mpsc::Sender<Line>>,
    state: Arc<WriterState>,
    thread: Option<JoinHandle<()>>,
}

/// Lines that are appended together at the end of an iteration of the event loop.
#[derive(Default)]
struct Batch {
    lines: Vec<Line>,
    /// Whether a task to append them is scheduled.
    has_end: bool,
}

/// Appends the batch on drop, so that the lines are written whether the task that holds it runs or is dropped.
struct BatchEnd(Arc<Writer>);

impl Drop for BatchEnd {
    fn drop(&mut self) {
        self.0.append_batch();
    }
}

impl Writer {
    pub(super) fn start(
        directory: &Path,
        settings: RecordSettings,
        clock: Clock,
        disk: Disk,
    ) -> Result<Self, RecordOpenError> {
        let chain = ChainWriter::open(directory, settings, clock.clone(), disk)?;
        let (lines, queue) = mpsc::channel();
        let state = Arc::new(WriterState::new());
        let now = clock.elapsed();
        let cleanup = settings.retain.map(|retain| Cleanup::new(retain, &clock));
        let appender = Appender {
            chain,
            settings,
            clock,
            state: state.clone(),
            backlog: Vec::new(),
            open: 0,
            counted_at: now,
            seen_at: now,
            looked_at: now,
            forgot_at: now,
            cleanup,
        };
        appender.look();
        state.set_head(appender.chain.head());
        let appender = Arc::new(Mutex::new(appender));
        let appends = appender.clone();
        let thread = std::thread::Builder::new().name("record".into()).spawn(move || run(&appends, &queue));
        let thread = thread.map_err(|error| RecordOpenError::no_thread(directory, error))?;
        Ok(Self {
            appender,
            sync: settings.sync,
            batch: Mutex::default(),
            lines: Some(lines),
            state,
            thread: Some(thread),
        })
    }

    pub(super) fn state(&self) -> &Arc<WriterState> {
        &self.state
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.state.healthy.load(Ordering::Relaxed)
    }

    pub(super) fn is_low(&self) -> bool {
        self.state.low.load(Ordering::Relaxed)
    }

    pub(super) fn was_begun_anew(&self) -> bool {
        self.state.begun_anew.load(Ordering::Relaxed)
    }

    pub(super) fn counted(&self) -> &Counted {
        &self.state.counted
    }

    /// Writes a line, and returns once it is durable or has failed.
    pub(super) async fn write_durably(self: &Arc<Self>, kind: LineKind, body: Vec<u8>) -> Result<(), NotRecorded> {
        self.queue(body, kind).await.map_err(|_| NotRecorded)
    }

    /// Writes a line, now or later if that is not possible yet. The receiver resolves once it is written; waiting is
    /// optional.
    pub(super) fn write(self: &Arc<Self>, kind: LineKind, body: Vec<u8>) -> oneshot::Receiver<()> {
        self.queue(body, kind)
    }

    /// Does what is due at the time that a test has set, without waiting for the thread.
    #[cfg(test)]
    pub(super) fn tick(&self) {
        self.appender.lock().unwrap().tick();
    }

    fn queue(self: &Arc<Self>, body: Vec<u8>, kind: LineKind) -> oneshot::Receiver<()> {
        let (durable, written) = oneshot::channel();
        let line = Line { body, durable: Some(durable), kind };
        match (self.sync, Handle::try_current()) {
            (Sync::Os, Ok(worker)) => {
                let has_end = {
                    let mut batch = self.batch();
                    batch.lines.push(line);
                    std::mem::replace(&mut batch.has_end, true)
                };
                if !has_end {
                    let end = BatchEnd(self.clone());
                    // It is polled after everything that is ready now. A runtime that is shutting down drops it
                    // right here, so the batch must not be locked any more.
                    worker.spawn(async move { drop(end) });
                }
            }
            _ => self.hand_over(line),
        }
        written
    }

    fn batch(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_batch(&self) {
        let lines = {
            let mut batch = self.batch();
            batch.has_end = false;
            std::mem::take(&mut batch.lines)
        };
        let appended = match self.appender.try_lock() {
            Ok(mut appender) => appender.append_at_once(lines),
            Err(_) => Err(lines),
        };
        if let Err(lines) = appended {
            lines.into_iter().for_each(|line| self.hand_over(line));
        }
    }

    /// Has the thread write the line, whatever else is written how.
    pub(super) fn hand_over(&self, line: Line) {
        // If the thread is gone, the line is dropped, which also closes the channel that its sender waits on.
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
    chain: ChainWriter,
    settings: RecordSettings,
    clock: Clock,
    state: Arc<WriterState>,
    /// Lines to keep that could not be written yet.
    backlog: Vec<Line>,
    /// Intents that are written and whose outcome is not.
    open: usize,
    counted_at: Duration,
    seen_at: Duration,
    looked_at: Duration,
    forgot_at: Duration,
    cleanup: Option<Cleanup>,
}

fn run(appender: &Mutex<Appender>, queue: &Receiver<Line>) {
    // A panic leaves complete lines or half a line, which is truncated before the next write.
    let locked = || -> MutexGuard<'_, Appender> { appender.lock().unwrap_or_else(PoisonError::into_inner) };
    loop {
        let came = queue.recv_timeout(RETRY);
        let mut appender = locked();
        match came {
            // All lines that arrived during the last sync share the next one.
            Ok(line) => appender.append(std::iter::once(line).chain(queue.try_iter()).collect()),
            Err(RecvTimeoutError::Timeout) if appender.state.healthy.load(Ordering::Relaxed) => {}
            Err(RecvTimeoutError::Timeout) => appender.append(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => return appender.end(),
        }
        appender.tick();
    }
}

impl Appender {
    /// Appends lines if nothing has to be waited for or written first; otherwise returns them.
    fn append_at_once(&mut self, lines: Vec<Line>) -> Result<(), Vec<Line>> {
        let healthy = self.state.healthy.load(Ordering::Relaxed);
        let coming = lines.iter().map(|line| line.body.len()).sum();
        if !healthy || !self.backlog.is_empty() || !self.chain.has_room(coming) {
            return Err(lines);
        }
        self.append(lines);
        Ok(())
    }

    fn end(&mut self) {
        self.backlog.extend(self.state.counted.take(&self.clock).map(Line::alone));
        if !self.backlog.is_empty() {
            self.append(Vec::new());
        }
        if !self.backlog.is_empty() {
            tracing::error!(lines = self.backlog.len(), "the record cannot be written: lines are lost");
        } else if let Err(error) = self.chain.close() {
            tracing::error!(%error, "the record cannot be closed");
        }
    }

    fn append(&mut self, lines: Vec<Line>) {
        let mut backlog = std::mem::take(&mut self.backlog);
        if backlog.is_empty() && lines.is_empty() {
            // An empty write succeeds even on a full disk, so a line is written to find out.
            let probe = json!({ "time": clock::rfc3339(self.clock.now()), "kind": "resumed" }).to_string();
            let written = self.chain.look().and_then(|()| self.chain.write(std::iter::once(probe.as_bytes())));
            self.is_written(written);
            return;
        }
        let bodies = backlog.iter().chain(&lines).map(|line| line.body.as_slice());
        let written = self.chain.write(bodies);
        if self.is_written(written) {
            self.count(backlog.iter().chain(&lines));
            for waiting in lines.into_iter().filter_map(|line| line.durable) {
                let _ = waiting.send(());
            }
            return;
        }
        // Dropping the sender tells whoever waits; lines that must not be lost are kept for the next attempt.
        backlog.extend(
            lines.into_iter().filter(|line| line.kind.is_kept()).map(|line| Line::alone_of(line.kind, line.body)),
        );
        if backlog.len() > MAX_BACKLOG {
            tracing::error!("the record cannot be written and its backlog is full: lines are lost");
            backlog.truncate(MAX_BACKLOG);
        }
        self.backlog = backlog;
    }

    /// Counts what was written: each intent opens what its outcome closes.
    fn count<'l>(&mut self, lines: impl Iterator<Item = &'l Line>) {
        let before = self.open;
        for line in lines {
            match line.kind {
                LineKind::Intent => self.open += 1,
                LineKind::Outcome => self.open = self.open.saturating_sub(1),
                LineKind::Answered | LineKind::Other => {}
            }
        }
        if self.open != before {
            self.state.open.store(self.open, Ordering::Relaxed);
        }
    }

    fn is_written(&mut self, written: io::Result<()>) -> bool {
        if let Some(why) = self.chain.was_begun_anew() {
            self.state.begun_anew.store(true, Ordering::Relaxed);
            tracing::warn!(
                why,
                "the record continues in a new file; restore the lost one, or keep this message: \
                 `saltgate audit verify` will report it missing"
            );
        }
        match &written {
            Ok(()) if !self.state.healthy.swap(true, Ordering::Relaxed) => {
                tracing::warn!("the record can be written again");
            }
            Err(error) if self.state.healthy.swap(false, Ordering::Relaxed) => {
                tracing::error!(%error, "the record cannot be written: deletions are refused until it can");
            }
            _ => {}
        }
        written.is_ok()
    }

    /// Does what is due by time.
    fn tick(&mut self) {
        let now = self.clock.elapsed();
        let is_due = |since: &mut Duration, every| {
            let due = now.saturating_sub(*since) >= every;
            if due {
                *since = now;
            }
            due
        };
        if is_due(&mut self.counted_at, COUNT_EVERY) {
            if let Some(body) = self.state.counted.take(&self.clock) {
                self.append(vec![Line::alone(body)]);
            }
        }
        // If the record cannot be written now, the retry checks the file anyway.
        if is_due(&mut self.seen_at, SEEN_EVERY) {
            if self.state.healthy.load(Ordering::Relaxed) {
                let seen = self.chain.look();
                self.is_written(seen);
            }
            self.state.set_head(self.chain.head());
        }
        if is_due(&mut self.looked_at, LOOK_EVERY) {
            self.look();
            let turned = self.chain.turn_if_old();
            if turned.is_err() {
                self.is_written(turned);
            }
        }
        if is_due(&mut self.forgot_at, FORGET_EVERY) {
            self.forget();
        }
    }

    fn look(&self) {
        let free = match space::free(self.chain.directory()) {
            Ok(free) => free,
            Err(error) => return tracing::warn!(%error, "the free space for the record cannot be measured"),
        };
        self.state.set_free(free);
        let low = free < self.settings.low_water;
        match (self.state.low.swap(low, Ordering::Relaxed), low) {
            (false, true) => tracing::warn!(
                free,
                low_water = self.settings.low_water,
                "little space is left for the record; deletions stop when it is full"
            ),
            (true, false) => tracing::info!(free, "there is space for the record again"),
            _ => {}
        }
    }

    fn forget(&mut self) {
        if let Some(cleanup) = &mut self.cleanup {
            let may_go =
                |instance: &str, segment: &Segment| !self.settings.ships || self.state.is_shipped(instance, segment);
            cleanup.forget(self.chain.directory(), self.chain.position(), may_go);
        }
    }
}
