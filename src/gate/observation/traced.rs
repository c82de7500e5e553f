//! The trace of an observed request. Without an endpoint for traces there is none, and each of these is one check.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::Observation;
use crate::refusal::Reason;
use crate::telemetry::Ended;
use crate::trace::{ChildSpan, Trace, TracedRequest};
use crate::upstream::{InvalidRequestHead, RequestHead};

impl Observation {
    /// Begins the trace of a request with these fields.
    #[inline]
    pub(in crate::gate) fn begin_trace(&mut self, headers: &HeaderMap) {
        if let Some(tracer) = self.worker_state.reporting.tracing.tracer() {
            let by_trusted_proxy = self.client.came_by_trusted_proxy();
            self.trace = Some(tracer.begin(self.id(), headers, by_trusted_proxy, self.started()));
        }
    }

    /// Notes that a gate was passed. Only sampled requests pay for reading the clock.
    #[inline]
    pub(crate) fn gate_passed(&mut self, gate: &'static str) {
        if let Some(trace) = self.trace.as_deref_mut().filter(|trace| trace.is_sampled() && !gate.is_empty()) {
            trace.event(gate, self.worker_state.reporting.clock.elapsed());
        }
    }

    /// The time, if there is a trace to note it in.
    pub(in crate::gate) fn trace_time(&self) -> Option<Duration> {
        self.trace.as_ref().map(|_| self.worker_state.reporting.clock.elapsed())
    }

    /// Notes that a part of the request, which began at this [`trace_time`](Self::trace_time), has ended.
    pub(in crate::gate) fn child_ended(&mut self, child: ChildSpan, from: Option<Duration>) {
        let to = self.trace_time();
        if let (Some(trace), Some(from), Some(to)) = (&mut self.trace, from, to) {
            trace.child(child, from, to);
        }
    }

    /// Notes the status of the answer.
    #[inline]
    pub(crate) fn answered_with(&mut self, status: StatusCode) {
        if let Some(trace) = &mut self.trace {
            trace.answered(status.as_u16());
        }
    }

    /// Whether the client's own trace context goes on to the service.
    pub(in crate::gate) fn passes_trace_on(&self) -> bool {
        self.worker_state.reporting.tracing.passes_on(self.client.came_by_trusted_proxy())
    }

    /// Writes the trace context of a look-up. It has no `tracestate`, which would be another's.
    pub(in crate::gate) fn write_trace(
        &self,
        head: &mut RequestHead,
        child: ChildSpan,
    ) -> Result<(), InvalidRequestHead> {
        match &self.trace {
            Some(trace) => head.text("traceparent: ", trace.parent_of(child).written().as_str()),
            None => Ok(()),
        }
    }

    /// Writes the trace context of a deletion.
    pub(in crate::gate) fn write_whole_trace(&self, head: &mut RequestHead) -> Result<(), InvalidRequestHead> {
        self.write_trace(head, ChildSpan::Send)?;
        match self.trace.as_ref().and_then(|trace| trace.state()) {
            Some(state) => head.text("tracestate: ", state.as_str()),
            None => Ok(()),
        }
    }

    /// Hands the trace to the exporter, if it is sampled or the request failed.
    #[inline]
    pub(super) fn end_trace(&mut self, outcome: Ended, reason: Reason, took: Duration) {
        let is_exported = |trace: &mut Box<Trace>| trace.is_sampled() || outcome == Ended::Failed;
        let Some(trace) = self.trace.take_if(is_exported) else { return };
        if let Some(tracer) = self.worker_state.reporting.tracing.tracer() {
            let ended = TracedRequest {
                method: self.method.as_str(),
                route: self.route.as_ref().map(|route| route.pattern()),
                request_id: self.id(),
                outcome,
                reason,
                upstream_status: self.upstream_status,
                arrived: self.arrived(),
                took,
            };
            tracer.export(trace, &ended);
        }
    }
}
