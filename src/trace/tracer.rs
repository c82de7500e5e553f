//! Begins the trace of each request, and queues it when the request has ended.

use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::context::{TraceParent, TraceState, hexadecimal_128};
use super::finished::{FinishedTrace, TracedRequest};
use super::queue::SpanQueue;
use super::request::{ChildSpan, Trace};
use super::settings::{Ratio, TraceTrust};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `[trace]`, as requests use it.
pub(crate) struct Tracing {
    /// Whose context is believed.
    pub(super) trust: TraceTrust,
    /// `None` without an endpoint.
    pub(super) tracer: Option<Tracer>,
}

impl Tracing {
    /// The tracer, if spans are made.
    #[inline]
    pub(crate) fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_ref()
    }

    /// Whether a client's own `traceparent` and `tracestate` go on to the service: no trace is begun here, and the client's
    /// is believed.
    pub(crate) fn passes_on(&self, by_trusted_proxy: bool) -> bool {
        self.tracer.is_none() && believes(self.trust, by_trusted_proxy)
    }
}

fn believes(trust: TraceTrust, by_trusted_proxy: bool) -> bool {
    match trust {
        TraceTrust::Never => false,
        TraceTrust::TrustedProxies => by_trusted_proxy,
    }
}

/// Makes the traces of requests.
pub(crate) struct Tracer {
    trust: TraceTrust,
    /// A new trace is sampled if the last 56 bits of its id are at least this number (W3C trace context, level 2).
    threshold: u64,
    queue: Arc<SpanQueue>,
}

/// The random part of the id of a trace, by which it is sampled.
const RANDOM: u64 = (1 << 56) - 1;

impl Tracer {
    pub(super) fn new(trust: TraceTrust, ratio: Ratio, queue: Arc<SpanQueue>) -> Self {
        // Rounding does not matter: the least ratio above 0 that a person would write is far above 2^-52.
        let threshold = ((1.0 - ratio.part()) * (RANDOM + 1) as f64) as u64;
        Self { trust, threshold, queue }
    }

    /// Begins the trace of a request with this id, which consists of 32 random hexadecimal digits, `now` by the elapsed clock.
    pub(crate) fn begin(
        &self,
        request_id: &HeaderValue,
        headers: &HeaderMap,
        by_trusted_proxy: bool,
        now: Duration,
    ) -> Box<Trace> {
        let id = hexadecimal_128(request_id.as_bytes()).unwrap_or(0);
        // No request id is zero or half zero, except by an accident that would only make two ids alike.
        let trace = NonZeroU128::new(id).unwrap_or(NonZeroU128::MAX);
        let span = NonZeroU64::new((id >> 64) as u64).unwrap_or(NonZeroU64::MAX);
        let said = said(headers);
        let (parent, link) = if believes(self.trust, by_trusted_proxy) { (said, None) } else { (None, said) };
        let own = match parent {
            Some(parent) => TraceParent { span, ..parent },
            None => TraceParent { trace, span, sampled: (id as u64 & RANDOM) >= self.threshold },
        };
        let state = parent.and_then(|_| {
            let lines = headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes);
            TraceState::parse(lines)
        });
        Box::new(Trace {
            own,
            parent: parent.map(|parent| parent.span),
            state,
            link,
            began: now,
            status: None,
            children: [None; ChildSpan::ALL.len()],
            events: Vec::new(),
        })
    }

    /// Queues the trace of a request that has ended. Never waits.
    #[cold]
    pub(crate) fn export(&self, trace: Box<Trace>, ended: &TracedRequest<'_>) {
        self.queue.push(FinishedTrace::new(trace, ended));
    }
}

/// The `traceparent` of a message; a message with several has none.
fn said(headers: &HeaderMap) -> Option<TraceParent> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let line = lines.next()?;
    if lines.next().is_some() { None } else { TraceParent::parse(line.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn tracer(trust: TraceTrust, ratio: f64) -> Tracer {
        let metrics = Arc::new(Metrics::new().unwrap());
        Tracer::new(trust, Ratio::new(ratio).unwrap(), Arc::new(SpanQueue::new(metrics)))
    }

    fn begun(tracer: &Tracer, id: u128, lines: &[(&'static str, &str)], trusted: bool) -> Box<Trace> {
        let line = |(name, value): &(&'static str, &str)| (http::HeaderName::from_static(name), value.parse().unwrap());
        let headers: HeaderMap = lines.iter().map(line).collect();
        tracer.begin(&HeaderValue::try_from(format!("{id:032x}")).unwrap(), &headers, trusted, Duration::ZERO)
    }

    #[test]
    fn a_context_is_taken_from_a_trusted_proxy_only() {
        const ID: u128 = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        let lines = [("traceparent", PARENT), ("tracestate", "a=1")];
        let theirs = TraceParent::parse(PARENT.as_bytes()).unwrap();
        for (trust, trusted, is_believed) in [
            (TraceTrust::Never, false, false),
            (TraceTrust::Never, true, false),
            (TraceTrust::TrustedProxies, false, false),
            (TraceTrust::TrustedProxies, true, true),
        ] {
            let trace = begun(&tracer(trust, 0.0), ID, &lines, trusted);
            let expected = if is_believed { (theirs.trace.get(), true) } else { (ID, false) };
            assert_eq!((trace.own.trace.get(), trace.own.sampled), expected, "{trust:?} {trusted}");
            assert_eq!(trace.parent, is_believed.then_some(theirs.span));
            assert_eq!(trace.link, (!is_believed).then_some(theirs));
            assert_eq!(trace.state().is_some(), is_believed);
            assert_ne!(trace.own.span, theirs.span);
        }
        let twice = [("traceparent", PARENT), ("traceparent", PARENT)];
        let trace = begun(&tracer(TraceTrust::TrustedProxies, 0.0), ID, &twice, true);
        assert_eq!((trace.own.trace.get(), trace.parent, trace.link), (ID, None, None), "two are none");
    }

    #[test]
    fn the_ratio_is_the_part_of_all_ids_that_is_sampled() {
        let mut state = 1_u128;
        let mut random = || {
            state = state.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
            state ^ (state >> 64)
        };
        let mut sampled_of = |ratio: f64| {
            let tracer = tracer(TraceTrust::Never, ratio);
            (0..100_000).filter(|_| begun(&tracer, random(), &[], false).is_sampled()).count()
        };
        assert_eq!((sampled_of(0.0), sampled_of(1.0)), (0, 100_000));
        assert!((800..1200).contains(&sampled_of(0.01)), "one in a hundred");
        assert!((48_000..52_000).contains(&sampled_of(0.5)), "one in two");
    }

    #[test]
    fn no_two_spans_of_a_request_have_one_id() {
        let trace = begun(&tracer(TraceTrust::Never, 1.0), u128::MAX, &[], false);
        let mut ids: Vec<_> = ChildSpan::ALL.iter().map(|child| trace.id_of(*child)).chain([trace.own.span]).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), ChildSpan::ALL.len() + 1);
    }
}
