//! What is answered when something is not forwarded: the closed list of reasons, and for each
//! its status and code (contract §6, §10).
//!
//! 1. A [`Reason`] is for the log and the metrics; an [`Answer`] is for the caller. Every failed
//!    authentication and every missing permission has one and the same answer.
//! 2. What is refused before the salt is spent is [`Refused`], and may be 503. What is refused
//!    after it is [`RefusedAfterSpend`], where no variant is 503: clients resend on 503, and the
//!    header they would resend is spent.
//! 3. Everything is matched without `_`, so a new reason does not compile until it has an answer.

use std::time::Duration;

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
    TooLarge = "too_large",
    TooSlow = "too_slow",
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

/// Refused before the salt was spent: nothing happened, and nothing was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No `Authorization` line.
    MissingCredentials,
    /// More than one.
    RepeatedCredentials,
    /// Not the grammar of contract §2.
    MalformedCredentials,
    /// Another scheme than `HMAC-SHA256`.
    UnsupportedScheme,
    /// No such apiKey.
    UnknownKey,
    /// The key is switched off or has expired.
    InactiveKey,
    /// Not signed with the key's secret.
    SignatureMismatch,
    /// Outside the window.
    DateSkewed,
    /// In the window, but at or below the floor.
    BelowFloor,
    /// The form of the message; says what is wrong with it.
    MalformedRequest(&'static str),
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
    /// Too many signatures from this address failed; for so long no more may.
    FailedTooOften(Duration),
    /// The key has as many requests in flight as one key may have.
    KeyBusy,
    /// The key holds its share of the replay memory.
    KeyShareSpent,
    /// Every slot is taken.
    Overloaded,
    /// The replay memory is new; for so long nothing older is admitted.
    Fenced(Duration),
    /// Every place in the replay memory is taken.
    ReplayFull,
    /// The replay store is out of reach.
    ReplayUnavailable,
    /// The record cannot be written.
    RecordUnavailable,
    /// The client left before anything was spent.
    ClientGone,
}

/// What would stop with a segment, and what its caller sends back to have it stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// The automations: id and name.
    pub automations: Vec<(String, Option<String>)>,
    /// The digest of the set, for `X-Saltgate-Confirm`.
    pub confirm: String,
}

/// Refused after the salt was spent: never 503.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusedAfterSpend {
    /// Somebody spent this salt before.
    SaltReused,
    /// The date left the window between the first judgement and the claim.
    DateSkewed,
    /// The floor rose over the date between the first judgement and the claim.
    BelowFloor,
    /// The store did not say whether the salt was spent; it counts as spent.
    ClaimUnknown,
    /// No such route.
    RouteNotFound,
    /// The path is a route's, the method is not; this one is.
    MethodNotAllowed(&'static str),
    /// The role reaches nothing on this route.
    RoleInsufficient,
    /// Somebody else created the segment.
    NotCreator,
    /// No such segment in the caller's account.
    SegmentNotFound,
    /// Whose segment it is could not be learned.
    OwnershipUnavailable,
    /// Whose segment it is could not be learned in time.
    OwnershipTimeout,
    /// The key, the account or everything is frozen.
    Frozen,
    /// The key or the account has had its deletions; there will be one again after so long.
    BudgetSpent(Duration),
    /// Automations are linked to the segment, and the caller did not confirm this set.
    AutomationsLinked(Box<Linked>),
    /// Which automations are linked could not be learned.
    AutomationsUnavailable,
    /// Which automations are linked could not be learned in time.
    AutomationsTimeout,
    /// The intent could not be put on record.
    RecordUnavailable,
    /// Something in Saltgate failed.
    Internal,
}

/// What every refusal can say of itself.
pub trait Refusal {
    /// For logs and metrics.
    fn reason(&self) -> Reason;
    /// For the caller.
    fn answer(&self) -> Answer;
    /// Whether the request spent a salt by itself before it was refused.
    fn spent(&self) -> bool;
    /// What the caller is shown besides.
    fn linked(&self) -> Option<&Linked> {
        None
    }
}

