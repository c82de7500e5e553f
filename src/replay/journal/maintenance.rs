//! The work of a journal's background thread: it syncs, allocates segments, and removes forgotten ones.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
#[cfg(test)]
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use super::lock::{BEAT, Lock};
use super::open::{covered, remove_below};
use super::shared::{Call, Shared};
use super::state::{REACH_AHEAD, REACH_LEFT, State};
use super::witness::{End, Witness};
use super::{JournalSettings, JournalSync, Window};
use crate::clock::Clock;
use crate::replay::salt_set::nanos_up;

/// How often a failed allocation or write is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What the background thread works on.
pub(super) struct Maintenance {
    clock: Clock,
    directory: PathBuf,
    window: Window,
    sync: JournalSync,
    shared: Arc<Shared>,
    lock: Lock,
    state: State,
    witness: Witness,
    /// Why the witness cannot be written, if it cannot.
    witness_fault: Option<String>,
    /// Whether forgotten segments are still on disk because the state could not be written.
    removal_due: bool,
}

impl Maintenance {
    /// Shows that the journal is in use, and allocates the next segment before the first claim.
    pub(super) fn begin(
        clock: Clock,
        settings: &JournalSettings,
        shared: Arc<Shared>,
        lock: Lock,
        state: State,
        witness: Witness,
    ) -> io::Result<Self> {
        let mut work = Self {
            clock,
            directory: settings.path.clone(),
            window: settings.window,
            sync: settings.sync,
            shared,
            lock,
            state,
            witness,
            witness_fault: None,
            removal_due: false,
        };
        work.lock.beat()?;
        #[cfg(test)]
        work.shared.shown.lock().unwrap_or_else(PoisonError::into_inner).replace(work.shared.log.end());
        let trouble = work.make_room();
        work.shared.trouble(trouble);
        Ok(work)
    }

