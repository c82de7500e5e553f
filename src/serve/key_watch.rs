//! Keeps the keys in force equal to a table in PostgreSQL, on a thread of its own, so that no request waits for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use tokio::sync::{Notify, oneshot};

use super::kept_keys::{KeptSet, TakenSet};
use super::key_counts::KeyCounts;
use super::keys::put_on_record;
use crate::clock::rfc3339;
use crate::directory::Directory;
use crate::gate::Current;
use crate::key_snapshot::{ConfirmedAt, KeptKeys};
use crate::key_use::KEEP_EVERY;
use crate::postgres::{KeptUses, KeySnapshot, KeyTable, KeyTableSettings, Listening, PostgresError, SealInForce};
use crate::process::Process;
use crate::seal::KeyRing;

/// Rows at fault that the log names, of each snapshot.
const NAMED: usize = 20;
/// The time between two attempts to listen for announcements.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// How long the end of the gateway waits for what is kept last.
const LAST_KEPT: Duration = Duration::from_secs(2);

/// The thread; dropping this ends it.
pub(super) struct KeyWatch {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    notify: Arc<Notify>,
    seal: SealInForce,
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
    /// Looks at the table again before its time, with the sealing keys of a reload.
    pub(super) fn look(&self, seal: Option<Arc<KeyRing>>) {
        if let Some(seal) = seal {
            self.seal.replace(seal);
        }
        self.notify.notify_one();
    }

    /// Starts it. Returns when the keys were read, from the database or from the snapshot that is beside it, or could not be
    /// read: then nobody is let through until they are. `record` is the folder of the record.
    pub(super) fn start(
        settings: KeyTableSettings,
        record: Option<&Path>,
        process: Arc<Process>,
        current: Arc<Current>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let notify = Arc::new(Notify::new());
        let (stop, mut stopped) = oneshot::channel::<()>();
        let (looked, first) = std::sync::mpsc::channel();
        let woken = notify.clone();
        let kept = KeptSet::new(&settings, &process, record);
        let table = KeyTable::new(settings.clone());
        let (seal, ring) = (table.seal_in_force(), settings.seal.clone());
        let thread = thread::Builder::new().name("keys".into()).spawn(move || {
            let keeping = settings.is_ours.then(Keeping::new).flatten();
            let mut reading = Reading { table, kept, ring, process, current, keeping };
            runtime.block_on(async {
                tokio::select! {
                    _ = &mut stopped => {}
                    () = reading.look() => reading.start_without_database(),
                }
                let _ = looked.send(());
                // On a processor that it shares with workers, requests go first.
                let _ = rustix::process::nice(10);
                tokio::select! {
                    _ = &mut stopped => {}
                    () = reading.again_and_again(settings.interval, &woken) => {}
                    () = listen(&settings, &woken) => {}
                }
                // Whoever stops the process waits for this.
                let _ = tokio::time::timeout(LAST_KEPT, reading.keep(true)).await;
            });
        })?;
        // An error means that the thread panicked, and the panic is in the log.
        let _ = first.recv();
        Ok(Self { stop: Some(stop), thread: Some(thread), notify, seal })
    }
}

struct Reading {
    table: KeyTable,
    kept: KeptSet,
    /// What seals the snapshot.
    ring: Arc<KeyRing>,
    process: Arc<Process>,
    current: Arc<Current>,
    /// `None` for a table of somebody else.
    keeping: Option<Keeping>,
}

/// What is kept of when secrets were last used.
struct Keeping {
    instance: String,
    /// When it was kept last.
    kept: Option<Duration>,
    /// The version of the keys in force.
    version: Option<i64>,
    /// Whether the last attempt failed.
    failed: bool,
}

impl Keeping {
    /// `None` if there is no randomness to number this process by.
    fn new() -> Option<Self> {
        let instance = format!("{:016x}{:016x}", getrandom::u64().ok()?, getrandom::u64().ok()?);
        Some(Self { instance, kept: None, version: None, failed: false })
    }
}

impl Reading {
    async fn again_and_again(&mut self, interval: Duration, woken: &Notify) {
        let mut took = Duration::ZERO;
        self.keep(false).await;
        loop {
            // A table that takes long to look at is looked at half of the time at most.
            tokio::time::sleep(took).await;
            let mut left = interval.saturating_sub(took);
            loop {
                let step = left.min(KEEP_EVERY);
                tokio::select! {
                    () = tokio::time::sleep(step) => left -= step,
                    () = woken.notified() => break,
                }
                if left.is_zero() {
                    break;
                }
                self.keep(false).await;
            }
            let started = self.process.clock.elapsed();
            self.look().await;
            self.keep(false).await;
            took = self.process.clock.elapsed().saturating_sub(started);
            self.current.drop_replaced();
        }
    }

