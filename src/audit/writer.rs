use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::book::{Book, Disk, OpenError};
use super::counted::Counted;
use super::{NotRecorded, Settings, Sync, space};
use crate::clock::{self, Clock};

/// How long after a failure the writer tries again.
const RETRY: Duration = Duration::from_millis(500);
/// Lines that are kept while the disk is full, before they are given up.
const MAX_BACKLOG: usize = 100_000;
/// How often what was only counted becomes a line.
const COUNT_EVERY: Duration = Duration::from_secs(60);
/// How often the free space is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often files are looked for that are older than they are to be kept.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// One thread that appends lines to a chain and syncs as many at once as have come.
///
/// Where nothing is synced a hand-over to it would cost more than the line. There the lines that a
/// worker has in one turn of its loop are appended together when it has gone through all that was
/// ready, by itself; unless somebody else appends just then, or more than lines is due. Nobody but
/// the thread waits for the lock of the chain.
///
/// The queue needs no bound of its own: a request puts at most two lines into it, and the
/// requests in flight are bounded.
pub(super) struct Writer {
    appender: Arc<Mutex<Appender>>,
    sync: Sync,
    turn: Mutex<Turn>,
    lines: Option<mpsc::Sender<Line>>,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// Lines that are appended together at the end of a turn.
#[derive(Default)]
struct Turn {
    lines: Vec<Line>,
    /// Whether somebody will append them.
    has_end: bool,
}

/// The end of a turn: whether the task that holds it runs or is dropped, the lines go on.
struct TurnEnd(Arc<Writer>);

impl Drop for TurnEnd {
    fn drop(&mut self) {
        self.0.append_turn();
    }
}

/// What others may know of the writer.
pub(super) struct State {
    healthy: AtomicBool,
    low: AtomicBool,
    pub(super) counted: Counted,
}

struct Line {
    body: Vec<u8>,
    durable: Option<oneshot::Sender<()>>,
    /// Whether it is written later if it cannot be written now. An intent is not: whoever waits
    /// for it then sends nothing.
    keep: bool,
}

impl Writer {
    pub(super) fn start(directory: &Path, settings: Settings, clock: Clock, disk: Disk) -> Result<Self, OpenError> {
        let book = Book::open(directory, settings, clock.clone(), disk)?;
        let (lines, queue) = mpsc::channel();
        let state = Arc::new(State {
            healthy: AtomicBool::new(true),
            low: AtomicBool::new(false),
            counted: Counted::default(),
        });
        let now = clock.elapsed();
        let appender = Appender {
            book,
            settings,
            clock,
            state: state.clone(),
            backlog: Vec::new(),
            counted_at: now,
            looked_at: now,
            forgot_at: now,
        };
        appender.look();
        appender.forget();
        let appender = Arc::new(Mutex::new(appender));
        let appends = appender.clone();
        let thread = std::thread::Builder::new().name("record".into()).spawn(move || run(&appends, &queue));
        let thread = thread.map_err(|error| OpenError::no_thread(directory, error))?;
        Ok(Self {
            appender,
            sync: settings.sync,
            turn: Mutex::default(),
            lines: Some(lines),
            state,
            thread: Some(thread),
        })
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.state.healthy.load(Ordering::Relaxed)
    }

    pub(super) fn is_low(&self) -> bool {
        self.state.low.load(Ordering::Relaxed)
    }

    pub(super) fn counted(&self) -> &Counted {
        &self.state.counted
    }

    /// Writes a line or nothing, and says which.
    pub(super) async fn write_durably(self: &Arc<Self>, body: Vec<u8>) -> Result<(), NotRecorded> {
        self.queue(body, false).await.map_err(|_| NotRecorded)
    }

    /// Writes a line, now or once it can be. What is returned says when it was written; nobody
    /// need wait for it.
    pub(super) fn write(self: &Arc<Self>, body: Vec<u8>) -> oneshot::Receiver<()> {
        self.queue(body, true)
    }

