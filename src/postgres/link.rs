//! A connection on which one worker asks about segments, many at a time, and which is made again when it is lost.
//!
//! A question that takes too long is not cancelled, and its connection stays: the questions behind it wait, and have answers as
//! soon as it has one. PgBouncer 1.18 ends when a client asks for a cancellation and leaves, as tokio-postgres does; and with
//! another connection for each late question, ever more processes of the database would wait for one lock. A connection that
//! answers nothing for long is replaced, for a pooler may have lost what is behind it. TCP itself notices if the other end is gone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::owner_row::look;
use super::session::Session;
use super::{OwnerAnswer, OwnerQuery, PostgresError};
use crate::clock::Clock;

/// Questions on one connection that are not answered. Each further one is refused.
const MAX_UNANSWERED: u64 = 1024;
/// A connection without an answer for this many times the time of a look-up is replaced.
const SILENT: u32 = 6;
/// The pause after a first failed attempt to connect. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The connection of one worker.
#[derive(Debug)]
pub(super) struct Link {
    line: Mutex<Option<Arc<Line>>>,
    /// Held by whoever connects; the others wait for the result.
    attempts: tokio::sync::Mutex<Option<FailedAttempt>>,
}

/// An open connection, and how far it has answered.
#[derive(Debug)]
pub(super) struct Line {
    session: Session,
    /// How many questions were sent. Answers come in the same order.
    sent: AtomicU64,
    /// How many of them are answered.
    answered: AtomicU64,
    /// When the last answer came, in milliseconds of the elapsed clock.
    heard: AtomicU64,
}

/// Why there is no connection, and when to try again.
#[derive(Debug)]
struct FailedAttempt {
    why: Arc<PostgresError>,
    pause: Duration,
    over: Duration,
}

impl Line {
    async fn ask(&self, question: &str, segment: &str, clock: &Clock) -> Result<OwnerAnswer, PostgresError> {
        let unanswered = self.sent.load(Ordering::Relaxed).saturating_sub(self.answered.load(Ordering::Relaxed));
        if unanswered >= MAX_UNANSWERED {
            return Err(PostgresError::Crowded);
        }
        let number = 1 + self.sent.fetch_add(1, Ordering::Relaxed);
        let answer = look(&self.session, question, segment).await;
        self.answered.fetch_max(number, Ordering::Relaxed);
        self.heard.store(milliseconds(clock), Ordering::Relaxed);
        answer
    }
}

fn milliseconds(clock: &Clock) -> u64 {
    u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Link {
    pub(super) fn new() -> Self {
        Self { line: Mutex::default(), attempts: tokio::sync::Mutex::default() }
    }

    /// Asks, and once more on another connection if the first was lost meanwhile: the question changes nothing.
    pub(super) async fn ask(
        &self,
        settings: &OwnerQuery,
        clock: &Clock,
        (question, segment): (&str, &str),
    ) -> Result<OwnerAnswer, PostgresError> {
        let mut is_first = true;
        loop {
            let line = self.connect(settings, clock).await?;
            let answer = line.ask(question, segment, clock).await;
            let lost = answer.as_ref().is_err_and(|error| error.is_of_the_connection() || line.session.is_closed());
            if lost {
                self.leave(&line);
            }
            if !(lost && std::mem::take(&mut is_first)) {
                return answer;
            }
        }
    }
    /// The connection that is there, or a new one. After a failure everybody gets the same error until the pause is over.
    async fn connect(&self, settings: &OwnerQuery, clock: &Clock) -> Result<Arc<Line>, PostgresError> {
        if let Some(line) = self.current() {
            return Ok(line);
        }
        let mut attempts = self.attempts.lock().await;
        if let Some(line) = self.current() {
            return Ok(line);
        }
        if let Some(failed) = attempts.as_ref().filter(|failed| clock.elapsed() < failed.over) {
            return Err(PostgresError::Away(failed.why.clone()));
        }
        // Half of the time is left for the question.
        match Session::open(&settings.address, settings.timeout / 2, None).await {
            Ok(session) => {
                let (sent, answered, heard) =
                    (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(milliseconds(clock)));
                let line = Arc::new(Line { session, sent, answered, heard });
                *attempts = None;
                *self.slot() = Some(line.clone());
                Ok(line)
            }
            Err(error) => {
                let why = Arc::new(error);
                let pause = attempts.as_ref().map_or(FIRST_PAUSE, |failed| (2 * failed.pause).min(LONGEST_PAUSE));
                *attempts = Some(FailedAttempt { why: why.clone(), pause, over: clock.elapsed() + pause });
                Err(PostgresError::Away(why))
            }
        }
    }

    /// A question was not answered in time. Stops using its connection if that has been silent for long.
    pub(super) fn late(&self, settings: &OwnerQuery, clock: &Clock) {
        let Some(line) = self.current() else { return };
        let silent = milliseconds(clock).saturating_sub(line.heard.load(Ordering::Relaxed));
        if Duration::from_millis(silent) >= SILENT * settings.timeout {
            self.leave(&line);
        }
    }

    /// Whether there is a connection.
    pub(super) fn is_connected(&self) -> bool {
        self.current().is_some()
    }

    fn current(&self) -> Option<Arc<Line>> {
        self.slot().as_ref().filter(|line| !line.session.is_closed()).cloned()
    }

    /// Stops using this connection, if nobody has replaced it.
    fn leave(&self, line: &Arc<Line>) {
        drop(self.slot().take_if(|current| Arc::ptr_eq(current, line)));
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<Line>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
