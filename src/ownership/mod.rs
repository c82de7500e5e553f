//! Whose segment is it (contract §5)? Asked anew for every request, never remembered, never taken from the client. An
//! unclear answer counts as no answer.

mod pointers;

use crate::lookup::{self, LookupAnswer, LookupError, NotItsId, Unusable};
use crate::policy::SegmentId;
use crate::upstream::{RequestHead, Upstream};

pub use pointers::Pointers;
pub(crate) use pointers::SegmentInfo;

/// The source of a segment's account and creator.
#[derive(Clone, Debug)]
pub enum Ownership {
    /// A GET of the segment's own path, and JSON pointers into its answer.
    Upstream(Pointers),
    /// The service decides, by the identity headers. The gateway checks only the role.
    Delegate,
}

/// Why the owner of a segment is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnershipError {
    /// There is no such segment.
    NoSuchSegment,
    /// The service did not answer in time.
    Timeout,
    /// The answer is missing or unclear. For the log.
    Unclear(Unclear),
}

/// Why an answer is unclear.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// No answer could be read.
    #[error(transparent)]
    Unread(LookupError),
    /// A value is missing or has the wrong form.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// An id in it is not the segment's.
    #[error("the upstream's answer is about another segment, or may be ({pointer} is not its id)", pointer = .0.0)]
    AnotherSegment(#[source] NotItsId),
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

impl Ownership {
    /// Whether the service has this segment, asked as a deletion of it would ask.
    ///
    /// # Errors
    /// If the answer does not say so beyond doubt.
    pub async fn is_there(
        &self,
        upstream: &Upstream,
        question: RequestHead,
        segment: &SegmentId,
    ) -> Result<bool, Unclear> {
        match self {
            Self::Upstream(pointers) => match pointers.look_up(upstream, question, segment).await {
                Ok(learned) => learned.creator().map(|_| true).map_err(|why| why.clone().into()),
                Err(OwnershipError::NoSuchSegment) => Ok(false),
                Err(OwnershipError::Timeout) => Err(Unclear::Unread(LookupError::Timeout)),
                Err(OwnershipError::Unclear(why)) => Err(why),
            },
            Self::Delegate => match lookup::ask(upstream, question).await {
                Ok(LookupAnswer::Found(_)) => Ok(true),
                Ok(LookupAnswer::NotFound) => Ok(false),
                Err(error) => Err(Unclear::Unread(error)),
            },
        }
    }
}
