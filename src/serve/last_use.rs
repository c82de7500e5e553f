//! Keeps when secrets were last used, in the file of this gateway (contract §8). A thread of its own, so that no request waits.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;

use crate::config::Config;
use crate::gate::Current;
use crate::key_use::{KEEP_EVERY, UseFile, UseLedger};
use crate::process::Process;

/// The thread. Dropping it writes what is known once more.
pub(super) struct LastUse {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for LastUse {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What this gateway knows at its start.
pub(super) fn ledger(config: &Config, now: std::time::SystemTime) -> UseLedger {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let listener = config.listeners.first().map(|listener| format!(" {}", listener.address)).unwrap_or_default();
    let file = config.keys_file.last_use.clone().map(UseFile::new);
    let before = file.and_then(|file| {
        file.read().unwrap_or_else(|error| {
            tracing::warn!(%error, "when secrets were last used cannot be read: nothing is known of the time before this start");
            None
        })
    });
    UseLedger::new(format!("{host}{listener}"), before, now)
}

impl LastUse {
    /// Starts to keep the uses of the keys in force, if there is a file for them.
    pub(super) fn start(config: &Config, process: &Arc<Process>, current: &Arc<Current>) -> io::Result<Option<Self>> {
        let Some(path) = config.keys_file.last_use.clone() else { return Ok(None) };
        let keeper = Keeper { file: UseFile::new(path), process: process.clone(), current: current.clone() };
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("last-use".into()).spawn(move || {
            let mut is_kept = true;
            loop {
                keeper.keep(false, &mut is_kept);
                if stopped.recv_timeout(KEEP_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return keeper.keep(true, &mut is_kept);
                }
            }
        })?;
        Ok(Some(Self { stop: Some(stop), thread: Some(thread) }))
    }
}

struct Keeper {
    file: UseFile,
    process: Arc<Process>,
    current: Arc<Current>,
}

impl Keeper {
    fn keep(&self, ended: bool, is_kept: &mut bool) {
        self.process.key_uses.collect(&self.current.load_full().directory);
        let known = self.process.key_uses.known(self.process.clock.now(), ended);
        let written = self.file.write(&known);
        if let (Err(error), true) = (&written, *is_kept) {
            let file = self.file.path().display();
            tracing::warn!(%error, %file, "when secrets were last used cannot be kept: `saltgate keys promote --idle` will refuse");
        }
        *is_kept = written.is_ok();
    }
}
