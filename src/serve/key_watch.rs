//! Keeps the keys in force equal to a table in PostgreSQL, on a thread of its own, so that no request waits for it.

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use tokio::sync::{Notify, oneshot};

use super::key_counts::KeyCounts;
use super::keys::put_on_record;
use crate::directory::Directory;
use crate::gate::Current;
use crate::postgres::{KeySnapshot, KeyTable, KeyTableSettings, Listening, PostgresError};
use crate::process::Process;

/// Rows at fault that the log names, of each snapshot.
const NAMED: usize = 20;
/// The time between two attempts to listen for announcements.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// The thread; dropping this ends it.
pub(super) struct KeyWatch {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    notify: Arc<Notify>,
}

impl Drop for KeyWatch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl KeyWatch {
    /// Looks at the table again before its time.
    pub(super) fn look(&self) {
        self.notify.notify_one();
    }

    /// Starts it. Returns when the keys were read, or could not be read: then nobody is let through until they are.
    pub(super) fn start(settings: KeyTableSettings, process: Arc<Process>, current: Arc<Current>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let notify = Arc::new(Notify::new());
        let (stop, mut stopped) = oneshot::channel::<()>();
        let (looked, first) = std::sync::mpsc::channel();
        let woken = notify.clone();
        let thread = thread::Builder::new().name("keys".into()).spawn(move || {
            let table = KeyTable::new(settings.clone());
            let mut reading = Reading { table, process, current, replaced: Vec::new() };
            runtime.block_on(async {
                tokio::select! {
                    _ = &mut stopped => {}
                    () = reading.look() => {}
                }
                let _ = looked.send(());
                // On a processor that it shares with workers, requests go first.
                let _ = rustix::process::nice(10);
                tokio::select! {
                    _ = &mut stopped => {}
                    () = reading.again_and_again(settings.interval, &woken) => {}
                    () = listen(&settings, &woken) => {}
                }
            });
        })?;
        // An error means that the thread panicked, and the panic is in the log.
        let _ = first.recv();
        Ok(Self { stop: Some(stop), thread: Some(thread), notify })
    }
}

struct Reading {
    table: KeyTable,
    process: Arc<Process>,
    current: Arc<Current>,
    /// Directories that requests may still use. Dropping one with many keys takes a while, so this thread does it.
    replaced: Vec<Arc<Directory>>,
}

impl Reading {
    async fn again_and_again(&mut self, interval: Duration, woken: &Notify) {
        let mut took = Duration::ZERO;
        loop {
            // A table that takes long to look at is looked at half of the time at most.
            tokio::time::sleep(took).await;
            tokio::select! {
                () = tokio::time::sleep(interval.saturating_sub(took)) => {}
                () = woken.notified() => {}
            }
            let started = self.process.clock.elapsed();
            self.look().await;
            took = self.process.clock.elapsed().saturating_sub(started);
            self.replaced.retain(|directory| Arc::strong_count(directory) > 1);
        }
    }

    /// Looks at the table once, and puts its keys in force if they are others.
    async fn look(&mut self) {
        let confirmed = self.confirm().await;
        let state = self.current.load_full().keys.clone();
        match confirmed {
            Ok(asked) => {
                if state.confirm(asked) {
                    tracing::info!("the keys in PostgreSQL can be read again");
                }
            }
            Err(error) => {
                let why = error.to_string();
                if state.failed(why.clone()) {
                    tracing::warn!(why, "the keys in PostgreSQL cannot be read; those in force stay until max_stale");
                }
            }
        }
    }

    /// When the table was asked, if the keys in force are its keys now.
    async fn confirm(&mut self) -> Result<Duration, PostgresError> {
        self.table.connect().await?;
        let asked = self.process.clock.elapsed();
        if let Some(snapshot) = self.table.look().await? {
            self.take(snapshot)?;
        }
        Ok(asked)
    }

    fn take(&mut self, snapshot: KeySnapshot) -> Result<(), PostgresError> {
        let KeySnapshot { version, entries, faults, doubts } = snapshot;
        let made = Directory::without_clashes(entries);
        let (directory, clashes) = made.map_err(|_| {
            self.table.forget();
            PostgresError::NoRandomness
        })?;
        let at_fault = faults.len() + clashes.len();
        let named = faults.iter().map(ToString::to_string).chain(clashes.iter().map(ToString::to_string));
        for fault in named.take(NAMED) {
            tracing::error!(fault, "a key in PostgreSQL is at fault and disabled");
        }
        for doubt in doubts.iter().take(NAMED) {
            tracing::warn!(doubt = %doubt, "a key in PostgreSQL may be a mistake");
        }
        let changing = self.current.changing();
        let old = self.current.load_full();
        directory.inherit(&old.directory);
        let counts = KeyCounts::new(&old.directory, &directory);
        old.keys.set_at_fault(at_fault);
        let mut generation = old.with_keys(Arc::new(directory), old.keys.clone());
        put_on_record(&self.process.record, Some(&old), &mut generation, "postgres");
        self.current.store(generation);
        drop(changing);
        self.replaced.push(old.directory.clone());
        tracing::info!(
            version,
            keys = counts.all,
            added = counts.added,
            removed = counts.removed,
            at_fault,
            "the keys in PostgreSQL have changed, and are in force"
        );
        Ok(())
    }
}

/// Wakes the reader whenever a change is announced, as long as there is a connection. Never ends.
async fn listen(settings: &KeyTableSettings, notify: &Arc<Notify>) {
    let Some(address) = &settings.listen else { return std::future::pending().await };
    let mut told = false;
    loop {
        match Listening::open(address, settings.timeout, notify).await {
            Ok(mut listening) => {
                // Whatever was announced before.
                notify.notify_one();
                told = false;
                listening.ended().await;
            }
            Err(error) => {
                if !told {
                    tracing::warn!(why = %error, "changes of keys are not announced; they are found at the next look");
                }
                told = true;
            }
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}
