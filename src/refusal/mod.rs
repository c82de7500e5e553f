//! Refusals: the closed list of reasons, and the status and code of each (contract §6, §10).
//!
//! 1. A [`Reason`] is for the log and the metrics, an [`Answer`] for the caller. All failed authentications and
//!    missing permissions get the same answer.
//! 2. A refusal before the salt is spent is a [`Refused`] and may be 503. A refusal after it is a
//!    [`RefusedAfterSpend`] and is never 503: clients resend on 503, and the header that they would resend is spent.
//! 3. All matches are without `_`, so a new reason does not compile until it has an answer.
//! 4. `Retry-After` makes clients resend the same header. Only `Answer::again` decides whether that header will still
//!    be valid then; if not, the message says when to sign a new request.

mod after_spend;
mod answer;
mod before_spend;
mod reason;

pub use after_spend::RefusedAfterSpend;
pub(crate) use after_spend::{Linked, Repeated, Revoked};
pub(crate) use answer::{Answer, Remaining};
pub(crate) use before_spend::Refused;
pub use reason::Reason;

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

#[cfg(test)]
mod tests;
