//! Up to when a command has to know the uses of secrets.

/// Up to when uses are to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpTo {
    /// Up to when they were kept last: five minutes ago at most.
    Kept,
    /// Up to now, whatever that costs the gateways.
    Now,
}
