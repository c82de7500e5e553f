//! The two modes of the gateway.

/// What happens to a request that the gates refuse (contract §9, `mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is refused.
    Enforce,
    /// It is forwarded like every other, and the log says that it would have been refused.
    Observe,
}
