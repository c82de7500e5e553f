//! The trace of one request, from its head to its end.

use std::num::NonZeroU64;
use std::time::Duration;

use super::context::{TraceParent, TraceState};
use crate::telemetry::Stage;

/// A part of a request that has a span of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildSpan {
    /// Asking the service whose segment it is.
    LookUp,
    /// Spending the salt.
    Claim,
    /// Asking the service for linked automations.
    Automations,
    /// Writing the intent.
    Record,
    /// Sending the deletion, until its answer.
    Send,
}

impl ChildSpan {
    pub(super) const ALL: [Self; 5] = [Self::LookUp, Self::Claim, Self::Automations, Self::Record, Self::Send];

    /// The name of the span.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::LookUp => "look up owner",
            Self::Claim => "claim salt",
            Self::Automations => "look up automations",
            Self::Record => "record intent",
            Self::Send => "send",
        }
    }

    /// Whether something is sent to the service.
    pub(super) fn is_sent(self) -> bool {
        matches!(self, Self::LookUp | Self::Automations | Self::Send)
    }

    /// The part that a stage consists of, if it has a span.
    fn of(stage: Stage) -> Option<Self> {
        match stage {
            Stage::Spend => Some(Self::Claim),
            Stage::Record => Some(Self::Record),
            Stage::Send => Some(Self::Send),
            Stage::Admit | Stage::Authorize => None,
        }
    }
}

/// The trace of one request. Times are by the elapsed clock.
#[derive(Debug)]
pub(crate) struct Trace {
    /// The span of the request.
    pub(super) own: TraceParent,
    /// The span that a trusted proxy named as its parent.
    pub(super) parent: Option<NonZeroU64>,
    /// What the trusted proxy sent along with it.
    pub(super) state: Option<TraceState>,
    /// The span that somebody else named.
    pub(super) link: Option<TraceParent>,
    /// When the request began.
    pub(super) began: Duration,
    /// The status of the answer, once there is one.
    pub(super) status: Option<u16>,
    /// From when to when each part took, if it ended.
    pub(super) children: [Option<(Duration, Duration)>; ChildSpan::ALL.len()],
    /// When each gate was passed; only of sampled requests.
    pub(super) events: Vec<(&'static str, Duration)>,
}

impl Trace {
    /// Whether the trace is exported however the request ends.
    pub(crate) fn is_sampled(&self) -> bool {
        self.own.sampled
    }

    /// Notes when a stage began and ended.
    pub(crate) fn stage(&mut self, stage: Stage, from: Duration, to: Duration) {
        if let Some(child) = ChildSpan::of(stage) {
            self.child(child, from, to);
        }
    }

    /// Notes when a part began and ended.
    pub(crate) fn child(&mut self, child: ChildSpan, from: Duration, to: Duration) {
        self.children[child as usize] = Some((from, to));
    }

    /// Notes that a gate was passed.
    pub(crate) fn event(&mut self, gate: &'static str, at: Duration) {
        self.events.push((gate, at));
    }

    /// Notes the status of the answer.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// The `traceparent` of a message to the service.
    pub(crate) fn parent_of(&self, child: ChildSpan) -> TraceParent {
        TraceParent { span: self.id_of(child), ..self.own }
    }

    /// The `tracestate` of a deletion.
    pub(crate) fn state(&self) -> Option<&TraceState> {
        self.state.as_ref()
    }

    /// The ids differ from each other and from the one of the request, and are as random as that one.
    pub(super) fn id_of(&self, child: ChildSpan) -> NonZeroU64 {
        let differs = (child as u64 + 1) << 32;
        NonZeroU64::new(self.own.span.get() ^ differs).unwrap_or(NonZeroU64::MAX)
    }

    /// How many spans it consists of.
    pub(super) fn spans(&self) -> u64 {
        1 + self.children.iter().flatten().count() as u64
    }
}
