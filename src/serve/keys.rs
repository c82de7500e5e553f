//! The keys in force are replaced when their file, or the file of a secret, changes (contract §9).
//!
//! 1. The files are checked once a second, through symbolic links. A change is taken if no file changed again between
//!    before it was read and [`SETTLED`] after, so that a file is not taken while it is being written.
//! 2. Keys with a fault are not taken: the ones of before stay in force, the log says why once, and `/ready` is degraded
//!    until the files change again. A file without keys is such a fault unless `allow_empty` is set.
//! 3. A thread of its own reads them, with a low priority, so that no request waits for it.
//! 4. A reload and a change of the files are never taken at once. A reload reads its keys before it is taken, so the
//!    files are compared with how they were before that.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::audit::{KeySet, Record};
use crate::config::{Config, Fault, read_keys};
use crate::directory::{Directory, KeyState, KeysFile};
use crate::file_watch::FileWatch;
use crate::gate::{Current, Generation};
use crate::process::Process;

/// How often the files are checked. With [`SETTLED`] it is well below the two seconds after which a revocation holds.
const TICK: Duration = Duration::from_secs(1);
/// How long files must stay the same after they were read.
const SETTLED: Duration = Duration::from_millis(250);
/// The priority of the thread: on a processor that it shares with workers, requests go first.
const NICER: i32 = 10;

/// Watches the files of the keys in force. Dropping it ends its thread.
pub(super) struct Keys {
    watched: Arc<Mutex<Watched>>,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The files that the keys in force were read from.
pub(super) struct Watched {
    file: KeysFile,
    /// The files as they were before they were read.
    watch: FileWatch,
    /// Whether they have changed since, or were not settled when they were read last.
    is_due: bool,
    /// How many reloads were taken: what was read before one is not taken after it.
    reloads: u64,
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Keys {
    /// Starts to watch the files of the keys of `config`, which are in force.
    pub(super) fn start(config: &mut Config, process: &Arc<Process>, current: &Arc<Current>) -> io::Result<Self> {
        let watched = Watched {
            file: config.keys_file.clone(),
            watch: std::mem::take(&mut config.keys_watch),
            is_due: false,
            reloads: 0,
        };
        let watched = Arc::new(Mutex::new(watched));
        let (stop, stopped) = mpsc::channel();
        let watcher = Watcher { watched: watched.clone(), process: process.clone(), current: current.clone(), stopped };
        let thread = std::thread::Builder::new().name("keys".into()).spawn(move || watcher.run())?;
        Ok(Self { watched, stop: Some(stop), thread: Some(thread) })
    }

    /// The files that are watched. While this is held, no change of them is taken.
    pub(super) fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// A reload put the keys of `config` in force.
    pub(super) fn reloaded(&mut self, config: &mut Config, process: &Process) {
        self.file = config.keys_file.clone();
        self.watch = std::mem::take(&mut config.keys_watch);
        self.is_due = false;
        self.reloads += 1;
        process.keys_refused.store(false, Ordering::Relaxed);
    }
}

/// Writes to the record how the keys of `new`, which is about to come into force, differ from those of `before`, and
/// gives them their number. Keys that do not differ keep it.
pub(super) fn put_on_record(record: &Record, before: Option<&Generation>, new: &mut Generation, by: &'static str) {
    let changes = new.directory.changes_since(before.map(|before| &*before.directory));
    let last = before.map_or(0, |before| before.key_set);
    if before.is_some() && changes.is_none() {
        new.key_set = last;
        return;
    }
    new.key_set = last + 1;
    record.key_set(&KeySet {
        version: new.key_set,
        digest: &new.directory.digest(),
        by,
        keys: new.directory.len(),
        added: &changes.added,
        removed: &changes.removed,
        changed: &changes.changed,
    });
}

/// What was read from the files at one moment.
struct Found {
    keys: Result<(Directory, Vec<Fault>), Vec<Fault>>,
    watch: FileWatch,
    reloads: u64,
}

/// The thread that reads changed files.
struct Watcher {
    watched: Arc<Mutex<Watched>>,
    process: Arc<Process>,
    current: Arc<Current>,
    stopped: mpsc::Receiver<()>,
}

impl Watcher {
    fn run(self) {
        if let Err(error) = rustix::process::nice(NICER) {
            tracing::debug!(%error, "the priority of reading keys cannot be lowered");
        }
        while self.is_awaited(TICK) {
            self.current.drop_replaced();
            let Some(found) = self.read_if_changed() else { continue };
            if !self.is_awaited(SETTLED) {
                return;
            }
            self.take_if_settled(found);
        }
    }

    /// Waits; false if the gateway has ended.
    fn is_awaited(&self, time: Duration) -> bool {
        self.stopped.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_if_changed(&self) -> Option<Found> {
        let (file, reloads) = {
            let mut watched = self.watched();
            watched.is_due |= watched.watch.has_changed();
            // Whoever reads a pipe takes its content away from a reload.
            if !watched.is_due || watched.watch.irregular().is_some() {
                return None;
            }
            (watched.file.clone(), watched.reloads)
        };
        let watch = FileWatch::default();
        Some(Found { keys: read_keys(&file, &watch), watch, reloads })
    }

    fn take_if_settled(&self, found: Found) {
        let Found { keys, watch, reloads } = found;
        let mut watched = self.watched();
        if watched.reloads != reloads || watch.has_changed() {
            return;
        }
        watched.watch = watch;
        watched.is_due = false;
        match keys {
            Ok((directory, warnings)) => {
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                let old = self.current.load_full();
                self.process.key_uses.collect(&old.directory);
                directory.inherit(&old.directory);
                directory.remember_uses(&self.process.key_uses.all());
                let keys = directory.len();
                let state = KeyState::of_file(self.process.clock.elapsed());
                let mut new = old.with_keys(Arc::new(directory), Arc::new(state));
                put_on_record(&self.process.record, Some(&old), &mut new, "watch");
                self.current.store(new);
                self.process.keys_refused.store(false, Ordering::Relaxed);
                tracing::info!(keys, "the keys were changed; the new ones are in force");
            }
            Err(faults) => {
                for fault in faults {
                    tracing::error!("{fault}");
                }
                self.process.keys_refused.store(true, Ordering::Relaxed);
                tracing::error!("the keys were changed and cannot be used; those of before stay in force");
            }
        }
    }
}