/// What the caller gets: a status, a code and a message, and what goes with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `errorCode`.
    pub code: &'static str,
    /// `errorMessage`.
    pub message: &'static str,
    /// `Retry-After`, in whole seconds.
    pub retry_after: Option<u64>,
    /// `Allow`.
    pub allow: Option<&'static str>,
    /// Whether the connection must close, because what follows on it is in doubt.
    pub close: bool,
}

impl Answer {
    const fn new(status: u16, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message, retry_after: None, allow: None, close: false }
    }

    /// The one answer to every failed authentication and every missing permission.
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

    /// A message that passes could not be sent.
    pub const NOT_REACHED: Self =
        Self::new(502, "BadGateway", "The service behind this gateway could not be reached; nothing was sent to it.");
    /// A message that passes could not be sent in time.
    pub const NOT_REACHED_IN_TIME: Self = Self { status: 504, code: "GatewayTimeout", ..Self::NOT_REACHED };
    /// A message that passes was sent and the connection failed.
    pub const EFFECT_LOST: Self =
        Self::new(502, "OutcomeUnknown", "The request was sent and its answer was lost: it may have had its effect.");
    /// A message that passes was sent and no answer came in time.
    pub const EFFECT_LATE: Self = Self { status: 504, ..Self::EFFECT_LOST };

    const fn unavailable(message: &'static str, retry_after: u64) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(503, "ServiceUnavailable", message) }
    }

    const fn closing(self) -> Self {
        Self { close: true, ..self }
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
            Self::TargetTooLong | Self::HeadersTooLarge | Self::BodyTooLarge => Reason::TooLarge,
            Self::HeadTooSlow | Self::BodyTooSlow => Reason::TooSlow,
            Self::FailedTooOften(_) | Self::KeyBusy | Self::KeyShareSpent => Reason::Throttled,
            Self::Overloaded => Reason::Overloaded,
            Self::Fenced(_) => Reason::Fenced,
            Self::ReplayFull => Reason::ReplayFull,
            Self::ReplayUnavailable => Reason::ReplayUnavailable,
            Self::RecordUnavailable => Reason::RecordUnavailable,
            Self::ClientGone => Reason::ClientGone,
        }
    }

    fn answer(&self) -> Answer {
        match *self {
            Self::MissingCredentials
            | Self::RepeatedCredentials
            | Self::MalformedCredentials
            | Self::UnsupportedScheme
            | Self::UnknownKey
            | Self::InactiveKey
            | Self::SignatureMismatch
            | Self::DateSkewed
            | Self::BelowFloor => Answer::UNAUTHORIZED,
            Self::MalformedRequest(what) => Answer::new(400, "BadRequest", what).closing(),
            // Nobody is left to read this one; the framing of what follows is in doubt.
            Self::ClientGone => Answer::new(400, "BadRequest", "The message ended before it was whole.").closing(),
            Self::ExpectationFailed => {
                Answer::new(417, "ExpectationFailed", "Only `Expect: 100-continue` can be met.").closing()
            }
            Self::TargetTooLong => Answer::new(414, "UriTooLong", "The request target is too long.").closing(),
            Self::HeadersTooLarge => Answer::new(431, "HeadersTooLarge", "The header section is too large.").closing(),
            Self::BodyTooLarge => Answer::new(413, "PayloadTooLarge", "The body is too large.").closing(),
            Self::HeadTooSlow => Answer::new(408, "RequestTimeout", "The head did not come in time.").closing(),
            Self::BodyTooSlow => Answer::new(408, "RequestTimeout", "The body did not come in time.").closing(),
            Self::FailedTooOften(left) => Answer {
                retry_after: Some(whole_seconds(left)),
                ..Answer::new(429, "TooManyRequests", "Too many requests from this address were not authorized.")
            },
            Self::KeyBusy => Answer {
                retry_after: Some(1),
                ..Answer::new(429, "TooManyRequests", "This key has too many requests in flight.")
            },
            Self::KeyShareSpent => Answer {
                retry_after: Some(60),
                ..Answer::new(429, "TooManyRequests", "This key has sent too many requests within the window.")
            },
            Self::Overloaded => Answer::unavailable("Too many requests are in flight; try again.", 1),
            Self::Fenced(left) => {
                Answer::unavailable("Starting; requests signed before the start are not admitted.", whole_seconds(left))
            }
            Self::ReplayFull | Self::ReplayUnavailable => {
                Answer::unavailable("The replay memory cannot take this request; try again.", 1)
            }
            Self::RecordUnavailable => Answer::unavailable("The record cannot be written; nothing is deleted.", 1),
        }
    }

    fn spent(&self) -> bool {
        false
    }
}

