//! Refusals after the salt is spent, with the reason and the answer of each.

use std::time::Duration;

use super::{Answer, Reason, Refusal, Remaining};
use crate::repeats::KeptAnswer;

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
    /// The key holds its share of the fleet's store of spent salts. Nothing was spent.
    KeyShareSpent,
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
    /// It is not known what is frozen for the fleet; nothing was sent.
    FreezeUnknown,
    /// The key or the account has used up its deletion budget; the next deletion is possible after this time.
    BudgetSpent(Duration),
    /// How much of the fleet's budget is used is not known; nothing was sent.
    BudgetUnknown,
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

impl Repeated {
    /// The answer if the first request has not ended in time or its answer is unknown: it may have been carried out.
    pub fn of_unknown(of: Box<str>) -> Self {
        Self { of, kept: KeptAnswer::own(Answer::OUTCOME_LATE.status, Answer::OUTCOME_LATE.body()) }
    }
}

impl Refusal for RefusedAfterSpend {
    fn reason(&self) -> Reason {
        match *self {
            Self::SaltReused | Self::Repeated(_) => Reason::SaltReused,
            Self::RepeatsWait | Self::KeyShareSpent => Reason::Throttled,
            Self::DateSkewed => Reason::DateSkewed,
            Self::BelowFloor => Reason::BelowFloor,
            Self::ClaimUnknown | Self::FreezeUnknown | Self::BudgetUnknown => Reason::ReplayUnavailable,
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

    /// The salt is spent, so the header can never pass again; beyond the share of its key it is not.
    fn answer(&self, header: Remaining) -> Answer {
        match *self {
            Self::RepeatsWait => Answer::throttled("Too many copies of this request wait for its answer."),
            Self::KeyShareSpent => Answer::throttled("This key has sent too many requests within the window.")
                .again(Duration::from_secs(60), header),
            // For `Repeated`, the earlier answer is sent instead of this one.
            Self::SaltReused
            | Self::Repeated(_)
            | Self::DateSkewed
            | Self::BelowFloor
            | Self::Revoked(_)
            | Self::RoleInsufficient
            | Self::NotCreator => Answer::UNAUTHORIZED,
            Self::RouteNotFound | Self::SegmentNotFound => Answer::NOT_FOUND,
            Self::MethodNotAllowed(allowed) => Answer::new(
                405,
                "MethodNotAllowed",
                "This resource does not support this method; Allow says which it does.",
            )
            .allowing(allowed),
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
            Self::ClaimUnknown
            | Self::FreezeUnknown
            | Self::BudgetUnknown
            | Self::RecordUnavailable
            | Self::Internal => Answer::INTERNAL,
        }
    }

    /// All variants but those where the salt was spent before, or where date, key or share refused the claim.
    fn spent(&self) -> bool {
        !matches!(
            self,
            Self::SaltReused
                | Self::Repeated(_)
                | Self::RepeatsWait
                | Self::KeyShareSpent
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