    fn queue(self: &Arc<Self>, body: Vec<u8>, keep: bool) -> oneshot::Receiver<()> {
        let (durable, written) = oneshot::channel();
        let line = Line { body, durable: Some(durable), keep };
        match (self.sync, Handle::try_current()) {
            (Sync::Os, Ok(worker)) => {
                let has_end = {
                    let mut turn = self.turn();
                    turn.lines.push(line);
                    std::mem::replace(&mut turn.has_end, true)
                };
                if !has_end {
                    let end = TurnEnd(self.clone());
                    // It is polled behind all that is ready now. A runtime that is ending drops it
                    // here instead, which is why the turn is not locked any more.
                    worker.spawn(async move { drop(end) });
                }
            }
            _ => self.hand_over(line),
        }
        written
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_turn(&self) {
        let lines = {
            let mut turn = self.turn();
            turn.has_end = false;
            std::mem::take(&mut turn.lines)
        };
        let appended = match self.appender.try_lock() {
            Ok(mut appender) => appender.append_at_once(lines),
            Err(_) => Err(lines),
        };
        if let Err(lines) = appended {
            lines.into_iter().for_each(|line| self.hand_over(line));
        }
    }

    fn hand_over(&self, line: Line) {
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
    book: Book,
    settings: Settings,
    clock: Clock,
    state: Arc<State>,
    /// Lines to keep that could not be written yet.
    backlog: Vec<Vec<u8>>,
    counted_at: Duration,
    looked_at: Duration,
    forgot_at: Duration,
}

fn run(appender: &Mutex<Appender>, queue: &Receiver<Line>) {
    // What panicked left whole lines or half a line, which is cut off before the next.
    let locked = || -> MutexGuard<'_, Appender> { appender.lock().unwrap_or_else(PoisonError::into_inner) };
    loop {
        let came = queue.recv_timeout(RETRY);
        let mut appender = locked();
        match came {
            // Everything that came while the last batch was being synced shares the next sync.
            Ok(line) => appender.append(std::iter::once(line).chain(queue.try_iter()).collect()),
            Err(RecvTimeoutError::Timeout) if appender.state.healthy.load(Ordering::Relaxed) => {}
            Err(RecvTimeoutError::Timeout) => appender.append(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => return appender.end(),
        }
        appender.tick();
    }
}

impl Appender {
    /// Appends lines if that needs no wait and nothing stands before them; else they are handed back.
    fn append_at_once(&mut self, lines: Vec<Line>) -> Result<(), Vec<Line>> {
        let healthy = self.state.healthy.load(Ordering::Relaxed);
        let coming = lines.iter().map(|line| line.body.len()).sum();
        if !healthy || !self.backlog.is_empty() || !self.book.has_room(coming) {
            return Err(lines);
        }
        self.append(lines);
        Ok(())
    }

    fn end(&mut self) {
        self.backlog.extend(self.state.counted.take(&self.clock));
        if !self.backlog.is_empty() {
            self.append(Vec::new());
        }
        if !self.backlog.is_empty() {
            tracing::error!(lines = self.backlog.len(), "the record cannot be written: lines are lost");
        } else if let Err(error) = self.book.close() {
            tracing::error!(%error, "the record cannot be closed");
        }
    }

    fn append(&mut self, lines: Vec<Line>) {
        let mut backlog = std::mem::take(&mut self.backlog);
        if backlog.is_empty() && lines.is_empty() {
            // An empty write succeeds on a full disk; only a line that is there proves anything.
            let probe = json!({ "time": clock::rfc3339(self.clock.now()), "kind": "resumed" }).to_string();
            let written = self.book.write(std::iter::once(probe.as_bytes()));
            self.is_written(written);
            return;
        }
        let bodies = backlog.iter().map(Vec::as_slice).chain(lines.iter().map(|line| line.body.as_slice()));
        let written = self.book.write(bodies);
        if self.is_written(written) {
            for waiting in lines.into_iter().filter_map(|line| line.durable) {
                let _ = waiting.send(());
            }
            return;
        }
        // Whoever waits is told by the dropped sender; what must not be lost is kept for the next
        // try.
        backlog.extend(lines.into_iter().filter(|line| line.keep).map(|line| line.body));
        if backlog.len() > MAX_BACKLOG {
            tracing::error!("the record cannot be written and its backlog is full: lines are lost");
            backlog.truncate(MAX_BACKLOG);
        }
        self.backlog = backlog;
    }

    fn is_written(&self, written: io::Result<()>) -> bool {
        match &written {
            Ok(()) if !self.state.healthy.swap(true, Ordering::Relaxed) => {
                tracing::warn!("the record can be written again");
            }
            Err(error) if self.state.healthy.swap(false, Ordering::Relaxed) => {
                tracing::error!(%error, "the record cannot be written: nothing is deleted until it can");
            }
            _ => {}
        }
        written.is_ok()
    }

    /// What is due by time and not by any request.
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
                self.append(vec![Line { body, durable: None, keep: true }]);
            }
        }
        if is_due(&mut self.looked_at, LOOK_EVERY) {
            self.look();
            let turned = self.book.turn_if_old();
            if turned.is_err() {
                self.is_written(turned);
            }
        }
        if is_due(&mut self.forgot_at, FORGET_EVERY) {
            self.forget();
        }
    }

    fn look(&self) {
        let free = match space::free(self.book.directory()) {
            Ok(free) => free,
            Err(error) => return tracing::warn!(%error, "the free space for the record cannot be told"),
        };
        let low = free < self.settings.low_water;
        match (self.state.low.swap(low, Ordering::Relaxed), low) {
            (false, true) => tracing::warn!(
                free,
                low_water = self.settings.low_water,
                "little space is left for the record; when there is none, nothing is deleted"
            ),
            (true, false) => tracing::info!(free, "there is space for the record again"),
            _ => {}
        }
    }

    fn forget(&self) {
        if let Some(retain) = self.settings.retain {
            space::forget(self.book.directory(), retain, self.clock.now(), self.book.place());
        }
    }
}
