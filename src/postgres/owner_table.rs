//! Whose segment is it, asked of PostgreSQL for each deletion (contract §5), on one connection for each worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::link::Link;
use super::owner_row::question;
use super::{OwnerAnswer, OwnerQuery, PostgresError};
use crate::clock::Clock;
use crate::event_loop;

/// The table, or whatever the query reads. Cloning it is cheap; the clones share their connections.
#[derive(Clone, Debug)]
pub(crate) struct OwnerTable(Arc<Table>);

#[derive(Debug)]
struct Table {
    settings: OwnerQuery,
    question: String,
    /// One for each worker, so that no worker waits for another.
    links: Box<[Link]>,
    clock: Clock,
    health: Health,
    /// Whether it is being asked in the background.
    trying: AtomicBool,
}

impl OwnerTable {
    /// An id that no service gives. The database says what types the columns have, also if there is no such row.
    pub(crate) const NOBODYS: &str = "saltgate-check";

    /// Keeps the connections of `before` if it has the same settings; else the first question connects.
    pub(crate) fn new(settings: &OwnerQuery, workers: usize, clock: &Clock, before: Option<&Self>) -> Self {
        if let Some(before) = before.filter(|before| before.0.settings == *settings) {
            return before.clone();
        }
        Self(Arc::new(Table {
            settings: settings.clone(),
            question: question(&settings.query),
            links: (0..workers).map(|_| Link::new()).collect(),
            clock: clock.clone(),
            health: Health::default(),
            trying: AtomicBool::new(false),
        }))
    }

    /// Asks about a segment, on the connection of this worker.
    ///
    /// # Errors
    /// If the database does not answer in time, or not with two columns of types that have one form.
    pub(crate) async fn ask(&self, worker: usize, segment: &str) -> Result<OwnerAnswer, PostgresError> {
        let Table { settings, question, links, clock, health, .. } = &*self.0;
        let link = &links[worker % links.len()];
        let answer = event_loop::timeout(settings.timeout, link.ask(settings, clock, (question, segment))).await;
        let answer = answer.unwrap_or_else(|_| {
            link.late(settings, clock);
            let section = settings.address.section;
            Err(PostgresError::Late { what: "the look-up", section, limit: settings.timeout })
        });
        health.tell(answer.as_ref().err());
        answer
    }

    /// Asks in the background about a segment that is not there, if the database could not be asked or is not connected. So an
    /// outage, its end, and a query that the database refuses are noticed without requests. For the worker that calls it, which
    /// must be the first.
    pub(crate) fn try_again(&self) {
        let Table { links, health, trying, .. } = &*self.0;
        if links[0].is_connected() && !health.is_bad.load(Ordering::Relaxed) || trying.swap(true, Ordering::Relaxed) {
            return;
        }
        let table = self.clone();
        tokio::spawn(async move {
            drop(table.ask(0, Self::NOBODYS).await);
            table.0.trying.store(false, Ordering::Relaxed);
        });
    }

    /// Why it could not be asked when it was asked last.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.0.health.trouble()
    }
}

/// Whether the database could be asked when it was asked last.
#[derive(Debug, Default)]
struct Health {
    is_bad: AtomicBool,
    why: Mutex<String>,
}

impl Health {
    fn tell(&self, error: Option<&PostgresError>) {
        // The database has taken the query, and another segment may have an answer.
        match error.filter(|error| !error.is_of_a_value()) {
            None if !self.is_bad.load(Ordering::Relaxed) => {}
            None => {
                if self.is_bad.swap(false, Ordering::Relaxed) {
                    tracing::info!("the owners of segments can be asked of PostgreSQL again");
                }
            }
            Some(error) => {
                let why = error.to_string();
                *self.why() = why.clone();
                if !self.is_bad.swap(true, Ordering::Relaxed) {
                    tracing::warn!(why, "the owners of segments cannot be asked of PostgreSQL; nothing is deleted");
                }
            }
        }
    }

    fn trouble(&self) -> Option<String> {
        self.is_bad.load(Ordering::Relaxed).then(|| self.why().clone())
    }

    fn why(&self) -> std::sync::MutexGuard<'_, String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
