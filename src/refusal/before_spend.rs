//! Refusals before the salt is spent, with the reason and the answer of each.

use std::time::Duration;

use super::{Answer, Reason, Refusal, Remaining};
use crate::http::fault::{Kind, MessageFault};

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
    /// The keys are too old to be used, or have not been read yet.
    KeysUnavailable,
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
            Self::KeysUnavailable => Reason::KeysUnavailable,
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
            // Nobody is authenticated yet, so how long the header is good is not known.
            Self::KeysUnavailable => {
                Answer::unavailable("The keys are not available.").again(SECOND, Remaining::Unknown)
            }
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

const SECOND: Duration = Duration::from_secs(1);