impl Refusal for RefusedAfterSpend {
    fn reason(&self) -> Reason {
        match *self {
            Self::SaltReused => Reason::SaltReused,
            Self::DateSkewed => Reason::DateSkewed,
            Self::BelowFloor => Reason::BelowFloor,
            Self::ClaimUnknown => Reason::ReplayUnavailable,
            Self::RouteNotFound => Reason::RouteNotFound,
            Self::MethodNotAllowed(_) => Reason::MethodNotAllowed,
            Self::RoleInsufficient => Reason::RoleInsufficient,
            Self::NotCreator => Reason::NotCreator,
            Self::SegmentNotFound => Reason::SegmentNotFound,
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

    fn answer(&self) -> Answer {
        match *self {
            Self::SaltReused | Self::DateSkewed | Self::BelowFloor | Self::RoleInsufficient | Self::NotCreator => {
                Answer::UNAUTHORIZED
            }
            Self::RouteNotFound | Self::SegmentNotFound => Answer::NOT_FOUND,
            Self::MethodNotAllowed(allowed) => Answer {
                allow: Some(allowed),
                ..Answer::new(405, "MethodNotAllowed", "This resource has another method; Allow says which.")
            },
            Self::OwnershipUnavailable | Self::AutomationsUnavailable => Answer::BAD_GATEWAY,
            Self::OwnershipTimeout | Self::AutomationsTimeout => Answer::GATEWAY_TIMEOUT,
            Self::Frozen => Answer::new(423, "Frozen", "Deletions are frozen by the operator; nothing was deleted."),
            Self::BudgetSpent(left) => Answer {
                retry_after: Some(whole_seconds(left)),
                ..Answer::new(429, "TooManyRequests", "The deletion budget is spent; nothing was deleted.")
            },
            Self::AutomationsLinked(_) => Answer::new(
                409,
                "AutomationsLinked",
                "Automations are linked to this segment and would stop. To delete it all the same, sign a new request with X-Saltgate-Confirm.",
            ),
            Self::ClaimUnknown | Self::RecordUnavailable | Self::Internal => Answer::INTERNAL,
        }
    }

    /// A repeat, or a date that left the window before the claim, spent nothing.
    fn spent(&self) -> bool {
        !matches!(self, Self::SaltReused | Self::DateSkewed | Self::BelowFloor)
    }

    fn linked(&self) -> Option<&Linked> {
        match self {
            Self::AutomationsLinked(linked) => Some(linked),
            _ => None,
        }
    }
}

/// Seconds rounded up, at least one: a caller who waits that long is not too early.
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
            R::OwnershipUnavailable,
            R::OwnershipTimeout,
            R::RecordUnavailable,
            R::Internal,
        ] {
            assert_ne!(refused.answer().status, 503, "{refused:?}");
            // A spent budget says when a new request may come; everything else asks for none.
            let says_when = matches!(refused, R::BudgetSpent(_));
            assert_eq!(refused.answer().retry_after.is_some(), says_when, "{refused:?}");
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
        ];
        assert!(before.iter().all(|r| r.answer() == Answer::UNAUTHORIZED));
        let after = [RefusedAfterSpend::SaltReused, RefusedAfterSpend::RoleInsufficient, RefusedAfterSpend::NotCreator];
        assert!(after.iter().all(|r| r.answer() == Answer::UNAUTHORIZED));
    }

    #[test]
    fn waiting_as_long_as_told_is_long_enough() {
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
    }
}
