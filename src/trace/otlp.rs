//! Spans as an `ExportTraceServiceRequest` of OTLP (`opentelemetry/proto/trace/v1/trace.proto`), in protobuf.
//!
//! Written by hand: it is four messages, and the crates that generate such code would bring `anyhow`, which `deny.toml` bans.

use std::time::{Duration, SystemTime};

use super::context::TraceParent;
use super::finished::FinishedTrace;
use super::request::ChildSpan;
use crate::telemetry::Ended;

/// `SpanKind`.
const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;
/// `SpanFlags`: it is known whether the other span is remote, and it is.
const IS_REMOTE: u32 = 0x300;

/// A protobuf message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn tag(&mut self, field: u32, wire_type: u64) {
        self.varint(u64::from(field) << 3 | wire_type);
    }

    fn number(&mut self, field: u32, number: u64) {
        self.tag(field, 0);
        self.varint(number);
    }

    fn fixed64(&mut self, field: u32, number: u64) {
        self.tag(field, 1);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn fixed32(&mut self, field: u32, number: u32) {
        self.tag(field, 5);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.tag(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// A `KeyValue` with this text.
    fn text(&mut self, field: u32, key: &str, value: &str) {
        self.attribute(field, key, |any| any.bytes(1, value.as_bytes()));
    }

    /// A `KeyValue` with this number.
    fn integer(&mut self, field: u32, key: &str, value: u64) {
        self.attribute(field, key, |any| any.number(3, value));
    }

    fn attribute(&mut self, field: u32, key: &str, value: impl FnOnce(&mut Self)) {
        self.message(field, |attribute| {
            attribute.bytes(1, key.as_bytes());
            attribute.message(2, value);
        });
    }
}

/// The request that exports these traces. `instance` tells this process from others.
pub(super) fn request(batch: &[FinishedTrace], instance: &str) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |resource| {
            resource.text(1, "service.name", env!("CARGO_PKG_NAME"));
            resource.text(1, "service.version", env!("CARGO_PKG_VERSION"));
            resource.text(1, "service.instance.id", instance);
        });
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| {
                scope.bytes(1, env!("CARGO_PKG_NAME").as_bytes());
                scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            for finished in batch {
                scope_spans.message(2, |span| server_span(span, finished));
                for child in ChildSpan::ALL {
                    if let Some(times) = finished.trace.children[child as usize] {
                        scope_spans.message(2, |span| child_span(span, finished, child, times));
                    }
                }
            }
        });
    });
    request.0
}

/// Who a span is: its trace, its own id, and its parent.
fn identity(span: &mut Message, own: TraceParent, parent: Option<u64>) {
    span.bytes(1, &own.trace.get().to_be_bytes());
    span.bytes(2, &own.span.get().to_be_bytes());
    if let Some(parent) = parent {
        span.bytes(4, &parent.to_be_bytes());
    }
}

fn server_span(span: &mut Message, finished: &FinishedTrace) {
    let trace = &finished.trace;
    identity(span, trace.own, trace.parent.map(Into::into));
    if let Some(state) = trace.state() {
        span.bytes(3, state.as_str().as_bytes());
    }
    let name = if finished.method == "_OTHER" { "HTTP" } else { finished.method };
    span.bytes(5, format!("saltgate {name}").as_bytes());
    span.number(6, SERVER);
    span.fixed64(7, nanoseconds(finished.arrived, Duration::ZERO));
    span.fixed64(8, nanoseconds(finished.arrived, finished.took));
    span.text(9, "http.request.method", finished.method);
    if let Some(route) = &finished.route {
        span.text(9, "http.route", route);
    }
    if let Some(status) = trace.status {
        span.integer(9, "http.response.status_code", status.into());
    }
    span.text(9, "saltgate.outcome", finished.outcome.as_str());
    span.text(9, "saltgate.reason", finished.reason.as_str());
    span.text(9, "saltgate.request_id", finished.request_id.to_str().unwrap_or_default());
    for (gate, at) in &trace.events {
        span.message(11, |event| {
            event.fixed64(1, nanoseconds(finished.arrived, at.saturating_sub(trace.began)));
            event.bytes(2, gate.as_bytes());
        });
    }
    if let Some(link) = trace.link {
        span.message(13, |written| {
            written.bytes(1, &link.trace.get().to_be_bytes());
            written.bytes(2, &link.span.get().to_be_bytes());
            written.fixed32(6, IS_REMOTE | u32::from(link.sampled));
        });
    }
    if finished.outcome == Ended::Failed {
        span.text(9, "error.type", finished.reason.as_str());
        span.message(15, |status| status.number(3, ERROR));
    }
    let remote = if trace.parent.is_some() { IS_REMOTE } else { 0 };
    span.fixed32(16, remote | u32::from(trace.own.sampled));
}

fn child_span(span: &mut Message, finished: &FinishedTrace, child: ChildSpan, (from, to): (Duration, Duration)) {
    let trace = &finished.trace;
    let at = |time: Duration| nanoseconds(finished.arrived, time.saturating_sub(trace.began));
    identity(span, trace.parent_of(child), Some(trace.own.span.get()));
    span.bytes(5, child.as_str().as_bytes());
    span.number(6, if child.is_sent() { CLIENT } else { INTERNAL });
    span.fixed64(7, at(from));
    span.fixed64(8, at(to));
    if child == ChildSpan::Send {
        span.text(9, "http.request.method", "DELETE");
        match finished.upstream_status {
            Some(status) => span.integer(9, "http.response.status_code", status.into()),
            None => span.message(15, |status| status.number(3, ERROR)),
        }
    }
    span.fixed32(16, u32::from(trace.own.sampled));
}

/// Nanoseconds since 1970 at this time after `start`.
fn nanoseconds(start: SystemTime, after: Duration) -> u64 {
    let since = start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + after;
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_messages_are_written_as_protobuf_has_them() {
        let mut message = Message::default();
        message.number(1, 150);
        message.bytes(2, b"testing");
        message.message(3, |inner| inner.number(1, 150));
        message.fixed64(4, 1);
        message.fixed32(16, 2);
        // The first three are the examples of the protobuf documentation.
        let expected = [
            &[0x08, 0x96, 0x01][..],
            &[0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67],
            &[0x1a, 0x03, 0x08, 0x96, 0x01],
            &[0x21, 1, 0, 0, 0, 0, 0, 0, 0],
            &[0x85, 0x01, 2, 0, 0, 0],
        ];
        assert_eq!(message.0, expected.concat());
    }
}
