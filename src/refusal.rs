//! Refusals: the closed list of reasons, and the status and code of each (contract §6, §10).
//!
//! 1. A [`Reason`] is for the log and the metrics, an [`Answer`] for the caller. All failed authentications and
//!    missing permissions get the same answer.
//! 2. A refusal before the salt is spent is a [`Refused`] and may be 503. A refusal after it is a
//!    [`RefusedAfterSpend`] and is never 503: clients resend on 503, and the header that they would resend is spent.
//! 3. All matches are without `_`, so a new reason does not compile until it has an answer.
//! 4. `Retry-After` makes clients resend the same header. Only `Answer::again` decides whether that header will still
//!    be valid then; if not, the message says when to sign a new request.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use serde_json::to_writer;

use crate::http::fault::{Kind, MessageFault};
use crate::repeats::KeptAnswer;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Why a request ended as it did: the closed list of contract §10.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names are the contract's")]
        pub enum Reason { $($(#[$doc])* $variant,)+ }

        impl Reason {
            /// Every reason, in the contract's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in logs and in the `reason` label.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

reasons! {
    Ok = "ok",
    MissingCredentials = "missing_credentials",
    RepeatedCredentials = "repeated_credentials",
    MalformedCredentials = "malformed_credentials",
    UnsupportedScheme = "unsupported_scheme",
    UnknownKey = "unknown_key",
    InactiveKey = "inactive_key",
    SignatureMismatch = "signature_mismatch",
    DateSkewed = "date_skewed",
    BelowFloor = "below_floor",
    SaltReused = "salt_reused",
    RoleInsufficient = "role_insufficient",
    NotCreator = "not_creator",
    SegmentNotFound = "segment_not_found",
    RouteNotFound = "route_not_found",
    MethodNotAllowed = "method_not_allowed",
    MalformedRequest = "malformed_request",
    LoopDetected = "loop_detected",
    TooLarge = "too_large",
    TooSlow = "too_slow",
    PreconditionFailed = "precondition_failed",
    AutomationsLinked = "automations_linked",
    Frozen = "frozen",
    BudgetSpent = "budget_spent",
    Throttled = "throttled",
    Overloaded = "overloaded",
    Fenced = "fenced",
    ReplayFull = "replay_full",
    ReplayUnavailable = "replay_unavailable",
    RecordUnavailable = "record_unavailable",
    OwnershipUnavailable = "ownership_unavailable",
    UpstreamUnreachable = "upstream_unreachable",
    UpstreamTimeout = "upstream_timeout",
    OutcomeUnknown = "outcome_unknown",
    ClientGone = "client_gone",
    InternalError = "internal_error",
}

/// Refused before the salt was spent: nothing happened, and the header may still be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No `Authorization` field.
    MissingCredentials,
    /// More than one `Authorization` field.
    RepeatedCredentials,
    /// The header violates the grammar of contract §2.
    MalformedCredentials,
    /// Another scheme than `HMAC-SHA256`.
    UnsupportedScheme,
    /// No such apiKey.
    UnknownKey,
    /// The key is switched off or has expired.
    InactiveKey,
    /// Not signed with a secret of the key.
    SignatureMismatch,
    /// Outside the window.
    DateSkewed,
    /// In the window, but at or below the floor.
    BelowFloor,
    /// The message is malformed; the text says how.
    MalformedRequest(&'static str),
    /// The message has passed this gateway before.
    LoopDetected,
    /// An `Expect` that is not `100-continue`.
    ExpectationFailed,
    /// The request target is over its limit.
    TargetTooLong,
    /// The header section is over its limit.
    HeadersTooLarge,
    /// The body is over its limit.
    BodyTooLarge,
    /// The head did not come in time.
    HeadTooSlow,
    /// The body did not come in time.
    BodyTooSlow,
    /// The salt was spent before. Found early, before waiting for the body.
    SaltReused,
    /// Too many requests with this header wait for their bodies.
    HeaderBusy,
    /// The key spends salts too fast; the next one is allowed after this time.
    KeySpendsTooFast(Duration),
    /// Too many signatures from this address failed; the next failure is allowed after this time.
    FailedTooOften(Duration),
    /// The key has the most requests in flight that one key may have.
    KeyBusy,
    /// The key holds its share of the store of spent salts.
    KeyShareSpent,
    /// No slot is free.
    Overloaded,
    /// The store of spent salts is new; requests signed before the end of the fence, after this time, are refused.
    Fenced(Duration),
    /// The store of spent salts is full.
    ReplayFull,
    /// The store of spent salts cannot be reached.
    ReplayUnavailable,
    /// The record cannot be written.
    RecordUnavailable,
    /// The client left before anything was spent.
    ClientGone,
}

/// The refusal of a request that is wrong as HTTP.
impl From<MessageFault> for Refused {
    fn from(fault: MessageFault) -> Self {
        match fault.kind() {
            Kind::Malformed(what) => Self::MalformedRequest(what),
            Kind::TargetTooLong => Self::TargetTooLong,
            Kind::HeadersTooLarge => Self::HeadersTooLarge,
            Kind::HeadTooSlow => Self::HeadTooSlow,
            Kind::BodyTooSlow => Self::BodyTooSlow,
        }
    }
}

/// The automations that a deletion would stop, and how the caller confirms it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// The automations: id, and name if known.
    pub automations: Vec<(String, Option<String>)>,
    /// The digest of the set, for `X-Saltgate-Confirm`.
    pub confirm: String,
}

/// The answer to a repeat: that of the first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// The request id of the first request.
    pub of: Box<str>,
    /// Its answer.
    pub kept: KeptAnswer,
}

/// Refused after the salt was spent: never 503.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusedAfterSpend {
    /// The salt was spent before.
    SaltReused,
    /// The same request spent the salt before, and its answer is given again.
    Repeated(Box<Repeated>),
    /// Too many repeats of the same request wait for its answer.
    RepeatsWait,
    /// The date left the window between the first check and the claim.
    DateSkewed,
    /// The floor rose over the date between the first check and the claim.
    BelowFloor,
    /// The store gave no answer to the claim; the salt counts as spent.
    ClaimUnknown,
    /// The keys changed between the first check and the claim, and the header is no longer valid.
    Revoked(Revoked),
    /// No such route.
    RouteNotFound,
    /// The path belongs to a route with this other method.
    MethodNotAllowed(&'static str),
    /// The role permits nothing on this route.
    RoleInsufficient,
    /// Somebody else created the segment.
    NotCreator,
    /// No such segment in the caller's account.
    SegmentNotFound,
    /// The caller's own condition does not match the version that was checked, or cannot be checked.
    PreconditionFailed,
    /// The owner of the segment could not be determined.
    OwnershipUnavailable,
    /// The owner of the segment could not be determined in time.
    OwnershipTimeout,
    /// The key, the account or everything is frozen.
    Frozen,
    /// The key or the account has used up its deletion budget; the next deletion is possible after this time.
    BudgetSpent(Duration),
    /// Automations are linked to the segment, and the caller did not confirm this set of them.
    AutomationsLinked(Box<Linked>),
    /// The linked automations could not be determined.
    AutomationsUnavailable,
    /// The linked automations could not be determined in time.
    AutomationsTimeout,
    /// The intent could not be written to the record.
    RecordUnavailable,
    /// An internal error.
    Internal,
}

/// Why a header is no longer valid under the keys in force when its salt was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The key is gone.
    UnknownKey,
    /// The key is switched off or has expired.
    InactiveKey,
    /// The secret that signed it no longer belongs to the key.
    SignatureMismatch,
    /// The form of its date is no longer accepted.
    MalformedCredentials,
}

/// What every refusal provides.
pub trait Refusal {
    /// The reason, for logs and metrics.
    fn reason(&self) -> Reason;
    /// The answer to the caller. `header` is how long the caller's header stays valid.
    fn answer(&self, header: Remaining) -> Answer;
    /// Whether this request itself spent a salt before it was refused.
    fn spent(&self) -> bool;
    /// The linked automations, which the answer lists.
    fn linked(&self) -> Option<&Linked> {
        None
    }
    /// The answer of an earlier request, if the caller gets that one.
    fn repeated(&self) -> Option<&Repeated> {
        None
    }
}

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
    const fn new(status: u16, code: &'static str, text: &'static str) -> Self {
        Self { status, code, text, again: None, allow: None, close: false }
    }

    /// The caller may try again after `wait`, with the same header if it will be valid then, else with a new one.
    fn again(self, wait: Duration, header: Remaining) -> Self {
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
    const NOT_FOUND: Self = Self::new(404, "NotFound", "There is no such resource.");
    const INTERNAL: Self = Self::new(500, "InternalError", "The request could not be completed; nothing was deleted.");
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

    const fn unavailable(text: &'static str) -> Self {
        Self::new(503, "ServiceUnavailable", text)
    }

    const fn throttled(text: &'static str) -> Self {
        Self::new(429, "TooManyRequests", text)
    }

    const fn closing(self) -> Self {
        Self { close: true, ..self }
    }
}

impl Repeated {
    /// The answer if the first request has not ended in time or its answer is unknown: it may have been carried out.
    pub fn of_unknown(of: Box<str>) -> Self {
        Self { of, kept: KeptAnswer::own(Answer::OUTCOME_LATE.status, Answer::OUTCOME_LATE.body()) }
    }
}

impl Refusal for Refused {
    fn reason(&self) -> Reason {
        match *self {
            Self::MissingCredentials => Reason::MissingCredentials,
            Self::RepeatedCredentials => Reason::RepeatedCredentials,
            Self::MalformedCredentials => Reason::MalformedCredentials,
            Self::UnsupportedScheme => Reason::UnsupportedScheme,
            Self::UnknownKey => Reason::UnknownKey,
            Self::InactiveKey => Reason::InactiveKey,
            Self::SignatureMismatch => Reason::SignatureMismatch,
            Self::DateSkewed => Reason::DateSkewed,
            Self::BelowFloor => Reason::BelowFloor,
            Self::MalformedRequest(_) | Self::ExpectationFailed => Reason::MalformedRequest,
            Self::LoopDetected => Reason::LoopDetected,
            Self::TargetTooLong | Self::HeadersTooLarge | Self::BodyTooLarge => Reason::TooLarge,
            Self::HeadTooSlow | Self::BodyTooSlow => Reason::TooSlow,
            Self::SaltReused => Reason::SaltReused,
            Self::FailedTooOften(_)
            | Self::KeyBusy
            | Self::HeaderBusy
            | Self::KeySpendsTooFast(_)
            | Self::KeyShareSpent => Reason::Throttled,
            Self::Overloaded => Reason::Overloaded,
            Self::Fenced(_) => Reason::Fenced,
            Self::ReplayFull => Reason::ReplayFull,
            Self::ReplayUnavailable => Reason::ReplayUnavailable,
            Self::RecordUnavailable => Reason::RecordUnavailable,
            Self::ClientGone => Reason::ClientGone,
        }
    }

    fn answer(&self, header: Remaining) -> Answer {
        match *self {
            Self::MissingCredentials
            | Self::RepeatedCredentials
            | Self::MalformedCredentials
            | Self::UnsupportedScheme
            | Self::UnknownKey
            | Self::InactiveKey
            | Self::SignatureMismatch
            | Self::DateSkewed
            | Self::BelowFloor
            | Self::SaltReused => Answer::UNAUTHORIZED,
            Self::MalformedRequest(what) => Answer::new(400, "BadRequest", what).closing(),
            // The client has gone, so nobody reads this. The connection must close.
            Self::ClientGone => Answer::new(400, "BadRequest", "The message ended before it was complete.").closing(),
            Self::LoopDetected => {
                Answer::new(508, "LoopDetected", "The message has passed this gateway before.").closing()
            }
            Self::ExpectationFailed => {
                Answer::new(417, "ExpectationFailed", "Only `Expect: 100-continue` is supported.").closing()
            }
            Self::TargetTooLong => Answer::new(414, "UriTooLong", "The request target is too long.").closing(),
            Self::HeadersTooLarge => Answer::new(431, "HeadersTooLarge", "The header section is too large.").closing(),
            Self::BodyTooLarge => Answer::new(413, "PayloadTooLarge", "The body is too large.").closing(),
            Self::HeadTooSlow => Answer::new(408, "RequestTimeout", "The head did not arrive in time.").closing(),
            Self::BodyTooSlow => Answer::new(408, "RequestTimeout", "The body did not arrive in time.").closing(),
            // A stranger's answer depends only on the address, and not on the date of a header without a valid
            // signature.
            Self::FailedTooOften(left) => Answer::throttled("Too many requests from this address were not authorized.")
                .again(left, Remaining::Unknown),
            Self::KeyBusy => Answer::throttled("This key has too many requests in flight.").again(SECOND, header),
            Self::HeaderBusy => {
                Answer::throttled("Other requests with this Authorization are waiting for their bodies.")
                    .again(SECOND, header)
            }
            Self::KeySpendsTooFast(left) => {
                Answer::throttled("This key sends requests faster than it may.").again(left, header)
            }
            Self::KeyShareSpent => {
                Answer::throttled("This key has sent too many requests within the window.").again(SECOND * 60, header)
            }
            Self::Overloaded => Answer::unavailable("Too many requests are in flight.").again(SECOND, header),
            // The floor never falls, so a date at or below it never passes.
            Self::Fenced(left) => Answer::unavailable("Starting; requests signed before the start are not admitted.")
                .again(left, Remaining::Never),
            Self::ReplayFull | Self::ReplayUnavailable => {
                Answer::unavailable("The replay memory cannot take this request.").again(SECOND, header)
            }
            Self::RecordUnavailable => {
                Answer::unavailable("The record cannot be written; nothing is deleted.").again(SECOND, header)
            }
        }
    }

    fn spent(&self) -> bool {
        false
    }
}

impl Refusal for RefusedAfterSpend {
    fn reason(&self) -> Reason {
        match *self {
            Self::SaltReused | Self::Repeated(_) => Reason::SaltReused,
            Self::RepeatsWait => Reason::Throttled,
            Self::DateSkewed => Reason::DateSkewed,
            Self::BelowFloor => Reason::BelowFloor,
            Self::ClaimUnknown => Reason::ReplayUnavailable,
            Self::Revoked(Revoked::UnknownKey) => Reason::UnknownKey,
            Self::Revoked(Revoked::InactiveKey) => Reason::InactiveKey,
            Self::Revoked(Revoked::SignatureMismatch) => Reason::SignatureMismatch,
            Self::Revoked(Revoked::MalformedCredentials) => Reason::MalformedCredentials,
            Self::RouteNotFound => Reason::RouteNotFound,
            Self::MethodNotAllowed(_) => Reason::MethodNotAllowed,
            Self::RoleInsufficient => Reason::RoleInsufficient,
            Self::NotCreator => Reason::NotCreator,
            Self::SegmentNotFound => Reason::SegmentNotFound,
            Self::PreconditionFailed => Reason::PreconditionFailed,
            Self::OwnershipUnavailable
            | Self::OwnershipTimeout
            | Self::AutomationsUnavailable
            | Self::AutomationsTimeout => Reason::OwnershipUnavailable,
            Self::Frozen => Reason::Frozen,
            Self::BudgetSpent(_) => Reason::BudgetSpent,
            Self::AutomationsLinked(_) => Reason::AutomationsLinked,
            Self::RecordUnavailable => Reason::RecordUnavailable,
            Self::Internal => Reason::InternalError,
        }
    }

    /// The salt is spent, so the header can never pass again.
    fn answer(&self, _: Remaining) -> Answer {
        match *self {
            Self::RepeatsWait => Answer::throttled("Too many copies of this request wait for its answer."),
            // For `Repeated`, the earlier answer is sent instead of this one.
            Self::SaltReused
            | Self::Repeated(_)
            | Self::DateSkewed
            | Self::BelowFloor
            | Self::Revoked(_)
            | Self::RoleInsufficient
            | Self::NotCreator => Answer::UNAUTHORIZED,
            Self::RouteNotFound | Self::SegmentNotFound => Answer::NOT_FOUND,
            Self::MethodNotAllowed(allowed) => Answer {
                allow: Some(allowed),
                ..Answer::new(
                    405,
                    "MethodNotAllowed",
                    "This resource does not support this method; Allow says which it does.",
                )
            },
            Self::PreconditionFailed => Answer::new(
                412,
                "PreconditionFailed",
                "The request's own condition does not match the version that was checked; nothing was deleted.",
            ),
            Self::OwnershipUnavailable | Self::AutomationsUnavailable => Answer::BAD_GATEWAY,
            Self::OwnershipTimeout | Self::AutomationsTimeout => Answer::GATEWAY_TIMEOUT,
            Self::Frozen => Answer::new(423, "Frozen", "Deletions are frozen by the operator; nothing was deleted."),
            Self::BudgetSpent(left) => {
                Answer::throttled("The deletion budget is spent; nothing was deleted.").again(left, Remaining::Never)
            }
            Self::AutomationsLinked(_) => Answer::new(
                409,
                "AutomationsLinked",
                "Automations are linked to this segment and would stop. To delete it all the same, sign a new request with X-Saltgate-Confirm.",
            ),
            Self::ClaimUnknown | Self::RecordUnavailable | Self::Internal => Answer::INTERNAL,
        }
    }

    /// All variants but those where the salt was spent before, or where date or key were no longer valid at the
    /// claim.
    fn spent(&self) -> bool {
        !matches!(
            self,
            Self::SaltReused
                | Self::Repeated(_)
                | Self::RepeatsWait
                | Self::DateSkewed
                | Self::BelowFloor
                | Self::Revoked(_)
        )
    }

    fn repeated(&self) -> Option<&Repeated> {
        match self {
            Self::Repeated(repeated) => Some(repeated),
            _ => None,
        }
    }

    fn linked(&self) -> Option<&Linked> {
        match self {
            Self::AutomationsLinked(linked) => Some(linked),
            _ => None,
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Seconds rounded up, at least one, so that a caller who waits that long is not too early.
fn whole_seconds(left: Duration) -> u64 {
    left.as_secs().saturating_add(u64::from(left.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_refused_after_the_salt_was_spent_is_503() {
        use RefusedAfterSpend as R;
        for refused in [
            R::SaltReused,
            R::DateSkewed,
            R::BelowFloor,
            R::ClaimUnknown,
            R::Revoked(Revoked::InactiveKey),
            R::RouteNotFound,
            R::MethodNotAllowed("DELETE"),
            R::Frozen,
            R::BudgetSpent(Duration::from_secs(1)),
            R::AutomationsLinked(Box::new(Linked { automations: Vec::new(), confirm: String::new() })),
            R::AutomationsUnavailable,
            R::AutomationsTimeout,
            R::RoleInsufficient,
            R::NotCreator,
            R::SegmentNotFound,
            R::PreconditionFailed,
            R::OwnershipUnavailable,
            R::OwnershipTimeout,
            R::RecordUnavailable,
            R::Internal,
        ] {
            for header in [Remaining::Unknown, Remaining::For(Duration::MAX), Remaining::Never] {
                let answer = refused.answer(header);
                assert_ne!(answer.status, 503, "{refused:?}");
                assert_eq!(answer.retry_after(), None, "{refused:?}: its header is spent");
                // A spent budget says when a new request may come; everything else asks for none.
                assert_eq!(answer.wait_seconds().is_some(), matches!(refused, R::BudgetSpent(_)), "{refused:?}");
            }
        }
    }

    #[test]
    fn every_failed_authentication_and_missing_permission_gets_the_same_bytes() {
        let before = [
            Refused::MissingCredentials,
            Refused::RepeatedCredentials,
            Refused::MalformedCredentials,
            Refused::UnsupportedScheme,
            Refused::UnknownKey,
            Refused::InactiveKey,
            Refused::SignatureMismatch,
            Refused::DateSkewed,
            Refused::BelowFloor,
            Refused::SaltReused,
        ];
        assert!(before.iter().all(|r| r.answer(Remaining::Unknown) == Answer::UNAUTHORIZED));
        let after = [
            RefusedAfterSpend::SaltReused,
            RefusedAfterSpend::Revoked(Revoked::UnknownKey),
            RefusedAfterSpend::RoleInsufficient,
            RefusedAfterSpend::NotCreator,
        ];
        assert!(after.iter().all(|r| r.answer(Remaining::Unknown) == Answer::UNAUTHORIZED));
    }

    #[test]
    fn retry_after_is_sent_only_if_the_same_header_will_be_valid() {
        let wait = Duration::from_millis(59_001);
        let long = Duration::from_secs(61);
        for (name, refused) in [("key", Refused::KeySpendsTooFast(wait)), ("share", Refused::KeyShareSpent)] {
            let good = refused.answer(Remaining::For(long));
            assert_eq!((good.retry_after(), good.message().contains("Sign")), (Some(60), false), "{name}");
            let dated_by_then = refused.answer(Remaining::For(Duration::from_secs(60)));
            assert_eq!(dated_by_then.retry_after(), None, "{name}");
            assert!(dated_by_then.message().ends_with(" Sign a new request after 60 seconds."), "{name}");
        }
        for refused in [
            Refused::KeyBusy,
            Refused::HeaderBusy,
            Refused::Overloaded,
            Refused::ReplayFull,
            Refused::ReplayUnavailable,
            Refused::RecordUnavailable,
        ] {
            assert_eq!(refused.answer(Remaining::For(long)).retry_after(), Some(1), "{refused:?}");
            let late = refused.answer(Remaining::For(Duration::from_millis(900)));
            assert_eq!(late.retry_after(), None, "{refused:?}");
            assert!(late.message().ends_with(" Sign a new request after 1 second."), "{refused:?}");
        }
        let fenced = Refused::Fenced(wait).answer(Remaining::For(Duration::MAX));
        assert_eq!(fenced.retry_after(), None, "what is below the floor stays there");
        assert!(fenced.message().ends_with(" Sign a new request after 60 seconds."));
    }

    #[test]
    fn waiting_for_the_announced_time_is_enough() {
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
    }
}
