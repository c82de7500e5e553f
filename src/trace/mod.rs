//! Traces (contract §7): W3C trace context towards the service, and spans for an OTLP collector.
//!
//! 1. A client's context is believed only if one of `trusted_proxies` sent it and `[trace] trust` says so. Otherwise a new
//!    trace begins, whose id is the request id, and the client's span is a link. So no stranger chooses the id of a trace or
//!    whether it is sampled.
//! 2. A request that failed is exported whatever the ratio says.
//! 3. A request never waits for a span. The queue is bounded; what does not fit, and what cannot be delivered, is dropped and
//!    counted.
//! 4. No span contains a key, an account, a member, a segment, a secret, a salt or a signature.

mod complaints;
mod context;
mod export;
mod finished;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod otlp;
mod queue;
mod request;
mod settings;
mod tracer;

pub(crate) use export::{SpanExporter, TraceStartError};
pub(crate) use finished::TracedRequest;
pub(crate) use request::{ChildSpan, Trace};
pub(crate) use settings::{Ratio, TraceEndpoint, TraceSettings, TraceTrust};
pub(crate) use tracer::Tracing;
