//! The thread that keeps a journal: syncs, makes room, removes what is forgotten.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::lock::{BEAT, Lock};
use super::log::Log;
use super::open::{Opened, REACH_AHEAD, REACH_LEFT, remove_below};
use super::state::State;
use super::{JournalSettings, JournalSync, Window};
use crate::clock::Clock;
use crate::replay::book::{Book, nanos_up};
use crate::replay::{Claim, ClaimRefused, Health};

/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What claims and keeper share.
pub(super) struct Kept {
    pub(super) book: Book,
    pub(super) log: Log,
    each: bool,
    /// How many records are on disk; `None` once that cannot be known any more.
    on_disk: watch::Sender<Option<u64>>,
    /// What is wrong, in words.
    trouble: Mutex<Option<String>>,
    calls: Mutex<Sender<Call>>,
    /// Whether the keeper was told that room is getting short, and has not looked yet.
    asked_for_room: AtomicBool,
    /// The date up to which claims are admitted, in nanoseconds since 1970: what the reach on disk
    /// covers.
    covered: AtomicI64,
}

enum Call {
    /// A record waits to be on disk, or room is getting short.
    Work,
    /// The floor has risen.
    Forgot,
    /// A date is to be covered by the reach on disk; tells whether it is.
    Cover(i64, oneshot::Sender<bool>),
}

/// The running thread. Dropping it closes the journal, cleanly if it can be.
pub(super) struct Keeper {
    stop: Option<Sender<()>>,
    kept: Arc<Kept>,
    thread: Option<JoinHandle<()>>,
}

impl Kept {
    /// The answer of a claim whose record was the so-manieth.
    pub(super) fn on_disk(&self, appended: u64) -> Claim<'_> {
        // Once, not with every claim until the room is made.
        if self.log.is_short() && !self.asked_for_room.swap(true, Ordering::AcqRel) {
            self.call(Call::Work);
        }
        if !self.each {
            return Claim::Now(Ok(()));
        }
        self.call(Call::Work);
        let mut on_disk = self.on_disk.subscribe();
        Claim::Later(Box::pin(async move {
            let known = on_disk.wait_for(|so_far| so_far.is_none_or(|so_far| so_far >= appended)).await;
            match known.map(|so_far| *so_far) {
                Ok(Some(_)) => Ok(()),
                Ok(None) | Err(_) => Err(ClaimRefused::Unknown),
            }
        }))
    }

    /// The next sync fails, as a disk's may.
    #[cfg(test)]
    pub(super) fn fail_next_sync(&self) {
        self.log.fail_next_sync();
    }

    /// Whether the fence of a life that begins after this one was lost covers a date.
    pub(super) fn covers(&self, nanos: i64) -> bool {
        nanos <= self.covered.load(Ordering::Acquire)
    }

    /// Waits until it does.
    pub(super) async fn cover(&self, nanos: i64) -> bool {
        let (tell, told) = oneshot::channel();
        self.call(Call::Cover(nanos, tell));
        told.await.unwrap_or(false)
    }

    pub(super) fn forgot(&self) {
        self.call(Call::Forgot);
    }

    pub(super) fn health(&self) -> Health {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match trouble {
            Some(why) if self.log.room() <= self.book.set_aside() => Health::Gone(why),
            Some(why) => Health::Degraded(why),
            None => Health::Ok,
        }
    }

    fn call(&self, call: Call) {
        // A keeper that is gone has told why.
        drop(self.calls.lock().unwrap_or_else(PoisonError::into_inner).send(call));
    }

    fn trouble(&self, why: Option<String>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*trouble, &why) {
            (None, Some(why)) => tracing::error!("the replay journal: {why}"),
            (Some(_), None) => tracing::warn!("the replay journal is well again"),
            _ => {}
        }
        *trouble = why;
    }
}

