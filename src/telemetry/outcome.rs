//! How a request ended, and the parts of it that are timed.

/// How a request ended: the `outcome` label of `saltgate_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The upstream answered it.
    Forwarded,
    /// The gate refused it.
    Refused,
    /// Something failed: the upstream, the client, or Saltgate.
    Failed,
    /// It was sent upstream without being judged or despite a refusal, or it was a dry run.
    Passed,
}

impl Ended {
    pub(super) const ALL: [Self; 4] = [Self::Forwarded, Self::Refused, Self::Failed, Self::Passed];

    /// The name in logs and in the `outcome` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Passed => "passed",
        }
    }
}

/// The parts of a request that are timed one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the head to a verified signature, a slot and a whole body.
    Admit,
    /// Route, ownership, permission.
    Authorize,
    /// The intent on record.
    Record,
    /// The upstream's answer.
    Send,
    /// Spending the salt.
    Spend,
}

impl Stage {
    /// The `gate` labels of `saltgate_gate_seconds`, in the order of the variants. The Spend gate is timed by
    /// `saltgate_replay_store_seconds` instead.
    pub(super) const GATES: [&str; 4] = ["admit", "authorize", "record", "send"];
}
