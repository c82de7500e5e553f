//! The answer to the caller of a refused request, and whether its header can be sent again.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use serde_json::to_writer;

/// How long the header of a refused request stays valid by its date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remaining {
    /// The date is unknown.
    Unknown,
    /// For this long from now.
    For(Duration),
    /// It can never pass, because its salt is spent or its date is not above the floor.
    Never,
}

impl Remaining {
    fn exceeds(self, wait: Duration) -> bool {
        match self {
            Self::Unknown => true,
            Self::For(left) => left > wait,
            Self::Never => false,
        }
    }
}

/// The answer to the caller: a status, a code, a message, and fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `errorCode`.
    pub code: &'static str,
    /// `errorMessage`, without the sentence that [`Answer::message`] adds.
    text: &'static str,
    again: Option<Again>,
    /// `Allow`.
    pub allow: Option<&'static str>,
    /// Whether the connection must close, because it is unclear where the next message begins.
    pub close: bool,
}

/// When the caller may try again, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// With the same header: `Retry-After`.
    Same(u64),
    /// With a new header. There is no `Retry-After`, because clients would resend the old header.
    Anew(u64),
}

impl Answer {
    pub(super) const fn new(status: u16, code: &'static str, text: &'static str) -> Self {
        Self { status, code, text, again: None, allow: None, close: false }
    }

    /// The caller may try again after `wait`, with the same header if it will be valid then, else with a new one.
    pub(super) fn again(self, wait: Duration, header: Remaining) -> Self {
        let seconds = whole_seconds(wait);
        let same = header.exceeds(Duration::from_secs(seconds));
        Self { again: Some(if same { Again::Same(seconds) } else { Again::Anew(seconds) }), ..self }
    }

    /// `errorMessage`.
    pub fn message(&self) -> Cow<'static, str> {
        match self.again {
            Some(Again::Anew(1)) => format!("{} Sign a new request after 1 second.", self.text).into(),
            Some(Again::Anew(seconds)) => format!("{} Sign a new request after {seconds} seconds.", self.text).into(),
            Some(Again::Same(_)) | None => self.text.into(),
        }
    }

    /// The body: an object with exactly `errorCode` and `errorMessage`.
    ///
    /// Written without an intermediate JSON value, because refusing strangers must be cheap.
    pub fn body(&self) -> Bytes {
        let mut body = Vec::with_capacity(128);
        body.extend_from_slice(b"{\"errorCode\":");
        // Writing to a `Vec` cannot fail.
        let _ = to_writer(&mut body, self.code);
        body.extend_from_slice(b",\"errorMessage\":");
        let _ = to_writer(&mut body, &self.message());
        body.push(b'}');
        body.into()
    }

    /// `Retry-After`, in whole seconds.
    pub fn retry_after(&self) -> Option<u64> {
        match self.again {
            Some(Again::Same(seconds)) => Some(seconds),
            Some(Again::Anew(_)) | None => None,
        }
    }

    /// The wait in whole seconds, with the same or a new header.
    pub fn wait_seconds(&self) -> Option<u64> {
        self.again.map(|(Again::Same(seconds) | Again::Anew(seconds))| seconds)
    }

    /// The answer to every failed authentication and every missing permission.
    pub const UNAUTHORIZED: Self = Self::new(401, "Unauthorized", "권한이 없습니다.");
    pub(super) const NOT_FOUND: Self = Self::new(404, "NotFound", "There is no such resource.");
    pub(crate) const INTERNAL: Self =
        Self::new(500, "InternalError", "The request could not be completed; nothing was deleted.");
    /// The upstream could not be reached; the deletion was not sent.
    pub const BAD_GATEWAY: Self =
        Self::new(502, "BadGateway", "The service behind this gateway failed; nothing was deleted.");
    /// The upstream did not answer in time; the deletion was not sent.
    pub const GATEWAY_TIMEOUT: Self =
        Self::new(504, "GatewayTimeout", "The service behind this gateway did not answer; nothing was deleted.");
    const OUTCOME: &'static str = "The deletion was sent and its answer was lost: it may have happened.";
    /// The deletion was sent and the connection failed.
    pub const OUTCOME_LOST: Self = Self::new(502, "OutcomeUnknown", Self::OUTCOME);
    /// The deletion was sent and no answer came in time.
    pub const OUTCOME_LATE: Self = Self::new(504, "OutcomeUnknown", Self::OUTCOME);

    /// A passed-through request could not be sent.
    pub const NOT_REACHED: Self =
        Self::new(502, "BadGateway", "The service behind this gateway could not be reached; nothing was sent to it.");
    /// A passed-through request could not be sent in time.
    pub const NOT_REACHED_IN_TIME: Self = Self { status: 504, code: "GatewayTimeout", ..Self::NOT_REACHED };
    /// A passed-through request was sent and the connection failed.
    pub const EFFECT_LOST: Self =
        Self::new(502, "OutcomeUnknown", "The request was sent and its answer was lost: it may have had its effect.");
    /// A passed-through request was sent and no answer came in time.
    pub const EFFECT_LATE: Self = Self { status: 504, ..Self::EFFECT_LOST };

    pub(super) const fn unavailable(text: &'static str) -> Self {
        Self::new(503, "ServiceUnavailable", text)
    }

    pub(super) const fn throttled(text: &'static str) -> Self {
        Self::new(429, "TooManyRequests", text)
    }

    pub(super) const fn allowing(self, method: &'static str) -> Self {
        Self { allow: Some(method), ..self }
    }

    pub(super) const fn closing(self) -> Self {
        Self { close: true, ..self }
    }
}

/// Seconds rounded up, at least one, so that a caller who waits that long is not too early.
fn whole_seconds(left: Duration) -> u64 {
    left.as_secs().saturating_add(u64::from(left.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_the_announced_time_is_enough() {
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
    }
}