pub(super) fn start(clock: Clock, settings: &JournalSettings, opened: Opened) -> io::Result<(Arc<Kept>, Keeper)> {
    let Opened { lock, state, book, log } = opened;
    let (calls, called) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let kept = Arc::new(Kept {
        book,
        log,
        each: settings.sync == JournalSync::Each,
        on_disk: watch::Sender::new(Some(0)),
        trouble: Mutex::default(),
        calls: Mutex::new(calls),
        asked_for_room: AtomicBool::new(false),
        covered: AtomicI64::new(covered(&state)),
    });
    let mut work = Work {
        clock,
        directory: settings.path.clone(),
        window: settings.window,
        sync: settings.sync,
        kept: kept.clone(),
        lock,
        state,
        behind: false,
    };
    work.lock.beat()?;
    // Room for as many as may come at once, before the first does.
    let trouble = work.make_room();
    kept.trouble(trouble);
    let ended = Ended(kept.clone());
    let thread = std::thread::Builder::new().name("journal".into()).spawn(move || {
        let _ended = ended;
        work.run(&called, &stopped);
    })?;
    Ok((kept.clone(), Keeper { stop: Some(stop), kept, thread: Some(thread) }))
}

/// Whatever ends the keeper: nobody waits for it any more.
struct Ended(Arc<Kept>);

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.log.give_up();
            self.0.trouble(Some("its keeper failed; nothing is admitted until a restart".into()));
            self.0.on_disk.send_replace(None);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        self.kept.call(Call::Work);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The date up to which a fence covers what is admitted by this state.
fn covered(state: &State) -> i64 {
    state.reach.saturating_sub(i64::try_from(REACH_LEFT.as_nanos()).unwrap_or(i64::MAX))
}

struct Work {
    clock: Clock,
    directory: PathBuf,
    window: Window,
    sync: JournalSync,
    kept: Arc<Kept>,
    lock: Lock,
    state: State,
    /// Whether forgotten segments are still there, because the state could not be written.
    behind: bool,
}

impl Work {
    fn run(mut self, called: &Receiver<Call>, stopped: &Receiver<()>) {
        let tick = match self.sync {
            JournalSync::Every(often) => often.min(BEAT),
            JournalSync::Os | JournalSync::Each => BEAT,
        };
        let (mut beaten, mut tried) = (self.clock.elapsed(), self.clock.elapsed());
        loop {
            let call = called.recv_timeout(tick);
            if stopped.try_recv() == Err(mpsc::TryRecvError::Disconnected) {
                return self.close();
            }
            // Whatever else was called for meanwhile is done with this.
            let mut forgot = false;
            if matches!(call, Err(RecvTimeoutError::Disconnected)) {
                return self.close();
            }
            for call in call.into_iter().chain(called.try_iter()) {
                match call {
                    Call::Work => {}
                    Call::Forgot => forgot = true,
                    // Whoever asked may be gone.
                    Call::Cover(nanos, tell) => drop(tell.send(self.cover(nanos))),
                }
            }
            if self.sync != JournalSync::Os {
                self.put_on_disk();
            }
            let now = self.clock.elapsed();
            if now.saturating_sub(tried) >= RETRY || self.kept.log.is_short() {
                tried = now;
                self.kept.asked_for_room.store(false, Ordering::Release);
                self.doubt();
                self.kept.log.mend();
                let trouble = self.make_room();
                let trouble = self.reach_further().or(trouble);
                if self.kept.on_disk.borrow().is_some() {
                    self.kept.trouble(trouble);
                }
                forgot |= self.behind;
            }
            if forgot {
                self.remove();
            }
            if now.saturating_sub(beaten) >= BEAT {
                beaten = now;
                drop(self.lock.beat());
            }
        }
    }

    /// Syncs, and tells whoever waits. What failed to sync once may be lost and look as if it were
    /// not: from then on nothing more is admitted.
    fn put_on_disk(&mut self) {
        let so_far = *self.kept.on_disk.borrow();
        if so_far.is_none_or(|so_far| so_far == self.kept.log.appended()) {
            return;
        }
        let synced = self.kept.log.sync();
        if let Err(error) = &synced {
            self.kept.log.give_up();
            self.kept.trouble(Some(format!("cannot be synced ({error}); nothing is admitted until a restart")));
        }
        self.kept.on_disk.send_replace(synced.ok());
        self.doubt();
    }

