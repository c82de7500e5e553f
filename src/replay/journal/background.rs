//! The background thread of a journal: its start, its end, and what follows if it panics.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use super::maintenance::Maintenance;
use super::open::{Opened, covered};
use super::shared::{Call, Shared};
use super::{JournalSettings, JournalSync};
use crate::clock::Clock;

/// The running thread. Dropping it closes the journal, cleanly if possible.
pub(super) struct BackgroundThread {
    stop: Option<Sender<()>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

pub(super) fn start(
    clock: Clock,
    settings: &JournalSettings,
    opened: Opened,
) -> io::Result<(Arc<Shared>, BackgroundThread)> {
    let Opened { lock, state, witness, salts, log } = opened;
    let (calls, called) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let each = settings.sync == JournalSync::Each;
    let shared = Arc::new(Shared::new(salts, log, each, covered(state.reach), calls));
    let work = Maintenance::begin(clock, settings, shared.clone(), lock, state, witness)?;
    let guard = PanicGuard(shared.clone());
    let thread = std::thread::Builder::new().name("journal".into()).spawn(move || {
        let _guard = guard;
        work.run(&called, &stopped);
    })?;
    Ok((shared.clone(), BackgroundThread { stop: Some(stop), shared, thread: Some(thread) }))
}

/// If the thread panics, nobody waits for it any longer.
struct PanicGuard(Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.log.give_up();
            self.0.trouble(Some("its background thread failed; nothing is admitted until a restart".into()));
            self.0.on_disk.send_replace(None);
        }
    }
}

impl Drop for BackgroundThread {
    fn drop(&mut self) {
        self.stop = None;
        self.shared.call(Call::Wake);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
