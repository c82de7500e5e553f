//! The way out: what a gateway does from the moment it is told to end, or to drain, until it is gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Gateway;
use super::entries::{Entries, Phase};
use crate::pipeline::Tasks;
use crate::process::Process;

/// The result of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every request ended by itself, or was cut off by [`Haste`] when it could be cut off without loss.
    Whole,
    /// `drain_timeout` was over.
    Late {
        /// How many requests with spent salts were cut off: the record has their outcome as unknown.
        lost: usize,
    },
}

/// How far a gateway is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It serves.
    Serving,
    /// It still accepts connections, and tells its clients to go elsewhere.
    Announcing,
    /// It accepts no more, and something is under way.
    Closing,
    /// Nothing is under way any more.
    Drained,
    /// `drain_timeout` was over before that.
    CutOff,
}

/// How far it is, for whoever waits for it.
pub(super) type Progress = watch::Sender<Stage>;

/// What a drain waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A worker is done, or has panicked.
    WorkerEnded,
    /// The gateway is to end once nothing is under way.
    End,
    /// Nothing more is to be announced, and nobody waited for who can do without.
    Hurry,
}

/// What moves a drain on.
pub struct Haste {
    entries: Arc<Entries>,
    events: Sender<Event>,
}

impl Haste {
    /// A gateway that drains and stays ends as soon as nothing is under way, and after `drain_timeout` in any case.
    pub(crate) fn end(&self) {
        // It may have ended already.
        let _ = self.events.send(Event::End);
    }

    /// Stops announcing, and closes connections at once. A connection with a request whose salt is spent is closed
    /// when that request is answered.
    pub fn hurry(&self) {
        let _ = self.events.send(Event::Hurry);
        self.entries.close();
        self.entries.advance(Phase::Cutting);
    }
}

/// What is under way in a gateway.
pub(super) struct UnderWay {
    /// Requests, judged and passed through.
    pub(super) requests: usize,
    /// Those of them that run to their end, because their salts are spent.
    pub(super) to_the_end: usize,
    /// Open connections.
    pub(super) connections: usize,
}

impl UnderWay {
    pub(super) fn of(process: &Process) -> Self {
        let to_the_end = to_the_end(process);
        let requests = process.slots.taken() + process.passing_slots.taken();
        Self { requests: requests.max(to_the_end), to_the_end, connections: process.metrics.open_connections() }
    }
}

/// How many requests run to their end.
fn to_the_end(process: &Process) -> usize {
    process.tasks.iter().map(Tasks::running).sum()
}

impl Gateway {
    /// Ends the gateway. `/ready` fails first. For `drain_delay`, connections are still accepted, and every answer
    /// tells its client to go elsewhere. Then nothing more is accepted, and requests in progress have
    /// `drain_timeout` to finish.
    pub fn drain(self) -> Drained {
        self.leave(true)
    }

    /// Drains the same way, but cuts nothing off, and stays until [`Haste::end`]: the admin listener and the control socket
    /// answer until then. What is under way when that is called has `drain_timeout` from then on.
    pub(crate) fn drain_and_stay(self) -> Drained {
        self.leave(false)
    }

    /// What moves [`Self::drain`] and [`Self::drain_and_stay`] on.
    pub fn haste(&self) -> Haste {
        Haste { entries: self.entries.clone(), events: self.events.0.clone() }
    }

    fn leave(self, told_to_end: bool) -> Drained {
        let Self {
            process,
            mut workers,
            entries,
            config,
            admin_worker,
            control,
            events,
            progress,
            exporter,
            last_use,
            ..
        } = self;
        let limits = &config.limits;
        let mut waiting = Waiting { events: events.1, working: workers.len(), told_to_end, hurried: false };
        process.draining.store(true, Ordering::Relaxed);
        if !limits.drain_delay.is_zero() {
            progress.send_replace(Stage::Announcing);
            entries.advance(Phase::Announcing);
            let until = Instant::now() + limits.drain_delay;
            while !waiting.hurried && waiting.next(Some(until)) {}
        }
        entries.close();
        entries.advance(Phase::Closing);
        progress.send_replace(Stage::Closing);
        workers.leave();
        let drained = if waiting.for_workers(limits.drain_timeout) {
            progress.send_replace(Stage::Drained);
            Drained::Whole
        } else {
            progress.send_replace(Stage::CutOff);
            Drained::Late { lost: to_the_end(&process) }
        };
        if !waiting.told_to_end {
            tracing::info!("nothing is under way any more; the process stays until it is told to end");
        }
        while !waiting.told_to_end && waiting.next(None) {}
        workers.end();
        // No request ends any more, and no secret is used.
        drop(exporter);
        drop(last_use);
        drop(admin_worker);
        drop(control);
        drained
    }
}

/// What a drain still waits for.
struct Waiting {
    events: Receiver<Event>,
    working: usize,
    told_to_end: bool,
    hurried: bool,
}

impl Waiting {
    /// Waits for one event; false if there was none until then.
    fn next(&mut self, until: Option<Instant>) -> bool {
        let event = match until {
            Some(until) => self.events.recv_timeout(until.saturating_duration_since(Instant::now())),
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(Event::WorkerEnded) => self.working = self.working.saturating_sub(1),
            Ok(Event::End) => self.told_to_end = true,
            Ok(Event::Hurry) => self.hurried = true,
            Err(_) => return false,
        }
        true
    }

    /// Waits for all workers, for so long from the moment on from which the gateway is to end. Returns whether all
    /// ended by themselves.
    fn for_workers(&mut self, limit: Duration) -> bool {
        let mut until = None;
        while self.working > 0 {
            if self.told_to_end && until.is_none() {
                until = Some(Instant::now() + limit);
            }
            if !self.next(until) {
                return false;
            }
        }
        true
    }
}