    /// Once a sync has failed, what the kernel still shows may be gone at any moment: the next start
    /// is to be behind the fence, whichever kernel runs.
    fn doubt(&mut self) {
        if self.kept.on_disk.borrow().is_none() && !self.state.boot_id.is_empty() {
            let doubted = State { boot_id: String::new(), each: false, ..self.state.clone() };
            if let Err(error) = self.write_state(doubted) {
                tracing::error!(%error, "the replay journal cannot note that it is in doubt");
            }
        }
    }

    /// Makes the next segment ready if there is none, and says what is wrong.
    fn make_room(&mut self) -> Option<String> {
        if self.kept.on_disk.borrow().is_none() {
            return None;
        }
        let Some(sequence) = self.kept.log.wants() else { return self.writes_fail() };
        let made = self.kept.log.prepare(sequence).and_then(|next| {
            // Known on disk before anything is written to it.
            self.write_state(State { last: sequence, ..self.state.clone() })?;
            Ok(next)
        });
        match made {
            Ok(next) => {
                self.kept.log.install(next);
                self.writes_fail()
            }
            Err(error) => Some(format!("no room can be made for it: {error}")),
        }
    }

    fn writes_fail(&self) -> Option<String> {
        self.kept.log.is_broken().then(|| "cannot be written".to_owned())
    }

    /// Makes the reach on disk cover a date that lies beyond it: after the clock was set forward, say,
    /// or with a window that was made wider.
    fn cover(&mut self, nanos: i64) -> bool {
        if !self.kept.covers(nanos) {
            let reach = nanos.saturating_add(i64::try_from(REACH_AHEAD.as_nanos()).unwrap_or(i64::MAX));
            if let Err(error) = self.write_state(State { reach, ..self.state.clone() }) {
                self.kept.trouble(Some(format!("its state cannot be written: {error}")));
            }
        }
        self.kept.covers(nanos)
    }

    /// Keeps the reach on disk ahead of the dates that can be admitted, and says what is wrong.
    fn reach_further(&mut self) -> Option<String> {
        let now = self.clock.now();
        if self.state.reach < nanos_up(now + self.window.future + REACH_LEFT) {
            let reach = nanos_up(now + self.window.future + REACH_AHEAD);
            if let Err(error) = self.write_state(State { reach, ..self.state.clone() }) {
                return Some(format!("its state cannot be written: {error}"));
            }
        }
        None
    }

    /// Removes the segments that hold nothing above the floor, once the floor is on disk.
    fn remove(&mut self) {
        let floor = self.kept.book.floor_nanos();
        self.kept.log.release(floor);
        let (first, _) = self.kept.log.span();
        let holes = self.state.holes.iter().copied().filter(|sequence| *sequence >= first).collect();
        if let Err(error) = self.write_state(State { floor, first, holes, ..self.state.clone() }) {
            // They stay until it can be, or until the next start.
            self.behind = true;
            return tracing::warn!(%error, "the replay journal's state cannot be written; what is forgotten stays on disk");
        }
        self.behind = false;
        remove_below(&self.directory, first);
    }

    fn write_state(&mut self, state: State) -> io::Result<()> {
        state.write(&self.directory)?;
        self.kept.covered.fetch_max(covered(&state), Ordering::AcqRel);
        self.state = state;
        Ok(())
    }

    fn close(mut self) {
        if self.kept.on_disk.borrow().is_none() {
            return;
        }
        self.kept.log.mend();
        // What was forgotten last is forgotten on disk too.
        self.remove();
        let clean =
            self.kept.log.sync_all().and_then(|()| self.write_state(State { clean: true, ..self.state.clone() }));
        if let Err(error) = clean {
            tracing::error!(%error, "the replay journal could not be closed cleanly");
        }
    }
}