    /// Looks at the table once, and puts its keys in force if they are others.
    async fn look(&mut self) {
        let ring = self.table.seal_in_force().load();
        if *ring != *self.ring {
            self.kept.seal_by(&ring);
            self.ring = ring;
            // So that they are written again, sealed by these.
            self.table.forget();
        }
        let confirmed = self.confirm().await;
        let state = self.current.load_full().keys.clone();
        match confirmed {
            Ok((asked, taken)) => {
                if state.confirm(asked.elapsed) {
                    tracing::info!("the keys in PostgreSQL can be read again");
                }
                // Last, because requests do not wait for the disk.
                match taken {
                    Some(taken) => self.kept.write(taken, &asked, &state),
                    None => self.kept.confirm(&asked, &state),
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

    /// Keeps when secrets were last used, if it is time for that, or others are in force.
    async fn keep(&mut self, ended: bool) {
        let Self { table, process, current, keeping: Some(keeping), .. } = self else { return };
        let now = process.clock.elapsed();
        if !ended && keeping.kept.is_some_and(|kept| now < kept + KEEP_EVERY) {
            return;
        }
        process.key_uses.collect(&current.load_full().directory);
        let uses = process.key_uses.unsent();
        let Keeping { instance, version, .. } = &*keeping;
        let kept = KeptUses { instance, name: process.key_uses.gateway(), ended, version: *version, uses: &uses };
        let done = table.keep_uses(&kept).await;
        match &done {
            Ok(()) => process.key_uses.sent(&uses),
            Err(error) if !keeping.failed => {
                tracing::warn!(%error, "when secrets were last used cannot be kept in PostgreSQL");
            }
            Err(_) => {}
        }
        keeping.failed = done.is_err();
        // After a failure it is tried again as if it had been kept, because the keys themselves are more important.
        keeping.kept = Some(now);
    }

    /// When the table was asked, if the keys in force are its keys now; and those that were put in force, if they are others.
    async fn confirm(&mut self) -> Result<(ConfirmedAt, Option<TakenSet>), PostgresError> {
        self.table.connect().await?;
        let asked = ConfirmedAt::now(&self.process.clock);
        let taken = self.table.look().await?.map(|snapshot| self.take(snapshot)).transpose()?;
        Ok((asked, taken))
    }

    fn take(&mut self, snapshot: KeySnapshot) -> Result<TakenSet, PostgresError> {
        let number = snapshot.number();
        let KeySnapshot { version, entries, faults, doubts } = snapshot;
        let content = self.kept.content(&entries);
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
        let (directory, counts) = self.put_in_force(directory, at_fault, "postgres");
        if let Some(keeping) = &mut self.keeping {
            // Whoever has changed keys waits for this gateway to say so.
            (keeping.version, keeping.kept) = (number, None);
        }
        tracing::info!(
            version,
            keys = counts.all,
            added = counts.added,
            removed = counts.removed,
            at_fault,
            "the keys in PostgreSQL have changed, and are in force"
        );
        Ok(TakenSet { content, directory, version, at_fault })
    }

    fn put_in_force(&mut self, directory: Directory, at_fault: usize, by: &'static str) -> (Arc<Directory>, KeyCounts) {
        let _changing = self.current.changing();
        let old = self.current.load_full();
        self.process.key_uses.collect(&old.directory);
        directory.inherit(&old.directory);
        let (counts, directory) = (KeyCounts::new(&old.directory, &directory), Arc::new(directory));
        old.keys.set_at_fault(at_fault);
        let mut generation = old.with_keys(directory.clone(), old.keys.clone());
        put_on_record(&self.process.record, Some(&old), &mut generation, by);
        self.current.store(generation);
        (directory, counts)
    }

    /// If the first look found no keys: takes those that the database confirmed last, if that is not too long ago.
    fn start_without_database(&mut self) {
        let state = self.current.load_full().keys.clone();
        if state.has_keys() {
            return;
        }
        let Some(KeptKeys { entries, facts, confirmed, age }) = self.kept.read(&state) else { return };
        let Ok((directory, _)) = Directory::without_clashes(entries) else { return };
        if directory.digest() != facts.digest {
            tracing::error!("the snapshot of the keys is not used: it has another digest than it says");
            return;
        }
        let confirmed = rfc3339(confirmed.wall);
        let (_, counts) = self.put_in_force(directory, facts.at_fault, "snapshot");
        state.taken_from_snapshot(
            self.process.clock.elapsed(),
            age,
            format!("the snapshot that the database confirmed at {confirmed}"),
        );
        tracing::warn!(
            keys = counts.all,
            version = facts.version,
            confirmed,
            age_seconds = age.as_secs(),
            "the database is away; the keys of the snapshot are in force until max_stale"
        );
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
