//! Whose segment is it (contract §5)? Asked anew for every request, never remembered, never
//! taken from the client. What cannot be learned beyond doubt is not known.

mod pointers;

use http::StatusCode;
use http::header::{ETAG, HeaderValue};

use crate::policy::{Owner, SegmentId};
use crate::upstream::{AskError, RequestHead, Upstream};

pub use pointers::Pointers;

/// Where account and creator of a segment come from.
#[derive(Clone, Debug)]
pub enum Ownership {
    /// A GET of the segment's own path; pointers into the answer.
    Upstream(Pointers),
    /// Left to the service, which gets the identity headers; the role alone is judged here.
    Delegate,
}

/// What the service says of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Its account and its creator.
    pub owner: Owner,
    /// What it is called, where that is looked up and is text.
    pub name: Option<String>,
    /// The version this was true of: a strong `ETag`, for the deletion's `If-Match`.
    pub version: Option<HeaderValue>,
}

/// Why nothing was learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotLearned {
    /// There is no such segment.
    NoSuchSegment,
    /// The service did not answer in time.
    Timeout,
    /// The service did not say, or not beyond doubt. For the log.
    Unclear(String),
}

impl Pointers {
    /// Asks the service about a segment.
    ///
    /// # Errors
    /// [`NotLearned`] for anything but a plain 200 that says all that is needed.
    pub async fn look_up(
        &self,
        upstream: &Upstream,
        question: RequestHead,
        segment: &SegmentId,
    ) -> Result<Learned, NotLearned> {
        let answer = upstream.ask(question).await.map_err(|error| match error {
            AskError::Timeout | AskError::ConnectTimeout(_) => NotLearned::Timeout,
            error => NotLearned::Unclear(error.to_string()),
        })?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(NotLearned::NoSuchSegment),
            status => return Err(NotLearned::Unclear(format!("the upstream answered {}", status.as_u16()))),
        }
        let (owner, name) = self.read(segment, answer.body()).map_err(NotLearned::Unclear)?;
        let mut versions = answer.headers().get_all(ETAG).iter();
        let version = versions.next().filter(|tag| tag.as_bytes().starts_with(b"\"")).cloned();
        Ok(Learned { owner, name, version: version.filter(|_| versions.next().is_none()) })
    }
}
