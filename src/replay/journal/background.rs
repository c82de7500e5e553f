//! The background thread of a journal: it syncs, allocates segments, and removes forgotten ones.

use std::io;
use std::path::PathBuf;
#[cfg(test)]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::lock::{BEAT, Lock};
use super::log::Log;
use super::open::{Opened, covered, remove_below};
use super::state::{REACH_AHEAD, REACH_LEFT, State};
use super::witness::{End, Witness};
use super::{JournalSettings, JournalSync, Window};
use crate::clock::Clock;
use crate::replay::salt_set::{SaltSet, nanos_up};
use crate::replay::{Claim, ClaimRefused, StoreHealth};

/// How often a failed allocation or write is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// State that claims and the background thread share.
pub(super) struct Shared {
    pub(super) salts: SaltSet,
    pub(super) log: Log,
    each: bool,
    /// How many records of this run are on disk; `None` once a sync has failed.
    on_disk: watch::Sender<Option<u64>>,
    /// What is wrong, as a text for operators.
    trouble: Mutex<Option<String>>,
    calls: Mutex<Sender<Call>>,
    /// Whether the thread was asked to allocate a segment and has not done it yet.
    asked_for_room: AtomicBool,
    /// The date up to which the reach on disk lets claims be admitted, in nanoseconds since 1970.
    covered: AtomicI64,
    /// Set when a test ends the journal as a kill would.
    #[cfg(test)]
    killed: AtomicBool,
    /// The end of the log that was last written to the witness.
    #[cfg(test)]
    shown: Mutex<Option<End>>,
    /// How many times the background thread has finished all work that was due.
    #[cfg(test)]
    rounds: AtomicU64,
}

enum Call {
    /// A record waits for a sync, or space is getting short.
    Wake,
    /// The floor has risen.
    Forgot,
    /// Extends the reach on disk to this date, and replies whether that succeeded.
    Cover(i64, oneshot::Sender<bool>),
}

/// The running thread. Dropping it closes the journal, cleanly if possible.
pub(super) struct BackgroundThread {
    stop: Option<Sender<()>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    /// The result of a claim whose record was number `appended` of this run.
    pub(super) fn on_disk(&self, appended: u64) -> Claim<'_> {
        // Ask once, not with every claim until the segment is there.
        if self.log.is_short() && !self.asked_for_room.swap(true, Ordering::AcqRel) {
            self.call(Call::Wake);
        }
        if !self.each {
            return Claim::Now(Ok(()));
        }
        self.call(Call::Wake);
        let mut on_disk = self.on_disk.subscribe();
        Claim::Later(Box::pin(async move {
            let known = on_disk.wait_for(|so_far| so_far.is_none_or(|so_far| so_far >= appended)).await;
            match known.map(|so_far| *so_far) {
                Ok(Some(_)) => Ok(()),
                Ok(None) | Err(_) => Err(ClaimRefused::Unknown),
            }
        }))
    }

    /// Makes the next sync fail.
    #[cfg(test)]
    pub(super) fn fail_next_sync(&self) {
        self.log.fail_next_sync();
    }

    /// Whether the fence of the next start would cover this date if the journal were lost now.
    pub(super) fn covers(&self, nanos: i64) -> bool {
        nanos <= self.covered.load(Ordering::Acquire)
    }

    /// Extends the reach on disk to this date. Returns whether that succeeded.
    pub(super) async fn cover(&self, nanos: i64) -> bool {
        let (reply, covered) = oneshot::channel();
        self.call(Call::Cover(nanos, reply));
        covered.await.unwrap_or(false)
    }

    pub(super) fn forgot(&self) {
        self.call(Call::Forgot);
    }

    pub(super) fn health(&self) -> StoreHealth {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match trouble {
            Some(why) if self.log.room() <= self.salts.reserved() => StoreHealth::Gone(why),
            Some(why) => StoreHealth::Degraded(why),
            None => self.salts.is_full().map_or(StoreHealth::Ok, StoreHealth::Degraded),
        }
    }

    fn call(&self, call: Call) {
        // If the thread has ended, it has reported why.
        drop(self.calls.lock().unwrap_or_else(PoisonError::into_inner).send(call));
    }

    fn trouble(&self, why: Option<String>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*trouble, &why) {
            (None, Some(why)) => tracing::error!("the replay journal: {why}"),
            (Some(_), None) => tracing::warn!("the replay journal works again"),
            _ => {}
        }
        *trouble = why;
    }
}

/// How a test acts on a journal from outside.
#[cfg(test)]
pub(in crate::replay) struct TestControl(pub(super) Arc<Shared>);

#[cfg(test)]
impl TestControl {
    /// Ends the journal as a kill would: nothing is closed, and the files stay as they are.
    pub(in crate::replay) fn kill(&self) {
        self.0.killed.store(true, Ordering::Release);
    }

    /// Waits until the background thread has seen the time that is set now and has done all that is due.
    pub(in crate::replay) fn finish_work(&self) {
        // The round that ends first may have begun before.
        for _ in 0..2 {
            let before = self.0.rounds.load(Ordering::Acquire);
            self.0.call(Call::Wake);
            while self.0.rounds.load(Ordering::Acquire) == before {
                std::thread::yield_now();
            }
        }
    }

    /// Waits until the witness knows the end of the log.
    pub(in crate::replay) fn settle(&self) {
        while *self.0.shown.lock().unwrap_or_else(PoisonError::into_inner) != Some(self.0.log.end()) {
            self.0.call(Call::Wake);
            std::thread::yield_now();
        }
    }
}

pub(super) fn start(
    clock: Clock,
    settings: &JournalSettings,
    opened: Opened,
) -> io::Result<(Arc<Shared>, BackgroundThread)> {
    let Opened { lock, state, witness, salts, log } = opened;
    let (calls, called) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let shared = Arc::new(Shared {
        salts,
        log,
        each: settings.sync == JournalSync::Each,
        on_disk: watch::Sender::new(Some(0)),
        trouble: Mutex::default(),
        calls: Mutex::new(calls),
        asked_for_room: AtomicBool::new(false),
        covered: AtomicI64::new(covered(state.reach)),
        #[cfg(test)]
        killed: AtomicBool::new(false),
        #[cfg(test)]
        shown: Mutex::default(),
        #[cfg(test)]
        rounds: AtomicU64::new(0),
    });
    let mut work = Maintenance {
        clock,
        directory: settings.path.clone(),
        window: settings.window,
        sync: settings.sync,
        shared: shared.clone(),
        lock,
        state,
        witness,
        witness_fault: None,
        removal_due: false,
    };
    work.lock.beat()?;
    #[cfg(test)]
    shared.shown.lock().unwrap_or_else(PoisonError::into_inner).replace(shared.log.end());
    // The next segment is allocated before the first claim.
    let trouble = work.make_room();
    shared.trouble(trouble);
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

struct Maintenance {
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
    fn run(mut self, called: &Receiver<Call>, stopped: &Receiver<()>) {
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
