//! Look-ups: GETs to the service whose answers decide whether something is deleted, and the strict reader of those
//! answers (contract §5, §7).
//!
//! 1. A look-up is a GET in the caller's name. Nothing that the client sent goes with it.
//! 2. Only a 200 or 404 from the service itself counts. A cached answer (`origin`) may describe an earlier state of
//!    the segment.
//! 3. The body must be strict JSON (`json`): UTF-8, not compressed, no member name twice in an object.
//! 4. Values are read from the [`Document`] by JSON pointer, and must have the expected form: an account or a creator
//!    must be an [`Identifier`](crate::policy::Identifier).

mod document;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod json;
mod origin;

use http::StatusCode;

use crate::upstream::{AskError, RequestHead, Upstream};

pub(crate) use document::{Document, NotItsId, Unusable, segment_id};
pub(crate) use json::NotStrict;

/// The answer of the service.
#[derive(Debug)]
pub(crate) enum LookupAnswer {
    /// The thing exists, and this document describes it.
    Found(Document),
    /// The thing does not exist.
    NotFound,
}

/// Why a look-up gave no reliable answer. The text is for the log and for `check --live`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// It did not answer in time.
    #[error("the upstream did not answer in time")]
    Timeout,
    /// No complete answer came.
    #[error("{0}")]
    NoAnswer(#[source] AskError),
    /// The status is neither 200 nor 404.
    #[error("the upstream answered {0}")]
    Status(u16),
    /// This field says that the answer comes from a cache, or is not understood.
    #[error("the upstream's answer comes from a cache and is not believed ({0}); do not cache look-ups")]
    FromCache(String),
    /// This field, which must be unique, occurs more than once.
    #[error("the upstream's answer has more than one {0}")]
    Repeated(&'static str),
    /// The body is compressed, with this coding.
    #[error("the upstream's answer is compressed (Content-Encoding: {0}), which was not asked for")]
    Compressed(String),
    /// The body is not strict JSON. The second value is the Content-Type, if it does not say JSON in UTF-8.
    #[error("the upstream's answer {0}{charset}", charset = .1.as_ref().map(|it| format!(" (its Content-Type is {it})")).unwrap_or_default())]
    NotStrict(NotStrict, Option<String>),
}

/// Sends the look-up, and reads the answer.
///
/// # Errors
/// [`LookupError`] for anything but a 200 with strict JSON, or a 404.
pub(crate) async fn ask(upstream: &Upstream, question: RequestHead) -> Result<LookupAnswer, LookupError> {
    let answer = upstream.ask(question).await.map_err(|error| match error {
        AskError::Timeout | AskError::ConnectTimeout(_) => LookupError::Timeout,
        error => LookupError::NoAnswer(error),
    })?;
    let (head, body) = answer.into_parts();
    origin::judge(&head.headers)?;
    match head.status {
        StatusCode::OK => Document::read(head.headers, &body).map(LookupAnswer::Found),
        StatusCode::NOT_FOUND => Ok(LookupAnswer::NotFound),
        status => Err(LookupError::Status(status.as_u16())),
    }
}

/// Parses strict JSON, as an answer must be.
///
/// # Errors
/// [`NotStrict`] if it is not strict JSON.
pub(crate) fn strict_json(text: &[u8]) -> Result<serde_json::Value, NotStrict> {
    json::parse(text)
}

/// A foreign value for a message, shortened.
fn shown(value: &[u8]) -> String {
    const LONGEST: usize = 128;
    let shown = String::from_utf8_lossy(&value[..value.len().min(LONGEST)]);
    if value.len() > LONGEST { format!("{shown}…") } else { shown.into_owned() }
}
