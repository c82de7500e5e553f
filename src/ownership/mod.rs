//! Whose segment is it (contract §5)? Asked anew for every request, never remembered, never taken from the client. An
//! unclear answer counts as no answer.

mod pointers;
mod rows;
mod segment_info;
mod unclear;

use crate::clock::Clock;
use crate::lookup::{self, LookupAnswer, LookupError};
use crate::policy::SegmentId;
use crate::postgres::{OwnerQuery, OwnerTable};
use crate::upstream::{RequestHead, Upstream};

pub use pointers::Pointers;
pub(crate) use segment_info::SegmentInfo;
pub(crate) use unclear::Unclear;

/// The source of a segment's account and creator; `P` is how PostgreSQL is asked.
#[derive(Clone, Debug)]
pub(crate) enum Ownership<P = OwnerTable> {
    /// A GET of the segment's own path, and JSON pointers into its answer.
    Upstream(Pointers),
    /// A query of a database, which the service also uses.
    Postgres(P),
    /// The service decides, by the identity headers. The gateway checks only the role.
    Delegate,
}

/// Why the owner of a segment is unknown.
#[derive(Debug)]
pub enum OwnershipError {
    /// There is no such segment.
    NoSuchSegment,
    /// There was no answer in time.
    Timeout,
    /// The answer is missing or unclear. For the log.
    Unclear(Unclear),
}

impl Pointers {
    /// Asks the service about a segment.
    ///
    /// # Errors
    /// [`OwnershipError`] for anything but a plain 200 that says whose account it is in.
    pub async fn look_up(
        &self,
        upstream: &Upstream,
        question: RequestHead,
        segment: &SegmentId,
    ) -> Result<SegmentInfo, OwnershipError> {
        match lookup::ask(upstream, question).await {
            Ok(LookupAnswer::Found(document)) => self.read(segment, &document).map_err(OwnershipError::Unclear),
            Ok(LookupAnswer::NotFound) => Err(OwnershipError::NoSuchSegment),
            Err(LookupError::Timeout) => Err(OwnershipError::Timeout),
            Err(error) => Err(OwnershipError::Unclear(Unclear::Unread(error))),
        }
    }
}

/// Asks PostgreSQL about a segment, on the connection of this worker.
///
/// # Errors
/// [`OwnershipError`] for anything but one row that says whose account it is in.
pub(crate) async fn look_up(
    table: &OwnerTable,
    worker: usize,
    segment: &SegmentId,
) -> Result<SegmentInfo, OwnershipError> {
    match table.ask(worker, segment.as_str()).await {
        Ok(answer) => match rows::read(answer) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(OwnershipError::NoSuchSegment),
            Err(why) => Err(OwnershipError::Unclear(why.into())),
        },
        Err(error) if error.is_late() => Err(OwnershipError::Timeout),
        Err(error) => Err(OwnershipError::Unclear(Unclear::Unasked(error))),
    }
}

impl Ownership<OwnerQuery> {
    /// The source for so many workers. Connections of `before` are kept if nothing about them has changed.
    pub(crate) fn open(&self, workers: usize, clock: &Clock, before: Option<&Ownership>) -> Ownership {
        let before = before.and_then(|before| match before {
            Ownership::Postgres(table) => Some(table),
            Ownership::Upstream(_) | Ownership::Delegate => None,
        });
        match self {
            Self::Upstream(pointers) => Ownership::Upstream(pointers.clone()),
            Self::Postgres(query) => Ownership::Postgres(OwnerTable::new(query, workers, clock, before)),
            Self::Delegate => Ownership::Delegate,
        }
    }
}

impl Ownership {
    /// Whether the service has this segment, asked as a deletion of it would ask.
    ///
    /// # Errors
    /// If the answer does not say so beyond doubt.
    pub(crate) async fn is_there(
        &self,
        upstream: &Upstream,
        question: RequestHead,
        segment: &SegmentId,
    ) -> Result<bool, Unclear> {
        match self {
            Self::Upstream(pointers) => is_there(pointers.look_up(upstream, question, segment).await),
            Self::Postgres(table) => is_there(look_up(table, 0, segment).await),
            Self::Delegate => match lookup::ask(upstream, question).await {
                Ok(LookupAnswer::Found(_)) => Ok(true),
                Ok(LookupAnswer::NotFound) => Ok(false),
                Err(error) => Err(Unclear::Unread(error)),
            },
        }
    }
}

fn is_there(found: Result<SegmentInfo, OwnershipError>) -> Result<bool, Unclear> {
    match found {
        Ok(learned) => learned.creator().map(|_| true).map_err(|why| why.clone().into()),
        Err(OwnershipError::NoSuchSegment) => Ok(false),
        Err(OwnershipError::Timeout) => Err(Unclear::Unread(LookupError::Timeout)),
        Err(OwnershipError::Unclear(why)) => Err(why),
    }
}