    pub(super) fn run(mut self, called: &Receiver<Call>, stopped: &Receiver<()>) {
        let tick = match self.sync {
            JournalSync::Every(often) => often.min(BEAT),
            JournalSync::Os | JournalSync::Each => BEAT,
        };
        let (mut last_beat, mut last_try) = (self.clock.elapsed(), self.clock.elapsed());
        loop {
            let call = called.recv_timeout(tick);
            if stopped.try_recv() == Err(mpsc::TryRecvError::Disconnected) {
                return self.close();
            }
            // One pass serves all calls that have arrived meanwhile.
            let mut forgot = false;
            if matches!(call, Err(RecvTimeoutError::Disconnected)) {
                return self.close();
            }
            for call in call.into_iter().chain(called.try_iter()) {
                match call {
                    Call::Wake => {}
                    Call::Forgot => forgot = true,
                    // The receiver may be gone.
                    Call::Cover(nanos, reply) => drop(reply.send(self.cover(nanos))),
                }
            }
            match self.sync {
                JournalSync::Os => self.update_witness(self.shared.log.end()),
                JournalSync::Every(_) | JournalSync::Each => self.sync(),
            }
            let now = self.clock.elapsed();
            if now.saturating_sub(last_try) >= RETRY || self.shared.log.is_short() {
                last_try = now;
                self.shared.asked_for_room.store(false, Ordering::Release);
                self.mark_doubtful();
                self.shared.log.mend();
                let trouble = self.make_room();
                let trouble = self.extend_reach().or(trouble).or_else(|| self.witness_fault.clone());
                if self.shared.on_disk.borrow().is_some() {
                    self.shared.trouble(trouble);
                }
                forgot |= self.removal_due;
            }
            if forgot {
                self.remove();
            }
            if now.saturating_sub(last_beat) >= BEAT {
                last_beat = now;
                drop(self.lock.beat());
            }
            #[cfg(test)]
            self.shared.rounds.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Syncs, and reports it to waiting claims. After a failed sync, records may be lost although they can still be
    /// read, so nothing is admitted any more.
    fn sync(&mut self) {
        let so_far = *self.shared.on_disk.borrow();
        if so_far.is_none_or(|so_far| so_far == self.shared.log.appended()) {
            return;
        }
        let synced = self.shared.log.sync();
        match &synced {
            // The witness is written after the sync, so that it is never ahead of the disk, and before waiting claims
            // are answered.
            Ok(synced) => self.update_witness(synced.end),
            Err(error) => {
                self.shared.log.give_up();
                self.shared.trouble(Some(format!("cannot be synced ({error}); nothing is admitted until a restart")));
            }
        }
        self.shared.on_disk.send_replace(synced.ok().map(|synced| synced.appended));
        self.mark_doubtful();
    }

    /// Writes the end of the log to the witness. If that fails, the journal goes on: the witness only guards against
    /// a restored copy.
    fn update_witness(&mut self, end: End) {
        let shown = self.witness.saw_end(end);
        self.note_witness(shown);
        #[cfg(test)]
        self.shared.shown.lock().unwrap_or_else(PoisonError::into_inner).replace(end);
    }

    fn note_witness(&mut self, written: io::Result<()>) {
        let path = self.witness.path().display();
        self.witness_fault = written.err().map(|error| format!("its witness {path} cannot be written: {error}"));
    }

    /// After a failed sync, data that the kernel still shows may vanish at any moment. So the next start must be
    /// behind the fence, even under the same kernel.
    fn mark_doubtful(&mut self) {
        if self.shared.on_disk.borrow().is_none() && !self.state.boot_id.is_empty() {
            let doubted = State { boot_id: String::new(), each: false, ..self.state.clone() };
            if let Err(error) = self.write_state(doubted) {
                tracing::error!(%error, "the replay journal cannot note that a sync failed");
            }
        }
    }

    /// Allocates the next segment if there is none. Returns what is wrong.
    fn make_room(&mut self) -> Option<String> {
        if self.shared.on_disk.borrow().is_none() {
            return None;
        }
        let Some(sequence) = self.shared.log.wants() else { return self.writes_fail() };
        let made = self.shared.log.prepare(sequence).and_then(|next| {
            // The state on disk names the segment before anything is written to it.
            self.write_state(State { last: sequence, ..self.state.clone() })?;
            Ok(next)
        });
        match made {
            Ok(next) => {
                self.shared.log.install(next);
                self.writes_fail()
            }
            Err(error) => Some(format!("there is no room on the disk for its next segment: {error}")),
        }
    }

    fn writes_fail(&self) -> Option<String> {
        self.shared.log.is_broken().then(|| "cannot be written".to_owned())
    }

    /// Extends the reach on disk to a date beyond it, for example after the clock was set forward or the window was
    /// widened.
    fn cover(&mut self, nanos: i64) -> bool {
        if !self.shared.covers(nanos) {
            let reach = nanos.saturating_add(i64::try_from(REACH_AHEAD.as_nanos()).unwrap_or(i64::MAX));
            if let Err(error) = self.write_state(State { reach, ..self.state.clone() }) {
                self.shared.trouble(Some(format!("its state cannot be written: {error}")));
            }
        }
        self.shared.covers(nanos)
    }

    /// Keeps the reach on disk ahead of all dates that can be admitted. Returns what is wrong.
    fn extend_reach(&mut self) -> Option<String> {
        let now = self.clock.now();
        if self.state.reach < nanos_up(now + self.window.future + REACH_LEFT) {
            let reach = nanos_up(now + self.window.future + REACH_AHEAD);
            if let Err(error) = self.write_state(State { reach, ..self.state.clone() }) {
                return Some(format!("its state cannot be written: {error}"));
            }
        }
        None
    }

    /// Removes the segments without a salt above the floor, after writing the floor to disk.
    fn remove(&mut self) {
        let floor = self.shared.salts.floor_nanos();
        self.shared.log.release(floor);
        let (first, _) = self.shared.log.span();
        let holes = self.state.holes.iter().copied().filter(|sequence| *sequence >= first).collect();
        if let Err(error) = self.write_state(State { floor, first, holes, ..self.state.clone() }) {
            // The segments stay until the state can be written, or until the next start.
            self.removal_due = true;
            return tracing::warn!(%error, "the replay journal's state cannot be written; forgotten salts stay on disk");
        }
        self.removal_due = false;
        remove_below(&self.directory, first);
    }

    fn write_state(&mut self, state: State) -> io::Result<()> {
        state.write(&self.directory)?;
        let shown = self.witness.saw_reach(state.reach);
        self.note_witness(shown);
        self.shared.covered.fetch_max(covered(state.reach), Ordering::AcqRel);
        self.state = state;
        Ok(())
    }

    fn close(mut self) {
        #[cfg(test)]
        if self.shared.killed.load(Ordering::Acquire) {
            return;
        }
        if self.shared.on_disk.borrow().is_none() {
            return;
        }
        self.shared.log.mend();
        // Removes on disk what was forgotten last.
        self.remove();
        let clean = self.shared.log.seal().and_then(|segments| {
            self.write_state(State { closed: Some(segments), ..self.state.clone() })?;
            self.update_witness(self.shared.log.end());
            self.witness.sync()
        });
        if let Err(error) = clean {
            tracing::error!(%error, "the replay journal could not be closed cleanly");
        }
    }
}
